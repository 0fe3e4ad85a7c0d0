/* SPDX-License-Identifier: Apache-2.0 */
#include "window.h"

#include <errno.h>
#include <stdio.h>

#include "err.h"
#include "time-text.h"

#define DAY_MIN       (24 * 60)
#define DAY_SEC       (UINT64_C(60) * DAY_MIN)
#define N_DAYS        7
#define WEEK_SEC      (N_DAYS * DAY_SEC)
#define EVERY_DAY     0x7f
#define EPOCH_WEEKDAY 3 /* 1970-01-01 was a Thursday */

static const char day_names[N_DAYS][4] = { "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun" };

/* Each reads from *p on and leaves there what it did not take; false: *ret_why says why. */

static bool parse_day(const char **p, unsigned *ret, const char **ret_why)
{
        for (unsigned i = 0; i < N_DAYS; i++)
                if (strncmp(*p, day_names[i], 3) == 0) {
                        *p += 3;
                        *ret = i;
                        return true;
                }
        *ret_why = "days are Mon, Tue, Wed, Thu, Fri, Sat and Sun";
        return false;
}

static bool parse_range(const char **p, uint8_t *days, const char **ret_why)
{
        unsigned first, last;

        if (!parse_day(p, &first, ret_why))
                return false;
        last = first;
        if (**p == '-') {
                (*p)++;
                if (!parse_day(p, &last, ret_why))
                        return false;
        }
        for (unsigned day = first;; day = (day + 1) % N_DAYS) {
                if (*days & 1U << day) {
                        *ret_why = "a day is named twice";
                        return false;
                }
                *days |= 1U << day;
                if (day == last)
                        return true;
        }
}

static bool parse_days(const char **p, uint8_t *ret, const char **ret_why)
{
        uint8_t days = 0;

        if (strncmp(*p, "daily", 5) == 0) {
                *p += 5;
                *ret = EVERY_DAY;
                return true;
        }
        for (;;) {
                if (!parse_range(p, &days, ret_why))
                        return false;
                if (**p != ',')
                        break;
                (*p)++;
        }
        *ret = days;
        return true;
}

static bool is_digit(char c)
{
        return c >= '0' && c <= '9';
}

static bool parse_time(const char **p, unsigned max_min, uint16_t *ret, const char **ret_why)
{
        const char *s = *p;
        unsigned hour, minute;

        *ret_why = "times are two digits, ':' and two digits, from 00:00 to 24:00";
        /* Stops at the NUL. */
        if (!is_digit(s[0]) || !is_digit(s[1]) || s[2] != ':' || !is_digit(s[3]) || !is_digit(s[4]))
                return false;
        hour = (s[0] - '0') * 10 + (s[1] - '0');
        minute = (s[3] - '0') * 10 + (s[4] - '0');
        if (minute > 59 || hour * 60 + minute > max_min)
                return false;
        *p += 5;
        *ret = hour * 60 + minute;
        return true;
}

static bool skip(const char **p, char c, const char **ret_why)
{
        *ret_why = "it is days, a space, and two times with '-' between them";
        if (**p != c)
                return false;
        (*p)++;
        return true;
}

static bool parse_span(const char *text, WindowSpan *ret, const char **ret_why)
{
        WindowSpan s = {};

        if (strlen(text) >= WINDOW_SPAN_TEXT_SIZE) {
                *ret_why = "it is too long";
                return false;
        }
        if (!parse_days(&text, &s.days, ret_why) || !skip(&text, ' ', ret_why) ||
            !parse_time(&text, DAY_MIN - 1, &s.begin_min, ret_why) || !skip(&text, '-', ret_why) ||
            !parse_time(&text, DAY_MIN, &s.end_min, ret_why) || !skip(&text, '\0', ret_why))
                return false;
        if (s.begin_min == s.end_min) {
                *ret_why = "it ends when it begins; the whole day is 00:00-24:00";
                return false;
        }
        *ret = s;
        return true;
}

int window_add(Window *w, const char *text, char **reterr)
{
        const char *why = NULL;
        WindowSpan s;

        if (w->n_spans == WINDOW_SPANS_MAX)
                return fail(reterr, -EBADMSG, "more than %d spans", WINDOW_SPANS_MAX);
        if (!parse_span(text, &s, &why))
                return fail(reterr, -EBADMSG,
                            "\"%s\" is no window like \"Mon-Thu 09:00-16:00\", \"Sat,Sun "
                            "22:00-04:00\" or \"daily 02:00-04:00\": %s",
                            text, why);
        w->spans[w->n_spans++] = s;
        return 0;
}

static bool has_day(const WindowSpan *s, unsigned day)
{
        return day < N_DAYS && s->days & 1U << day;
}

char *window_span_format(const WindowSpan *s, char buffer[static WINDOW_SPAN_TEXT_SIZE])
{
        char days[N_DAYS * sizeof(day_names[0]) + 1] = "daily", *end = days;

        for (unsigned first = 0, last; s->days != EVERY_DAY && first < N_DAYS; first = last + 1) {
                last = first;
                if (!has_day(s, first))
                        continue;
                while (has_day(s, last + 1))
                        last++;
                if (last - first < 2)
                        last = first;
                if (end != days)
                        end = stpcpy(end, ",");
                end = stpcpy(end, day_names[first]);
                if (last > first)
                        end = stpcpy(stpcpy(end, "-"), day_names[last]);
        }
        snprintf(buffer, WINDOW_SPAN_TEXT_SIZE, "%s %02u:%02u-%02u:%02u", days, s->begin_min / 60,
                 s->begin_min % 60, s->end_min / 60, s->end_min % 60);
        return buffer;
}

static uint64_t length_sec(const WindowSpan *s)
{
        return (uint64_t) 60 * (s->end_min > s->begin_min ? s->end_min - s->begin_min
                                                          : s->end_min + DAY_MIN - s->begin_min);
}

/* How long ago it began last on that day of the week. */
static uint64_t age_sec(const WindowSpan *s, unsigned day, uint64_t now_sec)
{
        uint64_t in_week_sec = (now_sec + EPOCH_WEEKDAY * DAY_SEC) % WEEK_SEC;

        return (in_week_sec + WEEK_SEC - day * DAY_SEC - UINT64_C(60) * s->begin_min) % WEEK_SEC;
}

/* How long the span that is open longest goes on; 0: none is. *ret_opens_sec: how long until the
 * next one begins. */
static uint64_t look(const Window *w, uint64_t now_sec, uint64_t *ret_opens_sec)
{
        uint64_t rest_sec = 0;

        *ret_opens_sec = WEEK_SEC;
        for (size_t i = 0; i < w->n_spans; i++)
                for (unsigned day = 0; day < N_DAYS; day++) {
                        const WindowSpan *s = &w->spans[i];
                        uint64_t age = age_sec(s, day, now_sec);

                        if (!has_day(s, day))
                                continue;
                        *ret_opens_sec = MIN(*ret_opens_sec, WEEK_SEC - age);
                        if (age < length_sec(s))
                                rest_sec = MAX(rest_sec, length_sec(s) - age);
                }
        return rest_sec;
}

bool window_is_open(const Window *w, uint64_t now_sec)
{
        uint64_t opens_sec;

        return w->n_spans == 0 || look(w, now_sec, &opens_sec) > 0;
}

uint64_t window_opens_sec(const Window *w, uint64_t now_sec)
{
        uint64_t opens_sec;

        return w->n_spans == 0 || look(w, now_sec, &opens_sec) > 0 ? now_sec : now_sec + opens_sec;
}

uint64_t window_closes_sec(const Window *w, uint64_t now_sec)
{
        uint64_t at_sec = now_sec, rest_sec, opens_sec;

        if (w->n_spans == 0)
                return UINT64_MAX;
        while ((rest_sec = look(w, at_sec, &opens_sec)) > 0) {
                at_sec += rest_sec;
                if (at_sec - now_sec >= WEEK_SEC)
                        return UINT64_MAX;
        }
        return at_sec;
}

char *window_to_text(const Window *w, uint64_t now_sec)
{
        char spans[WINDOW_SPANS_MAX * (WINDOW_SPAN_TEXT_SIZE + STRLEN(" and "))], *end = spans;
        char span[WINDOW_SPAN_TEXT_SIZE], at[TIME_TEXT_SIZE], *text = NULL;
        uint64_t closes_sec = window_closes_sec(w, now_sec);

        for (size_t i = 0; i < w->n_spans; i++)
                end = stpcpy(stpcpy(end, i > 0 ? " and " : ""),
                             window_span_format(&w->spans[i], span));
        if (closes_sec == UINT64_MAX)
                err_set(&text, "%s (UTC), which is always", spans);
        else if (closes_sec > now_sec)
                err_set(&text, "%s (UTC), which is open until %s", spans,
                        time_format_utc(closes_sec, at));
        else
                err_set(&text, "%s (UTC), which opens at %s", spans,
                        time_format_utc(window_opens_sec(w, now_sec), at));
        return text;
}
