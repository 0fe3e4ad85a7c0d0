/* SPDX-License-Identifier: Apache-2.0 */
#include "sigv4.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "digest.h"
#include "err.h"
#include "secret.h"

#define ALGORITHM   "AWS4-HMAC-SHA256"
#define HEADERS_MAX 32

int uri_encode(const char *s, bool keep_slashes, char **ret)
{
        static const char unreserved[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                         "0123456789-._~";
        static const char hex[] = "0123456789ABCDEF";
        char *text = malloc(3 * strlen(s) + 1), *p = text;

        if (!text)
                return -ENOMEM;
        for (; *s; s++)
                if (strchr(unreserved, *s) || (keep_slashes && *s == '/'))
                        *p++ = *s;
                else {
                        *p++ = '%';
                        *p++ = hex[(unsigned char) *s >> 4];
                        *p++ = hex[(unsigned char) *s & 15];
                }
        *p = '\0';
        *ret = text;
        return 0;
}

/* Sorting whole "name=value" texts would be wrong: "=" sorts after "-" and the digits. */
typedef struct EncodedParam {
        char *name, *value;
} EncodedParam;

static int param_compare(const void *a, const void *b)
{
        const EncodedParam *x = a, *y = b;
        int c = strcmp(x->name, y->name);

        return c != 0 ? c : strcmp(x->value, y->value);
}

static int params_encode(const NameValue *params, size_t n_params, EncodedParam *encoded)
{
        for (size_t i = 0; i < n_params; i++) {
                int r = uri_encode(params[i].name, false, &encoded[i].name);
                if (r >= 0)
                        r = uri_encode(params[i].value, false, &encoded[i].value);
                if (r < 0)
                        return r;
        }
        qsort(encoded, n_params, sizeof(*encoded), param_compare);
        return 0;
}

static int params_join(const EncodedParam *encoded, size_t n_params, char **ret)
{
        size_t size = 1;
        char *text, *p;

        for (size_t i = 0; i < n_params; i++)
                size += strlen(encoded[i].name) + strlen(encoded[i].value) + STRLEN("=&");
        text = p = malloc(size);
        if (!text)
                return -ENOMEM;
        *p = '\0';
        for (size_t i = 0; i < n_params; i++) {
                p = stpcpy(p, i > 0 ? "&" : "");
                p = stpcpy(p, encoded[i].name);
                p = stpcpy(p, "=");
                p = stpcpy(p, encoded[i].value);
        }
        *ret = text;
        return 0;
}

int query_format(const NameValue *params, size_t n_params, char **ret)
{
        _cleanup_free_ EncodedParam *encoded = calloc(n_params + 1, sizeof(*encoded));
        int r;

        if (!encoded)
                return -ENOMEM;
        r = params_encode(params, n_params, encoded);
        if (r >= 0)
                r = params_join(encoded, n_params, ret);
        for (size_t i = 0; i < n_params; i++) {
                free(encoded[i].name);
                secret_free(encoded[i].value);
        }
        return r;
}

/* Repeated headers are joined in the order in which they are sent, so the sort must be stable:
 * headers are few, an insertion sort is. */
static void headers_sort(const NameValue **headers, size_t n)
{
        for (size_t i = 1; i < n; i++)
                for (size_t k = i; k > 0 && strcasecmp(headers[k - 1]->name, headers[k]->name) > 0;
                     k--) {
                        const NameValue *h = headers[k];
                        headers[k] = headers[k - 1];
                        headers[k - 1] = h;
                }
}

static void lower_to(FILE *f, const char *s)
{
        for (; *s; s++)
                (void) fputc_unlocked(tolower((unsigned char) *s), f);
}

static void trimmed_to(FILE *f, const char *s)
{
        bool gap = false;

        s += strspn(s, " \t\r\n");
        for (; *s; s++) {
                if (strchr(" \t\r\n", *s)) {
                        gap = true;
                        continue;
                }
                if (gap)
                        (void) fputc_unlocked(' ', f);
                gap = false;
                (void) fputc_unlocked(*s, f);
        }
}

static void canonical_headers_to(FILE *f, const NameValue *const *headers, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                if (i > 0 && strcasecmp(headers[i - 1]->name, headers[i]->name) == 0)
                        (void) fputc_unlocked(',', f);
                else {
                        if (i > 0)
                                (void) fputc_unlocked('\n', f);
                        lower_to(f, headers[i]->name);
                        (void) fputc_unlocked(':', f);
                }
                trimmed_to(f, headers[i]->value);
        }
        (void) fputc_unlocked('\n', f);
}

/* Each name once: "host;x-amz-date". */
static int signed_names(const NameValue *const *headers, size_t n, char **ret)
{
        size_t size = 1;
        char *text, *p;

        for (size_t i = 0; i < n; i++)
                size += strlen(headers[i]->name) + STRLEN(";");
        text = p = malloc(size);
        if (!text)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                if (i > 0 && strcasecmp(headers[i - 1]->name, headers[i]->name) == 0)
                        continue;
                if (i > 0)
                        *p++ = ';';
                for (const char *c = headers[i]->name; *c; c++)
                        *p++ = (char) tolower((unsigned char) *c);
        }
        *p = '\0';
        *ret = text;
        return 0;
}

static int canonical_request(const SigV4Request *request, const NameValue *const *headers, size_t n,
                             const char *names, char **ret)
{
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);
        bool broken;

        if (!f)
                return -ENOMEM;
        (void) fprintf(f, "%s\n%s\n%s\n", request->method, request->path, strempty(request->query));
        canonical_headers_to(f, headers, n);
        (void) fprintf(f, "\n%s\n%s", names, request->payload_hash);
        /* Complete only after a close that succeeds. */
        broken = ferror(f);
        if (fclose(f) != 0 || broken) {
                secret_free(text);
                return -ENOMEM;
        }
        *ret = text;
        return 0;
}

static int string_to_sign(const SigV4 *s, const char *scope, char **ret)
{
        char hex[SHA256_HEX_SIZE];
        Sha256 digest;
        int r = sha256(s->canonical_request, strlen(s->canonical_request), &digest);

        if (r < 0)
                return r;
        if (asprintf(ret, ALGORITHM "\n%s\n%s\n%s", s->date, scope, sha256_to_hex(&digest, hex)) <
            0) {
                *ret = NULL;
                return -ENOMEM;
        }
        return 0;
}

/* HMAC with a key, all set up for a text. */
static int mac_new(const void *key, size_t key_size, EVP_MAC_CTX **ret)
{
        const OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
                                                                       (char *) "SHA256", 0),
                                      OSSL_PARAM_construct_end() };
        EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
        EVP_MAC_CTX *context = mac ? EVP_MAC_CTX_new(mac) : NULL;

        EVP_MAC_free(mac);
        if (!context || EVP_MAC_init(context, key, key_size, params) != 1) {
                EVP_MAC_CTX_free(context);
                return -ENOMEM;
        }
        *ret = context;
        return 0;
}

static int mac_text(const EVP_MAC_CTX *mac, const char *text, Sha256 *ret)
{
        EVP_MAC_CTX *context = EVP_MAC_CTX_dup(mac);
        bool done = context &&
                    EVP_MAC_update(context, (const unsigned char *) text, strlen(text)) == 1 &&
                    EVP_MAC_final(context, ret->bytes, NULL, SHA256_SIZE) == 1;

        EVP_MAC_CTX_free(context);
        return done ? 0 : -ENOMEM;
}

static int derive(const SigV4Request *request, const char *secret, const char *date,
                  EVP_MAC_CTX **ret)
{
        _cleanup_(secret_freep) char *first = NULL;
        char day[9];
        const char *const chain[] = { day, request->region, request->service, "aws4_request" };
        EVP_MAC_CTX *mac = NULL;
        Sha256 key;
        int r;

        if (asprintf(&first, "AWS4%s", secret) < 0)
                return first = NULL, -ENOMEM;
        (void) snprintf(day, sizeof(day), "%.8s", date);
        r = mac_new(first, strlen(first), &mac);
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(chain); i++) {
                r = mac_text(mac, chain[i], &key);
                EVP_MAC_CTX_free(mac);
                if (r >= 0)
                        r = mac_new(key.bytes, SHA256_SIZE, &mac);
        }
        explicit_bzero(&key, sizeof(key));
        if (r >= 0)
                *ret = mac;
        return r;
}

/* Derives it if it is not the one of this secret and scope already. */
static int key_renew(SigV4Key *key, const SigV4Request *request, const char *secret,
                     const char *scope, const char *date)
{
        _cleanup_(sigv4_key_done) SigV4Key new = {};
        int r;

        if (streq_ptr(key->scope, scope) && streq_ptr(key->secret, secret))
                return 0;
        new.scope = strdup(scope);
        new.secret = strdup(secret);
        if (!new.scope || !new.secret)
                return -ENOMEM;
        r = derive(request, secret, date, &new.mac);
        if (r < 0)
                return r;
        sigv4_key_done(key);
        *key = new;
        new = (SigV4Key){};
        return 0;
}

void sigv4_key_done(SigV4Key *key)
{
        secret_free(key->secret);
        free(key->scope);
        EVP_MAC_CTX_free(key->mac);
        *key = (SigV4Key){};
}

/* What is signed in, and in what: s->date is set, and the headers are sorted. */
typedef struct Frame {
        char *scope, *names;
} Frame;

static void frame_done(Frame *f)
{
        free(f->scope);
        free(f->names);
}

static int frame_init(Frame *f, const SigV4Request *request, const NameValue *const *headers,
                      size_t n, const char *date)
{
        if (asprintf(&f->scope, "%.8s/%s/%s/aws4_request", date, request->region,
                     request->service) < 0)
                return f->scope = NULL, -ENOMEM;
        return signed_names(headers, n, &f->names);
}

/* What both ways of signing share. The text of each step goes into the next one. */
static int sign(const SigV4Request *request, const Credentials *credentials,
                const NameValue *const *headers, size_t n, const Frame *f, SigV4Key *key, SigV4 *s,
                char ret_signature[static SHA256_HEX_SIZE])
{
        Sha256 signature;
        int r = canonical_request(request, headers, n, f->names, &s->canonical_request);

        if (r >= 0)
                r = string_to_sign(s, f->scope, &s->string_to_sign);
        if (r >= 0)
                r = key_renew(key, request, credentials->secret, f->scope, s->date);
        if (r >= 0)
                r = mac_text(key->mac, s->string_to_sign, &signature);
        if (r >= 0)
                (void) sha256_to_hex(&signature, ret_signature);
        return r;
}

static int date_format(time_t t, char ret[static 17])
{
        struct tm tm;

        if (!gmtime_r(&t, &tm) || strftime(ret, 17, "%Y%m%dT%H%M%SZ", &tm) != 16)
                return -EINVAL;
        return 0;
}

int sigv4_sign(const SigV4Request *request, const Credentials *credentials, SigV4Key *key,
               SigV4 *ret)
{
        _cleanup_(sigv4_done) SigV4 s = {};
        _cleanup_(frame_done) Frame f = {};
        const NameValue *headers[HEADERS_MAX];
        char signature[SHA256_HEX_SIZE];
        size_t n = 0;
        int r = date_format(request->time, s.date);

        if (r < 0)
                return r;
        const NameValue date = { "x-amz-date", s.date };
        const NameValue token = { "x-amz-security-token", credentials->session_token };
        if (request->n_headers > HEADERS_MAX - 2)
                return -E2BIG;
        for (; n < request->n_headers; n++)
                headers[n] = &request->headers[n];
        headers[n++] = &date;
        if (credentials->session_token)
                headers[n++] = &token;
        headers_sort(headers, n);
        r = frame_init(&f, request, headers, n, s.date);
        if (r >= 0)
                r = sign(request, credentials, headers, n, &f, key, &s, signature);
        if (r < 0)
                return r;
        if (asprintf(&s.authorization,
                     ALGORITHM " Credential=%s/%s, SignedHeaders=%s, Signature=%s",
                     credentials->key_id, f.scope, f.names, signature) < 0)
                return s.authorization = NULL, -ENOMEM;
        *ret = s;
        s = (SigV4){};
        return 0;
}

/* All of the query but the signature. */
static int presigned_query(const SigV4Presign *presign, const Credentials *credentials,
                           const Frame *f, const char *date, char **ret)
{
        _cleanup_free_ NameValue *params = calloc(presign->n_params + 6, sizeof(NameValue));
        _cleanup_free_ char *credential = NULL;
        char expires[16];
        size_t n = 0;

        if (!params)
                return -ENOMEM;
        if (asprintf(&credential, "%s/%s", credentials->key_id, f->scope) < 0)
                return credential = NULL, -ENOMEM;
        (void) snprintf(expires, sizeof(expires), "%u", presign->expires_sec);
        for (; n < presign->n_params; n++)
                params[n] = presign->params[n];
        params[n++] = (NameValue){ "X-Amz-Algorithm", ALGORITHM };
        params[n++] = (NameValue){ "X-Amz-Credential", credential };
        params[n++] = (NameValue){ "X-Amz-Date", date };
        params[n++] = (NameValue){ "X-Amz-Expires", expires };
        params[n++] = (NameValue){ "X-Amz-SignedHeaders", f->names };
        if (credentials->session_token)
                params[n++] = (NameValue){ "X-Amz-Security-Token", credentials->session_token };
        return query_format(params, n, ret);
}

int sigv4_presign(const SigV4Request *request, const SigV4Presign *presign,
                  const Credentials *credentials, SigV4Key *key, SigV4 *ret)
{
        _cleanup_(sigv4_done) SigV4 s = {};
        _cleanup_(frame_done) Frame f = {};
        _cleanup_(secret_freep) char *query = NULL;
        const NameValue *headers[HEADERS_MAX];
        char signature[SHA256_HEX_SIZE];
        const size_t n = request->n_headers;
        SigV4Request whole = *request;
        int r = date_format(request->time, s.date);

        if (r < 0)
                return r;
        if (n > HEADERS_MAX)
                return -E2BIG;
        for (size_t i = 0; i < n; i++)
                headers[i] = &request->headers[i];
        headers_sort(headers, n);
        r = frame_init(&f, request, headers, n, s.date);
        if (r >= 0)
                r = presigned_query(presign, credentials, &f, s.date, &query);
        whole.query = query;
        if (r >= 0)
                r = sign(&whole, credentials, headers, n, &f, key, &s, signature);
        if (r < 0)
                return r;
        if (asprintf(&s.query, "%s&X-Amz-Signature=%s", query, signature) < 0)
                return s.query = NULL, -ENOMEM;
        *ret = s;
        s = (SigV4){};
        return 0;
}

void sigv4_done(SigV4 *s)
{
        secret_free(s->canonical_request); /* it has the session's token */
        free(s->string_to_sign);
        free(s->authorization);
        secret_free(s->query);
        *s = (SigV4){};
}
