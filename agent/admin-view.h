/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include <cJSON.h>

#include "macro.h"

/*
 * What `slipway` shows to people, made from the document that Describe() gives (agent-bus.h), or
 * from the same document made from the state files: then it has no "version" and its applications
 * no "poll". The document went through text_clean_json() before. Members that are missing are shown
 * as "-". Errors in f stay there: see ferror(3). All return 0 or -ENOMEM.
 */

/* The time that "ago" counts from, and whether hints are for --user. */
typedef struct ViewContext {
        uint64_t now_sec;
        bool user;
} ViewContext;

/* The application's object in the document, or NULL. */
const cJSON *view_find_app(const cJSON *agent, const char *app);

/* What an application's "state" comes to. When the live release went live: the last event that left
 * it so, else when it was installed (seconds since the epoch, 0: not known). Whether the newest
 * deployment is one that was given up; whether a hold is on. */
uint64_t view_live_since(const cJSON *state);
bool view_is_failed(const cJSON *state);
bool view_is_held(const cJSON *state, uint64_t now_sec);

/* One line an application, then what somebody should know or do. */
_must_check_ int view_overview(const cJSON *agent, const ViewContext *c, FILE *f);

/* "web: fetching r3, 45%; live is r2": a line for each application, or for `app` (may be NULL). */
void view_lines(const cJSON *agent, const char *app, uint64_t now_sec, FILE *f);

/* Everything about one application. */
_must_check_ int view_app(const cJSON *agent, const cJSON *app, const ViewContext *c, FILE *f);

/* What happened here, newest first. */
_must_check_ int view_history(const cJSON *app, const ViewContext *c, FILE *f);

/* A plan as plan.h has it, with the "files" that admin-plan.c adds. */
void view_plan(const cJSON *plan, FILE *f);

/* What is installed here, newest first. */
_must_check_ int view_releases(const cJSON *app, const ViewContext *c, FILE *f);
