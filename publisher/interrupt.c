/* SPDX-License-Identifier: Apache-2.0 */
#include "interrupt.h"

#include <errno.h>
#include <sys/signalfd.h>

#include "fd.h"

int interrupt_hold(Interrupt *ret)
{
        static const int signals[] = { SIGHUP, SIGINT, SIGTERM };
        _cleanup_close_ int fd = -EBADF;
        struct sigaction action;
        sigset_t held, before;

        (void) sigemptyset(&held);
        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                if (sigaction(signals[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
                        (void) sigaddset(&held, signals[i]);
        fd = signalfd(-1, &held, SFD_CLOEXEC | SFD_NONBLOCK);
        if (fd < 0 || sigprocmask(SIG_BLOCK, &held, &before) < 0)
                return -errno;
        *ret = (Interrupt){ .before = before, .fd = TAKE_FD(fd) };
        return 0;
}

void interrupt_release(Interrupt *i)
{
        if (i->fd < 0)
                return;
        fd_close(TAKE_FD(i->fd));
        (void) sigprocmask(SIG_SETMASK, &i->before, NULL);
}
