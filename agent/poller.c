/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/random.h>
#include <time.h>

#include "err.h"
#include "fd.h"
#include "log.h"
#include "poller.h"

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

static uint32_t random_u32(void)
{
        uint32_t x = 0;

        /* Only spreads polls: a short read, which does not happen for so few bytes, would do no
         * harm. */
        if (getrandom(&x, sizeof(x), 0) != sizeof(x))
                log_debug("getrandom: %s", strerror(errno));
        return x;
}

uint64_t poller_delay_usec(uint64_t interval_usec, unsigned jitter_percent, unsigned n_failures,
                           uint32_t random)
{
        uint64_t delay = interval_usec, spread;

        for (unsigned i = 0; i < n_failures && delay < POLL_BACKOFF_MAX_USEC; i++)
                delay *= 2;
        if (n_failures > 0)
                delay = CLAMP(delay, interval_usec, MAX(POLL_BACKOFF_MAX_USEC, interval_usec));
        /* After failures all of it is spread: what broke for all at once comes back for all at
         * once. */
        spread = n_failures > 0 ? delay : delay / 100 * jitter_percent * 2;
        return delay - spread / 2 + (uint64_t) ((double) random / UINT32_MAX * spread);
}

uint64_t poller_keyless_usec(uint64_t delay_usec, uint32_t random)
{
        uint64_t spread = POLL_KEYLESS_MAX_USEC / 2;

        return MIN(delay_usec,
                   POLL_KEYLESS_MAX_USEC - (uint64_t) ((double) random / UINT32_MAX * spread));
}

static int arm(Poller *p, uint64_t delay_usec)
{
        int r = sd_event_source_set_time_relative(p->timer, delay_usec);

        return r < 0 ? r : sd_event_source_set_enabled(p->timer, SD_EVENT_ONESHOT);
}

static void plan(Poller *p)
{
        uint64_t delay_usec =
                poller_delay_usec(p->interval_usec, p->jitter_percent, p->n_failures, random_u32());
        int r;

        if (p->keyless)
                delay_usec = poller_keyless_usec(delay_usec, random_u32());
        if (p->hurry)
                delay_usec = MIN(delay_usec, POLL_HURRY_MAX_USEC);
        r = p->stopped ? 0 : arm(p, delay_usec);
        if (r < 0)
                log_error("Can't plan the next poll of %s: %s", p->path, strerror(-r));
}

static void on_reply(const Message *m, int *fd, void *userdata)
{
        Poller *p = userdata;
        int result = m->result;
        bool well;

        if (m->type != 0 && m->type != MESSAGE_POLLED)
                return;
        p->request = fetch_request_free(p->request);
        if (result == 0 && (m->type == 0 || *fd < 0))
                result = -EPROTO;
        if (result > POLL_UNKNOWN)
                result = -EPROTO;
        p->keyless = result == -ENOKEY;
        p->heard = p->heard || result == 0 || result == -EBADMSG;
        well = p->answer(result, *fd, m->text, p->userdata);
        p->n_failures = well ? 0 : p->n_failures + 1;
        plan(p);
}

int poller_poll(Poller *p)
{
        Message m = { .type = MESSAGE_POLL, .size = !p->heard };
        int r;

        if (p->request)
                return 0;
        r = sd_event_source_set_enabled(p->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        (void) stpncpy(m.text, p->path, MESSAGE_TEXT_MAX);
        r = fetcher_request(p->fetcher, &m, -1, on_reply, p, &p->request);
        if (r < 0)
                plan(p);
        return r;
}

bool poller_is_polling(const Poller *p)
{
        return p->request;
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
        return arm(p, (uint64_t) ((double) random_u32() / UINT32_MAX * p->interval_usec / 100 *
                                  p->jitter_percent));
}

void poller_hurry(Poller *p, bool hurry)
{
        p->hurry = hurry;
}

void poller_stop(Poller *p)
{
        p->stopped = true;
        (void) sd_event_source_set_enabled(p->timer, SD_EVENT_OFF);
}

uint64_t poller_next_sec(const Poller *p)
{
        uint64_t due, now;
        int enabled = SD_EVENT_OFF;

        (void) sd_event_source_get_enabled(p->timer, &enabled);
        if (enabled == SD_EVENT_OFF || sd_event_source_get_time(p->timer, &due) < 0 ||
            sd_event_now(p->event, CLOCK_BOOTTIME, &now) < 0 || due < now)
                return 0;
        return (due - now) / 1000000;
}
