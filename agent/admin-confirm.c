/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "admin-bus.h"
#include "admin-text.h"
#include "admin-verb.h"
#include "admin.h"
#include "err.h"
#include "log.h"
#include "offline.h"

int verb_confirm(char **args)
{
        _cleanup_known_ Known k = {};
        _cleanup_free_ char *release = NULL, *err = NULL;
        AgentOptions options = admin_offline_options();
        char by[ADMIN_BY_SIZE_MAX];
        int r;

        admin_who(by);
        r = known_ask(&k, &err);
        if (r >= 0) {
                if (!known_find_app(&k, args[0]))
                        return ADMIN_NO_SUCH;
                r = admin_bus_confirm(k.bus, args[0], by, &release, &err);
        } else if (admin_go_offline(r, err)) {
                r = offline_confirm(&options, args[0], by, &release, &err);
        }
        if (r < 0) {
                log_error("cannot confirm '%s': %s", args[0], err_text(r, err));
                return admin_exit_code(r);
        }
        if (arg_json)
                return admin_print_answer(args[0], "release", release);
        printf("%s: %s is confirmed\n", args[0], text_clean(release));
        return ADMIN_OK;
}
