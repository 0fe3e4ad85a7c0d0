/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "fuzz.h"
#include "json-read.h"
#include "ssm-job.h"

/* What the message gateway brings: whatever has an id can be acknowledged by it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *text = fuzz_text(data, size), *err = NULL, *ack = NULL,
                            *ack_err = NULL;
        _cleanup_(ssm_job_done) SsmJob job = {};
        _cleanup_json_ cJSON *json = NULL;
        char id[UUID_TEXT_SIZE];
        uint8_t bytes[UUID_SIZE];
        int r = ssm_job_parse(text, size, &job, &err);

        assert(r == 0 || (r == -EBADMSG && err));
        if (r == 0)
                assert(*job.id && *job.topic && job.content && job.destination);
        if (job.id) {
                const SsmMessage m = { .id = job.id, .frame_id = "f", .created = "c" };
                assert(strlen(job.id) <= SSM_JOB_ID_SIZE_MAX);
                assert(ssm_job_format_ack(&m, SSM_RECEIPT_MALFORMED, &ack) == 0);
                assert(json_parse(ack, strlen(ack), &json, NULL) == 0);
        }
        r = ssm_job_parse_reply_ack(text, size, id, &ack_err);
        assert(r == 0 ? uuid_parse(id, bytes) == 0 : r == -EBADMSG && ack_err);
        return 0;
}
