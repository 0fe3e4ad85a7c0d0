/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"

#include <sys/stat.h>

#include "err.h"
#include "fd.h"
#include "index-store.h"
#include "json-print.h"
#include "json-read.h"

struct Plan {
        Fetcher *fetcher;
        Manifest *manifest;
        cJSON *json;
        int fds[PLAN_FILES_MAX];
        size_t n_fds;
        int spool_fd;
        FetchRequest *request;
        sd_event_source *done_source;
        plan_done_t done;
        void *userdata;
};

Plan *plan_free(Plan *p)
{
        if (!p)
                return NULL;
        for (size_t i = 0; i < p->n_fds; i++)
                fd_close(p->fds[i]);
        fd_close(p->spool_fd);
        fetch_request_free(p->request);
        sd_event_source_disable_unref(p->done_source);
        manifest_free(p->manifest);
        cJSON_Delete(p->json);
        free(p);
        return NULL;
}

static int on_done(sd_event_source *source, void *userdata)
{
        Plan *p = userdata;
        _cleanup_free_ char *text = json_print(p->json, false);

        (void) source;
        p->done(strempty(text), p->fds, p->n_fds, p->userdata);
        return 0;
}

static int end(Plan *p)
{
        return sd_event_source_set_enabled(p->done_source, SD_EVENT_ONESHOT);
}

/* "live" or "wanted". */
static cJSON *part(Plan *p, const char *name)
{
        return cJSON_GetObjectItemCaseSensitive(p->json, name);
}

static int add_part(Plan *p, const char *name, const char *release, uint64_t deployment)
{
        cJSON *o = cJSON_AddObjectToObject(p->json, name);

        if (!o || !cJSON_AddStringToObject(o, "release", release))
                return -ENOMEM;
        return deployment > 0 ? json_add_uint(o, "deployment", deployment) : 0;
}

static int add_no_index(cJSON *o, const char *why)
{
        return cJSON_AddStringToObject(o, "no_index", why) ? 0 : -ENOMEM;
}

/* Takes fd. */
static int add_file(Plan *p, cJSON *o, int fd, uint64_t size, const Sha256 *sha256)
{
        _cleanup_close_ int owned = fd;
        char hex[SHA256_HEX_SIZE];
        int r = json_add_uint(o, "index", p->n_fds);

        if (r >= 0)
                r = json_add_uint(o, "index_bytes", size);
        if (r < 0)
                return r;
        if (!cJSON_AddStringToObject(o, "index_sha256", sha256_to_hex(sha256, hex)))
                return -ENOMEM;
        p->fds[p->n_fds++] = TAKE_FD(owned);
        return 0;
}

/* 1: it is on this host. */
static int add_stored(Plan *p, cJSON *o, const Site *site, const char *release,
                      const Sha256 *sha256)
{
        _cleanup_close_ int fd = index_store_open(site->state_dir_fd, site->config->app, release);
        struct stat st;
        int r;

        if (fd < 0 || fstat(fd, &st) < 0)
                return 0;
        r = add_file(p, o, TAKE_FD(fd), st.st_size, sha256);
        return r < 0 ? r : 1;
}

static int add_live(Plan *p, const Site *site)
{
        const State *s = site->state;
        const Installed *i = s->current ? state_find_release(s, s->current) : NULL;
        int r;

        if (!s->current)
                return 0;
        r = add_part(p, "live", s->current, i ? i->deployment : 0);
        if (r < 0)
                return r;
        r = i && i->serial > 0 ? add_stored(p, part(p, "live"), site, s->current, &i->index_sha256)
                               : 0;
        return r == 0 ? add_no_index(part(p, "live"), "it was not kept on this host") : MIN(r, 0);
}

static int add_verdict(cJSON *o, Verdict v, const char *text)
{
        return cJSON_AddStringToObject(o, "verdict", verdict_to_string(v)) &&
                               cJSON_AddStringToObject(o, "text", strempty(text))
                       ? 0
                       : -ENOMEM;
}

static int add_obstacles(Plan *p, const PlanInput *input)
{
        cJSON *list = cJSON_AddArrayToObject(p->json, "obstacles");

        if (!list)
                return -ENOMEM;
        for (size_t n = 0;; n++) {
                _cleanup_free_ char *text = NULL;
                Verdict v = judge_obstacle(input->manifest, input->context, n, &text);
                cJSON *o;

                if (v == VERDICT_DEPLOY)
                        return 0;
                o = cJSON_CreateObject();
                if (!o || !cJSON_AddItemToArray(list, o)) {
                        cJSON_Delete(o);
                        return -ENOMEM;
                }
                if (add_verdict(o, v, text) < 0)
                        return -ENOMEM;
        }
}

static int add_judgement(Plan *p, const PlanInput *input)
{
        _cleanup_free_ char *text = NULL;
        Verdict v = input->verdict;
        int r;

        if (!input->manifest)
                return add_verdict(p->json, v, input->text);
        if (v == VERDICT_DEPLOY)
                v = judge_wanted(input->manifest, input->context, &text);
        r = add_verdict(p->json, v, text ? text : input->text);
        return r < 0 ? r : add_obstacles(p, input);
}

static void on_index(const Message *m, int *fd, void *userdata)
{
        Plan *p = userdata;
        const StoredObject *index = &p->manifest->index;
        int r = 0;

        if (m->type == MESSAGE_SPOOLED && p->spool_fd < 0) {
                p->spool_fd = TAKE_FD(*fd);
                return;
        }
        if (m->type != 0 && m->type != MESSAGE_GOT)
                return;
        p->request = fetch_request_free(p->request);
        if (m->result >= 0 && p->spool_fd >= 0) {
                r = add_file(p, part(p, "wanted"), TAKE_FD(p->spool_fd), index->size_bytes,
                             &index->sha256);
                fetcher_drop(p->fetcher, &index->sha256);
        } else
                r = add_no_index(part(p, "wanted"),
                                 m->text[0] ? m->text : strerror(abs(m->result)));
        if (r < 0)
                p->json = (cJSON_Delete(p->json), NULL);
        (void) end(p);
}

static int fetch_index(Plan *p)
{
        const StoredObject *index = &p->manifest->index;
        Message m = { .type = MESSAGE_GET, .size = index->size_bytes, .sha256 = index->sha256 };

        (void) stpncpy(m.text, index->path, MESSAGE_TEXT_MAX);
        return fetcher_request(p->fetcher, &m, -1, on_index, p, &p->request);
}

/* Takes o. */
static int add_seed(Plan *p, cJSON *list, cJSON *o, const Site *site, const Installed *i)
{
        if (!o || !cJSON_AddItemToArray(list, o)) {
                cJSON_Delete(o);
                return -ENOMEM;
        }
        if (cJSON_GetObjectItemCaseSensitive(o, "release"))
                return 0;
        if (!cJSON_AddStringToObject(o, "release", i->release))
                return -ENOMEM;
        return MIN(add_stored(p, o, site, i->release, &i->index_sha256), 0);
}

/* The live release's index may be among the files already. */
static int add_seeds(Plan *p, const Site *site)
{
        cJSON *list = cJSON_AddArrayToObject(p->json, "seeds");
        const Installed *i;
        int r = list ? 0 : -ENOMEM;

        /* One place is the wanted release's. */
        for (size_t n = 0; r >= 0 && p->n_fds < SEEDS_MAX && (i = state_seed(site->state, n)); n++)
                if (i->serial > 0 && !streq(i->release, p->manifest->release) &&
                    site_has_release(site, i->release))
                        r = add_seed(p, list,
                                     streq_ptr(i->release, site->state->current)
                                             ? cJSON_Duplicate(part(p, "live"), true)
                                             : cJSON_CreateObject(),
                                     site, i);
        return r;
}

/* 0: its index has to be fetched. 1: that is all. */
static int add_wanted(Plan *p, const Site *site)
{
        const Manifest *m = p->manifest;
        const Installed *i = state_find_release(site->state, m->release);
        bool here = i && sha256_equal(&i->index_sha256, &m->index.sha256) &&
                    site_has_release(site, m->release);
        int r = add_part(p, "wanted", m->release, m->deployment);

        if (r >= 0)
                r = json_add_uint(part(p, "wanted"), "artifact_bytes", m->artifact.size_bytes);
        if (r >= 0)
                r = json_add_uint(part(p, "wanted"), "travels_bytes",
                                  here ? 0 : m->artifact.size_bytes);
        if (r < 0)
                return r;
        return here ? add_stored(p, part(p, "wanted"), site, m->release, &m->index.sha256)
                    : add_seeds(p, site);
}

static int begin(Plan *p, const PlanInput *input)
{
        const Site *site = input->site;
        int r;

        if (!p->json || !cJSON_AddStringToObject(p->json, "app", site->config->app) ||
            !cJSON_AddStringToObject(p->json, "channel", site->config->channel))
                return -ENOMEM;
        r = add_judgement(p, input);
        if (r >= 0)
                r = add_live(p, site);
        if (r >= 0)
                r = p->manifest ? add_wanted(p, site) : 1;
        if (r < 0)
                return r;
        return r == 0 ? fetch_index(p) : end(p);
}

int plan_new(const PlanInput *input, plan_done_t done, void *userdata, Plan **ret)
{
        _cleanup_(plan_freep) Plan *p = calloc(1, sizeof(Plan));
        int r;

        if (!p)
                return -ENOMEM;
        *p = (Plan){ .fetcher = input->fetcher,
                     .manifest = input->manifest ? manifest_ref(input->manifest) : NULL,
                     .json = cJSON_CreateObject(),
                     .spool_fd = -EBADF,
                     .done = done,
                     .userdata = userdata };
        r = sd_event_add_defer(input->site->event, &p->done_source, on_done, p);
        if (r >= 0)
                r = sd_event_source_set_enabled(p->done_source, SD_EVENT_OFF);
        if (r >= 0)
                r = begin(p, input);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(p);
        return 0;
}
