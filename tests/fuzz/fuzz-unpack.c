/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zstd.h>

#include "digest.h"
#include "fd.h"
#include "fuzz-dir.h"
#include "fuzz.h"
#include "index.h"
#include "message.h"
#include "range-set.h"
#include "unpack.h"

/*
 * slipway-unpack as a whole: messages, index and artifact of one release. An input is
 *
 *   1 byte   FLAGS
 *   1 byte   size of the list of links, which follows (MESSAGE_LINKS)
 *   2 bytes  size of the index, little-endian, which follows
 *   rest     the artifact: the frames' content, or with RAW_FRAMES the frames as they are
 *
 * What no mutation would get right is filled in: digests and sizes of frames, and with them the
 * index's header. So the index and the tar stream are tried together, and zstd has signed bytes.
 *
 * What could be unpacked is unpacked once more, from the tree of the first time, of which parts
 * were damaged: it has to become the same.
 */

enum {
        RAW_FRAMES = 1, /* the index says how large each is */
        RAW_HEADER = 2, /* the index's, as it is */
        WITH_LINKS = 4,
        BAD_FRAME = 8,    /* the first byte of the artifact is another, and stays so */
        NO_RELEASES = 16, /* messages that are missing or come twice */
        TWO_LINKS = 32,
        IN_STEPS = 64, /* the artifact is announced so */
        ONLY_LINKS = 128,
};

#define HEADER_SIZE  64
#define ENTRY_SIZE   80
#define N_FRAMES_MAX 16
#define CONTENT_MAX  (256 * 1024)

typedef struct Input {
        unsigned flags;
        const uint8_t *links, *content;
        size_t links_size, index_size, content_size;
        uint8_t *index; /* allocated, to be filled in */
} Input;

static uint64_t get(const uint8_t *p, unsigned n)
{
        uint64_t value = 0;

        while (n-- > 0)
                value = value << 8 | p[n];
        return value;
}

static void put(uint8_t *p, unsigned n, uint64_t value)
{
        for (; n-- > 0; value >>= 8)
                *p++ = (uint8_t) value;
}

static bool split(const uint8_t *data, size_t size, Input *ret)
{
        if (size < 2 || size - 2 < data[1])
                return false;
        *ret = (Input){ .flags = data[0], .links_size = data[1], .links = data + 2 };
        data += 2 + ret->links_size;
        size -= 2 + ret->links_size;
        if (size < 2 || size - 2 < get(data, 2))
                return false;
        ret->index_size = get(data, 2);
        ret->index = malloc(ret->index_size + 1);
        assert(ret->index);
        memcpy(ret->index, data + 2, ret->index_size);
        ret->content = data + 2 + ret->index_size;
        ret->content_size = size - 2 - ret->index_size;
        return true;
}

/* Takes the next bytes of the input; what it lacks is zeros. */
static void take(Input *in, uint8_t *to, size_t size)
{
        size_t n = MIN(size, in->content_size);

        memset(to, 0, size);
        if (n > 0)
                memcpy(to, in->content, n);
        in->content += n;
        in->content_size -= n;
}

static size_t make_frame(Input *in, uint8_t *entry, uint8_t *to, size_t room)
{
        static uint8_t content[CONTENT_MAX];
        size_t size = get(entry + (in->flags & RAW_FRAMES ? 8 : 12), 4);

        if (in->flags & RAW_FRAMES) {
                size = MIN(size, room);
                take(in, to, size);
                return size;
        }
        size = MIN(size, sizeof(content));
        take(in, content, size);
        size = ZSTD_compress(to, room, content, size, 1);
        assert(!ZSTD_isError(size));
        return size;
}

static void fill_in_header(Input *in, size_t n_frames, uint64_t artifact_size)
{
        uint64_t content_size = 0, n_files = get(in->index + 12, 4);

        for (size_t i = 0; i < n_frames; i++)
                content_size += get(in->index + HEADER_SIZE + i * ENTRY_SIZE + 12, 4);
        memcpy(in->index, "SLPYIDX1", 8);
        put(in->index + 8, 4, n_frames);
        put(in->index + 16, 8, artifact_size);
        put(in->index + 24, 8, content_size);
        put(in->index + 32, 8, in->index_size - HEADER_SIZE - (n_frames + n_files) * ENTRY_SIZE);
        memset(in->index + 40, 0, 24);
}

/* The artifact of the frames that the index names. */
static int make_artifact(Input *in)
{
        static uint8_t artifact[N_FRAMES_MAX * (CONTENT_MAX + 4096)];
        size_t n = 0, n_frames, size = 0;

        if (in->index_size >= HEADER_SIZE) {
                n_frames = MIN(get(in->index + 8, 4), (uint64_t) N_FRAMES_MAX);
                n_frames = MIN(n_frames, (in->index_size - HEADER_SIZE) / ENTRY_SIZE);
                for (; n < n_frames; n++) {
                        uint8_t *entry = in->index + HEADER_SIZE + n * ENTRY_SIZE;
                        size_t made = make_frame(in, entry, artifact + size, CONTENT_MAX + 4096);
                        Sha256 d;
                        assert(sha256(artifact + size, made, &d) == 0);
                        put(entry, 8, size);
                        put(entry + 8, 4, made);
                        memcpy(entry + 16, &d, sizeof(d));
                        size += made;
                }
                if (!(in->flags & RAW_HEADER))
                        fill_in_header(in, n, size);
        }
        if (in->flags & BAD_FRAME)
                artifact[0] ^= 1;
        int fd = memfd_sealed("artifact", artifact, size);
        assert(fd >= 0);
        return fd;
}

static void post(int socket_fd, const Message *m, int fd)
{
        assert(message_send(socket_fd, m, fd) == 0);
}

static void send_links(int socket_fd, const Input *in)
{
        Message m = { .type = MESSAGE_LINKS, .size = in->links_size };
        _cleanup_close_ int fd = memfd_sealed("links", in->links, in->links_size);

        assert(fd >= 0);
        post(socket_fd, &m, fd);
}

static void announce(int socket_fd, const Input *in, uint64_t size)
{
        Message m = { .type = MESSAGE_AVAILABLE };

        for (unsigned i = 1; in->flags & IN_STEPS && i < 4; i++) {
                m.size = size / 4 * i;
                post(socket_fd, &m, -1);
        }
        m.size = size;
        post(socket_fd, &m, -1);
        if (!(in->flags & BAD_FRAME) || in->index_size < HEADER_SIZE + ENTRY_SIZE)
                return;
        m = (Message){ .type = MESSAGE_REPLACED, .size = get(in->index + HEADER_SIZE + 8, 4) };
        post(socket_fd, &m, -1);
        post(socket_fd, &m, -1);
}

static void send_seed(int socket_fd, Message m, int index_fd, bool may_link)
{
        m.type = MESSAGE_SEED;
        m.offset = may_link;
        (void) stpcpy(m.text, "r1");
        post(socket_fd, &m, index_fd);
}

static void send_orders(int socket_fd, const Input *in, int artifact_fd, int releases_fd,
                        bool again)
{
        const uint64_t size = in->index_size >= HEADER_SIZE ? get(in->index + 16, 8) : 0;
        Message m = { .type = MESSAGE_INDEX, .id = 7, .size = in->index_size };
        _cleanup_close_ int index_fd = memfd_sealed("index", in->index, in->index_size);

        assert(index_fd >= 0 && sha256(in->index, in->index_size, &m.sha256) == 0);
        if (!(in->flags & ONLY_LINKS))
                post(socket_fd, &m, index_fd);
        if (again)
                send_seed(socket_fd, m, index_fd, in->index_size % 2);
        if (in->flags & (WITH_LINKS | ONLY_LINKS))
                send_links(socket_fd, in);
        if (in->flags & TWO_LINKS)
                send_links(socket_fd, in);
        m = (Message){ .type = MESSAGE_RELEASES };
        (void) stpcpy(m.text, again ? "r2" : "r1");
        if (!(in->flags & NO_RELEASES))
                post(socket_fd, &m, releases_fd);
        m = (Message){ .type = MESSAGE_TAKE };
        post(socket_fd, &m, -1);
        m = (Message){ .type = MESSAGE_ARTIFACT, .size = size };
        post(socket_fd, &m, artifact_fd);
        announce(socket_fd, in, size);
        assert(shutdown(socket_fd, SHUT_WR) == 0);
}

static void check_file(int dir_fd, const IndexFile *f)
{
        static const mode_t types[] = {
                [FILE_REGULAR] = S_IFREG, [FILE_DIRECTORY] = S_IFDIR, [FILE_SYMLINK] = S_IFLNK
        };
        char target[PATH_MAX];
        struct stat st;

        assert(fstatat(dir_fd, f->path, &st, AT_SYMLINK_NOFOLLOW) == 0);
        assert((st.st_mode & S_IFMT) == types[f->type] && (st.st_mode & 07777) == f->mode);
        if (f->type != FILE_DIRECTORY)
                assert((uint64_t) st.st_mtime == f->mtime_sec);
        if (f->type == FILE_REGULAR)
                assert((uint64_t) st.st_size == f->size_bytes);
        if (f->type == FILE_SYMLINK) {
                ssize_t n = readlinkat(dir_fd, f->path, target, sizeof(target));
                assert(n == (ssize_t) strlen(f->link) && memcmp(target, f->link, n) == 0);
        }
}

static void check_tree(int releases_fd, const char *name, const Input *in)
{
        _cleanup_close_ int dir_fd = dir_open_at(releases_fd, name);
        _cleanup_(index_freep) Index *index = NULL;

        assert(dir_fd >= 0 && index_parse(in->index, in->index_size, &index, NULL) == 0);
        for (size_t i = 0; i < index_n_files(index); i++)
                check_file(dir_fd, index_file(index, i));
}

static void check_wanted(int fd, const Input *in)
{
        _cleanup_(range_set_freep) RangeSet *ranges = NULL;
        struct stat st;

        assert(fd >= 0 && fstat(fd, &st) == 0);
        assert(range_set_unpack(fd, st.st_size, get(in->index + 16, 8), &ranges) == 0);
}

/* The answers, of which the last says what is there. True: a release. */
static bool check_answers(int socket_fd, int releases_fd, const char *name, const Input *in)
{
        Message m, last = {};
        int fd;

        while (message_receive(socket_fd, &m, &fd) == 1) {
                assert(last.type != MESSAGE_UNPACKED && last.type != MESSAGE_LINKED);
                assert(m.type == MESSAGE_NEEDS || m.type == MESSAGE_WANTED ||
                       m.type == MESSAGE_BAD_FRAME || m.type == MESSAGE_UNPACKED ||
                       m.type == MESSAGE_LINKED);
                assert((fd >= 0) == (m.type == MESSAGE_WANTED));
                if (m.type == MESSAGE_WANTED)
                        check_wanted(fd, in);
                fd_close(fd);
                last = m;
        }
        if (last.type == MESSAGE_LINKED)
                return false;
        assert(last.type == MESSAGE_UNPACKED && last.id == 7);
        assert(last.result == 0 || (last.result < 0 && last.text[0]));
        if (last.result == 0)
                check_tree(releases_fd, name, in);
        else
                assert(faccessat(releases_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0);
        return last.result == 0;
}

static bool unpack_once(const Input *in, int artifact_fd, int releases_fd, bool again)
{
        _cleanup_close_ int daemon_fd = -EBADF;
        _cleanup_free_ char *err = NULL;
        int fds[2], r;

        assert(message_pair(fds) == 0);
        daemon_fd = fds[0];
        send_orders(daemon_fd, in, artifact_fd, releases_fd, again);
        r = unpack_run(fds[1], NULL, &err);
        assert(r == 0 || err);
        fd_close(fds[1]);
        return check_answers(daemon_fd, releases_fd, again ? "r2" : "r1", in);
}

static Sha256 digest_of(int dir_fd, const IndexFile *f)
{
        _cleanup_close_ int fd = openat(dir_fd, f->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        Sha256 d;

        assert(fd >= 0 && sha256_fd(fd, 0, f->size_bytes, &d) == 0);
        return d;
}

static void damage(int dir_fd, const IndexFile *f, size_t kind)
{
        _cleanup_close_ int fd = openat(dir_fd, f->path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);

        assert(fd >= 0);
        if (kind == 1)
                assert(fd_pwrite_all(fd, "!", 1, f->size_bytes / 2) == 0);
        else if (kind == 2)
                assert(fchmod(fd, 0600) == 0);
        else if (kind == 3)
                assert(unlinkat(dir_fd, f->path, 0) == 0 &&
                       symlinkat("/dev/zero", dir_fd, f->path) == 0);
}

/* Once more, from a tree that is partly another one. */
static void unpack_again(const Input *in, int artifact_fd, int releases_fd)
{
        _cleanup_close_ int r1_fd = dir_open_at(releases_fd, "r1"), r2_fd = -EBADF;
        _cleanup_(index_freep) Index *index = NULL;
        _cleanup_free_ Sha256 *digests = NULL;

        assert(r1_fd >= 0 && index_parse(in->index, in->index_size, &index, NULL) == 0);
        digests = calloc(index_n_files(index) + 1, sizeof(Sha256));
        assert(digests);
        for (size_t i = 0; i < index_n_files(index); i++) {
                const IndexFile *f = index_file(index, i);
                if (f->type != FILE_REGULAR)
                        continue;
                digests[i] = digest_of(r1_fd, f);
                damage(r1_fd, f, (i + in->index_size / 2) % 4);
        }
        assert(unpack_once(in, artifact_fd, releases_fd, true));
        r2_fd = dir_open_at(releases_fd, "r2");
        assert(r2_fd >= 0);
        for (size_t i = 0; i < index_n_files(index); i++) {
                const IndexFile *f = index_file(index, i);
                const Sha256 d = f->type == FILE_REGULAR ? digest_of(r2_fd, f) : digests[i];
                assert(sha256_equal(&d, &digests[i]));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_close_ int releases_fd = -EBADF, artifact_fd = -EBADF;
        Input in;

        if (!split(data, size, &in))
                return 0;
        FuzzDir dir = fuzz_dir_make("releases");
        releases_fd = dir_open_at(dir.fd, "releases");
        assert(releases_fd >= 0);
        if (in.flags & ONLY_LINKS)
                assert(mkdirat(releases_fd, "r1", 0755) == 0);
        artifact_fd = make_artifact(&in);
        if (unpack_once(&in, artifact_fd, releases_fd, false) &&
            !(in.flags & (WITH_LINKS | BAD_FRAME)))
                unpack_again(&in, artifact_fd, releases_fd);
        fuzz_dir_remove(&dir);
        free(in.index);
        return 0;
}
