/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "fd.h"
#include "fuzz.h"
#include "state-file.h"

/* In memory, because each input is synced; of this process, because libFuzzer has workers. */
static int state_dir(void)
{
        static int fd = -EBADF;
        char path[] = "/dev/shm/slipway-fuzz.XXXXXX";

        if (fd >= 0)
                return fd;
        assert(mkdtemp(path));
        fd = dir_open_at(AT_FDCWD, path);
        assert(fd >= 0);
        return fd;
}

static char *text_of(const State *s)
{
        cJSON *json = NULL;

        assert(state_format(s, &json) == 0);
        char *text = cJSON_PrintUnformatted(json);
        assert(text);
        cJSON_Delete(json);
        return text;
}

/* What is taken is saved as it was understood; what is refused has a reason and nothing else. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(state_freep) State *s = NULL, *again = NULL;
        _cleanup_free_ char *err = NULL, *first = NULL, *second = NULL;
        int fd = state_dir();

        assert(file_write_atomic_at(fd, "web.json", data, size, 0600) == 0);
        if (state_load(fd, "web", &s, &err) < 0) {
                assert(err && !s);
                return 0;
        }
        first = text_of(s);
        assert(state_save(s, fd) == 0);
        assert(state_load(fd, "web", &again, &err) == 0);
        second = text_of(again);
        assert(streq(first, second));
        return 0;
}
