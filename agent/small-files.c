/* SPDX-License-Identifier: Apache-2.0 */
#include "small-files.h"

#include <pthread.h>

#include "err.h"

struct SmallFiles {
        small_file_make_t make;
        void *userdata;
        uint8_t *rooms;

        /* File n lies in files[n % SMALL_FILES_AHEAD]. The lock guards what follows. */
        const IndexFile *files[SMALL_FILES_AHEAD];
        size_t n_added, n_made;
        int result;
        char *err;
        bool stop;
        pthread_mutex_t lock;
        pthread_cond_t added, all_made;
        pthread_t thread;
        bool has_thread;
};

static void *room_of(SmallFiles *s, size_t n)
{
        return s->rooms + n % SMALL_FILES_AHEAD * SMALL_FILE_MAX;
}

/* NULL: there is nothing more to do. */
static const IndexFile *await_file(SmallFiles *s)
{
        pthread_mutex_lock(&s->lock);
        while (s->n_added == s->n_made && !s->stop)
                pthread_cond_wait(&s->added, &s->lock);
        const IndexFile *f = s->stop ? NULL : s->files[s->n_made % SMALL_FILES_AHEAD];
        pthread_mutex_unlock(&s->lock);
        return f;
}

static void *make_files(void *userdata)
{
        SmallFiles *s = userdata;
        const IndexFile *f;
        int r = 0;

        while (r >= 0 && (f = await_file(s))) {
                char *err = NULL;
                r = s->make(s->userdata, f, room_of(s, s->n_made), &err);
                pthread_mutex_lock(&s->lock);
                s->result = r;
                s->err = err;
                s->n_made++;
                if (r < 0 || s->n_added == s->n_made)
                        pthread_cond_signal(&s->all_made);
                pthread_mutex_unlock(&s->lock);
        }
        return NULL;
}

int small_files_new(small_file_make_t make, void *userdata, SmallFiles **ret)
{
        _cleanup_(small_files_freep) SmallFiles *s = malloc(sizeof(SmallFiles));
        int r;

        if (!s)
                return -ENOMEM;
        *s = (SmallFiles){
                .make = make,
                .userdata = userdata,
                .rooms = malloc(SMALL_FILES_AHEAD * SMALL_FILE_MAX),
                .lock = PTHREAD_MUTEX_INITIALIZER,
                .added = PTHREAD_COND_INITIALIZER,
                .all_made = PTHREAD_COND_INITIALIZER,
        };
        if (!s->rooms)
                return -ENOMEM;
        r = pthread_create(&s->thread, NULL, make_files, s);
        if (r > 0)
                return -r;
        s->has_thread = true;
        *ret = TAKE_PTR(s);
        return 0;
}

static void stop_thread(SmallFiles *s)
{
        pthread_mutex_lock(&s->lock);
        s->stop = true;
        pthread_cond_signal(&s->added);
        pthread_mutex_unlock(&s->lock);
        (void) pthread_join(s->thread, NULL);
}

SmallFiles *small_files_free(SmallFiles *s)
{
        if (!s)
                return NULL;
        if (s->has_thread)
                stop_thread(s);
        free(s->rooms);
        free(s->err);
        (void) pthread_cond_destroy(&s->added);
        (void) pthread_cond_destroy(&s->all_made);
        (void) pthread_mutex_destroy(&s->lock);
        free(s);
        return NULL;
}

static int result_of(int r, const SmallFiles *s, char **reterr)
{
        return r < 0 ? fail(reterr, r, "%s", err_text(r, s->err)) : 0;
}

int small_files_room(SmallFiles *s, void **ret_room, char **reterr)
{
        pthread_mutex_lock(&s->lock);
        int r = s->result;
        bool is_full = s->n_added - s->n_made == SMALL_FILES_AHEAD;
        pthread_mutex_unlock(&s->lock);

        if (r < 0 || is_full)
                return result_of(r, s, reterr);
        *ret_room = room_of(s, s->n_added);
        return 1;
}

void small_files_add(SmallFiles *s, const IndexFile *f)
{
        pthread_mutex_lock(&s->lock);
        s->files[s->n_added++ % SMALL_FILES_AHEAD] = f;
        pthread_cond_signal(&s->added);
        pthread_mutex_unlock(&s->lock);
}

int small_files_finish(SmallFiles *s, char **reterr)
{
        pthread_mutex_lock(&s->lock);
        while (s->n_added > s->n_made && s->result >= 0)
                pthread_cond_wait(&s->all_made, &s->lock);
        int r = s->result;
        pthread_mutex_unlock(&s->lock);
        return result_of(r, s, reterr);
}
