/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "admin-bus.h"
#include "admin-text.h"
#include "admin-verb.h"
#include "admin-view.h"
#include "admin.h"
#include "err.h"
#include "hold.h"
#include "log.h"
#include "offline.h"
#include "time-text.h"

const char *arg_until = NULL, *arg_reason = NULL;

static int hold(const char *app, const char *until, char **ret, char **reterr)
{
        _cleanup_known_ Known k = {};
        AgentOptions options = admin_offline_options();
        char by[ADMIN_BY_SIZE_MAX];
        int r = known_ask(&k, reterr);

        admin_who(by);
        if (r >= 0)
                return view_find_app(k.agent, app)
                               ? admin_bus_hold(k.bus, app, until, strempty(arg_reason), by, ret,
                                                reterr)
                               : fail(reterr, -ENODEV, "there is no such application on this host");
        if (admin_go_offline(r, *reterr))
                return offline_hold(&options, app, until, strempty(arg_reason), by, ret, reterr);
        return r;
}

int verb_hold(char **args)
{
        _cleanup_free_ char *text = NULL, *err = NULL;
        char until[TIME_TEXT_SIZE] = "";
        uint64_t until_sec;
        int r = 0;

        if (arg_until)
                r = hold_parse_until(arg_until, time(NULL), &until_sec, &err);
        if (r < 0) {
                log_error("--until: %s", err_text(r, err));
                return ADMIN_USAGE;
        }
        if (arg_until)
                (void) time_format_utc(until_sec, until);
        r = hold(args[0], until, &text, &err);
        if (r < 0) {
                log_error("cannot hold '%s': %s", args[0], err_text(r, err));
                return admin_exit_code(r);
        }
        if (arg_json)
                return admin_print_answer(args[0], "text", text);
        printf("%s: %s\n", args[0], text_clean(text));
        (void) fflush(stdout); /* before what goes to stderr; admin_main() looks for errors */
        log_info("to end it: slipway %sresume %s", arg_user ? "--user " : "", args[0]);
        return ADMIN_OK;
}
