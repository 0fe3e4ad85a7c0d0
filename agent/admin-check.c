/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "admin-verb.h"
#include "admin.h"
#include "check.h"
#include "err.h"
#include "json-read.h"
#include "log.h"

static int print(const Findings *f)
{
        _cleanup_json_ cJSON *o = NULL;
        int r = f->error;

        if (r >= 0 && !arg_json) {
                findings_print(f, stdout);
                return ADMIN_OK;
        }
        if (r >= 0)
                r = findings_format(f, &o);
        if (r < 0) {
                log_error("cannot write what was found: %s", strerror(-r));
                return ADMIN_FAILED;
        }
        return admin_print_json(o);
}

int verb_check(char **args)
{
        _cleanup_(check_done) Check c = { .user = arg_user, .now_sec = (uint64_t) time(NULL) };
        _cleanup_free_ char *err = NULL;
        int r, code;

        (void) args;
        if (!arg_user && geteuid() != 0) {
                log_error("check looks at what is for root alone (try: sudo slipway check)");
                return ADMIN_FAILED;
        }
        r = paths_init(arg_user, &c.paths, &err);
        if (r < 0) {
                log_error("cannot check: %s", err_text(r, err));
                return ADMIN_FAILED;
        }
        c.config_path = arg_config ? arg_config : c.paths.config_file;
        check_config(&c);
        check_keys(&c);
        check_clock(&c);
        check_files(&c);
        check_units(&c);
        check_store(&c);
        code = print(&c.findings);
        return code != ADMIN_OK || findings_worst(&c.findings) < FINDING_FAIL ? code : ADMIN_FAILED;
}
