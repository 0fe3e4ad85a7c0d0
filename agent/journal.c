/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <systemd/sd-journal.h>

#include "journal.h"
#include "log.h"

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

void journal_writev(int level, const JournalFields *fields, const char *format, va_list ap)
{
        _cleanup_free_ char *text = NULL;

        if (level > log_max_level())
                return;
        if (vasprintf(&text, format, ap) < 0) {
                text = NULL;
                return;
        }
        if (!stderr_is_journal() ||
            sd_journal_send("MESSAGE=%s", text, "PRIORITY=%i", level, "SLIPWAY_APP=%s", fields->app,
                            "SLIPWAY_RELEASE=%s", strempty(fields->release), "SLIPWAY_PHASE=%s",
                            strempty(fields->phase), NULL) < 0)
                log_write(level, "%s", text);
}
