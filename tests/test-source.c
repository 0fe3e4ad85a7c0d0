/* SPDX-License-Identifier: Apache-2.0 */
#include "source.h"
#include "test.h"

/* The environment of a test: pairs of name and value, ended by NULL. */
static const char *const *environment;

static char *fake_getenv(const char *name)
{
        for (size_t i = 0; environment && environment[i]; i += 2)
                if (streq(environment[i], name))
                        return (char *) environment[i + 1];
        return NULL;
}

#define SHA "0123456789abcdef0123456789abcdef01234567"

static void ci(const char *const *env, const Source *expected)
{
        Source s;

        environment = env;
        assert_int_equal(source_from_ci(fake_getenv, &s), 0);
        assert_true(streq_ptr(s.repository, expected->repository));
        assert_true(streq_ptr(s.commit, expected->commit));
        assert_true(streq_ptr(s.ref, expected->ref));
        assert_true(streq_ptr(s.build, expected->build));
        assert_true(streq_ptr(s.by, expected->by));
        source_done(&s);
}

#define S(r, c, f, b, y)                                                             \
        &(Source)                                                                    \
        {                                                                            \
                (char *) (r), (char *) (c), (char *) (f), (char *) (b), (char *) (y) \
        }

static void ci_services(void **state)
{
        (void) state;
        ci((const char *const[]){ "GITHUB_ACTIONS", "true", "GITHUB_SERVER_URL",
                                  "https://github.com", "GITHUB_REPOSITORY", "acme/web",
                                  "GITHUB_SHA", SHA, "GITHUB_REF", "refs/heads/main",
                                  "GITHUB_RUN_ID", "77", "GITHUB_ACTOR", "ada", NULL },
           S("github.com/acme/web", SHA, "refs/heads/main",
             "https://github.com/acme/web/actions/runs/77", "ada"));
        ci((const char *const[]){ "GITLAB_CI", "true", "CI_PROJECT_URL",
                                  "https://gitlab.example/acme/web", "CI_COMMIT_SHA", SHA,
                                  "CI_COMMIT_TAG", "v1", "CI_COMMIT_BRANCH", "", "CI_JOB_URL",
                                  "https://gitlab.example/acme/web/-/jobs/1", "GITLAB_USER_LOGIN",
                                  "ada", NULL },
           S("gitlab.example/acme/web", SHA, "refs/tags/v1",
             "https://gitlab.example/acme/web/-/jobs/1", "ada"));
        ci((const char *const[]){ "CODEBUILD_BUILD_ID", "web:1", "CODEBUILD_SOURCE_REPO_URL",
                                  "https://x-token:secret@github.com/acme/web.git",
                                  "CODEBUILD_RESOLVED_SOURCE_VERSION", SHA, "CODEBUILD_BUILD_ARN",
                                  "arn:aws:codebuild:x:1:build/web:1", "CODEBUILD_INITIATOR",
                                  "codepipeline/web", NULL },
           S("github.com/acme/web", SHA, NULL, "arn:aws:codebuild:x:1:build/web:1",
             "codepipeline/web"));
        ci((const char *const[]){ "JENKINS_URL", "http://j/", "GIT_URL",
                                  "git@git.example:acme/web.git", "GIT_COMMIT", SHA, "BRANCH_NAME",
                                  "main", "BUILD_URL", "http://j/job/web/1/", NULL },
           S("git.example/acme/web", SHA, "refs/heads/main", "http://j/job/web/1/", NULL));
        ci((const char *const[]){ "BITBUCKET_BUILD_NUMBER", "9", "BITBUCKET_REPO_FULL_NAME",
                                  "acme/web", "BITBUCKET_GIT_HTTP_ORIGIN",
                                  "http://bitbucket.org/acme/web", "BITBUCKET_COMMIT", SHA,
                                  "BITBUCKET_BRANCH", "main", NULL },
           S("bitbucket.org/acme/web", SHA, "refs/heads/main",
             "https://bitbucket.org/acme/web/pipelines/results/9", NULL));
        ci((const char *const[]){ "CIRCLECI", "true", "CIRCLE_REPOSITORY_URL",
                                  "https://github.com/acme/web", "CIRCLE_SHA1", SHA,
                                  "CIRCLE_BRANCH", "main", "CIRCLE_BUILD_URL", "https://c/1",
                                  "CIRCLE_USERNAME", "ada", NULL },
           S("github.com/acme/web", SHA, "refs/heads/main", "https://c/1", "ada"));
        ci((const char *const[]){ "TF_BUILD", "True", "BUILD_REPOSITORY_URI",
                                  "https://acme@dev.azure.com/acme/web/_git/web",
                                  "BUILD_SOURCEVERSION", SHA, "BUILD_SOURCEBRANCH",
                                  "refs/heads/main", "SYSTEM_COLLECTIONURI",
                                  "https://dev.azure.com/acme/", "SYSTEM_TEAMPROJECT", "web",
                                  "BUILD_BUILDID", "5", "BUILD_REQUESTEDFOR", "Ada", NULL },
           S("dev.azure.com/acme/web/_git/web", SHA, "refs/heads/main",
             "https://dev.azure.com/acme/web/_build/results?buildId=5", "Ada"));
}

static void ci_odd_values(void **state)
{
        char long_text[1100];

        (void) state;
        memset(long_text, 'x', sizeof(long_text) - 1);
        long_text[sizeof(long_text) - 1] = '\0';
        ci((const char *const[]){ NULL }, S(NULL, NULL, NULL, NULL, NULL));
        /* A build of an S3 object; control characters; too long; half of a build URL. */
        ci((const char *const[]){ "CODEBUILD_BUILD_ID", "web:1",
                                  "CODEBUILD_RESOLVED_SOURCE_VERSION", "3HL4kqtJvjVBH40Nrjfkd",
                                  "CODEBUILD_INITIATOR", "a\nb", "CODEBUILD_SOURCE_REPO_URL",
                                  long_text, NULL },
           S(NULL, NULL, NULL, NULL, NULL));
        ci((const char *const[]){ "GITHUB_ACTIONS", "true", "GITHUB_SERVER_URL", "https://g",
                                  "GITHUB_REPOSITORY", "a/b", NULL },
           S("g/a/b", NULL, NULL, NULL, NULL));
        /* Nothing is left of the repository; not UTF-8. */
        ci((const char *const[]){ "GITLAB_CI", "true", "CI_PROJECT_URL", "https://?x",
                                  "CI_COMMIT_BRANCH",
                                  "fa\xe7"
                                  "ade",
                                  "GITLAB_USER_LOGIN", "ad\xc3\xa1", NULL },
           S(NULL, NULL, NULL, NULL, "ad\xc3\xa1"));
}

static void builds_by(const char *const *env, const char *expected)
{
        _cleanup_free_ char *builder = NULL;

        environment = env;
        assert_int_equal(source_builder(fake_getenv, &builder), 0);
        if (!streq_ptr(builder, expected))
                fail_msg("builder is %s, not %s", strempty(builder), strempty(expected));
}

static void builders(void **state)
{
        (void) state;
        builds_by((const char *const[]){ NULL }, NULL);
        builds_by((const char *const[]){ "GITHUB_ACTIONS", "true", "GITHUB_SERVER_URL",
                                         "https://github.com", "GITHUB_WORKFLOW_REF",
                                         "acme/web/.github/workflows/ci.yml@refs/heads/main",
                                         NULL },
                  "https://github.com/acme/web/.github/workflows/ci.yml@refs/heads/main");
        /* It does not tell: nobody is guessed. */
        builds_by((const char *const[]){ "GITHUB_ACTIONS", "true", "GITHUB_SERVER_URL",
                                         "https://github.com", NULL },
                  NULL);
        builds_by((const char *const[]){ "GITLAB_CI", "true", "CI_PROJECT_URL",
                                         "https://gitlab.example/acme/web", "CI_RUNNER_ID", "7",
                                         NULL },
                  "https://gitlab.example/acme/web/-/runners/7");
        builds_by((const char *const[]){ "CODEBUILD_BUILD_ID", "web:1", "CODEBUILD_BUILD_ARN",
                                         "arn:aws:codebuild:eu-west-1:1:build/web:1-2", NULL },
                  "arn:aws:codebuild:eu-west-1:1:project/web");
        builds_by((const char *const[]){ "CODEBUILD_BUILD_ID", "web:1", "CODEBUILD_BUILD_ARN",
                                         "something else", NULL },
                  "something else");
        builds_by((const char *const[]){ "BITBUCKET_BUILD_NUMBER", "9", "BITBUCKET_REPO_FULL_NAME",
                                         "acme/web", NULL },
                  "https://bitbucket.org/acme/web/pipelines");
        builds_by((const char *const[]){ "CIRCLECI", "true", "CIRCLE_PROJECT_USERNAME", "acme",
                                         "CIRCLE_PROJECT_REPONAME", "web", NULL },
                  "https://circleci.com/acme/web");
        builds_by((const char *const[]){ "TF_BUILD", "True", "SYSTEM_COLLECTIONURI",
                                         "https://dev.azure.com/acme/", "SYSTEM_TEAMPROJECT",
                                         "a web", "SYSTEM_DEFINITIONID", "3", NULL },
                  "https://dev.azure.com/acme/a web/_build?definitionId=3");
        builds_by((const char *const[]){ "JENKINS_URL", "http://j/", "JOB_URL", "http://j/job/web/",
                                         NULL },
                  "http://j/job/web/");
}

static void repositories(void **state)
{
        static const char *const cases[][2] = {
                {"https://github.com/acme/web.git",                    "github.com/acme/web"      },
                { "https://user:token@github.com/acme/web",            "github.com/acme/web"      },
                { "https://u:p@ss@github.com/acme/web/",               "github.com/acme/web"      },
                { "git@github.com:acme/web.git",                       "github.com/acme/web"      },
                { "ssh://git@git.example:2222/acme/web.git",           "git.example:2222/acme/web"},
                { "https://git.example/a/web.git?access_token=s3cret", "git.example/a/web"        },
                { "https://github.com/acme/w@b",                       "github.com/acme/w@b"      },
                { "/srv/git/web.git",                                  "/srv/git/web"             },
                { "file:///srv/git/web.git",                           "/srv/git/web"             },
                { "../web",                                            "../web"                   },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *clean = NULL;
                assert_int_equal(repository_clean(cases[i][0], &clean), 0);
                assert_string_equal(clean, cases[i][1]);
        }
}

static void run(const char *directory, const char *command)
{
        _cleanup_free_ char *line = NULL;

        assert_true(asprintf(&line, "cd '%s' && { %s; } >/dev/null 2>&1", directory, command) > 0);
        assert_int_equal(system(line), 0);
}

static void from_git(void **state)
{
        const char *directory = *state;
        _cleanup_free_ char *problem = NULL, *sub = NULL;
        uint64_t time_sec;
        Source s;

        assert_int_equal(source_from_git(directory, &s, &time_sec, &problem), 0);
        assert_null(s.commit);
        assert_null(problem);

        run(directory, "git init -q -b trunk && mkdir sub && echo 1 >sub/a && git add . && "
                       "GIT_COMMITTER_DATE='1700000000 +0000' git -c user.name=T -c "
                       "user.email=t@example.org commit -q -m one && git remote add origin "
                       "https://me:secret@git.example/acme/web.git");
        assert_true(asprintf(&sub, "%s/sub", directory) > 0);
        assert_int_equal(source_from_git(sub, &s, &time_sec, &problem), 0);
        assert_null(problem);
        assert_int_equal(strlen(s.commit), 40);
        assert_int_equal(time_sec, 1700000000);
        assert_string_equal(s.ref, "refs/heads/trunk");
        assert_string_equal(s.repository, "git.example/acme/web");
        source_done(&s);

        run(directory, "git checkout -q --detach");
        assert_int_equal(source_from_git(directory, &s, &time_sec, &problem), 0);
        assert_null(s.ref);
        source_done(&s);

        run(directory, "git checkout -q --orphan empty");
        assert_int_equal(source_from_git(directory, &s, &time_sec, &problem), 0);
        assert_null(s.commit);
        assert_non_null(problem);
}

static void collected(void **state)
{
        const char *directory = *state;
        _cleanup_free_ char *problem = NULL, *err = NULL;
        uint64_t time_sec;
        Source s;

        environment = (const char *const[]){
                "GITHUB_ACTIONS",    "true",  "GITHUB_SHA", SHA, "GITHUB_ACTOR", "ada",
                "SOURCE_DATE_EPOCH", "12345", NULL
        };
        assert_int_equal(source_collect(directory, fake_getenv, &s, &time_sec, &problem, &err), 0);
        assert_string_equal(s.commit, SHA);
        assert_string_equal(s.by, "ada");
        assert_int_equal(time_sec, 12345);
        source_done(&s);

        /* git's commit wins over the CI's. */
        run(directory, "git init -q && git -c user.name=T -c user.email=t@example.org commit -q "
                       "--allow-empty -m one");
        environment = (const char *const[]){ "GITHUB_ACTIONS", "true", "GITHUB_SHA", SHA, NULL };
        assert_int_equal(source_collect(directory, fake_getenv, &s, &time_sec, &problem, &err), 0);
        assert_string_not_equal(s.commit, SHA);
        assert_true(time_sec > 1700000000);
        assert_non_null(strchr(s.by, '@'));
        source_done(&s);

        static const char *const bad[] = { "x", "-1", "99999999999", "8589934592" };
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                environment = (const char *const[]){ "SOURCE_DATE_EPOCH", bad[i], NULL };
                assert_int_equal(
                        source_collect(directory, fake_getenv, &s, &time_sec, &problem, &err),
                        -EINVAL);
                assert_non_null(strstr(err, "SOURCE_DATE_EPOCH"));
        }
}

static void ids(void **state)
{
        _cleanup_free_ char *id = NULL;

        (void) state;
        assert_int_equal(release_id_format(1700000000, SHA, &id), 0);
        assert_string_equal(id, "2023.11.14-0123456");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(ci_services), cmocka_unit_test(ci_odd_values),
                cmocka_unit_test(builders),    cmocka_unit_test(repositories),
                test_in_dir(from_git),         test_in_dir(collected),
                cmocka_unit_test(ids),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
