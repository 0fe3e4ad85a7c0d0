/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "activate.h"
#include "macro.h"
#include "site.h"

/* A look at the disk, cheap enough for each poll: whether what the state says is live still is. */

typedef enum Live {
        LIVE_WHOLE,
        LIVE_DAMAGED, /* `current`, the release's directory or links of it are gone: deploying it
                         again makes them */
        LIVE_CHANGED, /* `current` was changed by hand: to another release, or to something else */
} Live;

/* `activate`: how the live release is to be, for its links. *ret_text says what is wrong, as the
 * end of a sentence (allocated; NULL when it is whole). Does not look into the tree any further:
 * slipway verify does. */
Live live_check(const Site *site, const Activate *activate, char **ret_text);
