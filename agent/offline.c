/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>

#include "app.h"
#include "err.h"
#include "offline.h"

typedef struct Outcome {
        sd_event *event;
        int result;
        char *text;
} Outcome;

static void on_told(int result, const char *text, void *userdata)
{
        Outcome *o = userdata;

        o->result = result;
        o->text = strdup(text);
        (void) sd_event_exit(o->event, 0);
}

static int open_app(const AgentOptions *options, const char *name, Agent **ret, App **ret_app,
                    char **reterr)
{
        _cleanup_(agent_freep) Agent *agent = NULL;
        AgentOptions offline = *options;
        sigset_t chld;
        App *app;
        int r;

        /* sd_event_add_child() wants it blocked. */
        sigemptyset(&chld);
        sigaddset(&chld, SIGCHLD);
        if (sigprocmask(SIG_BLOCK, &chld, NULL) < 0)
                return -errno;
        offline.offline = true;
        r = agent_new(&offline, &agent, reterr);
        if (r < 0)
                return r;
        app = agent_find_app(agent, name);
        if (!app)
                return fail(reterr, -ENOENT, "the configuration has no app %s", name);
        *ret = TAKE_PTR(agent);
        *ret_app = app;
        return 0;
}

int offline_rollback(const AgentOptions *options, const char *name, const char *release,
                     const char *by, char **ret_live, char **reterr)
{
        _cleanup_(agent_freep) Agent *agent = NULL;
        Outcome o = {};
        App *app = NULL;
        int r = open_app(options, name, &agent, &app, reterr);

        if (r < 0)
                return r;
        o.event = agent->event;
        r = app_rollback(app, release, by, on_told, &o, reterr);
        if (r < 0)
                return r;
        r = sd_event_loop(agent->event);
        if (r >= 0 && !o.text)
                r = -ENOMEM;
        if (r < 0 || o.result < 0) {
                r = fail(reterr, r < 0 ? r : o.result, "%s", r < 0 ? strerror(-r) : o.text);
                free(o.text);
                return r;
        }
        *ret_live = o.text;
        return 0;
}

int offline_resume(const AgentOptions *options, const char *name, char **reterr)
{
        _cleanup_(agent_freep) Agent *agent = NULL;
        App *app = NULL;
        int r = open_app(options, name, &agent, &app, reterr);

        return r < 0 ? r : app_resume(app, reterr);
}
