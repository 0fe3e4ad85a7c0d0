/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "clock.h"
#include "err.h"
#include "probe.h"

#define N_BAD_MAX 3

/* slipway-fetch keeps the limit by itself; this is for one that is hung. */
#define GRACE_USEC (UINT64_C(2) * 1000000)

#define COMMAND_PAUSE_USEC (UINT64_C(1) * 1000000)

struct Probe {
        Fetcher *fetcher;
        char *url;
        uint64_t status, interval_usec, timeout_usec;
        FetchRequest *request; /* NULL: none is on its way */
        CommandPlace place;
        const Command *command; /* NULL: it is asked by HTTP */
        CommandRun *run;
        sd_event_source *source; /* asks again; while a request is on its way: gives it up */
        uint64_t asked_usec;
        bool well, was_well;
        unsigned n_bad;
        char *complaint;
        probe_answered_t answered;
        void *userdata;
};

Probe *probe_free(Probe *p)
{
        if (!p)
                return NULL;
        fetch_request_free(p->request);
        command_free(p->run);
        sd_event_source_disable_unref(p->source);
        free(p->url);
        free(p->complaint);
        free(p);
        return NULL;
}

ProbeState probe_state(const Probe *p)
{
        if (p->was_well && p->n_bad >= N_BAD_MAX)
                return PROBE_FAILED;
        return p->well ? PROBE_WELL : PROBE_UNWELL;
}

const char *probe_complaint(const Probe *p)
{
        return p->complaint;
}

static void set_timer(Probe *p, uint64_t at_usec)
{
        /* Both can only fail for a source that is not a timer's. */
        (void) sd_event_source_set_time(p->source, at_usec);
        (void) sd_event_source_set_enabled(p->source, SD_EVENT_ONESHOT);
}

/* Takes complaint, which is NULL for a good answer. */
static void take_answer(Probe *p, char *complaint, bool counts)
{
        free(p->complaint);
        p->complaint = complaint;
        p->well = counts && !complaint;
        if (p->well) {
                p->was_well = true;
                p->n_bad = 0;
        } else if (counts && p->n_bad < N_BAD_MAX)
                p->n_bad++;
        set_timer(p, p->command ? clock_usec(CLOCK_BOOTTIME) + COMMAND_PAUSE_USEC
                                : p->asked_usec + p->interval_usec);
        p->answered(p->userdata);
}

static void on_reply(const Message *m, int *fd, void *userdata)
{
        Probe *p = userdata;
        bool counts = m->type != 0;
        char *complaint = NULL;

        (void) fd;
        if (m->type == 0 || m->result < 0)
                err_set(&complaint, "%s: %s", p->url, m->text[0] ? m->text : strerror(-m->result));
        else if ((uint64_t) m->result != p->status)
                err_set(&complaint, "%s answered %d, wanted %" PRIu64, p->url, m->result,
                        p->status);
        p->request = fetch_request_free(p->request);
        take_answer(p, complaint, counts);
}

static void ask_by_http(Probe *p)
{
        Message m = { .type = MESSAGE_PROBE, .size = p->timeout_usec };
        char *complaint = NULL;
        int r;

        p->asked_usec = clock_usec(CLOCK_BOOTTIME);
        set_timer(p, p->asked_usec + p->timeout_usec + GRACE_USEC);
        (void) stpncpy(m.text, p->url, MESSAGE_TEXT_MAX);
        r = fetcher_request(p->fetcher, &m, -EBADF, on_reply, p, &p->request);
        if (r < 0) {
                (void) fail_errno(&complaint, r, "can't ask %s", p->url);
                take_answer(p, complaint, false);
        }
}

static void on_command_done(const CommandResult *result, void *userdata)
{
        Probe *p = userdata;
        _cleanup_(command_freep) CommandRun *ended = TAKE_PTR(p->run); /* owns result */
        char *complaint = NULL;

        (void) ended;
        if (result->error < 0)
                err_set(&complaint, "%s", result->reason);
        take_answer(p, complaint, result->error != -EHOSTDOWN);
}

static void ask_by_command(Probe *p)
{
        char *complaint = NULL;
        int r = command_start(&p->place, COMMAND_PROBE, p->command, false, on_command_done, p,
                              &p->run);

        if (r < 0) {
                (void) fail_errno(&complaint, r, "can't run %s", p->command->argv[0]);
                take_answer(p, complaint, false);
        }
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        Probe *p = userdata;
        char *complaint = NULL;

        (void) source;
        (void) usec;
        if (p->request) {
                err_set(&complaint, "%s: slipway-fetch does not say what came of it", p->url);
                p->request = fetch_request_free(p->request);
                take_answer(p, complaint, false);
        } else if (p->command)
                ask_by_command(p);
        else
                ask_by_http(p);
        return 0;
}

int probe_command_new(const CommandPlace *place, const Command *command, probe_answered_t answered,
                      void *userdata, Probe **ret)
{
        _cleanup_(probe_freep) Probe *p = calloc(1, sizeof(Probe));
        int r;

        if (!p)
                return -ENOMEM;
        *p = (Probe){
                .place = *place, .command = command, .answered = answered, .userdata = userdata
        };
        err_set(&p->complaint, "%s has not ended yet", command->argv[0]);
        r = sd_event_add_time(place->site->event, &p->source, CLOCK_BOOTTIME, 0, 1, on_time, p);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(p);
        return 0;
}

int probe_http_new(sd_event *event, Fetcher *fetcher, const HttpProbe *http,
                   probe_answered_t answered, void *userdata, Probe **ret)
{
        _cleanup_(probe_freep) Probe *p = calloc(1, sizeof(Probe));
        int r;

        if (!p)
                return -ENOMEM;
        *p = (Probe){ .fetcher = fetcher,
                      .url = strdup(http->url),
                      .status = http->status,
                      .interval_usec = http->interval_usec,
                      .timeout_usec = http->timeout_usec,
                      .answered = answered,
                      .userdata = userdata };
        if (!p->url)
                return -ENOMEM;
        err_set(&p->complaint, "%s has not answered yet", p->url);
        r = sd_event_add_time(event, &p->source, CLOCK_BOOTTIME, 0, 1, on_time, p);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(p);
        return 0;
}
