/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <sys/types.h>
#include <systemd/sd-event.h>

#include "macro.h"
#include "message.h"

/*
 * A helper process: slipway-fetch or slipway-unpack, found beside the running executable or else in
 * libexecdir, with its end of a message pair as descriptor MESSAGE_FD, no other descriptor but
 * stdio, no new privileges, its own user, and of our environment only what it needs. It dies with
 * the process that started it. SIGCHLD must be blocked in there, as sd_event_add_child(3) says.
 *
 * It may have been taken over: one that breaks the protocol, or closes either direction of the
 * socket, is killed; one that talks without end is heard slowly.
 */

typedef struct Child Child;

typedef struct ChildCallbacks {
        /* A message came; *fd is its descriptor or -EBADF; take it with TAKE_FD or it is closed.
         * May free c. */
        void (*message)(Child *c, const Message *m, int *fd, void *userdata);
        /* It ended, or broke the protocol and was killed; `how` says it in words. What it sent
         * before that was delivered, as far as a socket holds it. May free c. */
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

/* Starts `program` with these arguments (argv[0] included, NULL at the end). `passed` names the
 * environment variables that it gets of ours, as fnmatch(3) patterns with a NULL at the end;
 * SLIPWAY_LOG_LEVEL and JOURNAL_STREAM always go along, nothing else does. NULL: only these. */
_must_check_ int child_spawn(sd_event *event, const char *program, char *const argv[],
                             const char *const *passed, const Identity *identity,
                             const ChildCallbacks *callbacks, void *userdata, Child **ret,
                             char **reterr);

/* Kills it; no callback after this. Does not wait: a process that is in the kernel (a slow disk)
 * ends when it comes out, and may finish that one system call meanwhile. The event loop reaps it;
 * when the loop ends first, whoever inherits our children does. */
Child *child_free(Child *c);
DEFINE_CLEANUP_FUNC(Child *, child_free);

/* The same, but first it gets `usec` to deal with what it was sent and to end by itself, which a
 * child does that reads the end of its messages. Waits for that: for the end of a program. */
Child *child_finish(Child *c, uint64_t usec);

/* Kills it; what it said before, and its end, are still told. */
void child_kill(Child *c);

/* Sends; the descriptor stays the caller's. A child that does not read its messages gives -EAGAIN.
 */
_must_check_ int child_send(Child *c, const Message *m, int fd);
