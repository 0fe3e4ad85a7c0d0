/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fetch.h"
#include "fuzz-dir.h"
#include "fuzz.h"
#include "message.h"
#include "range-set.h"

/*
 * slipway-fetch with a store in a directory, and what slipwayd asks it for: orders in any sequence,
 * of any content, with any descriptors. An input is a byte that is the size of the object "m" in
 * the store, the object, then the orders: type, id, offset, size, kind of descriptor, and a text
 * with its size before it; after some kinds of descriptor as many bytes of ranges. Whatever is
 * asked, it goes on until slipwayd is gone, and answers with what its messages may be.
 */

typedef struct Script {
        const uint8_t *at, *end;
} Script;

static uint8_t next_byte(Script *s)
{
        return s->at < s->end ? *s->at++ : 0;
}

static size_t next_bytes(Script *s, const uint8_t **ret)
{
        size_t n = next_byte(s);

        *ret = s->at;
        n = MIN(n, (size_t) (s->end - s->at));
        s->at += n;
        return n;
}

static void write_object(const FuzzDir *dir, const char *name, const void *data, size_t size)
{
        _cleanup_close_ int fd = dir_open_at(dir->fd, "store");

        assert(fd >= 0 && file_write_atomic_at(fd, name, data, size, 0600) == 0);
}

/* Ranges of an object, a byte each for offset and size: in order or not. */
static int ranges(const uint8_t *data, size_t size)
{
        ByteRange r[UINT8_MAX / 2];

        for (size_t i = 0; i < size / 2; i++)
                r[i] = (ByteRange){ data[2 * i], data[2 * i + 1] };
        return memfd_sealed("order", r, size / 2 * sizeof(ByteRange) + size % 2);
}

static int descriptor(const FuzzDir *dir, unsigned kind, const void *data, size_t size)
{
        switch (kind % 4) {
        case 0:
                return memfd_sealed("order", data, size);
        case 1:
                return fcntl(dir->fd, F_DUPFD_CLOEXEC, 0);
        default:
                return -EBADF;
        }
}

static void send_order(int socket_fd, const FuzzDir *dir, uint64_t object_size, Script *s)
{
        static const uint64_t numbers[] = { 0, 1, 3, 1 << 20, 70000, UINT64_MAX };
        Message m = { .type = next_byte(s) % (_MESSAGE_TYPE_MAX - 1) + 1, .id = next_byte(s) % 8 };
        const unsigned offset = next_byte(s), size = next_byte(s), kind = next_byte(s);
        const uint8_t *text, *pairs;
        size_t n = next_bytes(s, &text), n_pairs = kind & 4 ? next_bytes(s, &pairs) : 0;
        _cleanup_close_ int fd = kind & 4 ? ranges(pairs, n_pairs) : descriptor(dir, kind, text, n);

        m.offset = numbers[offset % ELEMENTSOF(numbers)];
        m.size = size & 1 ? object_size : numbers[size / 2 % ELEMENTSOF(numbers)];
        m.sha256.bytes[0] = size >> 6;
        memcpy(m.text, text, n);
        /* -EAGAIN: it does not read fast enough. */
        (void) !message_send(socket_fd, &m, fd);
}

static void hear(int socket_fd)
{
        Message m;
        int fd, r;

        while ((r = message_receive(socket_fd, &m, &fd)) == 1) {
                assert(m.id < 8);
                assert(m.type == MESSAGE_POLLED || m.type == MESSAGE_BRAKED ||
                       m.type == MESSAGE_SPOOLED || m.type == MESSAGE_AVAILABLE ||
                       m.type == MESSAGE_GOT || m.type == MESSAGE_GOT_AGAIN ||
                       m.type == MESSAGE_PUT_DONE || m.type == MESSAGE_IDENTIFIED ||
                       m.type == MESSAGE_LISTENING);
                assert((m.type == MESSAGE_POLLED && m.result == 0) == (fd >= 0) ||
                       m.type == MESSAGE_SPOOLED);
                fd_close(fd);
        }
        assert(r == -EAGAIN);
}

/* Between orders it may do some of the work. */
static void run(Fetch *f, int socket_fd, Script *s, const FuzzDir *dir, uint64_t object_size)
{
        int r = 0;

        for (int n = 0; n < 64 && s->at < s->end; n++) {
                send_order(socket_fd, dir, object_size, s);
                if (s->at < s->end && *s->at & 128)
                        continue;
                r = fetch_step(f);
                hear(socket_fd);
                if (r < 0)
                        break;
        }
        assert(shutdown(socket_fd, SHUT_WR) == 0);
        while (r == 0) {
                r = fetch_step(f);
                hear(socket_fd);
        }
        /* What is no message ends it. */
        assert(r == 1 || r == -EPROTO);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        Script s = { data, data + size };
        _cleanup_close_ int child_fd = -EBADF, daemon_fd = -EBADF;
        char cache[128], store[128];
        const uint8_t *object;
        size_t object_size = next_bytes(&s, &object);
        FuzzDir dir = fuzz_dir_make("store");
        Fetch *f;
        int fds[2];

        assert(setenv("AWS_EC2_METADATA_DISABLED", "true", 1) == 0);
        write_object(&dir, "m", object, object_size);
        snprintf(cache, sizeof(cache), "%s/store/cache", dir.path);
        snprintf(store, sizeof(store), "file://%s/store", dir.path);
        assert(mkdir(cache, 0700) == 0 && message_pair(fds) == 0);
        daemon_fd = fds[0];
        child_fd = fds[1];
        assert(fetch_new(store, cache, NULL, child_fd, &f, NULL) == 0);
        run(f, daemon_fd, &s, &dir, object_size);
        fetch_free(f);
        fuzz_dir_remove(&dir);
        return 0;
}
