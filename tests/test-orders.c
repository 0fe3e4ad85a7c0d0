/* SPDX-License-Identifier: Apache-2.0 */
#include "state-file.h"
#include "test.h"

#include <dirent.h>
#include <malloc.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "app.h"
#include "dsse.h"
#include "json-read.h"
#include "orders.h"
#include "time-text.h"

/* slipwayd's orders, with applications on this host and a slipway-fetch that is
 * tests/child-actor.c: its script is what somebody far away wants. */

#define INDEX_DIGEST "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

#define ID(n) "00000000-0000-4000-8000-0000000000" n

typedef struct Bench {
        char *dir;
        Agent *agent;
        Key *key;
        FILE *script;
        const char *instance; /* in the configuration; NULL: an id of EC2's */
        bool regionless;
        size_t news_at; /* so much of the news was looked at */
} Bench;

static char *in_dir(const Bench *b, const char *name)
{
        char *s;

        assert_true(asprintf(&s, "%s/%s", b->dir, name) > 0);
        return s;
}

static void make_dir(const Bench *b, const char *name)
{
        _cleanup_free_ char *path = in_dir(b, name);

        assert_return_code(mkdir_parents(path, 0755), 0);
}

static void write_file(const char *dir, const char *name, const void *data, size_t size)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, dir);

        assert_return_code(file_write_atomic_at(fd, name, data, size, 0600), 0);
}

static int open_dir(const Bench *b, const char *name)
{
        _cleanup_free_ char *path = in_dir(b, name);
        int fd;

        make_dir(b, name);
        fd = dir_open_at(AT_FDCWD, path);
        assert_return_code(fd, 0);
        return fd;
}

/* web has r1, r2 (live) and r3 on the disk, api nothing. */
static void make_state(const Bench *b, int state_dir_fd)
{
        static const char *const releases[] = { "r1", "r2", "r3" };
        _cleanup_json_ cJSON *none = cJSON_CreateObject();
        Activate nothing;
        State *s;
        Sha256 digest;

        assert_return_code(activate_parse(none, "", &nothing, NULL), 0);
        assert_return_code(state_new("web", "prod", &s), 0);
        assert_return_code(sha256("abc", 3, &digest), 0);
        for (size_t i = 0; i < ELEMENTSOF(releases); i++) {
                char name[64];
                snprintf(name, sizeof(name), "web/releases/%s", releases[i]);
                make_dir(b, name);
                assert_return_code(
                        state_add_release(s, releases[i], i + 1, i + 1, &digest, &nothing), 0);
        }
        _cleanup_free_ char *link = in_dir(b, "web/current"), *root = in_dir(b, "web");
        assert_return_code(symlink("releases/r2", link), 0);
        assert_return_code(state_set(&s->current, "r2"), 0);
        assert_return_code(state_set(&s->last_good, "r2"), 0);
        assert_return_code(state_set(&s->root, root), 0);
        s->deployment = 2;
        assert_return_code(state_save(s, state_dir_fd), 0);
        state_free(s);
        activate_done(&nothing);
}

/* The channel has this release from now on; `more` of its manifest. */
static void publish_with(const Bench *b, const char *release, unsigned deployment, const char *more)
{
        static const char object[] = "\"size\":3,\"sha256\":\"" INDEX_DIGEST "\"}";
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_free_ char *cache = in_dir(b, "cache");
        _cleanup_free_ uint8_t *packed = NULL;
        char from[TIME_TEXT_SIZE], until[TIME_TEXT_SIZE], text[2048];
        size_t size;

        snprintf(text, sizeof(text),
                 "{\"schema\":\"slipway/manifest/1\",\"app\":\"web\",\"channel\":\"prod\","
                 "\"serial\":%u,\"deployment\":%u,\"published\":\"%s\",\"expires\":\"%s\","
                 "\"release\":{\"id\":\"%s\","
                 "\"artifact\":{\"path\":\"web/releases/%s/artifact.tar.zst\",%s,"
                 "\"index\":{\"path\":\"web/releases/%s/index\",%s}%s}",
                 deployment, deployment, time_format_utc(time(NULL) - 60, from),
                 time_format_utc(time(NULL) + 3600, until), release, release, object, release,
                 object, more);
        assert_return_code(envelope_new(text, strlen(text), &e), 0);
        assert_return_code(envelope_sign(e, MANIFEST_PAYLOAD_TYPE, b->key, NULL), 0);
        assert_return_code(envelope_pack(e, &packed, &size), 0);
        write_file(cache, "manifest", packed, size);
}

static void publish(const Bench *b, const char *release, unsigned deployment)
{
        publish_with(b, release, deployment, "");
}

static void make_trust(Bench *b)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size;

        assert_return_code(trust_format_first(&b->key, 1, 1, &b->key, 1, 1, time(NULL) + 3600, NULL,
                                              0, &text, &size, NULL),
                           0);
        assert_return_code(envelope_parse(text, size, TRUST_PAYLOAD_TYPE, &e, NULL), 0);
        assert_return_code(trust_parse(e->payload, e->payload_size, &b->agent->trust, NULL), 0);
}

static void make_config(Bench *b, const char *members)
{
        _cleanup_free_ char *path = in_dir(b, "agent.json"), *err = NULL;
        char text[2048];

        snprintf(text, sizeof(text),
                 "{\"store\":\"file:///afar\",\"instance\":\"%s\","
                 "%s\"report\":false,\"poll\":{\"interval\":\"24h\"},"
                 "\"apps\":[{\"app\":\"web\",\"channel\":\"prod\",\"root\":\"%s/web\"}%s}",
                 b->instance ? b->instance : "i-0123456789abcdef0",
                 b->regionless ? "" : "\"region\":\"eu-central-1\",", b->dir, members);
        write_file(b->dir, "agent.json", text, strlen(text));
        if (config_read(path, false, &b->agent->source, &err) < 0 ||
            config_resolve(b->agent->source, NULL, &b->agent->config, &err) < 0)
                fail_msg("%s", strempty(err));
}

static void make_apps(Agent *a)
{
        const Config *c = a->config;

        a->apps = calloc(c->n_apps, sizeof(App *));
        assert_non_null(a->apps);
        for (; a->n_apps < c->n_apps; a->n_apps++)
                assert_return_code(app_new(a, &c->apps[a->n_apps], &a->apps[a->n_apps], NULL), 0);
        for (size_t i = 0; i < a->n_apps; i++)
                assert_return_code(app_start(a->apps[i]), 0);
}

/* As a start of slipwayd. */
static void start(Bench *b, const char *members)
{
        _cleanup_free_ char *cache = in_dir(b, "cache"), *script = in_dir(b, "cache/script");
        static const Identity same = {};
        Agent *a = b->agent = calloc(1, sizeof(Agent));

        assert_non_null(a);
        a->options.user = true;
        a->state_dir_fd = open_dir(b, "state");
        a->runtime_dir_fd = open_dir(b, "run");
        make_dir(b, "cache");
        make_config(b, members);
        assert_return_code(sd_event_new(&a->event), 0);
        assert_return_code(bus_new(a->event, true, &a->bus), 0);
        if (!b->key) {
                assert_return_code(key_generate(KEY_ED25519, &b->key), 0);
                make_state(b, a->state_dir_fd);
                assert_return_code(mkfifo(script, 0600), 0);
                b->script = fopen(script, "r+");
                assert_non_null(b->script);
        }
        assert_return_code(
                fetcher_new(a->event, a->config->store, cache, cache, &same, &a->fetcher), 0);
        make_trust(b);
        make_apps(a);
        assert_return_code(orders_new(a, &a->orders), 0);
}

static void stop(Bench *b)
{
        agent_free(b->agent);
        b->agent = NULL;
}

static void bench_close(Bench *b)
{
        stop(b);
        key_free(b->key);
        fclose(b->script);
}

static void play(Bench *b, const char *format, ...) _printf_(2, 3);

static void play(Bench *b, const char *format, ...)
{
        va_list list;

        va_start(list, format);
        assert_true(vfprintf(b->script, format, list) > 0);
        va_end(list);
        assert_true(fputc('\n', b->script) == '\n' && fflush(b->script) == 0);
}

/* The next news that begins so, to be freed. Those before it are passed over, those of one packet
 * are there or not. */
static char *await(Bench *b, const char *beginning)
{
        _cleanup_free_ char *path = in_dir(b, "cache/news");

        for (unsigned n = 0; n < 2000; n++) {
                _cleanup_free_ char *news = NULL;
                size_t size;

                if (file_read_at(AT_FDCWD, path, 1 << 20, &news, &size) < 0)
                        size = 0;
                while (news && b->news_at < size) {
                        char *line = news + b->news_at, *end = strchr(line, '\n');
                        if (!end)
                                break;
                        *end = '\0';
                        b->news_at = (size_t) (end - news) + 1;
                        if (strncmp(line, beginning, strlen(beginning)) == 0)
                                return strdup(line);
                }
                assert_true(sd_event_run(b->agent->event, 10 * 1000) >= 0);
        }
        fail_msg("no news \"%s\"", beginning);
        return NULL;
}

static void assert_news(Bench *b, unsigned number, int result, const char *words)
{
        char beginning[64];

        snprintf(beginning, sizeof(beginning), "%u %d ", number, result);
        /* How much is told on the way depends on when it is looked. */
        for (;;) {
                _cleanup_free_ char *line = await(b, beginning);
                if (strstr(line, words))
                        return;
                if (result != ORDER_GOES_ON)
                        fail_msg("\"%s\", wanted \"%s\"", line, words);
        }
}

static const State *state_of(const Bench *b)
{
        return app_state(agent_find_app(b->agent, "web"));
}

static const Event *last_event(const Bench *b)
{
        const State *s = state_of(b);

        return s->n_events > 0 ? &s->events[s->n_events - 1] : NULL;
}

#define ENABLED "],\"ssm\":{\"enabled\":true}"

static void each_order_is_carried_out(void **state)
{
        Bench b = { .dir = *state };

        start(&b, ENABLED);
        free(await(&b, "listen auto i-0123456789abcdef0 eu-central-1 -"));
        play(&b, "1 " ID("01") " status - - - -");
        assert_news(&b, 1, 0, "       live: r2");
        /* nothing there, nothing to do, something to do */
        play(&b, "2 " ID("02") " poll web - - -");
        assert_news(&b, 2, -EIO, "the store has no web/channels/prod/manifest.json");
        publish(&b, "r2", 2);
        play(&b, "3 " ID("03") " poll web - - -");
        assert_news(&b, 3, 0, "web: deployment 2 (release r2) is live|live: r2|");
        publish(&b, "r3", 3);
        play(&b, "4 " ID("04") " poll web - - -");
        assert_news(&b, 4, 0, "web: deployment 3 (release r3) is done|live: r3; before: r2|took ");
        assert_string_equal(last_event(&b)->by, "ssm:" ID("04"));
        play(&b, "5 " ID("05") " deploy web r3 - -");
        assert_news(&b, 5, 0, "web: deployment 3 (release r3) is live|live: r3|");
        play(&b, "6 " ID("06") " deploy web r9 - -");
        assert_news(&b, 6, -ENOENT,
                    "release r9 is neither the channel's nor on this host: channel prod has r3, "
                    "here are r3, r2, r1");
        play(&b, "7 " ID("07") " deploy web r1 - -");
        assert_news(&b, 7, 0, "the rollback to release r1 is done|live: r1; before: r3|pinned: ");
        assert_string_equal(state_of(&b)->pinned_by, "ssm:" ID("07"));
        play(&b, "8 " ID("08") " deploy web r3 - -");
        assert_news(&b, 8, -EIO, "live: r1|next: order resume, ");
        play(&b, "9 " ID("09") " deploy web r1 - -");
        assert_news(&b, 9, 0, "release r1 is live already; channel prod has r3");
        play(&b, "10 " ID("10") " rollback web r2 - -");
        assert_news(&b, 10, 0, "the rollback to release r2 is done|live: r2; before: r1|");
        play(&b, "11 " ID("11") " rollback web r9 - -");
        assert_news(&b, 11, -ENOENT, "release r9 is not on this host: here are r3, r2, r1");
        play(&b, "12 " ID("12") " hold web - 2h the fair");
        assert_news(&b, 12, 0, "web: this order holds it until ");
        assert_string_equal(state_of(&b)->hold.by, "ssm:" ID("12"));
        play(&b, "13 " ID("13") " hold web - yesterday -");
        assert_news(&b, 13, -EINVAL, "");
        play(&b, "14 " ID("14") " confirm web - - -");
        assert_news(&b, 14, -ENOENT, "");
        play(&b, "15 " ID("15") " resume web - - -");
        assert_news(&b, 15, 0, "the channel decides again");
        assert_null(state_of(&b)->hold.by);
        bench_close(&b);
}

/* A poll that is under way may have read the manifest before the order came. */
static void an_order_is_newer_than_a_poll_under_way(void **state)
{
        Bench b = { .dir = *state };

        start(&b, ENABLED);
        publish(&b, "r2", 2);
        play(&b, "1 " ID("01") " poll web - - -");
        assert_news(&b, 1, 0, "release r2");
        play(&b, "hold back");
        play(&b, "2 " ID("02") " poll web - - -");
        free(await(&b, "held back"));
        publish(&b, "r3", 3);
        play(&b, "3 " ID("03") " deploy web r3 - -");
        play(&b, "4 " ID("04") " poll web - - -");
        play(&b, "let go");
        assert_news(&b, 2, 0, "release r2");
        assert_news(&b, 3, 0, "deployment 3 (release r3) is done|live: r3; before: r2|");
        assert_news(&b, 4, 0, "deployment 3 (release r3) is done|live: r3; before: r2|");
        assert_string_equal(last_event(&b)->by, "ssm:" ID("03"));
        bench_close(&b);
}

static void what_is_not_allowed_is_refused(void **state)
{
        Bench b = { .dir = *state };

        start(&b, ",{\"app\":\"api\",\"channel\":\"prod\"}],"
                  "\"ssm\":{\"enabled\":true,\"allow\":[\"status\",\"poll\"]}");
        play(&b, "1 " ID("01") " rollback web - - -");
        assert_news(&b, 1, -EPERM, "does not allow rollback");
        play(&b, "2 " ID("02") " poll - - - -");
        assert_news(&b, 2, -ENOENT, "say which application of this host; there are: web, api");
        play(&b, "3 " ID("03") " status db - - -");
        assert_news(&b, 3, -ENOENT, "there is no application db on this host; there are: web, api");
        play(&b, "4 rm -rf /");
        assert_news(&b, 4, -EINVAL, "");
        play(&b, "5 ");
        assert_news(&b, 5, -EINVAL, "");
        play(&b, "6 " ID("06") " reboot web - - -");
        assert_news(&b, 6, -EINVAL, "");
        play(&b, "cancel 17");
        play(&b, "7 " ID("07") " status api - - -");
        assert_news(&b, 7, 0, "live: nothing");
        assert_string_equal(state_of(&b)->current, "r2");
        assert_int_equal(state_of(&b)->n_events, 0);
        bench_close(&b);
}

/* The application holds updates off, so that a deployment waits. */
static int hold_off(const Bench *b)
{
        _cleanup_free_ char *path = in_dir(b, "web/control/update.lock"), *dir = NULL;
        int fd;

        make_dir(b, "web/control");
        dir = in_dir(b, "web/control");
        assert_return_code(chmod(dir, 0700), 0);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_return_code(fd, 0);
        assert_return_code(flock(fd, LOCK_EX), 0);
        return fd;
}

static void what_has_not_switched_is_given_up(void **state)
{
        Bench b = { .dir = *state };
        _cleanup_close_ int lock = -EBADF;

        start(&b, ENABLED);
        lock = hold_off(&b);
        publish(&b, "r3", 3);
        play(&b, "1 " ID("01") " deploy web r3 - -");
        assert_news(&b, 1, ORDER_GOES_ON,
                    "web: waiting while the application holds updates off, on the way to release "
                    "r3; live is r2");
        /* one that did not begin it only stops to wait */
        play(&b, "2 " ID("02") " poll web - - -");
        assert_news(&b, 2, ORDER_GOES_ON, "web: ");
        play(&b, "cancel 2");
        assert_news(&b, 2, -ECANCELED, "nothing that this order began is under way");
        assert_int_equal(state_of(&b)->phase, PHASE_WAITING);
        play(&b, "cancel 1");
        assert_news(&b, 1, -ECANCELED, "given up before the switch");
        assert_int_equal(state_of(&b)->phase, PHASE_IDLE);
        assert_string_equal(state_of(&b)->current, "r2");
        play(&b, "cancel 1");
        assert_news(&b, 1, -ECANCELED, "given up before the switch");
        /* the same again does nothing, and has the same answer */
        play(&b, "3 " ID("01") " deploy web r3 - -");
        assert_news(&b, 3, -ECANCELED, "given up before the switch");
        bench_close(&b);
}

/* Polls are a day apart: what an order finds in the channel is not left to them. */
static void what_waits_for_another_deployment_follows_it(void **state)
{
        Bench b = { .dir = *state };

        start(&b, ENABLED);
        publish_with(&b, "r3", 3, ",\"activate\":{\"health\":{\"confirm\":\"1h\"}}");
        play(&b, "1 " ID("01") " deploy web r3 - -");
        assert_news(&b, 1, ORDER_GOES_ON, "confirm");
        publish(&b, "r1", 4);
        play(&b, "2 " ID("02") " deploy web r1 - -");
        assert_news(&b, 2, ORDER_GOES_ON, "confirm");
        play(&b, "3 " ID("03") " confirm web - - -");
        assert_news(&b, 3, 0, "release r3 is confirmed");
        assert_news(&b, 1, 0, "web: deployment 3 (release r3) is done|live: r3; before: r2|");
        assert_news(&b, 2, 0, "web: deployment 4 (release r1) is done|live: r1; before: r2|");
        assert_string_equal(last_event(&b)->by, "ssm:" ID("02"));
        bench_close(&b);
}

/* What somebody far away had begun is the channel's as any other. */
static void a_hold_gives_up_what_was_ordered(void **state)
{
        Bench b = { .dir = *state };
        _cleanup_close_ int lock = -EBADF;

        start(&b, ENABLED);
        lock = hold_off(&b);
        publish(&b, "r3", 3);
        play(&b, "1 " ID("01") " poll web - - -");
        assert_news(&b, 1, ORDER_GOES_ON, "web: waiting ");
        assert_string_equal(state_of(&b)->pending.by, "ssm:" ID("01"));
        play(&b, "2 " ID("02") " hold web - - -");
        assert_news(&b, 1, -EIO, "failed: held by an administrator|live: r2; before: r2|");
        assert_int_equal(state_of(&b)->phase, PHASE_IDLE);
        play(&b, "3 " ID("03") " poll web - - -");
        assert_news(&b, 3, 0, " holds it until it is resumed|live: r2|");
        assert_string_equal(state_of(&b)->current, "r2");
        bench_close(&b);
}

/* What came in between is not what was ordered. */
static void a_rollback_in_between_is_no_success(void **state)
{
        Bench b = { .dir = *state };
        _cleanup_close_ int lock = -EBADF;

        start(&b, ENABLED);
        lock = hold_off(&b);
        publish(&b, "r3", 3);
        play(&b, "1 " ID("01") " poll web - - -");
        assert_news(&b, 1, ORDER_GOES_ON, "web: waiting ");
        play(&b, "2 " ID("02") " rollback web r1 - -");
        assert_news(&b, 1, -EIO, "|next: this rollback, which somebody else asked for, ");
        assert_news(&b, 2, 0, "the rollback to release r1 is done");
        bench_close(&b);
}

static void what_is_not_known_any_more_begins_nothing(void **state)
{
        Bench b = { .dir = *state };
        _cleanup_close_ int lock = -EBADF;

        start(&b, ENABLED);
        publish(&b, "r3", 3);
        play(&b, "1 " ID("01") " poll web - - -");
        assert_news(&b, 1, 0, "deployment 3 (release r3) is done");
        play(&b, "2 " ID("02") " rollback web r1 - -");
        assert_news(&b, 2, 0, "the rollback to release r1 is done");
        play(&b, "3 " ID("03") " hold web - - -");
        assert_news(&b, 3, 0, "");
        stop(&b);
        start(&b, ENABLED);
        free(await(&b, "listen "));
        play(&b, "again 4 " ID("01") " poll web - - -");
        assert_news(&b, 4, 0, "deployment 3 (release r3) is done|live: r1; before: r2");
        play(&b, "again 5 " ID("02") " rollback web r1 - -");
        assert_news(&b, 5, 0, "the rollback to release r1 is done");
        play(&b, "again 6 " ID("03") " hold web - - -");
        assert_news(&b, 6, 0, "held by this order");
        play(&b, "again 7 " ID("07") " rollback web r2 - -");
        assert_news(&b, 7, -EINTR, "Slipway was started anew before");
        play(&b, "again 8 " ID("08") " resume web - - -");
        assert_news(&b, 8, -EINTR, "held or pinned");
        play(&b, "again 9 " ID("09") " confirm web - - -");
        assert_news(&b, 9, -EINTR, "");
        assert_string_equal(state_of(&b)->hold.by, "ssm:" ID("03"));
        /* what is asked of the channel is known when the channel was asked, which is done at once
         */
        play(&b, "again 10 " ID("10") " deploy web r3 - -");
        assert_news(&b, 10, -EIO, "live: r1");
        assert_string_equal(state_of(&b)->current, "r1");
        bench_close(&b);
}

static void what_was_cut_off_begins_again(void **state)
{
        Bench b = { .dir = *state };
        _cleanup_close_ int lock = -EBADF;

        start(&b, ENABLED);
        lock = hold_off(&b);
        publish(&b, "r3", 3);
        play(&b, "1 " ID("01") " deploy web r3 - -");
        assert_news(&b, 1, ORDER_GOES_ON, "web: waiting ");
        stop(&b);
        lock = fd_close(lock);
        start(&b, ENABLED);
        free(await(&b, "listen "));
        play(&b, "again 2 " ID("01") " deploy web r3 - -");
        assert_news(&b, 2, 0, "deployment 3 (release r3) is done|live: r3; before: r2|");
        bench_close(&b);
}

static void a_lost_listener_comes_back(void **state)
{
        Bench b = { .dir = *state };
        _cleanup_close_ int lock = -EBADF;

        start(&b, ENABLED);
        lock = hold_off(&b);
        publish(&b, "r3", 3);
        play(&b, "1 " ID("01") " poll web - - -");
        assert_news(&b, 1, ORDER_GOES_ON, "web: waiting");
        play(&b, "die");
        free(await(&b, "listen "));
        assert_int_equal(state_of(&b)->phase, PHASE_WAITING);
        play(&b, "again 7 " ID("01") " poll web - - -");
        assert_news(&b, 7, ORDER_GOES_ON, "web: waiting");
        lock = fd_close(lock);
        assert_news(&b, 7, 0, "deployment 3 (release r3) is done");
        bench_close(&b);
}

static cJSON *describe(const Bench *b)
{
        cJSON *o = cJSON_CreateObject();

        assert_non_null(o);
        assert_return_code(orders_describe(b->agent->orders, o), 0);
        return o;
}

static void a_flood_is_refused(void **state)
{
        Bench b = { .dir = *state };
        _cleanup_close_ int lock = -EBADF;
        _cleanup_json_ cJSON *o = NULL;

        start(&b, ENABLED);
        lock = hold_off(&b);
        for (unsigned i = 0; i < 3 * ORDERS_KNOWN_MAX; i++)
                play(&b, "%u 00000000-0000-4000-8000-%012u status web - - -", i, i);
        play(&b, "%u " ID("01") " nonsense", 3 * ORDERS_KNOWN_MAX);
        assert_news(&b, 0, 0, "live: r2");
        assert_news(&b, 100, -EBUSY, "too many orders");
        assert_news(&b, 3 * ORDERS_KNOWN_MAX, -EINVAL, "");
        /* those that slipway-fetch says to have handed over before are as many as it likes */
        for (unsigned i = 0; i < 3 * ORDERS_KNOWN_MAX; i++)
                play(&b, "again %u 10000000-0000-4000-8000-%012u rollback web - - -", 1000 + i, i);
        /* nothing that could end them goes on while the application holds it off */
        publish(&b, "r3", 3);
        for (unsigned i = 0; i < 3 * ORDERS_KNOWN_MAX; i++)
                play(&b, "again %u 20000000-0000-4000-8000-%012u poll web - - -", 2000 + i, i);
        assert_news(&b, 1000 + 3 * ORDERS_KNOWN_MAX - 1, -EINTR, "it began nothing");
        assert_news(&b, 2000 + 3 * ORDERS_KNOWN_MAX - 1, -EBUSY, "too many orders are under way");
        o = describe(&b);
        assert_int_equal(
                cJSON_GetArraySize(cJSON_GetObjectItem(cJSON_GetObjectItem(o, "ssm"), "orders")),
                16);
        assert_int_equal(state_of(&b)->n_events, 0);
        bench_close(&b);
}

static size_t count_descriptors(void)
{
        DIR *d = opendir("/proc/self/fd");
        size_t n = 0;

        assert_non_null(d);
        while (readdir(d))
                n++;
        assert_int_equal(closedir(d), 0);
        return n;
}

/* Whatever comes from it, slipway-fetch can't make slipwayd fail, grow or install anything. */
static void havoc_changes_nothing(void **state)
{
        Bench b = { .dir = *state };
        size_t n_descriptors = 0, n_bytes = 0;

        start(&b, ENABLED);
        for (unsigned i = 1; i <= 3; i++) {
                play(&b, "havoc");
                play(&b, "%u " ID("9%u") " status web - - -", 90 + i, i);
                assert_news(&b, 90 + i, 0, "live: r2");
                /* by then it has grown to its size */
                if (i == 2) {
                        n_descriptors = count_descriptors();
                        n_bytes = mallinfo2().uordblks;
                }
        }
        assert_int_equal(count_descriptors(), n_descriptors);
        assert_true(mallinfo2().uordblks <= n_bytes + 32 * 1024);
        assert_string_equal(state_of(&b)->current, "r2");
        assert_int_equal(state_of(&b)->n_events, 0);
        assert_null(state_of(&b)->hold.by);
        bench_close(&b);
}

static void trouble_is_told(void **state)
{
        Bench b = { .dir = *state };
        _cleanup_json_ cJSON *before = NULL, *after = NULL;
        const cJSON *ssm;

        start(&b, ENABLED);
        free(await(&b, "listen "));
        play(&b, "1 " ID("01") " rollback web r9 - -");
        assert_news(&b, 1, -ENOENT, "");
        before = describe(&b);
        ssm = cJSON_GetObjectItem(before, "ssm");
        assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(ssm, "channel")),
                            "ec2messages");
        assert_true(cJSON_IsTrue(cJSON_GetObjectItem(ssm, "listening")));
        const cJSON *order = cJSON_GetArrayItem(cJSON_GetObjectItem(ssm, "orders"), 0);
        assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(order, "command")), ID("01"));
        assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(order, "result")), "failed");
        play(&b, "trouble the role may not");
        play(&b, "2 " ID("02") " status web - - -");
        assert_news(&b, 2, 0, "");
        after = describe(&b);
        ssm = cJSON_GetObjectItem(after, "ssm");
        assert_true(cJSON_IsFalse(cJSON_GetObjectItem(ssm, "listening")));
        assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(ssm, "trouble")),
                            "the role may not");
        bench_close(&b);
}

static const char *trouble_of(cJSON *described)
{
        return strempty(cJSON_GetStringValue(
                cJSON_GetObjectItem(cJSON_GetObjectItem(described, "ssm"), "trouble")));
}

/* The name in the configuration need not be the one that Systems Manager knows. */
static void it_listens_for_the_instance(void **state)
{
        Bench b = { .dir = *state, .instance = "web-1" };
        _cleanup_json_ cJSON *before = NULL, *after = NULL;
        Instance *instance = calloc(1, sizeof(Instance));

        start(&b, ENABLED);
        orders_look_again(b.agent->orders);
        before = describe(&b);
        assert_non_null(strstr(trouble_of(before), "instance id"));
        assert_string_equal(orders_channel(b.agent->orders), "none");
        assert_non_null(instance);
        instance->id = strdup("i-00000000000000001");
        b.agent->instance = instance;
        orders_look_again(b.agent->orders);
        free(await(&b, "listen auto i-00000000000000001 eu-central-1 -"));
        /* nothing is new */
        orders_look_again(b.agent->orders);
        play(&b, "1 " ID("01") " status web - - -");
        assert_news(&b, 1, 0, "live: r2");
        after = describe(&b);
        assert_string_equal(trouble_of(after), "");
        assert_string_equal(orders_channel(b.agent->orders), "ec2messages");
        b.agent->config->zone = strdup("eu-central-1a");
        orders_look_again(b.agent->orders);
        free(await(&b, "cancel"));
        free(await(&b, "listen auto i-00000000000000001 eu-central-1 eu-central-1a"));
        play(&b, "again 2 " ID("01") " status web - - -");
        assert_news(&b, 2, 0, "live: r2");
        bench_close(&b);
}

static void without_a_region_it_does_not_listen(void **state)
{
        Bench b = { .dir = *state, .regionless = true };
        const char *trouble = NULL;

        start(&b, ENABLED);
        while (!trouble) {
                _cleanup_json_ cJSON *o = describe(&b);
                trouble = cJSON_GetStringValue(
                        cJSON_GetObjectItem(cJSON_GetObjectItem(o, "ssm"), "trouble"));
                if (trouble)
                        assert_non_null(strstr(trouble, "this host's region is not known"));
                assert_true(sd_event_run(b.agent->event, 10 * 1000) >= 0);
        }
        bench_close(&b);
}

/* Waits until this is what the journal says last of whether orders can come. */
static void await_last_line(Bench *b, const char *log, const char *wanted)
{
        bool there = false;

        while (!there) {
                _cleanup_free_ char *text = NULL;
                const char *line = "";
                size_t size;
                assert_true(sd_event_run(b->agent->event, 10 * 1000) >= 0);
                assert_return_code(file_read_at(AT_FDCWD, log, 1 << 20, &text, &size), 0);
                for (char *at = text; (at = strstr(at, "rders can come ")); at++)
                        line = at;
                there = strncmp(line, wanted, strlen(wanted)) == 0;
        }
}

static void the_journal_says_in_the_end_what_is_so(void **state)
{
        Bench b = { .dir = *state };
        _cleanup_free_ char *log = in_dir(&b, "log");
        int was = dup(STDERR_FILENO), fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);

        assert_return_code(was, 0);
        assert_return_code(dup2(fd, STDERR_FILENO), 0);
        start(&b, ENABLED);
        free(await(&b, "listen "));
        await_last_line(&b, log, "rders can come through AWS Systems Manager, by ec2messages\n");
        play(&b, "trouble the role may not");
        await_last_line(&b, log, "rders can come through AWS Systems Manager: the role may not\n");
        play(&b, "opening");
        play(&b, "works");
        play(&b, "1 " ID("01") " status nobody - - -");
        assert_news(&b, 1, -ENOENT, "");
        await_last_line(&b, log, "rders can come through AWS Systems Manager, by auto\n");
        bench_close(&b);
        assert_return_code(dup2(was, STDERR_FILENO), 0);
        assert_return_code(close(was), 0);
        assert_return_code(close(fd), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(each_order_is_carried_out),
                test_in_dir(an_order_is_newer_than_a_poll_under_way),
                test_in_dir(what_is_not_allowed_is_refused),
                test_in_dir(what_has_not_switched_is_given_up),
                test_in_dir(what_waits_for_another_deployment_follows_it),
                test_in_dir(a_hold_gives_up_what_was_ordered),
                test_in_dir(a_rollback_in_between_is_no_success),
                test_in_dir(what_is_not_known_any_more_begins_nothing),
                test_in_dir(what_was_cut_off_begins_again),
                test_in_dir(a_lost_listener_comes_back),
                test_in_dir(a_flood_is_refused),
                test_in_dir(havoc_changes_nothing),
                test_in_dir(trouble_is_told),
                test_in_dir(it_listens_for_the_instance),
                test_in_dir(without_a_region_it_does_not_listen),
                test_in_dir(the_journal_says_in_the_end_what_is_so),
        };
        sigset_t child;

        if (sigemptyset(&child) < 0 || sigaddset(&child, SIGCHLD) < 0 ||
            sigprocmask(SIG_BLOCK, &child, NULL) < 0 ||
            setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent", 1) < 0)
                return EXIT_FAILURE;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
