/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "macro.h"
#include "manifest.h"

/*
 * Placeholders in the configuration's texts: {app}, {channel}, {instance-id}, {region}, {zone} and
 * {tag:Key}. A value that is filled in must have the form of a name (name_is_valid()), so that who
 * may set a tag can neither lead a path elsewhere nor widen a pattern.
 */

typedef struct Placeholders {
        const char *app, *instance;
        const char *channel;       /* NULL where it is not known yet */
        const char *region, *zone; /* NULL: not set */
        const Tag *tags;
        size_t n_tags;
} Placeholders;

/* Replaces *text by its expansion. -ENODATA: a placeholder without a value (*reterr says what to
 * set). -EBADMSG: one that is not known, a value that is no name, or a brace without its other
 * half. */
_must_check_ int placeholders_expand(const Placeholders *p, char **text, char **reterr);
