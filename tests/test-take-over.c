/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "take-over.h"

/* As before Linux 6.10. */
static bool no_links_by_descriptor;

/* Stands before the C library's. */
int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
        if (no_links_by_descriptor && flags & AT_EMPTY_PATH) {
                errno = ENOENT;
                return -1;
        }
        return (int) syscall(SYS_linkat, from_fd, from, to_fd, to, flags);
}

/* Files hold their letter, so many times. */
typedef struct Entry {
        const char *path;
        char content; /* '/': a directory */
        size_t size_bytes;
        unsigned mode;
        uint64_t mtime_sec;
} Entry;

/* A release that is there, and a new one that has all of its content. */
static const Entry old_files[] = {
        {"a",      'a', 5,      0644, 11},
        { "d",     '/', 0,      0755, 12},
        { "d/b",   'b', 600000, 0755, 13},
        { "d/c",   'c', 100,    0644, 14},
        { "empty", 'e', 0,      0644, 15},
        { "x",     'x', 30,     0644, 16},
};
static const Entry new_files[] = {
        {"a",        'a', 5,      0644, 11},
        { "d",       '/', 0,      0755, 12},
        { "d/b",     'b', 600000, 0755, 13},
        { "d/c",     'c', 100,    0644, 14},
        { "empty",   'e', 0,      0644, 15},
        { "moved",   '/', 0,      0755, 17},
        { "moved/x", 'x', 30,     0644, 16},
};

/* One frame with everything, then the archive's end. */
static Index *make_index(const Entry *entries, size_t n_entries)
{
        _cleanup_(index_writer_freep) IndexWriter *w = NULL;
        _cleanup_free_ char *err = NULL;
        _cleanup_free_ void *data = NULL;
        const Frame frames[] = {
                {.size_bytes = 1,  .content_size_bytes = FRAME_CONTENT_MAX},
                { .offset = 1, .size_bytes = 1,              .content_size_bytes = 1024 },
        };
        Index *index = NULL;
        size_t size;

        assert_int_equal(index_writer_new(&w), 0);
        for (size_t n = 0; n < ELEMENTSOF(frames); n++)
                assert_int_equal(index_writer_add_frame(w, &frames[n]), 0);
        for (size_t n = 0; n < n_entries; n++) {
                const Entry *e = &entries[n];
                _cleanup_free_ char *content = malloc(e->size_bytes + 1);
                IndexFile f = { .path = e->path,
                                .type = e->content == '/' ? FILE_DIRECTORY : FILE_REGULAR,
                                .mode = e->mode,
                                .size_bytes = e->size_bytes,
                                .mtime_sec = e->mtime_sec,
                                .n_frames = 1 };

                memset(content, e->content, e->size_bytes);
                if (f.type == FILE_REGULAR)
                        assert_int_equal(sha256(content, e->size_bytes, &f.sha256), 0);
                assert_int_equal(index_writer_add_file(w, &f), 0);
        }
        if (index_writer_format(w, &data, &size, &err) < 0)
                fail_msg("%s", err);
        assert_int_equal(index_parse(data, size, &index, NULL), 0);
        return index;
}

static void set_time(int dir_fd, const char *path, time_t sec)
{
        const struct timespec times[2] = { { .tv_sec = sec }, { .tv_sec = sec } };

        assert_return_code(utimensat(dir_fd, path, times, AT_SYMLINK_NOFOLLOW), errno);
}

static void make_file(int dir_fd, const Entry *e)
{
        _cleanup_close_ int fd = openat(dir_fd, e->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        _cleanup_free_ char *content = malloc(e->size_bytes + 1);

        assert_return_code(fd, errno);
        memset(content, e->content, e->size_bytes);
        assert_int_equal(fd_write_all(fd, content, e->size_bytes), 0);
        assert_return_code(fchmod(fd, e->mode), errno);
        set_time(dir_fd, e->path, (time_t) e->mtime_sec);
}

static void make_directories(int dir_fd, const Entry *entries, size_t n_entries)
{
        for (size_t n = 0; n < n_entries; n++)
                if (entries[n].content == '/')
                        assert_return_code(mkdirat(dir_fd, entries[n].path, 0755), errno);
}

static void make_tree(int dir_fd, const Entry *entries, size_t n_entries)
{
        make_directories(dir_fd, entries, n_entries);
        for (size_t n = 0; n < n_entries; n++)
                if (entries[n].content != '/')
                        make_file(dir_fd, &entries[n]);
}

static int open_new(int dir_fd, const char *name)
{
        assert_return_code(mkdirat(dir_fd, name, 0755), errno);
        int fd = dir_open_at(dir_fd, name);
        assert_return_code(fd, errno);
        return fd;
}

/* Directories "old" and "new", and what is found out about them. */
typedef struct Bench {
        int dir_fd, new_fd;
        Index *index;
        Seed seeds[2];
        size_t n_seeds;
        Delta *delta;
        TakenOver taken;
} Bench;

static void bench_done(Bench *b)
{
        fd_close(b->dir_fd);
        fd_close(b->new_fd);
        index_free(b->index);
        for (size_t n = 0; n < b->n_seeds; n++)
                seed_done(&b->seeds[n]);
        delta_free(b->delta);
        taken_over_done(&b->taken);
}

static void bench_add_seed(Bench *b, const char *name, const Entry *entries, size_t n_entries)
{
        Seed *s = &b->seeds[b->n_seeds++];

        *s = (Seed){ .name = strdup(name),
                     .index = make_index(entries, n_entries),
                     .dir_fd = open_new(b->dir_fd, name),
                     .may_link = true };
        make_tree(s->dir_fd, entries, n_entries);
}

static Bench bench_new(const char *dir, const Entry *entries, size_t n_entries)
{
        Bench b = { .dir_fd = dir_open_at(AT_FDCWD, dir), .new_fd = -EBADF };

        b.index = make_index(entries, n_entries);
        b.new_fd = open_new(b.dir_fd, "new");
        make_directories(b.new_fd, entries, n_entries);
        return b;
}

static Bench bench_of_two(const char *dir)
{
        Bench b = bench_new(dir, new_files, ELEMENTSOF(new_files));

        bench_add_seed(&b, "old", old_files, ELEMENTSOF(old_files));
        return b;
}

static int take_over(Bench *b, char **reterr)
{
        const Index *indexes[ELEMENTSOF(b->seeds)];

        for (size_t n = 0; n < b->n_seeds; n++)
                indexes[n] = b->seeds[n].index;
        assert_int_equal(delta_new(b->index, indexes, b->n_seeds, &b->delta), 0);
        return take_over_files(b->index, b->seeds, b->new_fd, b->delta, &b->taken, reterr);
}

static size_t number_of(const Bench *b, const char *path)
{
        const IndexFile *f = index_find(b->index, path);

        assert_non_null(f);
        return f - index_file(b->index, 0);
}

typedef enum Fate { LINKED, COPIED, LOST } Fate;

/* What was written is what has to be, wherever it comes from. */
static void assert_content(const Bench *b, const IndexFile *f)
{
        _cleanup_close_ int fd = openat(b->new_fd, f->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        struct stat st;
        Sha256 d;

        assert_return_code(fd, errno);
        assert_return_code(fstat(fd, &st), errno);
        assert_int_equal(st.st_size, f->size_bytes);
        assert_int_equal(st.st_mode, S_IFREG | f->mode);
        assert_int_equal(st.st_mtim.tv_sec, f->mtime_sec);
        assert_int_equal(st.st_mtim.tv_nsec, 0);
        assert_int_equal(sha256_fd(fd, 0, f->size_bytes, &d), 0);
        assert_true(sha256_equal(&d, &f->sha256));
}

static void assert_fate(const Bench *b, const char *path, const char *old, Fate fate)
{
        const IndexFile *f = index_find(b->index, path);
        size_t n = number_of(b, path);
        struct stat st, old_st = {};
        DeltaSource source;

        if (fstatat(b->new_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
                assert_int_equal(fate, LOST);
                assert_false(delta_file(b->delta, n, &source));
                return;
        }
        (void) fstatat(b->seeds[0].dir_fd, old, &old_st, AT_SYMLINK_NOFOLLOW);
        assert_int_equal(fate, st.st_ino == old_st.st_ino && st.st_dev == old_st.st_dev ? LINKED
                                                                                        : COPIED);
        assert_int_equal(b->taken.linked[n], fate == LINKED);
        assert_true(delta_file(b->delta, n, &source));
        assert_content(b, f);
}

static void links_what_is_there(void **state)
{
        _cleanup_(bench_done) Bench b = bench_of_two(*state);

        assert_int_equal(take_over(&b, NULL), 0);
        assert_int_equal(b.taken.n_files, 5);
        assert_int_equal(b.taken.n_lost, 0);
        assert_null(b.taken.first_lost);
        assert_fate(&b, "a", "a", LINKED);
        assert_fate(&b, "d/b", "d/b", LINKED);
        assert_fate(&b, "d/c", "d/c", LINKED);
        assert_fate(&b, "empty", "empty", LINKED);
        assert_fate(&b, "moved/x", "x", LINKED);
}

static void edit_keeping_time(int fd)
{
        struct stat st;

        assert_return_code(fstatat(fd, "d/b", &st, 0), errno);
        _cleanup_close_ int file = openat(fd, "d/b", O_WRONLY | O_CLOEXEC);
        assert_int_equal(fd_pwrite_all(file, "!", 1, 300000), 0);
        set_time(fd, "d/b", st.st_mtim.tv_sec);
}

static void change_mode(int fd)
{
        assert_return_code(fchmodat(fd, "d/b", 0775, 0), errno);
}

static void change_time(int fd)
{
        set_time(fd, "d/b", 99);
}

static void change_owner(int fd)
{
        if (geteuid() == 0)
                assert_return_code(fchownat(fd, "d/b", 12345, 0, 0), errno);
        else
                change_mode(fd);
}

static void change_group(int fd)
{
        if (geteuid() == 0)
                assert_return_code(fchownat(fd, "d/b", (uid_t) -1, 12345, 0), errno);
        else
                change_mode(fd);
}

static void remove_it(int fd)
{
        assert_return_code(unlinkat(fd, "d/b", 0), errno);
}

static void put_symlink(int fd)
{
        assert_return_code(renameat(fd, "d/b", fd, "d/other"), errno);
        assert_return_code(symlinkat("other", fd, "d/b"), errno);
}

static void put_fifo(int fd)
{
        remove_it(fd);
        assert_return_code(mkfifoat(fd, "d/b", 0644), errno);
}

static void put_directory(int fd)
{
        remove_it(fd);
        assert_return_code(mkdirat(fd, "d/b", 0755), errno);
}

static void resize(int fd, off_t size)
{
        _cleanup_close_ int file = openat(fd, "d/b", O_WRONLY | O_CLOEXEC);

        assert_return_code(ftruncate(file, size), errno);
        set_time(fd, "d/b", 13);
}

static void grow(int fd)
{
        resize(fd, 600001);
}

static void shrink(int fd)
{
        resize(fd, 599999);
}

/* The whole directory is somewhere else. */
static void lead_through_symlink(int fd)
{
        assert_return_code(renameat(fd, "d", fd, "e"), errno);
        assert_return_code(symlinkat("e", fd, "d"), errno);
}

static void old_release_was_changed(void **state)
{
        static const struct {
                void (*change)(int fd);
                Fate fate;
        } cases[] = {
                {edit_keeping_time,     LOST  },
                { change_mode,          COPIED},
                { change_time,          COPIED},
                { change_owner,         COPIED},
                { change_group,         COPIED},
                { remove_it,            LOST  },
                { put_symlink,          LOST  },
                { put_fifo,             LOST  },
                { put_directory,        LOST  },
                { grow,                 LOST  },
                { shrink,               LOST  },
                { lead_through_symlink, LOST  },
        };

        for (size_t n = 0; n < ELEMENTSOF(cases); n++) {
                _cleanup_(bench_done) Bench b = bench_of_two(*state);
                bool all_of_it = cases[n].change == lead_through_symlink;
                const Fate fate = cases[n].fate;

                cases[n].change(b.seeds[0].dir_fd);
                assert_int_equal(take_over(&b, NULL), 0);
                assert_fate(&b, "d/b", "d/b", fate);
                assert_fate(&b, "d/c", "d/c", all_of_it ? LOST : LINKED);
                assert_fate(&b, "a", "a", LINKED);
                assert_int_equal(b.taken.n_lost, all_of_it ? 2 : fate == LOST);
                if (fate == LOST)
                        assert_string_equal(b.taken.first_lost, "'d/b' of release old");
                assert_int_equal(remove_tree_at(b.dir_fd, "old"), 0);
                assert_int_equal(remove_tree_at(b.dir_fd, "new"), 0);
        }
}

/* Others can write to the old release: nothing of it may be in the new one. */
static void copies_what_others_own(void **state)
{
        _cleanup_(bench_done) Bench b = bench_of_two(*state);

        b.seeds[0].may_link = false;
        edit_keeping_time(b.seeds[0].dir_fd);
        assert_int_equal(take_over(&b, NULL), 0);
        assert_fate(&b, "a", "a", COPIED);
        assert_fate(&b, "d/b", "d/b", LOST);
        assert_fate(&b, "moved/x", "x", COPIED);
        assert_int_equal(b.taken.n_files, 4);
}

/* link(2) says EXDEV between mounts, also of one file system. */
static void copies_what_can_not_be_linked(void **state)
{
        _cleanup_(bench_done) Bench b = bench_of_two(*state);
        _cleanup_free_ char *path = NULL;

        if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
            mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0)
                skip();
        assert_true(asprintf(&path, "%s/old", (const char *) *state) > 0);
        assert_return_code(mount(path, path, "none", MS_BIND, NULL), errno);
        fd_close(b.seeds[0].dir_fd);
        b.seeds[0].dir_fd = dir_open_at(AT_FDCWD, path);
        assert_int_equal(take_over(&b, NULL), 0);
        assert_fate(&b, "a", "a", COPIED);
        assert_fate(&b, "d/b", "d/b", COPIED);
        assert_int_equal(b.taken.n_files, 5);
        assert_int_equal(b.taken.n_lost, 0);
        assert_return_code(umount2(path, MNT_DETACH), errno);
}

static void takes_from_several(void **state)
{
        static const Entry older[] = {
                {"d",    '/', 0,      0755, 12},
                { "d/b", 'b', 600000, 0755, 13},
                { "x",   'x', 30,     0644, 16},
        };
        static const Entry newer[] = {
                {"a", 'a', 5, 0644, 11}
        };
        _cleanup_(bench_done) Bench b = bench_new(*state, new_files, ELEMENTSOF(new_files));
        struct stat st;

        bench_add_seed(&b, "newer", newer, ELEMENTSOF(newer));
        bench_add_seed(&b, "older", older, ELEMENTSOF(older));
        assert_int_equal(take_over(&b, NULL), 0);
        assert_int_equal(b.taken.n_files, 3);
        assert_int_equal(b.taken.n_lost, 0);
        assert_return_code(fstatat(b.new_fd, "moved/x", &st, 0), errno);
        assert_int_equal(st.st_nlink, 2);
        assert_return_code(faccessat(b.new_fd, "a", F_OK, 0), errno);
        assert_true(faccessat(b.new_fd, "d/c", F_OK, 0) < 0);
}

/* A failure to write is one of the deployment, and names the path. */
static void something_is_in_the_way(void **state)
{
        _cleanup_(bench_done) Bench b = bench_of_two(*state);
        _cleanup_free_ char *err = NULL;

        assert_return_code(mkdirat(b.new_fd, "d/c", 0755), errno);
        assert_int_equal(take_over(&b, &err), -EEXIST);
        assert_non_null(strstr(err, "'d/c'"));
}

#define N_MANY 1000

/* Enough for all threads; the first of those that were lost is told, whoever finds it. */
static void many_files(void **state)
{
        _cleanup_free_ Entry *entries = calloc(N_MANY, sizeof(Entry));
        char paths[N_MANY][16];

        for (unsigned n = 0; n < N_MANY; n++) {
                (void) snprintf(paths[n], sizeof(paths[n]), "f%04u", n);
                entries[n] = (Entry){ paths[n], 'a' + n % 26, n + 1, 0644, n };
        }
        _cleanup_(bench_done) Bench b = bench_new(*state, entries, N_MANY);
        bench_add_seed(&b, "old", entries, N_MANY);
        for (unsigned n = 17; n < N_MANY; n += 100)
                assert_return_code(unlinkat(b.seeds[0].dir_fd, paths[n], 0), errno);
        assert_int_equal(take_over(&b, NULL), 0);
        assert_int_equal(b.taken.n_files, N_MANY - 10);
        assert_int_equal(b.taken.n_lost, 10);
        assert_string_equal(b.taken.first_lost, "'f0017' of release old");
        for (unsigned n = 0; n < N_MANY; n++)
                assert_fate(&b, paths[n], paths[n], n % 100 == 17 ? LOST : LINKED);
}

static void links_by_name(void **state)
{
        no_links_by_descriptor = true;
        links_what_is_there(state);
        no_links_by_descriptor = false;
}

static void old_release_was_changed_by_name(void **state)
{
        no_links_by_descriptor = true;
        old_release_was_changed(state);
        no_links_by_descriptor = false;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(links_what_is_there),
                test_in_dir(old_release_was_changed),
                test_in_dir(links_by_name),
                test_in_dir(old_release_was_changed_by_name),
                test_in_dir(copies_what_others_own),
                test_in_dir(copies_what_can_not_be_linked),
                test_in_dir(takes_from_several),
                test_in_dir(something_is_in_the_way),
                test_in_dir(many_files),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
