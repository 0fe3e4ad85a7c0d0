/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "admin-text.h"
#include "admin-view.h"
#include "err.h"
#include "fd.h"
#include "json-member.h"
#include "json-read.h"
#include "mask.h"
#include "progress.h"
#include "report-names.h"
#include "report.h"
#include "table.h"
#include "time-text.h"

const char *report_root(const cJSON *app)
{
        const char *root = json_member_text(app, "root");

        return root ? root : json_member_text(json_member(app, "state"), "root");
}

static int nothing_known(const Report *r, char **reterr)
{
        return fail(reterr, -ENODATA, "%s", strempty(r->agent_trouble));
}

int report_status(const Report *r, FILE *f, char **reterr)
{
        ViewContext context = { .now_sec = r->check.now_sec, .user = r->check.user };
        const cJSON *app;
        int error;

        if (!r->agent)
                return nothing_known(r, reterr);
        if (r->offline)
                fprintf(f, "from the state files: %s\n\n", strempty(r->agent_trouble));
        error = view_overview(r->agent, &context, f);
        cJSON_ArrayForEach(app, json_member(r->agent, "apps"))
        {
                if (error < 0)
                        break;
                fprintf(f, "\nhistory of %s:\n",
                        strempty(json_member_text(json_member(app, "state"), "app")));
                error = view_history(app, &context, f);
        }
        return error < 0 ? fail_errno(reterr, error, "some of it") : 0;
}

int report_state(const Report *r, FILE *f, char **reterr)
{
        _cleanup_json_ cJSON *copy = NULL;
        _cleanup_free_ char *text = NULL;
        int error;

        if (!r->agent)
                return nothing_known(r, reterr);
        copy = cJSON_Duplicate(r->agent, true);
        if (!copy)
                return fail_errno(reterr, -ENOMEM, "all of it");
        error = mask_json(copy);
        if (error >= 0)
                error = text_format_json(copy, &text);
        if (error < 0)
                return fail_errno(reterr, error, "all of it");
        fputs(text, f);
        return 0;
}

/* -- releases */

/* What the state has about a release; NULL: nothing. */
static const cJSON *find_release(const cJSON *app, const char *name)
{
        const cJSON *release;

        cJSON_ArrayForEach(release, json_member(json_member(app, "state"), "releases"))
        {
                if (streq_ptr(json_member_text(release, "release"), name))
                        return release;
        }
        return NULL;
}

static int add_release(Table *t, int dir_fd, const cJSON *app, char *name)
{
        const cJSON *release = find_release(app, name), *size = json_member(release, "size");
        char at[TIME_TEXT_SIZE], bytes[BYTES_TEXT_SIZE], owner[32];
        struct stat st;
        int r = fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;

        text_clean(name);
        if (r < 0)
                return table_add(t, (const char *[]){ name, strerror(-r), "", "", "" });
        (void) snprintf(owner, sizeof(owner), "%u:%u", (unsigned) st.st_uid, (unsigned) st.st_gid);
        return table_add(
                t, (const char *[]){
                           name,
                           cJSON_IsNumber(size) ? bytes_format((uint64_t) size->valuedouble, bytes)
                                                : "",
                           owner, time_format_utc(st.st_mtim.tv_sec, at), release ? "yes" : "no" });
}

static int print_releases(const cJSON *app, const char *root, FILE *f)
{
        static const char *const titles[] = {
                "RELEASE", "SIZE", "OWNER", "CHANGED", "KNOWN", NULL
        };
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, root), releases_fd = -EBADF;
        _cleanup_(table_freep) Table *t = NULL;
        _cleanup_free_ char *current = NULL;
        _cleanup_(report_names_done) ReportNames names = {};
        int r = table_new(titles, &t);

        if (fd < 0)
                return fd;
        if (readlink_at(fd, "current", &current) >= 0)
                fprintf(f, "%s/current: %s\n", root, current);
        else
                fprintf(f, "%s/current: is not there\n", root);
        releases_fd = dir_open_at(fd, "releases");
        if (releases_fd < 0)
                return releases_fd;
        if (r >= 0)
                r = report_names_read(releases_fd, &names);
        for (size_t i = 0; r >= 0 && i < names.n; i++)
                r = add_release(t, releases_fd, app, names.names[i]);
        if (r >= 0)
                table_print(t, f);
        if (names.more)
                fputs("(what more is there is left out)\n", f);
        return r;
}

int report_releases(const Report *r, FILE *f, char **reterr)
{
        const cJSON *app;

        if (!r->agent)
                return nothing_known(r, reterr);
        cJSON_ArrayForEach(app, json_member(r->agent, "apps"))
        {
                const char *root = report_root(app);
                int error = root ? print_releases(app, root, f) : -ENODATA;

                if (error < 0)
                        fprintf(f, "%s: %s\n", root ? root : "an application without a root",
                                strerror(-error));
        }
        return 0;
}
