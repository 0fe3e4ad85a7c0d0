/* SPDX-License-Identifier: Apache-2.0 */
#include "admin-bus.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "admin-text.h"
#include "admin-watch.h"
#include "agent-bus.h"
#include "bus.h"
#include "err.h"
#include "fd.h"

/* Longer than any poll: what slipway-fetch has for its tries, and then some. */
#define POLL_TIMEOUT_USEC (UINT64_C(120) * 1000000)
/* A poll, and an hour to fetch and unpack (staging.c). */
#define STAGE_TIMEOUT_USEC (POLL_TIMEOUT_USEC + UINT64_C(3660) * 1000000)
#define PAUSE_USEC         (UINT64_C(1) * 1000000)

/* Calls that may take longer are looked on at. */
#define WATCHED_TIMEOUT_USEC (UINT64_C(60) * 1000000)
#define CHANGE_TIMEOUT_USEC  (UINT64_C(10) * 1000000)

/* Where polkit asks somebody for a password. */
#define ASKED_TIMEOUT_USEC (UINT64_C(300) * 1000000)

#define APP_PATH_PREFIX AGENT_BUS_PATH "/app"

static const struct {
        const char *name;
        int error;
} bus_errors[] = {
        {BUS_ERROR_BUSY,                                   -EBUSY       },
        { BUS_ERROR_NO_SUCH_RELEASE,                       -ENOENT      },
        { BUS_ERROR_REFUSED,                               -EKEYREJECTED},
        { BUS_ERROR_FAILED,                                -ECANCELED   },
        { SD_BUS_ERROR_SERVICE_UNKNOWN,                    -ESRCH       },
        { SD_BUS_ERROR_NAME_HAS_NO_OWNER,                  -ESRCH       },
        { SD_BUS_ERROR_NO_REPLY,                           -ETIMEDOUT   },
        { SD_BUS_ERROR_TIMEOUT,                            -ETIMEDOUT   },
        { SD_BUS_ERROR_ACCESS_DENIED,                      -EACCES      },
        { SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, -EACCES      },
        { SD_BUS_ERROR_UNKNOWN_OBJECT,                     -ENODEV      },
};

/* The error of a call that failed with r, its text for a person. `app` is NULL for Describe(). */
static int judge_error(int r, const sd_bus_error *e, const char *app, char **reterr)
{
        _cleanup_free_ char *text = strdup(e->message ? e->message : strerror(-r));
        int error = r;

        for (size_t i = 0; i < ELEMENTSOF(bus_errors); i++)
                if (sd_bus_error_has_name(e, bus_errors[i].name))
                        error = bus_errors[i].error;
        switch (error) {
        case -ESRCH:
                return fail(reterr, error, "slipwayd is not running");
        case -ENODEV:
                return fail(reterr, error, "slipwayd knows no application '%s'", app);
        case -EACCES:
                return fail(
                        reterr, error,
                        "only root may do this, and whom polkit allows it (try: sudo slipway ...)");
        case -ETIMEDOUT:
                return fail(reterr, error, "slipwayd did not answer in time");
        default:
                return fail(reterr, error, "%s", text ? text_clean(text) : strerror(-r));
        }
}

/* A call of a method of the application's object, or, without one, of the agent's. */
static int new_call(sd_bus *bus, const char *app, const char *method, sd_bus_message **ret)
{
        _cleanup_free_ char *path = NULL;
        int r = app ? sd_bus_path_encode(APP_PATH_PREFIX, app, &path) : 0;

        if (r >= 0)
                r = sd_bus_message_new_method_call(
                        bus, ret, AGENT_BUS_NAME, app ? path : AGENT_BUS_PATH,
                        app ? APP_BUS_INTERFACE : AGENT_BUS_INTERFACE, method);
        return r < 0 ? r : sd_bus_message_set_auto_start(*ret, false);
}

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        sd_bus_message **reply = userdata;

        (void) error;
        *reply = sd_bus_message_ref(m);
        return 1;
}

/* As sd_bus_call(3), but what comes meanwhile is looked at. */
static int call_watched(sd_bus *bus, sd_bus_message *m, uint64_t timeout_usec,
                        sd_bus_error *ret_error, sd_bus_message **ret)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(sd_bus_slot_unrefp) sd_bus_slot *slot = NULL;
        int r = sd_bus_call_async(bus, &slot, m, on_reply, &reply, timeout_usec);

        while (r >= 0 && !reply) {
                r = sd_bus_process(bus, NULL);
                if (r == 0 && !reply)
                        r = sd_bus_wait(bus, UINT64_MAX);
        }
        if (r < 0)
                return r;
        if (sd_bus_message_is_method_error(reply, NULL))
                return sd_bus_error_copy(ret_error, sd_bus_message_get_error(reply));
        *ret = TAKE_PTR(reply);
        return 0;
}

static int get_reply(sd_bus *bus, sd_bus_message *m, const char *app, uint64_t timeout_usec,
                     sd_bus_message **ret, char **reterr)
{
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        _cleanup_(watch_freep) Watch *watch = NULL;
        int r = 0;

        if (app && geteuid() != 0) {
                r = sd_bus_message_set_allow_interactive_authorization(m, isatty(STDIN_FILENO));
                if (r < 0)
                        return r;
                timeout_usec = MAX(timeout_usec, ASKED_TIMEOUT_USEC);
        }
        if (app && timeout_usec >= WATCHED_TIMEOUT_USEC)
                r = watch_new(bus, app, &watch);
        if (r >= 0)
                r = watch ? call_watched(bus, m, timeout_usec, &e, ret)
                          : sd_bus_call(bus, m, timeout_usec, &e, ret);
        return r < 0 ? judge_error(r, &e, app, reterr) : 0;
}

static int fail_answer(const sd_bus_message *m, int r, char **reterr)
{
        return fail_errno(reterr, r, "cannot read slipwayd's answer to %s()",
                          sd_bus_message_get_member((sd_bus_message *) m));
}

/* Sends it; the answer's string goes to *ret, unless that is NULL. */
static int send_call(sd_bus *bus, sd_bus_message *m, const char *app, uint64_t timeout_usec,
                     char **ret, char **reterr)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *text;
        int r = get_reply(bus, m, app, timeout_usec, &reply, reterr);

        if (r < 0 || !ret)
                return r;
        r = sd_bus_message_read(reply, "s", &text);
        if (r < 0)
                return fail_answer(m, r, reterr);
        *ret = strdup(text);
        return *ret ? 0 : -ENOMEM;
}

/* A method with `n` strings. */
static int call(sd_bus *bus, const char *app, const char *method, const char *const *arguments,
                size_t n, uint64_t timeout_usec, char **ret, char **reterr)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r = new_call(bus, app, method, &m);

        for (size_t i = 0; r >= 0 && i < n; i++)
                r = sd_bus_message_append_basic(m, 's', arguments[i]);
        return r < 0 ? fail_errno(reterr, r, "cannot make the call %s()", method)
                     : send_call(bus, m, app, timeout_usec, ret, reterr);
}

int admin_bus_open(bool user, sd_bus **ret, char **reterr)
{
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = NULL;
        const char *which = user ? "user" : "system";
        int r = user ? sd_bus_open_user(&bus) : sd_bus_open_system(&bus);

        /* sd_bus_call(3) would wait for a bus that hangs, whatever the limit of the call. */
        if (r >= 0)
                r = bus_wait_ready(bus, ADMIN_DESCRIBE_TIMEOUT_USEC);
        if (r == -ENOENT || r == -ECONNREFUSED || r == -ENOMEDIUM)
                return fail(reterr, -ESRCH, "slipwayd can't be asked: there is no %s bus", which);
        if (r == -ETIMEDOUT)
                return fail(reterr, r, "slipwayd can't be asked: the %s bus does not answer",
                            which);
        if (r < 0)
                return fail_errno(reterr, r, "cannot reach the %s bus", which);
        *ret = TAKE_PTR(bus);
        return 0;
}

static int on_anything(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        (void) m, (void) userdata, (void) error;
        return 0;
}

int admin_bus_subscribe(sd_bus *bus)
{
        return sd_bus_match_signal(bus, NULL, AGENT_BUS_NAME, NULL,
                                   "org.freedesktop.DBus.Properties", "PropertiesChanged",
                                   on_anything, NULL);
}

int admin_bus_pause(sd_bus *bus)
{
        int r = sd_bus_wait(bus, PAUSE_USEC);

        if (r == -EINTR)
                return 0;
        while (r >= 0) {
                r = sd_bus_process(bus, NULL);
                if (r == 0)
                        return 0;
        }
        return r;
}

int admin_bus_describe(sd_bus *bus, char **ret, char **reterr)
{
        return call(bus, NULL, "Describe", NULL, 0, ADMIN_DESCRIBE_TIMEOUT_USEC, ret, reterr);
}

int admin_bus_poll(sd_bus *bus, const char *app, char **ret, char **reterr)
{
        return call(bus, app, "Poll", NULL, 0, POLL_TIMEOUT_USEC, ret, reterr);
}

int admin_bus_rollback(sd_bus *bus, const char *app, const char *release, const char *by,
                       uint64_t timeout_usec, char **ret, char **reterr)
{
        return call(bus, app, "Rollback", (const char *[]){ release, by }, 2, timeout_usec, ret,
                    reterr);
}

int admin_bus_stage(sd_bus *bus, const char *app, const char *by, char **ret, char **reterr)
{
        return call(bus, app, "Stage", &by, 1, STAGE_TIMEOUT_USEC, ret, reterr);
}

int admin_bus_activate(sd_bus *bus, const char *app, const char *by, uint64_t timeout_usec,
                       char **ret, char **reterr)
{
        return call(bus, app, "Activate", &by, 1, timeout_usec, ret, reterr);
}

int admin_bus_deploy_files(sd_bus *bus, const char *app, const OrderFiles *files, const char *by,
                           bool wait, uint64_t timeout_usec, char **ret, char **reterr)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r = new_call(bus, app, "DeployFiles", &m);

        if (r >= 0)
                r = sd_bus_message_append(m, "hhh", files->manifest_fd, files->index_fd,
                                          files->artifact_fd);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "h");
        for (size_t i = 0; r >= 0 && i < files->n_provenances; i++)
                r = sd_bus_message_append(m, "h", files->provenance_fds[i]);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_message_append(m, "sb", by, (int) wait);
        return r < 0 ? fail_errno(reterr, r, "cannot make the call DeployFiles()")
                     : send_call(bus, m, app, STAGE_TIMEOUT_USEC + timeout_usec, ret, reterr);
}

int admin_bus_hold(sd_bus *bus, const char *app, const char *until, const char *reason,
                   const char *by, char **ret, char **reterr)
{
        return call(bus, app, "Hold", (const char *[]){ until, reason, by }, 3, CHANGE_TIMEOUT_USEC,
                    ret, reterr);
}

static int read_plan(sd_bus_message *reply, PlanAnswer *a)
{
        const char *json;
        int fd, r = sd_bus_message_read(reply, "s", &json);

        if (r < 0)
                return r;
        a->json = strdup(json);
        if (!a->json)
                return -ENOMEM;
        r = sd_bus_message_enter_container(reply, 'a', "h");
        while (r >= 0 && a->n_fds < PLAN_FILES_MAX) {
                r = sd_bus_message_read(reply, "h", &fd);
                if (r <= 0)
                        break;
                fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
                if (fd < 0)
                        return -errno;
                a->fds[a->n_fds++] = fd;
        }
        return MIN(r, 0);
}

int admin_bus_plan(sd_bus *bus, const char *app, PlanAnswer *ret, char **reterr)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_(plan_answer_done) PlanAnswer a = {};
        int r = new_call(bus, app, "Plan", &m);

        if (r < 0)
                return fail_errno(reterr, r, "cannot make the call Plan()");
        r = get_reply(bus, m, app, POLL_TIMEOUT_USEC, &reply, reterr);
        if (r < 0)
                return r;
        r = read_plan(reply, &a);
        if (r < 0)
                return fail_answer(m, r, reterr);
        *ret = a;
        a = (PlanAnswer){};
        return 0;
}

void plan_answer_done(PlanAnswer *a)
{
        free(a->json);
        for (size_t i = 0; i < a->n_fds; i++)
                fd_close(a->fds[i]);
        *a = (PlanAnswer){};
}

int admin_bus_confirm(sd_bus *bus, const char *app, const char *by, char **ret, char **reterr)
{
        return call(bus, app, "Confirm", &by, 1, CHANGE_TIMEOUT_USEC, ret, reterr);
}

int admin_bus_resume(sd_bus *bus, const char *app, char **reterr)
{
        return call(bus, app, "Resume", NULL, 0, CHANGE_TIMEOUT_USEC, NULL, reterr);
}
