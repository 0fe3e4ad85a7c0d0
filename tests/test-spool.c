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

static SpoolFile *open_file(Spool *s, uint8_t first, uint64_t n_chunks)
{
        const Sha256 d = digest(first);
        SpoolFile *f = NULL;

        assert_return_code(spool_file_open(s, &d, n_chunks * SPOOL_CHUNK_SIZE, &f, NULL), 0);
        assert_int_equal(spool_file_n_chunks(f), n_chunks);
        return f;
}

static void path_of(char ret[static PATH_MAX], const char *dir, uint8_t first, const char *suffix)
{
        char hex[SHA256_HEX_SIZE];
        const Sha256 d = digest(first);

        (void) snprintf(ret, PATH_MAX, "%s/%s%s", dir, sha256_to_hex(&d, hex), suffix);
}

static void chunks_are_remembered(void **state)
{
        _cleanup_(spool_freep) Spool *s = NULL;
        SpoolFile *f;

        assert_return_code(spool_open(*state, &s, NULL), 0);
        f = open_file(s, 1, 3);
        assert_return_code(spool_file_set(f, 1), 0);
        spool_file_free(f);
        s = spool_free(s);
        assert_return_code(spool_open(*state, &s, NULL), 0);
        f = open_file(s, 1, 3);
        assert_false(spool_file_has(f, 0));
        assert_true(spool_file_has(f, 1));
        assert_false(spool_file_has(f, 2));
        spool_file_free(f);
        /* Another size is another object. */
        f = open_file(s, 1, 4);
        assert_false(spool_file_has(f, 1));
        spool_file_free(f);
}

/* A map of an earlier boot may tell of bytes that never reached the disk. */
static void another_boot_begins_anew(void **state)
{
        _cleanup_(spool_freep) Spool *s = NULL;
        char map[PATH_MAX];
        uint8_t byte;
        SpoolFile *f;

        assert_return_code(spool_open(*state, &s, NULL), 0);
        f = open_file(s, 1, 2);
        assert_return_code(spool_file_set(f, 0), 0);
        spool_file_free(f);
        path_of(map, *state, 1, ".map");
        _cleanup_close_ int fd = open(map, O_RDWR | O_CLOEXEC);
        assert_int_equal(pread(fd, &byte, 1, 3), 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, 3), 1);
        f = open_file(s, 1, 2);
        assert_false(spool_file_has(f, 0));
        assert_return_code(spool_file_set(f, 1), 0);
        spool_file_free(f);
        f = open_file(s, 1, 2);
        assert_false(spool_file_has(f, 0));
        assert_true(spool_file_has(f, 1));
        spool_file_free(f);
}

/* Of three files only two have room: the oldest that is not open goes. */
static void room_is_made(void **state)
{
        const Sha256 fourth = digest(4);
        char path[PATH_MAX], *small;
        SpoolFile *second, *third, *none;
        Spool *s;

        if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
            mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0)
                skip();
        assert_true(asprintf(&small, "%s/small", (const char *) *state) > 0);
        assert_return_code(mkdir(small, 0700), 0);
        assert_return_code(mount("tmpfs", small, "tmpfs", 0, "size=40m"), 0);
        assert_return_code(spool_open(small, &s, NULL), 0);
        second = open_file(s, 2, 2); /* older than the first, but open */
        spool_file_free(open_file(s, 1, 2));
        third = open_file(s, 3, 2);
        path_of(path, small, 1, ".part");
        assert_int_equal(access(path, F_OK), -1);
        path_of(path, small, 2, ".part");
        assert_return_code(access(path, F_OK), 0);
        assert_int_equal(spool_file_open(s, &fourth, 2 * SPOOL_CHUNK_SIZE, &none, NULL), -ENOSPC);
        spool_file_free(second);
        spool_file_free(open_file(s, 4, 2));
        assert_int_equal(access(path, F_OK), -1);
        spool_file_free(third);
        spool_free(s);
        assert_return_code(umount2(small, MNT_DETACH), 0);
        free(small);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(chunks_are_remembered),
                test_in_dir(another_boot_begins_anew),
                test_in_dir(room_is_made),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
