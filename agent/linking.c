/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <time.h>

#include "err.h"
#include "fd.h"
#include "linking.h"
#include "shared-link.h"

/* Syncing waits for whatever else is being written to the file system. */
#define LINKING_MAX_USEC (UINT64_C(300) * 1000000)

struct Linking {
        Child *child;
        sd_event_source *limit_source;
        linking_done_t done;
        void *userdata;
};

Linking *linking_free(Linking *l)
{
        if (!l)
                return NULL;
        child_free(l->child);
        sd_event_source_disable_unref(l->limit_source);
        free(l);
        return NULL;
}

int linking_is_done(int releases_fd, const char *release, const Activate *a)
{
        _cleanup_(beneath_freep) Beneath *tree = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (a->n_shared == 0)
                return 1;
        fd = dir_open_at(releases_fd, release);
        if (fd < 0)
                return fd;
        r = beneath_new(fd, &tree);
        if (r < 0)
                return r;
        r = 1;
        for (size_t n = 0; r > 0 && n < a->n_shared; n++)
                r = shared_link_is_there(tree, a->shared[n].path);
        return r;
}

static void on_message(Child *c, const Message *m, int *fd, void *userdata)
{
        Linking *l = userdata;

        (void) c;
        (void) fd;
        if (m->type == MESSAGE_LINKED)
                l->done(MIN(m->result, 0), m->result < 0 ? m->text : NULL, l->userdata);
}

static void on_exited(Child *c, const char *how, void *userdata)
{
        Linking *l = userdata;
        _cleanup_free_ char *reason = NULL;

        l->child = child_free(c);
        err_set(&reason, "slipway-unpack ended (%s) before the links were made", how);
        l->done(-EIO, reason, l->userdata);
}

static int on_limit(sd_event_source *source, uint64_t usec, void *userdata)
{
        Linking *l = userdata;

        (void) source;
        (void) usec;
        l->done(-ETIMEDOUT, "making the links to shared/ took more than five minutes", l->userdata);
        return 0;
}

static int give_orders(Linking *l, int releases_fd, const Installed *i)
{
        Message links = { .type = MESSAGE_LINKS }, releases = { .type = MESSAGE_RELEASES };
        _cleanup_close_ int fd = shared_links_pack(&i->activate, &links.size);
        int r;

        if (fd < 0)
                return fd;
        (void) stpncpy(releases.text, i->release, MESSAGE_TEXT_MAX);
        r = child_send(l->child, &links, fd);
        return r < 0 ? r : child_send(l->child, &releases, releases_fd);
}

int linking_start(sd_event *event, const Identity *identity, int releases_fd, const Installed *i,
                  linking_done_t done, void *userdata, Linking **ret, char **reterr)
{
        static const ChildCallbacks callbacks = { on_message, on_exited };
        char *argv[] = { (char *) "slipway-unpack", NULL };
        _cleanup_(linking_freep) Linking *l = calloc(1, sizeof(Linking));
        int r;

        if (!l)
                return -ENOMEM;
        *l = (Linking){ .done = done, .userdata = userdata };
        r = sd_event_add_time_relative(event, &l->limit_source, CLOCK_BOOTTIME, LINKING_MAX_USEC, 0,
                                       on_limit, l);
        if (r < 0)
                return r;
        r = child_spawn(event, "slipway-unpack", argv, NULL, identity, &callbacks, l, &l->child,
                        reterr);
        if (r < 0)
                return r;
        r = give_orders(l, releases_fd, i);
        if (r < 0)
                return fail_errno(reterr, r, "can't tell slipway-unpack to make links");
        *ret = TAKE_PTR(l);
        return 0;
}
