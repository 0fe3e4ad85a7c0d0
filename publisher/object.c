/* SPDX-License-Identifier: Apache-2.0 */
#include "object.h"

#include <time.h>

#include "err.h"
#include "log.h"

#define RANGE_SIZE ((uint64_t) 8 << 20)

static void on_notice(const char *text)
{
        log_warning("The store: %s", text);
}

int object_store_open(const char *url, Store **ret, char **reterr)
{
        int r = store_open(url, ret, reterr);

        if (r >= 0)
                store_set_notice(*ret, on_notice);
        return r;
}

static int judge(int r, const char *path, char **reterr)
{
        if (r == STORE_UNKNOWN)
                return fail(
                        reterr, -EACCES,
                        "the store does not say whether %s exists (403): grant s3:GetObject and "
                        "s3:ListBucket on the store's prefix",
                        path);
        return r;
}

int object_read(Store *s, const char *path, size_t size_max, char **ret, size_t *ret_size,
                char **ret_etag, char **reterr)
{
        const StoreRequest get = { .method = STORE_GET, .path = path, .size_max = size_max };
        _cleanup_(store_reply_done) StoreReply reply = {};
        int r = judge(store_call(s, &get, &reply, reterr), path, reterr);

        if (r != 0)
                return r;
        if (!reply.data) {
                reply.data = strdup("");
                if (!reply.data)
                        return -ENOMEM;
        }
        *ret = TAKE_PTR(reply.data);
        *ret_size = reply.size;
        if (ret_etag)
                *ret_etag = TAKE_PTR(reply.etag);
        return 0;
}

int object_read_exactly(Store *s, const char *path, uint64_t size, const Sha256 *sha256_expected,
                        char **ret, char **reterr)
{
        _cleanup_free_ char *data = NULL;
        size_t actual_size = 0;
        Sha256 actual;
        int r = object_read(s, path, MAX(size, UINT64_C(1)), &data, &actual_size, NULL, reterr);

        if (r == STORE_ABSENT)
                return fail(reterr, -ENOENT, "%s is missing in the store", path);
        if (r == -EFBIG || (r >= 0 && actual_size != size))
                return fail(reterr, -EKEYREJECTED, "%s has not the %llu bytes that it should have",
                            path, (unsigned long long) size);
        if (r < 0)
                return r;
        r = sha256(data, actual_size, &actual);
        if (r < 0)
                return r;
        if (!sha256_equal(&actual, sha256_expected))
                return fail(reterr, -EKEYREJECTED, "%s has not the digest that it should have",
                            path);
        *ret = TAKE_PTR(data);
        return 0;
}

void conflict_pause(unsigned n_try)
{
        const uint64_t msec = UINT64_C(50) << n_try;
        struct timespec left = { .tv_sec = msec / 1000, .tv_nsec = msec % 1000 * 1000000 };

        while (nanosleep(&left, &left) < 0 && errno == EINTR)
                ;
}

/* 0: the object has exactly these bytes, STORE_CONFLICT: others, STORE_ABSENT: it isn't there. */
static int compare(Store *s, const char *path, const char *data, size_t size, char **reterr)
{
        _cleanup_free_ char *there = NULL;
        size_t there_size = 0;
        int r = object_read(s, path, size + 1, &there, &there_size, NULL, reterr);

        if (r == -EFBIG)
                return STORE_CONFLICT;
        if (r != 0)
                return r;
        return there_size == size && memcmp(there, data, size) == 0 ? 0 : STORE_CONFLICT;
}

int object_create(Store *s, const char *path, const char *data, size_t size, char **reterr)
{
        const StoreRequest put = {
                .method = STORE_PUT,
                .path = path,
                .if_none_match = "*",
                .body = data,
                .body_size = size,
                .content_type = "application/json",
        };

        for (unsigned i = 0; i < N_CONFLICT_TRIES; i++) {
                int r = judge(store_call(s, &put, NULL, reterr), path, reterr);
                if (r != STORE_CONFLICT)
                        return r;
                r = compare(s, path, data, size, reterr);
                if (r != STORE_ABSENT)
                        return r;
                conflict_pause(i);
        }
        return fail(reterr, -EHOSTDOWN,
                    "the store refused %d times to make %s, which does not exist", N_CONFLICT_TRIES,
                    path);
}

struct ObjectReader {
        Store *store;
        char *path, *etag;
        uint64_t size, fetched; /* of the object; how much of it was asked for */
        uint8_t *buffer;        /* two ranges long: what is left of one, and the next */
        size_t start, end;      /* what lies in it and is not taken */
};

int object_reader_new(Store *s, const char *path, uint64_t size, ObjectReader **ret)
{
        _cleanup_(object_reader_freep) ObjectReader *r = calloc(1, sizeof(ObjectReader));

        if (!r)
                return -ENOMEM;
        *r = (ObjectReader){
                .store = s,
                .path = strdup(path),
                .size = size,
                .buffer = malloc(2 * RANGE_SIZE),
        };
        if (!r->path || !r->buffer)
                return -ENOMEM;
        *ret = TAKE_PTR(r);
        return 0;
}

ObjectReader *object_reader_free(ObjectReader *r)
{
        if (!r)
                return NULL;
        free(r->path);
        free(r->etag);
        free(r->buffer);
        free(r);
        return NULL;
}

uint64_t object_reader_left(const ObjectReader *r)
{
        return r->size - r->fetched + (r->end - r->start);
}

static int judge_range(const ObjectReader *r, int result, const StoreReply *reply, uint64_t size,
                       char **reterr)
{
        if (result == STORE_ABSENT)
                return fail(reterr, -ENOENT, "%s is missing in the store", r->path);
        if (result == STORE_CONFLICT)
                return fail(reterr, -EKEYREJECTED, "%s was replaced while it was read", r->path);
        if (result == -EPROTO || result == -EFBIG || (result == 0 && reply->size != size))
                return fail(reterr, -EKEYREJECTED,
                            "%s has not the %llu bytes that it should have: there is nothing, or "
                            "not enough, at offset %llu",
                            r->path, (unsigned long long) r->size, (unsigned long long) r->fetched);
        return judge(result, r->path, reterr);
}

static int fetch_range(ObjectReader *r, char **reterr)
{
        const uint64_t size = MIN(RANGE_SIZE, r->size - r->fetched);
        const StoreRequest get = {
                .method = STORE_GET,
                .path = r->path,
                .if_match = r->etag,
                .range_offset = r->fetched,
                .range_size = size,
                .size_max = size,
        };
        _cleanup_(store_reply_done) StoreReply reply = {};
        int result = store_call(r->store, &get, &reply, reterr);

        result = judge_range(r, result, &reply, size, reterr);
        if (result != 0)
                return result;
        memmove(r->buffer, r->buffer + r->start, r->end - r->start);
        r->end -= r->start;
        r->start = 0;
        memcpy(r->buffer + r->end, reply.data, size);
        r->end += size;
        r->fetched += size;
        if (!r->etag)
                r->etag = TAKE_PTR(reply.etag);
        return 0;
}

int object_reader_take(ObjectReader *r, size_t n, const uint8_t **ret, char **reterr)
{
        if (n == 0 || n > RANGE_SIZE || n > object_reader_left(r))
                return -EINVAL;
        while (r->end - r->start < n) {
                int k = fetch_range(r, reterr);
                if (k < 0)
                        return k;
        }
        *ret = r->buffer + r->start;
        r->start += n;
        return 0;
}

int object_digest(Store *s, const char *path, uint64_t size, store_progress_t progress,
                  void *userdata, Sha256 *ret, char **reterr)
{
        _cleanup_(object_reader_freep) ObjectReader *reader = NULL;
        _cleanup_(hasher_freep) Hasher *h = NULL;
        int r = object_reader_new(s, path, size, &reader);

        if (r >= 0)
                r = hasher_new(&h);
        while (r >= 0 && object_reader_left(reader) > 0) {
                size_t n = MIN(RANGE_SIZE, object_reader_left(reader));
                const uint8_t *data;
                r = object_reader_take(reader, n, &data, reterr);
                if (r >= 0)
                        r = hasher_add(h, data, n);
                if (r >= 0 && progress)
                        progress(size - object_reader_left(reader), size, userdata);
        }
        return r < 0 ? r : hasher_finish(h, ret);
}
