/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "activation.h"
#include "fetcher.h"
#include "macro.h"
#include "manifest.h"
#include "site.h"
#include "staging.h"

/*
 * One change of an application on this host, from its first act to its end: a deployment (fetch,
 * unpack, activate), the two halves of one (stage: fetch and unpack; activate), a rollback
 * (activate), or any of them taken up after a crash. It holds the
 * site's lock for as long as it lives, and owns whatever works for it, so that "a transaction is
 * under way" and "the lock is ours" are one fact.
 */

typedef struct Transaction Transaction;

typedef struct TransactionCallbacks {
        /* It is over; the state is idle and saved. `error` as in ActivationResult, also for
         * failures of fetching and unpacking that may pass. After a rollback that could not begin
         * the state is the file's, with what is to be taken up. The transaction must be freed here.
         */
        void (*ended)(const ActivationResult *result, void *userdata);
        void (*changed)(void *userdata); /* the state changed */
} TransactionCallbacks;

/* What is to be deployed. */
typedef struct Order {
        Manifest *manifest;        /* referenced by the transaction */
        const char *by;            /* who asked, for the history */
        bool stage;                /* fetch and unpack only; then the state's `staged` has it */
        const StagingFiles *files; /* NULL: from the store; duplicated */
} Order;

/* Begins a deployment of the manifest's release. Errors at once: -EBUSY (another program changes
 * the app), or the state can't be read; everything later comes through ended(), never from in here.
 */
_must_check_ int transaction_deploy(Site *site, Fetcher *fetcher, const Order *order,
                                    const TransactionCallbacks *callbacks, void *userdata,
                                    Transaction **ret, char **reterr);

/* Begins to make live what is staged. Errors at once also: -ENOENT (nothing is, or it was removed),
 * -EHOSTDOWN (units, but no bus). One that can't begin leaves everything as it was. */
_must_check_ int transaction_activate(Site *site, const char *by,
                                      const TransactionCallbacks *callbacks, void *userdata,
                                      Transaction **ret, char **reterr);

/* Begins a rollback to `release`, or with NULL to the one before the present one; overrides what a
 * crash left. The channel's deployments that are known so far will not be installed over it. Errors
 * at once also: -ENOENT (no such release here, or none before), -EEXIST (it is live already),
 * -EHOSTDOWN (units, but no bus). One that can't begin leaves everything as it was. */
_must_check_ int transaction_rollback(Site *site, const char *release, const char *by,
                                      const TransactionCallbacks *callbacks, void *userdata,
                                      Transaction **ret, char **reterr);

/* What transaction_rollback() would roll back to, and whether it can: -ENOENT, -EEXIST, -EHOSTDOWN
 * as above. *ret is allocated. */
_must_check_ int transaction_find_rollback(const Site *site, const char *release, char **ret,
                                           char **reterr);

/* Goes on with what a crash left in the state. Fetching begins anew with the channel's next
 * manifest: then *ret is NULL, and the state idle. */
_must_check_ int transaction_take_up(Site *site, const TransactionCallbacks *callbacks,
                                     void *userdata, Transaction **ret, char **reterr);

/* Drops it where it stands and gives the lock back: the state keeps its phase, for take_up or a
 * rollback. */
Transaction *transaction_free(Transaction *t);
DEFINE_CLEANUP_FUNC(Transaction *, transaction_free);

/* slipwayd ends on purpose: this start does not count to the attempts. */
void transaction_leave(Transaction *t);

/* Whether it only brings the release here. */
bool transaction_is_staging(const Transaction *t);

/* Ends a deployment that has not switched yet; `why` is for the history. False: it has, or its pre
 * hooks run. */
_must_check_ bool transaction_give_up(Transaction *t, const char *why);

/* Whether it would. */
bool transaction_can_give_up(const Transaction *t);

/* The deployment that is being made, or NULL. */
const Manifest *transaction_manifest(const Transaction *t);

/* What it waits for, in words for a person; allocated, NULL when for nothing in particular. */
char *transaction_waits_for(const Transaction *t);

/* Bytes of its artifact that are fetched, and of these the ones that are here; 0 when nothing is.
 */
uint64_t transaction_wanted(const Transaction *t);
uint64_t transaction_available(const Transaction *t);
