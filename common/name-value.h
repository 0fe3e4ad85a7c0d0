/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A header, or a query parameter before it is encoded. Owns nothing. */
typedef struct NameValue {
        const char *name;
        const char *value;
} NameValue;
