/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <systemd/sd-event.h>

#include "app.h"
#include "brake.h"
#include "bus.h"
#include "file-order.h"
#include "hold.h"
#include "plan.h"
#include "poller.h"
#include "pruner.h"
#include "reporter.h"
#include "retry.h"
#include "site.h"
#include "spooled.h"
#include "transaction.h"

/*
 * What the files of one application (app*.c) share, and nobody else sees. Where to look: app.c
 * judges and acts, app-poll.h is what its channel says, app-verdict.h what is made of it,
 * app-work.h what is under way, app-state.h what is remembered, app-report.h what others are told,
 * app-admin.c what people ask for.
 */

#define N_TOLD_MAX 8

typedef struct Told {
        app_told_t told;
        void *userdata;
} Told;

struct App {
        Agent *agent;
        const AppConfig *config;
        Site *site;
        BusWatch bus_watch;
        bool started; /* nobody else is at it, so that what a crash left can be taken up */

        Poller *poller;
        Brake *brake;
        bool brake_is_fresh; /* for what is considered next */
        uint64_t polled_sec;
        bool poll_ok;
        Verdict verdict;
        char *poll_text;
        char *credentials; /* a word for those of the last poll; NULL: none */
        char *refused; /* why the channel's manifest is of no use; there is none in `wanted` then */
        Told waiting[N_TOLD_MAX]; /* for the next verdict */
        size_t n_waiting;
        char *polled_by; /* in whose name it is carried out; NULL: the agent's own */

        int envelope_fd;  /* of the channel's manifest, to judge it by another trust root */
        bool is_unjudged; /* it is new */
        bool awaits_root; /* the last answer is judged when the chain has been walked */
        Manifest *wanted; /* the channel's manifest: its signatures hold, the rest is judged at each
                             poll */
        Sha256 wanted_digest;
        uint64_t expiry_told; /* serial of the manifest whose near end was told; 0: none */
        Retry *retry;
        Spooled spooled;

        Transaction *transaction;
        Told rollback;         /* who waits for it, if it is a rollback */
        Told order;            /* who waits for it, if it was asked for otherwise */
        Told stage;            /* who wants the channel's deployment staged, until it is judged */
        FileOrder *file_order; /* until it is judged */
        Told files;            /* who brought it */
        bool files_wait;       /* and wants to hear the end */
        char *asked_by;        /* of stage and files */
        Hold new_hold;         /* for record_hold() */
        sd_event_source *hold_source;   /* when the hold ends by itself */
        sd_event_source *window_source; /* when the window opens that is waited for */
        Plan *plan;
        plan_done_t planned; /* who waits for it */
        void *planned_userdata;
        Pruner *pruner;
        Reporter *reporter;
        bool verdict_unreported;
        const char *reported_ssm;  /* orders_channel() */
        unsigned reported_version; /* of the state */
        int round_result;          /* -EBUSY: the round goes on */
};

/* The round has this result now; later ones count only where the store could not be reached. */
void app_settle(App *a, int round_result);

/* Judges the channel's manifest (`wanted`), and carries it out. */
void app_consider(App *a);

/* Has the end of the hold seen. Others may have changed the state: called with each poll. */
void app_watch_hold(App *a);

/* Unless something is under way. Without slipwayd it is not done: it does it later. */
void app_prune(App *a);
