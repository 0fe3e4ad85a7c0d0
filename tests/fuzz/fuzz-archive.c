/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fuzz-dir.h"
#include "fuzz.h"
#include "name.h"
#include "repack.h"

/* An archive that somebody else made, as slipway-publish takes it. */

#define FILE_SIZE_MAX (8 * 1024 * 1024)

/* What a few bytes can become has no end. */
static void limit_files(void)
{
        const struct rlimit limit = { FILE_SIZE_MAX, RLIM_INFINITY };

        assert(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
        assert(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

static void allow_files(void)
{
        const struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

        assert(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

static void check_entry(int dir_fd, const char *name, const char *path);

static void check_directory(int parent_fd, const char *name, const char *path)
{
        DIR *dir = fdopendir(dir_open_at(parent_fd, name));

        assert(dir);
        for (const struct dirent *e; (e = readdir(dir));) {
                char longer[PATH_MAX];
                if (streq(e->d_name, ".") || streq(e->d_name, ".."))
                        continue;
                assert(snprintf(longer, sizeof(longer), "%s%s%s", path, *path ? "/" : "",
                                e->d_name) < (int) sizeof(longer));
                check_entry(dirfd(dir), e->d_name, longer);
        }
        assert(closedir(dir) == 0);
}

/* Files of ours, and links that stay inside. */
static void check_entry(int dir_fd, const char *name, const char *path)
{
        char target[PATH_MAX] = "";
        struct stat st;

        assert(tree_path_is_valid(path));
        assert(fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0);
        assert(S_ISDIR(st.st_mode) || S_ISREG(st.st_mode) || S_ISLNK(st.st_mode));
        assert(S_ISLNK(st.st_mode) || !(st.st_mode & (S_ISUID | S_ISGID | S_ISVTX)));
        if (S_ISLNK(st.st_mode)) {
                assert(readlinkat(dir_fd, name, target, sizeof(target) - 1) > 0);
                assert(tree_link_is_inside(path, target));
        }
        if (S_ISDIR(st.st_mode))
                check_directory(dir_fd, name, path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_close_ int fd = memfd_sealed("archive", data, size), tree_fd = -EBADF;
        FuzzDir dir = fuzz_dir_make("tree");
        _cleanup_free_ char *err = NULL;
        int r;

        tree_fd = dir_open_at(dir.fd, "tree");
        assert(fd >= 0 && tree_fd >= 0);
        limit_files();
        r = repack_unpack(fd, tree_fd, "app.tar", &err);
        allow_files();
        assert(r == 0 || err || r == -ENOMEM);
        check_directory(dir.fd, "tree", "");
        fuzz_dir_remove(&dir);
        return 0;
}
