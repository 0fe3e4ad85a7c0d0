/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "app-internal.h"

/* What others are told of an application: the store by status reports, slipway over D-Bus. */

/* Sends the status to the store, if there are news. */
void app_report(App *a);

/* For the reporter, with the App as userdata. */
void app_on_reporter_idle(bool well, void *userdata);
