/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A small HTTP server for tests that has every fault that a test wants: a process that serves each
 * connection in a process of its own, on a port of 127.0.0.1 that the kernel chooses. */

typedef struct FaultRequest {
        int fd;           /* to write the answer to, byte by byte as it pleases */
        const char *head; /* request line and headers, NUL-terminated */
        char *body;
        size_t body_size;
        int n;            /* how many requests came before this one, over all connections */
        int n_connection; /* on this connection */
} FaultRequest;

/* Answers one request. False: the connection is closed. Runs in another process. */
typedef bool (*fault_serve_t)(const FaultRequest *q);

typedef struct FaultServer {
        pid_t pid;
        uint16_t port;
        struct FaultCounts {
                atomic_int n_requests, n_connections;
                atomic_int scratch[16]; /* for the serving function */
        } * counts;                     /* shared with the server's processes */
} FaultServer;

/* In a path: a request that expects 100 Continue is answered at once, without its body. */
#define FAULT_NO_EXPECT "/no-expect"

void fault_server_start(FaultServer *s, fault_serve_t serve);
void fault_server_stop(FaultServer *s);

/* The counts, in the process that serves. */
struct FaultCounts *fault_counts(void);

/* The value of a header in q->head, copied; NULL: not there. To be freed. */
char *fault_header(const FaultRequest *q, const char *name);

/* Writes a whole answer; `headers` are lines that end in CRLF, or "". */
void fault_answer(const FaultRequest *q, int status, const char *headers, const void *body,
                  size_t size);

/* Writes raw bytes. */
void fault_write(const FaultRequest *q, const void *data, size_t size);

/* Sends nothing more until the client goes. */
void fault_stall(const FaultRequest *q);
