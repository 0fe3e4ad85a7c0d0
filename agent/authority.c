/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdint.h>
#include <unistd.h>

#include "agent-bus.h"
#include "authority.h"
#include "log.h"

#define POLKIT_NAME "org.freedesktop.PolicyKit1"

/* AllowUserInteraction of CheckAuthorization(), in the D-Bus interface of polkit. */
#define POLKIT_INTERACTIVE 1

/* What polkit may take; with somebody at a keyboard. */
#define JUDGE_MAX_USEC       (UINT64_C(10) * 1000000)
#define INTERACTIVE_MAX_USEC (UINT64_C(300) * 1000000)

/* One that is not here is for root alone. */
static const struct {
        const char *method, *action;
} actions[] = {
        {"Poll",      "org.slipway.poll"    },
        { "Plan",     "org.slipway.poll"    },
        { "Stage",    "org.slipway.deploy"  },
        { "Activate", "org.slipway.deploy"  },
        { "Confirm",  "org.slipway.deploy"  },
        { "Rollback", "org.slipway.rollback"},
        { "Hold",     "org.slipway.hold"    },
        { "Resume",   "org.slipway.hold"    },
};

/* A call that is held back. */
typedef struct Asked Asked;
struct Asked {
        Authority *authority;
        sd_bus_message *call;
        const char *action; /* NULL: for root alone */
        uint32_t uid;
        bool waits;   /* for polkit */
        bool allowed; /* it is on its way to the method */
        sd_bus_slot *slot;
        Asked *next;
};

struct Authority {
        sd_bus *bus;
        sd_bus_slot *filter_slot;
        Asked *asked;
};

static void drop(Asked *k)
{
        Authority *a = k->authority;

        for (Asked **p = &a->asked; *p; p = &(*p)->next)
                if (*p == k) {
                        *p = k->next;
                        break;
                }
        sd_bus_slot_unref(k->slot);
        sd_bus_message_unref(k->call);
        free(k);
}

static void answer_error(Asked *k, const char *name, const char *text)
{
        int r = sd_bus_reply_method_errorf(k->call, name, "%s", text);

        if (r < 0)
                log_debug("Can't answer a bus call: %s", strerror(-r));
        drop(k);
}

static void deny(Asked *k)
{
        log_notice("%s() on %s is refused to uid %u", sd_bus_message_get_member(k->call),
                   sd_bus_message_get_path(k->call), (unsigned) k->uid);
        answer_error(k, SD_BUS_ERROR_ACCESS_DENIED,
                     "only root, and whom polkit allows it, may do this");
}

static void allow(Asked *k)
{
        int r;

        k->allowed = true;
        r = sd_bus_enqueue_for_read(k->authority->bus, k->call);
        if (r < 0)
                answer_error(k, BUS_ERROR_FAILED, strerror(-r));
}

static int on_polkit(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        Asked *k = userdata;
        int authorized, challenge;

        (void) error;
        if (sd_bus_message_is_method_error(m, NULL)) {
                log_debug("polkit: %s", sd_bus_message_get_error(m)->message);
                deny(k);
        } else if (sd_bus_message_enter_container(m, 'r', "bba{ss}") <= 0 ||
                   sd_bus_message_read(m, "bb", &authorized, &challenge) <= 0)
                deny(k); /* NOLINT(bugprone-branch-clone): what follows needs what was read */
        else if (authorized) {
                log_notice("%s() on %s: polkit allows it to uid %u",
                           sd_bus_message_get_member(k->call), sd_bus_message_get_path(k->call),
                           (unsigned) k->uid);
                allow(k);
        } else if (challenge)
                answer_error(k, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                             "somebody has to be asked for a password");
        else
                deny(k);
        return 1;
}

static int ask_polkit(Asked *k)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        bool interactive = sd_bus_message_get_allow_interactive_authorization(k->call) > 0;
        int r = sd_bus_message_new_method_call(k->authority->bus, &m, POLKIT_NAME,
                                               "/org/freedesktop/PolicyKit1/Authority",
                                               POLKIT_NAME ".Authority", "CheckAuthorization");

        if (r >= 0)
                r = sd_bus_message_append(m, "(sa{sv})sa{ss}us", "system-bus-name", 1, "name", "s",
                                          sd_bus_message_get_sender(k->call), k->action, 0,
                                          interactive ? POLKIT_INTERACTIVE : 0, "");
        k->slot = sd_bus_slot_unref(k->slot);
        if (r >= 0)
                r = sd_bus_call_async(k->authority->bus, &k->slot, m, on_polkit, k,
                                      interactive ? INTERACTIVE_MAX_USEC : JUDGE_MAX_USEC);
        return r;
}

/* One user is not to keep out the others, and all of them take no more than this. */
static bool are_too_many(const Asked *k)
{
        size_t n = 0, n_own = 0;

        for (const Asked *other = k->authority->asked; other; other = other->next)
                if (other->waits) {
                        n++;
                        n_own += other->uid == k->uid;
                }
        return n >= AUTHORITY_ASKED_MAX || n_own >= AUTHORITY_ASKED_UID_MAX;
}

static int on_sender(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        Asked *k = userdata;
        int r;

        (void) error;
        if (sd_bus_message_is_method_error(m, NULL) || sd_bus_message_read(m, "u", &k->uid) <= 0) {
                deny(k);
                return 1;
        }
        if (k->uid == 0 || k->uid == geteuid()) {
                allow(k);
                return 1;
        }
        if (!k->action) {
                deny(k);
                return 1;
        }
        if (are_too_many(k)) {
                answer_error(k, BUS_ERROR_BUSY, "too many calls wait for polkit");
                return 1;
        }
        k->waits = true;
        r = ask_polkit(k);
        if (r < 0)
                answer_error(k, BUS_ERROR_FAILED, strerror(-r));
        return 1;
}

/* A call of an application's method. sd-bus takes one that names no interface, too. */
static bool is_guarded(sd_bus_message *m)
{
        const char *path = sd_bus_message_get_path(m);
        const char *interface = sd_bus_message_get_interface(m);

        return sd_bus_message_is_method_call(m, NULL, NULL) > 0 && path &&
               strncmp(path, AGENT_BUS_PATH "/", STRLEN(AGENT_BUS_PATH "/")) == 0 &&
               (!interface || streq(interface, APP_BUS_INTERFACE));
}

static const char *find_action(sd_bus_message *m)
{
        for (size_t i = 0; i < ELEMENTSOF(actions); i++)
                if (streq_ptr(sd_bus_message_get_member(m), actions[i].method))
                        return actions[i].action;
        return NULL;
}

static int hold_back(Authority *a, sd_bus_message *m, const char *action)
{
        Asked *k = calloc(1, sizeof(Asked));
        int r;

        if (!k)
                return -ENOMEM;
        *k = (Asked){ .authority = a,
                      .call = sd_bus_message_ref(m),
                      .action = action,
                      .uid = UINT32_MAX,
                      .next = a->asked };
        a->asked = k;
        r = sd_bus_call_method_async(a->bus, &k->slot, "org.freedesktop.DBus",
                                     "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                     "GetConnectionUnixUser", on_sender, k, "s",
                                     strempty(sd_bus_message_get_sender(m)));
        if (r < 0)
                drop(k);
        return r;
}

/* Every message that comes in passes here first. 0: it goes on to the methods. */
static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        Authority *a = userdata;
        int r;

        (void) error;
        if (!is_guarded(m))
                return 0;
        for (Asked *k = a->asked; k; k = k->next)
                if (k->call == m && k->allowed) {
                        drop(k);
                        return 0;
                }
        r = hold_back(a, m, find_action(m));
        return r < 0 ? r : 1;
}

int authority_new(sd_bus *bus, Authority **ret)
{
        _cleanup_(authority_freep) Authority *a = calloc(1, sizeof(Authority));
        int r;

        if (!a)
                return -ENOMEM;
        a->bus = bus;
        r = sd_bus_add_filter(bus, &a->filter_slot, on_message, a);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(a);
        return 0;
}

Authority *authority_free(Authority *a)
{
        if (!a)
                return NULL;
        sd_bus_slot_unref(a->filter_slot);
        while (a->asked)
                drop(a->asked);
        free(a);
        return NULL;
}
