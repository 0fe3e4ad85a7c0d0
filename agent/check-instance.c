/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>

#include "check.h"
#include "err.h"
#include "fetcher.h"
#include "instance-watch.h"

#define AREA       "instance"
#define LIMIT_USEC (UINT64_C(30) * 1000000)

typedef struct Asked {
        sd_event *event;
        int result;
        Instance *instance;
        char *text;
} Asked;

static void on_told(int result, Instance *instance, const char *text, void *userdata)
{
        Asked *a = userdata;
        _cleanup_free_ char *packed = NULL;
        size_t size;

        a->result = result;
        if (result == 0)
                a->result = instance_pack(instance, &packed, &size);
        if (a->result >= 0)
                a->result = instance_unpack(packed, size, &a->instance);
        else
                err_set(&a->text, "%s", text);
        (void) sd_event_exit(a->event, 0);
}

static int on_limit(sd_event_source *source, uint64_t usec, void *userdata)
{
        Asked *a = userdata;

        (void) source, (void) usec;
        a->result = fail(&a->text, -ETIMEDOUT, "it did not answer within half a minute");
        return sd_event_exit(a->event, 0);
}

static int ask_by(Check *c, Asked *a, Fetcher **fetcher, InstanceWatch **watch)
{
        Identity identity = {};
        sigset_t signals;
        int r = c->user ? 0 : identity_lookup("slipway", &identity, &a->text);

        if (r < 0)
                return r;
        /* sd_event_add_child() wants it so. */
        sigemptyset(&signals);
        sigaddset(&signals, SIGCHLD);
        if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
                return -errno;
        r = sd_event_new(&a->event);
        if (r >= 0)
                r = fetcher_new(a->event, NULL, c->paths.cache_dir, NULL, &identity, fetcher);
        if (r >= 0)
                r = instance_watch_new(a->event, *fetcher, 2 * LIMIT_USEC, on_told, a, watch);
        if (r >= 0)
                r = sd_event_add_time_relative(a->event, NULL, CLOCK_BOOTTIME, LIMIT_USEC, 0,
                                               on_limit, a);
        if (r >= 0)
                r = sd_event_loop(a->event);
        return r < 0 ? r : a->result;
}

static int ask(Check *c, Instance **ret, char **reterr)
{
        Asked a = {};
        Fetcher *fetcher = NULL;
        InstanceWatch *watch = NULL;
        int r = ask_by(c, &a, &fetcher, &watch);

        instance_watch_free(watch);
        fetcher_free(fetcher);
        sd_event_unref(a.event);
        *ret = a.instance;
        if (r < 0)
                err_set(reterr, "%s", err_text(r, a.text));
        free(a.text);
        return r;
}

static void say_failed(Check *c, int error, const char *err, bool needed)
{
        findings_add(&c->findings, needed ? FINDING_FAIL : FINDING_WARN, AREA,
                     "who this host is can't be asked: %s", err);
        if (error == -EACCES)
                findings_mend(&c->findings, "aws ec2 modify-instance-metadata-options "
                                            "--instance-id ID --http-endpoint enabled");
        else if (error == -EINVAL)
                findings_mend(&c->findings, "correct /etc/slipway/environment");
        else
                findings_mend(&c->findings,
                              "see that the metadata service can be reached from "
                              "here, or set \"instance\", \"tags\" and what else is "
                              "needed in %s",
                              c->config_path);
}

static void say_found(Check *c, const Instance *i)
{
        findings_add(&c->findings, FINDING_OK, AREA, "this is %s in %s, with %zu tag%s%s%s", i->id,
                     i->region ? i->region : "an unknown region", i->n_tags,
                     i->n_tags == 1 ? "" : "s", i->tags_from ? " from " : "",
                     strempty(i->tags_from));
        if (i->tags_error)
                findings_add(&c->findings, FINDING_WARN, AREA, "%s", i->tags_error);
}

int check_instance(Check *c, bool needed, Instance **ret)
{
        _cleanup_free_ char *err = NULL;
        int r = ask(c, ret, &err);

        if (r < 0)
                say_failed(c, r, err_text(r, err), needed);
        else
                say_found(c, *ret);
        return r;
}
