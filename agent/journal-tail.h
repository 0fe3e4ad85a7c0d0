/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include <systemd/sd-event.h>
#include <systemd/sd-id128.h>

#include "macro.h"

/*
 * The last lines that one run of a unit left in the journal, for the message that says how it went:
 * what its processes wrote, and what systemd says when it could not execute them.
 *
 * A process may be gone before journald has read what it wrote. So journald is first asked to take
 * in what it was sent (its varlink method io.systemd.Journal.Synchronize, as `journalctl --sync`
 * does: src/journal/journald-server.c in systemd; for root only), for five seconds at most, as it
 * writes to the disk then; after that the journal's files are read, a few look-ups in each. Of a
 * process that is gone by then journald still knows the unit, but not the run: such a line counts
 * when it came after the beginning of the run.
 */

#define JOURNAL_TAIL_LINES_MAX 20
#define JOURNAL_TAIL_SIZE_MAX  2048 /* bytes with the terminating zero */

typedef struct JournalTail JournalTail;

/* `lines`: the last ones that fit the limits, oldest first, each without control characters and in
 * UTF-8, separated by '\n'; the first may lack its beginning. NULL: there are none, or there is no
 * journal that we may read. The tail may be freed here. */
typedef void (*journal_tail_done_t)(const char *lines, void *userdata);

/* One run of one unit, by its properties (org.freedesktop.systemd1(5)). */
typedef struct JournalRun {
        sd_id128_t invocation; /* InvocationID; all zeros: nothing is found */
        const char *unit;      /* Id */
        uint64_t begun_usec;   /* ExecMainStartTimestamp; 0: it is not known, or the unit has no
                                other run */
} JournalRun;

/* Starts to read what `run` left, which is copied. Where journald can't be asked, what has not come
 * within half a second is not found. done() is never called from in here. */
_must_check_ int journal_tail_start(sd_event *event, const JournalRun *run,
                                    journal_tail_done_t done, void *userdata, JournalTail **ret);

/* Ends it; no callback after this. */
JournalTail *journal_tail_free(JournalTail *t);
DEFINE_CLEANUP_FUNC(JournalTail *, journal_tail_free);

/* Lines that are collected from the last to the first. */
typedef struct TailText {
        char text[JOURNAL_TAIL_SIZE_MAX];
        size_t start; /* the text is at text + start */
        size_t n_lines;
} TailText;

void tail_text_init(TailText *t);

/* Puts a line, which need not be clean, before the others. False: nothing more fits. */
bool tail_text_prepend(TailText *t, const char *line, size_t size);
