/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "macro.h"
#include "manifest.h"

/*
 * Where a release comes from: repository, commit, ref, build and person, from git and from the
 * environment of GitHub Actions, GitLab CI, AWS CodeBuild, Jenkins, Bitbucket Pipelines, CircleCI
 * and Azure Pipelines (each service's documented variables; the table in source.c).
 *
 * The commit is git's if the tree lies in a checkout, else the CI's; all else is the CI's if there
 * is one, else git's. Repositories are written without scheme, user, password and ".git"
 * ("github.com/acme/web"), since manifests are read by many: a token in a clone URL must not get
 * there. What a manifest does not take is left out: values that are empty, too long, not UTF-8, or
 * have control characters.
 */

/* As getenv(3), so that tests bring their own environment. */
typedef char *(*source_getenv_t)(const char *name);

void source_done(Source *s);
static inline void source_donep(Source *s)
{
        source_done(s);
}

/* Fills *ret from the CI's environment; nothing but zeros without a known CI. */
_must_check_ int source_from_ci(source_getenv_t env, Source *ret);

/* Fills *ret and *ret_time_sec (the commit's time) by running git in `directory`. Not a checkout,
 * or no git installed: 0, with zeros. Git refuses (for example a checkout of another user's): 0 as
 * well, *ret_problem (to be freed) has git's words; else it is NULL. */
_must_check_ int source_from_git(const char *directory, Source *ret, uint64_t *ret_time_sec,
                                 char **ret_problem);

/* Both together, for a tree in `directory`; `by` falls back to user@host. *ret_time_sec is
 * SOURCE_DATE_EPOCH if set (an unusable value is -EINVAL), else the commit's time, else 0.
 * *ret_problem as above. */
_must_check_ int source_collect(const char *directory, source_getenv_t env, Source *ret,
                                uint64_t *ret_time_sec, char **ret_problem, char **reterr);

/* Which CI builds, as a URI: its workflow, project or job, so that two pipelines of one service are
 * two builders. NULL: no known CI, or its variables don't tell. To be freed. */
_must_check_ int source_builder(source_getenv_t env, char **ret);

/* Who publishes: the CI's actor, else user@host. To be freed. */
_must_check_ int source_who(source_getenv_t env, char **ret);

/* "https://user:token@github.com/acme/web.git", "git@github.com:acme/web" -> "github.com/acme/web";
 * local paths stay. To be freed. */
_must_check_ int repository_clean(const char *url, char **ret);

/* "2026.11.22-1f3a9c2": the day of time_sec (UTC) and the first seven characters of `digits` (a
 * commit, or an index digest). To be freed. */
_must_check_ int release_id_format(uint64_t time_sec, const char *digits, char **ret);
