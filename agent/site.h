/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <sys/stat.h>

#include "bus.h"
#include "child.h"
#include "config.h"
#include "macro.h"
#include "state.h"

/*
 * Where one application lives on this host: its directories, its state file, its lock. The
 * `current` link is the truth about what is live; the state file is the truth about everything
 * else, and other programs (slipway without slipwayd, slipwayd --once) may change both. So the
 * state is read anew when its file was replaced, and is written under the lock only.
 */

/* The application holds updates off (update-lock.h): since when, on CLOCK_BOOTTIME and by the
 * clock; for longer than it may. */
typedef struct HeldOff {
        uint64_t since_usec, since_sec; /* 0: it does not */
        bool overruled;
} HeldOff;

typedef struct Site {
        const AppConfig *config;
        const char *instance; /* the agent's name for this host; set by who made the site */
        const char *unit_dir; /* of the host's own units; set by who made the site */
        sd_event *event;
        Bus *bus;                         /* the agent's */
        Identity unpack;                  /* slipway-unpack's user, which owns releases/ */
        Identity fetch;                   /* slipway-fetch's user; set by who made the site */
        int state_dir_fd, runtime_dir_fd; /* the agent's */
        int root_fd, releases_fd;         /* -EBADF while they do not exist */
        int lock_fd;
        State *state;
        HeldOff held_off;
        struct stat state_stat; /* of the file that `state` is */
        bool unsaved;           /* the last save failed: memory is ahead of the file */
        unsigned state_version; /* raised whenever the state was saved, or read again */
} Site;

/* Opens what exists and loads the state. A missing state is rebuilt from what is on disk; so is a
 * damaged one, which is set aside, loudly. One of a newer version stays as it is, and nothing can
 * be done but to look: until it is gone, or this program knows it, site_lock() and site_refresh()
 * say so (-EPROTONOSUPPORT). `config`, `event`, `bus` and the agent's descriptors must outlive it.
 */
_must_check_ int site_new(const AppConfig *config, sd_event *event, Bus *bus,
                          const Identity *unpack, int state_dir_fd, int runtime_dir_fd, Site **ret,
                          char **reterr);
Site *site_free(Site *s);
DEFINE_CLEANUP_FUNC(Site *, site_free);

/* Reads the state again if its file was replaced by somebody else. A file that is gone or damaged
 * is set aside, and what is in memory stays. */
_must_check_ int site_refresh(Site *s, char **reterr);

/* Reads the state again, whatever is in memory. A failure is logged, and memory stays. */
void site_reload(Site *s);

/* Saves the state, and logs a failure. The lock must be held. */
int site_save(Site *s);

/* Takes the lock without waiting, opens the directories anew, refreshes the state and removes what
 * a crash left half-written beside the state and the link. -EBUSY: somebody has it; *ret_holder
 * (may be NULL) is their process id, or 0. */
_must_check_ int site_lock(Site *s, pid_t *ret_holder, char **reterr);
void site_unlock(Site *s);
bool site_is_locked(const Site *s);

static inline void site_unlockp(Site **s)
{
        if (*s)
                site_unlock(*s);
}

/* What `current` names: a release id, or NULL when there is no such link. -EINVAL: it is something
 * else. */
_must_check_ int site_read_current(const Site *s, char **ret);

/* Makes the state's `current` what the link says. -EINVAL: the link is something else. The caller
 * saves. */
_must_check_ int site_reconcile(Site *s);

/* Makes the root and releases/ if they are missing, opens them, and checks that they can be written
 * to. */
_must_check_ int site_make_root(Site *s, char **reterr);

/* A release's directory is there. */
bool site_has_release(const Site *s, const char *release);

/* Switches `current`, durably; NULL removes it. */
_must_check_ int site_switch(Site *s, const char *release);

/* A mark that lives as long as this boot: set while a transaction runs, so that one that finds it
 * missing knows that the host was restarted in between. */
_must_check_ int site_mark_running(Site *s);
bool site_is_marked_running(const Site *s);
void site_clear_running(Site *s);

/* A journal entry about this application; with an id of journal-id.h. */
void site_log(const Site *s, int level, const char *format, ...) _printf_(3, 4);
void site_event(const Site *s, int level, const char *id, const char *format, ...) _printf_(4, 5);
