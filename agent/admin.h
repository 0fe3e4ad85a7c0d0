/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* `slipway`, the administrator's command: see slipway(1). Results go to stdout, the rest to stderr.
 */

/* What it exits with. */
enum {
        ADMIN_OK = 0,
        ADMIN_FAILED = 1,
        ADMIN_USAGE = 2,
        ADMIN_NO_SUCH = 3,     /* no such application or release here */
        ADMIN_NOT_HELD = 4,    /* a release was made live, but did not hold */
        ADMIN_BUSY = 5,        /* another deployment or rollback of this application is under way */
        ADMIN_DRIFT = 8,       /* of verify: the release is not as it was signed */
        ADMIN_NOT_DUE = 7,     /* of due: there is no deployment to come */
        ADMIN_NOT_RUNNING = 6, /* this needs slipwayd, which is not running or does not answer */
};

int admin_main(int argc, char **argv);
