/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fd.h"
#include "fuzz.h"

/* A directory for one input, in memory, as what is tried may sync; always by the same name. */
typedef struct FuzzDir {
        int fd;
        char path[64];
} FuzzDir;

/* With this directory in it. */
static inline FuzzDir fuzz_dir_make(const char *only)
{
        FuzzDir d;

        (void) snprintf(d.path, sizeof(d.path), "/dev/shm/slipway-fuzz.%d", (int) getpid());
        /* left by a process of the same number that crashed */
        assert(remove_tree_at(AT_FDCWD, d.path) == 0);
        assert(mkdir(d.path, 0700) == 0);
        d.fd = dir_open_at(AT_FDCWD, d.path);
        assert(d.fd >= 0 && mkdirat(d.fd, only, 0755) == 0);
        return d;
}

static inline size_t fuzz_dir_count(int dir_fd)
{
        DIR *dir = fdopendir(fcntl(dir_fd, F_DUPFD_CLOEXEC, 0));
        size_t n = 0;

        assert(dir);
        rewinddir(dir);
        for (const struct dirent *e; (e = readdir(dir));)
                n += !streq(e->d_name, ".") && !streq(e->d_name, "..");
        assert(closedir(dir) == 0);
        return n;
}

/* Nothing was made beside what was there. */
static inline void fuzz_dir_remove(FuzzDir *d)
{
        assert(fuzz_dir_count(d->fd) == 1);
        d->fd = fd_close(d->fd);
        assert(remove_tree_at(AT_FDCWD, d->path) == 0);
}
