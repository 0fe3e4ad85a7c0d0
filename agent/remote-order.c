/* SPDX-License-Identifier: Apache-2.0 */
#include "remote-order.h"

#include <stdio.h>

#include "err.h"
#include "name.h"
#include "utf8.h"

#define DIGITS      "0123456789"
#define UNTIL_CHARS DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz:.+-"
#define ABSENT      "-"

static const char *const action_names[_ORDER_ACTION_MAX] = {
        [ORDER_POLL] = "poll",     [ORDER_DEPLOY] = "deploy", [ORDER_ROLLBACK] = "rollback",
        [ORDER_HOLD] = "hold",     [ORDER_RESUME] = "resume", [ORDER_CONFIRM] = "confirm",
        [ORDER_STATUS] = "status",
};

const char *order_action_to_string(OrderAction a)
{
        return action_names[a];
}

OrderAction order_action_from_string(const char *s)
{
        for (OrderAction a = 0; a < _ORDER_ACTION_MAX; a++)
                if (streq(action_names[a], s))
                        return a;
        return _ORDER_ACTION_INVALID;
}

bool order_command_is_valid(const char *s)
{
        static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

        for (size_t i = 0; i < ORDER_COMMAND_SIZE; i++)
                if (form[i] == 'x' ? !s[i] || !strchr(DIGITS "abcdef", s[i]) : s[i] != form[i])
                        return false;
        return s[ORDER_COMMAND_SIZE] == '\0';
}

void remote_order_done(RemoteOrder *o)
{
        free(o->command);
        free(o->app);
        free(o->release);
        free(o->until);
        free(o->reason);
        *o = (RemoteOrder){};
}

static int check_name(const char *member, const char *s, char **reterr)
{
        if (!s || name_is_valid(s))
                return 0;
        return fail(reterr, -EINVAL,
                    "%s: is no name (letters, digits, \".\", \"_\" and \"-\", starting with a "
                    "letter or digit, at most %d)",
                    member, NAME_SIZE_MAX);
}

static int check_release(const RemoteOrder *o, char **reterr)
{
        if (!o->release && o->action == ORDER_DEPLOY)
                return fail(reterr, -EINVAL,
                            "release: deploy needs one; poll takes what the "
                            "channel says");
        if (o->release && o->action != ORDER_DEPLOY && o->action != ORDER_ROLLBACK)
                return fail(reterr, -EINVAL, "release: %s takes none",
                            order_action_to_string(o->action));
        return check_name("release", o->release, reterr);
}

static int check_until(const RemoteOrder *o, char **reterr)
{
        size_t size = o->until ? strlen(o->until) : 0;

        if (!o->until)
                return 0;
        if (o->action != ORDER_HOLD)
                return fail(reterr, -EINVAL, "until: only hold takes one");
        if (size > 0 && size <= ORDER_UNTIL_MAX && strchr(DIGITS, o->until[0]) &&
            strspn(o->until, UNTIL_CHARS) == size)
                return 0;
        return fail(reterr, -EINVAL,
                    "until: is neither a time like 2026-11-22T15:00:00Z nor a duration like 30min "
                    "or 2h");
}

static int check_reason(const RemoteOrder *o, char **reterr)
{
        char cleaned[ORDER_REASON_MAX + 1];

        if (!o->reason)
                return 0;
        if (o->action != ORDER_HOLD)
                return fail(reterr, -EINVAL, "reason: only hold takes one");
        if (o->reason[0] == '\0' || streq(o->reason, ABSENT))
                return fail(reterr, -EINVAL, "reason: says nothing");
        if (strlen(o->reason) > ORDER_REASON_MAX)
                return fail(reterr, -EINVAL, "reason: is longer than %d bytes", ORDER_REASON_MAX);
        (void) stpcpy(cleaned, o->reason);
        utf8_clean(cleaned);
        if (streq(cleaned, o->reason))
                return 0;
        return fail(reterr, -EINVAL,
                    "reason: holds a line break, another control character, or what is no UTF-8");
}

int remote_order_check(const RemoteOrder *o, char **reterr)
{
        int r;

        if (!o->command || !order_command_is_valid(o->command))
                return fail(reterr, -EINVAL, "command: is no UUID in lower case");
        if (o->action < 0 || o->action >= _ORDER_ACTION_MAX)
                return fail(reterr, -EINVAL, "action: is not known");
        r = check_name("app", o->app, reterr);
        if (r >= 0)
                r = check_release(o, reterr);
        if (r >= 0)
                r = check_until(o, reterr);
        return r < 0 ? r : check_reason(o, reterr);
}

static const char *word(const char *s)
{
        return s ? s : ABSENT;
}

int remote_order_pack(const RemoteOrder *o, char **ret)
{
        return asprintf(ret, "%s %s %s %s %s %s", o->command, order_action_to_string(o->action),
                        word(o->app), word(o->release), word(o->until), word(o->reason)) < 0
                       ? -ENOMEM
                       : 0;
}

/* NULL in *ret: it is absent. */
static int copy_word(const char *s, size_t size, char **ret)
{
        if (size == STRLEN(ABSENT) && strncmp(s, ABSENT, size) == 0)
                return 0;
        *ret = strndup(s, size);
        return *ret ? 0 : -ENOMEM;
}

/* The word at *p, and *p behind the space that follows. The last one has spaces of its own. */
static int take_word(const char **p, bool last, char **ret, char **reterr)
{
        size_t size = last ? strlen(*p) : strcspn(*p, " ");
        int r;

        if (!last && (*p)[size] != ' ')
                return fail(reterr, -EINVAL, "the line has too few words");
        r = copy_word(*p, size, ret);
        *p += last ? size : size + 1;
        return r;
}

int remote_order_unpack(const char *line, RemoteOrder *ret, char **reterr)
{
        _cleanup_(remote_order_done) RemoteOrder o = {};
        _cleanup_free_ char *action = NULL;
        char **const words[] = { &o.command, &action, &o.app, &o.release, &o.until, &o.reason };
        int r;

        for (size_t i = 0; i < ELEMENTSOF(words); i++) {
                r = take_word(&line, i == ELEMENTSOF(words) - 1, words[i], reterr);
                if (r < 0)
                        return r;
        }
        o.action = action ? order_action_from_string(action) : _ORDER_ACTION_INVALID;
        r = remote_order_check(&o, reterr);
        if (r < 0)
                return r;
        *ret = o;
        o = (RemoteOrder){};
        return 0;
}
