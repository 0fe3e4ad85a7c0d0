/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "app-internal.h"

/* What an application's channel says: its manifest, opened and verified, by the trust root that
 * counts now. */

/* For the poller, with the App as userdata. */
PollOutcome app_on_poll_answer(int result, int fd, const char *text, void *userdata);

/* The verdict on the manifest is carried out, or nothing comes of it: who polled by hand. */
void app_forget_asker(App *a);
