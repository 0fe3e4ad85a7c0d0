/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <time.h>

#include "clock.h"
#include "json-read.h"
#include "state.h"

static const char *const phase_names[_PHASE_MAX] = {
        [PHASE_IDLE] = "idle",           [PHASE_FETCHING] = "fetching",
        [PHASE_WAITING] = "waiting",     [PHASE_PREPARING] = "preparing",
        [PHASE_SWITCHING] = "switching", [PHASE_RESTARTING] = "restarting",
        [PHASE_BAKING] = "baking",       [PHASE_CONFIRMING] = "confirming",
        [PHASE_FINISHING] = "finishing", [PHASE_REVERTING] = "reverting",
};

/* To where each phase may move. A phase may always be saved again. */
static const unsigned phase_next[_PHASE_MAX] = {
        [PHASE_IDLE] = 1U << PHASE_FETCHING | 1U << PHASE_WAITING | 1U << PHASE_PREPARING |
                       1U << PHASE_SWITCHING,
        [PHASE_FETCHING] = 1U << PHASE_WAITING | 1U << PHASE_PREPARING | 1U << PHASE_SWITCHING |
                           1U << PHASE_IDLE,
        [PHASE_WAITING] = 1U << PHASE_PREPARING | 1U << PHASE_SWITCHING | 1U << PHASE_IDLE,
        [PHASE_PREPARING] = 1U << PHASE_SWITCHING | 1U << PHASE_IDLE,
        [PHASE_SWITCHING] = 1U << PHASE_RESTARTING | 1U << PHASE_REVERTING | 1U << PHASE_IDLE,
        [PHASE_RESTARTING] = 1U << PHASE_BAKING | 1U << PHASE_REVERTING | 1U << PHASE_IDLE,
        /* Restarting once more: after a reboot. */
        [PHASE_BAKING] = 1U << PHASE_CONFIRMING | 1U << PHASE_FINISHING | 1U << PHASE_RESTARTING |
                         1U << PHASE_REVERTING | 1U << PHASE_IDLE,
        [PHASE_CONFIRMING] = 1U << PHASE_FINISHING | 1U << PHASE_RESTARTING |
                             1U << PHASE_REVERTING | 1U << PHASE_IDLE,
        [PHASE_FINISHING] = 1U << PHASE_RESTARTING | 1U << PHASE_REVERTING | 1U << PHASE_IDLE,
        [PHASE_REVERTING] = 1U << PHASE_IDLE,
};

static const char *const action_names[_ACTION_MAX] = {
        [ACTION_DEPLOY] = "deploy",
        [ACTION_ROLLBACK] = "rollback",
        [ACTION_STAGE] = "stage",
};

static const char *const result_names[_RESULT_MAX] = {
        [RESULT_DONE] = "done",
        [RESULT_REVERTED] = "reverted",
        [RESULT_FAILED] = "failed",
        [RESULT_DEFERRED] = "deferred",
};

static int find_name(const char *const *names, size_t n, const char *s)
{
        for (size_t i = 0; i < n; i++)
                if (streq(names[i], s))
                        return i;
        return -EINVAL;
}

const char *phase_to_string(Phase p)
{
        return phase_names[p];
}

Phase phase_from_string(const char *s)
{
        return find_name(phase_names, _PHASE_MAX, s);
}

const char *action_to_string(Action a)
{
        return action_names[a];
}

Action action_from_string(const char *s)
{
        return find_name(action_names, _ACTION_MAX, s);
}

const char *result_to_string(Result r)
{
        return result_names[r];
}

Result result_from_string(const char *s)
{
        return find_name(result_names, _RESULT_MAX, s);
}

int state_set(char **member, const char *value)
{
        char *copy = NULL;

        if (value) {
                copy = strdup(value);
                if (!copy)
                        return -ENOMEM;
        }
        free(*member);
        *member = copy;
        return 0;
}

static char **names_free(char **names)
{
        for (char **n = names; n && *n; n++)
                free(*n);
        free(names);
        return NULL;
}

static void pending_done(Pending *p)
{
        names_free(p->ran);
        free(p->release);
        free(p->from);
        free(p->by);
        free(p->reason);
        free(p->confirmed_by);
        *p = (Pending){};
}

static void staged_done(Staged *s)
{
        free(s->release);
        free(s->by);
        *s = (Staged){};
}

static void installed_done(Installed *i)
{
        free(i->release);
        activate_done(&i->activate);
}

static void event_done(Event *e)
{
        free(e->release);
        free(e->from);
        free(e->reason);
        free(e->by);
}

int state_new(const char *app, const char *channel, State **ret)
{
        _cleanup_(state_freep) State *s = calloc(1, sizeof(State));

        if (!s)
                return -ENOMEM;
        s->app = strdup(app);
        s->channel = strdup(channel);
        if (!s->app || !s->channel)
                return -ENOMEM;
        *ret = TAKE_PTR(s);
        return 0;
}

State *state_free(State *s)
{
        if (!s)
                return NULL;
        for (size_t i = 0; i < s->n_floors; i++)
                free(s->floors[i].channel);
        for (size_t i = 0; i < s->n_releases; i++)
                installed_done(&s->releases[i]);
        for (size_t i = 0; i < s->n_events; i++)
                event_done(&s->events[i]);
        pending_done(&s->pending);
        staged_done(&s->staged);
        hook_log_clear(&s->hooks);
        free(s->app);
        free(s->root);
        free(s->channel);
        free(s->current);
        free(s->last_good);
        free(s->pinned);
        free(s->pinned_by);
        free(s->failed);
        hold_done(&s->hold);
        free(s->failed_reason);
        free(s->floors);
        free(s->releases);
        free(s->events);
        free(s);
        return NULL;
}

void *state_grow(void **array, size_t *n, size_t size)
{
        void *larger = reallocarray(*array, *n + 1, size);

        if (!larger)
                return NULL;
        *array = larger;
        return memset((uint8_t *) larger + (*n)++ * size, 0, size);
}

int pending_set_ran(Pending *p, char *const *names)
{
        char **copy = calloc(PENDING_RAN_MAX + 1, sizeof(char *));

        for (size_t i = 0; copy && names[i]; i++) {
                assert(i < PENDING_RAN_MAX);
                copy[i] = strdup(names[i]);
                if (!copy[i])
                        copy = names_free(copy);
        }
        if (!copy)
                return -ENOMEM;
        names_free(p->ran);
        p->ran = copy;
        return 0;
}

bool pending_is_by_channel(const Pending *p)
{
        return p->action == ACTION_DEPLOY &&
               (streq_ptr(p->by, "agent") || strncmp(strempty(p->by), BY_FAR, STRLEN(BY_FAR)) == 0);
}

/* Changing */

/* The present phase ends, or goes on from here. The clock may have been set back meanwhile. */
static void count_phase(State *s)
{
        Pending *p = &s->pending;
        uint64_t now = clock_usec(CLOCK_REALTIME) / 1000;

        if (s->phase != PHASE_IDLE && p->phase_msec > 0 && now > p->phase_msec)
                p->took.msec[s->phase] += now - p->phase_msec;
        p->phase_msec = now;
}

void state_move(State *s, Phase next)
{
        assert(s->phase == next || phase_next[s->phase] & 1U << next);
        count_phase(s);
        s->phase = next;
}

void state_unpin(State *s)
{
        free(s->pinned);
        free(s->pinned_by);
        s->pinned = s->pinned_by = NULL;
        s->pinned_deployment = s->pinned_sec = 0;
}

void state_forget_failure(State *s)
{
        free(s->failed);
        free(s->failed_reason);
        s->failed = s->failed_reason = NULL;
        s->failed_deployment = s->failed_sec = 0;
}

void state_unstage(State *s)
{
        staged_done(&s->staged);
}

int state_begin(State *s, Action action, const char *release, const char *from, uint64_t deployment,
                uint64_t serial, const char *by)
{
        uint64_t now = clock_usec(CLOCK_REALTIME) / 1000;
        Pending p = { .deployment = deployment,
                      .serial = serial,
                      .action = action,
                      .started_msec = now,
                      .phase_msec = now };

        p.release = strdup(release);
        p.by = strdup(by);
        if (!p.release || !p.by || state_set(&p.from, from) < 0) {
                pending_done(&p);
                return -ENOMEM;
        }
        pending_done(&s->pending);
        s->pending = p;
        if (action == ACTION_DEPLOY)
                hook_log_clear(&s->hooks);
        return 0;
}

/* Another try of the same deployment that came to nothing: its reason may differ in a request's id
 * only, and the history has to hold the releases that ran, which a rollback looks for. */
static bool event_repeats(const Event *e, const Pending *p, Result result)
{
        return e->action == p->action && e->deployment == p->deployment && e->result == result &&
               (result == RESULT_FAILED || result == RESULT_DEFERRED) &&
               streq(e->release, p->release);
}

static int remember_staged(State *s)
{
        const Pending *p = &s->pending;
        Staged staged = { .deployment = p->deployment,
                          .serial = p->serial,
                          .since_sec = time(NULL),
                          .release = strdup(p->release),
                          .by = strdup(p->by) };

        if (!staged.release || !staged.by) {
                staged_done(&staged);
                return -ENOMEM;
        }
        staged_done(&s->staged);
        s->staged = staged;
        return 0;
}

static bool is_overtaken(const State *s, Result result)
{
        const Pending *p = &s->pending;

        if (result == RESULT_DONE)
                return streq_ptr(s->staged.release, p->release) ||
                       (p->action == ACTION_DEPLOY && p->deployment >= s->staged.deployment);
        /* What was given up is not offered again; what could not begin is. */
        return s->failed && s->failed_deployment == s->staged.deployment;
}

static int settle_staged(State *s, Result result)
{
        if (s->pending.action == ACTION_STAGE && result == RESULT_DONE)
                return remember_staged(s);
        if (s->staged.release && is_overtaken(s, result))
                state_unstage(s);
        return 0;
}

static Event *add_event_slot(State *s)
{
        if (s->n_events == STATE_HISTORY_MAX) {
                event_done(&s->events[0]);
                memmove(s->events, s->events + 1, --s->n_events * sizeof(Event));
        }
        return state_grow((void **) &s->events, &s->n_events, sizeof(Event));
}

/* The event of the pending transaction, which gives its strings. */
static int end_event(State *s, Result result, char *reason, Event **ret)
{
        Event *e = s->n_events > 0 ? &s->events[s->n_events - 1] : NULL;
        Pending *p = &s->pending;

        if (e && event_repeats(e, p, result))
                free(e->reason);
        else {
                e = add_event_slot(s);
                if (!e)
                        return -ENOMEM;
                *e = (Event){ .deployment = p->deployment,
                              .release = TAKE_PTR(p->release),
                              .from = TAKE_PTR(p->from),
                              .by = TAKE_PTR(p->by),
                              .action = p->action,
                              .result = result };
        }
        e->reason = reason;
        *ret = e;
        return 0;
}

int state_end(State *s, Result result, const char *reason)
{
        const Pending *p = &s->pending;
        _cleanup_free_ char *copy = NULL;
        Event *e;

        if (settle_staged(s, result) < 0 || state_set(&copy, reason) < 0)
                return -ENOMEM;
        count_phase(s);
        if (end_event(s, result, copy, &e) < 0)
                return -ENOMEM;
        copy = NULL;
        e->at_sec = p->phase_msec / 1000;
        e->took_msec = p->phase_msec > p->started_msec ? p->phase_msec - p->started_msec : 0;
        e->took = p->took;
        pending_done(&s->pending);
        s->phase = PHASE_IDLE;
        return 0;
}

static Installed *find_release(const State *s, const char *release)
{
        for (size_t i = 0; i < s->n_releases; i++)
                if (streq(s->releases[i].release, release))
                        return &s->releases[i];
        return NULL;
}

const Installed *state_find_release(const State *s, const char *release)
{
        return find_release(s, release);
}

const Installed *state_seed(const State *s, size_t n)
{
        const Installed *live = s->current ? state_find_release(s, s->current) : NULL;

        if (live && n-- == 0)
                return live;
        for (size_t k = s->n_releases; k-- > 0;)
                if (&s->releases[k] != live && n-- == 0)
                        return &s->releases[k];
        return NULL;
}

/* Where the history does not tell: the newest that is here and not known to be bad. */
static const char *newest_other(const State *s)
{
        const Installed *newest = NULL;

        for (size_t i = 0; i < s->n_releases; i++) {
                const Installed *other = &s->releases[i];

                if (!streq_ptr(other->release, s->current) &&
                    !streq_ptr(other->release, s->failed) &&
                    (!newest || other->installed_sec > newest->installed_sec))
                        newest = other;
        }
        return newest ? newest->release : NULL;
}

const char *state_release_before(const State *s)
{
        if (s->pending.release && s->pending.action == ACTION_DEPLOY && s->phase >= PHASE_SWITCHING)
                return s->pending.from;
        for (size_t i = s->n_events; i > 0; i--) {
                const Event *e = &s->events[i - 1];
                if (e->result != RESULT_DONE || e->action == ACTION_STAGE)
                        continue;
                if (!streq_ptr(e->release, s->current) && state_find_release(s, e->release))
                        return e->release;
                if (e->from && !streq_ptr(e->from, s->current) && state_find_release(s, e->from))
                        return e->from;
        }
        return newest_other(s);
}

int state_add_release(State *s, const char *release, uint64_t deployment, uint64_t serial,
                      const Sha256 *index_sha256, const Activate *activate)
{
        Installed i = { .deployment = deployment,
                        .serial = serial,
                        .installed_sec = time(NULL),
                        .index_sha256 = *index_sha256,
                        .release = strdup(release) };
        Installed *place = find_release(s, release);

        if (!i.release || activate_copy(activate, &i.activate) < 0) {
                free(i.release);
                return -ENOMEM;
        }
        if (place && sha256_equal(&place->index_sha256, index_sha256)) {
                i.size_bytes = place->size_bytes;
                i.own_bytes = place->own_bytes;
        }
        if (place)
                installed_done(place);
        else
                place = s->n_releases < STATE_RELEASES_MAX
                                ? state_grow((void **) &s->releases, &s->n_releases,
                                             sizeof(Installed))
                                : NULL;
        if (!place) {
                installed_done(&i);
                return s->n_releases < STATE_RELEASES_MAX ? -ENOMEM : -E2BIG;
        }
        *place = i;
        return 0;
}

void state_set_release_size(State *s, const char *release, uint64_t size_bytes, uint64_t own_bytes)
{
        Installed *i = find_release(s, release);

        if (!i)
                return;
        i->size_bytes = MIN(size_bytes, JSON_UINT_MAX);
        i->own_bytes = MIN(own_bytes, i->size_bytes);
}

/* Which of those after it share what was its own is not known: taken is the next one that shares
 * anything, since what the others share is mostly the same. */
static void hand_down(State *s, const Installed *from)
{
        for (Installed *i = s->releases + (from - s->releases) + 1; i < s->releases + s->n_releases;
             i++)
                if (i->own_bytes < i->size_bytes) {
                        i->own_bytes = MIN(i->size_bytes, i->own_bytes + from->own_bytes);
                        return;
                }
}

void state_remove_release(State *s, const char *release)
{
        Installed *i = find_release(s, release);

        if (!i)
                return;
        hand_down(s, i);
        installed_done(i);
        s->n_releases--;
        memmove(i, i + 1, (s->releases + s->n_releases - i) * sizeof(Installed));
}

static const Floor no_floor = {};

const Floor *state_floor(const State *s)
{
        for (size_t i = 0; i < s->n_floors; i++)
                if (streq(s->floors[i].channel, s->channel))
                        return &s->floors[i];
        return &no_floor;
}

int state_set_floor(State *s, uint64_t serial, uint64_t deployment, const Sha256 *digest)
{
        Floor *f = (Floor *) state_floor(s);

        if (f == &no_floor) {
                char *channel;
                if (s->n_floors == STATE_CHANNELS_MAX)
                        return -E2BIG;
                channel = strdup(s->channel);
                f = channel ? state_grow((void **) &s->floors, &s->n_floors, sizeof(Floor)) : NULL;
                if (!f) {
                        free(channel);
                        return -ENOMEM;
                }
                f->channel = channel;
        }
        f->serial = serial;
        f->deployment = deployment;
        f->sha256 = *digest;
        return 0;
}
