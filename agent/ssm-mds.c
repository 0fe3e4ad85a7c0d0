/* SPDX-License-Identifier: Apache-2.0 */
#include "ssm-mds.h"

#include <cJSON.h>
#include <sys/queue.h>

#include "aws-call.h"
#include "backoff.h"
#include "clock.h"
#include "err.h"
#include "json-read.h"
#include "log.h"
#include "ssm-mds-answer.h"
#include "uuid.h"

#define ANSWER_SIZE_MAX   (4 * SSM_MESSAGE_SIZE_MAX) /* a payload's quotes are escaped in it */
#define VISIBILITY_SEC    10
#define KEYLESS_MAX_USEC  UINT64_C(60000000)
#define RECEIPTS_MAX      16
#define RECEIPT_TRIES_MAX 100 /* time ends them before */
#define REPLY_TRIES       3

static const AwsService service = { .name = "ec2messages",
                                    .protocol = AWS_JSON,
                                    .version = "EC2WindowsMessageDeliveryService" };

static const AwsHint hints[] = {
        {"AccessDeniedException",
         "this takes the ec2messages permissions of AmazonSSMManagedInstanceCore, and the credentials "
          "of this very instance's role" },
        {                       }
};

/* What the service is told beside the polls: a receipt or a reply. */
typedef struct Errand {
        SsmMds *mds;
        const char *action;
        char *body;
        char *reply_id;      /* NULL: a receipt */
        uint64_t until_usec; /* of a receipt */
        AwsCall *call;       /* NULL: its turn is to come */
        TAILQ_ENTRY(Errand) entry;
} Errand;

struct SsmMds {
        AwsClient *poll_client, *errand_client;
        char *instance, *region;
        SsmChannelCallbacks callbacks;
        void *userdata;
        SsmMdsLimits limits;
        AwsCall *poll;
        uint64_t began_usec; /* the poll; CLOCK_MONOTONIC */
        uint64_t due_usec;   /* the next one */
        char request_id[UUID_TEXT_SIZE];
        bool repeat; /* the next poll has the request id of the last one */
        unsigned n_failed;
        TAILQ_HEAD(, Errand) errands;
        char *receipt_err; /* of the last receipt that failed, to say it once */
        bool told;
        int state;
        char *why;
};

static void errand_free(Errand *e)
{
        free(e->body);
        free(e->reply_id);
        free(e);
}
DEFINE_CLEANUP_FUNC(Errand *, errand_free);

static void set_client_limits(SsmMds *m)
{
        aws_client_set_limits(
                m->poll_client,
                &(AwsLimits){ .connect_sec = 10, .deadline_sec = m->limits.deadline_sec });
        aws_client_set_limits(m->errand_client,
                              &(AwsLimits){ .connect_sec = 5,
                                            .stall_sec = 5,
                                            .deadline_sec = 10,
                                            .backoff_msec = m->limits.retry_msec });
}

void ssm_mds_set_limits(SsmMds *m, const SsmMdsLimits *limits)
{
        m->limits = *limits;
        set_client_limits(m);
}

int ssm_mds_new(Http *http, CredentialsSource *credentials, const SsmIdentity *identity,
                const SsmChannelCallbacks *callbacks, void *userdata, SsmMds **ret, char **reterr)
{
        _cleanup_(ssm_mds_freep) SsmMds *m = calloc(1, sizeof(SsmMds));
        int r;

        if (!m)
                return -ENOMEM;
        TAILQ_INIT(&m->errands);
        m->callbacks = *callbacks;
        m->userdata = userdata;
        m->instance = strdup(identity->instance);
        m->region = strdup(identity->region);
        if (!m->instance || !m->region)
                return -ENOMEM;
        r = aws_client_new(&service, m->region, http, credentials, credentials, &m->poll_client,
                           reterr);
        if (r >= 0)
                r = aws_client_new(&service, m->region, http, credentials, credentials,
                                   &m->errand_client, reterr);
        if (r < 0)
                return r;
        ssm_mds_set_limits(m, &(SsmMdsLimits){ .deadline_sec = 35,
                                               .fast_msec = 1000,
                                               .slow_msec = 10000,
                                               .pause_msec = 2000,
                                               .pause_max_msec = 300000,
                                               .visibility_msec = VISIBILITY_SEC * 1000,
                                               .retry_msec = 500 });
        *ret = TAKE_PTR(m);
        return 0;
}

SsmMds *ssm_mds_free(SsmMds *m)
{
        Errand *e;

        if (!m)
                return NULL;
        aws_client_free(m->poll_client);
        aws_client_free(m->errand_client);
        while ((e = TAILQ_FIRST(&m->errands))) {
                TAILQ_REMOVE(&m->errands, e, entry);
                errand_free(e);
        }
        free(m->instance);
        free(m->region);
        free(m->receipt_err);
        free(m->why);
        free(m);
        return NULL;
}

/* --- receipts and replies --- */

static int check_object(const char *data, size_t size, const char *action, char **reterr)
{
        _cleanup_json_ cJSON *json = NULL;
        int r = json_parse(data, size, &json, reterr);

        if (r >= 0 && !cJSON_IsObject(json))
                r = json_fail_type(json, "", "an object", reterr);
        return r < 0 ? fail_prefix(reterr, r, "what ec2messages:%s answers makes no sense", action)
                     : r;
}

/* Without its permission it would fail with every message. */
static void receipt_ended(SsmMds *m, int result, const char *err)
{
        const bool told = result < 0 && m->receipt_err && err_text_equal(m->receipt_err, err);

        free(m->receipt_err);
        m->receipt_err = result < 0 ? strdup(err) : NULL;
        if (result < 0 && !told)
                log_warning("A message of Systems Manager will come again: %s", err);
}

static void errand_ended(Errand *e, int result, const char *err)
{
        SsmMds *m = e->mds;

        TAILQ_REMOVE(&m->errands, e, entry);
        if (e->reply_id)
                m->callbacks.replied(e->reply_id, result, err, m->userdata);
        else
                receipt_ended(m, result, err);
        errand_free(e);
}

static void on_errand(int result, char **data, size_t size, const char *err, void *userdata)
{
        Errand *e = userdata;
        _cleanup_free_ char *why = NULL;

        e->call = NULL;
        if (result >= 0) {
                result = check_object(*data, size, e->action, &why);
                err = result < 0 ? err_text(result, why) : NULL;
        }
        errand_ended(e, result, err);
}

static int send_errand(Errand *e, char **reterr)
{
        return aws_start(
                e->mds->errand_client,
                &(AwsRequest){ .action = e->action,
                               .what = e->reply_id ? "send a reply to Systems Manager"
                                                   : "tell Systems Manager of a message's receipt",
                               .json = e->body,
                               .hints = hints,
                               .n_tries = e->reply_id ? REPLY_TRIES : RECEIPT_TRIES_MAX },
                on_errand, e, &e->call, reterr);
}

/* All receipts are sent at once, of replies one at a time. */
static Errand *next_errand(const SsmMds *m)
{
        bool replying = false;
        Errand *e;

        TAILQ_FOREACH(e, &m->errands, entry)
        {
                if (!e->call && !(e->reply_id && replying))
                        return e;
                replying = replying || e->reply_id;
        }
        return NULL;
}

static void send_errands(SsmMds *m)
{
        Errand *e;

        while ((e = next_errand(m))) {
                _cleanup_free_ char *err = NULL;
                int r = send_errand(e, &err);
                if (r < 0)
                        errand_ended(e, r, err_text(r, err));
        }
}

static Errand *late_receipt(const SsmMds *m)
{
        Errand *e;

        TAILQ_FOREACH(e, &m->errands, entry)
        if (!e->reply_id && e->until_usec <= clock_usec(CLOCK_MONOTONIC))
                return e;
        return NULL;
}

static void drop_late_receipts(SsmMds *m)
{
        Errand *e;

        while ((e = late_receipt(m))) {
                e->call = aws_cancel(e->call);
                errand_ended(e, -ETIMEDOUT, "ec2messages did not take its receipt in time");
        }
}

/* Takes the body's members, in pairs of name and text. */
static int add_errand(SsmMds *m, const char *action, const NameValue *members, size_t n,
                      const char *reply_id)
{
        _cleanup_(errand_freep) Errand *e = calloc(1, sizeof(Errand));
        _cleanup_json_ cJSON *o = cJSON_CreateObject();
        bool ok = e && o;

        for (size_t i = 0; ok && i < n; i++)
                ok = cJSON_AddStringToObject(o, members[i].name, members[i].value);
        if (!ok)
                return -ENOMEM;
        *e = (Errand){ .mds = m,
                       .action = action,
                       .body = cJSON_PrintUnformatted(o),
                       .reply_id = reply_id ? strdup(reply_id) : NULL,
                       .until_usec = clock_usec(CLOCK_MONOTONIC) +
                                     (uint64_t) m->limits.visibility_msec * 1000 };
        if (!e->body || (reply_id && !e->reply_id))
                return -ENOMEM;
        TAILQ_INSERT_TAIL(&m->errands, e, entry);
        e = NULL;
        return 0;
}

static void add_receipt(SsmMds *m, const char *id, const char *failure)
{
        const NameValue members[] = {
                {"MessageId",    id     },
                { "FailureType", failure},
        };
        size_t n = 0;
        const Errand *e;
        int r;

        TAILQ_FOREACH(e, &m->errands, entry)
        n += !e->reply_id;
        r = n >= RECEIPTS_MAX ? -EBUSY
                              : add_errand(m, failure ? "FailMessage" : "AcknowledgeMessage",
                                           members, failure ? 2 : 1, NULL);
        if (r < 0)
                log_debug("No receipt for the message %s: %s", id, strerror(-r));
}

void ssm_mds_receipt(SsmMds *m, const SsmMessage *message, SsmReceipt receipt)
{
        static const char *const failures[] = {
                [SSM_RECEIPT_TAKEN] = NULL,
                [SSM_RECEIPT_DUPLICATE] = NULL,
                [SSM_RECEIPT_MALFORMED] = "InternalHandlerException",
                [SSM_RECEIPT_NO_HANDLER] = "NoHandlerExists",
        };

        add_receipt(m, message->id, failures[receipt]);
}

int ssm_mds_reply(SsmMds *m, const SsmReply *reply)
{
        const NameValue members[] = {
                {"MessageId", reply->message_id},
                { "ReplyId",  reply->id        },
                { "Payload",  reply->payload   },
        };

        return add_errand(m, "SendReply", members, ELEMENTSOF(members), reply->id);
}

/* --- polls --- */

static void say(SsmMds *m, int result, const char *why)
{
        if (m->told && result == m->state && err_text_equal(strempty(m->why), strempty(why)))
                return;
        m->told = true;
        m->state = result;
        free(m->why);
        m->why = why ? strdup(why) : NULL;
        m->callbacks.state(result, why, m->userdata);
}

static void pause_polls(SsmMds *m, unsigned n_failed, uint64_t max_usec)
{
        m->due_usec =
                clock_usec(CLOCK_MONOTONIC) +
                backoff_pause_usec(n_failed, (uint64_t) m->limits.pause_msec * 1000, max_usec);
}

static bool is_unanswered(int result)
{
        return result == -EHOSTDOWN || result == -ETIMEDOUT || result == -EBUSY ||
               result == -ENOENT || result == -EPROTO;
}

static void poll_failed(SsmMds *m, int result, const char *why, bool slow)
{
        const uint64_t max_usec = (uint64_t) m->limits.pause_max_msec * 1000;
        _cleanup_free_ char *text = NULL;

        m->repeat = is_unanswered(result);
        if (m->n_failed++ == 0 && slow && (result == -EHOSTDOWN || result == -ETIMEDOUT))
                return;
        pause_polls(m, m->n_failed, result == -ENOKEY ? MIN(max_usec, KEYLESS_MAX_USEC) : max_usec);
        if (result == -ENOENT)
                err_set(&text,
                        "the region %s has no endpoint of ec2messages, as those since 2024, "
                        "or its name can't be looked up: %s",
                        m->region, why);
        say(m, result, text ? text : why);
}

static void on_message(const SsmMessage *message, void *userdata)
{
        SsmMds *m = userdata;

        m->callbacks.message(message, m->userdata);
}

static void on_unfit(const char *id, const char *why, void *userdata)
{
        log_warning("A message of Systems Manager%s%s is passed over: %s", id ? " " : "",
                    strempty(id), why);
        if (id)
                add_receipt(userdata, id, "InternalHandlerException");
}

static int take_answer(SsmMds *m, const char *data, size_t size, char **reterr)
{
        static const SsmMdsAnswerCallbacks callbacks = { .message = on_message, .unfit = on_unfit };
        int r = ssm_mds_answer_read(data, size, &callbacks, m, reterr);

        return r < 0 ? fail_prefix(reterr, r, "what ec2messages:GetMessages answers makes no sense")
                     : r;
}

static void on_poll(int result, char **data, size_t size, const char *err, void *userdata)
{
        SsmMds *m = userdata;
        const uint64_t took_msec = (clock_usec(CLOCK_MONOTONIC) - m->began_usec) / 1000;
        _cleanup_free_ char *why = NULL;

        m->poll = NULL;
        m->due_usec = 0;
        if (result >= 0) {
                result = take_answer(m, *data, size, &why);
                err = result < 0 ? err_text(result, why) : NULL;
        }
        if (result < 0) {
                poll_failed(m, result, err, took_msec >= m->limits.slow_msec);
                return;
        }
        m->n_failed = 0;
        m->repeat = false;
        if (took_msec < m->limits.fast_msec)
                pause_polls(m, 1, UINT64_MAX);
        say(m, 0, NULL);
}

static int format_poll(const SsmMds *m, char **ret)
{
        _cleanup_json_ cJSON *o = cJSON_CreateObject();

        if (!o || !cJSON_AddStringToObject(o, "Destination", m->instance) ||
            !cJSON_AddStringToObject(o, "MessagesRequestId", m->request_id) ||
            !cJSON_AddNumberToObject(o, "VisibilityTimeoutInSeconds", VISIBILITY_SEC))
                return -ENOMEM;
        *ret = cJSON_PrintUnformatted(o);
        return *ret ? 0 : -ENOMEM;
}

static int start_poll(SsmMds *m, char **reterr)
{
        _cleanup_free_ char *body = NULL;
        int r = m->repeat ? 0 : uuid_new(m->request_id);

        if (r >= 0)
                r = format_poll(m, &body);
        if (r < 0)
                return r;
        m->began_usec = clock_usec(CLOCK_MONOTONIC);
        return aws_start(m->poll_client,
                         &(AwsRequest){ .action = "GetMessages",
                                        .what = "ask Systems Manager for messages",
                                        .json = body,
                                        .hints = hints,
                                        .n_tries = 1,
                                        .size_max = ANSWER_SIZE_MAX },
                         on_poll, m, &m->poll, reterr);
}

static void poll_if_due(SsmMds *m)
{
        _cleanup_free_ char *err = NULL;
        int r;

        if (m->poll || m->due_usec > clock_usec(CLOCK_MONOTONIC))
                return;
        r = start_poll(m, &err);
        if (r < 0) {
                m->poll = NULL;
                poll_failed(m, r, err_text(r, err), false);
        }
}

uint64_t ssm_mds_due_in_usec(const SsmMds *m)
{
        const uint64_t now = clock_usec(CLOCK_MONOTONIC);
        uint64_t in_usec = MIN(aws_due_in_usec(m->poll_client), aws_due_in_usec(m->errand_client));
        const Errand *e;

        if (next_errand(m))
                return 0;
        if (!m->poll)
                in_usec = MIN(in_usec, m->due_usec > now ? m->due_usec - now : 0);
        TAILQ_FOREACH(e, &m->errands, entry)
        if (!e->reply_id)
                in_usec = MIN(in_usec, e->until_usec > now ? e->until_usec - now : 0);
        return in_usec;
}

void ssm_mds_start_due(SsmMds *m)
{
        aws_start_due(m->poll_client);
        aws_start_due(m->errand_client);
        drop_late_receipts(m);
        send_errands(m);
        poll_if_due(m);
}
