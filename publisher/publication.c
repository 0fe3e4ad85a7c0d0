/* SPDX-License-Identifier: Apache-2.0 */
#include "publication.h"

#include <stdio.h>
#include <time.h>

#include "err.h"
#include "expiry.h"
#include "json-read.h"
#include "log.h"
#include "object.h"
#include "result.h"
#include "verbs.h"

uint64_t now_sec(void)
{
        return (uint64_t) time(NULL);
}

void publication_done(Publication *p)
{
        channel_head_done(&p->head);
        signers_done(&p->signers);
        store_free(p->store);
        *p = (Publication){};
}

static int check_head(const Publication *p, char **reterr)
{
        const Published *current = p->head.current;
        _cleanup_free_ char *err = NULL;

        if (p->head.was_set_back)
                log_warning(
                        "The history of %s/%s reaches serial %llu, but its manifest.json is %s: "
                        "someone put an older one back. What is published next comes after the "
                        "history's serial.",
                        p->channel.app, p->channel.name, (unsigned long long) p->head.serial,
                        current ? "older" : "missing");
        if (!current)
                return 0;
        int r = signers_accept(&p->signers, current->envelope, &err);
        if (r < 0 && p->signers.trust)
                return fail(reterr, r,
                            "the present manifest of %s/%s (serial %llu) is not to be trusted: %s. "
                            "Find out who wrote it before you publish",
                            p->channel.app, p->channel.name,
                            (unsigned long long) current->manifest->serial, err_text(r, err));
        if (r < 0)
                log_warning("The present manifest of %s/%s (serial %llu, by %s) is signed by none "
                            "of the given keys. --trust FILE checks it properly.",
                            p->channel.app, p->channel.name,
                            (unsigned long long) current->manifest->serial,
                            current->manifest->source.by ? current->manifest->source.by
                                                         : "unknown");
        return 0;
}

static int parse_windows(const Strings *texts, uint64_t expires_sec, Window *ret, char **reterr)
{
        char opens[TIME_TEXT_SIZE];
        uint64_t opens_sec;
        Window w = {};

        for (size_t i = 0; i < texts->n_items; i++) {
                int r = window_add(&w, texts->items[i], reterr);
                if (r < 0)
                        return fail_prefix(reterr, -EINVAL, "--window");
        }
        opens_sec = window_opens_sec(&w, now_sec());
        if (opens_sec >= expires_sec)
                return fail(reterr, -EINVAL,
                            "--window: it opens at %s, when the manifest has expired: no instance "
                            "would deploy it",
                            time_format_utc(opens_sec, opens));
        *ret = w;
        return 0;
}

int publication_begin(const Arguments *a, const char *channel, Publication *ret, char **reterr)
{
        _cleanup_(publication_done) Publication p = {
                .expires = a->expires ? a->expires : MANIFEST_EXPIRES_DEFAULT,
        };
        uint64_t expires_sec;
        int r = expiry_parse(p.expires, now_sec(), &expires_sec, reterr);

        if (r >= 0)
                r = parse_windows(&a->windows, expires_sec, &p.window, reterr);
        if (r >= 0)
                r = object_store_open(a->store, &p.store, reterr);
        if (r >= 0)
                r = signers_load(&a->keys, a->trust, p.store, &p.signers, reterr);
        if (r < 0)
                return r;
        p.channel = (Channel){ .store = p.store, .app = a->app, .name = channel };
        r = channel_head(&p.channel, &p.head, reterr);
        if (r >= 0)
                r = check_head(&p, reterr);
        if (r < 0)
                return r;
        *ret = p;
        p = (Publication){};
        return 0;
}

static int number(const Publication *p, Manifest *m, uint64_t deployment, char **reterr)
{
        if (p->head.serial >= SERIAL_MAX || deployment > SERIAL_MAX)
                return fail(reterr, -ERANGE,
                            "the channel's serial can't go any higher: someone "
                            "burnt the numbers; use a new channel");
        m->serial = p->head.serial + 1;
        m->deployment = deployment;
        m->published_sec = now_sec();
        return 0;
}

static int fill_manifest(const Publication *p, Manifest *m, char **reterr)
{
        char *channel = strdup(p->channel.name);
        int r;

        if (!channel)
                return -ENOMEM;
        free(m->channel);
        m->channel = channel;
        m->window = p->window;
        r = number(p, m, p->head.deployment + 1, reterr);
        if (r < 0)
                return r;
        return expiry_parse(p->expires, m->published_sec, &m->expires_sec, reterr);
}

static int add_object(cJSON *object, const char *name, const StoredObject *o)
{
        cJSON *member;
        int r = result_add_object(object, name, &member);

        if (r >= 0)
                r = result_add_string(member, "path", o->path);
        if (r >= 0)
                r = result_add_uint(member, "size", o->size_bytes);
        if (r >= 0)
                r = result_add_sha256(member, "sha256", &o->sha256);
        return r;
}

static int add_source(cJSON *object, const Source *s)
{
        cJSON *member;
        int r = result_add_object(object, "source", &member);

        if (r >= 0)
                r = result_add_string(member, "repository", s->repository);
        if (r >= 0)
                r = result_add_string(member, "commit", s->commit);
        if (r >= 0)
                r = result_add_string(member, "ref", s->ref);
        if (r >= 0)
                r = result_add_string(member, "build", s->build);
        if (r >= 0)
                r = result_add_string(member, "by", s->by);
        return r;
}

static int add_window(cJSON *object, const Window *w)
{
        char span[WINDOW_SPAN_TEXT_SIZE];
        cJSON *list;
        int r = w->n_spans > 0 ? result_add_array(object, "window", &list) : 0;

        for (size_t i = 0; r >= 0 && i < w->n_spans; i++)
                r = result_append_string(list, window_span_format(&w->spans[i], span));
        return r;
}

int manifest_to_result(const Manifest *m, cJSON *object)
{
        int r = result_add_string(object, "release", m->release);

        if (r >= 0)
                r = result_add_uint(object, "serial", m->serial);
        if (r >= 0)
                r = result_add_uint(object, "deployment", m->deployment);
        if (r >= 0)
                r = result_add_time(object, "published", m->published_sec);
        if (r >= 0)
                r = result_add_time(object, "expires", m->expires_sec);
        if (r >= 0)
                r = add_window(object, &m->window);
        if (r >= 0)
                r = add_source(object, &m->source);
        if (r >= 0)
                r = add_object(object, "artifact", &m->artifact);
        if (r >= 0)
                r = add_object(object, "index", &m->index);
        if (r >= 0 && m->provenance.path)
                r = add_object(object, "provenance", &m->provenance);
        return r;
}

static int report_lost(const Publication *p, const Published *winner, cJSON *result, char **reterr)
{
        char when[TIME_TEXT_SIZE];
        cJSON *object;

        if (!winner)
                return fail(reterr, PUBLISH_LOST,
                            "someone removed the manifest of %s/%s meanwhile; nothing was "
                            "published: run the same command again",
                            p->channel.app, p->channel.name);
        const Manifest *w = winner->manifest;
        int r = result_add_object(result, "winner", &object);
        if (r >= 0)
                r = manifest_to_result(w, object);
        if (r < 0)
                return r;
        return fail(reterr, PUBLISH_LOST,
                    "another publisher was first: %s published %s as serial %llu of %s/%s at %s; "
                    "nothing of yours was published. Run the same command again if yours is to "
                    "follow it: what was uploaded is used again",
                    w->source.by ? w->source.by : "someone", w->release,
                    (unsigned long long) w->serial, p->channel.app, p->channel.name,
                    time_format_utc(w->published_sec, when));
}

static int report_done(const Publication *p, const Manifest *m, const Arguments *a, cJSON *result)
{
        const char *previous = p->head.current ? p->head.current->manifest->release : NULL;
        _cleanup_free_ char *window =
                m->window.n_spans > 0 ? window_to_text(&m->window, now_sec()) : NULL;
        char when[TIME_TEXT_SIZE];
        int r = result_add_string(result, "app", m->app);

        if (r >= 0)
                r = result_add_string(result, "channel", m->channel);
        if (r >= 0)
                r = result_add_string(result, "previous", previous);
        if (r >= 0)
                r = manifest_to_result(m, result);
        if (r < 0)
                return r;
        if (!a->json)
                printf("Published %s in %s/%s: serial %llu, deployment %llu, expires %s%s%s%s%s\n",
                       m->release, m->app, m->channel, (unsigned long long) m->serial,
                       (unsigned long long) m->deployment, time_format_utc(m->expires_sec, when),
                       !previous                     ? ""
                       : streq(previous, m->release) ? "; the same release again"
                                                     : "; before it: ",
                       previous && !streq(previous, m->release) ? previous : "",
                       window ? "; in its window: " : "", strempty(window));
        return 0;
}

int publication_check(const Publication *p, Manifest *m, char **reterr)
{
        int r = fill_manifest(p, m, reterr);

        return r < 0 ? r : signers_check(&p->signers, m, reterr);
}

static int sign_and_publish(const Publication *p, const Manifest *m, Published **ret_winner,
                            char **reterr)
{
        _cleanup_free_ char *data = NULL, *err = NULL;
        size_t size = 0;
        int r = signers_sign(&p->signers, m, &data, &size, reterr);

        if (r < 0)
                return r;
        r = channel_publish(&p->channel, &p->head, data, size, ret_winner, &err);
        if (r < 0)
                return fail(reterr, r, "%s", err_text(r, err));
        if (r == CHANNEL_LOST)
                return PUBLISH_LOST;
        if (r == CHANNEL_HALF)
                log_warning("Published, but the history's entry could not be written: %s. The next "
                            "publisher will write it.",
                            err_text(-EIO, err));
        return PUBLISH_OK;
}

/* Reads the head anew. 1: only the manifest that was there is refreshed, so nobody decided anything
 * that the caller did not know. */
static int follow_refresh(Publication *p, char **reterr)
{
        _cleanup_(channel_head_done) ChannelHead before = p->head;
        const Manifest *was = before.current ? before.current->manifest : NULL, *is;
        int r;

        p->head = (ChannelHead){};
        r = channel_head(&p->channel, &p->head, reterr);
        if (r >= 0)
                r = check_head(p, reterr);
        if (r < 0)
                return r;
        is = p->head.current ? p->head.current->manifest : NULL;
        return was && is && p->head.deployment == before.deployment &&
               is->deployment == was->deployment && streq(is->release, was->release) &&
               sha256_equal(&is->index.sha256, &was->index.sha256) &&
               sha256_equal(&is->artifact.sha256, &was->artifact.sha256);
}

int publication_finish(Publication *p, Manifest *m, const Arguments *a, cJSON *result,
                       char **reterr)
{
        _cleanup_(published_freep) Published *winner = NULL;
        int again = 0, r = fill_manifest(p, m, reterr);

        if (r >= 0)
                r = sign_and_publish(p, m, &winner, reterr);
        if (r == PUBLISH_LOST)
                again = follow_refresh(p, reterr);
        if (again < 0)
                return again;
        if (again) {
                winner = published_free(winner);
                r = fill_manifest(p, m, reterr);
                if (r >= 0)
                        r = sign_and_publish(p, m, &winner, reterr);
        }
        return r == PUBLISH_OK     ? report_done(p, m, a, result)
               : r == PUBLISH_LOST ? report_lost(p, winner, result, reterr)
                                   : r;
}

int publication_renew(const Publication *p, Manifest *m, const char *expires, cJSON *result,
                      char **reterr)
{
        _cleanup_(published_freep) Published *winner = NULL;
        uint64_t lifetime_sec = m->expires_sec - m->published_sec;
        int r = number(p, m, m->deployment, reterr);

        m->expires_sec = m->published_sec + lifetime_sec;
        if (r >= 0 && expires)
                r = expiry_parse(expires, m->published_sec, &m->expires_sec, reterr);
        if (r >= 0)
                r = sign_and_publish(p, m, &winner, reterr);
        return r == PUBLISH_LOST ? report_lost(p, winner, result, reterr) : r;
}
