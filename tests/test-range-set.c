/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <unistd.h>

#include "fd.h"
#include "range-set.h"

/* Sets of the bytes of this many, as one char each. */
#define N_BYTES 64

static RangeSet *make_set(const char *bytes)
{
        RangeSet *s;

        assert_int_equal(range_set_new(&s), 0);
        for (size_t n = 0; bytes[n]; n++)
                if (bytes[n] == 'x')
                        assert_int_equal(range_set_add(s, n, 1), 0);
        return s;
}

/* As make_set() takes it; checks on the way that the ranges are in order and apart. */
static void show(const RangeSet *s, char ret[static N_BYTES + 1])
{
        uint64_t end = 0;

        memset(ret, '.', N_BYTES);
        ret[N_BYTES] = '\0';
        for (size_t n = 0; n < range_set_n(s); n++) {
                ByteRange range = range_set_get(s, n);

                assert_true(range.size > 0 && range.offset + range.size <= N_BYTES);
                assert_true(n == 0 || range.offset > end);
                memset(ret + range.offset, 'x', range.size);
                end = range.offset + range.size;
        }
}

static void assert_shows(const RangeSet *s, const char *bytes)
{
        char shown[N_BYTES + 1];

        show(s, shown);
        shown[strlen(bytes)] = '\0';
        assert_string_equal(shown, bytes);
}

static bool naive_has(const char *bytes, size_t offset, size_t size)
{
        for (size_t n = offset; n < offset + size; n++)
                if (bytes[n] != 'x')
                        return false;
        return true;
}

static void check_lookups(const RangeSet *s, const char *bytes)
{
        for (size_t offset = 0; offset < N_BYTES; offset++)
                for (size_t size = 0; offset + size <= N_BYTES; size++) {
                        ByteRange missing = {};
                        bool has = naive_has(bytes, offset, size);

                        assert_int_equal(range_set_has(s, offset, size), has);
                        assert_int_equal(range_set_missing(s, offset, offset + size, &missing),
                                         !has);
                        if (has)
                                continue;
                        size_t first = offset + strspn(bytes + offset, "x");
                        size_t run = MIN(strspn(bytes + first, "."), offset + size - first);
                        assert_int_equal(missing.offset, first);
                        assert_int_equal(missing.size, run);
                }
}

static void like_a_map_of_bytes(void **state)
{
        unsigned seed = 1;

        (void) state;
        for (size_t round = 0; round < 200; round++) {
                _cleanup_(range_set_freep) RangeSet *s = make_set("");
                char bytes[N_BYTES + 1], shown[N_BYTES + 1];

                memset(bytes, '.', N_BYTES);
                bytes[N_BYTES] = '\0';
                for (size_t n = 0; n < 12; n++) {
                        size_t offset = rand_r(&seed) % N_BYTES;
                        size_t size = rand_r(&seed) % 6 % (N_BYTES - offset + 1);

                        memset(bytes + offset, 'x', size);
                        assert_int_equal(range_set_add(s, offset, size), 0);
                        show(s, shown);
                        assert_string_equal(shown, bytes);
                }
                check_lookups(s, bytes);
        }
}

static void what_no_object_has(void **state)
{
        _cleanup_(range_set_freep) RangeSet *s = make_set("x");

        (void) state;
        assert_int_equal(range_set_add(s, UINT64_MAX, 1), -EINVAL);
        assert_int_equal(range_set_add(s, 1, INT64_MAX), -EINVAL);
        assert_int_equal(range_set_add(s, 1, UINT64_MAX), -EINVAL);
        assert_int_equal(range_set_add(s, INT64_MAX - 1, 1), 0);
        assert_false(range_set_has(s, 1, UINT64_MAX));
        assert_int_equal(range_set_bytes(s), 2);
}

static void sets_of_sets(void **state)
{
        _cleanup_(range_set_freep) RangeSet *a = make_set("xx..xx..x");
        _cleanup_(range_set_freep) RangeSet *b = make_set(".xx....x.x");

        (void) state;
        assert_int_equal(range_set_add_set(a, b), 0);
        assert_shows(a, "xxx.xx.xxx");
}

static void gaps(void **state)
{
        static const struct {
                const char *before, *after;
                uint64_t waste_max_bytes;
                size_t n_max;
        } table[] = {
                {"",                 "",                100, 1  },
                { "..x",             "..x",             100, 1  },
                { "x.x..x...x",      "x.x..x...x",      0,   100},
                { "x.x..x...x",      "xxx..x...x",      2,   100},
                { "x.x..x...x",      "xxxxxx...x",      3,   100},
                { "x.x..x...x",      "xxxxxxxxxx",      6,   100},
 /* those of one size go together, or not at all */
                { "x.x..x..x.x",     "xxx..x..xxx",     4,   100},
                { "x.x..x..x.x",     "xxxxxxxxxxx",     6,   100},
                { "x.x.x",           "x.x.x",           1,   100},
 /* however many bytes that takes */
                { "x.x..x...x....x", "x.x..x...x....x", 0,   5  },
                { "x.x..x...x....x", "xxx..x...x....x", 0,   4  },
                { "x.x..x...x....x", "xxxxxxxxxx....x", 0,   2  },
                { "x.x..x...x....x", "xxxxxxxxxxxxxxx", 0,   1  },
                { "x.x.x",           "xxxxx",           0,   2  },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(range_set_freep) RangeSet *s = make_set(table[i].before);

                assert_int_equal(range_set_close_gaps(s, table[i].waste_max_bytes, table[i].n_max),
                                 0);
                assert_shows(s, table[i].after);
        }
}

static void packed(void **state)
{
        _cleanup_(range_set_freep) RangeSet *s = make_set("xx..x"), *back = NULL, *none = NULL;
        _cleanup_(range_set_freep) RangeSet *empty = make_set("");
        size_t size;
        _cleanup_close_ int fd = range_set_pack(s, &size);

        (void) state;
        assert_true(fd >= 0);
        assert_int_equal(range_set_unpack(fd, size, 5, &back), 0);
        assert_shows(back, "xx..x");
        assert_int_equal(range_set_unpack(fd, size, 4, &none), -EBADMSG);
        assert_int_equal(range_set_unpack(fd, size - 1, 5, &none), -EBADMSG);
        assert_int_equal(range_set_unpack(fd, size + sizeof(ByteRange), 5, &none), -EBADMSG);
        assert_int_equal(range_set_unpack(fd, UINT64_MAX, 5, &none), -EBADMSG);
        assert_null(none);
        _cleanup_close_ int empty_fd = range_set_pack(empty, &size);
        assert_true(empty_fd >= 0);
        assert_int_equal(size, 0);
        assert_int_equal(range_set_unpack(empty_fd, size, 0, &none), 0);
        assert_int_equal(range_set_n(none), 0);
}

static void hostile(void **state)
{
        static const ByteRange table[][2] = {
                {{ 0, 2 },                    { 1, 2 }         }, /* overlap */
                { { 0, 2 },                   { 2, 2 }         }, /* touch */
                { { 4, 1 },                   { 0, 1 }         }, /* not in order */
                { { 0, 0 },                   { 1, 1 }         },
                { { 0, 1 },                   { 2, UINT64_MAX }},
                { { 0, 1 },                   { UINT64_MAX, 1 }},
                { { UINT64_MAX, UINT64_MAX }, { 2, 2 }         },
                { { 0, 1 },                   { 9, 2 }         }, /* past the end */
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_close_ int fd = memfd_sealed("test", table[i], sizeof(table[i]));
                RangeSet *s = NULL;

                assert_true(fd >= 0);
                assert_int_equal(range_set_unpack(fd, sizeof(table[i]), 10, &s), -EBADMSG);
                assert_null(s);
        }
}

static void too_many(void **state)
{
        _cleanup_(range_set_freep) RangeSet *s = make_set(""), *back = NULL;
        size_t size;

        (void) state;
        for (size_t n = 0; n < RANGES_MAX; n++)
                assert_int_equal(range_set_add(s, 2 * n, 1), 0);
        _cleanup_close_ int fd = range_set_pack(s, &size);
        assert_true(fd >= 0);
        assert_int_equal(range_set_unpack(fd, size, 2 * RANGES_MAX, &back), 0);
        assert_int_equal(range_set_bytes(back), RANGES_MAX);
        assert_int_equal(range_set_add(s, 2 * RANGES_MAX, 1), 0);
        assert_int_equal(range_set_pack(s, &size), -E2BIG);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(like_a_map_of_bytes),
                cmocka_unit_test(what_no_object_has),
                cmocka_unit_test(sets_of_sets),
                cmocka_unit_test(gaps),
                cmocka_unit_test(packed),
                cmocka_unit_test(hostile),
                cmocka_unit_test(too_many),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
