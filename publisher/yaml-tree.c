/* SPDX-License-Identifier: Apache-2.0 */
#include "yaml-tree.h"

#include <yaml.h>

#include "err.h"
#include "utf8.h"

/* A list or map that is not closed yet, and where its next child goes. */
typedef struct Level {
        YamlNode *node;
        YamlNode **tail;
} Level;

typedef struct Builder {
        YamlNode *root, **last; /* the chain of `after` */
        Level levels[YAML_TREE_DEPTH_MAX];
        size_t depth;
        char *name; /* of the member whose value comes next */
        unsigned name_line;
} Builder;

YamlNode *yaml_tree_free(YamlNode *root)
{
        for (YamlNode *after; root; root = after) {
                after = root->after;
                free(root->name);
                free(root->text);
                free(root);
        }
        return NULL;
}

static void builder_done(Builder *b)
{
        yaml_tree_free(b->root);
        free(b->name);
}

static inline void parser_donep(yaml_parser_t *parser)
{
        yaml_parser_delete(parser);
}

static inline void event_donep(yaml_event_t *event)
{
        yaml_event_delete(event);
}

static unsigned line_of(const yaml_event_t *event)
{
        return (unsigned) event->start_mark.line + 1;
}

static bool is_null(const yaml_event_t *event)
{
        static const char *const words[] = { "", "~", "null", "Null", "NULL" };

        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
                    streq((const char *) event->data.scalar.value, words[i]))
                        return true;
        return false;
}

/* The next node of the innermost list or map, or the root. */
static int add_node(Builder *b, YamlKind kind, unsigned line, YamlNode **ret, char **reterr)
{
        Level *level = b->depth > 0 ? &b->levels[b->depth - 1] : NULL;
        YamlNode *node = calloc(1, sizeof(YamlNode));

        if (!node)
                return -ENOMEM;
        *node = (YamlNode){ .kind = kind, .line = b->name ? b->name_line : line };
        node->name = TAKE_PTR(b->name);
        *b->last = node;
        b->last = &node->after;
        if (level) {
                *level->tail = node;
                level->tail = &node->next;
                if (++level->node->n_children > YAML_TREE_MEMBERS_MAX)
                        return fail(reterr, -EBADMSG, "line %u: more than %d of them", line,
                                    YAML_TREE_MEMBERS_MAX);
        }
        *ret = node;
        return 0;
}

static int open_level(Builder *b, YamlKind kind, unsigned line, char **reterr)
{
        YamlNode *node;
        int r;

        if (b->depth >= YAML_TREE_DEPTH_MAX)
                return fail(reterr, -EBADMSG, "line %u: nested deeper than %d", line,
                            YAML_TREE_DEPTH_MAX);
        r = add_node(b, kind, line, &node, reterr);
        if (r >= 0)
                b->levels[b->depth++] = (Level){ node, &node->child };
        return r;
}

/* Whether a name must come next, not a value. */
static bool wants_name(const Builder *b)
{
        return b->depth > 0 && b->levels[b->depth - 1].node->kind == YAML_KIND_MAP && !b->name;
}

static int take_name(Builder *b, const yaml_event_t *event, char **reterr)
{
        const YamlNode *map = b->levels[b->depth - 1].node;
        const char *name = (const char *) event->data.scalar.value;

        for (const YamlNode *m = map->child; m; m = m->next)
                if (streq(m->name, name))
                        return fail(reterr, -EBADMSG, "line %u: %s stands there twice, first on %u",
                                    line_of(event), name, m->line);
        b->name = strdup(name);
        b->name_line = line_of(event);
        return b->name ? 0 : -ENOMEM;
}

static int take_scalar(Builder *b, const yaml_event_t *event, char **reterr)
{
        const char *text = (const char *) event->data.scalar.value;
        YamlNode *node;
        int r;

        if (strlen(text) != event->data.scalar.length)
                return fail(reterr, -EBADMSG, "line %u: a NUL character", line_of(event));
        if (wants_name(b))
                return take_name(b, event, reterr);
        r = add_node(b, is_null(event) ? YAML_KIND_NULL : YAML_KIND_TEXT, line_of(event), &node,
                     reterr);
        if (r < 0 || node->kind == YAML_KIND_NULL)
                return r;
        node->text = strdup(text);
        return node->text ? 0 : -ENOMEM;
}

/* What makes more of a text than stands in it, or something else. */
static int check_plain(const yaml_event_t *event, char **reterr)
{
        const yaml_char_t *anchor = NULL, *tag = NULL;

        switch (event->type) {
        case YAML_ALIAS_EVENT:
                anchor = event->data.alias.anchor;
                break;
        case YAML_SCALAR_EVENT:
                anchor = event->data.scalar.anchor;
                tag = event->data.scalar.tag;
                break;
        case YAML_SEQUENCE_START_EVENT:
                anchor = event->data.sequence_start.anchor;
                tag = event->data.sequence_start.tag;
                break;
        case YAML_MAPPING_START_EVENT:
                anchor = event->data.mapping_start.anchor;
                tag = event->data.mapping_start.tag;
                break;
        default:
                break;
        }
        if (anchor)
                return fail(reterr, -EBADMSG,
                            "line %u: the anchor or alias %s: write out what it stands for",
                            line_of(event), anchor);
        if (tag)
                return fail(reterr, -EBADMSG, "line %u: the tag %s: write a plain value",
                            line_of(event), tag);
        return 0;
}

static int take_event(Builder *b, const yaml_event_t *event, char **reterr)
{
        int r = check_plain(event, reterr);

        if (r < 0)
                return r;
        switch (event->type) {
        case YAML_DOCUMENT_START_EVENT:
                return b->root ? fail(reterr, -EBADMSG, "line %u: a second document",
                                      line_of(event))
                               : 0;
        case YAML_SEQUENCE_START_EVENT:
        case YAML_MAPPING_START_EVENT:
                if (wants_name(b))
                        return fail(reterr, -EBADMSG, "line %u: a name must be a text",
                                    line_of(event));
                return open_level(
                        b, event->type == YAML_MAPPING_START_EVENT ? YAML_KIND_MAP : YAML_KIND_LIST,
                        line_of(event), reterr);
        case YAML_SEQUENCE_END_EVENT:
        case YAML_MAPPING_END_EVENT:
                b->depth--;
                return 0;
        case YAML_SCALAR_EVENT:
                return take_scalar(b, event, reterr);
        default:
                return 0;
        }
}

static int fail_syntax(const yaml_parser_t *parser, char **reterr)
{
        if (parser->error == YAML_MEMORY_ERROR)
                return -ENOMEM;
        return fail(reterr, -EBADMSG, "line %zu: not YAML: %s", parser->problem_mark.line + 1,
                    parser->problem);
}

/* Takes one event. Returns 1 if it was the last. */
static int step(yaml_parser_t *parser, Builder *b, char **reterr)
{
        _cleanup_(event_donep) yaml_event_t event = {};
        int r;

        if (!yaml_parser_parse(parser, &event))
                return fail_syntax(parser, reterr);
        r = take_event(b, &event, reterr);
        if (r < 0 && reterr && *reterr)
                utf8_clean(*reterr);
        return r < 0 ? r : event.type == YAML_STREAM_END_EVENT;
}

int yaml_tree_parse(const char *data, size_t size, YamlNode **ret, char **reterr)
{
        _cleanup_(parser_donep) yaml_parser_t parser = {};
        _cleanup_(builder_done) Builder b = { .last = &b.root };
        int r;

        if (size > YAML_TREE_SIZE_MAX)
                return fail(reterr, -EFBIG, "%zu bytes, more than %d", size, YAML_TREE_SIZE_MAX);
        if (!yaml_parser_initialize(&parser))
                return -ENOMEM;
        yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&parser, (const unsigned char *) data, size);
        do
                r = step(&parser, &b, reterr);
        while (r == 0);
        if (r < 0)
                return r;
        if (!b.root)
                return fail(reterr, -EBADMSG, "line 1: there is nothing in it");
        *ret = TAKE_PTR(b.root);
        return 0;
}

const YamlNode *yaml_node_member(const YamlNode *map, const char *name)
{
        if (map->kind != YAML_KIND_MAP)
                return NULL;
        for (const YamlNode *m = map->child; m; m = m->next)
                if (streq(m->name, name))
                        return m->kind == YAML_KIND_NULL ? NULL : m;
        return NULL;
}

int yaml_node_check(const YamlNode *node, YamlKind kind, char **reterr)
{
        static const char *const names[] = {
                [YAML_KIND_NULL] = "empty",
                [YAML_KIND_TEXT] = "a text",
                [YAML_KIND_LIST] = "a list",
                [YAML_KIND_MAP] = "a map",
        };
        int r;

        if (node->kind == kind)
                return 0;
        r = fail(reterr, -EBADMSG, "line %u: %s must be %s, is %s", node->line,
                 node->name ? node->name : "this", names[kind], names[node->kind]);
        if (reterr && *reterr)
                utf8_clean(*reterr);
        return r;
}
