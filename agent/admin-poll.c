/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "admin-bus.h"
#include "admin-text.h"
#include "admin-verb.h"
#include "admin-view.h"
#include "admin-watch.h"
#include "admin.h"
#include "clock.h"
#include "err.h"
#include "json-member.h"
#include "json-read.h"
#include "log.h"

/* How long a slipwayd that went away while something was under way may take to come back. */
#define GONE_MAX_SEC 60

/* How long a slipwayd that was just started may take to hear who this host is. */
#define ASKING_MAX_USEC (UINT64_C(10) * 1000000)

static const cJSON *state_of(const Known *k, const char *app)
{
        return json_member(view_find_app(k->agent, app), "state");
}

static const cJSON *last_event(const cJSON *state)
{
        const cJSON *history = json_member(state, "history");

        return cJSON_GetArrayItem(history, cJSON_GetArraySize(history) - 1);
}

static bool is_idle(const cJSON *state)
{
        const char *phase = json_member_text(state, "phase");

        return !phase || streq(phase, "idle");
}

/* Waits until nothing is under way any more. */
static int follow(Known *k, const char *app)
{
        _cleanup_(watch_freep) Watch *watch = NULL;
        int n_gone = 0, r = watch_new(k->bus, app, &watch);

        while (r >= 0) {
                _cleanup_free_ char *err = NULL;

                r = known_refresh(k, &err);
                if (r >= 0 && is_idle(state_of(k, app)))
                        return ADMIN_OK;
                n_gone = r < 0 ? n_gone + 1 : 0;
                if (n_gone > GONE_MAX_SEC) {
                        log_error("%s: %s; see slipway status", app, err_text(r, err));
                        return ADMIN_NOT_RUNNING;
                }
                r = admin_bus_pause(k->bus);
        }
        log_error("%s: the connection to slipwayd is lost: %s", app, strerror(-r));
        return ADMIN_NOT_RUNNING;
}

/* "done", "reverted", "failed" of what came after the poll, or "nothing". */
static const char *outcome(const cJSON *app, const char *event_before)
{
        const char *verdict = json_member_text(json_member(app, "poll"), "verdict");
        const cJSON *state = json_member(app, "state"), *event = last_event(state);
        _cleanup_free_ char *now = event ? cJSON_PrintUnformatted(event) : NULL;
        const char *result = json_member_text(event, "result");

        if (result && !streq(strempty(now), event_before))
                return result;
        /* It was given up before, and is not tried again. */
        return verdict && (streq(verdict, "failed") || streq(verdict, "retry")) ? "failed"
                                                                                : "nothing";
}

static int say_outcome(const cJSON *state, const char *app, const char *text, const char *result)
{
        const char *current = json_member_text(state, "current");
        const char *reason = json_member_text(last_event(state), "reason");
        const char *action = json_member_text(last_event(state), "action");
        bool failed = streq(result, "failed") || streq(result, "reverted");
        bool staged = streq(result, "done") && action && streq(action, "stage");

        if (arg_json) {
                _cleanup_json_ cJSON *o = cJSON_CreateObject();

                if (!o || !cJSON_AddStringToObject(o, "app", app) ||
                    !cJSON_AddStringToObject(o, "text", text) ||
                    !cJSON_AddStringToObject(o, "result", result) ||
                    (current && !cJSON_AddStringToObject(o, "release", current)))
                        return ADMIN_FAILED;
                if (admin_print_json(o) != ADMIN_OK)
                        return ADMIN_FAILED;
        } else if (streq(result, "nothing"))
                printf("%s: %s\n", app, text);
        else
                printf("%s: %s; live is %s%s%s\n", app, staged ? "staged" : result,
                       current ? current : "nothing", failed && reason ? ": " : "",
                       failed ? strempty(reason) : "");
        return failed ? ADMIN_NOT_HELD : ADMIN_OK;
}

static int wait_for_end(Known *k, const char *app, const char *text, const char *event_before)
{
        int code = follow(k, app);

        if (code != ADMIN_OK)
                return code;
        if (!view_find_app(k->agent, app)) {
                log_error("slipwayd does not know '%s' any more", app);
                return ADMIN_NO_SUCH;
        }
        if (!arg_json)
                text_clean_json(k->agent);
        return say_outcome(state_of(k, app), app, text,
                           outcome(view_find_app(k->agent, app), event_before));
}

static int poll_app(Known *k, const char *app)
{
        const cJSON *event = last_event(state_of(k, app));
        _cleanup_free_ char *before = event ? cJSON_PrintUnformatted(event) : NULL;
        _cleanup_free_ char *text = NULL, *err = NULL;
        int r = admin_bus_poll(k->bus, app, &text, &err);

        if (r < 0) {
                log_error("cannot poll for '%s': %s", app, err_text(r, err));
                return r == -ECANCELED || r == -EIO ? ADMIN_FAILED : admin_exit_code(r);
        }
        if (!arg_json)
                text_clean(text);
        if (arg_wait)
                return wait_for_end(k, app, text, strempty(before));
        if (arg_json)
                return admin_print_answer(app, "text", text);
        printf("%s: %s\n", app, text);
        return ADMIN_OK;
}

static int poll_all(Known *k)
{
        _cleanup_json_ cJSON *apps = cJSON_Duplicate(json_member(k->agent, "apps"), true);
        const char *trouble = json_member_text(k->agent, "trouble");
        const cJSON *app;
        int r, code = ADMIN_OK;

        if (cJSON_GetArraySize(apps) == 0) {
                log_error("there is nothing to poll yet: %s",
                          trouble ? trouble : "slipwayd asks who this host is");
                return ADMIN_FAILED;
        }
        cJSON_ArrayForEach(app, apps)
        {
                const char *name = json_member_text(json_member(app, "state"), "app");

                r = name ? poll_app(k, name) : ADMIN_FAILED;
                if (r != ADMIN_OK)
                        code = r;
        }
        return code;
}

/* Until slipwayd knows who this host is, it knows no store that it could ask. */
static int ask_known(Known *k, char **reterr)
{
        uint64_t end_usec = clock_usec(CLOCK_MONOTONIC) + ASKING_MAX_USEC;
        int r = known_ask(k, reterr);

        while (r >= 0 && cJSON_IsTrue(json_member(k->agent, "asking")) &&
               !json_member(k->agent, "trouble") && clock_usec(CLOCK_MONOTONIC) < end_usec) {
                r = admin_bus_pause(k->bus);
                if (r < 0)
                        return fail_errno(reterr, r, "the connection to slipwayd is lost");
                r = known_refresh(k, reterr);
        }
        return r;
}

int verb_poll(char **args)
{
        _cleanup_known_ Known k = {};
        _cleanup_free_ char *err = NULL;
        int r = ask_known(&k, &err);

        if (r < 0) {
                log_error("cannot poll: %s", err_text(r, err));
                return r == -ETIMEDOUT ? ADMIN_NOT_RUNNING : admin_exit_code(r);
        }
        if (!args[0])
                return poll_all(&k);
        return known_find_app(&k, args[0]) ? poll_app(&k, args[0]) : ADMIN_NO_SUCH;
}
