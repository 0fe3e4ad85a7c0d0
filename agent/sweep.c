/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <time.h>

#include "err.h"
#include "fd.h"
#include "log.h"
#include "sweep.h"

/* More than the slowest disk takes for the largest trees. */
#define SWEEP_MAX_USEC (UINT64_C(3600) * 1000000)

struct Sweep {
        Child *child;
        sd_event_source *limit_source;
        int releases_fd;
        char **names;
        size_t n_names, at;
        int result;
        char *reason;
        sweep_done_t done;
        void *userdata;
};

Sweep *sweep_free(Sweep *s)
{
        if (!s)
                return NULL;
        child_free(s->child);
        sd_event_source_disable_unref(s->limit_source);
        fd_close(s->releases_fd);
        for (size_t i = 0; i < s->n_names; i++)
                free(s->names[i]);
        free(s->names);
        free(s->reason);
        free(s);
        return NULL;
}

static void note(Sweep *s, int error, const char *text)
{
        if (s->result < 0)
                return;
        err_set(&s->reason, "can't remove %s: %s", s->names[s->at], text);
        s->result = error;
}

static int send_next(Sweep *s)
{
        Message m = { .type = MESSAGE_REMOVE };

        (void) stpncpy(m.text, s->names[s->at], MESSAGE_TEXT_MAX);
        return child_send(s->child, &m, s->releases_fd);
}

static void on_message(Child *c, const Message *m, int *fd, void *userdata)
{
        Sweep *s = userdata;
        int r;

        (void) c;
        (void) fd;
        if (m->type != MESSAGE_REMOVED || s->at >= s->n_names)
                return;
        if (m->result < 0)
                note(s, m->result, m->text);
        if (++s->at == s->n_names) {
                s->done(s->result, s->reason, s->userdata);
                return;
        }
        r = send_next(s);
        if (r < 0) {
                note(s, r, strerror(-r));
                s->done(s->result, s->reason, s->userdata);
        }
}

static void on_exited(Child *c, const char *how, void *userdata)
{
        Sweep *s = userdata;

        s->child = child_free(c);
        if (s->at < s->n_names) {
                note(s, -EIO, how);
                s->done(s->result, s->reason, s->userdata);
        }
}

static int on_limit(sd_event_source *source, uint64_t usec, void *userdata)
{
        Sweep *s = userdata;

        (void) source;
        (void) usec;
        s->child = child_free(s->child);
        if (s->at < s->n_names) {
                note(s, -ETIMEDOUT, "it took more than an hour");
                s->done(s->result, s->reason, s->userdata);
        }
        return 0;
}

int sweep_start(sd_event *event, const Identity *identity, int releases_fd, char **names,
                size_t n_names, sweep_done_t done, void *userdata, Sweep **ret)
{
        static const ChildCallbacks callbacks = { on_message, on_exited };
        char *argv[] = { (char *) "slipway-unpack", NULL };
        _cleanup_(sweep_freep) Sweep *s = calloc(1, sizeof(Sweep));
        _cleanup_free_ char *err = NULL;
        int r;

        if (!s) {
                for (size_t i = 0; i < n_names; i++)
                        free(names[i]);
                free(names);
                return -ENOMEM;
        }
        *s = (Sweep){ .releases_fd = fcntl(releases_fd, F_DUPFD_CLOEXEC, 3),
                      .names = names,
                      .n_names = n_names,
                      .done = done,
                      .userdata = userdata };
        if (s->releases_fd < 0)
                return -errno;
        r = sd_event_add_time_relative(event, &s->limit_source, CLOCK_BOOTTIME, SWEEP_MAX_USEC, 0,
                                       on_limit, s);
        if (r < 0)
                return r;
        r = child_spawn(event, "slipway-unpack", argv, NULL, identity, &callbacks, s, &s->child,
                        &err);
        if (r < 0)
                return log_error_errno(r, "%s", err_text(r, err));
        r = send_next(s);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}
