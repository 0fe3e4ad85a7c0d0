/* SPDX-License-Identifier: Apache-2.0 */
#include "root-watch.h"

#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include "err.h"
#include "judge.h"
#include "kept-root.h"
#include "log.h"
#include "time-text.h"

#define DAY_SEC UINT64_C(86400)

struct RootWatch {
        sd_event *event;
        Fetcher *fetcher;
        Trust *trust;
        int state_dir_fd;
        root_watch_walked_t walked;
        void *userdata;
        uint64_t interval_usec;
        sd_event_source *timer; /* NULL: it does not ask by itself */
        FetchRequest *request;  /* NULL: it does not walk */
        Trust *head;            /* how far this walk has come; NULL: no further than `trust` */
        Envelope *envelope;     /* of the last one learned; NULL: it is kept, or there is none */
        unsigned n_steps;
        uint64_t end_usec, warned_sec;
        char *trouble;
};

RootWatch *root_watch_free(RootWatch *w)
{
        if (!w)
                return NULL;
        sd_event_source_disable_unref(w->timer);
        fetch_request_free(w->request);
        sd_event_unref(w->event);
        trust_free(w->head);
        envelope_free(w->envelope);
        free(w->trouble);
        free(w);
        return NULL;
}

static void plan(RootWatch *w)
{
        uint32_t random = 0;
        int r;

        if (!w->timer)
                return;
        /* Only spreads the load of a fleet. */
        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
                log_debug("getrandom: %s", strerror(errno));
        r = sd_event_source_set_time_relative(
                w->timer, w->interval_usec / 2 +
                                  (uint64_t) ((double) random / UINT32_MAX * w->interval_usec));
        if (r >= 0)
                r = sd_event_source_set_enabled(w->timer, SD_EVENT_ONESHOT);
        if (r < 0)
                log_error("Can't plan to ask for trust roots: %s", strerror(-r));
}

/* While there is time to do something about it. */
static void warn_expiry(RootWatch *w)
{
        uint64_t now_sec = time(NULL), expires_sec = trust_expires_sec(w->trust);
        char at[TIME_TEXT_SIZE];

        if (expires_sec > now_sec + ROOT_WATCH_EXPIRES_SEC ||
            (w->warned_sec <= now_sec && now_sec - w->warned_sec < DAY_SEC))
                return;
        w->warned_sec = now_sec;
        log_warning("The trust root (version %" PRIu64 ") %s at %s%s: publish a next one "
                    "('slipway-publish trust edit --expires')",
                    trust_version(w->trust), expires_sec <= now_sec ? "expired" : "expires",
                    time_format_utc(expires_sec, at),
                    expires_sec <= now_sec ? ", and nothing new is deployed"
                                           : ", and nothing new is deployed from then on");
}

/* Each trouble is told once. */
static void set_trouble(RootWatch *w, const char *text)
{
        if (text && !err_text_equal(strempty(w->trouble), text))
                log_warning("Trust roots: %s", text);
        free(w->trouble);
        w->trouble = text ? strdup(text) : NULL;
}

/* What could not be kept counts nevertheless, or who was revoked would be trusted for want of room;
 * it is tried again with each walk. */
static void keep(RootWatch *w, const char *why)
{
        _cleanup_free_ char *text = NULL;
        int r = w->envelope ? kept_root_save(w->state_dir_fd, w->envelope) : 0;

        if (r >= 0)
                w->envelope = envelope_free(w->envelope);
        else
                err_set(&text, "version %" PRIu64 " of the trust root can't be kept: %s",
                        trust_version(w->head ? w->head : w->trust), strerror(-r));
        set_trouble(w, text ? text : why);
}

/* `why`: it did not come to the end of the chain. */
static void end_walk(RootWatch *w, const char *why)
{
        bool learned = w->head;

        keep(w, why);
        if (learned) {
                log_info("Version %" PRIu64 " of the trust root counts now; it was %" PRIu64,
                         trust_version(w->head), trust_version(w->trust));
                trust_become(w->trust, TAKE_PTR(w->head));
        }
        plan(w);
        warn_expiry(w);
        w->walked(learned, w->userdata);
}

static const Trust *head(const RootWatch *w)
{
        return w->head ? w->head : w->trust;
}

static void next_path(const RootWatch *w, char *ret, size_t size)
{
        (void) snprintf(ret, size, TRUST_PATH_FORMAT, trust_version(head(w)) + 1);
}

static int learn(RootWatch *w, int fd, char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        Trust *next = NULL;
        int r = fd < 0 ? -EPROTO : judge_copy_envelope(fd, &e);

        if (r < 0)
                return fail_errno(reterr, r, "slipway-fetch gave a broken envelope");
        r = trust_follow(head(w), e, &next, reterr);
        if (r < 0)
                return r;
        trust_free(w->head);
        w->head = next;
        envelope_free(w->envelope);
        w->envelope = TAKE_PTR(e);
        return 0;
}

static bool may_go_on(const RootWatch *w)
{
        uint64_t now_usec;

        return w->n_steps < ROOT_WATCH_STEPS_MAX &&
               sd_event_now(w->event, CLOCK_BOOTTIME, &now_usec) >= 0 && now_usec < w->end_usec;
}

static int step(RootWatch *w);

/* 1: the walk goes on. 0: it has come to the end of the chain. */
static int take(RootWatch *w, const Message *m, int fd, char **reterr)
{
        char path[64];
        int r;

        next_path(w, path, sizeof(path));
        if (m->type == MESSAGE_POLLED && m->result == POLL_ABSENT)
                return 0;
        if (m->type == 0 || m->result != 0)
                return fail(reterr, m->result < 0 ? m->result : -EACCES,
                            "whether there is a newer trust root is not known: %s: %s", path,
                            m->text[0] ? m->text : strerror(-m->result));
        r = learn(w, fd, reterr);
        if (r < 0)
                return fail_prefix(reterr, r, "%s in the store is refused", path);
        if (!may_go_on(w))
                return fail(reterr, -ETIMEDOUT,
                            "there are more trust roots than are followed at once: version %" PRIu64
                            " is not the last one",
                            trust_version(head(w)));
        r = step(w);
        return r < 0 ? fail_errno(reterr, r, "can't ask for trust roots") : 1;
}

static void on_reply(const Message *m, int *fd, void *userdata)
{
        RootWatch *w = userdata;
        _cleanup_free_ char *err = NULL;
        int r;

        if (m->type != 0 && m->type != MESSAGE_POLLED)
                return;
        w->request = fetch_request_free(w->request);
        r = take(w, m, *fd, &err);
        if (r <= 0)
                end_walk(w, r < 0 ? err_text(r, err) : NULL);
}

static int step(RootWatch *w)
{
        Message m = { .type = MESSAGE_POLL, .size = 1, .offset = POLL_ROOT };

        w->n_steps++;
        next_path(w, m.text, sizeof(m.text));
        return fetcher_request(w->fetcher, &m, -1, on_reply, w, &w->request);
}

int root_watch_ask(RootWatch *w)
{
        uint64_t now_usec;
        int r;

        if (w->request)
                return 0;
        r = sd_event_now(w->event, CLOCK_BOOTTIME, &now_usec);
        if (r < 0)
                return r;
        w->end_usec = now_usec + ROOT_WATCH_WALK_USEC;
        w->n_steps = 0;
        return step(w);
}

bool root_watch_is_asking(const RootWatch *w)
{
        return w->request;
}

const char *root_watch_trouble(const RootWatch *w)
{
        return w->trouble;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
        RootWatch *w = userdata;
        int r = root_watch_ask(w);

        (void) source, (void) usec;
        if (r >= 0)
                return 0;
        log_error("Can't ask for trust roots: %s", strerror(-r));
        plan(w);
        return 0;
}

int root_watch_new(sd_event *event, Fetcher *fetcher, Trust *trust, Envelope *unkept,
                   int state_dir_fd, uint64_t interval_usec, root_watch_walked_t walked,
                   void *userdata, RootWatch **ret)
{
        _cleanup_(root_watch_freep) RootWatch *w = calloc(1, sizeof(RootWatch));
        int r = 0;

        if (!w) {
                envelope_free(unkept);
                return -ENOMEM;
        }
        *w = (RootWatch){ .event = sd_event_ref(event),
                          .fetcher = fetcher,
                          .trust = trust,
                          .envelope = unkept,
                          .state_dir_fd = state_dir_fd,
                          .interval_usec = interval_usec,
                          .walked = walked,
                          .userdata = userdata };
        if (interval_usec > 0)
                r = sd_event_add_time_relative(event, &w->timer, CLOCK_BOOTTIME, 0, 0, on_timer, w);
        if (r < 0)
                return r;
        keep(w, NULL);
        plan(w);
        warn_expiry(w);
        *ret = TAKE_PTR(w);
        return 0;
}
