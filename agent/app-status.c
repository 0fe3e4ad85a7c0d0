/* SPDX-License-Identifier: Apache-2.0 */
#include <time.h>

#include "app-status.h"
#include "json-read.h"
#include "state-file.h"
#include "time-text.h"

#define REPORT_EVENTS_MAX 10
#define TAGS_BYTES_MAX    16384

static int add_item(cJSON *o, const char *name, cJSON *item)
{
        if (cJSON_AddItemToObject(o, name, item))
                return 0;
        cJSON_Delete(item);
        return -ENOMEM;
}

static bool add_time(cJSON *o, const char *name, uint64_t sec)
{
        char at[TIME_TEXT_SIZE];

        return sec == 0 || cJSON_AddStringToObject(o, name, time_format_utc(sec, at));
}

/* Of the channel's manifest, as far as there is one. */
static bool add_expiry(cJSON *o, const AppStatus *s)
{
        return s->expires_sec == 0 || (add_time(o, "expires", s->expires_sec) &&
                                       cJSON_AddBoolToObject(o, "expires_soon", s->expires_soon));
}

static bool add_poll(cJSON *o, const AppStatus *s)
{
        cJSON *poll = cJSON_AddObjectToObject(o, "poll");

        return poll && cJSON_AddBoolToObject(poll, "ok", s->poll_ok) &&
               (!s->verdict || cJSON_AddStringToObject(poll, "verdict", s->verdict)) &&
               cJSON_AddStringToObject(poll, "text", s->poll_text) &&
               add_time(poll, "at", s->polled_sec) && add_time(poll, "next", s->next_poll_sec) &&
               add_expiry(poll, s);
}

static bool add_progress(cJSON *o, const AppStatus *s)
{
        return s->available_bytes == 0 ||
               (cJSON_AddNumberToObject(o, "available_bytes", s->available_bytes) &&
                cJSON_AddNumberToObject(o, "artifact_bytes", s->artifact_bytes));
}

static bool add_text(cJSON *o, const char *name, const char *text)
{
        return !text || cJSON_AddStringToObject(o, name, text);
}

/* As many as a status object has room for; EC2 lets an instance have fewer. */
static bool add_tags(cJSON *o, const Config *c)
{
        cJSON *tags = cJSON_AddObjectToObject(o, "tags");
        size_t bytes = 0, n = 0;

        for (; tags && n < c->n_tags; n++) {
                bytes += strlen(c->tags[n].key) + strlen(c->tags[n].value);
                if (bytes > TAGS_BYTES_MAX)
                        break;
                if (!cJSON_AddStringToObject(tags, c->tags[n].key, c->tags[n].value))
                        return false;
        }
        return tags &&
               (n == c->n_tags || cJSON_AddNumberToObject(o, "tags_left_out", c->n_tags - n));
}

int identity_describe(const Config *c, cJSON *object)
{
        cJSON *o = cJSON_AddObjectToObject(object, "identity");

        return o && add_text(o, "instance", c->instance) &&
                               add_text(o, "instance_from", c->instance_from) &&
                               add_text(o, "region", c->region) && add_text(o, "zone", c->zone) &&
                               add_text(o, "account", c->account) && add_tags(o, c) &&
                               add_text(o, "tags_from", c->tags_from) &&
                               add_text(o, "tags_error", c->tags_error)
                       ? 0
                       : -ENOMEM;
}

int trust_describe(const Trust *t, const char *trouble, cJSON *object)
{
        cJSON *o = cJSON_AddObjectToObject(object, "trust");

        return o && cJSON_AddNumberToObject(o, "version", trust_version(t)) &&
                               add_time(o, "expires", trust_expires_sec(t)) &&
                               add_text(o, "trouble", trouble)
                       ? 0
                       : -ENOMEM;
}

int app_status_describe(const AppStatus *s, cJSON **ret)
{
        _cleanup_json_ cJSON *o = cJSON_CreateObject();
        cJSON *state = NULL;
        int r;

        if (!o || !cJSON_AddStringToObject(o, "root", s->config->root) ||
            !cJSON_AddBoolToObject(o, "due", s->due) || !add_poll(o, s) || !add_progress(o, s) ||
            !add_text(o, "error", s->error) || !add_text(o, "credentials", s->credentials))
                return -ENOMEM;
        r = state_format(s->state, &state);
        if (r >= 0)
                r = add_item(o, "state", state);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

/* The state for others. */
static int reported_state(const State *s, cJSON **ret)
{
        cJSON *o, *release, *history;
        int r = state_format(s, &o);

        if (r < 0)
                return r;
        cJSON_ArrayForEach(release, cJSON_GetObjectItemCaseSensitive(o, "releases"))
                cJSON_DeleteItemFromObjectCaseSensitive(release, "activate");
        history = cJSON_GetObjectItemCaseSensitive(o, "history");
        while (cJSON_GetArraySize(history) > REPORT_EVENTS_MAX)
                cJSON_DeleteItemFromArray(history, 0);
        *ret = o;
        return 0;
}

int app_status_report(const AppStatus *s, cJSON **ret)
{
        _cleanup_json_ cJSON *o = cJSON_CreateObject();
        cJSON *state = NULL;
        int r;

        if (!o || !cJSON_AddStringToObject(o, "schema", "slipway/status/1") ||
            !cJSON_AddStringToObject(o, "instance", s->host->instance) ||
            identity_describe(s->host, o) < 0 || !add_text(o, "credentials", s->credentials) ||
            (s->trust && trust_describe(s->trust, s->trust_trouble, o) < 0) ||
            !add_text(o, "ssm", s->ssm) || !cJSON_AddBoolToObject(o, "ok", s->poll_ok) ||
            !cJSON_AddStringToObject(o, "text", s->poll_text) || !add_expiry(o, s))
                return -ENOMEM;
        r = reported_state(s->state, &state);
        if (r >= 0)
                r = add_item(o, "state", state);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}
