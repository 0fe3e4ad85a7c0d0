/* SPDX-License-Identifier: Apache-2.0 */
#include "credentials.h"

#include <sys/random.h>
#include <time.h>

#include "aws-endpoint.h"
#include "aws-environment.h"
#include "clock.h"
#include "credentials-kind.h"
#include "err.h"
#include "log.h"
#include "secret.h"

#define USEC_PER_SEC UINT64_C(1000000)

#define RENEW_EARLY_SEC    UINT64_C(900)
#define RENEW_WAIT_MIN_SEC UINT64_C(30)
#define OVERDUE_WAIT_SEC   UINT64_C(600)
#define RETRY_WAIT_MAX_SEC UINT64_C(45) /* what is late is found within a minute */
#define REFUSED_WAIT_SEC   UINT64_C(60)
#define REGION_RETRY_SEC   UINT64_C(5)
#define WORRYING_FAILURES  4 /* in a row: a minute or so */
#define DEPTH_MAX          4U

static const CredentialsKind *const chain[] = {
        &credentials_environment, &credentials_web_identity, &credentials_profile,
        &credentials_container,   &credentials_instance,
};

void credentials_done(Credentials *c)
{
        secret_free(c->key_id);
        secret_free(c->secret);
        secret_free(c->session_token);
        *c = (Credentials){};
}

/* Making and sharing */

static int source_new(CredentialsSource **ret)
{
        *ret = calloc(1, sizeof(CredentialsSource));
        return *ret ? 0 : -ENOMEM;
}

static void close_kind(CredentialsSource *s)
{
        if (s->kind && s->kind->close)
                s->kind->close(s);
        s->kind = NULL;
        s->data = NULL;
}

static int open_kind(CredentialsSource *s, const CredentialsKind *kind, char **reterr)
{
        int r;

        s->kind = kind;
        r = kind->open(s, reterr);
        if (r <= 0)
                close_kind(s);
        return r;
}

int credentials_source_new(CredentialsSource **ret, char **reterr)
{
        _cleanup_(credentials_source_freep) CredentialsSource *s = NULL;
        int r = source_new(&s);

        for (size_t i = 0; r == 0 && i < ELEMENTSOF(chain); i++)
                r = open_kind(s, chain[i], reterr);
        if (r == 0)
                r = fail(reterr, -EINVAL,
                         "there are no AWS credentials: set AWS_ACCESS_KEY_ID and "
                         "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE");
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

int credentials_source_new_below(const CredentialsSource *s, const CredentialsKind *kind,
                                 const char *profile, CredentialsSource **ret, char **reterr)
{
        _cleanup_(credentials_source_freep) CredentialsSource *below = NULL;
        int r = source_new(&below);

        if (r < 0)
                return r;
        below->depth = s->depth + 1;
        if (below->depth > DEPTH_MAX)
                return fail(reterr, -EINVAL, "more than %u roles are to be assumed one by another",
                            DEPTH_MAX);
        if (profile)
                r = profile_load(profile, &below->profile, reterr);
        if (r >= 0)
                r = open_kind(below, kind, reterr);
        if (r == 0)
                r = profile ? fail(reterr, -EINVAL, "the AWS profile '%s' has no credentials",
                                   profile)
                            : fail(reterr, -EINVAL, "there are no credentials of the kind '%s'",
                                   kind->name);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(below);
        return 0;
}

CredentialsSource *credentials_source_free(CredentialsSource *s)
{
        if (!s)
                return NULL;
        close_kind(s);
        (void) imds_free(s->imds);
        (void) http_free(s->http);
        (void) profile_free(s->profile);
        credentials_done(&s->current);
        free(s->err);
        free(s->region);
        free(s->region_err);
        free(s);
        return NULL;
}

const char *credentials_source_name(const CredentialsSource *s)
{
        return s->kind->name;
}

int credentials_source_http(CredentialsSource *s, Http **ret)
{
        if (!s->http) {
                int r = http_new(aws_environment("AWS_CA_BUNDLE"), &s->http);
                if (r < 0)
                        return r;
                if (s->attached)
                        http_attach(s->attached, s->http);
        }
        *ret = s->http;
        return 0;
}

void credentials_source_attach(CredentialsSource *s, Http *http)
{
        s->attached = http;
        if (s->http)
                http_attach(http, s->http);
}

int credentials_source_imds(CredentialsSource *s, Imds **ret, char **reterr)
{
        Http *http = NULL;
        int r = credentials_source_http(s, &http);

        if (r >= 0 && !s->imds)
                r = imds_new(http, &s->imds, reterr);
        if (r >= 0)
                *ret = s->imds;
        return r;
}

int credentials_source_profile(CredentialsSource *s, const Profile **ret, char **reterr)
{
        int r = s->profile ? 0 : profile_load(NULL, &s->profile, reterr);

        if (r >= 0)
                *ret = s->profile;
        return r;
}

/* Getting and renewing */

static uint64_t now_sec(void)
{
        return (uint64_t) time(NULL);
}

/* Something between two thirds of it and the whole. */
static uint64_t jitter_usec(uint64_t sec)
{
        uint64_t usec = sec * USEC_PER_SEC, random = 0;

        if (getrandom(&random, sizeof(random), 0) < 0)
                return usec;
        return usec - random % (usec / 3 + 1);
}

static void plan_renewal(CredentialsSource *s)
{
        const uint64_t now = now_sec(), end = s->current.expires_sec;

        s->overdue = end > 0 && end <= now;
        if (end == 0)
                s->renew_usec = UINT64_MAX;
        else if (s->overdue)
                s->renew_usec = clock_usec(CLOCK_BOOTTIME) + jitter_usec(OVERDUE_WAIT_SEC * 3 / 2);
        else {
                uint64_t left = end - now;
                uint64_t early_usec = jitter_usec(MIN(RENEW_EARLY_SEC, left / 3));
                uint64_t wait_min_sec = MIN(left, RENEW_WAIT_MIN_SEC);
                /* A service may give out the same again until shortly before their end. */
                uint64_t wait_usec =
                        MAX(left * USEC_PER_SEC - early_usec, wait_min_sec * USEC_PER_SEC);
                s->renew_usec = clock_usec(CLOCK_BOOTTIME) + wait_usec;
        }
}

static void take_failure(CredentialsSource *s, int error, const char *err)
{
        uint64_t wait_sec = RETRY_WAIT_MAX_SEC;

        /* The first times soon: whoever starts up with us may be ready in a moment. */
        if (s->n_failures < 5)
                wait_sec = UINT64_C(2) << s->n_failures;
        s->n_failures++;
        s->retry_usec = clock_usec(CLOCK_BOOTTIME) + jitter_usec(MIN(wait_sec, RETRY_WAIT_MAX_SEC));
        s->error = error;
        err_set(&s->err, "%s", err_text(error, err));
        log_debug("No credentials from the source %s: %s", s->kind->name, strempty(s->err));
}

void credentials_source_finish(CredentialsSource *s, int result, Credentials *c, const char *err)
{
        s->fetching = false;
        if (result < 0) {
                take_failure(s, result, err);
                return;
        }
        credentials_done(&s->current);
        s->current = *c;
        *c = (Credentials){};
        s->generation++;
        s->refused = false;
        s->n_failures = 0;
        s->worry_told = false;
        s->error = 0;
        free(TAKE_PTR(s->err));
        plan_renewal(s);
}

static bool is_past_end(const CredentialsSource *s)
{
        return s->current.expires_sec > 0 && s->current.expires_sec <= now_sec() && !s->overdue;
}

static bool is_usable(const CredentialsSource *s)
{
        if (!s->current.key_id || s->refused)
                return false;
        return !is_past_end(s) || (s->kind->lives_on && s->n_failures > 0);
}

static bool is_fetch_due(const CredentialsSource *s)
{
        uint64_t now = clock_usec(CLOCK_BOOTTIME);

        if (s->fetching || !s->kind->fetch || (s->n_failures > 0 && now < s->retry_usec))
                return false;
        return !s->current.key_id || s->refused || is_past_end(s) || now >= s->renew_usec;
}

static void begin_fetch(CredentialsSource *s)
{
        _cleanup_free_ char *err = NULL;

        s->fetching = true;
        int r = s->kind->fetch(s, &err);
        if (r < 0)
                credentials_source_finish(s, r, NULL, err);
}

int credentials_source_get(CredentialsSource *s, const Credentials **ret, char **reterr)
{
        if (s->fetching && s->kind->advance)
                s->kind->advance(s);
        if (is_fetch_due(s))
                begin_fetch(s);
        if (is_usable(s)) {
                *ret = &s->current;
                return 0;
        }
        if (s->fetching)
                return CREDENTIALS_PENDING;
        return fail(reterr, -ENOKEY, "there are no AWS credentials (%s): %s", s->kind->name,
                    err_text(s->error, s->err));
}

char *credentials_source_worry(CredentialsSource *s)
{
        char *text = NULL;

        if (s->worry_told || s->n_failures < WORRYING_FAILURES)
                return NULL;
        s->worry_told = true;
        err_set(&text,
                "the AWS credentials (%s) can't be renewed: %s; the old ones go on as long as %s",
                s->kind->name, strempty(s->err),
                s->kind->lives_on ? "they are taken" : "they last");
        return text;
}

uint64_t credentials_source_due_in_usec(const CredentialsSource *s)
{
        return s->fetching && s->kind->due_in_usec ? s->kind->due_in_usec(s) : UINT64_MAX;
}

unsigned credentials_source_generation(const CredentialsSource *s)
{
        return s->generation;
}

bool credentials_source_renew(CredentialsSource *s, unsigned generation)
{
        uint64_t now = clock_usec(CLOCK_BOOTTIME);

        if (generation != s->generation || s->refused)
                return true;
        if (!s->kind->renews)
                return false;
        if (s->refused_usec > 0 && now - s->refused_usec < REFUSED_WAIT_SEC * USEC_PER_SEC)
                return false;
        s->refused = true;
        s->refused_usec = now;
        return true;
}

/* Region */

int credentials_source_known_region(CredentialsSource *s, const char **ret, char **reterr)
{
        const char *region = aws_environment("AWS_REGION");
        const Profile *p = NULL;
        int r;

        *ret = region ? region : aws_environment("AWS_DEFAULT_REGION");
        if (*ret)
                return 0;
        r = credentials_source_profile(s, &p, reterr);
        if (r >= 0)
                *ret = p->region;
        return r;
}

static int take_region(CredentialsSource *s, const char *region, char **reterr)
{
        if (!aws_region_is_valid(region))
                return fail(reterr, -EINVAL, "'%s' is not the name of a region", region);
        s->region = strdup(region);
        return s->region ? 0 : -ENOMEM;
}

static void on_region(int result, const char *value, const char *err, void *userdata)
{
        CredentialsSource *s = userdata;
        _cleanup_free_ char *text = NULL;
        int r = result;

        s->region_call = NULL;
        if (result == 0 && !aws_region_is_valid(value))
                r = fail(&text, -EBADMSG, "instance metadata names a region that is none");
        else if (result == 0)
                r = take_region(s, value, &text);
        else if (result == IMDS_ABSENT)
                r = fail(&text, -EPROTO, "instance metadata names no region");
        s->region_error = r < 0 ? -ENOKEY : 0;
        s->region_retry_usec = clock_usec(CLOCK_BOOTTIME) + REGION_RETRY_SEC * USEC_PER_SEC;
        if (r < 0)
                err_set(&s->region_err, "the region is not known: set AWS_REGION (%s)",
                        text ? text : err_text(r, err));
}

static int ask_region(CredentialsSource *s, char **reterr)
{
        Imds *imds = NULL;
        int r = credentials_source_imds(s, &imds, reterr);

        if (r < 0)
                return r;
        if (imds_is_disabled(imds))
                return fail(reterr, -EINVAL, "the region is not known: set AWS_REGION");
        return imds_get(imds, "meta-data/placement/region", on_region, s, &s->region_call, reterr);
}

int credentials_source_region(CredentialsSource *s, const char **ret, char **reterr)
{
        const char *known = NULL;
        int r;

        if (!s->region && s->region_error < 0 && clock_usec(CLOCK_BOOTTIME) < s->region_retry_usec)
                return fail(reterr, s->region_error, "%s", strempty(s->region_err));
        if (!s->region && !s->region_call) {
                r = credentials_source_known_region(s, &known, reterr);
                if (r >= 0)
                        r = known ? take_region(s, known, reterr) : ask_region(s, reterr);
                if (r < 0)
                        return r;
                s->region_error = 0;
        }
        *ret = s->region;
        return s->region ? 0 : CREDENTIALS_PENDING;
}
