/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "json-read.h"
#include "ssm-mds-answer.h"
#include "utf8.h"

static void check_text(const char *s, size_t size_max)
{
        const size_t size = strlen(s);

        assert(size > 0 && size <= size_max);
        for (size_t i = 0, n; i < size; i += n) {
                n = utf8_sequence_size((const unsigned char *) s + i, size - i);
                assert(n > 0);
        }
}

static void on_message(const SsmMessage *m, void *userdata)
{
        (void) userdata;
        check_text(m->id, JSON_STRING_SIZE_MAX);
        check_text(m->topic, JSON_STRING_SIZE_MAX);
        check_text(m->destination, JSON_STRING_SIZE_MAX);
        check_text(m->created, JSON_STRING_SIZE_MAX);
        check_text(m->payload, SSM_MESSAGE_SIZE_MAX);
        if (m->digest)
                check_text(m->digest, JSON_STRING_SIZE_MAX);
        assert(!m->frame_id);
}

static void on_unfit(const char *id, const char *why, void *userdata)
{
        (void) userdata;
        assert(*why);
        if (id)
                check_text(id, JSON_STRING_SIZE_MAX);
}

/* A message keeps what its header promises, and what is refused has a reason. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const SsmMdsAnswerCallbacks callbacks = { .message = on_message, .unfit = on_unfit };
        _cleanup_free_ char *copy = fuzz_text(data, size), *err = NULL;

        assert(ssm_mds_answer_read(copy, size, &callbacks, NULL, &err) >= 0 || err);
        return 0;
}
