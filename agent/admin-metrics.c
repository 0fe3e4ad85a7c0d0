/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/timex.h>
#include <time.h>

#include "admin-files.h"
#include "admin-output.h"
#include "admin-verb.h"
#include "admin.h"
#include "config.h"
#include "err.h"
#include "log.h"
#include "metrics.h"
#include "paths.h"
#include "trust.h"

typedef struct Metrics {
        Known known;
        MetricsContext context;
} Metrics;

static void metrics_done(Metrics *m)
{
        known_done(&m->known);
}

static int clock_synchronized(void)
{
        struct timex t = {};
        int state = adjtimex(&t);

        return state < 0 ? state : state != TIME_ERROR && !(t.status & STA_UNSYNC);
}

/* 0: it can't be read. */
static uint64_t trust_expiry(const Paths *paths)
{
        const char *path = arg_config ? arg_config : paths->config_file;
        _cleanup_(config_source_freep) ConfigSource *source = NULL;
        _cleanup_(trust_freep) Trust *trust = NULL;
        _cleanup_free_ char *err = NULL;
        int r = config_read(path, true, &source, &err);

        if (r >= 0)
                r = trust_load(config_source_settings(source)->trust_path, &trust, &err);
        if (r < 0)
                log_debug("When the trust root expires is not known: %s", err_text(r, err));
        return r < 0 ? 0 : trust_expires_sec(trust);
}

/* Nothing of this is an error: that slipwayd does not answer is what is to be told. */
static void ask(Metrics *m)
{
        _cleanup_free_ char *err = NULL, *file_err = NULL;
        _cleanup_(paths_done) Paths paths = {};
        int r = known_ask(&m->known, &err);

        m->context = (MetricsContext){ .now_sec = (uint64_t) time(NULL),
                                       .up = r >= 0,
                                       .clock_synchronized = clock_synchronized() };
        if (paths_init(arg_user, &paths, NULL) < 0)
                return;
        m->context.trust_expires_sec = trust_expiry(&paths);
        if (r >= 0)
                return;
        log_debug("%s", err_text(r, err));
        r = admin_files_describe(paths.state_dir, &m->known.agent, &file_err);
        if (r < 0)
                log_debug("%s", err_text(r, file_err));
}

static int write_metrics(FILE *f, void *userdata)
{
        const Metrics *m = userdata;

        metrics_write(m->known.agent, &m->context, f);
        return 0;
}

int verb_metrics(char **args)
{
        _cleanup_(metrics_done) Metrics m = {};

        (void) args;
        ask(&m);
        return admin_output(write_metrics, &m, 0644);
}
