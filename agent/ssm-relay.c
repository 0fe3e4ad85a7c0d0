/* SPDX-License-Identifier: Apache-2.0 */
#include "ssm-relay.h"

#include <stdio.h>

#include "err.h"
#include "fd.h"
#include "ssm.h"

struct SsmRelay {
        int socket_fd;
        uint64_t id;
        Ssm *ssm;
        int error; /* of the socket, found in a callback */
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

int ssm_relay_new(int socket_fd, Http *http, const char *directory, const Message *listen,
                  SsmRelay **ret, char **reterr)
{
        static const SsmCallbacks callbacks = { on_order, on_cancel, on_state };
        _cleanup_(ssm_relay_freep) SsmRelay *l = calloc(1, sizeof(SsmRelay));
        _cleanup_free_ char *text = strdup(listen->text);
        SsmOptions options = { .directory = directory };
        int r;

        if (!l || !text)
                return -ENOMEM;
        *l = (SsmRelay){ .socket_fd = socket_fd, .id = listen->id };
        r = parse_listen(text, &options, reterr);
        if (r >= 0)
                r = ssm_new(http, &options, &callbacks, l, &l->ssm, reterr);
        if (r < 0)
                return r;
        on_state(-EINPROGRESS, SSM_CHANNEL_AUTO, "not connected yet", l);
        *ret = TAKE_PTR(l);
        return 0;
}

SsmRelay *ssm_relay_free(SsmRelay *l)
{
        if (!l)
                return NULL;
        ssm_free(l->ssm);
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
        ssm_news(l->ssm, m->offset, m->result, words);
        return 0;
}

uint64_t ssm_relay_due_in_usec(const SsmRelay *l)
{
        return l->error < 0 ? 0 : ssm_due_in_usec(l->ssm);
}

int ssm_relay_start_due(SsmRelay *l)
{
        ssm_start_due(l->ssm);
        return l->error;
}
