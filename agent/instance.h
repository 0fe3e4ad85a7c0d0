/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "macro.h"
#include "manifest.h"

/*
 * What EC2 says of the instance that this host is: brought by slipway-fetch (metadata.h), so
 * hostile until instance_unpack() has checked its form; remembered by slipwayd in a file, for what
 * must work without a network.
 *
 * Packed it is a sequence of texts, each with a NUL at its end: id, region, zone, account, where
 * the tags come from, why there are none; then the tags, a key and a value each, in the bytewise
 * order of their keys.
 */

#define INSTANCE_TAGS_MAX      64 /* EC2: 50 */
#define INSTANCE_PACKED_MAX    (128 * 1024)
#define INSTANCE_REASON_MAX    1024
#define INSTANCE_TAGS_METADATA "metadata"
#define INSTANCE_TAGS_API      "ec2:DescribeTags"

typedef struct Instance {
        char *id;                      /* name_is_valid(), as the next three */
        char *region, *zone, *account; /* NULL: not told */
        char *tags_from;  /* one of the two above; NULL: there is no telling the tags */
        char *tags_error; /* then why, and what to do; beside tags_from: why they could not be asked
                           * for now (there are none here then); else NULL */
        Tag *tags;
        size_t n_tags;
} Instance;

Instance *instance_free(Instance *i);
DEFINE_CLEANUP_FUNC(Instance *, instance_free);

/* Adds a tag (copied). -E2BIG: there are INSTANCE_TAGS_MAX already. */
_must_check_ int instance_add_tag(Instance *i, const char *key, const char *value);

/* The value, or NULL. */
const char *instance_tag(const Instance *i, const char *key);

/* Sorts the tags and packs all of it; *ret is allocated. */
_must_check_ int instance_pack(Instance *i, char **ret, size_t *ret_size);

/* -EPROTO: not packed by the rules above: a text that is no name, is too long, not UTF-8 or with
 * control characters in it, a key that comes twice, too many tags. */
_must_check_ int instance_unpack(const char *data, size_t size, Instance **ret);

/* The same from a file that another process has: copied first. -EFBIG, -EPROTO (no regular file).
 */
_must_check_ int instance_unpack_fd(int fd, Instance **ret);

/* Remembers it in the directory, durably. Nobody else may be at it. */
_must_check_ int instance_save(Instance *i, int dir_fd);

/* -ENOENT: none is remembered. */
_must_check_ int instance_load(int dir_fd, Instance **ret);

/* Whether the tags are not known because of something that may pass. */
bool instance_lacks_tags(const Instance *i);

/* Gives `i` the tags that were heard before, with where they are from. */
_must_check_ int instance_keep_tags(Instance *i, const Instance *before);

/* Whether both say the same; of why there are no tags, but for the id of a request. */
bool instance_equal(const Instance *a, const Instance *b);
