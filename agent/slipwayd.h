/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* `slipwayd`, the service: see slipwayd(8). */

int slipwayd_main(int argc, char *argv[]);
