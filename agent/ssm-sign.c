/* SPDX-License-Identifier: Apache-2.0 */
#include "ssm-sign.h"

#include "digest.h"
#include "err.h"

void ssm_headers_done(SsmHeaders *h)
{
        sigv4_done(&h->signature);
        *h = (SsmHeaders){};
}

static void add(SsmHeaders *h, const char *name, const char *value)
{
        h->headers[h->n++] = (NameValue){ name, value };
}

static int hash_body(const SsmHttpRequest *q, char ret[static SHA256_HEX_SIZE])
{
        Sha256 digest;
        int r = sha256(strempty(q->body), strlen(strempty(q->body)), &digest);

        if (r >= 0)
                (void) sha256_to_hex(&digest, ret);
        return r;
}

/* Its Host and Content-Type are there. */
static int sign(const SsmHttpRequest *q, const AwsEndpoint *endpoint, const Credentials *c,
                SsmHeaders *h)
{
        _cleanup_(sigv4_key_done) SigV4Key key = {}; /* for a request or two in hours */
        char hash[SHA256_HEX_SIZE];
        int r = hash_body(q, hash);

        if (r < 0)
                return r;
        return sigv4_sign(&(SigV4Request){ .method = q->method,
                                           .path = q->path,
                                           .query = q->query,
                                           .headers = h->headers,
                                           .n_headers = h->n,
                                           .payload_hash = hash,
                                           .region = endpoint->region,
                                           .service = SSM_SERVICE,
                                           .time = q->time },
                          c, &key, &h->signature);
}

int ssm_sign(const SsmHttpRequest *q, const AwsEndpoint *endpoint, CredentialsSource *credentials,
             SsmHeaders *ret, char **reterr)
{
        const Credentials *c;
        SsmHeaders *h = ret;
        int r = credentials_source_get(credentials, &c, reterr);

        *h = (SsmHeaders){};
        if (r != 0)
                return r;
        add(h, "Host", endpoint->host);
        if (q->content_type)
                add(h, "Content-Type", q->content_type);
        r = sign(q, endpoint, c, h);
        if (r < 0)
                return r;
        add(h, "Authorization", h->signature.authorization);
        add(h, "x-amz-date", h->signature.date);
        if (c->session_token)
                add(h, "x-amz-security-token", c->session_token);
        return 0;
}
