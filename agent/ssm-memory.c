/* SPDX-License-Identifier: Apache-2.0 */
#include "ssm-memory.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "err.h"
#include "fd.h"
#include "json-print.h"
#include "json-read.h"
#include "log.h"

#define SCHEMA    "slipway/command/1"
#define SUFFIX    ".json"
#define NAME_SIZE (ORDER_COMMAND_SIZE + sizeof(SUFFIX))

struct SsmMemory {
        int dir_fd;
        SsmRecord *records;
        size_t n_records;
};

void ssm_record_done(SsmRecord *r)
{
        free(r->command);
        free(r->message);
        free(r->document);
        ssm_steps_free(r->steps, r->n_steps);
        free(r->order);
        free(r->reply_id);
        free(r->reply);
        *r = (SsmRecord){};
}

SsmMemory *ssm_memory_free(SsmMemory *m)
{
        if (!m)
                return NULL;
        for (size_t i = 0; i < m->n_records; i++)
                ssm_record_done(&m->records[i]);
        free(m->records);
        fd_close(m->dir_fd);
        free(m);
        return NULL;
}

static char *file_name(const char *command, char ret[static NAME_SIZE])
{
        (void) stpcpy(stpcpy(ret, command), SUFFIX);
        return ret;
}

/* Reading */

static int parse_schema(const cJSON *v, const char *path, void *target, char **reterr)
{
        (void) target;
        if (!cJSON_IsString(v))
                return json_fail_type(v, path, "a string", reterr);
        if (json_schema_is_newer(v->valuestring, SCHEMA))
                return fail(reterr, -EPROTONOSUPPORT,
                            "%s: a newer version of Slipway wrote it, this one knows \"" SCHEMA
                            "\" only",
                            path);
        if (!streq(v->valuestring, SCHEMA))
                return fail(reterr, -EBADMSG, "%s: is not \"" SCHEMA "\"", path);
        return 0;
}

/* char * */
static int parse_uuid(const cJSON *v, const char *path, void *target, char **reterr)
{
        int r = json_parse_string(v, path, target, reterr);

        if (r < 0 || order_command_is_valid(*(char **) target))
                return r;
        return fail(reterr, -EBADMSG, "%s: is no UUID in lower case", path);
}

/* char *: nobody but the service reads it. */
static int parse_payload(const cJSON *v, const char *path, void *target, char **reterr)
{
        if (!cJSON_IsString(v))
                return json_fail_type(v, path, "a string", reterr);
        if (!v->valuestring[0])
                return fail(reterr, -EBADMSG, "%s: must not be empty", path);
        free(*(char **) target);
        *(char **) target = strdup(v->valuestring);
        return *(char **) target ? 0 : -ENOMEM;
}

static int parse_step(const cJSON *v, const char *path, void *target, char **reterr)
{
        static const JsonField fields[] = {
                {"name",            json_parse_string, offsetof(SsmStep, name), true },
                { "plugin", json_parse_string, offsetof(SsmStep, plugin), true },
                {        }
        };
        SsmRecord *record = target;
        SsmStep step = {};
        int r = json_dispatch(v, path, fields, &step, reterr);

        if (r >= 0)
                r = ssm_steps_add(&record->steps, &record->n_steps, step.name, step.plugin);
        if (r == -EEXIST)
                r = fail(reterr, -EBADMSG, "%s: is a second step of this name", path);
        free(step.name);
        free(step.plugin);
        return r;
}

static int parse_steps(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_each(v, path, SSM_STEPS_MAX, parse_step, target, reterr);
}

/* "reply" of the file: what becomes reply_id, reply and delivered. */
static int parse_reply(const cJSON *v, const char *path, void *target, char **reterr)
{
        static const JsonField fields[] = {
                {"id",                parse_uuid, offsetof(SsmRecord, reply_id), true },
                { "payload", parse_payload, offsetof(SsmRecord, reply), true },
                { "delivered",               json_parse_bool, offsetof(SsmRecord, delivered), true },
                {}
        };

        return json_dispatch(v, path, fields, target, reterr);
}

static int check_order(const SsmRecord *r, char **reterr)
{
        _cleanup_(remote_order_done) RemoteOrder o = {};
        int error = r->order ? remote_order_unpack(r->order, &o, reterr) : 0;

        if (error == -EINVAL)
                return fail_prefix(reterr, -EBADMSG, "order");
        if (error < 0 || !r->order || streq(o.command, r->command))
                return error;
        return fail(reterr, -EBADMSG, "order: is of another command");
}

int ssm_record_parse(const char *data, size_t size, SsmRecord *ret, char **ret_reply, char **reterr)
{
        static const JsonField fields[] = {
                {"schema",           parse_schema, 0, true },
                { "command",                 parse_uuid, offsetof(SsmRecord, command), true },
                { "message",                 json_parse_string, offsetof(SsmRecord, message), true },
                { "document",json_parse_string, offsetof(SsmRecord, document), true },
                { "received",          json_parse_uint, offsetof(SsmRecord, received_msec), true },
                { "steps",                 parse_steps, 0, true },
                { "order",json_parse_string, offsetof(SsmRecord, order), false },
                { "reply",          parse_reply, 0, false },
                {         }
        };
        _cleanup_(ssm_record_done) SsmRecord record = {};
        _cleanup_json_ cJSON *o = NULL;
        int r = json_parse(data, size, &o, reterr);

        if (r >= 0)
                r = json_dispatch(o, "", fields, &record, reterr);
        if (r >= 0)
                r = check_order(&record, reterr);
        if (r < 0)
                return r;
        *ret_reply = TAKE_PTR(record.reply);
        *ret = record;
        record = (SsmRecord){};
        return 0;
}

static int read_file(int dir_fd, const char *name, SsmRecord *ret, char **ret_reply, char **reterr)
{
        _cleanup_free_ char *data = NULL;
        size_t size;
        int r = file_read_at(dir_fd, name, SSM_MEMORY_FILE_SIZE_MAX, &data, &size);

        if (r < 0)
                return fail_errno(reterr, r, "can't read it");
        r = ssm_record_parse(data, size, ret, ret_reply, reterr);
        if (r < 0 || strncmp(name, ret->command, ORDER_COMMAND_SIZE) == 0)
                return r;
        ssm_record_done(ret);
        free(*ret_reply);
        *ret_reply = NULL;
        return fail(reterr, -EBADMSG, "command: is another one than the file's name says");
}

/* Room for one more, without which nothing is written. */
static int reserve(SsmMemory *m)
{
        SsmRecord *larger = array_extend(m->records, m->n_records, sizeof(SsmRecord));

        if (!larger)
                return -ENOMEM;
        m->records = larger;
        return 0;
}

/* Takes what is in *record; after reserve(). */
static SsmRecord *append(SsmMemory *m, SsmRecord *record)
{
        SsmRecord *r = &m->records[m->n_records++];

        *r = *record;
        *record = (SsmRecord){};
        return r;
}

/* Out of the way, for somebody to look at. */
static void set_aside(SsmMemory *m, const char *name, const char *why)
{
        char aside[NAME_SIZE + STRLEN(".damaged")];

        (void) stpcpy(stpcpy(aside, name), ".damaged");
        if (renameat(m->dir_fd, name, m->dir_fd, aside) < 0)
                log_warning("What is remembered of a command, %s, is damaged (%s), and can't be "
                            "set aside: %s",
                            name, why, strerror(errno));
        else
                log_warning("What is remembered of a command, %s, is damaged (%s): it is now %s",
                            name, why, aside);
}

static int load_file(SsmMemory *m, const char *name, char **reterr)
{
        _cleanup_(ssm_record_done) SsmRecord record = {};
        _cleanup_free_ char *reply = NULL, *err = NULL;
        int r = read_file(m->dir_fd, name, &record, &reply, &err);

        if (r == -EBADMSG || r == -EFBIG || r == -EINVAL || r == -EISDIR) {
                set_aside(m, name, err_text(r, err));
                return 0;
        }
        if (r == -EPROTONOSUPPORT) {
                log_warning("What is remembered of a command, %s, is left as it is: %s", name,
                            err_text(r, err));
                return 0;
        }
        if (r >= 0)
                r = reserve(m);
        if (r < 0)
                return fail(reterr, r, "%s: %s", name, err_text(r, err));
        (void) append(m, &record);
        return 0;
}

static bool is_name(const char *s)
{
        char command[ORDER_COMMAND_SIZE + 1];

        *stpncpy(command, s, ORDER_COMMAND_SIZE) = '\0';
        return order_command_is_valid(command) && streq(s + ORDER_COMMAND_SIZE, SUFFIX);
}

/* What file_write_atomic_at() left behind when the program was killed. */
static int remove_leftover(SsmMemory *m, const char *entry)
{
        char name[NAME_SIZE];

        *stpncpy(name, entry + 1, NAME_SIZE - 1) = '\0';
        return is_name(name) ? replace_leftovers_remove_at(m->dir_fd, name) : 0;
}

static int load_all(SsmMemory *m, char **reterr)
{
        int fd = dir_open_at(m->dir_fd, "."), r = 0;
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *entry;

        if (!dir) {
                fd_close(fd);
                return fail_errno(reterr, fd < 0 ? fd : -errno, "can't list it");
        }
        while (r >= 0 && (errno = 0, entry = readdir(dir))) {
                if (is_name(entry->d_name))
                        r = load_file(m, entry->d_name, reterr);
                else if (entry->d_name[0] == '.')
                        r = remove_leftover(m, entry->d_name);
        }
        if (r >= 0 && errno > 0)
                r = fail_errno(reterr, -errno, "can't list it");
        (void) closedir(dir);
        return r;
}

static uint64_t realtime_msec(void)
{
        struct timespec t;

        (void) clock_gettime(CLOCK_REALTIME, &t);
        return (uint64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int ssm_memory_open(const char *path, SsmMemory **ret, char **reterr)
{
        _cleanup_(ssm_memory_freep) SsmMemory *m = calloc(1, sizeof(SsmMemory));
        int r;

        if (!m)
                return -ENOMEM;
        m->dir_fd = dir_open_at(AT_FDCWD, path);
        if (m->dir_fd < 0)
                return fail_errno(reterr, m->dir_fd, "can't open the memory of commands %s", path);
        r = load_all(m, reterr);
        if (r < 0)
                return fail_prefix(reterr, r, "can't read the memory of commands %s", path);
        ssm_memory_forget_old(m, realtime_msec());
        *ret = TAKE_PTR(m);
        return 0;
}

/* Writing */

static bool add(cJSON *o, const char *name, const char *text)
{
        return cJSON_AddStringToObject(o, name, text);
}

static bool add_steps(cJSON *parent, const SsmRecord *r)
{
        cJSON *steps = cJSON_AddArrayToObject(parent, "steps");

        for (size_t i = 0; steps && i < r->n_steps; i++) {
                cJSON *step = cJSON_CreateObject();
                if (!cJSON_AddItemToArray(steps, step) || !add(step, "name", r->steps[i].name) ||
                    !add(step, "plugin", r->steps[i].plugin))
                        return false;
        }
        return steps;
}

static bool add_reply(cJSON *parent, const SsmRecord *r, const char *reply)
{
        cJSON *o = cJSON_AddObjectToObject(parent, "reply");

        return o && add(o, "id", r->reply_id) && add(o, "payload", reply) &&
               cJSON_AddBoolToObject(o, "delivered", r->delivered);
}

static int format(const SsmRecord *r, const char *reply, char **ret)
{
        _cleanup_json_ cJSON *o = cJSON_CreateObject();

        if (!o || !add(o, "schema", SCHEMA) || !add(o, "command", r->command) ||
            !add(o, "message", r->message) || !add(o, "document", r->document))
                return -ENOMEM;
        int error = json_add_uint(o, "received", r->received_msec);
        if (error < 0)
                return error == -ERANGE ? -EINVAL : error;
        if (!add_steps(o, r) || (r->order && !add(o, "order", r->order)) ||
            (r->reply_id && !add_reply(o, r, reply)))
                return -ENOMEM;
        *ret = json_print(o, false);
        return *ret ? 0 : -ENOMEM;
}

/* -EINVAL: a start would set the file aside. */
static int check_text(const char *text)
{
        _cleanup_(ssm_record_done) SsmRecord again = {};
        _cleanup_free_ char *reply = NULL;
        size_t size = strlen(text);
        int r = size > SSM_MEMORY_FILE_SIZE_MAX
                        ? -EFBIG
                        : ssm_record_parse(text, size, &again, &reply, NULL);

        return r == -EBADMSG || r == -EFBIG ? -EINVAL : r;
}

static int write_record(SsmMemory *m, const SsmRecord *r, const char *reply)
{
        _cleanup_free_ char *text = NULL;
        char name[NAME_SIZE];
        int error = format(r, reply, &text);

        if (error >= 0)
                error = check_text(text);
        if (error < 0)
                return error;
        return file_write_atomic_at(m->dir_fd, file_name(r->command, name), text, strlen(text),
                                    0600);
}

static void forget(SsmMemory *m, SsmRecord *r)
{
        char name[NAME_SIZE];

        if (unlinkat(m->dir_fd, file_name(r->command, name), 0) < 0 && errno != ENOENT)
                log_warning("Can't forget the command %s: %s", r->command, strerror(errno));
        ssm_record_done(r);
        m->n_records--;
        memmove(r, r + 1, (m->records + m->n_records - r) * sizeof(SsmRecord));
}

SsmRecord *ssm_memory_find(SsmMemory *m, const char *command)
{
        for (size_t i = 0; i < m->n_records; i++)
                if (streq(m->records[i].command, command))
                        return &m->records[i];
        return NULL;
}

SsmRecord *ssm_memory_get(SsmMemory *m, size_t i)
{
        return i < m->n_records ? &m->records[i] : NULL;
}

/* Whether a is forgotten before b, which may be NULL. */
static bool goes_before(const SsmRecord *a, const SsmRecord *b)
{
        if (!b || a->delivered != b->delivered)
                return !b || a->delivered;
        return a->received_msec < b->received_msec;
}

/* What may go to make room; NULL: nothing. */
static SsmRecord *dispensable(SsmMemory *m)
{
        SsmRecord *oldest = NULL;

        for (size_t i = 0; i < m->n_records; i++)
                if (m->records[i].reply_id && goes_before(&m->records[i], oldest))
                        oldest = &m->records[i];
        return oldest;
}

static void make_room(SsmMemory *m)
{
        SsmRecord *r;

        while (m->n_records >= SSM_MEMORY_MAX && (r = dispensable(m)))
                forget(m, r);
}

/* A file that is not sure to survive a crash must not be there at all. */
static int write_new(SsmMemory *m, const SsmRecord *record)
{
        char name[NAME_SIZE];
        int r = write_record(m, record, record->reply);

        if (r < 0 && r != -EINVAL)
                (void) unlinkat(m->dir_fd, file_name(record->command, name), 0);
        return r;
}

int ssm_memory_add(SsmMemory *m, SsmRecord *record, SsmRecord **ret)
{
        int r;

        if (ssm_memory_find(m, record->command))
                return -EEXIST;
        if (m->n_records >= SSM_MEMORY_MAX && !dispensable(m))
                return -EBUSY;
        r = reserve(m);
        if (r >= 0)
                r = write_new(m, record);
        if (r < 0)
                return r;
        make_room(m);
        *ret = append(m, record);
        free(TAKE_PTR((*ret)->reply));
        return 0;
}

int ssm_memory_end(SsmMemory *m, SsmRecord *r, const char *reply_id, const char *reply)
{
        _cleanup_free_ char *id = strdup(reply_id), *copy = strdup(reply);
        SsmRecord ended = *r;
        int error;

        if (!id || !copy)
                return -ENOMEM;
        ended.reply_id = id;
        error = write_record(m, &ended, reply);
        if (error == -EINVAL)
                return error;
        free(r->reply_id);
        free(r->reply);
        r->reply_id = TAKE_PTR(id);
        r->reply = error < 0 ? TAKE_PTR(copy) : NULL;
        return error;
}

int ssm_memory_delivered(SsmMemory *m, SsmRecord *r)
{
        _cleanup_free_ char *reply = NULL;
        int error;

        r->delivered = true;
        error = ssm_memory_load_reply(m, r, &reply);
        if (error >= 0)
                error = write_record(m, r, reply);
        if (error < 0)
                return error;
        free(r->reply);
        r->reply = NULL;
        return 0;
}

static int read_reply(SsmMemory *m, const SsmRecord *r, char **ret)
{
        _cleanup_(ssm_record_done) SsmRecord record = {};
        char name[NAME_SIZE];
        int error = read_file(m->dir_fd, file_name(r->command, name), &record, ret, NULL);

        if (error < 0)
                return error;
        return *ret ? 0 : -EBADMSG;
}

int ssm_memory_load_reply(SsmMemory *m, const SsmRecord *r, char **ret)
{
        if (!r->reply_id)
                return -ENOENT;
        if (!r->reply)
                return read_reply(m, r, ret);
        *ret = strdup(r->reply);
        return *ret ? 0 : -ENOMEM;
}

void ssm_memory_forget_old(SsmMemory *m, uint64_t now_msec)
{
        for (size_t i = m->n_records; i > 0; i--) {
                SsmRecord *r = &m->records[i - 1];
                if (r->reply_id && now_msec > r->received_msec &&
                    now_msec - r->received_msec > UINT64_C(1000) * SSM_MEMORY_AGE_MAX_SEC)
                        forget(m, r);
        }
}
