/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "err.h"
#include "paths.h"

void paths_done(Paths *p)
{
        free(p->config_file);
        free(p->state_dir);
        free(p->fetch_state_dir);
        free(p->cache_dir);
        free(p->runtime_dir);
        free(p->unit_dir);
        *p = (Paths){};
}

/* $variable<suffix>, or $HOME<fallback><suffix>. */
static int user_path(const char *variable, const char *fallback, const char *suffix, char **ret,
                     char **reterr)
{
        const char *base = getenv(variable), *home = getenv("HOME");
        char *path = NULL;
        int n;

        if (base && base[0] == '/')
                n = asprintf(&path, "%s%s", base, suffix);
        else if (fallback && home && home[0] == '/')
                n = asprintf(&path, "%s%s%s", home, fallback, suffix);
        else
                return fail(reterr, -ENXIO, "%s is not set%s", variable,
                            fallback ? ", nor is HOME" : "");
        if (n < 0)
                return -ENOMEM;
        *ret = path;
        return 0;
}

static int init_user(Paths *p, char **reterr)
{
        int r = user_path("XDG_CONFIG_HOME", "/.config", "/slipway/agent.json", &p->config_file,
                          reterr);

        if (r >= 0)
                r = user_path("XDG_STATE_HOME", "/.local/state", "/slipway", &p->state_dir, reterr);
        if (r >= 0)
                r = user_path("XDG_STATE_HOME", "/.local/state", "/slipway-fetch",
                              &p->fetch_state_dir, reterr);
        if (r >= 0)
                r = user_path("XDG_CACHE_HOME", "/.cache", "/slipway", &p->cache_dir, reterr);
        if (r >= 0)
                r = user_path("XDG_RUNTIME_DIR", NULL, "/slipway", &p->runtime_dir, reterr);
        if (r >= 0)
                r = user_path("XDG_CONFIG_HOME", "/.config", "/systemd/user", &p->unit_dir, reterr);
        return r;
}

static int init_system(Paths *p)
{
        p->config_file = strdup("/etc/slipway/agent.json");
        p->state_dir = strdup("/var/lib/slipway");
        p->fetch_state_dir = strdup("/var/lib/slipway-fetch");
        p->cache_dir = strdup("/var/cache/slipway");
        p->runtime_dir = strdup("/run/slipway");
        p->unit_dir = strdup("/etc/systemd/system");
        return p->config_file && p->state_dir && p->fetch_state_dir && p->cache_dir &&
                               p->runtime_dir && p->unit_dir
                       ? 0
                       : -ENOMEM;
}

int paths_init(bool user, Paths *ret, char **reterr)
{
        _cleanup_(paths_done) Paths p = {};
        int r = user ? init_user(&p, reterr) : init_system(&p);

        if (r < 0)
                return r;
        *ret = p;
        p = (Paths){};
        return 0;
}
