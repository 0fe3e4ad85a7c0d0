/* SPDX-License-Identifier: Apache-2.0 */
#include "expiry.h"

#include <errno.h>
#include <stdio.h>

#include "err.h"
#include "json-read.h"

#define DAY_SEC   UINT64_C(86400)
#define AHEAD_MAX (36525 * DAY_SEC)

static bool parse_span(const char *text, uint64_t *ret_sec)
{
        size_t n_digits = strspn(text, "0123456789");
        uint64_t unit_sec;

        if (n_digits == 0 || n_digits > 9 || strlen(text) != n_digits + 1)
                return false;
        switch (text[n_digits]) {
        case 'h':
                unit_sec = 3600;
                break;
        case 'd':
                unit_sec = DAY_SEC;
                break;
        case 'w':
                unit_sec = 7 * DAY_SEC;
                break;
        default:
                return false;
        }
        *ret_sec = strtoull(text, NULL, 10) * unit_sec;
        return true;
}

static bool parse_day(const char *text, uint64_t *ret_sec)
{
        char end_of_day[TIME_TEXT_SIZE];

        if (strlen(text) != STRLEN("2027-01-31") ||
            snprintf(end_of_day, sizeof(end_of_day), "%sT23:59:59Z", text) !=
                    (int) sizeof(end_of_day) - 1)
                return false;
        return time_parse_utc(end_of_day, ret_sec) >= 0;
}

int expiry_parse_span(const char *option, const char *text, uint64_t *ret_sec, char **reterr)
{
        uint64_t span_sec;

        if (!parse_span(text, &span_sec) || span_sec > AHEAD_MAX)
                return fail(reterr, -EINVAL,
                            "--%s '%s' is not a span of at most a hundred years (12h, 30d, 8w)",
                            option, text);
        *ret_sec = span_sec;
        return 0;
}

int expiry_parse(const char *text, uint64_t now_sec, uint64_t *ret_sec, char **reterr)
{
        uint64_t span_sec, at_sec;

        if (parse_span(text, &span_sec))
                at_sec = now_sec + span_sec;
        else if (!parse_day(text, &at_sec) && time_parse_utc(text, &at_sec) < 0)
                return fail(
                        reterr, -EINVAL,
                        "--expires '%s' is neither a span (12h, 30d, 8w) nor a day (2027-01-31) "
                        "nor a time (2027-01-31T12:00:00Z)",
                        text);
        if (at_sec <= now_sec)
                return fail(reterr, -EINVAL, "--expires '%s' is not in the future", text);
        if (at_sec - now_sec > AHEAD_MAX)
                return fail(reterr, -EINVAL, "--expires '%s' is more than a hundred years ahead",
                            text);
        *ret_sec = at_sec;
        return 0;
}
