/* SPDX-License-Identifier: Apache-2.0 */
#include "instance-watch.h"

#include <sys/random.h>

#include "err.h"
#include "log.h"

#define JITTER_PERCENT 20

struct InstanceWatch {
        sd_event *event;
        Fetcher *fetcher;
        uint64_t interval_usec;
        unsigned n_failures;
        instance_told_t told;
        void *userdata;
        sd_event_source *timer;
        FetchRequest *request;
};

InstanceWatch *instance_watch_free(InstanceWatch *w)
{
        if (!w)
                return NULL;
        sd_event_source_disable_unref(w->timer);
        fetch_request_free(w->request);
        sd_event_unref(w->event);
        free(w);
        return NULL;
}

uint64_t instance_watch_delay_usec(uint64_t interval_usec, unsigned n_failures, uint32_t random)
{
        uint64_t delay = n_failures > 0 ? WATCH_BACKOFF_MIN_USEC : interval_usec, spread;

        for (unsigned i = 1; i < n_failures && delay < WATCH_BACKOFF_MAX_USEC; i++)
                delay = MIN(delay * 2, WATCH_BACKOFF_MAX_USEC);
        spread = n_failures > 0 ? delay / 2 : delay / 100 * JITTER_PERCENT;
        return delay - (uint64_t) ((double) random / UINT32_MAX * spread);
}

static int arm(InstanceWatch *w, uint64_t delay_usec)
{
        int r = sd_event_source_set_time_relative(w->timer, delay_usec);

        return r < 0 ? r : sd_event_source_set_enabled(w->timer, SD_EVENT_ONESHOT);
}

static void plan(InstanceWatch *w)
{
        uint32_t random = 0;
        int r;

        /* Only spreads the load. */
        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
                log_debug("getrandom: %s", strerror(errno));
        r = arm(w, instance_watch_delay_usec(w->interval_usec, w->n_failures, random));
        if (r < 0)
                log_error("Can't plan to ask for the instance's tags again: %s", strerror(-r));
}

static int take(const Message *m, int fd, Instance **ret, char **reterr)
{
        int r;

        if (m->type == 0 || m->result < 0)
                return fail(reterr, m->result < 0 ? m->result : -EPROTO, "%s",
                            m->text[0] ? m->text : strerror(-m->result));
        r = fd < 0 || m->result != 0 ? -EPROTO : instance_unpack_fd(fd, ret);
        return r < 0 ? fail_errno(reterr, r, "slipway-fetch gave a broken identity") : 0;
}

static void on_reply(const Message *m, int *fd, void *userdata)
{
        InstanceWatch *w = userdata;
        _cleanup_(instance_freep) Instance *i = NULL;
        _cleanup_free_ char *err = NULL;
        int r = take(m, *fd, &i, &err);

        w->request = fetch_request_free(w->request);
        w->n_failures = r < 0 ? w->n_failures + 1 : 0;
        plan(w);
        w->told(r, i, err_text(r, err), w->userdata);
}

int instance_watch_ask(InstanceWatch *w)
{
        Message m = { .type = MESSAGE_IDENTIFY };
        int r;

        if (w->request)
                return 0;
        r = sd_event_source_set_enabled(w->timer, SD_EVENT_OFF);
        if (r >= 0)
                r = fetcher_request(w->fetcher, &m, -1, on_reply, w, &w->request);
        if (r < 0) {
                w->n_failures++;
                plan(w);
        }
        return r;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
        int r = instance_watch_ask(userdata);

        (void) source, (void) usec;
        if (r < 0)
                log_error("Can't ask for the instance's tags: %s", strerror(-r));
        return 0;
}

int instance_watch_new(sd_event *event, Fetcher *fetcher, uint64_t interval_usec,
                       instance_told_t told, void *userdata, InstanceWatch **ret)
{
        _cleanup_(instance_watch_freep) InstanceWatch *w = calloc(1, sizeof(InstanceWatch));
        int r;

        if (!w)
                return -ENOMEM;
        *w = (InstanceWatch){ .event = sd_event_ref(event),
                              .fetcher = fetcher,
                              .interval_usec = interval_usec,
                              .told = told,
                              .userdata = userdata };
        r = sd_event_add_time_relative(event, &w->timer, CLOCK_BOOTTIME, 0, 0, on_timer, w);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(w);
        return 0;
}
