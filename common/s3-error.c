/* SPDX-License-Identifier: Apache-2.0 */
#include "s3-error.h"

#include <ctype.h>
#include <errno.h>

#include "xml-scan.h"

void s3_error_done(S3Error *e)
{
        free(e->code);
        free(e->message);
        free(e->request_id);
        free(e->region);
        *e = (S3Error){};
}

/* These texts end up in log lines. */
static void make_printable(char *s)
{
        for (; *s; s++)
                if (iscntrl((unsigned char) *s))
                        *s = ' ';
}

static int take(char **field, const char *text)
{
        char *copy = strndup(text, 512);

        if (!copy)
                return -ENOMEM;
        make_printable(copy);
        free(*field);
        *field = copy;
        return 0;
}

static int take_leaf(const char *path, const char *text, void *userdata)
{
        S3Error *e = userdata;
        char **field = streq(path, "Error/Code")        ? &e->code
                       : streq(path, "Error/Message")   ? &e->message
                       : streq(path, "Error/RequestId") ? &e->request_id
                       : streq(path, "Error/Region")    ? &e->region
                                                        : NULL;

        return field ? take(field, text) : 0;
}

int s3_error_parse(const char *body, size_t size, bool strict, S3Error *ret)
{
        S3Error e = {};
        char **const fields[] = { &e.code, &e.message, &e.request_id, &e.region };
        int r = xml_scan(body, size, take_leaf, &e);

        if (r == -EBADMSG && !strict)
                r = 0;
        if (r >= 0 && strict && !e.code)
                r = -EBADMSG;
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(fields); i++)
                if (!*fields[i] && !(*fields[i] = calloc(1, 1)))
                        r = -ENOMEM;
        if (r < 0) {
                s3_error_done(&e);
                return r;
        }
        *ret = e;
        return 0;
}

S3Verdict s3_error_judge(unsigned status, const char *code)
{
        static const struct {
                const char *code;
                S3Verdict verdict;
        } table[] = {
                {"SlowDown",                            S3_THROTTLED},
                { "ServiceUnavailable",                 S3_THROTTLED},
                { "RequestLimitExceeded",               S3_THROTTLED},
                { "Throttling",                         S3_THROTTLED},
                { "ThrottlingException",                S3_THROTTLED},
                { "TooManyRequestsException",           S3_THROTTLED},
                { "BandwidthLimitExceeded",             S3_THROTTLED},
                { "KMS.ThrottlingException",            S3_THROTTLED},
                { "InternalError",                      S3_TRANSIENT},
                { "RequestTimeout",                     S3_TRANSIENT},
                { "OperationAborted",                   S3_TRANSIENT},
                { "RequestTimeTooSkewed",               S3_SKEWED   },
                { "SignatureDoesNotMatch",              S3_REFUSED  },
                { "InvalidAccessKeyId",                 S3_REFUSED  },
                { "ExpiredToken",                       S3_REFUSED  },
                { "InvalidToken",                       S3_REFUSED  },
                { "PermanentRedirect",                  S3_ELSEWHERE},
                { "TemporaryRedirect",                  S3_ELSEWHERE},
                { "AuthorizationHeaderMalformed",       S3_ELSEWHERE},
                { "IllegalLocationConstraintException", S3_ELSEWHERE},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                if (streq(code, table[i].code))
                        return table[i].verdict;
        switch (status) {
        case 429:
        case 503:
                return S3_THROTTLED;
        case 409: /* ConditionalRequestConflict; ConcurrentModification of radosgw */
        case 500:
        case 502:
        case 504:
                return S3_TRANSIENT;
        case 301:
        case 307:
                return S3_ELSEWHERE;
        default:
                return S3_FINAL;
        }
}
