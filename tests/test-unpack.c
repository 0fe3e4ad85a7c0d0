/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <zstd.h>

#include "err.h"
#include "index.h"
#include "message.h"
#include "pack.h"
#include "range-set.h"
#include "shared-link.h"
#include "tar-header.h"
#include "test.h"
#include "unpack.h"

/* A release that is there. */
typedef struct SeedOrder {
        const char *name;
        const void *index;
        size_t index_size;
        bool may_link;
} SeedOrder;

/* What slipwayd hands to the child, and how it plays its part. */
typedef struct Order {
        int artifact_fd;
        const void *index;
        size_t index_size;
        const char *staging;
        const Activate *activate; /* NULL: no links */
        Sha256 *index_sha256;     /* NULL: the right one */
        uint64_t artifact_size;   /* 0: the index's */
        uint64_t step_bytes;      /* announces so many at once; 0: all */
        uint64_t hang_up_at;      /* closes the socket after so many, if not 0 */
        const SeedOrder *seeds;
        size_t n_seeds;
        void (*before_artifact)(void); /* called when everything was taken over */
        void (*repair)(int artifact_fd, unsigned n_bad, const Message *bad);
} Order;

typedef struct Answer {
        int result;
        char text[MESSAGE_TEXT_MAX + 1];
        unsigned n_bad;
        uint64_t tree_bytes, n_inodes, rest_bytes; /* that it says it needs */
        uint64_t wanted_bytes, size_bytes, own_bytes;
        int n_taken_over;
        char lost[MESSAGE_TEXT_MAX + 1];
        int run_result; /* of unpack_run() itself */
} Answer;

typedef struct Child {
        pthread_t thread;
        int socket_fd, result;
} Child;

static void *child_main(void *userdata)
{
        Child *c = userdata;

        c->result = unpack_run(c->socket_fd, NULL, NULL);
        fd_close(c->socket_fd);
        return NULL;
}

static int sample_fd(const void *data, size_t size)
{
        int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(fd_pwrite_all(fd, data, size, 0), 0);
        return fd;
}

/* The child may have answered and gone already. */
static void send_order(int fd, const Message *m, int descriptor)
{
        int r = message_send(fd, m, descriptor);

        assert_true(r == 0 || r == -EPIPE);
}

static void send_links(int fd, const Activate *activate)
{
        Message m = { .type = MESSAGE_LINKS };
        _cleanup_close_ int links_fd = shared_links_pack(activate, &m.size);

        assert_return_code(links_fd, 0);
        send_order(fd, &m, links_fd);
}

static void send_seed(int fd, const SeedOrder *o)
{
        _cleanup_close_ int index_fd = sample_fd(o->index, o->index_size);
        Message m = { .type = MESSAGE_SEED, .size = o->index_size, .offset = o->may_link };

        assert_int_equal(sha256(o->index, o->index_size, &m.sha256), 0);
        (void) snprintf(m.text, sizeof(m.text), "%s", o->name);
        send_order(fd, &m, index_fd);
}

static void send_orders(int fd, const Order *o, int releases_fd)
{
        _cleanup_close_ int index_fd = sample_fd(o->index, o->index_size);
        Message m = { .type = MESSAGE_INDEX, .id = 7, .size = o->index_size };

        if (o->index_sha256)
                m.sha256 = *o->index_sha256;
        else
                assert_int_equal(sha256(o->index, o->index_size, &m.sha256), 0);
        send_order(fd, &m, index_fd);
        if (o->activate)
                send_links(fd, o->activate);
        for (size_t i = 0; i < o->n_seeds; i++)
                send_seed(fd, &o->seeds[i]);
        m = (Message){ .type = MESSAGE_RELEASES };
        (void) snprintf(m.text, sizeof(m.text), "%s", o->staging);
        send_order(fd, &m, releases_fd);
}

static void on_needs(int fd, const Message *m, Answer *ret)
{
        const Message take = { .type = MESSAGE_TAKE };

        ret->tree_bytes = m->size;
        ret->n_inodes = m->offset;
        send_order(fd, &take, -1);
}

/* True: the artifact was sent. */
static bool on_wanted(int fd, const Order *o, const Message *m, int ranges_fd, Answer *ret)
{
        _cleanup_(range_set_freep) RangeSet *ranges = NULL;
        _cleanup_(index_freep) Index *index = NULL;
        Message artifact = { .type = MESSAGE_ARTIFACT, .size = o->artifact_size };
        struct stat st;

        assert_int_equal(index_parse(o->index, o->index_size, &index, NULL), 0);
        if (artifact.size == 0)
                artifact.size = index_artifact_size(index);
        assert_return_code(fstat(ranges_fd, &st), errno);
        assert_int_equal(
                range_set_unpack(ranges_fd, st.st_size, index_artifact_size(index), &ranges), 0);
        ret->wanted_bytes = range_set_bytes(ranges);
        ret->rest_bytes = m->offset;
        ret->n_taken_over = m->result;
        memcpy(ret->lost, m->text, sizeof(m->text));
        if (o->before_artifact)
                o->before_artifact();
        if (ret->wanted_bytes == 0)
                return false;
        send_order(fd, &artifact, o->artifact_fd);
        return true;
}

static bool is_readable(int fd, int timeout_msec)
{
        struct pollfd p = { .fd = fd, .events = POLLIN };

        return poll(&p, 1, timeout_msec) > 0;
}

/* Announces more of the artifact; false: nothing left. */
static bool announce(int fd, const Order *o, uint64_t *done, uint64_t size)
{
        if (*done == size)
                return false;
        *done = o->step_bytes > 0 ? MIN(*done + o->step_bytes, size) : size;
        const Message m = { .type = MESSAGE_AVAILABLE, .size = *done };
        int r = message_send(fd, &m, -1);
        assert_in_set(-r, ((const uintmax_t[]){ 0, EPIPE, EAGAIN }), 3);
        if (r == -EAGAIN)
                *done -= MIN(o->step_bytes, *done);
        return true;
}

static void on_bad_frame(int fd, const Order *o, Message *m, Answer *ret)
{
        assert_int_equal(m->type, MESSAGE_BAD_FRAME);
        if (o->repair)
                o->repair(o->artifact_fd, ret->n_bad, m);
        ret->n_bad++;
        m->type = MESSAGE_REPLACED;
        assert_int_equal(message_send(fd, m, -1), 0);
}

static void play_slipwayd(int fd, const Order *o, Answer *ret)
{
        uint64_t done = 0, size;
        bool sent = false;
        struct stat st;
        Message m;

        assert_int_equal(fstat(o->artifact_fd, &st), 0);
        size = o->artifact_size > 0 ? o->artifact_size : (uint64_t) st.st_size;
        for (;;) {
                _cleanup_close_ int message_fd = -EBADF;
                bool more = sent && announce(fd, o, &done, size);
                if (o->hang_up_at > 0 && done >= o->hang_up_at)
                        return;
                if (!is_readable(fd, more ? 0 : 30000)) {
                        assert_true(more);
                        continue;
                }
                int r = message_receive(fd, &m, &message_fd);
                assert_int_equal(r, 1);
                assert_int_equal(message_fd >= 0, m.type == MESSAGE_WANTED);
                if (m.type == MESSAGE_UNPACKED)
                        break;
                if (m.type == MESSAGE_NEEDS)
                        on_needs(fd, &m, ret);
                else if (m.type == MESSAGE_WANTED)
                        sent = on_wanted(fd, o, &m, message_fd, ret);
                else
                        on_bad_frame(fd, o, &m, ret);
        }
        assert_int_equal(m.id, 7);
        ret->result = m.result;
        ret->size_bytes = m.size;
        ret->own_bytes = m.offset;
        memcpy(ret->text, m.text, sizeof(m.text));
}

static Answer unpack_to(int releases_fd, const Order *o)
{
        Answer answer = {};
        int fds[2];

        assert_int_equal(message_pair(fds), 0);
        Child child = { .socket_fd = fds[1] };
        assert_int_equal(pthread_create(&child.thread, NULL, child_main, &child), 0);
        send_orders(fds[0], o, releases_fd);
        play_slipwayd(fds[0], o, &answer);
        fd_close(fds[0]);
        assert_int_equal(pthread_join(child.thread, NULL), 0);
        answer.run_result = child.result;
        return answer;
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

static bool exists(int dir_fd, const char *path)
{
        struct stat st;

        return fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool is_empty(int dir_fd)
{
        int fd = dir_open_at(dir_fd, ".");
        DIR *dir = fdopendir(fd);
        size_t n = 0;

        assert_non_null(dir);
        for (struct dirent *e; (e = readdir(dir));)
                n += !streq(e->d_name, ".") && !streq(e->d_name, "..");
        assert_int_equal(closedir(dir), 0);
        return n == 0;
}

/* An artifact made by hand: content, cut and compressed as a test wants it. */
typedef struct Craft {
        uint8_t *content;
        size_t content_size;
        IndexWriter *writer;
        int fd;
        uint64_t offset;
        ZSTD_CCtx *context;
        void *index;
        size_t index_size;
} Craft;

static Craft craft_new(void)
{
        Craft c = { .content = malloc(8 << 20), .fd = sample_fd("", 0) };

        c.context = ZSTD_createCCtx();
        assert_int_equal(index_writer_new(&c.writer), 0);
        return c;
}

static void craft_done(Craft *c)
{
        free(c->content);
        free(c->index);
        fd_close(c->fd);
        index_writer_free(c->writer);
        ZSTD_freeCCtx(c->context);
}

static void craft_add(Craft *c, const void *data, size_t size)
{
        memcpy(c->content + c->content_size, data, size);
        c->content_size += size;
}

static void craft_add_zero(Craft *c, size_t size)
{
        memset(c->content + c->content_size, 0, size);
        c->content_size += size;
}

/* Writes these bytes as the next frame, said to have content_size. */
static void craft_put_frame(Craft *c, const void *data, size_t size, size_t content_size)
{
        Frame f = { .offset = c->offset, .size_bytes = size, .content_size_bytes = content_size };

        assert_int_equal(sha256(data, size, &f.sha256), 0);
        assert_int_equal(fd_pwrite_all(c->fd, data, size, c->offset), 0);
        assert_int_equal(index_writer_add_frame(c->writer, &f), 0);
        c->offset += size;
}

static size_t craft_compress(Craft *c, uint8_t **ret)
{
        size_t bound = ZSTD_compressBound(c->content_size);
        uint8_t *data = malloc(bound + 64);
        size_t size = ZSTD_compress2(c->context, data, bound, c->content, c->content_size);

        assert_false(ZSTD_isError(size));
        *ret = data;
        return size;
}

static void craft_cut(Craft *c)
{
        _cleanup_free_ uint8_t *data = NULL;
        size_t size = craft_compress(c, &data);

        craft_put_frame(c, data, size, c->content_size);
        c->content_size = 0;
}

static void craft_end(Craft *c)
{
        (void) ZSTD_CCtx_reset(c->context, ZSTD_reset_session_and_parameters);
        craft_add_zero(c, TAR_END_SIZE);
        craft_cut(c);
        assert_int_equal(index_writer_format(c->writer, &c->index, &c->index_size, NULL), 0);
}

static Order craft_order(const Craft *c)
{
        return (Order){ .artifact_fd = c->fd,
                        .index = c->index,
                        .index_size = c->index_size,
                        .staging = "new" };
}

/* The entries of the good archive; hostile ones differ in one thing. */
static const IndexFile good_files[] = {
        {.path = "a",           .type = FILE_REGULAR,   .mode = 0644,    .size_bytes = 5, .mtime_sec = 11},
        { .path = "d",          .type = FILE_DIRECTORY, .mode = 0755,    .mtime_sec = 12},
        { .path = "d/b", .type = FILE_REGULAR,           .mode = 0755, .size_bytes = 5, .mtime_sec = 13               },
        { .path = "d/l",       .link = "../a",   .type = FILE_SYMLINK,    .mode = 0777, .mtime_sec = 14},
        { .path = "z", .type = FILE_REGULAR,           .mode = 0644, .size_bytes = 5, .mtime_sec = 15               },
};

#define TYPE_AT     156
#define LINK_AT     157
#define CHECKSUM_AT 148

static void fix_checksum(uint8_t *header)
{
        unsigned sum = 0;

        memset(header + CHECKSUM_AT, ' ', 8);
        for (size_t i = 0; i < TAR_BLOCK_SIZE; i++)
                sum += header[i];
        (void) snprintf((char *) header + CHECKSUM_AT, 8, "%06o", sum);
}

/* A hole of 2 bytes, then 3 bytes of content (GNU tar manual, "Old GNU Format"). */
static void make_sparse(uint8_t *header)
{
        memcpy(header + 386, "00000000002", 12);
        memcpy(header + 398, "00000000003", 12);
        memcpy(header + 483, "00000000005", 12);
}

static void craft_add_entry(Craft *c, const IndexFile *f, char type, const char *link)
{
        uint8_t header[TAR_HEADER_SIZE_MAX];
        size_t size = tar_header_format(f, header);
        uint8_t *last = header + size - TAR_BLOCK_SIZE;

        if (type)
                last[TYPE_AT] = type;
        if (link)
                memcpy(last + LINK_AT, link, strlen(link));
        if (type == 'S')
                make_sparse(last);
        fix_checksum(last);
        craft_add(c, header, size);
        for (uint64_t i = 0; i < f->size_bytes; i++)
                craft_add(c, "x", 1);
        craft_add_zero(c, tar_padding(f->size_bytes));
}

typedef struct Hostile {
        const char *what;
        size_t n; /* which of good_files */
        /* what stands in the archive instead; 0 and NULL: as it should be */
        const char *path, *link;
        char type;
        unsigned mode;
        uint64_t size_bytes, mtime_sec;
        bool leave_out, twice;
        const IndexFile *before; /* another entry in front of it */
        char before_type;
        const char *named; /* in the refusal; NULL: the entry's path */
} Hostile;

static const IndexFile stranger = { .path = "c", .type = FILE_REGULAR, .mode = 0644 };
static const IndexFile pax_path = {
        .path = "pax", .type = FILE_REGULAR, .mode = 0644, .size_bytes = 5
};

/* clang-format 14 crashes on this table. */
/* clang-format off */
static const Hostile hostiles[] = {
        { .what = "absolute path", .n = 2, .path = "/tmp/slipway-escaped", .named = "/tmp/" },
        { .what = "'..'", .n = 2, .path = "../escaped", .named = "'../escaped'" },
        { .what = "'..' inside", .n = 2, .path = "d/../../escaped", .named = "'d/../../escaped'" },
        { .what = "'.' inside", .n = 2, .path = "d/./b", .named = "'d/./b'" },
        { .what = "slash at the end of a file", .n = 0, .path = "a/" },
        { .what = "case", .n = 2, .path = "d/B", .named = "'d/B'" },
        { .what = "hard link to outside", .n = 2, .type = '1', .link = "/etc/passwd" },
        { .what = "hard link inside", .n = 2, .type = '1', .link = "a" },
        { .what = "symlink to outside", .n = 2, .type = '2', .link = "../../etc" },
        { .what = "directory as symlink", .n = 1, .type = '2', .link = "/tmp" },
        { .what = "symlink's target", .n = 3, .link = "../b" },
        { .what = "symlink to outside in its place", .n = 3, .link = "/etc/shadow" },
        { .what = "character device", .n = 2, .type = '3' },
        { .what = "block device", .n = 2, .type = '4' },
        { .what = "fifo", .n = 2, .type = '6' },
        { .what = "file as directory", .n = 2, .type = '5' },
        { .what = "GNU sparse", .n = 2, .type = 'S', .size_bytes = 3 },
        { .what = "GNU volume label", .n = 2, .type = 'V' },
        { .what = "setuid", .n = 2, .mode = 04755 },
        { .what = "setgid", .n = 2, .mode = 02755 },
        { .what = "sticky", .n = 1, .mode = 01755 },
        { .what = "writable", .n = 0, .mode = 0666 },
        { .what = "executable", .n = 0, .mode = 0755 },
        { .what = "time", .n = 0, .mtime_sec = 99 },
        { .what = "longer", .n = 2, .size_bytes = 6 },
        { .what = "longer by blocks", .n = 2, .size_bytes = 1500 },
        { .what = "shorter", .n = 2, .size_bytes = 4 },
        { .what = "longer than the archive", .n = 4, .size_bytes = UINT64_C(1) << 40 },
        { .what = "twice", .n = 2, .twice = true },
        { .what = "last twice", .n = 4, .twice = true },
        { .what = "first missing", .n = 0, .leave_out = true },
        { .what = "missing", .n = 2, .leave_out = true },
        { .what = "last missing", .n = 4, .leave_out = true },
        { .what = "not in the index", .n = 2, .before = &stranger, .named = "'c'" },
        { .what = "not in the index, before all", .n = 0, .before = &stranger, .named = "'c'" },
        { .what = "broken pax header", .n = 2, .before = &pax_path, .before_type = 'x' },
        { .what = "other long name", .n = 2, .before = &pax_path, .before_type = 'L',
          .named = "'xxxxx'" },
        { .what = "long link name", .n = 3, .before = &pax_path, .before_type = 'K' },
};
/* clang-format on */

static void craft_hostile_entry(Craft *c, const IndexFile *good, const Hostile *h)
{
        IndexFile f = *good;

        if (h->before)
                craft_add_entry(c, h->before, h->before_type, NULL);
        if (h->leave_out)
                return;
        if (h->path)
                f.path = h->path;
        if (h->path && h->path[strlen(h->path) - 1] == '/')
                f.type = FILE_REGULAR;
        if (h->link && f.link)
                f.link = h->link;
        f.mode = h->mode > 0 ? h->mode : f.mode;
        f.mtime_sec = h->mtime_sec > 0 ? h->mtime_sec : f.mtime_sec;
        bool endless = h->size_bytes > 1 << 20;
        f.size_bytes = h->size_bytes > 0 && !endless ? h->size_bytes : f.size_bytes;
        for (int i = 0; i < 1 + h->twice; i++)
                craft_add_entry(c, &f, h->type, good->link ? NULL : h->link);
        if (!endless)
                return;
        uint8_t header[TAR_HEADER_SIZE_MAX];
        f.size_bytes = h->size_bytes;
        assert_int_equal(tar_header_format(&f, header), TAR_BLOCK_SIZE);
        memcpy(c->content + c->content_size - 2 * TAR_BLOCK_SIZE, header, TAR_BLOCK_SIZE);
}

/* The whole archive in one frame, with one hostile entry or none. */
static Craft craft_archive(const Hostile *h)
{
        Craft c = craft_new();

        for (size_t n = 0; n < ELEMENTSOF(good_files); n++) {
                IndexFile f = good_files[n];
                f.n_frames = 1;
                if (f.type == FILE_REGULAR)
                        assert_int_equal(sha256("xxxxx", 5, &f.sha256), 0);
                assert_int_equal(index_writer_add_file(c.writer, &f), 0);
                if (h && h->n == n)
                        craft_hostile_entry(&c, &f, h);
                else
                        craft_add_entry(&c, &f, 0, NULL);
        }
        /* What the index says must have room, even where the archive leaves something out. */
        if (h && h->leave_out)
                craft_add_zero(&c, 2 * TAR_BLOCK_SIZE);
        craft_cut(&c);
        craft_end(&c);
        return c;
}

static void assert_refused(const Answer *a, int releases_fd, int error, const char *named,
                           const char *what)
{
        if (a->result != error || !strstr(a->text, named))
                fail_msg("%s: %d '%s', not %d with '%s'", what, a->result, a->text, error, named);
        assert_int_equal(a->run_result, 0);
        if (!is_empty(releases_fd))
                fail_msg("%s: something is left over", what);
}

static void unpacks(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "releases");
        _cleanup_(craft_done) Craft c = craft_archive(NULL);
        Order o = craft_order(&c);
        Answer a = unpack_to(fd, &o);
        struct stat st;

        assert_string_equal(a.text, "");
        assert_int_equal(a.result, 0);
        assert_int_equal(a.n_bad, 0);
        assert_int_equal(a.n_inodes, 1 + ELEMENTSOF(good_files));
        /* a block for each file with content and each directory, at least */
        assert_true(a.tree_bytes >= 5 * 512 && a.tree_bytes < 1 << 20);
        assert_int_equal(fstatat(fd, "new", &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 0755);
        _cleanup_close_ int new_fd = dir_open_at(fd, "new");
        for (size_t n = 0; n < ELEMENTSOF(good_files); n++) {
                const IndexFile *f = &good_files[n];
                assert_int_equal(fstatat(new_fd, f->path, &st, AT_SYMLINK_NOFOLLOW), 0);
                assert_int_equal(st.st_mode & 07777, f->mode);
                assert_int_equal(st.st_mtim.tv_sec, f->mtime_sec);
                assert_int_equal(st.st_mtim.tv_nsec, 0);
        }
        _cleanup_free_ char *data = NULL, *link = NULL;
        assert_int_equal(file_read_at(new_fd, "d/b", 100, &data, NULL), 0);
        assert_string_equal(data, "xxxxx");
        assert_int_equal(readlink_at(new_fd, "d/l", &link), 0);
        assert_string_equal(link, "../a");
        /* A directory with something in it is not taken over. */
        a = unpack_to(fd, &o);
        assert_int_equal(a.result, -ENOTEMPTY);
        assert_true(exists(new_fd, "a"));
}

static void refuses_hostile_archives(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "releases");

        for (size_t n = 0; n < ELEMENTSOF(hostiles); n++) {
                const Hostile *h = &hostiles[n];
                char quoted[64];
                _cleanup_(craft_done) Craft c = craft_archive(h);
                Order o = craft_order(&c);
                Answer a = unpack_to(fd, &o);
                (void) snprintf(quoted, sizeof(quoted), "'%s", good_files[h->n].path);
                assert_refused(&a, fd, -EBADMSG, h->named ? h->named : quoted, h->what);
        }
        _cleanup_close_ int parent_fd = dir_open_at(AT_FDCWD, *state);
        assert_false(exists(parent_fd, "escaped"));
        assert_false(exists(AT_FDCWD, "/tmp/slipway-escaped"));
}

static void empty_release(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "releases");
        _cleanup_(craft_done) Craft c = craft_new();

        craft_end(&c);
        Order o = craft_order(&c);
        Answer a = unpack_to(fd, &o);
        assert_string_equal(a.text, "");
        assert_int_equal(a.result, 0);
        assert_true(exists(fd, "new"));
        /* And an empty staging directory is no obstacle. */
        a = unpack_to(fd, &o);
        assert_int_equal(a.result, 0);
}

/* Entries after the end: libarchive alone would not look. */
static void goes_on_after_its_end(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "releases");
        _cleanup_(craft_done) Craft c = craft_new();
        IndexFile f = { .path = "a", .type = FILE_REGULAR, .mode = 0644, .n_frames = 2 };

        craft_add_entry(&c, &f, 0, NULL);
        craft_add_zero(&c, TAR_END_SIZE);
        craft_cut(&c);
        craft_add_entry(&c, &stranger, 0, NULL);
        craft_cut(&c);
        assert_int_equal(index_writer_add_file(c.writer, &f), 0);
        craft_end(&c);
        Order o = craft_order(&c);
        Answer a = unpack_to(fd, &o);
        assert_refused(&a, fd, -EBADMSG, "after its end", "more after the end");
}

static uint8_t first_byte;

static void repair_at_once(int artifact_fd, unsigned n_bad, const Message *bad)
{
        (void) n_bad;
        assert_int_equal(bad->offset, 0);
        assert_int_equal(fd_pwrite_all(artifact_fd, &first_byte, 1, 0), 0);
}

static void repair_at_last(int artifact_fd, unsigned n_bad, const Message *bad)
{
        if (n_bad == 1)
                repair_at_once(artifact_fd, n_bad, bad);
}

static void bad_frames(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "releases");
        _cleanup_(craft_done) Craft c = craft_archive(NULL);
        Order o = craft_order(&c);
        static const struct {
                void (*repair)(int artifact_fd, unsigned n_bad, const Message *bad);
                int result;
                unsigned n_bad;
        } cases[] = {
                {repair_at_once,  0,             1},
                { repair_at_last, 0,             2},
                { NULL,           -EKEYREJECTED, 2}
        };

        assert_int_equal(fd_pread_exactly(c.fd, &first_byte, 1, 0), 0);
        for (size_t n = 0; n < ELEMENTSOF(cases); n++) {
                const uint8_t bad_byte = first_byte ^ 1;
                assert_int_equal(fd_pwrite_all(c.fd, &bad_byte, 1, 0), 0);
                o.repair = cases[n].repair;
                Answer a = unpack_to(fd, &o);
                assert_int_equal(a.result, cases[n].result);
                assert_int_equal(a.n_bad, cases[n].n_bad);
                assert_int_equal(exists(fd, "new"), a.result == 0);
                assert_int_equal(remove_tree_at(fd, "new"), 0);
        }
}

/* The spool file is shorter than what was announced. */
static void truncated_artifact(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "releases");
        _cleanup_(craft_done) Craft c = craft_archive(NULL);
        Order o = craft_order(&c);

        o.artifact_size = c.offset;
        assert_int_equal(ftruncate(c.fd, 1), 0);
        Answer a = unpack_to(fd, &o);
        assert_int_equal(a.n_bad, 2);
        assert_refused(&a, fd, -EKEYREJECTED, "frame 0", "truncated");
}

/* Frames whose bytes are the signed ones, but not of the allowed form. */
static void refuses_odd_frames(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "releases");
        enum { LARGER, SMALLER, NO_SIZE, WINDOW, GARBAGE, TWO, SKIPPABLE, NOT_ZSTD, DAMAGED, N };

        for (int kind = 0; kind < N; kind++) {
                _cleanup_(craft_done) Craft c = craft_new();
                _cleanup_free_ uint8_t *data = NULL;
                IndexFile f = { .path = "a", .type = FILE_REGULAR, .mode = 0644, .n_frames = 1 };
                f.size_bytes = kind == WINDOW ? 3 << 20 : 1024;
                craft_add_entry(&c, &f, 0, NULL);
                if (kind == NO_SIZE)
                        ZSTD_CCtx_setParameter(c.context, ZSTD_c_contentSizeFlag, 0);
                if (kind == WINDOW)
                        ZSTD_CCtx_setParameter(c.context, ZSTD_c_windowLog, 21);
                size_t content_size = c.content_size, size = craft_compress(&c, &data);
                if (kind == LARGER)
                        content_size += 512;
                if (kind == SMALLER)
                        f.size_bytes = 512, content_size -= 512;
                if (kind == GARBAGE)
                        data[size++] = 0;
                if (kind == TWO || kind == SKIPPABLE) {
                        memcpy(data + size, "\x50\x2a\x4d\x18\0\0\0\0", 8);
                        size += 8;
                }
                if (kind == TWO)
                        size += ZSTD_compress(data + size - 8, 40, "", 0, 1) - 8;
                if (kind == NOT_ZSTD)
                        memset(data, 'x', size);
                if (kind == DAMAGED)
                        memset(data + size / 2, 0xff, size / 2);
                craft_put_frame(&c, data, size, content_size);
                c.content_size = 0;
                assert_int_equal(index_writer_add_file(c.writer, &f), 0);
                craft_end(&c);
                Order o = craft_order(&c);
                Answer a = unpack_to(fd, &o);
                char what[32];
                (void) snprintf(what, sizeof(what), "frame of kind %d", kind);
                assert_refused(&a, fd, -EBADMSG, "frame 0", what);
                assert_int_equal(a.n_bad, 0);
        }
}

static void wrong_orders(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "releases");
        _cleanup_(craft_done) Craft c = craft_archive(NULL);
        const Order good = craft_order(&c);
        Sha256 zero = {};
        Order o = good;

        o.index_sha256 = &zero;
        Answer a = unpack_to(fd, &o);
        assert_refused(&a, fd, -EKEYREJECTED, "index", "index digest");
        o = good;
        o.index_size--;
        a = unpack_to(fd, &o);
        assert_refused(&a, fd, -EBADMSG, "index", "short index");
        o = good;
        o.artifact_size = c.offset + 1;
        a = unpack_to(fd, &o);
        assert_refused(&a, fd, -EBADMSG, "size", "artifact size");
        static const char *const names[] = { "", ".", "..", "../x", "a/b", "/x" };
        for (size_t n = 0; n < ELEMENTSOF(names); n++) {
                o = good;
                o.staging = names[n];
                a = unpack_to(fd, &o);
                assert_refused(&a, fd, -EPROTO, "name", "staging name");
        }
        o = good;
        o.hang_up_at = 1;
        o.step_bytes = 1;
        a = unpack_to(fd, &o);
        assert_true(a.run_result < 0);
        assert_true(is_empty(fd));
}

static SharedLink some_links[] = { { .path = (char *) "var/log" }, { .path = (char *) "d/s" } };
static const Activate with_links = { .shared = some_links, .n_shared = ELEMENTSOF(some_links) };

static void assert_links(int releases_fd)
{
        _cleanup_free_ char *log = NULL, *s = NULL;
        struct stat st;

        assert_int_equal(readlink_at(releases_fd, "new/var/log", &log), 0);
        assert_string_equal(log, "../../../shared/var/log");
        assert_int_equal(readlink_at(releases_fd, "new/d/s", &s), 0);
        assert_string_equal(s, "../../../shared/d/s");
        assert_return_code(fstatat(releases_fd, "new/var", &st, 0), errno);
        assert_int_equal(st.st_mode, S_IFDIR | 0755);
}

static void makes_shared_links(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "releases");
        _cleanup_(craft_done) Craft c = craft_archive(NULL);
        Order o = craft_order(&c);

        o.activate = &with_links;
        Answer a = unpack_to(fd, &o);
        assert_string_equal(a.text, "");
        assert_links(fd);
}

static void refuses_links_without_a_place(void **state)
{
        static const char *const paths[] = { "a", "a/x", "d", "d/b", "d/l" };
        _cleanup_close_ int fd = make_dir(*state, "releases");
        _cleanup_(craft_done) Craft c = craft_archive(NULL);

        for (size_t n = 0; n < ELEMENTSOF(paths); n++) {
                SharedLink link = { .path = (char *) paths[n] };
                const Activate activate = { .shared = &link, .n_shared = 1 };
                Order o = craft_order(&c);

                o.activate = &activate;
                /* Before anything is written, this name would be refused. */
                o.staging = "not/made";
                Answer a = unpack_to(fd, &o);
                assert_refused(&a, fd, -EBADMSG, "is to be a link to shared/", paths[n]);
        }
}

/* Has slipway-unpack make links in a release that is there, and gives back what it says. */
static Message link_release(int releases_fd, const char *name)
{
        Message m = { .type = MESSAGE_RELEASES };
        int fds[2], message_fd;

        assert_int_equal(message_pair(fds), 0);
        Child child = { .socket_fd = fds[1] };
        assert_int_equal(pthread_create(&child.thread, NULL, child_main, &child), 0);
        send_links(fds[0], &with_links);
        (void) snprintf(m.text, sizeof(m.text), "%s", name);
        send_order(fds[0], &m, releases_fd);
        assert_true(is_readable(fds[0], 30000));
        assert_int_equal(message_receive(fds[0], &m, &message_fd), 1);
        assert_int_equal(m.type, MESSAGE_LINKED);
        fd_close(fds[0]);
        assert_int_equal(pthread_join(child.thread, NULL), 0);
        assert_int_equal(child.result, 0);
        return m;
}

static void links_a_release_that_is_there(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "releases");
        _cleanup_(craft_done) Craft c = craft_archive(NULL);
        Order o = craft_order(&c);
        Message m = link_release(fd, "new");

        assert_int_equal(m.result, -ENOENT);
        m = link_release(fd, "../releases");
        assert_int_equal(m.result, -EPROTO);
        assert_int_equal(unpack_to(fd, &o).result, 0);
        for (int i = 0; i < 2; i++) {
                m = link_release(fd, "new");
                assert_string_equal(m.text, "");
                assert_int_equal(m.result, 0);
                assert_links(fd);
        }
        assert_int_equal(unlinkat(fd, "new/d/s", 0), 0);
        assert_int_equal(mkdirat(fd, "new/d/s", 0755), 0);
        assert_int_equal(mkdirat(fd, "new/d/s/x", 0755), 0);
        m = link_release(fd, "new");
        assert_int_equal(m.result, -EBADMSG);
        assert_non_null(strstr(m.text, "'d/s'"));
}

/* Messages that do not belong where they come. */
static void wrong_messages(void **state)
{
        (void) state;
        static const MessageType types[] = { MESSAGE_RELEASES, MESSAGE_ARTIFACT, MESSAGE_AVAILABLE,
                                             MESSAGE_REPLACED, MESSAGE_UNPACKED, MESSAGE_POLL,
                                             MESSAGE_INDEX,    MESSAGE_REMOVE,   MESSAGE_LINKS };

        for (size_t n = 0; n < ELEMENTSOF(types); n++) {
                int fds[2];
                assert_int_equal(message_pair(fds), 0);
                assert_int_equal(message_reply(fds[0], types[n], 1, 0, "x"), 0);
                _cleanup_free_ char *err = NULL;
                assert_int_equal(unpack_run(fds[1], NULL, &err), -EPROTO);
                assert_non_null(err);
                fd_close(fds[0]);
                fd_close(fds[1]);
        }
        int fds[2];
        assert_int_equal(message_pair(fds), 0);
        fd_close(fds[0]);
        assert_int_equal(unpack_run(fds[1], NULL, NULL), -ECONNRESET);
        fd_close(fds[1]);
}

static void disk_full(void **state)
{
        static const char *const limits[] = { "size=64k", "nr_inodes=4" };
        _cleanup_free_ char *path = NULL;

        if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
            mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0)
                skip();
        assert_true(asprintf(&path, "%s/small", (const char *) *state) > 0);
        assert_int_equal(mkdir(path, 0700), 0);
        for (size_t n = 0; n < ELEMENTSOF(limits); n++) {
                assert_int_equal(mount("tmpfs", path, "tmpfs", 0, limits[n]), 0);
                int fd = make_dir(path, "releases");
                _cleanup_(craft_done) Craft c = craft_new();
                IndexFile f = { .path = "a", .type = FILE_REGULAR, .mode = 0644, .n_frames = 1 };
                f.size_bytes = n == 0 ? 200000 : 0;
                craft_add_entry(&c, &f, 0, NULL);
                assert_int_equal(index_writer_add_file(c.writer, &f), 0);
                f = (IndexFile){ .path = "b", .type = FILE_REGULAR, .mode = 0644, .n_frames = 1 };
                craft_add_entry(&c, &f, 0, NULL);
                assert_int_equal(index_writer_add_file(c.writer, &f), 0);
                craft_cut(&c);
                craft_end(&c);
                Order o = craft_order(&c);
                Answer a = unpack_to(fd, &o);
                assert_refused(&a, fd, -ENOSPC, n == 0 ? "'a'" : "'b'", limits[n]);
                fd_close(fd);
                assert_int_equal(umount2(path, MNT_DETACH), 0);
        }
}

static void read_only(void **state)
{
        _cleanup_free_ char *path = NULL;

        if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
            mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0)
                skip();
        assert_true(asprintf(&path, "%s/ro", (const char *) *state) > 0);
        assert_int_equal(mkdir(path, 0700), 0);
        assert_int_equal(mount("tmpfs", path, "tmpfs", MS_RDONLY, NULL), 0);
        int fd = dir_open_at(AT_FDCWD, path);
        _cleanup_(craft_done) Craft c = craft_archive(NULL);
        Order o = craft_order(&c);
        Answer a = unpack_to(fd, &o);
        assert_int_equal(a.result, -EROFS);
        assert_non_null(strstr(a.text, "'new'"));
        fd_close(fd);
        assert_int_equal(umount2(path, MNT_DETACH), 0);
}

/* A tree with many frames, as the publisher makes it. */
static void make_large_tree(int fd)
{
        _cleanup_free_ uint8_t *data = malloc(5 << 20);
        uint64_t seed = 1;
        char name[64];

        for (size_t i = 0; i < 5 << 20; i++) {
                seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
                data[i] = seed >> 60;
        }
        for (int i = 0; i < 40; i++) {
                (void) snprintf(name, sizeof(name), "dir-%d", i);
                assert_int_equal(mkdirat(fd, name, 0755), 0);
                for (int k = 0; k < 10; k++) {
                        (void) snprintf(name, sizeof(name), "dir-%d/file-%d", i, k);
                        _cleanup_close_ int f = openat(fd, name, O_WRONLY | O_CREAT | O_CLOEXEC,
                                                       k % 2 ? 0755 : 0644);
                        assert_int_equal(fd_write_all(f, data + i * 1000 + k, i * k * 100), 0);
                }
        }
        _cleanup_close_ int f = openat(fd, "large", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        assert_int_equal(fd_write_all(f, data, 5 << 20), 0);
        memset(name, 'n', sizeof(name));
        name[60] = '\0';
        assert_int_equal(mkdirat(fd, name, 0755), 0);
        assert_int_equal(symlinkat("../large", fd, "dir-1/link"), 0);
        _cleanup_close_ int long_fd = dir_open_at(fd, name);
        assert_int_equal(symlinkat("../dir-1/link", long_fd, name), 0);
        assert_int_equal(mkdirat(long_fd, "\374mlaut", 0755), 0);
}

static int pack_large(const char *dir, PackResult *ret)
{
        _cleanup_close_ int tree_fd = make_dir(dir, "tree");
        int fd = sample_fd("", 0);
        const PackOptions options = { .source_time_sec = 1700000000, .level = 1 };

        make_large_tree(tree_fd);
        assert_int_equal(pack_tree(tree_fd, &options, NULL, fd, ret, NULL), 0);
        return fd;
}

static void assert_same_as_packed(int releases_fd, const PackResult *packed)
{
        _cleanup_close_ int new_fd = dir_open_at(releases_fd, "new");
        _cleanup_close_ int artifact_fd = sample_fd("", 0);
        PackResult again;
        _cleanup_(index_freep) Index *index = NULL;

        /* Packing what was unpacked gives the same artifact: nothing was lost or added. */
        const PackOptions options = { .source_time_sec = 1700000000, .level = 1 };
        assert_int_equal(index_parse(packed->index, packed->index_size_bytes, &index, NULL), 0);
        assert_int_equal(pack_tree(new_fd, &options, index, artifact_fd, &again, NULL), 0);
        assert_true(sha256_equal(&packed->artifact_sha256, &again.artifact_sha256));
        assert_true(sha256_equal(&packed->index_sha256, &again.index_sha256));
        pack_result_done(&again);
}

static void unpacks_what_was_packed(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "releases");
        PackResult packed;
        _cleanup_close_ int artifact_fd = pack_large(*state, &packed);
        static const uint64_t steps[] = { 0, 100000, 7001 };

        for (size_t n = 0; n < ELEMENTSOF(steps); n++) {
                Order o = { .artifact_fd = artifact_fd,
                            .index = packed.index,
                            .index_size = packed.index_size_bytes,
                            .staging = "new",
                            .step_bytes = steps[n] };
                Answer a = unpack_to(fd, &o);
                assert_string_equal(a.text, "");
                assert_int_equal(a.result, 0);
                assert_same_as_packed(fd, &packed);
                assert_int_equal(remove_tree_at(fd, "new"), 0);
        }
        pack_result_done(&packed);
}

/* Release "r1", unpacked, and what the next one is to be: few files are others, of a large one a
 * piece. */
typedef struct Two {
        int releases_fd, tree_fd, artifact_fd;
        PackResult first, second;
        SeedOrder seed;
} Two;

static void two_done(Two *t)
{
        fd_close(t->releases_fd);
        fd_close(t->tree_fd);
        fd_close(t->artifact_fd);
        pack_result_done(&t->first);
        pack_result_done(&t->second);
}

static void overwrite(int dir_fd, const char *path, const char *text, off_t offset)
{
        _cleanup_close_ int fd = openat(dir_fd, path, O_WRONLY | O_CLOEXEC);

        assert_return_code(fd, errno);
        assert_int_equal(fd_pwrite_all(fd, text, strlen(text), offset), 0);
}

static Two two_new(const char *dir)
{
        const PackOptions options = { .source_time_sec = 1700000100, .level = 1 };
        Two t = { .releases_fd = make_dir(dir, "releases") };
        _cleanup_close_ int first_fd = pack_large(dir, &t.first);
        _cleanup_(index_freep) Index *index = NULL;
        Order o = { .artifact_fd = first_fd,
                    .index = t.first.index,
                    .index_size = t.first.index_size_bytes,
                    .staging = "r1" };
        Answer a = unpack_to(t.releases_fd, &o);

        assert_string_equal(a.text, "");
        assert_int_equal(a.n_taken_over, 0);
        assert_int_equal(a.size_bytes, a.own_bytes);
        t.tree_fd = dir_open_at(t.releases_fd, "../tree");
        overwrite(t.tree_fd, "large", "another piece", 3 << 20);
        overwrite(t.tree_fd, "dir-20/file-3", "another file", 0);
        assert_return_code(renameat(t.tree_fd, "dir-30/file-5", t.tree_fd, "moved"), errno);
        t.artifact_fd = sample_fd("", 0);
        assert_int_equal(index_parse(t.first.index, t.first.index_size_bytes, &index, NULL), 0);
        assert_int_equal(pack_tree(t.tree_fd, &options, index, t.artifact_fd, &t.second, NULL), 0);
        t.seed = (SeedOrder){ .name = "r1",
                              .index = t.first.index,
                              .index_size = t.first.index_size_bytes,
                              .may_link = true };
        return t;
}

static Order two_order(const Two *t)
{
        return (Order){ .artifact_fd = t->artifact_fd,
                        .index = t->second.index,
                        .index_size = t->second.index_size_bytes,
                        .staging = "new",
                        .seeds = &t->seed,
                        .n_seeds = 1 };
}

/* The files of the index are there as it says, with their content. */
static void assert_tree(int releases_fd, const PackResult *packed)
{
        _cleanup_close_ int new_fd = dir_open_at(releases_fd, "new");
        _cleanup_(index_freep) Index *index = NULL;
        struct stat st;
        Sha256 d;

        assert_int_equal(index_parse(packed->index, packed->index_size_bytes, &index, NULL), 0);
        for (size_t n = 0; n < index_n_files(index); n++) {
                const IndexFile *f = index_file(index, n);

                assert_int_equal(fstatat(new_fd, f->path, &st, AT_SYMLINK_NOFOLLOW), 0);
                assert_int_equal(st.st_mode & 07777, f->mode);
                assert_int_equal(st.st_mtim.tv_sec, f->mtime_sec);
                if (f->type != FILE_REGULAR)
                        continue;
                _cleanup_close_ int fd = openat(new_fd, f->path, O_RDONLY | O_CLOEXEC);
                assert_int_equal(st.st_size, f->size_bytes);
                assert_int_equal(sha256_fd(fd, 0, f->size_bytes, &d), 0);
                assert_true(sha256_equal(&d, &f->sha256));
        }
}

static bool same_inode(int dir_fd, const char *a, const char *b)
{
        struct stat x, y;

        assert_return_code(fstatat(dir_fd, a, &x, AT_SYMLINK_NOFOLLOW), errno);
        assert_return_code(fstatat(dir_fd, b, &y, AT_SYMLINK_NOFOLLOW), errno);
        return x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

static void takes_over_what_is_there(void **state)
{
        _cleanup_(two_done) Two t = two_new(*state);
        Order o = two_order(&t);
        Answer a = unpack_to(t.releases_fd, &o);

        assert_string_equal(a.text, "");
        assert_string_equal(a.lost, "");
        assert_tree(t.releases_fd, &t.second);
        assert_true(same_inode(t.releases_fd, "r1/dir-20/file-4", "new/dir-20/file-4"));
        /* A moved file is as old as its content. */
        assert_true(same_inode(t.releases_fd, "r1/dir-30/file-5", "new/moved"));
        assert_false(same_inode(t.releases_fd, "r1/dir-20/file-3", "new/dir-20/file-3"));
        assert_false(same_inode(t.releases_fd, "r1/large", "new/large"));
        assert_int_equal(a.n_taken_over, 399);
        /* two files, of one of them 5 MiB are copied; the directories and links */
        assert_true(a.wanted_bytes > 0 && a.wanted_bytes < t.second.artifact_size_bytes / 3);
        assert_in_range(a.rest_bytes, 5 << 20, 6 << 20);
        assert_in_range(a.tree_bytes, a.rest_bytes, a.rest_bytes + (1 << 20));
        assert_in_range(a.n_inodes, 46, 48);
        assert_in_range(a.own_bytes, 5 << 20, 6 << 20);
        assert_true(a.size_bytes > a.own_bytes + (3 << 20));
}

/* Who runs the application may write to what is there (--user). */
static void copies_what_is_there(void **state)
{
        _cleanup_(two_done) Two t = two_new(*state);
        Order o = two_order(&t);

        t.seed.may_link = false;
        Answer a = unpack_to(t.releases_fd, &o);
        assert_string_equal(a.text, "");
        assert_tree(t.releases_fd, &t.second);
        assert_false(same_inode(t.releases_fd, "r1/dir-20/file-4", "new/dir-20/file-4"));
        assert_int_equal(a.n_taken_over, 399);
        assert_int_equal(a.own_bytes, a.size_bytes);
        assert_int_equal(a.tree_bytes, a.size_bytes);
        assert_true(a.wanted_bytes < t.second.artifact_size_bytes / 3);
}

/* Nothing is fetched, and no artifact is waited for. */
static void nothing_is_new(void **state)
{
        _cleanup_(two_done) Two t = two_new(*state);
        Order o = two_order(&t);

        o.index = t.first.index;
        o.index_size = t.first.index_size_bytes;
        Answer a = unpack_to(t.releases_fd, &o);
        assert_string_equal(a.text, "");
        assert_int_equal(a.wanted_bytes, 0);
        assert_int_equal(a.rest_bytes, 4096);
        assert_int_equal(a.n_taken_over, 401);
        assert_tree(t.releases_fd, &t.first);
}

static void damaged_is_fetched(void **state)
{
        _cleanup_(two_done) Two t = two_new(*state);
        Order o = two_order(&t);

        overwrite(t.releases_fd, "r1/dir-20/file-4", "damage", 100);
        overwrite(t.releases_fd, "r1/large", "damage", 1 << 20);
        Answer a = unpack_to(t.releases_fd, &o);
        assert_string_equal(a.text, "");
        assert_int_equal(a.result, 0);
        assert_int_equal(a.n_taken_over, 398);
        assert_non_null(strstr(a.lost, "2 files or parts of files"));
        assert_non_null(strstr(a.lost, "'large' of release r1"));
        assert_tree(t.releases_fd, &t.second);
}

static int raced_releases_fd;

static void damage_late(void)
{
        overwrite(raced_releases_fd, "r1/large", "damage", 1 << 20);
}

/* A piece is another one when it is read. */
static void changed_while_it_is_copied(void **state)
{
        _cleanup_(two_done) Two t = two_new(*state);
        Order o = two_order(&t);

        raced_releases_fd = t.releases_fd;
        o.before_artifact = damage_late;
        Answer a = unpack_to(t.releases_fd, &o);
        assert_int_equal(a.result, -ESTALE);
        assert_non_null(strstr(a.text, "'large'"));
        assert_false(exists(t.releases_fd, "new"));
        a = unpack_to(t.releases_fd, &(Order){ .artifact_fd = o.artifact_fd,
                                               .index = o.index,
                                               .index_size = o.index_size,
                                               .staging = "new",
                                               .seeds = o.seeds,
                                               .n_seeds = 1 });
        assert_string_equal(a.text, "");
        assert_tree(t.releases_fd, &t.second);
}

/* What is no release, or not the one that was signed, is passed over. */
static void seeds_of_no_use(void **state)
{
        _cleanup_(two_done) Two t = two_new(*state);
        Order o = two_order(&t);
        SeedOrder seeds[SEEDS_MAX + 1] = {
                {.name = "gone",            .index = t.first.index, .index_size = t.first.index_size_bytes},
                { .name = "r1",             .index = "no index",    .index_size = 8                       },
                { .name = "../releases/r1", .index = "no index",    .index_size = 8                       },
        };

        o.seeds = seeds;
        o.n_seeds = 2;
        Answer a = unpack_to(t.releases_fd, &o);
        assert_string_equal(a.text, "");
        assert_int_equal(a.n_taken_over, 0);
        assert_tree(t.releases_fd, &t.second);
        assert_int_equal(remove_tree_at(t.releases_fd, "new"), 0);
        o.n_seeds = 3;
        a = unpack_to(t.releases_fd, &o);
        assert_int_equal(a.result, -EPROTO);
        for (size_t n = 0; n < ELEMENTSOF(seeds); n++)
                seeds[n] = t.seed;
        o.n_seeds = ELEMENTSOF(seeds);
        a = unpack_to(t.releases_fd, &o);
        assert_int_equal(a.result, -EPROTO);
        assert_false(exists(t.releases_fd, "new"));
}

/* slipwayd dies, or gives up, in the middle. */
static void peer_goes_away(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "releases");
        PackResult packed;
        _cleanup_close_ int artifact_fd = pack_large(*state, &packed);
        Order o = { .artifact_fd = artifact_fd,
                    .index = packed.index,
                    .index_size = packed.index_size_bytes,
                    .staging = "new",
                    .step_bytes = 10000,
                    .hang_up_at = packed.artifact_size_bytes / 2 };

        Answer a = unpack_to(fd, &o);
        assert_true(a.run_result < 0);
        assert_true(is_empty(fd));
        pack_result_done(&packed);
}

static void removes(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "releases");
        int fds[2], message_fd;
        Message m;

        assert_int_equal(mkdirat(fd, "old", 0755), 0);
        assert_int_equal(mkdirat(fd, "old/d", 0000), 0);
        assert_int_equal(mkdirat(fd, "kept", 0755), 0);
        assert_int_equal(message_pair(fds), 0);
        Child child = { .socket_fd = fds[1] };
        assert_int_equal(pthread_create(&child.thread, NULL, child_main, &child), 0);
        static const struct {
                const char *name;
                int result;
        } cases[] = {
                {"old",          0      },
                { "missing",     0      },
                { "../releases", -EPROTO},
                { "",            -EPROTO}
        };
        for (size_t n = 0; n < ELEMENTSOF(cases); n++) {
                m = (Message){ .type = MESSAGE_REMOVE, .id = n };
                (void) snprintf(m.text, sizeof(m.text), "%s", cases[n].name);
                assert_int_equal(message_send(fds[0], &m, fd), 0);
                assert_true(is_readable(fds[0], 30000));
                assert_int_equal(message_receive(fds[0], &m, &message_fd), 1);
                assert_int_equal(m.type, MESSAGE_REMOVED);
                assert_int_equal(m.id, n);
                assert_int_equal(m.result, cases[n].result);
        }
        fd_close(fds[0]);
        assert_int_equal(pthread_join(child.thread, NULL), 0);
        assert_int_equal(child.result, 0);
        assert_false(exists(fd, "old"));
        assert_true(exists(fd, "kept"));
}

/* Starts the program itself, with its sandbox. */
static pid_t start_program(int ret_fds[static 2])
{
        _cleanup_free_ char *path = NULL;

        assert_int_equal(message_pair(ret_fds), 0);
        assert_true(asprintf(&path, "%s/agent/slipway-unpack", getenv("SLIPWAY_BUILD_ROOT")) > 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid > 0) {
                fd_close(ret_fds[1]);
                return pid;
        }
        /* LeakSanitizer wants ptrace at exit, which the sandbox is there to deny. */
        setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
        if (dup2(ret_fds[1], MESSAGE_FD) == MESSAGE_FD)
                execl(path, path, (char *) NULL);
        _exit(127);
}

static void program_in_its_sandbox(void **state)
{
        _cleanup_close_ int fd = make_dir(*state, "releases");
        PackResult packed;
        _cleanup_close_ int artifact_fd = pack_large(*state, &packed);
        _cleanup_(craft_done) Craft hostile = craft_archive(&hostiles[0]);
        _cleanup_(craft_done) Craft good = craft_archive(NULL);
        Order orders[] = {
                {.artifact_fd = artifact_fd,
                 .index = packed.index,
                 .index_size = packed.index_size_bytes,
                 .staging = "new"},
                craft_order(&hostile),
                craft_order(&good)
        };

        if (!getenv("SLIPWAY_BUILD_ROOT"))
                skip();
        orders[2].activate = &with_links;
        for (size_t n = 0; n < ELEMENTSOF(orders); n++) {
                Answer a = {};
                int fds[2], status;
                pid_t pid = start_program(fds);
                send_orders(fds[0], &orders[n], fd);
                play_slipwayd(fds[0], &orders[n], &a);
                assert_int_equal(waitpid(pid, &status, 0), pid);
                assert_int_equal(status, 0);
                fd_close(fds[0]);
                if (n == 0) {
                        assert_string_equal(a.text, "");
                        assert_int_equal(a.result, 0);
                        assert_same_as_packed(fd, &packed);
                        assert_int_equal(remove_tree_at(fd, "new"), 0);
                } else if (n == 1)
                        assert_refused(&a, fd, -EBADMSG, "/tmp/", "hostile, in the sandbox");
                else {
                        assert_string_equal(a.text, "");
                        assert_links(fd);
                }
        }
        pack_result_done(&packed);
}

/* Everything that it opens of the old release is open before the sandbox is. */
static void program_takes_over(void **state)
{
        int fds[2], status;
        Answer a = {};

        if (!getenv("SLIPWAY_BUILD_ROOT"))
                skip();
        _cleanup_(two_done) Two t = two_new(*state);
        Order o = two_order(&t);
        pid_t pid = start_program(fds);
        send_orders(fds[0], &o, t.releases_fd);
        play_slipwayd(fds[0], &o, &a);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        fd_close(fds[0]);
        assert_string_equal(a.text, "");
        assert_int_equal(a.n_taken_over, 399);
        assert_tree(t.releases_fd, &t.second);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(unpacks),
                test_in_dir(refuses_hostile_archives),
                test_in_dir(empty_release),
                test_in_dir(goes_on_after_its_end),
                test_in_dir(bad_frames),
                test_in_dir(truncated_artifact),
                test_in_dir(refuses_odd_frames),
                test_in_dir(wrong_orders),
                test_in_dir(makes_shared_links),
                test_in_dir(refuses_links_without_a_place),
                test_in_dir(links_a_release_that_is_there),
                cmocka_unit_test(wrong_messages),
                test_in_dir(disk_full),
                test_in_dir(read_only),
                test_in_dir(unpacks_what_was_packed),
                test_in_dir(takes_over_what_is_there),
                test_in_dir(copies_what_is_there),
                test_in_dir(nothing_is_new),
                test_in_dir(damaged_is_fetched),
                test_in_dir(changed_while_it_is_copied),
                test_in_dir(seeds_of_no_use),
                test_in_dir(peer_goes_away),
                test_in_dir(removes),
                test_in_dir(program_in_its_sandbox),
                test_in_dir(program_takes_over),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
