/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "macro.h"

/*
 * A host on loopback that answers what it is told to, in the thread of whoever asks: `fd` is the
 * one that http_step() watches besides. Whatever it is asked counts as a request when its head is
 * there, and is answered once; then the connection is closed for writing, so that nobody waits for
 * more.
 */

typedef struct FuzzServer FuzzServer;

/* Gives the bytes of the next answer, `size` of them. */
typedef const void *(*fuzz_answer_t)(const char *request, size_t *ret_size, void *userdata);

/* There is one in a process. */
FuzzServer *fuzz_server(void);
int fuzz_server_fd(const FuzzServer *s);
const char *fuzz_server_url(const FuzzServer *s); /* without a path */

/* Does what there is to do. */
void fuzz_server_serve(FuzzServer *s, fuzz_answer_t answer, void *userdata);

/* Closes all connections: nothing of this input is left for the next. */
void fuzz_server_reset(FuzzServer *s);
