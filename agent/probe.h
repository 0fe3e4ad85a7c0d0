/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <systemd/sd-event.h>

#include "command.h"
#include "fetcher.h"
#include "macro.h"

/*
 * One health probe of a release, asked again and again for as long as it lives: by HTTP each
 * `interval`, or as soon as the last answer is there if that took longer; by a command a second
 * after the last one ended.
 *
 * It is well when its last answer was. After its first good answer it has failed when three bad
 * ones come in a row. What is no answer of the application (slipway-fetch died, systemd was away)
 * counts for neither, but the probe is not well until it was asked again.
 */

typedef struct Probe Probe;

typedef enum ProbeState {
        PROBE_UNWELL, /* not yet, or not now */
        PROBE_WELL,
        PROBE_FAILED,
} ProbeState;

/* It has answered. The probe may not be freed here. */
typedef void (*probe_answered_t)(void *userdata);

/* Asks at once, through `fetcher` (one without a store). `http` is copied. */
_must_check_ int probe_http_new(sd_event *event, Fetcher *fetcher, const HttpProbe *http,
                                probe_answered_t answered, void *userdata, Probe **ret);

/* Runs the command at once. `place` is copied; it, what it borrows from and `command` must outlive
 * the probe. */
_must_check_ int probe_command_new(const CommandPlace *place, const Command *command,
                                   probe_answered_t answered, void *userdata, Probe **ret);

Probe *probe_free(Probe *p);
DEFINE_CLEANUP_FUNC(Probe *, probe_free);

ProbeState probe_state(const Probe *p);

/* What it said last: "http://127.0.0.1:8080/healthz answered 503, wanted 200". NULL when it is
 * well, or memory is short. */
const char *probe_complaint(const Probe *p);
