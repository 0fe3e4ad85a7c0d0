/* SPDX-License-Identifier: Apache-2.0 */
#include "ssm-outbox.h"

#include "clock.h"
#include "err.h"

/* A channel that is left takes what was on its way along without a word. */
#define LOST_USEC (UINT64_C(180) * 1000000)

typedef struct Letter {
        struct Letter *next;
        char *message_id, *id, *topic, *payload;
} Letter;

struct SsmOutbox {
        SsmLink *link;
        ssm_outbox_done_t done;
        void *userdata;
        Letter *letters; /* the first one is on its way if sent_usec > 0 */
        uint64_t sent_usec;
};

static Letter *letter_free(Letter *l)
{
        if (!l)
                return NULL;
        free(l->message_id);
        free(l->id);
        free(l->topic);
        free(l->payload);
        free(l);
        return NULL;
}
DEFINE_CLEANUP_FUNC(Letter *, letter_free);

int ssm_outbox_new(SsmLink *link, ssm_outbox_done_t done, void *userdata, SsmOutbox **ret)
{
        SsmOutbox *o = calloc(1, sizeof(SsmOutbox));

        if (!o)
                return -ENOMEM;
        *o = (SsmOutbox){ .link = link, .done = done, .userdata = userdata };
        *ret = o;
        return 0;
}

SsmOutbox *ssm_outbox_free(SsmOutbox *o)
{
        if (!o)
                return NULL;
        for (Letter *l = o->letters, *next; l; l = next) {
                next = l->next;
                letter_free(l);
        }
        free(o);
        return NULL;
}

int ssm_outbox_put(SsmOutbox *o, const SsmReply *reply)
{
        _cleanup_(letter_freep) Letter *l = calloc(1, sizeof(Letter));
        Letter **link = &o->letters;
        size_t n = 0;

        if (!l)
                return -ENOMEM;
        for (; *link; link = &(*link)->next, n++)
                if (streq((*link)->id, reply->id))
                        return -EEXIST;
        if (n >= SSM_OUTBOX_MAX)
                return -EXFULL;
        l->message_id = strdup(reply->message_id);
        l->id = strdup(reply->id);
        l->topic = strdup(reply->topic);
        l->payload = strdup(reply->payload);
        if (!l->message_id || !l->id || !l->topic || !l->payload)
                return -ENOMEM;
        *link = TAKE_PTR(l);
        return 0;
}

static void take_first(SsmOutbox *o, int result, const char *why)
{
        _cleanup_(letter_freep) Letter *l = o->letters;

        o->letters = l->next;
        o->sent_usec = 0;
        o->done(l->id, result, why, o->userdata);
}

bool ssm_outbox_replied(SsmOutbox *o, const char *reply_id, int result, const char *why)
{
        if (o->sent_usec == 0 || !o->letters || !streq(o->letters->id, reply_id))
                return false;
        take_first(o, result, why);
        return true;
}

static uint64_t lost_in_usec(const SsmOutbox *o)
{
        uint64_t until = o->sent_usec + LOST_USEC, now = clock_usec(CLOCK_BOOTTIME);

        return until > now ? until - now : 0;
}

uint64_t ssm_outbox_due_in_usec(const SsmOutbox *o)
{
        if (o->sent_usec > 0)
                return lost_in_usec(o);
        return o->letters ? 0 : UINT64_MAX;
}

void ssm_outbox_start_due(SsmOutbox *o)
{
        if (o->sent_usec > 0) {
                if (lost_in_usec(o) > 0)
                        return;
                take_first(o, -ETIMEDOUT, "nothing became of it");
        }
        while (o->letters && o->sent_usec == 0) {
                const Letter *l = o->letters;
                SsmReply reply = { .message_id = l->message_id,
                                   .id = l->id,
                                   .topic = l->topic,
                                   .payload = l->payload };
                int r = ssm_link_reply(o->link, &reply);
                if (r < 0)
                        take_first(o, r, err_text(r, NULL));
                else
                        o->sent_usec = clock_usec(CLOCK_BOOTTIME);
        }
}
