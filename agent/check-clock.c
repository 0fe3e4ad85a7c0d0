/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/timex.h>

#include "check.h"
#include "err.h"
#include "fd.h"
#include "state-file.h"
#include "time-text.h"

#define AREA "clock"

/* Files may carry the time of a build machine in another time zone. */
#define PROGRAM_LEEWAY_SEC (UINT64_C(24) * 3600)
#define EVENT_LEEWAY_SEC   (UINT64_C(300))

#define MEND "set the clock, and keep it right: timedatectl set-ntp true"

static bool check_not_before(Check *c, uint64_t sec, uint64_t leeway_sec, const char *what)
{
        char now[TIME_TEXT_SIZE], then[TIME_TEXT_SIZE];

        if (c->now_sec + leeway_sec >= sec)
                return true;
        findings_add(&c->findings, FINDING_FAIL, AREA, "the clock says %s, but %s is from %s",
                     time_format_utc(c->now_sec, now), what, time_format_utc(sec, then));
        findings_mend(&c->findings, MEND);
        return false;
}

static bool check_program(Check *c)
{
        struct stat st;

        return stat("/proc/self/exe", &st) < 0 ||
               check_not_before(c, st.st_mtim.tv_sec, PROGRAM_LEEWAY_SEC, "this program");
}

static bool check_events(Check *c)
{
        _cleanup_close_ int dir_fd = dir_open_at(AT_FDCWD, c->paths.state_dir);
        bool well = true;

        for (size_t i = 0; dir_fd >= 0 && c->config && i < c->config->n_apps; i++) {
                _cleanup_(state_freep) State *s = NULL;

                if (state_load(dir_fd, c->config->apps[i].app, &s, NULL) >= 0 && s->n_events > 0)
                        well = check_not_before(c, s->events[s->n_events - 1].at_sec,
                                                EVENT_LEEWAY_SEC, "what was deployed here last") &&
                               well;
        }
        return well;
}

void check_clock(Check *c)
{
        struct timex t = {};
        int r = adjtimex(&t);
        bool plausible = check_program(c);
        char now[TIME_TEXT_SIZE];

        plausible = check_events(c) && plausible;
        (void) time_format_utc(c->now_sec, now);
        if (r >= 0 && (r == TIME_ERROR || t.status & STA_UNSYNC)) {
                findings_add(&c->findings, FINDING_WARN, AREA,
                             "nothing keeps the clock right (it says %s); a wrong one makes valid "
                             "manifests look expired",
                             now);
                findings_mend(&c->findings, "timedatectl set-ntp true");
        } else if (plausible)
                findings_add(&c->findings, FINDING_OK, AREA, "%s%s", now,
                             r < 0 ? "; whether something keeps it right can't be told here"
                                   : ", kept right");
}
