/* SPDX-License-Identifier: Apache-2.0 */
#include "listener.h"

#include <stdio.h>

#include "clock.h"
#include "err.h"
#include "fd.h"
#include "journal.h"
#include "log.h"

#define RETRY_MIN_USEC (UINT64_C(1) * 1000000)
#define RETRY_MAX_USEC (UINT64_C(60) * 1000000)

/* How it goes is in status; in the journal not more often than so. */
#define LOG_EVERY_USEC (UINT64_C(5) * 1000000)

struct Listener {
        Agent *agent;
        ListenerCallbacks callbacks;
        void *userdata;
        FetchRequest *request;
        sd_event_source *retry_source, *log_source;
        uint64_t retry_usec;
        char *name; /* what `request` was told; NULL: nothing that could be told is known */
        bool listening;
        SsmChannel channel; /* by which one, while it listens */
        char *trouble;      /* NULL: none, or nothing was heard yet */
        char *logged;       /* the channel or the trouble that was last; NULL: nothing */
        bool logged_trouble;
        uint64_t logged_usec; /* CLOCK_BOOTTIME */
};

static void stop(Listener *l)
{
        bool was = l->request;

        l->request = fetch_request_free(l->request);
        l->listening = false;
        if (was)
                l->callbacks.lost(l->userdata);
}

Listener *listener_free(Listener *l)
{
        if (!l)
                return NULL;
        fetch_request_free(l->request);
        sd_event_source_disable_unref(l->retry_source);
        sd_event_source_disable_unref(l->log_source);
        free(l->name);
        free(l->trouble);
        free(l->logged);
        free(l);
        return NULL;
}

static void log_state(Listener *l)
{
        const char *now = l->listening ? ssm_channel_to_string(l->channel) : strempty(l->trouble);
        char *copy;

        if (l->logged && err_text_equal(l->logged, now))
                return;
        copy = strdup(now);
        free(l->logged);
        l->logged = copy;
        l->logged_trouble = !l->listening;
        l->logged_usec = clock_usec(CLOCK_BOOTTIME);
        if (!l->listening)
                journal_event(LOG_WARNING, JOURNAL_NO_ORDERS,
                              "No orders can come through AWS Systems Manager: %s", now);
        else
                log_info("Orders can come through AWS Systems Manager, by %s", now);
}

static int on_log(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void) source, (void) usec;
        log_state(userdata);
        return 0;
}

/* That trouble is over is logged at once, all else not more often than it may, but in the end. */
static void log_in_time(Listener *l)
{
        uint64_t now_usec = clock_usec(CLOCK_BOOTTIME), due_usec = l->logged_usec + LOG_EVERY_USEC;

        if ((l->logged_trouble && l->listening) || l->logged_usec == 0 || now_usec >= due_usec) {
                log_state(l);
                return;
        }
        (void) sd_event_source_set_time_relative(l->log_source, due_usec - now_usec);
        (void) sd_event_source_set_enabled(l->log_source, SD_EVENT_ONESHOT);
}

/* `trouble` NULL: it listens. */
static void set_state(Listener *l, const char *trouble, SsmChannel channel)
{
        l->listening = !trouble;
        l->channel = channel;
        free(l->trouble);
        l->trouble = trouble ? strdup(trouble) : NULL;
}

static void set_trouble(Listener *l, const char *trouble)
{
        set_state(l, trouble, SSM_CHANNEL_AUTO);
        log_in_time(l);
}

/* Who this host is to Systems Manager */

/* "mi-...": hosts elsewhere than on EC2 (Systems Manager User Guide, "hybrid activations"). */
static bool is_instance_id(const char *s)
{
        return s && (strncmp(s, "i-", 2) == 0 || strncmp(s, "mi-", 3) == 0);
}

/* The text of LISTEN. What the files name "instance" need not be one of EC2's. */
static char *find_name(const Agent *a, char **reterr)
{
        const Config *c = a->config;
        const char *id = NULL;
        char *name = NULL;

        if (c && !a->recalled)
                id = is_instance_id(c->instance) ? c->instance
                     : a->instance               ? a->instance->id
                                                 : NULL;
        if (!is_instance_id(id) || !c->region) {
                err_set(reterr,
                        "this host's %s not known; where it has no instance metadata, set "
                        "\"instance\" and \"region\"",
                        is_instance_id(id) ? "region is" : "instance id (i-...) is");
                return NULL;
        }
        err_set(&name, "%s %s %s %s", ssm_channel_to_string(c->ssm.channel), id, c->region,
                c->zone ? c->zone : "-");
        return name;
}

/* Listening */

static void retry_later(Listener *l)
{
        l->retry_usec = CLAMP(l->retry_usec * 2, RETRY_MIN_USEC, RETRY_MAX_USEC);
        (void) sd_event_source_set_time_relative(l->retry_source, l->retry_usec);
        (void) sd_event_source_set_enabled(l->retry_source, SD_EVENT_ONESHOT);
}

static void on_listening(Listener *l, const Message *m)
{
        l->retry_usec = 0;
        if (m->result < 0)
                set_state(l, m->text[0] ? m->text : strerror(-m->result), SSM_CHANNEL_AUTO);
        else
                set_state(l, NULL,
                          m->size < _SSM_CHANNEL_MAX ? (SsmChannel) m->size : SSM_CHANNEL_AUTO);
        if (m->result != -EINPROGRESS)
                log_in_time(l);
}

static void on_message(const Message *m, int *fd, void *userdata)
{
        Listener *l = userdata;

        (void) fd;
        switch (m->type) {
        case MESSAGE_LISTENING:
                on_listening(l, m);
                return;
        case MESSAGE_ORDER:
                l->callbacks.order(m->offset, m->size == 1, m->text, l->userdata);
                return;
        case MESSAGE_ORDER_CANCEL:
                l->callbacks.cancel(m->offset, l->userdata);
                return;
        default:
                stop(l);
                set_trouble(l, m->text);
                retry_later(l);
        }
}

static void listen_now(Listener *l)
{
        Message m = { .type = MESSAGE_LISTEN };
        int r;

        (void) stpncpy(m.text, l->name, MESSAGE_TEXT_MAX);
        r = fetcher_request(l->agent->fetcher, &m, -1, on_message, l, &l->request);
        if (r < 0) {
                set_trouble(l, strerror(-r));
                retry_later(l);
        }
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
        Listener *l = userdata;

        (void) source, (void) usec;
        if (!l->request)
                listener_look_again(l);
        return 0;
}

void listener_look_again(Listener *l)
{
        _cleanup_free_ char *err = NULL;
        char *name = find_name(l->agent, &err);
        bool same = streq_ptr(name, l->name);

        free(l->name);
        l->name = name;
        if (same && l->request)
                return;
        stop(l);
        if (name)
                listen_now(l);
        else if (l->agent->config && !l->agent->recalled)
                set_trouble(l, strempty(err));
}

int listener_new(Agent *agent, const ListenerCallbacks *callbacks, void *userdata, Listener **ret)
{
        _cleanup_(listener_freep) Listener *l = calloc(1, sizeof(Listener));
        int r;

        if (!l)
                return -ENOMEM;
        *l = (Listener){ .agent = agent, .callbacks = *callbacks, .userdata = userdata };
        r = sd_event_add_time_relative(agent->event, &l->retry_source, CLOCK_BOOTTIME, 0, 0,
                                       on_retry, l);
        if (r >= 0)
                r = sd_event_add_time_relative(agent->event, &l->log_source, CLOCK_BOOTTIME, 0, 0,
                                               on_log, l);
        if (r >= 0)
                r = sd_event_source_set_enabled(l->log_source, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(l);
        return 0;
}

int listener_tell(Listener *l, uint64_t number, int result, const char *words)
{
        Message m = { .type = MESSAGE_ORDER_NEWS, .offset = number, .result = result };
        _cleanup_close_ int fd = -EBADF;

        if (!l->request)
                return -EHOSTDOWN;
        fd = memfd_sealed("slipway-order", words, strlen(words));
        return fd < 0 ? fd : fetch_request_send(l->request, &m, fd);
}

const char *listener_channel(const Listener *l)
{
        return l->listening ? ssm_channel_to_string(l->channel) : NULL;
}

int listener_describe(const Listener *l, cJSON *object)
{
        SsmChannel channel =
                l->listening ? l->channel : config_source_settings(l->agent->source)->ssm.channel;

        return cJSON_AddStringToObject(object, "channel", ssm_channel_to_string(channel)) &&
                               cJSON_AddBoolToObject(object, "listening", l->listening) &&
                               (!l->trouble ||
                                cJSON_AddStringToObject(object, "trouble", l->trouble))
                       ? 0
                       : -ENOMEM;
}
