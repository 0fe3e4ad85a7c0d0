/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <time.h>

#include "retry.h"
#include "state.h"

struct Retry {
        RetryWait wait;
        uint64_t at_usec, delay_sec;
        char *reason;
};

int retry_new(Retry **ret)
{
        Retry *r = calloc(1, sizeof(Retry));

        if (!r)
                return -ENOMEM;
        *ret = r;
        return 0;
}

Retry *retry_free(Retry *r)
{
        if (!r)
                return NULL;
        free(r->reason);
        free(r);
        return NULL;
}

void retry_plan(Retry *r, uint64_t deployment, int error, const char *reason, uint64_t now_usec)
{
        if (r->wait.deployment != deployment)
                r->delay_sec = 0;
        r->delay_sec = CLAMP(r->delay_sec * 2, RETRY_MIN_SEC, RETRY_MAX_SEC);
        r->at_usec = now_usec + r->delay_sec * 1000000;
        r->wait = (RetryWait){ .deployment = deployment,
                               .at_sec = (uint64_t) time(NULL) + r->delay_sec,
                               .put_off = error == -EAGAIN };
        if (state_set(&r->reason, strempty(reason)) < 0)
                retry_forget(r);
        r->wait.reason = r->reason;
}

void retry_forget(Retry *r)
{
        r->wait.deployment = 0;
}

RetryWait retry_wait(const Retry *r, uint64_t now_usec)
{
        RetryWait wait = r->wait;

        if (now_usec >= r->at_usec)
                wait.deployment = 0;
        return wait;
}
