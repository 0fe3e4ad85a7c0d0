/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "build-config.h"
#include "err.h"
#include "fd.h"
#include "fetch.h"
#include "log.h"
#include "memory.h"
#include "message.h"
#include "priority.h"
#include "prober.h"
#include "sandbox.h"
#include "size-text.h"

static const char *arg_store = NULL;
static const char *arg_cache = NULL;
static const char *arg_state = NULL;
static uint64_t arg_bandwidth = 0;
static bool arg_probe = false;

static int parse_options(int argc, char *argv[])
{
        static const struct option options[] = {
                {"store",            required_argument, NULL, 's' },
                { "cache",              required_argument, NULL, 'c' },
                { "state",                 required_argument, NULL, 'd' },
                { "bandwidth",required_argument, NULL, 'b' },
                { "probe",               no_argument, NULL, 'p' },
                {             }
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
                case 'd':
                        arg_state = optarg;
                        break;
                case 'b':
                        if (size_text_parse(optarg, &arg_bandwidth) < 0)
                                return -EINVAL;
                        break;
                case 'p':
                        arg_probe = true;
                        break;
                default:
                        return -EINVAL;
                }
        return !arg_cache == arg_probe && (arg_cache || !arg_state) && optind == argc ? 0 : -EINVAL;
}

#define N_FDS_MAX 256

/* Newer architectures have the calls with directories alone; older headers lack what is new. */
#ifndef SYS_chmod
#define SYS_chmod  (-1)
#define SYS_chown  (-1)
#define SYS_lchown (-1)
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

/* Besides what no child needs (sandbox.h). Nobody connects to it; and Landlock does not stop
 * changes of modes and owners by path. */
static const int denied_calls[] = { SYS_listen, SYS_accept,   SYS_accept4,   SYS_chmod,
                                    SYS_chown,  SYS_fchmodat, SYS_fchmodat2, SYS_lchown,
                                    SYS_fchown, SYS_fchownat };

#define READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define SPOOL                                                                 \
        (READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE | \
         LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE)
#define STORE (SPOOL | LANDLOCK_ACCESS_FS_MAKE_DIR)

#define FILE_SCHEME "file://"
#define N_RULES_MAX 32

/* A path, but of no file. */
#define RELATIVE_URI "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI="

typedef struct Rules {
        SandboxRule rules[N_RULES_MAX];
        size_t n;
} Rules;

static void rules_done(Rules *rules)
{
        for (size_t i = 0; i < rules->n; i++)
                fd_close(rules->rules[i].dir_fd);
}

/* What does not exist can't be allowed, and need not be. */
static void allow(Rules *rules, const char *path, uint64_t allowed)
{
        int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

        if (fd >= 0 && rules->n < N_RULES_MAX)
                rules->rules[rules->n++] = (SandboxRule){ fd, allowed };
        else
                fd_close(fd);
}

/* The directory of each file that the environment names: certificates, tokens. A token file is
 * replaced by renaming, so the file itself would not do. */
static void allow_environment(Rules *rules)
{
        for (char **e = environ; *e; e++) {
                const char *value = strchr(*e, '=');
                bool is_path = value && value[1] == '/' &&
                               strncmp(*e, RELATIVE_URI, STRLEN(RELATIVE_URI)) != 0;
                _cleanup_free_ char *path = is_path ? strdup(value + 1) : NULL;

                if (path)
                        allow(rules, dirname(path), READ);
        }
}

/* A store in a directory may be mounted later, anywhere, or made by its publisher: it is read
 * wherever it is, and written below the part of its path that exists now. */
static void allow_file_store(Rules *rules, const char *directory)
{
        _cleanup_free_ char *path = strdup(directory);

        allow(rules, "/", READ);
        while (path && path[0] == '/' && access(path, F_OK) < 0 && path[1] != '\0')
                (void) dirname(path);
        if (path)
                allow(rules, path, STORE);
}

/* What only the one that fetches needs. */
static void allow_store(Rules *rules)
{
        allow(rules, arg_cache, SPOOL);
        if (arg_state)
                allow(rules, arg_state, SPOOL);
        if (arg_store && strncmp(arg_store, FILE_SCHEME, STRLEN(FILE_SCHEME)) == 0)
                allow_file_store(rules, arg_store + STRLEN(FILE_SCHEME));
        allow_environment(rules);
}

static int confine_files(char **reterr)
{
        /* Certificates, name service and its libraries; the boot id. */
        static const char *const read_only[] = {
                "/etc", "/usr", "/lib", "/lib64", "/run", "/dev", "/proc/sys/kernel/random"
        };
        _cleanup_(rules_done) Rules rules = {};

        if (!arg_probe)
                allow_store(&rules);
        for (size_t i = 0; i < ELEMENTSOF(read_only); i++)
                allow(&rules, read_only[i], READ);
        return sandbox_files(rules.rules, rules.n, reterr);
}

/* What a process that talks to the network can do without. */
static int confine(char **reterr)
{
        int r = sandbox_basics(N_FDS_MAX, reterr);

        umask(0077);
        if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
                return -errno;
        /* An application that is busy must not look ill. */
        if (!arg_probe)
                priority_lower(PRIORITY_FETCH_NICE, false);
        if (r >= 0)
                r = confine_files(reterr);
        if (r >= 0)
                r = sandbox_system_calls_except(denied_calls, ELEMENTSOF(denied_calls), reterr);
        return r;
}

static int run_fetch(char **reterr)
{
        _cleanup_(fetch_freep) Fetch *fetch = NULL;
        int r = fetch_new(arg_store, arg_cache, arg_state, MESSAGE_FD, &fetch, reterr);

        if (r >= 0)
                fetch_set_bandwidth(fetch, arg_bandwidth);
        while (r == 0)
                r = fetch_step(fetch);
        return r;
}

static int run_prober(void)
{
        _cleanup_(prober_freep) Prober *prober = NULL;
        int r = prober_new(MESSAGE_FD, &prober);

        while (r == 0)
                r = prober_step(prober);
        return r;
}

int main(int argc, char *argv[])
{
        _cleanup_free_ char *err = NULL;
        int r;

        if (argc == 2 && streq(argv[1], "--version")) {
                printf("slipway-fetch " SLIPWAY_VERSION "\n");
                return EXIT_SUCCESS;
        }
        log_open("slipway-fetch");
        if (parse_options(argc, argv) < 0) {
                log_error("slipway-fetch is started by slipwayd, not by hand");
                return 2;
        }
        r = confine(&err);
        if (r < 0) {
                log_error("%s", err_text(r, err));
                return EXIT_FAILURE;
        }
        /* Idle most of its life: memory goes back to the system at once. */
        (void) mallopt(M_TRIM_THRESHOLD, 64 * 1024);
        (void) mallopt(M_MMAP_THRESHOLD, 64 * 1024);
        memory_give_back();
        r = arg_probe ? run_prober() : run_fetch(&err);
        if (r < 0)
                log_error("%s", err_text(r, err));
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
