/* SPDX-License-Identifier: Apache-2.0 */
#include <locale.h>
#include <signal.h>

#include "err.h"
#include "log.h"
#include "secret.h"
#include "verbs.h"

int main(int argc, char **argv)
{
        _cleanup_free_ char *err = NULL;
        int r;

        log_open("slipway-publish");

        /* Credentials are here, and the key that signs. */
        r = secret_process(&err);
        if (r < 0) {
                log_error("%s", err_text(r, err));
                return PUBLISH_FAILED;
        }

        /* Only for libarchive: it converts the UTF-8 names of pax and zip entries to the locale's
         * character set, and with this one they stay the bytes they are. Without it (no such
         * locale) names that are not ASCII are refused, not changed. */
        (void) setlocale(LC_CTYPE, "C.UTF-8");

        /* A connection that the store closes is an error of that call, not the end of us. */
        (void) signal(SIGPIPE, SIG_IGN);
        return verbs_run(argc, argv);
}
