/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>

#include "aws-environment.h"
#include "brake.h"
#include "clock.h"
#include "dsse.h"
#include "err.h"
#include "fd.h"
#include "fetch.h"
#include "http.h"
#include "log.h"
#include "memory.h"
#include "message.h"
#include "metadata.h"
#include "poll-wait.h"
#include "spool.h"
#include "ssm-relay.h"
#include "store.h"

#define N_RANGES_MAX   4
#define AVAILABLE_STEP (UINT64_C(256) << 10)
#define PUT_SIZE_MAX   (64 * 1024)
#define N_KNOWN_MAX    256
#define KNOWN_USEC     (UINT64_C(3600) * 1000000)

/* What a poll of this path got last. */
typedef struct Known {
        char *path, *etag;
        uint64_t since_usec; /* CLOCK_BOOTTIME */
} Known;

/* A call for a poll, a status object or a part that is fetched again. */
typedef struct Call {
        Fetch *fetch;
        struct Call *next;
        uint64_t id, offset, size;
        char *path;
        StoreCall *call;
} Call;

/* A path that is polled at intervals until there is something to say. */
typedef struct Watch {
        struct Watch *next;
        Message poll;                                 /* as each of its polls is asked for */
        uint64_t interval_usec, due_usec, until_usec; /* due_usec UINT64_MAX: it is polled */
        unsigned jitter_percent;
} Watch;

typedef struct Get Get;

/* One chunk on its way. */
typedef struct Range {
        Get *get;
        StoreCall *call; /* NULL: free */
        size_t chunk;
        uint64_t done_bytes;
} Range;

/* A request for an object, until it fails or is cancelled. */
typedef struct Want {
        struct Want *next;
        uint64_t id, available_sent;
        char *path;
} Want;

/* An object being fetched, once for all who want it, by the path that one of them gave; stays
 * after its end, for GET_AGAIN. */
struct Get {
        Fetch *fetch;
        Get *next;
        Want *wants;
        uint64_t size;
        Sha256 sha256;
        char *path, *etag;
        SpoolFile *file;
        Range ranges[N_RANGES_MAX];
        size_t next_chunk, n_first; /* n_first: chunks from the start that are there */
        bool ended, dropped;
};

struct Fetch {
        const char *store_url; /* NULL: not known yet */
        const char *state_dir; /* NULL: takes no orders */
        int socket_fd;
        Http *http; /* for everything but the store */
        Store *store;
        bool attached;        /* the store steps `http` as well */
        Metadata *metadata;   /* NULL: nobody has asked */
        uint64_t identify_id; /* 0: it is not being asked */
        SsmRelay *relay;      /* NULL: nobody listens */
        Spool *spool;
        Known *known;
        size_t n_known;
        Call *calls;
        Watch *watches;
        Get *gets;
        int error; /* of the socket, found in a callback */
};

static void get_go_on(Get *g);

/* Answers */

static void answer_fd(Fetch *f, const Message *m, int fd)
{
        int r = message_send(f->socket_fd, m, fd);

        if (r < 0 && f->error == 0)
                f->error = r;
}

static void answer(Fetch *f, MessageType type, uint64_t id, int result, const char *text)
{
        Message m = { .type = type, .id = id, .result = result };

        if (text)
                (void) stpncpy(m.text, text, MESSAGE_TEXT_MAX);
        answer_fd(f, &m, -1);
}

/* Calls */

static void call_free(Call *c)
{
        for (Call **link = &c->fetch->calls; *link; link = &(*link)->next)
                if (*link == c) {
                        *link = c->next;
                        break;
                }
        store_cancel(c->call);
        free(c->path);
        free(c);
}

static void cancel_calls(Fetch *f, uint64_t id)
{
        for (Call *c = f->calls, *next; c; c = next) {
                next = c->next;
                if (c->id == id)
                        call_free(c);
        }
}

static int call_start(Fetch *f, const Message *m, const StoreRequest *request, store_done_t done)
{
        Call *c = calloc(1, sizeof(Call));
        int r;

        if (!c)
                return -ENOMEM;
        *c = (Call){ .fetch = f,
                     .next = f->calls,
                     .id = m->id,
                     .offset = m->offset,
                     .size = m->size,
                     .path = strdup(request->path) };
        f->calls = c;
        r = c->path ? store_start(f->store, request, done, c, &c->call) : -ENOMEM;
        if (r < 0)
                call_free(c);
        return r;
}

static Known *find_known(Fetch *f, const char *path)
{
        for (size_t i = 0; i < f->n_known; i++)
                if (streq(f->known[i].path, path))
                        return &f->known[i];
        return NULL;
}

/* A path that can't be remembered is fetched whole each time: slower, not wrong. */
static void remember(Fetch *f, const char *path, char *etag)
{
        Known *k = find_known(f, path);

        if (!k && f->n_known < N_KNOWN_MAX) {
                Known *larger = reallocarray(f->known, f->n_known + 1, sizeof(Known));
                char *copy = strdup(path);

                if (larger)
                        f->known = larger;
                if (larger && copy) {
                        k = &f->known[f->n_known++];
                        *k = (Known){ .path = copy };
                } else
                        free(copy);
        }
        if (!k) {
                free(etag);
                return;
        }
        free(k->etag);
        k->etag = etag;
        k->since_usec = clock_usec(CLOCK_BOOTTIME);
}

/* Not for ever: who answered in place of the store, but once, may have given what is old the ETag
 * of what is new, and the store would say from then on that nothing has changed. */
static const char *known_etag(Fetch *f, const char *path)
{
        const Known *k = find_known(f, path);

        return k && clock_usec(CLOCK_BOOTTIME) - k->since_usec < KNOWN_USEC ? k->etag : NULL;
}

/* Polls */

static const char *credentials_word(const Fetch *f)
{
        return strempty(store_credentials(f->store));
}

static int open_envelope(const char *data, size_t data_size, const char *type, int *ret_fd,
                         char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_free_ uint8_t *packed = NULL;
        size_t size;
        int r = envelope_parse(data, data_size, type, &e, reterr);

        if (r < 0)
                return fail_prefix(reterr, r, "the %s envelope is broken",
                                   streq(type, TRUST_PAYLOAD_TYPE) ? "trust root's" : "manifest's");
        r = envelope_pack(e, &packed, &size);
        if (r < 0)
                return fail_errno(reterr, r, "can't pack the manifest");
        r = memfd_sealed("slipway-manifest", packed, size);
        if (r < 0)
                return fail_errno(reterr, r, "can't pass the manifest on");
        *ret_fd = r;
        return 0;
}

static void answer_manifest(Call *c, StoreReply *reply)
{
        Message m = { .type = MESSAGE_POLLED, .id = c->id };
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *err = NULL;

        m.result = open_envelope(
                reply->data, reply->size,
                c->offset == POLL_ROOT ? TRUST_PAYLOAD_TYPE : MANIFEST_PAYLOAD_TYPE, &fd, &err);
        (void) stpncpy(m.text, m.result < 0 ? err_text(m.result, err) : credentials_word(c->fetch),
                       MESSAGE_TEXT_MAX);
        answer_fd(c->fetch, &m, fd);
        /* What went wrong here, for want of memory or descriptors, may go well at the next poll. */
        if (c->offset != POLL_ROOT && (m.result == 0 || m.result == -EBADMSG || m.result == -EFBIG))
                remember(c->fetch, c->path, TAKE_PTR(reply->etag));
}

static Watch *find_watch(Fetch *f, uint64_t id)
{
        for (Watch *w = f->watches; w; w = w->next)
                if (w->poll.id == id)
                        return w;
        return NULL;
}

static void watch_free(Fetch *f, Watch *w)
{
        for (Watch **link = &f->watches; *link; link = &(*link)->next)
                if (*link == w) {
                        *link = w->next;
                        break;
                }
        free(w);
}

static uint64_t watch_wait_usec(const Watch *w)
{
        return poll_wait_usec(w->interval_usec, w->jitter_percent, 0, poll_wait_random());
}

static uint64_t watch_again_usec(void *userdata)
{
        Call *c = userdata;
        const Watch *w = find_watch(c->fetch, c->id);

        return w && clock_usec(CLOCK_BOOTTIME) < w->until_usec ? watch_wait_usec(w) : 0;
}

/* True: nobody needs to hear of it. Otherwise it ends. */
static bool goes_on_watching(Fetch *f, uint64_t id, int result)
{
        uint64_t now_usec = clock_usec(CLOCK_BOOTTIME);
        Watch *w = find_watch(f, id);

        if (w && result == STORE_NOT_MODIFIED && now_usec < w->until_usec) {
                w->due_usec = now_usec + watch_wait_usec(w);
                return true;
        }
        if (w)
                watch_free(f, w);
        return false;
}

static void on_polled(int result, StoreReply *reply, const char *err, void *userdata)
{
        Call *c = userdata;

        c->call = NULL;
        if (goes_on_watching(c->fetch, c->id, result)) {
                call_free(c);
                return;
        }
        if (result == 0)
                answer_manifest(c, reply);
        else if (result == STORE_NOT_MODIFIED)
                answer(c->fetch, MESSAGE_POLLED, c->id, POLL_UNCHANGED, credentials_word(c->fetch));
        else if (result == STORE_ABSENT)
                answer(c->fetch, MESSAGE_POLLED, c->id, POLL_ABSENT, credentials_word(c->fetch));
        else if (result == STORE_UNKNOWN)
                answer(c->fetch, MESSAGE_POLLED, c->id, POLL_UNKNOWN, err);
        else
                answer(c->fetch, MESSAGE_POLLED, c->id, result < 0 ? result : -EPROTO, err);
        call_free(c);
}

static int do_poll(Fetch *f, const Message *m)
{
        StoreRequest request = { .method = STORE_GET,
                                 .path = m->text,
                                 .size_max = ENVELOPE_SIZE_MAX,
                                 .if_none_match = m->size == 0 ? known_etag(f, m->text) : NULL,
                                 .again = find_watch(f, m->id) ? watch_again_usec : NULL };

        return call_start(f, m, &request, on_polled);
}

static int do_watch(Fetch *f, const Message *m)
{
        uint64_t now_usec = clock_usec(CLOCK_BOOTTIME);
        Watch *w = calloc(1, sizeof(Watch));

        if (!w)
                return -ENOMEM;
        *w = (Watch){ .next = f->watches,
                      .poll = *m,
                      .interval_usec = m->offset,
                      .until_usec = now_usec + WATCH_QUIET_USEC,
                      .jitter_percent = (unsigned) m->size };
        w->poll.type = MESSAGE_POLL;
        w->poll.offset = w->poll.size = 0;
        f->watches = w;
        w->due_usec = now_usec + watch_wait_usec(w);
        return 0;
}

static uint64_t watches_due_in_usec(const Fetch *f)
{
        uint64_t due_usec = UINT64_MAX, now_usec;

        for (const Watch *w = f->watches; w; w = w->next)
                due_usec = MIN(due_usec, w->due_usec);
        if (due_usec == UINT64_MAX)
                return due_usec;
        now_usec = clock_usec(CLOCK_BOOTTIME);
        return due_usec > now_usec ? due_usec - now_usec : 0;
}

static void answer_watch(Fetch *f, Watch *w, int result)
{
        uint64_t id = w->poll.id;

        watch_free(f, w);
        answer(f, MESSAGE_POLLED, id, result, strerror(-result));
}

static void poll_watches(Fetch *f)
{
        uint64_t now_usec = f->watches ? clock_usec(CLOCK_BOOTTIME) : 0;

        for (Watch *w = f->watches, *next; w; w = next) {
                int r;

                next = w->next;
                if (w->due_usec > now_usec)
                        continue;
                w->due_usec = UINT64_MAX;
                r = do_poll(f, &w->poll);
                if (r < 0)
                        answer_watch(f, w, r);
        }
}

static void answer_brake(Call *c, const StoreReply *reply)
{
        _cleanup_free_ char *text = NULL, *err = NULL;
        bool halted = false;
        int r = brake_parse(reply->data, reply->size, &halted, &text, &err);

        if (r < 0)
                (void) fail_prefix(&err, r, "halt.json is broken");
        answer(c->fetch, MESSAGE_BRAKED, c->id,
               r < 0    ? r
               : halted ? BRAKED_ON
                        : 0,
               r < 0 ? err_text(r, err) : text);
}

static void on_brake(int result, StoreReply *reply, const char *err, void *userdata)
{
        Call *c = userdata;

        c->call = NULL;
        if (result == 0)
                answer_brake(c, reply);
        else if (result == STORE_ABSENT)
                answer(c->fetch, MESSAGE_BRAKED, c->id, POLL_ABSENT, NULL);
        else if (result == STORE_UNKNOWN)
                answer(c->fetch, MESSAGE_BRAKED, c->id, POLL_UNKNOWN, err);
        else
                answer(c->fetch, MESSAGE_BRAKED, c->id, result < 0 ? result : -EPROTO, err);
        call_free(c);
}

static int do_brake(Fetch *f, const Message *m)
{
        StoreRequest request = { .method = STORE_GET, .path = m->text, .size_max = BRAKE_SIZE_MAX };

        return call_start(f, m, &request, on_brake);
}

/* Who this host is */

static void answer_identity(Fetch *f, uint64_t id, Instance *i)
{
        Message m = { .type = MESSAGE_IDENTIFIED, .id = id };
        _cleanup_free_ char *data = NULL;
        _cleanup_close_ int fd = -EBADF;
        size_t size;

        m.result = instance_pack(i, &data, &size);
        if (m.result >= 0) {
                fd = memfd_sealed("slipway-instance", data, size);
                m.result = fd < 0 ? fd : 0;
        }
        if (m.result < 0)
                (void) stpncpy(m.text, strerror(-m.result), MESSAGE_TEXT_MAX);
        answer_fd(f, &m, fd);
}

static void on_metadata(int result, Instance *i, const char *err, void *userdata)
{
        Fetch *f = userdata;
        uint64_t id = f->identify_id;

        f->identify_id = 0;
        if (result < 0)
                answer(f, MESSAGE_IDENTIFIED, id, result, err);
        else
                answer_identity(f, id, i);
}

static int do_identify(Fetch *f, const Message *m, char **reterr)
{
        int r = f->metadata ? 0 : metadata_new(f->http, &f->metadata, reterr);

        if (r >= 0)
                r = metadata_ask(f->metadata, on_metadata, f, reterr);
        if (r >= 0)
                f->identify_id = m->id;
        return r;
}

/* Orders from far away */

static int do_listen(Fetch *f, const Message *m, char **reterr)
{
        if (!f->state_dir)
                return fail(reterr, -EPROTO, "there is no place to remember orders in");
        f->relay = ssm_relay_free(f->relay);
        return ssm_relay_new(f->socket_fd, f->http, f->state_dir, m, &f->relay, reterr);
}

/* News of what nobody listens for any more are nothing. */
static void do_order_news(Fetch *f, const Message *m, int fd)
{
        int r = f->relay && ssm_relay_id(f->relay) == m->id ? ssm_relay_news(f->relay, m, fd) : 0;

        if (r < 0)
                log_warning("Can't pass on what became of an order: %s", strerror(-r));
}

static bool stops_listening(Fetch *f, const Message *m)
{
        if (m->type != MESSAGE_CANCEL || !f->relay || ssm_relay_id(f->relay) != m->id)
                return false;
        f->relay = ssm_relay_free(f->relay);
        return true;
}

/* Files that slipwayd was handed */

static int do_open(Fetch *f, const Message *m, int fd, char **reterr)
{
        Message answered = { .type = MESSAGE_POLLED, .id = m->id };
        _cleanup_close_ int packed_fd = -EBADF;
        _cleanup_free_ char *data = NULL;
        size_t size;
        int r = fd < 0 ? -EPROTO : fd_read_all(fd, ENVELOPE_SIZE_MAX, &data, &size);

        if (r == -EFBIG)
                return fail(reterr, r, "the manifest's envelope has more than %d bytes",
                            ENVELOPE_SIZE_MAX);
        if (r < 0)
                return fail_errno(reterr, r, "can't read the manifest's envelope");
        r = open_envelope(data, size, MANIFEST_PAYLOAD_TYPE, &packed_fd, reterr);
        if (r < 0)
                return r;
        answer_fd(f, &answered, packed_fd);
        return 0;
}

/* Status objects */

static void on_put(int result, StoreReply *reply, const char *err, void *userdata)
{
        Call *c = userdata;

        (void) reply;
        c->call = NULL;
        answer(c->fetch, MESSAGE_PUT_DONE, c->id, result > 0 ? -EACCES : result, err);
        call_free(c);
}

static int do_put(Fetch *f, const Message *m, int fd)
{
        _cleanup_free_ char *body = NULL;
        size_t size;
        int r = fd < 0 ? -EPROTO : fd_read_all(fd, PUT_SIZE_MAX, &body, &size);

        if (r < 0)
                return r;
        StoreRequest request = { .method = STORE_PUT,
                                 .path = m->text,
                                 .body = body,
                                 .body_size = size,
                                 .content_type = "application/json" };
        return call_start(f, m, &request, on_put);
}

/* Objects */

/* Its calls go as well: they write to the file of its Get. */
static void want_free(Get *g, Want *w)
{
        cancel_calls(g->fetch, w->id);
        for (Want **link = &g->wants; *link; link = &(*link)->next)
                if (*link == w) {
                        *link = w->next;
                        break;
                }
        free(w->path);
        free(w);
}

static void cancel_ranges(Get *g)
{
        for (size_t i = 0; i < N_RANGES_MAX; i++)
                g->ranges[i].call = store_cancel(g->ranges[i].call);
}

static void get_free(Get *g)
{
        for (Get **link = &g->fetch->gets; *link; link = &(*link)->next)
                if (*link == g) {
                        *link = g->next;
                        break;
                }
        while (g->wants)
                want_free(g, g->wants);
        cancel_ranges(g);
        /* After its end it went when it was dropped, and what is there now is another's. */
        if (g->dropped && !g->ended)
                spool_drop(g->fetch->spool, &g->sha256);
        spool_file_free(g->file);
        free(g->path);
        free(g->etag);
        free(g);
}

static bool is_fetching(const Fetch *f)
{
        for (const Get *g = f->gets; g; g = g->next)
                if (!g->ended)
                        return true;
        return false;
}

static void get_done(Get *g)
{
        for (Want *w = g->wants; w; w = w->next)
                answer(g->fetch, MESSAGE_GOT, w->id, 0, NULL);
        g->ended = true;
        if (g->dropped)
                spool_drop(g->fetch->spool, &g->sha256);
        if (!is_fetching(g->fetch))
                memory_give_back();
}

static int get_begin(Get *g, const char *path)
{
        char *copy = strdup(path);

        if (!copy)
                return -ENOMEM;
        free(g->path);
        g->path = copy;
        free(g->etag);
        g->etag = NULL;
        g->next_chunk = g->n_first = 0;
        return 0;
}

/* Ends it for those who gave the path that failed; it goes on by the path of another. */
/* NOLINTNEXTLINE(misc-no-recursion): each has fewer wants */
static void get_fail(Get *g, int result, const char *text)
{
        Fetch *f = g->fetch;

        cancel_ranges(g);
        for (Want *w = g->wants, *next; w; w = next) {
                next = w->next;
                if (!streq(w->path, g->path))
                        continue;
                answer(f, MESSAGE_GOT, w->id, result, text);
                want_free(g, w);
        }
        if (g->wants && get_begin(g, g->wants->path) >= 0) {
                get_go_on(g);
                return;
        }
        for (Want *w = g->wants; w; w = w->next)
                answer(f, MESSAGE_GOT, w->id, -ENOMEM, NULL);
        get_free(g);
        if (!is_fetching(f))
                memory_give_back();
}

/* The bytes from the start that are there: whole chunks, and the part of the one after them. */
static uint64_t get_prefix(Get *g)
{
        uint64_t prefix;

        while (g->n_first < spool_file_n_chunks(g->file) && spool_file_has(g->file, g->n_first))
                g->n_first++;
        prefix = MIN(g->n_first * SPOOL_CHUNK_SIZE, g->size);
        for (size_t i = 0; i < N_RANGES_MAX; i++)
                if (g->ranges[i].call && g->ranges[i].chunk == g->n_first)
                        prefix += g->ranges[i].done_bytes;
        return prefix;
}

static void tell_available(Get *g)
{
        Message m = { .type = MESSAGE_AVAILABLE, .size = get_prefix(g) };

        for (Want *w = g->wants; w; w = w->next) {
                if (m.size < w->available_sent + AVAILABLE_STEP &&
                    (m.size < g->size || m.size == w->available_sent))
                        continue;
                w->available_sent = m.size;
                m.id = w->id;
                answer_fd(g->fetch, &m, -1);
        }
}

static void on_range_progress(uint64_t done_bytes, uint64_t total_bytes, void *userdata)
{
        Range *range = userdata;

        (void) total_bytes;
        range->done_bytes = done_bytes;
        tell_available(range->get);
}

static int range_result(Range *range, int result, StoreReply *reply, const char *err, char **reterr)
{
        Get *g = range->get;

        /* Those that set out before the first one's ETag was known had no condition to meet. */
        if (result == 0 && g->etag && reply->etag && !streq(g->etag, reply->etag))
                result = STORE_CONFLICT;
        if (result == 0) {
                if (!g->etag)
                        g->etag = TAKE_PTR(reply->etag);
                return spool_file_set(g->file, range->chunk);
        }
        if (result == STORE_CONFLICT) {
                /* Objects of a release never change; if one did, nothing of the old may stay. */
                int r = spool_file_reset(g->file);
                return fail(reterr, r < 0 ? r : -EHOSTDOWN, "%s was changed while it was fetched",
                            g->path);
        }
        if (result == STORE_ABSENT)
                return fail(reterr, -ENOENT, "the store has no %s", g->path);
        if (result == STORE_UNKNOWN)
                return fail(reterr, -EACCES, "the store refuses %s: %s", g->path, strempty(err));
        return fail(reterr, result < 0 ? result : -EPROTO, "%s: %s", g->path,
                    err_text(result, err));
}

static void on_range(int result, StoreReply *reply, const char *err, void *userdata)
{
        Range *range = userdata;
        Get *g = range->get;
        _cleanup_free_ char *why = NULL;
        int r;

        range->call = NULL;
        range->done_bytes = 0;
        r = range_result(range, result, reply, err, &why);
        if (r < 0) {
                get_fail(g, r, err_text(r, why));
                return;
        }
        tell_available(g);
        get_go_on(g);
}

static int range_start(Get *g, Range *range, size_t chunk)
{
        StoreRequest request = { .method = STORE_GET,
                                 .path = g->path,
                                 .if_match = g->etag,
                                 .to_fd = true,
                                 .sink_fd = spool_file_fd(g->file),
                                 .progress = on_range_progress };

        spool_file_chunk(g->file, chunk, &request.range_offset, &request.range_size);
        request.size_max = request.range_size;
        request.sink_offset = request.range_offset;
        *range = (Range){ .get = g, .chunk = chunk };
        return store_start(g->fetch->store, &request, on_range, range, &range->call);
}

static bool chunk_is_wanted(const Get *g, size_t chunk)
{
        for (size_t i = 0; i < N_RANGES_MAX; i++)
                if (g->ranges[i].call && g->ranges[i].chunk == chunk)
                        return false;
        return !spool_file_has(g->file, chunk);
}

/* Keeps N_RANGES_MAX chunks on their way. */
/* NOLINTNEXTLINE(misc-no-recursion): see get_fail() */
static void get_go_on(Get *g)
{
        size_t n_chunks = spool_file_n_chunks(g->file);
        int r;

        for (size_t i = 0; i < N_RANGES_MAX; i++) {
                if (g->ranges[i].call)
                        continue;
                while (g->next_chunk < n_chunks && !chunk_is_wanted(g, g->next_chunk))
                        g->next_chunk++;
                if (g->next_chunk == n_chunks)
                        break;
                r = range_start(g, &g->ranges[i], g->next_chunk++);
                if (r < 0) {
                        get_fail(g, r, strerror(-r));
                        return;
                }
        }
        (void) get_prefix(g);
        if (g->n_first == n_chunks)
                get_done(g);
}

static Get *find_get(Fetch *f, uint64_t id, Want **ret_want)
{
        for (Get *g = f->gets; g; g = g->next)
                for (Want *w = g->wants; w; w = w->next)
                        if (w->id == id) {
                                *ret_want = w;
                                return g;
                        }
        return NULL;
}

/* One whose file is still in the spool: two would write the same. */
static Get *find_object(Fetch *f, const Sha256 *sha256)
{
        for (Get *g = f->gets; g; g = g->next)
                if (sha256_equal(&g->sha256, sha256) && !(g->ended && g->dropped))
                        return g;
        return NULL;
}

static int get_new(Fetch *f, const Message *m, Get **ret, char **reterr)
{
        Get *g = calloc(1, sizeof(Get));
        int r;

        if (!g)
                return -ENOMEM;
        *g = (Get){ .fetch = f, .next = f->gets, .size = m->size, .sha256 = m->sha256 };
        f->gets = g;
        r = get_begin(g, m->text);
        if (r >= 0)
                r = spool_file_open(f->spool, &m->sha256, m->size, &g->file, reterr);
        if (r < 0) {
                get_free(g);
                return r;
        }
        *ret = g;
        return 0;
}

static int want_new(Get *g, const Message *m)
{
        Message spooled = { .type = MESSAGE_SPOOLED, .id = m->id };
        _cleanup_close_ int fd = spool_file_open_readonly(g->file);
        Want *w;

        if (fd < 0)
                return fd;
        w = calloc(1, sizeof(Want));
        if (!w)
                return -ENOMEM;
        *w = (Want){ .next = g->wants, .id = m->id, .path = strdup(m->text) };
        g->wants = w;
        if (!w->path) {
                want_free(g, w);
                return -ENOMEM;
        }
        answer_fd(g->fetch, &spooled, fd);
        return 0;
}

static int do_get(Fetch *f, const Message *m, char **reterr)
{
        Get *g = find_object(f, &m->sha256);
        bool shared = g;
        int r;

        if (g && g->size != m->size)
                return fail(reterr, -EBUSY,
                            "%s has the digest of an object that is fetched with another size",
                            m->text);
        r = g ? 0 : get_new(f, m, &g, reterr);
        if (r < 0)
                return r;
        r = want_new(g, m);
        if (r < 0) {
                if (!shared)
                        get_free(g);
                return r;
        }
        tell_available(g);
        if (g->ended)
                answer(f, MESSAGE_GOT, m->id, 0, NULL);
        else if (!shared)
                get_go_on(g);
        return 0;
}

static void on_got_again(int result, StoreReply *reply, const char *err, void *userdata)
{
        Call *c = userdata;
        Message m = { .type = MESSAGE_GOT_AGAIN,
                      .id = c->id,
                      .offset = c->offset,
                      .size = c->size,
                      .result = result > 0 ? -EHOSTDOWN : result };

        (void) reply;
        c->call = NULL;
        if (result != 0)
                (void) stpncpy(m.text, err ? err : "the store does not have this part any more",
                               MESSAGE_TEXT_MAX);
        answer_fd(c->fetch, &m, -1);
        call_free(c);
}

static int do_get_again(Fetch *f, const Message *m)
{
        Want *w;
        Get *g = find_get(f, m->id, &w);

        if (!g || m->size == 0 || m->offset >= g->size || m->size > g->size - m->offset)
                return -EPROTO;
        StoreRequest request = { .method = STORE_GET,
                                 .path = w->path,
                                 .size_max = m->size,
                                 .range_offset = m->offset,
                                 .range_size = m->size,
                                 .to_fd = true,
                                 .sink_fd = spool_file_fd(g->file),
                                 .sink_offset = m->offset };
        return call_start(f, m, &request, on_got_again);
}

static void do_cancel(Fetch *f, const Message *m)
{
        Want *w;
        Get *g = find_get(f, m->id, &w);
        Watch *watch = find_watch(f, m->id);

        cancel_calls(f, m->id);
        if (watch)
                watch_free(f, watch);
        if (!g)
                return;
        want_free(g, w);
        if (!g->wants)
                get_free(g);
}

/* What is still on its way stays until the last who waits for it has it, or goes. */
static void do_drop(Fetch *f, const Message *m)
{
        Get *g = find_object(f, &m->sha256);

        if (g)
                g->dropped = true;
        if (!g || g->ended)
                spool_drop(f->spool, &m->sha256);
}

/* The whole */

static MessageType answer_type(MessageType request)
{
        switch (request) {
        case MESSAGE_POLL:
        case MESSAGE_WATCH:
        case MESSAGE_OPEN:
                return MESSAGE_POLLED;
        case MESSAGE_BRAKE:
                return MESSAGE_BRAKED;
        case MESSAGE_PUT:
                return MESSAGE_PUT_DONE;
        case MESSAGE_GET_AGAIN:
                return MESSAGE_GOT_AGAIN;
        case MESSAGE_IDENTIFY:
                return MESSAGE_IDENTIFIED;
        case MESSAGE_LISTEN:
                return MESSAGE_LISTENING;
        default:
                return MESSAGE_GOT;
        }
}

static void on_notice(const char *text)
{
        log_warning("The store: %s", text);
}

static int open_store(Fetch *f, char **reterr)
{
        int r;

        if (f->store)
                return 0;
        r = store_open(f->store_url, &f->store, reterr);
        if (r < 0)
                return r;
        store_set_notice(f->store, on_notice);
        f->attached = store_attach(f->store, f->http);
        return 0;
}

static int obey_store(Fetch *f, const Message *m, int fd, char **reterr)
{
        int r;

        if (!f->store_url)
                return fail(reterr, -EINVAL, "where the store is, is not known yet");
        r = open_store(f, reterr);
        if (r < 0)
                return r;
        switch (m->type) {
        case MESSAGE_POLL:
                return do_poll(f, m);
        case MESSAGE_WATCH:
                return do_watch(f, m);
        case MESSAGE_BRAKE:
                return do_brake(f, m);
        case MESSAGE_GET:
                return do_get(f, m, reterr);
        case MESSAGE_GET_AGAIN:
                return do_get_again(f, m);
        case MESSAGE_PUT:
                return do_put(f, m, fd);
        case MESSAGE_CANCEL:
                do_cancel(f, m);
                return 0;
        case MESSAGE_DROP:
                do_drop(f, m);
                return 0;
        default:
                return -EPROTO;
        }
}

/* These need no store, and may come because there is none. */
static int obey(Fetch *f, const Message *m, int fd, char **reterr)
{
        switch (m->type) {
        case MESSAGE_OPEN:
                return do_open(f, m, fd, reterr);
        case MESSAGE_IDENTIFY:
                return do_identify(f, m, reterr);
        case MESSAGE_LISTEN:
                return do_listen(f, m, reterr);
        case MESSAGE_ORDER_NEWS:
                do_order_news(f, m, fd);
                return 0;
        default:
                return stops_listening(f, m) ? 0 : obey_store(f, m, fd, reterr);
        }
}

static int receive(Fetch *f)
{
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *err = NULL;
        Message m;
        int r = message_receive(f->socket_fd, &m, &fd);

        if (r == 0)
                return 1;
        if (r < 0)
                return r;
        r = obey(f, &m, fd, &err);
        if (r < 0)
                answer(f, answer_type(m.type), m.id, r, err_text(r, err));
        return 0;
}

int fetch_new(const char *store_url, const char *cache_dir, const char *state_dir, int socket_fd,
              Fetch **ret, char **reterr)
{
        _cleanup_(fetch_freep) Fetch *f = calloc(1, sizeof(Fetch));
        int r;

        if (!f)
                return -ENOMEM;
        *f = (Fetch){ .store_url = store_url, .state_dir = state_dir, .socket_fd = socket_fd };
        r = spool_open(cache_dir, &f->spool, reterr);
        if (r < 0)
                return r;
        r = http_new(aws_environment("AWS_CA_BUNDLE"), &f->http);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(f);
        return 0;
}

Fetch *fetch_free(Fetch *f)
{
        if (!f)
                return NULL;
        while (f->calls)
                call_free(f->calls);
        while (f->watches)
                watch_free(f, f->watches);
        while (f->gets)
                get_free(f->gets);
        for (size_t i = 0; i < f->n_known; i++) {
                free(f->known[i].path);
                free(f->known[i].etag);
        }
        free(f->known);
        store_free(f->store);
        metadata_free(f->metadata);
        ssm_relay_free(f->relay);
        http_free(f->http);
        spool_free(f->spool);
        free(f);
        return NULL;
}

static uint64_t due_in_usec(const Fetch *f)
{
        uint64_t due = watches_due_in_usec(f);

        if (f->metadata)
                due = MIN(due, metadata_due_in_usec(f->metadata));
        return f->relay ? MIN(due, ssm_relay_due_in_usec(f->relay)) : due;
}

/* Which may call back. */
static int start_due(Fetch *f)
{
        poll_watches(f);
        if (f->metadata)
                metadata_start_due(f->metadata);
        return f->relay ? ssm_relay_start_due(f->relay) : 0;
}

int fetch_step(Fetch *f)
{
        /* A store in a directory never waits while it has something to do. */
        bool busy = f->store && store_n_calls(f->store) > 0;
        uint64_t wait_usec = due_in_usec(f);
        int r = busy || f->attached ? store_step(f->store, f->socket_fd, wait_usec) : 0;

        if (r == 0 && !f->attached)
                r = http_step(f->http, busy ? -1 : f->socket_fd, busy ? 0 : wait_usec);
        if (r == 1)
                r = receive(f);
        if (r == 0)
                r = start_due(f);
        return f->error < 0 ? f->error : r;
}
