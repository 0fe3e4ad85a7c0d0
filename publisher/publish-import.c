/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>

#include "err.h"
#include "fd.h"
#include "import.h"
#include "json-read.h"
#include "log.h"
#include "new-file.h"
#include "result.h"
#include "spec.h"
#include "verbs.h"

static int add_note(cJSON *notes, const ImportNote *note)
{
        cJSON *o;
        int r = result_append_object(notes, &o);

        if (r >= 0)
                r = result_add_uint(o, "line", note->line);
        if (r >= 0)
                r = result_add_string(o, "setting", note->setting);
        if (r >= 0)
                r = result_add_bool(o, "taken", note->taken);
        return r < 0 ? r : result_add_string(o, "advice", note->advice);
}

static int report_notes(const char *path, const Import *m, cJSON *result)
{
        cJSON *notes;
        int r = result_add_array(result, "notes", &notes);

        for (size_t i = 0; i < m->n_notes && r >= 0; i++) {
                const ImportNote *note = &m->notes[i];
                log_write(note->taken ? LOG_INFO : LOG_WARNING, "%s:%u: %s%s: %s", path, note->line,
                          note->setting, note->taken ? "" : " is not taken over", note->advice);
                r = add_note(notes, note);
        }
        return r;
}

static int write_spec(const Arguments *a, const cJSON *spec, char **reterr)
{
        _cleanup_free_ char *text = cJSON_Print(spec), *lines = NULL;

        err_set(&lines, "%s\n", strempty(text));
        if (!text || !lines)
                return -ENOMEM;
        if (a->output)
                return new_file_write(a->output, lines, strlen(lines), 0644, reterr);
        if (!a->json)
                printf("%s", lines);
        return 0;
}

int verb_import(const Arguments *a, cJSON *result, char **reterr)
{
        _cleanup_(import_done) Import m = {};
        _cleanup_json_ cJSON *spec = NULL;
        _cleanup_free_ char *text = NULL;
        const char *path = a->operands.items[0];
        size_t size;
        int r = file_read_at(AT_FDCWD, path, IMPORT_SIZE_MAX, &text, &size);

        if (r < 0)
                return fail_errno(reterr, r, "can't read %s", path);
        r = import_parse(text, size, &a->units, &m, &spec, reterr);
        if (r < 0)
                return fail_prefix(reterr, r, "%s", path);
        r = write_spec(a, spec, reterr);
        if (r >= 0)
                r = report_notes(path, &m, result);
        if (r >= 0)
                r = result_add_string(result, "output", a->output);
        if (r < 0 || !cJSON_AddItemToObject(result, "spec", spec))
                return r < 0 ? r : -ENOMEM;
        spec = NULL;
        return 0;
}
