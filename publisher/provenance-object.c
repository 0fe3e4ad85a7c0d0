/* SPDX-License-Identifier: Apache-2.0 */
#include "provenance-object.h"

#include <errno.h>
#include <stdio.h>

#include "err.h"
#include "log.h"
#include "object.h"
#include "statement.h"

#define BESIDE_DIGITS 16

static int set_path(Manifest *m, const char *suffix)
{
        char *path;

        if (asprintf(&path, "%s/releases/%s/provenance%s.json", m->app, m->release, suffix) < 0)
                return -ENOMEM;
        free(m->provenance.path);
        m->provenance.path = path;
        return 0;
}

static int set_content(Manifest *m, const char *text, size_t size)
{
        m->provenance.size_bytes = size;
        return sha256(text, size, &m->provenance.sha256);
}

/* Beside one that is there: the name is its own digest's. */
static int set_path_beside(Manifest *m)
{
        char hex[SHA256_HEX_SIZE], suffix[BESIDE_DIGITS + 2];

        (void) snprintf(suffix, sizeof(suffix), "-%s", sha256_to_hex(&m->provenance.sha256, hex));
        return set_path(m, suffix);
}

/* As statement_format() writes it. */
static int check_repository(const Provenance *p, const Source *s, char **reterr)
{
        _cleanup_free_ char *encoded = statement_uri(strempty(s->repository));
        const char *repository;

        if (!encoded)
                return -ENOMEM;
        repository = encoded[0] == '.' || encoded[0] == '\0' ? NULL : encoded;
        if (streq_ptr(p->repository, repository))
                return 0;
        return fail(reterr, -EBADMSG, "its repository is %s, not %s",
                    p->repository ? p->repository : "not said",
                    repository ? repository : "left out");
}

/* Whether it may stand for a release that is made now. */
static int judge(const Signers *signers, const char *builder, const Manifest *m, const char *text,
                 size_t size, char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_(provenance_freep) Provenance *p = NULL;
        int r = provenance_open(text, size, &e, &p, reterr);

        if (r >= 0)
                r = signers_accept_as(signers, STATEMENT_PAYLOAD_TYPE, e, reterr);
        if (r >= 0)
                r = provenance_check(p, m, reterr);
        if (r >= 0 && !streq(p->builder, builder))
                r = fail(reterr, -EBADMSG, "its builder is %s, not %s", p->builder, builder);
        if (r >= 0)
                r = check_repository(p, &m->source, reterr);
        return r;
}

/* The first one, if it fits, becomes the manifest's. STORE_ABSENT; -EBADMSG: it does not fit. */
static int take_first(Store *s, const Signers *signers, const char *builder, Manifest *m,
                      char **reterr)
{
        _cleanup_free_ char *text = NULL, *err = NULL;
        size_t size = 0;
        int r = object_read(s, m->provenance.path, PROVENANCE_SIZE_MAX, &text, &size, NULL, &err);

        if (r == 0)
                r = judge(signers, builder, m, text, size, &err);
        if (r == -EFBIG || r == -EKEYREJECTED)
                r = -EBADMSG;
        if (r < 0)
                return fail(reterr, r, "%s", err_text(r, err));
        return r == STORE_ABSENT ? r : set_content(m, text, size);
}

static int make(const Signers *signers, const char *builder, uint64_t started_sec, Manifest *m,
                char **ret, char **reterr)
{
        _cleanup_free_ char *payload = NULL;
        size_t size = 0;
        int r = statement_format(m, builder, started_sec, &payload, &size, reterr);

        if (r >= 0)
                r = signers_sign_as(signers, STATEMENT_PAYLOAD_TYPE, payload, size, ret, &size,
                                    reterr);
        return r < 0 ? r : set_content(m, *ret, size);
}

int provenance_object_describe(Store *s, const Signers *signers, const char *builder,
                               uint64_t started_sec, Manifest *m, char **ret, char **reterr)
{
        _cleanup_free_ char *err = NULL;
        int first = set_path(m, ""), r;

        if (first >= 0)
                first = take_first(s, signers, builder, m, &err);
        if (first < 0 && first != -EBADMSG)
                return fail(reterr, first, "%s", err_text(first, err));
        *ret = NULL;
        if (first == 0)
                return 0;
        r = make(signers, builder, started_sec, m, ret, reterr);
        if (r >= 0 && first == -EBADMSG) {
                log_info("The store has this release with a provenance that can't stand for this "
                         "one (%s); another is put beside it.",
                         err_text(first, err));
                r = set_path_beside(m);
        }
        return r;
}

int provenance_object_create(Store *s, const char *text, Manifest *m, char **reterr)
{
        size_t size = m->provenance.size_bytes;
        int r = object_create(s, m->provenance.path, text, size, reterr);

        if (r != STORE_CONFLICT)
                return r;
        /* Somebody released it at the same time. */
        r = set_path_beside(m);
        if (r >= 0)
                r = object_create(s, m->provenance.path, text, size, reterr);
        return r == STORE_CONFLICT
                       ? fail(reterr, -EEXIST,
                              "%s is in the store with other content: find out who put it there",
                              m->provenance.path)
                       : r;
}

int provenance_object_read(Store *s, const Manifest *m, Envelope **ret_envelope, Provenance **ret,
                           char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_(provenance_freep) Provenance *p = NULL;
        _cleanup_free_ char *text = NULL;
        const StoredObject *o = &m->provenance;
        int r = object_read_exactly(s, o->path, o->size_bytes, &o->sha256, &text, reterr);

        if (r < 0)
                return r;
        r = provenance_open(text, o->size_bytes, &e, &p, reterr);
        if (r >= 0)
                r = provenance_check(p, m, reterr);
        if (r < 0)
                return fail_prefix(reterr, r, "%s", o->path);
        if (ret_envelope)
                *ret_envelope = TAKE_PTR(e);
        *ret = TAKE_PTR(p);
        return 0;
}
