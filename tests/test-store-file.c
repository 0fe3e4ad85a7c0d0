/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "digest.h"
#include "store.h"

static Store *open_in(const char *dir)
{
        _cleanup_free_ char *err = NULL, *url = NULL;
        Store *s = NULL;

        assert_true(asprintf(&url, "file://%s/store", dir) > 0);
        assert_int_equal(store_open(url, &s, &err), 0);
        assert_string_equal(store_url(s), url);
        return s;
}

static int put(Store *s, const char *path, const char *body, const char *if_match,
               const char *if_none_match, StoreReply *ret)
{
        _cleanup_free_ char *err = NULL;

        return store_call(s,
                          &(StoreRequest){ .method = STORE_PUT,
                                           .path = path,
                                           .body = body,
                                           .body_size = strlen(body),
                                           .if_match = if_match,
                                           .if_none_match = if_none_match },
                          ret, &err);
}

static int get(Store *s, const char *path, const char *if_none_match, StoreReply *ret)
{
        _cleanup_free_ char *err = NULL;

        store_reply_done(ret);
        int r = store_call(s,
                           &(StoreRequest){ .method = STORE_GET,
                                            .path = path,
                                            .if_none_match = if_none_match,
                                            .size_max = 1024 },
                           ret, &err);

        assert_true(r >= 0 || err);
        return r;
}

static void urls(void **state)
{
        static const char *const bad[] = { "", "/srv/store", "file://relative", "ftp://x/y",
                                           "FILE:///x" };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_free_ char *err = NULL;
                Store *s = NULL;
                assert_int_equal(store_open(bad[i], &s, &err), -EINVAL);
                assert_non_null(err);
                assert_null(s);
        }
}

static void objects_come_back(void **state)
{
        _cleanup_(store_freep) Store *s = open_in(*state);
        _cleanup_(store_reply_done) StoreReply first = {}, again = {}, second = {}, none = {};

        assert_int_equal(get(s, "web/manifest.json", NULL, &none), -ENOENT);
        assert_int_equal(put(s, "web/manifest.json", "one", NULL, NULL, NULL), 0);
        assert_int_equal(get(s, "web/manifest.json", NULL, &first), 0);
        assert_string_equal(first.data, "one");
        assert_int_equal(first.size, 3);
        assert_int_equal(get(s, "web/manifest.json", first.etag, &again), STORE_NOT_MODIFIED);
        assert_int_equal(put(s, "web/manifest.json", "two", NULL, NULL, &second), 0);
        assert_string_not_equal(first.etag, second.etag);
        assert_int_equal(get(s, "web/manifest.json", first.etag, &none), 0);
        assert_string_equal(none.data, "two");
        assert_string_equal(none.etag, second.etag);
        assert_int_equal(get(s, "web/other.json", NULL, &again), STORE_ABSENT);
        assert_int_equal(get(s, "other/other.json", NULL, &again), STORE_ABSENT);
        assert_int_equal(get(s, "web", NULL, &again), STORE_ABSENT);
}

/* slipway-fetch, which writes status objects, has a umask of its own. */
static void others_read_what_was_made(void **state)
{
        _cleanup_(store_freep) Store *s = open_in(*state);
        _cleanup_free_ char *dir = NULL, *object = NULL;
        struct stat st;
        mode_t before = umask(0077);

        /* the group is handed down */
        assert_return_code(chmod(*state, 02700), 0);
        assert_int_equal(put(s, "web/instances/i-1.json", "one", NULL, NULL, NULL), 0);
        umask(before);
        assert_true(asprintf(&dir, "%s/store/web/instances", (char *) *state) > 0);
        assert_true(asprintf(&object, "%s/i-1.json", dir) > 0);
        assert_return_code(stat(dir, &st), 0);
        assert_int_equal(st.st_mode & 07777, 02755);
        assert_return_code(stat(object, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0644);
}

static void conditions(void **state)
{
        _cleanup_(store_freep) Store *s = open_in(*state);
        _cleanup_(store_reply_done) StoreReply one = {}, two = {};

        assert_int_equal(put(s, "x", "one", "\"etag\"", NULL, NULL), STORE_ABSENT);
        assert_int_equal(put(s, "x", "one", NULL, "*", &one), 0);
        assert_int_equal(put(s, "x", "one", NULL, "*", NULL), STORE_CONFLICT);
        assert_int_equal(put(s, "x", "two", "\"etag\"", NULL, NULL), STORE_CONFLICT);
        assert_int_equal(put(s, "x", "two", one.etag, NULL, &two), 0);
        assert_int_equal(put(s, "x", "three", one.etag, NULL, NULL), STORE_CONFLICT);
}

static void ranges(void **state)
{
        _cleanup_(store_freep) Store *s = open_in(*state);
        _cleanup_(store_reply_done) StoreReply whole = {};

        assert_int_equal(put(s, "x", "0123456789", NULL, NULL, &whole), 0);
        static const struct {
                uint64_t offset, size, max;
                int result;
                const char *data;
        } table[] = {
                {2,           3, 3,  0,       "234"       },
                { 9,          1, 10, 0,       "9"         },
                { 0,          0, 10, 0,       "0123456789"},
                { 0,          0, 9,  -EFBIG,  NULL        },
                { 8,          3, 10, -EPROTO, NULL        },
                { 11,         1, 10, -EPROTO, NULL        },
                { UINT64_MAX, 1, 1,  -EINVAL, NULL        },
        };
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(store_reply_done) StoreReply reply = {};
                _cleanup_free_ char *err = NULL;
                assert_int_equal(store_call(s,
                                            &(StoreRequest){ .method = STORE_GET,
                                                             .path = "x",
                                                             .range_offset = table[i].offset,
                                                             .range_size = table[i].size,
                                                             .size_max = table[i].max,
                                                             .if_match = whole.etag },
                                            &reply, &err),
                                 table[i].result);
                if (table[i].data)
                        assert_string_equal(reply.data, table[i].data);
                else
                        assert_non_null(err);
        }
}

static uint64_t last_progress;

static void note_progress(uint64_t done_bytes, uint64_t total_bytes, void *userdata)
{
        (void) userdata;
        assert_true(done_bytes > last_progress);
        assert_true(done_bytes <= total_bytes);
        last_progress = done_bytes;
}

/* A file over the limit of content ETags, uploaded from and fetched to a descriptor. */
static void large_objects(void **state)
{
        _cleanup_(store_freep) Store *s = open_in(*state);
        _cleanup_(store_reply_done) StoreReply reply = {}, part = {};
        _cleanup_free_ char *err = NULL, *data = NULL;
        const size_t size = 3 * 1024 * 1024 + 17;
        _cleanup_close_ int source_fd = memfd_create("source", MFD_CLOEXEC);
        _cleanup_close_ int sink_fd = memfd_create("sink", MFD_CLOEXEC);
        Sha256 source, sink;

        data = malloc(size);
        assert_non_null(data);
        for (size_t i = 0; i < size; i++)
                data[i] = (char) (i * 7 + i / 4096);
        assert_int_equal(fd_pwrite_all(source_fd, data, size, 0), 0);
        assert_int_equal(sha256(data, size, &source), 0);
        last_progress = 0;
        assert_int_equal(
                store_upload(s, "a/b/c", source_fd, size, &source, note_progress, NULL, -1, &err),
                0);
        assert_int_equal(last_progress, size);
        assert_int_equal(store_upload(s, "a/b/c", source_fd, size, &source, NULL, NULL, -1, &err),
                         STORE_CONFLICT);
        last_progress = 0;
        assert_int_equal(store_call(s,
                                    &(StoreRequest){ .method = STORE_GET,
                                                     .path = "a/b/c",
                                                     .size_max = size,
                                                     .to_fd = true,
                                                     .sink_fd = sink_fd,
                                                     .sink_offset = 100,
                                                     .progress = note_progress },
                                    &reply, &err),
                         0);
        assert_int_equal(last_progress, size);
        assert_null(reply.data);
        assert_int_equal(sha256_fd(sink_fd, 100, size, &sink), 0);
        assert_true(sha256_equal(&source, &sink));
        assert_int_equal(store_call(s,
                                    &(StoreRequest){ .method = STORE_GET,
                                                     .path = "a/b/c",
                                                     .range_offset = size - 1,
                                                     .range_size = 1,
                                                     .size_max = 1,
                                                     .if_match = reply.etag },
                                    &part, &err),
                         0);
        assert_memory_equal(part.data, data + size - 1, 1);
}

static void lists(void **state)
{
        _cleanup_(store_freep) Store *s = open_in(*state);
        _cleanup_free_ char *err = NULL, *lock = NULL, *link = NULL;
        static const struct {
                const char *path, *keys;
        } table[] = {
                {"",             "a-b\na/1\na/b/c\nz\n"},
                { "a",           "a/1\na/b/c\n"        },
                { "a/b",         "a/b/c\n"             },
                { "z",           ""                    },
                { "none/at/all", ""                    },
        };

        assert_int_equal(put(s, "z", "", NULL, NULL, NULL), 0);
        assert_int_equal(put(s, "a/b/c", "", NULL, NULL, NULL), 0);
        assert_int_equal(put(s, "a/1", "", NULL, NULL, NULL), 0);
        assert_int_equal(put(s, "a-b", "", NULL, NULL, NULL), 0);
        assert_true(asprintf(&lock, "%s/store/.#lock", (char *) *state) > 0);
        assert_int_equal(access(lock, F_OK), 0);
        assert_true(asprintf(&link, "%s/store/link", (char *) *state) > 0);
        assert_int_equal(symlink("a", link), 0);
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(store_reply_done) StoreReply reply = {};
                assert_int_equal(store_call(s,
                                            &(StoreRequest){ .method = STORE_LIST,
                                                             .path = table[i].path,
                                                             .size_max = 100 },
                                            &reply, &err),
                                 0);
                assert_string_equal(reply.data, table[i].keys);
        }
        assert_int_equal(
                store_call(s, &(StoreRequest){ .method = STORE_LIST, .path = "", .size_max = 10 },
                           NULL, &err),
                -EFBIG);
}

static void paths_that_leave(void **state)
{
        _cleanup_(store_freep) Store *s = open_in(*state);
        _cleanup_(store_reply_done) StoreReply reply = {};
        _cleanup_free_ char *path = NULL, *outside = NULL, *file = NULL, *err = NULL;
        static const char *const bad[] = { "../x", "/etc/passwd", "a/../../x", "", "a//b", "a\nb" };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                assert_int_equal(get(s, bad[i], NULL, &reply), -EINVAL);
                assert_int_equal(put(s, bad[i], "x", NULL, NULL, NULL), -EINVAL);
        }
        assert_int_equal(put(s, "x", "", NULL, NULL, NULL), 0);
        assert_true(asprintf(&outside, "%s/outside", (char *) *state) > 0);
        assert_int_equal(mkdir(outside, 0700), 0);
        assert_true(asprintf(&path, "%s/store/dir", (char *) *state) > 0);
        assert_int_equal(symlink(outside, path), 0);
        assert_int_equal(get(s, "dir/x", NULL, &reply), -ENOTDIR);
        assert_int_equal(put(s, "dir/x", "", NULL, NULL, NULL), -ENOTDIR);
        assert_true(asprintf(&file, "%s/store/file", (char *) *state) > 0);
        assert_int_equal(symlink("/etc/passwd", file), 0);
        assert_int_equal(get(s, "file", NULL, &reply), -ENOTDIR);
        /* An unconditional PUT replaces the link itself, not what it points to. */
        assert_int_equal(put(s, "file", "x", "\"e\"", NULL, NULL), -ELOOP);
        assert_int_equal(put(s, "file", "x", NULL, NULL, NULL), 0);
        assert_int_equal(get(s, "file", NULL, &reply), 0);
        assert_string_equal(reply.data, "x");
}

#define N_RACERS 6
#define N_ROUNDS 25

static int race(const char *dir)
{
        _cleanup_(store_freep) Store *s = open_in(dir);

        for (int done = 0; done < N_ROUNDS;) {
                _cleanup_(store_reply_done) StoreReply reply = {};
                char next[32];
                if (get(s, "counter", NULL, &reply) != 0)
                        return 1;
                (void) snprintf(next, sizeof(next), "%d", atoi(reply.data) + 1);
                int r = put(s, "counter", next, reply.etag, NULL, NULL);
                if (r == 0)
                        done++;
                else if (r != STORE_CONFLICT)
                        return 1;
        }
        return put(s, "winner", dir, NULL, "*", NULL) == 0 ? 2 : 0;
}

/* If one conditional PUT overtook another, the count would be short. */
static void publishers_at_once(void **state)
{
        _cleanup_(store_freep) Store *s = open_in(*state);
        _cleanup_(store_reply_done) StoreReply reply = {};
        pid_t pids[N_RACERS];
        int n_winners = 0;

        assert_int_equal(put(s, "counter", "0", NULL, "*", NULL), 0);
        for (size_t i = 0; i < N_RACERS; i++) {
                pids[i] = fork();
                assert_true(pids[i] >= 0);
                if (pids[i] == 0)
                        _exit(race(*state));
        }
        for (size_t i = 0; i < N_RACERS; i++) {
                int status;
                assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
                assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 1);
                n_winners += WEXITSTATUS(status) == 2;
        }
        assert_int_equal(n_winners, 1);
        assert_int_equal(get(s, "counter", NULL, &reply), 0);
        assert_int_equal(atoi(reply.data), N_RACERS * N_ROUNDS);
}

typedef struct Seen {
        Store *store;
        int n, last_result;
} Seen;

static void count_call(int result, StoreReply *reply, const char *err, void *userdata)
{
        Seen *seen = userdata;

        (void) reply;
        (void) err;
        seen->n++;
        seen->last_result = result;
        /* The first one starts another. */
        if (seen->n == 1)
                assert_int_equal(store_start(seen->store,
                                             &(StoreRequest){ .path = "none", .size_max = 1 },
                                             count_call, seen, NULL),
                                 0);
}

static void calls_and_steps(void **state)
{
        _cleanup_(store_freep) Store *s = open_in(*state);
        Seen seen = { .store = s };
        StoreCall *cancelled, *last;
        int pipe_fds[2];

        assert_int_equal(put(s, "x", "x", NULL, NULL, NULL), 0);
        const StoreRequest request = { .path = "x", .size_max = 10 };
        assert_int_equal(store_start(s, &request, count_call, &seen, NULL), 0);
        assert_int_equal(store_start(s, &request, count_call, &seen, &cancelled), 0);
        assert_int_equal(seen.n, 0);
        assert_int_equal(store_n_calls(s), 2);
        assert_null(store_cancel(cancelled));
        assert_int_equal(store_n_calls(s), 1);
        while (store_n_calls(s) > 0)
                assert_int_equal(store_step(s, -1, UINT64_MAX), 0);
        assert_int_equal(seen.n, 2);
        assert_int_equal(seen.last_result, STORE_ABSENT);

        assert_int_equal(pipe(pipe_fds), 0);
        assert_int_equal(store_step(s, pipe_fds[0], 1000), 0);
        assert_int_equal(write(pipe_fds[1], "x", 1), 1);
        assert_int_equal(store_step(s, pipe_fds[0], UINT64_MAX), 1);
        (void) close(pipe_fds[0]);
        (void) close(pipe_fds[1]);
        /* A store that is freed with a call under way says nothing. */
        assert_int_equal(store_start(s, &request, count_call, &seen, &last), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(urls),
                test_in_dir(objects_come_back),
                test_in_dir(others_read_what_was_made),
                test_in_dir(conditions),
                test_in_dir(ranges),
                test_in_dir(large_objects),
                test_in_dir(lists),
                test_in_dir(paths_that_leave),
                test_in_dir(publishers_at_once),
                test_in_dir(calls_and_steps),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
