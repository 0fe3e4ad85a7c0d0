/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Compares requests of Slipway's with real ones of amazon-ssm-agent's, which are not part of this
 * repository. */

#include <stdlib.h>

#include <cJSON.h>

#include "json-read.h"

#define SSM_REQUESTS "../shared/reference/ssm-requests.json"

/* NULL: it is not there. */
static inline cJSON *ssm_requests_open(void)
{
        _cleanup_free_ char *path = NULL, *text = NULL;
        cJSON *json;

        if (asprintf(&path, "%s/" SSM_REQUESTS, strempty(getenv("SLIPWAY_SOURCE_ROOT"))) < 0 ||
            file_read_at(AT_FDCWD, path, 1024 * 1024, &text, NULL) < 0)
                return NULL;
        json = cJSON_Parse(text);
        assert_non_null(json);
        return json;
}

static inline const char *ssm_requests_text(const cJSON *o, const char *name)
{
        const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name));

        assert_non_null(s);
        return s;
}

static inline bool ssm_requests_is_of(const cJSON *request, const char *target)
{
        const cJSON *h;

        cJSON_ArrayForEach(h, cJSON_GetObjectItem(request, "headers"))
        {
                if (strncmp(h->valuestring, "X-Amz-Target: ", 14) == 0 &&
                    streq(h->valuestring + 14, target))
                        return true;
        }
        return false;
}

/* The first one with this target. */
static inline const cJSON *ssm_requests_find(const cJSON *requests, const char *target)
{
        const cJSON *v;

        cJSON_ArrayForEach(v, cJSON_GetObjectItem(requests, "requests"))
        {
                if (ssm_requests_is_of(v, target))
                        return v;
        }
        return NULL;
}

static inline void ssm_requests_check_head(const cJSON *theirs, const char *head)
{
        const char *signed_headers = ssm_requests_text(theirs, "signed_headers");
        char line[256];

        (void) snprintf(line, sizeof(line), "%s %s HTTP/1.1\r\n",
                        ssm_requests_text(theirs, "method"), ssm_requests_text(theirs, "path"));
        assert_int_equal(strncmp(head, line, strlen(line)), 0);
        assert_non_null(strstr(head, "\r\nContent-Type: application/x-amz-json-1.1\r\n"));
        (void) snprintf(line, sizeof(line), "/%s/%s/aws4_request, ",
                        ssm_requests_text(theirs, "region"), ssm_requests_text(theirs, "service"));
        assert_non_null(strstr(head, line));
        /* Ours does not sign the length, which is as good: the body is signed. */
        assert_int_equal(strncmp(signed_headers, "content-length;", 15), 0);
        (void) snprintf(line, sizeof(line), "SignedHeaders=%s, ", signed_headers + 15);
        assert_non_null(strstr(head, line));
}

/* What they send is there, as the same type. `whole`: and nothing else is. */
static inline void ssm_requests_check(const cJSON *requests, const char *target, const char *head,
                                      const char *body, bool whole)
{
        const cJSON *theirs = ssm_requests_find(requests, target), *v;
        _cleanup_json_ cJSON *ours = cJSON_Parse(body), *sent = NULL;

        assert_non_null(theirs);
        ssm_requests_check_head(theirs, head);
        sent = cJSON_Parse(ssm_requests_text(theirs, "body"));
        cJSON_ArrayForEach(v, sent)
        {
                const cJSON *same = cJSON_GetObjectItemCaseSensitive(ours, v->string);
                if (!same || same->type != v->type)
                        fail_msg("%s: %s", target, v->string);
        }
        if (whole)
                assert_int_equal(cJSON_GetArraySize(ours), cJSON_GetArraySize(sent));
}
