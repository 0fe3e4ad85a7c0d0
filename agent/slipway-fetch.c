/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "err.h"
#include "fetch.h"
#include "log.h"
#include "message.h"

static const char *arg_store = NULL;
static const char *arg_cache = NULL;

static int parse_options(int argc, char *argv[])
{
        static const struct option options[] = {
                {"store",            required_argument, NULL, 's' },
                { "cache",              required_argument, NULL, 'c' },
                {}
        };
        int c;

        while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (c) {
                case 's':
                        arg_store = optarg;
                        break;
                case 'c':
                        arg_cache = optarg;
                        break;
                default:
                        return -EINVAL;
                }
        return arg_store && arg_cache && optind == argc ? 0 : -EINVAL;
}

/* What a process that talks to the network can do without. */
static int confine(void)
{
        const struct rlimit no_core = { 0, 0 }, files = { 256, 256 };

        umask(0077);
        if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
            setrlimit(RLIMIT_CORE, &no_core) < 0 || setrlimit(RLIMIT_NOFILE, &files) < 0)
                return -errno;
        return signal(SIGPIPE, SIG_IGN) == SIG_ERR ? -errno : 0;
}

int main(int argc, char *argv[])
{
        _cleanup_(fetch_freep) Fetch *fetch = NULL;
        _cleanup_free_ char *err = NULL;
        int r;

        log_open("slipway-fetch");
        if (parse_options(argc, argv) < 0) {
                log_error("slipway-fetch is started by slipwayd, not by hand");
                return 2;
        }
        r = confine();
        if (r < 0) {
                log_error("Can't confine slipway-fetch: %s", strerror(-r));
                return EXIT_FAILURE;
        }
        /* Idle most of its life: memory goes back to the system at once. */
        (void) mallopt(M_TRIM_THRESHOLD, 64 * 1024);
        (void) mallopt(M_MMAP_THRESHOLD, 64 * 1024);
        r = fetch_new(arg_store, arg_cache, MESSAGE_FD, &fetch, &err);
        while (r == 0)
                r = fetch_step(fetch);
        if (r < 0)
                log_error("%s", err_text(r, err));
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
