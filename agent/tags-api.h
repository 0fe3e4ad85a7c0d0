/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "http.h"
#include "instance.h"
#include "macro.h"

/*
 * slipway-fetch's other way to an instance's tags, where its metadata does not expose them:
 * DescribeTags of the EC2 API, with the credentials of the environment (credentials.h). Calls count
 * against limits of the whole account, so that an answer serves for ten minutes, and a failure that
 * may pass for one.
 */

typedef struct TagsApi TagsApi;

/* `http` must outlive it. */
_must_check_ int tags_api_new(Http *http, TagsApi **ret);
TagsApi *tags_api_free(TagsApi *t); /* without calling back */
DEFINE_CLEANUP_FUNC(TagsApi *, tags_api_free);

/* Adds the tags of the last answer to `i`. -EAGAIN: there is none that still counts. Else why there
 * are no tags: -EACCES: the permission ec2:DescribeTags is missing, or as aws_done_t and
 * credentials_source_new() have it; -EBADMSG: the answer makes no sense. */
_must_check_ int tags_api_get(const TagsApi *t, Instance *i, char **reterr);

/* Asks for the tags of this instance. done() is called when tags_api_get() has something to say,
 * never from within. One that can't be asked is such an answer, too: then there is no done(). */
_must_check_ int tags_api_ask(TagsApi *t, const Instance *i, void (*done)(void *userdata),
                              void *userdata);

/* For the loop that steps `http`: in how many microseconds tags_api_start_due() has something to do
 * (UINT64_MAX: nothing waits), and doing it, which may call back. */
uint64_t tags_api_due_in_usec(const TagsApi *t);
void tags_api_start_due(TagsApi *t);
