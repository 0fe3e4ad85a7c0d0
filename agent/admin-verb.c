/* SPDX-License-Identifier: Apache-2.0 */
#include "admin-verb.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

#include "admin-bus.h"
#include "admin-files.h"
#include "admin-text.h"
#include "admin-view.h"
#include "admin.h"
#include "err.h"
#include "json-member.h"
#include "json-read.h"
#include "log.h"
#include "manifest.h"
#include "name.h"
#include "paths.h"

/* What is added to a release's own limits of time before slipwayd counts as hung. */
#define CHANGE_MARGIN_USEC (UINT64_C(30) * 1000000)

bool arg_json = false;
bool arg_user = false;
const char *arg_config = NULL;
bool arg_wait = false;
const char *arg_file = NULL, *arg_index = NULL, *arg_manifest = NULL;

void known_done(Known *k)
{
        sd_bus_close_unref(k->bus);
        cJSON_Delete(k->agent);
}

int admin_exit_code(int error)
{
        switch (error) {
        case -ENODEV:
        case -ENOENT:
                return ADMIN_NO_SUCH;
        case -ECANCELED: /* from the bus */
        case -EIO:       /* from offline.h */
                return ADMIN_NOT_HELD;
        case -EBUSY:
        case -EAGAIN:
                return ADMIN_BUSY;
        case -ESRCH:
                return ADMIN_NOT_RUNNING;
        default:
                return ADMIN_FAILED;
        }
}

int known_refresh(Known *k, char **reterr)
{
        _cleanup_free_ char *text = NULL;
        cJSON *agent = NULL;
        int r = admin_bus_describe(k->bus, &text, reterr);

        if (r < 0)
                return r;
        r = json_parse(text, strlen(text), &agent, reterr);
        if (r < 0)
                return fail_prefix(reterr, r, "cannot read what slipwayd says");
        cJSON_Delete(k->agent);
        k->agent = agent;
        return 0;
}

int known_ask(Known *k, char **reterr)
{
        int r = admin_bus_open(arg_user, &k->bus, reterr);

        return r < 0 ? r : known_refresh(k, reterr);
}

int known_get(Known *k)
{
        _cleanup_free_ char *err = NULL, *file_err = NULL;
        _cleanup_(paths_done) Paths paths = {};
        int r;

        k->bus_error = known_ask(k, &err);
        if (k->bus_error >= 0)
                return ADMIN_OK;
        k->bus = sd_bus_close_unref(k->bus);
        r = paths_init(arg_user, &paths, &file_err);
        if (r >= 0)
                r = admin_files_describe(paths.state_dir, &k->agent, &file_err);
        if (r < 0) {
                log_error("%s; its state files can't be read either: %s",
                          err_text(k->bus_error, err), err_text(r, file_err));
                return ADMIN_FAILED;
        }
        log_warning("%s; this is from its state files. What happened to it: systemctl %sstatus "
                    "slipwayd",
                    err_text(k->bus_error, err), arg_user ? "--user " : "");
        return ADMIN_OK;
}

const cJSON *known_find_app(const Known *k, const char *name)
{
        const cJSON *app = view_find_app(k->agent, name);
        const char *trouble = json_member_text(k->agent, "trouble");

        if (!app)
                log_error("there is no application '%s' on this host%s%s; see: slipway status",
                          name, trouble ? ": " : "", strempty(trouble));
        return app;
}

int admin_print_json(const cJSON *tree)
{
        _cleanup_free_ char *text = NULL;
        int r = text_format_json(tree, &text);

        if (r < 0) {
                log_error("cannot write JSON: %s", strerror(-r));
                return ADMIN_FAILED;
        }
        fputs(text, stdout);
        return ADMIN_OK;
}

int admin_print_json_line(const cJSON *tree)
{
        _cleanup_free_ char *text = NULL;
        int r = text_format_json_line(tree, &text);

        if (r < 0) {
                log_error("cannot write JSON: %s", strerror(-r));
                return ADMIN_FAILED;
        }
        fputs(text, stdout);
        return ADMIN_OK;
}

int admin_print_answer(const char *app, const char *name, const char *value)
{
        _cleanup_json_ cJSON *o = cJSON_CreateObject();

        if (!o || !cJSON_AddStringToObject(o, "app", app) ||
            (name && !cJSON_AddStringToObject(o, name, value))) {
                log_error("cannot write JSON: %s", strerror(ENOMEM));
                return ADMIN_FAILED;
        }
        return admin_print_json(o);
}

void admin_who(char by[static ADMIN_BY_SIZE_MAX])
{
        const char *sudo = getuid() == 0 ? getenv("SUDO_USER") : NULL;
        const struct passwd *p = getpwuid(getuid());

        if (sudo && name_is_valid(sudo))
                (void) snprintf(by, ADMIN_BY_SIZE_MAX, "%s", sudo);
        else if (p && *p->pw_name)
                (void) snprintf(by, ADMIN_BY_SIZE_MAX, "%s", p->pw_name);
        else
                (void) snprintf(by, ADMIN_BY_SIZE_MAX, "uid %u", (unsigned) getuid());
        text_clean(by);
}

bool admin_go_offline(int error, const char *err)
{
        if (error != -ESRCH && error != -ETIMEDOUT)
                return false;
        log_warning("%s; doing it without it", err_text(error, err));
        return true;
}

AgentOptions admin_offline_options(void)
{
        return (AgentOptions){ .user = arg_user, .offline = true, .config = arg_config };
}

uint64_t admin_change_timeout_usec(const cJSON *app)
{
        uint64_t longest_usec = DEADLINE_DEFAULT_USEC;
        const cJSON *release;

        cJSON_ArrayForEach(release, json_member(json_member(app, "state"), "releases"))
        {
                const cJSON *health = json_member(json_member(release, "activate"), "health");
                const char *text = json_member_text(health, "deadline");
                uint64_t usec;

                if (text && duration_parse(text, &usec) >= 0)
                        longest_usec = MAX(longest_usec, usec);
        }
        return 2 * longest_usec + CHANGE_MARGIN_USEC;
}
