/* SPDX-License-Identifier: Apache-2.0 */
#include "ssm-link.h"

#include "clock.h"
#include "err.h"
#include "ssm-health.h"
#include "ssm-mds.h"
#include "ssm-mgs.h"

#define MDS_AFTER_MGS_USEC (UINT64_C(60) * 1000000)
#define MDS_RETRY_USEC     (UINT64_C(60) * 1000000)

/* Of a channel or of the ping. */
typedef struct Condition {
        int result;
        char *why;
} Condition;

struct SsmLink {
        Http *http;
        CredentialsSource *credentials;
        SsmChannel channel;
        char *instance, *region, *zone;
        const SsmLinkCallbacks *callbacks;
        void *userdata;
        SsmMds *mds; /* NULL: not in use */
        SsmMgs *mgs;
        SsmHealth *health;
        Condition mds_condition, mgs_condition, health_condition;
        const SsmMessage *from_mgs; /* the message whose callback runs, if it came by the gateway */
        uint64_t mgs_up_usec;       /* CLOCK_BOOTTIME, as are all here */
        uint64_t mds_retry_usec;    /* it could not be started; not before this */
        bool mgs_lost;              /* since choose() last looked */
        int told;                   /* of state(); 1: nothing yet */
        SsmChannel told_channel;
        char *told_why;
};

static bool is_up(const Condition *c)
{
        return c->result == 0;
}

static void condition_set(Condition *c, int result, const char *why)
{
        free(c->why);
        *c = (Condition){ .result = result, .why = why ? strdup(why) : NULL };
}

static SsmIdentity identity(const SsmLink *l)
{
        return (SsmIdentity){ .instance = l->instance, .region = l->region, .zone = l->zone };
}

bool ssm_link_is_gateway(const SsmLink *l)
{
        return l->mgs && is_up(&l->mgs_condition);
}

static bool mds_is_up(const SsmLink *l)
{
        return l->mds && is_up(&l->mds_condition);
}

static bool link_is_up(const SsmLink *l)
{
        return ssm_link_is_gateway(l) || mds_is_up(l);
}

/* What to tell of it: a missing ping keeps commands away whatever the channels do. */
static int judge(const SsmLink *l, char **ret_why)
{
        if (link_is_up(l) && l->health_condition.result < 0 &&
            l->health_condition.result != -EINPROGRESS) {
                err_set(ret_why, "%s", strempty(l->health_condition.why));
                return l->health_condition.result;
        }
        if (link_is_up(l))
                return 0;
        if (l->mgs && l->mds)
                err_set(ret_why, "ssmmessages: %s; ec2messages: %s", strempty(l->mgs_condition.why),
                        strempty(l->mds_condition.why));
        else
                err_set(ret_why, "%s",
                        strempty(l->mgs ? l->mgs_condition.why : l->mds_condition.why));
        return l->mgs ? l->mgs_condition.result : l->mds_condition.result;
}

static void tell(SsmLink *l)
{
        SsmChannel channel = ssm_link_is_gateway(l) ? SSM_CHANNEL_MGS
                             : mds_is_up(l)         ? SSM_CHANNEL_MDS
                                                    : SSM_CHANNEL_AUTO;
        _cleanup_free_ char *why = NULL;
        int result = judge(l, &why);

        ssm_health_set_channel(l->health,
                               channel == SSM_CHANNEL_AUTO ? "" : ssm_channel_to_string(channel));
        if (result == l->told && channel == l->told_channel &&
            err_text_equal(strempty(why), strempty(l->told_why)))
                return;
        l->told = result;
        l->told_channel = channel;
        free(l->told_why);
        l->told_why = TAKE_PTR(why);
        l->callbacks->state(result, channel, strempty(l->told_why), l->userdata);
}

static void on_mds_message(const SsmMessage *m, void *userdata)
{
        SsmLink *l = userdata;

        l->callbacks->message(m, l->userdata);
}

static void on_mgs_message(const SsmMessage *m, void *userdata)
{
        SsmLink *l = userdata;

        l->from_mgs = m;
        l->callbacks->message(m, l->userdata);
        l->from_mgs = NULL;
}

static void on_mds_state(int result, const char *why, void *userdata)
{
        SsmLink *l = userdata;

        condition_set(&l->mds_condition, result, why);
        tell(l);
}

static void on_mgs_state(int result, const char *why, void *userdata)
{
        SsmLink *l = userdata;
        bool was_up = is_up(&l->mgs_condition);

        condition_set(&l->mgs_condition, result, why);
        if (result == 0 && !was_up)
                l->mgs_up_usec = clock_usec(CLOCK_BOOTTIME);
        l->mgs_lost = l->mgs_lost || (was_up && result < 0);
        tell(l);
}

static void on_health(int result, const char *why, void *userdata)
{
        SsmLink *l = userdata;

        condition_set(&l->health_condition, result, why);
        tell(l);
}

static void on_replied(const char *reply_id, int result, const char *why, void *userdata)
{
        SsmLink *l = userdata;

        l->callbacks->replied(reply_id, result, why, l->userdata);
}

static const SsmChannelCallbacks mds_callbacks = { on_mds_message, on_mds_state, on_replied };
static const SsmChannelCallbacks mgs_callbacks = { on_mgs_message, on_mgs_state, on_replied };

static int start_mds(SsmLink *l, char **reterr)
{
        SsmIdentity i = identity(l);

        condition_set(&l->mds_condition, -EINPROGRESS, "it is being asked");
        return ssm_mds_new(l->http, l->credentials, &i, &mds_callbacks, l, &l->mds, reterr);
}

static int start_mgs(SsmLink *l, char **reterr)
{
        SsmIdentity i = identity(l);

        condition_set(&l->mgs_condition, -EINPROGRESS, "it is being opened");
        return ssm_mgs_new(l->http, l->credentials, &i, &mgs_callbacks, l, &l->mgs, reterr);
}

int ssm_link_new(Http *http, CredentialsSource *credentials, SsmChannel channel,
                 const SsmIdentity *identity, const SsmLinkCallbacks *callbacks, void *userdata,
                 SsmLink **ret, char **reterr)
{
        _cleanup_(ssm_link_freep) SsmLink *l = calloc(1, sizeof(SsmLink));
        int r;

        if (!l)
                return -ENOMEM;
        *l = (SsmLink){ .http = http,
                        .credentials = credentials,
                        .channel = channel,
                        .instance = strdup(identity->instance),
                        .region = strdup(identity->region),
                        .zone = identity->zone ? strdup(identity->zone) : NULL,
                        .callbacks = callbacks,
                        .userdata = userdata,
                        .told = 1 };
        if (!l->instance || !l->region || (identity->zone && !l->zone))
                return -ENOMEM;
        condition_set(&l->health_condition, -EINPROGRESS, "it is being told");
        r = ssm_health_new(http, credentials, identity, on_health, l, &l->health, reterr);
        if (r >= 0 && channel != SSM_CHANNEL_MDS)
                r = start_mgs(l, reterr);
        if (r >= 0 && channel != SSM_CHANNEL_MGS)
                r = start_mds(l, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(l);
        return 0;
}

SsmLink *ssm_link_free(SsmLink *l)
{
        if (!l)
                return NULL;
        ssm_mds_free(l->mds);
        ssm_mgs_free(l->mgs);
        ssm_health_free(l->health);
        free(l->mds_condition.why);
        free(l->mgs_condition.why);
        free(l->health_condition.why);
        free(l->told_why);
        free(l->instance);
        free(l->region);
        free(l->zone);
        free(l);
        return NULL;
}

/* The ping goes on by either channel, and signs anew every few minutes. */
time_t ssm_link_clock_offset(const SsmLink *l)
{
        return ssm_health_clock_offset(l->health);
}

void ssm_link_receipt(SsmLink *l, const SsmMessage *m, SsmReceipt receipt)
{
        if (l->from_mgs == m)
                ssm_mgs_receipt(l->mgs, m, receipt);
        else
                ssm_mds_receipt(l->mds, m, receipt);
}

int ssm_link_reply(SsmLink *l, const SsmReply *reply)
{
        if (ssm_link_is_gateway(l))
                return ssm_mgs_reply(l->mgs, reply);
        /* While its first poll waits for messages it is not known to be up. */
        if (!l->mds || (!is_up(&l->mds_condition) && l->mds_condition.result != -EINPROGRESS))
                return -EHOSTDOWN;
        return ssm_mds_reply(l->mds, reply);
}

static uint64_t until(uint64_t at_usec)
{
        uint64_t now = clock_usec(CLOCK_BOOTTIME);

        return at_usec > now ? at_usec - now : 0;
}

static uint64_t mds_end_in_usec(const SsmLink *l)
{
        if (l->channel != SSM_CHANNEL_AUTO || !l->mds || !ssm_link_is_gateway(l))
                return UINT64_MAX;
        return until(l->mgs_up_usec + MDS_AFTER_MGS_USEC);
}

static bool mds_is_missed(const SsmLink *l)
{
        return l->channel == SSM_CHANNEL_AUTO && !l->mds && !ssm_link_is_gateway(l);
}

/* Message delivery that failed may be pausing for minutes, and is all there is now: it begins anew.
 */
static void take_place_of_mgs(SsmLink *l)
{
        if (l->mgs_lost && l->channel == SSM_CHANNEL_AUTO && !is_up(&l->mds_condition) &&
            l->mds_condition.result != -EINPROGRESS)
                l->mds = ssm_mds_free(l->mds);
        l->mgs_lost = false;
}

/* With SSM_CHANNEL_AUTO: message delivery comes and goes. Not in a callback of its own. */
static void choose(SsmLink *l)
{
        _cleanup_free_ char *err = NULL;
        int r;

        take_place_of_mgs(l);
        if (mds_end_in_usec(l) == 0) {
                l->mds = ssm_mds_free(l->mds);
                condition_set(&l->mds_condition, -EINPROGRESS, NULL);
        }
        if (!mds_is_missed(l) || until(l->mds_retry_usec) > 0)
                return;
        r = start_mds(l, &err);
        if (r < 0) {
                l->mds_retry_usec = clock_usec(CLOCK_BOOTTIME) + MDS_RETRY_USEC;
                condition_set(&l->mds_condition, r, err_text(r, err));
                tell(l);
        }
}

uint64_t ssm_link_due_in_usec(const SsmLink *l)
{
        uint64_t due = MIN(ssm_health_due_in_usec(l->health), mds_end_in_usec(l));

        if (l->mgs_lost)
                return 0;
        if (mds_is_missed(l))
                due = MIN(due, until(l->mds_retry_usec));
        if (l->mds)
                due = MIN(due, ssm_mds_due_in_usec(l->mds));
        return l->mgs ? MIN(due, ssm_mgs_due_in_usec(l->mgs)) : due;
}

void ssm_link_start_due(SsmLink *l)
{
        choose(l);
        ssm_health_start_due(l->health);
        if (l->mgs)
                ssm_mgs_start_due(l->mgs);
        if (l->mds)
                ssm_mds_start_due(l->mds);
}
