/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>

#include "fd.h"
#include "fuzz.h"
#include "spec.h"

/* slipway.json of somebody's repository: what is taken can go into a manifest as it is. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_close_ int fd = memfd_sealed("spec", data, size);
        _cleanup_free_ char *err = NULL;
        char path[64];
        Spec s;

        assert(fd >= 0);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (spec_load(AT_FDCWD, path, &s, &err) < 0) {
                assert(err);
                return 0;
        }
        spec_done(&s);
        return 0;
}
