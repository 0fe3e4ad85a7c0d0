/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <sys/stat.h>

#include "shared-link.h"
#include "verify.h"

static int tree_fd;
static Index *release;
static char found[4096]; /* what differs, a line each */

static SharedLink shared[] = { { .path = (char *) "var/log/web" }, { .path = (char *) "empty" } };
static const Activate with_links = { .shared = shared, .n_shared = ELEMENTSOF(shared) };
static const Activate without;

static void add(IndexWriter *w, FileType type, const char *path, const char *content)
{
        IndexFile f = { .path = path, .type = type, .mode = 0644, .n_frames = 1 };

        if (type == FILE_DIRECTORY)
                f.mode = 0755;
        if (type == FILE_SYMLINK) {
                f.mode = 0777;
                f.link = content;
        }
        if (type == FILE_REGULAR) {
                f.size_bytes = strlen(content);
                assert_int_equal(sha256(content, strlen(content), &f.sha256), 0);
        }
        assert_int_equal(index_writer_add_file(w, &f), 0);
}

static void add_frame(IndexWriter *w, uint64_t offset, uint32_t content_size)
{
        const Frame f = { .offset = offset, .size_bytes = 10, .content_size_bytes = content_size };

        assert_int_equal(index_writer_add_frame(w, &f), 0);
}

static void make_index(void)
{
        _cleanup_(index_writer_freep) IndexWriter *w = NULL;
        _cleanup_free_ void *data = NULL;
        size_t size;

        assert_int_equal(index_writer_new(&w), 0);
        add_frame(w, 0, 8192);
        add_frame(w, 10, 1024);
        add(w, FILE_REGULAR, "a", "content of a");
        add(w, FILE_DIRECTORY, "d", NULL);
        add(w, FILE_REGULAR, "d/b", "content of b");
        add(w, FILE_SYMLINK, "d/l", "../a");
        add(w, FILE_DIRECTORY, "empty", NULL);
        add(w, FILE_REGULAR, "z", "");
        assert_int_equal(index_writer_format(w, &data, &size, NULL), 0);
        assert_int_equal(index_parse(data, size, &release, NULL), 0);
}

static void put(const char *path, const char *content)
{
        _cleanup_close_ int fd =
                openat(tree_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

        assert_return_code(fd, errno);
        assert_return_code(fd_write_all(fd, content, strlen(content)), 0);
}

static int setup(void **state)
{
        umask(0022);
        if (test_dir_setup(state) < 0)
                return -1;
        tree_fd = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_return_code(tree_fd, errno);
        assert_return_code(fchmod(tree_fd, 0755), errno);
        make_index();
        put("a", "content of a");
        put("z", "");
        assert_return_code(mkdirat(tree_fd, "d", 0755), errno);
        assert_return_code(mkdirat(tree_fd, "empty", 0755), errno);
        put("d/b", "content of b");
        return symlinkat("../a", tree_fd, "d/l");
}

static int teardown(void **state)
{
        release = index_free(release);
        fd_close(tree_fd);
        return test_dir_teardown(state);
}

static void on_drift(const Drift *d, void *userdata)
{
        size_t size = strlen(found);

        (void) userdata;
        (void) snprintf(found + size, sizeof(found) - size, "%s %s%s%s%s%s\n",
                        drift_kind_to_string(d->kind), d->path, d->expected ? ": " : "",
                        strempty(d->expected), d->found ? " / " : "", strempty(d->found));
}

static int compare(const Activate *activate, uid_t uid)
{
        const VerifyOptions options = {
                .activate = activate, .uid = uid, .gid = getegid(), .drift = on_drift
        };

        found[0] = '\0';
        return verify_tree(tree_fd, release, &options, NULL);
}

static void expect(const Activate *activate, const char *drift)
{
        assert_int_equal(compare(activate, geteuid()), 0);
        assert_string_equal(found, drift);
}

static void what_is_whole_is_whole(void **state)
{
        (void) state;
        expect(&without, "");
}

static void content_differs(void **state)
{
        (void) state;
        put("a", "content of A");
        put("d/b", "longer than it was");
        expect(&without, "content a: what was signed / other bytes\n"
                         "content d/b: 12 bytes / 18 bytes\n");
}

static void things_are_missing_or_extra(void **state)
{
        (void) state;
        put("d/new", "x");
        assert_return_code(mkdirat(tree_fd, "more", 0755), errno);
        put("more/below", "x");
        assert_return_code(unlinkat(tree_fd, "a", 0), errno);
        assert_return_code(mkfifoat(tree_fd, "empty/fifo", 0600), errno);
        expect(&without, "extra more\nmissing a\nextra d/new\nextra empty/fifo\n");
}

/* What lies in it is lost with it, and named by it. */
static void a_directory_is_missing(void **state)
{
        (void) state;
        assert_int_equal(remove_tree_at(tree_fd, "d"), 0);
        expect(&without, "missing d\n");
}

static void types_and_links_differ(void **state)
{
        (void) state;
        assert_return_code(unlinkat(tree_fd, "a", 0), errno);
        assert_return_code(mkfifoat(tree_fd, "a", 0644), errno);
        assert_return_code(unlinkat(tree_fd, "d/l", 0), errno);
        assert_return_code(symlinkat("/etc/passwd", tree_fd, "d/l"), errno);
        assert_return_code(unlinkat(tree_fd, "empty", AT_REMOVEDIR), errno);
        assert_return_code(symlinkat("d", tree_fd, "empty"), errno);
        expect(&without, "type a: a file / a fifo\nlink d/l: ../a / /etc/passwd\n"
                         "type empty: a directory / a link\n");
        assert_return_code(unlinkat(tree_fd, "a", 0), errno);
        assert_return_code(symlinkat("z", tree_fd, "a"), errno);
        assert_return_code(renameat(tree_fd, "d", tree_fd, "elsewhere"), errno);
        assert_return_code(symlinkat("elsewhere", tree_fd, "d"), errno);
        expect(&without, "extra elsewhere\ntype a: a file / a link\ntype d: a directory / a link\n"
                         "type empty: a directory / a link\n");
}

static void modes_differ(void **state)
{
        (void) state;
        assert_return_code(fchmodat(tree_fd, "a", 0600, 0), errno);
        assert_return_code(fchmodat(tree_fd, "d", 01755, 0), errno);
        assert_return_code(fchmodat(tree_fd, "z", 04755, 0), errno);
        assert_return_code(fchmod(tree_fd, 0777), errno);
        expect(&without, "mode .: 0755 / 0777\nmode a: 0644 / 0600\nmode d: 0755 / 1755\n"
                         "mode z: 0644 / 4755\n");
}

static void owners_differ(void **state)
{
        (void) state;
        assert_int_equal(compare(&without, geteuid() + 1), 0);
        assert_non_null(strstr(found, "owner .: "));
        assert_non_null(strstr(found, "owner a: "));
        assert_non_null(strstr(found, "owner d/l: "));
}

static void shared_links_belong_there(void **state)
{
        _cleanup_(beneath_freep) Beneath *tree = NULL;

        (void) state;
        assert_int_equal(beneath_new(tree_fd, &tree), 0);
        expect(&with_links, "missing var\n"
                            "type empty: a link / a directory\n");
        for (size_t i = 0; i < ELEMENTSOF(shared); i++)
                assert_int_equal(shared_link_make(tree, shared[i].path, NULL), 0);
        expect(&with_links, "");
        put("var/log/other", "x");
        assert_return_code(unlinkat(tree_fd, "empty", 0), errno);
        assert_return_code(symlinkat("/etc", tree_fd, "empty"), errno);
        expect(&with_links, "extra var/log/other\nlink empty: ../../shared/empty / /etc\n");
        expect(&without, "extra var\ntype empty: a directory / a link\n");
}

#define test_in_tree(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_tree(what_is_whole_is_whole),
                test_in_tree(content_differs),
                test_in_tree(things_are_missing_or_extra),
                test_in_tree(a_directory_is_missing),
                test_in_tree(types_and_links_differ),
                test_in_tree(modes_differ),
                test_in_tree(owners_differ),
                test_in_tree(shared_links_belong_there),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
