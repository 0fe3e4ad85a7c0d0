/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "build-config.h"
#include "err.h"
#include "json-member.h"
#include "os-release.h"
#include "progress.h"
#include "report.h"
#include "table.h"
#include "time-text.h"

static void print_program(const char *path, FILE *f)
{
        char at[TIME_TEXT_SIZE];
        struct stat st;

        if (stat(path, &st) < 0)
                fprintf(f, "%s: %s\n", path, strerror(errno));
        else
                fprintf(f, "%s: %" PRIu64 " bytes, of %s\n", path, (uint64_t) st.st_size,
                        time_format_utc(st.st_mtim.tv_sec, at));
}

int report_host(const Report *r, FILE *f, char **reterr)
{
        const char *version = json_member_text(r->agent, "version");
        struct utsname u;
        struct sysinfo s;
        OsRelease os;

        fprintf(f, "slipway: " SLIPWAY_VERSION "\nslipwayd: %s\n", version ? version : "not known");
        print_program("/proc/self/exe", f);
        print_program(SLIPWAY_LIBEXECDIR "/slipwayd", f);
        print_program(SLIPWAY_LIBEXECDIR "/slipway-fetch", f);
        print_program(SLIPWAY_LIBEXECDIR "/slipway-unpack", f);
        os_release_read(&os);
        fprintf(f, "system: %s %s\n", os.name, os.version);
        if (uname(&u) < 0 || sysinfo(&s) < 0)
                return fail_errno(reterr, -errno, "the kernel");
        fprintf(f, "kernel: %s %s, %s\nhost name: %s\n", u.release, u.version, u.machine,
                u.nodename);
        fprintf(f, "memory: %" PRIu64 " MiB, %" PRIu64 " MiB free; up for %ld s, load %.2f\n",
                (uint64_t) s.totalram * s.mem_unit >> 20, (uint64_t) s.freeram * s.mem_unit >> 20,
                s.uptime, s.loads[0] / (double) (1 << SI_LOAD_SHIFT));
        return 0;
}

int report_clock(const Report *r, FILE *f, char **reterr)
{
        char now[TIME_TEXT_SIZE];
        struct timex t = {};
        int state = adjtimex(&t);

        fprintf(f, "now: %s\n", time_format_utc(r->check.now_sec, now));
        if (state < 0)
                return fail_errno(reterr, -errno, "whether something keeps it right");
        fprintf(f, "kept right: %s (state %d, status %#x)\n",
                state == TIME_ERROR || t.status & STA_UNSYNC ? "no" : "yes", state,
                (unsigned) t.status);
        fprintf(f, "estimated error: %ld us, at most %ld us\n", t.esterror, t.maxerror);
        fprintf(f, "systemd-timesyncd has set it: %s\n",
                access("/run/systemd/timesync/synchronized", F_OK) == 0 ? "yes" : "no");
        return 0;
}

int report_findings(const Report *r, FILE *f, char **reterr)
{
        findings_print(&r->check.findings, f);
        return r->check.findings.error < 0
                       ? fail_errno(reterr, r->check.findings.error, "some of it")
                       : 0;
}

static int add_file_system(Table *t, const char *path)
{
        char size[BYTES_TEXT_SIZE], room[BYTES_TEXT_SIZE], inodes[32], free_inodes[32], type[32];
        struct statvfs v;
        struct statfs s;

        if (statvfs(path, &v) < 0 || statfs(path, &s) < 0)
                return table_add(t, (const char *[]){ path, strerror(errno), "", "", "", "" });
        (void) snprintf(type, sizeof(type), "%#lx%s", (unsigned long) s.f_type,
                        v.f_flag & ST_RDONLY ? ", read-only" : "");
        (void) snprintf(inodes, sizeof(inodes), "%" PRIu64, (uint64_t) v.f_files);
        (void) snprintf(free_inodes, sizeof(free_inodes), "%" PRIu64, (uint64_t) v.f_favail);
        return table_add(
                t, (const char *[]){ path, bytes_format((uint64_t) v.f_blocks * v.f_frsize, size),
                                     bytes_format((uint64_t) v.f_bavail * v.f_frsize, room), inodes,
                                     free_inodes, type });
}

int report_disk(const Report *r, FILE *f, char **reterr)
{
        static const char *const titles[] = { "PATH",        "SIZE", "FREE", "INODES",
                                              "FREE INODES", "TYPE", NULL };
        const Paths *p = &r->check.paths;
        const char *paths[] = { "/", p->state_dir, p->cache_dir, p->runtime_dir, "/var/log" };
        _cleanup_(table_freep) Table *t = NULL;
        const cJSON *app;
        int error = table_new(titles, &t);

        for (size_t i = 0; error >= 0 && i < ELEMENTSOF(paths); i++)
                error = add_file_system(t, paths[i]);
        cJSON_ArrayForEach(app, json_member(r->agent, "apps"))
        {
                const char *root = report_root(app);

                if (error >= 0 && root)
                        error = add_file_system(t, root);
        }
        if (error < 0)
                return fail_errno(reterr, error, "room");
        table_print(t, f);
        return 0;
}
