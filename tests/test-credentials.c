/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <sys/socket.h>
#include <time.h>

#include "aws-call.h"
#include "credentials-answer.h"
#include "credentials-kind.h"
#include "fault-server.h"
#include "store.h"
#include "time-text.h"

#define ROLE "arn:aws:iam::123456789012:role/deploy"

static FaultServer server;

/* Of the server's scratch */
enum {
        FETCHES, /* requests for credentials */
        MODE,    /* how they are answered, one of the following */
        STOLEN,  /* requests to where redirects lead */
};

enum {
        GOOD,
        ABSENT, /* 404 */
        DOWN,   /* 503 */
        FLAKY,  /* the first of two in a row is 503 */
        FORBIDDEN,
        REDIRECT,
        NOT_JSON,
        TWICE,  /* a member comes twice */
        BROKEN, /* a line break in the secret */
        HALF,   /* no secret */
        ENDLESS,
        EXPIRED,
        SHORT, /* end in an hour */
        NO_END,
        CODE, /* an error document */
        SLOW, /* after 300 ms */
        N_MODES,
};

static int peek(int what)
{
        return atomic_load(&server.counts->scratch[what]);
}

static void set_mode(int mode)
{
        atomic_store(&server.counts->scratch[MODE], mode);
        atomic_store(&server.counts->scratch[FETCHES], 0);
}

static void time_from_now(int64_t sec, char ret[static TIME_TEXT_SIZE])
{
        (void) time_format_utc((uint64_t) ((int64_t) time(NULL) + sec), ret);
}

static void answer(const FaultRequest *q, int status, const char *text)
{
        fault_answer(q, status, "", text, strlen(text));
}

/* Each fetch gives another key id: ID1, ID2, … */
static void answer_json(const FaultRequest *q, int n, int mode)
{
        char end[TIME_TEXT_SIZE], body[1024];

        time_from_now(mode == EXPIRED ? -60 : mode == SHORT ? 3600 : 6 * 3600, end);
        (void) snprintf(body, sizeof(body),
                        "{\"Code\":\"Success\",\"AccessKeyId\":\"ID%d\",\"SecretAccessKey\":"
                        "\"hUsH%s\",\"Token\":\"TOKEN\"%s%s%s%s,\"RoleArn\":\"" ROLE "\"}",
                        n, mode == BROKEN ? "\\n" : "", mode == NO_END ? "" : ",\"Expiration\":\"",
                        mode == NO_END ? "" : end, mode == NO_END ? "" : "\"",
                        mode == TWICE ? ",\"AccessKeyId\":\"ID\"" : "");
        answer(q, 200, body);
}

static void answer_endless(const FaultRequest *q)
{
        static const char head[] = "HTTP/1.1 200 X\r\nConnection: close\r\n\r\n";
        static char block[4096];

        memset(block, 'x', sizeof(block));
        fault_write(q, head, strlen(head));
        for (;;)
                fault_write(q, block, sizeof(block));
}

static bool serve_json(const FaultRequest *q)
{
        int n = atomic_fetch_add(&fault_counts()->scratch[FETCHES], 1) + 1;
        int mode = atomic_load(&fault_counts()->scratch[MODE]);
        char where[128];

        switch (mode) {
        case ABSENT:
                answer(q, 404, "hUsH");
                break;
        case FORBIDDEN:
                answer(q, 403, "hUsH");
                break;
        case REDIRECT:
                (void) snprintf(where, sizeof(where), "Location: http://localhost:%u/stolen\r\n",
                                server.port);
                fault_answer(q, 302, where, "", 0);
                break;
        case NOT_JSON:
                answer(q, 200, "<html>hUsH</html>");
                break;
        case HALF:
                answer(q, 200, "{\"AccessKeyId\":\"hUsH\"}");
                break;
        case CODE:
                answer(q, 200, "{\"Code\":\"AssumeRoleUnauthorizedAccess\",\"Message\":\"no\"}");
                break;
        case ENDLESS:
                answer_endless(q);
                break;
        case SLOW:
                (void) usleep(300000);
                answer_json(q, n, mode);
                break;
        default:
                if (mode == DOWN || (mode == FLAKY && n % 2 == 1))
                        answer(q, 503, "hUsH");
                else
                        answer_json(q, n, mode);
        }
        return true;
}

static void answer_error(const FaultRequest *q, int status, const char *code)
{
        char body[256];

        (void) snprintf(body, sizeof(body),
                        "<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>words"
                        "</Message></Error></ErrorResponse>",
                        code);
        answer(q, status, body);
}

/* The token says what is answered; its key id says which token came. */
static bool serve_sts(const FaultRequest *q)
{
        bool web = strstr(q->body, "Action=AssumeRoleWithWebIdentity&");
        const char *action = web ? "AssumeRoleWithWebIdentity" : "AssumeRole";
        const char *token = strstr(q->body, "WebIdentityToken=");
        char body[1024], end[TIME_TEXT_SIZE];
        _cleanup_free_ char *authorization = fault_header(q, "Authorization");
        int n = atomic_fetch_add(&fault_counts()->scratch[FETCHES], 1) + 1;

        if (web == !!authorization || !strstr(q->body, "Version=2011-06-15") ||
            !strstr(q->body, "RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fdeploy")) {
                answer_error(q, 400, "ValidationError");
                return true;
        }
        if (!web && !strstr(authorization, "Credential=BASE") &&
            !strstr(authorization, "Credential=ID")) {
                answer_error(q, 403, "AccessDenied");
                return true;
        }
        token = token ? token + STRLEN("WebIdentityToken=") : "";
        if (strncmp(token, "error-", 6) == 0) {
                char code[64] = "";
                (void) sscanf(token + 6, "%60[A-Za-z]", code);
                answer_error(q, streq(code, "IDPRejectedClaim") ? 403 : 400, code);
                return true;
        }
        time_from_now(strncmp(token, "ended", 5) == 0 ? -60 : 3600, end);
        (void) snprintf(body, sizeof(body),
                        "<%sResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><%sResult>"
                        "<Credentials><AccessKeyId>ROLE%d.%.5s</AccessKeyId>"
                        "%s<SessionToken>TOKEN</SessionToken>"
                        "<Expiration>%s</Expiration></Credentials></%sResult></%sResponse>",
                        action, action, n, token,
                        strncmp(token, "half", 4) == 0 ? ""
                                                       : "<SecretAccessKey>hUsH</SecretAccessKey>",
                        end, action, action);
        answer(q, 200, body);
        return true;
}

static bool is(const FaultRequest *q, const char *start)
{
        return strncmp(q->head, start, strlen(start)) == 0;
}

/* Takes ID2 only, as if ID1 had ended. */
static bool serve_object(const FaultRequest *q)
{
        _cleanup_free_ char *authorization = fault_header(q, "Authorization");

        if (strstr(q->head, "/new-only ") && !strstr(authorization, "Credential=ID2/"))
                answer(q, 400, "<Error><Code>ExpiredToken</Code></Error>");
        else if (strstr(q->head, "/never "))
                answer(q, 403, "<Error><Code>InvalidAccessKeyId</Code></Error>");
        else
                answer(q, 200, authorization);
        return true;
}

static bool serve(const FaultRequest *q)
{
        if (is(q, "PUT /latest/api/token "))
                fault_answer(q, 200, "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n", "T", 1);
        else if (is(q, "GET /latest/meta-data/iam/security-credentials/ "))
                answer(q, atomic_load(&fault_counts()->scratch[MODE]) == ABSENT ? 404 : 200,
                       "the-role");
        else if (is(q, "GET /latest/meta-data/placement/region "))
                answer(q, 200, "eu-west-3");
        else if (is(q, "GET /latest/meta-data/iam/security-credentials/the-role ") ||
                 is(q, "GET /container "))
                return serve_json(q);
        else if (is(q, "GET /bearer ")) {
                _cleanup_free_ char *token = fault_header(q, "Authorization");
                char body[256];
                (void) snprintf(body, sizeof(body),
                                "{\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"S\"}",
                                token ? token : "none");
                answer(q, 200, body);
        } else if (is(q, "GET /stolen "))
                (void) atomic_fetch_add(&fault_counts()->scratch[STOLEN], 1);
        else if (is(q, "POST / "))
                return serve_sts(q);
        else if (strstr(q->head, " /bucket/"))
                return serve_object(q);
        else
                return false;
        return true;
}

/* What is set decides, so each test begins with nothing. */
static const char *const variables[] = {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_CREDENTIAL_EXPIRATION",
        "AWS_SECURITY_TOKEN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_PROFILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
};

static void set(const char *name, const char *value)
{
        assert_int_equal(setenv(name, value, 1), 0);
}

static char *url(const char *path)
{
        static char text[4][128];
        static unsigned n;

        n = (n + 1) % ELEMENTSOF(text);
        (void) snprintf(text[n], sizeof(text[n]), "http://127.0.0.1:%u%s", server.port, path);
        return text[n];
}

static char *in_dir(const char *dir, const char *name, const char *content)
{
        static char path[4][256];
        static unsigned n;
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, dir);

        n = (n + 1) % ELEMENTSOF(path);
        (void) snprintf(path[n], sizeof(path[n]), "%s/%s", dir, name);
        if (content)
                assert_return_code(file_write_atomic_at(fd, name, content, strlen(content), 0600),
                                   0);
        return path[n];
}

static int begin(void **state)
{
        for (size_t i = 0; i < ELEMENTSOF(variables); i++)
                (void) unsetenv(variables[i]);
        set("AWS_CONFIG_FILE", "/dev/null");
        set("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        set("AWS_EC2_METADATA_DISABLED", "true");
        set("AWS_EC2_METADATA_SERVICE_ENDPOINT", url(""));
        set("AWS_ENDPOINT_URL_STS", url(""));
        set("AWS_ENDPOINT_URL_S3", url(""));
        set_mode(GOOD);
        return test_dir_setup(state);
}

#define a_test(f) cmocka_unit_test_setup_teardown(f, begin, test_dir_teardown)

static CredentialsSource *open_source(const char *name)
{
        _cleanup_free_ char *err = NULL;
        CredentialsSource *s = NULL;

        if (credentials_source_new(&s, &err) < 0)
                fail_msg("%s", err);
        assert_string_equal(credentials_source_name(s), name);
        return s;
}

static int wait_for_credentials(CredentialsSource *s, const Credentials **ret, char **reterr)
{
        int r;

        while ((r = credentials_source_get(s, ret, reterr)) == CREDENTIALS_PENDING) {
                r = http_step(s->http, -1, credentials_source_due_in_usec(s));
                if (r < 0)
                        return r;
        }
        return r;
}

static void assert_key(CredentialsSource *s, const char *key_id)
{
        _cleanup_free_ char *err = NULL;
        const Credentials *c = NULL;

        if (wait_for_credentials(s, &c, &err) != 0)
                fail_msg("%s instead of %s", err, key_id);
        assert_string_equal(c->key_id, key_id);
}

static void assert_none(CredentialsSource *s, const char *why)
{
        _cleanup_free_ char *err = NULL;
        const Credentials *c = NULL;

        assert_int_equal(wait_for_credentials(s, &c, &err), -ENOKEY);
        if (!strstr(err, why) || strstr(err, "hUsH"))
                fail_msg("'%s' does not say '%s'", err, why);
}

static void assert_not_opened(const char *why)
{
        _cleanup_free_ char *err = NULL;
        CredentialsSource *s = NULL;
        int r = credentials_source_new(&s, &err);

        if (r >= 0 || !strstr(err, why) || strstr(err, "hUsH"))
                fail_msg("%d: '%s' does not say '%s'", r, strempty(err), why);
}

/* As if the time to try again had come. */
static void assert_key_later(CredentialsSource *s, const char *key_id)
{
        s->retry_usec = 0;
        assert_key(s, key_id);
}

/* -- which one it is */

static void the_first_is_the_source(void **state)
{
        _cleanup_(credentials_source_freep) CredentialsSource *s = NULL;

        assert_not_opened("AWS_ACCESS_KEY_ID");
        set("AWS_EC2_METADATA_DISABLED", "false");
        s = open_source("instance role");
        assert_key(s, "ID1");
        credentials_source_free(s);

        set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url("/container"));
        s = open_source("container");
        assert_key(s, "ID2");
        credentials_source_free(s);

        set("AWS_SHARED_CREDENTIALS_FILE",
            in_dir(*state, "keys",
                   "[default]\naws_access_key_id=FILE\naws_secret_access_key=hUsH\n"));
        s = open_source("profile");
        assert_key(s, "FILE");
        credentials_source_free(s);

        set("AWS_REGION", "eu-west-1");
        set("AWS_ROLE_ARN", ROLE);
        s = open_source("profile");
        credentials_source_free(s);
        set("AWS_WEB_IDENTITY_TOKEN_FILE", in_dir(*state, "token", "alpha\n"));
        s = open_source("web identity");
        assert_key(s, "ROLE3.alpha");
        credentials_source_free(s);

        set("AWS_ACCESS_KEY_ID", "ENV");
        set("AWS_SECRET_ACCESS_KEY", "hUsH");
        s = open_source("environment");
        assert_key(s, "ENV");
}

static void half_is_an_error(void **state)
{
        set("AWS_ACCESS_KEY_ID", "ENV");
        assert_not_opened("AWS_SECRET_ACCESS_KEY is not set");
        set("AWS_SECRET_ACCESS_KEY", "hUsH ");
        assert_not_opened("AWS_SECRET_ACCESS_KEY holds a blank");
        set("AWS_SECRET_ACCESS_KEY", "hUsH");
        set("AWS_SECURITY_TOKEN", "hUsH\n");
        assert_not_opened("AWS_SECURITY_TOKEN");
        unsetenv("AWS_SECRET_ACCESS_KEY");
        unsetenv("AWS_ACCESS_KEY_ID");

        set("AWS_WEB_IDENTITY_TOKEN_FILE", in_dir(*state, "token", NULL));
        assert_not_opened("AWS_ROLE_ARN");
        set("AWS_ROLE_ARN", "deploy");
        assert_not_opened("not the ARN of a role");
        set("AWS_ROLE_ARN", ROLE);
        assert_not_opened("AWS_REGION");
        set("AWS_REGION", "eu-west-1");
        set("AWS_ROLE_SESSION_NAME", "a b");
        assert_not_opened("session");
}

/* -- container and instance */

static void bad_answers(void **state)
{
        static const struct {
                int mode;
                const char *why;
        } table[] = {
                {ABSENT,     "404"                             },
                { DOWN,      "503"                             },
                { FORBIDDEN, "403"                             },
                { REDIRECT,  "302"                             },
                { NOT_JSON,  "answer of the container"         },
                { TWICE,     "AccessKeyId"                     },
                { BROKEN,    "SecretAccessKey"                 },
                { HALF,      "SecretAccessKey: missing"        },
                { ENDLESS,   "limit"                           },
                { CODE,      "AssumeRoleUnauthorizedAccess: no"},
        };

        (void) state;
        set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url("/container"));
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(credentials_source_freep) CredentialsSource *s = open_source("container");
                set_mode(table[i].mode);
                assert_none(s, table[i].why);
                assert_int_equal(peek(FETCHES), table[i].mode == DOWN ? 3 : 1);
                /* no second question meanwhile */
                assert_none(s, table[i].why);
                assert_int_equal(peek(FETCHES), table[i].mode == DOWN ? 3 : 1);
                set_mode(i == 0 ? FLAKY : GOOD);
                assert_key_later(s, i == 0 ? "ID2" : "ID1");
        }
        assert_int_equal(peek(STOLEN), 0);
}

static void container_tokens(void **state)
{
        _cleanup_(credentials_source_freep) CredentialsSource *s = NULL;

        set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url("/bearer"));
        set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "ONE");
        s = open_source("container");
        assert_key(s, "ONE");
        credentials_source_free(s);
        set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "ONE\r\nX: y");
        s = open_source("container");
        assert_none(s, "AWS_CONTAINER_AUTHORIZATION_TOKEN");
        credentials_source_free(s);
        /* The file counts, and is read each time. */
        set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", in_dir(*state, "token", "TWO\n"));
        s = open_source("container");
        assert_key(s, "TWO");
        (void) in_dir(*state, "token", "THREE");
        s->renew_usec = 0;
        assert_key(s, "TWO"); /* while the new ones are on their way */
        while (s->fetching)
                assert_true(http_step(s->http, -1, UINT64_MAX) >= 0);
        assert_key(s, "THREE");
}

static void container_places(void **state)
{
        static const char *const good[] = {
                "http://169.254.170.2/v2/x",
                "http://169.254.170.23:80/v1",
                "http://[fd00:ec2::23]/v1/x?y=1@2",
                "http://localhost:5000/x",
                "http://127.0.0.1/x",
                "http://[::1]/x",
                "https://vault.example/credentials",
        };
        static const char *const bad[] = {
                "http://169.254.170.20/",
                "http://169.254.170.2.example/",
                "http://169.254.170.2@evil.example/",
                "http://169.254.170.2:80@evil.example/",
                "http://10.0.0.1/",
                "http://vault.example/",
                "http://vault.localhost/",
                "ftp://127.0.0.1/",
                "/v2/x",
                "http://169.254.169.254/",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                set("AWS_CONTAINER_CREDENTIALS_FULL_URI", good[i]);
                credentials_source_free(open_source("container"));
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                set("AWS_CONTAINER_CREDENTIALS_FULL_URI", bad[i]);
                assert_not_opened("AWS_CONTAINER_CREDENTIALS_FULL_URI");
        }
        set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "@evil.example/");
        assert_not_opened("slash");
        set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x");
        credentials_source_free(open_source("container"));
}

/* Nobody has to restart anything when the role comes. */
static void a_role_that_comes_late(void **state)
{
        _cleanup_(credentials_source_freep) CredentialsSource *s = NULL;
        uint64_t now_usec;
        struct timespec ts;

        (void) state;
        set("AWS_EC2_METADATA_DISABLED", "false");
        set_mode(ABSENT);
        s = open_source("instance role");
        for (int i = 0; i < 10; i++) {
                assert_none(s, "no role, or not yet");
                (void) clock_gettime(CLOCK_BOOTTIME, &ts);
                now_usec = (uint64_t) ts.tv_sec * 1000000;
                assert_true(s->retry_usec > now_usec);
                assert_true(s->retry_usec - now_usec < UINT64_C(47) * 1000000);
                s->retry_usec = 0;
        }
        set_mode(GOOD);
        assert_key(s, "ID1");
}

/* -- renewing */

static void old_ones_go_on_while_new_ones_come(void **state)
{
        _cleanup_(credentials_source_freep) CredentialsSource *s = NULL;
        const Credentials *c = NULL;

        (void) state;
        set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url("/container"));
        set_mode(SHORT);
        s = open_source("container");
        assert_key(s, "ID1");
        assert_int_equal(peek(FETCHES), 1);
        /* from 15 to 10 minutes before their end */
        struct timespec ts;
        (void) clock_gettime(CLOCK_BOOTTIME, &ts);
        uint64_t in_sec = s->renew_usec / 1000000 - (uint64_t) ts.tv_sec;
        assert_in_range(in_sec, 3600 - 902, 3600 - 598);
        set_mode(SLOW);
        s->renew_usec = 0;
        /* many who ask, one request */
        for (int i = 0; i < 100; i++) {
                assert_int_equal(credentials_source_get(s, &c, NULL), 0);
                assert_string_equal(c->key_id, "ID1");
                assert_true(http_step(s->http, -1, 0) >= 0);
        }
        while (s->fetching) {
                assert_int_equal(credentials_source_get(s, &c, NULL), 0);
                assert_true(http_step(s->http, -1, UINT64_MAX) >= 0);
        }
        assert_int_equal(peek(FETCHES), 1);
        assert_int_equal(credentials_source_get(s, &c, NULL), 0);
        assert_string_equal(c->key_id, "ID1");
        assert_int_equal(credentials_source_generation(s), 2);
        /* a failure costs nothing while they last */
        set_mode(DOWN);
        s->renew_usec = 0;
        for (int i = 0; i < 2; i++) {
                assert_int_equal(credentials_source_get(s, &c, NULL), 0);
                while (s->fetching)
                        assert_true(http_step(s->http, -1, UINT64_MAX) >= 0);
        }
        assert_int_equal(peek(FETCHES), 3);
        assert_int_equal(s->error, -EACCES);
        assert_null(credentials_source_worry(s));
        /* that goes on is said once */
        set_mode(FORBIDDEN);
        for (int i = 0; i < 3; i++) {
                s->retry_usec = 0;
                assert_int_equal(credentials_source_get(s, &c, NULL), 0);
                while (s->fetching)
                        assert_true(http_step(s->http, -1, UINT64_MAX) >= 0);
        }
        _cleanup_free_ char *worry = credentials_source_worry(s);
        assert_non_null(strstr(worry, "can't be renewed: the container's endpoint"));
        assert_null(credentials_source_worry(s));
}

static void what_has_ended(void **state)
{
        _cleanup_(credentials_source_freep) CredentialsSource *s = NULL, *web = NULL;

        /* The service gives out what has ended by our clock: it knows better. */
        set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url("/container"));
        set_mode(EXPIRED);
        s = open_source("container");
        assert_key(s, "ID1");
        assert_key(s, "ID1");
        assert_int_equal(peek(FETCHES), 1);
        /* They end, and no new ones are to be had: they go on. */
        s->overdue = false;
        set_mode(FORBIDDEN);
        assert_key(s, "ID1");
        assert_int_equal(peek(FETCHES), 1);
        /* Until there are. */
        set_mode(GOOD);
        assert_key_later(s, "ID1");
        while (s->fetching)
                assert_true(http_step(s->http, -1, UINT64_MAX) >= 0);
        assert_int_equal(credentials_source_generation(s), 2);

        /* A role's session is over when it is over. */
        set("AWS_REGION", "eu-west-1");
        set("AWS_ROLE_ARN", ROLE);
        set("AWS_WEB_IDENTITY_TOKEN_FILE", in_dir(*state, "token", "ended"));
        set_mode(GOOD);
        web = open_source("web identity");
        assert_key(web, "ROLE1.ended");
        (void) in_dir(*state, "token", "error-ExpiredTokenException");
        web->overdue = false;
        assert_none(web, "ExpiredTokenException");
}

static void the_environment_ends(void **state)
{
        _cleanup_(credentials_source_freep) CredentialsSource *s = NULL;
        char end[TIME_TEXT_SIZE], text[64], words[128];

        (void) state;
        set("AWS_ACCESS_KEY_ID", "ENV");
        set("AWS_SECRET_ACCESS_KEY", "hUsH");
        set("AWS_CREDENTIAL_EXPIRATION", "tomorrow");
        assert_not_opened("AWS_CREDENTIAL_EXPIRATION is not a time");
        set("AWS_CREDENTIAL_EXPIRATION", "2013-05-24T00:00:00+00:00");
        assert_not_opened("have ended, by this host's clock: at 2013-05-24T00:00:00+00:00");

        time_from_now(3600, end);
        (void) snprintf(text, sizeof(text), "%.19s+00:00", end);
        set("AWS_CREDENTIAL_EXPIRATION", text);
        s = open_source("environment");
        assert_key(s, "ENV");
        /* It is time to renew them: they go on until they end. */
        s->renew_usec = 0;
        assert_key(s, "ENV");
        assert_int_equal(s->n_failures, 1);
        s->current.expires_sec -= 3601;
        s->retry_usec = 0;
        (void) snprintf(words, sizeof(words), "(environment): those of the environment end at %s",
                        time_format_utc(s->current.expires_sec, end));
        assert_none(s, words);
}

static void ends_of_credentials(void **state)
{
        static const struct {
                const char *text;
                uint64_t sec; /* 0: it is none */
        } table[] = {
                {"2013-05-24T00:00:00Z",         1369353600},
                { "2013-05-24T00:00:00.123456Z", 1369353600},
                { "2013-05-24T00:00:00+00:00",   1369353600},
                { "2013-05-24T02:30:00.5+02:30", 1369353600},
                { "2013-05-23T23:00:00-01:00",   1369353600},
                { "1970-01-01T00:00:00Z",        1         },
                { "1970-01-01T00:00:00+01:00",   1         },
                { "2013-05-24T00:00:00",         0         },
                { "2013-05-24T00:00:00+00",      0         },
                { "2013-05-24T00:00:00+0000",    0         },
                { "2013-05-24T00:00:00+24:00",   0         },
                { "2013-05-24T00:00:00+00:60",   0         },
                { "2013-05-24T00:00:00+0a:00",   0         },
                { "2013-05-24T00:00:00 00:00",   0         },
                { "2013-02-30T00:00:00Z",        0         },
                { "2013-05-24",                  0         },
                { "",                            0         },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                uint64_t sec = 0;
                assert_int_equal(credentials_parse_expiration(table[i].text, &sec),
                                 table[i].sec ? 0 : -EBADMSG);
                assert_int_equal(sec, table[i].sec);
        }
}

static void no_end_is_fine(void **state)
{
        _cleanup_(credentials_source_freep) CredentialsSource *s = NULL;

        (void) state;
        set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url("/container"));
        set_mode(NO_END);
        s = open_source("container");
        assert_key(s, "ID1");
        assert_true(s->renew_usec == UINT64_MAX);
}

static void refused_ones_are_renewed_once(void **state)
{
        _cleanup_(credentials_source_freep) CredentialsSource *s = NULL, *fixed = NULL;

        (void) state;
        set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url("/container"));
        s = open_source("container");
        assert_key(s, "ID1");
        assert_true(credentials_source_renew(s, 1));
        assert_true(credentials_source_renew(s, 1)); /* as others say at the same time */
        assert_key(s, "ID2");
        assert_true(credentials_source_renew(s, 1)); /* others are here already */
        assert_false(credentials_source_renew(s, 2));
        s->refused_usec = 0; /* as if it had been a while ago */
        assert_true(credentials_source_renew(s, 2));
        set_mode(FORBIDDEN);
        assert_none(s, "403");
        set_mode(GOOD);
        assert_key_later(s, "ID1");

        set("AWS_ACCESS_KEY_ID", "ENV");
        set("AWS_SECRET_ACCESS_KEY", "hUsH");
        fixed = open_source("environment");
        assert_false(credentials_source_renew(fixed, credentials_source_generation(fixed)));
}

/* -- STS */

static void web_identities(void **state)
{
        static const struct {
                const char *token, *why;
        } table[] = {
                {"error-ExpiredTokenException",  "the token file is not written anew"},
                { "error-InvalidIdentityToken",  "identity provider"                 },
                { "error-AccessDenied",          "trust policy"                      },
                { "error-IDPRejectedClaim",      "IDPRejectedClaim"                  },
                { "error-IDPCommunicationError", "tried 4 times"                     },
                { "half",                        "no credentials as STS"             },
                { "",                            "holds no token"                    },
                { "hUsH hUsH",                   "holds no token"                    },
                { "hUsH\nhUsH",                  "holds no token"                    },
        };
        _cleanup_free_ char *long_token = calloc(1, 20002);
        char *token_file = in_dir(*state, "token", "alpha");
        _cleanup_(credentials_source_freep) CredentialsSource *s = NULL;

        set("AWS_REGION", "eu-west-1");
        set("AWS_ROLE_ARN", ROLE);
        set("AWS_WEB_IDENTITY_TOKEN_FILE", token_file);
        s = open_source("web identity");
        assert_key(s, "ROLE1.alpha");
        (void) in_dir(*state, "token", "bravo\n");
        s->refused = true;
        assert_key(s, "ROLE2.bravo");
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                (void) in_dir(*state, "token", table[i].token);
                s->refused = true;
                s->retry_usec = 0;
                assert_none(s, table[i].why);
        }
        memset(long_token, 'x', 20001);
        (void) in_dir(*state, "token", long_token);
        s->retry_usec = 0;
        assert_none(s, "holds no token");
        assert_int_equal(unlink(in_dir(*state, "token", NULL)), 0);
        s->retry_usec = 0;
        assert_none(s, "can't read the web identity token");
        (void) in_dir(*state, "token", "delta");
        s->retry_usec = 0;
        set_mode(GOOD);
        assert_key(s, "ROLE1.delta");
}

static void roles_of_profiles(void **state)
{
        static const char config[] =
                "[default]\nregion=eu-west-1\nrole_arn=" ROLE "\nsource_profile=base\n"
                "[profile base]\naws_access_key_id=BASE\naws_secret_access_key=hUsH\n"
                "[profile own]\nregion=eu-west-1\nrole_arn=" ROLE "\nsource_profile=own\n"
                "aws_access_key_id=BASE\naws_secret_access_key=hUsH\n"
                "[profile twice]\nregion=eu-west-1\nrole_arn=" ROLE "\nsource_profile=own\n"
                "external_id=x\nduration_seconds=900\n"
                "[profile box]\nregion=eu-west-1\nrole_arn=" ROLE
                "\ncredential_source=EcsContainer\n"
                "[profile web]\nregion=eu-west-1\nrole_arn=" ROLE "\nweb_identity_token_file=%s\n";
        static const struct {
                const char *profile, *name, *key;
        } table[] = {
                {"default", "assumed role", "ROLE1."     },
                { "own",    "assumed role", "ROLE1."     },
                { "twice",  "assumed role", "ROLE1."     },
                { "box",    "assumed role", "ROLE2."     }, /* the container's came first */
                { "web",    "web identity", "ROLE1.alpha"},
        };
        char text[2048];

        (void) snprintf(text, sizeof(text), config, in_dir(*state, "token", "alpha"));
        set("AWS_CONFIG_FILE", in_dir(*state, "config", text));
        set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url("/container"));
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(credentials_source_freep) CredentialsSource *s = NULL;
                set("AWS_PROFILE", table[i].profile);
                set_mode(GOOD);
                s = open_source(table[i].name);
                assert_key(s, table[i].key);
        }
}

/* STS is where the profile with the role says, not the one that signs. */
static void endpoints_of_profiles(void **state)
{
        _cleanup_(credentials_source_freep) CredentialsSource *s = NULL;
        char config[512];

        unsetenv("AWS_ENDPOINT_URL_STS");
        (void) snprintf(config, sizeof(config),
                        "[default]\nrole_arn=" ROLE "\nsource_profile=base\nregion=eu-west-1\n"
                        "services=here\nendpoint_url=http://127.0.0.1:1\n"
                        "[profile base]\nservices=nowhere\n"
                        "[services here]\nsts =\n  endpoint_url = %s\n"
                        "[services nowhere]\nsts =\n  endpoint_url = http://127.0.0.1:1\n",
                        url(""));
        set("AWS_CONFIG_FILE", in_dir(*state, "config", config));
        set("AWS_SHARED_CREDENTIALS_FILE",
            in_dir(*state, "keys", "[base]\naws_access_key_id=BASE\naws_secret_access_key=hUsH\n"));
        s = open_source("assumed role");
        assert_key(s, "ROLE1.");
}

static void bad_profiles(void **state)
{
        static const struct {
                const char *text, *why;
        } table[] = {
                {"aws_access_key_id=A\n",                                                  "go together"                        },
                { "aws_access_key_id=A\naws_secret_access_key=hUsH hUsH\n",                "holds a blank"                      },
                { "credential_process=/bin/x hUsH\n",
                 "aws configure export-credentials --profile ci"                                                                },
                { "sso_session=x\n",                                                       "single sign-on"                     },
                { "sso_start_url=x\n",                                                     "single sign-on"                     },
                { "role_arn=" ROLE "\nsource_profile=ci\nmfa_serial=x\n",                  "mfa_serial"                         },
                { "role_arn=" ROLE "\n",                                                   "source_profile or credential_source"},
                { "role_arn=" ROLE "\nsource_profile=ci\ncredential_source=Environment\n",
                 "either source_profile"                                                                                        },
                { "role_arn=" ROLE "\ncredential_source=x\n",                              "must be Environment"                },
                { "role_arn=" ROLE "\ncredential_source=Environment\n",                    "'environment'"                      },
                { "role_arn=" ROLE "\nsource_profile=ci\n",                                "more than 4 roles"                  },
                { "role_arn=" ROLE "\nsource_profile=gone\n",                              "'gone' is neither in"               },
                { "role_arn=" ROLE "\nsource_profile=none\n",                              "'none' has no credentials"          },
                { "role_arn=x\nsource_profile=none\n",                                     "not the ARN"                        },
        };
        char text[512];

        set("AWS_PROFILE", "ci");
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                (void) snprintf(text, sizeof(text),
                                "[profile none]\nregion=x\n[profile ci]\nregion=eu-west-1\n%s",
                                table[i].text);
                set("AWS_CONFIG_FILE", in_dir(*state, "config", text));
                assert_not_opened(table[i].why);
        }
        set("AWS_PROFILE", "gone");
        assert_not_opened("'gone' is neither in");
        /* Without credentials it is not the source. */
        set("AWS_PROFILE", "none");
        set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url("/container"));
        credentials_source_free(open_source("container"));
}

/* Keys that somebody rotated in the file. */
static void rotated_keys(void **state)
{
        _cleanup_(credentials_source_freep) CredentialsSource *s = NULL;

        set("AWS_SHARED_CREDENTIALS_FILE",
            in_dir(*state, "keys", "[default]\naws_access_key_id=A\naws_secret_access_key=S\n"));
        s = open_source("profile");
        assert_key(s, "A");
        (void) in_dir(*state, "keys", "[default]\naws_access_key_id=B\naws_secret_access_key=S\n");
        assert_key(s, "A");
        assert_true(credentials_source_renew(s, credentials_source_generation(s)));
        assert_key(s, "B");
        (void) in_dir(*state, "keys", "[default]\naws_access_key_id=B\n");
        s->refused = true;
        assert_none(s, "go together");
}

/* -- region */

static int region_of(CredentialsSource *s, const char **ret, char **reterr)
{
        int r;

        while ((r = credentials_source_region(s, ret, reterr)) == CREDENTIALS_PENDING)
                assert_true(http_step(s->http, -1, UINT64_MAX) >= 0);
        return r;
}

static void assert_region(const char *region)
{
        _cleanup_(credentials_source_freep) CredentialsSource *s = open_source("environment");
        const char *is_region = NULL;

        assert_int_equal(region_of(s, &is_region, NULL), 0);
        assert_string_equal(is_region, region);
}

static void regions(void **state)
{
        _cleanup_(credentials_source_freep) CredentialsSource *s = NULL;
        _cleanup_free_ char *err = NULL;
        const char *region = NULL;

        set("AWS_ACCESS_KEY_ID", "ENV");
        set("AWS_SECRET_ACCESS_KEY", "hUsH");
        s = open_source("environment");
        assert_int_equal(region_of(s, &region, &err), -EINVAL);
        assert_non_null(strstr(err, "AWS_REGION"));
        set("AWS_EC2_METADATA_DISABLED", "false");
        assert_region("eu-west-3");
        set("AWS_CONFIG_FILE", in_dir(*state, "config", "[default]\nregion=eu-west-4\n"));
        assert_region("eu-west-4");
        set("AWS_DEFAULT_REGION", "eu-west-5");
        assert_region("eu-west-5");
        set("AWS_REGION", "eu-west-6");
        assert_region("eu-west-6");
        set("AWS_REGION", "eu west");
        assert_int_equal(region_of(s, &region, &err), -EINVAL);
        assert_non_null(strstr(err, "not the name of a region"));
}

/* Whoever calls another service without saying where. */
static void a_client_in_the_region(void **state)
{
        static const AwsService service = { "kms", AWS_JSON, "TrentService" };
        _cleanup_(http_freep) Http *http = NULL;
        _cleanup_(credentials_source_freep) CredentialsSource *s = NULL;
        _cleanup_(aws_client_freep) AwsClient *client = NULL;

        (void) state;
        set("AWS_EC2_METADATA_DISABLED", "false");
        s = open_source("instance role");
        assert_int_equal(http_new(NULL, &http), 0);
        assert_int_equal(aws_client_new(&service, NULL, http, s, s, &client, NULL), 0);
        assert_string_equal(aws_client_region(client), "eu-west-3");
}

/* -- a store that waits for them */

static void get_object(Store *s, const char *path, int result, const char *text)
{
        _cleanup_(store_reply_done) StoreReply reply = {};
        _cleanup_free_ char *err = NULL;
        int r = store_call(s, &(StoreRequest){ .path = path, .size_max = 4096 }, &reply, &err);

        if (r != result || !strstr(strempty(r == 0 ? reply.data : err), text))
                fail_msg("%s: %d, '%s' does not say '%s'", path, r,
                         strempty(r == 0 ? reply.data : err), text);
}

static void a_store_waits(void **state)
{
        _cleanup_(store_freep) Store *s = NULL;

        (void) state;
        set("AWS_EC2_METADATA_DISABLED", "false");
        set_mode(ABSENT);
        assert_int_equal(store_open("s3://bucket", &s, NULL), 0);
        get_object(s, "one", -ENOKEY, "no role, or not yet");
        s = store_free(s);
        set_mode(SLOW);
        assert_int_equal(store_open("s3://bucket", &s, NULL), 0);
        get_object(s, "one", 0, "Credential=ID1/");
        get_object(s, "one", 0, "/eu-west-3/s3/aws4_request");
        assert_int_equal(peek(FETCHES), 1);
}

static void count_done(int result, StoreReply *reply, const char *err, void *userdata)
{
        (void) reply;
        if (result != 0)
                fail_msg("%s", err);
        ++*(int *) userdata;
}

/* Waiting for credentials is no reason not to hear what slipwayd says. */
static void waiting_does_not_block(void **state)
{
        _cleanup_(store_freep) Store *s = NULL;
        StoreCall *call;
        int sockets[2], n_done = 0;

        (void) state;
        set("AWS_EC2_METADATA_DISABLED", "false");
        set_mode(SLOW);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
        assert_int_equal(store_open("s3://bucket", &s, NULL), 0);
        for (int i = 0; i < 3; i++)
                assert_int_equal(store_start(s, &(StoreRequest){ .path = "one", .size_max = 4096 },
                                             count_done, &n_done, &call),
                                 0);
        while (peek(FETCHES) == 0)
                assert_int_equal(store_step(s, sockets[0], UINT64_MAX), 0);
        assert_int_equal(write(sockets[1], "x", 1), 1);
        while (store_step(s, sockets[0], UINT64_MAX) == 0)
                ;
        assert_int_equal(n_done, 0);
        assert_int_equal(close(sockets[0]), 0);
        assert_int_equal(close(sockets[1]), 0);
        while (n_done < 3)
                assert_int_equal(store_step(s, -1, UINT64_MAX), 0);
        assert_int_equal(peek(FETCHES), 1);
}

/* The store does not take them any more: others are asked for at once, but not again and again. */
static void a_store_renews(void **state)
{
        _cleanup_(store_freep) Store *s = NULL;

        (void) state;
        set("AWS_REGION", "eu-west-1");
        set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url("/container"));
        assert_int_equal(store_open("s3://bucket", &s, NULL), 0);
        get_object(s, "one", 0, "Credential=ID1/");
        get_object(s, "new-only", 0, "Credential=ID2/");
        assert_int_equal(peek(FETCHES), 2);
        get_object(s, "never", -EACCES, "InvalidAccessKeyId");
        get_object(s, "never", -EACCES, "(container)");
        get_object(s, "one", 0, "Credential=ID2/");
        assert_int_equal(peek(FETCHES), 2);
}

/* -- and the words of it */

static void answers(void **state)
{
        static const char *const bad[] = {
                "",
                "[]",
                "{}",
                "{\"AccessKeyId\":\"A\"}",
                "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":null}",
                "{\"AccessKeyId\":1,\"SecretAccessKey\":\"B\"}",
                "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"B\",\"Token\":\"\"}",
                "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"B\",\"Expiration\":\"soon\"}",
                "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"B\",\"Expiration\":\"2026-11-22\"}",
                "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"\\u00e4\"}",
        };
        Credentials c = {};

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(credentials_parse_json(bad[i], strlen(bad[i]), &c, NULL),
                                 -EBADMSG);
        static const char fraction[] =
                "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"B\",\"Token\":null,"
                "\"Expiration\":\"1970-01-02T00:00:00.987Z\"}";
        assert_int_equal(credentials_parse_json(fraction, strlen(fraction), &c, NULL), 0);
        assert_int_equal(c.expires_sec, 86400);
        assert_null(c.session_token);
        credentials_done(&c);
        assert_null(c.secret);
}

static int start(void **state)
{
        (void) state;
        fault_server_start(&server, serve);
        return 0;
}

static int stop(void **state)
{
        (void) state;
        fault_server_stop(&server);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                a_test(the_first_is_the_source),
                a_test(half_is_an_error),
                a_test(bad_answers),
                a_test(container_tokens),
                a_test(container_places),
                a_test(a_role_that_comes_late),
                a_test(old_ones_go_on_while_new_ones_come),
                a_test(what_has_ended),
                a_test(the_environment_ends),
                a_test(ends_of_credentials),
                a_test(no_end_is_fine),
                a_test(refused_ones_are_renewed_once),
                a_test(web_identities),
                a_test(roles_of_profiles),
                a_test(endpoints_of_profiles),
                a_test(bad_profiles),
                a_test(rotated_keys),
                a_test(regions),
                a_test(a_client_in_the_region),
                a_test(a_store_waits),
                a_test(waiting_does_not_block),
                a_test(a_store_renews),
                a_test(answers),
        };
        return cmocka_run_group_tests(tests, start, stop);
}
