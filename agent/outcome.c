/* SPDX-License-Identifier: Apache-2.0 */
#include <time.h>

#include "outcome.h"

bool outcome_is_final(int error)
{
        return error == -EBADMSG;
}

static int condemn(State *s, const char *reason)
{
        int r;

        s->failed_deployment = s->pending.deployment;
        s->failed_sec = time(NULL);
        r = state_set(&s->failed, s->pending.release);
        return r < 0 ? r : state_set(&s->failed_reason, strempty(reason));
}

Result outcome_result_before_switch(int error)
{
        return error == -EAGAIN ? RESULT_DEFERRED : RESULT_FAILED;
}

int outcome_before_switch(State *s, int error, const char *reason)
{
        int r = outcome_is_final(error) ? condemn(s, reason) : 0;

        return r < 0 ? r : state_end(s, outcome_result_before_switch(error), reason);
}

static int record_success(State *s)
{
        s->down = false;
        if (s->pending.action == ACTION_DEPLOY) {
                /* A newer deployment that runs settles what was before it. */
                state_unpin(s);
                state_forget_failure(s);
        }
        return state_set(&s->last_good, s->pending.release);
}

static int record_failure(State *s, Result result, const char *reason)
{
        s->down = result == RESULT_FAILED;
        return s->pending.action == ACTION_DEPLOY ? condemn(s, reason) : 0;
}

/* A release chosen by hand stays, until the channel makes a newer deployment. */
static int record_pin(State *s)
{
        int r = state_set(&s->pinned, s->pending.release);

        if (r >= 0)
                r = state_set(&s->pinned_by, s->pending.by);
        s->pinned_deployment = MAX(s->deployment, s->pending.deployment);
        s->pinned_sec = time(NULL);
        return r;
}

int outcome_after_switch(Site *site, Result result, const char *reason)
{
        State *s = site->state;
        int r;

        s->deployment = MAX(s->deployment, s->pending.deployment);
        r = result == RESULT_DONE ? record_success(s) : record_failure(s, result, reason);
        if (r >= 0 && s->pending.action == ACTION_ROLLBACK)
                r = record_pin(s);
        if (r >= 0)
                r = site_reconcile(site);
        /* A link that is not ours is nothing that can be recorded. */
        if (r == -EINVAL)
                r = state_set(&s->current, NULL);
        return r < 0 ? r : state_end(s, result, reason);
}
