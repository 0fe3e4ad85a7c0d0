/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "macro.h"

/*
 * A profile of the files that the AWS tools share: AWS_SHARED_CREDENTIALS_FILE (else
 * ~/.aws/credentials, sections [NAME]) and AWS_CONFIG_FILE (else ~/.aws/config, sections [default]
 * and [profile NAME], and the section [services NAME] if a profile has "services = NAME"). Without
 * HOME only files that are named are read.
 *
 * Lines are "name = value", comments (# or ; at the start of a line, or after a blank), sections,
 * and such as are indented deeper than the one before, which go on with its value: for the members
 * below that is an error, others are passed over. So are other sections and other members. What
 * comes twice for the profile in one file is an error. In both files: the credentials file counts.
 * In a [services NAME] "service =" begins the lines about a service, which are indented deeper.
 * Source: AWS SDKs and Tools Reference Guide, "Using shared config and credentials files",
 * "Service-specific endpoints".
 */

#define PROFILE_FILE_SIZE_MAX  ((size_t) 1024 * 1024)
#define PROFILE_VALUE_SIZE_MAX ((size_t) 16 * 1024)
#define PROFILE_N_SERVICES     4

/* NULL: not there, or empty. No value holds a control character. */
typedef struct Profile {
        char *name;
        char *key_id, *secret, *session_token;
        char *region;
        char *role_arn, *source_profile, *credential_source;
        char *role_session_name, *external_id, *duration_seconds, *mfa_serial;
        char *web_identity_token_file;
        char *credential_process, *sso_session, *sso_start_url;
        char *endpoint_url, *services, *ignore_configured_endpoint_urls;
        char *service_urls[PROFILE_N_SERVICES]; /* of its [services]; ask profile_endpoint_url() */
} Profile;

/* `name` NULL: AWS_PROFILE, else "default", which may be missing: the profile is empty then. Any
 * other one that is in neither file is -ENOENT, and so is a [services] that the profile names and
 * that is not there. -EBADMSG: a file can't be understood, *reterr says where. Texts of errors hold
 * nothing of the files but names. */
_must_check_ int profile_load(const char *name, Profile **ret, char **reterr);
Profile *profile_free(Profile *p); /* wipes it */
DEFINE_CLEANUP_FUNC(Profile *, profile_free);

/* The endpoint that the profile gives a service ("ec2", "kms", "s3" or "sts"), else gives all;
 * NULL: none. */
const char *profile_endpoint_url(const Profile *p, const char *service);

typedef enum ProfileFile {
        PROFILE_CREDENTIALS,
        PROFILE_CONFIG,
        PROFILE_SERVICES, /* the config file as well, for its [services] `p->services` */
} ProfileFile;

/* Takes what one file says of the profile `p->name`, where `p` has nothing yet. text[size] is NUL.
 * `path` is for messages. Returns 1 if the section is in the file, else 0. */
_must_check_ int profile_parse(const char *text, size_t size, ProfileFile file, const char *path,
                               Profile *p, char **reterr);
