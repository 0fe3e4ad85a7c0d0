/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"

/*
 * Where a bucket is. Virtual-host style (bucket.s3.region.amazonaws.com) by default; path style for
 * an endpoint of one's own, and for bucket names that are no host name below a wildcard certificate
 * (dots, upper case).
 * Source: Amazon S3 User Guide, "Virtual hosting of buckets"; partitions: botocore partitions.json.
 */

typedef struct S3Address {
        char *bucket;
        char *prefix; /* of keys: "" or "a/b/" */
        char *region;
        char *endpoint;   /* "https://host[:port]" */
        const char *host; /* in `endpoint`: value of the Host header */
        bool path_style;
} S3Address;

/* From "s3://bucket[/prefix]". `endpoint`: NULL, or the URL of an S3 of one's own ("http" only on
 * this host). -EINVAL with what is wrong. */
_must_check_ int s3_address_parse(const char *url, const char *region, const char *endpoint,
                                  S3Address *ret, char **reterr);
void s3_address_done(S3Address *a);

/* The encoded path of an object below the prefix; of the bucket itself for NULL. To be freed. */
_must_check_ int s3_address_path(const S3Address *a, const char *key, char **ret);
