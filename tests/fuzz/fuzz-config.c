/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "config.h"
#include "fd.h"
#include "fuzz.h"
#include "name.h"

/* What is taken has nothing left to fill in, and only paths of the right form. */
static void check_app(const AppConfig *a)
{
        assert(name_is_valid(a->app) && name_is_valid(a->channel));
        assert(a->root[0] == '/' && tree_path_is_valid(a->root + 1));
        assert(store_path_is_valid(a->manifest_path));
        for (size_t i = 0; i < a->n_units; i++)
                assert(!strpbrk(a->units[i], "{}/"));
        (void) config_allows_unit(a, "web.service");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_close_ int fd = memfd_sealed("config", data, size);
        _cleanup_(config_freep) Config *c = NULL;
        _cleanup_free_ char *err = NULL;
        char path[64];

        assert(fd >= 0);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (config_load(path, &c, &err) < 0) {
                assert(err && !c);
                return 0;
        }
        for (size_t i = 0; i < c->n_apps; i++)
                check_app(&c->apps[i]);
        return 0;
}
