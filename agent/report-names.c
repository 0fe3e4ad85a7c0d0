/* SPDX-License-Identifier: Apache-2.0 */
#include "report-names.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#include "fd.h"

void report_names_done(ReportNames *n)
{
        for (size_t i = 0; i < n->n; i++)
                free(n->names[i]);
}

static int compare(const void *a, const void *b)
{
        return strcmp(*(char *const *) a, *(char *const *) b);
}

static int add(ReportNames *n, const char *name)
{
        if (streq(name, ".") || streq(name, ".."))
                return 0;
        n->more = n->n == REPORT_NAMES_MAX;
        if (n->more)
                return 0;
        n->names[n->n] = strdup(name);
        return n->names[n->n] ? (n->n++, 0) : -ENOMEM;
}

int report_names_read(int dir_fd, ReportNames *n)
{
        int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *entry;

        if (!dir) {
                r = -errno;
                fd_close(fd);
                return r;
        }
        while (r >= 0 && !n->more && (errno = 0, entry = readdir(dir)))
                r = add(n, entry->d_name);
        if (r >= 0 && !n->more)
                r = -errno;
        (void) closedir(dir);
        qsort(n->names, n->n, sizeof(n->names[0]), compare);
        return r;
}
