/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "admin-bus.h"
#include "admin-text.h"
#include "admin-verb.h"
#include "admin-view.h"
#include "admin.h"
#include "err.h"
#include "json-member.h"
#include "json-read.h"
#include "log.h"

/* At boot slipwayd may not have heard of the store yet. */
#define N_TRIES       100
#define TRY_STEP_NSEC (100 * 1000 * 1000)

/* Asks until the store was polled once. Returns an exit code; *ret_app is within k. */
static int wait_polled(Known *k, const char *name, const cJSON **ret_app)
{
        static const struct timespec step = { .tv_nsec = TRY_STEP_NSEC };
        _cleanup_free_ char *err = NULL;

        for (unsigned n = 0; n < N_TRIES; n++) {
                const cJSON *app;
                int r;

                known_done(k);
                *k = (Known){};
                r = known_ask(k, &err);
                if (r < 0) {
                        log_error("cannot tell: %s", err_text(r, err));
                        return ADMIN_NOT_RUNNING;
                }
                app = known_find_app(k, name);
                if (!app)
                        return ADMIN_NO_SUCH;
                if (json_member(json_member(app, "poll"), "at")) {
                        *ret_app = app;
                        return ADMIN_OK;
                }
                (void) nanosleep(&step, NULL);
        }
        log_error("cannot tell: slipwayd has not asked the store yet");
        return ADMIN_NOT_RUNNING;
}

static int say(const char *name, bool due, const char *text)
{
        _cleanup_json_ cJSON *o = NULL;

        if (!arg_json) {
                _cleanup_free_ char *clean = strdup(text);
                printf("%s: %s\n", name, clean ? text_clean(clean) : "");
                return ADMIN_OK;
        }
        o = cJSON_CreateObject();
        if (!o || !cJSON_AddStringToObject(o, "app", name) ||
            !cJSON_AddBoolToObject(o, "due", due) || !cJSON_AddStringToObject(o, "text", text)) {
                log_error("cannot write JSON: out of memory");
                return ADMIN_FAILED;
        }
        return admin_print_json(o);
}

int verb_due(char **args)
{
        _cleanup_known_ Known k = {};
        const cJSON *app = NULL, *poll;
        const char *text;
        bool due;
        int code = wait_polled(&k, args[0], &app);

        if (code != ADMIN_OK)
                return code;
        poll = json_member(app, "poll");
        text = json_member_text(poll, "text");
        due = cJSON_IsTrue(json_member(app, "due"));
        if (!due && cJSON_IsFalse(json_member(poll, "ok"))) {
                log_error("cannot tell: %s", strempty(text));
                return ADMIN_FAILED;
        }
        code = say(args[0], due, strempty(text));
        return code != ADMIN_OK || due ? code : ADMIN_NOT_DUE;
}
