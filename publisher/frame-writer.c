/* SPDX-License-Identifier: Apache-2.0 */
#include "frame-writer.h"

#include <pthread.h>

#include <zstd.h>

#include "fd.h"

/* Keep threads busy while the oldest frame is a slow one, or its thread has to wait for a CPU. */
#define SLOTS_PER_THREAD 3
#define SLOTS_MIN        15

/* A frame on its way. */
typedef struct Slot {
        uint8_t *content, *compressed;
        size_t content_size;
        Frame frame;
        int result;
        bool done;
} Slot;

struct FrameWriter {
        int fd, level;
        IndexWriter *index;
        Hasher *hasher;
        uint64_t offset;
        size_t compressed_size_max;

        /* Frame n lives in slots[n % n_slots]: n_written <= n_taken <= n_filled. Frame n_filled is
         * the one being filled. The lock guards n_filled, n_taken, stop and the slots' `done`. */
        Slot *slots;
        size_t n_slots;
        uint64_t n_filled, n_taken, n_written;
        bool stop;
        pthread_mutex_t lock;
        pthread_cond_t filled, done;
        pthread_t *threads;
        unsigned n_threads;
};

static Slot *slot_of(const FrameWriter *w, uint64_t n)
{
        return &w->slots[n % w->n_slots];
}

static int compress_slot(const FrameWriter *w, ZSTD_CCtx *context, Slot *s)
{
        size_t size = ZSTD_compress2(context, s->compressed, w->compressed_size_max, s->content,
                                     s->content_size);

        if (ZSTD_isError(size))
                return -ENOMEM; /* the only way in which compressing can fail */
        s->frame = (Frame){ .size_bytes = size, .content_size_bytes = s->content_size };
        int r = sha256(s->content, s->content_size, &s->frame.content_sha256);
        return r < 0 ? r : sha256(s->compressed, size, &s->frame.sha256);
}

static ZSTD_CCtx *context_new(int level)
{
        ZSTD_CCtx *c = ZSTD_createCCtx();

        if (!c)
                return NULL;
        if (ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level)) ||
            ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, FRAME_WINDOW_LOG_MAX))) {
                (void) ZSTD_freeCCtx(c);
                return NULL;
        }
        return c;
}

static void *work(void *userdata)
{
        FrameWriter *w = userdata;
        ZSTD_CCtx *context = context_new(w->level);

        pthread_mutex_lock(&w->lock);
        for (;;) {
                while (w->n_taken == w->n_filled && !w->stop)
                        pthread_cond_wait(&w->filled, &w->lock);
                if (w->stop)
                        break;
                Slot *s = slot_of(w, w->n_taken++);
                pthread_mutex_unlock(&w->lock);
                s->result = context ? compress_slot(w, context, s) : -ENOMEM;
                pthread_mutex_lock(&w->lock);
                s->done = true;
                pthread_cond_signal(&w->done);
        }
        pthread_mutex_unlock(&w->lock);
        (void) ZSTD_freeCCtx(context);
        return NULL;
}

static int allocate(FrameWriter *w)
{
        int r = hasher_new(&w->hasher);

        if (r < 0)
                return r;
        w->slots = calloc(w->n_slots, sizeof(Slot));
        if (!w->slots)
                return -ENOMEM;
        for (size_t n = 0; n < w->n_slots; n++) {
                w->slots[n].content = malloc(FRAME_WRITER_CONTENT_MAX);
                w->slots[n].compressed = malloc(w->compressed_size_max);
                if (!w->slots[n].content || !w->slots[n].compressed)
                        return -ENOMEM;
        }
        return 0;
}

static int start_threads(FrameWriter *w, unsigned n_threads)
{
        w->threads = calloc(n_threads, sizeof(pthread_t));
        if (!w->threads)
                return -ENOMEM;
        for (; w->n_threads < n_threads; w->n_threads++) {
                int r = pthread_create(&w->threads[w->n_threads], NULL, work, w);
                if (r > 0)
                        return -r;
        }
        return 0;
}

int frame_writer_new(int fd, int level, unsigned n_threads, IndexWriter *index, FrameWriter **ret)
{
        _cleanup_(frame_writer_freep) FrameWriter *w = malloc(sizeof(FrameWriter));
        int r;

        if (!w)
                return -ENOMEM;
        *w = (FrameWriter){
                .fd = fd,
                .level = level,
                .index = index,
                .n_slots = MAX((size_t) n_threads * SLOTS_PER_THREAD, (size_t) SLOTS_MIN) + 1,
                .compressed_size_max = ZSTD_compressBound(FRAME_WRITER_CONTENT_MAX),
                .lock = PTHREAD_MUTEX_INITIALIZER,
                .filled = PTHREAD_COND_INITIALIZER,
                .done = PTHREAD_COND_INITIALIZER,
        };
        r = allocate(w);
        if (r < 0)
                return r;
        r = start_threads(w, n_threads);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(w);
        return 0;
}

FrameWriter *frame_writer_free(FrameWriter *w)
{
        if (!w)
                return NULL;
        pthread_mutex_lock(&w->lock);
        w->stop = true;
        pthread_cond_broadcast(&w->filled);
        pthread_mutex_unlock(&w->lock);
        for (unsigned n = 0; n < w->n_threads; n++)
                (void) pthread_join(w->threads[n], NULL);
        for (size_t n = 0; w->slots && n < w->n_slots; n++) {
                free(w->slots[n].content);
                free(w->slots[n].compressed);
        }
        free(w->slots);
        free(w->threads);
        (void) pthread_cond_destroy(&w->filled);
        (void) pthread_cond_destroy(&w->done);
        (void) pthread_mutex_destroy(&w->lock);
        hasher_free(w->hasher);
        free(w);
        return NULL;
}

int frame_writer_add(FrameWriter *w, const void *data, size_t size)
{
        Slot *s = slot_of(w, w->n_filled);

        if (size > FRAME_WRITER_CONTENT_MAX - s->content_size)
                return -EFBIG;
        memcpy(s->content + s->content_size, data, size);
        s->content_size += size;
        return 0;
}

/* Waits for the oldest frame, writes it and makes its slot free. */
static int write_oldest(FrameWriter *w)
{
        Slot *s = slot_of(w, w->n_written);
        int r;

        pthread_mutex_lock(&w->lock);
        while (!s->done)
                pthread_cond_wait(&w->done, &w->lock);
        pthread_mutex_unlock(&w->lock);
        if (s->result < 0)
                return s->result;
        s->frame.offset = w->offset;
        r = fd_write_all(w->fd, s->compressed, s->frame.size_bytes);
        if (r < 0)
                return r;
        r = hasher_add(w->hasher, s->compressed, s->frame.size_bytes);
        if (r < 0)
                return r;
        r = index_writer_add_frame(w->index, &s->frame);
        if (r < 0)
                return r;
        w->offset += s->frame.size_bytes;
        s->content_size = 0;
        s->done = false;
        w->n_written++;
        return 0;
}

int frame_writer_cut(FrameWriter *w)
{
        if (frame_writer_pending(w) == 0)
                return 0;
        pthread_mutex_lock(&w->lock);
        w->n_filled++;
        pthread_cond_signal(&w->filled);
        pthread_mutex_unlock(&w->lock);
        return w->n_filled - w->n_written == w->n_slots ? write_oldest(w) : 0;
}

int frame_writer_cut_at(FrameWriter *w, size_t size)
{
        Slot *s = slot_of(w, w->n_filled);
        size_t rest = s->content_size - size;
        int r;

        s->content_size = size;
        r = frame_writer_cut(w);
        /* What is behind the frame's end stays there until its slot is filled again. */
        return r < 0 ? r : frame_writer_add(w, s->content + size, rest);
}

size_t frame_writer_pending(const FrameWriter *w)
{
        return slot_of(w, w->n_filled)->content_size;
}

uint32_t frame_writer_n_frames(const FrameWriter *w)
{
        return w->n_filled + (frame_writer_pending(w) > 0);
}

int frame_writer_finish(FrameWriter *w, uint64_t *ret_size, Sha256 *ret_sha256)
{
        Sha256 d;
        int r = frame_writer_cut(w);

        while (r >= 0 && w->n_written < w->n_filled)
                r = write_oldest(w);
        if (r < 0)
                return r;
        r = hasher_finish(w->hasher, &d);
        if (r < 0)
                return r;
        *ret_size = w->offset;
        *ret_sha256 = d;
        return 0;
}
