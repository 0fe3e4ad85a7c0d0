/* SPDX-License-Identifier: Apache-2.0 */
#include "health.h"
#include "clock.h"
#include "err.h"
#include "probe.h"

/* So that a unit run that only watches does not end before the deadline that is ours. */
#define WATCH_LONGER_USEC (UINT64_C(60) * 1000000)

/* How long probes that are only reported are waited for after the bake. */
#define REPORT_USEC (UINT64_C(2) * 1000000)

struct Health {
        CommandPlace place; /* its activate part is the next member */
        Activate activate;
        HealthMode mode;
        UnitRunCallbacks callbacks;
        void *userdata;
        UnitPlan watch; /* what is left to be watched after the bake */
        UnitRun *run;
        Fetcher *prober;
        Probe **probes;
        size_t n_probes;
        uint64_t deadline_usec; /* CLOCK_BOOTTIME */
        bool baked, ending;
        sd_event_source *deadline_source, *end_source;
        int result;
        char *reason;
};

Health *health_free(Health *h)
{
        if (!h)
                return NULL;
        unit_run_free(h->run);
        for (size_t i = 0; i < h->n_probes; i++)
                probe_free(h->probes[i]);
        free(h->probes);
        fetcher_free(h->prober);
        sd_event_source_disable_unref(h->deadline_source);
        sd_event_source_disable_unref(h->end_source);
        unit_plan_done(&h->watch);
        activate_done(&h->activate);
        free(h->reason);
        free(h);
        return NULL;
}

/* The end comes from the event loop: who finds it out may be called by what is freed then. */
static int on_end(sd_event_source *source, void *userdata)
{
        Health *h = userdata;

        (void) source;
        /* Nothing of h may be used after this: done() may free it. */
        h->callbacks.done(h->result, h->result < 0 ? err_text(h->result, h->reason) : h->reason,
                          h->userdata);
        return 0;
}

static void finish(Health *h, int result, const char *reason)
{
        if (h->ending)
                return;
        h->ending = true;
        h->result = result;
        h->reason = reason ? strdup(reason) : NULL;
        (void) sd_event_source_set_enabled(h->end_source, SD_EVENT_ONESHOT);
}

/* Probes */

const char *health_complaint(const Health *h)
{
        for (size_t i = 0; i < h->n_probes; i++)
                if (probe_state(h->probes[i]) != PROBE_WELL)
                        return probe_complaint(h->probes[i]);
        return NULL;
}

static bool all_well(const Health *h)
{
        for (size_t i = 0; i < h->n_probes; i++)
                if (probe_state(h->probes[i]) != PROBE_WELL)
                        return false;
        return true;
}

static void on_answered(void *userdata)
{
        Health *h = userdata;

        for (size_t i = 0; h->mode == HEALTH_NEEDED && i < h->n_probes; i++)
                if (probe_state(h->probes[i]) == PROBE_FAILED) {
                        _cleanup_free_ char *reason = NULL;
                        err_set(&reason, "%s, again and again",
                                strempty(probe_complaint(h->probes[i])));
                        finish(h, -EIO, reason);
                        return;
                }
        if (h->baked && all_well(h))
                finish(h, 0, NULL);
}

static int add_http_probe(Health *h, const HttpProbe *http)
{
        const Site *s = h->place.site;
        int r = h->prober ? 0 : fetcher_new(s->event, NULL, NULL, NULL, &s->fetch, &h->prober);

        if (r >= 0)
                r = probe_http_new(s->event, h->prober, http, on_answered, h,
                                   &h->probes[h->n_probes]);
        if (r >= 0)
                h->n_probes++;
        return r;
}

static int add_command_probe(Health *h, const Command *command)
{
        int r = probe_command_new(&h->place, command, on_answered, h, &h->probes[h->n_probes]);

        if (r >= 0)
                h->n_probes++;
        return r;
}

static int start_probes(Health *h)
{
        const Activate *a = &h->activate;
        int r = 0;

        h->probes = calloc(a->n_http + a->n_commands + 1, sizeof(Probe *));
        if (!h->probes)
                return -ENOMEM;
        for (size_t i = 0; r >= 0 && i < a->n_http; i++)
                r = add_http_probe(h, &a->http[i]);
        for (size_t i = 0; r >= 0 && i < a->n_commands; i++)
                r = add_command_probe(h, &a->commands[i]);
        return r;
}

/* Units */

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
        Health *h = userdata;
        _cleanup_free_ char *reason = NULL;

        (void) source;
        (void) usec;
        if (h->mode == HEALTH_REPORTED) {
                finish(h, 0, health_complaint(h));
                return 0;
        }
        err_set(&reason, "not healthy within the deadline of %llu s: %s",
                (unsigned long long) (h->activate.deadline_usec / 1000000),
                strempty(health_complaint(h)));
        finish(h, -ETIMEDOUT, reason);
        return 0;
}

static void on_units_done(int result, const char *reason, void *userdata);

/* The bake is over, but the probes are not well yet. */
static int watch_longer(Health *h)
{
        static const UnitRunCallbacks callbacks = { .done = on_units_done };
        const Site *s = h->place.site;
        uint64_t now = clock_usec(CLOCK_BOOTTIME);
        uint64_t left_usec = now < h->deadline_usec ? h->deadline_usec - now : 0;
        int r;

        if (h->mode == HEALTH_REPORTED)
                left_usec = MIN(left_usec, REPORT_USEC);
        r = sd_event_add_time_relative(s->event, &h->deadline_source, CLOCK_BOOTTIME, left_usec, 0,
                                       on_deadline, h);
        if (r < 0)
                return r;
        h->watch.bake_usec = left_usec + WATCH_LONGER_USEC;
        h->watch.deadline_usec = h->watch.bake_usec + WATCH_LONGER_USEC;
        return unit_run_start(s->bus, s->event, &h->watch, UNIT_RUN_WATCH, &callbacks, h, &h->run);
}

static void on_units_done(int result, const char *reason, void *userdata)
{
        Health *h = userdata;
        _cleanup_(unit_run_freep) UnitRun *ended = TAKE_PTR(h->run); /* owns reason */

        (void) ended;
        h->baked = true;
        if (result < 0)
                finish(h, result, reason);
        else if (all_well(h))
                finish(h, 0, NULL);
        else {
                result = watch_longer(h);
                if (result < 0)
                        finish(h, result, strerror(-result));
        }
}

static int on_started(void *userdata)
{
        Health *h = userdata;
        int r = h->callbacks.started ? h->callbacks.started(h->userdata) : 0;

        return r < 0 ? r : start_probes(h);
}

static int prepare(Health *h, const UnitPlan *plan)
{
        int r = h->place.activate ? activate_copy(h->place.activate, &h->activate) : 0;

        h->place.activate = &h->activate;
        if (r >= 0)
                r = unit_plan_watch(plan, &h->watch);
        if (r >= 0)
                r = sd_event_add_defer(h->place.site->event, &h->end_source, on_end, h);
        if (r >= 0)
                r = sd_event_source_set_enabled(h->end_source, SD_EVENT_OFF);
        return r;
}

int health_start(const CommandPlace *place, UnitPlan *plan, UnitRunMode units, HealthMode mode,
                 const UnitRunCallbacks *callbacks, void *userdata, Health **ret)
{
        static const UnitRunCallbacks own = { .started = on_started, .done = on_units_done };
        _cleanup_(health_freep) Health *h = calloc(1, sizeof(Health));
        const Site *site = place->site;
        int r;

        if (!h)
                return -ENOMEM;
        *h = (Health){
                .place = *place, .mode = mode, .callbacks = *callbacks, .userdata = userdata
        };
        r = prepare(h, plan);
        if (r < 0)
                return r;
        if (plan->n_watched + h->activate.n_http + h->activate.n_commands == 0)
                plan->bake_usec = 0;
        h->deadline_usec = clock_usec(CLOCK_BOOTTIME) + plan->deadline_usec;
        r = unit_run_start(site->bus, site->event, plan, units, &own, h, &h->run);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(h);
        return 0;
}
