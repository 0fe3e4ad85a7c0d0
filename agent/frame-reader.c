/* SPDX-License-Identifier: Apache-2.0 */
#include "frame-reader.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <zstd.h>

#include "err.h"
#include "fd.h"
#include "message.h"

/* One more than are read ahead: the caller keeps the one it got last. */
#define N_SLOTS (FRAMES_AHEAD + 1)

struct FrameReader {
        int socket_fd, artifact_fd, stop_fd;
        const Index *index;

        /* The thread's own */
        uint8_t *compressed;
        ZSTD_DCtx *context;
        uint64_t n_available_bytes;

        /* Frame n lies in contents[n % N_SLOTS]. The lock guards what follows. */
        uint8_t *contents[N_SLOTS];
        size_t n_read, n_returned;
        int result;
        char *err;
        bool stop;
        pthread_mutex_t lock;
        pthread_cond_t changed;
        pthread_t thread;
        bool has_thread;
};

/* RFC 8878, 3.1.1: libzstd checks the window only when it streams, and a caller's limit not at all
 * when the whole frame is there, so the header is looked at here. */
static int check_header(const uint8_t *p, size_t size, const Frame *f)
{
        if (size < 6 || ZSTD_getFrameContentSize(p, size) != f->content_size_bytes ||
            ZSTD_findFrameCompressedSize(p, size) != size)
                return -EBADMSG;
        bool single_segment = p[4] & 0x20;
        if (single_segment)
                return f->content_size_bytes <= UINT32_C(1) << FRAME_WINDOW_LOG_MAX ? 0 : -EBADMSG;
        unsigned window_log = (p[5] >> 3) + 10, mantissa = p[5] & 7;
        return window_log + (mantissa > 0) <= FRAME_WINDOW_LOG_MAX ? 0 : -EBADMSG;
}

static int decompress(FrameReader *r, size_t n, char **reterr)
{
        const Frame *f = index_frame(r->index, n);

        if (check_header(r->compressed, f->size_bytes, f) < 0)
                return fail(reterr, -EBADMSG,
                            "frame %zu of the artifact is not a zstd frame of the size and window "
                            "that the index allows",
                            n);
        size_t size = ZSTD_decompressDCtx(r->context, r->contents[n % N_SLOTS],
                                          f->content_size_bytes, r->compressed, f->size_bytes);
        if (ZSTD_isError(size) || size != f->content_size_bytes)
                return fail(reterr, -EBADMSG, "frame %zu of the artifact does not decompress", n);
        return 0;
}

/* Waits for a message or the end. */
static int receive(FrameReader *r, Message *ret, char **reterr)
{
        struct pollfd p[] = {
                {.fd = r->socket_fd, .events = POLLIN},
                { .fd = r->stop_fd,  .events = POLLIN}
        };
        _cleanup_close_ int fd = -EBADF;
        int q;

        do
                q = poll(p, ELEMENTSOF(p), -1);
        while (q < 0 && errno == EINTR);
        if (q < 0)
                return -errno;
        if (p[1].revents != 0)
                return -ECANCELED;
        q = message_receive(r->socket_fd, ret, &fd);
        if (q == 0)
                return fail(reterr, -ECONNRESET, "slipwayd is gone");
        if (q < 0)
                return fail_errno(reterr, q, "cannot receive from slipwayd");
        if (ret->type == MESSAGE_AVAILABLE && ret->size >= r->n_available_bytes &&
            ret->size <= index_artifact_size(r->index)) {
                r->n_available_bytes = ret->size;
                return 0;
        }
        if (ret->type == MESSAGE_REPLACED)
                return 0;
        return fail(reterr, -EPROTO, "slipwayd sent message %u out of turn", ret->type);
}

static int await_available(FrameReader *r, const Frame *f, char **reterr)
{
        Message m;

        while (r->n_available_bytes < f->offset + f->size_bytes) {
                int q = receive(r, &m, reterr);
                if (q < 0)
                        return q;
                if (m.type != MESSAGE_AVAILABLE)
                        return fail(reterr, -EPROTO, "slipwayd replaced a frame that was not bad");
        }
        return 0;
}

/* 1: these are the signed bytes; 0: they are others, or missing though they were announced. */
static int read_frame(FrameReader *r, const Frame *f, char **reterr)
{
        Sha256 d;
        int q = fd_pread_exactly(r->artifact_fd, r->compressed, f->size_bytes, f->offset);

        if (q == -ENODATA)
                return 0;
        if (q < 0)
                return fail_errno(reterr, q, "cannot read the fetched artifact");
        q = sha256(r->compressed, f->size_bytes, &d);
        return q < 0 ? q : sha256_equal(&d, &f->sha256);
}

static int await_replaced(FrameReader *r, const Frame *f, char **reterr)
{
        Message m = { .type = MESSAGE_BAD_FRAME, .offset = f->offset, .size = f->size_bytes };
        int q = message_send(r->socket_fd, &m, -1);

        if (q < 0)
                return fail_errno(reterr, q, "cannot send to slipwayd");
        do {
                q = receive(r, &m, reterr);
                if (q < 0)
                        return q;
        } while (m.type == MESSAGE_AVAILABLE);
        if (m.offset != f->offset || m.size != f->size_bytes)
                return fail(reterr, -EPROTO, "slipwayd replaced another frame than the bad one");
        return 0;
}

static int get_frame(FrameReader *r, size_t n, char **reterr)
{
        const Frame *f = index_frame(r->index, n);
        int q = await_available(r, f, reterr);

        if (q < 0)
                return q;
        for (unsigned n_tries = 1;; n_tries++) {
                q = read_frame(r, f, reterr);
                if (q < 0)
                        return q;
                if (q > 0)
                        return decompress(r, n, reterr);
                if (n_tries == FRAME_TRIES)
                        return fail(reterr, -EKEYREJECTED,
                                    "frame %zu of the artifact is not the one that was signed, "
                                    "after %u tries",
                                    n, n_tries);
                q = await_replaced(r, f, reterr);
                if (q < 0)
                        return q;
        }
}

/* Waits until frame n may be put in its slot; false: stop. */
static bool await_slot(FrameReader *r, size_t n)
{
        pthread_mutex_lock(&r->lock);
        while (n - r->n_returned >= FRAMES_AHEAD && !r->stop)
                pthread_cond_wait(&r->changed, &r->lock);
        bool stop = r->stop;
        pthread_mutex_unlock(&r->lock);
        return !stop;
}

static void *read_ahead(void *userdata)
{
        FrameReader *r = userdata;
        int q = 0;

        for (size_t n = 0; q >= 0 && n < index_n_frames(r->index) && await_slot(r, n); n++) {
                char *err = NULL;
                q = get_frame(r, n, &err);
                pthread_mutex_lock(&r->lock);
                r->result = q;
                r->err = err;
                r->n_read += q >= 0;
                pthread_cond_signal(&r->changed);
                pthread_mutex_unlock(&r->lock);
        }
        return NULL;
}

static int allocate(FrameReader *r)
{
        r->compressed = malloc(FRAME_SIZE_MAX);
        r->context = ZSTD_createDCtx();
        if (!r->compressed || !r->context)
                return -ENOMEM;
        for (size_t n = 0; n < N_SLOTS; n++) {
                r->contents[n] = malloc(FRAME_CONTENT_MAX);
                if (!r->contents[n])
                        return -ENOMEM;
        }
        r->stop_fd = eventfd(0, EFD_CLOEXEC);
        return r->stop_fd < 0 ? -errno : 0;
}

int frame_reader_new(int socket_fd, int artifact_fd, const Index *index, FrameReader **ret)
{
        _cleanup_(frame_reader_freep) FrameReader *r = malloc(sizeof(FrameReader));
        int q;

        if (!r)
                return -ENOMEM;
        *r = (FrameReader){
                .socket_fd = socket_fd,
                .artifact_fd = artifact_fd,
                .stop_fd = -EBADF,
                .index = index,
                .lock = PTHREAD_MUTEX_INITIALIZER,
                .changed = PTHREAD_COND_INITIALIZER,
        };
        q = allocate(r);
        if (q < 0)
                return q;
        q = pthread_create(&r->thread, NULL, read_ahead, r);
        if (q > 0)
                return -q;
        r->has_thread = true;
        *ret = TAKE_PTR(r);
        return 0;
}

static void stop_thread(FrameReader *r)
{
        const uint64_t one = 1;

        pthread_mutex_lock(&r->lock);
        r->stop = true;
        pthread_cond_signal(&r->changed);
        pthread_mutex_unlock(&r->lock);
        /* Eight bytes into a fresh eventfd can't fail or block. */
        (void) !write(r->stop_fd, &one, sizeof(one));
        (void) pthread_join(r->thread, NULL);
}

FrameReader *frame_reader_free(FrameReader *r)
{
        if (!r)
                return NULL;
        if (r->has_thread)
                stop_thread(r);
        fd_close(r->stop_fd);
        free(r->compressed);
        (void) ZSTD_freeDCtx(r->context);
        for (size_t n = 0; n < N_SLOTS; n++)
                free(r->contents[n]);
        free(r->err);
        (void) pthread_cond_destroy(&r->changed);
        (void) pthread_mutex_destroy(&r->lock);
        free(r);
        return NULL;
}

int frame_reader_next(FrameReader *r, const void **ret_data, size_t *ret_size, char **reterr)
{
        if (r->n_returned == index_n_frames(r->index))
                return 0;
        pthread_mutex_lock(&r->lock);
        while (r->n_read == r->n_returned && r->result >= 0)
                pthread_cond_wait(&r->changed, &r->lock);
        bool has_frame = r->n_read > r->n_returned;
        size_t n = r->n_returned;
        r->n_returned += has_frame;
        pthread_cond_signal(&r->changed);
        pthread_mutex_unlock(&r->lock);
        if (!has_frame)
                return fail(reterr, r->result, "%s", err_text(r->result, r->err));
        *ret_data = r->contents[n % N_SLOTS];
        *ret_size = index_frame(r->index, n)->content_size_bytes;
        return 1;
}
