/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent-bus.h"
#include "app.h"
#include "bus-service.h"
#include "dsse.h"
#include "fake-bus.h"
#include "fake-child.h"
#include "fuzz-dir.h"
#include "fuzz.h"
#include "index.h"
#include "json-read.h"
#include "log.h"
#include "name.h"
#include "orders.h"
#include "range-set.h"
#include "state-file.h"
#include "time-text.h"
#include "unit-status.h"

/*
 * slipwayd with an application, between children that were taken over, callers on the bus, and a
 * systemd that answers as it pleases. An input is a script: a byte says who acts, those behind it
 * what they say (see act()). SERVE lets everybody do the next thing that they ought to do, so that
 * scripts get far. Whatever happens, the state can be read again, and what it says is live is
 * there.
 */

#define N_ASKED_MAX   16
#define N_STEPS_MAX   64
#define N_TURNS_MAX   64
#define N_REQUESTS(b) MIN((b)->n_asked, (size_t) N_ASKED_MAX)

typedef struct Script {
        const uint8_t *at, *end;
} Script;

typedef struct Bench {
        FuzzDir dir;
        char path[128];
        Agent *agent;
        FakeBus *bus;
        Message asked[N_ASKED_MAX]; /* of slipway-fetch, a ring */
        size_t n_asked, n_served;
        Message ordered; /* what slipway-unpack was told last */
        char staging[NAME_MAX + 1];
} Bench;

static uint8_t next_byte(Script *s)
{
        return s->at < s->end ? *s->at++ : 0;
}

/* A text with its size before it, into `to`. */
static size_t next_text(Script *s, char *to, size_t room)
{
        size_t n = next_byte(s);

        n = MIN(n, room - 1);
        n = MIN(n, (size_t) (s->end - s->at));
        memcpy(to, s->at, n);
        to[n] = '\0';
        s->at += n;
        return n;
}

/* --- what is true --- */

static Key *signing_key(void)
{
        static Key *k = NULL;

        assert(k || key_generate(KEY_ED25519, &k) == 0);
        return k;
}

static Trust *make_trust(void)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_free_ char *text = NULL;
        Key *keys[] = { signing_key() };
        Trust *t = NULL;
        size_t size;

        assert(trust_format_first(keys, 1, 1, keys, 1, 1, (uint64_t) time(NULL) + 3600, NULL, 0,
                                  &text, &size, NULL) == 0);
        assert(envelope_parse(text, size, TRUST_PAYLOAD_TYPE, &e, NULL) == 0);
        assert(trust_parse(e->payload, e->payload_size, &t, NULL) == 0);
        return t;
}

/* Of a release with one directory. */
static const void *index_bytes(size_t *ret_size)
{
        static void *data = NULL;
        static size_t size;
        _cleanup_(index_writer_freep) IndexWriter *w = NULL;
        const Frame frames[] = {
                {.size_bytes = 1,  .content_size_bytes = 512 },
                { .offset = 1, .size_bytes = 2, .content_size_bytes = 1024 },
        };
        const IndexFile file = { .path = "d", .type = FILE_DIRECTORY, .mode = 0755, .n_frames = 1 };

        *ret_size = size;
        if (data)
                return data;
        assert(index_writer_new(&w) == 0);
        for (size_t i = 0; i < ELEMENTSOF(frames); i++)
                assert(index_writer_add_frame(w, &frames[i]) == 0);
        assert(index_writer_add_file(w, &file) == 0);
        assert(index_writer_format(w, &data, &size, NULL) == 0);
        *ret_size = size;
        return data;
}

static int index_fd(void)
{
        size_t size;
        const void *data = index_bytes(&size);
        int fd = memfd_sealed("index", data, size);

        assert(fd >= 0);
        return fd;
}

/* With a good signature, whatever it says. */
static int signed_fd(const void *payload, size_t size)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_free_ uint8_t *packed = NULL;
        size_t packed_size;
        int fd;

        if (envelope_new(payload, size, &e) < 0)
                return -EBADF;
        assert(envelope_sign(e, MANIFEST_PAYLOAD_TYPE, signing_key(), NULL) == 0);
        assert(envelope_pack(e, &packed, &packed_size) == 0);
        fd = memfd_sealed("manifest", packed, packed_size);
        assert(fd >= 0);
        return fd;
}

static const char *const activations[] = {
        "",
        ",\"activate\":{\"units\":[{\"name\":\"web.service\",\"action\":\"restart\"}],"
        "\"health\":{\"bake\":\"0s\"}}",
        ",\"activate\":{\"units\":[{\"name\":\"web.service\",\"action\":\"reload\"}],"
        "\"health\":{\"bake\":\"0s\",\"confirm\":\"1h\"}}",
        ",\"activate\":{\"hooks\":{\"pre\":[{\"command\":[\"bin/x\"]}]}}",
};

static int manifest_fd(unsigned variant)
{
        const char *activation = activations[variant % ELEMENTSOF(activations)];
        const unsigned n = 2 + variant / ELEMENTSOF(activations) % 4;
        char from[TIME_TEXT_SIZE], until[TIME_TEXT_SIZE], hex[SHA256_HEX_SIZE];
        _cleanup_free_ char *text = NULL;
        size_t size;
        const void *data = index_bytes(&size);
        const uint64_t now = (uint64_t) time(NULL);
        Sha256 d;
        int fd;

        assert(sha256(data, size, &d) == 0);
        sha256_to_hex(&d, hex);
        assert(asprintf(&text,
                        "{\"schema\":\"slipway/manifest/1\",\"app\":\"web\",\"channel\":\"prod\","
                        "\"serial\":%u,\"deployment\":%u,\"published\":\"%s\",\"expires\":\"%s\","
                        "\"release\":{\"id\":\"r%u\","
                        "\"artifact\":{\"path\":\"web/a\",\"size\":3,\"sha256\":\"%s\"},"
                        "\"index\":{\"path\":\"web/i\",\"size\":%zu,\"sha256\":\"%s\"}}%s}",
                        n, n, time_format_utc(now - 60, from), time_format_utc(now + 3600, until),
                        n, hex, size, hex, activation) > 0);
        fd = signed_fd(text, strlen(text));
        assert(fd >= 0);
        return fd;
}

/* --- children --- */

static void say(const char *program, const Message *m, int fd)
{
        const Child *c = fake_child_find(program);

        if (c)
                (void) !message_send(fake_child_fd(c), m, fd);
}

static void note_order(Bench *b, const Message *m, int fd)
{
        b->ordered = *m;
        if (m->type == MESSAGE_RELEASES && fd >= 0)
                (void) mkdirat(fd, m->text, 0755);
        if (m->type == MESSAGE_REMOVE && fd >= 0)
                (void) !remove_tree_at(fd, m->text);
}

/* Reads what slipwayd says to its children. */
static void hear(Bench *b)
{
        static const char *const programs[] = { "slipway-fetch", "slipway-unpack" };

        for (size_t i = 0; i < ELEMENTSOF(programs); i++) {
                const Child *c = fake_child_find(programs[i]);
                Message m;
                int fd;

                while (c && message_receive(fake_child_fd(c), &m, &fd) == 1) {
                        if (i == 0)
                                b->asked[b->n_asked++ % N_ASKED_MAX] = m;
                        else
                                note_order(b, &m, fd);
                        fd_close(fd);
                }
        }
}

static int descriptor(Bench *b, Script *s, unsigned kind, const char *text, size_t size)
{
        (void) s;
        switch (kind % 8) {
        case 0:
                return manifest_fd((unsigned) size);
        case 1:
                return signed_fd(text, size);
        case 2:
                return memfd_sealed("text", text, size);
        case 3:
                return index_fd();
        case 4:
                return fcntl(b->dir.fd, F_DUPFD_CLOEXEC, 0);
        case 5:
                return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        default:
                return -EBADF;
        }
}

static const int results[] = { 0,          1,    2,       3,         4,
                               200,        -EIO, -ENOENT, -EBADMSG,  -EKEYREJECTED,
                               -EHOSTDOWN, -1,   500,     INT32_MIN, -EACCES };

static const uint64_t numbers[] = { 0, 1, 2, 3, 512, 1 << 20, UINT64_MAX, UINT64_C(1) << 63 };

static MessageType answer_of(uint32_t type)
{
        static const uint8_t answers[_MESSAGE_TYPE_MAX] = {
                [MESSAGE_POLL] = MESSAGE_POLLED,      [MESSAGE_WATCH] = MESSAGE_POLLED,
                [MESSAGE_OPEN] = MESSAGE_POLLED,      [MESSAGE_BRAKE] = MESSAGE_BRAKED,
                [MESSAGE_GET] = MESSAGE_GOT,          [MESSAGE_GET_AGAIN] = MESSAGE_GOT_AGAIN,
                [MESSAGE_PUT] = MESSAGE_PUT_DONE,     [MESSAGE_IDENTIFY] = MESSAGE_IDENTIFIED,
                [MESSAGE_LISTEN] = MESSAGE_LISTENING, [MESSAGE_ORDER_NEWS] = MESSAGE_ORDER,
                [MESSAGE_PROBE] = MESSAGE_PROBED,
        };

        return answers[type] ? (MessageType) answers[type] : MESSAGE_GOT;
}

/* Anything, by any child, of a request that there was. */
static void speak(Bench *b, Script *s)
{
        const unsigned how = next_byte(s), which = next_byte(s), type = next_byte(s),
                       fd_kind = next_byte(s);
        const Message *asked = &b->asked[which % N_ASKED_MAX];
        Message m = { .type = how & 1 ? type % (_MESSAGE_TYPE_MAX + 1) : answer_of(asked->type),
                      .id = how & 2 ? numbers[which % ELEMENTSOF(numbers)] : asked->id,
                      .result = results[next_byte(s) % ELEMENTSOF(results)],
                      .offset = numbers[next_byte(s) % ELEMENTSOF(numbers)] };
        _cleanup_close_ int fd = -EBADF;
        size_t size;

        m.size = how & 4 ? asked->size : numbers[next_byte(s) % ELEMENTSOF(numbers)];
        size = next_text(s, m.text, sizeof(m.text));
        fd = descriptor(b, s, fd_kind, m.text, size);
        if (fd_kind % 8 < 2)
                m.text[0] = '\0';
        say(how & 8 ? "slipway-unpack" : "slipway-fetch", &m, fd);
}

/* As it ought to be. */
static void serve_request(const Message *asked, unsigned variant)
{
        Message m = { .type = answer_of(asked->type), .id = asked->id, .size = 1 };
        _cleanup_close_ int fd = -EBADF;

        if (m.type == MESSAGE_POLLED && asked->offset != POLL_ROOT)
                fd = manifest_fd(variant);
        else if (m.type == MESSAGE_POLLED)
                m.result = POLL_ABSENT;
        if (m.type == MESSAGE_PROBED)
                m.result = 200;
        if (asked->type == MESSAGE_GET) {
                Message spooled = { .type = MESSAGE_SPOOLED, .id = asked->id };
                Message available = { .type = MESSAGE_AVAILABLE,
                                      .id = asked->id,
                                      .size = asked->size };
                _cleanup_close_ int spool_fd = index_fd();
                say("slipway-fetch", &spooled, spool_fd);
                say("slipway-fetch", &available, -1);
        }
        say("slipway-fetch", &m, fd);
}

static void serve_order(Bench *b)
{
        static const uint8_t answers[_MESSAGE_TYPE_MAX] = {
                [MESSAGE_RELEASES] = MESSAGE_NEEDS,    [MESSAGE_TAKE] = MESSAGE_WANTED,
                [MESSAGE_ARTIFACT] = MESSAGE_UNPACKED, [MESSAGE_AVAILABLE] = MESSAGE_UNPACKED,
                [MESSAGE_REMOVE] = MESSAGE_REMOVED,
        };
        static const ByteRange wanted = { .size = 2 }; /* of an artifact of 3 */
        Message m = { .type = answers[b->ordered.type], .size = 4096, .offset = 2 };
        _cleanup_close_ int fd = -EBADF;

        if (m.type == MESSAGE_WANTED)
                fd = memfd_sealed("wanted", &wanted, sizeof(wanted));
        if (m.type > 0)
                say("slipway-unpack", &m, fd);
        b->ordered.type = 0;
}

/* --- the bus --- */

static int append_status(sd_bus_message *m, const char *state, const char *sub)
{
        return sd_bus_message_append(m, "a{sv}", 7, "Id", "s", "web.service", "LoadState", "s",
                                     "loaded", "ActiveState", "s", state, "SubState", "s", sub,
                                     "Type", "s", "simple", "NRestarts", "u", (uint32_t) 0, "Job",
                                     "(uo)", (uint32_t) 0, "/");
}

/* With every type that is read, filled in by the script. */
static int append_odd_status(sd_bus_message *m, Script *s)
{
        static const struct {
                const char *name, *type;
        } fields[] = {
                {"Id",                      "s"       },
                { "LoadState",              "s"       },
                { "ActiveState",            "s"       },
                { "SubState",               "s"       },
                { "Type",                   "s"       },
                { "Result",                 "s"       },
                { "NRestarts",              "u"       },
                { "ExecMainCode",           "i"       },
                { "ExecMainStatus",         "i"       },
                { "CanReload",              "b"       },
                { "ConditionResult",        "b"       },
                { "ExecMainStartTimestamp", "t"       },
                { "InvocationID",           "ay"      },
                { "Conditions",             "a(sbbsi)"},
                { "Job",                    "(uo)"    },
        };
        char text[256];
        int r = sd_bus_message_open_container(m, 'a', "{sv}");

        for (unsigned n = next_byte(s) % 16; r >= 0 && n > 0; n--) {
                const unsigned which = next_byte(s), k = which % ELEMENTSOF(fields);
                const char *type = which & 128 ? "s" : fields[k].type;

                (void) next_text(s, text, sizeof(text));
                if (streq(type, "s"))
                        r = sd_bus_message_append(m, "{sv}", fields[k].name, type, text);
                else if (streq(type, "t"))
                        r = sd_bus_message_append(m, "{sv}", fields[k].name, type,
                                                  numbers[which % ELEMENTSOF(numbers)]);
                else if (streq(type, "ay"))
                        r = sd_bus_message_append(m, "{sv}", fields[k].name, type, 4, 1, 2, 3, 4);
                else if (streq(type, "a(sbbsi)"))
                        r = sd_bus_message_append(m, "{sv}", fields[k].name, type, 1, text, 1, 1,
                                                  text, -1);
                else if (streq(type, "(uo)"))
                        r = sd_bus_message_append(m, "{sv}", fields[k].name, type, 7, "/job/7");
                else
                        r = sd_bus_message_append(m, "{sv}", fields[k].name, type,
                                                  results[which % ELEMENTSOF(results)]);
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_good(sd_bus_message *m, const char *member)
{
        if (streq(member, "GetAll"))
                return append_status(m, "active", "running");
        if (streq(member, "ListUnitsByNames") || streq(member, "ListUnitsByPatterns"))
                return sd_bus_message_append(m, "a(ssssssouso)", 1, "web.service", "", "loaded",
                                             "active", "running", "", "/unit", 0, "", "/");
        if (strstr(member, "Unit") && !strstr(member, "UnitFiles"))
                return sd_bus_message_append(m, "o", "/job/7");
        if (strstr(member, "UnitFiles"))
                return sd_bus_message_append(m, "a(sss)", 0);
        if (streq(member, "CheckAuthorization"))
                return sd_bus_message_append(m, "(bba{ss})", 1, 0, 0);
        return 0;
}

static int append_odd(sd_bus_message *m, Script *s)
{
        char text[256], more[256];

        switch (next_byte(s) % 7) {
        case 0:
                return append_odd_status(m, s);
        case 1:
                (void) next_text(s, text, sizeof(text));
                return sd_bus_message_append(m, "s", text);
        case 2:
                (void) next_text(s, text, sizeof(text));
                return sd_bus_message_append(m, "o", text);
        case 3:
                (void) next_text(s, text, sizeof(text));
                (void) next_text(s, more, sizeof(more));
                return sd_bus_message_append(m, "a(ssssssouso)", 1, text, "", "loaded", more,
                                             "running", "", "/unit", 0, "", "/");
        case 4:
                return sd_bus_message_append(m, "(bba{ss})", next_byte(s) & 1, next_byte(s) & 1, 0);
        case 5:
                return sd_bus_message_append(m, "u", next_byte(s));
        default:
                return 0;
        }
}

static void finish_job(Bench *b, const char *result)
{
        sd_bus *bus = fake_bus_get(b->bus);
        sd_bus_message *m = NULL;

        if (!bus || sd_bus_message_new_signal(bus, &m, SD1_PATH, SD1_MANAGER, "JobRemoved") < 0)
                return;
        if (sd_bus_message_append(m, "uoss", 7, "/job/7", "web.service", result) >= 0 &&
            sd_bus_message_set_sender(m, SD1_NAME) >= 0)
                (void) sd_bus_send(bus, m, NULL);
        sd_bus_message_unref(m);
}

/* Answers a call that waits: well, with anything, or with an error. */
static void answer_call(Bench *b, unsigned which, Script *odd)
{
        sd_bus_message *call = fake_bus_take(b->bus, which), *reply = NULL;
        const char *member = call ? sd_bus_message_get_member(call) : NULL;
        char name[128];

        if (!call)
                return;
        if (odd && next_byte(odd) % 4 == 0) {
                (void) next_text(odd, name, sizeof(name));
                (void) sd_bus_reply_method_errorf(call, name, "no");
        } else if (sd_bus_message_new_method_return(call, &reply) >= 0 &&
                   (odd ? append_odd(reply, odd) : append_good(reply, member)) >= 0)
                (void) sd_bus_send(NULL, reply, NULL);
        if (!odd && strstr(member, "Unit"))
                finish_job(b, "done");
        sd_bus_message_unref(reply);
        sd_bus_message_unref(call);
}

static void signal_odd(Bench *b, Script *s)
{
        sd_bus *bus = fake_bus_get(b->bus);
        const bool owner = next_byte(s) & 1;
        char text[128];
        sd_bus_message *m = NULL;
        int r;

        (void) next_text(s, text, sizeof(text));
        if (!owner) {
                finish_job(b, text);
                return;
        }
        if (!bus || sd_bus_message_new_signal(bus, &m, "/org/freedesktop/DBus",
                                              "org.freedesktop.DBus", "NameOwnerChanged") < 0)
                return;
        r = sd_bus_message_append(m, "sss", SD1_NAME, next_byte(s) & 1 ? ":1.0" : "", text);
        if (r >= 0 && sd_bus_message_set_sender(m, "org.freedesktop.DBus") >= 0)
                (void) sd_bus_send(bus, m, NULL);
        sd_bus_message_unref(m);
}

/* Few or none, of what is there. */
static int append_descriptors(sd_bus_message *m, Bench *b, Script *s)
{
        int r = sd_bus_message_open_container(m, 'a', "h");

        for (unsigned n = next_byte(s) % 4; r >= 0 && n > 0; n--) {
                char text[512];
                const unsigned kind = next_byte(s);
                const size_t size = next_text(s, text, sizeof(text));
                _cleanup_close_ int fd = descriptor(b, s, kind % 6, text, size);
                r = sd_bus_message_append(m, "h", MAX(fd, 0));
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* By its types; H stands for an array of h. */
static int append_arguments(sd_bus_message *m, const char *types, Bench *b, Script *s)
{
        char text[512];
        int r = 0;

        for (; r >= 0 && *types; types++) {
                if (*types == 'b') {
                        r = sd_bus_message_append(m, "b", next_byte(s) & 1);
                        continue;
                }
                if (*types == 'H') {
                        r = append_descriptors(m, b, s);
                        continue;
                }
                const unsigned kind = next_byte(s);
                const size_t size = next_text(s, text, sizeof(text));
                _cleanup_close_ int fd =
                        *types == 'h' ? descriptor(b, s, kind % 6, text, size) : -EBADF;
                r = *types == 'h' ? sd_bus_message_append(m, "h", MAX(fd, 0))
                                  : sd_bus_message_append(m, "s", text);
        }
        return r;
}

/* Somebody on the bus; the answer is nobody's. */
static void call_agent(Bench *b, Script *s)
{
        static const struct {
                const char *name, *types;
        } methods[] = {
                {"Poll",         ""      },
                { "Rollback",    "ss"    },
                { "Stage",       "s"     },
                { "Activate",    "s"     },
                { "Hold",        "sss"   },
                { "Plan",        ""      },
                { "Confirm",     "s"     },
                { "Resume",      ""      },
                { "DeployFiles", "hhhHsb"},
        };
        sd_bus *bus = fake_bus_get(b->bus);
        const unsigned which = next_byte(s), k = which % (ELEMENTSOF(methods) + 2);
        const bool app = k < ELEMENTSOF(methods);
        sd_bus_message *m = NULL;

        if (!bus)
                return;
        int r = sd_bus_message_new_method_call(
                bus, &m, AGENT_BUS_NAME, app ? AGENT_BUS_PATH "/app/web" : AGENT_BUS_PATH,
                app                            ? APP_BUS_INTERFACE
                : k == ELEMENTSOF(methods) + 1 ? "org.freedesktop.DBus.Properties"
                                               : AGENT_BUS_INTERFACE,
                app                            ? methods[k].name
                : k == ELEMENTSOF(methods) + 1 ? "GetAll"
                                               : "Describe");
        if (r >= 0)
                r = sd_bus_message_set_sender(m, ":1.7");
        if (r >= 0 && app)
                r = append_arguments(m, which & 128 ? "ss" : methods[k].types, b, s);
        if (r >= 0 && k == ELEMENTSOF(methods) + 1)
                r = sd_bus_message_append(m, "s", AGENT_BUS_INTERFACE);
        if (r >= 0)
                (void) sd_bus_send(bus, m, NULL);
        sd_bus_message_unref(m);
}

/* --- the whole --- */

static void run(Bench *b)
{
        hear(b);
        for (int i = 0; i < N_TURNS_MAX && sd_event_run(b->agent->event, 0) > 0; i++)
                hear(b);
}

static void serve(Bench *b, Script *s)
{
        const unsigned variant = next_byte(s);

        if (b->n_served + N_ASKED_MAX < b->n_asked)
                b->n_served = b->n_asked - N_ASKED_MAX;
        while (b->n_served < b->n_asked) {
                const Message asked = b->asked[b->n_served++ % N_ASKED_MAX];
                if (answer_of(asked.type) != MESSAGE_GOT || asked.type == MESSAGE_GET)
                        serve_request(&asked, variant);
        }
        serve_order(b);
        for (int i = 0; i < 4; i++)
                answer_call(b, 0, NULL);
}

static void break_off(Script *s)
{
        const Child *c = fake_child_find(next_byte(s) & 1 ? "slipway-unpack" : "slipway-fetch");
        char text[256];
        const size_t n = next_text(s, text, sizeof(text));

        if (c)
                (void) !send(fake_child_fd(c), text, n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void end_child(Script *s)
{
        Child *c = fake_child_find(next_byte(s) & 1 ? "slipway-unpack" : "slipway-fetch");

        if (c)
                fake_child_exit(c);
}

static void order(Bench *b, Script *s)
{
        Message m = { .type = next_byte(s) & 1 ? MESSAGE_ORDER_CANCEL : MESSAGE_ORDER,
                      .offset = next_byte(s) % 4,
                      .size = next_byte(s) & 1 };

        for (size_t i = 0; i < N_REQUESTS(b); i++)
                if (b->asked[i].type == MESSAGE_LISTEN)
                        m.id = b->asked[i].id;
        (void) next_text(s, m.text, sizeof(m.text));
        say("slipway-fetch", &m, -1);
}

static void act(Bench *b, Script *s)
{
        switch (next_byte(s) % 10) {
        case 0:
        case 1:
                serve(b, s);
                break;
        case 2:
                speak(b, s);
                break;
        case 3:
                call_agent(b, s);
                break;
        case 4:
                answer_call(b, next_byte(s), s);
                break;
        case 5:
                signal_odd(b, s);
                break;
        case 6:
                order(b, s);
                break;
        case 7:
                break_off(s);
                break;
        case 8:
                end_child(s);
                break;
        default:
                fake_bus_set_uid(b->bus, next_byte(s) & 1 ? getuid() : 12345);
        }
}

static void make_config(Bench *b)
{
        char text[1024], path[256];
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, b->path);
        _cleanup_free_ char *err = NULL;

        snprintf(text, sizeof(text),
                 "{\"store\":\"file:///afar\",\"instance\":\"i-0123456789abcdef0\","
                 "\"region\":\"eu-central-1\",\"poll\":{\"interval\":\"24h\"},"
                 "\"ssm\":{\"enabled\":true},"
                 "\"apps\":[{\"app\":\"web\",\"channel\":\"prod\",\"root\":\"%s/web\","
                 "\"units\":[\"web*.service\"]}]}",
                 b->path);
        assert(file_write_atomic_at(fd, "agent.json", text, strlen(text), 0600) == 0);
        snprintf(path, sizeof(path), "%s/agent.json", b->path);
        assert(config_read(path, false, &b->agent->source, &err) == 0);
        assert(config_resolve(b->agent->source, NULL, &b->agent->config, &err) == 0);
}

static int make_dir(const Bench *b, const char *name)
{
        char path[256];
        int fd;

        snprintf(path, sizeof(path), "%s/%s", b->path, name);
        assert(mkdir_parents(path, 0755) == 0);
        fd = dir_open_at(AT_FDCWD, path);
        assert(fd >= 0);
        return fd;
}

/* r1 is live. */
static void make_state(const Bench *b, int state_dir_fd)
{
        _cleanup_json_ cJSON *none = cJSON_CreateObject();
        _cleanup_(state_freep) State *s = NULL;
        char text[256];
        Activate nothing;
        Sha256 d;

        assert(activate_parse(none, "", &nothing, NULL) == 0 && sha256("abc", 3, &d) == 0);
        assert(state_new("web", "prod", &s) == 0);
        fd_close(make_dir(b, "web/releases/r1"));
        assert(state_add_release(s, "r1", 1, 1, &d, &nothing) == 0);
        snprintf(text, sizeof(text), "%s/web/current", b->path);
        assert(symlink("releases/r1", text) == 0);
        snprintf(text, sizeof(text), "%s/web", b->path);
        assert(state_set(&s->current, "r1") == 0 && state_set(&s->last_good, "r1") == 0);
        assert(state_set(&s->root, text) == 0);
        s->deployment = 1;
        assert(state_save(s, state_dir_fd) == 0);
        activate_done(&nothing);
}

static void start(Bench *b)
{
        static const Identity same = {};
        Agent *a = b->agent = calloc(1, sizeof(Agent));
        char cache[256];

        assert(a);
        b->dir = fuzz_dir_make("home");
        snprintf(b->path, sizeof(b->path), "%s/home", b->dir.path);
        assert(setenv("HOME", b->path, 1) == 0 && setenv("XDG_RUNTIME_DIR", b->path, 1) == 0);
        a->options.user = true;
        assert(paths_init(true, &a->paths, NULL) == 0);
        a->state_dir_fd = make_dir(b, "state");
        a->runtime_dir_fd = make_dir(b, "run");
        fd_close(make_dir(b, "cache"));
        make_config(b);
        make_state(b, a->state_dir_fd);
        assert(sd_event_new(&a->event) >= 0);
        b->bus = fake_bus_new(a->event, b->path);
        assert(bus_new(a->event, true, &a->bus) == 0);
        snprintf(cache, sizeof(cache), "%s/cache", b->path);
        assert(fetcher_new(a->event, a->config->store, cache, cache, &same, &a->fetcher) == 0);
        a->trust = make_trust();
        a->apps = calloc(1, sizeof(App *));
        assert(a->apps && app_new(a, &a->config->apps[0], &a->apps[0], NULL) == 0);
        a->n_apps = 1;
        assert(app_start(a->apps[0]) == 0);
        assert(orders_new(a, &a->orders) == 0);
        assert(bus_service_new(a, NULL, NULL, &a->service, NULL) == 0);
        run(b);
}

/* Whoever waits is told: for a plan when slipway-fetch is gone, for a rollback when it is over. */
static void stop(Bench *b)
{
        Child *fetch = fake_child_find("slipway-fetch");
        Script nothing = {};

        if (fetch)
                fake_child_exit(fetch);
        run(b);
        for (int i = 0; i < N_STEPS_MAX && !app_can_retire(b->agent->apps[0]); i++) {
                serve(b, &nothing);
                run(b);
        }
        app_retire(b->agent->apps[0]);
        agent_free(b->agent);
}

static void check(Bench *b, int state_dir_fd)
{
        _cleanup_(state_freep) State *s = NULL;
        _cleanup_free_ char *err = NULL;
        char path[256], target[256] = "";

        assert(state_load(state_dir_fd, "web", &s, &err) == 0);
        snprintf(path, sizeof(path), "%s/web/current", b->path);
        if (readlink(path, target, sizeof(target) - 1) > 0) {
                assert(strncmp(target, "releases/", 9) == 0 && name_is_valid(target + 9));
                assert(access(path, F_OK) == 0);
        }
        if (s->phase == PHASE_IDLE && s->current)
                assert(streq(target + 9, s->current));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        Script s = { data, data + size };
        _cleanup_close_ int state_dir_fd = -EBADF;
        Bench b = {};

        log_set_max_level(LOG_EMERG);
        start(&b);
        state_dir_fd = fcntl(b.agent->state_dir_fd, F_DUPFD_CLOEXEC, 0);
        for (int i = 0; i < N_STEPS_MAX && s.at < s.end; i++) {
                act(&b, &s);
                run(&b);
        }
        stop(&b);
        fake_bus_free(b.bus);
        check(&b, state_dir_fd);
        fuzz_dir_remove(&b.dir);
        return 0;
}
