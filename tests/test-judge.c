/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "dsse.h"
#include "judge.h"

#define NOW    UINT64_C(1795356000)         /* 2026-11-22T14:00:00Z, a Sunday */
#define MONDAY (NOW + (24 - 14 + 9) * 3600) /* 2026-11-23T09:00:00Z */

static Key *key, *other_key;
static Trust *trust;
static char *unit_patterns[] = { (char *) "web*.service" };
static char *unit_file_patterns[] = { (char *) "web-*.service" };
static char *hook_users[] = { (char *) "web", (char *) "deploy" };
static AppConfig app = { .app = (char *) "web",
                         .channel = (char *) "prod",
                         .units = unit_patterns,
                         .n_units = 1,
                         .unit_files = unit_file_patterns,
                         .n_unit_files = 1,
                         .hook_users = hook_users,
                         .n_hook_users = 2 };

static int setup(void **state)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size;

        (void) state;
        if (key_generate(KEY_ED25519, &key) < 0 || key_generate(KEY_ECDSA_P256, &other_key) < 0 ||
            trust_format_first(&key, 1, 1, &key, 1, 1, NOW + 1000000, NULL, 0, &text, &size, NULL) <
                    0 ||
            envelope_parse(text, size, TRUST_PAYLOAD_TYPE, &e, NULL) < 0)
                return -1;
        return trust_parse(e->payload, e->payload_size, &trust, NULL);
}

static int teardown(void **state)
{
        (void) state;
        key_free(key);
        key_free(other_key);
        trust_free(trust);
        return 0;
}

#define OBJECT \
        "\"size\":5,\"sha256\":\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"}"
#define MANIFEST(app, channel, serial, expires, rest)                                                    \
        "{\"schema\":\"slipway/manifest/1\",\"app\":\"" app "\",\"channel\":\"" channel                  \
        "\",\"serial\":" serial                                                                          \
        ",\"deployment\":2,\"published\":\"2026-11-22T13:00:00Z\",\"expires\":\"" expires "\","          \
        "\"release\":{\"id\":\"r2\",\"artifact\":{\"path\":\"web/releases/r2/artifact.tar.zst\"," OBJECT \
        ",\"index\":{\"path\":\"web/releases/r2/index\"," OBJECT "}" rest "}"
#define MONDAYS ",\"rollout\":{\"window\":[\"Mon 09:00-16:00\"]}"
#define GOOD    MANIFEST("web", "prod", "57", "2026-12-22T14:00:00Z", "")

static int pack(const char *payload, size_t size, const Key *signer)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_free_ uint8_t *packed = NULL;
        size_t packed_size;
        int fd;

        assert_return_code(envelope_new(payload, size, &e), 0);
        if (signer)
                assert_return_code(envelope_sign(e, MANIFEST_PAYLOAD_TYPE, signer, NULL), 0);
        assert_return_code(envelope_pack(e, &packed, &packed_size), 0);
        fd = memfd_sealed("t", packed, packed_size);
        assert_return_code(fd, 0);
        return fd;
}

static int judge(const char *payload, const Key *signer, Manifest **ret, char **reterr)
{
        _cleanup_close_ int fd = pack(payload, strlen(payload), signer);
        Sha256 digest;

        return judge_envelope(fd, trust, &app, ret, &digest, reterr);
}

static void a_good_one_is_taken(void **state)
{
        _cleanup_(manifest_freep) Manifest *m = NULL;

        (void) state;
        assert_return_code(judge(GOOD, key, &m, NULL), 0);
        assert_int_equal(m->serial, 57);
}

static void the_rest_is_refused(void **state)
{
        static const struct {
                const char *payload;
                Key **signer;
                const char *reason;
        } cases[] = {
                {GOOD,             NULL,              "signature"                  },
                { GOOD,            &other_key,        "not in the trust root"      },
                { MANIFEST("api",  "prod",            "57",                          "2026-12-22T14:00:00Z", ""), &key, "app api" },
                { MANIFEST("web",             "test",                          "57",                                              "2026-12-22T14:00:00Z", ""), &key, "channel test" },
                { MANIFEST("web",  "prod", "57", "2026-12-22T14:00:00Z", ",\"extra\":1"), &key,
                 "extra" },
                { MANIFEST("web",             "prod",                          "57",                                         "2026-12-22T14:00:00Z", ",\"app\":\"web\""), &key,
                 "app" },
                { MANIFEST(
                          "web",  "prod",            "57",                                     "2026-12-22T14:00:00Z",
                 ",\"activate\":{\"units\":[{\"name\":\"ssh.service\",\"action\":\"restart\"}]}"),
                 &key, "ssh.service" },
                { MANIFEST("web", "prod",              "57",                                                            "2026-12-22T14:00:00Z",
                 ",\"activate\":{\"unit_files\":[\"units/web.service\"]}"),
                 &key, "unit file units/web.service" },
                { "not JSON",  &key, "line 1"},
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *err = NULL;
                Manifest *m = NULL;
                int r = judge(cases[i].payload, cases[i].signer ? *cases[i].signer : NULL, &m,
                              &err);

                assert_true(r == -EKEYREJECTED || r == -EBADMSG);
                assert_non_null(err);
                if (!strstr(err, cases[i].reason))
                        fail_msg("case %zu says: %s", i, err);
        }
}

#define PROVENANCE                                                                               \
        "{\"schema\":\"slipway/manifest/1\",\"app\":\"web\",\"channel\":\"prod\",\"serial\":57," \
        "\"deployment\":2,\"published\":\"2026-11-22T13:00:00Z\","                               \
        "\"expires\":\"2026-12-22T14:00:00Z\",\"release\":{\"id\":\"r2\","                       \
        "\"artifact\":{\"path\":\"a\"," OBJECT ",\"index\":{\"path\":\"i\"," OBJECT              \
        ",\"provenance\":{\"path\":\"p\"," OBJECT "}}"

/* What is live may have none: it is for vetting.h, when something is to be deployed. */
static void provenance_is_no_matter_yet(void **state)
{
        _cleanup_(manifest_freep) Manifest *without = NULL, *with = NULL, *unasked = NULL;

        (void) state;
        app.provenance.required = true;
        assert_return_code(judge(GOOD, key, &without, NULL), 0);
        assert_return_code(judge(PROVENANCE, key, &with, NULL), 0);
        assert_string_equal(with->provenance.path, "p");
        app.provenance.required = false;
        assert_return_code(judge(PROVENANCE, key, &unasked, NULL), 0);
}

#define HOOK(where, rest)                                     \
        MANIFEST("web", "prod", "57", "2026-12-22T14:00:00Z", \
                 ",\"activate\":{\"" where "\":{" rest "}}")

/* Every command runs as a user that the configuration lists. */
static void users_are_bounded(void **state)
{
        static const char *const good[] = {
                HOOK("hooks", "\"pre\":[{\"command\":[\"a\"]}]"),
                HOOK("hooks", "\"post\":[{\"command\":[\"a\"],\"user\":\"deploy\"}]"),
        };
        static const char *const bad[] = {
                HOOK("hooks",
                     "\"pre\":[{\"command\":[\"a\"]},{\"command\":[\"b\"],\"user\":\"root\"}]"),
                HOOK("hooks", "\"post\":[{\"command\":[\"b\"],\"user\":\"root\"}]"),
                HOOK("hooks", "\"revert\":[{\"command\":[\"b\"],\"user\":\"0\"}]"),
                HOOK("health", "\"commands\":[{\"command\":[\"b\"],\"user\":\"we\"}]"),
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                _cleanup_(manifest_freep) Manifest *m = NULL;

                assert_return_code(judge(good[i], key, &m, NULL), 0);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_free_ char *err = NULL;
                Manifest *m = NULL;

                assert_int_equal(judge(bad[i], key, &m, &err), -EKEYREJECTED);
                assert_non_null(strstr(err, "run b as"));
                assert_non_null(strstr(err, "\"hook_users\" of app web"));
        }
}

#define ACTIVATE(rest) \
        MANIFEST("web", "prod", "57", "2026-12-22T14:00:00Z", ",\"activate\":{" rest "}")
#define UNIT(name)      ACTIVATE("\"units\":[{\"name\":\"" name "\",\"action\":\"restart\"}]")
#define UNIT_FILE(path) ACTIVATE("\"unit_files\":[\"" path "\"]")
#define SHARED(rest)    ACTIVATE("\"links\":{\"shared\":[" rest "]}")
#define HEALTH(rest)    ACTIVATE("\"health\":{" rest "}")
#define PRE(rest)       HOOK("hooks", "\"pre\":[{\"command\":[\"a\"]," rest "}]")

/* What is signed asks for more than the host's configuration ("units", "unit_files"; "hook_users":
 * above), or than any host allows. What a manifest can't ask for at all has no member: the root,
 * how many releases stay, how much of the disk, for how long the application holds updates off. */
static void what_is_asked_for_is_bounded(void **state)
{
        static const char *const good[] = {
                UNIT("web.service"),
                UNIT("web@1.service"),
                UNIT_FILE("systemd/web-worker.service"),
                SHARED("{\"path\":\"var/up\",\"create\":\"directory\",\"mode\":\"0777\"}"),
                HEALTH("\"bake\":\"1h\",\"deadline\":\"24h\",\"confirm\":\"24h\""),
                PRE("\"timeout\":\"24h\",\"memory\":\"1M\",\"directory\":\"b/c\""),
        };
        /* what is asked for, what is said of it */
        static const char *const bad[] = {
                UNIT("ssh.service"),
                "unit ssh.service, which \"units\" of app web",
                UNIT("web.socket"),
                "unit web.socket, which \"units\" of app web",
                UNIT("WEB.service"),
                "unit WEB.service, which \"units\" of app web",
                UNIT("a-web.service"),
                "unit a-web.service, which \"units\" of app web",
                UNIT("web/../ssh.service"),
                "activate.units[0].name",
                UNIT_FILE("systemd/ssh.service"),
                "ssh.service, which \"unit_files\" of app web",
                UNIT_FILE("systemd/web.service"),
                "web.service, which \"unit_files\" of app web",
                UNIT_FILE("web-a.service/ssh.service"),
                "which \"unit_files\" of app web",
                UNIT_FILE("../web-a.service"),
                "activate.unit_files[0]",
                SHARED("\"../etc\""),
                "activate.links.shared[0]",
                SHARED("\"/etc\""),
                "activate.links.shared[0]",
                SHARED("{\"path\":\"a\",\"create\":\"file\",\"mode\":\"4755\"}"),
                "shared[0].mode",
                SHARED("{\"path\":\"a\",\"create\":\"file\",\"user\":\"a:b\"}"),
                "shared[0].user",
                SHARED("{\"path\":\"a\",\"create\":\"socket\"}"),
                "shared[0].create",
                HEALTH("\"deadline\":\"25h\""),
                "activate.health",
                HEALTH("\"bake\":\"121s\""),
                "activate.health",
                HEALTH("\"confirm\":\"25h\""),
                "activate.health.confirm",
                HEALTH("\"http\":[{\"url\":\"http://169.254.169.254/\"}]"),
                "health.http[0].url",
                HEALTH("\"http\":[{\"url\":\"http://localhost@acme.com/\"}]"),
                "health.http[0].url",
                HEALTH("\"http\":[{\"url\":\"file:///etc/shadow\"}]"),
                "health.http[0].url",
                HEALTH("\"http\":[{\"url\":\"http://[::1]/\",\"interval\":\"1ms\"}]"),
                "health.http[0].interval",
                HEALTH("\"http\":[{\"url\":\"http://[::1]/\",\"timeout\":\"6min\"}]"),
                "health.http[0].timeout",
                PRE("\"timeout\":\"25h\""),
                "activate.hooks.pre[0].timeout",
                PRE("\"memory\":\"1K\""),
                "activate.hooks.pre[0].memory",
                PRE("\"directory\":\"/etc\""),
                "activate.hooks.pre[0].directory",
                HOOK("hooks", "\"pre\":[{\"command\":[\"../a\"]}]"),
                "hooks.pre[0].command[0]",
                ACTIVATE("\"variables\":{\"SLIPWAY_RELEASE\":\"x\"}"),
                "activate.variables",
                ACTIVATE("\"variables\":{\"A=B\":\"x\"}"),
                "activate.variables",
                ACTIVATE("\"root\":\"/etc\""),
                "activate.root",
                MANIFEST("web", "prod", "9007199254740992", "2026-12-22T14:00:00Z", ""),
                "2^53",
                MANIFEST("web", "prod", "57", "2026-12-22T14:00:00Z", ",\"targets\":{\"any\":[]}"),
                "targets.any",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                _cleanup_(manifest_freep) Manifest *m = NULL;
                _cleanup_free_ char *err = NULL;

                if (judge(good[i], key, &m, &err) < 0)
                        fail_msg("case %zu says: %s", i, err);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i += 2) {
                _cleanup_free_ char *err = NULL;
                Manifest *m = NULL;
                int r = judge(bad[i], key, &m, &err);

                assert_true(r == -EKEYREJECTED || r == -EBADMSG);
                if (!strstr(err, bad[i + 1]))
                        fail_msg("%s: %s", bad[i], err);
        }
}

static void without_hook_users_there_are_no_hooks(void **state)
{
        _cleanup_free_ char *err = NULL;
        Manifest *m = NULL;

        (void) state;
        app.n_hook_users = 0;
        assert_int_equal(judge(HOOK("hooks", "\"pre\":[{\"command\":[\"a\"]}]"), key, &m, &err),
                         -EKEYREJECTED);
        app.n_hook_users = 2;
        assert_non_null(strstr(err, "the default user"));
}

static void what_was_changed_after_signing_is_refused(void **state)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_free_ uint8_t *packed = NULL;
        size_t size;
        Sha256 digest;
        Manifest *m = NULL;

        (void) state;
        assert_return_code(envelope_new(GOOD, strlen(GOOD), &e), 0);
        assert_return_code(envelope_sign(e, MANIFEST_PAYLOAD_TYPE, key, NULL), 0);
        assert_return_code(envelope_pack(e, &packed, &size), 0);
        for (size_t i = 0; i < size; i += 11) {
                packed[i] ^= 1;
                _cleanup_close_ int fd = memfd_sealed("t", packed, size);
                int r = judge_envelope(fd, trust, &app, &m, &digest, NULL);
                /* The key id is only a hint, and so is what follows a signature in its field. */
                if (r == 0)
                        m = manifest_free(m);
                else
                        assert_true(r == -EKEYREJECTED || r == -EBADMSG || r == -EFBIG);
                packed[i] ^= 1;
        }
}

static void oversized_and_odd_descriptors_are_refused(void **state)
{
        _cleanup_free_ char *big = malloc(MANIFEST_SIZE_MAX + 2), *err = NULL;
        _cleanup_close_ int fd = -EBADF;
        Sha256 digest;
        Manifest *m = NULL;
        int pipe_fds[2];

        (void) state;
        memset(big, ' ', MANIFEST_SIZE_MAX + 1);
        big[MANIFEST_SIZE_MAX + 1] = '\0';
        fd = pack(big, MANIFEST_SIZE_MAX + 1, key);
        assert_int_equal(judge_envelope(fd, trust, &app, &m, &digest, &err), -EFBIG);
        assert_int_equal(pipe(pipe_fds), 0);
        assert_int_equal(judge_envelope(pipe_fds[0], trust, &app, &m, &digest, &err), -EPROTO);
        fd_close(pipe_fds[0]);
        fd_close(pipe_fds[1]);
}

static Manifest *parsed(const char *payload, Sha256 *ret_digest)
{
        Manifest *m;

        assert_return_code(manifest_parse(payload, strlen(payload), &m, NULL), 0);
        assert_return_code(sha256(payload, strlen(payload), ret_digest), 0);
        return m;
}

static void old_manifests_do_not_come_back(void **state)
{
        Sha256 digest, other = { .bytes = { 1 } };
        _cleanup_(manifest_freep) Manifest *m = parsed(GOOD, &digest);
        _cleanup_(state_freep) State *s = NULL;
        _cleanup_free_ char *err = NULL;

        (void) state;
        assert_return_code(state_new("web", "prod", &s), 0);
        assert_return_code(judge_fresh(m, &digest, s, trust, NOW, NULL), 0);
        assert_return_code(state_set_floor(s, 57, 2, &digest), 0);
        assert_return_code(judge_fresh(m, &digest, s, trust, NOW, NULL), 0);
        assert_int_equal(judge_fresh(m, &other, s, trust, NOW, &err), -EKEYREJECTED);
        assert_non_null(strstr(err, "other content"));
        assert_return_code(state_set_floor(s, 58, 2, &digest), 0);
        assert_int_equal(judge_fresh(m, &digest, s, trust, NOW, &err), -EKEYREJECTED);
        assert_non_null(strstr(err, "old manifest"));
        /* Another channel has its own floor, and the first one keeps its. */
        assert_return_code(state_set(&s->channel, "test"), 0);
        assert_return_code(judge_fresh(m, &digest, s, trust, NOW, NULL), 0);
        assert_return_code(state_set(&s->channel, "prod"), 0);
        assert_int_equal(judge_fresh(m, &digest, s, trust, NOW, &err), -EKEYREJECTED);
        assert_return_code(state_set_floor(s, 57, 2, &digest), 0);
        assert_int_equal(judge_fresh(m, &digest, s, trust, m->expires_sec, &err), -EKEYREJECTED);
        assert_non_null(strstr(err, "expired"));
        m->expires_sec = NOW + 10; /* before the trust root */
        assert_return_code(judge_fresh(m, &digest, s, trust, NOW + 9, NULL), 0);
        assert_int_equal(judge_fresh(m, &digest, s, trust, NOW + 10, &err), -EKEYREJECTED);
        assert_non_null(strstr(err, "the manifest expired at 2026-11-22T14:00:10Z"));
        assert_non_null(strstr(err, "slipway-publish refresh"));
}

static void a_wrong_clock_is_told_apart(void **state)
{
        static const uint64_t century_sec = UINT64_C(100) * 365 * 86400;
        Sha256 digest;
        _cleanup_(manifest_freep) Manifest *m = parsed(GOOD, &digest);
        _cleanup_(state_freep) State *s = NULL;
        _cleanup_free_ char *past = NULL, *future = NULL, *floor = NULL;

        (void) state;
        assert_return_code(state_new("web", "prod", &s), 0);
        assert_return_code(judge_fresh(m, &digest, s, trust, m->published_sec, NULL), 0);
        assert_return_code(
                judge_fresh(m, &digest, s, trust, m->published_sec - JUDGE_AHEAD_MAX_SEC, NULL), 0);
        assert_int_equal(
                judge_fresh(m, &digest, s, trust, m->published_sec - JUDGE_AHEAD_MAX_SEC - 1, NULL),
                -EKEYREJECTED);
        assert_int_equal(judge_fresh(m, &digest, s, trust, 0, &past), -EKEYREJECTED);
        assert_non_null(strstr(past, "only 1970-01-01T00:00:00Z: check this host's clock"));
        assert_int_equal(judge_fresh(m, &digest, s, trust, NOW + century_sec, &future),
                         -EKEYREJECTED);
        assert_non_null(strstr(future, "check this host's clock"));
        /* What is no news is refused as such, whatever the clock says. */
        assert_return_code(state_set_floor(s, 58, 2, &digest), 0);
        assert_int_equal(judge_fresh(m, &digest, s, trust, 0, &floor), -EKEYREJECTED);
        assert_non_null(strstr(floor, "old manifest"));
        assert_int_equal(state_floor(s)->serial, 58);
}

static Verdict verdict(const Manifest *m, const State *s, const char *role, const char *says)
{
        Tag tag = { (char *) "Role", (char *) role };
        _cleanup_free_ char *text = NULL;
        JudgeContext c = { .state = s, .tags = &tag, .n_tags = 1, .now_sec = NOW };
        Verdict v = judge_wanted(m, &c, &text);

        assert_non_null(strstr(text, says));
        return v;
}

static void the_wanted_follows_state_and_tags(void **state)
{
        Sha256 digest;
        _cleanup_(manifest_freep) Manifest *m =
                parsed(MANIFEST("web", "prod", "57", "2026-12-22T14:00:00Z",
                                ",\"targets\":{\"any\":[{\"Role\":[\"web\"]}]}"),
                       &digest);
        _cleanup_(state_freep) State *s = NULL;

        (void) state;
        assert_return_code(state_new("web", "prod", &s), 0);
        assert_int_equal(verdict(m, s, "db", "not for this instance"), VERDICT_NOT_TARGET);
        assert_int_equal(verdict(m, s, "web", "to be deployed"), VERDICT_DEPLOY);

        assert_return_code(state_set(&s->current, "r2"), 0);
        assert_int_equal(verdict(m, s, "web", "live"), VERDICT_ADOPT);
        s->deployment = 2;
        assert_int_equal(verdict(m, s, "web", "live"), VERDICT_NOTHING);

        assert_return_code(state_set(&s->current, "r1"), 0);
        assert_return_code(state_set(&s->pinned, "r1"), 0);
        s->pinned_deployment = 2;
        assert_int_equal(verdict(m, s, "web", "by hand"), VERDICT_PINNED);
        s->pinned_deployment = 1;
        assert_int_equal(verdict(m, s, "web", "to be deployed"), VERDICT_DEPLOY);

        assert_return_code(state_set(&s->staged.release, "r2"), 0);
        s->staged.deployment = 1;
        assert_int_equal(verdict(m, s, "web", "to be deployed"), VERDICT_DEPLOY);
        s->staged.deployment = 2;
        assert_int_equal(verdict(m, s, "web", "slipway activate web"), VERDICT_STAGED);
        assert_int_equal(verdict(m, s, "db", "not for this instance"), VERDICT_NOT_TARGET);

        assert_return_code(state_set(&s->failed, "r2"), 0);
        s->failed_deployment = 2;
        assert_int_equal(verdict(m, s, "web", "not tried again"), VERDICT_FAILED);
}

/* Each thing that stands against it has its own verdict, and none hides another. */
static void obstacles_are_told_one_by_one(void **state)
{
        Sha256 digest;
        _cleanup_(manifest_freep) Manifest *m =
                parsed(MANIFEST("web", "prod", "57", "2026-12-22T14:00:00Z", MONDAYS), &digest);
        _cleanup_(state_freep) State *s = NULL;
        JudgeContext c = { .now_sec = NOW,
                           .retry_deployment = 2,
                           .retry_at_sec = NOW + 7,
                           .retry_reason = "no space",
                           .brake = BRAKE_ON,
                           .brake_text = "by ann" };
        static const struct {
                Verdict verdict;
                const char *says;
        } wanted[] = {
                {VERDICT_PINNED,  "by hand"                                                 },
                { VERDICT_HELD,   "the fair"                                                },
                { VERDICT_HALTED, "by ann"                                                  },
                { VERDICT_WINDOW,
                 "in its window, Mon 09:00-16:00 (UTC), which opens at 2026-11-23T09:00:00Z"},
                { VERDICT_RETRY,  "is tried again after 2026-11-22T14:00:07Z: no space"     },
                { VERDICT_DEPLOY, NULL                                                      },
        };

        (void) state;
        assert_return_code(state_new("web", "prod", &s), 0);
        c.state = s;
        assert_return_code(state_set(&s->current, "r1"), 0);
        assert_return_code(state_set(&s->pinned, "r1"), 0);
        s->pinned_deployment = 2;
        assert_return_code(hold_set(&s->hold, "root", "the fair", NOW - 60, NOW + 60), 0);
        for (size_t i = 0; i < ELEMENTSOF(wanted); i++) {
                _cleanup_free_ char *text = NULL;

                assert_int_equal(judge_obstacle(m, &c, i, &text), wanted[i].verdict);
                assert_true(wanted[i].says ? strstr(text, wanted[i].says) != NULL : !text);
        }
        state_unpin(s);
        c.retry_deployment = 1;
        c.now_sec = MONDAY;
        _cleanup_free_ char *text = NULL;
        /* An unknown one is waited for, but not for ever. */
        c.brake = BRAKE_UNKNOWN;
        c.brake_wait_sec = 5;
        assert_int_equal(judge_wanted(m, &c, &text), VERDICT_HALT_UNKNOWN);
        assert_non_null(strstr(text, "in 5 s"));
        c.brake_wait_sec = 0;
        assert_int_equal(judge_wanted(m, &c, &text), VERDICT_DEPLOY);
        c.activate_by_hand = true;
        assert_int_equal(judge_wanted(m, &c, &text), VERDICT_STAGE);
        assert_non_null(strstr(text, "to be staged"));
        for (Verdict v = 0; v < _VERDICT_MAX; v++)
                assert_non_null(verdict_to_string(v));
}

static Verdict wanted(const Manifest *m, const JudgeContext *c)
{
        _cleanup_free_ char *text = NULL;

        return judge_wanted(m, c, &text);
}

/* A window is for what changes by itself under a service that works. */
static void outside_its_window(void **state)
{
        Sha256 digest;
        _cleanup_(manifest_freep) Manifest *m =
                parsed(MANIFEST("web", "prod", "57", "2026-12-22T14:00:00Z", MONDAYS), &digest);
        _cleanup_(state_freep) State *s = NULL;
        JudgeContext c = { .now_sec = NOW };

        (void) state;
        assert_return_code(state_new("web", "prod", &s), 0);
        c.state = s;
        assert_int_equal(wanted(m, &c), VERDICT_DEPLOY);
        assert_return_code(state_set(&s->current, "r1"), 0);
        assert_int_equal(wanted(m, &c), VERDICT_WINDOW);
        c.now_sec = MONDAY - 1;
        assert_int_equal(wanted(m, &c), VERDICT_WINDOW);
        c.now_sec = MONDAY;
        assert_int_equal(wanted(m, &c), VERDICT_DEPLOY);

        c.now_sec = NOW;
        c.activate_by_hand = true;
        assert_int_equal(wanted(m, &c), VERDICT_STAGE);
        c.activate_by_hand = false;
        c.by_hand = true;
        c.retry_deployment = 2;
        assert_int_equal(wanted(m, &c), VERDICT_DEPLOY);
        c.by_hand = false;
        s->down = true;
        assert_int_equal(wanted(m, &c), VERDICT_RETRY);
        c.retry_deployment = 0;
        assert_int_equal(wanted(m, &c), VERDICT_DEPLOY);

        /* The same release again: nothing changes, or what was damaged is mended. */
        s->down = false;
        assert_return_code(state_set(&s->current, "r2"), 0);
        assert_int_equal(wanted(m, &c), VERDICT_ADOPT);
        c.live = LIVE_DAMAGED;
        assert_int_equal(wanted(m, &c), VERDICT_DEPLOY);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_good_one_is_taken),
                cmocka_unit_test(the_rest_is_refused),
                cmocka_unit_test(provenance_is_no_matter_yet),
                cmocka_unit_test(users_are_bounded),
                cmocka_unit_test(what_is_asked_for_is_bounded),
                cmocka_unit_test(without_hook_users_there_are_no_hooks),
                cmocka_unit_test(what_was_changed_after_signing_is_refused),
                cmocka_unit_test(oversized_and_odd_descriptors_are_refused),
                cmocka_unit_test(old_manifests_do_not_come_back),
                cmocka_unit_test(a_wrong_clock_is_told_apart),
                cmocka_unit_test(the_wanted_follows_state_and_tags),
                cmocka_unit_test(obstacles_are_told_one_by_one),
                cmocka_unit_test(outside_its_window),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
