/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"
#include "room.h"

#include <limits.h>
#include <sys/stat.h>

#include "name.h"
#include "test.h"

static void write_in(const char *dir, const char *name, const char *text)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, dir);

        assert_true(fd >= 0);
        assert_int_equal(file_write_atomic_at(fd, name, text, strlen(text), 0600), 0);
}

static int load(const char *dir, Config **ret, char **reterr)
{
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%s/agent.json", dir);
        return config_load(path, ret, reterr);
}

static Config *load_good(const char *dir, const char *text)
{
        _cleanup_free_ char *err = NULL;
        Config *c = NULL;

        write_in(dir, "agent.json", text);
        if (load(dir, &c, &err) < 0)
                fail_msg("%s: %s", text, strempty(err));
        return c;
}

/* `error` is what follows the directory in the message. */
static void assert_load_fails(const char *dir, int error, const char *text)
{
        _cleanup_free_ char *err = NULL;
        char wanted[PATH_MAX + 256];
        Config *c = NULL;
        int r = load(dir, &c, &err);

        snprintf(wanted, sizeof(wanted), "%s/%s", dir, text);
        if (r != error || !err || !strstr(err, wanted))
                fail_msg("%d \"%s\", wanted \"%s\"", r, strempty(err), wanted);
        assert_null(c);
}

/* As above, for what an instance could tell. */
static void assert_lacks(const char *dir, const char *text, const char *error)
{
        write_in(dir, "agent.json", text);
        assert_load_fails(dir, -ENODATA, error);
}

static void assert_refused(const char *dir, const char *text, const char *error)
{
        write_in(dir, "agent.json", text);
        assert_load_fails(dir, -EBADMSG, error);
}

/* Everything but the store and these members of one app. */
#define APP(members)                                                             \
        "{ \"store\": \"s3://b\", \"instance\": \"i-1\",\n"                      \
        "\"tags\": { \"Stage\": \"prod\", \"Up\": \"../..\", \"Star\": \"*\",\n" \
        "\"Slash\": \"a/b\", \"Empty\": \"\", \"Own Key\": \"x\" },\n"           \
        "\"apps\": [ { \"app\": \"web\",\n" members " } ] }"

static void reports_need_a_store_that_takes_them(void **state)
{
        _cleanup_(config_freep) Config *c =
                load_good(*state, "{\"store\":\"https://cdn.test/s\",\"report\":true,"
                                  "\"apps\":[{\"app\":\"web\",\"channel\":\"prod\"}]}");

        assert_false(c->report);
}

static void defaults(void **state)
{
        _cleanup_(config_freep) Config *c =
                load_good(*state, "{\"store\":\"file:///s\",\"instance\":\"i-1\","
                                  "\"apps\":[{\"app\":\"web\",\"channel\":\"prod\"}]}");

        assert_string_equal(c->store, "file:///s");
        assert_string_equal(c->instance, "i-1");
        assert_int_equal(c->n_tags, 0);
        assert_int_equal(c->poll_interval_usec, 15000000);
        assert_int_equal(c->jitter_percent, 20);
        assert_int_equal(c->bandwidth_bytes, 0);
        assert_int_equal(c->halt_wait_usec, 600000000);
        assert_true(c->report);
        assert_string_equal(c->trust_path, "/etc/slipway/trust/root.json");
        assert_int_equal(c->n_apps, 1);
        assert_string_equal(c->apps[0].app, "web");
        assert_string_equal(c->apps[0].channel, "prod");
        assert_string_equal(c->apps[0].root, "/srv/web");
        assert_string_equal(c->apps[0].manifest_path, "web/channels/prod/manifest.json");
        assert_int_equal(c->apps[0].n_units, 2);
        assert_string_equal(c->apps[0].units[0], "web.service");
        assert_string_equal(c->apps[0].units[1], "web@*.service");
        assert_int_equal(c->apps[0].n_hook_users, 1);
        assert_string_equal(c->apps[0].hook_users[0], "web");
        assert_int_equal(c->apps[0].keep, 5);
        assert_int_equal(c->apps[0].update_lock_usec, UINT64_C(3600) * 1000000);
        assert_int_equal(c->apps[0].budget_bytes, 0);
        assert_int_equal(c->apps[0].reserve_bytes, ROOM_RESERVE_DEFAULT);
        assert_false(c->apps[0].activate_by_hand);
        assert_false(c->apps[0].provenance.required);
        assert_true(config_allows_builder(&c->apps[0], "urn:x"));
        assert_true(config_allows_repository(&c->apps[0], NULL));
        assert_false(c->ssm.enabled);
        assert_int_equal(c->ssm.channel, SSM_CHANNEL_AUTO);
        for (OrderAction a = 0; a < _ORDER_ACTION_MAX; a++)
                assert_true(c->ssm.allowed[a]);
        assert_false(c->ready_when_deployed);
        assert_int_equal(c->ready_limit_usec, 300000000);
}

static void instance_is_the_hosts_name(void **state)
{
        char name[HOST_NAME_MAX + 1] = {}, path[PATH_MAX];
        _cleanup_free_ char *err = NULL;
        Config *c = NULL;

        write_in(*state, "agent.json",
                 "{\"store\":\"file:///s\",\"apps\":[{\"app\":\"web\",\"channel\":\"prod\"}]}");
        assert_int_equal(gethostname(name, sizeof(name) - 1), 0);
        snprintf(path, sizeof(path), "%s/agent.json", (char *) *state);
        if (name_is_valid(name)) {
                assert_int_equal(config_load(path, &c, &err), 0);
                assert_string_equal(c->instance, name);
                config_free(c);
        } else {
                assert_int_equal(config_load(path, &c, &err), -ENODATA);
                assert_non_null(strstr(err, "set \"instance\""));
        }
}

static void everything(void **state)
{
        _cleanup_(config_freep) Config *c = load_good(
                *state,
                "{\"store\":\"s3://b/{region}\",\"instance\":\"i-1\",\"region\":\"eu-central-1\","
                "\"zone\":\"eu-central-1a\",\"tags\":{\"Stage\":\"prod\",\"Own Key\":\"x\"},"
                "\"poll\":{\"interval\":\"2min\",\"jitter\":\"0%\",\"halt_wait\":\"0s\"},\"report\":false,"
                "\"fetch\":{\"bandwidth\":\"64K\"},"
                "\"ready\":\"deployed\",\"ready_limit\":\"1h\","
                "\"ssm\":{\"enabled\":true,\"channel\":\"ssmmessages\",\"allow\":[\"status\",\"poll\"]},"
                "\"trust\":\"/opt/root.json\",\"apps\":[{\"app\":\"web\","
                "\"channel\":\"{tag:Stage}-{zone}\",\"root\":\"/opt/{app}/{channel}/{tag:Own Key}\","
                "\"manifest\":\"{region}/{app}/{instance-id}.json\","
                "\"units\":[\"{app}-{tag:Stage}*.service\",\"x\\\\x2d?.timer\"],\"unit_files\":[\"{app}-{tag:Stage}@*.service\"],\"keep\":100,\"update_lock\":\"0s\",\"disk\":{\"budget\":\"2G\",\"reserve\":\"0\"},\"activate\":\"manual\"},"
                "{\"app\":\"api\",\"channel\":\"c\",\"units\":[],\"hook_users\":[],"
                "\"provenance\":{\"builders\":[\"https://ci/{app}-{tag:Stage}/*\",\"urn:x\"],"
                "\"repositories\":[\"github.com/acme/*\"]}},"
                "{\"app\":\"db\",\"channel\":\"c\",\"hook_users\":[\"{app}-{tag:Stage}\",\"root\"]}]}");

        assert_string_equal(c->store, "s3://b/{region}");
        assert_int_equal(c->n_tags, 2);
        assert_string_equal(c->tags[1].key, "Own Key");
        assert_int_equal(c->poll_interval_usec, 120000000);
        assert_int_equal(c->jitter_percent, 0);
        assert_int_equal(c->halt_wait_usec, 0);
        assert_int_equal(c->bandwidth_bytes, 65536);
        assert_false(c->report);
        assert_true(c->ready_when_deployed);
        assert_int_equal(c->ready_limit_usec, UINT64_C(3600000000));
        assert_true(c->ssm.enabled);
        assert_int_equal(c->ssm.channel, SSM_CHANNEL_MGS);
        for (OrderAction a = 0; a < _ORDER_ACTION_MAX; a++)
                assert_int_equal(c->ssm.allowed[a], a == ORDER_POLL || a == ORDER_STATUS);
        assert_string_equal(c->trust_path, "/opt/root.json");
        assert_string_equal(c->apps[0].channel, "prod-eu-central-1a");
        assert_string_equal(c->apps[0].root, "/opt/web/prod-eu-central-1a/x");
        assert_string_equal(c->apps[0].manifest_path, "eu-central-1/web/i-1.json");
        assert_int_equal(c->apps[0].keep, 100);
        assert_int_equal(c->apps[0].update_lock_usec, 0);
        assert_int_equal(c->apps[0].budget_bytes, UINT64_C(2) << 30);
        assert_int_equal(c->apps[0].reserve_bytes, 0);
        assert_true(c->apps[0].activate_by_hand);

        assert_true(config_allows_unit(&c->apps[0], "web-prod.service"));
        assert_true(config_allows_unit(&c->apps[0], "web-prod@1.service"));
        assert_true(config_allows_unit(&c->apps[0], "x\\x2d1.timer"));
        assert_false(config_allows_unit(&c->apps[0], "web.service"));
        assert_false(config_allows_unit(&c->apps[0], "web-prod.socket"));
        assert_false(config_allows_unit(&c->apps[0], "sshd.service"));
        assert_true(config_allows_unit_file(&c->apps[0], "web-prod@.service"));
        assert_false(config_allows_unit_file(&c->apps[0], "web-prod.service"));
        assert_false(c->apps[0].provenance.required);
        assert_true(c->apps[1].provenance.required);
        assert_true(config_allows_builder(&c->apps[1], "https://ci/api-prod/a/b@c"));
        assert_true(config_allows_builder(&c->apps[1], "urn:x"));
        assert_false(config_allows_builder(&c->apps[1], "https://ci/api/a"));
        assert_false(config_allows_builder(&c->apps[1], "https://evil/https://ci/api-prod/a"));
        assert_true(config_allows_repository(&c->apps[1], "github.com/acme/web"));
        assert_false(config_allows_repository(&c->apps[1], "github.com/acme"));
        assert_false(config_allows_repository(&c->apps[1], NULL));
        assert_int_equal(c->apps[1].n_units, 0);
        assert_int_equal(c->apps[1].n_unit_files, 0);
        assert_null(config_command_user(&c->apps[1], &(Command){}));
        assert_string_equal(config_command_user(&c->apps[2], &(Command){}),
                            c->apps[2].hook_users[0]);
        assert_string_equal(c->apps[2].hook_users[1], "root");
        assert_false(config_allows_unit(&c->apps[1], "api.service"));
}

static void drop_ins(void **state)
{
        char dir[PATH_MAX];
        _cleanup_(config_freep) Config *c = NULL;

        snprintf(dir, sizeof(dir), "%s/agent.d", (char *) *state);
        assert_int_equal(mkdir(dir, 0755), 0);
        write_in(dir, "20-b.json", "{\"tags\":{\"Stage\":\"test\"},\"store\":\"s3://later\"}");
        write_in(dir, "10-a.json",
                 "{\"store\":\"s3://earlier\",\"poll\":{\"jitter\":\"7%\"},"
                 "\"apps\":[{\"app\":\"api\",\"channel\":\"{tag:Stage}\"}]}");
        write_in(dir, ".hidden.json", "broken");
        write_in(dir, "note.json~", "broken");
        write_in(dir, ".json", "broken");
        c = load_good(*state, "{\"store\":\"s3://b\",\"instance\":\"i-1\",\"tags\":{\"Stage\":"
                              "\"prod\",\"Role\":\"web\"},\"poll\":{\"interval\":\"1h\"},"
                              "\"apps\":[{\"app\":\"web\",\"channel\":\"{tag:Stage}\"}]}");
        assert_string_equal(c->store, "s3://later");
        assert_int_equal(c->n_tags, 1);
        assert_int_equal(c->poll_interval_usec, 15000000);
        assert_int_equal(c->jitter_percent, 7);
        assert_int_equal(c->n_apps, 2);
        assert_string_equal(c->apps[0].app, "web");
        assert_string_equal(c->apps[0].channel, "test");
        assert_string_equal(c->apps[1].app, "api");

        write_in(dir, "30-c.json",
                 "{\n\"apps\":[{\"app\":\"x\",\"channel\":\"c\"},\n"
                 "{\"app\":\"web\",\"channel\":\"c\",\"root\":\"/opt/x\"}]}");
        assert_load_fails(*state, -EBADMSG,
                          "agent.d/30-c.json:3: apps[1].app: web stands there twice");
        write_in(dir, "30-c.json",
                 "{\n\"apps\":[{\"app\":\"x\",\"channel\":\"c\",\n"
                 "\"root\":\"/srv/web/x\"}]}");
        assert_load_fails(*state, -EBADMSG,
                          "agent.d/30-c.json:3: apps[0].root: /srv/web/x is not apart from "
                          "/srv/web, the root of app web");
        write_in(dir, "30-c.json", "{\n\"apps\":[{\"app\":\"x\",\"channel\":\"{tag:Role}\"}]}");
        assert_load_fails(*state, -ENODATA,
                          "agent.d/30-c.json:2: apps[0].channel: {tag:Role} has no value");
        write_in(dir, "30-c.json", "{\n\n\"pol\":{}}");
        assert_load_fails(*state, -EBADMSG, "agent.d/30-c.json:3: pol: this version knows no such");
        write_in(dir, "30-c.json", "");
        assert_load_fails(*state, -EBADMSG, "agent.d/30-c.json: line 1, column 1: the text ends");
}

static void unreadable(void **state)
{
        char path[PATH_MAX];

        assert_load_fails(*state, -ENOENT, "agent.json: No such file or directory");
        snprintf(path, sizeof(path), "%s/agent.json", (char *) *state);
        assert_int_equal(mkdir(path, 0755), 0);
        assert_load_fails(*state, -EISDIR, "agent.json: Is a directory");
        assert_int_equal(rmdir(path), 0);
        write_in(*state, "agent.json", APP("\"channel\": \"c\""));
        write_in(*state, "agent.d", "not a directory");
        assert_load_fails(*state, -ENOTDIR, "agent.d: Not a directory");
}

static void broken(void **state)
{
        assert_refused(*state, "{\n\"store\": \"s3://b\",\n}", "agent.json: line 3, column 1: ");
        assert_refused(*state, "[]", "agent.json:1: the document: must be an object, is an array");
        assert_lacks(*state, "{\"apps\":[{\"app\":\"a\",\"channel\":\"c\"}]}",
                     "agent.json: store: missing; set it to");
        assert_lacks(*state, "{\"store\":\"s3://b\"}", "agent.json: apps: missing; name at least");
        assert_lacks(*state, "{\"store\":\"s3://b\",\"apps\":[]}", "agent.json: apps: missing");
        assert_refused(*state, "{\n\"store\": 1}",
                       "agent.json:2: store: must be a string, is a number");
        assert_refused(*state, "{\n\"store\": \"ftp://b\"}",
                       "agent.json:2: store: 'ftp://b' is not the URL of a store");
        assert_refused(*state, "{\n\"stroe\": \"x\"}",
                       "agent.json:2: stroe: this version knows no");
        assert_refused(*state, "{\"store\":\"s3://a\",\n\"store\":\"s3://b\"}",
                       "agent.json:2: store: stands there twice");
        assert_refused(*state, "{\"instance\":\"a b\"}",
                       "agent.json:1: instance: \"a b\" is not a name");
        assert_refused(*state, "{\"poll\":\n{\"interval\":\"999ms\"}}",
                       "agent.json:2: poll.interval: must be 1s to 24h");
        assert_refused(*state, "{\"poll\":{\"interval\":\"25h\"}}",
                       "agent.json:1: poll.interval: must");
        assert_refused(*state, "{\"poll\":{\"interval\":15}}",
                       "agent.json:1: poll.interval: must be a");
        assert_refused(*state, "{\"poll\":{\"halt_wait\":\"25h\"}}",
                       "agent.json:1: poll.halt_wait: must be");
        assert_refused(
                *state, "{\"fetch\":{\n\"bandwidth\":\"63K\"}}",
                "agent.json:2: fetch.bandwidth: must be a size like \"512M\", \"64K\" or more");
        assert_refused(*state, "{\"fetch\":{\"bandwidth\":0}}",
                       "agent.json:1: fetch.bandwidth: must be a size like");
        assert_refused(*state, "{\"fetch\":{\"bandwidth\":\"50MB/s\"}}",
                       "agent.json:1: fetch.bandwidth: must be a size like");
        assert_refused(*state, "{\"poll\":{\"jitter\":\"101%\"}}",
                       "agent.json:1: poll.jitter: must be");
        assert_refused(*state, "{\"poll\":{\"jitter\":\"%\"}}",
                       "agent.json:1: poll.jitter: must be");
        assert_refused(*state, "{\"poll\":{\"jitter\":\"20\"}}",
                       "agent.json:1: poll.jitter: must be");
        assert_refused(*state, "{\"poll\":{\"jitter\":\"4294967296%\"}}",
                       "agent.json:1: poll.jitter: must");
        assert_refused(*state, "{\"poll\":{\"jitter\":20}}", "agent.json:1: poll.jitter: must be");
        assert_refused(*state, "{\"report\":\"yes\"}",
                       "agent.json:1: report: must be true or false");
        assert_refused(*state, "{\"trust\":\"root.json\"}",
                       "agent.json:1: trust: must be an absolute");
        assert_refused(*state, "{\"trust\":\"/a/../b\"}",
                       "agent.json:1: trust: must be an absolute");
        assert_refused(*state, "{\"tags\":{\"a\":1}}", "agent.json:1: tags.a: must be a string");
        assert_refused(*state, "{\"tags\":{\"a b\":\"\",\n\"a b\":\"\"}}",
                       "agent.json:2: tags[\"a b\"]: stands there twice");
        assert_refused(*state, "{\"tags\":{\"\":\"x\"}}",
                       "agent.json:1: tags[\"\"]: a tag's key has");
        assert_refused(*state, "{\"ready\":true}",
                       "agent.json:1: ready: must be \"started\" or \"deployed\"");
        assert_refused(*state, "{\"ready_limit\":\"0s\"}", "agent.json:1: ready_limit: must be 1s");
        assert_refused(*state, "{\"ready_limit\":\"2h\"}", "agent.json:1: ready_limit: must be 1s");
        assert_refused(*state, "{\"apps\":{}}", "agent.json:1: apps: must be an array");
}

static void broken_ssm(void **state)
{
        assert_refused(*state, "{\"ssm\":true}", "agent.json:1: ssm: must be an object");
        assert_refused(*state, "{\"ssm\":{\"enabled\":1}}",
                       "agent.json:1: ssm.enabled: must be true or false");
        assert_refused(*state, "{\"ssm\":{\"shell\":true}}",
                       "agent.json:1: ssm.shell: this version knows no");
        assert_refused(*state, "{\"ssm\":{\"channel\":\"mds\"}}",
                       "agent.json:1: ssm.channel: must be \"auto\", \"ec2messages\" or");
        assert_refused(*state, "{\"ssm\":{\"channel\":0}}", "agent.json:1: ssm.channel: must be");
        assert_refused(*state, "{\"ssm\":{\"allow\":\"poll\"}}",
                       "agent.json:1: ssm.allow: must be an array");
        assert_refused(*state, "{\"ssm\":{\"allow\":[\"poll\",\n\"shell\"]}}",
                       "agent.json:2: ssm.allow[1]: must be \"poll\", ");
        assert_refused(*state, "{\"ssm\":{\"allow\":[1]}}", "agent.json:1: ssm.allow[0]: must be");
        assert_refused(*state, "{\"ssm\":{\"allow\":[\"poll\",\n\"poll\"]}}",
                       "agent.json:2: ssm.allow[1]: poll stands there twice");
}

/* As each member of a drop-in, it replaces the one before as a whole. */
static void ssm_of_a_drop_in(void **state)
{
        char dir[PATH_MAX];
        _cleanup_(config_freep) Config *c = NULL;

        snprintf(dir, sizeof(dir), "%s/agent.d", (char *) *state);
        assert_int_equal(mkdir(dir, 0755), 0);
        write_in(dir, "10-a.json", "{\"ssm\":{\"enabled\":true,\"allow\":[]}}");
        write_in(dir, "20-b.json", "{\"ssm\":{\"enabled\":true,\"channel\":\"ec2messages\"}}");
        c = load_good(*state, "{\"store\":\"s3://b\",\"instance\":\"i-1\","
                              "\"apps\":[{\"app\":\"web\",\"channel\":\"c\"}]}");
        assert_true(c->ssm.enabled);
        assert_int_equal(c->ssm.channel, SSM_CHANNEL_MDS);
        assert_true(c->ssm.allowed[ORDER_ROLLBACK]);
}

static void broken_apps(void **state)
{
        assert_refused(*state, "{\"apps\":[\n{\"channel\":\"c\"}]}",
                       "agent.json:2: apps[0].app: missing");
        assert_refused(*state, APP("\"keep\": 2"), "agent.json:4: apps[0].channel: missing");
        assert_refused(*state, APP("\"channel\": \"c\",\n\"keep\": 1"),
                       "agent.json:6: apps[0].keep: must be 2 to 100");
        assert_refused(*state, APP("\"channel\": \"c\",\n\"disk\": { \"budget\": \"1K\" }"),
                       "agent.json:6: apps[0].disk.budget: must be a size like");
        assert_refused(*state, APP("\"channel\": \"c\",\n\"disk\": { \"reserve\": 5 }"),
                       "agent.json:6: apps[0].disk.reserve: must be a size like");
        assert_refused(*state, APP("\"channel\": \"c\",\n\"update_lock\": \"25h\""),
                       "agent.json:6: apps[0].update_lock: must be at most 24h");
        assert_refused(*state, APP("\"channel\": \"c\",\n\"keep\": 101"),
                       "agent.json:6: apps[0].keep");
        assert_refused(*state, APP("\"channel\": \"c\",\n\"activate\": true"),
                       "agent.json:6: apps[0].activate: must be \"auto\" or \"manual\"");
        assert_refused(*state, APP("\"channel\": \"c\", \"kep\": 5"),
                       "agent.json:5: apps[0].kep: this");
        assert_refused(*state, APP("\"channel\": \"a b\""),
                       "agent.json:5: apps[0].channel: \"a b\" is not");
        assert_refused(*state, APP("\"channel\": \"c\", \"root\": \"srv/web\""),
                       "agent.json:5: apps[0].root: \"srv/web\" is not an absolute path");
        static const char *const roots[] = { "/", "/srv/", "/srv//x", "/srv/../etc", "/srv/./x" };
        for (size_t i = 0; i < ELEMENTSOF(roots); i++) {
                char text[512];
                snprintf(text, sizeof(text), APP("\"channel\": \"c\", \"root\": \"%s\""), roots[i]);
                assert_refused(*state, text, "agent.json:5: apps[0].root: ");
        }
        assert_refused(*state, APP("\"channel\": \"c\", \"manifest\": \"/x\""),
                       "agent.json:5: apps[0].manifest: \"/x\" is not a path in a store");
        assert_refused(*state, APP("\"channel\": \"c\", \"manifest\": \"a/../x\""),
                       "agent.json:5: apps[0].manifest: ");
        assert_refused(*state, APP("\"channel\": \"c\",\n\"units\": [\"a.service\", \"a b\"]"),
                       "agent.json:6: apps[0].units: \"a b\" is not a pattern");
        assert_refused(*state, APP("\"channel\": \"c\", \"units\": [\"a/b\"]"),
                       "agent.json:5: apps[0].units: \"a/b\" is not a pattern");
        assert_refused(*state, APP("\"channel\": \"c\", \"units\": [\"\"]"),
                       "agent.json:5: apps[0].units[0]: must not be empty");
        assert_refused(*state, APP("\"channel\": \"c\", \"unit_files\": [\"../a.service\"]"),
                       "agent.json:5: apps[0].unit_files: \"../a.service\" is not a pattern");
        assert_refused(*state, APP("\"channel\": \"c\", \"provenance\": {\"builders\": []}"),
                       "agent.json:5: apps[0].provenance.builders: must hold at least one pattern");
        assert_refused(*state, APP("\"channel\": \"c\", \"provenance\": {\"builder\": [\"x\"]}"),
                       "agent.json:5: apps[0].provenance.builder: ");
        assert_refused(*state,
                       APP("\"channel\": \"c\", \"provenance\": {\"repositories\": [\"{nope}\"]}"),
                       "agent.json:5: apps[0].provenance: ");
        assert_refused(*state, APP("\"channel\": \"c\", \"units\": \"web.service\""),
                       "agent.json:5: apps[0].units: must be an array");
}

static void placeholders_refused(void **state)
{
        assert_lacks(*state, APP("\"channel\": \"{tag:Missing}\""),
                     "agent.json:5: apps[0].channel: {tag:Missing} has no value: there is no such "
                     "tag here; set it in \"tags\"");
        assert_lacks(*state, APP("\"channel\": \"{region}\""),
                     "agent.json:5: apps[0].channel: {region} has no value: set \"region\"");
        assert_lacks(*state, APP("\"channel\": \"{zone}\""),
                     "agent.json:5: apps[0].channel: {zone} has no value: set \"zone\"");
        assert_refused(*state, APP("\"channel\": \"{channel}\""),
                       "agent.json:5: apps[0].channel: {channel} is not known here");
        assert_refused(*state, APP("\"channel\": \"{Region}\""),
                       "agent.json:5: apps[0].channel: {Region} is not known");
        assert_refused(*state, APP("\"channel\": \"{}\""),
                       "agent.json:5: apps[0].channel: {} is not");
        assert_refused(*state, APP("\"channel\": \"a{app\""),
                       "agent.json:5: apps[0].channel: \"{\" without");
        assert_refused(*state, APP("\"channel\": \"a{{app}}\""),
                       "agent.json:5: apps[0].channel: \"{\" without");
        assert_refused(*state, APP("\"channel\": \"a}\""),
                       "agent.json:5: apps[0].channel: \"}\" without");
}

static Instance *instance_with(const char *const *tags)
{
        Instance *i = calloc(1, sizeof(Instance));

        assert_non_null(i);
        i->id = strdup("i-9");
        i->region = strdup("eu-1");
        i->zone = strdup("eu-1a");
        i->account = strdup("1111");
        i->tags_from = strdup(INSTANCE_TAGS_METADATA);
        for (; *tags; tags += 2)
                assert_int_equal(instance_add_tag(i, tags[0], tags[1]), 0);
        return i;
}

#define TAGS(...) ((const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

static int resolve(const char *dir, const char *text, Instance *i, Config **ret, char **reterr)
{
        _cleanup_(config_source_freep) ConfigSource *s = NULL;
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%s/agent.json", dir);
        (void) unlink(path);
        if (text)
                write_in(dir, "agent.json", text);
        assert_int_equal(config_read(path, true, &s, NULL), 0);
        int r = config_resolve(s, i, ret, reterr);
        instance_free(i);
        return r;
}

static void nothing_but_tags(void **state)
{
        _cleanup_(config_freep) Config *c = NULL;

        assert_int_equal(resolve(*state, NULL,
                                 instance_with(TAGS("slipway:store", "s3://b", "slipway:app", "web",
                                                    "slipway:channel", "prod")),
                                 &c, NULL),
                         0);
        assert_string_equal(c->store, "s3://b");
        assert_string_equal(c->instance, "i-9");
        assert_string_equal(c->instance_from, CONFIG_FROM_METADATA);
        assert_string_equal(c->tags_from, INSTANCE_TAGS_METADATA);
        assert_string_equal(c->region, "eu-1");
        assert_int_equal(c->n_apps, 1);
        assert_string_equal(c->apps[0].root, "/srv/web");
        assert_string_equal(c->apps[0].manifest_path, "web/channels/prod/manifest.json");
        assert_string_equal(c->apps[0].units[0], "web.service");
        assert_int_equal(c->apps[0].keep, 5);
        assert_int_equal(c->metadata_interval_usec, 60000000);
}

/* What the files say counts before what the instance says, one by one. */
static void files_come_first(void **state)
{
        _cleanup_(config_freep) Config *c = NULL;

        assert_int_equal(
                resolve(*state,
                        "{\"store\":\"s3://mine\",\"zone\":\"z-1\",\"metadata\":{\"interval\":\"5s\"},"
                        "\"apps\":[{\"app\":\"api\",\"channel\":\"{tag:Stage}-{zone}-{region}\","
                        "\"root\":\"/srv/{instance-id}\"}]}",
                        instance_with(TAGS("slipway:store", "s3://b", "slipway:app", "web",
                                           "slipway:channel", "prod", "Stage", "x")),
                        &c, NULL),
                0);
        assert_string_equal(c->store, "s3://mine");
        assert_int_equal(c->n_apps, 1);
        assert_string_equal(c->apps[0].channel, "x-z-1-eu-1");
        assert_string_equal(c->apps[0].root, "/srv/i-9");
        assert_int_equal(c->n_tags, 4);
        assert_int_equal(c->metadata_interval_usec, 5000000);
        c = config_free(c);

        /* "tags" stand for all tags, also when there are none. */
        assert_int_equal(resolve(*state,
                                 "{\"store\":\"s3://mine\",\"instance\":\"me\",\"tags\":{},"
                                 "\"apps\":[{\"app\":\"api\",\"channel\":\"c\"}]}",
                                 instance_with(TAGS("Stage", "x")), &c, NULL),
                         0);
        assert_string_equal(c->instance, "me");
        assert_string_equal(c->instance_from, CONFIG_FROM_FILES);
        assert_string_equal(c->tags_from, CONFIG_FROM_FILES);
        assert_int_equal(c->n_tags, 0);
}

static void tags_that_will_not_do(void **state)
{
        static const struct {
                const char *store, *app, *channel;
                int result;
                const char *words;
        } table[] = {
                {"ftp://x",      "web",  "prod", -EBADMSG, "tag slipway:store: 'ftp://x' is not"  },
                { "file:///srv", "web",  "prod", -EBADMSG, "s3:// or https:// store only"         },
                { "s3://b",      "../x", "prod", -EBADMSG, "tag slipway:app is \"../x\", which"   },
                { "s3://b",      "web",  "a b",  -EBADMSG, "tag slipway:channel is \"a b\", which"},
                { "s3://b",      "web",  "",     -EBADMSG, "tag slipway:channel is \"\", which"   },
                { NULL,          "web",  "prod", -ENODATA, "tag the EC2 instance slipway:store"   },
                { "s3://b",      NULL,   "prod", -ENODATA, "tag the EC2 instance slipway:app"     },
                { "s3://b",      "web",  NULL,   -ENODATA, "tag the EC2 instance slipway:channel" },
        };

        for (size_t k = 0; k < ELEMENTSOF(table); k++) {
                _cleanup_free_ char *err = NULL;
                Instance *i = instance_with(TAGS());
                Config *c = NULL;
                if (table[k].store)
                        assert_int_equal(instance_add_tag(i, "slipway:store", table[k].store), 0);
                if (table[k].app)
                        assert_int_equal(instance_add_tag(i, "slipway:app", table[k].app), 0);
                if (table[k].channel)
                        assert_int_equal(instance_add_tag(i, "slipway:channel", table[k].channel),
                                         0);
                int r = resolve(*state, NULL, i, &c, &err);
                if (r != table[k].result || !strstr(strempty(err), table[k].words))
                        fail_msg("row %zu: %d (%s)", k, r, strempty(err));
                assert_null(c);
        }
}

/* Where no tags are to be had, the message says why. */
static void tags_not_exposed(void **state)
{
        _cleanup_free_ char *err = NULL;
        Instance *i = instance_with(TAGS());
        Config *c = NULL;

        free(TAKE_PTR(i->tags_from));
        i->tags_error = strdup("the tags are hidden");
        assert_int_equal(resolve(*state, APP("\"channel\": \"c\""), i, &c, &err), 0);
        assert_string_equal(c->tags_from, CONFIG_FROM_FILES);
        c = config_free(c);
        i = instance_with(TAGS());
        free(TAKE_PTR(i->tags_from));
        i->tags_error = strdup("the tags are hidden");
        assert_int_equal(resolve(*state,
                                 "{\"store\":\"s3://b\",\"apps\":[{\"app\":\"a\",\"channel\":"
                                 "\"{tag:Stage}\"}]}",
                                 i, &c, &err),
                         -ENODATA);
        assert_non_null(strstr(err, "{tag:Stage} has no value"));
        assert_non_null(strstr(err, "; the tags are hidden"));
}

static void what_changed(void **state)
{
        static const char text[] = "{\"store\":\"s3://b\",\"apps\":[{\"app\":\"web\",\"channel\":"
                                   "\"{tag:Stage}\"}]}";
        _cleanup_(config_freep) Config *a = NULL, *b = NULL, *c = NULL, *d = NULL;

        assert_int_equal(resolve(*state, text, instance_with(TAGS("Stage", "x")), &a, NULL), 0);
        assert_int_equal(
                resolve(*state, text, instance_with(TAGS("Role", "r", "Stage", "x")), &b, NULL), 0);
        assert_int_equal(resolve(*state, text, instance_with(TAGS("Stage", "y")), &c, NULL), 0);
        assert_true(config_deploys_equal(a, b));
        assert_false(config_deploys_equal(a, c));
        assert_false(config_identity_equal(a, b));
        free(b->zone);
        b->zone = strdup("eu-1c");
        free(TAKE_PTR(a->account));
        a->instance_from = CONFIG_FROM_FILES;
        config_take_identity(a, b);
        assert_string_equal(a->instance_from, CONFIG_FROM_METADATA);
        assert_string_equal(a->region, "eu-1");
        assert_string_equal(a->zone, "eu-1c");
        assert_string_equal(a->account, "1111");
        assert_int_equal(a->n_tags, 2);
        assert_int_equal(b->n_tags, 0);
        assert_string_equal(a->tags[0].value, "r");
        assert_int_equal(
                resolve(*state, text, instance_with(TAGS("Role", "r", "Stage", "x")), &d, NULL), 0);
        assert_false(config_identity_equal(a, d));
        free(d->zone);
        d->zone = strdup("eu-1c");
        assert_true(config_identity_equal(a, d));
        a->tags_error = strdup("denied (status 403, request id 1); why");
        d->tags_error = strdup("denied (status 403, request id 22); why");
        assert_true(config_identity_equal(a, d));
        free(d->tags_error);
        d->tags_error = strdup("denied (status 400, request id 1); why");
        assert_false(config_identity_equal(a, d));
}

/* Whoever may set tags must not be able to lead a path elsewhere or to widen a pattern. */
static void tricks_refused(void **state)
{
        static const char *const members[] = { "root\": \"/srv/{tag:%s}\"",
                                               "manifest\": \"{tag:%s}/m\"",
                                               "units\": [\"{tag:%s}.service\"]" };
        static const char *const tags[] = { "Up", "Star", "Slash", "Empty" };

        for (size_t i = 0; i < ELEMENTSOF(members); i++)
                for (size_t k = 0; k < ELEMENTSOF(tags); k++) {
                        char text[512], member[128], error[128];
                        snprintf(member, sizeof(member), "%s", members[i]);
                        char *percent = strstr(member, "%s");
                        *percent = '\0';
                        snprintf(text, sizeof(text), APP("\"channel\": \"c\", \"%s%s%s"), member,
                                 tags[k], percent + 2);
                        snprintf(error, sizeof(error), "agent.json:5: apps[0].%.*s: {tag:%s} is \"",
                                 (int) strcspn(member, "\""), member, tags[k]);
                        assert_refused(*state, text, error);
                }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(nothing_but_tags),
                test_in_dir(files_come_first),
                test_in_dir(tags_that_will_not_do),
                test_in_dir(tags_not_exposed),
                test_in_dir(what_changed),
                test_in_dir(defaults),
                test_in_dir(instance_is_the_hosts_name),
                test_in_dir(reports_need_a_store_that_takes_them),
                test_in_dir(everything),
                test_in_dir(drop_ins),
                test_in_dir(unreadable),
                test_in_dir(broken),
                test_in_dir(broken_ssm),
                test_in_dir(ssm_of_a_drop_in),
                test_in_dir(broken_apps),
                test_in_dir(placeholders_refused),
                test_in_dir(tricks_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
