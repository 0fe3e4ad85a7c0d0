/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "admin-bus.h"
#include "admin-text.h"
#include "admin-verb.h"
#include "admin-watch.h"
#include "admin.h"
#include "err.h"
#include "log.h"
#include "offline.h"

/* The two halves of a deployment: bring it here now, make it live later. */

int verb_stage(char **args)
{
        _cleanup_known_ Known k = {};
        _cleanup_free_ char *text = NULL, *err = NULL;
        char by[ADMIN_BY_SIZE_MAX];
        int r;

        admin_who(by);
        r = known_ask(&k, &err);
        if (r >= 0) {
                if (!known_find_app(&k, args[0]))
                        return ADMIN_NO_SUCH;
                r = admin_bus_stage(k.bus, args[0], by, &text, &err);
        }
        if (r < 0) {
                log_error("cannot stage '%s': %s", args[0], err_text(r, err));
                return r == -ECANCELED ? ADMIN_FAILED : admin_exit_code(r);
        }
        if (arg_json)
                return admin_print_answer(args[0], "text", text);
        printf("%s: %s\n", args[0], text_clean(text));
        return ADMIN_OK;
}

int verb_activate(char **args)
{
        _cleanup_known_ Known k = {};
        _cleanup_free_ char *live = NULL, *err = NULL;
        _cleanup_(watch_freep) Watch *watch = NULL;
        AgentOptions options = admin_offline_options();
        Onlooker onlooker = {};
        char by[ADMIN_BY_SIZE_MAX];
        const cJSON *app;
        int r;

        admin_who(by);
        r = known_ask(&k, &err);
        if (r >= 0) {
                app = known_find_app(&k, args[0]);
                if (!app)
                        return ADMIN_NO_SUCH;
                r = admin_bus_activate(k.bus, args[0], by, admin_change_timeout_usec(app), &live,
                                       &err);
        } else if (admin_go_offline(r, err)) {
                r = watch_new_offline(args[0], &watch, &onlooker);
                if (r >= 0)
                        r = offline_activate(&options, args[0], by, onlooker, &live, &err);
        }
        if (r < 0) {
                log_error("cannot activate what is staged for '%s': %s", args[0], err_text(r, err));
                return admin_exit_code(r);
        }
        if (arg_json)
                return admin_print_answer(args[0], "release", live);
        printf("%s: %s is live\n", args[0], text_clean(live));
        return ADMIN_OK;
}
