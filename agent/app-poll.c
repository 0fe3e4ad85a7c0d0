/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <time.h>

#include "app-poll.h"
#include "app-report.h"
#include "app-verdict.h"
#include "app-work.h"
#include "err.h"
#include "fd.h"
#include "journal-id.h"
#include "log.h"
#include "name.h"

/* What the channel said last is of no use, and why is known. */
static void refuse_again(App *a)
{
        app_set_verdict(a, JOURNAL_REFUSED, VERDICT_UNKNOWN, strdup(err_text(-ENOMEM, a->refused)));
}

/* Polls that find the manifest unchanged do not judge it again, and others may fail meanwhile. */
static void remember_refused(App *a, const char *text)
{
        a->wanted = manifest_free(a->wanted);
        free(a->refused);
        a->refused = strdup(text);
}

static bool poll_failed(App *a, int result, const char *text)
{
        bool refused = result == -EBADMSG || result == -EFBIG;
        char *verdict = NULL;

        /* An envelope that can't be opened is what the channel says now, and "unchanged" means it
         * from now on. One that is too large to be read is asked for anew each time. */
        if (result == -EBADMSG) {
                a->envelope_fd = fd_close(a->envelope_fd);
                a->is_unjudged = false;
                remember_refused(a, text);
        }
        if (result == POLL_ABSENT)
                err_set(&verdict,
                        "the store has no %s: nothing was published to channel %s yet, or it was "
                        "removed",
                        a->config->manifest_path, a->config->channel);
        else if (result == POLL_UNKNOWN)
                err_set(&verdict,
                        "the store refuses %s (or it is not there, and we may not list): %s",
                        a->config->manifest_path, text);
        else if (refused)
                verdict = strdup(text);
        else
                err_set(&verdict, "can't ask the store: %s", text[0] ? text : strerror(-result));
        app_set_verdict(a, refused ? JOURNAL_REFUSED : JOURNAL_POLL_FAILED, VERDICT_UNKNOWN,
                        verdict);
        app_settle(a, refused ? ROUND_REFUSED : ROUND_UNREACHABLE);
        /* One that can't be reached is not spared by waiting, and is asked as soon as it is back;
         * one that is too busy is. Without credentials it is not asked. */
        return result > 0 || refused || result == -EHOSTDOWN || result == -ETIMEDOUT ||
               result == -ENOKEY;
}

static void take_manifest(App *a)
{
        _cleanup_free_ char *err = NULL;
        int r;

        a->is_unjudged = false;
        a->wanted = manifest_free(a->wanted);
        r = judge_envelope(a->envelope_fd, a->agent->trust, a->config, &a->wanted,
                           &a->wanted_digest, &err);
        if (r < 0) {
                remember_refused(a, err_text(r, err));
                refuse_again(a);
                app_settle(a, ROUND_REFUSED);
        }
}

/* With a good answer the text is a word for the credentials. */
static void note_credentials(App *a, int result, const char *text)
{
        const char *word = text[0] && strlen(text) <= NAME_SIZE_MAX ? text : NULL;

        if ((result != 0 && result != POLL_UNCHANGED && result != POLL_ABSENT) ||
            streq_ptr(a->credentials, word))
                return;
        free(a->credentials);
        a->credentials = word ? strdup(word) : NULL;
        a->verdict_unreported = true;
}

void app_forget_asker(App *a)
{
        if (!a->awaits_root && (!a->brake || !brake_is_asking(a->brake)))
                free(TAKE_PTR(a->polled_by));
}

static void end_poll(App *a)
{
        app_forget_asker(a);
        if (pruner_is_due(a->pruner))
                app_prune(a);
        app_report(a);
}

/* What the channel says by now. */
static void judge_channel(App *a)
{
        if (a->is_unjudged)
                take_manifest(a);
        else if (!a->wanted) {
                /* Unchanged, and what was there was refused: it still is. */
                refuse_again(a);
                app_settle(a, ROUND_REFUSED);
        }
        if (a->wanted)
                app_consider(a);
        end_poll(a);
}

/* A manifest that is new, or was of no use, may be signed by a key of which only a newer trust root
 * tells, or one that was revoked. Whoever polls by hand wants to know what holds now. */
static bool needs_root(const App *a)
{
        return a->agent->roots &&
               (a->is_unjudged || (!a->wanted && a->envelope_fd >= 0) || a->n_waiting > 0 ||
                trust_expires_sec(a->agent->trust) <= (uint64_t) time(NULL));
}

static int keep_envelope(App *a, int fd)
{
        a->envelope_fd = fd_close(a->envelope_fd);
        a->envelope_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        a->is_unjudged = a->envelope_fd >= 0;
        return a->is_unjudged ? 0 : -errno;
}

/* fd < 0: it is unchanged. */
static void on_manifest(App *a, int fd)
{
        int r = fd >= 0 ? keep_envelope(a, fd) : 0;

        if (r < 0)
                remember_refused(a, strerror(-r));
        if (a->awaits_root)
                return;
        r = needs_root(a) ? root_watch_ask(a->agent->roots) : -ENOTSUP;
        a->awaits_root = r >= 0;
        if (a->awaits_root)
                return;
        if (r != -ENOTSUP)
                site_log(a->site, LOG_WARNING, "App %s: can't ask for trust roots: %s",
                         a->config->app, strerror(-r));
        judge_channel(a);
}

void app_root_walked(App *a, bool learned)
{
        bool awaited = a->awaits_root;

        a->awaits_root = false;
        a->verdict_unreported = a->verdict_unreported || learned;
        a->is_unjudged = a->is_unjudged || (learned && a->envelope_fd >= 0);
        if (awaited || a->is_unjudged)
                judge_channel(a);
        /* Who ordered it may have been revoked meanwhile. */
        if (learned && !a->wanted && a->transaction && app_works_for_channel(a))
                (void) app_give_up_work(a, "its manifest can't be trusted any more");
}

/* Nothing here waits for a poll: neither what the channel wants nor what others may have done. */
static bool is_calm(const App *a)
{
        return a->poll_ok && a->verdict == VERDICT_NOTHING && !a->transaction && !a->awaits_root &&
               !needs_root(a) && !a->site->unsaved && a->site->state->phase == PHASE_IDLE;
}

PollOutcome app_on_poll_answer(int result, int fd, const char *text, void *userdata)
{
        App *a = userdata;
        bool well = true;

        a->polled_sec = time(NULL);
        app_take_up_left(a);
        note_credentials(a, result, text);
        /* A refusal or an absence is positive as well, and no answer about the manifest. */
        if (result < 0 || result == POLL_ABSENT || result == POLL_UNKNOWN) {
                well = poll_failed(a, result, text);
                end_poll(a);
        } else
                on_manifest(a, result == 0 ? fd : -EBADF);
        return well ? (is_calm(a) ? POLL_CALM : POLL_GOOD) : POLL_BAD;
}

int app_poll_now(App *a, const char *by, app_told_t told, void *userdata)
{
        int r;

        if (!a->poller)
                return -EHOSTDOWN;
        if (a->n_waiting == N_TOLD_MAX)
                return -EBUSY;
        r = by && !a->polled_by ? state_set(&a->polled_by, by) : 0;
        if (r >= 0)
                r = poller_poll(a->poller);
        if (r >= 0)
                a->waiting[a->n_waiting++] = (Told){ told, userdata };
        agent_look_again(a->agent);
        return r;
}

bool app_is_polling(const App *a)
{
        return (a->poller && poller_is_polling(a->poller)) || a->awaits_root ||
               (a->brake && brake_is_asking(a->brake));
}

AppPoll app_last_poll(const App *a)
{
        return (AppPoll){ .ok = a->poll_ok,
                          .verdict = a->poll_text ? a->verdict : VERDICT_UNKNOWN,
                          .text = a->poll_text,
                          .release = a->wanted ? a->wanted->release : NULL };
}
