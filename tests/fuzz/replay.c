/* SPDX-License-Identifier: Apache-2.0 */

/* Runs a fuzz target over files, and over all files in directories: with any compiler, as a test.
 */

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#include "fd.h"
#include "fuzz.h"

#define INPUT_SIZE_MAX (1 << 20)

static int replay(int dir_fd, const char *path)
{
        _cleanup_free_ char *data = NULL, *exact = NULL;
        size_t size;
        int r = file_read_at(dir_fd, path, INPUT_SIZE_MAX, &data, &size);

        if (r < 0) {
                fprintf(stderr, "%s: %s\n", path, strerror(-r));
                return r;
        }
        printf("%s\n", path);
        exact = malloc(MAX(size, (size_t) 1));
        assert(exact);
        memcpy(exact, data, size);
        (void) LLVMFuzzerTestOneInput((uint8_t *) exact, size);
        return 1;
}

/* Returns the number of inputs. */
static int replay_dir(const char *path)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, path);
        DIR *dir = fd < 0 ? NULL : opendir(path);
        int n = 0, r = 0;

        if (!dir)
                return fd;
        for (struct dirent *d; r >= 0 && (d = readdir(dir));)
                if (d->d_name[0] != '.') {
                        r = replay(fd, d->d_name);
                        n++;
                }
        closedir(dir);
        return r < 0 ? r : n;
}

int main(int argc, char **argv)
{
        int n = 0;

        (void) setvbuf(stdout, NULL, _IOLBF, 0);
        for (int i = 1; i < argc; i++) {
                int r = replay_dir(argv[i]);
                if (r == -ENOTDIR)
                        r = replay(AT_FDCWD, argv[i]);
                if (r < 0)
                        return EXIT_FAILURE;
                n += r;
        }
        printf("%d inputs\n", n);
        return n > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
