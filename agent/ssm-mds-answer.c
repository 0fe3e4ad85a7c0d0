/* SPDX-License-Identifier: Apache-2.0 */
#include "ssm-mds-answer.h"

#include <stdio.h>

#include "err.h"
#include "json-read.h"

/* The texts stay the tree's. */
static int parse_text(const cJSON *v, const char *path, void *target, char **reterr)
{
        int r = json_check_text(v, path, 1, JSON_STRING_SIZE_MAX, reterr);

        if (r >= 0)
                *(const char **) target = v->valuestring;
        return r;
}

/* JSON itself, which may have line ends and tabs. */
static int parse_payload(const cJSON *v, const char *path, void *target, char **reterr)
{
        if (!cJSON_IsString(v))
                return json_fail_type(v, path, "a string", reterr);
        if (!*v->valuestring)
                return fail(reterr, -EBADMSG, "%s: must not be empty", path);
        if (strlen(v->valuestring) > SSM_MESSAGE_SIZE_MAX)
                return fail(reterr, -EBADMSG, "%s: has more than %d bytes", path,
                            SSM_MESSAGE_SIZE_MAX);
        *(const char **) target = v->valuestring;
        return 0;
}

static int parse_messages(const cJSON *v, const char *path, void *target, char **reterr)
{
        if (!cJSON_IsArray(v))
                return json_fail_type(v, path, "an array", reterr);
        *(const cJSON **) target = v;
        return 0;
}

static const char *find_id(const cJSON *v)
{
        const cJSON *id = cJSON_GetObjectItemCaseSensitive(v, "MessageId");

        return json_check_text(id, "", 1, JSON_STRING_SIZE_MAX, NULL) >= 0 ? id->valuestring : NULL;
}

static void read_message(const cJSON *v, size_t i, const SsmMdsAnswerCallbacks *callbacks,
                         void *userdata)
{
        static const JsonField fields[] = {
                {"MessageId",          parse_text, offsetof(SsmMessage, id), true },
                { "Topic", parse_text, offsetof(SsmMessage, topic), true },
                { "Destination",                parse_text, offsetof(SsmMessage, destination), true },
                { "CreatedDate",             parse_text, offsetof(SsmMessage, created), true },
                { "PayloadDigest", parse_text, offsetof(SsmMessage, digest), false },
                { "Payload",                parse_payload, offsetof(SsmMessage, payload), true },
                {}
        };
        _cleanup_free_ char *why = NULL;
        SsmMessage m = {};
        char path[64];
        int r;

        (void) snprintf(path, sizeof(path), "Messages[%zu]", i);
        r = json_dispatch_known(v, path, fields, &m, &why);
        if (r >= 0)
                callbacks->message(&m, userdata);
        else
                callbacks->unfit(find_id(v), err_text(r, why), userdata);
}

int ssm_mds_answer_read(const char *data, size_t size, const SsmMdsAnswerCallbacks *callbacks,
                        void *userdata, char **reterr)
{
        static const JsonField fields[] = {
                {"Messages",        parse_messages, 0, true },
                {}
        };
        _cleanup_json_ cJSON *json = NULL;
        const cJSON *messages, *v;
        size_t i = 0;
        int r = json_parse(data, size, &json, reterr);

        if (r >= 0)
                r = json_dispatch_known(json, "", fields, &messages, reterr);
        if (r < 0)
                return r;
        cJSON_ArrayForEach(v, messages)
        {
                read_message(v, i++, callbacks, userdata);
        }
        return 0;
}
