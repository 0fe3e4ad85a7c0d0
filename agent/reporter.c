/* SPDX-License-Identifier: Apache-2.0 */
#include "reporter.h"
#include "digest.h"
#include "err.h"
#include "fd.h"
#include "json-print.h"
#include "json-read.h"
#include "log.h"

#define STATUS_SIZE_MAX (64 * 1024)

struct Reporter {
        Fetcher *fetcher;
        char *path;
        FetchRequest *request;
        Sha256 sent, under_way; /* digests of what the store has, and will have */
        bool failing;
        void (*idle)(bool well, void *userdata);
        void *userdata;
};

int reporter_new(Fetcher *fetcher, const char *path, Reporter **ret)
{
        Reporter *r = calloc(1, sizeof(Reporter));

        if (!r)
                return -ENOMEM;
        *r = (Reporter){ .fetcher = fetcher, .path = strdup(path) };
        if (!r->path) {
                free(r);
                return -ENOMEM;
        }
        *ret = r;
        return 0;
}

Reporter *reporter_free(Reporter *r)
{
        if (!r)
                return NULL;
        fetch_request_free(r->request);
        free(r->path);
        free(r);
        return NULL;
}

bool reporter_is_busy(const Reporter *r)
{
        return r->request;
}

void reporter_on_idle(Reporter *r, void (*idle)(bool well, void *userdata), void *userdata)
{
        r->idle = idle;
        r->userdata = userdata;
}

static void tell_failure(Reporter *r, const char *why)
{
        if (!r->failing)
                log_warning("Can't write the status object %s: %s; goes on trying", r->path, why);
        r->failing = true;
}

static void on_reply(const Message *m, int *fd, void *userdata)
{
        Reporter *r = userdata;

        (void) fd;
        if (m->type != 0 && m->type != MESSAGE_PUT_DONE)
                return;
        r->request = fetch_request_free(r->request);
        if (m->result == 0 && m->type == MESSAGE_PUT_DONE) {
                r->sent = r->under_way;
                r->failing = false;
        } else
                tell_failure(r, m->text[0] ? m->text : strerror(abs(m->result)));
        if (r->idle)
                r->idle(!r->failing, r->userdata);
}

int reporter_send(Reporter *r, const cJSON *status)
{
        Message m = { .type = MESSAGE_PUT };
        _cleanup_free_ char *text = json_print(status, false);
        _cleanup_close_ int fd = -EBADF;
        Sha256 digest;
        int k;

        if (!text)
                return -ENOMEM;
        if (strlen(text) > STATUS_SIZE_MAX) {
                tell_failure(r, "it would have more than 64 KiB, which is the limit");
                return 0;
        }
        k = sha256(text, strlen(text), &digest);
        if (k < 0)
                return k;
        if (r->request || sha256_equal(&digest, &r->sent))
                return 0;
        fd = memfd_sealed("slipway-status", text, strlen(text));
        if (fd < 0)
                return fd;
        (void) stpncpy(m.text, r->path, MESSAGE_TEXT_MAX);
        r->under_way = digest;
        return fetcher_request(r->fetcher, &m, fd, on_reply, r, &r->request);
}
