/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sched.h>
#include <semaphore.h>

#include "small-files.h"
#include "test.h"

#define N_FILES (SMALL_FILES_AHEAD * 10)

/* What the thread saw. */
typedef struct Seen {
        size_t n_made, fail_at; /* the n-th fails, from 1 on */
        sem_t *gate;            /* NULL: open */
} Seen;

static IndexFile files[N_FILES];

static int make(void *userdata, const IndexFile *f, const void *content, char **reterr)
{
        Seen *s = userdata;
        const uint8_t *p = content;

        if (s->gate)
                assert_return_code(sem_wait(s->gate), errno);
        assert_ptr_equal(f, &files[s->n_made]);
        for (size_t i = 0; i < f->size_bytes; i++)
                assert_int_equal(p[i], s->n_made & 0xff);
        if (++s->n_made != s->fail_at)
                return 0;
        *reterr = strdup("no room for it");
        return -ENOSPC;
}

static SmallFiles *start(Seen *s)
{
        SmallFiles *small;

        assert_return_code(small_files_new(make, s, &small), 0);
        return small;
}

static int add(SmallFiles *s, size_t n, char **reterr)
{
        void *room;
        int r;

        while ((r = small_files_room(s, &room, reterr)) == 0)
                sched_yield();
        if (r < 0)
                return r;
        files[n].size_bytes = n * 997 % (SMALL_FILE_MAX + 1);
        memset(room, (int) n, files[n].size_bytes);
        small_files_add(s, &files[n]);
        return 0;
}

static void test_all_are_made_in_order(void **state)
{
        Seen seen = {};
        SmallFiles *s = start(&seen);

        (void) state;
        for (size_t n = 0; n < N_FILES; n++)
                assert_return_code(add(s, n, NULL), 0);
        assert_return_code(small_files_finish(s, NULL), 0);
        assert_int_equal(seen.n_made, N_FILES);
        small_files_free(s);
}

static void test_none(void **state)
{
        Seen seen = {};
        SmallFiles *s = start(&seen);

        (void) state;
        assert_return_code(small_files_finish(s, NULL), 0);
        small_files_free(s);
        assert_int_equal(seen.n_made, 0);
}

/* Whoever adds learns of it, or else who waits for the end. */
static void test_error(void **state)
{
        Seen seen = { .fail_at = 3 };
        SmallFiles *s = start(&seen);
        _cleanup_free_ char *err = NULL, *last = NULL;
        int r = 0;

        (void) state;
        for (size_t n = 0; n < N_FILES && r == 0; n++)
                r = add(s, n, &err);
        assert_int_equal(r, -ENOSPC);
        assert_string_equal(err, "no room for it");
        assert_int_equal(small_files_finish(s, &last), -ENOSPC);
        assert_string_equal(last, "no room for it");
        small_files_free(s);
        assert_int_equal(seen.n_made, 3);
}

static void test_error_of_the_last(void **state)
{
        Seen seen = { .fail_at = 2 };
        SmallFiles *s = start(&seen);
        _cleanup_free_ char *err = NULL;

        (void) state;
        assert_return_code(add(s, 0, NULL), 0);
        assert_return_code(add(s, 1, NULL), 0);
        assert_int_equal(small_files_finish(s, &err), -ENOSPC);
        assert_string_equal(err, "no room for it");
        small_files_free(s);
}

/* Whoever finds no room does not wait. What waits when it ends is not made. */
static void test_end_before_all_are_made(void **state)
{
        sem_t gate;
        Seen seen = { .gate = &gate };
        SmallFiles *s;
        void *room;

        (void) state;
        assert_return_code(sem_init(&gate, 0, 0), errno);
        s = start(&seen);
        for (size_t n = 0; n < SMALL_FILES_AHEAD; n++)
                assert_return_code(add(s, n, NULL), 0);
        assert_int_equal(small_files_room(s, &room, NULL), 0);
        for (size_t n = 0; n < SMALL_FILES_AHEAD; n++)
                assert_return_code(sem_post(&gate), errno);
        small_files_free(s);
        assert_true(seen.n_made <= SMALL_FILES_AHEAD);
        assert_return_code(sem_destroy(&gate), errno);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_all_are_made_in_order),
                cmocka_unit_test(test_none),
                cmocka_unit_test(test_error),
                cmocka_unit_test(test_error_of_the_last),
                cmocka_unit_test(test_end_before_all_are_made),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
