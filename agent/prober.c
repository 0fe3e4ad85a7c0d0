/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>

#include "err.h"
#include "fd.h"
#include "http.h"
#include "message.h"
#include "prober.h"

#define BODY_MAX (1024 * 1024)

/* A probe that is on its way. */
typedef struct Asked {
        Prober *prober;
        struct Asked *next;
        uint64_t id;
        HttpTransfer *transfer;
} Asked;

struct Prober {
        int socket_fd;
        Http *http;
        Asked *asked;
        int error; /* of the socket, found in a callback */
};

static void asked_free(Asked *a)
{
        for (Asked **link = &a->prober->asked; *link; link = &(*link)->next)
                if (*link == a) {
                        *link = a->next;
                        break;
                }
        http_cancel(a->transfer);
        free(a);
}

Prober *prober_free(Prober *p)
{
        if (!p)
                return NULL;
        while (p->asked)
                asked_free(p->asked);
        http_free(p->http);
        free(p);
        return NULL;
}

int prober_new(int socket_fd, Prober **ret)
{
        _cleanup_(prober_freep) Prober *p = calloc(1, sizeof(Prober));
        int r;

        if (!p)
                return -ENOMEM;
        p->socket_fd = socket_fd;
        r = http_new(NULL, &p->http);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(p);
        return 0;
}

static void answer(Prober *p, uint64_t id, int result, const char *text)
{
        int r = message_reply(p->socket_fd, MESSAGE_PROBED, id, result, text);

        if (r < 0 && p->error == 0)
                p->error = r;
}

static void on_answer(int result, const HttpResponse *response, const char *err, void *userdata)
{
        Asked *a = userdata;

        a->transfer = NULL;
        answer(a->prober, a->id, result < 0 ? result : (int) http_response_status(response), err);
        asked_free(a);
}

static int ask(Prober *p, const Message *m, char **reterr)
{
        /* The host need not keep what will not be used again. */
        static const NameValue headers[] = {
                {"Connection", "close"},
        };
        HttpRequest request = { .method = "GET",
                                .url = m->text,
                                .headers = headers,
                                .n_headers = ELEMENTSOF(headers),
                                .size_max = BODY_MAX,
                                .deadline_msec = MIN(m->size / 1000, (uint64_t) INT_MAX),
                                .fresh = true,
                                .local = true,
                                .done = on_answer };
        Asked *a = calloc(1, sizeof(Asked));
        int r;

        if (!a)
                return -ENOMEM;
        *a = (Asked){ .prober = p, .next = p->asked, .id = m->id };
        p->asked = a;
        request.userdata = a;
        r = request.deadline_msec > 0 ? http_start(p->http, &request, &a->transfer, reterr)
                                      : fail(reterr, -EPROTO, "a probe needs a limit of time");
        if (r < 0)
                asked_free(a);
        return r;
}

static void cancel(Prober *p, uint64_t id)
{
        for (Asked *a = p->asked; a; a = a->next)
                if (a->id == id) {
                        asked_free(a);
                        return;
                }
}

static int receive(Prober *p)
{
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *err = NULL;
        Message m;
        int r = message_receive(p->socket_fd, &m, &fd);

        if (r == 0)
                return 1;
        if (r < 0)
                return r;
        if (m.type == MESSAGE_CANCEL) {
                cancel(p, m.id);
                return 0;
        }
        r = m.type == MESSAGE_PROBE ? ask(p, &m, &err) : -EPROTO;
        if (r < 0)
                answer(p, m.id, r, err_text(r, err));
        return 0;
}

int prober_step(Prober *p)
{
        int r = http_step(p->http, p->socket_fd, UINT64_MAX);

        if (r == 1)
                r = receive(p);
        return p->error < 0 ? p->error : r;
}
