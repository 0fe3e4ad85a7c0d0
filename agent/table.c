/* SPDX-License-Identifier: Apache-2.0 */
#include "table.h"

#include <errno.h>

struct Table {
        const char *const *titles;
        size_t n_columns;
        char **cells; /* row after row */
        size_t n_cells;
};

int table_new(const char *const *titles, Table **ret)
{
        Table *t = calloc(1, sizeof(*t));

        if (!t)
                return -ENOMEM;
        t->titles = titles;
        while (t->n_columns < TABLE_COLUMNS_MAX && titles[t->n_columns])
                t->n_columns++;
        *ret = t;
        return 0;
}

Table *table_free(Table *t)
{
        if (!t)
                return NULL;
        for (size_t i = 0; i < t->n_cells; i++)
                free(t->cells[i]);
        free(t->cells);
        free(t);
        return NULL;
}

int table_add(Table *t, const char *const *cells)
{
        char **grown = reallocarray(t->cells, t->n_cells + t->n_columns, sizeof(*t->cells));
        size_t n_before = t->n_cells;

        if (!grown)
                return -ENOMEM;
        t->cells = grown;
        for (size_t i = 0; i < t->n_columns; i++) {
                char *cell = strdup(cells[i] && *cells[i] ? cells[i] : "-");

                if (!cell) {
                        while (t->n_cells > n_before)
                                free(t->cells[--t->n_cells]);
                        return -ENOMEM;
                }
                t->cells[t->n_cells++] = cell;
        }
        return 0;
}

static size_t text_width(const char *s)
{
        size_t n = 0;

        for (; *s; s++)
                n += ((unsigned char) *s & 0xc0) != 0x80;
        return n;
}

static void print_row(const Table *t, const char *const *cells, const size_t *widths, FILE *f)
{
        for (size_t i = 0; i < t->n_columns; i++) {
                bool last = i + 1 == t->n_columns;

                fputs(cells[i], f);
                for (size_t n = text_width(cells[i]); !last && n < widths[i] + 2; n++)
                        fputc(' ', f);
        }
        fputc('\n', f);
}

void table_print(const Table *t, FILE *f)
{
        size_t widths[TABLE_COLUMNS_MAX] = {};

        if (t->n_cells == 0)
                return;
        for (size_t i = 0; i < t->n_columns; i++) {
                widths[i] = text_width(t->titles[i]);
                for (size_t j = i; j < t->n_cells; j += t->n_columns)
                        widths[i] = MAX(widths[i], text_width(t->cells[j]));
        }
        print_row(t, t->titles, widths, f);
        for (size_t j = 0; j < t->n_cells; j += t->n_columns)
                print_row(t, (const char *const *) &t->cells[j], widths, f);
}
