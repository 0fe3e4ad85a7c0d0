/* SPDX-License-Identifier: Apache-2.0 */
#include "s3-upload.h"

#include <inttypes.h>
#include <stdio.h>

#include "crc64.h"
#include "err.h"
#include "fd.h"
#include "xml-scan.h"

#define PART_SIZE_MIN      (UINT64_C(16) << 20)
#define PARTS_MAX          10000
#define LANES              4
#define ANSWER_SIZE_MAX    65536
#define COMPLETE_STALL_SEC 300
#define ABORT_STALL_SEC    5
#define BUFFER_SIZE        (128 * 1024)
#define CHECKSUM_ALGORITHM "CRC64NVME"
#define CHECKSUM_HEADER    "x-amz-checksum-crc64nvme"

/* One request whose end is waited for. */
typedef struct Step {
        S3Call *call;
        int result; /* negative before the end, too */
        char *err, *etag, *body;
        size_t body_size;
        Sha256 digest; /* of the body, if the request's sink makes one */
        bool finished, retried;
} Step;

typedef struct Part {
        char *etag;
        char checksum[CRC64_TEXT_SIZE];
} Part;

typedef struct Lane {
        Step step;
        HttpUpload upload;
        Sha256 sha256;
        size_t part; /* index */
        char number[8];
} Lane;

typedef struct Upload {
        S3 *s3;
        const StoreRequest *put;
        void *userdata;
        char *id;
        uint64_t part_size, done_bytes;
        size_t n_parts, next_part;
        Part *parts;
        uint64_t crc; /* of all parts before next_part */
        int stop_fd;
        Lane lanes[LANES];
} Upload;

static void step_reset(Step *step)
{
        (void) s3_cancel(step->call);
        free(step->err);
        free(step->etag);
        free(step->body);
        *step = (Step){};
}

static void upload_done(Upload *u)
{
        for (size_t i = 0; i < LANES; i++)
                step_reset(&u->lanes[i].step);
        for (size_t i = 0; u->parts && i < u->n_parts; i++)
                free(u->parts[i].etag);
        free(u->parts);
        free(u->id);
}

static void step_done(const S3Answer *a, void *userdata)
{
        Step *step = userdata;

        step->call = NULL;
        step->finished = true;
        step->result = a->result;
        step->retried = a->retried;
        step->err = a->err ? strdup(a->err) : NULL;
        step->etag = a->etag ? strdup(a->etag) : NULL;
        step->body = TAKE_PTR(a->sink->data);
        step->body_size = a->sink->size;
        if (a->result == 0 && a->sink->kind == SINK_HASH)
                step->result = sink_digest(a->sink, &step->digest);
}

static int step_start(Upload *u, Step *step, S3Request *request, char **reterr)
{
        step_reset(step);
        request->key = u->put->path;
        request->what = "upload";
        request->actions = "s3:PutObject";
        request->size_max = MAX(request->size_max, (uint64_t) ANSWER_SIZE_MAX);
        if (request->n_tries == 0)
                request->n_tries = u->put->n_tries;
        request->done = step_done;
        request->userdata = step;
        return s3_start(u->s3, request, &step->call, reterr);
}

static int step_result(Step *step, char **reterr)
{
        if (step->result < 0)
                return fail(reterr, step->result, "%s", err_text(step->result, step->err));
        return step->result;
}

/* -ECANCELED: it is to be given up. */
static int upload_step(Upload *u, char **reterr)
{
        int r = s3_step(u->s3, u->stop_fd, UINT64_MAX);

        return r > 0 ? fail(reterr, -ECANCELED, "the upload of '%s' was interrupted", u->put->path)
                     : r;
}

static int step_wait(Upload *u, S3Request *request, Step *step, char **reterr)
{
        int r = step_start(u, step, request, reterr);

        while (r >= 0 && !step->finished)
                r = upload_step(u, reterr);
        return r < 0 ? r : step_result(step, reterr);
}

static int take_id(const char *path, const char *text, void *userdata)
{
        char **id = userdata;

        if (!streq(path, "InitiateMultipartUploadResult/UploadId") || !*text)
                return 0;
        free(*id);
        *id = strdup(text);
        return *id ? 0 : -ENOMEM;
}

static int upload_begin(Upload *u, char **reterr)
{
        static const Sha256 nothing = {
                {0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4,
                 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b,
                 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55}
        };
        const char *type = u->put->content_type;
        S3Request request = {
                .method = "POST",
                .params = {{ "uploads", "" }                                            },
                .n_params = 1,
                .headers = { { "Content-Type", type ? type : "application/octet-stream" },
                           { "x-amz-checksum-algorithm", CHECKSUM_ALGORITHM },
                           { "x-amz-checksum-type", "FULL_OBJECT" } },
                .n_headers = 3,
                .upload = &(HttpUpload){ .data = ""                     },
                .body_sha256 = &nothing,
        };
        _cleanup_(step_reset) Step step = {};
        s3_add_encryption(u->s3, &request);
        int r = step_wait(u, &request, &step, reterr);

        if (r < 0)
                return r;
        if (r == 0)
                r = xml_scan(strempty(step.body), step.body_size, take_id, &u->id);
        if (r != 0 || !u->id)
                return fail(reterr, -EPROTO, "S3 gave no id for the upload of '%s'", u->put->path);
        return 0;
}

/* The digest that is signed, the part's checksum and the whole object's: in one reading. */
static int lane_digest(Upload *u, Lane *lane)
{
        const HttpUpload *part = &lane->upload;
        _cleanup_free_ uint8_t *buffer = malloc(BUFFER_SIZE);
        _cleanup_(hasher_freep) Hasher *hasher = NULL;
        uint64_t crc = 0;
        int r = buffer ? hasher_new(&hasher) : -ENOMEM;

        for (uint64_t n, done = 0; r >= 0 && done < part->size; done += n) {
                n = MIN(part->size - done, (uint64_t) BUFFER_SIZE);
                r = fd_pread_exactly(part->fd, buffer, n, part->offset + done);
                if (r >= 0)
                        r = hasher_add(hasher, buffer, n);
                crc = crc64(crc, buffer, n);
                u->crc = crc64(u->crc, buffer, n);
        }
        if (r >= 0)
                r = hasher_finish(hasher, &lane->sha256);
        return r < 0 ? r : crc64_to_text(crc, u->parts[lane->part].checksum);
}

static int lane_start(Upload *u, Lane *lane, char **reterr)
{
        const uint64_t offset = u->next_part * u->part_size;
        int r;

        lane->part = u->next_part++;
        lane->upload = (HttpUpload){
                .fd = u->put->body_fd,
                .offset = u->put->body_offset + offset,
                .size = MIN(u->part_size, u->put->body_size - offset),
        };
        r = lane_digest(u, lane);
        if (r < 0)
                return fail_errno(reterr, r, "can't read what is to be uploaded as '%s'",
                                  u->put->path);
        (void) snprintf(lane->number, sizeof(lane->number), "%u", (unsigned) lane->part + 1);
        S3Request request = {
                .method = "PUT",
                .params = {{ "partNumber", lane->number },                      { "uploadId", u->id }},
                .n_params = 2,
                .headers = { { CHECKSUM_HEADER, u->parts[lane->part].checksum },
                           { "x-amz-sdk-checksum-algorithm", CHECKSUM_ALGORITHM }                    },
                .n_headers = 2,
                .upload = &lane->upload,
                .body_sha256 = &lane->sha256,
        };
        return step_start(u, &lane->step, &request, reterr);
}

static int lane_finish(Upload *u, Lane *lane, char **reterr)
{
        int r = step_result(&lane->step, reterr);

        if (r < 0)
                return r;
        if (r > 0 || !lane->step.etag)
                return fail(reterr, -EPROTO, "S3 did not take part %s of the upload of '%s'",
                            lane->number, u->put->path);
        u->parts[lane->part].etag = TAKE_PTR(lane->step.etag);
        u->done_bytes += lane->upload.size;
        step_reset(&lane->step);
        if (u->put->progress)
                u->put->progress(u->done_bytes, u->put->body_size, u->userdata);
        return 0;
}

static int upload_parts(Upload *u, char **reterr)
{
        while (u->done_bytes < u->put->body_size) {
                for (size_t i = 0; i < LANES; i++) {
                        Lane *lane = &u->lanes[i];
                        int r = 0;
                        if (lane->step.finished)
                                r = lane_finish(u, lane, reterr);
                        if (r >= 0 && !lane->step.call && u->next_part < u->n_parts)
                                r = lane_start(u, lane, reterr);
                        if (r < 0)
                                return r;
                }
                if (u->done_bytes < u->put->body_size) {
                        int r = upload_step(u, reterr);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

/* An ETag is text that S3 gave: it goes back as it came, but never as markup. */
static void etag_to(FILE *f, const char *etag)
{
        for (; *etag; etag++)
                if (strchr("<>&", *etag))
                        (void) fprintf(f, "&#%d;", *etag);
                else
                        (void) fputc(*etag, f);
}

static int format_parts(const Upload *u, char **ret, size_t *ret_size)
{
        _cleanup_free_ char *text = NULL;
        FILE *f = open_memstream(&text, ret_size);

        if (!f)
                return -ENOMEM;
        (void) fprintf(f, "<CompleteMultipartUpload "
                          "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        for (size_t i = 0; i < u->n_parts; i++) {
                (void) fprintf(f, "<Part><PartNumber>%zu</PartNumber><ETag>", i + 1);
                etag_to(f, u->parts[i].etag);
                (void) fprintf(f, "</ETag><ChecksumCRC64NVME>%s</ChecksumCRC64NVME></Part>",
                               u->parts[i].checksum);
        }
        (void) fprintf(f, "</CompleteMultipartUpload>");
        bool broken = ferror(f);
        if (fclose(f) != 0 || broken)
                return -ENOMEM;
        *ret = TAKE_PTR(text);
        return 0;
}

/* Whether one of our tries put the object there though the last one ended with `result` (*reterr):
 * reads and compares it. */
static int upload_compare(Upload *u, int result, char **reterr)
{
        S3Request request = {
                .method = "GET",
                .size_max = u->put->body_size,
                .sink = { .kind = SINK_HASH },
        };
        _cleanup_(step_reset) Step step = {};
        _cleanup_free_ char *err = NULL;
        int r = step_wait(u, &request, &step, &err);

        if (r == -EFBIG)
                return STORE_CONFLICT;
        if (r == -ECANCELED)
                return fail(reterr, r, "%s", err_text(r, err));
        if (r != 0)
                return result;
        return sha256_equal(&step.digest, u->put->body_sha256) ? 0 : STORE_CONFLICT;
}

static int upload_complete(Upload *u, char **reterr)
{
        _cleanup_(step_reset) Step step = {};
        _cleanup_free_ char *body = NULL;
        char checksum[CRC64_TEXT_SIZE];
        HttpUpload upload = {};
        Sha256 sha256_of_body;
        int r = format_parts(u, &body, &upload.size);

        if (r >= 0)
                r = crc64_to_text(u->crc, checksum);
        if (r < 0)
                return r;
        upload.data = body;
        r = sha256(body, upload.size, &sha256_of_body);
        if (r < 0)
                return r;
        S3Request request = {
                .method = "POST",
                .params = {{ "uploadId", u->id }                   },
                .n_params = 1,
                .headers = { { "Content-Type", "application/xml" },
                           { "If-None-Match", "*" },
                           { CHECKSUM_HEADER, checksum },
                           { "x-amz-checksum-type", "FULL_OBJECT" } },
                .n_headers = 4,
                .upload = &upload,
                .body_sha256 = &sha256_of_body,
                .late_root = "CompleteMultipartUploadResult",
                .stall_sec = COMPLETE_STALL_SEC,
        };
        r = step_wait(u, &request, &step, reterr);
        /* After a try that worked unnoticed, the upload is gone or its object is there; and the
         * last one may be such a try. */
        bool unknown = r == -EBUSY || r == -EHOSTDOWN || r == -ETIMEDOUT;
        if (unknown || (step.retried && (r == STORE_CONFLICT || r == -ENOENT || r == -EPROTO)))
                return upload_compare(u, r, reterr);
        return r;
}

/* `hurry`: somebody waits for our end. */
static void upload_abort(Upload *u, bool hurry)
{
        S3Request request = {
                .method = "DELETE",
                .params = { { "uploadId", u->id } },
                .n_params = 1,
                .stall_sec = ABORT_STALL_SEC,
                .n_tries = hurry ? 1 : 0,
        };
        _cleanup_(step_reset) Step step = {};

        u->stop_fd = -1;
        for (size_t i = 0; i < LANES; i++)
                step_reset(&u->lanes[i].step);
        /* Nobody is left to be told: what failed before counts, and a lifecycle rule of the bucket
         * removes what stays. */
        if (step_wait(u, &request, &step, NULL) < 0)
                return;
}

uint64_t s3_upload_part_size(uint64_t size)
{
        return MAX(PART_SIZE_MIN, (size + PARTS_MAX - 1) / PARTS_MAX);
}

int s3_upload(S3 *s, const StoreRequest *put, void *userdata, int stop_fd, char **reterr)
{
        _cleanup_(upload_done)
                Upload u = { .s3 = s, .put = put, .userdata = userdata, .stop_fd = stop_fd };
        int r;

        u.part_size = s3_upload_part_size(put->body_size);
        u.n_parts = (put->body_size + u.part_size - 1) / u.part_size;
        u.parts = calloc(u.n_parts, sizeof(Part));
        if (!u.parts)
                return -ENOMEM;
        r = upload_begin(&u, reterr);
        /* Without its id it can't be aborted: if S3 began one, a lifecycle rule removes it. */
        if (r < 0)
                return r;
        r = upload_parts(&u, reterr);
        if (r >= 0)
                r = upload_complete(&u, reterr);
        if (r != 0)
                upload_abort(&u, r == -ECANCELED);
        return r;
}
