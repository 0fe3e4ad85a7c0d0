/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"
#include "site.h"

/*
 * Ends what commands (command.h) of an application still run though nobody follows them any more:
 * left by a program that died, or whose connection to systemd was lost. They are known by their
 * units' names. The site's lock must be held, so that none of them is somebody else's.
 */

typedef struct Strays Strays;

/* 0: there is none any more. -EHOSTDOWN, -ETIMEDOUT: that could not be had within
 * STRAYS_LIMIT_USEC. The object may be freed here. */
typedef void (*strays_done_t)(int result, const char *reason, void *userdata);

#define STRAYS_LIMIT_USEC (UINT64_C(30) * 1000000)

/* Waits for a connection to systemd, if there is none. done() is never called from in here. */
_must_check_ int strays_end(const Site *site, strays_done_t done, void *userdata, Strays **ret);

/* No callback after this. */
Strays *strays_free(Strays *s);
DEFINE_CLEANUP_FUNC(Strays *, strays_free);
