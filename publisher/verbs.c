/* SPDX-License-Identifier: Apache-2.0 */
#include "verbs.h"

#include <errno.h>
#include <stdio.h>

#include "build-config.h"
#include "err.h"
#include "json-print.h"
#include "json-read.h"
#include "log.h"
#include "result.h"

typedef struct Verb {
        const char *name; /* one word or two */
        const char *summary;
        uint32_t required, optional;
        const char *operands;
        size_t n_min, n_max;
        int (*run)(const Arguments *a, cJSON *result, char **reterr);
        const char *details;
} Verb;

#define PLACE  (OPT(STORE) | OPT(APP) | OPT(CHANNEL))
#define ORDER  (OPT(EXPIRES) | OPT(WINDOW) | OPT(TRUST))
#define COMMON (OPT(JSON) | OPT(HELP))

static const Verb verbs[] = {
        {.name = "keygen",
         .summary = "make a signing key",
         .optional = OPT(TYPE) | COMMON,
         .operands = "NAME",
         .n_min = 1,
         .n_max = 1,
         .run = verb_keygen,
         .details = "Writes NAME.key (private, mode 0600) and NAME.pub. Never overwrites.\n"
                     "Keys made by 'openssl genpkey' serve as well, and keys of AWS KMS." },
        { .name = "trust init",
         .summary = "make the first trust root: whose manifests instances accept",
         .required = OPT(KEY) | OPT(OUTPUT),
         .optional = OPT(THRESHOLD) | OPT(ROOT_KEY) | OPT(ROOT_THRESHOLD) | OPT(EXPIRES) |
                      OPT(SIGN) | OPT(STORE) | COMMON,
         .operands = "",
         .run = verb_trust_init,
         .details = "Public keys do; that of a kms:KEY is fetched. The file goes to\n"
                     "/etc/slipway/trust/root.json on every instance. Expires after 3650d unless\n"
                     "said otherwise. With --store it is also written there as trust/1.json."                                                                      },
        { .name = "trust show",
         .summary = "print what a trust root says",
         .optional = OPT(AFTER) | OPT(STORE) | OPT(OUTPUT) | COMMON,
         .operands = "FILE",
         .n_min = 1,
         .n_max = 1,
         .run = verb_trust_show,
         .details = "With --store the last one of the chain that goes on from FILE there, which\n"
                     "--output writes to a file. With --after what is different from that one." },
        { .name = "trust edit",
         .summary = "make the next trust root of one, to be signed",
         .required = OPT(OUTPUT),
         .optional = OPT(ADD_KEY) | OPT(REMOVE_KEY) | OPT(THRESHOLD) | OPT(ADD_ROOT_KEY) |
                      OPT(REMOVE_ROOT_KEY) | OPT(ROOT_THRESHOLD) | OPT(EXPIRES) | COMMON,
         .operands = "FILE",
         .n_min = 1,
         .n_max = 1,
         .run = verb_trust_edit,
         .details = "FILE is the present one. What is not said stays as it is there." },
        { .name = "trust sign",
         .summary = "sign a trust root that is to follow another",
         .required = OPT(KEY) | OPT(AFTER),
         .optional = COMMON,
         .operands = "FILE",
         .n_min = 1,
         .n_max = 1,
         .run = verb_trust_sign,
         .details =
                  "Adds signatures to FILE, which others may have signed before, and prints what\n"
                  "is signed and who is still to sign. Needs no network." },
        { .name = "trust publish",
         .summary = "hand the next trust root to the instances",
         .required = OPT(STORE) | OPT(TRUST),
         .optional = COMMON,
         .operands = "FILE",
         .n_min = 1,
         .n_max = 1,
         .run = verb_trust_publish,
         .details = "Refuses what instances would refuse that have the trust root --trust, or a\n"
                     "later one. Overwrites nothing." },
        { .name = "import",
         .summary = "make slipway.json of another deployer's settings",
         .optional = OPT(UNIT) | OPT(OUTPUT) | COMMON,
         .operands = "FILE",
         .n_min = 1,
         .n_max = 1,
         .run = verb_import,
         .details =
                  "FILE is CodeDeploy's appspec.yml, a deploy spec of CodePipeline's EC2 action,\n"
                  "or that action itself, in YAML or JSON. Prints slipway.json. Each setting\n"
                  "that has no equivalent, or another meaning, is named on stderr, with what to\n"
                  "do. A --unit is restarted in the place of scripts that start and stop." },
        { .name = "release",
         .summary = "pack a tree, upload it, make it the channel's release",
         .required = PLACE | OPT(KEY),
         .optional = OPT(SPEC) | OPT(ID) | OPT(BUILDER) | OPT(LEVEL) | ORDER | COMMON,
         .operands = "PATH",
         .n_min = 1,
         .n_max = 1,
         .run = verb_release,
         .details = "PATH is a directory, or a .tar, .tar.gz, .tar.xz, .tar.zst or .zip.\n"
                     "Each --key signs. The manifest expires after 30d unless said otherwise.\n"
                     "Instances begin it at once; with --window, once or more, only then.\n"
                     "Repository, commit, ref, build, builder and person come from git and the\n"
                     "usual CI environments; SOURCE_DATE_EPOCH is honoured. Its provenance, a\n"
                     "SLSA statement, is written beside the release." },
        { .name = "promote",
         .summary = "publish one channel's release in another, without a rebuild",
         .required = OPT(STORE) | OPT(APP) | OPT(FROM) | OPT(TO) | OPT(KEY),
         .optional = OPT(SPEC) | ORDER | COMMON,
         .operands = "",
         .run = verb_promote,
         .details = "Targets and activation come along unless --spec is given; a window never\n"
                     "does. What is taken must be signed as --trust asks, or without it by one\n"
                     "of the keys."                                                                                  },
        { .name = "rollback",
         .summary = "publish the previous, or a named, release again",
         .required = PLACE | OPT(KEY),
         .optional = ORDER | COMMON,
         .operands = "[RELEASE]",
         .n_max = 1,
         .run = verb_rollback,
         .details = "A new deployment, with the targets and activation of that release's last\n"
                     "manifest in this channel, which must be signed as --trust asks, or\n"
                     "without it by one of the keys. It has no window unless --window is given:\n"
                     "nothing keeps an emergency waiting." },
        { .name = "refresh",
         .summary = "sign a channel's manifest anew before it expires",
         .required = PLACE | OPT(KEY),
         .optional = OPT(EXPIRES) | OPT(WITHIN) | OPT(TRUST) | COMMON,
         .operands = "",
         .run = verb_refresh,
         .details = "The same deployment: instances only note that it holds for longer. It must\n"
                     "be signed as --trust asks, or without it by one of the keys. It holds for\n"
                     "as long as it did before unless --expires is given. For a job that runs\n"
                     "each day: --within 10d does nothing until then."                                                                  },
        { .name = "halt",
         .summary = "keep a channel's instances from beginning a deployment",
         .required = PLACE,
         .optional = COMMON,
         .operands = "[REASON]",
         .n_max = 1,
         .run = verb_halt,
         .details = "Needs no key: it can only make instances do less. Writes halt.json beside\n"
                     "the manifest; every instance reads it before a deployment and says REASON\n"
                     "in its status. What has begun goes on; local rollbacks work." },
        { .name = "unhalt",
         .summary = "end a halt",
         .required = PLACE,
         .optional = COMMON,
         .operands = "[REASON]",
         .n_max = 1,
         .run = verb_unhalt,
         .details = "Instances go on at their next poll." },
        { .name = "verify",
         .summary = "check a channel as an instance would, or a whole store",
         .required = OPT(STORE) | OPT(TRUST),
         .optional = OPT(APP) | OPT(CHANNEL) | OPT(ALL) | COMMON,
         .operands = "",
         .run = verb_verify,
         .details =
                  "Reads the whole artifact from the store; needs no room on disk. It takes\n"
                  "--app and --channel, or --all: then everything is checked that lies in the\n"
                  "store, and a line tells each finding. \"failed\" does not hold, a \"look\" is\n"
                  "for somebody to judge. Give the first trust root: what is older than that\n"
                  "can't be told from a forgery."                                                                     },
        { .name = "log",
         .summary = "print a channel's history, newest first",
         .required = PLACE,
         .optional = OPT(NUMBER) | COMMON,
         .operands = "",
         .run = verb_log,
         .details = "Shows what the store says; 'verify' checks it."                       },
};

static void print_help(void)
{
        printf("Usage: slipway-publish VERB OPTIONS...\n\n"
               "Publishes releases for Slipway's agents to a store:\n");
        for (size_t i = 0; i < ELEMENTSOF(verbs); i++)
                printf("  %-13s %s\n", verbs[i].name, verbs[i].summary);
        printf("\nslipway-publish VERB --help tells its options; --version the version.\n"
               "Results go to stdout, all else to stderr. Exit status: 0 done, 1 failed,\n"
               "2 wrong usage, 3 another publisher was first, 4 verification failed.\n"
               "A key is a file, or kms:alias/NAME, kms:ID or kms:ARN: a key of AWS KMS.\n\n"
               "First steps:\n"
               "  slipway-publish keygen deploy\n"
               "  slipway-publish trust init --key deploy.pub -o root.json\n"
               "  slipway-publish release --store file:///srv/store --app web --channel prod \\\n"
               "      --key deploy.key ./build\n");
}

static void print_verb_help(const Verb *v)
{
        printf("Usage: slipway-publish %s OPTIONS... %s\n\n%c%s.\n%s\n\nNeeded:\n", v->name,
               v->operands, v->summary[0] - 'a' + 'A', v->summary + 1, v->details);
        if (v->required)
                arguments_print_options(v->required);
        if (v->n_min > 0)
                printf("  %s\n", v->operands);
        printf("\nOptions:\n");
        arguments_print_options(v->optional);
}

/* The verb that the command line begins with, and in *ret_n_words how many words name it. */
static const Verb *find_verb(int argc, char **argv, int *ret_n_words)
{
        for (size_t i = 0; i < ELEMENTSOF(verbs); i++) {
                const char *space = strchr(verbs[i].name, ' ');
                if (!space && streq(argv[0], verbs[i].name)) {
                        *ret_n_words = 1;
                        return &verbs[i];
                }
                if (space && argc > 1 && strlen(argv[0]) == (size_t) (space - verbs[i].name) &&
                    strncmp(argv[0], verbs[i].name, space - verbs[i].name) == 0 &&
                    streq(argv[1], space + 1)) {
                        *ret_n_words = 2;
                        return &verbs[i];
                }
        }
        return NULL;
}

static int wrong_usage(const char *verb, const char *err)
{
        log_error("%s", err);
        log_info("Try 'slipway-publish %s%s--help'.", strempty(verb), verb ? " " : "");
        return PUBLISH_USAGE;
}

static int exit_code(int r)
{
        if (r >= 0)
                return r;
        return r == -EKEYREJECTED ? PUBLISH_UNVERIFIED : PUBLISH_FAILED;
}

static int print_result(cJSON *result, int code, const char *err)
{
        _cleanup_free_ char *text = NULL;
        int r = 0;

        if (code != PUBLISH_OK) {
                r = result_add_string(result, "error", err);
                if (r >= 0)
                        r = result_add_uint(result, "exit", code);
        }
        if (r >= 0)
                text = json_print(result, true);
        if (!text) {
                log_error("Can't print the result: %s", strerror(ENOMEM));
                return PUBLISH_FAILED;
        }
        printf("%s\n", text);
        return code;
}

static int run_verb(const Verb *v, const Arguments *a)
{
        _cleanup_json_ cJSON *result = cJSON_CreateObject();
        _cleanup_free_ char *err = NULL;
        int r = result ? v->run(a, result, &err) : -ENOMEM;
        int code = exit_code(r);

        if (code != PUBLISH_OK)
                log_error("%s", err_text(r, err));
        if (a->json && result)
                code = print_result(result, code, err_text(r, err));
        return code;
}

static int run_line(int argc, char **argv)
{
        _cleanup_(arguments_done) Arguments a = {};
        _cleanup_free_ char *err = NULL;
        int n_words = 0;

        if (argc < 2)
                return wrong_usage(NULL, "A verb is missing");
        if (streq(argv[1], "--help") || streq(argv[1], "-h")) {
                print_help();
                return PUBLISH_OK;
        }
        if (streq(argv[1], "--version")) {
                printf("slipway-publish %s\n", SLIPWAY_VERSION);
                return PUBLISH_OK;
        }
        const Verb *v = find_verb(argc - 1, argv + 1, &n_words);
        if (!v) {
                (void) fail(&err, -EINVAL, "There is no verb '%s'", argv[1]);
                return wrong_usage(NULL, err_text(-ENOMEM, err));
        }
        argv[n_words] = (char *) v->name; /* whole, for messages */
        int r = arguments_parse(argc - n_words, argv + n_words, v->optional, v->required,
                                v->operands, v->n_min, v->n_max, &a, &err);
        if (r < 0)
                return wrong_usage(v->name, err_text(r, err));
        if (a.help) {
                print_verb_help(v);
                return PUBLISH_OK;
        }
        return run_verb(v, &a);
}

int verbs_run(int argc, char **argv)
{
        int code = run_line(argc, argv);

        if (fflush(stdout) == 0)
                return code;
        log_error("Can't write to stdout: %s", strerror(errno));
        return code == PUBLISH_OK ? PUBLISH_FAILED : code;
}
