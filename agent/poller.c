/* SPDX-License-Identifier: Apache-2.0 */
#include "poller.h"
#include "clock.h"
#include "err.h"
#include "fd.h"
#include "log.h"
#include "message.h"
#include "poll-wait.h"

struct Poller {
        sd_event *event;
        Fetcher *fetcher;
        char *path;
        uint64_t interval_usec;
        unsigned jitter_percent, n_failures;
        bool stopped, hurry;
        bool keyless; /* the last poll found no credentials */
        poller_answer_t answer;
        void *userdata;
        sd_event_source *timer;
        FetchRequest *request;
        bool watching;         /* the request is a WATCH */
        uint64_t watched_usec; /* since when */
        bool heard; /* "unchanged" means what we had; slipway-fetch may remember others' polls */
};

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata);

Poller *poller_free(Poller *p)
{
        if (!p)
                return NULL;
        sd_event_source_disable_unref(p->timer);
        fetch_request_free(p->request);
        sd_event_unref(p->event);
        free(p->path);
        free(p);
        return NULL;
}

int poller_new(sd_event *event, Fetcher *fetcher, const PollerOptions *options,
               poller_answer_t answer, void *userdata, Poller **ret)
{
        _cleanup_(poller_freep) Poller *p = calloc(1, sizeof(Poller));
        int r;

        if (!p)
                return -ENOMEM;
        *p = (Poller){ .event = sd_event_ref(event),
                       .fetcher = fetcher,
                       .path = strdup(options->path),
                       .interval_usec = options->interval_usec,
                       .jitter_percent = options->jitter_percent,
                       .answer = answer,
                       .userdata = userdata };
        if (!p->path)
                return -ENOMEM;
        r = sd_event_add_time_relative(event, &p->timer, CLOCK_BOOTTIME, 0, 0, on_timer, p);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(p->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(p);
        return 0;
}

static int arm(Poller *p, uint64_t delay_usec)
{
        int r = sd_event_source_set_time_relative(p->timer, delay_usec);

        return r < 0 ? r : sd_event_source_set_enabled(p->timer, SD_EVENT_ONESHOT);
}

static void plan(Poller *p)
{
        uint64_t wait_usec = poll_wait_usec(p->interval_usec, p->jitter_percent, p->n_failures,
                                            poll_wait_random());
        int r;

        if (p->keyless)
                wait_usec = poll_wait_keyless_usec(wait_usec, poll_wait_random());
        if (p->hurry)
                wait_usec = MIN(wait_usec, POLL_HURRY_MAX_USEC);
        r = p->stopped ? 0 : arm(p, wait_usec);
        if (r < 0)
                log_error("Can't plan the next poll of %s: %s", p->path, strerror(-r));
}

static void on_reply(const Message *m, int *fd, void *userdata);

static int ask(Poller *p, Message *m)
{
        int r;

        (void) stpncpy(m->text, p->path, MESSAGE_TEXT_MAX);
        r = fetcher_request(p->fetcher, m, -1, on_reply, p, &p->request);
        p->watching = r >= 0 && m->type == MESSAGE_WATCH;
        return r;
}

/* Not one that answers a watch out of turn: it could keep us busy without end. */
static bool can_watch(const Poller *p, bool watched)
{
        return !p->request && !p->stopped && !p->hurry && p->interval_usec < WATCH_QUIET_USEC &&
               (!watched || clock_usec(CLOCK_BOOTTIME) - p->watched_usec >= p->interval_usec / 2);
}

static int watch(Poller *p)
{
        Message m = { .type = MESSAGE_WATCH,
                      .offset = p->interval_usec,
                      .size = p->jitter_percent };

        p->watched_usec = clock_usec(CLOCK_BOOTTIME);
        return ask(p, &m);
}

static void take_answer(Poller *p, bool watched, int result, int fd, const char *text)
{
        PollOutcome outcome = p->answer(result, fd, text, p->userdata);

        p->n_failures = outcome == POLL_BAD ? p->n_failures + 1 : 0;
        if (outcome != POLL_CALM || !can_watch(p, watched) || watch(p) < 0)
                plan(p);
}

static void on_reply(const Message *m, int *fd, void *userdata)
{
        Poller *p = userdata;
        bool watched = p->watching;
        int result = m->result;

        if (m->type != 0 && m->type != MESSAGE_POLLED)
                return;
        p->request = fetch_request_free(p->request);
        p->watching = false;
        /* Nothing was asked that failed. */
        if (watched && m->type == 0) {
                plan(p);
                return;
        }
        if (result == 0 && (m->type == 0 || *fd < 0))
                result = -EPROTO;
        if (result > POLL_UNKNOWN)
                result = -EPROTO;
        p->keyless = result == -ENOKEY;
        p->heard = p->heard || result == 0 || result == -EBADMSG;
        take_answer(p, watched, result, *fd, m->text);
}

/* An answer that is on its way now is lost, and with it what it said. */
static void stop_watching(Poller *p)
{
        if (!p->watching)
                return;
        p->request = fetch_request_free(p->request);
        p->watching = p->heard = false;
}

int poller_poll(Poller *p)
{
        Message m = { .type = MESSAGE_POLL };
        int r;

        stop_watching(p);
        if (p->request)
                return 0;
        r = sd_event_source_set_enabled(p->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        m.size = !p->heard;
        r = ask(p, &m);
        if (r < 0)
                plan(p);
        return r;
}

bool poller_is_polling(const Poller *p)
{
        return p->request && !p->watching;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
        Poller *p = userdata;
        int r;

        (void) source;
        (void) usec;
        r = poller_poll(p);
        if (r < 0)
                log_error("Can't poll %s: %s", p->path, strerror(-r));
        return 0;
}

int poller_start(Poller *p)
{
        return arm(p, (uint64_t) ((double) poll_wait_random() / UINT32_MAX * p->interval_usec /
                                  100 * p->jitter_percent));
}

void poller_hurry(Poller *p, bool hurry)
{
        p->hurry = hurry;
        if (hurry && p->watching) {
                stop_watching(p);
                plan(p);
        }
}

void poller_stop(Poller *p)
{
        p->stopped = true;
        stop_watching(p);
        (void) sd_event_source_set_enabled(p->timer, SD_EVENT_OFF);
}

uint64_t poller_next_sec(const Poller *p)
{
        uint64_t due, now;
        int enabled = SD_EVENT_OFF;

        if (p->watching)
                return poll_wait_usec(p->interval_usec, p->jitter_percent, 0, UINT32_MAX) / 1000000;
        (void) sd_event_source_get_enabled(p->timer, &enabled);
        if (enabled == SD_EVENT_OFF || sd_event_source_get_time(p->timer, &due) < 0 ||
            sd_event_now(p->event, CLOCK_BOOTTIME, &now) < 0 || due < now)
                return 0;
        return (due - now) / 1000000;
}
