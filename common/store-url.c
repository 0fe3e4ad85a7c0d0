/* SPDX-License-Identifier: Apache-2.0 */

/* Apart from store.c, so that slipwayd, which has to judge its configuration, is not linked to
 * libcurl and the libraries behind it. */

#include "err.h"
#include "store-backend.h"

int store_url_check(const char *url, char **reterr)
{
        static const char *const schemes[] = { STORE_FILE_SCHEME, STORE_S3_SCHEME };

        for (size_t i = 0; i < ELEMENTSOF(schemes); i++)
                if (strncmp(url, schemes[i], strlen(schemes[i])) == 0)
                        return 0;
        return fail(reterr, -EINVAL,
                    "'%s' is not the URL of a store: use s3://bucket/prefix or file:///directory",
                    url);
}
