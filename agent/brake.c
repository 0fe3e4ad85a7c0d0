/* SPDX-License-Identifier: Apache-2.0 */
#include "brake.h"

#include <stdio.h>

#include "clock.h"
#include "err.h"
#include "json-read.h"
#include "utf8.h"

struct Brake {
        Fetcher *fetcher;
        char *path, *text;
        BrakeState state;
        uint64_t unknown_since_usec;
        FetchRequest *request;
        brake_done_t done;
        void *userdata;
};

typedef struct Halt {
        bool halted;
        char *by, *reason;
} Halt;

static void halt_done(Halt *h)
{
        free(h->by);
        free(h->reason);
}

int brake_parse(const char *data, size_t size, bool *ret_halted, char **ret_text, char **reterr)
{
        static const JsonField fields[] = {
                {"halted",       json_parse_bool, offsetof(Halt, halted), true },
                { "by", json_parse_string, offsetof(Halt, by), false },
                { "reason",          json_parse_string, offsetof(Halt, reason), false },
                {}
        };
        _cleanup_(halt_done) Halt h = {};
        _cleanup_json_ cJSON *o = NULL;
        char *text = NULL;
        int r = json_parse(data, size, &o, reterr);

        if (r >= 0)
                r = json_dispatch_known(o, "", fields, &h, reterr);
        if (r < 0)
                return r;
        err_set(&text, "%s%s%s%s", h.by ? "by " : "", strempty(h.by), h.by && h.reason ? ": " : "",
                strempty(h.reason));
        if (!text)
                return -ENOMEM;
        utf8_clean(text);
        *ret_halted = h.halted;
        *ret_text = text;
        return 0;
}

Brake *brake_free(Brake *b)
{
        if (!b)
                return NULL;
        fetch_request_free(b->request);
        free(b->path);
        free(b->text);
        free(b);
        return NULL;
}

int brake_new(Fetcher *fetcher, const char *app, const char *channel, Brake **ret)
{
        Brake *b = calloc(1, sizeof(Brake));

        if (!b)
                return -ENOMEM;
        b->fetcher = fetcher;
        if (asprintf(&b->path, "%s/channels/%s/halt.json", app, channel) < 0) {
                free(b);
                return -ENOMEM;
        }
        *ret = b;
        return 0;
}

static void on_reply(const Message *m, int *fd, void *userdata)
{
        Brake *b = userdata;
        bool answered = m->type == MESSAGE_BRAKED;

        (void) fd;
        if (m->type != 0 && !answered)
                return;
        b->request = fetch_request_free(b->request);
        if (answered && (m->result == 0 || m->result == POLL_ABSENT))
                b->state = BRAKE_OFF;
        else
                b->state = answered && m->result == BRAKED_ON ? BRAKE_ON : BRAKE_UNKNOWN;
        if (b->state != BRAKE_UNKNOWN)
                b->unknown_since_usec = 0;
        else if (b->unknown_since_usec == 0)
                b->unknown_since_usec = clock_usec(CLOCK_BOOTTIME);
        free(b->text);
        b->text = strdup(m->text[0] || m->result >= 0 ? m->text : strerror(-m->result));
        b->done(b->userdata);
}

int brake_ask(Brake *b, brake_done_t done, void *userdata)
{
        Message m = { .type = MESSAGE_BRAKE };

        b->done = done;
        b->userdata = userdata;
        if (b->request)
                return 0;
        (void) stpncpy(m.text, b->path, MESSAGE_TEXT_MAX);
        return fetcher_request(b->fetcher, &m, -1, on_reply, b, &b->request);
}

bool brake_is_asking(const Brake *b)
{
        return b->request;
}

BrakeState brake_state(const Brake *b)
{
        return b->state;
}

const char *brake_text(const Brake *b)
{
        return strempty(b->text);
}

uint64_t brake_unknown_usec(const Brake *b)
{
        return b->unknown_since_usec > 0
                       ? MAX(clock_usec(CLOCK_BOOTTIME) - b->unknown_since_usec, 1U)
                       : 0;
}
