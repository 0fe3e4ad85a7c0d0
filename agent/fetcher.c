/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <time.h>

#include "err.h"
#include "fetcher.h"
#include "log.h"

/* slipway-fetch has limits of its own for each transfer; this one is for a fetch that is hung. */
#define SILENCE_MAX_USEC (UINT64_C(15) * 60 * 1000000)
#define RESTART_MIN_USEC (UINT64_C(100) * 1000)
#define RESTART_MAX_USEC (UINT64_C(60) * 1000000)
#define N_ARGUMENTS_MAX  10
#define FINISH_MAX_USEC  (UINT64_C(1) * 1000000)
#define RUN_GOOD_USEC \
        (UINT64_C(30) * 1000000) /* a child that ran so long starts again without delay */

struct FetchRequest {
        Fetcher *fetcher;
        FetchRequest *next, **link; /* *link points to us */
        uint64_t id;
        MessageType type;
        uint64_t size_bytes, available_bytes; /* of a GET */
        unsigned n_awaited;                   /* answers that are still to come */
        unsigned n_again;                     /* of these to GET_AGAIN */
        fetch_reply_t reply;
        void *userdata;
        sd_event_source *silence_source; /* on while answers are awaited */
        bool sent;
        int lost; /* negative: why no answer will come; to be told from the loop */
};

struct Fetcher {
        sd_event *event;
        char *store, *cache_dir, *state_dir;
        char bandwidth[32]; /* "": no limit */
        Identity identity;
        Child *child;
        uint64_t last_id, started_usec, delay_usec;
        FetchRequest *requests;
        sd_event_source *lost_source, *restart_source;
        char *why_ended; /* the last child, until there is another */
};

static uint64_t now_usec(void)
{
        struct timespec t;

        (void) clock_gettime(CLOCK_BOOTTIME, &t);
        return (uint64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static bool goes_on(const FetchRequest *r)
{
        return r->type == MESSAGE_GET || r->type == MESSAGE_PROBE || r->type == MESSAGE_LISTEN ||
               (r->type == MESSAGE_WATCH && r->n_awaited > 0);
}

FetchRequest *fetch_request_free(FetchRequest *r)
{
        Message cancel = { .type = MESSAGE_CANCEL };

        if (!r)
                return NULL;
        cancel.id = r->id;
        if (r->sent && goes_on(r) && r->fetcher->child &&
            child_send(r->fetcher->child, &cancel, -1) < 0)
                log_debug("Can't send CANCEL: the request goes on for nobody");
        *r->link = r->next;
        if (r->next)
                r->next->link = r->link;
        sd_event_source_disable_unref(r->silence_source);
        free(r);
        return NULL;
}

/* gcc 12's analyzer takes what a request's link points to for any member of f. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-double-free"
Fetcher *fetcher_free(Fetcher *f)
{
        if (!f)
                return NULL;
        while (f->requests)
                fetch_request_free(f->requests);
        child_free(f->child);
        sd_event_source_disable_unref(f->lost_source);
        sd_event_source_disable_unref(f->restart_source);
        sd_event_unref(f->event);
        free(f->store);
        free(f->cache_dir);
        free(f->state_dir);
        free(f->why_ended);
        free(f);
        return NULL;
}
#pragma GCC diagnostic pop

Fetcher *fetcher_finish(Fetcher *f)
{
        if (f)
                f->child = child_finish(f->child, FINISH_MAX_USEC);
        return fetcher_free(f);
}

static FetchRequest *next_lost(Fetcher *f)
{
        for (FetchRequest *r = f->requests; r; r = r->next)
                if (r->lost < 0)
                        return r;
        return NULL;
}

static int on_lost(sd_event_source *source, void *userdata)
{
        Fetcher *f = userdata;
        _cleanup_free_ char *why_ended = f->why_ended ? strdup(f->why_ended) : NULL;

        (void) source;
        /* A callback may free any request, so the list is searched anew each time. */
        for (FetchRequest *r = next_lost(f); r; r = next_lost(f)) {
                Message m = { .result = -EHOSTDOWN };
                int fd = -EBADF;
                if (r->lost == -EAGAIN)
                        (void) stpcpy(m.text, "slipway-fetch does not read what it is asked");
                else
                        (void) stpncpy(m.text,
                                       why_ended ? why_ended : "slipway-fetch is not running",
                                       MESSAGE_TEXT_MAX);
                r->lost = 0;
                r->reply(&m, &fd, r->userdata);
        }
        return 0;
}

static void lose_all(Fetcher *f, const char *why)
{
        err_set(&f->why_ended, "slipway-fetch ended (%s)", why);
        for (FetchRequest *r = f->requests; r; r = r->next)
                r->lost = -EHOSTDOWN;
        (void) sd_event_source_set_enabled(f->lost_source, SD_EVENT_ONESHOT);
}

static int await_answer(FetchRequest *r)
{
        int k = sd_event_source_set_time_relative(r->silence_source, SILENCE_MAX_USEC);

        return k < 0 ? k : sd_event_source_set_enabled(r->silence_source, SD_EVENT_ONESHOT);
}

static void answer_came(FetchRequest *r)
{
        if (r->n_awaited > 0)
                r->n_awaited--;
        if (r->n_awaited == 0)
                (void) sd_event_source_set_enabled(r->silence_source, SD_EVENT_OFF);
}

static bool ends_request(FetchRequest *r, MessageType asked)
{
        if (r->type != asked)
                return false;
        answer_came(r);
        return true;
}

/* Whether the message is one that this request may get. Only answers, and bytes that really
 * arrived, count against silence. */
static bool is_answer(FetchRequest *r, const Message *m)
{
        switch (m->type) {
        case MESSAGE_POLLED:
                return (r->type == MESSAGE_POLL || r->type == MESSAGE_WATCH ||
                        r->type == MESSAGE_OPEN) &&
                       ends_request(r, r->type);
        case MESSAGE_BRAKED:
                return ends_request(r, MESSAGE_BRAKE);
        case MESSAGE_PUT_DONE:
                return ends_request(r, MESSAGE_PUT);
        case MESSAGE_PROBED:
                return ends_request(r, MESSAGE_PROBE);
        case MESSAGE_IDENTIFIED:
                return ends_request(r, MESSAGE_IDENTIFY);
        case MESSAGE_LISTENING:
                return ends_request(r, MESSAGE_LISTEN);
        case MESSAGE_ORDER:
        case MESSAGE_ORDER_CANCEL:
                return r->type == MESSAGE_LISTEN;
        case MESSAGE_SPOOLED:
                return r->type == MESSAGE_GET;
        case MESSAGE_AVAILABLE:
                if (r->type != MESSAGE_GET || m->size <= r->available_bytes ||
                    m->size > r->size_bytes)
                        return false;
                r->available_bytes = m->size;
                return r->n_awaited == 0 || await_answer(r) >= 0;
        case MESSAGE_GOT:
                if (r->type != MESSAGE_GET || r->n_awaited == r->n_again)
                        return false;
                answer_came(r);
                return true;
        case MESSAGE_GOT_AGAIN:
                if (r->n_again == 0)
                        return false;
                r->n_again--;
                answer_came(r);
                return true;
        default:
                return false;
        }
}

static void on_child_message(Child *c, const Message *m, int *fd, void *userdata)
{
        Fetcher *f = userdata;

        (void) c;
        for (FetchRequest *r = f->requests; r; r = r->next) {
                if (r->id != m->id)
                        continue;
                if (is_answer(r, m))
                        r->reply(m, fd, r->userdata);
                return;
        }
}

static void on_child_exited(Child *c, const char *how, void *userdata)
{
        Fetcher *f = userdata;
        uint64_t ran_usec = now_usec() - f->started_usec;

        f->child = child_free(c);
        if (ran_usec > RUN_GOOD_USEC)
                f->delay_usec = 0;
        f->delay_usec = CLAMP(f->delay_usec * 2, RESTART_MIN_USEC, RESTART_MAX_USEC);
        (void) sd_event_source_set_time_relative(f->restart_source, f->delay_usec);
        (void) sd_event_source_set_enabled(f->restart_source, SD_EVENT_ONESHOT);
        log_warning("slipway-fetch ended (%s), it may start again in %llu ms", how,
                    (unsigned long long) (f->delay_usec / 1000));
        lose_all(f, how);
}

static void list_arguments(Fetcher *f, char *arguments[static N_ARGUMENTS_MAX])
{
        size_t n = 0;

        arguments[n++] = (char *) "slipway-fetch";
        if (f->store) {
                arguments[n++] = (char *) "--store";
                arguments[n++] = f->store;
        }
        arguments[n++] = (char *) (f->cache_dir ? "--cache" : "--probe");
        arguments[n++] = f->cache_dir; /* NULL: the end */
        if (f->cache_dir && f->state_dir) {
                arguments[n++] = (char *) "--state";
                arguments[n++] = f->state_dir;
        }
        if (f->cache_dir && *f->bandwidth) {
                arguments[n++] = (char *) "--bandwidth";
                arguments[n++] = f->bandwidth;
        }
        arguments[n] = NULL;
}

static int start(Fetcher *f)
{
        static const ChildCallbacks callbacks = { on_child_message, on_child_exited };
        /* Credentials and places of the store (common/credentials.h, s3.h), and what libcurl and
         * OpenSSL read. */
        static const char *const passed[] = { "AWS_*",         "SLIPWAY_*",    "http_proxy",
                                              "https_proxy",   "HTTPS_PROXY",  "all_proxy",
                                              "ALL_PROXY",     "no_proxy",     "NO_PROXY",
                                              "SSL_CERT_FILE", "SSL_CERT_DIR", NULL };
        static const char *const nothing[] = { NULL };
        char *arguments[N_ARGUMENTS_MAX];
        _cleanup_free_ char *err = NULL;
        int enabled, r;

        r = sd_event_source_get_enabled(f->restart_source, &enabled);
        if (f->child || r < 0 || enabled != SD_EVENT_OFF)
                return r;
        list_arguments(f, arguments);
        r = child_spawn(f->event, "slipway-fetch", arguments, f->cache_dir ? passed : nothing,
                        &f->identity, &callbacks, f, &f->child, &err);
        if (r < 0)
                return log_error_errno(r, "%s", err_text(r, err));
        f->started_usec = now_usec();
        free(TAKE_PTR(f->why_ended));
        return 0;
}

static int on_restart(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void) source;
        (void) usec;
        (void) userdata; /* the next request starts it */
        return 0;
}

int fetcher_new(sd_event *event, const char *store, const char *cache_dir, const char *state_dir,
                const Identity *identity, Fetcher **ret)
{
        _cleanup_(fetcher_freep) Fetcher *f = calloc(1, sizeof(Fetcher));
        int r;

        if (!f)
                return -ENOMEM;
        f->event = sd_event_ref(event);
        f->identity = *identity;
        if (store)
                f->store = strdup(store);
        if (cache_dir)
                f->cache_dir = strdup(cache_dir);
        if (state_dir)
                f->state_dir = strdup(state_dir);
        if ((store && !f->store) || (cache_dir && !f->cache_dir) || (state_dir && !f->state_dir))
                return -ENOMEM;
        r = sd_event_add_defer(event, &f->lost_source, on_lost, f);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(f->lost_source, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = sd_event_add_time_relative(event, &f->restart_source, CLOCK_BOOTTIME, 0, 0, on_restart,
                                       f);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(f->restart_source, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(f);
        return 0;
}

int fetcher_set_store(Fetcher *f, const char *store)
{
        char *copy;

        if (streq_ptr(f->store, store))
                return 0;
        copy = strdup(store);
        if (!copy)
                return -ENOMEM;
        free(f->store);
        f->store = copy;
        if (f->child) {
                f->child = child_free(f->child);
                lose_all(f, "it starts again, as another instance");
        }
        return 0;
}

void fetcher_set_bandwidth(Fetcher *f, uint64_t bytes)
{
        (void) snprintf(f->bandwidth, sizeof(f->bandwidth), bytes > 0 ? "%llu" : "",
                        (unsigned long long) bytes);
}

const char *fetcher_cache_dir(const Fetcher *f)
{
        return f->cache_dir;
}

bool fetcher_is_running(const Fetcher *f)
{
        return f->child;
}

static int on_silence(sd_event_source *source, uint64_t usec, void *userdata)
{
        FetchRequest *r = userdata;
        Fetcher *f = r->fetcher;

        (void) source;
        (void) usec;
        log_error("slipway-fetch has been silent for too long: killed");
        f->child = child_free(f->child);
        lose_all(f, "it was silent for too long");
        return 0;
}

static int request_send(FetchRequest *r, Message *m, int fd)
{
        Fetcher *f = r->fetcher;
        int k;

        m->id = r->id;
        k = f->child ? child_send(f->child, m, fd) : -EHOSTDOWN;
        if (k < 0) {
                r->lost = k;
                return sd_event_source_set_enabled(f->lost_source, SD_EVENT_ONESHOT);
        }
        r->sent = true;
        r->n_awaited++;
        r->n_again += m->type == MESSAGE_GET_AGAIN;
        return await_answer(r);
}

int fetcher_request(Fetcher *f, Message *m, int fd, fetch_reply_t reply, void *userdata,
                    FetchRequest **ret)
{
        FetchRequest *r = calloc(1, sizeof(FetchRequest));
        int k;

        if (!r)
                return -ENOMEM;
        *r = (FetchRequest){ .fetcher = f,
                             .next = f->requests,
                             .link = &f->requests,
                             .id = ++f->last_id,
                             .type = m->type,
                             .size_bytes = m->size,
                             .reply = reply,
                             .userdata = userdata };
        if (r->next)
                r->next->link = &r->next;
        f->requests = r;
        k = sd_event_add_time_relative(f->event, &r->silence_source, CLOCK_BOOTTIME,
                                       SILENCE_MAX_USEC, 0, on_silence, r);
        if (k >= 0) {
                (void) start(f);
                k = request_send(r, m, fd);
        }
        if (k < 0) {
                fetch_request_free(r);
                return k;
        }
        *ret = r;
        return 0;
}

int fetch_request_send(FetchRequest *r, Message *m, int fd)
{
        if (m->type != MESSAGE_ORDER_NEWS)
                return request_send(r, m, fd);
        m->id = r->id;
        return r->fetcher->child ? child_send(r->fetcher->child, m, fd) : -EHOSTDOWN;
}

void fetcher_drop(Fetcher *f, const Sha256 *sha256)
{
        Message m = { .type = MESSAGE_DROP, .sha256 = *sha256 };
        int r = f->child ? child_send(f->child, &m, -1) : 0;

        /* What stays in the spool is found by its digest, or swept when slipway-fetch starts. */
        if (r < 0)
                log_debug("Can't send DROP: %s", strerror(-r));
}
