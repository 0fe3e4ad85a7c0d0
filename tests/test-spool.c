/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <limits.h>
#include <sched.h>
#include <sys/mount.h>

#include "spool.h"

static Sha256 digest(uint8_t first)
{
        return (Sha256){ .bytes = { first } };
}

#define MIB (UINT64_C(1) << 20)

static SpoolFile *open_file(Spool *s, uint8_t first, uint64_t size)
{
        const Sha256 d = digest(first);
        SpoolFile *f = NULL;

        assert_return_code(spool_file_open(s, &d, size, &f, NULL), 0);
        return f;
}

static bool has(const SpoolFile *f, uint64_t offset, uint64_t size)
{
        return range_set_has(spool_file_have(f), offset, size);
}

/* Room for all of them. */
static int take_room(SpoolFile *f, uint64_t offset, uint64_t size)
{
        _cleanup_(range_set_freep) RangeSet *wanted = NULL;

        assert_return_code(range_set_new(&wanted), 0);
        assert_return_code(range_set_add(wanted, offset, size), 0);
        return spool_file_take_room(f, wanted, NULL);
}

static void path_of(char ret[static PATH_MAX], const char *dir, uint8_t first, const char *suffix)
{
        char hex[SHA256_HEX_SIZE];
        const Sha256 d = digest(first);

        (void) snprintf(ret, PATH_MAX, "%s/%s%s", dir, sha256_to_hex(&d, hex), suffix);
}

static void ranges_are_remembered(void **state)
{
        _cleanup_(spool_freep) Spool *s = NULL;
        SpoolFile *f;

        assert_return_code(spool_open(*state, &s, NULL), 0);
        f = open_file(s, 1, 3 * MIB);
        assert_int_equal(range_set_n(spool_file_have(f)), 0);
        assert_return_code(spool_file_add(f, MIB, 5), 0);
        assert_return_code(spool_file_add(f, MIB + 5, 5), 0);
        assert_return_code(spool_file_add(f, 3 * MIB - 1, 1), 0);
        spool_file_free(f);
        s = spool_free(s);
        assert_return_code(spool_open(*state, &s, NULL), 0);
        f = open_file(s, 1, 3 * MIB);
        assert_int_equal(range_set_n(spool_file_have(f)), 2);
        assert_int_equal(range_set_bytes(spool_file_have(f)), 11);
        assert_true(has(f, MIB, 10));
        assert_true(has(f, 3 * MIB - 1, 1));
        spool_file_free(f);
        /* Another size is another object. */
        f = open_file(s, 1, 4 * MIB);
        assert_int_equal(range_set_n(spool_file_have(f)), 0);
        spool_file_free(f);
}

static int open_map(const char *dir)
{
        char map[PATH_MAX];

        path_of(map, dir, 1, ".map");
        return open(map, O_RDWR | O_CLOEXEC);
}

/* A map of an earlier boot may tell of bytes that never reached the disk. */
static void another_boot_begins_anew(void **state)
{
        _cleanup_(spool_freep) Spool *s = NULL;
        uint8_t byte;
        SpoolFile *f;

        assert_return_code(spool_open(*state, &s, NULL), 0);
        f = open_file(s, 1, 2 * MIB);
        assert_return_code(spool_file_add(f, 0, MIB), 0);
        spool_file_free(f);
        _cleanup_close_ int fd = open_map(*state);
        assert_int_equal(pread(fd, &byte, 1, 3), 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, 3), 1);
        f = open_file(s, 1, 2 * MIB);
        assert_false(has(f, 0, 1));
        assert_return_code(spool_file_add(f, MIB, MIB), 0);
        spool_file_free(f);
        f = open_file(s, 1, 2 * MIB);
        assert_false(has(f, 0, 1));
        assert_true(has(f, MIB, MIB));
        spool_file_free(f);
}

static void check_begun_anew(Spool *s, char *dir, off_t map_size, const void *end, size_t end_size)
{
        SpoolFile *f = open_file(s, 1, 2 * MIB);
        _cleanup_close_ int fd = open_map(dir);
        char part[PATH_MAX];
        struct stat st;

        assert_return_code(take_room(f, 0, MIB), 0);
        assert_return_code(spool_file_add(f, 0, MIB), 0);
        spool_file_free(f);
        assert_return_code(ftruncate(fd, map_size), 0);
        assert_int_equal(pwrite(fd, end, end_size, map_size), end_size);
        f = open_file(s, 1, 2 * MIB);
        assert_int_equal(range_set_n(spool_file_have(f)), 0);
        path_of(part, dir, 1, ".part");
        assert_return_code(stat(part, &st), 0);
        assert_int_equal(st.st_blocks, 0);
        assert_int_equal(st.st_size, 2 * MIB);
        spool_file_free(f);
}

static void what_is_no_map_begins_anew(void **state)
{
        static const ByteRange past[] = {
                {2 * MIB,      1          },
                { 0,           2 * MIB + 1},
                { 2 * MIB - 1, 2          },
                { UINT64_MAX,  2          },
                { 1,           UINT64_MAX },
        };
        _cleanup_(spool_freep) Spool *s = NULL;

        assert_return_code(spool_open(*state, &s, NULL), 0);
        for (size_t i = 0; i < ELEMENTSOF(past); i++)
                check_begun_anew(s, *state, 16 + 16, &past[i], sizeof(ByteRange));
        check_begun_anew(s, *state, 16 + 16, "torn", 4);
        check_begun_anew(s, *state, 15, "", 0);
        check_begun_anew(s, *state, 0, "", 0);
        check_begun_anew(s, *state, 16 + 65536 * 16, past, sizeof(ByteRange));
        check_begun_anew(s, *state, INT64_C(1) << 40, "", 0);
}

static off_t size_of_map(const char *dir)
{
        _cleanup_close_ int fd = open_map(dir);
        struct stat st;

        assert_return_code(fstat(fd, &st), 0);
        return st.st_size;
}

/* While it is written to, and when it is opened. */
static void maps_do_not_grow_without_bound(void **state)
{
        _cleanup_(spool_freep) Spool *s = NULL;
        SpoolFile *f;

        assert_return_code(spool_open(*state, &s, NULL), 0);
        f = open_file(s, 1, 8 * MIB);
        for (size_t i = 0; i < 5000; i++) {
                assert_return_code(spool_file_add(f, i * 10, 10), 0);
                assert_true(size_of_map(*state) <= (1 + 2 + 1024) * 16 + 16);
        }
        spool_file_free(f);
        f = open_file(s, 1, 8 * MIB);
        assert_int_equal(range_set_n(spool_file_have(f)), 1);
        assert_true(has(f, 0, 50000));
        /* With as many ranges it has to. */
        for (size_t i = 0; i < 5000; i++)
                assert_return_code(spool_file_add(f, MIB + i * 10, 5), 0);
        spool_file_free(f);
        assert_true(size_of_map(*state) >= 16 + 5000 * 16);
        f = open_file(s, 1, 8 * MIB);
        assert_int_equal(range_set_n(spool_file_have(f)), 5001);
        for (size_t i = 0; i < 5000; i++)
                assert_return_code(spool_file_add(f, MIB + i * 10 + 5, 5), 0);
        assert_true(size_of_map(*state) <= (1 + 2 + 2 * 5001 + 1024) * 16);
        spool_file_free(f);
        f = open_file(s, 1, 8 * MIB);
        assert_int_equal(range_set_n(spool_file_have(f)), 2);
        assert_true(size_of_map(*state) <= (1 + 2 + 2 * 5001 + 1024) * 16);
        spool_file_free(f);
}

static void room_is_taken_for_what_is_wanted(void **state)
{
        _cleanup_(spool_freep) Spool *s = NULL;
        char part[PATH_MAX];
        struct stat st;
        SpoolFile *f;

        assert_return_code(spool_open(*state, &s, NULL), 0);
        f = open_file(s, 1, 64 * MIB);
        path_of(part, *state, 1, ".part");
        assert_return_code(stat(part, &st), 0);
        assert_int_equal(st.st_size, 64 * MIB);
        assert_int_equal(st.st_blocks, 0);
        assert_return_code(take_room(f, 8 * MIB, 2 * MIB), 0);
        assert_return_code(stat(part, &st), 0);
        assert_int_equal(st.st_size, 64 * MIB);
        assert_in_range(st.st_blocks * 512, 2 * MIB, 3 * MIB);
        spool_file_free(f);
}

static SpoolFile *open_with_room(Spool *s, uint8_t first)
{
        SpoolFile *f = open_file(s, first, 16 * MIB);

        assert_return_code(take_room(f, 0, 16 * MIB), 0);
        return f;
}

static void fill(int fd)
{
        off_t size = 16 * MIB;

        for (off_t at = 0; size >= 512; at += size)
                while (fallocate(fd, 0, at, size) < 0) {
                        assert_int_equal(errno, ENOSPC);
                        size /= 2;
                        if (size < 512)
                                return;
                }
}

/* Of three files only two have room: the oldest that is not open goes. */
static void room_is_made(void **state)
{
        const Sha256 fifth = digest(5);
        char path[PATH_MAX], *small;
        SpoolFile *second, *third, *fourth, *none;
        Spool *s;

        if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
            mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0)
                skip();
        assert_true(asprintf(&small, "%s/small", (const char *) *state) > 0);
        assert_return_code(mkdir(small, 0700), 0);
        assert_return_code(mount("tmpfs", small, "tmpfs", 0, "size=40m"), 0);
        assert_return_code(spool_open(small, &s, NULL), 0);
        second = open_with_room(s, 2); /* older than the first, but open */
        spool_file_free(open_with_room(s, 1));
        third = open_with_room(s, 3);
        path_of(path, small, 1, ".part");
        assert_int_equal(access(path, F_OK), -1);
        path_of(path, small, 2, ".part");
        assert_return_code(access(path, F_OK), 0);
        fourth = open_file(s, 4, 16 * MIB);
        assert_int_equal(take_room(fourth, 0, 16 * MIB), -ENOSPC);
        /* What is half made is not room that others leave. */
        _cleanup_close_ int fd = open(small, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
        fill(fd);
        assert_int_equal(spool_file_open(s, &fifth, 16 * MIB, &none, NULL), -ENOSPC);
        assert_return_code(ftruncate(fd, 0), 0);
        spool_file_free(second);
        assert_return_code(take_room(fourth, 0, 16 * MIB), 0);
        spool_file_free(fourth);
        assert_int_equal(access(path, F_OK), -1);
        spool_file_free(third);
        spool_free(s);
        assert_return_code(umount2(small, MNT_DETACH), 0);
        free(small);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(ranges_are_remembered),
                test_in_dir(another_boot_begins_anew),
                test_in_dir(what_is_no_map_begins_anew),
                test_in_dir(maps_do_not_grow_without_bound),
                test_in_dir(room_is_taken_for_what_is_wanted),
                test_in_dir(room_is_made),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
