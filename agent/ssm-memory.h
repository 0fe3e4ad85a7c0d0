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
 *     "order": "<uuid> deploy web 2026.11.22-1f3a9c2 - ",        absent: it was refused
 *     "reply": { "id": "<uuid>", "payload": "{...}", "delivered": false } }
 *
 * "reply": the final one; without it the command was going on. Files that can't be read are set
 * aside as <name>.damaged, and said.
 */

#define SSM_MEMORY_AGE_MAX_SEC (7 * 24 * 3600)
#define SSM_MEMORY_MAX         512 /* commands; beyond that the oldest that was answered goes */

typedef struct SsmMemory SsmMemory;

typedef struct SsmRecord {
        char *command, *message, *document;
        SsmStep *steps;
        size_t n_steps;
        char *order;            /* a line of remote-order.h; NULL: refused */
        uint64_t received_msec; /* since the epoch */
        char *reply_id, *reply; /* NULL: it goes on. `reply` is read from its file when it is asked
                                 * for (ssm_memory_load_reply()), to keep memory small */
        bool delivered;
} SsmRecord;

/* The directory must exist and be ours. Old commands, and what a crash left, are removed. */
_must_check_ int ssm_memory_open(const char *path, SsmMemory **ret, char **reterr);
SsmMemory *ssm_memory_free(SsmMemory *m);
DEFINE_CLEANUP_FUNC(SsmMemory *, ssm_memory_free);

/* NULL: not known. Owned by m, until the next add(). */
SsmRecord *ssm_memory_find(SsmMemory *m, const char *command);

/* The i-th, in no order; NULL: there are no more. */
SsmRecord *ssm_memory_get(SsmMemory *m, size_t i);

/* Takes what is in *record, leaving it empty, and writes it. -EEXIST: it is known. -ENOSPC and the
 * like: nothing is remembered, and the command must not be carried out. -EBUSY: too many that go
 * on. */
_must_check_ int ssm_memory_add(SsmMemory *m, SsmRecord *record, SsmRecord **ret);

/* The command has ended with this final reply. When that can't be written it is kept in memory, and
 * the error says so. */
_must_check_ int ssm_memory_end(SsmMemory *m, SsmRecord *r, const char *reply_id,
                                const char *reply);
_must_check_ int ssm_memory_delivered(SsmMemory *m, SsmRecord *r);

/* The final reply's payload, allocated. -ENOENT: there is none. */
_must_check_ int ssm_memory_load_reply(SsmMemory *m, const SsmRecord *r, char **ret);

/* Forgets what is too old; to be called now and then. */
void ssm_memory_forget_old(SsmMemory *m, uint64_t now_msec);

void ssm_record_done(SsmRecord *r);
