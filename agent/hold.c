/* SPDX-License-Identifier: Apache-2.0 */
#include "hold.h"

#include "err.h"
#include "json-read.h"
#include "utf8.h"

/* What must come back from a file that only takes clean text. */
static int copy_text(const char *text, char **ret)
{
        char *copy = strndup(text, HOLD_TEXT_SIZE_MAX);

        if (!copy)
                return -ENOMEM;
        utf8_clean(copy);
        *ret = copy;
        return 0;
}

int hold_set(Hold *h, const char *by, const char *reason, uint64_t now_sec, uint64_t until_sec)
{
        Hold new = { .since_sec = now_sec, .until_sec = until_sec };

        if (copy_text(by[0] ? by : "unknown", &new.by) < 0 ||
            (reason && reason[0] && copy_text(reason, &new.reason) < 0)) {
                hold_done(&new);
                return -ENOMEM;
        }
        hold_done(h);
        *h = new;
        return 0;
}

void hold_done(Hold *h)
{
        free(h->by);
        free(h->reason);
        *h = (Hold){};
}

bool hold_is_on(const Hold *h, uint64_t now_sec)
{
        return h->by && (h->until_sec == 0 || now_sec < h->until_sec);
}

char *hold_to_text(const Hold *h)
{
        char at[TIME_TEXT_SIZE];
        char *text = NULL;

        if (h->until_sec > 0)
                (void) time_format_utc(h->until_sec, at);
        err_set(&text, "%s holds it until %s%s%s", strempty(h->by),
                h->until_sec > 0 ? at : "it is resumed", h->reason ? ": " : "",
                strempty(h->reason));
        return text;
}

int hold_parse_until(const char *text, uint64_t now_sec, uint64_t *ret_sec, char **reterr)
{
        uint64_t sec, usec;

        if (duration_parse(text, &usec) >= 0)
                sec = now_sec + usec / 1000000;
        else if (time_parse_utc(text, &sec) < 0)
                return fail(reterr, -EINVAL,
                            "'%s' is neither a time like 2026-11-22T15:00:00Z nor a duration like "
                            "30min or 2h",
                            text);
        if (sec <= now_sec)
                return fail(reterr, -EINVAL, "'%s' is not to come", text);
        *ret_sec = sec;
        return 0;
}

#define FIELD(name, parse, member, required)                  \
        {                                                     \
                name, parse, offsetof(Hold, member), required \
        }

int hold_parse(const cJSON *v, const char *path, void *target, char **reterr)
{
        static const JsonField fields[] = { FIELD("by", json_parse_string, by, true),
                                            FIELD("since", json_parse_time, since_sec, true),
                                            FIELD("until", json_parse_time, until_sec, false),
                                            FIELD("reason", json_parse_string, reason, false),
                                            {} };

        return json_dispatch(v, path, fields, target, reterr);
}

static bool add_time(cJSON *o, const char *name, uint64_t sec)
{
        char at[TIME_TEXT_SIZE];

        return sec == 0 || cJSON_AddStringToObject(o, name, time_format_utc(sec, at));
}

int hold_format(const Hold *h, cJSON **ret)
{
        _cleanup_json_ cJSON *o = cJSON_CreateObject();

        if (!o || !cJSON_AddStringToObject(o, "by", h->by) || !add_time(o, "since", h->since_sec) ||
            !add_time(o, "until", h->until_sec) ||
            (h->reason && !cJSON_AddStringToObject(o, "reason", h->reason)))
                return -ENOMEM;
        *ret = TAKE_PTR(o);
        return 0;
}
