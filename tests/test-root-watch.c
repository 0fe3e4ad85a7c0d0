/* SPDX-License-Identifier: Apache-2.0 */
#include "root-watch.h"

#include "test.h"

#include <signal.h>
#include <sys/stat.h>

#include "kept-root.h"

/* The store is tests/child-actor.c, the part "roots". */

#define EXPIRES 2110975200 /* 2036-11-22T14:00:00Z */

typedef struct Bench {
        const char *dir;
        sd_event *event;
        Fetcher *fetcher;
        Key *key, *other;
        Trust *trust;
        int dir_fd;
        RootWatch *watch;
        unsigned n_walks;
        bool learned; /* by the last one */
} Bench;

static void on_walked(bool learned, void *userdata)
{
        Bench *b = userdata;

        b->n_walks++;
        b->learned = learned;
}

static Trust *parse(const char *text)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        Trust *t = NULL;

        assert_return_code(envelope_parse(text, strlen(text), TRUST_PAYLOAD_TYPE, &e, NULL), 0);
        assert_return_code(trust_parse(e->payload, e->payload_size, &t, NULL), 0);
        return t;
}

static void bench_open(Bench *b, const char *dir, uint64_t interval_usec)
{
        static const Identity same = {};
        _cleanup_free_ char *text = NULL;
        size_t size;

        *b = (Bench){ .dir = dir, .dir_fd = dir_open_at(AT_FDCWD, dir) };
        assert_return_code(b->dir_fd, 0);
        assert_return_code(mkdirat(b->dir_fd, "trust", 0700), 0);
        assert_return_code(key_generate(KEY_ED25519, &b->key), 0);
        assert_return_code(key_generate(KEY_ED25519, &b->other), 0);
        assert_return_code(trust_format_first(&b->key, 1, 1, &b->key, 1, 1, EXPIRES, NULL, 0, &text,
                                              &size, NULL),
                           0);
        b->trust = parse(text);
        assert_return_code(sd_event_new(&b->event), 0);
        assert_return_code(fetcher_new(b->event, "roots", dir, NULL, &same, &b->fetcher), 0);
        assert_return_code(root_watch_new(b->event, b->fetcher, b->trust, NULL, b->dir_fd,
                                          interval_usec, on_walked, b, &b->watch),
                           0);
}

static void bench_close(Bench *b)
{
        root_watch_free(b->watch);
        fetcher_free(b->fetcher);
        sd_event_unref(b->event);
        trust_free(b->trust);
        key_free(b->key);
        key_free(b->other);
        fd_close(b->dir_fd);
}

/* Puts the versions `from` to `to` of the chain into the store, signed by this key. */
static void extend(const Bench *b, uint64_t from, uint64_t to, Key *signer)
{
        _cleanup_(trust_freep) Trust *t = NULL;
        _cleanup_free_ char *first = NULL;
        size_t size;

        assert_return_code(trust_format_first(&b->key, 1, 1, &b->key, 1, 1, EXPIRES, NULL, 0,
                                              &first, &size, NULL),
                           0);
        t = parse(first);
        for (uint64_t version = 2; version <= to; version++) {
                _cleanup_(envelope_freep) Envelope *e = NULL;
                _cleanup_free_ uint8_t *packed = NULL;
                _cleanup_free_ char *text = NULL;
                char path[64];
                assert_return_code(trust_format_next(t, &b->key, 1, 1, &b->key, 1, 1, EXPIRES,
                                                     &text, &size, NULL),
                                   0);
                t = trust_free(t);
                t = parse(text);
                if (version < from)
                        continue;
                assert_return_code(envelope_parse(text, size, TRUST_PAYLOAD_TYPE, &e, NULL), 0);
                assert_return_code(envelope_sign(e, TRUST_PAYLOAD_TYPE, signer, NULL), 0);
                assert_return_code(envelope_pack(e, &packed, &size), 0);
                (void) snprintf(path, sizeof(path), "%" PRIu64 ".json", version);
                _cleanup_close_ int fd = openat(b->dir_fd, "trust", O_DIRECTORY | O_CLOEXEC);
                assert_return_code(file_write_atomic_at(fd, path, packed, size, 0600), 0);
        }
}

static void walk(Bench *b)
{
        unsigned n = b->n_walks;

        assert_return_code(root_watch_ask(b->watch), 0);
        assert_int_equal(b->n_walks, n);
        assert_true(root_watch_is_asking(b->watch));
        while (b->n_walks == n)
                assert_true(sd_event_run(b->event, 20 * 1000000) > 0);
        assert_false(root_watch_is_asking(b->watch));
}

/* The version that is kept; 0: none. */
static uint64_t kept_version(const Bench *b)
{
        _cleanup_(trust_freep) Trust *t = NULL;
        _cleanup_free_ char *path = NULL;

        assert_true(asprintf(&path, "%s/" KEPT_ROOT_NAME, b->dir) > 0);
        return trust_load(path, &t, NULL) < 0 ? 0 : trust_version(t);
}

static void assert_stands(const Bench *b, uint64_t version, bool learned, const char *trouble)
{
        const char *said = root_watch_trouble(b->watch);

        assert_int_equal(trust_version(b->trust), version);
        assert_int_equal(kept_version(b), version == 1 ? 0 : version);
        assert_int_equal(b->learned, learned);
        if (trouble ? !said || !strstr(said, trouble) : said != NULL)
                fail_msg("\"%s\", wanted \"%s\"", strempty(said), strempty(trouble));
}

static void walks_to_the_end(void **state)
{
        Bench b;

        bench_open(&b, *state, 0);
        walk(&b);
        assert_stands(&b, 1, false, NULL);
        extend(&b, 2, 4, b.key);
        walk(&b);
        assert_stands(&b, 4, true, NULL);
        walk(&b);
        assert_stands(&b, 4, false, NULL);
        bench_close(&b);
}

static void lies_change_nothing(void **state)
{
        Bench b;

        bench_open(&b, *state, 0);
        /* It is asked once, for both. */
        assert_return_code(root_watch_ask(b.watch), 0);
        walk(&b);
        assert_int_equal(b.n_walks, 1);
        extend(&b, 2, 2, b.other);
        walk(&b);
        assert_stands(&b, 1, false, "trust/2.json in the store is refused: signed only by keys");
        /* As far as it goes, it counts. */
        extend(&b, 2, 2, b.key);
        extend(&b, 3, 3, b.other);
        walk(&b);
        assert_stands(&b, 2, true, "trust/3.json in the store is refused: signed only by keys");
        assert_return_code(mknodat(b.dir_fd, "trust/empty", S_IFREG | 0600, 0), 0);
        assert_return_code(renameat(b.dir_fd, "trust/empty", b.dir_fd, "trust/3.json"), 0);
        walk(&b);
        assert_stands(&b, 2, false, "is not known: trust/3.json: not for you");
        assert_return_code(unlinkat(b.dir_fd, "trust/3.json", 0), 0);
        walk(&b);
        assert_stands(&b, 2, false, NULL);
        bench_close(&b);
}

static void no_walk_is_endless(void **state)
{
        Bench b;

        bench_open(&b, *state, 0);
        extend(&b, 2, ROOT_WATCH_STEPS_MAX + 3, b.key);
        walk(&b);
        assert_stands(&b, ROOT_WATCH_STEPS_MAX + 1, true, "more trust roots than are followed");
        walk(&b);
        assert_stands(&b, ROOT_WATCH_STEPS_MAX + 3, true, NULL);
        bench_close(&b);
}

static void what_is_not_kept_counts(void **state)
{
        Bench b;

        bench_open(&b, *state, 0);
        extend(&b, 2, 2, b.key);
        /* A directory that nothing can be renamed over. */
        assert_return_code(mkdirat(b.dir_fd, KEPT_ROOT_NAME, 0700), 0);
        walk(&b);
        assert_int_equal(trust_version(b.trust), 2);
        assert_string_equal(root_watch_trouble(b.watch),
                            "version 2 of the trust root can't be kept: Is a directory");
        assert_return_code(unlinkat(b.dir_fd, KEPT_ROOT_NAME, AT_REMOVEDIR), 0);
        walk(&b);
        assert_stands(&b, 2, false, NULL);
        bench_close(&b);
}

static void asks_by_itself(void **state)
{
        Bench b;

        bench_open(&b, *state, 20 * 1000);
        extend(&b, 2, 2, b.key);
        for (unsigned n = 0; n < 3;) {
                unsigned before = b.n_walks;
                assert_true(sd_event_run(b.event, 20 * 1000000) > 0);
                n += b.n_walks > before;
        }
        assert_int_equal(trust_version(b.trust), 2);
        bench_close(&b);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(walks_to_the_end),   test_in_dir(lies_change_nothing),
                test_in_dir(no_walk_is_endless), test_in_dir(what_is_not_kept_counts),
                test_in_dir(asks_by_itself),
        };
        sigset_t signals;

        /* sd_event_add_child() wants it blocked. */
        sigemptyset(&signals);
        sigaddset(&signals, SIGCHLD);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
