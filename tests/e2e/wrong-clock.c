/* SPDX-License-Identifier: Apache-2.0 */

/* To be preloaded: a program with it has a clock that is wrong by what /run/wrong-clock says, in
 * seconds. Unlike libfaketime it leaves timers and waits alone, as a clock that is set does with
 * all of ours. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long offset_sec(void)
{
        char text[32] = {};
        int fd = open("/run/wrong-clock", O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return 0;
        if (read(fd, text, sizeof(text) - 1) < 0)
                text[0] = '\0';
        (void) close(fd);
        return atol(text);
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
        int r = (int) syscall(SYS_clock_gettime, clock, ts);

        if (r == 0 && clock == CLOCK_REALTIME)
                ts->tv_sec += offset_sec();
        return r;
}

time_t time(time_t *ret)
{
        struct timespec ts;

        if (clock_gettime(CLOCK_REALTIME, &ts) < 0)
                return -1;
        if (ret)
                *ret = ts.tv_sec;
        return ts.tv_sec;
}
