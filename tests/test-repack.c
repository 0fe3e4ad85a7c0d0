/* SPDX-License-Identifier: Apache-2.0 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <sys/stat.h>

#include "repack.h"
#include "test.h"

typedef struct Entry {
        const char *path;
        mode_t type; /* AE_IFxxx; 0: a hard link to `link` */
        mode_t mode;
        const char *content, *link;
} Entry;

static void write_entry(struct archive *a, const Entry *entry)
{
        struct archive_entry *e = archive_entry_new();
        size_t size = entry->content ? strlen(entry->content) : 0;

        archive_entry_set_pathname(e, entry->path);
        archive_entry_set_filetype(e, entry->type ? entry->type : AE_IFREG);
        archive_entry_set_perm(e, entry->mode ? entry->mode : 0644);
        archive_entry_set_mtime(e, 1700000000, 0);
        if (entry->type == 0)
                archive_entry_set_hardlink(e, entry->link);
        else if (entry->link)
                archive_entry_set_symlink(e, entry->link);
        if (entry->type == AE_IFREG)
                archive_entry_set_size(e, size);
        assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
        if (size > 0)
                assert_int_equal(archive_write_data(a, entry->content, size), size);
        archive_entry_free(e);
}

/* An archive in a file without a name. */
static int make_archive(const Entry *entries, const char *format, int filter)
{
        struct archive *a = archive_write_new();
        int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(streq(format, "zip") ? archive_write_set_format_zip(a)
                                              : archive_write_set_format_pax_restricted(a),
                         ARCHIVE_OK);
        assert_int_equal(archive_write_add_filter(a, filter), ARCHIVE_OK);
        assert_int_equal(archive_write_open_fd(a, fd), ARCHIVE_OK);
        for (; entries->path; entries++)
                write_entry(a, entries);
        assert_int_equal(archive_write_close(a), ARCHIVE_OK);
        archive_write_free(a);
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        return fd;
}

static int unpack(const Entry *entries, const char *directory, char **reterr)
{
        _cleanup_close_ int fd = make_archive(entries, "tar", ARCHIVE_FILTER_NONE),
                            tree_fd = dir_open_at(AT_FDCWD, directory);

        return repack_unpack(fd, tree_fd, "web.tar", reterr);
}

static void assert_content(int tree_fd, const char *path, const char *expected)
{
        _cleanup_free_ char *content = NULL;

        assert_int_equal(file_read_at(tree_fd, path, 1000, &content, NULL), 0);
        assert_string_equal(content, expected);
}

static void assert_mode(int tree_fd, const char *path, mode_t mode)
{
        struct stat st;

        assert_int_equal(fstatat(tree_fd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_int_equal(st.st_mode, mode);
}

static const Entry good[] = {
        {"./",         AE_IFDIR, 0755, NULL, NULL },
        { "./bin/",        AE_IFDIR, 02700, NULL, NULL },
        { "./bin/run",        AE_IFREG, 0777, "#!/bin/sh\n", NULL },
        { "./lib/deep/er/file",    AE_IFREG, 0600, "deep", NULL },
        { "./lib/",       AE_IFDIR, 0755, NULL, NULL },
        { "./lib/empty",        AE_IFREG, 0644, "", NULL },
        { "./link", AE_IFLNK, 0777, NULL, "lib/../bin/run" },
        {       },
};

static void formats(void **state)
{
        static const struct {
                const char *format;
                int filter;
        } cases[] = {
                {"tar",  ARCHIVE_FILTER_NONE},
                { "tar", ARCHIVE_FILTER_GZIP},
                { "tar", ARCHIVE_FILTER_XZ  },
                { "tar", ARCHIVE_FILTER_ZSTD},
                { "zip", ARCHIVE_FILTER_NONE},
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char tree[64];
                _cleanup_free_ char *target = NULL, *err = NULL;
                struct stat st;
                (void) snprintf(tree, sizeof(tree), "%s/%zu", (const char *) *state, i);
                assert_int_equal(mkdir(tree, 0755), 0);
                _cleanup_close_ int fd = make_archive(good, cases[i].format, cases[i].filter),
                                    tree_fd = dir_open_at(AT_FDCWD, tree);
                assert_int_equal(repack_unpack(fd, tree_fd, "web", &err), 0);
                assert_content(tree_fd, "bin/run", "#!/bin/sh\n");
                assert_content(tree_fd, "lib/deep/er/file", "deep");
                assert_content(tree_fd, "lib/empty", "");
                assert_mode(tree_fd, "bin", S_IFDIR | 0755);
                assert_mode(tree_fd, "bin/run", S_IFREG | 0755);
                assert_mode(tree_fd, "lib/deep/er/file", S_IFREG | 0644);
                assert_int_equal(readlink_at(tree_fd, "link", &target), 0);
                assert_string_equal(target, "lib/../bin/run");
                assert_int_equal(fstatat(tree_fd, "bin/run", &st, 0), 0);
                assert_int_equal(st.st_mtim.tv_sec, 1700000000);
        }
}

static void hard_links(void **state)
{
        const Entry entries[] = {
                {"a",    AE_IFREG, 0755, "content", NULL },
                { "d/b",  0, 0644, NULL, "./a" },
                {}
        };
        _cleanup_close_ int tree_fd = dir_open_at(AT_FDCWD, *state);

        assert_int_equal(unpack(entries, *state, NULL), 0);
        assert_content(tree_fd, "d/b", "content");
}

static void refused(void **state)
{
        static const struct {
                Entry entries[4];
                const char *message;
        } cases[] = {
                {{ { "/etc/evil", AE_IFREG, 0, "x", NULL } },                                  "web.tar: /etc/evil: the path"           },
                { { { "../evil", AE_IFREG, 0, "x", NULL } },                                   "../evil: the path"                      },
                { { { "a/../../evil", AE_IFREG, 0, "x", NULL } },                              "a/../../evil: the path"                 },
                { { { "l", AE_IFLNK, 0, NULL, "/etc" } },                                      "l: is a symlink to /etc"                },
                { { { "l", AE_IFLNK, 0, NULL, "../x" } },                                      "l: is a symlink to ../x"                },
                { { { "d", AE_IFDIR, 0755, NULL, NULL },
                    { "l", AE_IFLNK, 0, NULL, "d" },
                    { "l/x", AE_IFREG, 0, "x", NULL } },
                 "l/x: lies in something that is not a directory"                                                                       },
                { { { "f", AE_IFREG, 0, "x", NULL }, { "f/x", AE_IFREG, 0, "x", NULL } },
                 "f/x: lies in something"                                                                                               },
                { { { "h", 0, 0, NULL, "/etc/passwd" } },                                      "h: is a hard link: /etc/passwd: the"    },
                { { { "h", 0, 0, NULL, "later" } },                                            "h: is a hard link to later, which is no"},
                { { { "d", AE_IFDIR, 0755, NULL, NULL }, { "h", 0, 0, NULL, "d" } },
                 "h: is a hard link to d, which is no file"                                                                             },
                { { { "a/b/l", AE_IFLNK, 0, NULL, "../../f" }, { "h", 0, 0, NULL, "a/b/l" } },
                 "h: is a symlink to ../../f, which is outside"                                                                         },
                { { { "p", AE_IFIFO, 0, NULL, NULL } },                                        "p: is a device, fifo or socket"         },
                { { { "n", AE_IFCHR, 0, NULL, NULL } },                                        "n: is a device, fifo or socket"         },
                { { { "s", AE_IFREG, 04755, "x", NULL } },                                     "s: has a setuid"                        },
                { { { "s", AE_IFREG, 02755, "x", NULL } },                                     "s: has a setuid"                        },
                { { { "f", AE_IFREG, 0, "x", NULL }, { "f", AE_IFREG, 0, "y", NULL } },
                 "f: comes twice"                                                                                                       },
                { { { "f", AE_IFREG, 0, "x", NULL }, { "f", AE_IFDIR, 0755, NULL, NULL } },
                 "f: comes twice"                                                                                                       },
                { { { "f", AE_IFREG, 0, "x", NULL }, { "f", AE_IFLNK, 0, NULL, "g" } },
                 "f: comes twice"                                                                                                       },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char tree[64];
                _cleanup_free_ char *err = NULL;
                (void) snprintf(tree, sizeof(tree), "%s/%zu", (const char *) *state, i);
                assert_int_equal(mkdir(tree, 0755), 0);
                assert_int_equal(unpack(cases[i].entries, tree, &err), -EBADMSG);
                assert_non_null(err);
                if (!strstr(err, cases[i].message))
                        fail_msg("'%s' lacks '%s'", err, cases[i].message);
        }
}

static void damaged(void **state)
{
        static const Entry entries[] = {
                {"f",   AE_IFREG, 0644, "some content", NULL },
                {}
        };
        _cleanup_close_ int fd = make_archive(entries, "tar", ARCHIVE_FILTER_GZIP),
                            text_fd = memfd_sealed("text", "just some text\n", 15),
                            empty_fd = memfd_sealed("text", "", 0),
                            tree_fd = dir_open_at(AT_FDCWD, *state);
        _cleanup_free_ char *err = NULL;
        struct stat st;

        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(ftruncate(fd, st.st_size / 2), 0);
        assert_int_equal(repack_unpack(fd, tree_fd, "web.tgz", &err), -EBADMSG);
        assert_non_null(strstr(err, "web.tgz"));
        assert_int_equal(repack_unpack(text_fd, tree_fd, "readme", &err), -EBADMSG);
        assert_non_null(strstr(err, "readme"));
        assert_int_equal(repack_unpack(empty_fd, tree_fd, "empty", &err), -EBADMSG);
        assert_non_null(strstr(err, "empty"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(formats),
                test_in_dir(hard_links),
                test_in_dir(refused),
                test_in_dir(damaged),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
