/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <syslog.h>

#include "macro.h"

/*
 * Log lines go to stderr: as plain words on a terminal, with a "<3>"-like prefix when systemd reads
 * them (JOURNAL_STREAM is set; the prefix is sd-daemon(3)'s), so that the journal keeps the level.
 * common/ logs at LOG_DEBUG only.
 */

/* Reads the environment once: JOURNAL_STREAM, and SLIPWAY_LOG_LEVEL (err, warning, notice, info,
 * debug; default info). `name` stands before each plain line; it must outlive the program. */
void log_open(const char *name);

void log_set_max_level(int level);
int log_max_level(void);

/* Logs one line. Keeps errno. */
void log_write(int level, const char *format, ...) _printf_(2, 3);

#define log_debug(...)                                     \
        ({                                                 \
                if (log_max_level() >= LOG_DEBUG)          \
                        log_write(LOG_DEBUG, __VA_ARGS__); \
        })
#define log_info(...)    log_write(LOG_INFO, __VA_ARGS__)
#define log_notice(...)  log_write(LOG_NOTICE, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, __VA_ARGS__)
#define log_error(...)   log_write(LOG_ERR, __VA_ARGS__)

/* Logs an error line and gives back the errno value, for `return log_error_errno(r, …)`. The line
 * holds what the format says; put err_text(r, err) or "%m"-like words there yourself. */
#define log_error_errno(error, ...)     \
        ({                              \
                int _e = (error);       \
                log_error(__VA_ARGS__); \
                _e;                     \
        })
