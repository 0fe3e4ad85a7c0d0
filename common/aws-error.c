/* SPDX-License-Identifier: Apache-2.0 */
#include "aws-error.h"

#include <ctype.h>
#include <errno.h>

#include "json-read.h"
#include "xml-scan.h"

#define TEXT_SIZE_MAX 512

void aws_error_done(AwsError *e)
{
        free(e->code);
        free(e->message);
        *e = (AwsError){};
}

/* These texts end up in log lines. */
static int take(const char *text, size_t size, char **field)
{
        char *copy = strndup(text, MIN(size, (size_t) TEXT_SIZE_MAX));

        if (!copy)
                return -ENOMEM;
        for (char *c = copy; *c; c++)
                if (iscntrl((unsigned char) *c))
                        *c = ' ';
        free(*field);
        *field = copy;
        return 0;
}

/* "com.amazonaws.kms#NotFoundException:http://…" -> "NotFoundException" */
static int take_code(const char *text, AwsError *e)
{
        size_t n = strcspn(text, ":");
        const char *hash = memchr(text, '#', n);
        const char *code = hash ? hash + 1 : text;

        return take(code, n - (size_t) (code - text), &e->code);
}

static bool ends_with(const char *s, const char *end)
{
        size_t n = strlen(s), n_end = strlen(end);

        return n >= n_end && streq(s + n - n_end, end);
}

static int take_leaf(const char *path, const char *text, void *userdata)
{
        AwsError *e = userdata;

        if (ends_with(path, "Error/Code"))
                return take_code(text, e);
        if (ends_with(path, "Error/Message"))
                return take(text, SIZE_MAX, &e->message);
        return 0;
}

static int parse_json(const char *body, size_t size, AwsError *e)
{
        _cleanup_json_ cJSON *json = NULL;
        int r = json_parse(body, size, &json, NULL);

        if (r < 0)
                return r;
        const char *code = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "__type"));
        /* "message" or "Message": services differ. */
        const char *message = cJSON_GetStringValue(cJSON_GetObjectItem(json, "message"));
        if (code && !e->code)
                r = take_code(code, e);
        if (r >= 0 && message)
                r = take(message, SIZE_MAX, &e->message);
        return r;
}

int aws_error_parse_parts(const char *header, const char *body, size_t size, AwsError *ret)
{
        AwsError e = {};
        int r = header ? take_code(header, &e) : 0;

        if (r >= 0)
                r = parse_json(body, size, &e);
        if (r == -EBADMSG)
                r = xml_scan(body, size, take_leaf, &e);
        if (r == -EBADMSG)
                r = 0;
        if (r >= 0 && !e.code)
                r = take("", 0, &e.code);
        if (r >= 0 && !e.message)
                r = take("", 0, &e.message);
        if (r < 0) {
                aws_error_done(&e);
                return r;
        }
        *ret = e;
        return 0;
}

int aws_error_parse(const HttpResponse *response, AwsError *ret)
{
        size_t size;
        const char *body = http_response_error_body(response, &size);

        return aws_error_parse_parts(http_response_header(response, "x-amzn-ErrorType"), body, size,
                                     ret);
}

AwsVerdict aws_error_judge(unsigned status, const char *code)
{
        static const struct {
                const char *code;
                AwsVerdict verdict;
        } table[] = {
                {"Throttling",                           AWS_THROTTLED},
                { "ThrottlingException",                 AWS_THROTTLED},
                { "ThrottledException",                  AWS_THROTTLED},
                { "RequestThrottled",                    AWS_THROTTLED},
                { "RequestThrottledException",           AWS_THROTTLED},
                { "RequestLimitExceeded",                AWS_THROTTLED},
                { "TooManyRequestsException",            AWS_THROTTLED},
                { "SlowDown",                            AWS_THROTTLED},
                { "IDPCommunicationError",               AWS_TRANSIENT},
                { "RequestTimeout",                      AWS_TRANSIENT},
                { "RequestTimeoutException",             AWS_TRANSIENT},
                { "AccessDenied",                        AWS_DENIED   },
                { "AccessDeniedException",               AWS_DENIED   },
                { "AuthorizationFailureException",       AWS_DENIED   },
                { "UnauthorizedOperation",               AWS_DENIED   },
                { "AuthFailure",                         AWS_REFUSED  },
                { "ExpiredToken",                        AWS_REFUSED  },
                { "ExpiredTokenException",               AWS_REFUSED  },
                { "IncompleteSignature",                 AWS_REFUSED  },
                { "IncompleteSignatureException",        AWS_REFUSED  },
                { "InvalidAccessKeyId",                  AWS_REFUSED  },
                { "InvalidClientTokenId",                AWS_REFUSED  },
                { "InvalidSignatureException",           AWS_REFUSED  },
                { "MissingAuthenticationToken",          AWS_REFUSED  },
                { "MissingAuthenticationTokenException", AWS_REFUSED  },
                { "NotAuthorized",                       AWS_REFUSED  },
                { "OptInRequired",                       AWS_REFUSED  },
                { "RequestExpired",                      AWS_REFUSED  },
                { "RequestInTheFuture",                  AWS_REFUSED  },
                { "RequestTimeTooSkewed",                AWS_REFUSED  },
                { "SignatureDoesNotMatch",               AWS_REFUSED  },
                { "UnrecognizedClientException",         AWS_REFUSED  },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                if (streq(code, table[i].code))
                        return table[i].verdict;
        switch (status) {
        case 429:
        case 503:
                return AWS_THROTTLED;
        case 500:
        case 502:
        case 504:
                return AWS_TRANSIENT;
        case 401:
                return AWS_REFUSED;
        case 403:
                return AWS_DENIED;
        default:
                return AWS_FINAL;
        }
}
