/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <unistd.h>

#include <systemd/sd-journal.h>

#include "err.h"
#include "mask.h"
#include "report.h"
#include "time-text.h"

#define ENTRIES_MAX    600
#define ENTRY_SIZE_MAX 800 /* of its text */

/* A service's own entries, and what systemd says about it: fields without an underscore can be
 * written by anybody. */
static int match_agent(sd_journal *j, bool user)
{
        const char *own =
                user ? "_SYSTEMD_USER_UNIT=slipwayd.service" : "_SYSTEMD_UNIT=slipwayd.service";
        const char *about = user ? "USER_UNIT=slipwayd.service" : "UNIT=slipwayd.service";
        char by[24];
        int r = sd_journal_add_match(j, own, 0);

        (void) snprintf(by, sizeof(by), "_UID=%u", user ? (unsigned) geteuid() : 0);
        if (r >= 0)
                r = sd_journal_add_disjunction(j);
        if (r >= 0)
                r = sd_journal_add_match(j, about, 0);
        return r < 0 ? r : sd_journal_add_match(j, by, 0);
}

static void print_field(sd_journal *j, const char *name, FILE *f)
{
        _cleanup_free_ char *text = NULL;
        const char *data;
        size_t size, n = strlen(name) + 1;

        if (sd_journal_get_data(j, name, (const void **) &data, &size) < 0 || size < n)
                return;
        text = strndup(data + n, MIN(size - n, (size_t) ENTRY_SIZE_MAX + 1));
        if (!text)
                return;
        mask_cut(text, ENTRY_SIZE_MAX);
        fputs(text, f);
}

static void print_entry(sd_journal *j, FILE *f)
{
        char at[TIME_TEXT_SIZE] = "-";
        uint64_t usec;

        if (sd_journal_get_realtime_usec(j, &usec) >= 0)
                (void) time_format_utc(usec / 1000000, at);
        fprintf(f, "%s <", at);
        print_field(j, "PRIORITY", f);
        fputs("> ", f);
        print_field(j, "_PID", f);
        fputc(' ', f);
        print_field(j, "MESSAGE", f);
        fputc('\n', f);
}

static int print_last(sd_journal *j, FILE *f)
{
        int n = 0, r = sd_journal_seek_tail(j);

        if (r >= 0)
                r = sd_journal_previous_skip(j, ENTRIES_MAX);
        while (r > 0 && n < ENTRIES_MAX) {
                print_entry(j, f);
                n++;
                r = sd_journal_next(j);
        }
        if (r >= 0 && n == 0)
                fputs("there is none that this user may read\n", f);
        return r;
}

int report_journal(const Report *r, FILE *f, char **reterr)
{
        sd_journal *j;
        int error = sd_journal_open(&j, SD_JOURNAL_LOCAL_ONLY);

        if (error < 0)
                return fail_errno(reterr, error, "the journal");
        error = match_agent(j, r->check.user);
        if (error >= 0)
                error = print_last(j, f);
        sd_journal_close(j);
        return error < 0 ? fail_errno(reterr, error, "the journal") : 0;
}
