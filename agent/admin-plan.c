/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "admin-bus.h"
#include "admin-text.h"
#include "admin-verb.h"
#include "admin-view.h"
#include "admin.h"
#include "delta.h"
#include "err.h"
#include "fd.h"
#include "index-diff.h"
#include "json-member.h"
#include "json-read.h"
#include "log.h"
#include "manifest.h"

/* As many names of each kind as a program gets; a person gets fewer, see admin-view.c. */
#define NAMES_MAX 1000

/* The files that change, as they go into the document: { "n_added": 3, "added": ["..."], ... }. */
typedef struct Files {
        cJSON *lists[FILE_REMOVED + 1];
        uint64_t n[FILE_REMOVED + 1];
        uint64_t bytes; /* that will be written */
} Files;

static const char *const list_names[] = { NULL, "added", "changed", "removed" };
static const char *const count_names[] = { "n_same", "n_added", "n_changed", "n_removed" };

/* To be read here again, which what json_add_uint() adds can't be. */
static int add_number(cJSON *o, const char *name, uint64_t value)
{
        return cJSON_AddNumberToObject(o, name, value) ? 0 : -ENOMEM;
}

static int add_file(FileChange change, const IndexFile *file, void *userdata)
{
        Files *f = userdata;
        cJSON *name;

        f->n[change]++;
        if (change == FILE_ADDED || change == FILE_CHANGED)
                f->bytes += file->size_bytes;
        if (change == FILE_SAME || f->n[change] > NAMES_MAX)
                return 0;
        name = cJSON_CreateString(file->path);
        if (name && cJSON_AddItemToArray(f->lists[change], name))
                return 0;
        cJSON_Delete(name);
        return -ENOMEM;
}

static int add_files(cJSON *plan, const Index *live, const Index *wanted)
{
        cJSON *o = cJSON_AddObjectToObject(plan, "files");
        Files f = {};
        int r = o ? 0 : -ENOMEM;

        for (int i = FILE_ADDED; r >= 0 && i <= FILE_REMOVED; i++) {
                f.lists[i] = cJSON_AddArrayToObject(o, list_names[i]);
                r = f.lists[i] ? 0 : -ENOMEM;
        }
        if (r >= 0)
                r = index_diff(live, wanted, add_file, &f);
        for (int i = FILE_SAME; r >= 0 && i <= FILE_REMOVED; i++)
                r = add_number(o, count_names[i], f.n[i]);
        return r < 0 ? r : add_number(o, "written_bytes", f.bytes);
}

/* The index of "live" or "wanted", checked. -ENOENT: there is none, and `part` says why. */
static int read_index(const cJSON *part, const PlanAnswer *answer, Index **ret, char **reterr)
{
        const cJSON *n = json_member(part, "index"), *size = json_member(part, "index_bytes");
        const char *hex = json_member_text(part, "index_sha256");
        _cleanup_free_ char *data = NULL;
        Sha256 wanted, digest;
        int r;

        if (!cJSON_IsNumber(n))
                return -ENOENT;
        if (!(n->valuedouble >= 0 && n->valuedouble < answer->n_fds) || !cJSON_IsNumber(size) ||
            !(size->valuedouble >= 0 && size->valuedouble <= INDEX_SIZE_MAX) || !hex ||
            sha256_from_hex(hex, &wanted) < 0)
                return fail(reterr, -EPROTO, "slipwayd's answer makes no sense");
        data = malloc((size_t) size->valuedouble + 1);
        if (!data)
                return -ENOMEM;
        r = fd_pread_exactly(answer->fds[(size_t) n->valuedouble], data, size->valuedouble, 0);
        if (r >= 0)
                r = sha256(data, size->valuedouble, &digest);
        if (r < 0)
                return fail_errno(reterr, r, "cannot read it");
        if (!sha256_equal(&digest, &wanted))
                return fail(reterr, -EKEYREJECTED, "it is not the one that was signed");
        return index_parse(data, size->valuedouble, ret, reterr);
}

/* What is to be fetched of the artifact, and in how many requests at least. */
static int set_travels(cJSON *wanted, const Delta *d)
{
        _cleanup_(range_set_freep) RangeSet *ranges = NULL;
        int r = delta_ranges(d, &ranges);

        if (r < 0)
                return r;
        cJSON_DeleteItemFromObjectCaseSensitive(wanted, "travels_bytes");
        r = add_number(wanted, "travels_bytes", range_set_bytes(ranges));
        return r < 0 ? r : add_number(wanted, "travels_ranges", range_set_n(ranges));
}

/* Seeds that can't be read are as good as none. */
static int add_travels(cJSON *plan, const PlanAnswer *answer, const Index *wanted)
{
        Index *seeds[SEEDS_MAX] = {};
        const cJSON *seed;
        size_t n_seeds = 0;
        Delta *d = NULL;
        int r;

        cJSON_ArrayForEach(seed, json_member(plan, "seeds"))
        {
                if (n_seeds < SEEDS_MAX && read_index(seed, answer, &seeds[n_seeds], NULL) >= 0)
                        n_seeds++;
        }
        r = delta_new(wanted, (const Index *const *) seeds, n_seeds, &d);
        if (r >= 0) {
                delta_settle(d);
                r = set_travels(cJSON_GetObjectItemCaseSensitive(plan, "wanted"), d);
        }
        delta_free(d);
        while (n_seeds > 0)
                index_free(seeds[--n_seeds]);
        return r;
}

/* What can't be compared is no reason to say nothing. */
static int compare(cJSON *plan, const PlanAnswer *answer)
{
        static const char *const parts[] = { "live", "wanted" };
        _cleanup_(index_freep) Index *live = NULL, *wanted = NULL;
        Index **const indexes[] = { &live, &wanted };
        int r;

        if (!json_member(plan, "wanted"))
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(parts); i++) {
                cJSON *part = cJSON_GetObjectItemCaseSensitive(plan, parts[i]);
                _cleanup_free_ char *err = NULL;

                r = part ? read_index(part, answer, indexes[i], &err) : 0;
                if (r == -ENOENT)
                        return 0;
                if (r < 0)
                        return cJSON_AddStringToObject(part, "no_index", err_text(r, err))
                                       ? 0
                                       : -ENOMEM;
        }
        r = add_files(plan, live, wanted);
        return r < 0 || !json_member(plan, "seeds") ? r : add_travels(plan, answer, wanted);
}

static int get_plan(const char *app, cJSON **ret, char **reterr)
{
        _cleanup_known_ Known k = {};
        _cleanup_(plan_answer_done) PlanAnswer answer = {};
        _cleanup_json_ cJSON *plan = NULL;
        int r = known_ask(&k, reterr);

        if (r < 0)
                return r;
        if (!view_find_app(k.agent, app))
                return fail(reterr, -ENODEV, "there is no such application on this host");
        r = admin_bus_plan(k.bus, app, &answer, reterr);
        if (r >= 0)
                r = json_parse(answer.json, strlen(answer.json), &plan, reterr);
        if (r >= 0)
                r = compare(plan, &answer);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(plan);
        return 0;
}

int verb_plan(char **args)
{
        _cleanup_json_ cJSON *plan = NULL;
        _cleanup_free_ char *err = NULL;
        int r = get_plan(args[0], &plan, &err);

        if (r < 0) {
                log_error("cannot plan for '%s': %s", args[0], err_text(r, err));
                return r == -ETIMEDOUT ? ADMIN_NOT_RUNNING : admin_exit_code(r);
        }
        if (arg_json)
                return admin_print_json(plan);
        text_clean_json(plan);
        view_plan(plan, stdout);
        return ADMIN_OK;
}
