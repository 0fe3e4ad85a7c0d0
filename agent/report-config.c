/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <sys/stat.h>

#include "admin-text.h"
#include "err.h"
#include "fd.h"
#include "json-read.h"
#include "mask.h"
#include "report-names.h"
#include "report.h"
#include "table.h"
#include "time-text.h"

/* -- what the files say */

/* Where nothing but config.c judges: members that it does not know may hold anything. */
static int print_document(char *text, size_t size, FILE *f, char **reterr)
{
        static const char *const known[] = {
                "store",       "instance",   "region",    "zone",         "tags",    "poll",
                "interval",    "jitter",     "halt_wait", "report",       "ready",   "ready_limit",
                "trust",       "metadata",   "ssm",       "enabled",      "channel", "allow",
                "apps",        "app",        "root",      "manifest",     "units",   "unit_files",
                "activate",    "disk",       "budget",    "reserve",      "keep",    "hook_users",
                "update_lock", "provenance", "builders",  "repositories", "fetch",   "bandwidth",
                NULL
        };
        _cleanup_json_ cJSON *tree = NULL;
        _cleanup_free_ char *printed = NULL;
        int r = json_parse(text, size, &tree, reterr);

        if (r < 0)
                return r;
        r = mask_json_unknown(tree, known, "tags");
        if (r >= 0)
                r = mask_json(tree);
        if (r >= 0)
                r = text_format_json(tree, &printed);
        if (r < 0)
                return r;
        fputs(printed, f);
        return 0;
}

static void print_file(const char *path, FILE *f)
{
        _cleanup_free_ char *text = NULL, *err = NULL;
        size_t size;
        int r = file_read_at(AT_FDCWD, path, CONFIG_SIZE_MAX, &text, &size);

        fprintf(f, "%s:\n", path);
        if (r >= 0)
                r = print_document(text, size, f, &err);
        if (r < 0)
                fprintf(f, "(not shown: %s)\n", err_text(r, err));
}

static int is_drop_in(const struct dirent *entry)
{
        size_t size = strlen(entry->d_name);

        return entry->d_name[0] != '.' && size > STRLEN(".json") &&
               streq(entry->d_name + size - STRLEN(".json"), ".json");
}

static void print_drop_ins(const char *config_path, FILE *f)
{
        _cleanup_free_ char *dir = NULL;
        struct dirent **names = NULL;
        size_t size = strlen(config_path);
        int n;

        if (size > STRLEN(".json") && streq(config_path + size - STRLEN(".json"), ".json"))
                size -= STRLEN(".json");
        if (asprintf(&dir, "%.*s.d", (int) size, config_path) < 0)
                return;
        n = scandir(dir, &names, is_drop_in, alphasort);
        if (n < 0 && errno != ENOENT)
                fprintf(f, "%s: %s\n", dir, strerror(errno));
        for (int i = 0; i < n; i++) {
                _cleanup_free_ char *path = NULL;

                if (asprintf(&path, "%s/%s", dir, names[i]->d_name) >= 0)
                        print_file(path, f);
                free(names[i]);
        }
        free(names);
}

int report_config(const Report *r, FILE *f, char **reterr)
{
        (void) reterr;
        print_file(r->check.config_path, f);
        print_drop_ins(r->check.config_path, f);
        return 0;
}

/* -- what lies there */

static int add_entry(Table *t, int dir_fd, const char *name, const char *path)
{
        char mode[16], owner[32], size[24], at[TIME_TEXT_SIZE];
        struct stat st;

        if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return table_add(t, (const char *[]){ strerror(errno), "", "", "", path });
        (void) snprintf(mode, sizeof(mode), "%s %04o",
                        S_ISDIR(st.st_mode)   ? "dir"
                        : S_ISREG(st.st_mode) ? "file"
                        : S_ISLNK(st.st_mode) ? "link"
                                              : "?",
                        (unsigned) st.st_mode & 07777);
        (void) snprintf(owner, sizeof(owner), "%u:%u", (unsigned) st.st_uid, (unsigned) st.st_gid);
        (void) snprintf(size, sizeof(size), "%" PRIu64, (uint64_t) st.st_size);
        return table_add(t, (const char *[]){ mode, owner, size,
                                              time_format_utc(st.st_mtim.tv_sec, at), path });
}

static int add_child(Table *t, int dir_fd, const char *dir, const char *name)
{
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "%s/%s", dir, name) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        return add_entry(t, dir_fd, name, text_clean(path));
}

static int add_directory(Table *t, const char *path)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, path);
        _cleanup_(report_names_done) ReportNames names = {};
        int r = add_entry(t, AT_FDCWD, path, path), error;

        if (fd == -ENOENT || r < 0)
                return r;
        error = fd < 0 ? fd : report_names_read(fd, &names);
        for (size_t i = 0; r >= 0 && i < names.n; i++)
                r = add_child(t, fd, path, names.names[i]);
        if (r >= 0 && error < 0)
                r = table_add(t, (const char *[]){ strerror(-error), "", "", "", path });
        if (r >= 0 && names.more)
                r = table_add(t, (const char *[]){ "and more", "", "", "", path });
        return r;
}

int report_files(const Report *r, FILE *f, char **reterr)
{
        static const char *const titles[] = { "MODE", "OWNER", "BYTES", "CHANGED", "PATH", NULL };
        const Paths *p = &r->check.paths;
        _cleanup_free_ char *copy = strdup(r->check.config_path), *trust = NULL, *drop_ins = NULL;
        const char *config = copy ? dirname(copy) : NULL;
        _cleanup_(table_freep) Table *t = NULL;
        int error = table_new(titles, &t);

        err_set(&trust, "%s/trust", strempty(config));
        err_set(&drop_ins, "%s/agent.d", strempty(config));
        if (error >= 0 && (!config || !trust || !drop_ins))
                error = -ENOMEM;
        if (error >= 0) {
                const char *dirs[] = { config,        drop_ins,     trust,
                                       p->state_dir,  p->cache_dir, p->fetch_state_dir,
                                       p->runtime_dir };

                for (size_t i = 0; error >= 0 && i < ELEMENTSOF(dirs); i++)
                        error = add_directory(t, dirs[i]);
        }
        if (error < 0)
                return fail_errno(reterr, error, "some of it");
        table_print(t, f);
        return 0;
}

int report_keys(const Report *r, FILE *f, char **reterr)
{
        const Trust *t = r->check.trust;
        char at[TIME_TEXT_SIZE], id[SHA256_HEX_SIZE];

        if (!r->check.config)
                return fail(reterr, -ENODATA,
                            "where the trust root is, the configuration must say");
        if (!t)
                return fail(reterr, -ENODATA, "%s can't be read: see the findings",
                            r->check.config->trust_path);
        fprintf(f, "%s: version %" PRIu64 ", expires %s, %u must sign of\n",
                r->check.config->trust_path, trust_version(t),
                time_format_utc(trust_expires_sec(t), at), trust_manifest_threshold(t));
        for (size_t i = 0; i < trust_n_manifest_keys(t); i++) {
                const Key *key = trust_manifest_key(t, i);

                fprintf(f, "%s %s\n", sha256_to_hex(key_id(key), id),
                        key_type_to_string(key_type(key)));
        }
        return 0;
}
