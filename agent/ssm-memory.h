/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "macro.h"
#include "ssm-order.h"

/*
 * What slipway-fetch remembers of commands over its own end and the host's: one file of JSON for
 * each, <command>.json, in a directory of its own, written aside, synced and renamed before what it
 * says is told to anybody. Delivery is at least once: what is here is not carried out again.
 *
 *   { "schema": "slipway/command/1", "command": "<uuid>", "message": "aws.ssm.<uuid>.<instance>",
 *     "document": "Slipway-Deploy", "received": 1790000000000,
 *     "steps": [ { "name": "slipway", "plugin": "aws:runShellScript" } ],
 *     "order": "<uuid> deploy web 2026.11.22-1f3a9c2 - -",       absent: it was refused
 *     "reply": { "id": "<uuid>", "payload": "{...}", "delivered": false } }
 *
 * "reply": the final one; without it the command was going on. Files that can't be read are set
 * aside as <name>.damaged, and said.
 */

#define SSM_MEMORY_AGE_MAX_SEC   (7 * 24 * 3600)
#define SSM_MEMORY_MAX           512          /* commands; see ssm_memory_add() */
#define SSM_MEMORY_FILE_SIZE_MAX (512 * 1024) /* a reply's payload, escaped, and the rest */

typedef struct SsmMemory SsmMemory;

typedef struct SsmRecord {
        char *command, *message, *document;
        SsmStep *steps;
        size_t n_steps;
        char *order;            /* a line of remote-order.h; NULL: refused */
        uint64_t received_msec; /* since the epoch */
        char *reply_id;         /* NULL: it goes on */
        char *reply; /* the final one, only while it could not be written: what is on the disk is
                      * not kept here, to keep memory small; see ssm_memory_load_reply() */
        bool delivered;
} SsmRecord;

void ssm_record_done(SsmRecord *r);

/* One file's text; data[size] must be NUL. -EBADMSG: not by the rules above;
 * -EPROTONOSUPPORT: a newer version wrote it. *ret_reply: the payload, NULL without one. */
_must_check_ int ssm_record_parse(const char *data, size_t size, SsmRecord *ret, char **ret_reply,
                                  char **reterr);

/* The directory must exist. Old commands, and what a crash left, are removed. */
_must_check_ int ssm_memory_open(const char *path, SsmMemory **ret, char **reterr);
SsmMemory *ssm_memory_free(SsmMemory *m);
DEFINE_CLEANUP_FUNC(SsmMemory *, ssm_memory_free);

/* NULL: not known. Owned by m, until the next ssm_memory_add() or ssm_memory_forget_old(). */
SsmRecord *ssm_memory_find(SsmMemory *m, const char *command);

/* The i-th, in no order, owned as above; NULL: there are no more. */
SsmRecord *ssm_memory_get(SsmMemory *m, size_t i);

/* Writes the record of a command that goes on, or that ended at once with the reply that it has,
 * and takes what is in it, leaving it empty. Of SSM_MEMORY_MAX the oldest goes that was answered,
 * one whose answer was delivered before others. On failure nothing is remembered, the command must
 * not be carried out, and *record is untouched: -EEXIST  it is known -EBUSY   there are too many
 * that go on -EINVAL  it breaks the rules above -ENOSPC and the like: it can't be written */
_must_check_ int ssm_memory_add(SsmMemory *m, SsmRecord *record, SsmRecord **ret);

/* The command has ended with this final reply. When that can't be written it is kept in memory, and
 * the error says so. -EINVAL: reply_id is no UUID in lower case, or the reply none that a file can
 * hold; the command goes on. */
_must_check_ int ssm_memory_end(SsmMemory *m, SsmRecord *r, const char *reply_id,
                                const char *reply);

/* The service has the final reply. When that can't be written it is known until this program ends.
 */
_must_check_ int ssm_memory_delivered(SsmMemory *m, SsmRecord *r);

/* The final reply's payload, allocated. -ENOENT: there is none. -EBADMSG: its file was damaged
 * since it was read. */
_must_check_ int ssm_memory_load_reply(SsmMemory *m, const SsmRecord *r, char **ret);

/* Forgets the commands that were answered and came longer ago than SSM_MEMORY_AGE_MAX_SEC; to be
 * called now and then. */
void ssm_memory_forget_old(SsmMemory *m, uint64_t now_msec);
