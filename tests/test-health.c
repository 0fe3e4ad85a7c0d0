/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <signal.h>

#include "health.h"

#define MSEC UINT64_C(1000)

/* The prober is tests/child-actor.c, whose answers stand in the URL. There are no units. */

typedef struct Heard {
        sd_event *event;
        unsigned n_started, n_done;
        int result;
        char *reason;
} Heard;

static int on_started(void *userdata)
{
        Heard *h = userdata;

        h->n_started++;
        return 0;
}

static void on_done(int result, const char *reason, void *userdata)
{
        Heard *h = userdata;

        h->n_done++;
        h->result = result;
        h->reason = reason ? strdup(reason) : NULL;
        assert_return_code(sd_event_exit(h->event, 0), 0);
}

typedef struct Case {
        const char *answers;
        uint64_t bake_msec, deadline_msec;
        HealthMode mode;
        int result;
        const char *reason; /* a part of it; NULL: none */
} Case;

static void check(const Case *c)
{
        static const UnitRunCallbacks callbacks = { on_started, on_done };
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(health_freep) Health *health = NULL;
        char url[128];
        HttpProbe probe = {
                .url = url, .status = 200, .interval_usec = 100 * MSEC, .timeout_usec = 60000 * MSEC
        };
        Activate activate = { .bake_usec = c->bake_msec * MSEC,
                              .deadline_usec = c->deadline_msec * MSEC,
                              .http = &probe,
                              .n_http = c->answers ? 1 : 0 };
        UnitPlan plan = {};
        Site site = {};
        CommandPlace place = { .site = &site, .release = "r1", .activate = &activate };
        Heard heard = {};

        (void) snprintf(url, sizeof(url), "http://[::1]/%s", strempty(c->answers));
        assert_return_code(sd_event_new(&event), 0);
        site.event = heard.event = event;
        assert_return_code(bus_new(event, true, &site.bus), 0);
        assert_return_code(unit_plan_forward(&activate, NULL, NULL, &plan), 0);
        assert_return_code(
                health_start(&place, &plan, UNIT_RUN_ALL, c->mode, &callbacks, &heard, &health), 0);
        assert_return_code(sd_event_loop(event), 0);
        assert_int_equal(heard.n_started, 1);
        assert_int_equal(heard.n_done, 1);
        if (heard.result != c->result || (heard.reason != NULL) != (c->reason != NULL) ||
            (c->reason && !strstr(heard.reason, c->reason)))
                fail_msg("%s: %d (%s)", strempty(c->answers), heard.result, strempty(heard.reason));
        free(heard.reason);
        health = health_free(health);
        bus_free(site.bus);
}

static void probes_decide(void **state)
{
        static const Case cases[] = {
  /* There is nothing to watch: no bake, which would be longer than a test may take.
  */
                {NULL,                       70000, 80000, HEALTH_NEEDED,   0,          NULL                                 },
                { "200",                     50,    60000, HEALTH_NEEDED,   0,          NULL                                 },
                { "503,503,503,503,200",     10,    60000, HEALTH_NEEDED,   0,          NULL                                 },
                { "200,503,200,503,503,200", 350,   60000, HEALTH_NEEDED,   0,          NULL                                 },
                { "200,die,200",             150,   60000, HEALTH_NEEDED,   0,          NULL                                 },
                { "200,503",                 30000, 60000, HEALTH_NEEDED,   -EIO,
                 "http://[::1]/200,503 answered 503, wanted 200"                                                             },
                { "302",                     1,     300,   HEALTH_NEEDED,   -ETIMEDOUT,
                 "http://[::1]/302 answered 302, wanted 200"                                                                 },
                { "hang",                    1,     300,   HEALTH_NEEDED,   -ETIMEDOUT,
                 "http://[::1]/hang has not answered yet"                                                                    },
                { "die",                     1,     300,   HEALTH_NEEDED,   -ETIMEDOUT, "slipway-fetch ended (exit status 1)"},
                { "503",                     50,    60000, HEALTH_REPORTED, 0,          "answered 503, wanted 200"           },
                { "200,503,503,503,503,200", 350,   60000, HEALTH_REPORTED, 0,          NULL                                 },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                check(&cases[i]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(probes_decide),
        };
        sigset_t child;

        if (sigemptyset(&child) < 0 || sigaddset(&child, SIGCHLD) < 0 ||
            sigprocmask(SIG_BLOCK, &child, NULL) < 0)
                return EXIT_FAILURE;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
