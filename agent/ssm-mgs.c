/* SPDX-License-Identifier: Apache-2.0 */
#include "ssm-mgs.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <time.h>

#include "aws-endpoint.h"
#include "build-config.h"
#include "clock.h"
#include "err.h"
#include "json-read.h"
#include "log.h"
#include "secret.h"
#include "sink.h"
#include "ssm-frame.h"
#include "ssm-job.h"
#include "ssm-refusal.h"
#include "ssm-sign.h"
#include "uuid.h"
#include "xml-scan.h"

#define QUERY            "role=subscribe&stream=input"
#define SCHEMA           "1.0"
#define TOKEN_SIZE_MAX   16384
#define ANSWER_SIZE_MAX  65536
#define FRAME_SLACK      65536 /* of JSON and the frame around a command */
#define KEYLESS_MAX_USEC UINT64_C(60000000)
#define SKEW_MIN_SEC     240 /* servers take 300; what the answer took on its way is in between */

static const SsmMgsLimits limits_default = {
        .socket = {.connect_sec = 10,
                   .open_msec = 15000,
                   .ping_msec = 54000,
                   .silence_msec = 60000,
                   .close_msec = 1000,
                   .message_size_max = SSM_MESSAGE_SIZE_MAX + FRAME_SLACK},
        .token_msec = 15000,
        .lost_msec = 2500,
        .retry_msec = 5000,
        .retry_max_msec = 40 * 60 * 1000,
        .worked_msec = 60000,
        .reply_msec = 1000,
};

/* A reply that was given here, until replied() was told what came of it. */
typedef struct Pending {
        char id[UUID_TEXT_SIZE];
        uint64_t due_usec;
        int result; /* if nothing else comes until then */
        const char *why;
        LIST_ENTRY(Pending) entry;
} Pending;

struct SsmMgs {
        Http *http;
        CredentialsSource *credentials;
        AwsEndpoint endpoint;
        char *path;
        SsmChannelCallbacks callbacks;
        void *userdata;
        SsmMgsLimits limits;

        HttpTransfer *transfer; /* asks for a token */
        char *body;             /* of that */
        HttpUpload upload;
        Sink answer;
        char *token;       /* until it is handed over */
        WebSocket *socket; /* neither: it waits until due_usec, or for credentials */
        bool keyless;
        bool open;
        bool heard; /* something useful came since it is open */
        uint64_t opened_usec, due_usec;
        unsigned n_failed;
        unsigned generation; /* of the credentials of this try */
        bool renewed, skew_corrected;
        time_t clock_offset; /* what their clock is ahead of ours; for signing only */

        bool told; /* state() was; the last time this */
        int told_result;
        char *told_why;
        char *unread_err; /* of the last message that could not be read, to say it once */
        LIST_HEAD(, Pending) replies;
};

static uint64_t now_usec(void)
{
        return clock_usec(CLOCK_MONOTONIC);
}

static int format_path(const char *instance, char **ret)
{
        _cleanup_free_ char *encoded = NULL;
        int r = uri_encode(instance, false, &encoded);

        if (r < 0)
                return r;
        if (asprintf(ret, "/v1/control-channel/%s", encoded) < 0)
                return *ret = NULL, -ENOMEM;
        return 0;
}

int ssm_mgs_new(Http *http, CredentialsSource *credentials, const SsmIdentity *identity,
                const SsmChannelCallbacks *callbacks, void *userdata, SsmMgs **ret, char **reterr)
{
        _cleanup_(ssm_mgs_freep) SsmMgs *m = calloc(1, sizeof(SsmMgs));
        const Profile *profile;
        int r;

        if (!m)
                return -ENOMEM;
        *m = (SsmMgs){ .http = http,
                       .credentials = credentials,
                       .callbacks = *callbacks,
                       .userdata = userdata,
                       .limits = limits_default };
        LIST_INIT(&m->replies);
        r = format_path(identity->instance, &m->path);
        if (r >= 0)
                r = credentials_source_profile(credentials, &profile, reterr);
        if (r >= 0)
                r = aws_endpoint_find(SSM_SERVICE, identity->region, profile, &m->endpoint, reterr);
        if (r < 0)
                return r;
        credentials_source_attach(credentials, http);
        *ret = TAKE_PTR(m);
        return 0;
}

SsmMgs *ssm_mgs_free(SsmMgs *m)
{
        if (!m)
                return NULL;
        (void) http_cancel(m->transfer);
        (void) websocket_free(m->socket);
        while (!LIST_EMPTY(&m->replies)) {
                Pending *p = LIST_FIRST(&m->replies);
                LIST_REMOVE(p, entry);
                free(p);
        }
        sink_done(&m->answer);
        secret_free(m->token);
        aws_endpoint_done(&m->endpoint);
        free(m->path);
        free(m->body);
        free(m->told_why);
        free(m->unread_err);
        free(m);
        return NULL;
}

void ssm_mgs_set_limits(SsmMgs *m, const SsmMgsLimits *limits)
{
        m->limits = *limits;
}

static void tell(SsmMgs *m, int result, const char *why)
{
        if (m->told && m->told_result == result &&
            (result >= 0 || err_text_equal(strempty(m->told_why), why)))
                return;
        m->told = true;
        m->told_result = result;
        free(m->told_why);
        m->told_why = result < 0 ? strdup(why) : NULL;
        m->callbacks.state(result, result < 0 ? why : NULL, m->userdata);
}

/* At most `max`; without random bytes all of it. */
static uint64_t random_up_to(uint64_t max)
{
        uint64_t random;

        return getrandom(&random, sizeof(random), 0) < 0 ? max : random % (max + 1);
}

static void wait_usec(SsmMgs *m, uint64_t usec)
{
        m->due_usec = now_usec() + usec;
}

/* Replies that are under way went with the connection, or may have. */
static void give_up_replies(SsmMgs *m)
{
        Pending *p;

        LIST_FOREACH(p, &m->replies, entry)
        if (p->result != -EREMOTEIO) {
                p->result = -EHOSTDOWN;
                p->why = "the connection to the message gateway broke";
                p->due_usec = 0;
        }
}

static uint64_t retry_usec(const SsmMgs *m, int result)
{
        const uint64_t max = (uint64_t) m->limits.retry_max_msec * 1000;
        const uint64_t limit_max = result == -ENOKEY ? MIN(max, KEYLESS_MAX_USEC) : max;
        uint64_t limit = (uint64_t) m->limits.retry_msec * 1000;

        for (unsigned i = 0; i < m->n_failed && limit < limit_max; i++)
                limit *= 2;
        return MIN(limit + random_up_to(limit), limit_max);
}

/* One that the service ends at once, each time, or by breaking the rules, is a failure like any
 * other. */
static bool connection_worked(const SsmMgs *m, int result)
{
        return m->open && result != -EPROTO &&
               (m->heard || now_usec() - m->opened_usec >= (uint64_t) m->limits.worked_msec * 1000);
}

/* Nothing is under way any more: begins the wait for another try. */
static void end_try(SsmMgs *m, int result, bool worked)
{
        if (worked) {
                m->n_failed = 0;
                wait_usec(m, random_up_to((uint64_t) m->limits.lost_msec * 1000));
        } else {
                wait_usec(m, retry_usec(m, result));
                m->n_failed += result != -ENOKEY; /* nobody was asked */
        }
        if (m->open)
                give_up_replies(m);
        m->open = m->heard = m->renewed = m->skew_corrected = false;
        secret_free(TAKE_PTR(m->token));
}

static void end_failed(SsmMgs *m, int result, const char *err)
{
        const char *what = m->open ? "the control channel ended" : "can't open a control channel";
        const bool worked = connection_worked(m, result);
        _cleanup_free_ char *text = NULL;

        result = fail(&text, result, "%s: %s", what, err_text(result, err));
        end_try(m, result, worked);
        if (worked)
                log_debug("It is opened again: %s", strempty(text));
        else
                tell(m, result, strempty(text));
}

/* A clock that is wrong has many names among the services' errors, so the answer's own date decides
 * whether that is it. */
static bool correct_clock(SsmMgs *m, time_t theirs)
{
        const time_t offset = theirs - time(NULL);

        if (m->skew_corrected || theirs == (time_t) -1 ||
            llabs(offset - m->clock_offset) < SKEW_MIN_SEC)
                return false;
        m->clock_offset = offset;
        return m->skew_corrected = true;
}

/* Credentials that are not taken may have ended, or been rotated: others get one try. */
static bool renew_credentials(SsmMgs *m)
{
        if (m->renewed || !credentials_source_renew(m->credentials, m->generation))
                return false;
        return m->renewed = true;
}

static void explain(const SsmMgs *m, const SsmRefusal *f, unsigned status, char **ret)
{
        const AwsError *e = &f->error;
        const char *hint = "";

        if (f->verdict == AWS_DENIED)
                hint = "; this takes the permissions ssmmessages:CreateControlChannel and "
                       "ssmmessages:OpenControlChannel, and the instance's own credentials";
        else if (f->verdict == AWS_REFUSED)
                hint = "; the credentials in use are not taken";
        if (!*e->code && !*e->message)
                err_set(ret, "%s refused (status %u)%s", m->endpoint.host, status, hint);
        else
                err_set(ret, "%s%s%s (status %u)%s", e->code, *e->code && *e->message ? ": " : "",
                        e->message, status, hint);
}

static void end_refused(SsmMgs *m, unsigned status, const char *body, size_t size, time_t date)
{
        _cleanup_(ssm_refusal_done) SsmRefusal f = {};
        _cleanup_free_ char *err = NULL;
        int r = ssm_refusal_parse(status, body, size, &f);

        if (r >= 0 && f.verdict == AWS_REFUSED &&
            (correct_clock(m, date) || renew_credentials(m))) {
                secret_free(TAKE_PTR(m->token));
                wait_usec(m, 0);
                return;
        }
        if (r >= 0) {
                explain(m, &f, status, &err);
                r = f.result;
        }
        end_failed(m, r, err);
}

/* The first frame, as text (OpenControlChannel). */
static int hand_token_over(SsmMgs *m)
{
        _cleanup_json_ cJSON *o = cJSON_CreateObject();
        _cleanup_(secret_freep) char *text = NULL;
        char id[UUID_TEXT_SIZE];
        int r = uuid_new(id);

        if (r < 0)
                return r;
        if (cJSON_AddNullToObject(o, "Cookie") &&
            cJSON_AddStringToObject(o, "MessageSchemaVersion", SCHEMA) &&
            cJSON_AddStringToObject(o, "RequestId", id) &&
            cJSON_AddStringToObject(o, "TokenValue", m->token) &&
            cJSON_AddStringToObject(o, "AgentVersion", SLIPWAY_VERSION) &&
            cJSON_AddStringToObject(o, "PlatformType", "linux"))
                text = cJSON_PrintUnformatted(o);
        secret_free(TAKE_PTR(m->token));
        return text ? websocket_send(m->socket, true, text, strlen(text)) : -ENOMEM;
}

static void on_opened(void *userdata)
{
        SsmMgs *m = userdata;
        int r = hand_token_over(m);

        if (r < 0) {
                m->socket = websocket_free(m->socket);
                end_failed(m, r, NULL);
                return;
        }
        m->open = true;
        m->opened_usec = now_usec();
        tell(m, 0, NULL);
}

/* Sends one of our messages. */
static int send_frame(SsmMgs *m, const char *type, const char *id, const char *payload)
{
        _cleanup_free_ void *data = NULL;
        struct timespec now;
        SsmFrame f = { .payload = payload, .payload_size = strlen(payload) };
        size_t size;
        int r;

        if (!m->open)
                return -ENOTCONN;
        (void) clock_gettime(CLOCK_REALTIME, &now);
        f.created_msec = (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
        (void) snprintf(f.type, sizeof(f.type), "%s", type);
        (void) snprintf(f.id, sizeof(f.id), "%s", id);
        r = ssm_frame_pack(&f, &data, &size);
        return r < 0 ? r : websocket_send(m->socket, false, data, size);
}

void ssm_mgs_receipt(SsmMgs *m, const SsmMessage *message, SsmReceipt receipt)
{
        _cleanup_free_ char *text = NULL;
        char id[UUID_TEXT_SIZE];
        int r = uuid_new(id);

        if (r >= 0)
                r = ssm_job_format_ack(message, receipt, &text);
        if (r >= 0)
                r = send_frame(m, "agent_job_ack", id, text);
        if (r < 0)
                log_debug("Can't acknowledge %s: %s", message->id, strerror(-r));
}

static void on_job(SsmMgs *m, const SsmFrame *f)
{
        _cleanup_(ssm_job_done) SsmJob job = {};
        _cleanup_free_ char *err = NULL;
        char created[SSM_TIME_SIZE];
        int r = ssm_job_parse(f->payload, f->payload_size, &job, &err);
        const SsmMessage message = {
                .id = job.id,
                .topic = job.topic,
                .destination = job.destination,
                .created = ssm_time_format(f->created_msec, created),
                .payload = job.content,
                .frame_id = f->id,
        };

        if (r >= 0) {
                m->callbacks.message(&message, m->userdata);
                return;
        }
        /* It comes again and again if it has no id by which to say so. */
        if (!m->unread_err || !err_text_equal(m->unread_err, err_text(r, err)))
                log_warning("A message of Systems Manager%s%s is passed over: %s",
                            job.id ? " " : "", strempty(job.id), err_text(r, err));
        free(m->unread_err);
        m->unread_err = strdup(err_text(r, err));
        if (r == -EBADMSG && job.id)
                ssm_mgs_receipt(m, &message, SSM_RECEIPT_MALFORMED);
}

/* Takes it from the list and tells what came of it, which may change the list. */
static void settle(SsmMgs *m, Pending *p, int result, const char *why)
{
        LIST_REMOVE(p, entry);
        m->callbacks.replied(p->id, result, result < 0 ? why : NULL, m->userdata);
        free(p);
}

static void on_reply_ack(SsmMgs *m, const SsmFrame *f)
{
        _cleanup_free_ char *err = NULL;
        char id[UUID_TEXT_SIZE];
        int r = ssm_job_parse_reply_ack(f->payload, f->payload_size, id, &err);
        Pending *p;

        if (r < 0) {
                log_debug("An acknowledgement that can't be read came: %s", err_text(r, err));
                return;
        }
        LIST_FOREACH(p, &m->replies, entry)
        if (streq(p->id, id) && p->result == -ETIMEDOUT) {
                settle(m, p, 0, NULL);
                return;
        }
        m->callbacks.replied(id, 0, NULL, m->userdata);
}

static void on_message(bool text, const void *data, size_t size, void *userdata)
{
        SsmMgs *m = userdata;
        _cleanup_free_ char *err = NULL;
        SsmFrame f;
        int r = text ? fail(&err, -EBADMSG, "a text") : ssm_frame_unpack(data, size, &f, &err);

        if (r < 0) {
                log_debug("The message gateway sent what is passed over: %s", err_text(r, err));
                return;
        }
        if (!f.digest_holds)
                log_debug("A message of type %s has another digest than it says", f.type);
        m->heard = true;
        if (streq(f.type, "agent_job"))
                on_job(m, &f);
        else if (streq(f.type, "agent_job_reply_ack"))
                on_reply_ack(m, &f);
        else
                log_debug("A message of type %s is passed over", f.type);
}

static void on_ended(const WebSocketEnd *end, void *userdata)
{
        SsmMgs *m = userdata;

        m->socket = NULL;
        if (end->status > 0)
                end_refused(m, end->status, end->body, end->body_size, end->date);
        else
                end_failed(m, end->result, end->err);
}

static int sign(SsmMgs *m, SsmHttpRequest *q, SsmHeaders *ret, char **reterr)
{
        int r;

        q->path = m->path;
        q->time = time(NULL) + m->clock_offset;
        r = ssm_sign(q, &m->endpoint, m->credentials, ret, reterr);
        m->keyless = r == CREDENTIALS_PENDING;
        if (r == 0)
                m->generation = credentials_source_generation(m->credentials);
        return r;
}

/* CREDENTIALS_PENDING: they are being renewed, and the token is asked for again after that. */
static int open_socket(SsmMgs *m, char **reterr)
{
        _cleanup_(ssm_headers_done) SsmHeaders headers = {};
        _cleanup_free_ char *target = NULL;
        int r = sign(m, &(SsmHttpRequest){ .method = "GET", .query = QUERY }, &headers, reterr);

        if (r != 0)
                return r;
        if (asprintf(&target, "%s?%s", m->path, QUERY) < 0)
                return target = NULL, -ENOMEM;
        return websocket_open(m->http,
                              &(WebSocketRequest){
                                      .url = m->endpoint.url,
                                      .host = m->endpoint.host,
                                      .target = target,
                                      .headers = headers.headers,
                                      .n_headers = headers.n,
                                      .limits = m->limits.socket,
                                      .opened = on_opened,
                                      .message = on_message,
                                      .ended = on_ended,
                                      .userdata = m,
                              },
                              &m->socket, reterr);
}

static int take_leaf(const char *path, const char *text, void *userdata)
{
        const char *slash = strrchr(path, '/');
        char **token = userdata;

        if (!slash || !streq(slash + 1, "TokenValue"))
                return 0;
        if (*token || !*text || strlen(text) > TOKEN_SIZE_MAX)
                return -EBADMSG;
        *token = strdup(text);
        return *token ? 0 : -ENOMEM;
}

static int take_token(SsmMgs *m, char **reterr)
{
        _cleanup_(secret_freep) char *token = NULL;
        int r = xml_scan(strempty(m->answer.data), m->answer.size, take_leaf, &token);

        if (r == -EBADMSG || (r >= 0 && !token))
                return fail(reterr, -EPROTO, "%s answered without a token", m->endpoint.host);
        if (r < 0)
                return r;
        secret_free(m->token);
        m->token = TAKE_PTR(token);
        return 0;
}

static int on_body(const void *data, size_t size, void *userdata)
{
        SsmMgs *m = userdata;

        return sink_write(&m->answer, data, size);
}

static void take_answer(SsmMgs *m, const HttpResponse *response)
{
        const unsigned status = http_response_status(response);
        _cleanup_free_ char *err = NULL;
        const char *body;
        size_t size;
        int r;

        if (status == 201) {
                r = take_token(m, &err);
                if (r >= 0)
                        r = open_socket(m, &err);
                if (r < 0)
                        end_failed(m, r, err);
                return;
        }
        if (status / 100 == 2) {
                r = fail(&err, -EPROTO, "%s answered with status %u, not with 201 and a token",
                         m->endpoint.host, status);
                end_failed(m, r, err);
                return;
        }
        body = http_response_error_body(response, &size);
        end_refused(m, status, body, size, http_response_date(response));
}

static void on_answer(int result, const HttpResponse *response, const char *err, void *userdata)
{
        SsmMgs *m = userdata;

        m->transfer = NULL;
        if (result >= 0)
                take_answer(m, response);
        else
                end_failed(m, result, err);
        sink_done(&m->answer);
}

static int format_body(SsmMgs *m)
{
        char id[UUID_TEXT_SIZE];
        int r = uuid_new(id);

        if (r < 0)
                return r;
        free(TAKE_PTR(m->body));
        if (asprintf(&m->body, "{\"MessageSchemaVersion\":\"" SCHEMA "\",\"RequestId\":\"%s\"}",
                     id) < 0)
                return m->body = NULL, -ENOMEM;
        m->upload = (HttpUpload){ .data = m->body, .size = strlen(m->body) };
        return 0;
}

/* CreateControlChannel. */
static int ask_for_token(SsmMgs *m, char **reterr)
{
        _cleanup_(ssm_headers_done) SsmHeaders headers = {};
        _cleanup_free_ char *url = NULL;
        int r = format_body(m);

        if (r >= 0)
                r = sign(m,
                         &(SsmHttpRequest){ .method = "POST",
                                            .content_type = "application/json",
                                            .body = m->body },
                         &headers, reterr);
        if (r != 0)
                return r;
        if (asprintf(&url, "%s%s", m->endpoint.url, m->path) < 0)
                return url = NULL, -ENOMEM;
        return http_start(m->http,
                          &(HttpRequest){
                                  .method = "POST",
                                  .url = url,
                                  .headers = headers.headers,
                                  .n_headers = headers.n,
                                  .upload = &m->upload,
                                  .size_max = ANSWER_SIZE_MAX,
                                  .connect_sec = m->limits.socket.connect_sec,
                                  .deadline_msec = m->limits.token_msec,
                                  .fresh = m->n_failed > 0,
                                  .on_body = on_body,
                                  .done = on_answer,
                                  .userdata = m,
                          },
                          &m->transfer, reterr);
}

static int send_reply(SsmMgs *m, const SsmReply *reply, const char *id, const char **ret_why)
{
        _cleanup_free_ char *text = NULL;
        int r;

        *ret_why = "the reply has more than 120000 bytes";
        if (strlen(reply->payload) > SSM_MGS_REPLY_SIZE_MAX)
                return -EREMOTEIO;
        *ret_why = m->open ? "the message gateway can't be sent to"
                           : "the message gateway is not connected";
        r = ssm_job_format_reply(reply, &text);
        return r < 0 ? r : send_frame(m, "agent_job_reply", id, text);
}

int ssm_mgs_reply(SsmMgs *m, const SsmReply *reply)
{
        uint8_t id[UUID_SIZE];
        Pending *p;

        if (uuid_parse(reply->id, id) < 0)
                return -EINVAL;
        p = calloc(1, sizeof(Pending));
        if (!p)
                return -ENOMEM;
        (void) uuid_format(id, p->id);
        p->due_usec = now_usec();
        p->result = send_reply(m, reply, p->id, &p->why);
        if (p->result >= 0) {
                p->result = -ETIMEDOUT;
                p->why = "the message gateway did not acknowledge the reply";
                p->due_usec += (uint64_t) m->limits.reply_msec * 1000;
        }
        LIST_INSERT_HEAD(&m->replies, p, entry);
        return 0;
}

static uint64_t until(uint64_t usec)
{
        const uint64_t now = now_usec();

        return usec > now ? usec - now : 0;
}

uint64_t ssm_mgs_due_in_usec(const SsmMgs *m)
{
        uint64_t in_usec = m->transfer  ? UINT64_MAX
                           : m->socket  ? websocket_due_in_usec(m->socket)
                           : m->keyless ? credentials_source_due_in_usec(m->credentials)
                                        : until(m->due_usec);
        const Pending *p;

        LIST_FOREACH(p, &m->replies, entry)
        in_usec = MIN(in_usec, until(p->due_usec));
        return in_usec;
}

/* Those that come in callbacks are for the next time: else there might be no end. */
static void settle_due(SsmMgs *m)
{
        const uint64_t now = now_usec();
        Pending *p;

again:
        LIST_FOREACH(p, &m->replies, entry)
        if (p->due_usec < now) {
                settle(m, p, p->result, p->why);
                goto again;
        }
}

void ssm_mgs_start_due(SsmMgs *m)
{
        _cleanup_free_ char *err = NULL;

        if (m->socket)
                websocket_start_due(m->socket);
        else if (!m->transfer && (m->keyless || m->due_usec <= now_usec())) {
                int r = ask_for_token(m, &err);
                if (r < 0)
                        end_failed(m, r, err);
        }
        settle_due(m);
}
