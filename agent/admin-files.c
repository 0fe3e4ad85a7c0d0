/* SPDX-License-Identifier: Apache-2.0 */
#include "admin-files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "err.h"
#include "fd.h"
#include "json-read.h"
#include "name.h"
#include "state-file.h"

#define SUFFIX ".json"

/* The application whose state file has this name, in `app`; false if it is none. */
static bool is_state_file(const char *file, char app[static NAME_SIZE_MAX + 1])
{
        size_t size = strlen(file);

        if (size <= STRLEN(SUFFIX) || size > NAME_SIZE_MAX + STRLEN(SUFFIX) ||
            !streq(file + size - STRLEN(SUFFIX), SUFFIX))
                return false;
        (void) snprintf(app, NAME_SIZE_MAX + 1, "%.*s", (int) (size - STRLEN(SUFFIX)), file);
        return name_is_valid(app);
}

static int add_app(cJSON *apps, int dir_fd, const char *app, char **reterr)
{
        _cleanup_(state_freep) State *s = NULL;
        cJSON *object, *state;
        int r = state_load(dir_fd, app, &s, reterr);

        if (r < 0)
                return r;
        r = state_format(s, &state);
        if (r < 0)
                return r;
        object = cJSON_CreateObject();
        if (!object || !cJSON_AddItemToObject(object, "state", state)) {
                cJSON_Delete(state);
                cJSON_Delete(object);
                return -ENOMEM;
        }
        if (!cJSON_AddItemToArray(apps, object)) {
                cJSON_Delete(object);
                return -ENOMEM;
        }
        return 0;
}

int admin_files_describe(const char *state_dir, cJSON **ret, char **reterr)
{
        _cleanup_json_ cJSON *document = cJSON_CreateObject();
        _cleanup_close_ int dir_fd = dir_open_at(AT_FDCWD, state_dir);
        cJSON *apps = document ? cJSON_AddArrayToObject(document, "apps") : NULL;
        struct dirent **files = NULL;
        int n, r = 0;

        if (!apps)
                return -ENOMEM;
        if (dir_fd == -EACCES)
                return fail(reterr, dir_fd, "%s is for root alone (try: sudo slipway ...)",
                            state_dir);
        if (dir_fd < 0)
                return fail_errno(reterr, dir_fd, "%s", state_dir);
        n = scandirat(dir_fd, ".", &files, NULL, alphasort);
        if (n < 0)
                return fail_errno(reterr, -errno, "%s", state_dir);
        for (int i = 0; i < n; i++) {
                char app[NAME_SIZE_MAX + 1];

                if (r >= 0 && is_state_file(files[i]->d_name, app))
                        r = add_app(apps, dir_fd, app, reterr);
                free(files[i]);
        }
        free(files);
        if (r < 0)
                return fail_prefix(reterr, r, "%s", state_dir);
        *ret = TAKE_PTR(document);
        return 0;
}
