/* SPDX-License-Identifier: Apache-2.0 */
#include "secret.h"

#include <sys/prctl.h>
#include <sys/resource.h>

#include "err.h"

void secret_free(char *s)
{
        if (s)
                explicit_bzero(s, strlen(s));
        free(s);
}

int secret_process(char **reterr)
{
        const struct rlimit no_core = {};

        /* The first alone would do for the kernel; the second also tells handlers of core dumps. */
        if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &no_core) < 0)
                return fail_errno(reterr, -errno, "can't switch core dumps off");
        return 0;
}
