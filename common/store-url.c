/* SPDX-License-Identifier: Apache-2.0 */

/* Apart from store.c, so that slipwayd, which has to judge its configuration, is not linked to
 * libcurl and the libraries behind it. */

#include "err.h"
#include "store-backend.h"

int store_url_check(const char *url, char **reterr)
{
        static const char *const schemes[] = { STORE_FILE_SCHEME, STORE_S3_SCHEME,
                                               STORE_HTTPS_SCHEME, STORE_HTTP_SCHEME };

        for (size_t i = 0; i < ELEMENTSOF(schemes); i++)
                if (strncmp(url, schemes[i], strlen(schemes[i])) == 0)
                        return 0;
        return fail(reterr, -EINVAL,
                    "'%s' is not the URL of a store: use s3://bucket/prefix, file:///directory or "
                    "https://host/path",
                    url);
}

bool store_url_is_read_only(const char *url)
{
        return strncmp(url, STORE_HTTPS_SCHEME, STRLEN(STORE_HTTPS_SCHEME)) == 0 ||
               strncmp(url, STORE_HTTP_SCHEME, STRLEN(STORE_HTTP_SCHEME)) == 0;
}
