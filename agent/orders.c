/* SPDX-License-Identifier: Apache-2.0 */
#include "orders.h"

#include <time.h>

#include "clock.h"
#include "err.h"
#include "journal.h"
#include "listener.h"
#include "log.h"
#include "order-run.h"
#include "rival.h"
#include "time-text.h"

/* How many Describe() shows. */
#define SHOWN_MAX 16

/* How often is looked whether something has to be told again, or is to be repeated. */
#define LOOK_USEC  (UINT64_C(60) * 1000000)
#define AGAIN_USEC (UINT64_C(1) * 1000000)

typedef struct Known {
        OrderRun *run;
        uint64_t number; /* as slipway-fetch calls it */
        bool numbered;   /* it does */
        bool untold;     /* it has yet to hear what is new */
        bool logged;     /* the end */
        uint64_t at_sec;
} Known;

struct Orders {
        Agent *agent;
        Listener *listener;
        Rival *rival; /* NULL: a user's own slipwayd, which is not the instance's */
        sd_event_source *step_source, *look_source;
        Known known[ORDERS_KNOWN_MAX]; /* in the order in which they came */
        size_t n_known;
        double tokens; /* so many may come now */
        uint64_t counted_usec;
};

Orders *orders_free(Orders *o)
{
        if (!o)
                return NULL;
        for (size_t i = 0; i < o->n_known; i++)
                order_run_free(o->known[i].run);
        listener_free(o->listener);
        rival_free(o->rival);
        sd_event_source_disable_unref(o->step_source);
        sd_event_source_disable_unref(o->look_source);
        free(o);
        return NULL;
}

/* What is known */

static Known *find_number(Orders *o, uint64_t number)
{
        for (size_t i = 0; i < o->n_known; i++)
                if (o->known[i].numbered && o->known[i].number == number)
                        return &o->known[i];
        return NULL;
}

static Known *find_command(Orders *o, const char *command)
{
        for (size_t i = 0; i < o->n_known; i++)
                if (streq(order_run_what(o->known[i].run)->command, command))
                        return &o->known[i];
        return NULL;
}

static size_t count_under_way(const Orders *o)
{
        size_t n = 0;

        for (size_t i = 0; i < o->n_known; i++)
                n += !order_run_has_ended(o->known[i].run);
        return n;
}

/* False: all of them are still needed. */
static bool make_room(Orders *o)
{
        size_t i = 0;

        if (o->n_known < ORDERS_KNOWN_MAX)
                return true;
        while (i < o->n_known && order_run_is_busy(o->known[i].run))
                i++;
        if (i == o->n_known)
                return false;
        order_run_free(o->known[i].run);
        memmove(&o->known[i], &o->known[i + 1], (--o->n_known - i) * sizeof(Known));
        return true;
}

static bool is_too_fast(Orders *o)
{
        uint64_t now_usec = clock_usec(CLOCK_BOOTTIME);

        o->tokens =
                MIN(o->tokens + (double) (now_usec - o->counted_usec) / 1e6, (double) ORDERS_BURST);
        o->counted_usec = now_usec;
        if (o->tokens < 1)
                return true;
        o->tokens--;
        return false;
}

/* Telling */

static const char *result_word(const OrderRun *r)
{
        if (!order_run_has_ended(r))
                return "under way";
        return order_run_result(r) == 0            ? "done"
               : order_run_result(r) == -ECANCELED ? "cancelled"
                                                   : "failed";
}

static void log_end(Known *k)
{
        const char *words = order_run_words(k->run);

        if (k->logged || !order_run_has_ended(k->run))
                return;
        k->logged = true;
        journal_event(LOG_NOTICE, JOURNAL_ORDER_ENDED, "Order %s (%s) %s: %.*s",
                      order_run_what(k->run)->command,
                      order_action_to_string(order_run_what(k->run)->action), result_word(k->run),
                      (int) strcspn(words, "\n"), words);
}

/* False: slipway-fetch does not read now. Where it is gone, it asks again by handing them over. */
static bool tell(Orders *o, Known *k)
{
        int r;

        if (!k->untold || !k->numbered)
                return true;
        r = listener_tell(o->listener, k->number, order_run_result(k->run),
                          order_run_words(k->run));
        k->untold = r < 0;
        if (r >= 0)
                order_run_told(k->run);
        return r != -EAGAIN;
}

static void plan_look(Orders *o, bool well)
{
        bool needed = !well || count_under_way(o) > 0;

        if (needed)
                (void) sd_event_source_set_time_relative(o->look_source,
                                                         well ? LOOK_USEC : AGAIN_USEC);
        (void) sd_event_source_set_enabled(o->look_source,
                                           needed ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static void step_all(Orders *o)
{
        bool well = true;

        for (size_t i = 0; i < o->n_known; i++) {
                Known *k = &o->known[i];
                if (order_run_step(k->run))
                        k->untold = true;
                log_end(k);
                well = well && tell(o, k);
        }
        plan_look(o, well);
}

static int on_step(sd_event_source *source, void *userdata)
{
        (void) source;
        step_all(userdata);
        return 0;
}

static int on_look(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void) source, (void) usec;
        step_all(userdata);
        return 0;
}

static void step_soon(void *userdata)
{
        Orders *o = userdata;

        (void) sd_event_source_set_enabled(o->step_source, SD_EVENT_ONESHOT);
}

/* An answer to what is not kept; where it can't be told, slipway-fetch hands it over again. */
static void refuse(Orders *o, uint64_t number, int error, const char *words)
{
        int r = listener_tell(o->listener, number, error, words);

        if (r < 0)
                log_debug("Can't refuse an order: %s", strerror(-r));
}

/* What comes */

static void begin(Orders *o, uint64_t number, RemoteOrder *what, bool again)
{
        Known *k = &o->known[o->n_known];
        int r;

        if (!again)
                journal_event(LOG_NOTICE, JOURNAL_ORDER,
                              "Order %s (%s%s%s) came through AWS Systems Manager", what->command,
                              order_action_to_string(what->action), what->app ? " " : "",
                              strempty(what->app));
        *k = (Known){
                .number = number, .numbered = true, .untold = true, .at_sec = (uint64_t) time(NULL)
        };
        r = order_run_new(o->agent, what, again, step_soon, o, &k->run);
        if (r < 0) {
                refuse(o, number, r, "slipwayd has no memory left");
                return;
        }
        /* What is only found out is no news. */
        k->logged = again && order_run_has_ended(k->run);
        o->n_known++;
        step_soon(o);
}

static void take(Orders *o, uint64_t number, RemoteOrder *what, bool again)
{
        Known *k = find_command(o, what->command);

        if (k) {
                /* Handed over again: it is told where it stands. */
                k->number = number;
                k->numbered = true;
                k->untold = true;
                step_soon(o);
        } else if (!again && is_too_fast(o))
                refuse(o, number, -EBUSY,
                       "too many orders: this host takes no more than one a second for long");
        else if (count_under_way(o) >= ORDERS_UNDER_WAY_MAX || !make_room(o))
                refuse(o, number, -EBUSY, "too many orders are under way on this host: try later");
        else
                begin(o, number, what, again);
}

static void on_order(uint64_t number, bool again, const char *line, void *userdata)
{
        Orders *o = userdata;
        _cleanup_(remote_order_done) RemoteOrder what = {};
        _cleanup_free_ char *err = NULL;
        Known *k = find_number(o, number);
        int r = remote_order_unpack(line, &what, &err);

        /* A number is given once. */
        if (k)
                k->numbered = false;
        if (r < 0)
                refuse(o, number, r, err_text(r, err));
        else
                take(o, number, &what, again);
}

static void on_cancel(uint64_t number, void *userdata)
{
        Orders *o = userdata;
        Known *k = find_number(o, number);

        if (!k)
                return;
        order_run_cancel(k->run);
        k->untold = true;
        log_end(k);
        plan_look(o, tell(o, k));
}

static void on_lost(void *userdata)
{
        Orders *o = userdata;

        for (size_t i = 0; i < o->n_known; i++)
                o->known[i].numbered = false;
}

static int add_sources(Orders *o)
{
        sd_event *event = o->agent->event;
        int r = sd_event_add_defer(event, &o->step_source, on_step, o);

        if (r >= 0)
                r = sd_event_source_set_enabled(o->step_source, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &o->look_source, CLOCK_BOOTTIME, 0, 0,
                                               on_look, o);
        return r < 0 ? r : sd_event_source_set_enabled(o->look_source, SD_EVENT_OFF);
}

int orders_new(Agent *agent, Orders **ret)
{
        static const ListenerCallbacks callbacks = { on_order, on_cancel, on_lost };
        _cleanup_(orders_freep) Orders *o = calloc(1, sizeof(Orders));
        int r;

        if (!o)
                return -ENOMEM;
        *o = (Orders){ .agent = agent,
                       .tokens = ORDERS_BURST,
                       .counted_usec = clock_usec(CLOCK_BOOTTIME) };
        r = add_sources(o);
        if (r >= 0)
                r = listener_new(agent, &callbacks, o, &o->listener);
        if (r >= 0 && !agent->options.user)
                r = rival_new(agent->event, agent->bus, &o->rival);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

void orders_look_again(Orders *o)
{
        if (o)
                listener_look_again(o->listener);
}

void orders_app_changed(Orders *o)
{
        if (o && count_under_way(o) > 0)
                step_soon(o);
}

static bool add_order(cJSON *list, const Known *k)
{
        const RemoteOrder *what = order_run_what(k->run);
        const char *app = order_run_app(k->run);
        cJSON *v = cJSON_CreateObject();
        char at[TIME_TEXT_SIZE];

        if (!v || !cJSON_AddItemToArray(list, v)) {
                cJSON_Delete(v);
                return false;
        }
        return cJSON_AddStringToObject(v, "command", what->command) &&
               cJSON_AddStringToObject(v, "action", order_action_to_string(what->action)) &&
               (!app || cJSON_AddStringToObject(v, "app", app)) &&
               (!what->release || cJSON_AddStringToObject(v, "release", what->release)) &&
               cJSON_AddStringToObject(v, "at", time_format_utc(k->at_sec, at)) &&
               cJSON_AddStringToObject(v, "result", result_word(k->run));
}

const char *orders_channel(const Orders *o)
{
        const char *channel = o ? listener_channel(o->listener) : NULL;

        return channel || !o ? channel : "none";
}

int orders_describe(const Orders *o, cJSON *object)
{
        cJSON *ssm, *list;
        int r;

        if (!o)
                return 0;
        ssm = cJSON_AddObjectToObject(object, "ssm");
        r = ssm ? listener_describe(o->listener, ssm) : -ENOMEM;
        if (r >= 0 && o->rival && rival_unit(o->rival) &&
            !cJSON_AddStringToObject(ssm, "other_agent", rival_unit(o->rival)))
                return -ENOMEM;
        list = r >= 0 ? cJSON_AddArrayToObject(ssm, "orders") : NULL;
        if (!list)
                return -ENOMEM;
        for (size_t n = 0; n < MIN(o->n_known, (size_t) SHOWN_MAX); n++)
                if (!add_order(list, &o->known[o->n_known - 1 - n]))
                        return -ENOMEM;
        return 0;
}
