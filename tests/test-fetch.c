/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <limits.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "clock.h"
#include "dsse.h"
#include "fault-server.h"
#include "fetch.h"
#include "message.h"
#include "spool.h"

#define PIECE_SIZE (UINT64_C(8) << 20)

static uint64_t ahead_usec;

/* In place of the one in common, so that hours pass. */
uint64_t clock_usec(clockid_t clock)
{
        struct timespec ts = {};

        (void) clock_gettime(clock, &ts);
        return ahead_usec + (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

/* A store in a directory, a fetch on it, and slipwayd's end of the socket. */
typedef struct Bench {
        char *dir, *url, *cache;
        int sockets[2];
        Fetch *fetch;
} Bench;

static char *join(const char *a, const char *b)
{
        char *s;

        assert_true(asprintf(&s, "%s%s", a, b) > 0);
        return s;
}

static void bench_open(Bench *b, char *dir)
{
        _cleanup_free_ char *store = join(dir, "/store");

        b->dir = dir;
        b->url = join("file://", store);
        b->cache = join(dir, "/cache");
        assert_return_code(mkdir_parents(b->cache, 0700), 0);
        assert_return_code(mkdir_parents(store, 0700), 0);
        assert_return_code(message_pair(b->sockets), 0);
        assert_return_code(fetch_new(b->url, b->cache, NULL, b->sockets[1], &b->fetch, NULL), 0);
}

static void bench_close(Bench *b)
{
        fetch_free(b->fetch);
        fd_close(b->sockets[0]);
        fd_close(b->sockets[1]);
        free(b->url);
        free(b->cache);
}

static void put(Bench *b, const char *path, const void *data, size_t size)
{
        _cleanup_free_ char *whole = join(b->dir, "/store/web");
        _cleanup_close_ int fd = -EBADF;

        assert_return_code(mkdir_parents(whole, 0700), 0);
        fd = dir_open_at(AT_FDCWD, whole);
        assert_return_code(file_write_atomic_at(fd, path, data, size, 0600), 0);
}

static Message order(MessageType type, uint64_t id, const char *path)
{
        Message m = { .type = type, .id = id };

        (void) stpncpy(m.text, path, MESSAGE_TEXT_MAX);
        return m;
}

static void expect(Bench *b, Message *ret, int *ret_fd)
{
        struct pollfd p = { .fd = b->sockets[0], .events = POLLIN };

        if (!b->fetch) /* a process of its own */
                assert_int_equal(poll(&p, 1, 20000), 1);
        while (poll(&p, 1, 0) == 0)
                assert_return_code(fetch_step(b->fetch), 0);
        assert_int_equal(message_receive(b->sockets[0], ret, ret_fd), 1);
}

static void ask(Bench *b, const Message *m, Message *ret, int *ret_fd)
{
        assert_return_code(message_send(b->sockets[0], m, -1), 0);
        expect(b, ret, ret_fd);
}

static void polls_are_conditional(void **state)
{
        _cleanup_(envelope_freep) Envelope *e = NULL, *got = NULL;
        _cleanup_free_ char *text = NULL, *packed = NULL;
        Message m = order(MESSAGE_POLL, 1, "web/manifest"), reply;
        size_t size;
        Bench b;
        int fd;

        bench_open(&b, *state);
        ask(&b, &m, &reply, &fd);
        assert_int_equal(reply.type, MESSAGE_POLLED);
        assert_int_equal(reply.result, POLL_ABSENT);

        assert_return_code(envelope_new("{}", 2, &e), 0);
        assert_return_code(envelope_format(e, MANIFEST_PAYLOAD_TYPE, &text, &size), 0);
        put(&b, "manifest", text, size);
        ask(&b, &m, &reply, &fd);
        assert_int_equal(reply.result, 0);
        assert_return_code(fd_read_all(fd, ENVELOPE_SIZE_MAX, &packed, &size), 0);
        fd_close(fd);
        assert_return_code(envelope_unpack(packed, size, &got), 0);
        assert_string_equal(got->payload, "{}");

        m.id = 2;
        ask(&b, &m, &reply, &fd);
        assert_int_equal(reply.result, POLL_UNCHANGED);
        assert_int_equal(reply.id, 2);
        m.size = 1;
        ask(&b, &m, &reply, &fd);
        assert_int_equal(reply.result, 0);
        fd_close(fd);
        m.size = 0;
        ask(&b, &m, &reply, &fd);
        assert_int_equal(reply.result, POLL_UNCHANGED);

        /* An hour later nothing is taken for granted. */
        ahead_usec += UINT64_C(3600) * 1000000;
        ask(&b, &m, &reply, &fd);
        assert_int_equal(reply.result, 0);
        fd_close(fd);
        ask(&b, &m, &reply, &fd);
        assert_int_equal(reply.result, POLL_UNCHANGED);

        /* A broken one is refused once, and then unchanged. */
        put(&b, "manifest", "{ broken", 8);
        ask(&b, &m, &reply, &fd);
        assert_int_equal(reply.result, -EBADMSG);
        assert_non_null(strstr(reply.text, "envelope"));
        ask(&b, &m, &reply, &fd);
        assert_int_equal(reply.result, POLL_UNCHANGED);
        bench_close(&b);
}

static Message watch_order(uint64_t id)
{
        Message m = order(MESSAGE_WATCH, id, "web/manifest");

        m.offset = 20 * 1000;
        m.size = 50;
        return m;
}

static void put_manifest(Bench *b, const char *payload)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size;

        assert_return_code(envelope_new(payload, strlen(payload), &e), 0);
        assert_return_code(envelope_format(e, MANIFEST_PAYLOAD_TYPE, &text, &size), 0);
        put(b, "manifest", text, size);
}

static void step_for(Bench *b, uint64_t usec)
{
        uint64_t until = clock_usec(CLOCK_MONOTONIC) + usec;

        while (clock_usec(CLOCK_MONOTONIC) < until)
                assert_return_code(fetch_step(b->fetch), 0);
}

static bool has_said_something(Bench *b)
{
        struct pollfd p = { .fd = b->sockets[0], .events = POLLIN };

        return poll(&p, 1, 0) > 0;
}

static void watches_tell_what_is_new(void **state)
{
        Message poll = order(MESSAGE_POLL, 1, "web/manifest"), cancel = { .type = MESSAGE_CANCEL };
        Message m = watch_order(2), reply;
        Bench b;
        int fd;

        bench_open(&b, *state);
        put_manifest(&b, "{}");
        ask(&b, &poll, &reply, &fd);
        fd_close(fd);
        assert_return_code(message_send(b.sockets[0], &m, -1), 0);
        step_for(&b, 200 * 1000);
        assert_false(has_said_something(&b));
        put_manifest(&b, "{ }");
        expect(&b, &reply, &fd);
        assert_int_equal(reply.type, MESSAGE_POLLED);
        assert_int_equal(reply.id, 2);
        assert_int_equal(reply.result, 0);
        fd_close(fd);

        /* It is over with that; and so it is when it is cancelled. */
        m.id = cancel.id = 3;
        assert_return_code(message_send(b.sockets[0], &m, -1), 0);
        step_for(&b, 100 * 1000);
        assert_return_code(message_send(b.sockets[0], &cancel, -1), 0);
        assert_return_code(fetch_step(b.fetch), 0);
        put_manifest(&b, "{  }");
        poll.id = 4;
        ask(&b, &poll, &reply, &fd);
        assert_int_equal(reply.id, 4);
        fd_close(fd);
        bench_close(&b);
}

static void watches_give_a_sign_of_life(void **state)
{
        uint64_t began_usec = clock_usec(CLOCK_BOOTTIME);
        Message poll = order(MESSAGE_POLL, 1, "web/manifest"), m = watch_order(2), reply;
        Bench b;
        int fd;

        bench_open(&b, *state);
        put_manifest(&b, "{}");
        ask(&b, &poll, &reply, &fd);
        fd_close(fd);
        ask(&b, &m, &reply, &fd);
        assert_int_equal(reply.id, 2);
        assert_int_equal(reply.result, POLL_UNCHANGED);
        assert_true(clock_usec(CLOCK_BOOTTIME) - began_usec >= WATCH_QUIET_USEC);
        bench_close(&b);
}

static uint8_t *noise(size_t size)
{
        uint8_t *data = malloc(size);
        uint32_t x = 1;

        assert_non_null(data);
        for (size_t i = 0; i < size; i++)
                data[i] = (x = x * 1664525 + 1013904223) >> 24;
        return data;
}

static const uint8_t *s3_object;
static const RangeSet *wanted; /* of it, by get_ranges(); NULL: nobody looks */

static void check_available(int fd, uint64_t available)
{
        for (size_t i = 0; i < range_set_n(wanted); i++) {
                const ByteRange r = range_set_get(wanted, i);
                const uint64_t n = available > r.offset ? MIN(r.size, available - r.offset) : 0;
                _cleanup_free_ uint8_t *data = malloc(n + 1);

                assert_non_null(data);
                assert_return_code(fd_pread_exactly(fd, data, n, r.offset), 0);
                assert_memory_equal(data, s3_object + r.offset, n);
        }
}

/* Runs a GET to its end; gives the descriptor of the spool file. */
static int get_ranges(Bench *b, Message *m, int ranges_fd, int expected_result)
{
        uint64_t available = 0;
        int spool = -EBADF, fd;
        Message reply;

        assert_return_code(message_send(b->sockets[0], m, ranges_fd), 0);
        for (;;) {
                expect(b, &reply, &fd);
                if (reply.id != m->id)
                        continue;
                if (reply.type == MESSAGE_SPOOLED)
                        spool = fd;
                else if (reply.type == MESSAGE_AVAILABLE) {
                        assert_true(reply.size > available && reply.size <= m->size);
                        available = reply.size;
                        if (wanted)
                                check_available(spool, available);
                } else
                        break;
        }
        assert_int_equal(reply.type, MESSAGE_GOT);
        assert_int_equal(reply.result, expected_result);
        if (expected_result == 0)
                assert_int_equal(available, m->size);
        return spool;
}

static int get(Bench *b, Message *m, int expected_result)
{
        return get_ranges(b, m, -1, expected_result);
}

static void objects_come_in_pieces_and_resume(void **state)
{
        size_t size = 3 * PIECE_SIZE + 12345;
        _cleanup_free_ uint8_t *data = noise(size);
        _cleanup_close_ int fd = -EBADF;
        Message m = order(MESSAGE_GET, 7, "web/artifact"), reply;
        Sha256 digest;
        Bench b;
        int none;

        bench_open(&b, *state);
        put(&b, "artifact", data, size);
        m.size = size;
        assert_return_code(sha256(data, size, &m.sha256), 0);
        fd = get(&b, &m, 0);
        assert_return_code(sha256_fd(fd, 0, size, &digest), 0);
        assert_true(sha256_equal(&digest, &m.sha256));
        assert_int_equal(pwrite(fd, "x", 1, 0), -1);

        /* A part again: what the store has comes back. */
        Message again = { .type = MESSAGE_GET_AGAIN, .id = 7, .offset = 100, .size = 50 };
        ask(&b, &again, &reply, &none);
        assert_int_equal(reply.type, MESSAGE_GOT_AGAIN);
        assert_int_equal(reply.result, 0);
        assert_int_equal(reply.offset, 100);
        again.offset = size;
        ask(&b, &again, &reply, &none);
        assert_int_equal(reply.result, -EPROTO);

        /* All is there: nothing is fetched, not even from a store that lost it. */
        m.id = 8;
        _cleanup_free_ char *gone = join(b.dir, "/store/web/artifact");
        assert_return_code(unlink(gone), 0);
        fd_close(get(&b, &m, 0));
        Message drop = { .type = MESSAGE_DROP, .sha256 = m.sha256 };
        assert_return_code(message_send(b.sockets[0], &drop, -1), 0);
        m.id = 9;
        fd_close(get(&b, &m, -ENOENT));
        bench_close(&b);
}

static void a_shorter_object_is_refused(void **state)
{
        Message m = order(MESSAGE_GET, 1, "web/artifact");
        Bench b;

        bench_open(&b, *state);
        put(&b, "artifact", "12345", 5);
        m.size = 6;
        fd_close(get(&b, &m, -EPROTO));
        bench_close(&b);
}

/* Asks with a descriptor. */
static void ask_with_fd(Bench *b, const Message *m, int fd, Message *ret, int *ret_fd)
{
        assert_return_code(message_send(b->sockets[0], m, fd), 0);
        expect(b, ret, ret_fd);
}

static int file_of(const char *data, size_t size)
{
        int fd = memfd_sealed("t", data, size);

        assert_return_code(fd, 0);
        return fd;
}

static void files_are_opened_without_a_store(void **state)
{
        static const char envelope[] =
                "{\"payloadType\":\"application/vnd.slipway.manifest+json\",\"payload\":\"e30=\","
                "\"signatures\":[{\"keyid\":\"\",\"sig\":\"AAAA\"}]}";
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_close_ int good = file_of(envelope, strlen(envelope)), got = -EBADF,
                            cut = file_of(envelope, strlen(envelope) - 1), none = -EBADF,
                            huge = -EBADF;
        _cleanup_free_ char *packed = NULL, *spaces = malloc(ENVELOPE_SIZE_MAX + 2);
        Message m = order(MESSAGE_OPEN, 1, ""), reply;
        size_t size;
        Bench b;

        bench_open(&b, *state);
        fetch_free(b.fetch);
        assert_return_code(fetch_new("s3://", b.cache, NULL, b.sockets[1], &b.fetch, NULL), 0);
        ask_with_fd(&b, &m, good, &reply, &got);
        assert_int_equal(reply.type, MESSAGE_POLLED);
        assert_int_equal(reply.result, 0);
        assert_return_code(fd_read_all(got, 4096, &packed, &size), 0);
        assert_return_code(envelope_unpack(packed, size, &e), 0);
        assert_int_equal(e->payload_size, 2);

        ask_with_fd(&b, &m, cut, &reply, &none);
        assert_int_equal(reply.result, -EBADMSG);
        assert_non_null(strstr(reply.text, "envelope is broken"));
        assert_non_null(spaces);
        memset(spaces, ' ', ENVELOPE_SIZE_MAX + 2);
        huge = file_of(spaces, ENVELOPE_SIZE_MAX + 1);
        ask_with_fd(&b, &m, huge, &reply, &none);
        assert_int_equal(reply.result, -EFBIG);
        ask_with_fd(&b, &m, -EBADF, &reply, &none);
        assert_int_equal(reply.result, -EPROTO);
        assert_int_equal(none, -EBADF);
        bench_close(&b);
}

static void no_store_is_an_answer(void **state)
{
        Message m = order(MESSAGE_POLL, 1, "web/manifest"), reply;
        Bench b;
        int fd;

        bench_open(&b, *state);
        fetch_free(b.fetch);
        assert_return_code(fetch_new("ftp://x", b.cache, NULL, b.sockets[1], &b.fetch, NULL), 0);
        ask(&b, &m, &reply, &fd);
        assert_int_equal(reply.type, MESSAGE_POLLED);
        assert_true(reply.result < 0);
        assert_non_null(strstr(reply.text, "ftp"));
        fd_close(TAKE_FD(b.sockets[0]));
        assert_int_equal(fetch_step(b.fetch), 1);
        bench_close(&b);
}

/* An S3 that serves one object in ranges, with faults to be switched on by its counts. */
enum {
        VERSION,      /* of the object: its ETag */
        CHANGES_SOON, /* so many requests until there is another version; 0: never */
        BREAKS,       /* so many answers are cut off */
        N_RANGES,
        N_FREE,      /* ranges without If-Match */
        N_FIRST,     /* ranges from the start of the object */
        N_NEW,       /* ranges of a later version that were answered */
        MAY_END,     /* the object that is missing may be said to be */
        N_ASKED = 9, /* bytes that were asked for */
        N_SENT,      /* bytes that were written */
};

#define S3_OBJECT_SIZE (5 * PIECE_SIZE + 777)
#define CUT_SIZE       (1024 * 1024)
#define STALL_SIZE     (4 * 1024 * 1024)

static void begin_range(const FaultRequest *q, size_t first, size_t last, int version)
{
        size_t size = last + 1 - first;
        char head[256];
        int n = snprintf(head, sizeof(head),
                         "HTTP/1.1 206 X\r\nContent-Length: %zu\r\nETag: \"v%d\"\r\n"
                         "Content-Range: bytes %zu-%zu/%zu\r\n\r\n",
                         size, version, first, last, (size_t) S3_OBJECT_SIZE);

        fault_write(q, head, n);
}

static void serve_range(const FaultRequest *q, size_t first, size_t last, int version)
{
        atomic_int *scratch = fault_counts()->scratch;
        size_t size = last + 1 - first;

        begin_range(q, first, last, version);
        if (size > CUT_SIZE && atomic_load(&scratch[BREAKS]) > 0 &&
            atomic_fetch_sub(&scratch[BREAKS], 1) > 0) {
                (void) atomic_fetch_add(&scratch[N_SENT], CUT_SIZE);
                fault_write(q, s3_object + first, CUT_SIZE);
                _exit(0);
        }
        (void) atomic_fetch_add(&scratch[N_SENT], (int) size);
        fault_write(q, s3_object + first, size);
}

static bool serve(const FaultRequest *q)
{
        _cleanup_free_ char *range = fault_header(q, "Range"), *match = fault_header(q, "If-Match");
        atomic_int *scratch = fault_counts()->scratch;
        size_t first, last;
        char etag[16];

        if (!range || sscanf(range, "bytes=%zu-%zu", &first, &last) != 2 || last >= S3_OBJECT_SIZE)
                return false;
        (void) atomic_fetch_add(&scratch[N_ASKED], (int) (last + 1 - first));
        (void) atomic_fetch_add(&scratch[N_RANGES], 1);
        if (atomic_load(&scratch[CHANGES_SOON]) > 0 &&
            atomic_fetch_sub(&scratch[CHANGES_SOON], 1) == 1)
                (void) atomic_fetch_add(&scratch[VERSION], 1);
        const int version = atomic_load(&scratch[VERSION]);
        (void) snprintf(etag, sizeof(etag), "\"v%d\"", version);
        if (!match)
                (void) atomic_fetch_add(&scratch[N_FREE], 1);
        if (first == 0)
                (void) atomic_fetch_add(&scratch[N_FIRST], 1);
        if (match && !streq(match, etag)) {
                fault_answer(q, 412, "", "", 0);
                return true;
        }
        if (version > 0)
                (void) atomic_fetch_add(&scratch[N_NEW], 1);
        serve_range(q, first, last, version);
        return true;
}

static void s3_open(Bench *b, char *dir, FaultServer *server, fault_serve_t serve_one)
{
        char endpoint[64];

        s3_object = noise(S3_OBJECT_SIZE);
        fault_server_start(server, serve_one);
        (void) snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", server->port);
        assert_return_code(setenv("AWS_ENDPOINT_URL_S3", endpoint, 1), 0);
        assert_return_code(setenv("AWS_REGION", "eu-central-1", 1), 0);
        assert_return_code(setenv("AWS_ACCESS_KEY_ID", "id", 1), 0);
        assert_return_code(setenv("AWS_SECRET_ACCESS_KEY", "secret", 1), 0);
        bench_open(b, dir);
        fetch_free(b->fetch);
        assert_return_code(
                fetch_new("s3://bucket/pre", b->cache, NULL, b->sockets[1], &b->fetch, NULL), 0);
}

static void s3_close(Bench *b, FaultServer *server)
{
        bench_close(b);
        fault_server_stop(server);
        free((void *) s3_object);
}

enum { N_RECHECKS = 8 }; /* as the scratch above, of serve_rechecks() */

/* Has the manifest, then nothing new for a while, then no use for whoever asks, then another. */
static bool serve_rechecks(const FaultRequest *q)
{
        _cleanup_free_ char *had = fault_header(q, "If-None-Match");
        const char body[] = "{ broken";

        if (had && atomic_fetch_add(&fault_counts()->scratch[N_RECHECKS], 1) < 6) {
                fault_answer(q, 304, "", "", 0);
                return true;
        }
        if (had && atomic_load(&fault_counts()->scratch[N_RECHECKS]) == 7)
                return false;
        fault_answer(q, 200, had ? "ETag: \"b\"\r\n" : "ETag: \"a\"\r\n", body, strlen(body));
        return true;
}

/* On a connection of their own, and what comes otherwise is asked for again in the usual way. */
static void watches_recheck(void **state)
{
        Message poll = order(MESSAGE_POLL, 1, "web/manifest"), m = watch_order(2), reply;
        FaultServer server;
        Bench b;
        int fd;

        s3_open(&b, *state, &server, serve_rechecks);
        ask(&b, &poll, &reply, &fd);
        assert_int_equal(reply.result, -EBADMSG);
        ask(&b, &m, &reply, &fd);
        assert_int_equal(reply.id, 2);
        assert_int_equal(reply.result, -EBADMSG);
        /* the poll, six that found nothing new, one that broke, one in the usual way */
        assert_int_equal(atomic_load(&server.counts->n_requests), 9);
        assert_in_range(atomic_load(&server.counts->n_connections), 2, 3);
        s3_close(&b, &server);
}

enum { N_WATCHED = 10, N_CHANGES = N_RECHECKS + 1 };

/* Nothing new, for any path, until the test says so for the third. */
static bool serve_many(const FaultRequest *q)
{
        _cleanup_free_ char *had = fault_header(q, "If-None-Match");

        if (had &&
            !(strstr(q->head, "/app3/") && atomic_load(&fault_counts()->scratch[N_CHANGES]) > 0))
                fault_answer(q, 304, "", "", 0);
        else
                fault_answer(q, 200, had ? "ETag: \"b\"\r\n" : "ETag: \"a\"\r\n", "{ broken", 8);
        return true;
}

/* More at once than there are connections for; each hears of its own object alone. */
static void watches_of_many_do_not_mix(void **state)
{
        char path[32];
        FaultServer server;
        Message reply;
        Bench b;
        int fd;

        s3_open(&b, *state, &server, serve_many);
        for (unsigned i = 0; i < N_WATCHED; i++) {
                (void) snprintf(path, sizeof(path), "app%u/manifest", i);
                Message poll = order(MESSAGE_POLL, 100 + i, path);
                ask(&b, &poll, &reply, &fd);
                Message m = watch_order(i + 1);
                (void) stpncpy(m.text, path, MESSAGE_TEXT_MAX);
                assert_return_code(message_send(b.sockets[0], &m, -1), 0);
        }
        step_for(&b, 300 * 1000);
        assert_false(has_said_something(&b));
        (void) atomic_fetch_add(&server.counts->scratch[N_CHANGES], 1);
        expect(&b, &reply, &fd);
        assert_int_equal(reply.id, 3 + 1);
        assert_int_equal(reply.result, -EBADMSG);
        step_for(&b, 100 * 1000);
        assert_false(has_said_something(&b));
        s3_close(&b, &server);
}

static bool serve_always(const FaultRequest *q)
{
        fault_answer(q, 200, "ETag: \"a\"\r\n", "{ broken", 8);
        return true;
}

/* Who never says that nothing has changed is not asked twice each time. */
static void rechecks_stop_where_they_are_of_no_use(void **state)
{
        Message poll = order(MESSAGE_POLL, 1, "web/manifest"), m = watch_order(2), reply;
        FaultServer server;
        Bench b;
        int fd;

        s3_open(&b, *state, &server, serve_always);
        ask(&b, &poll, &reply, &fd);
        ask(&b, &m, &reply, &fd);
        assert_int_equal(reply.result, -EBADMSG);
        assert_int_equal(atomic_load(&server.counts->n_requests), 3);
        ask(&b, &m, &reply, &fd);
        assert_int_equal(atomic_load(&server.counts->n_requests), 4);
        s3_close(&b, &server);
}

/* A 304 that only libcurl takes. */
static bool serve_strangely(const FaultRequest *q)
{
        _cleanup_free_ char *had = fault_header(q, "If-None-Match");
        const char answer[] = "HTTP/1.1 304 X\r\nX: in two\r\n lines\r\n\r\n";

        if (!had)
                return serve_always(q);
        fault_write(q, answer, strlen(answer));
        return true;
}

/* Where they never work they are not tried, on a connection each, before each poll. */
static void rechecks_stop_where_they_never_work(void **state)
{
        Message poll = order(MESSAGE_POLL, 1, "web/manifest"), m = watch_order(2), reply;
        FaultServer server;
        Bench b;
        int fd;

        s3_open(&b, *state, &server, serve_strangely);
        ask(&b, &poll, &reply, &fd);
        assert_return_code(message_send(b.sockets[0], &m, -1), 0);
        while (atomic_load(&server.counts->n_requests) < 20) {
                step_for(&b, 20 * 1000);
                assert_false(has_said_something(&b));
        }
        /* libcurl's, and three that failed */
        assert_int_equal(atomic_load(&server.counts->n_connections), 1 + 3);
        s3_close(&b, &server);
}

static Message s3_order(uint64_t id)
{
        Message m = order(MESSAGE_GET, id, "web/artifact");

        m.size = S3_OBJECT_SIZE;
        assert_return_code(sha256(s3_object, S3_OBJECT_SIZE, &m.sha256), 0);
        return m;
}

static void check_spool(int fd)
{
        Sha256 expected, digest;

        assert_return_code(sha256(s3_object, S3_OBJECT_SIZE, &expected), 0);
        assert_return_code(sha256_fd(fd, 0, S3_OBJECT_SIZE, &digest), 0);
        assert_true(sha256_equal(&digest, &expected));
        fd_close(fd);
}

static void ranges_are_of_one_object(void **state)
{
        FaultServer server;
        Bench b;

        s3_open(&b, *state, &server, serve);
        Message m = s3_order(1);
        check_spool(get(&b, &m, 0));
        assert_int_equal(server.counts->scratch[N_RANGES], 6);
        /* The first six can't know the ETag yet. */
        assert_int_equal(server.counts->scratch[N_FREE], 6);
        /* All at a time, on connections that are used again. */
        assert_in_range(server.counts->n_connections, 1, 6);
        s3_close(&b, &server);
}

static void broken_connections_cost_little(void **state)
{
        FaultServer server;
        Bench b;

        s3_open(&b, *state, &server, serve);
        Message m = s3_order(1);
        server.counts->scratch[BREAKS] = 3;
        check_spool(get(&b, &m, 0));
        assert_int_equal(server.counts->scratch[N_RANGES], 9);
        assert_int_equal(server.counts->scratch[N_SENT], S3_OBJECT_SIZE);
        s3_close(&b, &server);
}

static void check_changed(char *dir, int changes_at)
{
        FaultServer server;
        Bench b;

        s3_open(&b, dir, &server, serve);
        Message m = s3_order(1);
        server.counts->scratch[CHANGES_SOON] = changes_at;
        fd_close(get(&b, &m, -EHOSTDOWN));
        /* What came before is forgotten: all six come again, however many of them were of the new
         * one already: all but those before it, if one of its answers was the first to come. */
        m.id = 2;
        check_spool(get(&b, &m, 0));
        assert_int_equal(server.counts->scratch[N_FIRST], 2);
        assert_in_range(server.counts->scratch[N_NEW], 6, 6 + 6 - (changes_at - 1));
        s3_close(&b, &server);
}

static void a_changed_object_is_no_mix(void **state)
{
        check_changed(*state, 5);
}

static void an_object_that_changes_at_once_is_no_mix(void **state)
{
        check_changed(*state, 3);
}

/* Of web/again all comes as with serve(); of web/artifact each piece stalls after STALL_SIZE bytes,
 * but for the last one, which comes to nothing when MAY_END says so. */
static bool serve_halves(const FaultRequest *q)
{
        _cleanup_free_ char *range = fault_header(q, "Range");
        struct pollfd p = { .fd = q->fd, .events = POLLRDHUP };
        size_t first, last;

        if (!range || strstr(q->head, "/web/again "))
                return serve(q);
        if (sscanf(range, "bytes=%zu-%zu", &first, &last) != 2)
                return false;
        if (last + 1 - first > STALL_SIZE) {
                begin_range(q, first, last, 0);
                fault_write(q, s3_object + first, STALL_SIZE);
                fault_stall(q);
                return false;
        }
        while (atomic_load(&fault_counts()->scratch[MAY_END]) == 0)
                if (poll(&p, 1, 1) > 0)
                        return false;
        fault_answer(q, 404, "", "", 0);
        return true;
}

/* What the spool knows to be there. */
static uint64_t recorded(const Bench *b, const Message *m)
{
        _cleanup_(spool_freep) Spool *s = NULL;
        SpoolFile *f;
        uint64_t bytes;

        assert_return_code(spool_open(b->cache, &s, NULL), 0);
        assert_return_code(spool_file_open(s, &m->sha256, m->size, &f, NULL), 0);
        bytes = range_set_bytes(spool_file_have(f));
        spool_file_free(f);
        return bytes;
}

static void restart(Bench *b)
{
        fetch_free(b->fetch);
        fd_close(b->sockets[0]);
        fd_close(b->sockets[1]);
        assert_return_code(message_pair(b->sockets), 0);
        assert_return_code(
                fetch_new("s3://bucket/pre", b->cache, NULL, b->sockets[1], &b->fetch, NULL), 0);
}

static void cancel(Bench *b, FaultServer *server)
{
        Message m = { .type = MESSAGE_CANCEL, .id = 1 };

        (void) server;
        assert_return_code(message_send(b->sockets[0], &m, -1), 0);
        /* All that was on its way is said before. */
        ask(b, &(Message){ .type = MESSAGE_GET_AGAIN, .id = 1 }, &m, &(int){ -1 });
        while (m.type != MESSAGE_GOT_AGAIN)
                expect(b, &m, &(int){ -1 });
}

static void fail_one(Bench *b, FaultServer *server)
{
        Message reply = {};

        atomic_store(&server->counts->scratch[MAY_END], 1);
        while (reply.type != MESSAGE_GOT)
                expect(b, &reply, &(int){ -1 });
        assert_int_equal(reply.result, -ENOENT);
}

static void stop(Bench *b, FaultServer *server)
{
        (void) server;
        restart(b);
}

/* At `at` bytes of the first piece, of which the spool knows at least `least`. */
static void check_goes_on(Bench *b, FaultServer *server, void (*end)(Bench *, FaultServer *),
                          uint64_t least)
{
        Message m = s3_order(1), reply = {};
        int fd;

        assert_return_code(message_send(b->sockets[0], &m, -1), 0);
        while (reply.type != MESSAGE_AVAILABLE || reply.size <= STALL_SIZE * 3 / 4) {
                expect(b, &reply, &fd);
                fd_close(fd);
        }
        end(b, server);
        const uint64_t bytes = recorded(b, &m);
        assert_in_range(bytes, least, S3_OBJECT_SIZE / 2);
        m = s3_order(2);
        (void) stpcpy(m.text, "web/again");
        check_spool(get(b, &m, 0));
        assert_int_equal(server->counts->scratch[N_ASKED], S3_OBJECT_SIZE - bytes);
}

static void halves_are_kept(char *dir, void (*end)(Bench *, FaultServer *))
{
        FaultServer server;
        Bench b;

        s3_open(&b, dir, &server, serve_halves);
        check_goes_on(&b, &server, end, STALL_SIZE * 3 / 4);
        s3_close(&b, &server);
}

static void a_request_that_is_cancelled_goes_on(void **state)
{
        halves_are_kept(*state, cancel);
}

static void a_request_that_failed_goes_on(void **state)
{
        halves_are_kept(*state, fail_one);
}

static void a_fetch_that_was_stopped_goes_on(void **state)
{
        halves_are_kept(*state, stop);
}

/* What is there of the object is as it should be, and the rest is not there. */
static void check_ranges(int fd, const RangeSet *there)
{
        _cleanup_free_ uint8_t *data = malloc(S3_OBJECT_SIZE), *expected = malloc(S3_OBJECT_SIZE);

        assert_true(data && expected);
        assert_return_code(fd_pread_exactly(fd, data, S3_OBJECT_SIZE, 0), 0);
        memset(expected, 0, S3_OBJECT_SIZE);
        for (size_t i = 0; i < range_set_n(there); i++) {
                const ByteRange r = range_set_get(there, i);
                memcpy(expected + r.offset, s3_object + r.offset, r.size);
        }
        assert_memory_equal(data, expected, S3_OBJECT_SIZE);
}

static RangeSet *some(const ByteRange *ranges, size_t n)
{
        RangeSet *s;

        assert_return_code(range_set_new(&s), 0);
        for (size_t i = 0; i < n; i++)
                assert_return_code(range_set_add(s, ranges[i].offset, ranges[i].size), 0);
        return s;
}

static int packed(const RangeSet *s)
{
        size_t size;
        int fd = range_set_pack(s, &size);

        assert_return_code(fd, 0);
        return fd;
}

static const ByteRange first_ranges[] = {
        {5,                         1             },
        { 100,                      200           },
        { PIECE_SIZE - 1,           2 * PIECE_SIZE},
        { S3_OBJECT_SIZE - 1000000, 400000        },
        { S3_OBJECT_SIZE - 1,       1             },
};
static const ByteRange second_ranges[] = {
        {0,                        150       },
        { PIECE_SIZE,              PIECE_SIZE},
        { S3_OBJECT_SIZE - 700000, 700000    },
};

static void ranges_alone_are_fetched(void **state)
{
        _cleanup_(range_set_freep) RangeSet *first = some(first_ranges, ELEMENTSOF(first_ranges)),
                                            *second =
                                                    some(second_ranges, ELEMENTSOF(second_ranges)),
                                            *none = some(NULL, 0);
        _cleanup_close_ int first_fd = packed(first), second_fd = packed(second),
                            none_fd = packed(none), fd = -EBADF;
        FaultServer server;
        Bench b;

        s3_open(&b, *state, &server, serve);
        Message m = s3_order(1);
        fd_close(get_ranges(&b, &m, none_fd, 0));
        assert_int_equal(server.counts->n_requests, 0);
        m.id = 2;
        wanted = first;
        fd = get_ranges(&b, &m, first_fd, 0);
        wanted = NULL;
        check_ranges(fd, first);
        assert_int_equal(server.counts->scratch[N_ASKED], range_set_bytes(first));
        /* Pieces have limits. */
        assert_int_equal(server.counts->scratch[N_RANGES], ELEMENTSOF(first_ranges) + 1);

        /* More is wanted of an object that is still held, and of one that is not. */
        m.id = 3;
        fd_close(get_ranges(&b, &m, second_fd, 0));
        assert_return_code(range_set_add_set(first, second), 0);
        check_ranges(fd, first);
        assert_int_equal(server.counts->scratch[N_ASKED], range_set_bytes(first));
        restart(&b);
        m.id = 4;
        fd_close(get_ranges(&b, &m, first_fd, 0));
        assert_int_equal(server.counts->scratch[N_ASKED], range_set_bytes(first));
        m.id = 5;
        check_spool(get(&b, &m, 0));
        assert_int_equal(server.counts->scratch[N_ASKED], S3_OBJECT_SIZE);
        s3_close(&b, &server);
}

/* What is no set of ranges of this object harms nobody. */
static void ranges_that_are_none_are_refused(void **state)
{
        static const ByteRange past[] = {
                {S3_OBJECT_SIZE, 1}
        };
        _cleanup_(range_set_freep) RangeSet *too_far = some(past, 1);
        _cleanup_close_ int past_fd = packed(too_far), torn_fd = file_of("torn", 4);
        FaultServer server;
        Bench b;

        s3_open(&b, *state, &server, serve);
        Message m = s3_order(1);
        fd_close(get_ranges(&b, &m, past_fd, -EBADMSG));
        m.id = 2;
        fd_close(get_ranges(&b, &m, torn_fd, -EBADMSG));
        assert_int_equal(server.counts->n_requests, 0);
        m.id = 3;
        check_spool(get(&b, &m, 0));
        s3_close(&b, &server);
}

/* What came for a request. */
typedef struct Came {
        int spool;
        uint64_t available;
        bool got;
        int result;
} Came;

static void send_get_ranges(Bench *b, Message m, uint64_t id, const char *path, int ranges_fd)
{
        m.id = id;
        memset(m.text, 0, sizeof(m.text));
        (void) stpncpy(m.text, path, MESSAGE_TEXT_MAX);
        assert_return_code(message_send(b->sockets[0], &m, ranges_fd), 0);
}

static void send_get(Bench *b, Message m, uint64_t id, const char *path)
{
        send_get_ranges(b, m, id, path, -1);
}

/* Takes the next answer, to one of the requests 0 to n - 1. */
static void take(Bench *b, Came *came, size_t n)
{
        Message reply;
        int fd;

        expect(b, &reply, &fd);
        assert_true(reply.id < n);
        Came *c = &came[reply.id];
        assert_false(c->got);
        if (reply.type == MESSAGE_SPOOLED)
                c->spool = fd;
        else if (reply.type == MESSAGE_AVAILABLE) {
                assert_true(c->spool > 0 && reply.size > c->available);
                c->available = reply.size;
        } else {
                assert_int_equal(reply.type, MESSAGE_GOT);
                c->got = true;
                c->result = reply.result;
        }
}

static void an_object_is_fetched_once_for_all(void **state)
{
        FaultServer server;
        Came came[3] = {};
        Message reply;
        Bench b;
        int fd;

        s3_open(&b, *state, &server, serve);
        Message m = s3_order(0);
        send_get(&b, m, 0, "web/artifact");
        while (came[0].available == 0)
                take(&b, came, 1);
        send_get(&b, m, 1, "api/artifact");
        while (!came[0].got || !came[1].got)
                take(&b, came, 2);
        send_get(&b, m, 2, "late/artifact");
        while (!came[2].got)
                take(&b, came, 3);
        for (size_t i = 0; i < 3; i++) {
                assert_int_equal(came[i].result, 0);
                assert_int_equal(came[i].available, S3_OBJECT_SIZE);
                check_spool(came[i].spool);
        }
        assert_int_equal(server.counts->scratch[N_RANGES], 6);
        /* Whoever names another size for it does not disturb the others. */
        m.id = 3;
        m.size--;
        ask(&b, &m, &reply, &fd);
        assert_int_equal(reply.type, MESSAGE_GOT);
        assert_int_equal(reply.result, -EBUSY);
        s3_close(&b, &server);
}

/* Three that want parts of it, which overlap. */
static void each_byte_is_fetched_once_for_all(void **state)
{
        static const ByteRange third_ranges[] = {
                {4 * PIECE_SIZE, 1000}
        };
        _cleanup_(range_set_freep) RangeSet *first = some(first_ranges, ELEMENTSOF(first_ranges)),
                                            *second =
                                                    some(second_ranges, ELEMENTSOF(second_ranges)),
                                            *third = some(third_ranges, 1);
        _cleanup_close_ int first_fd = packed(first), second_fd = packed(second),
                            third_fd = packed(third);
        FaultServer server;
        Came came[3] = {};
        Bench b;

        s3_open(&b, *state, &server, serve);
        Message m = s3_order(0);
        send_get_ranges(&b, m, 0, "web/artifact", first_fd);
        send_get_ranges(&b, m, 1, "api/artifact", second_fd);
        send_get_ranges(&b, m, 2, "web/artifact", third_fd);
        while (!came[0].got || !came[1].got || !came[2].got)
                take(&b, came, 3);
        assert_return_code(range_set_add_set(first, second), 0);
        assert_return_code(range_set_add_set(first, third), 0);
        check_ranges(came[0].spool, first);
        assert_int_equal(server.counts->scratch[N_ASKED], range_set_bytes(first));
        for (size_t i = 0; i < 3; i++) {
                assert_int_equal(came[i].result, 0);
                assert_int_equal(came[i].available, S3_OBJECT_SIZE);
                fd_close(came[i].spool);
        }
        s3_close(&b, &server);
}

/* Two objects at once. */
static void objects_share_a_bandwidth(void **state)
{
        static const uint64_t limit = UINT64_C(4) << 20, size = UINT64_C(3) << 20;
        const ByteRange part = { 1000, size };
        _cleanup_(range_set_freep) RangeSet *ranges = some(&part, 1);
        _cleanup_close_ int fd = packed(ranges);
        FaultServer server;
        Came came[2] = {};
        Bench b;

        s3_open(&b, *state, &server, serve);
        fetch_set_bandwidth(b.fetch, limit);
        Message m = s3_order(0), other = m;
        other.sha256.bytes[0] ^= 1;
        const uint64_t began_usec = clock_usec(CLOCK_MONOTONIC);
        send_get_ranges(&b, m, 0, "web/artifact", fd);
        send_get_ranges(&b, other, 1, "api/artifact", fd);
        while (!came[0].got && !came[1].got)
                take(&b, came, 2);
        /* They take turns: of the other one all but a piece was asked for. */
        assert_in_range(server.counts->scratch[N_ASKED], 2 * size - 2 * (limit / 4), 2 * size);
        while (!came[0].got || !came[1].got)
                take(&b, came, 2);
        /* The last piece is not waited for. */
        assert_true(clock_usec(CLOCK_MONOTONIC) - began_usec >=
                    (2 * size - limit / 4) * 1000000 / limit);
        assert_int_equal(server.counts->scratch[N_ASKED], 2 * size);
        assert_int_equal(server.counts->scratch[N_RANGES], 2 * size / (limit / 4));
        check_ranges(came[0].spool, ranges);
        check_ranges(came[1].spool, ranges);
        fd_close(came[0].spool);
        fd_close(came[1].spool);
        s3_close(&b, &server);
}

/* Two parts of one object: who comes second does not wait for all of the first. */
static void parts_of_an_object_take_turns(void **state)
{
        static const uint64_t limit = UINT64_C(4) << 20, size = UINT64_C(3) << 20;
        const ByteRange parts[] = {
                {0,         size},
                { 2 * size, size}
        };
        _cleanup_(range_set_freep) RangeSet *first = some(&parts[0], 1),
                                            *second = some(&parts[1], 1);
        _cleanup_close_ int first_fd = packed(first), second_fd = packed(second);
        FaultServer server;
        Came came[2] = {};
        Bench b;

        s3_open(&b, *state, &server, serve);
        fetch_set_bandwidth(b.fetch, limit);
        Message m = s3_order(0);
        send_get_ranges(&b, m, 0, "web/artifact", first_fd);
        send_get_ranges(&b, m, 1, "api/artifact", second_fd);
        while (!came[0].got)
                take(&b, came, 2);
        assert_in_range(server.counts->scratch[N_ASKED], 2 * size - 2 * (limit / 4), 2 * size);
        while (!came[1].got)
                take(&b, came, 2);
        assert_int_equal(server.counts->scratch[N_ASKED], 2 * size);
        fd_close(came[0].spool);
        fd_close(came[1].spool);
        s3_close(&b, &server);
}

static void a_store_in_a_directory_has_the_same_limit(void **state)
{
        static const uint64_t limit = UINT64_C(1) << 20, size = UINT64_C(1) << 20;
        _cleanup_free_ uint8_t *data = noise(size);
        Message m = order(MESSAGE_GET, 1, "web/artifact");
        Bench b;

        bench_open(&b, *state);
        put(&b, "artifact", data, size);
        m.size = size;
        assert_return_code(sha256(data, size, &m.sha256), 0);
        fetch_set_bandwidth(b.fetch, limit);
        const uint64_t began_usec = clock_usec(CLOCK_MONOTONIC);
        fd_close(get(&b, &m, 0));
        assert_true(clock_usec(CLOCK_MONOTONIC) - began_usec >=
                    (size - limit / 4) * 1000000 / limit);
        bench_close(&b);
}

static void one_that_goes_takes_nothing_from_others(void **state)
{
        FaultServer server;
        Came came[3] = {};
        Bench b;

        s3_open(&b, *state, &server, serve);
        Message m = s3_order(0), drop = { .type = MESSAGE_DROP, .sha256 = m.sha256 };
        Message again = { .type = MESSAGE_GET_AGAIN, .id = 1, .offset = 5, .size = 50 }, reply;
        Message cancel = { .type = MESSAGE_CANCEL, .id = 0 };
        int fd;
        send_get(&b, m, 0, "web/artifact");
        send_get(&b, m, 1, "web/artifact");
        while (came[1].available < PIECE_SIZE)
                take(&b, came, 2);
        assert_return_code(message_send(b.sockets[0], &drop, -1), 0);
        assert_return_code(message_send(b.sockets[0], &cancel, -1), 0);
        while (!came[1].got)
                take(&b, came, 2);
        assert_int_equal(came[1].result, 0);
        assert_int_equal(server.counts->scratch[N_FIRST], 1);
        /* Of a file that is not in the spool any more, parts come again all the same. */
        ask(&b, &again, &reply, &fd);
        /* The one that went may have had all of it before that was read. */
        if (reply.type == MESSAGE_GOT && reply.id == cancel.id)
                expect(&b, &reply, &fd);
        assert_int_equal(reply.type, MESSAGE_GOT_AGAIN);
        assert_int_equal(reply.result, 0);
        send_get(&b, m, 2, "web/artifact");
        while (!came[2].got)
                take(&b, came, 3);
        assert_int_equal(server.counts->scratch[N_FIRST], 2);
        if (came[0].spool > 0)
                fd_close(came[0].spool);
        check_spool(came[1].spool);
        check_spool(came[2].spool);
        s3_close(&b, &server);
}

static bool serve_but_gone(const FaultRequest *q)
{
        struct timespec msec = { .tv_nsec = 1000000 };

        if (!strstr(q->head, "/web/gone "))
                return serve(q);
        while (atomic_load(&fault_counts()->scratch[MAY_END]) == 0)
                (void) nanosleep(&msec, NULL);
        fault_answer(q, 404, "", "", 0);
        return true;
}

static void a_path_that_fails_is_not_all(void **state)
{
        FaultServer server;
        Came came[2] = {};
        Bench b;

        s3_open(&b, *state, &server, serve_but_gone);
        Message m = s3_order(0);
        send_get(&b, m, 0, "web/gone");
        send_get(&b, m, 1, "web/artifact");
        while (came[1].spool == 0)
                take(&b, came, 2);
        assert_int_equal(server.counts->scratch[N_RANGES], 0);
        atomic_store(&server.counts->scratch[MAY_END], 1);
        while (!came[1].got)
                take(&b, came, 2);
        assert_true(came[0].got);
        assert_int_equal(came[0].result, -ENOENT);
        assert_int_equal(came[1].result, 0);
        fd_close(came[0].spool);
        check_spool(came[1].spool);
        s3_close(&b, &server);
}

static char *s3_manifest;

static bool serve_manifest(const FaultRequest *q)
{
        _cleanup_free_ char *known = fault_header(q, "If-None-Match");

        if (strstr(q->head, "/web/absent "))
                fault_answer(q, 404, "", "", 0);
        else if (known)
                fault_answer(q, 304, "ETag: \"v1\"\r\n", "", 0);
        else
                fault_answer(q, 200, "ETag: \"v1\"\r\n", s3_manifest, strlen(s3_manifest));
        return true;
}

static void brakes_are_read(void **state)
{
        static const char on[] = "{\"halted\":true,\"by\":\"ann\",\"reason\":\"the fair\"}";
        static const char broken[] = "{\"halted\":1}";
        Message m = order(MESSAGE_BRAKE, 1, "web/manifest"), reply;
        Bench b;
        int fd;

        bench_open(&b, *state);
        ask(&b, &m, &reply, &fd);
        assert_int_equal(reply.type, MESSAGE_BRAKED);
        assert_int_equal(reply.result, POLL_ABSENT);
        put(&b, "manifest", "{\"halted\":false}", 16);
        ask(&b, &m, &reply, &fd);
        assert_int_equal(reply.result, 0);
        put(&b, "manifest", on, strlen(on));
        ask(&b, &m, &reply, &fd);
        assert_int_equal(reply.result, BRAKED_ON);
        assert_string_equal(reply.text, "by ann: the fair");
        put(&b, "manifest", broken, strlen(broken));
        ask(&b, &m, &reply, &fd);
        assert_int_equal(reply.result, -EBADMSG);
        bench_close(&b);
}

/* No descriptor is left for the answer: that says nothing about the manifest. */
static void a_failure_of_ours_is_not_remembered(void **state)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        Message m = order(MESSAGE_POLL, 1, "web/absent"), reply;
        struct rlimit limit, none;
        FaultServer server;
        size_t size;
        Bench b;
        int fd;

        assert_return_code(envelope_new("{}", 2, &e), 0);
        assert_return_code(envelope_format(e, MANIFEST_PAYLOAD_TYPE, &s3_manifest, &size), 0);
        s3_open(&b, *state, &server, serve_manifest);
        ask(&b, &m, &reply, &fd); /* opens the connection that the next one uses again */
        assert_int_equal(reply.result, POLL_ABSENT);
        m = order(MESSAGE_POLL, 2, "web/manifest");
        assert_return_code(getrlimit(RLIMIT_NOFILE, &limit), 0);
        none = limit;
        fd = fcntl(0, F_DUPFD_CLOEXEC, 3);
        none.rlim_cur = fd;
        fd_close(fd);
        assert_return_code(setrlimit(RLIMIT_NOFILE, &none), 0);
        ask(&b, &m, &reply, &fd);
        assert_return_code(setrlimit(RLIMIT_NOFILE, &limit), 0);
        assert_int_equal(reply.result, -EMFILE);
        ask(&b, &m, &reply, &fd);
        assert_int_equal(reply.result, 0);
        fd_close(fd);
        ask(&b, &m, &reply, &fd);
        assert_int_equal(reply.result, POLL_UNCHANGED);
        s3_close(&b, &server);
        free(s3_manifest);
}

/* slipway-fetch itself in place of the engine, with the sockets of b. */
static pid_t start_program(Bench *b)
{
        char program[PATH_MAX];
        pid_t pid;

        (void) snprintf(program, sizeof(program), "%s/agent/slipway-fetch",
                        getenv("SLIPWAY_BUILD_ROOT"));
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                if (dup2(b->sockets[1], MESSAGE_FD) != MESSAGE_FD ||
                    fcntl(MESSAGE_FD, F_SETFD, 0) < 0 ||
                    /* The search for leaks is a process of its own, which the sandbox forbids. */
                    setenv("ASAN_OPTIONS", "detect_leaks=0", 1) < 0)
                        _exit(99);
                (void) execl(program, program, "--store", b->url, "--cache", b->cache, "--state",
                             b->dir, "--bandwidth", "1073741824", (char *) NULL);
                _exit(99);
        }
        b->sockets[1] = fd_close(b->sockets[1]);
        return pid;
}

static void expect_from_program(Bench *b, const Message *m, int body, Message *ret, int *ret_fd)
{
        struct pollfd p = { .fd = b->sockets[0], .events = POLLIN };

        assert_return_code(message_send(b->sockets[0], m, body), 0);
        assert_int_equal(poll(&p, 1, 20000), 1);
        assert_int_equal(message_receive(b->sockets[0], ret, ret_fd), 1);
}

static void assert_confined(pid_t pid)
{
        _cleanup_free_ char *text = NULL;
        char path[64];

        (void) snprintf(path, sizeof(path), "/proc/%d/status", (int) pid);
        assert_return_code(file_read_at(AT_FDCWD, path, 65536, &text, NULL), 0);
        assert_non_null(strstr(text, "\nSeccomp:\t2\n"));
        assert_non_null(strstr(text, "\nNoNewPrivs:\t1\n"));
}

/* The spool and the store are reached from inside, also a store that is not there yet. */
static void program_in_its_sandbox(void **state)
{
        _cleanup_close_ int body = memfd_sealed("t", "{}", 2);
        _cleanup_free_ char *url = join(*state, "/store/new/store");
        Message m = order(MESSAGE_PUT, 1, "web/status"), reply;
        int fd, status;
        Bench b;

        if (!getenv("SLIPWAY_BUILD_ROOT"))
                skip();
        bench_open(&b, *state);
        free(b.url);
        b.url = join("file://", url);
        pid_t pid = start_program(&b);
        expect_from_program(&b, &m, body, &reply, &fd);
        assert_string_equal(reply.text, "");
        assert_int_equal(reply.type, MESSAGE_PUT_DONE);
        assert_confined(pid);
        assert_int_equal(reply.result, 0);
        m = order(MESSAGE_GET, 2, "web/status");
        m.size = 2;
        expect_from_program(&b, &m, -EBADF, &reply, &fd);
        assert_int_equal(reply.type, MESSAGE_SPOOLED);
        fd_close(fd);
        while (reply.type != MESSAGE_GOT) {
                struct pollfd p = { .fd = b.sockets[0], .events = POLLIN };
                assert_int_equal(poll(&p, 1, 20000), 1);
                assert_int_equal(message_receive(b.sockets[0], &reply, &fd), 1);
        }
        assert_int_equal(reply.result, 0);
        b.sockets[0] = fd_close(b.sockets[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        bench_close(&b);
}

static void program_reaches_the_network(void **state)
{
        Message m = order(MESSAGE_POLL, 1, "web/absent"), reply;
        FaultServer server;
        int fd, status;
        Bench b;

        if (!getenv("SLIPWAY_BUILD_ROOT"))
                skip();
        s3_open(&b, *state, &server, serve_manifest);
        free(b.url);
        b.url = strdup("s3://bucket/pre");
        pid_t pid = start_program(&b);
        expect_from_program(&b, &m, -EBADF, &reply, &fd);
        assert_string_equal(reply.text, "environment");
        assert_int_equal(reply.result, POLL_ABSENT);
        b.sockets[0] = fd_close(b.sockets[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        s3_close(&b, &server);
}

static pid_t program;

static void kill_program(Bench *b, FaultServer *server)
{
        int status;

        (void) server;
        assert_return_code(kill(program, SIGKILL), 0);
        assert_int_equal(waitpid(program, &status, 0), program);
        restart(b);
}

/* Without a word: its successor asks for what it did not get, but for the last MiB at most. */
static void a_fetch_that_was_killed_goes_on(void **state)
{
        FaultServer server;
        Bench b;

        if (!getenv("SLIPWAY_BUILD_ROOT"))
                skip();
        s3_open(&b, *state, &server, serve_halves);
        b.fetch = fetch_free(b.fetch);
        free(b.url);
        b.url = strdup("s3://bucket/pre");
        program = start_program(&b);
        check_goes_on(&b, &server, kill_program, STALL_SIZE * 3 / 4 - (1 << 20));
        s3_close(&b, &server);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(polls_are_conditional),
                test_in_dir(watches_tell_what_is_new),
                test_in_dir(watches_give_a_sign_of_life),
                test_in_dir(watches_recheck),
                test_in_dir(watches_of_many_do_not_mix),
                test_in_dir(rechecks_stop_where_they_are_of_no_use),
                test_in_dir(rechecks_stop_where_they_never_work),
                test_in_dir(brakes_are_read),
                test_in_dir(objects_come_in_pieces_and_resume),
                test_in_dir(a_shorter_object_is_refused),
                test_in_dir(files_are_opened_without_a_store),
                test_in_dir(no_store_is_an_answer),
                test_in_dir(ranges_are_of_one_object),
                test_in_dir(broken_connections_cost_little),
                test_in_dir(a_changed_object_is_no_mix),
                test_in_dir(an_object_that_changes_at_once_is_no_mix),
                test_in_dir(ranges_alone_are_fetched),
                test_in_dir(ranges_that_are_none_are_refused),
                test_in_dir(an_object_is_fetched_once_for_all),
                test_in_dir(each_byte_is_fetched_once_for_all),
                test_in_dir(objects_share_a_bandwidth),
                test_in_dir(parts_of_an_object_take_turns),
                test_in_dir(a_store_in_a_directory_has_the_same_limit),
                test_in_dir(one_that_goes_takes_nothing_from_others),
                test_in_dir(a_path_that_fails_is_not_all),
                test_in_dir(a_failure_of_ours_is_not_remembered),
                test_in_dir(program_in_its_sandbox),
                test_in_dir(program_reaches_the_network),
                test_in_dir(a_request_that_is_cancelled_goes_on),
                test_in_dir(a_request_that_failed_goes_on),
                test_in_dir(a_fetch_that_was_stopped_goes_on),
                test_in_dir(a_fetch_that_was_killed_goes_on),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
