/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>

#include <systemd/sd-daemon.h>

#include "agent.h"
#include "build-config.h"
#include "err.h"
#include "journal.h"
#include "log.h"
#include "secret.h"
#include "slipwayd.h"

static AgentOptions arg_options = {};

static void help(void)
{
        printf("slipwayd [OPTIONS...]\n\n"
               "Deploys what the channels of this instance say: polls signed manifests,\n"
               "verifies, unpacks, switches, restarts units, and takes back what does not run.\n\n"
               "      --once         one round, then exit with its result:\n"
               "                     0 nothing to do or deployed, 3 a deployment failed,\n"
               "                     4 the store can't be reached or has nothing,\n"
               "                     5 a manifest was refused, 1 anything else\n"
               "      --stage        the same, but nothing goes live: for an image, whose\n"
               "                     instances then fetch only what is newer\n"
               "      --user         without root: the user's units, files below XDG directories\n"
               "      --config FILE  configuration instead of /etc/slipway/agent.json\n"
               "  -h, --help         this text\n"
               "      --version      the version\n\n"
               "See slipwayd(8), slipway(1), slipway-agent.json(5).\n");
}

/* 1: go on; 0: done; negative: wrong usage. */
static int parse_options(int argc, char *argv[])
{
        enum { ARG_ONCE = 0x100, ARG_STAGE, ARG_USER, ARG_CONFIG, ARG_VERSION };
        static const struct option options[] = {
                {"once",       no_argument, NULL, ARG_ONCE },
                { "stage",        no_argument, NULL, ARG_STAGE },
                { "user",           no_argument, NULL, ARG_USER },
                { "config",required_argument, NULL, ARG_CONFIG },
                { "help",   no_argument, NULL, 'h' },
                { "version",      no_argument, NULL, ARG_VERSION },
                {          }
        };
        int c;

        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0)
                switch (c) {
                case ARG_ONCE:
                        arg_options.once = true;
                        break;
                case ARG_STAGE:
                        arg_options.once = arg_options.stage = true;
                        break;
                case ARG_USER:
                        arg_options.user = true;
                        break;
                case ARG_CONFIG:
                        arg_options.config = optarg;
                        break;
                case ARG_VERSION:
                        printf("slipwayd " SLIPWAY_VERSION "\n");
                        return 0;
                case 'h':
                        help();
                        return 0;
                default:
                        return -EINVAL;
                }
        if (optind < argc) {
                log_error("unexpected argument %s; see slipwayd --help", argv[optind]);
                return -EINVAL;
        }
        return 1;
}

/* The journal has the reason, and so has `systemctl status`, which shows no lines of the journal
 * while systemd waits to start the service again. */
static int refuse_to_start(int error, const char *err)
{
        journal_event(LOG_ERR, JOURNAL_NO_START, "%s", err_text(error, err));
        (void) sd_notifyf(0, "STATUS=Cannot start: %s\nERRNO=%d", err_text(error, err), -error);
        return EXIT_FAILURE;
}

int slipwayd_main(int argc, char *argv[])
{
        _cleanup_(agent_freep) Agent *agent = NULL;
        _cleanup_free_ char *err = NULL;
        int r;

        log_open("slipwayd");
        r = parse_options(argc, argv);
        if (r <= 0)
                return r < 0 ? 2 : EXIT_SUCCESS;
        /* A child that is gone is an error of send(), not our end. */
        if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
                return EXIT_FAILURE;
        /* The store's credentials are in the environment, for slipway-fetch. */
        r = secret_process(&err);
        if (r >= 0)
                r = agent_new(&arg_options, &agent, &err);
        if (r < 0)
                return refuse_to_start(r, err);
        r = agent_run(agent);
        return r < 0 ? EXIT_FAILURE : r;
}
