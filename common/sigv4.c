/* SPDX-License-Identifier: Apache-2.0 */
#include "sigv4.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "digest.h"
#include "err.h"
#include "secret.h"

#define ALGORITHM   "AWS4-HMAC-SHA256"
#define HEADERS_MAX 32

/* Ends a memory stream: its text is complete only after a close that succeeds. */
static int stream_finish(FILE *f, char **text, char **ret)
{
        bool broken = ferror(f);

        if (fclose(f) != 0 || broken) {
                free(*text);
                return -ENOMEM;
        }
        *ret = *text;
        return 0;
}

static void encode_to(FILE *f, const char *s, bool keep_slashes)
{
        static const char unreserved[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                         "0123456789-._~";

        for (; *s; s++)
                if (strchr(unreserved, *s) || (keep_slashes && *s == '/'))
                        (void) fputc_unlocked(*s, f);
                else
                        (void) fprintf(f, "%%%02X", (unsigned char) *s);
}

int uri_encode(const char *s, bool keep_slashes, char **ret)
{
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        if (!f)
                return -ENOMEM;
        encode_to(f, s, keep_slashes);
        return stream_finish(f, &text, ret);
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
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        if (!f)
                return -ENOMEM;
        for (size_t i = 0; i < n_params; i++)
                (void) fprintf(f, "%s%s=%s", i > 0 ? "&" : "", encoded[i].name, encoded[i].value);
        return stream_finish(f, &text, ret);
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

static void signed_names_to(FILE *f, const NameValue *const *headers, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                if (i > 0 && strcasecmp(headers[i - 1]->name, headers[i]->name) == 0)
                        continue;
                if (i > 0)
                        (void) fputc_unlocked(';', f);
                lower_to(f, headers[i]->name);
        }
}

static int canonical_request(const SigV4Request *request, const NameValue *const *headers, size_t n,
                             char **ret)
{
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        if (!f)
                return -ENOMEM;
        (void) fprintf(f, "%s\n%s\n%s\n", request->method, request->path, strempty(request->query));
        canonical_headers_to(f, headers, n);
        (void) fputc_unlocked('\n', f);
        signed_names_to(f, headers, n);
        (void) fprintf(f, "\n%s", request->payload_hash);
        return stream_finish(f, &text, ret);
}

static int string_to_sign(const SigV4Request *request, const SigV4 *s, char **ret)
{
        char hex[SHA256_HEX_SIZE];
        Sha256 digest;
        int r = sha256(s->canonical_request, strlen(s->canonical_request), &digest);

        if (r < 0)
                return r;
        if (asprintf(ret, ALGORITHM "\n%s\n%.8s/%s/%s/aws4_request\n%s", s->date, s->date,
                     request->region, request->service, sha256_to_hex(&digest, hex)) < 0) {
                *ret = NULL;
                return -ENOMEM;
        }
        return 0;
}

static int hmac(const void *key, size_t key_size, const char *text, Sha256 *ret)
{
        return HMAC(EVP_sha256(), key, (int) key_size, (const unsigned char *) text, strlen(text),
                    ret->bytes, NULL)
                       ? 0
                       : -ENOMEM;
}

static int sign_text(const SigV4Request *request, const Credentials *credentials, const SigV4 *s,
                     Sha256 *ret)
{
        char day[9];
        Sha256 key;
        char *first = NULL;
        int r;

        if (asprintf(&first, "AWS4%s", credentials->secret) < 0)
                return -ENOMEM;
        (void) snprintf(day, sizeof(day), "%.8s", s->date);
        const char *const chain[] = { day, request->region, request->service, "aws4_request" };
        r = hmac(first, strlen(first), chain[0], &key);
        for (size_t i = 1; r >= 0 && i < ELEMENTSOF(chain); i++)
                r = hmac(key.bytes, SHA256_SIZE, chain[i], &key);
        if (r >= 0)
                r = hmac(key.bytes, SHA256_SIZE, s->string_to_sign, ret);
        explicit_bzero(first, strlen(first));
        explicit_bzero(&key, sizeof(key));
        free(first);
        return r;
}

static int authorization(const SigV4Request *request, const Credentials *credentials,
                         const NameValue *const *headers, size_t n, const SigV4 *s, char **ret)
{
        char hex[SHA256_HEX_SIZE];
        Sha256 signature;
        char *text = NULL;
        size_t size;
        int r = sign_text(request, credentials, s, &signature);

        if (r < 0)
                return r;
        FILE *f = open_memstream(&text, &size);
        if (!f)
                return -ENOMEM;
        (void) fprintf(f, ALGORITHM " Credential=%s/%.8s/%s/%s/aws4_request, SignedHeaders=",
                       credentials->key_id, s->date, request->region, request->service);
        signed_names_to(f, headers, n);
        (void) fprintf(f, ", Signature=%s", sha256_to_hex(&signature, hex));
        return stream_finish(f, &text, ret);
}

static int date_format(time_t t, char ret[static 17])
{
        struct tm tm;

        if (!gmtime_r(&t, &tm) || strftime(ret, 17, "%Y%m%dT%H%M%SZ", &tm) != 16)
                return -EINVAL;
        return 0;
}

int sigv4_sign(const SigV4Request *request, const Credentials *credentials, SigV4 *ret)
{
        _cleanup_(sigv4_done) SigV4 s = {};
        const NameValue *headers[HEADERS_MAX];
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
        r = canonical_request(request, headers, n, &s.canonical_request);
        if (r < 0)
                return r;
        r = string_to_sign(request, &s, &s.string_to_sign);
        if (r < 0)
                return r;
        r = authorization(request, credentials, headers, n, &s, &s.authorization);
        if (r < 0)
                return r;
        *ret = s;
        s = (SigV4){};
        return 0;
}

void sigv4_done(SigV4 *s)
{
        secret_free(s->canonical_request); /* it has the session's token */
        free(s->string_to_sign);
        free(s->authorization);
        *s = (SigV4){};
}
