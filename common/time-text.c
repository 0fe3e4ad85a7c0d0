/* SPDX-License-Identifier: Apache-2.0 */
#include "time-text.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#define TIME_SEC_MAX    UINT64_C(253402300799) /* 9999-12-31T23:59:59Z */
#define DURATION_MAX    (UINT64_C(1) << 53)    /* microseconds: 285 years */
#define DURATION_DIGITS 16

char *time_format_utc(uint64_t sec, char buffer[static TIME_TEXT_SIZE])
{
        time_t t = (time_t) MIN(sec, TIME_SEC_MAX);
        struct tm tm;

        if (!gmtime_r(&t, &tm) ||
            strftime(buffer, TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm) != TIME_TEXT_SIZE - 1)
                buffer[0] = '\0';
        return buffer;
}

int time_parse_utc(const char *s, uint64_t *ret_sec)
{
        static const char form[] = "dddd-dd-ddTdd:dd:ddZ";
        char again[TIME_TEXT_SIZE];
        struct tm tm = {};
        time_t t;

        if (strlen(s) != sizeof(form) - 1)
                return -EBADMSG;
        for (size_t i = 0; form[i]; i++)
                if (form[i] == 'd' ? s[i] < '0' || s[i] > '9' : s[i] != form[i])
                        return -EBADMSG;
        if (sscanf(s, "%4d-%2d-%2dT%2d:%2d:%2dZ", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
                   &tm.tm_min, &tm.tm_sec) != 6)
                return -EBADMSG;
        tm.tm_year -= 1900;
        tm.tm_mon -= 1;
        t = timegm(&tm);
        /* timegm() takes the 31st of February for the 3rd of March: what comes out must be what
         * went in. */
        if (t < 0 || !streq(time_format_utc((uint64_t) t, again), s))
                return -EBADMSG;
        *ret_sec = (uint64_t) t;
        return 0;
}

static const struct {
        const char *name;
        uint64_t usec;
} duration_units[] = {
        {"h",    UINT64_C(3600000000)},
        { "min", UINT64_C(60000000)  },
        { "s",   UINT64_C(1000000)   },
        { "ms",  UINT64_C(1000)      },
};

char *duration_format(uint64_t usec, char buffer[static DURATION_TEXT_SIZE])
{
        if (usec == 0)
                return memcpy(buffer, "0s", sizeof("0s"));
        for (size_t i = 0; i < ELEMENTSOF(duration_units); i++)
                if (usec % duration_units[i].usec == 0) {
                        snprintf(buffer, DURATION_TEXT_SIZE, "%llu%s",
                                 (unsigned long long) (usec / duration_units[i].usec),
                                 duration_units[i].name);
                        return buffer;
                }
        snprintf(buffer, DURATION_TEXT_SIZE, "%lluus", (unsigned long long) usec);
        return buffer;
}

int duration_parse(const char *s, uint64_t *ret_usec)
{
        size_t n_digits = strspn(s, "0123456789");
        uint64_t n = 0;

        if (n_digits == 0 || n_digits > DURATION_DIGITS || (s[0] == '0' && n_digits > 1))
                return -EBADMSG;
        for (size_t i = 0; i < n_digits; i++)
                n = n * 10 + (uint64_t) (s[i] - '0');
        for (size_t i = 0; i < ELEMENTSOF(duration_units); i++)
                if (streq(s + n_digits, duration_units[i].name)) {
                        if (n > DURATION_MAX / duration_units[i].usec)
                                return -EBADMSG;
                        *ret_usec = n * duration_units[i].usec;
                        return 0;
                }
        return -EBADMSG;
}
