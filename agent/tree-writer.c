/* SPDX-License-Identifier: Apache-2.0 */
#include "tree-writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "beneath.h"
#include "err.h"
#include "fd.h"
#include "parallel.h"
#include "small-files.h"

/* From this size on, a file's content starts its way to the disk at once (a hint, which may fail),
 * while the rest is still being fetched: the sync at the end then has little left to do. For
 * smaller ones the call costs more than it gains. */
#define WRITEBACK_SIZE_MIN SMALL_FILE_MAX

#define ENTRIES_AT_ONCE 64

typedef struct TreeWriter {
        const Index *index;
        const Delta *delta;
        Beneath *beneath, *beneath_small;
        SmallFiles *small;
        struct archive *archive;
        tree_source_t source;
        void *userdata;
        int source_result;
        char *source_err;
} TreeWriter;

static void writer_done(TreeWriter *w)
{
        small_files_free(w->small);
        beneath_free(w->beneath_small);
        beneath_free(w->beneath);
        (void) archive_read_free(w->archive);
        free(w->source_err);
}

static la_ssize_t read_source(struct archive *a, void *userdata, const void **ret_data)
{
        TreeWriter *w = userdata;
        size_t size = 0;
        int r = w->source(w->userdata, ret_data, &size, &w->source_err);

        if (r < 0) {
                w->source_result = r;
                archive_set_error(a, -r, "no content");
                return -1;
        }
        return r == 0 ? 0 : (la_ssize_t) size;
}

/* Why libarchive stopped: the source's own reason comes first. */
static int archive_failed(TreeWriter *w, const char *path, char **reterr)
{
        if (w->source_result < 0)
                return fail(reterr, w->source_result, "%s",
                            err_text(w->source_result, w->source_err));
        if (archive_errno(w->archive) == ENOMEM)
                return -ENOMEM;
        return fail(reterr, -EBADMSG, "archive is damaged at '%s': %s", path,
                    strempty(archive_error_string(w->archive)));
}

static int path_failed(int error, const char *what, const char *path, char **reterr)
{
        return fail_errno(reterr, error, "cannot %s '%s' in the new release", what, path);
}

static int differs(const IndexFile *f, const char *what, char **reterr)
{
        return fail(reterr, -EBADMSG, "'%s' in the archive differs from the index in its %s",
                    f->path, what);
}

/* Directories have a slash at their end in a tar. */
static bool same_path(const IndexFile *f, const char *path)
{
        size_t size = strlen(f->path);

        if (strncmp(path, f->path, size) != 0)
                return false;
        return path[size] == '\0' ||
               (f->type == FILE_DIRECTORY && path[size] == '/' && path[size + 1] == '\0');
}

/* Tells in which way an entry is not the expected one. */
static int wrong_path(const Index *index, const IndexFile *expected, const char *path,
                      char **reterr)
{
        _cleanup_free_ char *stripped = strdup(path);

        if (!stripped)
                return -ENOMEM;
        size_t size = strlen(stripped);
        if (size > 0 && stripped[size - 1] == '/')
                stripped[size - 1] = '\0';
        const IndexFile *found = index_find(index, stripped);
        if (!found)
                return fail(reterr, -EBADMSG, "'%s' in the archive is not in the index", path);
        if (!expected || found < expected)
                return fail(reterr, -EBADMSG, "'%s' comes twice in the archive, or too late", path);
        return fail(reterr, -EBADMSG, "'%s' of the index is missing in the archive",
                    expected->path);
}

static int check_entry(const IndexFile *f, struct archive_entry *e, char **reterr)
{
        static const mode_t types[] = {
                [FILE_REGULAR] = AE_IFREG, [FILE_DIRECTORY] = AE_IFDIR, [FILE_SYMLINK] = AE_IFLNK
        };

        if (archive_entry_hardlink(e) || archive_entry_filetype(e) != types[f->type])
                return differs(f, "type", reterr);
        if (archive_entry_perm(e) != f->mode)
                return differs(f, "mode", reterr);
        if (archive_entry_mtime(e) < 0 || (uint64_t) archive_entry_mtime(e) != f->mtime_sec)
                return differs(f, "time", reterr);
        if (f->type == FILE_SYMLINK && !streq_ptr(archive_entry_symlink(e), f->link))
                return differs(f, "link target", reterr);
        if (archive_entry_size(e) < 0 || (uint64_t) archive_entry_size(e) != f->size_bytes)
                return differs(f, "size", reterr);
        if (archive_entry_sparse_count(e) > 0)
                return fail(reterr, -EBADMSG, "'%s' in the archive is sparse", f->path);
        return 0;
}

/* To the file, or into memory. */
static int write_content(TreeWriter *w, const IndexFile *f, int fd, uint8_t *room, char **reterr)
{
        uint64_t n_written = 0;

        for (;;) {
                const void *data;
                size_t size;
                la_int64_t offset;
                int r = archive_read_data_block(w->archive, &data, &size, &offset);
                if (r == ARCHIVE_EOF)
                        break;
                if (r != ARCHIVE_OK)
                        return archive_failed(w, f->path, reterr);
                if (offset < 0 || (uint64_t) offset != n_written ||
                    size > f->size_bytes - n_written)
                        return differs(f, "content's size", reterr);
                if (room)
                        memcpy(room + n_written, data, size);
                else
                        r = fd_write_all(fd, data, size);
                if (r < 0)
                        return path_failed(r, "write", f->path, reterr);
                n_written += size;
        }
        return n_written == f->size_bytes ? 0 : differs(f, "content's size", reterr);
}

static void entry_times(const IndexFile *f, struct timespec ret[static 2])
{
        ret[0] = ret[1] = (struct timespec){ .tv_sec = f->mtime_sec };
}

static int create_file(Beneath *tree, const IndexFile *f, char **reterr)
{
        const char *name;
        int parent_fd = beneath_parent(tree, f->path, &name);

        if (parent_fd < 0)
                return path_failed(parent_fd, "open the directory of", f->path, reterr);
        int fd =
                openat(parent_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        return fd < 0 ? path_failed(-errno, "create", f->path, reterr) : fd;
}

static int finish_file(const IndexFile *f, int fd, char **reterr)
{
        struct timespec times[2];

        entry_times(f, times);
        if (fchmod(fd, f->mode) < 0 || futimens(fd, times) < 0)
                return path_failed(-errno, "set mode and time of", f->path, reterr);
        return 0;
}

/* In its own thread. */
static int make_small(void *userdata, const IndexFile *f, const void *content, char **reterr)
{
        _cleanup_close_ int fd = create_file(userdata, f, reterr);

        if (fd < 0)
                return fd;
        int r = fd_write_all(fd, content, f->size_bytes);
        return r < 0 ? path_failed(r, "write", f->path, reterr) : finish_file(f, fd, reterr);
}

/* 0: it has to be made here. */
static int add_small(TreeWriter *w, const IndexFile *f, char **reterr)
{
        void *room;
        int r = small_files_room(w->small, &room, reterr);

        if (r <= 0)
                return r;
        r = write_content(w, f, -EBADF, room, reterr);
        if (r < 0)
                return r;
        small_files_add(w->small, f);
        return 1;
}

static int make_here(TreeWriter *w, const IndexFile *f, char **reterr)
{
        _cleanup_close_ int fd = create_file(w->beneath, f, reterr);
        int r = fd < 0 ? fd : write_content(w, f, fd, NULL, reterr);

        if (r < 0)
                return r;
        if (f->size_bytes >= WRITEBACK_SIZE_MIN)
                (void) sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
        return finish_file(f, fd, reterr);
}

static int make_file(TreeWriter *w, const IndexFile *f, char **reterr)
{
        int r = f->size_bytes < WRITEBACK_SIZE_MIN ? add_small(w, f, reterr) : 0;

        return r != 0 ? MIN(r, 0) : make_here(w, f, reterr);
}

static int make_symlink(const IndexFile *f, int parent_fd, const char *name, char **reterr)
{
        struct timespec times[2];

        if (symlinkat(f->link, parent_fd, name) < 0)
                return path_failed(-errno, "create", f->path, reterr);
        entry_times(f, times);
        if (utimensat(parent_fd, name, times, AT_SYMLINK_NOFOLLOW) < 0)
                return path_failed(-errno, "set the time of", f->path, reterr);
        return 0;
}

/* A directory's mode and time are set at the end, when nothing is made in it any more. Another
 * thread may have made it for what comes below. */
static int make_entry(Beneath *tree, const IndexFile *f, size_t *n_made, char **reterr)
{
        const char *name;
        int parent_fd = beneath_parent(tree, f->path, &name);

        if (parent_fd < 0)
                return path_failed(parent_fd, "make or open the directory of", f->path, reterr);
        if (f->type == FILE_SYMLINK)
                return make_symlink(f, parent_fd, name, reterr);
        int r = beneath_make(parent_fd, name, n_made);
        return r < 0 ? path_failed(r, "create", f->path, reterr) : 0;
}

static int finish_directory(Beneath *tree, const IndexFile *f, char **reterr)
{
        struct timespec times[2];
        const char *name;
        int parent_fd = beneath_parent(tree, f->path, &name);
        _cleanup_close_ int fd = parent_fd < 0 ? parent_fd : dir_open_at(parent_fd, name);

        if (fd < 0)
                return path_failed(fd, "open", f->path, reterr);
        entry_times(f, times);
        if (fchmod(fd, f->mode) < 0 || futimens(fd, times) < 0)
                return path_failed(-errno, "set mode and time of", f->path, reterr);
        return 0;
}

/* What is done by the index alone, by several threads */

typedef struct Worker {
        const Index *index;
        Beneath *tree;
        size_t n_made; /* directories */
} Worker;

static int prepare(void *worker, size_t n, char **reterr)
{
        Worker *w = worker;
        const IndexFile *f = index_file(w->index, n);

        return f->type == FILE_REGULAR ? 0 : make_entry(w->tree, f, &w->n_made, reterr);
}

static int finish(void *worker, size_t n, char **reterr)
{
        Worker *w = worker;
        const IndexFile *f = index_file(w->index, n);

        return f->type == FILE_DIRECTORY ? finish_directory(w->tree, f, reterr) : 0;
}

static int worker_init(Worker *w, int dir_fd, const Index *index, bool makes)
{
        int r = beneath_new(dir_fd, &w->tree);

        w->index = index;
        if (r >= 0 && makes)
                beneath_make_missing(w->tree, &w->n_made);
        return r;
}

/* *ret_n_made: how many directories were made; may be NULL. */
static int do_entries(parallel_do_t do_item, int dir_fd, const Index *index, size_t *ret_n_made,
                      char **reterr)
{
        const ParallelWork work = { do_item, index_n_files(index), ENTRIES_AT_ONCE };
        Worker workers[PARALLEL_THREADS_MAX] = {};
        void *items[PARALLEL_THREADS_MAX];
        size_t n = parallel_n_workers(&work), n_made = 0;
        int r = 0;

        for (size_t i = 0; r >= 0 && i < n; i++) {
                items[i] = &workers[i];
                r = worker_init(&workers[i], dir_fd, index, do_item == prepare);
        }
        if (r >= 0)
                r = parallel_do(&work, items, n, reterr);
        for (size_t i = 0; i < n; i++) {
                n_made += workers[i].n_made;
                beneath_free(workers[i].tree);
        }
        if (ret_n_made)
                *ret_n_made = n_made;
        return r;
}

static size_t n_directories(const Index *index)
{
        size_t n_found = 0;

        for (size_t n = 0; n < index_n_files(index); n++)
                n_found += index_file(index, n)->type == FILE_DIRECTORY;
        return n_found;
}

int tree_prepare(int dir_fd, const Index *index, char **reterr)
{
        size_t n_made;
        int r = do_entries(prepare, dir_fd, index, &n_made, reterr);

        if (r < 0 || n_made == n_directories(index))
                return r;
        return fail(reterr, -EEXIST,
                    "cannot make all directories of the new release: for its file system, names of "
                    "some are the same, as where case does not count");
}

/* The stream */

/* The next entry must be f; with NULL there must be none. */
static int read_header(TreeWriter *w, const IndexFile *f, char **reterr)
{
        struct archive_entry *e;
        int r = archive_read_next_header(w->archive, &e);

        if (r == ARCHIVE_EOF)
                return !f ? 0
                          : fail(reterr, -EBADMSG, "'%s' of the index is missing in the archive",
                                 f->path);
        if (r != ARCHIVE_OK)
                return archive_failed(w, f ? f->path : "its end", reterr);
        const char *path = archive_entry_pathname(e);
        if (!path)
                return fail(reterr, -EBADMSG, "archive has an entry without a path");
        return f && same_path(f, path) ? check_entry(f, e, reterr)
                                       : wrong_path(w->index, f, path, reterr);
}

/* libarchive passes over the content of what is reused. */
static int write_entries(TreeWriter *w, char **reterr)
{
        for (size_t n = 0; n < index_n_files(w->index); n++) {
                const IndexFile *f = index_file(w->index, n);
                DeltaSource source;
                bool make = f->type == FILE_REGULAR && !delta_file(w->delta, n, &source);
                int r = delta_in_stream(w->delta, n) ? read_header(w, f, reterr) : 0;
                if (r >= 0 && make)
                        r = make_file(w, f, reterr);
                if (r < 0)
                        return r;
        }
        return read_header(w, NULL, reterr);
}

/* libarchive is content with the blocks that end an archive; here nothing may follow them. */
static int expect_end(TreeWriter *w, char **reterr)
{
        const void *data;
        size_t size;
        int r = w->source(w->userdata, &data, &size, reterr);

        return r > 0 ? fail(reterr, -EBADMSG, "archive goes on after its end") : r;
}

static bool is_in_stream(const TreeWriter *w)
{
        for (size_t n = 0; n < index_n_files(w->index); n++)
                if (delta_in_stream(w->delta, n))
                        return true;
        return false;
}

static int open_archive(TreeWriter *w, char **reterr)
{
        w->archive = archive_read_new();
        if (!w->archive || archive_read_support_format_tar(w->archive) != ARCHIVE_OK)
                return -ENOMEM;
        if (archive_read_open(w->archive, w, NULL, read_source, NULL) != ARCHIVE_OK)
                return archive_failed(w, "its start", reterr);
        return 0;
}

/* An archive of nothing at all is none. */
static int write_files(TreeWriter *w, char **reterr)
{
        int r = is_in_stream(w) ? open_archive(w, reterr) : 0;

        if (r >= 0 && w->archive)
                r = write_entries(w, reterr);
        if (r >= 0)
                r = small_files_finish(w->small, reterr);
        return r < 0 ? r : expect_end(w, reterr);
}

int tree_write(int dir_fd, const Index *index, const Delta *delta, tree_source_t source,
               void *userdata, char **reterr)
{
        _cleanup_(writer_done) TreeWriter w = {
                .index = index, .delta = delta, .source = source, .userdata = userdata
        };
        int r = beneath_new(dir_fd, &w.beneath);

        if (r >= 0)
                r = beneath_new(dir_fd, &w.beneath_small);
        if (r >= 0)
                r = small_files_new(make_small, w.beneath_small, &w.small);
        if (r >= 0)
                r = write_files(&w, reterr);
        return r < 0 ? r : do_entries(finish, dir_fd, index, NULL, reterr);
}
