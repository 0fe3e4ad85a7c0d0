/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdio.h>

#include "macro.h"

/* A table for people: columns as wide as their widest cell, two blanks between them, none at the
 * end of a line. Widths are counted in code points. */

#define TABLE_COLUMNS_MAX 12

typedef struct Table Table;

/* `titles` ends with NULL; at most TABLE_COLUMNS_MAX. They must outlive the table. */
_must_check_ int table_new(const char *const *titles, Table **ret);
Table *table_free(Table *t);
DEFINE_CLEANUP_FUNC(Table *, table_free);

/* Adds a row: one copied cell per column. NULL and "" become "-". */
_must_check_ int table_add(Table *t, const char *const *cells);

/* Writes titles and rows. A table without rows writes nothing. Errors stay in f: see ferror(3). */
void table_print(const Table *t, FILE *f);
