/* SPDX-License-Identifier: Apache-2.0 */
#include "ssm.h"

#include <inttypes.h>

#include "clock.h"
#include "credentials.h"
#include "err.h"
#include "log.h"
#include "ssm-link.h"
#include "ssm-memory.h"
#include "ssm-outbox.h"
#include "ssm-reply.h"
#include "uuid.h"

#define TOPIC_COMMAND "aws.ssm.sendCommand"
#define TOPIC_CANCEL  "aws.ssm.cancelCommand"

/* Final replies that did not get through are sent again after so long, doubling. */
#define REDELIVER_MIN_USEC (UINT64_C(15) * 1000000)
#define REDELIVER_MAX_USEC (UINT64_C(300) * 1000000)
#define FORGET_USEC        (UINT64_C(3600) * 1000000)

/* A command that slipwayd has. */
typedef struct Live {
        struct Live *next;
        uint64_t number, began_msec;
        char *command;
} Live;

struct Ssm {
        CredentialsSource *credentials;
        char *instance;
        const SsmCallbacks *callbacks;
        void *userdata;
        SsmMemory *memory;
        SsmLink *link;
        SsmOutbox *outbox;
        Live *live;
        uint64_t last_number;
        bool taken_up; /* what was going on when slipway-fetch ended */
        uint64_t redeliver_usec, redeliver_delay_usec, forget_usec; /* CLOCK_BOOTTIME */
};

static uint64_t now_msec(void)
{
        return clock_usec(CLOCK_REALTIME) / 1000;
}

/* Replies */

/* False: it can't be sent now. */
static bool put(Ssm *s, const char *message_id, const char *reply_id, const char *topic,
                const char *payload)
{
        SsmReply reply = {
                .message_id = message_id, .id = reply_id, .topic = topic, .payload = payload
        };
        int r = ssm_outbox_put(s->outbox, &reply);

        if (r >= 0 || r == -EEXIST)
                return true;
        log_debug("Can't send a reply to %s now: %s", message_id, strerror(-r));
        return false;
}

/* A reply that is not remembered: when it gets lost, the next one tells the same. `result` NULL:
 * the receipt. */
static void say(Ssm *s, const char *message_id, const char *topic, const SsmResult *result)
{
        SsmReplyInput input = { .status = SSM_IN_PROGRESS,
                                .results = result,
                                .n_results = result ? 1 : 0,
                                .now_msec = now_msec(),
                                .gateway = ssm_link_is_gateway(s->link) };
        _cleanup_free_ char *payload = NULL;
        char id[UUID_TEXT_SIZE];
        int r = uuid_new(id);

        if (r >= 0)
                r = ssm_reply_build(&input, &payload);
        if (r >= 0)
                (void) put(s, message_id, id, topic, payload);
        else
                log_debug("Can't make a reply to %s: %s", message_id, strerror(-r));
}

/* Steps are told of one by one. They share their result, for all of them are one order; its words
 * come once. */
static void say_steps(Ssm *s, const SsmRecord *record, const SsmResult *result)
{
        for (size_t i = 0; i < record->n_steps; i++) {
                SsmResult one = *result;
                one.step = &record->steps[i];
                if (i > 0)
                        one.output = one.error = NULL;
                say(s, record->message, TOPIC_COMMAND, &one);
        }
}

/* The final reply. It tells of the step only if that is the only one, as amazon-ssm-agent has it.
 */
static int build_final(const Ssm *s, const SsmRecord *record, const SsmResult *result,
                       const char *trace, char **ret_id, char **ret)
{
        SsmResult only = *result;
        SsmReplyInput input = { .status = result->status,
                                .trace = trace,
                                .results = &only,
                                .n_results = record->n_steps == 1 ? 1 : 0,
                                .now_msec = now_msec(),
                                .gateway = ssm_link_is_gateway(s->link) };
        _cleanup_free_ char *id = malloc(UUID_TEXT_SIZE);
        int r = id ? uuid_new(id) : -ENOMEM;

        if (r < 0)
                return r;
        only.step = record->steps;
        r = ssm_reply_build(&input, ret);
        if (r < 0)
                return r;
        *ret_id = TAKE_PTR(id);
        return 0;
}

/* Once for all that fail in one round. */
static void schedule_redelivery(Ssm *s)
{
        if (s->redeliver_usec != UINT64_MAX)
                return;
        s->redeliver_delay_usec =
                CLAMP(s->redeliver_delay_usec * 2, REDELIVER_MIN_USEC, REDELIVER_MAX_USEC);
        s->redeliver_usec = clock_usec(CLOCK_BOOTTIME) + s->redeliver_delay_usec;
}

static void put_final(Ssm *s, const SsmRecord *record, const char *reply_id, const char *payload)
{
        if (!put(s, record->message, reply_id, TOPIC_COMMAND, payload))
                schedule_redelivery(s);
}

static void deliver(Ssm *s, const SsmRecord *record)
{
        _cleanup_free_ char *payload = NULL;
        int r = ssm_memory_load_reply(s->memory, record, &payload);

        if (r >= 0)
                put_final(s, record, record->reply_id, payload);
        else
                log_warning("Can't read the answer to the command %s: %s", record->command,
                            strerror(-r));
}

static SsmRecord *find_by_reply(Ssm *s, const char *reply_id)
{
        SsmRecord *r;

        for (size_t i = 0; (r = ssm_memory_get(s->memory, i)); i++)
                if (r->reply_id && streq(r->reply_id, reply_id))
                        return r;
        return NULL;
}

static void on_sent(const char *reply_id, int result, const char *why, void *userdata)
{
        Ssm *s = userdata;
        SsmRecord *record = find_by_reply(s, reply_id);
        int r;

        if (!record) {
                if (result < 0)
                        log_debug("A reply did not get through: %s", strempty(why));
                return;
        }
        if (result < 0 && result != -EREMOTEIO) {
                log_warning(
                        "The answer to the command %s did not get through, and is sent again: %s",
                        record->command, strempty(why));
                schedule_redelivery(s);
                return;
        }
        if (result < 0)
                log_warning("Systems Manager does not take the answer to the command %s: %s",
                            record->command, strempty(why));
        s->redeliver_delay_usec = 0;
        r = ssm_memory_delivered(s->memory, record);
        if (r < 0)
                log_warning("Can't remember that the command %s is answered: %s", record->command,
                            strerror(-r));
}

static void redeliver(Ssm *s)
{
        SsmRecord *r;

        s->redeliver_usec = UINT64_MAX;
        for (size_t i = 0; (r = ssm_memory_get(s->memory, i)); i++)
                if (r->reply_id && !r->delivered)
                        deliver(s, r);
}

/* Commands */

static Live *find_live(Ssm *s, const char *command)
{
        for (Live *l = s->live; l; l = l->next)
                if (streq(l->command, command))
                        return l;
        return NULL;
}

static void live_free(Ssm *s, Live *live)
{
        for (Live **link = &s->live; *link; link = &(*link)->next)
                if (*link == live) {
                        *link = live->next;
                        break;
                }
        free(live->command);
        free(live);
}

static int live_new(Ssm *s, const SsmRecord *record, Live **ret)
{
        Live *l = calloc(1, sizeof(Live));

        if (!l)
                return -ENOMEM;
        *l = (Live){ .next = s->live,
                     .number = ++s->last_number,
                     .began_msec = record->received_msec,
                     .command = strdup(record->command) };
        if (!l->command) {
                free(l);
                return -ENOMEM;
        }
        *ret = s->live = l;
        return 0;
}

/* The command has its end: first on disk, then on its way. */
static void end(Ssm *s, SsmRecord *record, const SsmResult *result, const char *trace)
{
        _cleanup_free_ char *id = NULL, *payload = NULL;
        int r = build_final(s, record, result, trace, &id, &payload);

        if (r < 0) {
                log_error("Can't answer the command %s: %s", record->command, strerror(-r));
                return;
        }
        r = ssm_memory_end(s->memory, record, id, payload);
        if (r < 0)
                log_warning("The answer to the command %s would not survive a crash: %s",
                            record->command, strerror(-r));
        say_steps(s, record, result);
        put_final(s, record, id, payload);
}

static SsmResult failure(const SsmRecord *record, const char *why)
{
        return (SsmResult){ .status = SSM_FAILED,
                            .error = why,
                            .began_msec = record->received_msec,
                            .ended_msec = now_msec() };
}

static void end_failed(Ssm *s, SsmRecord *record, const char *why)
{
        SsmResult result = failure(record, why);

        end(s, record, &result, why);
}

/* What was remembered goes to slipwayd. */
static void hand_over(Ssm *s, SsmRecord *record, bool again)
{
        _cleanup_(remote_order_done) RemoteOrder order = {};
        _cleanup_free_ char *err = NULL;
        Live *live = NULL;
        int r = remote_order_unpack(strempty(record->order), &order, &err);

        if (r >= 0)
                r = live_new(s, record, &live);
        if (r < 0)
                end_failed(s, record, err_text(r, err));
        else
                s->callbacks->order(live->number, &order, again, s->userdata);
}

/* Not carried out anew, but answered. */
static void answer_duplicate(Ssm *s, const SsmMessage *m, SsmRecord *record)
{
        log_info("The command %s came once more: it was %s", record->command,
                 record->reply_id ? "answered" : "begun");
        ssm_link_receipt(s->link, m, SSM_RECEIPT_DUPLICATE);
        if (record->reply_id)
                deliver(s, record);
        else
                say(s, m->id, TOPIC_COMMAND, NULL);
}

static void init_record(SsmRecord *record, const SsmMessage *m, SsmRequest *request)
{
        *record = (SsmRecord){ .command = strdup(request->command),
                               .message = strdup(m->id),
                               .document = strdup(request->document),
                               .steps = request->steps,
                               .n_steps = request->n_steps,
                               .received_msec = now_msec() };
        request->steps = NULL;
        request->n_steps = 0;
}

/* Remembered together with its end. */
static int refuse(Ssm *s, SsmRecord *record, const char *why)
{
        SsmResult result = failure(record, why);

        return build_final(s, record, &result, why, &record->reply_id, &record->reply);
}

/* `why` NULL: it is to be carried out. */
static int remember(Ssm *s, const SsmMessage *m, SsmRequest *request, const char *why,
                    SsmRecord **ret)
{
        _cleanup_(ssm_record_done) SsmRecord record = {};
        int r;

        init_record(&record, m, request);
        if (!record.command || !record.message || !record.document)
                return -ENOMEM;
        r = why ? refuse(s, &record, why) : remote_order_pack(&request->order, &record.order);
        return r < 0 ? r : ssm_memory_add(s->memory, &record, ret);
}

/* `why` as above. */
static void take_command(Ssm *s, const SsmMessage *m, SsmRequest *request, const char *why)
{
        SsmRecord *record = ssm_memory_find(s->memory, request->command);
        int r;

        if (record) {
                answer_duplicate(s, m, record);
                return;
        }
        r = remember(s, m, request, why, &record);
        if (r < 0) {
                /* No receipt: it comes again, and may find more room then. */
                log_warning("The command %s is not taken now, for it can't be remembered: %s",
                            request->command, strerror(-r));
                return;
        }
        if (why) {
                SsmResult result = failure(record, why);
                log_warning("The command %s (%s) is refused: %s", record->command, record->document,
                            why);
                say_steps(s, record, &result);
                deliver(s, record);
                ssm_link_receipt(s->link, m, SSM_RECEIPT_TAKEN);
                return;
        }
        say(s, m->id, TOPIC_COMMAND, NULL);
        ssm_link_receipt(s->link, m, SSM_RECEIPT_TAKEN);
        hand_over(s, record, false);
}

static void take_cancel(Ssm *s, const SsmMessage *m, const SsmRequest *request)
{
        Live *live = find_live(s, request->command);

        say(s, m->id, TOPIC_CANCEL, NULL);
        ssm_link_receipt(s->link, m, SSM_RECEIPT_TAKEN);
        if (live)
                s->callbacks->cancel(live->number, s->userdata);
        else
                log_info("The command %s is to be cancelled, but is not under way",
                         request->command);
}

static void on_message(const SsmMessage *m, void *userdata)
{
        Ssm *s = userdata;
        _cleanup_(ssm_request_done) SsmRequest request = {};
        _cleanup_free_ char *err = NULL;
        const time_t now_sec = time(NULL) + ssm_link_clock_offset(s->link);
        int r = ssm_request_parse(m, s->instance, now_sec, &request, &err);

        if (r < 0 && r != -EPERM)
                log_warning("A message of Systems Manager is refused: %s", err_text(r, err));
        if (r == -ENOTSUP)
                ssm_link_receipt(s->link, m, SSM_RECEIPT_NO_HANDLER);
        else if (r == -EBADMSG)
                ssm_link_receipt(s->link, m, SSM_RECEIPT_MALFORMED);
        else if (r == -EPERM || (r == 0 && request.kind == SSM_ORDER))
                take_command(s, m, &request, r < 0 ? err_text(r, err) : NULL);
        else if (r == 0)
                take_cancel(s, m, &request);
}

/* Handed over before, and not answered: slipwayd knows what became of it, or its state tells. */
static void take_up(Ssm *s)
{
        SsmRecord *r;

        s->taken_up = true;
        for (size_t i = 0; (r = ssm_memory_get(s->memory, i)); i++)
                if (!r->reply_id)
                        hand_over(s, r, true);
}

static SsmStatus status_of(int result)
{
        if (result > 0)
                return SSM_IN_PROGRESS;
        return result == 0 ? SSM_SUCCESS : result == -ECANCELED ? SSM_CANCELLED : SSM_FAILED;
}

void ssm_news(Ssm *s, uint64_t number, int result, const char *output)
{
        SsmResult r = { .status = status_of(result), .output = output };
        SsmRecord *record;
        Live *live = s->live;

        while (live && live->number != number)
                live = live->next;
        record = live ? ssm_memory_find(s->memory, live->command) : NULL;
        if (!record)
                return;
        r.began_msec = live->began_msec;
        if (result > 0) {
                say_steps(s, record, &r);
                return;
        }
        r.ended_msec = now_msec();
        live_free(s, live);
        end(s, record, &r, NULL);
}

/* The whole */

static void on_state(int result, SsmChannel channel, const char *why, void *userdata)
{
        Ssm *s = userdata;

        if (result == 0 && s->redeliver_usec != UINT64_MAX)
                s->redeliver_usec = 0;
        s->callbacks->state(result, channel, why, s->userdata);
}

static void on_replied(const char *reply_id, int result, const char *why, void *userdata)
{
        Ssm *s = userdata;

        /* What was given up, and arrived nevertheless. */
        if (!ssm_outbox_replied(s->outbox, reply_id, result, why) && result == 0)
                on_sent(reply_id, 0, NULL, s);
}

int ssm_new(Http *http, const SsmOptions *options, const SsmCallbacks *callbacks, void *userdata,
            Ssm **ret, char **reterr)
{
        static const SsmLinkCallbacks link_callbacks = { on_message, on_replied, on_state };
        _cleanup_(ssm_freep) Ssm *s = calloc(1, sizeof(Ssm));
        int r;

        if (!s)
                return -ENOMEM;
        *s = (Ssm){ .instance = strdup(options->identity.instance),
                    .callbacks = callbacks,
                    .userdata = userdata };
        if (!s->instance)
                return -ENOMEM;
        r = ssm_memory_open(options->directory, &s->memory, reterr);
        if (r >= 0)
                r = credentials_source_new(&s->credentials, reterr);
        if (r < 0)
                return r;
        credentials_source_attach(s->credentials, http);
        r = ssm_link_new(http, s->credentials, options->channel, &options->identity,
                         &link_callbacks, s, &s->link, reterr);
        if (r >= 0)
                r = ssm_outbox_new(s->link, on_sent, s, &s->outbox);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

Ssm *ssm_free(Ssm *s)
{
        if (!s)
                return NULL;
        while (s->live)
                live_free(s, s->live);
        ssm_outbox_free(s->outbox);
        ssm_link_free(s->link);
        credentials_source_free(s->credentials);
        ssm_memory_free(s->memory);
        free(s->instance);
        free(s);
        return NULL;
}

static uint64_t until(uint64_t at_usec)
{
        uint64_t now = clock_usec(CLOCK_BOOTTIME);

        if (at_usec == UINT64_MAX)
                return UINT64_MAX;
        return at_usec > now ? at_usec - now : 0;
}

uint64_t ssm_due_in_usec(const Ssm *s)
{
        uint64_t due = ssm_link_due_in_usec(s->link), other = ssm_outbox_due_in_usec(s->outbox);

        if (!s->taken_up)
                return 0;
        due = MIN(due, other);
        due = MIN(due, until(s->redeliver_usec));
        return MIN(due, until(s->forget_usec));
}

void ssm_start_due(Ssm *s)
{
        if (!s->taken_up)
                take_up(s);
        if (until(s->redeliver_usec) == 0)
                redeliver(s);
        if (until(s->forget_usec) == 0) {
                s->forget_usec = clock_usec(CLOCK_BOOTTIME) + FORGET_USEC;
                ssm_memory_forget_old(s->memory, now_msec());
        }
        ssm_link_start_due(s->link);
        ssm_outbox_start_due(s->outbox);
}
