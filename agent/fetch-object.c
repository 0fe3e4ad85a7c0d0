/* SPDX-License-Identifier: Apache-2.0 */
#include "fetch-object.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "clock.h"
#include "err.h"
#include "fd.h"
#include "memory.h"
#include "spool.h"

#define N_PIECES_MAX   8
#define PIECE_SIZE_MAX (UINT64_C(8) << 20)
#define PIECE_SIZE_MIN (UINT64_C(256) << 10) /* with a limit */
#define NOTE_STEP      (UINT64_C(1) << 20)
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

/* A part on its way. */
typedef struct Piece {
        Get *get;
        StoreCall *call; /* NULL: free */
        ByteRange range;
        uint64_t done_bytes, noted_bytes; /* what arrived; what of it the spool knows */
} Piece;

/* A request for an object, until it fails or is cancelled. */
struct Want {
        Get *get;
        Want *next;
        uint64_t id, available_sent;
        char *path;
        RangeSet *ranges;
        size_t n_begun, n_there; /* so many of the ranges need not be looked at any more */
        bool got;
        Again *agains;
};

/* An object being fetched, once for all who want it, by the path that one of them gave; stays
 * after its end, for GET_AGAIN and for who wants more of it. */
struct Get {
        FetchObjects *objects;
        Get *next;
        Want *wants;
        uint64_t size;
        Sha256 sha256;
        char *path, *etag;
        SpoolFile *file;
        RangeSet *begun; /* there, or on its way */
        Piece pieces[N_PIECES_MAX];
        bool ended, dropped; /* ended: nobody waits */
};

struct FetchObjects {
        FetchSocket *socket;
        Store *store; /* NULL: nothing was asked for yet */
        Spool *spool;
        Get *gets;
        uint64_t bandwidth_bytes; /* a second; 0: no limit */
        uint64_t paid_usec; /* CLOCK_MONOTONIC: when all that was asked for has had its time */
};

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
        range_set_free(w->ranges);
        free(w->path);
        free(w);
}

/* What arrived of a piece, be it all or not, need not be fetched again. */
static int piece_note(Piece *p)
{
        int r = 0;

        if (p->done_bytes > p->noted_bytes)
                r = spool_file_add(p->get->file, p->range.offset + p->noted_bytes,
                                   p->done_bytes - p->noted_bytes);
        if (r >= 0)
                p->noted_bytes = p->done_bytes;
        return r;
}

static void cancel_pieces(Get *g)
{
        for (Piece *p = g->pieces; p < g->pieces + N_PIECES_MAX; p++)
                if (p->call) {
                        p->call = store_cancel(p->call);
                        (void) piece_note(p);
                }
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
        cancel_pieces(g);
        /* After its end it went when it was dropped, and what is there now is another's. */
        if (g->dropped && !g->ended)
                spool_drop(g->objects->spool, &g->sha256);
        spool_file_free(g->file);
        range_set_free(g->begun);
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

/* NULL: nobody waits. */
static Want *find_waiting(const Get *g)
{
        for (Want *w = g->wants; w; w = w->next)
                if (!w->got)
                        return w;
        return NULL;
}

/* After one who waited does so no more. */
static void get_settle(Get *g)
{
        FetchObjects *o = g->objects;

        if (g->ended || find_waiting(g)) {
                if (!g->wants)
                        get_free(g);
                return;
        }
        if (g->wants) {
                g->ended = true;
                cancel_pieces(g);
                if (g->dropped)
                        spool_drop(o->spool, &g->sha256);
        } else
                get_free(g);
        if (!is_fetching(o))
                memory_give_back();
}

static int set_path(Get *g, const char *path)
{
        char *copy = strdup(path);

        if (!copy)
                return -ENOMEM;
        free(g->path);
        g->path = copy;
        free(g->etag);
        g->etag = NULL;
        return 0;
}

/* When nothing is on its way. */
static int get_begin(Get *g, const char *path)
{
        _cleanup_(range_set_freep) RangeSet *begun = NULL;
        int r = range_set_new(&begun);

        if (r >= 0)
                r = range_set_add_set(begun, spool_file_have(g->file));
        if (r >= 0 && !streq_ptr(g->path, path))
                r = set_path(g, path);
        if (r < 0)
                return r;
        range_set_free(g->begun);
        g->begun = TAKE_PTR(begun);
        for (Want *w = g->wants; w; w = w->next)
                w->n_begun = w->n_there = 0;
        return 0;
}

/* `path` NULL: of any path. */
static void fail_wants(Get *g, const char *path, int result, const char *text)
{
        for (Want *w = g->wants, *next; w; w = next) {
                next = w->next;
                if (w->got || (path && !streq(w->path, path)))
                        continue;
                fetch_socket_answer(g->objects->socket, MESSAGE_GOT, w->id, result, text);
                want_free(g, w);
        }
}

static void tell_complete(Get *g);

/* Ends it for those who gave the path that failed. True: it goes on by the path of another. */
static bool get_fail(Get *g, int result, const char *text)
{
        const Want *other;

        cancel_pieces(g);
        tell_complete(g);
        fail_wants(g, g->path, result, text);
        other = find_waiting(g);
        if (other && get_begin(g, other->path) >= 0)
                return true;
        fail_wants(g, NULL, -ENOMEM, NULL);
        get_settle(g);
        return false;
}

/* The end of what arrived in one go from `offset` on, and is not in the spool's map yet. */
static uint64_t find_arrived(const Get *g, uint64_t offset)
{
        for (const Piece *p = g->pieces; p < g->pieces + N_PIECES_MAX; p++)
                if (p->call && offset >= p->range.offset &&
                    offset - p->range.offset < p->done_bytes)
                        return p->range.offset + p->done_bytes;
        return offset;
}

/* Up to where all that it wants is there. */
static uint64_t find_available(Want *w)
{
        const Get *g = w->get;
        ByteRange gap;

        for (; w->n_there < range_set_n(w->ranges); w->n_there++) {
                const ByteRange range = range_set_get(w->ranges, w->n_there);

                if (range_set_missing(spool_file_have(g->file), range.offset,
                                      range.offset + range.size, &gap))
                        return find_arrived(g, gap.offset);
        }
        return g->size;
}

static void tell_available(Get *g)
{
        for (Want *w = g->wants; w; w = w->next) {
                Message m = { .type = MESSAGE_AVAILABLE, .id = w->id };

                if (w->got)
                        continue;
                m.size = find_available(w);
                if (m.size < w->available_sent + AVAILABLE_STEP &&
                    (m.size < g->size || m.size == w->available_sent))
                        continue;
                w->available_sent = m.size;
                fetch_socket_send(g->objects->socket, &m, -1);
        }
}

static void tell_complete(Get *g)
{
        tell_available(g);
        for (Want *w = g->wants; w; w = w->next)
                if (!w->got && w->n_there == range_set_n(w->ranges)) {
                        w->got = true;
                        fetch_socket_answer(g->objects->socket, MESSAGE_GOT, w->id, 0, NULL);
                }
}

static void tell_got(Get *g)
{
        tell_complete(g);
        get_settle(g);
}

static void on_piece_progress(uint64_t done_bytes, uint64_t total_bytes, void *userdata)
{
        Piece *p = userdata;

        (void) total_bytes;
        p->done_bytes = done_bytes;
        if (done_bytes - p->noted_bytes >= NOTE_STEP)
                (void) piece_note(p);
        tell_available(p->get);
}

/* Objects of a release never change; if one did, nothing of the old may stay. */
static int forget_all(Get *g, char **reterr)
{
        int r;

        cancel_pieces(g);
        free(g->etag);
        g->etag = NULL;
        r = spool_file_reset(g->file);
        return fail(reterr, r < 0 ? r : -EHOSTDOWN, "%s was changed while it was fetched", g->path);
}

static int piece_result(Piece *p, int result, StoreReply *reply, const char *err, char **reterr)
{
        Get *g = p->get;

        /* Those that set out before the first one's ETag was known had no condition to meet. */
        if (result == STORE_CONFLICT ||
            (result == 0 && g->etag && reply->etag && !streq(g->etag, reply->etag)))
                return forget_all(g, reterr);
        if (result == 0) {
                if (!g->etag)
                        g->etag = TAKE_PTR(reply->etag);
                p->done_bytes = p->range.size;
                return piece_note(p);
        }
        (void) piece_note(p);
        if (result == STORE_ABSENT)
                return fail(reterr, -ENOENT, "the store has no %s", g->path);
        if (result == STORE_UNKNOWN)
                return fail(reterr, -EACCES, "the store refuses %s: %s", g->path, strempty(err));
        return fail(reterr, result < 0 ? result : -EPROTO, "%s: %s", g->path,
                    err_text(result, err));
}

static void go_on(FetchObjects *o);

static void on_piece(int result, StoreReply *reply, const char *err, void *userdata)
{
        Piece *p = userdata;
        Get *g = p->get;
        FetchObjects *o = g->objects;
        _cleanup_free_ char *why = NULL;
        int r;

        p->call = NULL;
        r = piece_result(p, result, reply, err, &why);
        if (r >= 0 || get_fail(g, r, err_text(r, why)))
                tell_got(g);
        go_on(o);
}

static bool is_paid(const FetchObjects *o)
{
        return o->bandwidth_bytes == 0 || o->paid_usec <= clock_usec(CLOCK_MONOTONIC);
}

static void pay(FetchObjects *o, uint64_t bytes)
{
        if (o->bandwidth_bytes > 0)
                o->paid_usec = MAX(o->paid_usec, clock_usec(CLOCK_MONOTONIC)) +
                               MIN(bytes, (uint64_t) UINT32_MAX) * 1000000 / o->bandwidth_bytes;
}

/* What a quarter of a second may bring. */
static uint64_t piece_size_max(const FetchObjects *o)
{
        return o->bandwidth_bytes == 0
                       ? PIECE_SIZE_MAX
                       : CLAMP(o->bandwidth_bytes / 4, PIECE_SIZE_MIN, PIECE_SIZE_MAX);
}

static int piece_start(Piece *p, Get *g, ByteRange range)
{
        const StoreRequest request = { .method = STORE_GET,
                                       .path = g->path,
                                       .if_match = g->etag,
                                       .size_max = range.size,
                                       .range_offset = range.offset,
                                       .range_size = range.size,
                                       .to_fd = true,
                                       .sink_fd = spool_file_fd(g->file),
                                       .sink_offset = range.offset,
                                       .progress = on_piece_progress };
        int r = range_set_add(g->begun, range.offset, range.size);

        *p = (Piece){ .get = g, .range = range };
        pay(g->objects, range.size);
        return r < 0 ? r : store_start(g->objects->store, &request, on_piece, p, &p->call);
}

/* The first that it wants and that nobody has begun. */
static bool want_next(Want *w, ByteRange *ret)
{
        for (; !w->got && w->n_begun < range_set_n(w->ranges); w->n_begun++) {
                const ByteRange range = range_set_get(w->ranges, w->n_begun);

                if (range_set_missing(w->get->begun, range.offset, range.offset + range.size, ret))
                        return true;
        }
        return false;
}

/* They take turns, so that none is silent for so long that slipwayd takes us for hung. */
static void want_move_to_end(Get *g, Want *w)
{
        Want **link = &g->wants;

        while (*link != w)
                link = &(*link)->next;
        *link = w->next;
        while (*link)
                link = &(*link)->next;
        *link = w;
        w->next = NULL;
}

/* NULL: as many as may be are on their way. */
static Piece *find_place(Get *g)
{
        for (Piece *p = g->pieces; p < g->pieces + N_PIECES_MAX; p++)
                if (!p->call)
                        return p;
        return NULL;
}

/* What to fetch next, and for whom; NULL: nothing. */
static Want *find_next(Get *g, ByteRange *ret)
{
        Want *w = g->wants;

        while (w && !want_next(w, ret))
                w = w->next;
        if (w)
                ret->size = MIN(ret->size, piece_size_max(g->objects));
        return w;
}

static void move_to_end(Get *g)
{
        Get **link = &g->objects->gets;

        while (*link != g)
                link = &(*link)->next;
        *link = g->next;
        while (*link)
                link = &(*link)->next;
        *link = g;
        g->next = NULL;
}

/* Keeps N_PIECES_MAX on their way, as far as there is a turn for it. */
static void get_go_on(Get *g)
{
        FetchObjects *o = g->objects;
        ByteRange range;
        Piece *p;
        Want *w;

        while (is_paid(o) && (p = find_place(g)) && (w = find_next(g, &range))) {
                want_move_to_end(g, w);
                int r = piece_start(p, g, range);
                if (r < 0) {
                        if (!get_fail(g, r, strerror(-r)))
                                return;
                        tell_got(g);
                        if (g->ended)
                                return;
                }
                if (o->bandwidth_bytes > 0)
                        move_to_end(g);
        }
}

static void go_on(FetchObjects *o)
{
        for (Get *g = o->gets, *next; g; g = next) {
                next = g->next;
                get_go_on(g);
        }
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
        r = spool_file_open(o->spool, &m->sha256, m->size, &g->file, reterr);
        if (r >= 0)
                r = get_begin(g, m->text);
        if (r < 0) {
                get_free(g);
                return r;
        }
        *ret = g;
        return 0;
}

static int want_new(Get *g, const Message *m, RangeSet **ranges, char **reterr)
{
        Message spooled = { .type = MESSAGE_SPOOLED, .id = m->id };
        _cleanup_close_ int fd = spool_file_open_readonly(g->file);
        _cleanup_free_ char *path = strdup(m->text);
        Want *w;
        int r = fd < 0 ? fd : spool_file_take_room(g->file, *ranges, reterr);

        if (r < 0)
                return r;
        w = calloc(1, sizeof(Want));
        if (!w || !path) {
                free(w);
                return -ENOMEM;
        }
        *w = (Want){ .get = g,
                     .next = g->wants,
                     .id = m->id,
                     .path = TAKE_PTR(path),
                     .ranges = TAKE_PTR(*ranges) };
        g->wants = w;
        fetch_socket_send(g->objects->socket, &spooled, fd);
        return 0;
}

static int whole(uint64_t size, RangeSet **ret)
{
        _cleanup_(range_set_freep) RangeSet *ranges = NULL;
        int r = range_set_new(&ranges);

        if (r >= 0)
                r = range_set_add(ranges, 0, size);
        if (r >= 0)
                *ret = TAKE_PTR(ranges);
        return r;
}

static int read_ranges(const Message *m, int fd, RangeSet **ret, char **reterr)
{
        struct stat st;
        int r;

        if (fd < 0)
                return whole(m->size, ret);
        if (fstat(fd, &st) < 0)
                return -errno;
        r = range_set_unpack(fd, st.st_size, m->size, ret);
        return r < 0 ? fail_errno(reterr, r, "can't read which parts of %s are wanted", m->text)
                     : 0;
}

int fetch_objects_get(FetchObjects *o, Store *store, const Message *m, int fd, char **reterr)
{
        _cleanup_(range_set_freep) RangeSet *ranges = NULL;
        Get *g = find_object(o, &m->sha256);
        bool shared = g;
        int r;

        o->store = store;
        if (g && g->size != m->size)
                return fail(reterr, -EBUSY,
                            "%s has the digest of an object that is fetched with another size",
                            m->text);
        r = read_ranges(m, fd, &ranges, reterr);
        if (r >= 0)
                r = !shared ? get_new(o, m, &g, reterr) : g->ended ? get_begin(g, m->text) : 0;
        if (r < 0)
                return r;
        r = want_new(g, m, &ranges, reterr);
        if (r < 0) {
                if (!shared) {
                        /* A file without bytes would only take room, and so does what a full disk
                         * had left for it. */
                        g->dropped = r == -ENOSPC || r == -EDQUOT ||
                                     range_set_n(spool_file_have(g->file)) == 0;
                        get_free(g);
                }
                return r;
        }
        g->ended = false;
        tell_got(g);
        go_on(o);
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
        pay(o, m->size);
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
        get_settle(g);
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

void fetch_objects_set_bandwidth(FetchObjects *o, uint64_t bytes)
{
        o->bandwidth_bytes = bytes;
}

uint64_t fetch_objects_due_in_usec(FetchObjects *o)
{
        uint64_t now_usec;
        ByteRange range;

        if (o->bandwidth_bytes == 0)
                return UINT64_MAX;
        now_usec = clock_usec(CLOCK_MONOTONIC);
        for (Get *g = o->gets; g; g = g->next)
                if (find_place(g) && find_next(g, &range))
                        return o->paid_usec > now_usec ? o->paid_usec - now_usec : 0;
        return UINT64_MAX;
}

void fetch_objects_start_due(FetchObjects *o)
{
        if (o->bandwidth_bytes > 0)
                go_on(o);
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
