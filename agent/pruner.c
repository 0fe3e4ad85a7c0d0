/* SPDX-License-Identifier: Apache-2.0 */
#include "pruner.h"

#include "index-store.h"
#include "log.h"
#include "prune.h"
#include "sweep.h"

struct Pruner {
        Site *site;
        Sweep *sweep;
        bool again;
        void (*idle)(void *userdata);
        void *userdata;
};

int pruner_new(Site *site, void (*idle)(void *userdata), void *userdata, Pruner **ret)
{
        Pruner *p = malloc(sizeof(Pruner));

        if (!p)
                return -ENOMEM;
        *p = (Pruner){ .site = site, .idle = idle, .userdata = userdata };
        *ret = p;
        return 0;
}

Pruner *pruner_free(Pruner *p)
{
        if (!p)
                return NULL;
        sweep_free(p->sweep);
        free(p);
        return NULL;
}

static void on_swept(int result, const char *reason, void *userdata)
{
        Pruner *p = userdata;

        if (result < 0)
                site_log(p->site, LOG_WARNING,
                         "App %s: %s; it is tried again after the next deployment",
                         p->site->config->app, reason);
        p->sweep = sweep_free(p->sweep);
        p->idle(p->userdata);
}

/* With the lock held: what is not needed leaves the state first, then the disk. */
static int select_and_sweep(Pruner *p)
{
        Site *s = p->site;
        char **names = NULL;
        size_t n = 0;
        int r = site_reconcile(s);

        /* What nobody signed for is not removed, nor what belongs to another root. */
        if (r >= 0 && !streq_ptr(s->state->root, s->config->root))
                return 0;
        if (r >= 0)
                r = prune_select(s->releases_fd, s->state, s->config->keep, s->config->budget_bytes,
                                 &names, &n);
        if (r < 0 || n == 0) {
                free(names);
                return r < 0 ? r : index_store_prune(s->state_dir_fd, s->state);
        }
        r = site_save(s);
        if (r >= 0)
                r = index_store_prune(s->state_dir_fd, s->state);
        if (r >= 0)
                r = prune_retire(s->releases_fd, names, n);
        if (r < 0) {
                for (size_t i = 0; i < n; i++)
                        free(names[i]);
                free(names);
                return r;
        }
        return sweep_start(s->event, &s->unpack, s->releases_fd, names, n, on_swept, p, &p->sweep);
}

void pruner_run(Pruner *p)
{
        _cleanup_free_ char *err = NULL;
        Site *s = p->site;
        int r;

        if (p->sweep)
                return;
        r = site_lock(s, NULL, &err);
        if (r < 0) {
                p->again = true;
                return;
        }
        if (s->state->phase == PHASE_IDLE) {
                /* A crash in the last moment of a transaction. */
                site_clear_running(s);
                if (s->releases_fd >= 0)
                        r = select_and_sweep(p);
        }
        site_unlock(s);
        if (r < 0 && !p->again)
                site_log(s, LOG_WARNING, "App %s: can't look for what is not needed any more: %s",
                         s->config->app, strerror(-r));
        p->again = r < 0;
}

bool pruner_is_due(const Pruner *p)
{
        return p->again;
}

bool pruner_is_busy(const Pruner *p)
{
        return p->sweep;
}

void pruner_stop(Pruner *p)
{
        p->sweep = sweep_free(p->sweep);
}
