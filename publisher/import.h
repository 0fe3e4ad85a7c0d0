/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <cJSON.h>

#include "arguments.h"
#include "macro.h"
#include "yaml-tree.h"

/*
 * What others call a deployment's settings, as slipway.json: an AppSpec or deploy spec file
 * (import-appspec.h), or CodePipeline's EC2 deploy action (import-action.h), whichever the text is.
 *
 * Nothing is dropped in silence: each setting that slipway.json can't say, or says otherwise, has a
 * note.
 */

#define IMPORT_SIZE_MAX YAML_TREE_SIZE_MAX

typedef struct ImportNote {
        bool taken; /* it is in slipway.json, but is not quite the same there */
        unsigned line;
        char *setting; /* "hooks.AfterInstall" */
        char *advice;  /* what to do, or how it differs: a sentence part */
} ImportNote;

typedef struct Import {
        cJSON *targets; /* each NULL until there is something in it */
        cJSON *units, *pre, *post;
        ImportNote *notes; /* in the order of the text */
        size_t n_notes;
} Import;

/* Imports a text. The units are restarted when a release goes live, and start and stop the
 * application in the place of scripts. *ret_spec is slipway.json's content, which an agent takes:
 * it is parsed once more. -EBADMSG: *reterr begins with "line N: " where one is to blame. */
_must_check_ int import_parse(const char *text, size_t size, const Strings *units, Import *ret,
                              cJSON **ret_spec, char **reterr);
void import_done(Import *m);

/* For the two parsers. */

/* Adds a note; texts from the file that are not fit for a terminal are cleaned. */
_must_check_ int import_note(Import *m, const YamlNode *node, bool taken, const char *setting,
                             const char *format, ...) _printf_(5, 6);

/* A path in a release, to be freed, from one in a bundle, which may begin with "/" or "./" and mean
 * its top: then it is empty. NULL: no memory. */
char *import_path(const char *location);

/* Adds a command to *list (m->pre, m->post): a script of the bundle. user may be NULL. */
_must_check_ int import_command(cJSON **list, const YamlNode *location, uint64_t timeout_sec,
                                const char *user, char **reterr);
