/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "arguments.h"
#include "key.h"
#include "macro.h"

/* Keys as the options of the trust verbs name them. */

typedef struct KeyList {
        Key **keys;
        size_t n_keys;
} KeyList;

void key_list_done(KeyList *l);

/* Loads what key_source_signer() or key_source_public() can. */
_must_check_ int key_list_load(const Strings *names,
                               int (*load)(const char *name, Key **ret, char **reterr),
                               KeyList *ret, char **reterr);

/* Adds a public copy of the key. */
_must_check_ int key_list_copy(KeyList *l, const Key *k);

/* Adds the public key that `name` names. -EEXIST: it is there. */
_must_check_ int key_list_add(KeyList *l, const char *name, char **reterr);

/* Removes the key whose id begins with `name`, 8 hex digits or more, or else the one that `name`
 * names. -ENOENT: it is not there; -EINVAL: several ids begin so. */
_must_check_ int key_list_remove(KeyList *l, const char *name, char **reterr);

/* How many of n_keys must sign; without a text it is `otherwise`. PUBLISH_USAGE: not so many. */
_must_check_ int key_list_threshold(const char *option, const char *text, size_t n_keys,
                                    unsigned otherwise, unsigned *ret, char **reterr);
