/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "import.h"
#include "json-read.h"

static const char *web[] = { "web.service" };
static const Strings no_units = {}, one_unit = { web, 1 };

/* slipway.json, without blanks, that must come of it, and how many notes. */
static void imports(const char *text, const Strings *units, const char *expected, Import *ret)
{
        _cleanup_free_ char *err = NULL, *printed = NULL;
        _cleanup_json_ cJSON *spec = NULL;
        int r = import_parse(text, strlen(text), units, ret, &spec, &err);

        if (r < 0)
                print_error("%s\n", err);
        assert_int_equal(r, 0);
        printed = cJSON_PrintUnformatted(spec);
        assert_string_equal(printed, expected);
}

static void refused(const char *text, const char *reason)
{
        _cleanup_(import_done) Import m = {};
        _cleanup_json_ cJSON *spec = NULL;
        _cleanup_free_ char *err = NULL;

        assert_int_equal(import_parse(text, strlen(text), &no_units, &m, &spec, &err), -EBADMSG);
        assert_null(spec);
        assert_non_null(err);
        if (!strstr(err, reason))
                assert_string_equal(err, reason);
}

static const ImportNote *note(const Import *m, const char *setting)
{
        for (size_t i = 0; i < m->n_notes; i++)
                if (streq(m->notes[i].setting, setting))
                        return &m->notes[i];
        print_error("no note about %s\n", setting);
        fail_msg("missing");
        return NULL;
}

static void check_note(const Import *m, const char *setting, unsigned line, bool taken,
                       const char *part)
{
        const ImportNote *n = note(m, setting);

        assert_int_equal(n->line, line);
        assert_int_equal(n->taken, taken);
        assert_non_null(strstr(n->advice, part));
}

static const char hooks[] = "version: 0.0\n"
                            "os: linux\n"
                            "hooks:\n"
                            "  ValidateService:\n"
                            "    - location: scripts/check.sh\n"
                            "      timeout: 30\n"
                            "      runas: web\n"
                            "  AfterInstall:\n"
                            "    - location: ./scripts/migrate.sh\n"
                            "      timeout: \"300\"\n"
                            "      runas: web\n"
                            "  BeforeInstall:\n"
                            "    - location: /scripts/deps.sh\n"
                            "      runas: root\n"
                            "  ApplicationStop:\n"
                            "    - location: scripts/stop.sh\n"
                            "  ApplicationStart:\n"
                            "    - location: scripts/start.sh\n"
                            "      timeout: 60\n";

static void test_hooks(void **state _unused_)
{
        _cleanup_(import_done) Import m = {};

        imports(hooks, &no_units,
                "{\"activate\":{\"hooks\":{"
                "\"pre\":[{\"command\":[\"scripts/deps.sh\"],\"user\":\"root\",\"timeout\":\"1h\"},"
                "{\"command\":[\"scripts/migrate.sh\"],\"user\":\"web\",\"timeout\":\"5min\"}],"
                "\"post\":[{\"command\":[\"scripts/start.sh\"],\"timeout\":\"1min\"},"
                "{\"command\":[\"scripts/check.sh\"],\"user\":\"web\",\"timeout\":\"30s\"}]},"
                "\"health\":{\"bake\":\"0s\"}}}",
                &m);
        check_note(&m, "hooks.ApplicationStop", 15, false, "ExecStop=");
        check_note(&m, "hooks.BeforeInstall", 12, true, "hooks.pre");
        check_note(&m, "hooks.AfterInstall", 8, true, "hooks.pre");
        check_note(&m, "hooks.ValidateService", 4, true, "hooks.post");
        check_note(&m, "hooks.ApplicationStart", 17, true, "--unit");
        /* one each, and that start.sh ran as root; in the order of the lines */
        assert_int_equal(m.n_notes, 6);
        for (size_t i = 1; i < m.n_notes; i++)
                assert_true(m.notes[i - 1].line <= m.notes[i].line);
}

static void test_unit(void **state _unused_)
{
        _cleanup_(import_done) Import m = {};

        imports(hooks, &one_unit,
                "{\"activate\":{\"units\":[{\"name\":\"web.service\",\"action\":\"restart\"}],"
                "\"hooks\":{\"pre\":[{\"command\":[\"scripts/deps.sh\"],\"user\":\"root\","
                "\"timeout\":\"1h\"},"
                "{\"command\":[\"scripts/migrate.sh\"],\"user\":\"web\",\"timeout\":\"5min\"}],"
                "\"post\":[{\"command\":[\"scripts/check.sh\"],\"user\":\"web\","
                "\"timeout\":\"30s\"}]}}}",
                &m);
        check_note(&m, "hooks.ApplicationStart", 17, false, "the unit is restarted instead");
        check_note(&m, "hooks.ApplicationStop", 15, false, "ExecStop=");
}

static void test_files(void **state _unused_)
{
        _cleanup_(import_done) Import m = {};

        imports("version: 0.0\n"
                "os: linux\n"
                "files:\n"
                "  - source: /\n"
                "    destination: /var/www/web\n"
                "  - source: ./dist/\n"
                "    destination: /var/www/static\n"
                "    overwrite: true\n"
                "file_exists_behavior: RETAIN\n"
                "permissions:\n"
                "  - object: /var/www/web\n"
                "    pattern: \"**\"\n"
                "    except: [a, b]\n"
                "    owner: web\n"
                "    mode: 644\n"
                "    acls: [ \"u:mary:rw\" ]\n"
                "    context: { user: u, type: t, range: s0 }\n"
                "    type: [ file ]\n"
                "hooks:\n"
                "color: red\n",
                &no_units, "{}", &m);
        check_note(&m, "files[0]", 4, false, "let what used /var/www/web use /srv/APP/current (");
        check_note(&m, "files[1]", 6, false, "/var/www/static use /srv/APP/current/dist (");
        check_note(&m, "files[1].overwrite", 8, false, "no AppSpec file");
        check_note(&m, "file_exists_behavior", 9, false, "a directory of its own");
        check_note(&m, "permissions[0]", 11, false, "of /var/www/web goes to links.shared");
        check_note(&m, "color", 20, false, "no AppSpec file");
        assert_int_equal(m.n_notes, 6);
}

static void test_unknown(void **state _unused_)
{
        _cleanup_(import_done) Import m = {};

        imports("version: 0.0\n"
                "hooks:\n"
                "  AfterInstall:\n"
                "    - location: a\n"
                "      runas: web\n"
                "      sudo: true\n"
                "      retries: 3\n"
                "  BeforeBlockTraffic:\n"
                "    - location: b\n"
                "  Install:\n"
                "    - location: c\n"
                "  \"After\\e[31mAll\":\n"
                "    - location: d\n",
                &no_units,
                "{\"activate\":{\"hooks\":{\"pre\":[{\"command\":[\"a\"],\"user\":\"web\","
                "\"timeout\":\"1h\"}]}}}",
                &m);
        check_note(&m, "hooks.AfterInstall.retries", 7, false, "no AppSpec file");
        check_note(&m, "hooks.BeforeBlockTraffic", 8, false, "load balancers");
        check_note(&m, "hooks.Install", 10, false, "CodeDeploy runs no scripts there");
        check_note(&m, "hooks.After [31mAll", 12, false, "no AppSpec file");
        assert_int_equal(m.n_notes, 6);
        assert_non_null(strstr(m.notes[1].advice, "takes sudo"));
}

static void test_deploy_spec(void **state _unused_)
{
        _cleanup_(import_done) Import m = {};

        imports("version: 0.1\n"
                "files:\n"
                "  - source: /index.html\n"
                "    destination: /var/www/html/\n"
                "scripts:\n"
                "  BeforeDeploy:\n"
                "    - location: scripts/install_dependencies\n"
                "      timeout: 300\n"
                "      runas: myuser\n"
                "  AfterDeploy:\n"
                "    - location: scripts/start_server\n"
                "      timeout: 300\n"
                "      runas: myuser\n",
                &no_units,
                "{\"activate\":{\"hooks\":{\"pre\":[{\"command\":[\"scripts/install_dependencies\"],"
                "\"user\":\"myuser\",\"timeout\":\"5min\"}],"
                "\"post\":[{\"command\":[\"scripts/start_server\"],\"user\":\"myuser\","
                "\"timeout\":\"5min\"}]},\"health\":{\"bake\":\"0s\"}}}",
                &m);
        check_note(&m, "files[0]", 3, false, "/srv/APP/current/index.html");
        check_note(&m, "scripts.AfterDeploy", 10, true, "hooks.post");
        assert_int_equal(m.n_notes, 3);
}

static void test_action(void **state _unused_)
{
        static const char yaml[] = "name: DeployEC2\n"
                                   "actions:\n"
                                   "- name: EC2\n"
                                   "  configuration:\n"
                                   "    InstanceTagKey: Name\n"
                                   "    InstanceTagValue: my-instances\n"
                                   "    InstanceType: SSM_MANAGED_NODE\n"
                                   "    PreScript: /test/pre.sh\n"
                                   "    PostScript: test/script.sh\n"
                                   "    TargetDirectory: /home/ec2-user/deploy\n"
                                   "    MaxBatch: 50%\n"
                                   "    MaxError: 1\n"
                                   "    TargetGroupNameList: a,b\n"
                                   "    DeploySpec: deployspec.yaml\n"
                                   "    Color: red\n"
                                   "  region: us-east-1\n";
        _cleanup_(import_done) Import m = {};

        imports(yaml, &one_unit,
                "{\"targets\":{\"any\":[{\"Name\":[\"my-instances\"]}]},"
                "\"activate\":{\"units\":[{\"name\":\"web.service\",\"action\":\"restart\"}],"
                "\"hooks\":{\"pre\":[{\"command\":[\"test/pre.sh\"],\"timeout\":\"1h\"}],"
                "\"post\":[{\"command\":[\"test/script.sh\"],\"timeout\":\"1h\"}]}}}",
                &m);
        check_note(&m, "InstanceType", 7, false, "slipway-agent.json(5)");
        check_note(&m, "PreScript", 8, true, "hooks.pre");
        check_note(&m, "PostScript", 9, true, "hooks.post");
        check_note(&m, "TargetDirectory", 10, false, "/home/ec2-user/deploy");
        check_note(&m, "MaxBatch", 11, false, "promote");
        check_note(&m, "MaxError", 12, false, "promote");
        check_note(&m, "TargetGroupNameList", 13, false, "load balancers");
        check_note(&m, "DeploySpec", 14, false, "import deployspec.yaml as well");
        check_note(&m, "Color", 15, false, "does not know it");
        assert_int_equal(m.n_notes, 9);
}

static void test_action_in_json(void **state _unused_)
{
        _cleanup_(import_done) Import m = {}, any = {};

        imports("{ \"pipeline\": { \"version\": 3, \"stages\": [ { \"actions\": [\n"
                "{ \"configuration\": { \"InstanceTagKey\": \"Stage\", \"InstanceType\": \"EC2\",\n"
                "  \"InstanceTagValue\": \"prod\", \"MaxBatch\": null } } ] } ] } }",
                &no_units, "{\"targets\":{\"any\":[{\"Stage\":[\"prod\"]}]}}", &m);
        assert_int_equal(m.n_notes, 0);
        imports("InstanceTagKey: Stage\n", &no_units, "{}", &any);
        check_note(&any, "InstanceTagKey", 1, false, "InstanceTagValue");
}

static void test_refused(void **state _unused_)
{
        refused("os: linux\n", "line 1: neither an AppSpec file");
        refused("- a\n", "line 1: neither an AppSpec file");
        refused("version: 2\n", "line 1: neither version 0.0");
        refused("version: [0.0]\n", "line 1: version must be a text, is a list");
        refused("version: 0.0\nos: windows\n", "line 2: Slipway runs on linux alone");
        refused("version: 0.0\nresources:\n  - a: b\n", "line 2: resources: this AppSpec file is");
        refused("version: 0.0\nfiles: /\n", "line 2: files must be a list, is a text");
        refused("version: 0.0\nfiles:\n  - a\n", "line 3: this must be a map, is a text");
        refused("version: 0.0\nfiles:\n  - source: a\n", "line 3: destination is missing");
        refused("version: 0.0\nfiles:\n  - source: [a]\n    destination: b\n",
                "line 3: source must be a text, is a list");
        refused("version: 0.0\nfile_exists_behavior: []\n", "must be a text, is a list");
        refused("version: 0.0\npermissions:\n  - owner: a\n", "line 3: object is missing");
        refused("version: 0.0\nhooks: []\n", "line 2: hooks must be a map, is a list");
        refused("version: 0.0\nhooks:\n  AfterInstall: run.sh\n",
                "line 3: AfterInstall must be a list, is a text");
        refused("version: 0.0\nhooks:\n  AfterInstall:\n    - timeout: 3\n",
                "line 4: location is missing");
        refused("version: 0.0\nhooks:\n  AfterInstall:\n    - location: ../x\n",
                "line 4: \"../x\" is not a path in the bundle");
        refused("version: 0.0\nhooks:\n  AfterInstall:\n    - location: /\n",
                "line 4: \"\" is not a path in the bundle");
        refused("version: 0.0\nhooks:\n  AfterInstall:\n    - location: \"a\\nb\"\n",
                "line 4: \"a b\" is not a path in the bundle");
        for (size_t i = 0; i < 5; i++) {
                static const char *const timeouts[] = { "0", "-1", "5m", "86401",
                                                        "18446744073709551617" };
                _cleanup_free_ char *text = NULL;
                err_set(&text,
                        "version: 0.0\nhooks:\n  AfterInstall:\n    - location: a\n"
                        "      timeout: %s\n",
                        timeouts[i]);
                refused(text, "line 5: timeout must be a number of seconds from 1 to 86400");
        }
        refused("version: 0.0\nhooks:\n  AfterInstall:\n    - location: a\n      runas: a b\n",
                "no slipway.json can say this: activate.hooks.pre[0].user");
        refused("InstanceTagKey: {Ref: X}\n", "line 1: InstanceTagKey must be a text, is a map");
        refused("InstanceTagKey: a\nInstanceTagValue: [b]\n",
                "line 2: InstanceTagValue must be a text, is a list");
        refused("- InstanceTagKey: a\n- InstanceTagKey: b\n", "line 2: a second EC2 action");
        refused("InstanceTagKey: a\nPostScript: ../a\n", "line 2: \"../a\" is not a path");
}

static void test_too_many_scripts(void **state _unused_)
{
        _cleanup_free_ char *text = strdup("version: 0.0\nhooks:\n  AfterInstall:\n");

        for (int i = 0; i < 17; i++) {
                _cleanup_free_ char *before = TAKE_PTR(text);
                err_set(&text, "%s    - location: a%d\n", before, i);
        }
        refused(text, "activate.hooks.pre: has more than 16 elements");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_hooks),
                cmocka_unit_test(test_unit),
                cmocka_unit_test(test_files),
                cmocka_unit_test(test_unknown),
                cmocka_unit_test(test_deploy_spec),
                cmocka_unit_test(test_action),
                cmocka_unit_test(test_action_in_json),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_too_many_scripts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
