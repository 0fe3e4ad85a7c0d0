/* SPDX-License-Identifier: Apache-2.0 */
#include "admin.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <time.h>

#include "admin-bus.h"
#include "admin-output.h"
#include "admin-text.h"
#include "admin-verb.h"
#include "admin-view.h"
#include "admin-watch.h"
#include "build-config.h"
#include "err.h"
#include "json-member.h"
#include "json-read.h"
#include "log.h"
#include "manifest.h"
#include "name.h"
#include "offline.h"

static ViewContext view_context(void)
{
        return (ViewContext){ .now_sec = (uint64_t) time(NULL), .user = arg_user };
}

static int check_view(int r)
{
        if (r >= 0)
                return ADMIN_OK;
        log_error("cannot show this: %s", strerror(-r));
        return ADMIN_FAILED;
}

/* history and releases: a list in the state. */
static int show_list(const char *name, const char *list,
                     int (*view)(const cJSON *app, const ViewContext *c, FILE *f))
{
        _cleanup_known_ Known k = {};
        ViewContext context = view_context();
        const cJSON *app;
        int r = known_get(&k);

        if (r != ADMIN_OK)
                return r;
        app = known_find_app(&k, name);
        if (!app)
                return ADMIN_NO_SUCH;
        if (arg_json)
                return admin_print_json(json_member(json_member(app, "state"), list));
        text_clean_json(k.agent);
        return check_view(view(app, &context, stdout));
}

static int verb_history(char **args)
{
        return show_list(args[0], "history", view_history);
}

static int verb_releases(char **args)
{
        return show_list(args[0], "releases", view_releases);
}

static int say_rolled_back(const char *app, char *release)
{
        if (arg_json)
                return admin_print_answer(app, "release", release);
        printf("%s: %s is live\n", app, text_clean(release));
        (void) fflush(stdout); /* before what goes to stderr; admin_main() looks for errors */
        log_info(
                "it stays until the channel makes a new deployment, or you say: slipway %sresume %s",
                arg_user ? "--user " : "", app);
        return ADMIN_OK;
}

static int verb_rollback(char **args)
{
        _cleanup_known_ Known k = {};
        _cleanup_free_ char *err = NULL, *live = NULL;
        const char *app = args[0], *release = args[1];
        _cleanup_(watch_freep) Watch *watch = NULL;
        AgentOptions options = admin_offline_options();
        Onlooker onlooker = {};
        char by[ADMIN_BY_SIZE_MAX];
        const cJSON *found;
        int r;

        admin_who(by);
        r = known_ask(&k, &err);
        if (r >= 0) {
                found = known_find_app(&k, app);
                if (!found)
                        return ADMIN_NO_SUCH;
                r = admin_bus_rollback(k.bus, app, strempty(release), by,
                                       admin_change_timeout_usec(found), &live, &err);
        } else if (admin_go_offline(r, err)) {
                r = watch_new_offline(app, &watch, &onlooker);
                if (r >= 0)
                        r = offline_rollback(&options, app, release, by, onlooker, &live, &err);
        }
        if (r < 0) {
                log_error("cannot roll '%s' back: %s", app, err_text(r, err));
                return admin_exit_code(r);
        }
        return say_rolled_back(app, live);
}

static int verb_resume(char **args)
{
        _cleanup_known_ Known k = {};
        _cleanup_free_ char *err = NULL;
        AgentOptions options = admin_offline_options();
        int r;

        r = known_ask(&k, &err);
        if (r >= 0) {
                if (!known_find_app(&k, args[0]))
                        return ADMIN_NO_SUCH;
                r = admin_bus_resume(k.bus, args[0], &err);
        } else if (admin_go_offline(r, err)) {
                r = offline_resume(&options, args[0], &err);
        }
        if (r < 0) {
                log_error("cannot resume '%s': %s", args[0], err_text(r, err));
                return admin_exit_code(r);
        }
        if (arg_json)
                return admin_print_answer(args[0], NULL, NULL);
        printf("%s: the channel decides again\n", args[0]);
        return ADMIN_OK;
}

static const struct Verb {
        const char *name;
        int n_args_min, n_args_max;
        int (*run)(char **args); /* ends with NULL; returns an exit code */
} verbs[] = {
        {"status",    0, 1, verb_status  },
        { "history",  1, 1, verb_history },
        { "releases", 1, 1, verb_releases},
        { "poll",     0, 1, verb_poll    },
        { "check",    0, 0, verb_check   },
        { "report",   0, 0, verb_report  },
        { "metrics",  0, 0, verb_metrics },
        { "due",      1, 1, verb_due     },
        { "plan",     1, 1, verb_plan    },
        { "stage",    1, 1, verb_stage   },
        { "activate", 1, 1, verb_activate},
        { "deploy",   1, 1, verb_deploy  },
        { "confirm",  1, 1, verb_confirm },
        { "rollback", 1, 2, verb_rollback},
        { "verify",   1, 2, verb_verify  },
        { "hold",     1, 1, verb_hold    },
        { "resume",   1, 1, verb_resume  },
};

static void print_help(void)
{
        puts("Usage: slipway VERB [APP] [OPTION...]: looks after what Slipway deploys here\n"
             "\n"
             "  status [APP]            what is live, and what is to be done\n"
             "  history APP             what happened here\n"
             "  releases APP            what is installed here\n"
             "  poll [APP]              ask the store now\n"
             "  check                   what slipwayd needs here, and what to mend\n"
             "  report                  all that support needs of this host, without secrets\n"
             "  metrics                 what a monitoring system wants to know (Prometheus)\n"
             "  due APP                 is a deployment to come? exit status 0: yes, 7: no\n"
             "  plan APP                what would happen now, and why not\n"
             "  stage APP               bring the channel's deployment here, not live\n"
             "  activate APP            make live what is staged\n"
             "  deploy APP              deploy a release from files\n"
             "  confirm APP             say that the new release is good, where one must\n"
             "  rollback APP [RELEASE]  go back: to the release before, or to this one\n"
             "  verify APP [RELEASE]    is it on disk as signed? exit status 0: yes, 8: no\n"
             "  hold APP                deploy nothing, until then or until it is resumed\n"
             "  resume APP              let the channel decide again, after hold or rollback\n"
             "  exec ROOT PROGRAM [ARGUMENT...]\n"
             "                          for units: run a program of the live release\n"
             "\n"
             "  --json           write JSON\n"
             "  --user           ask the slipwayd of this user, not the system's\n"
             "  --config FILE    where slipwayd's configuration is, for when it is down\n"
             "  --file FILE      of deploy: the artifact\n"
             "  --index FILE     of deploy: its index; else the file named index beside it\n"
             "  --manifest FILE  of deploy: the signed manifest, as it lies in the store\n"
             "  --until TIME     of hold: 2026-11-22T15:00:00Z, or a time from now: 30min, 2h\n"
             "  --reason TEXT    of hold: why, for the others\n"
             "  --output FILE    of report and metrics: where to write, instead of stdout\n"
             "  --wait           of poll and deploy: until what is deployed held\n"
             "  --watch          of status: go on, and show what changes\n"
             "  --help           show this\n"
             "  --version        show the version; all else is in slipway(1)");
}

/* Returns an exit code when there is nothing more to do, -1 to go on. */
static int parse_options(int argc, char **argv)
{
        enum {
                OPT_JSON = 256,
                OPT_USER,
                OPT_CONFIG,
                OPT_VERSION,
                OPT_FILE,
                OPT_INDEX,
                OPT_MANIFEST,
                OPT_WAIT,
                OPT_WATCH,
                OPT_OUTPUT,
                OPT_UNTIL,
                OPT_REASON
        };
        static const struct option options[] = {
                {"json",             no_argument, NULL, OPT_JSON },
                { "user",              no_argument, NULL, OPT_USER },
                { "config",                 required_argument, NULL, OPT_CONFIG },
                { "help",no_argument, NULL, 'h' },
                { "version",          no_argument, NULL, OPT_VERSION },
                { "file",          required_argument, NULL, OPT_FILE },
                { "index",              required_argument, NULL, OPT_INDEX },
                { "manifest",                 required_argument, NULL, OPT_MANIFEST },
                { "watch",              no_argument, NULL, OPT_WATCH },
                { "wait",               no_argument, NULL, OPT_WAIT },
                { "output",         required_argument, NULL, OPT_OUTPUT },
                { "until",              required_argument, NULL, OPT_UNTIL },
                { "reason",                 required_argument, NULL, OPT_REASON },
                {         },
        };
        int c;

        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
                switch (c) {
                case OPT_JSON:
                        arg_json = true;
                        break;
                case OPT_USER:
                        arg_user = true;
                        break;
                case OPT_CONFIG:
                        arg_config = optarg;
                        break;
                case OPT_FILE:
                        arg_file = optarg;
                        break;
                case OPT_INDEX:
                        arg_index = optarg;
                        break;
                case OPT_MANIFEST:
                        arg_manifest = optarg;
                        break;
                case OPT_WAIT:
                        arg_wait = true;
                        break;
                case OPT_WATCH:
                        arg_watch = true;
                        break;
                case OPT_OUTPUT:
                        arg_output = optarg;
                        break;
                case OPT_UNTIL:
                        arg_until = optarg;
                        break;
                case OPT_REASON:
                        arg_reason = optarg;
                        break;
                case OPT_VERSION:
                        puts("slipway " SLIPWAY_VERSION);
                        return ADMIN_OK;
                case 'h':
                        print_help();
                        return ADMIN_OK;
                default:
                        return ADMIN_USAGE;
                }
        }
        return -1;
}

static bool options_fit(const struct Verb *verb)
{
        if ((arg_until || arg_reason) && verb->run != verb_hold) {
                log_error("--until and --reason are for hold. See: slipway --help");
                return false;
        }
        if (arg_watch && verb->run != verb_status) {
                log_error("--watch is for status. See: slipway --help");
                return false;
        }
        if (arg_wait && verb->run != verb_poll && verb->run != verb_deploy) {
                log_error("--wait is for poll and deploy. See: slipway --help");
                return false;
        }
        if (arg_output && verb->run != verb_report && verb->run != verb_metrics) {
                log_error("--output is for report and metrics. See: slipway --help");
                return false;
        }
        if (arg_json && (verb->run == verb_report || verb->run == verb_metrics)) {
                log_error("%s has no --json. See: slipway --help", verb->name);
                return false;
        }
        return true;
}

static int run_verb(int n_args, char **args)
{
        const struct Verb *verb = NULL;

        if (n_args < 1) {
                log_error("what is to be done? See: slipway --help");
                return ADMIN_USAGE;
        }
        for (size_t i = 0; i < ELEMENTSOF(verbs); i++)
                if (streq(args[0], verbs[i].name))
                        verb = &verbs[i];
        if (!verb) {
                log_error("'%s' is nothing that slipway does. See: slipway --help", args[0]);
                return ADMIN_USAGE;
        }
        if (n_args - 1 < verb->n_args_min || n_args - 1 > verb->n_args_max) {
                log_error("'%s' takes %s. See: slipway --help", verb->name,
                          n_args - 1 < verb->n_args_min ? "the name of an application"
                                                        : "fewer words");
                return ADMIN_USAGE;
        }
        for (int i = 1; i < n_args; i++) {
                if (!name_is_valid(args[i])) {
                        log_error("'%s' is no name of an application or release", args[i]);
                        return ADMIN_USAGE;
                }
        }
        if (!options_fit(verb))
                return ADMIN_USAGE;
        return verb->run(args + 1);
}

int admin_main(int argc, char **argv)
{
        int code;

        log_open("slipway");
        /* What follows is the program's: its options are not ours. */
        if (argc > 1 && streq(argv[1], "exec"))
                return verb_exec(argv + 2);
        code = parse_options(argc, argv);
        if (code < 0)
                code = run_verb(argc - optind, argv + optind);
        if (fflush(stdout) != 0 || ferror(stdout)) {
                log_error("cannot write the result: %s", strerror(errno));
                return ADMIN_FAILED;
        }
        return code;
}
