/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "macro.h"

/*
 * Shares work out among threads. Each thread begins with a share of its own, far from the others':
 * files that come one after the other lie in the same directory, and who makes a name in a
 * directory waits for who does already.
 */

#define PARALLEL_THREADS_MAX 4

/* Does item n, in the thread that `worker` is for. Negative: nothing more is begun. */
typedef int (*parallel_do_t)(void *worker, size_t n, char **reterr);

typedef struct ParallelWork {
        parallel_do_t do_item;
        size_t n_items;
        size_t n_at_once; /* neighbours that a thread does one after the other; from 1 on */
} ParallelWork;

/* How many threads the work is worth: one for each CPU, as counted by the first call, from 1 to
 * PARALLEL_THREADS_MAX. */
size_t parallel_n_workers(const ParallelWork *work);

/* Does all items: in the caller's thread with workers[0], and in one for each of the others, as far
 * as threads are to be had. All of them have ended when it returns. Errors are those of an item. */
_must_check_ int parallel_do(const ParallelWork *work, void *const workers[], size_t n_workers,
                             char **reterr);
