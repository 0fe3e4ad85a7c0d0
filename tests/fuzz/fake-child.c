/* SPDX-License-Identifier: Apache-2.0 */
#include "fake-child.h"

#include <errno.h>
#include <fcntl.h>

#include "fd.h"
#include "fuzz.h"

struct Child {
        char *program;
        int socket_fd, child_fd;
        bool broken, *freed;
        sd_event_source *message_source, *exit_source;
        ChildCallbacks callbacks;
        void *userdata;
        Child *next;
};

static Child *children = NULL;

int identity_lookup(const char *user, Identity *ret, char **reterr)
{
        (void) user, (void) reterr;
        *ret = (Identity){};
        return 0;
}

Child *child_free(Child *c)
{
        if (!c)
                return NULL;
        if (c->freed)
                *c->freed = true;
        for (Child **p = &children; *p; p = &(*p)->next)
                if (*p == c) {
                        *p = c->next;
                        break;
                }
        sd_event_source_disable_unref(c->message_source);
        sd_event_source_disable_unref(c->exit_source);
        fd_close(c->socket_fd);
        fd_close(c->child_fd);
        free(c->program);
        free(c);
        return NULL;
}

Child *child_finish(Child *c, uint64_t usec)
{
        (void) usec;
        return child_free(c);
}

/* As child.c has it: what was received before the end is delivered. False: it is gone. */
static bool deliver(Child *c)
{
        bool freed = false;
        int r = 1;

        c->freed = &freed;
        while (r > 0 && !c->broken) {
                Message m;
                _cleanup_close_ int fd = -EBADF;

                r = message_receive(c->socket_fd, &m, &fd);
                if (r <= 0)
                        break;
                c->callbacks.message(c, &m, &fd, c->userdata);
                if (freed)
                        return false;
        }
        c->freed = NULL;
        if (r < 0 && r != -EAGAIN) {
                c->broken = true;
                fake_child_exit(c);
        }
        return true;
}

static int on_message(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        (void) source, (void) fd, (void) revents;
        (void) deliver(userdata);
        return 0;
}

static int on_exit_event(sd_event_source *source, void *userdata)
{
        Child *c = userdata;

        (void) source;
        if (deliver(c))
                c->callbacks.exited(c, "exit status 1", c->userdata);
        return 0;
}

int child_spawn(sd_event *event, const char *program, char *const argv[], const char *const *passed,
                const Identity *identity, const ChildCallbacks *callbacks, void *userdata,
                Child **ret, char **reterr)
{
        Child *c = calloc(1, sizeof(Child));
        int fds[2];

        (void) argv, (void) passed, (void) identity, (void) reterr;
        assert(c && message_pair(fds) == 0 && fcntl(fds[1], F_SETFL, O_NONBLOCK) == 0);
        *c = (Child){ .program = strdup(program),
                      .socket_fd = fds[0],
                      .child_fd = fds[1],
                      .callbacks = *callbacks,
                      .userdata = userdata,
                      .next = children };
        children = c;
        assert(sd_event_add_io(event, &c->message_source, c->socket_fd, EPOLLIN, on_message, c) >=
               0);
        assert(sd_event_add_defer(event, &c->exit_source, on_exit_event, c) >= 0);
        assert(sd_event_source_set_enabled(c->exit_source, SD_EVENT_OFF) >= 0);
        *ret = c;
        return 0;
}

void child_kill(Child *c)
{
        fake_child_exit(c);
}

int child_send(Child *c, const Message *m, int fd)
{
        return message_send(c->socket_fd, m, fd);
}

Child *fake_child_find(const char *program)
{
        for (Child *c = children; c; c = c->next)
                if (streq(c->program, program))
                        return c;
        return NULL;
}

int fake_child_fd(const Child *c)
{
        return c->child_fd;
}

void fake_child_exit(Child *c)
{
        (void) sd_event_source_set_enabled(c->message_source, SD_EVENT_OFF);
        assert(sd_event_source_set_enabled(c->exit_source, SD_EVENT_ONESHOT) >= 0);
}
