/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>
#include <sys/queue.h>

#include <curl/curl.h>

#include "http.h"
#include "macro.h"

/* Between http.c, http-stream.c and http-recheck.c; nobody else's. */

/* What one http_step() waits for. */
typedef struct HttpWaits HttpWaits;

/* `events`: CURL_WAIT_POLLIN, _POLLOUT. Gives a number to ask http_wait_is_over() with in the same
 * step. */
int http_wait_for_fd(HttpWaits *w, int fd, short events);
bool http_wait_is_over(const HttpWaits *w, int number); /* or it is not known; so it is if < 0 */
void http_wait_for_all(HttpWaits *w, Http *h);          /* all that libcurl waits for */
void http_wait_at_most(HttpWaits *w, uint64_t usec);

/* What a handle of libcurl's belongs to: its CURLOPT_PRIVATE. */
typedef struct HttpEasy HttpEasy;
struct HttpEasy {
        bool running;                                 /* libcurl has something to do with it */
        void (*finished)(HttpEasy *e, CURLcode code); /* may call back, and be gone then */
};

_must_check_ int http_add_easy(Http *h, HttpEasy *e, CURL *easy);
void http_remove_easy(Http *h, HttpEasy *e, CURL *easy);

/* Something besides transfers that http_step() does. */
typedef struct HttpWatch HttpWatch;
struct HttpWatch {
        void (*wait)(HttpWatch *w, HttpWaits *waits);      /* says what it waits for */
        void (*act)(HttpWatch *w, const HttpWaits *waits); /* once in each step; may call back, and
                                                              may be gone then */
        void (*end)(HttpWatch *w); /* its Http goes: it has to remove itself */
        uint64_t round;
        LIST_ENTRY(HttpWatch) entry;
};

void http_add_watch(Http *h, HttpWatch *w);
void http_remove_watch(HttpWatch *w);

/* Sets what holds for all connections of `h`: rules for URLs, TLS, proxies. *ret_host: for
 * messages. */
_must_check_ int http_set_connection(const Http *h, CURL *easy, const char *url,
                                     unsigned connect_sec, char **ret_host, char **reterr);

/* What libcurl's result means to callers, as http_done_t says. `text` is libcurl's own, and is made
 * to be the same for the same failure. */
_must_check_ int http_judge(CURLcode code, const char *host, char *text, char **reterr);
