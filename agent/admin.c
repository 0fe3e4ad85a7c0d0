/* SPDX-License-Identifier: Apache-2.0 */
#include "admin.h"

#include <errno.h>
#include <getopt.h>
#include <pwd.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <systemd/sd-bus.h>

#include "admin-bus.h"
#include "admin-files.h"
#include "admin-text.h"
#include "admin-view.h"
#include "agent.h"
#include "build-config.h"
#include "err.h"
#include "json-read.h"
#include "log.h"
#include "manifest.h"
#include "name.h"
#include "offline.h"
#include "paths.h"

/* What is added to a release's own limits of time before slipwayd counts as hung. */
#define ROLLBACK_MARGIN_USEC (UINT64_C(30) * 1000000)

#define BY_SIZE_MAX 64

static bool arg_json = false;
static bool arg_user = false;
static const char *arg_config = NULL;

/* What is known about this host, and where from. */
typedef struct Known {
        sd_bus *bus;   /* NULL: slipwayd could not be asked */
        cJSON *agent;  /* as in admin-view.h */
        int bus_error; /* why it could not: -ESRCH, -ETIMEDOUT, ... */
} Known;

static void known_done(Known *k)
{
        sd_bus_flush_close_unref(k->bus);
        cJSON_Delete(k->agent);
}
#define _cleanup_known_ _cleanup_(known_done)

static ViewContext view_context(void)
{
        return (ViewContext){ .now_sec = (uint64_t) time(NULL), .user = arg_user };
}

static int exit_code(int error)
{
        switch (error) {
        case -ENODEV:
        case -ENOENT:
                return ADMIN_NO_SUCH;
        case -ECANCELED: /* from the bus */
        case -EIO:       /* from offline.h */
                return ADMIN_NOT_HELD;
        case -EBUSY:
        case -EAGAIN:
                return ADMIN_BUSY;
        case -ESRCH:
                return ADMIN_NOT_RUNNING;
        default:
                return ADMIN_FAILED;
        }
}

static int ask_slipwayd(Known *k, char **reterr)
{
        _cleanup_free_ char *text = NULL;
        int r;

        r = admin_bus_open(arg_user, &k->bus, reterr);
        if (r < 0)
                return r;
        r = admin_bus_describe(k->bus, &text, reterr);
        if (r < 0)
                return r;
        r = json_parse(text, strlen(text), &k->agent, reterr);
        return r < 0 ? fail_prefix(reterr, r, "cannot read what slipwayd says") : 0;
}

/* Asks slipwayd, or reads its state files when it does not answer. Says so, and logs what fails.
 * Returns an exit code. */
static int know(Known *k)
{
        _cleanup_free_ char *err = NULL, *file_err = NULL;
        _cleanup_(paths_done) Paths paths = {};
        int r;

        k->bus_error = ask_slipwayd(k, &err);
        if (k->bus_error >= 0)
                return ADMIN_OK;
        k->bus = sd_bus_flush_close_unref(k->bus);
        r = paths_init(arg_user, &paths, &file_err);
        if (r >= 0)
                r = admin_files_describe(paths.state_dir, &k->agent, &file_err);
        if (r < 0) {
                log_error("%s; its state files can't be read either: %s",
                          err_text(k->bus_error, err), err_text(r, file_err));
                return ADMIN_FAILED;
        }
        log_warning("%s; this is from its state files. What happened to it: systemctl %sstatus "
                    "slipwayd",
                    err_text(k->bus_error, err), arg_user ? "--user " : "");
        return ADMIN_OK;
}

static const cJSON *member(const cJSON *object, const char *name)
{
        return cJSON_GetObjectItemCaseSensitive(object, name);
}

/* The application's object; NULL, with a message, when there is none. */
static const cJSON *find_app(const Known *k, const char *name)
{
        const cJSON *app = view_find_app(k->agent, name);

        if (!app)
                log_error("there is no application '%s' on this host; see: slipway status", name);
        return app;
}

static int print_json(const cJSON *tree)
{
        _cleanup_free_ char *text = NULL;
        int r = text_format_json(tree, &text);

        if (r < 0) {
                log_error("cannot write JSON: %s", strerror(-r));
                return ADMIN_FAILED;
        }
        fputs(text, stdout);
        return ADMIN_OK;
}

/* One object with an "app" and another member. */
static int print_answer(const char *app, const char *name, const char *value)
{
        _cleanup_json_ cJSON *o = cJSON_CreateObject();

        if (!o || !cJSON_AddStringToObject(o, "app", app) ||
            (name && !cJSON_AddStringToObject(o, name, value))) {
                log_error("cannot write JSON: %s", strerror(ENOMEM));
                return ADMIN_FAILED;
        }
        return print_json(o);
}

static int check_view(int r)
{
        if (r >= 0)
                return ADMIN_OK;
        log_error("cannot show this: %s", strerror(-r));
        return ADMIN_FAILED;
}

static int verb_status(char **args)
{
        _cleanup_known_ Known k = {};
        ViewContext context = view_context();
        const cJSON *app = NULL;
        int r = know(&k);

        if (r != ADMIN_OK)
                return r;
        if (args[0]) {
                app = find_app(&k, args[0]);
                if (!app)
                        return ADMIN_NO_SUCH;
        }
        if (arg_json)
                return print_json(app ? app : k.agent);
        text_clean_json(k.agent);
        if (app)
                return check_view(view_app(k.agent, app, &context, stdout));
        return check_view(view_overview(k.agent, &context, stdout));
}

/* history and releases: a list in the state. */
static int show_list(const char *name, const char *list,
                     int (*view)(const cJSON *app, const ViewContext *c, FILE *f))
{
        _cleanup_known_ Known k = {};
        ViewContext context = view_context();
        const cJSON *app;
        int r = know(&k);

        if (r != ADMIN_OK)
                return r;
        app = find_app(&k, name);
        if (!app)
                return ADMIN_NO_SUCH;
        if (arg_json)
                return print_json(member(member(app, "state"), list));
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

static int poll_app(sd_bus *bus, const char *app)
{
        _cleanup_free_ char *text = NULL, *err = NULL;
        int r = admin_bus_poll(bus, app, &text, &err);

        if (r < 0) {
                log_error("cannot poll for '%s': %s", app, err_text(r, err));
                return r == -ECANCELED || r == -EIO ? ADMIN_FAILED : exit_code(r);
        }
        if (arg_json)
                return print_answer(app, "text", text);
        printf("%s: %s\n", app, text_clean(text));
        return ADMIN_OK;
}

static int verb_poll(char **args)
{
        _cleanup_known_ Known k = {};
        _cleanup_free_ char *err = NULL;
        const cJSON *app;
        int r, code = ADMIN_OK;

        r = ask_slipwayd(&k, &err);
        if (r < 0) {
                log_error("cannot poll: %s", err_text(r, err));
                return r == -ETIMEDOUT ? ADMIN_NOT_RUNNING : exit_code(r);
        }
        if (args[0])
                return find_app(&k, args[0]) ? poll_app(k.bus, args[0]) : ADMIN_NO_SUCH;
        cJSON_ArrayForEach(app, member(k.agent, "apps"))
        {
                const char *name = cJSON_GetStringValue(member(member(app, "state"), "app"));

                r = name ? poll_app(k.bus, name) : ADMIN_FAILED;
                if (r != ADMIN_OK)
                        code = r;
        }
        return code;
}

/* Who asks: for the history. */
static void who_asks(char by[static BY_SIZE_MAX])
{
        const char *sudo = getuid() == 0 ? getenv("SUDO_USER") : NULL;
        const struct passwd *p = getpwuid(getuid());

        if (sudo && name_is_valid(sudo))
                (void) snprintf(by, BY_SIZE_MAX, "%s", sudo);
        else if (p && *p->pw_name)
                (void) snprintf(by, BY_SIZE_MAX, "%s", p->pw_name);
        else
                (void) snprintf(by, BY_SIZE_MAX, "uid %u", (unsigned) getuid());
        text_clean(by);
}

/* As long as the slowest of the installed releases may take to come up, and another to go back. */
static uint64_t rollback_timeout_usec(const cJSON *app)
{
        uint64_t longest_usec = DEADLINE_DEFAULT_USEC;
        const cJSON *release;

        cJSON_ArrayForEach(release, member(member(app, "state"), "releases"))
        {
                const cJSON *health = member(member(release, "activate"), "health");
                const char *text = cJSON_GetStringValue(member(health, "deadline"));
                uint64_t usec;

                if (text && duration_parse(text, &usec) >= 0)
                        longest_usec = MAX(longest_usec, usec);
        }
        return 2 * longest_usec + ROLLBACK_MARGIN_USEC;
}

static int say_rolled_back(const char *app, char *release)
{
        if (arg_json)
                return print_answer(app, "release", release);
        printf("%s: %s is live\n", app, text_clean(release));
        (void) fflush(stdout); /* before what goes to stderr; admin_main() looks for errors */
        log_info(
                "it stays until the channel makes a new deployment, or you say: slipway %sresume %s",
                arg_user ? "--user " : "", app);
        return ADMIN_OK;
}

/* Whether the work can be done without slipwayd; says that it is. A bus that refuses us is not
 * that: slipwayd may be at work. */
static bool go_offline(int error, const char *err)
{
        if (error != -ESRCH && error != -ETIMEDOUT)
                return false;
        log_warning("%s; doing it without it", err_text(error, err));
        return true;
}

static AgentOptions offline_options(void)
{
        return (AgentOptions){ .user = arg_user, .offline = true, .config = arg_config };
}

static int verb_rollback(char **args)
{
        _cleanup_known_ Known k = {};
        _cleanup_free_ char *err = NULL, *live = NULL;
        const char *app = args[0], *release = args[1];
        AgentOptions options = offline_options();
        char by[BY_SIZE_MAX];
        const cJSON *found;
        int r;

        who_asks(by);
        r = ask_slipwayd(&k, &err);
        if (r >= 0) {
                found = find_app(&k, app);
                if (!found)
                        return ADMIN_NO_SUCH;
                r = admin_bus_rollback(k.bus, app, strempty(release), by,
                                       rollback_timeout_usec(found), &live, &err);
        } else if (go_offline(r, err)) {
                r = offline_rollback(&options, app, release, by, &live, &err);
        }
        if (r < 0) {
                log_error("cannot roll '%s' back: %s", app, err_text(r, err));
                return exit_code(r);
        }
        return say_rolled_back(app, live);
}

static int verb_resume(char **args)
{
        _cleanup_known_ Known k = {};
        _cleanup_free_ char *err = NULL;
        AgentOptions options = offline_options();
        int r;

        r = ask_slipwayd(&k, &err);
        if (r >= 0) {
                if (!find_app(&k, args[0]))
                        return ADMIN_NO_SUCH;
                r = admin_bus_resume(k.bus, args[0], &err);
        } else if (go_offline(r, err)) {
                r = offline_resume(&options, args[0], &err);
        }
        if (r < 0) {
                log_error("cannot resume '%s': %s", args[0], err_text(r, err));
                return exit_code(r);
        }
        if (arg_json)
                return print_answer(args[0], NULL, NULL);
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
        { "rollback", 1, 2, verb_rollback},
        { "resume",   1, 1, verb_resume  },
};

static void print_help(void)
{
        puts("slipway: looks after what Slipway deploys on this host\n"
             "\n"
             "  slipway [OPTION...] status [APP]            what is live, and what is to be done\n"
             "  slipway [OPTION...] history APP             what happened here\n"
             "  slipway [OPTION...] releases APP            what is installed here\n"
             "  slipway [OPTION...] poll [APP]              ask the store now\n"
             "  slipway [OPTION...] rollback APP [RELEASE]  go back: to the release before, or to this one\n"
             "  slipway [OPTION...] resume APP              let the channel decide again after a rollback\n"
             "\n"
             "Options:\n"
             "  --json         write JSON\n"
             "  --user         ask the slipwayd of this user, not the system's\n"
             "  --config FILE  where slipwayd's configuration is, for when it does not run\n"
             "  --help         show this\n"
             "  --version      show the version\n"
             "\n"
             "See slipway(1).");
}

/* Returns an exit code when there is nothing more to do, -1 to go on. */
static int parse_options(int argc, char **argv)
{
        enum { OPT_JSON = 256, OPT_USER, OPT_CONFIG, OPT_VERSION };
        static const struct option options[] = {
                {"json",       no_argument, NULL, OPT_JSON },
                { "user",        no_argument, NULL, OPT_USER },
                { "config",           required_argument, NULL, OPT_CONFIG },
                { "help",no_argument, NULL, 'h' },
                { "version",    no_argument, NULL, OPT_VERSION },
                {       },
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
        return verb->run(args + 1);
}

int admin_main(int argc, char **argv)
{
        int code;

        log_open("slipway");
        code = parse_options(argc, argv);
        if (code < 0)
                code = run_verb(argc - optind, argv + optind);
        if (fflush(stdout) != 0 || ferror(stdout)) {
                log_error("cannot write the result: %s", strerror(errno));
                return ADMIN_FAILED;
        }
        return code;
}
