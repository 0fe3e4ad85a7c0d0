/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "err.h"
#include "hook.h"
#include "log.h"
#include "stray.h"

/* EX_TEMPFAIL of sysexits.h: not now, try again later. */
#define EXIT_NOT_NOW 75

/* How often a hook is begun when it is cut off: the connection to systemd was lost, or it was
 * stopped from outside. */
#define TRIES_MAX 3

/* Bytes of a hook's last line in the message about its failure. */
#define LAST_LINE_MAX 200

struct HookRun {
        Site *site;
        CommandKind kind;
        size_t at;        /* the hook that is under way */
        unsigned n_tries; /* of this hook */
        Strays *strays;
        CommandRun *command;
        sd_event_source *end_source;
        int result;
        char *reason;
        hook_done_t done;
        void *userdata;
};

static void begin(HookRun *r);

HookRun *hook_run_free(HookRun *r)
{
        if (!r)
                return NULL;
        strays_free(r->strays);
        command_free(r->command);
        sd_event_source_disable_unref(r->end_source);
        free(r->reason);
        free(r);
        return NULL;
}

static int on_end(sd_event_source *source, void *userdata)
{
        HookRun *r = userdata;

        (void) source;
        r->done(r->result, r->result < 0 ? err_text(r->result, r->reason) : NULL, r->userdata);
        return 0;
}

/* Ends the run from the event loop. Takes `reason`. */
static void finish(HookRun *r, int result, char *reason)
{
        int k;

        r->result = result;
        free(r->reason);
        r->reason = reason;
        k = sd_event_source_set_enabled(r->end_source, SD_EVENT_ONESHOT);
        if (k < 0)
                site_log(r->site, LOG_CRIT, "App %s: the event loop is broken: %s",
                         r->site->config->app, strerror(-k));
}

static void finish_error(HookRun *r, int error, const char *what)
{
        char *reason = NULL;

        err_set(&reason, "can't run its %s hooks: %s", command_kind_to_string(r->kind), what);
        finish(r, error, reason);
}

/* The hooks */

static const Activate *activate_of(const HookRun *r)
{
        const State *s = r->site->state;

        return &state_find_release(s, s->pending.release)->activate;
}

static const Command *hooks_of(const Activate *a, CommandKind kind, size_t *ret_n)
{
        switch (kind) {
        case COMMAND_PRE:
                *ret_n = a->n_pre;
                return a->pre;
        case COMMAND_POST:
                *ret_n = a->n_post;
                return a->post;
        default:
                *ret_n = a->n_revert;
                return a->revert;
        }
}

static HookEntry *entry_of(HookRun *r)
{
        HookLog *log = &r->site->state->hooks;

        return r->kind == COMMAND_PRE    ? &log->pre
               : r->kind == COMMAND_POST ? &log->post
                                         : &log->revert;
}

static void note(HookRun *r, const CommandResult *result)
{
        const State *s = r->site->state;
        size_t n;
        const Command *hook = &hooks_of(activate_of(r), r->kind, &n)[r->at];
        int k = hook_entry_set(entry_of(r), s->pending.release, hook->argv[0], result->reason,
                               result->output);

        if (k < 0)
                site_log(r->site, LOG_WARNING, "App %s: how a hook ended can't be kept: %s",
                         r->site->config->app, strerror(-k));
}

static const char *last_line(const char *output)
{
        const char *end = output ? strrchr(output, '\n') : NULL;

        return end ? end + 1 : strempty(output);
}

static bool is_not_now(const HookRun *r, const CommandResult *result)
{
        return r->kind == COMMAND_PRE && result->exit_status == EXIT_NOT_NOW;
}

static char *describe_failure(const HookRun *r, const CommandResult *result)
{
        const char *line = last_line(result->output);
        char *text = NULL;

        err_set(&text, "%s hook %s%s%s%.*s", command_kind_to_string(r->kind), result->reason,
                is_not_now(r, result) ? ", which says: not now" : "", line[0] ? ": " : "",
                LAST_LINE_MAX, line);
        return text;
}

static void next(HookRun *r)
{
        r->at++;
        r->n_tries = 0;
        begin(r);
}

static void failed(HookRun *r, const CommandResult *result)
{
        char *reason = describe_failure(r, result);

        if (r->kind != COMMAND_REVERT) {
                finish(r, is_not_now(r, result) ? -EAGAIN : -EBADMSG, reason);
                return;
        }
        site_log(r->site, LOG_ERR, "App %s: going back, but %s", r->site->config->app,
                 strempty(reason));
        free(reason);
        next(r);
}

static void end_strays(HookRun *r);

static void on_command_done(const CommandResult *result, void *userdata)
{
        HookRun *r = userdata;
        _cleanup_(command_freep) CommandRun *ended = TAKE_PTR(r->command); /* owns result */

        (void) ended;
        if (result->error == -EHOSTDOWN && r->n_tries < TRIES_MAX) {
                site_log(r->site, LOG_WARNING, "App %s: %s; it is run again", r->site->config->app,
                         result->reason);
                end_strays(r);
        } else if (result->error == -EHOSTDOWN)
                finish_error(r, -EHOSTDOWN, result->reason);
        else {
                note(r, result);
                if (result->error < 0)
                        failed(r, result);
                else
                        next(r);
        }
}

/* Begins the next hook, if there is one. */
static void begin(HookRun *r)
{
        const State *s = r->site->state;
        CommandPlace place = { .site = r->site,
                               .release = s->pending.release,
                               .previous = s->pending.from,
                               .serial = s->pending.serial,
                               .activate = activate_of(r) };
        size_t n;
        const Command *hooks = hooks_of(place.activate, r->kind, &n);
        int k;

        if (r->at == n) {
                finish(r, 0, NULL);
                return;
        }
        r->n_tries++;
        k = command_start(&place, r->kind, &hooks[r->at], true, on_command_done, r, &r->command);
        if (k < 0)
                finish_error(r, k, strerror(-k));
        else
                site_log(r->site, LOG_INFO, "App %s: runs %s hook %s of release %s",
                         r->site->config->app, command_kind_to_string(r->kind),
                         hooks[r->at].argv[0], place.release);
}

static void on_strays_ended(int result, const char *reason, void *userdata)
{
        HookRun *r = userdata;
        _cleanup_(strays_freep) Strays *ended = TAKE_PTR(r->strays); /* owns reason */

        (void) ended;
        if (result < 0)
                finish_error(r, -EHOSTDOWN, reason);
        else
                begin(r);
}

static void end_strays(HookRun *r)
{
        int k = strays_end(r->site, on_strays_ended, r, &r->strays);

        if (k < 0)
                finish_error(r, k, strerror(-k));
}

int hook_run_start(Site *site, CommandKind kind, hook_done_t done, void *userdata, HookRun **ret)
{
        _cleanup_(hook_run_freep) HookRun *r = calloc(1, sizeof(HookRun));
        int k;

        if (!r)
                return -ENOMEM;
        *r = (HookRun){ .site = site, .kind = kind, .done = done, .userdata = userdata };
        k = sd_event_add_defer(site->event, &r->end_source, on_end, r);
        if (k >= 0)
                k = sd_event_source_set_enabled(r->end_source, SD_EVENT_OFF);
        if (k < 0)
                return k;
        end_strays(r);
        *ret = TAKE_PTR(r);
        return 0;
}
