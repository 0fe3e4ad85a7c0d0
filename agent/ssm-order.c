/* SPDX-License-Identifier: Apache-2.0 */
#include "ssm-order.h"

#include "digest.h"
#include "err.h"
#include "json-read.h"

#define ID_PREFIX    "aws.ssm."
#define TOPIC_SEND   "aws.ssm.sendCommand"
#define TOPIC_CANCEL "aws.ssm.cancelCommand"
#define SECONDS_SIZE STRLEN("2026-11-22T14:05:49")
#define ACTIONS      "poll, deploy, rollback, hold, resume, confirm and status"

int ssm_steps_add(SsmStep **steps, size_t *n_steps, const char *name, const char *plugin)
{
        SsmStep *larger, step;

        for (size_t i = 0; i < *n_steps; i++)
                if (streq((*steps)[i].name, name))
                        return -EEXIST;
        if (*n_steps == SSM_STEPS_MAX)
                return -E2BIG;
        larger = array_extend(*steps, *n_steps, sizeof(SsmStep));
        if (!larger)
                return -ENOMEM;
        *steps = larger;
        step = (SsmStep){ strdup(name), strdup(plugin) };
        if (!step.name || !step.plugin) {
                free(step.name);
                free(step.plugin);
                return -ENOMEM;
        }
        larger[(*n_steps)++] = step;
        return 0;
}

void ssm_steps_free(SsmStep *steps, size_t n_steps)
{
        for (size_t i = 0; i < n_steps; i++) {
                free(steps[i].name);
                free(steps[i].plugin);
        }
        free(steps);
}

void ssm_request_done(SsmRequest *r)
{
        free(r->command);
        free(r->document);
        ssm_steps_free(r->steps, r->n_steps);
        remote_order_done(&r->order);
        *r = (SsmRequest){};
}

/* A payload while it is read. */
typedef struct Payload {
        SsmRequest request;
        char *schema, *cancelled;
        cJSON *json;
        const cJSON *parameters; /* in json; NULL: none */
} Payload;

static void payload_done(Payload *p)
{
        ssm_request_done(&p->request);
        free(p->schema);
        free(p->cancelled);
        cJSON_Delete(p->json);
}

static int add_step(Payload *p, const char *path, const char *name, const char *plugin,
                    char **reterr)
{
        SsmRequest *r = &p->request;
        int error = ssm_steps_add(&r->steps, &r->n_steps, name, plugin);

        if (error == -EEXIST)
                return fail(reterr, -EBADMSG, "%s: is a second step of this name", path);
        return error == -E2BIG ? 0 : error;
}

/* char * */
static int parse_step_name(const cJSON *v, const char *path, void *target, char **reterr)
{
        int r = json_check_text(v, path, 1, SSM_STEP_NAME_MAX, reterr);

        return r < 0 ? r : json_parse_string(v, path, target, reterr);
}

static int parse_step(const cJSON *v, const char *path, void *target, char **reterr)
{
        static const JsonField fields[] = {
                {"name",            parse_step_name, offsetof(SsmStep, name), true },
                { "action", parse_step_name, offsetof(SsmStep, plugin), true },
                {        }
        };
        SsmStep step = {};
        int r = json_dispatch_known(v, path, fields, &step, reterr);

        if (r >= 0)
                r = add_step(target, path, step.name, step.plugin, reterr);
        free(step.name);
        free(step.plugin);
        return r;
}

static int parse_steps(const cJSON *v, const char *path, void *target, char **reterr)
{
        return cJSON_IsNull(v) ? 0 : json_each(v, path, SIZE_MAX, parse_step, target, reterr);
}

/* Of schema 1.x: the member's name says all. */
static int parse_plugin(const cJSON *v, const char *path, void *target, char **reterr)
{
        const cJSON name = { .type = cJSON_String, .valuestring = v->string };
        int r = json_check_text(&name, path, 1, SSM_STEP_NAME_MAX, reterr);

        return r < 0 ? r : add_step(target, path, v->string, v->string, reterr);
}

static int parse_plugins(const cJSON *v, const char *path, void *target, char **reterr)
{
        return cJSON_IsNull(v)
                       ? 0
                       : json_each_member(v, path, SSM_STEPS_MAX, parse_plugin, target, reterr);
}

static int parse_content(const cJSON *v, const char *path, void *target, char **reterr)
{
        static const JsonField fields[] = {
                {"schemaVersion",   json_parse_string, offsetof(Payload, schema), true },
                { "mainSteps", parse_steps, 0, false },
                { "runtimeConfig",             parse_plugins, 0, false },
                {               }
        };

        return json_dispatch_known(v, path, fields, target, reterr);
}

/* They are judged later: what is wrong with them is for who sent them to read. */
static int keep_parameters(const cJSON *v, const char *path, void *target, char **reterr)
{
        (void) path, (void) reterr;
        ((Payload *) target)->parameters = cJSON_IsNull(v) ? NULL : v;
        return 0;
}

static int parse_send(const cJSON *object, Payload *p, char **reterr)
{
        static const JsonField fields[] = {
                {"CommandId",       json_parse_string, offsetof(Payload, request.command), true },
                { "DocumentName", json_parse_string, offsetof(Payload, request.document), true },
                { "DocumentContent",             parse_content, 0, true },
                { "Parameters",   keep_parameters, 0, false },
                {            }
        };

        return json_dispatch_known(object, "", fields, p, reterr);
}

/* The UUID in "aws.ssm.<uuid>.<instance>". */
static int id_command(const char *id, const char *instance, char **ret)
{
        _cleanup_free_ char *command = NULL;

        if (strncmp(id, ID_PREFIX, STRLEN(ID_PREFIX)) != 0)
                return -EBADMSG;
        id += STRLEN(ID_PREFIX);
        command = strndup(id, ORDER_COMMAND_SIZE);
        if (!command)
                return -ENOMEM;
        if (!order_command_is_valid(command) || id[ORDER_COMMAND_SIZE] != '.' ||
            !streq(id + ORDER_COMMAND_SIZE + 1, instance))
                return -EBADMSG;
        *ret = TAKE_PTR(command);
        return 0;
}

static int check_send(const SsmMessage *m, const char *instance, const SsmRequest *request,
                      char **reterr)
{
        _cleanup_free_ char *command = NULL;
        int r = id_command(m->id, instance, &command);

        if (r < 0)
                return fail(reterr, r, "its id has not the form aws.ssm.<command>.<instance>");
        if (!streq(command, request->command))
                return fail(reterr, -EBADMSG, "CommandId: is another one than in the message's id");
        return 0;
}

static int parse_cancel(const cJSON *object, const char *instance, Payload *p, char **reterr)
{
        static const JsonField fields[] = {
                {"CancelMessageId", json_parse_string, offsetof(Payload, cancelled), true },
                {            }
        };
        int r = json_dispatch_known(object, "", fields, p, reterr);

        if (r < 0)
                return r;
        r = id_command(p->cancelled, instance, &p->request.command);
        return r < 0 ? fail(reterr, r,
                            "CancelMessageId: has not the form aws.ssm.<command>.<instance>")
                     : 0;
}

/* "2026-11-22T14:05:49.509Z", of which the fraction may be missing. */
static int parse_created(const char *s, uint64_t *ret_sec)
{
        char seconds[SECONDS_SIZE + 2];
        const char *end = s + MIN(strlen(s), SECONDS_SIZE);

        *stpncpy(seconds, s, SECONDS_SIZE) = '\0';
        if (*end == '.' && end[1] != 'Z')
                end += 1 + strspn(end + 1, "0123456789");
        if (!streq(end, "Z"))
                return -EBADMSG;
        return time_parse_utc(strcat(seconds, "Z"), ret_sec);
}

static int check_age(uint64_t created_sec, uint64_t now_sec, char **reterr)
{
        if (now_sec > created_sec && now_sec - created_sec > SSM_AGE_MAX_SEC)
                return fail(reterr, -EPERM,
                            "the order is older than %d hours, and what it was meant for may be "
                            "over: send it again, or set this host's clock right",
                            SSM_AGE_MAX_SEC / 3600);
        if (created_sec > now_sec && created_sec - now_sec > SSM_AHEAD_MAX_SEC)
                return fail(reterr, -EPERM,
                            "the order is from the future, by more than %d minutes: set this "
                            "host's clock right, and send it again",
                            SSM_AHEAD_MAX_SEC / 60);
        return 0;
}

static int check_document(const Payload *p, char **reterr)
{
        static const char *const schemas[] = { "1.2", "2.0", "2.0.1", "2.0.2", "2.0.3", "2.2" };

        if (!streq(p->request.document, SSM_DOCUMENT))
                return fail(reterr, -EPERM,
                            "%s is not carried out here: Slipway takes no shell commands, only "
                            "orders about deployments; use the document " SSM_DOCUMENT
                            ", or run it by an agent that does, such as amazon-ssm-agent",
                            p->request.document);
        for (size_t i = 0; i < ELEMENTSOF(schemas); i++)
                if (streq(schemas[i], p->schema))
                        return 0;
        return fail(reterr, -EPERM,
                    "DocumentContent.schemaVersion: %s is not known; make the document "
                    "anew from Slipway's slipway-deploy.json, which has 2.2",
                    p->schema);
}

static int take_action(const char *value, RemoteOrder *o, char **reterr)
{
        o->action = order_action_from_string(value);
        if (o->action == _ORDER_ACTION_INVALID)
                return fail(reterr, -EPERM,
                            "Parameters.action: there is no such one; use one of " ACTIONS);
        return 0;
}

static int parse_parameter(const cJSON *v, const char *path, void *target, char **reterr)
{
        RemoteOrder *o = target;
        const struct {
                const char *name;
                char **text;
        } known[] = {
                {"app",      &o->app    },
                { "release", &o->release},
                { "until",   &o->until  },
                { "reason",  &o->reason },
        };

        if (!cJSON_IsString(v)) {
                (void) json_fail_type(v, path, "a string", reterr);
                return -EPERM;
        }
        if (streq(v->string, "action"))
                return take_action(v->valuestring, o, reterr);
        for (size_t i = 0; i < ELEMENTSOF(known); i++)
                if (streq(v->string, known[i].name)) {
                        if (!v->valuestring[0])
                                return 0;
                        *known[i].text = strdup(v->valuestring);
                        return *known[i].text ? 0 : -ENOMEM;
                }
        return fail(reterr, -EPERM,
                    "%s: there is no such parameter; there are action, app, release, until and "
                    "reason",
                    path);
}

static int parse_order(const Payload *p, RemoteOrder *ret, char **reterr)
{
        _cleanup_(remote_order_done) RemoteOrder o = { .action = _ORDER_ACTION_INVALID };
        _cleanup_free_ char *why = NULL;
        int r = p->parameters ? json_each_member(p->parameters, "Parameters", SIZE_MAX,
                                                 parse_parameter, &o, reterr)
                              : 0;

        if (r < 0)
                return r;
        if (o.action == _ORDER_ACTION_INVALID)
                return fail(reterr, -EPERM, "Parameters.action: missing; use one of " ACTIONS);
        o.command = strdup(p->request.command);
        if (!o.command)
                return -ENOMEM;
        r = remote_order_check(&o, &why);
        if (r < 0)
                return fail(reterr, -EPERM, "Parameters.%s", strempty(why));
        *ret = o;
        o = (RemoteOrder){};
        return 0;
}

static bool topic_is(const char *topic, const char *prefix)
{
        size_t size = strlen(prefix);

        return strncmp(topic, prefix, size) == 0 && (topic[size] == '\0' || topic[size] == '.');
}

static int check_digest(const SsmMessage *m, size_t size, char **reterr)
{
        char hex[SHA256_HEX_SIZE];
        Sha256 digest;
        int r;

        if (!m->digest)
                return 0;
        r = sha256(m->payload, size, &digest);
        if (r < 0)
                return fail_errno(reterr, r, "can't make the payload's digest");
        if (strcasecmp(sha256_to_hex(&digest, hex), m->digest) == 0)
                return 0;
        return fail(reterr, -EBADMSG, "its payload has another digest than it says");
}

/* All that can be told without looking into the payload. */
static int check_envelope(const SsmMessage *m, const char *instance, uint64_t *ret_created_sec,
                          char **reterr)
{
        size_t size = strlen(m->payload);

        if (!streq(m->destination, instance))
                return fail(reterr, -EBADMSG, "it is for another instance than %s", instance);
        if (size > SSM_MESSAGE_SIZE_MAX)
                return fail(reterr, -EBADMSG, "its payload is larger than %d bytes",
                            SSM_MESSAGE_SIZE_MAX);
        if (parse_created(m->created, ret_created_sec) < 0)
                return fail(reterr, -EBADMSG,
                            "it was made at no time like 2026-11-22T14:05:49.509Z");
        return check_digest(m, size, reterr);
}

static int parse_payload(const SsmMessage *m, const char *instance, Payload *p, char **reterr)
{
        int r = json_parse(m->payload, strlen(m->payload), &p->json, reterr);

        if (r < 0)
                return r;
        if (p->request.kind == SSM_CANCEL)
                return parse_cancel(p->json, instance, p, reterr);
        r = parse_send(p->json, p, reterr);
        return r < 0 ? r : check_send(m, instance, &p->request, reterr);
}

/* Whether an order that could be read is one for here. */
static int judge(Payload *p, uint64_t created_sec, uint64_t now_sec, char **reterr)
{
        int r = check_document(p, reterr);

        if (r >= 0)
                r = check_age(created_sec, now_sec, reterr);
        return r < 0 ? r : parse_order(p, &p->request.order, reterr);
}

int ssm_request_parse(const SsmMessage *m, const char *instance, time_t now_sec, SsmRequest *ret,
                      char **reterr)
{
        _cleanup_(payload_done) Payload p = {};
        uint64_t created_sec;
        int r;

        if (topic_is(m->topic, TOPIC_CANCEL))
                p.request.kind = SSM_CANCEL;
        else if (!topic_is(m->topic, TOPIC_SEND))
                return fail(reterr, -ENOTSUP, "it has another topic than orders have");
        r = check_envelope(m, instance, &created_sec, reterr);
        if (r >= 0)
                r = parse_payload(m, instance, &p, reterr);
        if (r < 0)
                return r;
        if (p.request.kind == SSM_ORDER)
                r = judge(&p, created_sec, (uint64_t) MAX(now_sec, 0), reterr);
        if (r < 0 && r != -EPERM)
                return r;
        *ret = p.request;
        p.request = (SsmRequest){};
        return r;
}
