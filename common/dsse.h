/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "key.h"
#include "macro.h"

/*
 * DSSE 1.0 envelopes (secure-systems-lab/dsse: protocol.md, envelope.md) and their packed form, in
 * which an opened envelope crosses the border from slipway-fetch to slipwayd.
 *
 * An envelope is JSON from the network: slipway-fetch and the publisher parse it, slipwayd does
 * not. It gets the packed form, a fixed layout that is checked without a parser. The one exception
 * is an envelope whose digest stands in a manifest that was verified (provenance.h): its bytes are
 * signed.
 */

#define MANIFEST_PAYLOAD_TYPE "application/vnd.slipway.manifest+json"
#define TRUST_PAYLOAD_TYPE    "application/vnd.slipway.trust+json"

#define ENVELOPE_SIZE_MAX (256 * 1024)
#define N_SIGNATURES_MAX  16

typedef struct Signature {
        uint8_t bytes[SIGNATURE_SIZE_MAX];
        size_t size;
        Sha256 key_id; /* a hint, only good for finding the key to try; zero if the envelope's is
                          not a digest */
} Signature;

typedef struct Envelope {
        char *payload; /* NUL-terminated for convenience; may hold any bytes */
        size_t payload_size;
        Signature signatures[N_SIGNATURES_MAX];
        size_t n_signatures;
} Envelope;

Envelope *envelope_free(Envelope *e);
DEFINE_CLEANUP_FUNC(Envelope *, envelope_free);

/* Parses an envelope of at most ENVELOPE_SIZE_MAX bytes (more: -EFBIG) whose payloadType is exactly
 * `type`; data[size] must be NUL. Standard and URL-safe base64 are taken; unknown members are
 * ignored, as DSSE asks; duplicates of known ones are not. There may be no signatures. */
_must_check_ int envelope_parse(const char *data, size_t size, const char *type, Envelope **ret,
                                char **reterr);

/* The JSON text of an envelope (ends in a newline), to be freed. Signatures may be none.
 * Longer than ENVELOPE_SIZE_MAX: -EFBIG. */
_must_check_ int envelope_format(const Envelope *e, const char *type, char **ret, size_t *ret_size);

/* A new envelope around a copy of the payload, without signatures. More than ENVELOPE_SIZE_MAX:
 * -EFBIG. */
_must_check_ int envelope_new(const void *payload, size_t size, Envelope **ret);

/* Adds k's signature over the payload as `type`. -E2BIG: there are N_SIGNATURES_MAX; or an error of
 * key_sign(). */
_must_check_ int envelope_sign(Envelope *e, const char *type, const Key *k, char **reterr);

/* 0: one of the envelope's signatures is k's over the payload as `type`. -EKEYREJECTED: none is. */
_must_check_ int envelope_verify(const Envelope *e, const char *type, const Key *k);

/* The bytes that are signed (PAE), to be freed. */
_must_check_ int dsse_pae(const char *type, const void *payload, size_t size, uint8_t **ret,
                          size_t *ret_size);

/* Packed form, little-endian: 8 bytes "SLPYENV1", u32 payload size, u32 number of signatures, then
 * per signature u32 size, 32 bytes key id, SIGNATURE_SIZE_MAX bytes (the rest zero); then the
 * payload; nothing after it. _unpack() takes it from bytes that may be hostile: limits as above,
 * -EBADMSG. */
_must_check_ int envelope_pack(const Envelope *e, uint8_t **ret, size_t *ret_size);
_must_check_ int envelope_unpack(const void *data, size_t size, Envelope **ret);
