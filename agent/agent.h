/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <systemd/sd-event.h>

#include "bus.h"
#include "child.h"
#include "config.h"
#include "fetcher.h"
#include "instance-watch.h"
#include "macro.h"
#include "paths.h"
#include "root-watch.h"
#include "trust.h"

/*
 * slipwayd as one object: configuration, trust root, event loop, bus, the fetch child and the
 * applications. One thread, one loop; nothing here waits.
 *
 * Where the files leave something open that an EC2 instance's metadata can tell, it is asked before
 * the applications poll, and from then on at intervals. What comes to another configuration
 * replaces all applications, as a start would do, but never while one of them watches over a
 * release that has been switched; only the tags for a manifest's targets change without that, and
 * what proves to be as it was remembered.
 */

typedef struct App App;
typedef struct BusService BusService;
typedef struct Orders Orders;

typedef struct AgentOptions {
        bool user;       /* everything unprivileged, on the user's bus and below XDG directories */
        bool once;       /* one round, then end with its result */
        bool stage;      /* beside once: releases are brought here, and go live at a later start */
        bool offline;    /* only what is on this host: no trust root, no fetch, no polls (slipway
                            rollback) */
        bool from_files; /* beside offline: the trust root and slipway-fetch, to deploy from files
                          */
        const char *config; /* path; NULL: the usual place */
} AgentOptions;

typedef struct Agent {
        AgentOptions options;
        Paths paths;
        ConfigSource *source;
        Config *config;      /* what holds now; NULL: not known yet, and there are no apps */
        Config *next_config; /* takes its place when all applications can give way; until then no
                                deployment begins */
        Instance *instance;  /* as it was last heard, maybe before a restart; NULL: never */
        InstanceWatch *watch;
        bool asks_metadata;
        bool needs_metadata; /* the files alone do not say what to deploy */
        bool recalled; /* `config` is by what was known before, and not confirmed: applications only
                          take up what a crash left */
        char *trouble; /* why who this host is, or what that means, can't be known; NULL: it is */
        bool unasked;  /* `trouble` is that there was no answer */
        sd_event_source *apply_source;
        Trust *trust;     /* what is learned becomes of it (kept-root.h, root-watch.h) */
        RootWatch *roots; /* NULL offline */
        sd_event *event;
        Bus *bus;
        BusService *service; /* NULL: slipway can't ask this one (once, offline) */
        Fetcher *fetcher;
        Orders *orders; /* from far away; NULL: none are taken */
        Identity fetch_identity, unpack_identity;
        int state_dir_fd, runtime_dir_fd;
        sd_event_source *ready_limit_source; /* NULL: nobody waits any more for READY=1 */
        App **apps;
        size_t n_apps;
} Agent;

/* Loads and opens all of it. A broken configuration or trust root, or directories that can't be
 * made, are errors; a missing bus is not (releases with units then fail, and say so). */
_must_check_ int agent_new(const AgentOptions *options, Agent **ret, char **reterr);
Agent *agent_free(Agent *a);
DEFINE_CLEANUP_FUNC(Agent *, agent_free);

/* Polls until told to stop by SIGTERM or SIGINT. */
_must_check_ int agent_run(Agent *a);

/* Results of one round, also slipwayd's exit codes; the worst of all applications counts. */
enum {
        ROUND_OK = 0,          /* nothing to do, or deployed */
        ROUND_FAILED = 3,      /* a deployment failed or was taken back */
        ROUND_UNREACHABLE = 4, /* the store could not be reached, refused us, or has no manifest */
        ROUND_REFUSED = 5,     /* a manifest was refused */
        ROUND_DEFERRED = 6,    /* a deployment was put off; any of those above is worse */
};

/* Called by an application when its part of the round is over; the first one may be what READY=1
 * waits for. */
void agent_app_settled(Agent *a);

/* Somebody wants news now: who this host is is asked as well. */
void agent_look_again(Agent *a);

App *agent_find_app(Agent *a, const char *name);
