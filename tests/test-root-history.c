/* SPDX-License-Identifier: Apache-2.0 */
#include "root-history.h"

#include <sys/stat.h>

#include "fd.h"
#include "key.h"
#include "object.h"
#include "root-chain.h"
#include "test.h"

#define EXPIRES 2110975200 /* 2036-11-22T14:00:00Z */

/* Makes the root that follows `text` (NULL: the first one), in its place. */
static void make_next(Key **key, char **text)
{
        _cleanup_(envelope_freep) Envelope *e = NULL, *next = NULL;
        _cleanup_free_ char *unsigned_text = NULL;
        _cleanup_(trust_freep) Trust *t = NULL;
        size_t size;

        if (!*text) {
                assert_return_code(trust_format_first(key, 1, 1, key, 1, 1, EXPIRES, NULL, 0, text,
                                                      &size, NULL),
                                   0);
                return;
        }
        assert_return_code(envelope_parse(*text, strlen(*text), TRUST_PAYLOAD_TYPE, &e, NULL), 0);
        assert_return_code(trust_parse(e->payload, e->payload_size, &t, NULL), 0);
        free(TAKE_PTR(*text));
        assert_return_code(
                trust_format_next(t, key, 1, 1, key, 1, 1, EXPIRES, &unsigned_text, &size, NULL),
                0);
        assert_return_code(envelope_parse(unsigned_text, size, TRUST_PAYLOAD_TYPE, &next, NULL), 0);
        assert_return_code(envelope_sign(next, TRUST_PAYLOAD_TYPE, *key, NULL), 0);
        assert_return_code(envelope_format(next, TRUST_PAYLOAD_TYPE, text, &size), 0);
}

static void write_root(int store_fd, uint64_t version, const char *text)
{
        _cleanup_close_ int fd = -EBADF;
        char name[32];

        (void) snprintf(name, sizeof(name), TRUST_PATH_FORMAT, version);
        fd = openat(store_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        assert_return_code(fd, errno);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

/* As many may follow the first one as elsewhere, and no more. */
static void as_many_as_may_be(void **state)
{
        _cleanup_free_ char *url = NULL, *path = NULL, *text = NULL, *err = NULL;
        _cleanup_(root_history_done) RootHistory h = {}, more = {};
        _cleanup_close_ int dir_fd = dir_open_at(AT_FDCWD, *state);
        _cleanup_(trust_freep) Trust *newest = NULL;
        _cleanup_(key_freep) Key *key = NULL;
        _cleanup_(store_freep) Store *s = NULL;

        assert_return_code(dir_fd, 0);
        assert_return_code(mkdirat(dir_fd, "trust", 0700), 0);
        assert_return_code(key_generate(KEY_ED25519, &key), 0);
        for (uint64_t version = 1; version <= 1 + ROOT_CHAIN_MAX; version++) {
                make_next(&key, &text);
                write_root(dir_fd, version, text);
        }
        assert_true(asprintf(&url, "file://%s", (const char *) *state) > 0);
        assert_true(asprintf(&path, "%s/trust/1.json", (const char *) *state) > 0);
        assert_return_code(object_store_open(url, &s, NULL), 0);
        if (root_history_load(s, path, &h, &err) < 0)
                fail_msg("%s", strempty(err));
        if (h.broken)
                fail_msg("%s", h.broken);
        assert_int_equal(h.n_roots, 1 + ROOT_CHAIN_MAX);
        assert_return_code(root_chain_load(s, path, &newest, NULL), 0);
        assert_int_equal(trust_version(newest), 1 + ROOT_CHAIN_MAX);

        make_next(&key, &text);
        write_root(dir_fd, 2 + ROOT_CHAIN_MAX, text);
        assert_int_equal(root_history_load(s, path, &more, &err), -EKEYREJECTED);
        assert_string_equal(err, "the store has more than 1024 trust roots in a row");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(as_many_as_may_be),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
