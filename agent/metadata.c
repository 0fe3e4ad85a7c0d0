/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata.h"

#include "err.h"
#include "imds.h"
#include "json-read.h"
#include "tags-api.h"
#include "utf8.h"

#define DOCUMENT "dynamic/instance-identity/document"
#define TAGS     "meta-data/tags/instance"

struct Metadata {
        Imds *imds;
        TagsApi *api;
        ImdsCall *call;
        Instance *instance; /* what is known so far; NULL: nobody asks */
        char *keys, *key;   /* the list of tags, and what of it is still to be asked */
        metadata_done_t done;
        void *userdata;
};

int metadata_new(Http *http, Metadata **ret, char **reterr)
{
        _cleanup_(metadata_freep) Metadata *m = calloc(1, sizeof(Metadata));
        int r;

        if (!m)
                return -ENOMEM;
        r = imds_new(http, &m->imds, reterr);
        if (r >= 0)
                r = tags_api_new(http, &m->api);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

static void forget(Metadata *m)
{
        m->call = imds_cancel(m->call);
        m->instance = instance_free(m->instance);
        free(m->keys);
        m->keys = m->key = NULL;
}

Metadata *metadata_free(Metadata *m)
{
        if (!m)
                return NULL;
        forget(m);
        imds_free(m->imds);
        tags_api_free(m->api);
        free(m);
        return NULL;
}

static void finish(Metadata *m, int result, const char *err)
{
        _cleanup_(instance_freep) Instance *i = TAKE_PTR(m->instance);

        forget(m);
        m->done(result, result < 0 ? NULL : i, result < 0 ? err_text(result, err) : NULL,
                m->userdata);
}

/* --- tags --- */

static void ask_tag(Metadata *m);

/* Control characters, which EC2 does not let in, are none of our trouble. */
static int add_tag(Metadata *m, const char *key, const char *value)
{
        _cleanup_free_ char *clean = strdup(value);

        if (!clean)
                return -ENOMEM;
        utf8_clean(clean);
        if (strlen(clean) > TAG_VALUE_SIZE_MAX || instance_tag(m->instance, key))
                return -EBADMSG;
        return instance_add_tag(m->instance, key, clean);
}

static void on_tag(int result, const char *value, const char *err, void *userdata)
{
        Metadata *m = userdata;
        _cleanup_free_ char *why = NULL;
        int r = result;

        m->call = NULL;
        if (result == 0)
                r = add_tag(m, m->key, value);
        if (r < 0) {
                err_set(&why, "the instance's tag %s: %s", m->key, err_text(r, err));
                finish(m, r, why);
                return;
        }
        /* One that is absent was removed since the list came. */
        m->key += strlen(m->key) + 1;
        ask_tag(m);
}

static void ask_tag(Metadata *m)
{
        _cleanup_free_ char *path = NULL, *err = NULL;
        int r;

        if (!*m->key) {
                finish(m, 0, NULL);
                return;
        }
        err_set(&path, TAGS "/%s", m->key);
        r = path ? imds_get(m->imds, path, on_tag, m, &m->call, &err) : -ENOMEM;
        if (r < 0)
                finish(m, r, err);
}

/* Makes of the lines texts that each end in NUL, the last one empty. */
static int take_keys(Metadata *m, const char *list)
{
        size_t n = 1;

        m->keys = calloc(1, strlen(list) + 2);
        if (!m->keys)
                return -ENOMEM;
        m->key = strcpy(m->keys, list);
        for (char *c = m->keys; (c = strchr(c, '\n')); c++) {
                *c = '\0';
                n += c[1] != '\0';
        }
        if (*list == '\n' || strstr(list, "\n\n"))
                return -EBADMSG;
        for (const char *k = m->key; *k; k += strlen(k) + 1)
                if (strlen(k) > TAG_KEY_SIZE_MAX)
                        return -EBADMSG;
        return n > INSTANCE_TAGS_MAX ? -E2BIG : 0;
}

/* Whether the API was asked or not: what it says, or why not. Only a permission that is missing,
 * and what no waiting mends, mean that there are no tags. */
static void take_api(Metadata *m)
{
        Instance *i = m->instance;
        _cleanup_free_ char *err = NULL;
        int r = tags_api_get(m->api, i, &err);
        bool tells = r >= 0 || (r != -EACCES && r != -EINVAL);

        if (tells)
                i->tags_from = strdup(INSTANCE_TAGS_API);
        if (r < 0) {
                err_set(&i->tags_error,
                        "the instance's tags are not exposed in its metadata: aws ec2 "
                        "modify-instance-metadata-options --instance-id %s "
                        "--instance-metadata-tags enabled; nor by the EC2 API: %s",
                        i->id, err_text(r, err));
                if (i->tags_error && strlen(i->tags_error) > INSTANCE_REASON_MAX)
                        i->tags_error[INSTANCE_REASON_MAX] = '\0';
                if (i->tags_error)
                        utf8_clean(i->tags_error);
        }
        finish(m, (tells && !i->tags_from) || (r < 0 && !i->tags_error) ? -ENOMEM : 0, NULL);
}

static void on_api(void *userdata)
{
        take_api(userdata);
}

static void ask_api(Metadata *m)
{
        _cleanup_(instance_freep) Instance *scratch = calloc(1, sizeof(Instance));
        int r = scratch ? tags_api_get(m->api, scratch, NULL) : -ENOMEM;

        if (r != -EAGAIN || tags_api_ask(m->api, m->instance, on_api, m) < 0)
                take_api(m);
}

uint64_t metadata_due_in_usec(const Metadata *m)
{
        return tags_api_due_in_usec(m->api);
}

void metadata_start_due(Metadata *m)
{
        tags_api_start_due(m->api);
}

static void on_keys(int result, const char *value, const char *err, void *userdata)
{
        Metadata *m = userdata;
        Instance *i = m->instance;
        int r = result;

        m->call = NULL;
        if (result == IMDS_ABSENT) {
                ask_api(m);
                return;
        }
        if (result == 0) {
                r = take_keys(m, value);
                i->tags_from = strdup(INSTANCE_TAGS_METADATA);
                if (r >= 0 && !i->tags_from)
                        r = -ENOMEM;
        }
        if (r < 0)
                finish(m, r, err ? err : r == -E2BIG ? "the instance has too many tags" : NULL);
        else
                ask_tag(m);
}

/* --- the document --- */

static const JsonField document_fields[] = {
        {"instanceId",       json_parse_name, offsetof(Instance, id), true },
        { "region", json_parse_name, offsetof(Instance, region) },
        { "availabilityZone",              json_parse_name, offsetof(Instance, zone) },
        { "accountId",          json_parse_name, offsetof(Instance, account) },
        {                },
};

static int take_document(Metadata *m, const char *text, char **reterr)
{
        _cleanup_json_ cJSON *document = NULL;
        int r = json_parse(text, strlen(text), &document, reterr);

        if (r >= 0)
                r = json_dispatch_known(document, "", document_fields, m->instance, reterr);
        return r < 0 ? fail_prefix(reterr, r, "the instance's identity document at %s",
                                   imds_endpoint(m->imds))
                     : 0;
}

static void on_document(int result, const char *value, const char *err, void *userdata)
{
        Metadata *m = userdata;
        _cleanup_free_ char *why = NULL;
        int r = result;

        m->call = NULL;
        if (result == IMDS_ABSENT)
                r = fail(&why, -EPROTO,
                         "the metadata service at %s has no identity document: is it EC2's?",
                         imds_endpoint(m->imds));
        if (r == 0)
                r = take_document(m, value, &why);
        if (r == 0)
                r = imds_get(m->imds, TAGS, on_keys, m, &m->call, &why);
        if (r < 0)
                finish(m, r, why ? why : err);
}

int metadata_ask(Metadata *m, metadata_done_t done, void *userdata, char **reterr)
{
        int r;

        if (m->instance)
                return fail(reterr, -EBUSY, "the metadata service is being asked");
        m->done = done;
        m->userdata = userdata;
        m->instance = calloc(1, sizeof(Instance));
        r = m->instance ? imds_get(m->imds, DOCUMENT, on_document, m, &m->call, reterr) : -ENOMEM;
        if (r < 0)
                forget(m);
        return r;
}
