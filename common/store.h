/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "digest.h"
#include "macro.h"

/*
 * A store: where releases are published. One interface over file:///dir, s3://bucket/prefix and
 * https://host/path (read only: for a web server or CDN before one of the others); the paths of
 * objects are the same in all (store_path_is_valid()).
 *
 * Calls are asynchronous at heart (slipway-fetch has many under way), with a synchronous wrapper
 * for the publisher. One store belongs to one thread. Network stores keep connections alive between
 * calls and never share them with another trust domain.
 *
 * s3:// also takes the ARN of an access point, s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/p,
 * its alias as a bucket, and options behind the prefix, s3://bucket/prefix?a=b&c=d:
 *   kms-key=ID           encrypt what is written with this KMS key (SSE-KMS)
 *   requester-pays=true  we agree to pay for the requests
 *   owner=ACCOUNT        refuse a bucket of any other account
 *   style=path|virtual   where the bucket's name stands, if not where it would by itself
 *
 * Credentials come from the first source that is configured, the region from the first that has it
 * (credentials.h); calls wait while they are fetched, and end with -ENOKEY when there are none. The
 * environment also says what the AWS SDKs name the same: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL
 * (another server than AWS, or a VPC endpoint; else the profile's),
 * AWS_IGNORE_CONFIGURED_ENDPOINT_URLS, AWS_USE_DUALSTACK_ENDPOINT, AWS_USE_FIPS_ENDPOINT,
 * AWS_CA_BUNDLE; and libcurl's https_proxy and no_proxy, which are for AWS services and https
 * stores.
 */

typedef struct Store Store;

/* Whether the URL is of a scheme that there is a store for; opens nothing. */
_must_check_ int store_url_check(const char *url, char **reterr);

/* Whether nothing can be written there, whoever asks. */
bool store_url_is_read_only(const char *url);

/* Opens by URL. Unknown schemes, no region or credentials configured: -EINVAL with what to
 * set. */
_must_check_ int store_open(const char *url, Store **ret, char **reterr);

Store *store_free(Store *s); /* cancels what is under way, without calling back */
DEFINE_CLEANUP_FUNC(Store *, store_free);

const char *store_url(const Store *s);

/* A word for where the credentials come from that requests are signed with now, such as
 * "environment"; NULL: there are none. */
const char *store_credentials(const Store *s);

/* Limits of time for a store on the network; a store has these from the start. */
typedef struct StoreLimits {
        unsigned connect_sec;  /* 10: until a connection stands, TLS included */
        unsigned stall_sec;    /* 15: without anything moving */
        unsigned backoff_msec; /* 200: the longest wait before the second try; doubles up to 20 s;
                                  the real wait is random below it, after what the server asks
                                  for by Retry-After, up to 20 s */
} StoreLimits;

void store_set_limits(Store *s, const StoreLimits *limits);

/* Tells, once per store, what whoever runs it should know though calls go on: a wrong clock, a
 * bucket in another region, credentials that can't be renewed. NULL, as at the start: nobody is
 * told. */
typedef void (*store_notice_t)(const char *text);
void store_set_notice(Store *s, store_notice_t notice);

typedef enum StoreMethod {
        STORE_GET,
        STORE_PUT,
        STORE_LIST, /* keys below a path; the answer's data is one key a line, relative to the
                       store's root, sorted */
} StoreMethod;

/* Outcomes of a call, next to 0 (done) and negative errnos. */
enum {
        STORE_NOT_MODIFIED = 1, /* GET with if_none_match: the object still has this ETag */
        STORE_ABSENT,           /* there is no such object, and the store said so (404) */
        STORE_CONFLICT, /* the condition of a PUT or of if_match does not hold (412), or could
                           not be judged in a race with others (409, after all tries) */
        STORE_UNKNOWN,  /* 403: refused, or absent and we may not list */
};

/* Tells how far a call is (`total_bytes` of a GET without range is its size_max); `done_bytes`
 * never falls. Must not start or cancel calls. */
typedef void (*store_progress_t)(uint64_t done_bytes, uint64_t total_bytes, void *userdata);

/* How a store that can do so by little asks again, as long as the answer is STORE_NOT_MODIFIED: in
 * so many microseconds; 0: the call ends with this answer. Other stores end it with the first one.
 * What was signed for the first counts for 15 minutes. Gets the call's userdata; must not start or
 * cancel calls. */
typedef uint64_t (*store_again_t)(void *userdata);

/* What to do; strings and bodies are copied, descriptors stay the caller's and must stay open. */
typedef struct StoreRequest {
        StoreMethod method;
        const char *path;     /* LIST: "" is the whole store */
        const char *if_match; /* ETag; GET: of the object a range belongs to; PUT: of the one to be
                                 replaced (STORE_ABSENT: there is none) */
        const char *if_none_match; /* GET: ETag that we have; PUT: "*" = only if there is none */
        store_again_t again;       /* GET with if_none_match; NULL: once */
        uint64_t size_max;         /* GET, LIST: more than so many bytes are -EFBIG; required */

        /* GET: with range_size > 0, exactly these bytes; any other answer to it (200 with the
         * whole, fewer bytes) is -EPROTO. */
        uint64_t range_offset, range_size;

        /* GET: with to_fd, the bytes go to sink_fd (pwrite from sink_offset on), else to the
         * reply's data. */
        bool to_fd;
        int sink_fd;
        uint64_t sink_offset;

        /* PUT: with from_fd, the body is body_size bytes of body_fd from body_offset on. */
        const void *body;
        size_t body_size;
        bool from_fd;
        int body_fd;
        uint64_t body_offset;
        const Sha256 *body_sha256; /* NULL: computed; given, it saves reading the body twice */
        const char *content_type;  /* NULL: application/octet-stream */

        store_progress_t progress; /* GET, PUT: may be NULL; gets the call's userdata */
        unsigned n_tries; /* how often to try in all when the store is down or slow; 0: the default
                             (4) */
} StoreRequest;

typedef struct StoreReply {
        char *data; /* NUL-terminated; NULL if it went to a descriptor */
        size_t size;
        char *etag; /* as the store wrote it, quotes included; NULL if none */
} StoreReply;

void store_reply_done(StoreReply *r);

/* A call under way. */
typedef struct StoreCall StoreCall;

/* `result` is 0, an outcome from above (with STORE_UNKNOWN, `err` says what was refused), or a
 * negative errno with `err` set: -EFBIG, -EPROTO, -EHOSTDOWN (network: after all tries), -EBUSY
 * (5xx, throttling: after all tries), -ETIMEDOUT (stall or deadline: after all tries), -EACCES
 * (credentials refused, or a PUT or LIST; with the store's own code), -EROFS (a PUT to https://),
 * -ENOENT (not the object: the store itself is missing),
 * -EKEYREJECTED (the store's certificate is not trusted), -ENOSPC and the like from a descriptor.
 * `reply` may be emptied by TAKE_PTR; a PUT's has the new object's ETag. The call is gone after the
 * callback; other calls may be started and cancelled in it. */
typedef void (*store_done_t)(int result, StoreReply *reply, const char *err, void *userdata);

/* Never calls back from within. */
_must_check_ int store_start(Store *s, const StoreRequest *request, store_done_t done,
                             void *userdata, StoreCall **ret);

/* Ends it without calling back. NULL is fine; returns NULL. */
StoreCall *store_cancel(StoreCall *c);

/* From now on store_step() also does what `guest` (http.h), which must outlive it, has to do.
 * False: this store is not on the network, and does not. */
typedef struct Http Http;
bool store_attach(Store *s, Http *guest);

/* Waits up to timeout_usec (UINT64_MAX: for ever) until something happens on a connection, a timer
 * or on the socket extra_fd (-1: none), does what there is to do and calls back. Returns 1 if
 * extra_fd is readable or closed, else 0. */
_must_check_ int store_step(Store *s, int extra_fd, uint64_t timeout_usec);

/* The calls under way. */
size_t store_n_calls(const Store *s);

/* Starts a call and steps until it is done (calls that are under way go on meanwhile). Outcomes and
 * errors as above; *ret may be NULL if the reply does not matter. */
_must_check_ int store_call(Store *s, const StoreRequest *request, StoreReply *ret, char **reterr);

/* Uploads a file as a new immutable object: If-None-Match: *; in parts, several at a time, when it
 * is large and the store is s3://. A broken connection costs the part under way, not the upload; an
 * upload that is given up is aborted. STORE_CONFLICT: there is such an object already (not
 * compared). progress() may be NULL; it is called with the bytes that the store has. When stop_fd
 * (-1: none) becomes readable, the upload is given up: -ECANCELED. */
_must_check_ int store_upload(Store *s, const char *path, int fd, uint64_t size,
                              const Sha256 *sha256, store_progress_t progress, void *userdata,
                              int stop_fd, char **reterr);
