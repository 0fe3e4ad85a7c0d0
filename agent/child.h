/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <sys/types.h>
#include <systemd/sd-event.h>

#include "macro.h"
#include "message.h"

/*
 * A helper process of slipwayd: slipway-fetch or slipway-unpack, found beside slipwayd's own
 * executable, with its end of a message pair as descriptor MESSAGE_FD, no other descriptor but
 * stdio, no new privileges, and its own user. It dies with slipwayd.
 */

typedef struct Child Child;

typedef struct ChildCallbacks {
        /* A message came; *fd is its descriptor or -EBADF; take it with TAKE_FD or it is closed.
         * May free c. */
        void (*message)(Child *c, const Message *m, int *fd, void *userdata);
        /* It ended, or broke the protocol and was killed; `how` says it in words. All it sent
         * before was delivered. May free c. */
        void (*exited)(Child *c, const char *how, void *userdata);
} ChildCallbacks;

/* The user that a child runs as. */
typedef struct Identity {
        bool change; /* false: as we do (--user) */
        uid_t uid;
        gid_t gid;
} Identity;

/* Looks the user up by getpwnam(3). *reterr says how to make it when it is missing. */
_must_check_ int identity_lookup(const char *user, Identity *ret, char **reterr);

/* Starts `program` with these arguments (argv[0] included, NULL at the end). */
_must_check_ int child_spawn(sd_event *event, const char *program, char *const argv[],
                             const Identity *identity, const ChildCallbacks *callbacks,
                             void *userdata, Child **ret, char **reterr);

/* Kills it and waits for it (SIGKILL: at once); no callback after this. */
Child *child_free(Child *c);
DEFINE_CLEANUP_FUNC(Child *, child_free);

/* Sends; the descriptor stays the caller's. A child that does not read its messages gives -EAGAIN.
 */
_must_check_ int child_send(Child *c, const Message *m, int fd);
