/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <time.h>

#include "err.h"
#include "object.h"
#include "result.h"
#include "source.h"
#include "utf8.h"
#include "verbs.h"

#define REASON_SIZE_MAX 1024

static int add_who(cJSON *o, const char *reason)
{
        _cleanup_free_ char *who = NULL;
        int r = source_who(getenv, &who);

        if (r >= 0)
                utf8_clean(who);
        if (r >= 0)
                r = result_add_string(o, "by", who);
        if (r >= 0)
                r = result_add_time(o, "since", time(NULL));
        return r < 0 || !reason ? r : result_add_string(o, "reason", reason);
}

/* Whoever writes last is right: there is nothing to lose in a race of two. */
static int write_brake(const Arguments *a, const cJSON *o, char **reterr)
{
        _cleanup_(store_freep) Store *s = NULL;
        _cleanup_free_ char *path = NULL, *text = cJSON_PrintUnformatted(o);
        StoreRequest request = { .method = STORE_PUT, .content_type = "application/json" };
        int r;

        err_set(&path, "%s/channels/%s/halt.json", a->app, a->channel);
        if (!path || !text)
                return -ENOMEM;
        request.path = path;
        request.body = text;
        request.body_size = strlen(text);
        r = object_store_open(a->store, &s, reterr);
        if (r >= 0)
                r = store_call(s, &request, NULL, reterr);
        /* A PUT without a condition has no outcome but done. */
        return r > 0 ? fail(reterr, -EPROTO, "the store does not take %s", path) : r;
}

static int set(const Arguments *a, bool halted, cJSON *result, char **reterr)
{
        const char *given = a->operands.n_items > 0 ? a->operands.items[0] : NULL;
        _cleanup_free_ char *reason = given ? strndup(given, REASON_SIZE_MAX) : NULL;
        int r;

        if (given && !reason)
                return -ENOMEM;
        if (reason)
                utf8_clean(reason);
        r = result_add_bool(result, "halted", halted);
        if (r >= 0)
                r = add_who(result, reason);
        if (r >= 0)
                r = write_brake(a, result, reterr);
        if (r >= 0 && !a->json)
                printf("%s/%s is %s.\n", a->app, a->channel,
                       halted ? "halted: no instance begins a deployment" : "not halted any more");
        return r;
}

int verb_halt(const Arguments *a, cJSON *result, char **reterr)
{
        return set(a, true, result, reterr);
}

int verb_unhalt(const Arguments *a, cJSON *result, char **reterr)
{
        return set(a, false, result, reterr);
}
