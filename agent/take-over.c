/* SPDX-License-Identifier: Apache-2.0 */
#include "take-over.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fs.h>

#include "beneath.h"
#include "err.h"
#include "fd.h"
#include "parallel.h"

#define BUFFER_SIZE   (256U << 10)
#define FILES_AT_ONCE 64

/* What the workers have in common. */
typedef struct Job {
        const Index *index;
        const Seed *seeds;
        Delta *delta;
        TakenOver *taken;
        int tree_fd;
        uid_t uid;
        gid_t gid;
        dev_t device;
} Job;

typedef struct Worker {
        Job *job;
        Beneath *from, *to;
        size_t seed; /* whose tree `from` is */
        Hasher *hasher;
        uint8_t *buffer;
        bool links_by_name;
        size_t n_files, n_lost, first_lost; /* first_lost: an item */
        DeltaSource lost;                   /* where that one was looked for */
} Worker;

void seed_done(Seed *s)
{
        free(s->name);
        index_free(s->index);
        fd_close(s->dir_fd);
}

void taken_over_done(TakenOver *t)
{
        free(t->first_lost);
        free(t->linked);
        free(t->frame_fds);
        for (size_t i = 0; i < t->n_piece_fds; i++)
                fd_close(t->piece_fds[i]);
}

/* Workers */

static void worker_done(Worker *w)
{
        beneath_free(w->from);
        beneath_free(w->to);
        hasher_free(w->hasher);
        free(w->buffer);
}

static int worker_init(Worker *w, Job *job)
{
        int r;

        *w = (Worker){ .job = job, .seed = SIZE_MAX };
        w->buffer = malloc(MAX(BUFFER_SIZE, FRAME_CONTENT_MAX));
        if (!w->buffer)
                return -ENOMEM;
        r = hasher_new(&w->hasher);
        return r < 0 || job->tree_fd < 0 ? r : beneath_new(job->tree_fd, &w->to);
}

/* What was looked for at `source` could not be had. */
static void note_lost(Worker *w, size_t n, const DeltaSource *source)
{
        if (w->n_lost++ > 0 && n > w->first_lost)
                return;
        w->first_lost = n;
        w->lost = *source;
}

static int describe_lost(TakenOver *t, const Seed *seeds, const DeltaSource *lost)
{
        free(TAKE_PTR(t->first_lost));
        if (asprintf(&t->first_lost, "'%s' of release %s", lost->file->path,
                     seeds[lost->seed].name) >= 0)
                return 0;
        t->first_lost = NULL;
        return -ENOMEM;
}

/* Adds what a worker did. Of the items that were lost, the first of all is told. */
static int collect(const Worker *w, size_t *first_lost)
{
        TakenOver *t = w->job->taken;

        t->n_files += w->n_files;
        t->n_lost += w->n_lost;
        if (w->n_lost == 0 || w->first_lost >= *first_lost)
                return 0;
        *first_lost = w->first_lost;
        return describe_lost(t, w->job->seeds, &w->lost);
}

static int do_job(Job *job, const ParallelWork *work, char **reterr)
{
        Worker workers[PARALLEL_THREADS_MAX] = {};
        void *items[PARALLEL_THREADS_MAX];
        size_t n = parallel_n_workers(work), first_lost = SIZE_MAX;
        int r = 0;

        for (size_t i = 0; r >= 0 && i < n; i++) {
                items[i] = &workers[i];
                r = worker_init(&workers[i], job);
        }
        if (r >= 0)
                r = parallel_do(work, items, n, reterr);
        for (size_t i = 0; i < n; i++) {
                if (r >= 0)
                        r = collect(&workers[i], &first_lost);
                worker_done(&workers[i]);
        }
        return r;
}

/* Files */

static int path_failed(int error, const char *what, const char *path, char **reterr)
{
        return fail_errno(reterr, error, "cannot %s '%s' in the new release", what, path);
}

/* A fifo in its place does not wait. O_NOATIME is for the owner alone; without it, each release
 * that reads a file again would have its inode written. */
static int open_file(int parent_fd, const char *name)
{
        const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
        int fd = openat(parent_fd, name, flags | O_NOATIME);

        if (fd < 0 && errno == EPERM)
                fd = openat(parent_fd, name, flags);
        return fd < 0 ? -errno : fd;
}

/* Opens a regular file of a seed. */
static int open_source(Worker *w, const DeltaSource *source, int *ret_parent_fd,
                       const char **ret_name, struct stat *ret_stat)
{
        if (w->seed != source->seed) {
                w->from = beneath_free(w->from);
                int r = beneath_new(w->job->seeds[source->seed].dir_fd, &w->from);
                if (r < 0)
                        return r;
                w->seed = source->seed;
        }
        *ret_parent_fd = beneath_parent(w->from, source->file->path, ret_name);
        if (*ret_parent_fd < 0)
                return *ret_parent_fd;
        _cleanup_close_ int fd = open_file(*ret_parent_fd, *ret_name);
        if (fd < 0)
                return fd;
        if (fstat(fd, ret_stat) < 0)
                return -errno;
        return S_ISREG(ret_stat->st_mode) ? TAKE_FD(fd) : -EINVAL;
}

/* What says nothing of the seed. */
static bool is_ours(int error)
{
        return error == -ENOMEM || error == -EMFILE || error == -ENFILE;
}

/* 1: it is the signed content; 0: it is not. With to_fd the bytes are written there, too: then an
 * error is one of writing. */
static int check_content(Worker *w, const IndexFile *f, int fd, int to_fd)
{
        uint64_t offset = 0;
        Sha256 d;
        int r;

        while (offset < f->size_bytes) {
                size_t n = MIN(f->size_bytes - offset, (uint64_t) BUFFER_SIZE);
                /* Also makes the hasher ready for the next file. */
                if (fd_pread_exactly(fd, w->buffer, n, offset) < 0)
                        return hasher_finish(w->hasher, &d);
                r = hasher_add(w->hasher, w->buffer, n);
                if (r >= 0 && to_fd >= 0)
                        r = fd_write_all(to_fd, w->buffer, n);
                if (r < 0)
                        return r;
                offset += n;
        }
        r = hasher_finish(w->hasher, &d);
        return r < 0 ? r : sha256_equal(&d, &f->sha256);
}

static bool may_be_linked(const Worker *w, const DeltaSource *source, const IndexFile *f,
                          const struct stat *st)
{
        const Job *job = w->job;

        return job->seeds[source->seed].may_link && st->st_uid == job->uid &&
               st->st_gid == job->gid && st->st_dev == job->device &&
               (st->st_mode & 07777) == f->mode && st->st_mtim.tv_nsec == 0 &&
               st->st_mtim.tv_sec >= 0 && (uint64_t) st->st_mtim.tv_sec == f->mtime_sec;
}

/* 1: linked; 0: it can't be. By name, what was linked has to be what was checked. */
static int link_by_name(int from_fd, const char *from, const struct stat *checked, int parent_fd,
                        const char *name)
{
        struct stat st;

        if (linkat(from_fd, from, parent_fd, name, 0) < 0)
                return 0;
        if (fstatat(parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            st.st_ino == checked->st_ino && st.st_dev == checked->st_dev &&
            st.st_mode == checked->st_mode)
                return 1;
        return unlinkat(parent_fd, name, 0) < 0 ? -errno : 0;
}

/* Linux lets whoever opened a file link it by its descriptor, from 6.10 on: before, there is no
 * such file (open(2), linkat(2), AT_EMPTY_PATH). */
static int link_file(Worker *w, int fd, int from_fd, const char *from, const struct stat *checked,
                     int parent_fd, const char *name)
{
        if (!w->links_by_name) {
                if (linkat(fd, "", parent_fd, name, AT_EMPTY_PATH) == 0)
                        return 1;
                if (errno != ENOENT)
                        return 0;
                w->links_by_name = true;
        }
        return link_by_name(from_fd, from, checked, parent_fd, name);
}

/* The content of fd, by the same blocks where that is possible; what is in the new file is checked,
 * as others may write to the old one. 1: it is the signed content; 0: it is not. */
static int fill_copy(Worker *w, const IndexFile *f, int fd, int to_fd)
{
        struct stat st;

        if (ioctl(to_fd, FICLONE, fd) < 0)
                return check_content(w, f, fd, to_fd);
        if (fstat(to_fd, &st) < 0)
                return -errno;
        return (uint64_t) st.st_size == f->size_bytes ? check_content(w, f, to_fd, -EBADF) : 0;
}

/* 1: copied; 0: it is not what was signed, and nothing is there. */
static int copy_file(Worker *w, const IndexFile *f, int fd, int parent_fd, const char *name,
                     char **reterr)
{
        const struct timespec time = { .tv_sec = f->mtime_sec }, times[2] = { time, time };
        _cleanup_close_ int to_fd =
                openat(parent_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        int r;

        if (to_fd < 0)
                return path_failed(-errno, "create", f->path, reterr);
        r = fill_copy(w, f, fd, to_fd);
        if (r < 0)
                return path_failed(r, "write", f->path, reterr);
        if (r == 0)
                return unlinkat(parent_fd, name, 0) < 0
                               ? path_failed(-errno, "remove", f->path, reterr)
                               : 0;
        if (fchmod(to_fd, f->mode) < 0 || futimens(to_fd, times) < 0)
                return path_failed(-errno, "set mode and time of", f->path, reterr);
        return 1;
}

/* 2: linked; 1: copied; 0: it is not what was signed. */
static int make_from(Worker *w, const DeltaSource *source, const IndexFile *f, int fd,
                     const struct stat *st, int from_fd, const char *from, char **reterr)
{
        const char *name;
        int parent_fd = beneath_parent(w->to, f->path, &name), r;

        if (parent_fd < 0)
                return path_failed(parent_fd, "open the directory of", f->path, reterr);
        if (!may_be_linked(w, source, f, st))
                return copy_file(w, f, fd, parent_fd, name, reterr);
        r = check_content(w, f, fd, -EBADF);
        if (r <= 0)
                return r;
        r = link_file(w, fd, from_fd, from, st, parent_fd, name);
        if (r < 0)
                return path_failed(r, "remove", f->path, reterr);
        if (r == 0)
                return copy_file(w, f, fd, parent_fd, name, reterr);
        return 2;
}

static int take_file(void *worker, size_t n, char **reterr)
{
        Worker *w = worker;
        const IndexFile *f = index_file(w->job->index, n);
        _cleanup_close_ int fd = -EBADF;
        const char *from = NULL;
        DeltaSource source;
        struct stat st;
        int from_fd, r = 0;

        if (!delta_file(w->job->delta, n, &source))
                return 0;
        fd = open_source(w, &source, &from_fd, &from, &st);
        if (is_ours(fd))
                return fd;
        if (fd >= 0 && (uint64_t) st.st_size == f->size_bytes)
                r = make_from(w, &source, f, fd, &st, from_fd, from, reterr);
        if (r < 0)
                return r;
        if (r > 0) {
                w->n_files++;
                w->job->taken->linked[n] = r > 1;
                return 0;
        }
        delta_lose(w->job->delta, n);
        note_lost(w, n, &source);
        return 0;
}

int take_over_files(const Index *index, const Seed *seeds, int tree_fd, Delta *delta, TakenOver *t,
                    char **reterr)
{
        Job job = { .index = index,
                    .seeds = seeds,
                    .delta = delta,
                    .taken = t,
                    .tree_fd = tree_fd,
                    .uid = geteuid(),
                    .gid = getegid() };
        const ParallelWork work = { take_file, index_n_files(index), FILES_AT_ONCE };
        struct stat st;

        if (fstat(tree_fd, &st) < 0)
                return fail_errno(reterr, -errno, "cannot look at the new release");
        job.device = st.st_dev;
        t->linked = calloc(index_n_files(index) + 1, sizeof(bool));
        if (!t->linked)
                return -ENOMEM;
        return do_job(&job, &work, reterr);
}

/* Pieces */

static int read_piece(const Frame *f, const DeltaSource *source, int fd, Hasher *hasher,
                      uint8_t *content)
{
        Sha256 d;
        int r;

        if (source->size_bytes > f->content_size_bytes ||
            fd_pread_exactly(fd, content, source->size_bytes, source->offset) < 0)
                return 0;
        memset(content + source->size_bytes, 0, f->content_size_bytes - source->size_bytes);
        r = hasher_add(hasher, content, f->content_size_bytes);
        if (r >= 0)
                r = hasher_finish(hasher, &d);
        return r < 0 ? r : sha256_equal(&d, &f->content_sha256);
}

int take_over_read_piece(const Frame *f, const DeltaSource *source, int fd, uint8_t *content)
{
        _cleanup_(hasher_freep) Hasher *hasher = NULL;
        int r = hasher_new(&hasher);

        return r < 0 ? r : read_piece(f, source, fd, hasher, content);
}

static int take_piece(void *worker, size_t n, char **reterr)
{
        Worker *w = worker;
        int fd = w->job->taken->frame_fds[n], r;
        DeltaSource source;

        (void) reterr;
        if (delta_frame(w->job->delta, n, &source) != DELTA_COPY || fd == -EMFILE)
                return 0;
        r = fd < 0 ? 0
                   : read_piece(index_frame(w->job->index, n), &source, fd, w->hasher, w->buffer);
        if (r != 0)
                return MIN(r, 0);
        w->job->taken->frame_fds[n] = -EBADF;
        note_lost(w, n, &source);
        return 0;
}

/* Pieces of one file come one after the other, mostly. -EMFILE: too many files. */
static int open_piece(Worker *w, TakenOver *t, const DeltaSource *source)
{
        const char *name;
        struct stat st;
        int parent_fd, fd;

        if (t->n_piece_fds == TAKE_OVER_PIECE_FDS_MAX)
                return -EMFILE;
        fd = open_source(w, source, &parent_fd, &name, &st);
        if (fd >= 0)
                t->piece_fds[t->n_piece_fds++] = fd;
        return fd;
}

static int open_pieces(Worker *w, TakenOver *t)
{
        const IndexFile *last = NULL;
        int fd = -EBADF;

        for (size_t n = 0; n < index_n_frames(w->job->index); n++) {
                DeltaSource source;

                t->frame_fds[n] = -EBADF;
                if (delta_frame(w->job->delta, n, &source) != DELTA_COPY)
                        continue;
                if (source.file != last)
                        fd = open_piece(w, t, &source);
                if (fd == -ENOMEM)
                        return fd;
                last = source.file;
                t->frame_fds[n] = fd;
        }
        return 0;
}

int take_over_pieces(const Index *index, const Seed *seeds, Delta *delta, TakenOver *t,
                     char **reterr)
{
        Job job = { .index = index, .seeds = seeds, .delta = delta, .taken = t, .tree_fd = -EBADF };
        const ParallelWork work = { take_piece, index_n_frames(index), 1 };
        _cleanup_(worker_done) Worker opener = { .job = &job, .seed = SIZE_MAX };
        int r;

        t->frame_fds = calloc(index_n_frames(index), sizeof(int));
        if (!t->frame_fds)
                return -ENOMEM;
        r = open_pieces(&opener, t);
        if (r >= 0)
                r = do_job(&job, &work, reterr);
        for (size_t n = 0; r >= 0 && n < index_n_frames(index); n++)
                if (t->frame_fds[n] < 0)
                        delta_lose_frame(delta, n);
        return r;
}
