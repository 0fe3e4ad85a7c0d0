/* SPDX-License-Identifier: Apache-2.0 */
#include <locale.h>
#include <signal.h>

#include "log.h"
#include "verbs.h"

int main(int argc, char **argv)
{
        log_open("slipway-publish");

        /* Only for libarchive: it converts the UTF-8 names of pax and zip entries to the locale's
         * character set, and with this one they stay the bytes they are. Without it (no such
         * locale) names that are not ASCII are refused, not changed. */
        (void) setlocale(LC_CTYPE, "C.UTF-8");

        /* A connection that the store closes is an error of that call, not the end of us. */
        (void) signal(SIGPIPE, SIG_IGN);
        return verbs_run(argc, argv);
}
