/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"
#include "utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static const char *log_name = NULL;
static int max_level = LOG_INFO;
static bool with_prefix = false;

static const char *const level_names[] = {
        [LOG_ERR] = "err",   [LOG_WARNING] = "warning", [LOG_NOTICE] = "notice",
        [LOG_INFO] = "info", [LOG_DEBUG] = "debug",
};

void log_open(const char *name)
{
        const char *wanted = getenv("SLIPWAY_LOG_LEVEL");

        log_name = name;
        with_prefix = getenv("JOURNAL_STREAM") && !isatty(STDERR_FILENO);
        for (int i = 0; wanted && i < (int) ELEMENTSOF(level_names); i++)
                if (level_names[i] && streq(level_names[i], wanted))
                        max_level = i;
}

void log_set_max_level(int level)
{
        max_level = level;
}

int log_max_level(void)
{
        return max_level;
}

void log_write(int level, const char *format, ...)
{
        int saved_errno = errno;
        char line[4096];
        va_list ap;

        if (level > max_level)
                return;
        va_start(ap, format);
        if (vsnprintf(line, sizeof(line), format, ap) < 0)
                line[0] = '\0';
        va_end(ap);

        /* One line is one entry: what came from outside must not start another one. */
        utf8_clean(line);

        if (with_prefix)
                dprintf(STDERR_FILENO, "<%d>%s\n", level, line);
        else if (log_name)
                dprintf(STDERR_FILENO, "%s: %s\n", log_name, line);
        else
                dprintf(STDERR_FILENO, "%s\n", line);
        errno = saved_errno;
}
