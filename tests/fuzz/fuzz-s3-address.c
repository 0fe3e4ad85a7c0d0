/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "fuzz.h"
#include "http.h"
#include "s3-address.h"

/* A host that others could read differently would send credentials elsewhere. */
static void check_place(const S3Address *a, const S3Endpoints *endpoints)
{
        _cleanup_(s3_place_done) S3Place place = {};
        _cleanup_free_ char *err = NULL, *path = NULL;

        if (s3_place_find(a, a->host ? NULL : "eu-central-1", endpoints, &place, &err) < 0) {
                assert(err);
                return;
        }
        assert(http_url_check(place.endpoint, NULL) == 0);
        assert(*place.host && !strpbrk(place.host, "/?#@ \\\r\n\t%"));
        assert(s3_place_path(&place, a, "web/manifest.json", &path) == 0);
        assert(path[0] == '/' && !strpbrk(path, "?# \\\r\n\t"));
}

/* The store's URL, which may come from an instance's tags. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *url = fuzz_text(data, size), *err = NULL;
        _cleanup_(s3_address_done) S3Address a = {};

        if (s3_address_parse(url, &a, &err) < 0) {
                assert(err);
                return 0;
        }
        check_place(&a, &(S3Endpoints){});
        check_place(&a, &(S3Endpoints){ .dual_stack = true, .fips = true });
        return 0;
}
