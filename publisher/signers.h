/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "arguments.h"
#include "dsse.h"
#include "key.h"
#include "manifest.h"
#include "store.h"
#include "trust.h"

/* Who signs what is published, and whose signature counts on what is built upon. */

typedef struct Signers {
        Key **keys;
        size_t n_keys;
        Trust *trust; /* NULL without --trust */
} Signers;

void signers_done(Signers *s);

/* Loads keys (key-source.h) and, unless trust_path is NULL, the trust root, which is taken along
 * the store's chain (root-chain.h). Each key signs once: that takes KMS a call. With a trust root
 * the keys must satisfy it (else instances would refuse what they sign): -EKEYREJECTED. */
_must_check_ int signers_load(const Strings *key_paths, const char *trust_path, Store *store,
                              Signers *ret, char **reterr);

/* Whether every key could sign the manifest; asks nobody. -EFBIG: it is too long for one. */
_must_check_ int signers_check(const Signers *s, const Manifest *m, char **reterr);

/* The envelope text of a manifest, signed by every key. */
_must_check_ int signers_sign(const Signers *s, const Manifest *m, char **ret, size_t *ret_size,
                              char **reterr);

/* The same of another payload. -EFBIG: it is too long for one of the keys. */
_must_check_ int signers_sign_as(const Signers *s, const char *type, const char *payload,
                                 size_t size, char **ret, size_t *ret_size, char **reterr);

/* Whether a published manifest may be built upon: by the trust root if there is one, else by a
 * signature of one of the keys. -EKEYREJECTED if not. The store is not trusted: without this, who
 * can write there could have an artifact of theirs signed by a promotion or a rollback. */
_must_check_ int signers_accept(const Signers *s, const Envelope *e, char **reterr);

/* The same of an envelope of another type. */
_must_check_ int signers_accept_as(const Signers *s, const char *type, const Envelope *e,
                                   char **reterr);
