/* SPDX-License-Identifier: Apache-2.0 */
#include "parallel.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "err.h"

typedef struct Thread {
        struct Shared *shared;
        size_t number;
        void *worker;
        pthread_t id;
        bool started;
        int result;
        char *err;
} Thread;

typedef struct Shared {
        const ParallelWork *work;
        size_t n_shares;
        atomic_size_t next[PARALLEL_THREADS_MAX]; /* of each share */
        atomic_bool failed;
} Shared;

/* Counted once, by the first who asks: a sandbox may hide it later. */
static size_t n_cpus(void)
{
        static atomic_size_t counted;
        size_t n = counted;

        if (n == 0) {
                long found = sysconf(_SC_NPROCESSORS_ONLN);
                counted = n = (size_t) CLAMP(found, 1L, (long) PARALLEL_THREADS_MAX);
        }
        return n;
}

size_t parallel_n_workers(const ParallelWork *work)
{
        size_t n_portions = (work->n_items + work->n_at_once - 1) / work->n_at_once;

        return CLAMP(n_portions, (size_t) 1, n_cpus());
}

static size_t share_start(const Shared *s, size_t share)
{
        size_t n = s->work->n_items;

        return n / s->n_shares * share + MIN(share, n % s->n_shares);
}

static void work_on_share(Thread *t, size_t share)
{
        Shared *s = t->shared;
        const ParallelWork *work = s->work;
        size_t share_end = share_start(s, share + 1), n;

        while (!s->failed && (n = atomic_fetch_add(&s->next[share], work->n_at_once)) < share_end)
                for (size_t end = MIN(n + work->n_at_once, share_end); n < end && !s->failed; n++) {
                        t->result = work->do_item(t->worker, n, &t->err);
                        if (t->result < 0)
                                s->failed = true;
                }
}

/* Its own share, then what is left of the others'. */
static void *run(void *userdata)
{
        Thread *t = userdata;

        for (size_t i = 0; i < t->shared->n_shares && t->result >= 0; i++)
                work_on_share(t, (t->number + i) % t->shared->n_shares);
        return NULL;
}

int parallel_do(const ParallelWork *work, void *const workers[], size_t n_workers, char **reterr)
{
        Thread threads[PARALLEL_THREADS_MAX];
        Shared shared = { .work = work, .n_shares = n_workers };
        int r = 0;

        assert(n_workers >= 1 && n_workers <= PARALLEL_THREADS_MAX);
        for (size_t i = 0; i < n_workers; i++) {
                shared.next[i] = share_start(&shared, i);
                threads[i] = (Thread){ .shared = &shared, .number = i, .worker = workers[i] };
        }
        for (size_t i = 1; i < n_workers; i++)
                threads[i].started = pthread_create(&threads[i].id, NULL, run, &threads[i]) == 0;
        (void) run(&threads[0]);
        for (size_t i = 0; i < n_workers; i++) {
                Thread *t = &threads[i];
                if (t->started)
                        (void) pthread_join(t->id, NULL);
                if (r >= 0 && t->result < 0)
                        r = fail(reterr, t->result, "%s", err_text(t->result, t->err));
                free(t->err);
        }
        return r;
}
