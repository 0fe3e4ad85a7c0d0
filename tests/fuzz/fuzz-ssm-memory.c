/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "fuzz.h"
#include "ssm-memory.h"

/* What is taken has what answers are made of; what is refused has a reason and nothing else. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *text = fuzz_text(data, size), *reply = NULL, *err = NULL;
        _cleanup_(ssm_record_done) SsmRecord record = {};
        _cleanup_(remote_order_done) RemoteOrder order = {};
        int r = ssm_record_parse(text, size, &record, &reply, &err);

        if (r < 0) {
                assert((r == -EBADMSG || r == -EPROTONOSUPPORT) && err);
                assert(!record.command && !reply);
                return 0;
        }
        assert(order_command_is_valid(record.command) && record.message && record.document);
        assert(!record.reply && !reply == !record.reply_id);
        assert(!record.reply_id || order_command_is_valid(record.reply_id));
        assert(record.n_steps <= SSM_STEPS_MAX);
        assert(!record.order || remote_order_unpack(record.order, &order, NULL) == 0);
        return 0;
}
