/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <systemd/sd-journal.h>

#include "journal.h"
#include "log.h"
#include "utf8.h"

#define FIELDS_MAX 9

/* systemd.exec(5): the variable names device and inode of the stream, so that a program whose
 * stderr was redirected can tell. */
static bool stderr_is_journal(void)
{
        const char *stream = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat st;

        return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
               fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

typedef struct Entry {
        struct iovec fields[FIELDS_MAX];
        size_t n;
        bool failed; /* a field is missing */
} Entry;

static void entry_done(Entry *e)
{
        for (size_t i = 0; i < e->n; i++)
                free(e->fields[i].iov_base);
}

static void add_text(Entry *e, const char *name, const char *value)
{
        char *text;
        int n;

        if (!value)
                return;
        n = asprintf(&text, "%s=%s", name, value);
        if (n < 0)
                e->failed = true;
        else
                e->fields[e->n++] = (struct iovec){ text, (size_t) n };
}

static void add_number(Entry *e, const char *name, uint64_t value)
{
        char text[24];

        (void) snprintf(text, sizeof(text), "%" PRIu64, value);
        add_text(e, name, value > 0 ? text : NULL);
}

static bool send_entry(int level, const JournalFields *fields, const char *message)
{
        _cleanup_(entry_done) Entry e = {};
        char priority[] = { '0' + level, '\0' };

        add_text(&e, "MESSAGE", message);
        add_text(&e, "PRIORITY", priority);
        add_text(&e, "MESSAGE_ID", fields->id);
        add_text(&e, "SLIPWAY_APP", fields->app);
        add_text(&e, "SLIPWAY_CHANNEL", fields->channel);
        add_text(&e, "SLIPWAY_RELEASE", fields->release);
        add_text(&e, "SLIPWAY_PHASE", fields->phase);
        add_number(&e, "SLIPWAY_DEPLOYMENT", fields->deployment);
        add_number(&e, "SLIPWAY_SERIAL", fields->serial);
        return !e.failed && sd_journal_sendv(e.fields, (int) e.n) >= 0;
}

void journal_writev(int level, const JournalFields *fields, const char *format, va_list ap)
{
        _cleanup_free_ char *text = NULL;

        if (level > log_max_level())
                return;
        if (vasprintf(&text, format, ap) < 0) {
                text = NULL;
                return;
        }
        /* As log_write() does it, for the terminals of those who read it. */
        utf8_clean(text);
        if (!stderr_is_journal() || !send_entry(level, fields, text))
                log_write(level, "%s", text);
}

void journal_event(int level, const char *id, const char *format, ...)
{
        JournalFields fields = { .id = id };
        va_list ap;

        va_start(ap, format);
        journal_writev(level, &fields, format, ap);
        va_end(ap);
}
