/* SPDX-License-Identifier: Apache-2.0 */
#include "ssm-job.h"

#include <stdio.h>
#include <strings.h>

#include "err.h"
#include "json-read.h"
#include "time-text.h"

#define TOPIC_SIZE_MAX 256
#define SCHEMA_VERSION 1

void ssm_job_done(SsmJob *j)
{
        cJSON_Delete(j->json);
        *j = (SsmJob){};
}

char *ssm_time_format(uint64_t msec, char buffer[static SSM_TIME_SIZE])
{
        char seconds[TIME_TEXT_SIZE];

        (void) time_format_utc(msec / 1000, seconds);
        (void) snprintf(buffer, SSM_TIME_SIZE, "%.19s.%03uZ", seconds, (unsigned) (msec % 1000));
        return buffer;
}

/* A member that must be there once, and be a text. */
static int find_text(const cJSON *object, const char *name, const char **ret, char **reterr)
{
        const cJSON *found = NULL, *v;

        if (!cJSON_IsObject(object))
                return json_fail_type(object, "", "an object", reterr);
        cJSON_ArrayForEach(v, object)
        {
                if (strcasecmp(v->string, name) != 0)
                        continue;
                if (found)
                        return fail(reterr, -EBADMSG, "%s: comes twice", name);
                found = v;
        }
        if (!found)
                return fail(reterr, -EBADMSG, "%s: missing", name);
        if (!cJSON_IsString(found))
                return json_fail_type(found, name, "a string", reterr);
        *ret = found->valuestring;
        return 0;
}

/* The same for a text of one line. */
static int find_line(const cJSON *object, const char *name, size_t size_max, const char **ret,
                     char **reterr)
{
        const char *text;
        int r = find_text(object, name, &text, reterr);

        if (r >= 0)
                r = json_check_text(cJSON_GetObjectItem(object, name), name, 1, size_max, reterr);
        if (r >= 0)
                *ret = text;
        return r;
}

int ssm_job_parse(const char *data, size_t size, SsmJob *ret, char **reterr)
{
        SsmJob *j = ret;
        const char *dot;
        int r;

        *j = (SsmJob){};
        r = json_parse(data, size, &j->json, reterr);
        if (r >= 0)
                r = find_line(j->json, "jobId", SSM_JOB_ID_SIZE_MAX, &j->id, reterr);
        if (r >= 0)
                r = find_line(j->json, "topic", TOPIC_SIZE_MAX, &j->topic, reterr);
        if (r >= 0)
                r = find_text(j->json, "content", &j->content, reterr);
        if (r < 0)
                return r;
        if (strlen(j->content) > SSM_MESSAGE_SIZE_MAX)
                return fail(reterr, -EBADMSG, "content: is longer than %u bytes",
                            SSM_MESSAGE_SIZE_MAX);
        dot = strrchr(j->id, '.');
        j->destination = dot ? dot + 1 : j->id;
        return 0;
}

static const struct {
        const char *code, *text;
} receipts[] = {
        [SSM_RECEIPT_TAKEN] = {"200",    "Successful"               },
        [SSM_RECEIPT_DUPLICATE] = { "51405", "DuplicateCommand"         },
        [SSM_RECEIPT_MALFORMED] = { "51408", "AgentJobMessageParseError"},
        [SSM_RECEIPT_NO_HANDLER] = { "51403", "UnexpectedDocumentType"   },
};

static int print(const cJSON *o, bool complete, char **ret)
{
        *ret = complete ? cJSON_PrintUnformatted(o) : NULL;
        return *ret ? 0 : -ENOMEM;
}

int ssm_job_format_ack(const SsmMessage *m, SsmReceipt receipt, char **ret)
{
        _cleanup_json_ cJSON *o = cJSON_CreateObject();

        return print(o,
                     cJSON_AddStringToObject(o, "jobId", m->id) &&
                             cJSON_AddStringToObject(o, "acknowledgedMessageId", m->frame_id) &&
                             cJSON_AddStringToObject(o, "createdDate", m->created) &&
                             cJSON_AddStringToObject(o, "statusCode", receipts[receipt].code) &&
                             cJSON_AddStringToObject(o, "errorMessage", receipts[receipt].text),
                     ret);
}

int ssm_job_format_reply(const SsmReply *reply, char **ret)
{
        _cleanup_json_ cJSON *o = cJSON_CreateObject();

        return print(o,
                     cJSON_AddNumberToObject(o, "schemaVersion", SCHEMA_VERSION) &&
                             cJSON_AddStringToObject(o, "jobId", reply->message_id) &&
                             cJSON_AddStringToObject(o, "content", reply->payload) &&
                             cJSON_AddStringToObject(o, "topic", reply->topic),
                     ret);
}

int ssm_job_parse_reply_ack(const char *data, size_t size, char ret[static UUID_TEXT_SIZE],
                            char **reterr)
{
        _cleanup_json_ cJSON *o = NULL;
        uint8_t bytes[UUID_SIZE];
        const char *id;
        int r = json_parse(data, size, &o, reterr);

        if (r >= 0)
                r = find_text(o, "acknowledgedMessageId", &id, reterr);
        if (r < 0)
                return r;
        if (uuid_parse(id, bytes) < 0)
                return fail(reterr, -EBADMSG, "acknowledgedMessageId: is no UUID");
        (void) uuid_format(bytes, ret);
        return 0;
}
