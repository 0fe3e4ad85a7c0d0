/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "http.h"
#include "instance.h"
#include "macro.h"

/*
 * slipway-fetch's side of instance.h: asks the metadata service for the identity document, then
 * for the instance's tags, one after the other over one connection ("Retrieve instance metadata"
 * and "View tags for your EC2 instances using instance metadata" in the EC2 User Guide). Tags that
 * are not exposed there (404) are asked of the EC2 API (tags-api.h); that these are not to be had
 * either, or not now, is no error: tags_error says what to do.
 */

typedef struct Metadata Metadata;

/* `http` must outlive it. -EINVAL: what the environment says of the service can't be used. */
_must_check_ int metadata_new(Http *http, Metadata **ret, char **reterr);
Metadata *metadata_free(Metadata *m); /* without calling back */
DEFINE_CLEANUP_FUNC(Metadata *, metadata_free);

/* `instance` may be packed; it is gone after the call. A negative result, with `err`: as
 * imds_done_t has it, and -EBADMSG: the document makes no sense. */
typedef void (*metadata_done_t)(int result, Instance *instance, const char *err, void *userdata);

/* For the loop that steps `http`: in how many microseconds metadata_start_due() has something to do
 * (UINT64_MAX: nothing waits), and doing it, which may call back. */
uint64_t metadata_due_in_usec(const Metadata *m);
void metadata_start_due(Metadata *m);

/* Never calls back from within. -EBUSY: it is being asked. */
_must_check_ int metadata_ask(Metadata *m, metadata_done_t done, void *userdata, char **reterr);
