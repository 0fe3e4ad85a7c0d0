/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "aws-environment.h"
#include "brake.h"
#include "clock.h"
#include "dsse.h"
#include "err.h"
#include "fd.h"
#include "fetch-object.h"
#include "fetch-socket.h"
#include "fetch.h"
#include "http.h"
#include "log.h"
#include "message.h"
#include "metadata.h"
#include "poll-wait.h"
#include "ssm-relay.h"
#include "store.h"

#define PUT_SIZE_MAX (64 * 1024)
#define N_KNOWN_MAX  256
#define KNOWN_USEC   (UINT64_C(3600) * 1000000)

/* What a poll of this path got last. */
typedef struct Known {
        char *path, *etag;
        uint64_t since_usec; /* CLOCK_BOOTTIME */
} Known;

/* A call for a poll or a status object. */
typedef struct Call {
        Fetch *fetch;
        struct Call *next;
        uint64_t id, offset;
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

struct Fetch {
        const char *store_url; /* NULL: not known yet */
        const char *state_dir; /* NULL: takes no orders */
        FetchSocket socket;
        Http *http; /* for everything but the store */
        Store *store;
        bool attached;        /* the store steps `http` as well */
        Metadata *metadata;   /* NULL: nobody has asked */
        uint64_t identify_id; /* 0: it is not being asked */
        SsmRelay *relay;      /* NULL: nobody listens */
        FetchObjects *objects;
        Known *known;
        size_t n_known;
        Call *calls;
        Watch *watches;
};

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
        fetch_socket_send(&c->fetch->socket, &m, fd);
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
                fetch_socket_answer(&c->fetch->socket, MESSAGE_POLLED, c->id, POLL_UNCHANGED,
                                    credentials_word(c->fetch));
        else if (result == STORE_ABSENT)
                fetch_socket_answer(&c->fetch->socket, MESSAGE_POLLED, c->id, POLL_ABSENT,
                                    credentials_word(c->fetch));
        else if (result == STORE_UNKNOWN)
                fetch_socket_answer(&c->fetch->socket, MESSAGE_POLLED, c->id, POLL_UNKNOWN, err);
        else
                fetch_socket_answer(&c->fetch->socket, MESSAGE_POLLED, c->id,
                                    result < 0 ? result : -EPROTO, err);
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
        fetch_socket_answer(&f->socket, MESSAGE_POLLED, id, result, strerror(-result));
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
        fetch_socket_answer(&c->fetch->socket, MESSAGE_BRAKED, c->id,
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
                fetch_socket_answer(&c->fetch->socket, MESSAGE_BRAKED, c->id, POLL_ABSENT, NULL);
        else if (result == STORE_UNKNOWN)
                fetch_socket_answer(&c->fetch->socket, MESSAGE_BRAKED, c->id, POLL_UNKNOWN, err);
        else
                fetch_socket_answer(&c->fetch->socket, MESSAGE_BRAKED, c->id,
                                    result < 0 ? result : -EPROTO, err);
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
        fetch_socket_send(&f->socket, &m, fd);
}

static void on_metadata(int result, Instance *i, const char *err, void *userdata)
{
        Fetch *f = userdata;
        uint64_t id = f->identify_id;

        f->identify_id = 0;
        if (result < 0)
                fetch_socket_answer(&f->socket, MESSAGE_IDENTIFIED, id, result, err);
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
        return ssm_relay_new(f->socket.fd, f->http, f->state_dir, m, &f->relay, reterr);
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
        fetch_socket_send(&f->socket, &answered, packed_fd);
        return 0;
}

/* Status objects */

static void on_put(int result, StoreReply *reply, const char *err, void *userdata)
{
        Call *c = userdata;

        (void) reply;
        c->call = NULL;
        fetch_socket_answer(&c->fetch->socket, MESSAGE_PUT_DONE, c->id,
                            result > 0 ? -EACCES : result, err);
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

/* The whole */

static void do_cancel(Fetch *f, uint64_t id)
{
        Watch *watch = find_watch(f, id);

        cancel_calls(f, id);
        if (watch)
                watch_free(f, watch);
        fetch_objects_cancel(f->objects, id);
}

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
                return fetch_objects_get(f->objects, f->store, m, fd, reterr);
        case MESSAGE_GET_AGAIN:
                return fetch_objects_get_again(f->objects, m);
        case MESSAGE_PUT:
                return do_put(f, m, fd);
        case MESSAGE_CANCEL:
                do_cancel(f, m->id);
                return 0;
        case MESSAGE_DROP:
                fetch_objects_drop(f->objects, m);
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
        int r = message_receive(f->socket.fd, &m, &fd);

        if (r == 0)
                return 1;
        if (r < 0)
                return r;
        r = obey(f, &m, fd, &err);
        if (r < 0)
                fetch_socket_answer(&f->socket, answer_type(m.type), m.id, r, err_text(r, err));
        return 0;
}

int fetch_new(const char *store_url, const char *cache_dir, const char *state_dir, int socket_fd,
              Fetch **ret, char **reterr)
{
        _cleanup_(fetch_freep) Fetch *f = calloc(1, sizeof(Fetch));
        int r;

        if (!f)
                return -ENOMEM;
        *f = (Fetch){ .store_url = store_url, .state_dir = state_dir, .socket.fd = socket_fd };
        r = fetch_objects_new(cache_dir, &f->socket, &f->objects, reterr);
        if (r < 0)
                return r;
        r = http_new(aws_environment("AWS_CA_BUNDLE"), &f->http);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(f);
        return 0;
}

void fetch_set_bandwidth(Fetch *f, uint64_t bytes)
{
        fetch_objects_set_bandwidth(f->objects, bytes);
}

Fetch *fetch_free(Fetch *f)
{
        if (!f)
                return NULL;
        while (f->calls)
                call_free(f->calls);
        while (f->watches)
                watch_free(f, f->watches);
        fetch_objects_free(f->objects);
        for (size_t i = 0; i < f->n_known; i++) {
                free(f->known[i].path);
                free(f->known[i].etag);
        }
        free(f->known);
        store_free(f->store);
        metadata_free(f->metadata);
        ssm_relay_free(f->relay);
        http_free(f->http);
        free(f);
        return NULL;
}

static uint64_t due_in_usec(const Fetch *f)
{
        uint64_t due = MIN(watches_due_in_usec(f), fetch_objects_due_in_usec(f->objects));

        if (f->metadata)
                due = MIN(due, metadata_due_in_usec(f->metadata));
        return f->relay ? MIN(due, ssm_relay_due_in_usec(f->relay)) : due;
}

/* Which may call back. */
static int start_due(Fetch *f)
{
        poll_watches(f);
        fetch_objects_start_due(f->objects);
        if (f->metadata)
                metadata_start_due(f->metadata);
        return f->relay ? ssm_relay_start_due(f->relay) : 0;
}

int fetch_step(Fetch *f)
{
        /* A store in a directory never waits while it has something to do. */
        bool busy = f->store && store_n_calls(f->store) > 0;
        uint64_t wait_usec = due_in_usec(f);
        int r = busy || f->attached ? store_step(f->store, f->socket.fd, wait_usec) : 0;

        if (r == 0 && !f->attached)
                r = http_step(f->http, busy ? -1 : f->socket.fd, busy ? 0 : wait_usec);
        if (r == 1)
                r = receive(f);
        if (r == 0)
                r = start_due(f);
        return f->socket.error < 0 ? f->socket.error : r;
}
