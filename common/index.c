/* SPDX-License-Identifier: Apache-2.0 */
#include "index.h"

#include <endian.h>
#include <inttypes.h>

#include "err.h"
#include "name.h"

#define MAGIC_NAME  "SLPYIDX"
#define MAGIC       MAGIC_NAME "1" /* the number of the format */
#define HEADER_SIZE 64
#define FRAME_SIZE  80
#define FILE_SIZE   80
#define BLOCK_SIZE  512 /* tar's unit: one for each entry's header, contents are padded to it */
#define END_SIZE    (2 * BLOCK_SIZE)

struct Index {
        Frame *frames;
        IndexFile *files;
        char *strings;
        size_t n_frames, n_files;
        uint64_t artifact_size, content_size;
};

static uint16_t get_u16(const uint8_t *p)
{
        uint16_t v;

        memcpy(&v, p, sizeof(v));
        return le16toh(v);
}

static uint32_t get_u32(const uint8_t *p)
{
        uint32_t v;

        memcpy(&v, p, sizeof(v));
        return le32toh(v);
}

static uint64_t get_u64(const uint8_t *p)
{
        uint64_t v;

        memcpy(&v, p, sizeof(v));
        return le64toh(v);
}

static void put_u16(uint8_t *p, uint16_t v)
{
        v = htole16(v);
        memcpy(p, &v, sizeof(v));
}

static void put_u32(uint8_t *p, uint32_t v)
{
        v = htole32(v);
        memcpy(p, &v, sizeof(v));
}

static void put_u64(uint8_t *p, uint64_t v)
{
        v = htole64(v);
        memcpy(p, &v, sizeof(v));
}

static bool is_zero(const uint8_t *p, size_t size)
{
        while (size > 0 && *p == 0)
                p++, size--;
        return size == 0;
}

/* The areas of the index's bytes, once the header's sizes are known to add up. */
typedef struct Areas {
        const uint8_t *frames, *files, *strings;
        size_t strings_size;
} Areas;

static int parse_header(const uint8_t *data, size_t size, Index *i, Areas *ret, char **reterr)
{
        if (size < HEADER_SIZE || memcmp(data, MAGIC, STRLEN(MAGIC_NAME)) != 0)
                return fail(reterr, -EBADMSG, "index does not start with a header of this format");
        if (memcmp(data, MAGIC, STRLEN(MAGIC)) != 0)
                return fail(reterr, -EBADMSG,
                            "this version knows indexes of the format " MAGIC
                            " only; what made this one may be newer");
        uint64_t n_frames = get_u32(data + 8), n_files = get_u32(data + 12);
        uint64_t strings_size = get_u64(data + 32);
        uint64_t fixed_size = HEADER_SIZE + n_frames * FRAME_SIZE + n_files * FILE_SIZE;

        if (n_frames < 1 || n_frames > FRAMES_MAX || n_files > FILES_MAX)
                return fail(reterr, -EBADMSG,
                            "index has %" PRIu64 " frames and %" PRIu64 " files, out of the limits",
                            n_frames, n_files);
        if (!is_zero(data + 40, HEADER_SIZE - 40))
                return fail(reterr, -EBADMSG, "index header has unknown fields");
        if (fixed_size > size || strings_size != size - fixed_size)
                return fail(reterr, -EBADMSG, "index is not as long as its header says");
        i->n_frames = n_frames;
        i->n_files = n_files;
        i->artifact_size = get_u64(data + 16);
        i->content_size = get_u64(data + 24);
        *ret = (Areas){
                .frames = data + HEADER_SIZE,
                .files = data + HEADER_SIZE + n_frames * FRAME_SIZE,
                .strings = data + fixed_size,
                .strings_size = strings_size,
        };
        return 0;
}

static int parse_frames(Index *i, const uint8_t *p, char **reterr)
{
        uint64_t offset = 0, content_size = 0;

        for (size_t n = 0; n < i->n_frames; n++, p += FRAME_SIZE) {
                Frame *f = &i->frames[n];
                *f = (Frame){
                        .offset = get_u64(p),
                        .size_bytes = get_u32(p + 8),
                        .content_size_bytes = get_u32(p + 12),
                };
                memcpy(f->sha256.bytes, p + 16, SHA256_SIZE);
                memcpy(f->content_sha256.bytes, p + 48, SHA256_SIZE);
                if (f->offset != offset)
                        return fail(reterr, -EBADMSG,
                                    "frame %zu of the index does not start where the one before "
                                    "ends",
                                    n);
                if (f->size_bytes < 1 || f->size_bytes > FRAME_SIZE_MAX ||
                    f->content_size_bytes < 1 || f->content_size_bytes > FRAME_CONTENT_MAX)
                        return fail(reterr, -EBADMSG,
                                    "frame %zu of the index has a size out of the limits", n);
                offset += f->size_bytes;
                content_size += f->content_size_bytes;
        }
        if (offset != i->artifact_size || content_size != i->content_size)
                return fail(reterr, -EBADMSG, "frames of the index are not as long as it says");
        if (i->content_size % BLOCK_SIZE != 0)
                return fail(reterr, -EBADMSG, "content of the index is not whole tar blocks");
        if (i->frames[i->n_frames - 1].content_size_bytes != END_SIZE)
                return fail(reterr, -EBADMSG,
                            "last frame of the index does not hold the end of the archive alone");
        return 0;
}

/* Moves `size` bytes from the string area, which must hold no NUL, to the pool. */
static char *take_string(Areas *a, char **pool, size_t size)
{
        if (size > a->strings_size || memchr(a->strings, '\0', size))
                return NULL;
        char *s = *pool;
        memcpy(s, a->strings, size);
        s[size] = '\0';
        *pool += size + 1;
        a->strings += size;
        a->strings_size -= size;
        return s;
}

/* The fixed fields of one file. */
static int parse_file_fields(IndexFile *f, const uint8_t *p)
{
        static const uint8_t zero[SHA256_SIZE] = {};

        f->mode = get_u16(p + 4);
        f->type = p[6];
        f->size_bytes = get_u64(p + 8);
        f->mtime_sec = get_u64(p + 16);
        f->first_frame = get_u32(p + 24);
        f->n_frames = get_u32(p + 28);
        memcpy(f->sha256.bytes, p + 32, SHA256_SIZE);
        if (p[7] != 0 || !is_zero(p + 64, 16) || f->mtime_sec >> 33 != 0)
                return -EBADMSG;
        if (f->type == FILE_REGULAR)
                return f->mode == 0644 || f->mode == 0755 ? 0 : -EBADMSG;
        if (f->type != FILE_DIRECTORY && f->type != FILE_SYMLINK)
                return -EBADMSG;
        if (f->mode != (f->type == FILE_DIRECTORY ? 0755 : 0777))
                return -EBADMSG;
        return f->size_bytes == 0 && memcmp(f->sha256.bytes, zero, SHA256_SIZE) == 0 ? 0 : -EBADMSG;
}

static int parse_file_strings(IndexFile *f, const uint8_t *p, Areas *a, char **pool)
{
        size_t link_size = get_u16(p + 2);

        f->path = take_string(a, pool, get_u16(p));
        if (!f->path || !tree_path_is_valid(f->path))
                return -EBADMSG;
        if (f->type != FILE_SYMLINK)
                return link_size == 0 ? 0 : -EBADMSG;
        f->link = take_string(a, pool, link_size);
        return f->link && tree_link_is_inside(f->path, f->link) ? 0 : -EBADMSG;
}

static int compare_path(const void *key, const void *member)
{
        const IndexFile *f = member;

        return strcmp(key, f->path);
}

static const IndexFile *find_before(const Index *i, size_t n_files, const char *path)
{
        return bsearch(path, i->files, n_files, sizeof(IndexFile), compare_path);
}

/* The length of the path's directory part, 0 if it is at the top. */
static size_t parent_size(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash ? (size_t) (slash - path) : 0;
}

/* Neighbours mostly share their directory, so the search is rarely needed. */
static bool parent_is_directory(const Index *i, size_t n)
{
        const char *path = i->files[n].path, *before = n > 0 ? i->files[n - 1].path : "";
        size_t size = parent_size(path);
        char parent[TREE_PATH_SIZE_MAX + 1];

        if (size == 0 || (parent_size(before) == size && memcmp(before, path, size) == 0))
                return true;
        memcpy(parent, path, size);
        parent[size] = '\0';
        const IndexFile *f = find_before(i, n, parent);
        return f && f->type == FILE_DIRECTORY;
}

static int check_file_place(const Index *i, size_t n, char **reterr)
{
        const IndexFile *f = &i->files[n], *before = n > 0 ? f - 1 : NULL;

        if (before && strcmp(before->path, f->path) >= 0)
                return fail(reterr, -EBADMSG, "'%s' is not in order in the index, or comes twice",
                            f->path);
        if (!parent_is_directory(i, n))
                return fail(reterr, -EBADMSG, "'%s' in the index is in no directory of it",
                            f->path);
        /* The last frame is the end of the archive and nobody's. */
        uint32_t first_min = before ? before->first_frame + before->n_frames - 1 : 0;
        uint32_t first_max = before ? first_min + 1 : 0;
        if (f->first_frame < first_min || f->first_frame > first_max || f->n_frames < 1 ||
            f->n_frames > i->n_frames - 1 || f->first_frame > i->n_frames - 1 - f->n_frames)
                return fail(reterr, -EBADMSG, "'%s' in the index lies in impossible frames",
                            f->path);
        return 0;
}

static int parse_file(Index *i, size_t n, const uint8_t *p, Areas *a, char **pool, char **reterr)
{
        IndexFile *f = &i->files[n];

        if (parse_file_fields(f, p) < 0)
                return fail(reterr, -EBADMSG,
                            "file %zu of the index has a type, mode, time or field that is not "
                            "allowed",
                            n);
        if (parse_file_strings(f, p, a, pool) < 0)
                return fail(reterr, -EBADMSG,
                            "file %zu of the index has a path or link that is not allowed", n);
        return check_file_place(i, n, reterr);
}

static int parse_files(Index *i, Areas *a, char **reterr)
{
        uint64_t room = i->content_size - END_SIZE;
        uint32_t end_frame = 0;
        char *pool = i->strings;

        for (size_t n = 0; n < i->n_files; n++) {
                int r = parse_file(i, n, a->files + n * FILE_SIZE, a, &pool, reterr);
                if (r < 0)
                        return r;
                const IndexFile *f = &i->files[n];
                if (room < BLOCK_SIZE || f->size_bytes > room - BLOCK_SIZE)
                        return fail(reterr, -EBADMSG,
                                    "'%s' in the index is larger than what its frames hold",
                                    f->path);
                room -= BLOCK_SIZE + f->size_bytes;
                end_frame = f->first_frame + f->n_frames;
        }
        if (end_frame != i->n_frames - 1)
                return fail(reterr, -EBADMSG, "index has frames that belong to no file");
        if (a->strings_size != 0)
                return fail(reterr, -EBADMSG, "index has strings that belong to no file");
        return 0;
}

int index_parse(const void *data, size_t size, Index **ret, char **reterr)
{
        _cleanup_(index_freep) Index *i = calloc(1, sizeof(Index));
        Areas a = {};
        int r;

        if (!i)
                return -ENOMEM;
        r = parse_header(data, size, i, &a, reterr);
        if (r < 0)
                return r;
        i->frames = calloc(i->n_frames, sizeof(Frame));
        i->files = calloc(i->n_files + 1, sizeof(IndexFile));
        i->strings = malloc(a.strings_size + 2 * i->n_files + 1);
        if (!i->frames || !i->files || !i->strings)
                return -ENOMEM;
        r = parse_frames(i, a.frames, reterr);
        if (r < 0)
                return r;
        r = parse_files(i, &a, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(i);
        return 0;
}

Index *index_free(Index *i)
{
        if (!i)
                return NULL;
        free(i->frames);
        free(i->files);
        free(i->strings);
        free(i);
        return NULL;
}

size_t index_n_frames(const Index *i)
{
        return i->n_frames;
}

const Frame *index_frame(const Index *i, size_t n)
{
        return &i->frames[n];
}

size_t index_n_files(const Index *i)
{
        return i->n_files;
}

const IndexFile *index_file(const Index *i, size_t n)
{
        return &i->files[n];
}

uint64_t index_artifact_size(const Index *i)
{
        return i->artifact_size;
}

uint64_t index_content_size(const Index *i)
{
        return i->content_size;
}

const IndexFile *index_find(const Index *i, const char *path)
{
        return find_before(i, i->n_files, path);
}

typedef struct Bytes {
        uint8_t *data;
        size_t size, allocated;
} Bytes;

/* Appends `size` zero bytes and returns them, NULL if memory is short. */
static uint8_t *bytes_extend(Bytes *b, size_t size)
{
        if (b->allocated - b->size < size) {
                size_t allocated = MAX(2 * b->allocated, b->size + size);
                uint8_t *larger = realloc(b->data, allocated);
                if (!larger)
                        return NULL;
                b->data = larger;
                b->allocated = allocated;
        }
        uint8_t *p = b->data + b->size;
        memset(p, 0, size);
        b->size += size;
        return p;
}

struct IndexWriter {
        Bytes frames, files, strings;
        uint64_t artifact_size, content_size;
};

int index_writer_new(IndexWriter **ret)
{
        IndexWriter *w = calloc(1, sizeof(IndexWriter));

        if (!w)
                return -ENOMEM;
        *ret = w;
        return 0;
}

IndexWriter *index_writer_free(IndexWriter *w)
{
        if (!w)
                return NULL;
        free(w->frames.data);
        free(w->files.data);
        free(w->strings.data);
        free(w);
        return NULL;
}

int index_writer_add_frame(IndexWriter *w, const Frame *f)
{
        uint8_t *p = bytes_extend(&w->frames, FRAME_SIZE);

        if (!p)
                return -ENOMEM;
        put_u64(p, f->offset);
        put_u32(p + 8, f->size_bytes);
        put_u32(p + 12, f->content_size_bytes);
        memcpy(p + 16, f->sha256.bytes, SHA256_SIZE);
        memcpy(p + 48, f->content_sha256.bytes, SHA256_SIZE);
        w->artifact_size += f->size_bytes;
        w->content_size += f->content_size_bytes;
        return 0;
}

int index_writer_add_file(IndexWriter *w, const IndexFile *f)
{
        size_t path_size = strlen(f->path), link_size = strlen(strempty(f->link));

        if (path_size > TREE_PATH_SIZE_MAX || link_size > TREE_PATH_SIZE_MAX)
                return -ENAMETOOLONG;
        uint8_t *strings = bytes_extend(&w->strings, path_size + link_size);
        uint8_t *p = bytes_extend(&w->files, FILE_SIZE);
        if (!strings || !p)
                return -ENOMEM;
        memcpy(strings, f->path, path_size);
        memcpy(strings + path_size, strempty(f->link), link_size);
        put_u16(p, path_size);
        put_u16(p + 2, link_size);
        put_u16(p + 4, f->mode);
        p[6] = f->type;
        put_u64(p + 8, f->size_bytes);
        put_u64(p + 16, f->mtime_sec);
        put_u32(p + 24, f->first_frame);
        put_u32(p + 28, f->n_frames);
        memcpy(p + 32, f->sha256.bytes, SHA256_SIZE);
        return 0;
}

static int format_bytes(const IndexWriter *w, Bytes *ret)
{
        uint8_t *p =
                bytes_extend(ret, HEADER_SIZE + w->frames.size + w->files.size + w->strings.size);

        if (!p)
                return -ENOMEM;
        memcpy(p, MAGIC, STRLEN(MAGIC));
        put_u32(p + 8, w->frames.size / FRAME_SIZE);
        put_u32(p + 12, w->files.size / FILE_SIZE);
        put_u64(p + 16, w->artifact_size);
        put_u64(p + 24, w->content_size);
        put_u64(p + 32, w->strings.size);
        const Bytes *const parts[] = { &w->frames, &w->files, &w->strings };
        p += HEADER_SIZE;
        for (size_t n = 0; n < ELEMENTSOF(parts); n++) {
                if (parts[n]->size > 0)
                        memcpy(p, parts[n]->data, parts[n]->size);
                p += parts[n]->size;
        }
        return 0;
}

int index_writer_format(const IndexWriter *w, void **ret, size_t *ret_size, char **reterr)
{
        _cleanup_(index_freep) Index *checked = NULL;
        Bytes b = {};
        int r = format_bytes(w, &b);

        if (r >= 0)
                r = index_parse(b.data, b.size, &checked, reterr);
        if (r < 0) {
                free(b.data);
                return r;
        }
        *ret = b.data;
        *ret_size = b.size;
        return 0;
}
