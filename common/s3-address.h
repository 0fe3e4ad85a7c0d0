/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"

/*
 * Where a store is on the network: what its URL says (S3Address), and what the region makes of it
 * (S3Place). A bucket that turns out to be in another region has the same address in another place.
 *
 * Virtual-host style (bucket.s3.region.amazonaws.com) where AWS is asked; path style for an
 * endpoint of one's own, and for bucket names that are no host name below a wildcard certificate
 * (dots, upper case).
 * Source: Amazon S3 User Guide, "Virtual hosting of buckets", "Making requests over IPv6", "Access
 * points"; botocore's endpoint rules of s3; AWS PrivateLink for Amazon S3.
 */

typedef enum S3Style {
        S3_STYLE_AUTO,
        S3_STYLE_PATH,
        S3_STYLE_VIRTUAL,
} S3Style;

typedef struct S3Address {
        char *base;   /* for messages: "s3://bucket/prefix/", "https://host/prefix/" */
        char *bucket; /* of an access point: "name-account"; NULL: https:// */
        char *prefix; /* of keys: "" or "a/b/" */
        char *region; /* of an access point, which is nowhere else; NULL: not known */
        char *host;   /* of https://: "https://host[:port]"; NULL: a bucket's */
        S3Style style;

        char *kms_key; /* what is written is encrypted with (SSE-KMS); NULL: the bucket's own way */
        char *owner;   /* account that must own the bucket; NULL: any */
        bool requester_pays;
} S3Address;

/* Of the URLs in store.h. -EINVAL with what is wrong. */
_must_check_ int s3_address_parse(const char *url, S3Address *ret, char **reterr);
void s3_address_done(S3Address *a);

/* Which of the endpoints that a region has. */
typedef struct S3Endpoints {
        const char *url; /* of an S3 of one's own or a VPC endpoint, in place of AWS's; NULL: AWS */
        bool dual_stack, fips;
} S3Endpoints;

typedef struct S3Place {
        char *region;
        char *endpoint;   /* "https://host[:port]" */
        const char *host; /* in `endpoint`: value of the Host header */
        bool path_style;
} S3Place;

/* -EINVAL: no such region, or the endpoint or style is none for this address. For an https://
 * address no region is needed. */
_must_check_ int s3_place_find(const S3Address *a, const char *region, const S3Endpoints *endpoints,
                               S3Place *ret, char **reterr);
void s3_place_done(S3Place *p);

/* The encoded path of an object below the prefix; of the bucket itself for NULL. To be freed. */
_must_check_ int s3_place_path(const S3Place *p, const S3Address *a, const char *key, char **ret);
