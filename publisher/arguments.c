/* SPDX-License-Identifier: Apache-2.0 */
#include "arguments.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>

#include "err.h"
#include "name.h"

/* getopt_long() returns this plus the Option, out of the way of its own characters. */
#define OPTION_BASE 256

typedef enum OptionKind {
        KIND_STRING,
        KIND_NAME, /* a string that name_is_valid() */
        KIND_LIST,
        KIND_FLAG,
} OptionKind;

typedef struct OptionInfo {
        const char *name;
        char letter; /* 0: none */
        OptionKind kind;
        size_t offset;
        const char *metavar, *help;
} OptionInfo;

#define FIELD(f) offsetof(Arguments, f)

/* clang-format off */
static const OptionInfo options[_OPTION_MAX] = {
        [OPTION_STORE]     = { "store",     0,   KIND_STRING, FIELD(store),     "URL",
                               "the store: s3://BUCKET/PREFIX or file:///DIRECTORY" },
        [OPTION_APP]       = { "app",       0,   KIND_NAME,   FIELD(app),       "NAME",
                               "the application" },
        [OPTION_CHANNEL]   = { "channel",   0,   KIND_NAME,   FIELD(channel),   "NAME",
                               "its line of releases, for example prod" },
        [OPTION_FROM]      = { "from",      0,   KIND_NAME,   FIELD(from),      "CHANNEL",
                               "the channel whose release is taken" },
        [OPTION_TO]        = { "to",        0,   KIND_NAME,   FIELD(to),        "CHANNEL",
                               "the channel that gets it" },
        [OPTION_KEY]       = { "key",       0,   KIND_LIST,   FIELD(keys),      "KEY",
                               "file or kms:KEY; may be given several times" },
        [OPTION_TRUST]     = { "trust",     0,   KIND_STRING, FIELD(trust),     "FILE",
                               "trust root that the manifests must satisfy" },
        [OPTION_AFTER]     = { "after",     0,   KIND_STRING, FIELD(after),     "FILE",
                               "the trust root before it" },
        [OPTION_SPEC]      = { "spec",      0,   KIND_STRING, FIELD(spec),      "FILE",
                               "targets and activation (release: slipway.json)" },
        [OPTION_ID]        = { "id",        0,   KIND_NAME,   FIELD(id),        "ID",
                               "the release's id; default: DATE-COMMIT" },
        [OPTION_EXPIRES]   = { "expires",   0,   KIND_STRING, FIELD(expires),   "WHEN",
                               "30d, 12h, 2027-01-31 or 2027-01-31T12:00:00Z" },
        [OPTION_WITHIN]    = { "within",    0,   KIND_STRING, FIELD(within),    "SPAN",
                               "only if it expires within 10d, 12h or 2w" },
        [OPTION_WINDOW]    = { "window",    0,   KIND_LIST,   FIELD(windows),   "WHEN",
                               "may begin then: 'Mon-Thu 09:00-16:00' (UTC)" },
        [OPTION_BUILDER]   = { "builder",   0,   KIND_STRING, FIELD(builder),   "URI",
                               "who builds, for the provenance (default: the CI's)" },
        [OPTION_LEVEL]     = { "level",     0,   KIND_STRING, FIELD(level),     "N",
                               "of compression, 1 to 19 (default 3)" },
        [OPTION_TYPE]      = { "type",      0,   KIND_STRING, FIELD(type),      "TYPE",
                               "ed25519 (default) or ecdsa-p256" },
        [OPTION_THRESHOLD] = { "threshold", 0,   KIND_STRING, FIELD(threshold), "N",
                               "how many keys must sign a manifest (at first 1)" },
        [OPTION_ROOT_KEY]  = { "root-key",  0,   KIND_LIST,   FIELD(root_keys), "KEY",
                               "key for later trust roots (default: each --key)" },
        [OPTION_ROOT_THRESHOLD] = { "root-threshold", 0, KIND_STRING, FIELD(root_threshold), "N",
                               "how many keys must sign a trust root (at first 1)" },
        [OPTION_SIGN]      = { "sign",      0,   KIND_LIST,   FIELD(signers),   "KEY",
                               "private key or kms:KEY that signs this trust root" },
        [OPTION_ADD_KEY]   = { "add-key",   0,   KIND_LIST,   FIELD(add_keys),  "KEY",
                               "may sign manifests from now on" },
        [OPTION_REMOVE_KEY] = { "remove-key", 0, KIND_LIST,   FIELD(remove_keys), "KEY",
                               "may not any more; a file, or its id's first digits" },
        [OPTION_ADD_ROOT_KEY] = { "add-root-key", 0, KIND_LIST, FIELD(add_root_keys), "KEY",
                               "may sign trust roots from now on" },
        [OPTION_REMOVE_ROOT_KEY] = { "remove-root-key", 0, KIND_LIST, FIELD(remove_root_keys),
                               "KEY", "may not any more" },
        [OPTION_OUTPUT]    = { "output",    'o', KIND_STRING, FIELD(output),    "FILE",
                               "file to write; must not exist" },
        [OPTION_NUMBER]    = { "number",    'n', KIND_STRING, FIELD(number),    "N",
                               "how many lines (default 20)" },
        [OPTION_UNIT]      = { "unit",      0,   KIND_LIST,   FIELD(units),     "UNIT",
                               "runs the application; may be given several times" },
        [OPTION_ALL]       = { "all",       0,   KIND_FLAG,   FIELD(all),       NULL,
                               "every app, channel, manifest and release" },
        [OPTION_JSON]      = { "json",      0,   KIND_FLAG,   FIELD(json),      NULL,
                               "print one JSON document" },
        [OPTION_HELP]      = { "help",      'h', KIND_FLAG,   FIELD(help),      NULL,
                               "print this help" },
};
/* clang-format on */

static void *field_of(Arguments *a, const OptionInfo *o)
{
        return (char *) a + o->offset;
}

static int strings_add(Strings *s, const char *item)
{
        const char **larger = reallocarray(s->items, s->n_items + 1, sizeof(char *));

        if (!larger)
                return -ENOMEM;
        s->items = larger;
        s->items[s->n_items++] = item;
        return 0;
}

void arguments_done(Arguments *a)
{
        free(a->keys.items);
        free(a->root_keys.items);
        free(a->signers.items);
        free(a->add_keys.items);
        free(a->remove_keys.items);
        free(a->add_root_keys.items);
        free(a->remove_root_keys.items);
        free(a->windows.items);
        free(a->units.items);
        free(a->operands.items);
        *a = (Arguments){};
}

static int store_value(Arguments *a, const OptionInfo *o, const char *value, char **reterr)
{
        switch (o->kind) {
        case KIND_FLAG:
                *(bool *) field_of(a, o) = true;
                return 0;
        case KIND_LIST:
                return strings_add(field_of(a, o), value);
        case KIND_NAME:
                if (!name_is_valid(value))
                        return fail(reterr, -EINVAL,
                                    "--%s '%s' is not a name: letters, digits, '.', '_' and '-', "
                                    "at most %d, the first a letter or digit",
                                    o->name, value, NAME_SIZE_MAX);
                break;
        case KIND_STRING:
                if (!*value)
                        return fail(reterr, -EINVAL, "--%s is empty", o->name);
                break;
        }
        const char **field = field_of(a, o);
        if (*field)
                return fail(reterr, -EINVAL, "--%s is given twice", o->name);
        *field = value;
        return 0;
}

static bool is_given(Arguments *a, const OptionInfo *o)
{
        switch (o->kind) {
        case KIND_FLAG:
                return *(bool *) field_of(a, o);
        case KIND_LIST:
                return ((Strings *) field_of(a, o))->n_items > 0;
        case KIND_NAME:
        case KIND_STRING:
                break;
        }
        return *(const char **) field_of(a, o) != NULL;
}

static void fill_getopt(uint32_t allowed, struct option ret_long[static _OPTION_MAX + 1],
                        char ret_short[static 2 * _OPTION_MAX + 2])
{
        size_t n_long = 0, n_short = 0;

        ret_short[n_short++] = ':'; /* getopt(3): a missing value is ':', not '?' */
        for (int i = 0; i < _OPTION_MAX; i++) {
                int has_value = options[i].kind == KIND_FLAG ? no_argument : required_argument;
                if (!(allowed & UINT32_C(1) << i))
                        continue;
                ret_long[n_long++] = (struct option){
                        .name = options[i].name,
                        .has_arg = has_value,
                        .val = OPTION_BASE + i,
                };
                if (!options[i].letter)
                        continue;
                ret_short[n_short++] = options[i].letter;
                if (has_value == required_argument)
                        ret_short[n_short++] = ':';
        }
        ret_long[n_long] = (struct option){};
        ret_short[n_short] = '\0';
}

static const OptionInfo *option_by_code(int code)
{
        if (code >= OPTION_BASE)
                return &options[code - OPTION_BASE];
        for (size_t i = 0; i < _OPTION_MAX; i++)
                if (options[i].letter == code)
                        return &options[i];
        return NULL;
}

static int parse_options(int argc, char **argv, uint32_t allowed, Arguments *a, char **reterr)
{
        struct option longs[_OPTION_MAX + 1];
        char shorts[2 * _OPTION_MAX + 2];

        fill_getopt(allowed, longs, shorts);
        optind = 0; /* getopt(3): start anew, also inside a permuted argv */
        opterr = 0;
        for (;;) {
                int at = optind > 0 ? optind : 1;
                int c = getopt_long(argc, argv, shorts, longs, NULL);
                if (c < 0)
                        break;
                if (c == ':')
                        return fail(reterr, -EINVAL, "%s needs a value", argv[optind - 1]);
                if (c == '?')
                        return fail(reterr, -EINVAL, "%s doesn't take %s", argv[0],
                                    optind > at ? argv[optind - 1] : argv[at]);
                int r = store_value(a, option_by_code(c), optarg, reterr);
                if (r < 0)
                        return r;
        }
        for (int i = optind; i < argc; i++) {
                int r = strings_add(&a->operands, argv[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int check_required(const char *verb, uint32_t required, Arguments *a, char **reterr)
{
        for (int i = 0; i < _OPTION_MAX; i++)
                if ((required & UINT32_C(1) << i) && !is_given(a, &options[i]))
                        return fail(reterr, -EINVAL, "%s needs --%s %s", verb, options[i].name,
                                    options[i].metavar);
        return 0;
}

int arguments_parse(int argc, char **argv, uint32_t allowed, uint32_t required,
                    const char *operands, size_t n_min, size_t n_max, Arguments *ret, char **reterr)
{
        _cleanup_(arguments_done) Arguments a = {};
        int r = parse_options(argc, argv, allowed | required, &a, reterr);

        if (r < 0)
                return r;
        if (!a.help) {
                r = check_required(argv[0], required, &a, reterr);
                if (r < 0)
                        return r;
                if (a.operands.n_items < n_min)
                        return fail(reterr, -EINVAL, "%s needs %s", argv[0], operands);
                if (a.operands.n_items > n_max)
                        return fail(reterr, -EINVAL, "%s doesn't know what to do with '%s'",
                                    argv[0], a.operands.items[n_max]);
        }
        *ret = a;
        a = (Arguments){};
        return 0;
}

void arguments_print_options(uint32_t set)
{
        for (int i = 0; i < _OPTION_MAX; i++) {
                const OptionInfo *o = &options[i];
                char left[64];
                if (!(set & UINT32_C(1) << i))
                        continue;
                (void) snprintf(left, sizeof(left), "%c%c%c --%s%s%s", o->letter ? '-' : ' ',
                                o->letter ? o->letter : ' ', o->letter ? ',' : ' ', o->name,
                                o->metavar ? " " : "", strempty(o->metavar));
                printf("  %-24s %s\n", left, o->help);
        }
}

int arguments_number(const char *option, const char *text, uint64_t max, uint64_t *ret,
                     char **reterr)
{
        char *end = NULL;

        errno = 0;
        unsigned long long n = strtoull(text, &end, 10);
        if (errno > 0 || *end || strspn(text, "0123456789") != strlen(text) || n < 1 || n > max)
                return fail(reterr, -EINVAL, "--%s '%s' is not a whole number from 1 to %llu",
                            option, text, (unsigned long long) max);
        *ret = n;
        return 0;
}
