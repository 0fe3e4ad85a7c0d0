/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

/*
 * The agent's programs, linked once more so that each operation that changes a file and each
 * message that goes to the bus is a point where they can be stopped (meson -Dcrash_points=true).
 * The linker leads these calls to crash-point.c (--wrap=NAME for each of its WRAP);
 * check-wrapped.py sees to it that none is missing. The product's code knows nothing of it.
 *
 * All processes of an agent share the file CRASH_FILE. Who runs them makes it (CRASH_FILE_SIZE
 * bytes, mode 0666), and removes it afterwards; where there is none, they run as they always do. It
 * begins with a CrashFile, and then holds one CrashRecord after another. All numbers are in the
 * machine's byte order.
 *
 * A process that comes to point `armed`, or a later one, stops there for good. Points before it
 * that are under way in other processes come to their end (n_under_way gets 0); then all of them
 * are to be killed. So everything up to `armed` - 1 has happened, and nothing else.
 */

#define CRASH_FILE      "/run/slipway.crash-points"
#define CRASH_FILE_SIZE (16U << 20)

enum {
        CRASH_LOSE_FILE_SYNCS = 1U << 0, /* fsync() of a file does nothing: a fault to be found */
};

typedef struct CrashFile {
        _Atomic uint64_t n_points;
        uint64_t armed; /* 0: only count */
        _Atomic uint64_t log_size;
        _Atomic uint32_t n_under_way;
        _Atomic uint32_t stopped; /* a process stands at point `armed` */
        uint32_t flags;
        uint32_t boot_id_set;
        uint8_t boot_id[16]; /* what sd_id128_get_boot(3) gives, if it is set */
        uint8_t unused[8];
} CrashFile;

/* What happened at a point: enough to tell what of it a loss of power takes back. */
typedef enum CrashOperation {
        CRASH_STOP = 1, /* not done: the process stands here; text: its program and the call */
        CRASH_BUS,      /* text: the call */
        CRASH_OPEN,     /* with O_CREAT or O_TRUNC: name in dir; node; value: flags */
        CRASH_WRITE,    /* node; value: offset; text: the bytes */
        CRASH_TRUNCATE, /* node; value: size */
        CRASH_ALLOCATE, /* node; value: size that it has at least */
        CRASH_META,     /* node */
        CRASH_RENAME,   /* name in dir to text in target; value: flags of renameat2(2) */
        CRASH_UNLINK,   /* name in dir */
        CRASH_MKDIR,    /* name in dir; node */
        CRASH_SYMLINK,  /* name in dir; node; text: what it holds */
        CRASH_LINK,     /* name in dir; node, which has it as one more name */
        CRASH_SYNC,     /* node */
        CRASH_SYNCFS,   /* node: any of the file system */
} CrashOperation;

typedef struct CrashNode {
        uint64_t device, inode;
        uint32_t mode, uid, gid, unused;
        int64_t mtime_sec, mtime_nsec;
} CrashNode;

typedef struct CrashRecord {
        uint32_t size; /* of all of it: the record, its name and its text, padded to 8 bytes */
        _Atomic uint32_t operation; /* written last; 0: cut off */
        uint64_t point;
        CrashNode node; /* as it is after the operation */
        uint64_t dir_device, dir_inode, target_device, target_inode;
        uint64_t value;
        uint32_t name_size, text_size;
} CrashRecord;
