/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "fault-server.h"
#include "metadata.h"

#define DOCUMENT                                                                              \
        "{\"accountId\":\"111122223333\",\"availabilityZone\":\"eu-1a\",\"region\":\"eu-1\"," \
        "\"instanceId\":\"i-1\",\"billingProducts\":null}"

/* What the service says: fault_counts()->scratch[0]. */
enum {
        GOOD,
        NO_DOCUMENT,
        NOT_JSON,
        NO_NAME,
        NO_ID,
        NO_TAGS,
        EMPTY_TAGS,
        TAGS_ARE_A_PAGE,
        TAG_REMOVED,
        TAG_TWICE,
        TAG_TOO_LONG,
        TAG_WITH_CONTROLS,
        TOO_MANY_TAGS,
        EMPTY_LINE,
};

static FaultServer server;

static void say(const FaultRequest *q, const char *text)
{
        fault_answer(q, 200, "", text, strlen(text));
}

static void say_document(const FaultRequest *q, int what)
{
        if (what == NO_DOCUMENT)
                fault_answer(q, 404, "", "", 0);
        else if (what == NOT_JSON)
                say(q, "<html>");
        else if (what == NO_NAME)
                say(q, "{\"instanceId\":\"../x\"}");
        else if (what == NO_ID)
                say(q, "{\"region\":\"eu-1\"}");
        else
                say(q, DOCUMENT);
}

static void say_keys(const FaultRequest *q, int what)
{
        char many[1024] = "";

        for (int i = 0; i <= INSTANCE_TAGS_MAX; i++)
                (void) sprintf(strchr(many, '\0'), "k%d\n", i);
        if (what == NO_TAGS)
                fault_answer(q, 404, "", "", 0);
        else
                say(q, what == EMPTY_TAGS        ? ""
                       : what == TAGS_ARE_A_PAGE ? "<html>\n</html>"
                       : what == TAG_TWICE       ? "Role\nRole"
                       : what == TOO_MANY_TAGS   ? many
                       : what == EMPTY_LINE      ? "Role\n\nslipway:app"
                                                 : "slipway:app\nRole");
}

static void say_value(const FaultRequest *q, int what)
{
        static char large[TAG_VALUE_SIZE_MAX + 2];

        memset(large, 'x', TAG_VALUE_SIZE_MAX + 1);
        if (what == TAG_REMOVED)
                fault_answer(q, 404, "", "", 0);
        else
                say(q, what == TAG_TOO_LONG        ? large
                       : what == TAG_WITH_CONTROLS ? "a\nb\x1b\xff"
                                                   : "web");
}

/* What EC2's API says: fault_counts()->scratch[1]; [2] counts. */
enum {
        API_GOOD,
        API_DENIED,
        API_GARBAGE,
        API_MORE,
        API_TWICE,
        API_DOWN,
};

#define API_TAG(key, rest)                                                                 \
        "<item><resourceId>i-1</resourceId><resourceType>instance</resourceType><key>" key \
        "</key>" rest "</item>"
#define API_ANSWER(items)                                                                   \
        "<?xml version=\"1.0\"?><DescribeTagsResponse xmlns=\"http://ec2.amazonaws.com/\">" \
        "<requestId>x</requestId>" items "</DescribeTagsResponse>"

static bool asks_well(const FaultRequest *q)
{
        char *authorization = fault_header(q, "Authorization");
        bool well = authorization && strstr(authorization, "/eu-1/ec2/aws4_request") &&
                    strstr(q->body, "Action=DescribeTags") &&
                    strstr(q->body, "Version=2016-11-15") &&
                    strstr(q->body, "Filter.1.Name=resource-id") &&
                    strstr(q->body, "Filter.1.Value.1=i-1");

        free(authorization);
        return well;
}

static void serve_api(const FaultRequest *q)
{
        static const char denied[] = "<Response><Errors><Error><Code>UnauthorizedOperation</Code>"
                                     "<Message>not you</Message></Error></Errors></Response>";

        atomic_fetch_add(&fault_counts()->scratch[2], 1);
        switch (asks_well(q) ? atomic_load(&fault_counts()->scratch[1]) : API_DOWN) {
        case API_GOOD:
                say(q, API_ANSWER("<tagSet>" API_TAG("Role", "<value>a &amp; b</value>") API_TAG(
                               "Empty", "") API_TAG("No/Path", "<value/>") "</tagSet>"));
                break;
        case API_DENIED:
                fault_answer(q, 403, "", denied, strlen(denied));
                break;
        case API_GARBAGE:
                say(q, "{}");
                break;
        case API_MORE:
                say(q, API_ANSWER("<nextToken>more</nextToken>"));
                break;
        case API_TWICE:
                say(q, API_ANSWER("<tagSet>" API_TAG("a", "<value>x</value>")
                                          API_TAG("a", "<value>y</value>") "</tagSet>"));
                break;
        default:
                fault_answer(q, 503, "", "", 0);
        }
}

static bool serve(const FaultRequest *q)
{
        int what = atomic_load(&fault_counts()->scratch[0]);
        char path[256] = "";

        if (strncmp(q->head, "POST / ", 7) == 0) {
                serve_api(q);
                return true;
        }
        if (strncmp(q->head, "PUT ", 4) == 0) {
                say(q, "token");
                return true;
        }
        (void) sscanf(q->head, "GET /latest/%255s ", path);
        if (strcmp(path, "dynamic/instance-identity/document") == 0)
                say_document(q, what);
        else if (strcmp(path, "meta-data/tags/instance") == 0)
                say_keys(q, what);
        else if (strcmp(path, "meta-data/tags/instance/Role") == 0)
                say_value(q, what);
        else
                say(q, "api");
        return true;
}

typedef struct Got {
        bool done;
        int result;
        char *err, *data;
        size_t size;
} Got;

static void got_done(int result, Instance *i, const char *err, void *userdata)
{
        Got *g = userdata;

        g->done = true;
        g->result = result;
        g->err = err ? strdup(err) : NULL;
        assert_true((result == 0) == (i != NULL));
        if (i)
                assert_int_equal(instance_pack(i, &g->data, &g->size), 0);
}

static void got_reset(Got *g)
{
        free(g->err);
        free(g->data);
        *g = (Got){};
}

static void ask_by(Http *h, Metadata *m, int what, Got *g)
{
        got_reset(g);
        atomic_store(&server.counts->scratch[0], what);
        assert_int_equal(metadata_ask(m, got_done, g, NULL), 0);
        assert_int_equal(metadata_ask(m, got_done, g, NULL), -EBUSY);
        while (!g->done) {
                assert_int_equal(http_step(h, -1, metadata_due_in_usec(m)), 0);
                metadata_start_due(m);
        }
}

static void ask(int what, Got *g)
{
        _cleanup_(http_freep) Http *h = NULL;
        _cleanup_(metadata_freep) Metadata *m = NULL;

        assert_int_equal(http_new(NULL, &h), 0);
        assert_int_equal(metadata_new(h, &m, NULL), 0);
        ask_by(h, m, what, g);
}

static void good(void **state)
{
        static const struct {
                int what;
                size_t n_tags;
                const char *role;
        } table[] = {
                {GOOD,               2, "web"  },
                { EMPTY_TAGS,        0, NULL   },
                { TAG_REMOVED,       1, NULL   },
                { TAG_WITH_CONTROLS, 2, "a b ?"},
        };
        _cleanup_(got_reset) Got g = {};

        (void) state;
        for (size_t k = 0; k < ELEMENTSOF(table); k++) {
                _cleanup_(instance_freep) Instance *i = NULL;
                ask(table[k].what, &g);
                assert_int_equal(g.result, 0);
                assert_int_equal(instance_unpack(g.data, g.size, &i), 0);
                assert_string_equal(i->id, "i-1");
                assert_string_equal(i->region, "eu-1");
                assert_string_equal(i->zone, "eu-1a");
                assert_string_equal(i->account, "111122223333");
                assert_string_equal(i->tags_from, INSTANCE_TAGS_METADATA);
                assert_null(i->tags_error);
                assert_int_equal(i->n_tags, table[k].n_tags);
                if (table[k].role)
                        assert_string_equal(instance_tag(i, "Role"), table[k].role);
        }
}

/* The API is asked then, once for many times. */
static void by_the_api(void **state)
{
        _cleanup_(http_freep) Http *h = NULL;
        _cleanup_(metadata_freep) Metadata *m = NULL;
        _cleanup_(got_reset) Got g = {};
        Instance *i = NULL;

        (void) state;
        assert_int_equal(http_new(NULL, &h), 0);
        assert_int_equal(metadata_new(h, &m, NULL), 0);
        atomic_store(&server.counts->scratch[1], API_GOOD);
        atomic_store(&server.counts->scratch[2], 0);
        for (int k = 0; k < 2; k++) {
                ask_by(h, m, NO_TAGS, &g);
                assert_int_equal(instance_unpack(g.data, g.size, &i), 0);
                assert_null(i->tags_error);
                assert_string_equal(i->tags_from, INSTANCE_TAGS_API);
                assert_int_equal(i->n_tags, 3);
                assert_string_equal(instance_tag(i, "Role"), "a & b");
                assert_string_equal(instance_tag(i, "Empty"), "");
                assert_string_equal(instance_tag(i, "No/Path"), "");
                i = instance_free(i);
        }
        assert_int_equal(atomic_load(&server.counts->scratch[2]), 1);
        /* Once they are exposed, it is not asked any more. */
        ask_by(h, m, GOOD, &g);
        assert_int_equal(instance_unpack(g.data, g.size, &i), 0);
        assert_string_equal(i->tags_from, INSTANCE_TAGS_METADATA);
        i = instance_free(i);
}

static void not_to_be_had(void **state)
{
        static const struct {
                int what;
                const char *words;
                bool passes;
        } table[] = {
                {API_DENIED,   "ec2:DescribeTags", false},
                { API_GARBAGE, "makes no sense",   true },
                { API_MORE,    "makes no sense",   true },
                { API_TWICE,   "makes no sense",   true },
                { API_DOWN,    "tried 2 times",    true },
        };
        _cleanup_(got_reset) Got g = {};

        (void) state;
        for (size_t k = 0; k < ELEMENTSOF(table); k++) {
                _cleanup_(instance_freep) Instance *i = NULL;
                atomic_store(&server.counts->scratch[1], table[k].what);
                ask(NO_TAGS, &g);
                assert_int_equal(instance_unpack(g.data, g.size, &i), 0);
                assert_int_equal(instance_lacks_tags(i), table[k].passes);
                assert_true(table[k].passes || !i->tags_from);
                assert_string_equal(i->id, "i-1");
                assert_int_equal(i->n_tags, 0);
                assert_non_null(strstr(i->tags_error,
                                       "--instance-id i-1 --instance-metadata-tags enabled"));
                if (!strstr(i->tags_error, table[k].words))
                        fail_msg("row %zu: %s", k, i->tags_error);
        }
}

/* Without credentials that is what is said. */
static void no_credentials(void **state)
{
        _cleanup_(got_reset) Got g = {};
        _cleanup_(instance_freep) Instance *i = NULL;

        (void) state;
        assert_int_equal(unsetenv("AWS_SECRET_ACCESS_KEY"), 0);
        ask(NO_TAGS, &g);
        assert_int_equal(setenv("AWS_SECRET_ACCESS_KEY", "secret", 1), 0);
        assert_int_equal(instance_unpack(g.data, g.size, &i), 0);
        assert_false(instance_lacks_tags(i));
        assert_non_null(strstr(i->tags_error, "AWS_SECRET_ACCESS_KEY"));
}

static void bad(void **state)
{
        static const struct {
                int what, result;
                const char *words;
        } table[] = {
                {NO_DOCUMENT,      -EPROTO,  "no identity document"                  },
                { NOT_JSON,        -EBADMSG, "identity document at http://127.0.0.1:"},
                { NO_NAME,         -EBADMSG, "instanceId: \"../x\" is not a name"    },
                { NO_ID,           -EBADMSG, "instanceId: missing"                   },
                { TAGS_ARE_A_PAGE, -EINVAL,  "tags/instance/<html>"                  },
                { TAG_TWICE,       -EBADMSG, "tag Role"                              },
                { TAG_TOO_LONG,    -EBADMSG, "tag Role"                              },
                { TOO_MANY_TAGS,   -E2BIG,   "too many tags"                         },
                { EMPTY_LINE,      -EBADMSG, ""                                      },
        };
        _cleanup_(got_reset) Got g = {};

        (void) state;
        for (size_t k = 0; k < ELEMENTSOF(table); k++) {
                ask(table[k].what, &g);
                if (g.result != table[k].result || !strstr(strempty(g.err), table[k].words))
                        fail_msg("row %zu: %d (%s)", k, g.result, strempty(g.err));
        }
}

/* One that is freed while it asks calls nobody. */
static void given_up(void **state)
{
        _cleanup_(http_freep) Http *h = NULL;
        Metadata *m = NULL;
        Got g = {};

        (void) state;
        assert_int_equal(http_new(NULL, &h), 0);
        assert_int_equal(metadata_new(h, &m, NULL), 0);
        assert_int_equal(metadata_ask(m, got_done, &g, NULL), 0);
        assert_int_equal(http_step(h, -1, UINT64_MAX), 0);
        metadata_free(m);
        assert_int_equal(http_step(h, -1, 1000), 0);
        assert_false(g.done);
}

static int start_server(void **state)
{
        char url[64];

        (void) state;
        fault_server_start(&server, serve);
        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u", server.port);
        return unsetenv("AWS_EC2_METADATA_DISABLED") |
               setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url, 1) |
               setenv("AWS_ENDPOINT_URL_EC2", url, 1) | setenv("AWS_ACCESS_KEY_ID", "key", 1) |
               setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
}

static int stop_server(void **state)
{
        (void) state;
        fault_server_stop(&server);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(good),          cmocka_unit_test(by_the_api),
                cmocka_unit_test(not_to_be_had), cmocka_unit_test(no_credentials),
                cmocka_unit_test(bad),           cmocka_unit_test(given_up),
        };

        return cmocka_run_group_tests(tests, start_server, stop_server);
}
