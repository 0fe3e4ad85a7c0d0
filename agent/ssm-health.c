/* SPDX-License-Identifier: Apache-2.0 */
#include "ssm-health.h"

#include <cJSON.h>
#include <limits.h>
#include <unistd.h>

#include "aws-call.h"
#include "backoff.h"
#include "build-config.h"
#include "clock.h"
#include "err.h"
#include "host-address.h"
#include "json-read.h"
#include "os-release.h"
#include "utf8.h"

static const AwsService service = { .name = "ssm", .protocol = AWS_JSON, .version = "AmazonSSM" };

static const AwsLimits call_limits = { .connect_sec = 10, .stall_sec = 10, .deadline_sec = 20 };

static const AwsHint hints[] = {
        {"AccessDeniedException",
         "this takes the permission ssm:UpdateInstanceInformation, and the credentials of this very "
          "instance's role" },
        {                       }
};

struct SsmHealth {
        AwsClient *client;
        char *instance, *zone;
        const char *channel;
        ssm_health_state_t state;
        void *userdata;
        SsmHealthLimits limits;
        AwsCall *call;
        uint64_t due_usec; /* CLOCK_MONOTONIC */
        unsigned n_failed;
        bool unreached; /* the last ping failed for that, if it failed */
        bool spread;    /* there was one that went well: the others are not at one time with it */
        bool changed;   /* the channel, since the last ping began */
        bool told;
        int result;
        char *why;
};

void ssm_health_set_limits(SsmHealth *h, const SsmHealthLimits *limits)
{
        h->limits = *limits;
}

int ssm_health_new(Http *http, CredentialsSource *credentials, const SsmIdentity *identity,
                   ssm_health_state_t state, void *userdata, SsmHealth **ret, char **reterr)
{
        _cleanup_(ssm_health_freep) SsmHealth *h = calloc(1, sizeof(SsmHealth));
        int r;

        if (!h)
                return -ENOMEM;
        *h = (SsmHealth){
                .instance = strdup(identity->instance),
                .zone = strdup(strempty(identity->zone)),
                .channel = "",
                .state = state,
                .userdata = userdata,
                .limits = {.interval_msec = 300000, .retry_msec = 60000}
        };
        if (!h->instance || !h->zone)
                return -ENOMEM;
        r = aws_client_new(&service, identity->region, http, credentials, credentials, &h->client,
                           reterr);
        if (r < 0)
                return r;
        aws_client_set_limits(h->client, &call_limits);
        *ret = TAKE_PTR(h);
        return 0;
}

SsmHealth *ssm_health_free(SsmHealth *h)
{
        if (!h)
                return NULL;
        aws_client_free(h->client);
        free(h->instance);
        free(h->zone);
        free(h->why);
        free(h);
        return NULL;
}

/* The change is to be told at once: a channel that works shows that the network is back. */
static bool is_urgent(const SsmHealth *h)
{
        return h->changed && (h->n_failed == 0 || (h->unreached && *h->channel));
}

void ssm_health_set_channel(SsmHealth *h, const char *channel)
{
        if (streq(h->channel, channel))
                return;
        h->channel = channel;
        h->changed = true;
        if (is_urgent(h))
                h->due_usec = 0;
}

time_t ssm_health_clock_offset(const SsmHealth *h)
{
        return aws_client_clock_offset(h->client);
}

/* --- the ping --- */

static bool add_host(cJSON *o)
{
        char name[HOST_NAME_MAX + 1] = "", address[INET6_ADDRSTRLEN];
        OsRelease os;

        os_release_read(&os);
        (void) gethostname(name, sizeof(name) - 1);
        utf8_clean(name);
        return cJSON_AddStringToObject(o, "PlatformName", os.name) &&
               cJSON_AddStringToObject(o, "PlatformVersion", os.version) &&
               (!*name || cJSON_AddStringToObject(o, "ComputerName", name)) &&
               (!host_address_find(address) || cJSON_AddStringToObject(o, "IPAddress", address));
}

static int format_ping(const SsmHealth *h, char **ret)
{
        const NameValue members[] = {
                {"InstanceId",            h->instance    },
                { "AgentName",            "slipway"      },
                { "AgentVersion",         SLIPWAY_VERSION},
                { "AgentStatus",          "Active"       },
                { "PlatformType",         "Linux"        },
                { "AvailabilityZone",     h->zone        },
                { "SSMConnectionChannel", h->channel     },
        };
        _cleanup_json_ cJSON *o = cJSON_CreateObject();
        bool ok = o;

        for (size_t i = 0; ok && i < ELEMENTSOF(members); i++)
                ok = cJSON_AddStringToObject(o, members[i].name, members[i].value);
        *ret = ok && add_host(o) ? cJSON_PrintUnformatted(o) : NULL;
        return *ret ? 0 : -ENOMEM;
}

static void say(SsmHealth *h, int result, const char *why)
{
        if (h->told && result == h->result && err_text_equal(strempty(h->why), strempty(why)))
                return;
        h->told = true;
        h->result = result;
        free(h->why);
        h->why = why ? strdup(why) : NULL;
        h->state(result, why, h->userdata);
}

static uint64_t until_next_usec(SsmHealth *h)
{
        const uint64_t interval_usec = (uint64_t) h->limits.interval_msec * 1000;

        if (is_urgent(h))
                return 0;
        if (h->n_failed > 0)
                return backoff_pause_usec(h->n_failed, (uint64_t) h->limits.retry_msec * 1000,
                                          interval_usec);
        if (h->spread)
                return interval_usec;
        h->spread = true;
        return backoff_random_usec(interval_usec);
}

static void ended(SsmHealth *h, int result, const char *why)
{
        h->call = NULL;
        h->n_failed = result < 0 ? h->n_failed + 1 : 0;
        h->unreached = result == -EHOSTDOWN || result == -ETIMEDOUT || result == -ENOENT;
        h->due_usec = clock_usec(CLOCK_MONOTONIC) + until_next_usec(h);
        say(h, result, why);
}

static int check_answer(const char *data, size_t size, char **reterr)
{
        _cleanup_json_ cJSON *json = NULL;
        int r = json_parse(data, size, &json, reterr);

        if (r >= 0 && !cJSON_IsObject(json))
                r = json_fail_type(json, "", "an object", reterr);
        return r < 0 ? fail_prefix(reterr, r,
                                   "what ssm:UpdateInstanceInformation answers makes no sense")
                     : r;
}

static void on_done(int result, char **data, size_t size, const char *err, void *userdata)
{
        _cleanup_free_ char *why = NULL;

        if (result >= 0) {
                result = check_answer(*data, size, &why);
                err = result < 0 ? err_text(result, why) : NULL;
        }
        ended(userdata, result, err);
}

static int start_ping(SsmHealth *h, char **reterr)
{
        _cleanup_free_ char *body = NULL;
        int r = format_ping(h, &body);

        if (r < 0)
                return r;
        h->changed = false;
        return aws_start(h->client,
                         &(AwsRequest){ .action = "UpdateInstanceInformation",
                                        .what = "tell Systems Manager that this instance is there",
                                        .json = body,
                                        .hints = hints,
                                        .n_tries = 1 },
                         on_done, h, &h->call, reterr);
}

uint64_t ssm_health_due_in_usec(const SsmHealth *h)
{
        const uint64_t now = clock_usec(CLOCK_MONOTONIC);

        if (h->call)
                return aws_due_in_usec(h->client);
        return h->due_usec > now ? h->due_usec - now : 0;
}

void ssm_health_start_due(SsmHealth *h)
{
        _cleanup_free_ char *err = NULL;
        int r;

        aws_start_due(h->client);
        if (h->call || h->due_usec > clock_usec(CLOCK_MONOTONIC))
                return;
        r = start_ping(h, &err);
        if (r < 0)
                ended(h, r, err_text(r, err));
}
