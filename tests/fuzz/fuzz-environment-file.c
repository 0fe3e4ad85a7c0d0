/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "environment-file.h"
#include "fd.h"
#include "fuzz.h"

/* What is taken becomes variables with a name, and nothing that was there is changed. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_close_ int fd = memfd_sealed("environment", data, size);
        _cleanup_free_ char *err = NULL;
        char **before = environ, path[64];
        int r;

        assert(fd >= 0);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        assert(clearenv() == 0 && setenv("KEPT", "as it was", 1) == 0);
        r = environment_file_load(path, &err);
        assert(r == 0 || (r == -EBADMSG && err) || (r == -EFBIG && err));
        assert(streq(getenv("KEPT"), "as it was"));
        for (char **e = environ; *e; e++) {
                const size_t n = strcspn(*e, "=");
                assert(n > 0 && (*e)[n] == '=' && !strpbrk(*e, "\n\\"));
        }
        (void) clearenv();
        environ = before;
        return 0;
}
