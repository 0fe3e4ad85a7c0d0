/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "breakout.h"
#include "macro.h"
#include "unpack.h"

/* The two ways that slipway-unpack is confined: from its beginning, and for the artifact. */
int __real_unpack_run(int socket_fd, unpack_tighten_t tighten, char **reterr);
int __wrap_unpack_run(int socket_fd, unpack_tighten_t tighten, char **reterr);

static unpack_tighten_t real_tighten;

static int tighten_and_try(int releases_fd, int staging_fd, char **reterr)
{
        int r = real_tighten(releases_fd, staging_fd, reterr);

        if (r >= 0)
                breakout_try("tight", staging_fd);
        return r;
}

int __wrap_unpack_run(int socket_fd, unpack_tighten_t tighten, char **reterr)
{
        real_tighten = tighten;
        breakout_prepare();
        breakout_try("begin", -EBADF);
        return __real_unpack_run(socket_fd, tighten_and_try, reterr);
}
