/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "macro.h"

/*
 * The command line of slipway-publish. One table names every option, so that it has the same name,
 * meaning and help text in every verb; a verb says which of them it takes and which it needs.
 */

typedef enum Option {
        OPTION_STORE,
        OPTION_APP,
        OPTION_CHANNEL,
        OPTION_FROM,
        OPTION_TO,
        OPTION_KEY,
        OPTION_TRUST,
        OPTION_AFTER,
        OPTION_SPEC,
        OPTION_ID,
        OPTION_EXPIRES,
        OPTION_WITHIN,
        OPTION_WINDOW,
        OPTION_BUILDER,
        OPTION_LEVEL,
        OPTION_TYPE,
        OPTION_THRESHOLD,
        OPTION_ROOT_KEY,
        OPTION_ROOT_THRESHOLD,
        OPTION_SIGN,
        OPTION_ADD_KEY,
        OPTION_REMOVE_KEY,
        OPTION_ADD_ROOT_KEY,
        OPTION_REMOVE_ROOT_KEY,
        OPTION_OUTPUT,
        OPTION_NUMBER,
        OPTION_UNIT,
        OPTION_ALL,
        OPTION_JSON,
        OPTION_HELP,
        _OPTION_MAX,
} Option;

/* A set of options. */
#define OPT(o) (UINT32_C(1) << OPTION_##o)

typedef struct Strings {
        const char **items; /* the strings are argv's */
        size_t n_items;
} Strings;

/* What was given. Strings are argv's and NULL where nothing was. */
typedef struct Arguments {
        const char *store, *app, *channel, *from, *to, *trust, *after, *spec, *id, *expires,
                *within, *builder, *level, *type, *threshold, *root_threshold, *output, *number;
        Strings keys, root_keys, signers, add_keys, remove_keys, add_root_keys, remove_root_keys,
                windows, units;
        bool all, json, help;
        Strings operands;
} Arguments;

void arguments_done(Arguments *a);

/* Parses argv, whose first string is the verb (skipped). `allowed` and `required` are sets of
 * options; apps, channels and ids are checked to be names; the number of operands must be within
 * n_min..n_max, which `operands` ("PATH") names in messages. -EINVAL: *reterr says what is wrong.
 * With --help nothing is required. Not reentrant (getopt). */
_must_check_ int arguments_parse(int argc, char **argv, uint32_t allowed, uint32_t required,
                                 const char *operands, size_t n_min, size_t n_max, Arguments *ret,
                                 char **reterr);

/* Prints the help lines of a set of options to stdout. */
void arguments_print_options(uint32_t set);

/* A whole number from 1 to `max`. -EINVAL: *reterr names the option. */
_must_check_ int arguments_number(const char *option, const char *text, uint64_t max, uint64_t *ret,
                                  char **reterr);
