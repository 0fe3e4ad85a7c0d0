/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "fuzz.h"
#include "name.h"
#include "s3-error.h"
#include "s3-list.h"
#include "xml-scan.h"

static int check_leaf(const char *path, const char *text, void *userdata)
{
        size_t *n = userdata;

        assert(*path && strlen(path) <= XML_PATH_MAX);
        *n += strlen(text);
        return 0;
}

/* Texts are never longer than what they were written as, and whatever comes out of a page of a list
 * may become a path. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *text = fuzz_text(data, size), *token = NULL;
        _cleanup_(sink_done) Sink keys = {};
        S3Error error = {};
        size_t n = 0;
        int r = xml_scan(text, size, check_leaf, &n);

        assert(r == 0 || r == -EBADMSG);
        assert(n <= size);
        r = s3_error_parse(text, size, false, &error);
        assert(r == 0 && error.code && error.message && error.request_id && error.region);
        s3_error_done(&error);
        r = s3_error_parse(text, size, true, &error);
        assert(r == 0 || r == -EBADMSG);
        if (r == 0)
                s3_error_done(&error);
        r = s3_list_take_page(text, size, "pre/", 4096, &keys, &token);
        assert(r == 0 || r == -EBADMSG || r == -EFBIG);
        assert(keys.size <= 4096 && (r == 0 || !token));
        for (char *key = keys.data; key && *key; key += strlen(key) + 1) {
                char *end = strchr(key, '\n');
                assert(end);
                *end = '\0';
                assert(store_path_is_valid(key));
        }
        return 0;
}
