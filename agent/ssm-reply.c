/* SPDX-License-Identifier: Apache-2.0 */
#include "ssm-reply.h"

#include <errno.h>
#include <stdio.h>

#include "build-config.h"
#include "json-read.h"
#include "utf8.h"

#define SUMMARY_MAX 2500 /* of `output` */
#define CODE_KILLED 137  /* of what was cancelled: as if by SIGKILL */

/* What the texts of several results may come to, all together, after JSON has made two bytes of
 * some; and how often a result's share is in it: two streams and their summary, each twice. */
#define TEXTS_MAX   80000
#define TEXT_COPIES 6

#define CUT_STREAM  "\n--output truncated--"
#define CUT_OUTPUT  "\n---Output truncated---"
#define CUT_ERROR   "\n---Error truncated----"
#define ERROR_TITLE "\n----------ERROR-------\n"
#define REPLACEMENT "\xef\xbf\xbd"

#define MSEC_TIME_SIZE (TIME_TEXT_SIZE + 4)

static const char *const status_names[_SSM_STATUS_MAX] = {
        [SSM_IN_PROGRESS] = "InProgress",
        [SSM_SUCCESS] = "Success",
        [SSM_FAILED] = "Failed",
        [SSM_CANCELLED] = "Cancelled",
};

static const uint64_t status_codes[_SSM_STATUS_MAX] = {
        [SSM_FAILED] = 1,
        [SSM_CANCELLED] = CODE_KILLED,
};

static char *format_msec(uint64_t msec, char buffer[static MSEC_TIME_SIZE])
{
        char *z = strchr(time_format_utc(msec / 1000, buffer), 'Z');

        (void) snprintf(z, MSEC_TIME_SIZE - (z - buffer), ".%03uZ", (unsigned) (msec % 1000));
        return buffer;
}

static bool is_control(const unsigned char *p)
{
        return (*p < ' ' && *p != '\n' && *p != '\t') || *p == 0x7f || (*p == 0xc2 && p[1] < 0xa0);
}

/* NULL: no memory. */
static char *clean(const char *text)
{
        size_t left = strlen(strempty(text));
        const unsigned char *p = (const unsigned char *) text;
        char *copy = malloc(left * STRLEN(REPLACEMENT) + 1), *end = copy;

        while (copy && left > 0) {
                size_t size = utf8_sequence_size(p, left);

                end = size > 0 && !is_control(p) ? mempcpy(end, p, size) : stpcpy(end, REPLACEMENT);
                size = MAX(size, (size_t) 1);
                p += size;
                left -= size;
        }
        if (copy)
                *end = '\0';
        return copy;
}

/* The start of clean UTF-8, at most `size` bytes of it. */
static size_t border(const char *text, size_t size)
{
        while (size > 0 && ((unsigned char) text[size] & 0xc0) == 0x80)
                size--;
        return size;
}

/* A clean text as it is, or cut to `size` bytes, the last ones of them `mark`. NULL: no memory. */
static char *cut(const char *text, size_t size, const char *mark)
{
        size_t mark_size = strlen(mark);
        char *s;

        if (strlen(text) <= size)
                return strdup(text);
        size = border(text, size - mark_size);
        s = malloc(size + mark_size + 1);
        if (s)
                (void) stpcpy(mempcpy(s, text, size), mark);
        return s;
}

/* What one of two may have of the room: half of it, or all that the other one leaves. */
static size_t share(size_t room, size_t other)
{
        size_t left = room - MIN(room, other);

        return MAX(room / 2, left);
}

/* Both streams in one text of at most `size` bytes. */
static char *summarize(const char *output, const char *error, size_t size)
{
        const char *title = error[0] ? ERROR_TITLE : "";
        size_t room = size - strlen(title);
        _cleanup_free_ char *a = cut(output, share(room, strlen(error)), CUT_OUTPUT),
                            *b = cut(error, share(room, strlen(output)), CUT_ERROR);
        char *s = NULL;

        if (!a || !b || asprintf(&s, "%s%s%s", a, title, b) < 0)
                return NULL;
        return s;
}

static bool add(cJSON *o, const char *name, const char *text)
{
        return text && cJSON_AddStringToObject(o, name, text);
}

static bool add_time(cJSON *o, const char *name, uint64_t msec)
{
        char at[MSEC_TIME_SIZE];

        return add(o, name, format_msec(msec, at));
}

static int add_streams(cJSON *o, const char *output, const char *error, size_t size)
{
        _cleanup_free_ char *out = cut(output, size, CUT_STREAM),
                            *err = cut(error, size, CUT_STREAM);

        return add(o, "standardOutput", out) && add(o, "standardError", err) ? 0 : -ENOMEM;
}

static int add_result(cJSON *parent, const SsmResult *r, uint64_t now_msec, size_t size)
{
        cJSON *o = cJSON_AddObjectToObject(parent, r->step->name);
        _cleanup_free_ char *output = clean(r->output), *error = clean(r->error), *summary = NULL;

        if (!o || !output || !error)
                return -ENOMEM;
        summary = summarize(output, error, MIN(size, (size_t) SUMMARY_MAX));
        if (!add(o, "status", status_names[r->status]) ||
            json_add_uint(o, "code", status_codes[r->status]) < 0 ||
            !add(o, "name", r->step->plugin) || !add(o, "output", summary) ||
            !add_time(o, "startDateTime", r->began_msec) ||
            !add_time(o, "endDateTime", r->ended_msec > 0 ? r->ended_msec : now_msec) ||
            !add(o, "outputS3BucketName", "") || !add(o, "outputS3KeyPrefix", "") ||
            !add(o, "stepName", ""))
                return -ENOMEM;
        return add_streams(o, output, error, size);
}

static int add_results(cJSON *parent, const SsmReplyInput *input)
{
        cJSON *o = cJSON_AddObjectToObject(parent, "runtimeStatus");
        size_t n = input->n_results;
        size_t size = n > 1 ? TEXTS_MAX / (TEXT_COPIES * n) : SSM_OUTPUT_MAX;
        int r = o ? 0 : -ENOMEM;

        for (size_t i = 0; r >= 0 && i < n; i++)
                r = add_result(o, &input->results[i], input->now_msec, size);
        return r;
}

static int add_counts(cJSON *parent, const SsmReplyInput *input)
{
        cJSON *o = cJSON_AddObjectToObject(parent, "runtimeStatusCounts");
        uint64_t counts[_SSM_STATUS_MAX] = {};

        if (!o)
                return -ENOMEM;
        for (size_t i = 0; i < input->n_results; i++)
                counts[input->results[i].status]++;
        for (SsmStatus s = 0; s < _SSM_STATUS_MAX; s++)
                if (counts[s] > 0 && json_add_uint(o, status_names[s], counts[s]) < 0)
                        return -ENOMEM;
        return 0;
}

static bool is_receipt(const SsmReplyInput *input)
{
        return input->n_results == 0 && input->status == SSM_IN_PROGRESS;
}

static int add_agent(cJSON *parent)
{
        cJSON *o = cJSON_AddObjectToObject(parent, "agent");

        return o && add(o, "lang", "en-US") && add(o, "name", "slipway") && add(o, "os", "linux") &&
                               add(o, "osver", "1") && add(o, "ver", SLIPWAY_VERSION)
                       ? 0
                       : -ENOMEM;
}

static int add_info(cJSON *parent, const SsmReplyInput *input)
{
        cJSON *o = cJSON_AddObjectToObject(parent, "additionalInfo");
        int r;

        if (!o || add_agent(o) < 0 || !add_time(o, "dateTime", input->now_msec) ||
            !add(o, "runId", ""))
                return -ENOMEM;
        if (is_receipt(input))
                r = cJSON_AddNullToObject(o, "runtimeStatusCounts") ? 0 : -ENOMEM;
        else
                r = add_counts(o, input);
        if (r < 0 || input->gateway)
                return r;
        return cJSON_AddFalseToObject(o, "ableToOpenMGSConnection") ? 0 : -ENOMEM;
}

static int add_document(cJSON *parent, const SsmReplyInput *input)
{
        _cleanup_free_ char *cleaned = clean(input->trace);
        _cleanup_free_ char *trace = cleaned ? cut(cleaned, SUMMARY_MAX, CUT_OUTPUT) : NULL;

        if (!add(parent, "documentStatus", status_names[input->status]) ||
            !add(parent, "documentTraceOutput", trace))
                return -ENOMEM;
        if (is_receipt(input))
                return cJSON_AddNullToObject(parent, "runtimeStatus") ? 0 : -ENOMEM;
        return add_results(parent, input);
}

int ssm_reply_build(const SsmReplyInput *input, char **ret)
{
        _cleanup_json_ cJSON *o = NULL;
        _cleanup_free_ char *text = NULL;

        if (input->n_results > SSM_STEPS_MAX)
                return -E2BIG;
        o = cJSON_CreateObject();
        if (!o || add_info(o, input) < 0 || add_document(o, input) < 0)
                return -ENOMEM;
        text = cJSON_PrintUnformatted(o);
        if (!text)
                return -ENOMEM;
        if (strlen(text) > SSM_REPLY_MAX)
                return -EMSGSIZE;
        *ret = TAKE_PTR(text);
        return 0;
}
