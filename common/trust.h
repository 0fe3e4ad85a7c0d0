/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <inttypes.h>

#include "dsse.h"
#include "key.h"
#include "macro.h"

/*
 * The trust root: which keys may sign manifests, and how many of them must. A DSSE envelope of type
 * TRUST_PAYLOAD_TYPE around this payload (unknown, duplicate and missing members are errors):
 *
 *   { "schema": "slipway/trust/1", "version": 1, "expires": "2036-11-22T14:00:00Z",
 *     "keys": [ { "id": "<64 hex>", "type": "ed25519", "public": "<base64 DER SPKI>" } ],
 *     "manifest": { "threshold": 1, "keys": [ "<id>" ] },
 *     "root":     { "threshold": 1, "keys": [ "<id>" ] } }
 *
 * An id is the key's own (key_id()), so that one key cannot stand there under two; keys are in the
 * one encoding that key_from_der() takes. At most TRUST_KEYS_MAX keys.
 *
 * "manifest" keys sign manifests; "root" keys sign the next trust root. The first one that a reader
 * has is trusted because of where it lies (/etc/slipway/trust/root.json, in the machine image), so
 * version 1 may be unsigned. From there a chain goes on in the store, TRUST_PATH_FORMAT with
 * version 2, 3, ...: each is one version higher, and signed by the threshold of root keys of the
 * one before it and by its own. So who holds too few keys can neither make the next one nor take
 * the chain to keys that nobody has. Of the roots on the way the expiry does not matter, only the
 * last one's.
 */

#define TRUST_KEYS_MAX    64
#define TRUST_PATH_FORMAT "trust/%" PRIu64 ".json"

typedef struct Trust Trust;

/* Reads the envelope at `path` and its payload; the file itself is trusted (see above). */
_must_check_ int trust_load(const char *path, Trust **ret, char **reterr);

/* As above, and also the envelope. */
_must_check_ int trust_load_signed(const char *path, Envelope **ret_envelope, Trust **ret,
                                   char **reterr);

/* Parses the payload of a trust root that the caller already trusts; payload[size] must be NUL. */
_must_check_ int trust_parse(const char *payload, size_t size, Trust **ret, char **reterr);

Trust *trust_free(Trust *t);
DEFINE_CLEANUP_FUNC(Trust *, trust_free);

uint64_t trust_version(const Trust *t);
uint64_t trust_expires_sec(const Trust *t); /* seconds since the epoch */
size_t trust_n_manifest_keys(const Trust *t);
const Key *trust_manifest_key(const Trust *t, size_t i);
unsigned trust_manifest_threshold(const Trust *t);
size_t trust_n_root_keys(const Trust *t);
const Key *trust_root_key(const Trust *t, size_t i);
unsigned trust_root_threshold(const Trust *t);

/* 0 if at least the threshold of different manifest keys signed the envelope's payload as
 * MANIFEST_PAYLOAD_TYPE. The root fixes each key's algorithm. Keys are counted, not signatures; the
 * envelope's key ids serve for messages only. Otherwise -EKEYREJECTED, and *reterr says which of
 * these it was: no signature at all, signatures only by keys that are not in the trust root, a
 * signature that does not match, or too few. Parses nothing of the payload. */
_must_check_ int trust_verify_manifest(const Trust *t, const Envelope *e, char **reterr);

/* The same for a payload of another type that the keys of manifests sign. */
_must_check_ int trust_verify(const Trust *t, const Envelope *e, const char *type, char **reterr);

/* The trust root that follows t, from an envelope that anybody may have made: at least the
 * threshold of different root keys of t signed its payload as TRUST_PAYLOAD_TYPE, which is looked
 * at before a byte of it is parsed; its version is the next; and its own root keys signed as well.
 * -EKEYREJECTED or -EBADMSG, and *reterr says why. Its expiry does not count. */
_must_check_ int trust_follow(const Trust *t, const Envelope *e, Trust **ret, char **reterr);

/* Makes t what `next` is, for all who hold t; consumes `next`. Keys of t that somebody holds are
 * gone. */
void trust_become(Trust *t, Trust *next);

/* The envelope text of a first trust root (version 1): all `keys` may sign manifests, `threshold`
 * of them must; the same for root keys. Signed by `signers` (may be none). Checks 1 <= threshold <=
 * n and that no key comes twice. *ret is to be freed. */
_must_check_ int trust_format_first(Key *const *keys, size_t n_keys, unsigned threshold,
                                    Key *const *root_keys, size_t n_root_keys,
                                    unsigned root_threshold, uint64_t expires_sec,
                                    Key *const *signers, size_t n_signers, char **ret,
                                    size_t *ret_size, char **reterr);

/* The same for one that may follow t, unsigned. */
_must_check_ int trust_format_next(const Trust *t, Key *const *keys, size_t n_keys,
                                   unsigned threshold, Key *const *root_keys, size_t n_root_keys,
                                   unsigned root_threshold, uint64_t expires_sec, char **ret,
                                   size_t *ret_size, char **reterr);
