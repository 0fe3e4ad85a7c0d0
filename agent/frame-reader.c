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
#include "take-over.h"

/* One more than are read ahead: the caller keeps the one it got last. */
#define N_SLOTS (FRAMES_AHEAD + 1)

struct FrameReader {
        int socket_fd, stop_fd;
        FramePlan plan;

        /* The thread's own */
        uint8_t *compressed;
        ZSTD_DCtx *context;
        uint64_t n_available_bytes;

        /* The n-th of the needed frames lies in slot n % N_SLOTS. The lock guards what follows. */
        uint8_t *contents[N_SLOTS];
        size_t sizes[N_SLOTS];
        size_t n_read, n_returned;
        bool ended;
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

static int decompress(FrameReader *r, size_t n, uint8_t *content, char **reterr)
{
        const Frame *f = index_frame(r->plan.index, n);

        if (check_header(r->compressed, f->size_bytes, f) < 0)
                return fail(reterr, -EBADMSG,
                            "frame %zu of the artifact is not a zstd frame of the size and window "
                            "that the index allows",
                            n);
        size_t size = ZSTD_decompressDCtx(r->context, content, f->content_size_bytes, r->compressed,
                                          f->size_bytes);
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
            ret->size <= index_artifact_size(r->plan.index)) {
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
        int q = fd_pread_exactly(r->plan.artifact_fd, r->compressed, f->size_bytes, f->offset);

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

static int fetch_frame(FrameReader *r, size_t n, uint8_t *content, char **reterr)
{
        const Frame *f = index_frame(r->plan.index, n);
        int q = await_available(r, f, reterr);

        if (q < 0)
                return q;
        for (unsigned n_tries = 1;; n_tries++) {
                q = read_frame(r, f, reterr);
                if (q < 0)
                        return q;
                if (q > 0)
                        return decompress(r, n, content, reterr);
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

/* It was there a moment ago: another try fetches it. */
static int copy_frame(FrameReader *r, size_t n, const DeltaSource *source, uint8_t *content,
                      char **reterr)
{
        int q = take_over_read_piece(index_frame(r->plan.index, n), source, r->plan.piece_fds[n],
                                     content);

        return q != 0 ? MIN(q, 0)
                      : fail(reterr, -ESTALE,
                             "'%s' of an installed release changed while it was copied",
                             source->file->path);
}

static int get_frame(FrameReader *r, size_t n, uint8_t *content, char **reterr)
{
        DeltaSource source;

        return delta_frame(r->plan.delta, n, &source) == DELTA_COPY
                       ? copy_frame(r, n, &source, content, reterr)
                       : fetch_frame(r, n, content, reterr);
}

/* Waits for a slot that may be written to; NULL: stop. */
static uint8_t *await_slot(FrameReader *r)
{
        pthread_mutex_lock(&r->lock);
        while (r->n_read - r->n_returned >= FRAMES_AHEAD && !r->stop)
                pthread_cond_wait(&r->changed, &r->lock);
        uint8_t *slot = r->stop ? NULL : r->contents[r->n_read % N_SLOTS];
        pthread_mutex_unlock(&r->lock);
        return slot;
}

/* Negative: it is the last thing that happens. */
static void note_read(FrameReader *r, int result, size_t size, char *err)
{
        pthread_mutex_lock(&r->lock);
        r->result = result;
        r->err = err;
        if (result >= 0)
                r->sizes[r->n_read++ % N_SLOTS] = size;
        pthread_cond_signal(&r->changed);
        pthread_mutex_unlock(&r->lock);
}

static void *read_ahead(void *userdata)
{
        FrameReader *r = userdata;
        uint8_t *slot;
        int q = 0;

        for (size_t n = 0; q >= 0 && n < index_n_frames(r->plan.index); n++) {
                char *err = NULL;

                if (delta_frame(r->plan.delta, n, NULL) == DELTA_SKIP)
                        continue;
                slot = await_slot(r);
                if (!slot)
                        return NULL;
                q = get_frame(r, n, slot, &err);
                note_read(r, q, index_frame(r->plan.index, n)->content_size_bytes, err);
        }
        pthread_mutex_lock(&r->lock);
        r->ended = true;
        pthread_cond_signal(&r->changed);
        pthread_mutex_unlock(&r->lock);
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

int frame_reader_new(int socket_fd, const FramePlan *plan, FrameReader **ret)
{
        _cleanup_(frame_reader_freep) FrameReader *r = malloc(sizeof(FrameReader));
        int q;

        if (!r)
                return -ENOMEM;
        *r = (FrameReader){
                .socket_fd = socket_fd,
                .stop_fd = -EBADF,
                .plan = *plan,
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
        pthread_mutex_lock(&r->lock);
        while (r->n_read == r->n_returned && !r->ended)
                pthread_cond_wait(&r->changed, &r->lock);
        bool has_frame = r->n_read > r->n_returned;
        size_t n = r->n_returned;
        r->n_returned += has_frame;
        pthread_cond_signal(&r->changed);
        pthread_mutex_unlock(&r->lock);
        if (has_frame) {
                *ret_data = r->contents[n % N_SLOTS];
                *ret_size = r->sizes[n % N_SLOTS];
                return 1;
        }
        return r->result < 0 ? fail(reterr, r->result, "%s", err_text(r->result, r->err)) : 0;
}
