/* SPDX-License-Identifier: Apache-2.0 */
#include "ssm-relay.h"

#include <stdio.h>

#include "clock.h"
#include "err.h"
#include "fd.h"
#include "ssm.h"

#define RETRY_USEC (UINT64_C(60) * 1000000)

struct SsmRelay {
        int socket_fd;
        Http *http;
        uint64_t id;
        char *text, *directory; /* what `options` points to */
        SsmOptions options;
        Ssm *ssm;            /* NULL: it could not be had */
        uint64_t retry_usec; /* when it is tried again; CLOCK_BOOTTIME */
        int error;           /* of the socket, found in a callback */
};

static void send_to_slipwayd(SsmRelay *l, Message *m)
{
        int r;

        m->id = l->id;
        r = message_send(l->socket_fd, m, -1);
        if (r < 0 && l->error == 0)
                l->error = r;
}

static void on_order(uint64_t number, const RemoteOrder *o, bool again, void *userdata)
{
        SsmRelay *l = userdata;
        _cleanup_free_ char *line = NULL;
        Message m = { .type = MESSAGE_ORDER, .offset = number, .size = again };
        int r = remote_order_pack(o, &line);

        if (r < 0) {
                ssm_news(l->ssm, number, r, strerror(-r));
                return;
        }
        (void) stpncpy(m.text, line, MESSAGE_TEXT_MAX);
        send_to_slipwayd(l, &m);
}

static void on_cancel(uint64_t number, void *userdata)
{
        Message m = { .type = MESSAGE_ORDER_CANCEL, .offset = number };

        send_to_slipwayd(userdata, &m);
}

static void on_state(int result, SsmChannel channel, const char *why, void *userdata)
{
        Message m = { .type = MESSAGE_LISTENING, .result = result, .size = channel };

        (void) stpncpy(m.text, strempty(why), MESSAGE_TEXT_MAX);
        send_to_slipwayd(userdata, &m);
}

/* "CHANNEL INSTANCE REGION ZONE" */
static int parse_listen(char *text, SsmOptions *ret, char **reterr)
{
        char *words[4], *rest = text;

        for (size_t i = 0; i < ELEMENTSOF(words); i++) {
                words[i] = strsep(&rest, " ");
                if (!words[i] || words[i][0] == '\0')
                        return fail(reterr, -EPROTO, "LISTEN lacks a word");
        }
        ret->channel = ssm_channel_from_string(words[0]);
        ret->identity = (SsmIdentity){ .instance = words[1],
                                       .region = words[2],
                                       .zone = streq(words[3], "-") ? NULL : words[3] };
        return rest || ret->channel < 0 ? fail(reterr, -EPROTO, "LISTEN makes no sense: '%s'", text)
                                        : 0;
}

/* What is missing may come, as credentials in a file, or memory. */
static void begin(SsmRelay *l)
{
        static const SsmCallbacks callbacks = { on_order, on_cancel, on_state };
        _cleanup_free_ char *err = NULL;
        int r = ssm_new(l->http, &l->options, &callbacks, l, &l->ssm, &err);

        if (r < 0) {
                l->retry_usec = clock_usec(CLOCK_BOOTTIME) + RETRY_USEC;
                on_state(r, SSM_CHANNEL_AUTO, err_text(r, err), l);
        } else
                on_state(-EINPROGRESS, SSM_CHANNEL_AUTO, "not connected yet", l);
}

int ssm_relay_new(int socket_fd, Http *http, const char *directory, const Message *listen,
                  SsmRelay **ret, char **reterr)
{
        _cleanup_(ssm_relay_freep) SsmRelay *l = calloc(1, sizeof(SsmRelay));
        int r;

        if (!l)
                return -ENOMEM;
        *l = (SsmRelay){ .socket_fd = socket_fd,
                         .http = http,
                         .id = listen->id,
                         .text = strdup(listen->text),
                         .directory = strdup(directory) };
        if (!l->text || !l->directory)
                return -ENOMEM;
        l->options.directory = l->directory;
        r = parse_listen(l->text, &l->options, reterr);
        if (r < 0)
                return r;
        begin(l);
        *ret = TAKE_PTR(l);
        return 0;
}

SsmRelay *ssm_relay_free(SsmRelay *l)
{
        if (!l)
                return NULL;
        ssm_free(l->ssm);
        free(l->text);
        free(l->directory);
        free(l);
        return NULL;
}

uint64_t ssm_relay_id(const SsmRelay *l)
{
        return l->id;
}

int ssm_relay_news(SsmRelay *l, const Message *m, int fd)
{
        _cleanup_free_ char *words = NULL;
        size_t size;
        int r;

        if (fd < 0)
                return -EPROTO;
        r = fd_read_all(fd, ORDER_WORDS_MAX, &words, &size);
        if (r < 0)
                return r;
        if (l->ssm)
                ssm_news(l->ssm, m->offset, m->result, words);
        return 0;
}

static uint64_t retry_in_usec(const SsmRelay *l)
{
        uint64_t now = clock_usec(CLOCK_BOOTTIME);

        return l->retry_usec > now ? l->retry_usec - now : 0;
}

uint64_t ssm_relay_due_in_usec(const SsmRelay *l)
{
        if (l->error < 0)
                return 0;
        return l->ssm ? ssm_due_in_usec(l->ssm) : retry_in_usec(l);
}

int ssm_relay_start_due(SsmRelay *l)
{
        if (l->ssm)
                ssm_start_due(l->ssm);
        else if (retry_in_usec(l) == 0)
                begin(l);
        return l->error;
}
