/* SPDX-License-Identifier: Apache-2.0 */
#include "fetch-object.h"

#include <errno.h>
#include <stdio.h>

#include "err.h"
#include "fd.h"
#include "memory.h"
#include "spool.h"

#define N_RANGES_MAX   4
#define AVAILABLE_STEP (UINT64_C(256) << 10)

typedef struct Get Get;
typedef struct Want Want;

/* A part that is fetched once more. */
typedef struct Again {
        Want *want;
        struct Again *next;
        uint64_t offset, size;
        StoreCall *call;
} Again;

/* One chunk on its way. */
typedef struct Range {
        Get *get;
        StoreCall *call; /* NULL: free */
        size_t chunk;
        uint64_t done_bytes;
} Range;

/* A request for an object, until it fails or is cancelled. */
struct Want {
        Get *get;
        Want *next;
        uint64_t id, available_sent;
        char *path;
        Again *agains;
};

/* An object being fetched, once for all who want it, by the path that one of them gave; stays
 * after its end, for GET_AGAIN. */
struct Get {
        FetchObjects *objects;
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

struct FetchObjects {
        FetchSocket *socket;
        Store *store; /* NULL: nothing was asked for yet */
        Spool *spool;
        Get *gets;
};

static void get_go_on(Get *g);

static void again_free(Want *w, Again *a)
{
        for (Again **link = &w->agains; *link; link = &(*link)->next)
                if (*link == a) {
                        *link = a->next;
                        break;
                }
        store_cancel(a->call);
        free(a);
}

static void want_free(Get *g, Want *w)
{
        while (w->agains)
                again_free(w, w->agains);
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
        for (Get **link = &g->objects->gets; *link; link = &(*link)->next)
                if (*link == g) {
                        *link = g->next;
                        break;
                }
        while (g->wants)
                want_free(g, g->wants);
        cancel_ranges(g);
        /* After its end it went when it was dropped, and what is there now is another's. */
        if (g->dropped && !g->ended)
                spool_drop(g->objects->spool, &g->sha256);
        spool_file_free(g->file);
        free(g->path);
        free(g->etag);
        free(g);
}

static bool is_fetching(const FetchObjects *o)
{
        for (const Get *g = o->gets; g; g = g->next)
                if (!g->ended)
                        return true;
        return false;
}

static void get_done(Get *g)
{
        for (Want *w = g->wants; w; w = w->next)
                fetch_socket_answer(g->objects->socket, MESSAGE_GOT, w->id, 0, NULL);
        g->ended = true;
        if (g->dropped)
                spool_drop(g->objects->spool, &g->sha256);
        if (!is_fetching(g->objects))
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
        FetchObjects *o = g->objects;

        cancel_ranges(g);
        for (Want *w = g->wants, *next; w; w = next) {
                next = w->next;
                if (!streq(w->path, g->path))
                        continue;
                fetch_socket_answer(o->socket, MESSAGE_GOT, w->id, result, text);
                want_free(g, w);
        }
        if (g->wants && get_begin(g, g->wants->path) >= 0) {
                get_go_on(g);
                return;
        }
        for (Want *w = g->wants; w; w = w->next)
                fetch_socket_answer(o->socket, MESSAGE_GOT, w->id, -ENOMEM, NULL);
        get_free(g);
        if (!is_fetching(o))
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
                fetch_socket_send(g->objects->socket, &m, -1);
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
        return store_start(g->objects->store, &request, on_range, range, &range->call);
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

static Get *find_get(FetchObjects *o, uint64_t id, Want **ret_want)
{
        for (Get *g = o->gets; g; g = g->next)
                for (Want *w = g->wants; w; w = w->next)
                        if (w->id == id) {
                                *ret_want = w;
                                return g;
                        }
        return NULL;
}

/* One whose file is still in the spool: two would write the same. */
static Get *find_object(FetchObjects *o, const Sha256 *sha256)
{
        for (Get *g = o->gets; g; g = g->next)
                if (sha256_equal(&g->sha256, sha256) && !(g->ended && g->dropped))
                        return g;
        return NULL;
}

static int get_new(FetchObjects *o, const Message *m, Get **ret, char **reterr)
{
        Get *g = calloc(1, sizeof(Get));
        int r;

        if (!g)
                return -ENOMEM;
        *g = (Get){ .objects = o, .next = o->gets, .size = m->size, .sha256 = m->sha256 };
        o->gets = g;
        r = get_begin(g, m->text);
        if (r >= 0)
                r = spool_file_open(o->spool, &m->sha256, m->size, &g->file, reterr);
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
        *w = (Want){ .get = g, .next = g->wants, .id = m->id, .path = strdup(m->text) };
        g->wants = w;
        if (!w->path) {
                want_free(g, w);
                return -ENOMEM;
        }
        fetch_socket_send(g->objects->socket, &spooled, fd);
        return 0;
}

int fetch_objects_get(FetchObjects *o, Store *store, const Message *m, char **reterr)
{
        Get *g = find_object(o, &m->sha256);
        bool shared = g;
        int r;

        o->store = store;
        if (g && g->size != m->size)
                return fail(reterr, -EBUSY,
                            "%s has the digest of an object that is fetched with another size",
                            m->text);
        r = g ? 0 : get_new(o, m, &g, reterr);
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
                fetch_socket_answer(o->socket, MESSAGE_GOT, m->id, 0, NULL);
        else if (!shared)
                get_go_on(g);
        return 0;
}

static void on_got_again(int result, StoreReply *reply, const char *err, void *userdata)
{
        Again *a = userdata;
        Message m = { .type = MESSAGE_GOT_AGAIN,
                      .id = a->want->id,
                      .offset = a->offset,
                      .size = a->size,
                      .result = result > 0 ? -EHOSTDOWN : result };

        (void) reply;
        a->call = NULL;
        if (result != 0)
                (void) stpncpy(m.text, err ? err : "the store does not have this part any more",
                               MESSAGE_TEXT_MAX);
        fetch_socket_send(a->want->get->objects->socket, &m, -1);
        again_free(a->want, a);
}

int fetch_objects_get_again(FetchObjects *o, const Message *m)
{
        Want *w = NULL;
        Get *g = find_get(o, m->id, &w);
        Again *a;
        int r;

        if (!g || m->size == 0 || m->offset >= g->size || m->size > g->size - m->offset)
                return -EPROTO;
        const StoreRequest request = { .method = STORE_GET,
                                       .path = w->path,
                                       .size_max = m->size,
                                       .range_offset = m->offset,
                                       .range_size = m->size,
                                       .to_fd = true,
                                       .sink_fd = spool_file_fd(g->file),
                                       .sink_offset = m->offset };
        a = calloc(1, sizeof(Again));
        if (!a)
                return -ENOMEM;
        *a = (Again){ .want = w, .next = w->agains, .offset = m->offset, .size = m->size };
        w->agains = a;
        r = store_start(o->store, &request, on_got_again, a, &a->call);
        if (r < 0)
                again_free(w, a);
        return r;
}

void fetch_objects_cancel(FetchObjects *o, uint64_t id)
{
        Want *w;
        Get *g = find_get(o, id, &w);

        if (!g)
                return;
        want_free(g, w);
        if (!g->wants)
                get_free(g);
}

/* What is still on its way stays until the last who waits for it has it, or goes. */
void fetch_objects_drop(FetchObjects *o, const Message *m)
{
        Get *g = find_object(o, &m->sha256);

        if (g)
                g->dropped = true;
        if (!g || g->ended)
                spool_drop(o->spool, &m->sha256);
}

int fetch_objects_new(const char *cache_dir, FetchSocket *socket, FetchObjects **ret, char **reterr)
{
        _cleanup_(fetch_objects_freep) FetchObjects *o = calloc(1, sizeof(FetchObjects));
        int r;

        if (!o)
                return -ENOMEM;
        o->socket = socket;
        r = spool_open(cache_dir, &o->spool, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

FetchObjects *fetch_objects_free(FetchObjects *o)
{
        if (!o)
                return NULL;
        while (o->gets)
                get_free(o->gets);
        spool_free(o->spool);
        free(o);
        return NULL;
}
