/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"
#include "profile.h"

/*
 * Where an AWS service other than S3 is: SERVICE.REGION.SUFFIX, or what environment or profile say.
 * Sources: AWS SDKs and Tools Reference Guide, "Service-specific endpoints", "Dual-stack and FIPS
 * endpoints"; botocore's partitions.json and endpoint rules of kms, sts and ec2.
 */

#define AWS_REGION_SIZE_MAX 32

typedef struct AwsEndpoint {
        char *region;
        char *url;        /* "https://host[:port]"; http only on this host */
        const char *host; /* in `url`: value of the Host header */
} AwsEndpoint;

/* `service`: as in host names ("kms"). `region` NULL: AWS_REGION, or AWS_DEFAULT_REGION. Read from
 * the environment besides: AWS_USE_FIPS_ENDPOINT, AWS_USE_DUALSTACK_ENDPOINT. -EINVAL: *reterr says
 * what to set. */
_must_check_ int aws_endpoint_find(const char *service, const char *region, const Profile *profile,
                                   AwsEndpoint *ret, char **reterr);
void aws_endpoint_done(AwsEndpoint *e);

/* Lower-case letters, digits and hyphens, at most AWS_REGION_SIZE_MAX. */
bool aws_region_is_valid(const char *region);

/* What the host names of a region's services end in: "amazonaws.com". Those of S3 that are
 * dual-stack end as the others do. */
const char *aws_dns_suffix(const char *region, bool dual_stack);

/* The endpoint that somebody gave a service, or NULL: AWS_ENDPOINT_URL_<SERVICE>, AWS_ENDPOINT_URL,
 * then the profile's [services] and its endpoint_url (`profile` NULL: none). None of them counts
 * with AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true, or without that variable with the profile's
 * ignore_configured_endpoint_urls. Lives as long as environment and profile. */
const char *aws_own_url(const char *service, const Profile *profile);

/* Cuts a port that is the scheme's own: the Host header has none, so neither may the URL, since
 * both are signed. */
void aws_drop_default_port(char *url);
