/* SPDX-License-Identifier: Apache-2.0 */
#include "channel.h"

#include <stdio.h>

#include "err.h"
#include "object.h"

#define HALT_NONE        "{\"halted\":false}\n"
#define LISTING_SIZE_MAX ((uint64_t) 256 << 20)
#define PATH_TEXT_SIZE   256 /* names are at most NAME_SIZE_MAX bytes, serials 16 digits */

static char *manifest_path(const Channel *c, char buffer[static PATH_TEXT_SIZE])
{
        (void) snprintf(buffer, PATH_TEXT_SIZE, "%s/channels/%s/manifest.json", c->app, c->name);
        return buffer;
}

static char *history_path(const Channel *c, uint64_t serial, char buffer[static PATH_TEXT_SIZE])
{
        (void) snprintf(buffer, PATH_TEXT_SIZE, "%s/channels/%s/history/%llu.json", c->app, c->name,
                        (unsigned long long) serial);
        return buffer;
}

Published *published_free(Published *p)
{
        if (!p)
                return NULL;
        free(p->data);
        free(p->etag);
        envelope_free(p->envelope);
        manifest_free(p->manifest);
        free(p);
        return NULL;
}

static int parse(const Channel *c, Published *p, char **reterr)
{
        int r = envelope_parse(p->data, p->size, MANIFEST_PAYLOAD_TYPE, &p->envelope, reterr);

        if (r >= 0)
                r = manifest_parse(p->envelope->payload, p->envelope->payload_size, &p->manifest,
                                   reterr);
        if (r < 0)
                return r;
        if (!streq(p->manifest->app, c->app) || !streq(p->manifest->channel, c->name))
                return fail(reterr, -EBADMSG, "it is the manifest of %s/%s", p->manifest->app,
                            p->manifest->channel);
        return 0;
}

static int read_published(const Channel *c, const char *path, Published **ret, char **reterr)
{
        _cleanup_(published_freep) Published *p = calloc(1, sizeof(Published));
        int r;

        if (!p)
                return -ENOMEM;
        r = object_read(c->store, path, ENVELOPE_SIZE_MAX, &p->data, &p->size, &p->etag, reterr);
        if (r != 0)
                return r;
        r = parse(c, p, reterr);
        if (r < 0)
                return fail_prefix(reterr, r, "%s", path);
        *ret = TAKE_PTR(p);
        return 0;
}

int channel_read(const Channel *c, Published **ret, char **reterr)
{
        char path[PATH_TEXT_SIZE];

        return read_published(c, manifest_path(c, path), ret, reterr);
}

int channel_read_serial(const Channel *c, uint64_t serial, Published **ret, char **reterr)
{
        _cleanup_(published_freep) Published *p = NULL;
        char path[PATH_TEXT_SIZE];
        int r = read_published(c, history_path(c, serial, path), &p, reterr);

        if (r != 0)
                return r;
        if (p->manifest->serial != serial)
                return fail(reterr, -EBADMSG, "%s: it is the manifest with serial %llu", path,
                            (unsigned long long) p->manifest->serial);
        *ret = TAKE_PTR(p);
        return 0;
}

uint64_t history_serial(const Channel *c, const char *key)
{
        char path[PATH_TEXT_SIZE];
        const char *slash = strrchr(key, '/');
        size_t n_digits;

        if (!slash)
                return 0;
        n_digits = strspn(slash + 1, "0123456789");
        if (n_digits == 0 || n_digits > 16)
                return 0;
        uint64_t serial = strtoull(slash + 1, NULL, 10);
        /* Written back it must be the same key: no leading zeros, nothing before or after. */
        if (serial > SERIAL_MAX || !streq(history_path(c, serial, path), key))
                return 0;
        return serial;
}

static int compare_serials(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

        return x < y ? -1 : x > y;
}

int channel_list_history(const Channel *c, uint64_t **ret, size_t *ret_n, char **reterr)
{
        char path[PATH_TEXT_SIZE];
        const StoreRequest list = { .method = STORE_LIST,
                                    .path = path,
                                    .size_max = LISTING_SIZE_MAX };
        _cleanup_(store_reply_done) StoreReply reply = {};
        _cleanup_free_ uint64_t *serials = NULL;
        size_t n = 0, n_lines = 0;

        (void) snprintf(path, sizeof(path), "%s/channels/%s/history", c->app, c->name);
        int r = store_call(c->store, &list, &reply, reterr);
        if (r < 0)
                return r;
        if (r == STORE_UNKNOWN)
                return fail(reterr, -EACCES,
                            "the store does not list %s: grant s3:ListBucket on its prefix", path);
        for (size_t i = 0; i < reply.size; i++)
                n_lines += reply.data[i] == '\n';
        serials = calloc(n_lines + 2, sizeof(uint64_t));
        if (!serials)
                return -ENOMEM;
        for (char *save = NULL, *line = reply.data ? strtok_r(reply.data, "\n", &save) : NULL; line;
             line = strtok_r(NULL, "\n", &save)) {
                serials[n] = history_serial(c, line);
                n += serials[n] > 0;
        }
        qsort(serials, n, sizeof(uint64_t), compare_serials);
        *ret = TAKE_PTR(serials);
        *ret_n = n;
        return 0;
}

void channel_head_done(ChannelHead *h)
{
        published_free(h->current);
        free(h->serials);
        *h = (ChannelHead){};
}

/* The highest serial is one of the history, above manifest.json's. */
static int continue_from_history(const Channel *c, ChannelHead *h, uint64_t serial, char **reterr)
{
        _cleanup_(published_freep) Published *p = NULL;
        int r = channel_read_serial(c, serial, &p, reterr);

        if (r < 0)
                return r;
        if (r == STORE_ABSENT)
                return fail(reterr, -ENOENT, "the history's entry %llu went away while it was read",
                            (unsigned long long) serial);
        h->serial = serial;
        h->deployment = MAX(h->deployment, p->manifest->deployment);
        h->was_set_back = true;
        return 0;
}

int channel_head(const Channel *c, ChannelHead *ret, char **reterr)
{
        _cleanup_(channel_head_done) ChannelHead h = {};
        int r = channel_list_history(c, &h.serials, &h.n_serials, reterr);

        if (r >= 0)
                r = channel_read(c, &h.current, reterr);
        if (r < 0)
                return r;
        if (h.current) {
                h.serial = h.current->manifest->serial;
                h.deployment = h.current->manifest->deployment;
        }
        uint64_t highest = h.n_serials > 0 ? h.serials[h.n_serials - 1] : 0;
        if (highest > h.serial) {
                r = continue_from_history(c, &h, highest, reterr);
                if (r < 0)
                        return r;
        }
        *ret = h;
        h = (ChannelHead){};
        return 0;
}

static bool in_history(const ChannelHead *h, uint64_t serial)
{
        return h->n_serials > 0 && bsearch(&serial, h->serials, h->n_serials, sizeof(uint64_t),
                                           compare_serials) != NULL;
}

int channel_head_serials(const ChannelHead *h, uint64_t **ret, size_t *ret_n)
{
        uint64_t *serials = calloc(h->n_serials + 1, sizeof(uint64_t));
        size_t n = 0;

        if (!serials)
                return -ENOMEM;
        for (size_t i = 0; i < h->n_serials; i++)
                serials[n++] = h->serials[i];
        if (h->current && !in_history(h, h->current->manifest->serial))
                serials[n++] = h->current->manifest->serial;
        qsort(serials, n, sizeof(uint64_t), compare_serials);
        for (size_t i = 0; i < n / 2; i++) {
                uint64_t swapped = serials[i];
                serials[i] = serials[n - 1 - i];
                serials[n - 1 - i] = swapped;
        }
        *ret = serials;
        *ret_n = n;
        return 0;
}

int channel_head_read(const Channel *c, const ChannelHead *h, uint64_t serial, Published **ret,
                      char **reterr)
{
        int r;

        if (in_history(h, serial))
                r = channel_read_serial(c, serial, ret, reterr);
        else /* not written there by a publisher that died: still only in manifest.json */
                r = channel_read(c, ret, reterr);
        if (r == STORE_ABSENT)
                return fail(reterr, -ENOENT,
                            "the manifest with serial %llu went away while it was "
                            "read",
                            (unsigned long long) serial);
        return r;
}

static int write_history(const Channel *c, uint64_t serial, const char *data, size_t size,
                         char **reterr)
{
        char path[PATH_TEXT_SIZE];
        int r = object_create(c->store, history_path(c, serial, path), data, size, reterr);

        if (r == STORE_CONFLICT)
                return fail(reterr, -EKEYREJECTED,
                            "%s differs from the manifest that was published with this serial: "
                            "something other than slipway-publish wrote one of them; compare both, "
                            "then remove the wrong one",
                            path);
        return r;
}

static int make_halt(const Channel *c, char **reterr)
{
        char path[PATH_TEXT_SIZE];

        (void) snprintf(path, sizeof(path), "%s/channels/%s/halt.json", c->app, c->name);
        int r = object_create(c->store, path, HALT_NONE, STRLEN(HALT_NONE), reterr);
        return r == STORE_CONFLICT ? 0 : r; /* it may even be pulled: not ours to say */
}

static int put_manifest(const Channel *c, const ChannelHead *h, const char *data, size_t size,
                        char **reterr)
{
        char path[PATH_TEXT_SIZE];
        const StoreRequest put = {
                .method = STORE_PUT,
                .path = manifest_path(c, path),
                .if_match = h->current ? h->current->etag : NULL,
                .if_none_match = h->current ? NULL : "*",
                .body = data,
                .body_size = size,
                .content_type = "application/json",
        };
        int r;

        if (h->current && !h->current->etag)
                return fail(reterr, -EPROTO,
                            "the store gives no ETag for %s, without which "
                            "publishing is not safe",
                            path);
        r = store_call(c->store, &put, NULL, reterr);
        if (r == STORE_ABSENT) /* removed meanwhile */
                return STORE_CONFLICT;
        return r == STORE_UNKNOWN ? fail(reterr, -EACCES, "the store refuses to write %s", path)
                                  : r;
}

typedef enum Outcome {
        OUTCOME_OURS,      /* our manifest stands, or stood */
        OUTCOME_THEIRS,    /* another one stands */
        OUTCOME_UNCHANGED, /* still what it was */
} Outcome;

static bool has_data(const Published *p, const char *data, size_t size)
{
        return p && p->size == size && memcmp(p->data, data, size) == 0;
}

/* After a conflict or a lost answer: what became of our manifest. */
static int find_outcome(const Channel *c, const ChannelHead *h, const char *data, size_t size,
                        Published **ret_now, char **reterr)
{
        _cleanup_(published_freep) Published *now = NULL, *then = NULL;
        int r = channel_read(c, &now, reterr);

        if (r < 0)
                return r;
        if (has_data(now, data, size))
                return OUTCOME_OURS;
        if (h->current ? has_data(now, h->current->data, h->current->size) : !now)
                return OUTCOME_UNCHANGED;
        r = channel_read_serial(c, h->serial + 1, &then, reterr);
        if (r < 0)
                return r;
        if (has_data(then, data, size))
                return OUTCOME_OURS;
        *ret_now = TAKE_PTR(now);
        return OUTCOME_THEIRS;
}

/* Step 3. 0, or CHANNEL_LOST. */
static int replace_manifest(const Channel *c, const ChannelHead *h, const char *data, size_t size,
                            Published **ret_winner, char **reterr)
{
        _cleanup_free_ char *cause = NULL;
        int r = STORE_CONFLICT;

        for (unsigned i = 0; i < N_CONFLICT_TRIES && r == STORE_CONFLICT; i++) {
                _cleanup_free_ char *err = NULL;
                r = put_manifest(c, h, data, size, &cause);
                if (r == 0)
                        return 0;
                /* Whatever the last try ended with, an earlier one may have worked unnoticed. */
                int outcome = find_outcome(c, h, data, size, ret_winner, &err);
                if (outcome == OUTCOME_OURS)
                        return 0;
                if (outcome == OUTCOME_THEIRS)
                        return CHANNEL_LOST;
                if (outcome == OUTCOME_UNCHANGED && r == STORE_CONFLICT)
                        conflict_pause(i);
                if (outcome < 0)
                        return fail(reterr, outcome,
                                    "it is not known whether the manifest was published (%s%s%s): "
                                    "'slipway-publish log' will tell",
                                    r < 0 ? err_text(r, cause) : "", r < 0 ? "; then " : "",
                                    err_text(outcome, err));
        }
        if (r == STORE_CONFLICT)
                return fail(reterr, -EHOSTDOWN,
                            "the store refused to replace the manifest %d times although nobody "
                            "else did: nothing was published; try again",
                            N_CONFLICT_TRIES);
        return fail(reterr, r, "%s", err_text(r, cause));
}

int channel_publish(const Channel *c, const ChannelHead *h, const char *data, size_t size,
                    Published **ret_winner, char **reterr)
{
        const Published *current = h->current;
        int r = 0;

        if (!current)
                r = make_halt(c, reterr);
        else if (!in_history(h, current->manifest->serial))
                r = write_history(c, current->manifest->serial, current->data, current->size,
                                  reterr);
        if (r >= 0)
                r = replace_manifest(c, h, data, size, ret_winner, reterr);
        if (r != 0)
                return r;
        return write_history(c, h->serial + 1, data, size, reterr) < 0 ? CHANNEL_HALF : 0;
}
