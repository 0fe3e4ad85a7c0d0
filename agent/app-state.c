/* SPDX-License-Identifier: Apache-2.0 */
#include "app-state.h"
#include "err.h"

int app_change_state(App *a, int (*change)(App *a), char **reterr)
{
        bool locked = site_is_locked(a->site);
        int r = locked ? 0 : site_lock(a->site, NULL, reterr);

        if (r < 0)
                return r;
        r = change(a);
        if (!locked)
                site_unlock(a->site);
        return r < 0 ? fail_errno(reterr, r, "can't change the state of app %s", a->config->app)
                     : 0;
}

int app_record_adopted(App *a)
{
        const Manifest *m = a->wanted;
        State *s = a->site->state;
        int r;

        s->deployment = m->deployment;
        state_unpin(s);
        if (s->staged.deployment <= m->deployment)
                state_unstage(s);
        r = state_set(&s->last_good, m->release);
        /* After the state was lost, how older releases go live is best known from this one. */
        for (size_t i = 0; r >= 0 && i < s->n_releases; i++)
                if (s->releases[i].serial == 0)
                        r = state_add_release(s, s->releases[i].release, m->deployment, m->serial,
                                              &s->releases[i].index_sha256, &m->activate);
        if (r >= 0)
                r = state_add_release(s, m->release, m->deployment, m->serial, &m->index.sha256,
                                      &m->activate);
        return r < 0 ? r : site_save(a->site);
}

int app_record_ahead(App *a)
{
        state_unstage(a->site->state);
        return site_save(a->site);
}

int app_record_again(App *a)
{
        return site_save(a->site);
}

int app_record_hold(App *a)
{
        Hold *h = &a->site->state->hold;

        hold_done(h);
        *h = a->new_hold;
        a->new_hold = (Hold){};
        return site_save(a->site);
}

int app_record_hold_ended(App *a)
{
        hold_done(&a->site->state->hold);
        return site_save(a->site);
}

int app_record_resumed(App *a)
{
        hold_done(&a->site->state->hold);
        state_unstage(a->site->state);
        state_unpin(a->site->state);
        state_forget_failure(a->site->state);
        return site_save(a->site);
}

int app_raise_floor(App *a, const Manifest *m, const Sha256 *digest, char **reterr)
{
        State *s = a->site->state;
        int r;

        if (m->serial == state_floor(s)->serial)
                return 0;
        r = site_lock(a->site, NULL, reterr);
        if (r < 0)
                return r;
        r = state_set_floor(a->site->state, m->serial, m->deployment, digest);
        if (r >= 0)
                r = site_save(a->site);
        site_unlock(a->site);
        if (r == -E2BIG)
                return fail(reterr, r,
                            "app %s has followed %d channels on this host, and can follow no other",
                            a->config->app, STATE_CHANNELS_MAX);
        return r < 0 ? fail_errno(reterr, r, "can't change the state of app %s", a->config->app)
                     : 0;
}
