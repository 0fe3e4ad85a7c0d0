/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "macro.h"

/*
 * YAML 1.1, and so JSON, as a tree of texts, lists and maps, by libyaml: for files made by others
 * that name settings. It is a tree because it can't be anything else: anchors, aliases, merge keys
 * and tags are refused, so that a text of n bytes makes at most n nodes; so are a second document,
 * maps with a member twice, members whose names are not texts, and NUL characters. Numbers and
 * booleans stay the texts they are written as.
 */

#define YAML_TREE_SIZE_MAX    (256 * 1024)
#define YAML_TREE_DEPTH_MAX   16
#define YAML_TREE_MEMBERS_MAX 1024 /* of one map or list */

typedef enum YamlKind {
        YAML_KIND_NULL, /* nothing, ~ or null, without quotes */
        YAML_KIND_TEXT,
        YAML_KIND_LIST,
        YAML_KIND_MAP,
} YamlKind;

typedef struct YamlNode {
        YamlKind kind;
        unsigned line;          /* where it begins; a member's: where its name stands */
        char *name;             /* of a map's member, else NULL */
        char *text;             /* of a text, else NULL */
        size_t n_children;      /* of a list or map */
        struct YamlNode *child; /* the first one */
        struct YamlNode *next;  /* in the same list or map */
        struct YamlNode *after; /* in the order of the text, through the whole tree */
} YamlNode;

/* Parses `size` bytes of UTF-8. *ret is the root, which is first in the order of `after`.
 * -EBADMSG: *reterr begins with "line N: ". More than YAML_TREE_SIZE_MAX: -EFBIG. */
_must_check_ int yaml_tree_parse(const char *data, size_t size, YamlNode **ret, char **reterr);

/* Frees a whole tree, by its root. */
YamlNode *yaml_tree_free(YamlNode *root);
DEFINE_CLEANUP_FUNC(YamlNode *, yaml_tree_free);

/* The member of this name, if `map` is a map and it is there and not null; else NULL. */
const YamlNode *yaml_node_member(const YamlNode *map, const char *name);

/* -EBADMSG unless the node is of this kind: "line 7: timeout must be a text, is a list". */
_must_check_ int yaml_node_check(const YamlNode *node, YamlKind kind, char **reterr);
