/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "digest.h"
#include "macro.h"

/*
 * What slipwayd and its children say to each other: a SOCK_SEQPACKET pair, descriptor 3 in the
 * child. A message is one packet: this struct, fixed layout, host byte order (both ends are the
 * same build on the same machine), then `text` of exactly text_size bytes without a NUL. At most
 * one descriptor travels with it, of a directory with RELEASES and REMOVE, of a regular file with
 * all others. Whatever a child sends may be hostile: message_receive() checks type, sizes, the
 * result (no less than the last errno) and the text, and the receiver whether it waits for such a
 * message at all.
 */

#define MESSAGE_FD       3
#define MESSAGE_TEXT_MAX 4096

/* Releases that another may have something of. */
#define SEEDS_MAX 4

/* How long slipway-fetch says nothing of polls that find nothing new. */
#define WATCH_QUIET_USEC (UINT64_C(15) * 1000000)

typedef enum MessageType {
        /* slipwayd to slipway-fetch. `id` is chosen by slipwayd and comes back in every answer. */
        MESSAGE_POLL = 1, /* text: object path of a manifest, or with offset POLL_ROOT of a trust
                           * root; size: 1: also if it is unchanged. Answered by POLLED. */
        MESSAGE_WATCH,    /* text: as with POLL; offset: interval in microseconds; size: jitter in
                           * percent. Polls at such intervals (poll-wait.h), until there is something
                           * else to say than POLL_UNCHANGED, or the last of WATCH_QUIET_USEC is over.
                           * Answered by POLLED. */
        MESSAGE_OPEN,  /* descriptor: a file with a manifest's envelope that did not come from the
                        * store. Answered by POLLED. */
        MESSAGE_BRAKE, /* text: object path of a channel's halt.json. Answered by BRAKED. */
        MESSAGE_GET,   /* text: object path; size, sha256 of the whole; descriptor: memfd with the
                        * ranges that are wanted (range-set.h); none: all. To the spool, resuming what
                        * is there. Answered by SPOOLED (with the descriptor, at once), AVAILABLE...
                        * up to the whole size, then GOT. Several may ask for the same object: what
                        * they want is fetched once. */
        MESSAGE_GET_AGAIN, /* offset, size: this part of the object that GET `id` fetches is not
                            * what was signed. Answered by GOT_AGAIN. */
        MESSAGE_PUT, /* text: object path; descriptor: memfd with the body, at most 64 KiB. Answered
                        by PUT_DONE. */
        MESSAGE_CANCEL, /* ends request `id`; what is in the spool stays. No answer. */
        MESSAGE_DROP, /* sha256: the spool file of this object is not needed any more; goes when no
                       * GET waits for it. No answer. */

        MESSAGE_IDENTIFY, /* Who is this host? Answered by IDENTIFIED. */

        MESSAGE_LISTEN, /* text: "CHANNEL INSTANCE REGION ZONE" (ssm.h; zone "-": not known). Take
                         * orders from far away; until CANCEL. Answered by LISTENING... and ORDER...
                         */
        MESSAGE_ORDER_NEWS, /* offset: number of the ORDER of LISTEN `id`; result: as in
                             * remote-order.h; descriptor: memfd with the words. No answer. */

        MESSAGE_PROBE, /* to slipway-fetch --probe. text: URL of this host; size: limit for the
                        * whole answer, in microseconds. Answered by PROBED. */

        /* slipway-fetch to slipwayd */
        MESSAGE_POLLED,       /* result: 0 with descriptor (memfd, packed envelope), POLL_UNCHANGED,
                               * POLL_ABSENT,    POLL_UNKNOWN, or a negative errno; text: why;
                               * with the first three, a word for the credentials that were used, or
                               * none. */
        MESSAGE_BRAKED,       /* result: 0 (not halted), BRAKED_ON, POLL_ABSENT, POLL_UNKNOWN, or a
                               * negative errno; text: who and why. */
        MESSAGE_SPOOLED,      /* descriptor: the spool file, read-only. */
        MESSAGE_AVAILABLE,    /* size: of so many bytes from the start, all that is wanted. */
        MESSAGE_GOT,          /* result: 0 or a negative errno; text: why. */
        MESSAGE_GOT_AGAIN,    /* offset, size as asked; result; text: why. */
        MESSAGE_PUT_DONE,     /* result; text: why. */
        MESSAGE_IDENTIFIED,   /* result: 0 with descriptor (memfd, instance.h), or a negative errno;
                               * text: why. */
        MESSAGE_LISTENING,    /* result: 0 (orders can come) or a negative errno; size: by which
                               * SsmChannel; text: why not. The first one at once. */
        MESSAGE_ORDER,        /* offset: its number; size: 1: it was handed over before; text: the
                               * order (remote-order.h). */
        MESSAGE_ORDER_CANCEL, /* offset: its number. */
        MESSAGE_PROBED, /* result: the HTTP status that came, or a negative errno; text: why. */

        /* slipwayd to slipway-unpack, one order per process */
        MESSAGE_INDEX, /* descriptor: the index file; size, sha256: what it must be. First message.
                        */
        MESSAGE_LINKS, /* descriptor: the paths that become links to shared/ (shared-link.h); size:
                        * of it. After INDEX; or as the first message, for a release that is there.
                        */
        MESSAGE_SEED,  /* descriptor: the index of a release that is there; size, sha256: what it
                        * must be; text: the release; offset: 1: nobody but slipway-unpack's user can
                        * write to its tree. After INDEX and LINKS, at most SEEDS_MAX of them. */
        MESSAGE_RELEASES, /* descriptor: the releases directory; text: name of the directory to make
                           * there (staging), or, without INDEX, of the release. */
        MESSAGE_TAKE,     /* there is room: take over what the seeds have. */
        MESSAGE_ARTIFACT, /* descriptor: the artifact's spool file; size: of the whole artifact. */
        /* MESSAGE_AVAILABLE: as above */
        MESSAGE_REPLACED, /* offset, size: this part was fetched again, try it once more. */
        MESSAGE_REMOVE, /* descriptor: the releases directory; text: name of a tree to delete there.
                         * May be sent several times instead of those above; each is answered by
                         * REMOVED. */

        /* slipway-unpack to slipwayd */
        MESSAGE_NEEDS, /* size: bytes that will be written to the disk; offset: inodes. Comes before
                        * anything is written; waits for TAKE. */
        MESSAGE_WANTED,    /* descriptor: ranges of the artifact (range_set_pack()) that are needed;
                            * offset: bytes that are still to be written to the disk; result: number of
                            * files that were taken over; text: what could not be, though it should; or
                            * none. Waits for ARTIFACT, unless the ranges are none. */
        MESSAGE_BAD_FRAME, /* offset, size: these bytes are not what the index says. Waits for
                              REPLACED. */
        MESSAGE_UNPACKED,  /* result: 0 (everything written and synced) or a negative errno; text:
                            * why; size: bytes of the tree on the disk; offset: of these, what it
                            * does not share with seeds. Then it exits. */
        MESSAGE_LINKED,    /* result: 0 (links made and synced) or a negative errno; text: why. Then
                            * it exits. */
        MESSAGE_REMOVED,   /* result; text: the name, or why not. */
        _MESSAGE_TYPE_MAX,
} MessageType;

/* What is polled, if it is no manifest. */
#define POLL_ROOT 1

/* Outcomes of a poll. */
enum {
        POLL_UNCHANGED = 1, /* the same object as at the last poll of this path */
        POLL_ABSENT,
        POLL_UNKNOWN, /* refused (403): may be absent, may be a missing permission */
        BRAKED_ON,    /* of BRAKED alone: the channel is halted */
};

typedef struct Message {
        uint32_t type;
        int32_t result;
        uint64_t id;
        uint64_t offset, size;
        Sha256 sha256;
        uint32_t text_size;              /* set by message_send() */
        char text[MESSAGE_TEXT_MAX + 1]; /* NUL-terminated here; one byte more than travels */
} Message;

/* A connected pair: [0] for slipwayd (non-blocking), [1] for the child (blocking). */
_must_check_ int message_pair(int ret_fds[static 2]);

/* Sends m and, unless fd < 0, a copy of the descriptor. Never waits on a non-blocking socket:
 * -EAGAIN when the peer does not read, -EPIPE when it is gone (what it said before can still be
 * received). Texts that are too long are cut. */
_must_check_ int message_send(int socket_fd, const Message *m, int fd);

/* A message without descriptor in one line. `text` may be NULL. */
_must_check_ int message_reply(int socket_fd, MessageType type, uint64_t id, int result,
                               const char *text);

/* Receives one. 1: got one (*ret_fd is its descriptor or -EBADF, the caller's to close); 0: the
 * peer is gone; -EAGAIN: nothing there; -EPROTO: not a message by the rules above, an empty packet
 * among them (its descriptors are closed, sockets without lingering). Texts come cleaned
 * (utf8_clean()). */
_must_check_ int message_receive(int socket_fd, Message *ret, int *ret_fd);
