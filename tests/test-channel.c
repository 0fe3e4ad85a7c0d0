/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/stat.h>

#include "channel.h"
#include "object.h"
#include "test.h"

#define NOW UINT64_C(1700000000)

/* A store in the test's directory, and a key. */
typedef struct Fixture {
        Store *store;
        Channel channel;
        Key *key;
} Fixture;

static void fixture_open(Fixture *f, const char *directory)
{
        char url[128];

        (void) snprintf(url, sizeof(url), "file://%s", directory);
        *f = (Fixture){};
        assert_int_equal(store_open(url, &f->store, NULL), 0);
        assert_int_equal(key_generate(KEY_ED25519, &f->key), 0);
        f->channel = (Channel){ .store = f->store, .app = "web", .name = "prod" };
}

static void fixture_done(Fixture *f)
{
        key_free(f->key);
        store_free(f->store);
}

static char *make_manifest(const Fixture *f, uint64_t serial, const char *release, size_t *ret_size)
{
        const Manifest m = {
                .app = (char *) "web",
                .channel = (char *) "prod",
                .serial = serial,
                .deployment = serial,
                .published_sec = NOW,
                .expires_sec = NOW + 1000,
                .release = (char *) release,
                .artifact = {.path = (char *) "web/releases/x/artifact.tar.zst", .size_bytes = 1         },
                .index = { .path = (char *) "web/releases/x/index",           .size_bytes = 1         },
                .activate = { .bake_usec = 1000000,                              .deadline_usec = 2000000},
        };
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_free_ char *payload = NULL, *err = NULL;
        char *data = NULL;
        size_t size;

        assert_int_equal(manifest_format(&m, &payload, &size, &err), 0);
        assert_int_equal(envelope_new(payload, size, &e), 0);
        assert_int_equal(envelope_sign(e, MANIFEST_PAYLOAD_TYPE, f->key, NULL), 0);
        assert_int_equal(envelope_format(e, MANIFEST_PAYLOAD_TYPE, &data, ret_size), 0);
        return data;
}

/* Publishes `release` upon a head; returns what channel_publish() says. */
static int publish(const Fixture *f, const ChannelHead *h, const char *release, Published **winner)
{
        size_t size;
        _cleanup_free_ char *data = make_manifest(f, h->serial + 1, release, &size), *err = NULL;
        int r = channel_publish(&f->channel, h, data, size, winner, &err);

        assert_true(r >= 0);
        return r;
}

static int publish_now(const Fixture *f, const char *release)
{
        _cleanup_(channel_head_done) ChannelHead h = {};
        _cleanup_(published_freep) Published *winner = NULL;

        assert_int_equal(channel_head(&f->channel, &h, NULL), 0);
        return publish(f, &h, release, &winner);
}

static void assert_release(const Fixture *f, uint64_t serial, const char *release)
{
        _cleanup_(published_freep) Published *p = NULL;

        assert_int_equal(channel_read_serial(&f->channel, serial, &p, NULL), 0);
        assert_string_equal(p->manifest->release, release);
}

static void empty_channel(void **state)
{
        _cleanup_(fixture_done) Fixture f;
        _cleanup_(channel_head_done) ChannelHead h = {};

        fixture_open(&f, *state);
        assert_int_equal(channel_head(&f.channel, &h, NULL), 0);
        assert_null(h.current);
        assert_int_equal(h.serial, 0);
        assert_int_equal(h.n_serials, 0);
        assert_false(h.was_set_back);
}

static void one_wins(void **state)
{
        _cleanup_(fixture_done) Fixture f;

        fixture_open(&f, *state);
        for (uint64_t serial = 1; serial <= 2; serial++) {
                _cleanup_(channel_head_done) ChannelHead first = {}, second = {};
                _cleanup_(published_freep) Published *winner = NULL;
                assert_int_equal(channel_head(&f.channel, &first, NULL), 0);
                assert_int_equal(channel_head(&f.channel, &second, NULL), 0);
                assert_int_equal(publish(&f, &first, "first", &winner), 0);
                assert_null(winner);
                assert_int_equal(publish(&f, &second, "second", &winner), CHANNEL_LOST);
                assert_string_equal(winner->manifest->release, "first");
                assert_release(&f, serial, "first");
        }
}

/* An answer that got lost: the same bytes are published once more. */
static void own_success(void **state)
{
        _cleanup_(fixture_done) Fixture f;
        _cleanup_(channel_head_done) ChannelHead h = {};
        _cleanup_(published_freep) Published *winner = NULL;
        size_t size;

        fixture_open(&f, *state);
        assert_int_equal(publish_now(&f, "one"), 0);
        assert_int_equal(channel_head(&f.channel, &h, NULL), 0);
        _cleanup_free_ char *data = make_manifest(&f, 2, "two", &size);
        assert_int_equal(channel_publish(&f.channel, &h, data, size, &winner, NULL), 0);
        assert_int_equal(channel_publish(&f.channel, &h, data, size, &winner, NULL), 0);
        /* Also when another one has replaced it since. */
        assert_int_equal(publish_now(&f, "three"), 0);
        assert_int_equal(channel_publish(&f.channel, &h, data, size, &winner, NULL), 0);
        assert_null(winner);
        assert_release(&f, 2, "two");
        assert_release(&f, 3, "three");
}

static void delete (const char *directory, const char *name)
{
        char path[256];

        (void) snprintf(path, sizeof(path), "%s/web/channels/prod/%s", directory, name);
        assert_int_equal(unlink(path), 0);
}

/* A publisher that died before it wrote the history. */
static void missing_entry(void **state)
{
        _cleanup_(fixture_done) Fixture f;
        _cleanup_(channel_head_done) ChannelHead h = {};
        _cleanup_(published_freep) Published *p = NULL;
        _cleanup_free_ uint64_t *serials = NULL;
        size_t n;

        fixture_open(&f, *state);
        assert_int_equal(publish_now(&f, "one"), 0);
        delete (*state, "history/1.json");
        assert_int_equal(channel_head(&f.channel, &h, NULL), 0);
        assert_int_equal(h.serial, 1);
        assert_false(h.was_set_back);
        assert_int_equal(channel_head_serials(&h, &serials, &n), 0);
        assert_int_equal(n, 1);
        assert_int_equal(channel_head_read(&f.channel, &h, 1, &p, NULL), 0);
        assert_string_equal(p->manifest->release, "one");
        assert_int_equal(publish_now(&f, "two"), 0);
        assert_release(&f, 1, "one");
        assert_release(&f, 2, "two");
}

static void manifest_removed(void **state)
{
        _cleanup_(fixture_done) Fixture f;
        _cleanup_(channel_head_done) ChannelHead before = {}, h = {};
        _cleanup_(published_freep) Published *winner = NULL;

        fixture_open(&f, *state);
        assert_int_equal(publish_now(&f, "one"), 0);
        assert_int_equal(channel_head(&f.channel, &before, NULL), 0);
        delete (*state, "manifest.json");
        assert_int_equal(publish(&f, &before, "two", &winner), CHANNEL_LOST);
        assert_null(winner);
        assert_int_equal(channel_head(&f.channel, &h, NULL), 0);
        assert_null(h.current);
        assert_true(h.was_set_back);
        assert_int_equal(h.serial, 1);
        assert_int_equal(h.deployment, 1);
        assert_int_equal(publish(&f, &h, "two", &winner), 0);
        assert_release(&f, 2, "two");
}

/* An entry that is not what was published stops the publisher before it changes anything. */
static void wrong_entry(void **state)
{
        _cleanup_(fixture_done) Fixture f;
        _cleanup_(channel_head_done) ChannelHead h = {};
        _cleanup_(published_freep) Published *winner = NULL, *now = NULL;
        _cleanup_free_ char *err = NULL;
        size_t size;

        fixture_open(&f, *state);
        assert_int_equal(publish_now(&f, "one"), 0);
        delete (*state, "history/1.json");
        assert_int_equal(channel_head(&f.channel, &h, NULL), 0);
        assert_int_equal(
                object_create(f.store, "web/channels/prod/history/1.json", "other", 5, NULL), 0);
        _cleanup_free_ char *data = make_manifest(&f, 2, "two", &size);
        assert_int_equal(channel_publish(&f.channel, &h, data, size, &winner, &err), -EKEYREJECTED);
        assert_non_null(strstr(err, "history/1.json differs"));
        assert_int_equal(channel_read(&f.channel, &now, NULL), 0);
        assert_int_equal(now->manifest->serial, 1);
}

static void keys(void **state)
{
        const Channel c = { .app = "web", .name = "prod" };
        static const char *const bad[] = {
                "web/channels/prod/history/0.json",
                "web/channels/prod/history/01.json",
                "web/channels/prod/history/1.json.x",
                "web/channels/prod/history/x1.json",
                "web/channels/prod/history/-1.json",
                "web/channels/prod/history/.json",
                "web/channels/prod/history/a/1.json",
                "web/channels/dev/history/1.json",
                "1.json",
                "web/channels/prod/history/9007199254740992.json",
                "web/channels/prod/history/99999999999999999999.json",
        };

        (void) state;
        assert_int_equal(history_serial(&c, "web/channels/prod/history/57.json"), 57);
        assert_int_equal(history_serial(&c, "web/channels/prod/history/9007199254740991.json"),
                         SERIAL_MAX);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(history_serial(&c, bad[i]), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(empty_channel), test_in_dir(one_wins),         test_in_dir(own_success),
                test_in_dir(missing_entry), test_in_dir(manifest_removed), test_in_dir(wrong_entry),
                cmocka_unit_test(keys),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
