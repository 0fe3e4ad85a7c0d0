/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "ec2.h"
#include "environment-file.h"
#include "err.h"
#include "kept-root.h"
#include "log.h"
#include "time-text.h"

#define CONFIG_AREA        "config"
#define KEYS_AREA          "keys"
#define ENVIRONMENT_FILE   "/etc/slipway/environment"
#define TRUST_WARN_DAYS    30
#define DAY_SEC            (UINT64_C(24) * 3600)
#define WRITABLE_BY_OTHERS 0022
#define READABLE_BY_OTHERS 0044

void check_done(Check *c)
{
        config_free(c->config);
        trust_free(c->trust);
        sd_bus_flush_close_unref(c->bus);
        paths_done(&c->paths);
        findings_done(&c->findings);
}

/* What decides about root's doings may be changed by root alone. */
static void check_owner(Check *c, const char *area, const char *path)
{
        struct stat st;

        if (stat(path, &st) < 0) {
                if (errno != ENOENT)
                        findings_add(&c->findings, FINDING_WARN, area, "%s can't be looked at: %s",
                                     path, strerror(errno));
                return;
        }
        if (st.st_uid != geteuid() && st.st_uid != 0) {
                findings_add(&c->findings, FINDING_FAIL, area,
                             "%s belongs to user %u, who may change what is deployed here", path,
                             (unsigned) st.st_uid);
                findings_mend(&c->findings, "chown root:root %s", path);
        }
        if (st.st_mode & WRITABLE_BY_OTHERS && !(st.st_mode & S_ISVTX)) {
                findings_add(&c->findings, FINDING_FAIL, area,
                             "%s (mode %04o) can be changed by others than its owner", path,
                             (unsigned) st.st_mode & 07777);
                findings_mend(&c->findings, "chmod go-w %s", path);
        }
}

static void check_owner_of_directory(Check *c, const char *area, const char *path)
{
        _cleanup_free_ char *copy = strdup(path);

        if (copy)
                check_owner(c, area, dirname(copy));
}

static void check_drop_ins(Check *c)
{
        _cleanup_free_ char *dir = NULL;
        size_t size = strlen(c->config_path);
        struct dirent *entry;
        DIR *d;

        if (size > STRLEN(".json") && streq(c->config_path + size - STRLEN(".json"), ".json"))
                size -= STRLEN(".json");
        if (asprintf(&dir, "%.*s.d", (int) size, c->config_path) < 0)
                return;
        check_owner(c, CONFIG_AREA, dir);
        d = opendir(dir);
        while (d && (entry = readdir(d))) {
                _cleanup_free_ char *path = NULL;

                if (entry->d_name[0] != '.' && asprintf(&path, "%s/%s", dir, entry->d_name) >= 0)
                        check_owner(c, CONFIG_AREA, path);
        }
        if (d)
                (void) closedir(d);
}

static void check_environment(Check *c)
{
        struct stat st;

        if (c->user || stat(ENVIRONMENT_FILE, &st) < 0)
                return;
        check_owner(c, CONFIG_AREA, ENVIRONMENT_FILE);
        if (st.st_mode & READABLE_BY_OTHERS) {
                findings_add(&c->findings, FINDING_WARN, CONFIG_AREA,
                             ENVIRONMENT_FILE " (mode %04o) may hold credentials, and others can "
                                              "read it",
                             (unsigned) st.st_mode & 07777);
                findings_mend(&c->findings, "chmod 0600 " ENVIRONMENT_FILE);
        }
}

/* As slipwayd does it: with what the metadata says, where the files leave something open. */
static int load_config(Check *c, char **reterr)
{
        _cleanup_(config_source_freep) ConfigSource *source = NULL;
        _cleanup_(instance_freep) Instance *instance = NULL;
        bool optional = ec2_has_metadata() && streq(c->config_path, c->paths.config_file);
        const Config *settings;
        int r = config_read(c->config_path, optional, &source, reterr);

        if (r < 0)
                return r;
        settings = config_source_settings(source);
        r = config_resolve(source, NULL, &c->config, reterr);
        if (!ec2_has_metadata() || (r < 0 && r != -ENODATA) ||
            (r >= 0 && settings->instance && settings->has_tags))
                return r;
        if (check_instance(c, r < 0, &instance) < 0)
                return r;
        c->config = config_free(c->config);
        return config_resolve(source, instance, &c->config, reterr);
}

void check_config(Check *c)
{
        _cleanup_free_ char *err = NULL;
        int r;

        if (!c->user && environment_file_load(ENVIRONMENT_FILE, NULL) < 0)
                log_debug("What is wrong with " ENVIRONMENT_FILE " is said by check_store()");
        r = load_config(c, &err);
        if (r < 0) {
                findings_add(&c->findings, FINDING_FAIL, CONFIG_AREA, "%s", err_text(r, err));
                findings_mend(&c->findings, r == -ENOENT ? "write it: man slipway-agent.json"
                                            : r == -ENODATA
                                                    ? "add it, or the tag: man slipway-agent.json"
                                                    : "correct it: man slipway-agent.json");
        } else
                findings_add(&c->findings, FINDING_OK, CONFIG_AREA,
                             "%s%s: %zu application%s, store %s", c->config_path,
                             access(c->config_path, F_OK) < 0
                                     ? " (not there: the instance's tags stand for it)"
                                     : "",
                             c->config->n_apps, c->config->n_apps == 1 ? "" : "s",
                             c->config->store);
        check_owner_of_directory(c, CONFIG_AREA, c->config_path);
        check_owner(c, CONFIG_AREA, c->config_path);
        check_drop_ins(c);
        check_environment(c);
}

static void check_expiry(Check *c)
{
        uint64_t expires_sec = trust_expires_sec(c->trust), version = trust_version(c->trust);
        char at[TIME_TEXT_SIZE];

        (void) time_format_utc(expires_sec, at);
        if (expires_sec <= c->now_sec)
                findings_add(&c->findings, FINDING_FAIL, KEYS_AREA,
                             "the trust root (version %" PRIu64 ") expired at %s: no manifest is "
                             "taken any more",
                             version, at);
        else if (expires_sec < c->now_sec + TRUST_WARN_DAYS * DAY_SEC)
                findings_add(&c->findings, FINDING_WARN, KEYS_AREA,
                             "the trust root (version %" PRIu64 ") expires at %s, in %" PRIu64
                             " days: then no manifest is taken any more",
                             version, at, (expires_sec - c->now_sec) / DAY_SEC);
        else {
                findings_add(&c->findings, FINDING_OK, KEYS_AREA,
                             "trust root: version %" PRIu64
                             ", %u of %zu keys must sign, expires at "
                             "%s",
                             version, trust_manifest_threshold(c->trust),
                             trust_n_manifest_keys(c->trust), at);
                return;
        }
        findings_mend(&c->findings, "publish a next one (slipway-publish trust edit --expires), or "
                                    "check this host's clock");
}

void check_keys(Check *c)
{
        const char *path = c->config ? c->config->trust_path : NULL;
        _cleanup_free_ char *err = NULL, *trouble = NULL;
        _cleanup_(envelope_freep) Envelope *unkept = NULL;
        int r;

        if (!path)
                return;
        check_owner_of_directory(c, KEYS_AREA, path);
        check_owner(c, KEYS_AREA, path);
        r = kept_root_load(path, c->paths.state_dir, &c->trust, &unkept, &trouble, &err);
        if (trouble) {
                findings_add(&c->findings, FINDING_WARN, KEYS_AREA, "%s", trouble);
                findings_mend(&c->findings, "remove it; slipway poll asks for newer ones");
        }
        if (r < 0) {
                findings_add(&c->findings, FINDING_FAIL, KEYS_AREA, "%s", err_text(r, err));
                if (r != -ENOENT)
                        findings_mend(&c->findings, "install it again, from slipway-publish trust "
                                                    "init");
                return;
        }
        check_expiry(c);
}
