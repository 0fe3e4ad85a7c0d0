/* SPDX-License-Identifier: Apache-2.0 */
#include "source.h"

#include <pwd.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "err.h"
#include "git.h"
#include "utf8.h"

#define TEXT_SIZE_MAX 1024
#define N_NAMES       3
#define N_PARTS       8
#define BUILD_MARKER  ":build/" /* in the ARN of a build by CodeBuild */

/* One CI service. Names are tried in order; `branch` and `tag` get refs/heads/ and refs/tags/;
 * `build` and `builder` are joined from their parts: one that begins with '$' is a variable, all
 * else is text. */
typedef struct Ci {
        const char *detect;
        const char *repository[N_NAMES], *commit[N_NAMES], *ref[N_NAMES], *tag[N_NAMES],
                *branch[N_NAMES], *by[N_NAMES];
        const char *build[N_PARTS], *builder[N_PARTS];
} Ci;

/* clang-format off */
static const Ci services[] = {
        { .detect = "GITHUB_ACTIONS",
          .commit = { "GITHUB_SHA" }, .ref = { "GITHUB_REF" },
          .by = { "GITHUB_ACTOR" },
          .build = { "$GITHUB_SERVER_URL", "/", "$GITHUB_REPOSITORY", "/actions/runs/", "$GITHUB_RUN_ID" },
          .builder = { "$GITHUB_SERVER_URL", "/", "$GITHUB_WORKFLOW_REF" } },
        { .detect = "GITLAB_CI",
          .repository = { "CI_PROJECT_URL" }, .commit = { "CI_COMMIT_SHA" },
          .ref = { "CI_MERGE_REQUEST_REF_PATH" }, .tag = { "CI_COMMIT_TAG" }, .branch = { "CI_COMMIT_BRANCH" },
          .by = { "GITLAB_USER_LOGIN" }, .build = { "$CI_JOB_URL" },
          .builder = { "$CI_PROJECT_URL", "/-/runners/", "$CI_RUNNER_ID" } },
        { .detect = "CODEBUILD_BUILD_ID",
          .repository = { "CODEBUILD_SOURCE_REPO_URL" }, .commit = { "CODEBUILD_RESOLVED_SOURCE_VERSION" },
          .ref = { "CODEBUILD_WEBHOOK_HEAD_REF" }, .by = { "CODEBUILD_INITIATOR" },
          .build = { "$CODEBUILD_BUILD_ARN" },
          .builder = { "$CODEBUILD_BUILD_ARN" } }, /* see project_arn() */
        { .detect = "BITBUCKET_BUILD_NUMBER",
          .repository = { "BITBUCKET_GIT_HTTP_ORIGIN" }, .commit = { "BITBUCKET_COMMIT" },
          .tag = { "BITBUCKET_TAG" }, .branch = { "BITBUCKET_BRANCH" }, .by = { "BITBUCKET_STEP_TRIGGERER_UUID" },
          .build = { "https://bitbucket.org/", "$BITBUCKET_REPO_FULL_NAME", "/pipelines/results/",
                     "$BITBUCKET_BUILD_NUMBER" },
          .builder = { "https://bitbucket.org/", "$BITBUCKET_REPO_FULL_NAME", "/pipelines" } },
        { .detect = "CIRCLECI",
          .repository = { "CIRCLE_REPOSITORY_URL" }, .commit = { "CIRCLE_SHA1" }, .tag = { "CIRCLE_TAG" },
          .branch = { "CIRCLE_BRANCH" }, .by = { "CIRCLE_USERNAME" }, .build = { "$CIRCLE_BUILD_URL" },
          .builder = { "https://circleci.com/", "$CIRCLE_PROJECT_USERNAME", "/", "$CIRCLE_PROJECT_REPONAME" } },
        { .detect = "TF_BUILD", /* Azure Pipelines */
          .repository = { "BUILD_REPOSITORY_URI" }, .commit = { "BUILD_SOURCEVERSION" },
          .ref = { "BUILD_SOURCEBRANCH" }, .by = { "BUILD_REQUESTEDFOR" },
          .build = { "$SYSTEM_COLLECTIONURI", "$SYSTEM_TEAMPROJECT", "/_build/results?buildId=",
                     "$BUILD_BUILDID" },
          .builder = { "$SYSTEM_COLLECTIONURI", "$SYSTEM_TEAMPROJECT", "/_build?definitionId=",
                       "$SYSTEM_DEFINITIONID" } },
        { .detect = "JENKINS_URL", /* last: other CIs are started from it */
          .repository = { "GIT_URL", "GIT_URL_1" }, .commit = { "GIT_COMMIT" }, .tag = { "TAG_NAME" },
          .branch = { "BRANCH_NAME", "GIT_LOCAL_BRANCH" }, .by = { "BUILD_USER_ID", "CHANGE_AUTHOR" },
          .build = { "$BUILD_URL" }, .builder = { "$JOB_URL" } },
};
/* clang-format on */

void source_done(Source *s)
{
        free(s->repository);
        free(s->commit);
        free(s->ref);
        free(s->build);
        free(s->by);
        *s = (Source){};
}

/* What a manifest takes: see Source in manifest.h. */
static bool text_is_usable(const char *s)
{
        size_t left = s ? strlen(s) : 0;

        if (left == 0 || left > TEXT_SIZE_MAX)
                return false;
        for (size_t n; left > 0; s += n, left -= n) {
                n = utf8_sequence_size((const unsigned char *) s, left);
                if (n == 0 || (unsigned char) *s < ' ' || *s == 0x7f)
                        return false;
        }
        return true;
}

static const char *first_of(source_getenv_t env, const char *const names[static N_NAMES])
{
        for (size_t i = 0; i < N_NAMES && names[i]; i++) {
                const char *value = env(names[i]);
                if (text_is_usable(value))
                        return value;
        }
        return NULL;
}

/* Writes prefix and value, or NULL if there is no value or both are too long. */
static int copy_text(const char *prefix, const char *value, char **ret)
{
        char *text = NULL;

        if (!value || strlen(prefix) + strlen(value) > TEXT_SIZE_MAX) {
                *ret = NULL;
                return 0;
        }
        if (asprintf(&text, "%s%s", prefix, value) < 0)
                return -ENOMEM;
        *ret = text;
        return 0;
}

int repository_clean(const char *url, char **ret)
{
        const char *scheme_end = strstr(url, "://"), *start = scheme_end ? scheme_end + 3 : url;
        const char *slash = strchr(start, '/'), *at;
        size_t authority_size = slash ? (size_t) (slash - start) : strlen(start);
        char *clean;

        if (scheme_end && strncmp(url, "file:", 5) == 0)
                authority_size = 0;
        at = memrchr(start, '@', authority_size);
        if (at)
                start = at + 1;
        clean = strdup(start);
        if (!clean)
                return -ENOMEM;
        if (!scheme_end) { /* scp-like: host:path */
                char *colon = strchr(clean, ':');
                if (colon && !memchr(clean, '/', colon - clean))
                        *colon = '/';
        }
        clean[strcspn(clean, "?#")] = '\0';
        size_t size = strlen(clean);
        while (size > 1 && clean[size - 1] == '/')
                clean[--size] = '\0';
        if (size > 4 && streq(clean + size - 4, ".git"))
                clean[size - 4] = '\0';
        *ret = clean;
        return 0;
}

/* NULL if nothing is left. */
static int copy_repository(const char *url, char **ret)
{
        _cleanup_free_ char *clean = NULL;
        int r = text_is_usable(url) ? repository_clean(url, &clean) : 0;

        if (r < 0)
                return r;
        *ret = text_is_usable(clean) ? TAKE_PTR(clean) : NULL;
        return 0;
}

static bool is_commit(const char *s)
{
        size_t size = strspn(s, "0123456789abcdef");

        return s[size] == '\0' && (size == 40 || size == 64);
}

/* All parts joined; NULL if a variable is missing. */
static int join(const char *const parts[static N_PARTS], source_getenv_t env, char **ret)
{
        _cleanup_free_ char *url = strdup("");

        if (!url)
                return -ENOMEM;
        for (size_t i = 0; i < N_PARTS && parts[i]; i++) {
                const char *part = parts[i];
                char *longer = NULL;
                if (part[0] == '$')
                        part = env(part + 1);
                if (!text_is_usable(part)) {
                        *ret = NULL;
                        return 0;
                }
                if (asprintf(&longer, "%s%s", url, part) < 0)
                        return -ENOMEM;
                free(url);
                url = longer;
        }
        *ret = text_is_usable(url) ? TAKE_PTR(url) : NULL;
        return 0;
}

static int ci_repository(const Ci *ci, source_getenv_t env, char **ret)
{
        const char *url = first_of(env, ci->repository);
        const char *server = env("GITHUB_SERVER_URL"), *path = env("GITHUB_REPOSITORY");
        _cleanup_free_ char *joined = NULL;

        if (streq(ci->detect, "GITHUB_ACTIONS") && text_is_usable(server) && text_is_usable(path)) {
                if (asprintf(&joined, "%s/%s", server, path) < 0) {
                        joined = NULL;
                        return -ENOMEM;
                }
                url = joined;
        }
        return copy_repository(url, ret);
}

static int ci_ref(const Ci *ci, source_getenv_t env, char **ret)
{
        const char *ref = first_of(env, ci->ref), *tag = first_of(env, ci->tag);

        if (ref)
                return copy_text("", ref, ret);
        if (tag)
                return copy_text("refs/tags/", tag, ret);
        return copy_text("refs/heads/", first_of(env, ci->branch), ret);
}

static const Ci *ci_find(source_getenv_t env)
{
        for (size_t i = 0; i < ELEMENTSOF(services); i++) {
                const char *value = env(services[i].detect);
                if (value && *value)
                        return &services[i];
        }
        return NULL;
}

int source_from_ci(source_getenv_t env, Source *ret)
{
        _cleanup_(source_donep) Source s = {};
        const Ci *ci = ci_find(env);
        int r;

        if (!ci) {
                *ret = (Source){};
                return 0;
        }
        /* A build of an S3 object has that object's version where others have a commit. */
        const char *commit = first_of(env, ci->commit);
        r = copy_text("", commit && is_commit(commit) ? commit : NULL, &s.commit);
        if (r >= 0)
                r = ci_repository(ci, env, &s.repository);
        if (r >= 0)
                r = ci_ref(ci, env, &s.ref);
        if (r >= 0)
                r = join(ci->build, env, &s.build);
        if (r >= 0)
                r = copy_text("", first_of(env, ci->by), &s.by);
        if (r < 0)
                return r;
        *ret = s;
        s = (Source){};
        return 0;
}

/* CodeBuild says which build it is, and not by which project:
 * "arn:aws:codebuild:REGION:ACCOUNT:build/PROJECT:UUID" -> "...:project/PROJECT". */
static int project_arn(char **arn)
{
        char *build = strstr(*arn, BUILD_MARKER), *uuid = build ? strrchr(build + 1, ':') : NULL,
             *project = NULL;

        if (!uuid)
                return 0;
        *uuid = '\0';
        if (asprintf(&project, "%.*s:project/%s", (int) (build - *arn), *arn,
                     build + STRLEN(BUILD_MARKER)) < 0)
                return -ENOMEM;
        free(*arn);
        *arn = project;
        return 0;
}

int source_builder(source_getenv_t env, char **ret)
{
        _cleanup_free_ char *builder = NULL;
        const Ci *ci = ci_find(env);
        int r = ci ? join(ci->builder, env, &builder) : 0;

        if (r >= 0 && builder && streq(ci->detect, "CODEBUILD_BUILD_ID"))
                r = project_arn(&builder);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(builder);
        return 0;
}

/* The commit and its time, from "HASH SECONDS". */
static int parse_commit(const char *line, Source *s, uint64_t *ret_time_sec)
{
        _cleanup_free_ char *commit = strndup(line, strcspn(line, " "));

        if (!commit)
                return -ENOMEM;
        const char *time_text = line + strlen(commit) + (line[strlen(commit)] == ' ');
        if (!is_commit(commit) || !*time_text ||
            strspn(time_text, "0123456789") != strlen(time_text) || strlen(time_text) > 10)
                return -EPROTO;
        *ret_time_sec = strtoull(time_text, NULL, 10);
        s->commit = TAKE_PTR(commit);
        return 0;
}

static int git_ref(const char *directory, char **ret)
{
        _cleanup_free_ char *ref = NULL;
        int r = git_run(directory, (const char *const[]){ "symbolic-ref", "--quiet", "HEAD", NULL },
                        &ref, NULL);

        if (r < 0)
                return r;
        *ret = r == 0 && text_is_usable(ref) ? TAKE_PTR(ref) : NULL; /* else a detached HEAD */
        return 0;
}

static int git_repository(const char *directory, char **ret)
{
        _cleanup_free_ char *url = NULL;
        int r = git_run(directory,
                        (const char *const[]){ "config", "--get", "remote.origin.url", NULL }, &url,
                        NULL);

        return r < 0 ? r : copy_repository(r == 0 ? url : NULL, ret);
}

int source_from_git(const char *directory, Source *ret, uint64_t *ret_time_sec, char **ret_problem)
{
        _cleanup_(source_donep) Source s = {};
        _cleanup_free_ char *line = NULL, *problem = NULL;
        uint64_t time_sec = 0;
        int r = git_run(directory,
                        (const char *const[]){ "log", "-1", "--no-show-signature", "--no-color",
                                               "--format=%H %ct", NULL },
                        &line, &problem);

        if (r > 0 && problem && strstr(problem, "not a git repository"))
                problem = (free(problem), NULL);
        if (r == 0) {
                r = parse_commit(line, &s, &time_sec);
                if (r >= 0)
                        r = git_ref(directory, &s.ref);
                if (r >= 0)
                        r = git_repository(directory, &s.repository);
        }
        if (r < 0 && r != -ENOENT) /* -ENOENT: no git here */
                return r;
        *ret = s;
        s = (Source){};
        *ret_time_sec = time_sec;
        *ret_problem = TAKE_PTR(problem);
        return 0;
}

static int user_at_host(char **ret)
{
        char host[256] = "";
        const struct passwd *user = getpwuid(getuid());
        char *text = NULL;

        if (gethostname(host, sizeof(host) - 1) < 0 || !*host)
                (void) snprintf(host, sizeof(host), "localhost");
        if (user ? asprintf(&text, "%s@%s", user->pw_name, host) < 0
                 : asprintf(&text, "uid %u@%s", (unsigned) getuid(), host) < 0)
                return -ENOMEM;
        *ret = text;
        return 0;
}

int source_who(source_getenv_t env, char **ret)
{
        _cleanup_(source_donep) Source ci = {};
        int r = source_from_ci(env, &ci);

        if (r < 0)
                return r;
        if (!ci.by)
                return user_at_host(ret);
        *ret = TAKE_PTR(ci.by);
        return 0;
}

static int epoch_from_env(source_getenv_t env, uint64_t *time_sec, char **reterr)
{
        const char *text = env("SOURCE_DATE_EPOCH");

        if (!text || !*text)
                return 0;
        if (strspn(text, "0123456789") != strlen(text) || strlen(text) > 10 ||
            strtoull(text, NULL, 10) >= UINT64_C(1) << 33)
                return fail(reterr, -EINVAL,
                            "SOURCE_DATE_EPOCH '%s' in the environment is not a number of seconds "
                            "below 2^33",
                            text);
        *time_sec = strtoull(text, NULL, 10);
        return 0;
}

/* Takes `from` over where *to has nothing. */
static void fill(char **to, char **from)
{
        if (!*to)
                *to = TAKE_PTR(*from);
}

int source_collect(const char *directory, source_getenv_t env, Source *ret, uint64_t *ret_time_sec,
                   char **ret_problem, char **reterr)
{
        _cleanup_(source_donep) Source ci = {}, git = {};
        _cleanup_free_ char *problem = NULL;
        uint64_t time_sec = 0;
        int r = source_from_ci(env, &ci);

        if (r >= 0)
                r = source_from_git(directory, &git, &time_sec, &problem);
        if (r >= 0)
                r = epoch_from_env(env, &time_sec, reterr);
        if (r >= 0 && !ci.by)
                r = user_at_host(&ci.by);
        if (r < 0)
                return r;
        fill(&git.commit, &ci.commit);
        fill(&ci.repository, &git.repository);
        fill(&ci.ref, &git.ref);
        *ret = (Source){
                .repository = TAKE_PTR(ci.repository),
                .commit = TAKE_PTR(git.commit),
                .ref = TAKE_PTR(ci.ref),
                .build = TAKE_PTR(ci.build),
                .by = TAKE_PTR(ci.by),
        };
        *ret_time_sec = time_sec;
        *ret_problem = TAKE_PTR(problem);
        return 0;
}

int release_id_format(uint64_t time_sec, const char *digits, char **ret)
{
        time_t t = time_sec;
        struct tm tm;
        char day[32];
        char *id = NULL;

        if (!gmtime_r(&t, &tm) || strftime(day, sizeof(day), "%Y.%m.%d", &tm) == 0)
                return -EINVAL;
        if (asprintf(&id, "%s-%.7s", day, digits) < 0)
                return -ENOMEM;
        *ret = id;
        return 0;
}
