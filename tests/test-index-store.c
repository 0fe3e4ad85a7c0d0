/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <sys/stat.h>

#include "index-store.h"

static int state_dir_fd;
static State *s;

/* The smallest index there is, as publishers make it: one frame, no file. */
static void make_index(uint32_t artifact_size, void **ret, size_t *ret_size, Sha256 *ret_digest)
{
        _cleanup_(index_writer_freep) IndexWriter *w = NULL;
        Frame frame = { .size_bytes = artifact_size, .content_size_bytes = 1024 };

        assert_int_equal(index_writer_new(&w), 0);
        assert_int_equal(index_writer_add_frame(w, &frame), 0);
        assert_int_equal(index_writer_format(w, ret, ret_size, NULL), 0);
        assert_int_equal(sha256(*ret, *ret_size, ret_digest), 0);
}

static int take(const char *release, const void *data, size_t size, const Sha256 *digest)
{
        _cleanup_close_ int fd = memfd_sealed("index", data, size);
        _cleanup_free_ char *err = NULL;
        int r = index_store_take(state_dir_fd, "web", release, fd, size, digest, &err);

        assert_true(r == 0 || err);
        return r;
}

static int load(const char *release, const Sha256 *digest, uint64_t *ret_artifact_size)
{
        _cleanup_(index_freep) Index *i = NULL;
        _cleanup_free_ char *err = NULL;
        int r = index_store_load(state_dir_fd, "web", release, digest, &i, &err);

        assert_true(r == 0 ? i != NULL : err != NULL);
        if (r == 0)
                *ret_artifact_size = index_artifact_size(i);
        return r;
}

static bool is_there(const char *path)
{
        return faccessat(state_dir_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void put(const char *name, const void *data, size_t size)
{
        _cleanup_close_ int fd = dir_open_at(state_dir_fd, "web.index");

        assert_true(fd >= 0);
        assert_int_equal(file_write_atomic_at(fd, name, data, size, 0600), 0);
}

static void what_was_taken_comes_back(void **state)
{
        _cleanup_free_ void *old = NULL, *new = NULL;
        size_t old_size, new_size;
        Sha256 old_digest, new_digest;
        uint64_t artifact_size;

        (void) state;
        make_index(20, &old, &old_size, &old_digest);
        make_index(30, &new, &new_size, &new_digest);
        assert_int_equal(load("r1", &old_digest, &artifact_size), -ENOENT);
        assert_int_equal(take("r1", old, old_size, &old_digest), 0);
        assert_int_equal(load("r1", &old_digest, &artifact_size), 0);
        assert_int_equal(artifact_size, 20);

        /* The same id with other content. */
        assert_int_equal(load("r1", &new_digest, &artifact_size), -ENOENT);
        assert_int_equal(take("r1", new, new_size, &new_digest), 0);
        assert_int_equal(load("r1", &new_digest, &artifact_size), 0);
        assert_int_equal(artifact_size, 30);
        assert_int_equal(load("r1", &old_digest, &artifact_size), -ENOENT);
}

static void what_was_not_signed_is_not_kept(void **state)
{
        _cleanup_free_ void *old = NULL, *other = NULL;
        size_t old_size, other_size;
        Sha256 old_digest, other_digest;
        uint64_t artifact_size;

        (void) state;
        make_index(20, &old, &old_size, &old_digest);
        make_index(30, &other, &other_size, &other_digest);
        assert_int_equal(take("r1", old, old_size, &old_digest), 0);
        assert_int_equal(take("r1", old, old_size, &other_digest), -EKEYREJECTED);
        assert_int_equal(take("r1", old, old_size - 1, &old_digest), -EKEYREJECTED);
        assert_int_equal(load("r1", &old_digest, &artifact_size), 0);
        /* Nothing written aside is left. */
        assert_int_equal(index_store_prune(state_dir_fd, s), 0);
        assert_int_equal(unlinkat(state_dir_fd, "web.index", AT_REMOVEDIR), 0);
}

static void a_file_that_was_changed_is_not_the_index(void **state)
{
        _cleanup_free_ void *data = NULL;
        Sha256 digest;
        uint64_t artifact_size;
        size_t size;

        (void) state;
        make_index(20, &data, &size, &digest);
        assert_int_equal(take("r1", data, size, &digest), 0);
        ((char *) data)[size - 1] ^= 1;
        put("r1", data, size);
        assert_int_equal(load("r1", &digest, &artifact_size), -ENOENT);
}

static int share(const char *from, const char *release, const Sha256 *sha256)
{
        return index_store_share(state_dir_fd, "web", from, release, sha256);
}

static void one_is_kept_for_several(void **state)
{
        _cleanup_free_ void *data = NULL, *other = NULL;
        Sha256 digest, other_digest;
        uint64_t artifact_size;
        size_t size, other_size;
        struct stat st;

        (void) state;
        make_index(20, &data, &size, &digest);
        make_index(30, &other, &other_size, &other_digest);
        assert_int_equal(share("r1", "r2", &digest), -ENOENT);
        assert_int_equal(take("r1", data, size, &digest), 0);
        assert_int_equal(share("r1", "r2", &other_digest), -ENOENT);
        assert_int_equal(load("r2", &digest, &artifact_size), -ENOENT);
        assert_int_equal(share("r1", "r2", &digest), 0);
        assert_int_equal(load("r2", &digest, &artifact_size), 0);

        /* Again, for another try, and for the same release. */
        assert_int_equal(share("r1", "r2", &digest), 0);
        assert_int_equal(share("r1", "r1", &digest), 0);
        assert_int_equal(fstatat(state_dir_fd, "web.index/r1", &st, 0), 0);
        assert_int_equal(st.st_nlink, 2);

        /* One is replaced, the other stays. */
        assert_int_equal(take("r1", other, other_size, &other_digest), 0);
        assert_int_equal(load("r2", &digest, &artifact_size), 0);

        other_digest = digest;
        ((char *) data)[size - 1] ^= 1;
        put("r1", data, size);
        assert_int_equal(share("r1", "r3", &other_digest), -ENOENT);
}

static void those_of_releases_that_went_go(void **state)
{
        static const Activate nothing = { .deadline_usec = DEADLINE_DEFAULT_USEC };
        _cleanup_free_ void *data = NULL;
        Sha256 digest;
        size_t size;

        (void) state;
        assert_int_equal(index_store_prune(state_dir_fd, s), 0);
        make_index(20, &data, &size, &digest);
        assert_int_equal(take("r1", data, size, &digest), 0);
        assert_int_equal(take("r2", data, size, &digest), 0);
        assert_int_equal(take("r3", data, size, &digest), 0);
        assert_int_equal(take("r4", data, size, &digest), 0);
        put(".0123456789abcdef", "", 0);
        assert_int_equal(state_add_release(s, "r2", 2, 2, &digest, &nothing), 0);
        assert_int_equal(state_begin(s, ACTION_DEPLOY, "r4", "r2", 4, 4, "agent"), 0);
        assert_int_equal(index_store_prune(state_dir_fd, s), 0);
        assert_false(is_there("web.index/r1"));
        assert_true(is_there("web.index/r2"));
        assert_false(is_there("web.index/r3"));
        assert_true(is_there("web.index/r4"));
        assert_false(is_there("web.index/.0123456789abcdef"));
}

static int setup(void **state)
{
        if (test_dir_setup(state) < 0)
                return -1;
        state_dir_fd = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return state_dir_fd < 0 ? -1 : state_new("web", "prod", &s);
}

static int teardown(void **state)
{
        s = state_free(s);
        fd_close(state_dir_fd);
        return test_dir_teardown(state);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(what_was_taken_comes_back, setup, teardown),
                cmocka_unit_test_setup_teardown(what_was_not_signed_is_not_kept, setup, teardown),
                cmocka_unit_test_setup_teardown(a_file_that_was_changed_is_not_the_index, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(one_is_kept_for_several, setup, teardown),
                cmocka_unit_test_setup_teardown(those_of_releases_that_went_go, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
