/* SPDX-License-Identifier: Apache-2.0 */
#include "admin.h"

int main(int argc, char **argv)
{
        return admin_main(argc, argv);
}
