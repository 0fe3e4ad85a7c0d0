/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include <cJSON.h>

#include "macro.h"

/*
 * What a monitoring system wants to know of this host, in Prometheus's text format (version 0.0.4,
 * prometheus.io/docs/instrumenting/exposition_formats), for the textfile collector of
 * node_exporter. Each metric has its explanation in its HELP line. All are gauges: slipwayd keeps
 * no counters, and what is told is a state, or the time of an event; ages are for the query to
 * compute, as a file is older than what it says.
 */

typedef struct MetricsContext {
        uint64_t now_sec;
        bool up;                    /* slipwayd answered */
        int clock_synchronized;     /* negative: it can't be told */
        uint64_t trust_expires_sec; /* 0: not known */
} MetricsContext;

/* `agent`: as in admin-view.h, with the poll's part only if slipwayd answered; NULL: nothing is
 * known. What is missing there has no metric. Errors in f stay there: see ferror(3). */
void metrics_write(const cJSON *agent, const MetricsContext *c, FILE *f);
