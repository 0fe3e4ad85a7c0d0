/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "err.h"
#include "fd.h"
#include "index-store.h"
#include "log.h"
#include "range-set.h"
#include "room.h"
#include "shared-link.h"
#include "staging.h"

#define UNPACK_MAX_USEC (UINT64_C(3600) * 1000000)

/* AVAILABLE is passed on at most about so often in a release's life: the socket has room for all of
 * them, so that slipwayd never waits for slipway-unpack. */
#define N_AVAILABLE_MAX 100
#define AVAILABLE_MIN   (UINT64_C(1) << 20)

struct Staging {
        StagingPlace place;
        const Manifest *manifest;
        char name[NAME_MAX + 1]; /* of the staging directory */
        FetchRequest *index_request, *artifact_request;
        int index_fd, artifact_fd;
        bool from_files, index_complete, has_room, artifact_sent;
        bool unpacked;     /* slipway-unpack says so: what it wrote counts when it is gone */
        bool is_replacing; /* a frame that did not hold is fetched again */
        RangeSet *wanted;  /* of the artifact; NULL: not known yet */
        uint64_t available, available_sent; /* of the artifact's start, as far as it is wanted */
        StagingResult counts;
        Child *unpack;
        sd_event_source *done_source, *limit_source;
        int result;
        char *reason;
        staging_done_t done;
        void (*progress)(void *userdata);
        void *userdata;
};

Staging *staging_free(Staging *s)
{
        if (!s)
                return NULL;
        fetch_request_free(s->index_request);
        fetch_request_free(s->artifact_request);
        child_free(s->unpack);
        fd_close(s->index_fd);
        fd_close(s->artifact_fd);
        sd_event_source_disable_unref(s->done_source);
        sd_event_source_disable_unref(s->limit_source);
        sd_event_unref(s->place.event);
        range_set_free(s->wanted);
        free(s->reason);
        free(s);
        return NULL;
}

void staging_on_progress(Staging *s, void (*progress)(void *userdata))
{
        s->progress = progress;
}

uint64_t staging_wanted(const Staging *s)
{
        return s->wanted ? range_set_bytes(s->wanted) : 0;
}

uint64_t staging_available(const Staging *s)
{
        uint64_t bytes = 0;

        for (size_t n = 0; s->wanted && n < range_set_n(s->wanted); n++) {
                ByteRange range = range_set_get(s->wanted, n);
                if (range.offset >= s->available)
                        break;
                bytes += MIN(range.size, s->available - range.offset);
        }
        return bytes;
}

StagingResult staging_result(const Staging *s)
{
        return s->counts;
}

static int on_done(sd_event_source *source, void *userdata)
{
        Staging *s = userdata;

        (void) source;
        s->done(s->result, s->reason, s->userdata);
        return 0;
}

static bool is_done(const Staging *s)
{
        int enabled = SD_EVENT_OFF;

        (void) sd_event_source_get_enabled(s->done_source, &enabled);
        return enabled != SD_EVENT_OFF;
}

/* Ends it from the event loop, with the first result that came. */
static void finish(Staging *s, int result, const char *reason)
{
        if (is_done(s))
                return;
        s->result = result;
        s->reason = reason ? strdup(reason) : NULL;
        (void) sd_event_source_set_enabled(s->done_source, SD_EVENT_ONESHOT);
}

static void finish_errno(Staging *s, int error, const char *what)
{
        _cleanup_free_ char *reason = NULL;
        int r = fail_errno(&reason, error, "%s", what);

        finish(s, r, reason);
}

/* The tree is written and synced, and who wrote it is gone: it gets its name, if it is a tree. */
static int publish_tree(Staging *s)
{
        _cleanup_close_ int fd = dir_open_at(s->place.releases_fd, s->name);

        if (fd < 0)
                return fd;
        if (renameat2(s->place.releases_fd, s->name, s->place.releases_fd, s->manifest->release,
                      RENAME_NOREPLACE) < 0)
                return -errno;
        return fsync(s->place.releases_fd) < 0 ? -errno : 0;
}

static int keep_index(Staging *s, char **reterr)
{
        const StoredObject *index = &s->manifest->index;

        return index_store_take(s->place.state_dir_fd, s->place.app, s->manifest->release,
                                s->index_fd, index->size_bytes, &index->sha256, reterr);
}

static void drop_spool(Staging *s)
{
        if (s->from_files)
                return;
        fetcher_drop(s->place.fetcher, &s->manifest->index.sha256);
        fetcher_drop(s->place.fetcher, &s->manifest->artifact.sha256);
}

static void on_unpacked(Staging *s, const Message *m)
{
        /* Bytes that did not hold are of no use to another try. */
        if (m->result == -EKEYREJECTED || m->result == -EBADMSG)
                drop_spool(s);
        if (m->result != 0) {
                finish(s, m->result < 0 ? m->result : -EPROTO, m->text[0] ? m->text : NULL);
                return;
        }
        s->unpacked = true;
        s->counts.tree_bytes = m->size;
        s->counts.own_bytes = MIN(m->offset, m->size);
        /* Whatever becomes of slipway-fetch now. */
        s->index_request = fetch_request_free(s->index_request);
        s->artifact_request = fetch_request_free(s->artifact_request);
        child_kill(s->unpack);
}

static void on_bad_frame(Staging *s, const Message *m)
{
        Message again = { .type = MESSAGE_GET_AGAIN, .offset = m->offset, .size = m->size };
        int r;

        if (s->from_files) {
                finish(s, -EKEYREJECTED,
                       "the artifact's file is not what was signed: bring the one of this release");
                return;
        }
        if (!s->artifact_request || s->is_replacing || m->size == 0 || m->size > FRAME_SIZE_MAX ||
            !range_set_has(s->wanted, m->offset, m->size)) {
                finish(s, -EPROTO,
                       "slipway-unpack asked for a part of the artifact that it did not want");
                return;
        }
        s->is_replacing = true;
        log_warning(
                "release %s: bytes %llu to %llu of the artifact are not what was signed: fetching them again",
                s->manifest->release, (unsigned long long) m->offset,
                (unsigned long long) (m->offset + m->size));
        r = fetch_request_send(s->artifact_request, &again, -1);
        if (r < 0)
                finish_errno(s, r, "can't ask slipway-fetch");
}

/* A child that ended does not read any more: what it said before, or its exit, is what counts. */
static int tell_unpack(Staging *s, const Message *m, int fd)
{
        int r = child_send(s->unpack, m, fd);

        return r == -EPIPE ? 0 : r;
}

static int send_available(Staging *s)
{
        uint64_t total = s->manifest->artifact.size_bytes;
        Message m = { .type = MESSAGE_AVAILABLE, .size = s->available };
        int r;

        if (!s->unpack || !s->artifact_sent || s->available == s->available_sent)
                return 0;
        if (s->available < total &&
            s->available - s->available_sent < MAX(AVAILABLE_MIN, total / N_AVAILABLE_MAX))
                return 0;
        r = tell_unpack(s, &m, -1);
        if (r < 0)
                return r;
        s->available_sent = s->available;
        return 0;
}

/* Gives slipway-unpack the artifact as soon as it is there. */
static int send_artifact(Staging *s)
{
        Message m = { .type = MESSAGE_ARTIFACT, .size = s->manifest->artifact.size_bytes };
        int r;

        if (s->wanted && s->unpack && s->artifact_fd >= 0 && !s->artifact_sent) {
                r = tell_unpack(s, &m, s->artifact_fd);
                if (r < 0)
                        return r;
                s->artifact_sent = true;
        }
        return send_available(s);
}

static int fetch_artifact(Staging *s);

static int check_room(Staging *s, const RoomNeed *need, char **reterr)
{
        const StagingPlace *place = &s->place;
        const RoomPlace room = { .releases_fd = place->releases_fd,
                                 .root = place->root,
                                 .cache_dir =
                                         s->from_files ? NULL : fetcher_cache_dir(place->fetcher),
                                 .reserve_bytes = place->reserve_bytes };

        return room_check(&room, need, reterr);
}

/* What the tree takes is known now, and nothing of it was written yet. */
static void on_needs(Staging *s, const Message *m)
{
        const RoomNeed need = { .tree_bytes = m->size, .n_inodes = m->offset };
        const Message take = { .type = MESSAGE_TAKE };
        _cleanup_free_ char *err = NULL;
        int r;

        if (s->has_room)
                return;
        r = check_room(s, &need, &err);
        if (r < 0) {
                finish(s, r, err);
                return;
        }
        s->has_room = true;
        r = tell_unpack(s, &take, -1);
        if (r < 0)
                finish_errno(s, r, "can't talk to slipway-unpack");
}

static int take_wanted(Staging *s, int fd, char **reterr)
{
        struct stat st;
        int r;

        if (fd < 0 || fstat(fd, &st) < 0)
                return fail(reterr, -EPROTO, "slipway-unpack did not say what it wants");
        r = range_set_unpack(fd, st.st_size, s->manifest->artifact.size_bytes, &s->wanted);
        /* It is not the release that is to blame. */
        if (r == -EBADMSG)
                return fail(reterr, -EPROTO,
                            "slipway-unpack wants parts that the artifact does not have");
        return r < 0 ? fail_errno(reterr, r, "can't read what slipway-unpack wants") : 0;
}

/* What there was is taken over: the rest is to be fetched. */
static void on_wanted(Staging *s, const Message *m, int fd)
{
        RoomNeed need = { .tree_bytes = m->offset };
        _cleanup_free_ char *err = NULL;
        int r;

        if (!s->has_room || s->wanted)
                return;
        r = take_wanted(s, fd, &err);
        if (r >= 0) {
                need.artifact_bytes = range_set_bytes(s->wanted);
                r = check_room(s, &need, &err);
        }
        if (r < 0) {
                finish(s, r, err);
                return;
        }
        s->counts.n_taken_over = MAX(m->result, 0);
        if (m->text[0])
                log_warning("release %s: %s: fetching them", s->manifest->release, m->text);
        if (need.artifact_bytes == 0)
                return;
        r = s->from_files ? send_artifact(s) : fetch_artifact(s);
        if (r < 0)
                finish_errno(s, r, "can't begin with the artifact");
}

static void on_unpack_message(Child *c, const Message *m, int *fd, void *userdata)
{
        Staging *s = userdata;

        (void) c;
        if (is_done(s) || s->unpacked)
                return;
        if (m->type == MESSAGE_UNPACKED)
                on_unpacked(s, m);
        else if (m->type == MESSAGE_NEEDS)
                on_needs(s, m);
        else if (m->type == MESSAGE_WANTED)
                on_wanted(s, m, *fd);
        else if (m->type == MESSAGE_BAD_FRAME)
                on_bad_frame(s, m);
}

static void on_unpack_exited(Child *c, const char *how, void *userdata)
{
        Staging *s = userdata;
        _cleanup_free_ char *reason = NULL;
        int r;

        s->unpack = child_free(c);
        if (s->unpacked && !is_done(s)) {
                r = publish_tree(s);
                if (r < 0) {
                        finish_errno(s, r, "can't give the unpacked release its name");
                        return;
                }
                drop_spool(s);
                finish(s, 0, NULL);
                return;
        }
        err_set(&reason, "slipway-unpack ended (%s) before it was done", how);
        finish(s, -EIO, reason);
}

static int send_links(Staging *s)
{
        Message m = { .type = MESSAGE_LINKS };
        _cleanup_close_ int fd = shared_links_pack(&s->manifest->activate, &m.size);

        return fd < 0 ? fd : tell_unpack(s, &m, fd);
}

/* 1: sent; 0: it is of no use, or its index too large beside the others: slipway-unpack has all of
 * them in memory. One without serial was found on the disk, and what it was is not known. */
static int send_seed(Staging *s, const Installed *i, uint64_t *left_bytes)
{
        const StagingPlace *place = &s->place;
        Message m = { .type = MESSAGE_SEED,
                      .offset = place->identity.change, /* else the applications' user is ours */
                      .sha256 = i->index_sha256 };
        _cleanup_close_ int fd = -EBADF;
        struct stat st;
        int r;

        if (i->serial == 0 || streq(i->release, s->manifest->release) ||
            faccessat(place->releases_fd, i->release, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                return 0;
        fd = index_store_open(place->state_dir_fd, place->app, i->release);
        if (fd < 0 || fstat(fd, &st) < 0 || (uint64_t) st.st_size > *left_bytes)
                return 0;
        *left_bytes -= m.size = st.st_size;
        (void) stpncpy(m.text, i->release, MESSAGE_TEXT_MAX);
        r = tell_unpack(s, &m, fd);
        return r < 0 ? r : 1;
}

/* The live release first, then those that came last. None of them is removed meanwhile: a release
 * leaves the state, under the site's lock, before its tree gets another name and goes (pruner.h),
 * and whoever stages has that lock. */
static int send_seeds(Staging *s)
{
        uint64_t left_bytes = INDEX_SIZE_MAX;
        const Installed *i;
        int r = 0, n_sent = 0;

        for (size_t n = 0; r >= 0 && n_sent < SEEDS_MAX && (i = state_seed(s->place.state, n));
             n++) {
                r = send_seed(s, i, &left_bytes);
                n_sent += r;
        }
        return MIN(r, 0);
}

static int start_unpack(Staging *s)
{
        static const ChildCallbacks callbacks = { on_unpack_message, on_unpack_exited };
        char *argv[] = { (char *) "slipway-unpack", NULL };
        Message index = { .type = MESSAGE_INDEX,
                          .size = s->manifest->index.size_bytes,
                          .sha256 = s->manifest->index.sha256 };
        Message releases = { .type = MESSAGE_RELEASES };
        _cleanup_free_ char *err = NULL;
        int r;

        (void) stpncpy(releases.text, s->name, MESSAGE_TEXT_MAX);
        r = child_spawn(s->place.event, "slipway-unpack", argv, NULL, &s->place.identity,
                        &callbacks, s, &s->unpack, &err);
        if (r < 0)
                return log_error_errno(r, "%s", err_text(r, err));
        r = tell_unpack(s, &index, s->index_fd);
        if (r >= 0 && s->manifest->activate.n_shared > 0)
                r = send_links(s);
        if (r >= 0)
                r = send_seeds(s);
        if (r >= 0)
                r = tell_unpack(s, &releases, s->place.releases_fd);
        return r;
}

/* Common to both objects; true: the message is dealt with. */
static bool on_object_message(Staging *s, const Message *m, int *fd, int *object_fd,
                              const char *object)
{
        _cleanup_free_ char *reason = NULL;

        if (m->type == MESSAGE_SPOOLED && *object_fd < 0 && *fd >= 0) {
                *object_fd = TAKE_FD(*fd);
                return true;
        }
        if (m->type != 0 && m->type != MESSAGE_GOT && m->type != MESSAGE_GOT_AGAIN)
                return false;
        if (m->result >= 0)
                return m->type == 0;
        err_set(&reason, "can't fetch the %s of release %s: %s", object, s->manifest->release,
                m->text[0] ? m->text : strerror(-m->result));
        /* Only what was checked against a signed digest may condemn a release. */
        finish(s, m->result == -EBADMSG || m->result == -EKEYREJECTED ? -EIO : m->result, reason);
        return true;
}

/* The whole index is there, and kept. */
static void begin_unpack(Staging *s)
{
        int r;

        s->index_complete = true;
        r = start_unpack(s);
        if (r < 0)
                finish_errno(s, r, "can't start to unpack");
}

static void take_index(Staging *s)
{
        _cleanup_free_ char *err = NULL;
        int r = keep_index(s, &err);

        if (r >= 0) {
                begin_unpack(s);
                return;
        }
        if (r == -EKEYREJECTED)
                drop_spool(s);
        finish(s, r, err);
}

/* True: a release on this host has the very same index, and s->index_fd is that. */
static bool share_index(Staging *s)
{
        const StagingPlace *p = &s->place;
        const char *release = s->manifest->release;
        const Sha256 *sha256 = &s->manifest->index.sha256;
        const Installed *i;

        for (size_t n = 0; (i = state_seed(p->state, n)); n++) {
                if (i->serial == 0 || !sha256_equal(&i->index_sha256, sha256) ||
                    index_store_share(p->state_dir_fd, p->app, i->release, release, sha256) < 0)
                        continue;
                s->index_fd = index_store_open(p->state_dir_fd, p->app, release);
                return s->index_fd >= 0;
        }
        return false;
}

static void on_index(const Message *m, int *fd, void *userdata)
{
        Staging *s = userdata;

        if (on_object_message(s, m, fd, &s->index_fd, "index") || m->type != MESSAGE_GOT ||
            s->index_complete)
                return;
        if (s->index_fd < 0) {
                finish(s, -EPROTO, "slipway-fetch gave no index");
                return;
        }
        take_index(s);
}

static void on_artifact(const Message *m, int *fd, void *userdata)
{
        Staging *s = userdata;
        uint64_t total = s->manifest->artifact.size_bytes;
        int r = 0;

        if (on_object_message(s, m, fd, &s->artifact_fd, "artifact")) {
                if (m->type == MESSAGE_SPOOLED)
                        r = send_artifact(s);
        } else if (m->type == MESSAGE_AVAILABLE && m->size <= total && m->size > s->available) {
                s->available = m->size;
                if (s->progress)
                        s->progress(s->userdata);
                /* With a limit for the bandwidth it may take longer than an hour. */
                r = sd_event_source_set_time_relative(s->limit_source, UNPACK_MAX_USEC);
                if (r >= 0)
                        r = send_artifact(s);
        } else if (m->type == MESSAGE_GOT) {
                s->available = total;
                r = send_artifact(s);
        } else if (m->type == MESSAGE_GOT_AGAIN && s->unpack) {
                Message replaced = { .type = MESSAGE_REPLACED,
                                     .offset = m->offset,
                                     .size = m->size };
                s->is_replacing = false;
                r = tell_unpack(s, &replaced, -1);
        }
        if (r < 0)
                finish_errno(s, r, "can't talk to slipway-unpack");
}

/* ranges_fd: of the object, or negative: all of it. */
static int get_object(Staging *s, const StoredObject *o, int ranges_fd, fetch_reply_t reply,
                      FetchRequest **ret)
{
        Message m = { .type = MESSAGE_GET, .size = o->size_bytes, .sha256 = o->sha256 };

        (void) stpncpy(m.text, o->path, MESSAGE_TEXT_MAX);
        return fetcher_request(s->place.fetcher, &m, ranges_fd, reply, s, ret);
}

static int on_limit(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void) source;
        (void) usec;
        finish(userdata, -ETIMEDOUT, "nothing more came, and it was not unpacked, for an hour");
        return 0;
}

static int add_sources(Staging *s)
{
        int r = sd_event_add_defer(s->place.event, &s->done_source, on_done, s);

        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(s->done_source, SD_EVENT_OFF);
        if (r < 0)
                return r;
        return sd_event_add_time_relative(s->place.event, &s->limit_source, CLOCK_BOOTTIME,
                                          UNPACK_MAX_USEC, 0, on_limit, s);
}

static int fetch_artifact(Staging *s)
{
        size_t size;
        _cleanup_close_ int fd = range_set_pack(s->wanted, &size);

        return fd < 0 ? fd
                      : get_object(s, &s->manifest->artifact, fd, on_artifact,
                                   &s->artifact_request);
}

/* From the store, or from what is here. */
static int get_index(Staging *s)
{
        if (!share_index(s))
                return get_object(s, &s->manifest->index, -1, on_index, &s->index_request);
        begin_unpack(s);
        return 0;
}

static int take_files(Staging *s, const StagingFiles *files)
{
        s->from_files = true;
        s->available = s->manifest->artifact.size_bytes;
        s->index_fd = fcntl(files->index_fd, F_DUPFD_CLOEXEC, 0);
        if (s->index_fd < 0)
                return -errno;
        s->artifact_fd = fcntl(files->artifact_fd, F_DUPFD_CLOEXEC, 0);
        if (s->artifact_fd < 0)
                return -errno;
        take_index(s);
        return 0;
}

int staging_start(const StagingPlace *place, const Manifest *manifest, const StagingFiles *files,
                  staging_done_t done, void *userdata, Staging **ret)
{
        _cleanup_(staging_freep) Staging *s = calloc(1, sizeof(Staging));
        char hex[17];
        int r;

        if (!s)
                return -ENOMEM;
        *s = (Staging){ .place = *place,
                        .manifest = manifest,
                        .index_fd = -EBADF,
                        .artifact_fd = -EBADF,
                        .done = done,
                        .userdata = userdata };
        s->place.event = sd_event_ref(place->event);
        r = random_hex(hex);
        if (r < 0)
                return r;
        (void) snprintf(s->name, sizeof(s->name), STAGING_PREFIX "%s.%s", manifest->release, hex);
        r = add_sources(s);
        if (r < 0)
                return r;
        r = files ? take_files(s, files) : get_index(s);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}
