/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "fuzz.h"
#include "ssm-order.h"

#define INSTANCE "i-0123456789abcdef0"
#define COMMAND  "d33816ed-cfc8-47f1-9f7f-153dcebcfd87"
#define NOW      1795356349

static void check_request(const SsmRequest *r, int result)
{
        _cleanup_(remote_order_done) RemoteOrder again = {};
        _cleanup_free_ char *line = NULL;

        assert(order_command_is_valid(r->command));
        assert(r->n_steps <= SSM_STEPS_MAX);
        for (size_t i = 0; i < r->n_steps; i++)
                assert(*r->steps[i].name && *r->steps[i].plugin);
        if (result < 0 || r->kind == SSM_CANCEL) {
                assert(!r->order.command);
                return;
        }
        assert(streq(r->command, COMMAND) && streq(r->document, SSM_DOCUMENT));
        assert(remote_order_pack(&r->order, &line) == 0);
        assert(remote_order_unpack(line, &again, NULL) == 0);
}

/* What becomes an order is one that slipwayd takes; what does not has a reason. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const char *const topics[] = { "aws.ssm.sendCommand.x", "aws.ssm.cancelCommand.x" };
        _cleanup_free_ char *payload = fuzz_text(data, size);
        SsmMessage m = { .id = "aws.ssm." COMMAND "." INSTANCE,
                         .destination = INSTANCE,
                         .created = "2026-11-22T14:05:49.509Z",
                         .payload = payload };

        for (size_t i = 0; i < ELEMENTSOF(topics); i++) {
                _cleanup_(ssm_request_done) SsmRequest r = {};
                _cleanup_free_ char *err = NULL;

                m.topic = topics[i];
                int result = ssm_request_parse(&m, INSTANCE, NOW, &r, &err);
                assert(result == 0 || result == -EPERM || result == -EBADMSG);
                assert(result == 0 ? !err : !!err);
                if (result == -EBADMSG)
                        assert(!r.command && !r.steps);
                else
                        check_request(&r, result);
        }
        return 0;
}
