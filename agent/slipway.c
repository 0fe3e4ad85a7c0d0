/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "admin.h"
#include "macro.h"
#include "slipwayd.h"

/* One program of two names, as systemd-udevd and udevadm are: the command does what the service
 * does when that one is dead, so the two were the same code twice. */
int main(int argc, char *argv[])
{
        return streq(program_invocation_short_name, "slipwayd") ? slipwayd_main(argc, argv)
                                                                : admin_main(argc, argv);
}
