/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "app-internal.h"

/* What an application's channel comes to: judged, kept as what the last poll said, and told. */

/* Tells them once. They may be nobody. */
void app_tell(Told *who, int result, const char *text);

/* Sets what the last poll said and tells those who wait; `trouble` is what kept it from being well,
 * an id of journal-id.h, or NULL. Takes text. */
void app_set_verdict(App *a, const char *trouble, Verdict verdict, char *text);

/* The same for an error: -EKEYREJECTED is a refusal, any other a hindrance. */
void app_refuse(App *a, int error, const char *err);

/* The same for what was judged; waits for its window. Takes text. */
void app_accept_verdict(App *a, Verdict verdict, char *text);

/* What judge_wanted() is to know besides the manifest. *ret_damage is for the caller to free. */
JudgeContext app_judge_context(const App *a, const Manifest *m, char **ret_damage);

/* Judges `wanted`; allocated words. */
char *app_verdict_now(App *a, Verdict *ret);

/* ... and sets what comes out. */
void app_judge_now(App *a);

/* Neither a hold nor a wait stands against bringing it here. */
bool verdict_can_be_staged(Verdict v);

/* Has `handler` called at a time by the clock, which may be set meanwhile: CLOCK_REALTIME. */
void app_watch_clock(App *a, sd_event_source **source, uint64_t at_sec, uint64_t accuracy_usec,
                     sd_event_time_handler_t handler);
