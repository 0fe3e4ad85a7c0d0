/* SPDX-License-Identifier: Apache-2.0 */
#include "unit-plan.h"

/* What a release does to one unit. */
typedef struct Doing {
        bool any, reload, start, restart, restart_or_reload, try_restart, stop;
} Doing;

static void strings_free(char **strings, size_t n)
{
        for (size_t i = 0; i < n; i++)
                free(strings[i]);
        free(strings);
}

void unit_plan_done(UnitPlan *p)
{
        for (size_t i = 0; i < p->n_steps; i++)
                free(p->steps[i].name);
        free(p->steps);
        strings_free(p->watched, p->n_watched);
        strings_free(p->unlinked, p->n_unlinked);
        strings_free(p->linked, p->n_linked);
        *p = (UnitPlan){};
}

static bool contains(char *const *names, const char *name)
{
        for (; names && *names; names++)
                if (streq(*names, name))
                        return true;
        return false;
}

static bool is_last_of_its_unit(const Activate *a, size_t n)
{
        for (size_t i = n + 1; i < a->n_units; i++)
                if (streq(a->units[i].name, a->units[n].name))
                        return false;
        return true;
}

static Doing doing_of(const Activate *a, const char *unit)
{
        Doing d = {};

        for (size_t i = 0; a && i < a->n_units; i++) {
                UnitAction action = a->units[i].action;
                if (!streq(a->units[i].name, unit))
                        continue;
                d.any = true;
                d.reload |= action == UNIT_RELOAD;
                d.start |= action == UNIT_START;
                d.restart |= action == UNIT_RESTART;
                d.restart_or_reload |= action == UNIT_RELOAD_OR_RESTART;
                d.try_restart |= action == UNIT_TRY_RESTART;
                d.stop |= action == UNIT_STOP;
        }
        return d;
}

/* It runs a process now that another release started, or none. */
static bool was_replaced(const Doing *d, bool ran)
{
        return d->restart || d->try_restart || d->stop || (d->start && !ran);
}

static bool was_started(const Doing *d)
{
        return d->restart || d->restart_or_reload || d->start;
}

static int add_step(UnitPlan *p, const char *unit, UnitAction action)
{
        ActivateUnit *steps = array_extend(p->steps, p->n_steps, sizeof(ActivateUnit));

        if (!steps)
                return -ENOMEM;
        p->steps = steps;
        steps[p->n_steps] = (ActivateUnit){ strdup(unit), action };
        return steps[p->n_steps].name ? (p->n_steps++, 0) : -ENOMEM;
}

static bool runs_in_the_end(const UnitPlan *p, const char *unit, bool runs)
{
        for (size_t i = 0; i < p->n_steps; i++) {
                UnitAction action = p->steps[i].action;
                if (!streq(p->steps[i].name, unit))
                        continue;
                if (action == UNIT_STOP)
                        runs = false;
                else if (action != UNIT_RELOAD && action != UNIT_TRY_RESTART)
                        runs = true;
        }
        return runs;
}

static int watch(UnitPlan *p, const char *unit)
{
        for (size_t i = 0; i < p->n_watched; i++)
                if (streq(p->watched[i], unit))
                        return 0;
        p->watched[p->n_watched] = strdup(unit);
        return p->watched[p->n_watched] ? (p->n_watched++, 0) : -ENOMEM;
}

static int finish(UnitPlan *p, const Activate *times, char *const *ran, UnitPlan *ret)
{
        int r = 0;

        p->watched = calloc(MAX(p->n_steps, (size_t) 1), sizeof(char *));
        if (!p->watched)
                return -ENOMEM;
        for (size_t i = 0; i < p->n_steps && r >= 0; i++) {
                const char *unit = p->steps[i].name;
                if (runs_in_the_end(p, unit, contains(ran, unit)))
                        r = watch(p, unit);
        }
        if (r < 0)
                return r;
        p->bake_usec = times->bake_usec;
        p->deadline_usec = times->deadline_usec;
        *ret = *p;
        *p = (UnitPlan){};
        return 0;
}

int unit_plan_watch(const UnitPlan *p, UnitPlan *ret)
{
        _cleanup_(unit_plan_done)
                UnitPlan copy = { .bake_usec = p->bake_usec, .deadline_usec = p->deadline_usec };
        int r = 0;

        for (size_t i = 0; i < p->n_steps && r >= 0; i++)
                r = add_step(&copy, p->steps[i].name, p->steps[i].action);
        if (r < 0)
                return r;
        copy.watched = calloc(p->n_watched + 1, sizeof(char *));
        if (!copy.watched)
                return -ENOMEM;
        for (; copy.n_watched < p->n_watched; copy.n_watched++) {
                copy.watched[copy.n_watched] = strdup(p->watched[copy.n_watched]);
                if (!copy.watched[copy.n_watched])
                        return -ENOMEM;
        }
        *ret = copy;
        copy = (UnitPlan){};
        return 0;
}

/* Forward */

static int add_orphans(UnitPlan *p, const Activate *to, const Activate *from)
{
        int r = 0;

        for (size_t i = 0; from && i < from->n_units && r >= 0; i++) {
                const char *unit = from->units[i].name;
                if (is_last_of_its_unit(from, i) && !doing_of(to, unit).any &&
                    unit_files_provide(from, unit) && !unit_files_provide(to, unit))
                        r = add_step(p, unit, UNIT_STOP);
        }
        return r;
}

int unit_plan_forward(const Activate *to, const Activate *from, char *const *ran, UnitPlan *ret)
{
        _cleanup_(unit_plan_done) UnitPlan p = {};
        int r = add_orphans(&p, to, from);

        p.n_before_files = p.n_steps;
        for (size_t i = 0; i < to->n_units && r >= 0; i++)
                r = add_step(&p, to->units[i].name, to->units[i].action);
        return r < 0 ? r : finish(&p, to, ran, ret);
}

/* Back */

/* What only the bad release started. */
static int add_stops(UnitPlan *p, const Activate *old, const Activate *bad, char *const *ran)
{
        int r = 0;

        for (size_t i = bad->n_units; i > 0 && r >= 0; i--) {
                const char *unit = bad->units[i - 1].name;
                Doing d = doing_of(bad, unit);
                if (is_last_of_its_unit(bad, i - 1) && !doing_of(old, unit).any &&
                    !contains(ran, unit) && was_started(&d))
                        r = add_step(p, unit, UNIT_STOP);
        }
        return r;
}

/* What only the bad release touched, and ran before. */
static int add_others(UnitPlan *p, const Activate *old, const Activate *bad, char *const *ran)
{
        int r = 0;

        for (size_t i = 0; i < bad->n_units && r >= 0; i++) {
                const char *unit = bad->units[i].name;
                Doing d = doing_of(bad, unit);
                if (!is_last_of_its_unit(bad, i) || doing_of(old, unit).any || !contains(ran, unit))
                        continue;
                if (was_replaced(&d, true))
                        r = add_step(p, unit, UNIT_RESTART);
                else if (d.reload || d.restart_or_reload)
                        r = add_step(p, unit, UNIT_RELOAD_OR_RESTART);
        }
        return r;
}

static int add_old(UnitPlan *p, const ActivateUnit *u, const Doing *bad, bool ran)
{
        bool replaced = was_replaced(bad, ran);
        bool needs_it_running = u->action == UNIT_RELOAD || u->action == UNIT_TRY_RESTART;

        if (needs_it_running && !ran)
                return was_started(bad) ? add_step(p, u->name, UNIT_STOP) : 0;
        if (u->action == UNIT_TRY_RESTART || (replaced && u->action != UNIT_STOP))
                return add_step(p, u->name, UNIT_RESTART);
        if (u->action == UNIT_RELOAD)
                return add_step(p, u->name, UNIT_RELOAD_OR_RESTART);
        return add_step(p, u->name, u->action);
}

int unit_plan_back(const Activate *old, const Activate *bad, char *const *ran, UnitPlan *ret)
{
        _cleanup_(unit_plan_done) UnitPlan p = {};
        int r = add_stops(&p, old, bad, ran);

        p.n_before_files = p.n_steps;
        for (size_t i = 0; old && i < old->n_units && r >= 0; i++) {
                const ActivateUnit *u = &old->units[i];
                Doing d = doing_of(bad, u->name);
                r = add_old(&p, u, &d, contains(ran, u->name));
        }
        if (r >= 0)
                r = add_others(&p, old, bad, ran);
        return r < 0 ? r : finish(&p, old ? old : bad, ran, ret);
}

/* Unit files */

static bool is_template_of(const char *file, const char *unit)
{
        const char *at = strchr(unit, '@'), *suffix = strrchr(unit, '.');
        size_t prefix_size = at ? (size_t) (at - unit) + 1 : 0;

        return at && suffix && strncmp(file, unit, prefix_size) == 0 &&
               streq(file + prefix_size, suffix);
}

bool unit_files_provide(const Activate *a, const char *unit)
{
        for (size_t i = 0; a && i < a->n_unit_files; i++) {
                const char *file = unit_file_name(a->unit_files[i]);
                if (streq(file, unit) || is_template_of(file, unit))
                        return true;
        }
        return false;
}
