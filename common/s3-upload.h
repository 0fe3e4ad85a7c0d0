/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "s3.h"

/*
 * A large object in parts, several at a time. A part that fails is tried again by itself; an upload
 * that is given up is aborted, so that its parts cost nothing. S3 checks the CRC of each part and
 * of the whole object: of an upload in parts it keeps a SHA-256 of the parts' digests only. Source:
 * Amazon S3 User Guide, "Uploading and copying objects using multipart upload"; parts are at least
 * 5 MiB, at most 5 GiB and at most 10000.
 */

#define S3_UPLOAD_SIZE_MIN (UINT64_C(64) << 20) /* smaller ones are better off with one PUT */

/* How large the parts of an object of this size are, but for the last one: 16 MiB, or as much more
 * as keeps them within what S3 takes. */
uint64_t s3_upload_part_size(uint64_t size);

/* Uploads put->body_size bytes of put->body_fd, whose digest is put->body_sha256. STORE_CONFLICT:
 * another object is there already. (If an answer got lost, what is there is read and compared.)
 * `stop_fd`: see store_upload(). */
_must_check_ int s3_upload(S3 *s, const StoreRequest *put, void *userdata, int stop_fd,
                           char **reterr);
