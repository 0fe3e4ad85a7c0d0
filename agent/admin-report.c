/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "admin-files.h"
#include "admin-output.h"
#include "admin-text.h"
#include "admin-verb.h"
#include "admin.h"
#include "err.h"
#include "fd.h"
#include "json-read.h"
#include "log.h"
#include "mask.h"
#include "report.h"
#include "time-text.h"

static const struct {
        const char *title;
        report_part_t write;
} parts[] = {
        {"host",           report_host    },
        { "clock",         report_clock   },
        { "findings",      report_findings},
        { "status",        report_status  },
        { "units",         report_units   },
        { "configuration", report_config  },
        { "files",         report_files   },
        { "trust root",    report_keys    },
        { "disk",          report_disk    },
        { "releases",      report_releases},
        { "journal",       report_journal },
        { "state",         report_state   },
};

void report_done(Report *r)
{
        check_done(&r->check);
        cJSON_Delete(r->agent);
        free(r->agent_trouble);
}

/* The files alone, and what was heard of the instance before: nobody is asked. */
static void read_config(Report *r)
{
        Check *c = &r->check;
        _cleanup_(config_source_freep) ConfigSource *source = NULL;
        _cleanup_(instance_freep) Instance *instance = NULL;
        _cleanup_close_ int dir_fd = dir_open_at(AT_FDCWD, c->paths.state_dir);
        _cleanup_free_ char *err = NULL;
        int error = config_read(c->config_path, false, &source, &err);

        if (dir_fd >= 0 && instance_load(dir_fd, &instance) < 0)
                instance = NULL;
        if (error >= 0)
                error = config_resolve(source, instance, &c->config, &err);
        if (error < 0)
                findings_add(&c->findings, FINDING_FAIL, "config", "%s", err_text(error, err));
}

static void ask_agent(Report *r)
{
        _cleanup_known_ Known k = {};
        _cleanup_free_ char *err = NULL, *file_err = NULL;
        int error = known_ask(&k, &err);

        if (error >= 0) {
                r->agent = TAKE_PTR(k.agent);
                return;
        }
        r->offline = true;
        err_set(&r->agent_trouble, "%s", err_text(error, err));
        error = admin_files_describe(r->check.paths.state_dir, &r->agent, &file_err);
        if (error < 0)
                fail_prefix(&file_err, error, "%s; its state files can't be read either",
                            strempty(r->agent_trouble));
        if (error < 0) {
                free(r->agent_trouble);
                r->agent_trouble = TAKE_PTR(file_err);
        }
}

static void examine(Report *r)
{
        read_config(r);
        check_keys(&r->check);
        check_clock(&r->check);
        check_files(&r->check);
        check_units(&r->check);
        ask_agent(r);
}

/* A part goes through the mask as a whole: a secret may take several lines. */
static int write_part(const Report *r, report_part_t write, FILE *f)
{
        _cleanup_free_ char *text = NULL, *err = NULL;
        size_t size = 0;
        FILE *m = open_memstream(&text, &size);
        int error;

        if (!m)
                return -ENOMEM;
        error = write(r, m, &err);
        if (error < 0)
                fprintf(m, "(not to be had: %s)\n", err_text(error, err));
        if (fclose(m) != 0)
                return -ENOMEM;
        if (size > REPORT_PART_SIZE_MAX) {
                mask_cut(text, REPORT_PART_SIZE_MAX);
                mask_text(text, f);
                fputs("(what follows is left out, as it is long)\n", f);
        } else
                mask_text(text, f);
        return 0;
}

static int write_report(FILE *f, void *userdata)
{
        const Report *r = userdata;
        char now[TIME_TEXT_SIZE];
        int error = 0;

        fprintf(f, "Slipway's report on this host, made at %s%s\n",
                time_format_utc(r->check.now_sec, now),
                geteuid() == 0 || r->check.user
                        ? ""
                        : ", not by root: what is for root alone is missing");
        for (size_t i = 0; error >= 0 && i < ELEMENTSOF(parts); i++) {
                fprintf(f, "\n== %s ==\n\n", parts[i].title);
                error = write_part(r, parts[i].write, f);
        }
        fputs("\n== end ==\n", f);
        return error;
}

int verb_report(char **args)
{
        _cleanup_(report_done) Report r = {
                .check = {.user = arg_user, .now_sec = (uint64_t) time(NULL)}
        };
        _cleanup_free_ char *err = NULL;
        int error;

        (void) args;
        error = paths_init(arg_user, &r.check.paths, &err);
        if (error < 0) {
                log_error("cannot report: %s", err_text(error, err));
                return ADMIN_FAILED;
        }
        r.check.config_path = arg_config ? arg_config : r.check.paths.config_file;
        examine(&r);
        return admin_output(write_report, &r, 0600);
}
