/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"
#include "manifest.h"
#include "provenance.h"
#include "signers.h"
#include "store.h"

/*
 * Where a release comes from, in the store: APP/releases/ID/provenance.json (common/provenance.h),
 * which never changes either. The same release made again has the one that is there, if that says
 * the same of it: the same bytes, commit and builder, signed by whose signature counts. Else it has
 * its own, provenance-DIGITS.json by the first digits of its digest: the bytes are the same, but
 * not where they come from, and no host shall take a desk's for the pipeline's, or the other way
 * round.
 */

/* Sets the manifest's provenance: to what the store has, or to a new statement by `builder` (a
 * URI), signed by every key. *ret is the new object's text, to be freed, or NULL: the store has it.
 */
_must_check_ int provenance_object_describe(Store *s, const Signers *signers, const char *builder,
                                            uint64_t started_sec, Manifest *m, char **ret,
                                            char **reterr);

/* Writes the text to the store; if somebody was first, beside theirs, as the manifest says then. */
_must_check_ int provenance_object_create(Store *s, const char *text, Manifest *m, char **reterr);

/* The object that a manifest names, which it must: its digest (-EKEYREJECTED, -ENOENT), and that it
 * is about this release (-EBADMSG). Its signatures are for the caller to check. */
_must_check_ int provenance_object_read(Store *s, const Manifest *m, Envelope **ret_envelope,
                                        Provenance **ret, char **reterr);
