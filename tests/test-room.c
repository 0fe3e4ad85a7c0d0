/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <sys/statvfs.h>

#include "room.h"

static int root_fd;
static RoomPlace place;

static int setup(void **state)
{
        if (test_dir_setup(state) < 0)
                return -1;
        root_fd = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        place = (RoomPlace){
                .releases_fd = root_fd, .root = "/srv/web", .cache_dir = *state, .reserve_bytes = 0
        };
        return root_fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
        fd_close(root_fd);
        return test_dir_teardown(state);
}

static uint64_t free_bytes(void)
{
        struct statvfs s;

        assert_return_code(fstatvfs(root_fd, &s), errno);
        return (uint64_t) s.f_bavail * s.f_frsize;
}

static void expect_no_room(RoomNeed need, const char *part)
{
        _cleanup_free_ char *err = NULL;

        assert_int_equal(room_check(&place, &need, &err), -ENOSPC);
        if (!strstr(err, part))
                fail_msg("'%s' does not say '%s'", err, part);
}

/* Others write to this file system as well: far from its limits on both sides. */
static void what_fits_fits(void **state)
{
        const uint64_t half = free_bytes() / 2;
        char said[64];

        (void) state;
        assert_int_equal(room_check(&place, &(RoomNeed){ .tree_bytes = 1, .n_inodes = 1 }, NULL),
                         0);
        assert_int_equal(room_check(&place, &(RoomNeed){ .tree_bytes = half }, NULL), 0);
        assert_int_equal(
                room_check(&place, &(RoomNeed){ .tree_bytes = 1, .artifact_bytes = half }, NULL),
                0);
        (void) snprintf(said, sizeof(said), "needs %llu MiB on /srv/web (",
                        (unsigned long long) half * 3 >> 20);
        expect_no_room((RoomNeed){ .tree_bytes = half * 3 >> 20 << 20 }, said);
}

static void tree_and_download_count_together(void **state)
{
        const uint64_t two_thirds = free_bytes() / 3 * 2;

        (void) state;
        expect_no_room((RoomNeed){ .tree_bytes = two_thirds, .artifact_bytes = two_thirds },
                       "for the download), but ");
        /* Nothing is fetched. */
        place.cache_dir = NULL;
        assert_int_equal(
                room_check(&place,
                           &(RoomNeed){ .tree_bytes = two_thirds, .artifact_bytes = two_thirds },
                           NULL),
                0);
}

/* slipway-unpack may say anything. */
static void no_sum_is_too_large(void **state)
{
        (void) state;
        expect_no_room((RoomNeed){ .tree_bytes = UINT64_MAX, .artifact_bytes = 2 },
                       "needs 17592186044416 MiB");
        expect_no_room((RoomNeed){ .tree_bytes = UINT64_MAX - 1, .artifact_bytes = UINT64_MAX },
                       "needs 17592186044416 MiB");
}

static void what_is_spooled_counts_once(void **state)
{
        const RoomNeed need = { .tree_bytes = 1, .artifact_bytes = 4 << 20 };
        _cleanup_close_ int fd = openat(root_fd, "x.part", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        (void) state;
        assert_return_code(fd, errno);
        assert_int_equal(posix_fallocate(fd, 0, 3 << 20), 0);
        /* Holes are not there. */
        assert_return_code(ftruncate(fd, 1 << 30), errno);
        /* One megabyte is still to come, and so much has room. */
        place.reserve_bytes = free_bytes() - (2 << 20);
        if (room_check(&place, &need, NULL) < 0)
                skip(); /* somebody else writes here */
        place.reserve_bytes = free_bytes() - (1 << 19);
        assert_int_equal(room_check(&place, &need, NULL), -ENOSPC);
        assert_int_equal(unlinkat(root_fd, "x.part", 0), 0);
        place.reserve_bytes = free_bytes() - (2 << 20);
        assert_int_equal(room_check(&place, &need, NULL), -ENOSPC);
}

static void the_reserve_stays_free(void **state)
{
        (void) state;
        place.reserve_bytes = free_bytes() + (UINT64_C(1) << 40);
        expect_no_room((RoomNeed){ .tree_bytes = 1 }, "have to stay so: make room");
        place.reserve_bytes = ROOM_RESERVE_DEFAULT;
        assert_int_equal(room_check(&place, &(RoomNeed){ .tree_bytes = 1 }, NULL), 0);
}

static void inodes_count(void **state)
{
        struct statvfs s;

        (void) state;
        assert_return_code(fstatvfs(root_fd, &s), errno);
        if (s.f_files == 0)
                skip();
        expect_no_room((RoomNeed){ .n_inodes = s.f_files + 1 }, "files and directories, but only");
}

#define test_in_root(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_root(what_fits_fits),
                test_in_root(tree_and_download_count_together),
                test_in_root(no_sum_is_too_large),
                test_in_root(what_is_spooled_counts_once),
                test_in_root(the_reserve_stays_free),
                test_in_root(inodes_count),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
