/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "app.h"
#include "macro.h"

/*
 * What is told to whoever has ordered something from far away (remote-order.h): words for a person
 * who reads them in a console, some lines at most. All are allocated, end in a newline, hold no
 * control characters but that, and have at most ORDER_WORDS_MAX bytes, cut on a UTF-8 border. NULL
 * when memory is short.
 */

/* Any text, made fit. */
char *order_words(const char *format, ...) _printf_(1, 2);

/* How a transaction ended: `e` is its event, `before` the release that was live when it was
 * ordered, or NULL; `next` says what comes after it, or is NULL. With where its time went, and,
 * when it failed, with what its hooks said. */
char *order_words_ended(const State *s, const Event *e, const char *before, const char *next);

/* Where the transaction stands that is under way. */
char *order_words_under_way(const State *s);

/* What came of an order that has no transaction to tell of, and what is live now. `next`: what to
 * do or what comes, or NULL. */
char *order_words_outcome(const State *s, const char *text, const char *next);

/* What `slipway status` says about the application. */
char *order_words_status(App *a);
