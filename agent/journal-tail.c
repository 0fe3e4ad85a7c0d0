/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <systemd/sd-journal.h>
#include <systemd/sd-messages.h>

#include "clock.h"
#include "fd.h"
#include "journal-tail.h"
#include "log.h"
#include "utf8.h"

#define SYNC_SOCKET     "/run/systemd/journal/io.systemd.journal"
#define SYNC_REQUEST    "{\"method\":\"io.systemd.Journal.Synchronize\",\"parameters\":{}}"
#define SYNC_LIMIT_USEC (UINT64_C(5) * 1000000)
#define READ_LIMIT_USEC (UINT64_C(200) * 1000)

/* Where journald can't be asked: how often it is looked again, and for how long. */
#define AGAIN_USEC     (UINT64_C(50) * 1000)
#define AGAIN_MAX_USEC (UINT64_C(500) * 1000)

struct JournalTail {
        sd_id128_t invocation;
        char *unit;
        uint64_t begun_usec;
        uint64_t again_until_usec;
        int sync_fd;
        sd_event_source *sync_source, *time_source;
        journal_tail_done_t done;
        void *userdata;
};

JournalTail *journal_tail_free(JournalTail *t)
{
        if (!t)
                return NULL;
        sd_event_source_disable_unref(t->sync_source);
        sd_event_source_disable_unref(t->time_source);
        fd_close(t->sync_fd);
        free(t->unit);
        free(t);
        return NULL;
}

/* The text */

void tail_text_init(TailText *t)
{
        t->start = sizeof(t->text) - 1;
        t->text[t->start] = 0;
        t->n_lines = 0;
}

bool tail_text_prepend(TailText *t, const char *line, size_t size)
{
        char piece[JOURNAL_TAIL_SIZE_MAX];
        size_t separator = t->n_lines > 0 ? 1 : 0, n;

        if (t->n_lines >= JOURNAL_TAIL_LINES_MAX || t->start <= separator)
                return false;
        n = MIN(size, t->start - separator);
        memcpy(piece, line + size - n, n);
        for (size_t i = 0; i < n; i++)
                if (piece[i] == 0)
                        piece[i] = ' ';
        piece[n] = 0;
        utf8_clean(piece);
        t->start -= separator;
        if (separator)
                t->text[t->start] = '\n';
        t->start -= n;
        memcpy(t->text + t->start, piece, n);
        t->n_lines++;
        return true;
}

/* Reading */

static int match_unit(sd_journal *j, const char *unit)
{
        _cleanup_free_ char *match = NULL;
        int r;

        if (asprintf(&match, "_SYSTEMD_UNIT=%s", unit) < 0) {
                match = NULL;
                return -ENOMEM;
        }
        r = sd_journal_add_match(j, match, 0);
        return r < 0 ? r : sd_journal_add_disjunction(j);
}

static int match_run(sd_journal *j, const JournalTail *t)
{
        char id[SD_ID128_STRING_MAX], match[64];
        int r = match_unit(j, t->unit);

        if (r < 0)
                return r;

        (void) sd_id128_to_string(t->invocation, id);
        (void) snprintf(match, sizeof(match), "_SYSTEMD_INVOCATION_ID=%s", id);
        r = sd_journal_add_match(j, match, 0);
        if (r >= 0)
                r = sd_journal_add_disjunction(j);
        /* Said by systemd's own child, before the unit's program: "Failed to execute ...". Fields
         * without an underscore can be written by anybody, so these count from root only. */
        (void) snprintf(match, sizeof(match), "INVOCATION_ID=%s", id);
        if (r >= 0)
                r = sd_journal_add_match(j, match, 0);
        if (r >= 0)
                r = sd_journal_add_match(j, "MESSAGE_ID=" SD_MESSAGE_SPAWN_FAILED_STR, 0);
        return r < 0 ? r : sd_journal_add_match(j, "_UID=0", 0);
}

/* 1: the entry has this value; 0: another one; -ENOENT: there is no such field. */
static int compare_field(sd_journal *j, const char *name, const char *value)
{
        size_t size, prefix = strlen(name) + 1;
        const void *data;
        int r = sd_journal_get_data(j, name, &data, &size);

        if (r < 0)
                return r;
        return size == prefix + strlen(value) &&
               memcmp((const char *) data + prefix, value, size - prefix) == 0;
}

/* 1: of this run; 0: of another one; -ENOENT: journald does not know of which. */
static int is_of_run(sd_journal *j, const JournalTail *t)
{
        char id[SD_ID128_STRING_MAX];

        (void) sd_id128_to_string(t->invocation, id);
        if (compare_field(j, "INVOCATION_ID", id) > 0)
                return 1;
        return compare_field(j, "_SYSTEMD_INVOCATION_ID", id);
}

/* By the clock: to compare monotonic times the journal would have to know this boot's id, which is
 * hidden from us (ProcSubset=pid). */
static bool is_from_before(sd_journal *j, const JournalTail *t)
{
        uint64_t at_usec;

        return t->begun_usec > 0 && sd_journal_get_realtime_usec(j, &at_usec) >= 0 &&
               at_usec < t->begun_usec;
}

static int read_lines(sd_journal *j, const JournalTail *t, TailText *text)
{
        uint64_t end_usec = clock_usec(CLOCK_MONOTONIC) + READ_LIMIT_USEC;
        const void *data;
        size_t size;
        bool more = true;
        int r = sd_journal_seek_tail(j), is_ours;

        while (r >= 0 && more && clock_usec(CLOCK_MONOTONIC) < end_usec) {
                r = sd_journal_previous(j);
                if (r <= 0)
                        return r;
                is_ours = is_of_run(j, t);
                if (is_ours <= 0 && is_from_before(j, t))
                        return 0;
                /* An entry that was damaged, or has no text, is not the end of the others. */
                if (is_ours != 0 && sd_journal_get_data(j, "MESSAGE", &data, &size) >= 0 &&
                    size >= STRLEN("MESSAGE="))
                        more = tail_text_prepend(text, (const char *) data + STRLEN("MESSAGE="),
                                                 size - STRLEN("MESSAGE="));
        }
        return r;
}

/* All files of this host: those of a service that runs as a person's user lie in the person's. */
static int read_run(const JournalTail *t, TailText *text)
{
        sd_journal *j;
        int r = sd_journal_open(&j, SD_JOURNAL_LOCAL_ONLY);

        if (r < 0)
                return r;
        r = match_run(j, t);
        if (r >= 0)
                r = read_lines(j, t, text);
        sd_journal_close(j);
        return r;
}

/* Not yet: it may still come. */
static bool look_again(JournalTail *t)
{
        int r;

        if (t->sync_fd >= 0 || sd_id128_is_null(t->invocation) ||
            clock_usec(CLOCK_MONOTONIC) >= t->again_until_usec)
                return false;
        r = sd_event_source_set_time_relative(t->time_source, AGAIN_USEC);
        return r >= 0 && sd_event_source_set_enabled(t->time_source, SD_EVENT_ONESHOT) >= 0;
}

static void finish(JournalTail *t)
{
        TailText text;
        int r;

        (void) sd_event_source_set_enabled(t->sync_source, SD_EVENT_OFF);
        (void) sd_event_source_set_enabled(t->time_source, SD_EVENT_OFF);
        tail_text_init(&text);
        r = sd_id128_is_null(t->invocation) ? 0 : read_run(t, &text);
        if (r < 0)
                log_debug("Can't read the journal: %s", strerror(-r));
        if (r >= 0 && text.n_lines == 0 && look_again(t))
                return;
        t->done(text.n_lines > 0 ? text.text + text.start : NULL, t->userdata);
}

/* Asking journald */

static int on_synced(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        (void) source;
        (void) fd;
        (void) events;
        /* Whatever the answer says, more than this can't be done. */
        finish(userdata);
        return 0;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void) source;
        (void) usec;
        finish(userdata);
        return 0;
}

/* -ENOENT, -EACCES, ...: there is no journald that would listen to us. */
static int ask_journald(int *ret_fd)
{
        static const struct sockaddr_un address = { .sun_family = AF_UNIX,
                                                    .sun_path = SYNC_SOCKET };
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0 || connect(fd, (const struct sockaddr *) &address, sizeof(address)) < 0)
                return -errno;
        /* With its terminating zero, which ends a message of varlink. */
        if (send(fd, SYNC_REQUEST, sizeof(SYNC_REQUEST), MSG_NOSIGNAL) < 0)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int journal_tail_start(sd_event *event, const JournalRun *run, journal_tail_done_t done,
                       void *userdata, JournalTail **ret)
{
        _cleanup_(journal_tail_freep) JournalTail *t = calloc(1, sizeof(JournalTail));
        int r;

        if (!t)
                return -ENOMEM;
        *t = (JournalTail){ .invocation = run->invocation,
                            .unit = strdup(run->unit),
                            .begun_usec = run->begun_usec,
                            .again_until_usec = clock_usec(CLOCK_MONOTONIC) + AGAIN_MAX_USEC,
                            .sync_fd = -EBADF,
                            .done = done,
                            .userdata = userdata };
        if (!t->unit)
                return -ENOMEM;
        r = ask_journald(&t->sync_fd);
        if (r < 0)
                log_debug("Can't ask journald at %s: %s", SYNC_SOCKET, strerror(-r));
        else {
                r = sd_event_add_io(event, &t->sync_source, t->sync_fd, EPOLLIN, on_synced, t);
                if (r < 0)
                        return r;
        }
        r = sd_event_add_time_relative(event, &t->time_source, CLOCK_MONOTONIC,
                                       t->sync_fd >= 0 ? SYNC_LIMIT_USEC : 0, 0, on_time, t);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}
