/* SPDX-License-Identifier: Apache-2.0 */
#include <archive.h>
#include <archive_entry.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <zstd.h>

#include "chunk.h"
#include "delta.h"
#include "digest.h"
#include "err.h"
#include "index.h"
#include "pack.h"
#include "tar-header.h"
#include "test.h"

#define SOURCE_TIME UINT64_C(1700000000)

static void put(int dir_fd, const char *path, const void *data, size_t size, mode_t mode)
{
        _cleanup_close_ int fd =
                openat(dir_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(fd_write_all(fd, data, size), 0);
        assert_int_equal(fchmod(fd, mode), 0);
}

static void put_text(int dir_fd, const char *path, const char *text)
{
        put(dir_fd, path, text, strlen(text), 0644);
}

static void put_random(int dir_fd, const char *path, size_t size, uint64_t seed)
{
        _cleanup_free_ uint8_t *data = malloc(size);

        for (size_t i = 0; i < size; i++) {
                seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
                data[i] = seed >> 56;
        }
        put(dir_fd, path, data, size, 0644);
}

static int make_dir(const char *parent, const char *name)
{
        _cleanup_free_ char *path = NULL;

        assert_true(asprintf(&path, "%s/%s", parent, name) > 0);
        assert_int_equal(mkdir(path, 0700), 0);
        int fd = dir_open_at(AT_FDCWD, path);
        assert_true(fd >= 0);
        return fd;
}

/* A tree with one of everything that is allowed. */
static void make_tree(int fd)
{
        char name[300];

        assert_int_equal(mkdirat(fd, "bin", 0711), 0);
        assert_int_equal(mkdirat(fd, "empty", 02775), 0);
        assert_int_equal(mkdirat(fd, "bin-more", 0700), 0);
        put(fd, "bin/run", "#!/bin/sh\n", 10, 0700);
        put(fd, "bin/data", "", 0, 0666);
        put_text(fd, "bin-more/x", "x");
        put_text(fd, "\303\274 \377", "name that is not UTF-8");
        put_random(fd, "large", 5 << 20, 1);
        put_random(fd, "block", 1024, 2);
        assert_int_equal(symlinkat("../large", fd, "bin/link"), 0);
        assert_int_equal(symlinkat("nowhere", fd, "dangling"), 0);
        assert_int_equal(linkat(fd, "block", fd, "hard", 0), 0);
        memset(name, 'n', sizeof(name));
        static const size_t sizes[] = { 99, 100, 101, 155, 255 };
        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                name[sizes[i]] = '\0';
                put_text(fd, name, "long");
                name[sizes[i]] = 'n';
        }
        memset(name, 'd', 100);
        name[100] = '\0';
        assert_int_equal(mkdirat(fd, name + 1, 0755), 0); /* 99, and '/' makes 100 */
        assert_int_equal(mkdirat(fd, name, 0755), 0);
        name[150] = '\0';
        name[100] = 'n';
        assert_int_equal(symlinkat(name, fd, "long-link"), 0);
}

typedef struct Packed {
        int fd;
        PackResult result;
        Index *index;
} Packed;

static void packed_done(Packed *p)
{
        fd_close(p->fd);
        pack_result_done(&p->result);
        index_free(p->index);
}

static int temporary_file(void)
{
        int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        return fd;
}

static Packed pack_with(int tree_fd, const PackOptions *o, const Index *predecessor)
{
        Packed p = { .fd = temporary_file() };
        char *err = NULL;
        int r = pack_tree(tree_fd, o, predecessor, p.fd, &p.result, &err);

        if (r < 0)
                fail_msg("pack_tree: %s", err_text(r, err));
        assert_null(err);
        assert_int_equal(index_parse(p.result.index, p.result.index_size_bytes, &p.index, NULL), 0);
        return p;
}

static Packed pack(int tree_fd)
{
        return pack_with(tree_fd, &(PackOptions){ .source_time_sec = SOURCE_TIME, .level = 1 },
                         NULL);
}

static void assert_window(const uint8_t *frame)
{
        /* RFC 8878, 3.1.1.1: no single segment means that a window descriptor follows. */
        if (!(frame[4] & 0x20))
                assert_true((frame[5] >> 3) + 10 <= FRAME_WINDOW_LOG_MAX);
        assert_int_equal(frame[4] & 0x07, 0); /* neither checksum nor dictionary */
}

/* Decompresses frame by frame, checking each against the index. */
static uint8_t *content_of(const Packed *p)
{
        uint8_t *content = malloc(index_content_size(p->index)), *end = content;
        _cleanup_free_ uint8_t *data = malloc(FRAME_SIZE_MAX);
        Sha256 d;

        for (size_t n = 0; n < index_n_frames(p->index); n++) {
                const Frame *f = index_frame(p->index, n);
                assert_int_equal(fd_pread_exactly(p->fd, data, f->size_bytes, f->offset), 0);
                assert_int_equal(sha256(data, f->size_bytes, &d), 0);
                assert_true(sha256_equal(&d, &f->sha256));
                assert_window(data);
                assert_int_equal(ZSTD_getFrameContentSize(data, f->size_bytes),
                                 f->content_size_bytes);
                assert_int_equal(ZSTD_findFrameCompressedSize(data, f->size_bytes), f->size_bytes);
                assert_int_equal(ZSTD_decompress(end, f->content_size_bytes, data, f->size_bytes),
                                 f->content_size_bytes);
                assert_int_equal(sha256(end, f->content_size_bytes, &d), 0);
                assert_true(sha256_equal(&d, &f->content_sha256));
                end += f->content_size_bytes;
        }
        return content;
}

static void assert_entry_is(struct archive *a, struct archive_entry *e, const IndexFile *f)
{
        _cleanup_free_ char *path = strdup(archive_entry_pathname(e));
        _cleanup_free_ uint8_t *data = malloc(f->size_bytes + 1);
        Sha256 d;

        if (f->type == FILE_DIRECTORY) {
                assert_int_equal(path[strlen(path) - 1], '/');
                path[strlen(path) - 1] = '\0';
        }
        assert_string_equal(path, f->path);
        assert_true(streq_ptr(archive_entry_symlink(e), f->link));
        assert_int_equal(archive_entry_perm(e), f->mode);
        assert_int_equal(archive_entry_mtime(e), f->mtime_sec);
        assert_int_equal(archive_entry_uid(e), 0);
        assert_int_equal(archive_entry_gid(e), 0);
        assert_string_equal(strempty(archive_entry_uname(e)), "");
        assert_int_equal(archive_entry_filetype(e), f->type == FILE_DIRECTORY ? AE_IFDIR
                                                    : f->type == FILE_SYMLINK ? AE_IFLNK
                                                                              : AE_IFREG);
        if (f->type != FILE_REGULAR)
                return;
        assert_int_equal(archive_entry_size(e), f->size_bytes);
        assert_int_equal(archive_read_data(a, data, f->size_bytes + 1), f->size_bytes);
        assert_int_equal(sha256(data, f->size_bytes, &d), 0);
        assert_true(sha256_equal(&d, &f->sha256));
}

/* libarchive reads the same entries out of the frames that the index names. */
static void assert_tar_is_index(const Packed *p)
{
        _cleanup_free_ uint8_t *content = content_of(p);
        struct archive *a = archive_read_new();
        struct archive_entry *e;

        assert_int_equal(archive_read_support_format_tar(a), ARCHIVE_OK);
        assert_int_equal(archive_read_open_memory(a, content, index_content_size(p->index)),
                         ARCHIVE_OK);
        for (size_t n = 0; n < index_n_files(p->index); n++) {
                assert_int_equal(archive_read_next_header(a, &e), ARCHIVE_OK);
                assert_entry_is(a, e, index_file(p->index, n));
        }
        assert_int_equal(archive_read_next_header(a, &e), ARCHIVE_EOF);
        assert_int_equal(archive_read_free(a), ARCHIVE_OK);
}

static void packs_a_tree(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "tree");
        Sha256 d;

        make_tree(fd);
        _cleanup_(packed_done) Packed p = pack(fd);
        struct stat st;
        assert_int_equal(fstat(p.fd, &st), 0);
        assert_int_equal(st.st_size, p.result.artifact_size_bytes);
        assert_int_equal(st.st_size, index_artifact_size(p.index));
        assert_int_equal(sha256_fd(p.fd, 0, st.st_size, &d), 0);
        assert_true(sha256_equal(&d, &p.result.artifact_sha256));
        assert_int_equal(sha256(p.result.index, p.result.index_size_bytes, &d), 0);
        assert_true(sha256_equal(&d, &p.result.index_sha256));
        assert_int_equal(p.result.n_files, index_n_files(p.index));
        assert_int_equal(p.result.content_bytes, 10 + 1 + 22 + (5 << 20) + 2 * 1024 + 5 * 4);
        assert_int_equal(index_find(p.index, "bin/run")->mode, 0755);
        assert_int_equal(index_find(p.index, "bin/data")->mode, 0644);
        assert_int_equal(index_find(p.index, "empty")->mode, 0755);
        assert_int_equal(index_find(p.index, "bin/link")->mode, 0777);
        assert_true(index_find(p.index, "large")->n_frames > 3);
        assert_int_equal(index_find(p.index, "large")->mtime_sec, SOURCE_TIME);
        assert_tar_is_index(&p);
}

static int run(const char *const *argv)
{
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                execvp(argv[0], (char *const *) argv);
                _exit(127);
        }
        assert_true(pid > 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The promise that an artifact is an ordinary archive, kept for those who unpack it by hand. */
static void tar_unpacks_it(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "tree"), out_fd = make_dir(*state, "out");
        char artifact[64], out[256], tree[256];
        struct stat st;

        make_tree(fd);
        _cleanup_(packed_done) Packed p = pack(fd);
        (void) snprintf(artifact, sizeof(artifact), "/proc/%d/fd/%d", (int) getpid(), p.fd);
        (void) snprintf(out, sizeof(out), "%s/out", (const char *) *state);
        (void) snprintf(tree, sizeof(tree), "%s/tree", (const char *) *state);
        int r = run((const char *const[]){ "tar", "--zstd", "-xpf", artifact, "-C", out, NULL });
        if (r == 127 || run((const char *const[]){ "zstd", "-qV", NULL }) == 127)
                skip();
        assert_int_equal(r, 0);
        assert_int_equal(
                run((const char *const[]){ "diff", "-r", "--no-dereference", tree, out, NULL }), 0);
        assert_int_equal(fstatat(out_fd, "bin/run", &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 0755);
        assert_int_equal(st.st_mtime, SOURCE_TIME);
        assert_int_equal(fstatat(out_fd, "empty", &st, 0), 0);
        assert_int_equal(st.st_mtime, SOURCE_TIME);
}

static void assert_same(const Packed *a, const Packed *b)
{
        assert_int_equal(a->result.index_size_bytes, b->result.index_size_bytes);
        assert_memory_equal(a->result.index, b->result.index, a->result.index_size_bytes);
        assert_true(sha256_equal(&a->result.artifact_sha256, &b->result.artifact_sha256));
}

static void same_tree_same_bytes(void **state)
{
        _cleanup_close_ int a_fd = make_dir(*state, "a"), b_fd = make_dir(*state, "b");
        char name[16];

        for (int i = 0; i < 300; i++) {
                (void) snprintf(name, sizeof(name), "f%d", i);
                put_random(a_fd, name, i * 40, i);
        }
        make_tree(a_fd);
        mode_t old = umask(077);
        make_tree(b_fd);
        for (int i = 299; i >= 0; i--) {
                (void) snprintf(name, sizeof(name), "f%d", i);
                put_random(b_fd, name, i * 40, i);
        }
        umask(old);
        assert_int_equal(fchmodat(b_fd, "f7", 0604, 0), 0);
        if (geteuid() == 0)
                assert_int_equal(fchownat(b_fd, "f8", 1, 1, 0), 0);
        PackOptions o = { .source_time_sec = SOURCE_TIME, .n_threads = 1 };
        _cleanup_(packed_done) Packed a = pack_with(a_fd, &o, NULL);
        o.n_threads = 5;
        _cleanup_(packed_done) Packed b = pack_with(b_fd, &o, NULL);
        assert_same(&a, &b);
}

static void empty_tree(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "tree");
        _cleanup_(packed_done) Packed p = pack(fd);

        assert_int_equal(p.result.n_files, 0);
        assert_int_equal(index_n_frames(p.index), 1);
        assert_tar_is_index(&p);
}

static uint64_t mtime_of(const Packed *p, const char *path)
{
        return index_find(p->index, path)->mtime_sec;
}

static void times(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "tree");

        put_text(fd, "same", "1");
        put_text(fd, "changed", "1");
        put_text(fd, "same-size", "1");
        put_text(fd, "type", "1");
        put_random(fd, "large", 2 << 20, 1);
        assert_int_equal(mkdirat(fd, "dir", 0755), 0);
        assert_int_equal(symlinkat("a", fd, "link"), 0);
        assert_int_equal(symlinkat("a", fd, "same-link"), 0);
        PackOptions o = { .source_time_sec = 1000, .level = 1 };
        _cleanup_(packed_done) Packed first = pack_with(fd, &o, NULL);

        put_text(fd, "changed", "22");
        put_text(fd, "same-size", "2");
        put_text(fd, "new", "new");
        assert_int_equal(unlinkat(fd, "type", 0), 0);
        assert_int_equal(symlinkat("1", fd, "type"), 0);
        assert_int_equal(unlinkat(fd, "link", 0), 0);
        assert_int_equal(symlinkat("b", fd, "link"), 0);
        o.source_time_sec = 2000;
        _cleanup_(packed_done) Packed second = pack_with(fd, &o, first.index);
        static const char *const kept[] = { "same", "large", "dir", "same-link" };
        static const char *const raised[] = { "changed", "same-size", "new", "type", "link" };
        for (size_t i = 0; i < ELEMENTSOF(kept); i++)
                assert_int_equal(mtime_of(&second, kept[i]), 1000);
        for (size_t i = 0; i < ELEMENTSOF(raised); i++)
                assert_int_equal(mtime_of(&second, raised[i]), 2000);

        /* A build of an older commit changes the content, but no time goes back, and caches that
         * go by it see another file. */
        put_text(fd, "changed", "1");
        put_text(fd, "newer", "newer");
        o.source_time_sec = 1500;
        _cleanup_(packed_done) Packed third = pack_with(fd, &o, second.index);
        assert_int_equal(mtime_of(&third, "changed"), 2001);
        assert_int_equal(mtime_of(&third, "newer"), 1500);
        assert_int_equal(mtime_of(&third, "same"), 1000);
        _cleanup_(packed_done) Packed again = pack_with(fd, &o, second.index);
        assert_same(&third, &again);
}

static void rename_file(int fd, const char *from, const char *to)
{
        assert_int_equal(renameat(fd, from, fd, to), 0);
}

/* The content is what keeps its time, wherever it goes. */
static void times_of_moved_files(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "tree");
        PackOptions o = { .source_time_sec = 1000, .level = 1 };

        put_text(fd, "a", "moved");
        put_text(fd, "old-twin", "twin");
        put_text(fd, "swapped-1", "1");
        put_text(fd, "swapped-2", "2");
        put(fd, "program", "#!", 2, 0755);
        put_text(fd, "replaced", "older content");
        put_random(fd, "large", 2 << 20, 1);
        assert_int_equal(symlinkat("a", fd, "link"), 0);
        _cleanup_(packed_done) Packed first = pack_with(fd, &o, NULL);
        put_text(fd, "new-twin", "twin, not yet");
        put_text(fd, "newer", "newer content");
        o.source_time_sec = 2000;
        _cleanup_(packed_done) Packed second = pack_with(fd, &o, first.index);
        put_text(fd, "new-twin", "another");
        o.source_time_sec = 3000;
        _cleanup_(packed_done) Packed third = pack_with(fd, &o, second.index);
        put_text(fd, "new-twin", "twin");
        o.source_time_sec = 2500;
        _cleanup_(packed_done) Packed fourth = pack_with(fd, &o, third.index);
        assert_int_equal(mtime_of(&fourth, "new-twin"), 3001); /* it had other content */

        rename_file(fd, "a", "z-moved");
        rename_file(fd, "large", "z-large");
        rename_file(fd, "link", "z-link");
        rename_file(fd, "swapped-1", "x");
        rename_file(fd, "swapped-2", "swapped-1");
        rename_file(fd, "x", "swapped-2");
        rename_file(fd, "program", "z-program");
        put(fd, "program-no-more", "#!", 2, 0644);
        put_text(fd, "third-twin", "twin");
        rename_file(fd, "newer", "replaced");
        o.source_time_sec = 4000;
        _cleanup_(packed_done) Packed p = pack_with(fd, &o, fourth.index);
        assert_int_equal(mtime_of(&p, "z-moved"), 1000);
        assert_int_equal(mtime_of(&p, "z-large"), 1000);
        assert_int_equal(mtime_of(&p, "z-program"), 1000);
        assert_int_equal(mtime_of(&p, "z-link"), 4000);          /* it has no content */
        assert_int_equal(mtime_of(&p, "program-no-more"), 4000); /* another mode */
        assert_int_equal(mtime_of(&p, "third-twin"), 3001);      /* the latest of two */
        assert_int_equal(mtime_of(&p, "old-twin"), 1000);        /* its own comes first */
        assert_int_equal(mtime_of(&p, "replaced"), 2000);        /* later than what was there */
        /* Path, time and size would be those of the other content. */
        assert_int_equal(mtime_of(&p, "swapped-1"), 4000);
        assert_int_equal(mtime_of(&p, "swapped-2"), 4000);
        _cleanup_(packed_done) Packed again = pack_with(fd, &o, fourth.index);
        assert_same(&p, &again);
}

/* Packs what must be refused; the text must name `path`. */
static void assert_refused(int fd, int error, const char *path)
{
        _cleanup_close_ int artifact_fd = temporary_file();
        _cleanup_free_ char *err = NULL;
        const PackOptions o = { .source_time_sec = SOURCE_TIME, .level = 1 };
        PackResult result;

        assert_int_equal(pack_tree(fd, &o, NULL, artifact_fd, &result, &err), error);
        assert_non_null(err);
        if (!strstr(err, path))
                fail_msg("no '%s' in: %s", path, err);
}

static void make_socket(int dir_fd)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        (void) snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/d/bad",
                        dir_fd);
        assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
}

static void refuses(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "tree");
        static const mode_t modes[] = { 04755, 02755, 01644 };
        static const char *const targets[] = { "/etc/passwd", "../..", "../../x", "x/../../../y" };

        assert_int_equal(mkdirat(fd, "d", 0755), 0);
        assert_int_equal(mkfifoat(fd, "d/bad", 0644), 0);
        assert_refused(fd, -EBADMSG, "'d/bad'");
        assert_int_equal(unlinkat(fd, "d/bad", 0), 0);
        make_socket(fd);
        assert_refused(fd, -EBADMSG, "'d/bad'");
        assert_int_equal(unlinkat(fd, "d/bad", 0), 0);
        if (geteuid() == 0 && mknodat(fd, "d/bad", S_IFCHR | 0644, 0x103) == 0) {
                assert_refused(fd, -EBADMSG, "'d/bad'");
                assert_int_equal(unlinkat(fd, "d/bad", 0), 0);
        }
        for (size_t i = 0; i < ELEMENTSOF(modes); i++) {
                put(fd, "d/bad", "", 0, modes[i]);
                assert_refused(fd, -EBADMSG, "'d/bad'");
        }
        assert_int_equal(unlinkat(fd, "d/bad", 0), 0);
        for (size_t i = 0; i < ELEMENTSOF(targets); i++) {
                assert_int_equal(symlinkat(targets[i], fd, "d/bad"), 0);
                assert_refused(fd, -EBADMSG, "'d/bad'");
                assert_int_equal(unlinkat(fd, "d/bad", 0), 0);
        }
        put_text(fd, "d/b\nd", "");
        assert_refused(fd, -EBADMSG, "'d/b?d'");
}

static void refuses_depth(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "tree");
        _cleanup_close_ int deep_fd = dir_open_at(fd, ".");

        for (int i = 0; i < 64; i++) {
                assert_int_equal(mkdirat(deep_fd, "d", 0755), 0);
                int next_fd = dir_open_at(deep_fd, "d");
                fd_close(deep_fd);
                deep_fd = next_fd;
        }
        _cleanup_(packed_done) Packed p = pack(fd);
        assert_int_equal(p.result.n_files, 64);
        assert_tar_is_index(&p);
        put_text(deep_fd, "x", "");
        assert_refused(fd, -EBADMSG, "d/d/d/x'");
}

typedef struct Meddler {
        int fd;
        const char *path;
        uint64_t last_bytes;
} Meddler;

static void meddle(uint64_t done_bytes, uint64_t total_bytes, void *userdata)
{
        Meddler *m = userdata;

        assert_true(done_bytes >= m->last_bytes && done_bytes <= total_bytes);
        if (m->path && m->last_bytes == 0 && done_bytes > 0) {
                _cleanup_close_ int fd = openat(m->fd, m->path, O_WRONLY | O_CLOEXEC);
                struct timespec later[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
                assert_int_equal(futimens(fd, later), 0);
        }
        m->last_bytes = done_bytes;
}

static void changes_while_packed(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "tree");
        static const char *const paths[] = { "a-large", "z-later" };
        PackResult result = {};

        put_random(fd, "a-large", 4 << 20, 1);
        put_text(fd, "z-later", "1");
        for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
                Meddler m = { .fd = fd, .path = paths[i] };
                PackOptions o = { .level = 1, .progress = meddle, .userdata = &m };
                _cleanup_close_ int artifact_fd = temporary_file();
                _cleanup_free_ char *err = NULL;
                assert_int_equal(pack_tree(fd, &o, NULL, artifact_fd, &result, &err), -ESTALE);
                assert_non_null(strstr(err, paths[i]));
        }
        Meddler m = {};
        PackOptions o = { .level = 1, .progress = meddle, .userdata = &m };
        _cleanup_(packed_done) Packed p = pack_with(fd, &o, NULL);
        assert_int_equal(m.last_bytes, p.result.content_bytes);
}

static void write_errors(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "tree");
        _cleanup_close_ int full_fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
        _cleanup_free_ char *err = NULL;
        const PackOptions o = { .level = 1 };
        PackResult result;

        put_random(fd, "large", 5 << 20, 1);
        assert_int_equal(pack_tree(fd, &o, NULL, full_fd, &result, &err), -ENOSPC);
        assert_non_null(err);
        const PackOptions late = { .source_time_sec = UINT64_C(1) << 33 };
        assert_int_equal(pack_tree(fd, &late, NULL, full_fd, &result, &err), -EINVAL);
}

static size_t n_shared_frames(const Packed *a, const Packed *b)
{
        size_t n_shared = 0;

        for (size_t i = 0; i < index_n_frames(a->index); i++)
                for (size_t k = 0; k < index_n_frames(b->index); k++)
                        if (sha256_equal(&index_frame(a->index, i)->content_sha256,
                                         &index_frame(b->index, k)->content_sha256)) {
                                n_shared++;
                                break;
                        }
        return n_shared;
}

static void put_many(int fd, int n, size_t size)
{
        char name[32];

        for (int i = 0; i < n; i++) {
                (void) snprintf(name, sizeof(name), "file-%d", i);
                put_random(fd, name, size, i);
        }
}

static Packed pack_at(int fd, uint64_t time_sec, const Packed *predecessor)
{
        return pack_with(fd, &(PackOptions){ .source_time_sec = time_sec, .level = 1 },
                         predecessor ? predecessor->index : NULL);
}

/* What the cuts are for: a change costs the frames around it, not those behind it. */
static void small_changes_keep_frames(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "tree");

        put_many(fd, 1500, 4000);
        put_random(fd, "large", 12 << 20, 77);
        _cleanup_(packed_done) Packed a = pack_at(fd, 1000, NULL);
        size_t n = index_n_frames(a.index);
        assert_in_range(n, 1500 * 4608 / CHUNK_ENTRY_SIZE_MEAN / 2 + 60, 160);

        put_random(fd, "file-1000a", 4000, 1);
        _cleanup_(packed_done) Packed b = pack_at(fd, 2000, &a);
        assert_in_range(n_shared_frames(&a, &b), n - 2, n - 1);

        _cleanup_free_ char *data = NULL;
        size_t size;
        assert_int_equal(file_read_at(fd, "large", 13 << 20, &data, &size), 0);
        memmove(data + (6 << 20), data + (6 << 20) + 1, size - (6 << 20) - 1);
        put(fd, "large", data, size - 1, 0644);
        _cleanup_(packed_done) Packed c = pack_at(fd, 3000, &b);
        /* The header's frame, the one with the change, perhaps its neighbour, and the last, whose
         * padding is longer. */
        assert_in_range(n_shared_frames(&b, &c), index_n_frames(b.index) - 4,
                        index_n_frames(b.index) - 3);
}

/* Of all that has to be fetched by who has `old`. */
static uint64_t content_to_fetch(const Packed *old, const Packed *new)
{
        const Index *seed = old->index;
        _cleanup_(delta_freep) Delta *d = NULL;
        uint64_t bytes = 0;

        assert_int_equal(delta_new(new->index, &seed, 1, &d), 0);
        delta_settle(d);
        for (size_t n = 0; n < index_n_frames(new->index); n++)
                if (delta_frame(d, n, NULL) == DELTA_FETCH)
                        bytes += index_frame(new->index, n)->content_size_bytes;
        return bytes;
}

/* What changed has frames of its own, also for hosts that are more than one release behind. */
static void changed_files_lie_together(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "tree");

        put_many(fd, 900, 4000); /* entries of 4608 bytes */
        assert_int_equal(mkdirat(fd, "file-200d", 0755), 0);
        _cleanup_(packed_done) Packed a = pack_at(fd, 1000, NULL);

        put_random(fd, "file-100", 3500, 1); /* entries of 4096 bytes */
        put_random(fd, "file-102", 3500, 2);
        put_random(fd, "file-200", 3500, 3);
        put_random(fd, "file-200d/new", 3500, 4); /* a new directory is between them */
        _cleanup_(packed_done) Packed b = pack_at(fd, 2000, &a);
        assert_tar_is_index(&b);
        assert_int_equal(content_to_fetch(&a, &b), 4 * 4096 + 512);
        put_random(fd, "file-101", 3500, 5);
        put_random(fd, "file-150", 3500, 6);
        _cleanup_(packed_done) Packed c = pack_at(fd, 3000, &b);
        assert_tar_is_index(&c);
        assert_int_equal(content_to_fetch(&b, &c), 2 * 4096);
        assert_int_equal(content_to_fetch(&a, &c), 6 * 4096 + 512);
        _cleanup_(packed_done) Packed d = pack_at(fd, 4000, &c);
        assert_same(&c, &d);
}

/* What is shorter than a run stays between changed files. */
static void short_runs_do_not_cut(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "tree");

        put_many(fd, 900, 1000); /* entries of 1536 bytes */
        _cleanup_(packed_done) Packed a = pack_at(fd, 1000, NULL);
        put_random(fd, "file-100", 3500, 1);
        put_random(fd, "file-103", 3500, 2); /* after two entries: 3072 bytes */
        put_random(fd, "file-107", 3500, 3); /* after three: 4608 */
        _cleanup_(packed_done) Packed b = pack_at(fd, 2000, &a);
        assert_tar_is_index(&b);
        assert_int_equal(content_to_fetch(&a, &b), 3 * 4096 + 2 * 1536);
}

/* Sixteen regions of a large file are written in place, a hundredth of it; then bytes come in. */
static void large_file_changes(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "tree");
        const size_t size = 64 << 20, region = size / 100 / 16;
        _cleanup_free_ char *data = NULL;
        size_t n;

        put_random(fd, "large", size, 1);
        _cleanup_(packed_done) Packed a = pack_at(fd, 1000, NULL);
        assert_int_equal(file_read_at(fd, "large", size, &data, &n), 0);
        for (size_t i = 0; i < 16; i++)
                memset(data + i * (size / 16) + 12345, 'x', region);
        put(fd, "large", data, size, 0644);
        _cleanup_(packed_done) Packed b = pack_at(fd, 2000, &a);
        assert_in_range(content_to_fetch(&a, &b), 1, size / 12);
        memmove(data + size / 2 + 1000, data + size / 2, size / 2 - 1000);
        put(fd, "large", data, size, 0644);
        _cleanup_(packed_done) Packed c = pack_at(fd, 3000, &b);
        assert_in_range(content_to_fetch(&b, &c), 1, size / 100);
}

static void chunk_sizes(void **state)
{
        (void) state;
        _cleanup_free_ uint8_t *data = calloc(1, 2 * CHUNK_SIZE_MAX);
        uint64_t seed = 1, sum = 0;
        size_t n = 0;

        assert_int_equal(chunk_cut_content(data, 1), 1);
        assert_int_equal(chunk_cut_content(data, CHUNK_SIZE_MIN), CHUNK_SIZE_MIN);
        for (; n < 200; n++) {
                for (size_t i = 0; i < 2 * CHUNK_SIZE_MAX; i += 8) {
                        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
                        uint64_t v = seed ^ seed >> 29;
                        memcpy(data + i, &v, 8);
                }
                size_t cut = chunk_cut_content(data, 2 * CHUNK_SIZE_MAX);
                assert_in_range(cut, CHUNK_SIZE_MIN, CHUNK_SIZE_MAX);
                assert_int_equal(chunk_cut_content(data, CHUNK_SIZE_MAX), cut);
                sum += cut;
        }
        assert_in_range(sum / n, 120 << 10, 180 << 10);
}

static void assert_header_is_read(const IndexFile *f)
{
        uint8_t data[TAR_HEADER_SIZE_MAX];
        size_t size = tar_header_format(f, data);
        struct archive *a = archive_read_new();
        struct archive_entry *e;

        assert_int_equal(size % TAR_BLOCK_SIZE, 0);
        assert_true(size <= TAR_HEADER_SIZE_MAX);
        assert_int_equal(archive_read_support_format_tar(a), ARCHIVE_OK);
        assert_int_equal(archive_read_open_memory(a, data, size), ARCHIVE_OK);
        assert_int_equal(archive_read_next_header(a, &e), ARCHIVE_OK);
        assert_int_equal(strncmp(archive_entry_pathname(e), f->path, strlen(f->path)), 0);
        assert_true(streq_ptr(archive_entry_symlink(e), f->link));
        assert_int_equal(archive_entry_size(e), f->size_bytes);
        assert_int_equal(archive_entry_mtime(e), f->mtime_sec);
        assert_int_equal(archive_read_free(a), ARCHIVE_OK);
}

static void extreme_headers(void **state)
{
        (void) state;
        char path[4096], link[4096];
        static const uint64_t sizes[] = { (UINT64_C(1) << 33) - 1, UINT64_C(1) << 33,
                                          (UINT64_C(1) << 40) + 12345 };

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++)
                assert_header_is_read(&(IndexFile){ .path = "a",
                                                    .type = FILE_REGULAR,
                                                    .mode = 0644,
                                                    .size_bytes = sizes[i],
                                                    .mtime_sec = (UINT64_C(1) << 33) - 1 });
        memset(path, 'p', sizeof(path));
        memset(link, 'l', sizeof(link));
        path[4095] = link[4095] = '\0';
        assert_header_is_read(&(IndexFile){ .path = path, .type = FILE_DIRECTORY, .mode = 0755 });
        assert_header_is_read(
                &(IndexFile){ .path = path, .link = link, .type = FILE_SYMLINK, .mode = 0777 });
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(packs_a_tree),
                test_in_dir(tar_unpacks_it),
                test_in_dir(same_tree_same_bytes),
                test_in_dir(empty_tree),
                test_in_dir(times),
                test_in_dir(times_of_moved_files),
                test_in_dir(refuses),
                test_in_dir(refuses_depth),
                test_in_dir(changes_while_packed),
                test_in_dir(write_errors),
                test_in_dir(small_changes_keep_frames),
                test_in_dir(changed_files_lie_together),
                test_in_dir(short_runs_do_not_cut),
                test_in_dir(large_file_changes),
                cmocka_unit_test(chunk_sizes),
                cmocka_unit_test(extreme_headers),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
