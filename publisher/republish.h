/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "channel.h"
#include "publication.h"

/* Whether an earlier manifest may be built upon (signers_accept()). */
_must_check_ int republish_accept(const Publication *p, const Published *earlier, char **reterr);

/* Whether what m, which was accepted, names is in the store; makes "by" who does this now. */
_must_check_ int republish_prepare(const Publication *p, Manifest *m, char **reterr);

/* Publishes the release of an earlier manifest, of this channel or of another, as p's next
 * deployment: artifact, index, targets, activation and source stay, "by" becomes who does this now.
 * The earlier manifest must be accepted by p's signers, not be of another app, and what it names be
 * in the store. As publication_finish(). */
_must_check_ int republish(Publication *p, Published *earlier, const Arguments *a, cJSON *result,
                           char **reterr);
