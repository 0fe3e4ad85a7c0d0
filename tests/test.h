/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What every unit test includes: cmocka in the order it wants its headers, and a directory to work
 * in. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* cmocka has a macro fail() of its own; tests mean that one. */
#include "err.h"
#undef fail

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "fd.h"
#include "macro.h"

/* cmocka setup and teardown: *state becomes the path of a new empty directory, removed at the end.
 */
static inline int test_dir_setup(void **state)
{
        char template[] = "/tmp/slipway-test.XXXXXX";

        if (!mkdtemp(template))
                return -1;
        *state = strdup(template);
        return *state ? 0 : -1;
}

static inline int test_dir_teardown(void **state)
{
        int r = remove_tree_at(AT_FDCWD, *state);

        free(*state);
        return r;
}

#define test_in_dir(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_dir_teardown)
