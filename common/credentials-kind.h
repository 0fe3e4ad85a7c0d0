/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "credentials.h"
#include "imds.h"
#include "profile.h"

/* What a kind of credentials source implements; only credentials*.c include this. */

typedef struct CredentialsKind {
        const char *name;
        bool renews;   /* another fetch may bring others */
        bool lives_on; /* the service may let them live on after their end */

        /* Returns 1 if the environment says that this is the source, 0 if not. May set s->kind to
         * another one that does the work, and s->data. */
        int (*open)(CredentialsSource *s, char **reterr);
        void (*close)(CredentialsSource *s);

        /* Begins to get credentials; unless it fails, credentials_source_finish() is called once
         * for it, maybe from within. NULL: open() has finished already. */
        int (*fetch)(CredentialsSource *s, char **reterr);

        /* While a fetch is under way: goes on with what no transfer drives, and says when there is
         * such a thing. NULL: there never is. */
        void (*advance)(CredentialsSource *s);
        uint64_t (*due_in_usec)(const CredentialsSource *s);
} CredentialsKind;

extern const CredentialsKind credentials_environment, credentials_web_identity, credentials_profile,
        credentials_role, credentials_container, credentials_instance;

struct CredentialsSource {
        const CredentialsKind *kind;
        void *data;     /* the kind's */
        unsigned depth; /* how many sources are waiting for this one, to assume a role */

        Http *http, *attached; /* NULL: not yet needed */
        Imds *imds;
        Profile *profile;

        Credentials current; /* without key_id: none */
        unsigned generation;
        bool fetching;
        bool refused; /* the service does not take the current ones */
        bool overdue; /* they came after their end, by our clock */
        uint64_t renew_usec, retry_usec, refused_usec; /* CLOCK_BOOTTIME; the last: 0: never */
        unsigned n_failures;
        bool worry_told;
        int error; /* of the last fetch; 0: it went well */
        char *err;

        char *region;
        ImdsCall *region_call;
        int region_error;
        char *region_err;
        uint64_t region_retry_usec;
};

/* Ends a fetch: takes the credentials (`result` >= 0) or keeps the error. */
void credentials_source_finish(CredentialsSource *s, int result, Credentials *c, const char *err);

/* The things that kinds share, made when first asked for. */
_must_check_ int credentials_source_http(CredentialsSource *s, Http **ret);
_must_check_ int credentials_source_imds(CredentialsSource *s, Imds **ret, char **reterr);

/* The region as far as environment and profile tell it; *ret NULL: they don't. */
_must_check_ int credentials_source_known_region(CredentialsSource *s, const char **ret,
                                                 char **reterr);

/* The source that is to make credentials for a role that `s` assumes: of this kind alone, or of a
 * profile. -EINVAL: there are none of that kind, or the profiles lead to one another for ever. */
_must_check_ int credentials_source_new_below(const CredentialsSource *s,
                                              const CredentialsKind *kind, const char *profile,
                                              CredentialsSource **ret, char **reterr);

/* For a profile: opens the kind as which it is to be used. Returns 1. */
_must_check_ int credentials_open_web_identity(CredentialsSource *s, const char *token_file,
                                               const char *role_arn, const char *session_name,
                                               char **reterr);
_must_check_ int credentials_open_role(CredentialsSource *s, const Profile *p, char **reterr);
