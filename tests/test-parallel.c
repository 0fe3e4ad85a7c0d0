/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>

#include "parallel.h"

#define N_ITEMS_MAX 1000

static bool refuses_threads;

/* Stands before the C library's. */
int pthread_create(pthread_t *id, const pthread_attr_t *attr, void *(*run)(void *), void *userdata)
{
        static int (*real)(pthread_t *, const pthread_attr_t *, void *(*) (void *), void *);

        if (refuses_threads)
                return EAGAIN;
        if (!real)
                *(void **) &real = dlsym(RTLD_NEXT, "pthread_create");
        return real(id, attr, run, userdata);
}

/* What a thread did; `count` is of all. */
typedef struct Hand {
        atomic_uint *count;
        size_t fails_at; /* SIZE_MAX: never */
        size_t n_done;
} Hand;

static int do_item(void *worker, size_t n, char **reterr)
{
        Hand *h = worker;

        h->n_done++;
        h->count[n]++;
        if (n != h->fails_at)
                return 0;
        *reterr = strdup("no room for it");
        return -ENOSPC;
}

static int share_out(size_t n_items, size_t n_at_once, size_t n_workers, size_t fails_at,
                     atomic_uint count[static N_ITEMS_MAX], char **reterr)
{
        const ParallelWork work = { do_item, n_items, n_at_once };
        Hand hands[PARALLEL_THREADS_MAX];
        void *workers[PARALLEL_THREADS_MAX];
        size_t n_done = 0;

        for (size_t i = 0; i < n_workers; i++) {
                hands[i] = (Hand){ .count = count, .fails_at = fails_at };
                workers[i] = &hands[i];
        }
        int r = parallel_do(&work, workers, n_workers, reterr);
        for (size_t i = 0; i < n_workers; i++)
                n_done += hands[i].n_done;
        assert_true(r < 0 ? n_done <= n_items : n_done == n_items);
        return r;
}

static void each_once(void **state)
{
        static const size_t n_items[] = { 0, 1, 2, 3, 5, 64, 65, N_ITEMS_MAX - 1, N_ITEMS_MAX };
        static const size_t n_at_once[] = { 1, 7, 64, 2000 };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(n_items); i++)
                for (size_t k = 0; k < ELEMENTSOF(n_at_once); k++)
                        for (size_t n = 1; n <= PARALLEL_THREADS_MAX; n++) {
                                atomic_uint count[N_ITEMS_MAX] = {};
                                assert_int_equal(share_out(n_items[i], n_at_once[k], n, SIZE_MAX,
                                                           count, NULL),
                                                 0);
                                for (size_t j = 0; j < N_ITEMS_MAX; j++)
                                        assert_int_equal(count[j], j < n_items[i]);
                        }
}

static void error_ends_all(void **state)
{
        static const size_t at[] = { 0, 499, 500, N_ITEMS_MAX - 1 };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(at); i++)
                for (size_t n = 1; n <= PARALLEL_THREADS_MAX; n++) {
                        atomic_uint count[N_ITEMS_MAX] = {};
                        _cleanup_free_ char *err = NULL;
                        assert_int_equal(share_out(N_ITEMS_MAX, 16, n, at[i], count, &err),
                                         -ENOSPC);
                        assert_string_equal(err, "no room for it");
                        for (size_t j = 0; j < N_ITEMS_MAX; j++)
                                assert_true(count[j] <= 1);
                        /* With one, nothing is begun after it. */
                        assert_true(n > 1 || at[i] + 1 == N_ITEMS_MAX || count[at[i] + 1] == 0);
                }
}

static void without_threads(void **state)
{
        atomic_uint count[N_ITEMS_MAX] = {};

        (void) state;
        refuses_threads = true;
        assert_int_equal(share_out(N_ITEMS_MAX, 16, PARALLEL_THREADS_MAX, SIZE_MAX, count, NULL),
                         0);
        refuses_threads = false;
        for (size_t j = 0; j < N_ITEMS_MAX; j++)
                assert_int_equal(count[j], 1);
}

static void as_many_as_are_of_use(void **state)
{
        (void) state;
        assert_int_equal(parallel_n_workers(&(ParallelWork){ do_item, 0, 64 }), 1);
        assert_int_equal(parallel_n_workers(&(ParallelWork){ do_item, 1, 1 }), 1);
        assert_int_equal(parallel_n_workers(&(ParallelWork){ do_item, 64, 64 }), 1);
        assert_in_range(parallel_n_workers(&(ParallelWork){ do_item, 1000, 1 }), 1,
                        PARALLEL_THREADS_MAX);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_once),
                cmocka_unit_test(error_ends_all),
                cmocka_unit_test(without_threads),
                cmocka_unit_test(as_many_as_are_of_use),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
