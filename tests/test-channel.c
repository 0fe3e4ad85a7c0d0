/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "channel.h"
#include "fault-server.h"
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

/* --- an S3 whose answers to the manifest's PUT get lost --- */

enum {
        STATUS,  /* of the first try's answer */
        STORES,  /* whether the first try stores */
        LAST,    /* status of the tries after it */
        N_TRIED, /* of the PUT */
};

static char lost_directory[256]; /* of what the server has stored */

static FILE *lost_object(const char *mode)
{
        char path[300];

        (void) snprintf(path, sizeof(path), "%s/object", lost_directory);
        return fopen(path, mode);
}

static void lost_put(const FaultRequest *q)
{
        struct FaultCounts *counts = fault_counts();
        bool first = atomic_fetch_add(&counts->scratch[N_TRIED], 1) == 0;
        FILE *f;

        if (first && atomic_load(&counts->scratch[STORES])) {
                f = lost_object("w");
                if (!f || fwrite(q->body, 1, q->body_size, f) != q->body_size || fclose(f) != 0)
                        abort();
        }
        fault_answer(q, atomic_load(&counts->scratch[first ? STATUS : LAST]), "", "", 0);
}

static void lost_get(const FaultRequest *q)
{
        char data[65536];
        FILE *f = lost_object("r");

        if (!f) {
                fault_answer(q, 404, "", "", 0);
                return;
        }
        size_t size = fread(data, 1, sizeof(data), f);
        (void) fclose(f);
        fault_answer(q, 200, "ETag: \"m\"\r\n", data, size);
}

static bool lost_serve(const FaultRequest *q)
{
        bool manifest = strstr(q->head, "/manifest.json ");

        if (strncmp(q->head, "GET ", 4) == 0)
                lost_get(q);
        else if (manifest)
                lost_put(q);
        else
                fault_answer(q, 200, "ETag: \"x\"\r\n", "", 0);
        return true;
}

static void lost_open(Fixture *f, const FaultServer *server)
{
        char url[128];

        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u", server->port);
        assert_int_equal(setenv("AWS_ENDPOINT_URL_S3", url, 1), 0);
        assert_int_equal(setenv("AWS_REGION", "eu-central-1", 1), 0);
        assert_int_equal(setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1), 0);
        assert_int_equal(setenv("AWS_SECRET_ACCESS_KEY", "secret", 1), 0);
        *f = (Fixture){};
        assert_int_equal(store_open("s3://bucket/pre", &f->store, NULL), 0);
        store_set_limits(f->store,
                         &(StoreLimits){ .connect_sec = 5, .stall_sec = 5, .backoff_msec = 1 });
        assert_int_equal(key_generate(KEY_ED25519, &f->key), 0);
        f->channel = (Channel){ .store = f->store, .app = "web", .name = "prod" };
}

/* What the last try ends with says nothing about those before it. */
static void lost_answer(void **state)
{
        static const struct {
                int status, stores, last, result;
        } table[] = {
                {500,  1, 503, 0      },
                { 500, 1, 403, 0      },
                { 500, 1, 400, 0      },
                { 500, 0, 503, -EBUSY },
                { 500, 0, 403, -EACCES},
        };
        FaultServer server;

        (void) snprintf(lost_directory, sizeof(lost_directory), "%s", (const char *) *state);
        fault_server_start(&server, lost_serve);
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(fixture_done) Fixture f;
                _cleanup_(published_freep) Published *winner = NULL;
                _cleanup_free_ char *data = NULL, *err = NULL;
                const ChannelHead h = {};
                size_t size;

                lost_open(&f, &server);
                atomic_store(&server.counts->scratch[STATUS], table[i].status);
                atomic_store(&server.counts->scratch[STORES], table[i].stores);
                atomic_store(&server.counts->scratch[LAST], table[i].last);
                atomic_store(&server.counts->scratch[N_TRIED], 0);
                data = make_manifest(&f, 1, "one", &size);
                int r = channel_publish(&f.channel, &h, data, size, &winner, &err);
                if (r != table[i].result)
                        fail_msg("%zu: %d, %s", i, r, strempty(err));
                assert_int_equal(!err, r == 0);
                assert_null(winner);
                FILE *left = lost_object("r");
                assert_int_equal(!!left, table[i].stores);
                if (left) {
                        char path[300];
                        (void) fclose(left);
                        (void) snprintf(path, sizeof(path), "%s/object", lost_directory);
                        assert_int_equal(unlink(path), 0);
                }
        }
        fault_server_stop(&server);
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
                test_in_dir(lost_answer),   cmocka_unit_test(keys),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
