/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "breakout.h"
#include "fetch.h"
#include "macro.h"
#include "prober.h"

/* What slipway-fetch does first when it is confined, for the store and for probes. */
int __real_fetch_step(Fetch *f);
int __real_prober_step(Prober *p);
int __wrap_fetch_step(Fetch *f);
int __wrap_prober_step(Prober *p);

static void try_once(const char *phase)
{
        static bool tried;

        if (tried)
                return;
        tried = true;
        breakout_prepare();
        breakout_try(phase, -EBADF);
}

int __wrap_fetch_step(Fetch *f)
{
        try_once("fetch");
        return __real_fetch_step(f);
}

int __wrap_prober_step(Prober *p)
{
        try_once("probe");
        return __real_prober_step(p);
}
