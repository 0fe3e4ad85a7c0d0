/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>

#include "base64.h"
#include "fuzz.h"
#include "hold.h"
#include "name.h"
#include "os-release.h"
#include "size-text.h"
#include "time-text.h"
#include "utf8.h"
#include "uuid.h"

#define NOW UINT64_C(1795356349)

/* What is taken is written in one form, which means the same. */
static void check_numbers(const char *s)
{
        char text[SIZE_TEXT_SIZE + TIME_TEXT_SIZE + DURATION_TEXT_SIZE];
        uint64_t value, again;

        if (size_text_parse(s, &value) == 0)
                assert(size_text_parse(size_text_format(value, text), &again) == 0 &&
                       again == value);
        if (time_parse_utc(s, &value) == 0)
                assert(streq(time_format_utc(value, text), s));
        if (duration_parse(s, &value) == 0)
                assert(duration_parse(duration_format(value, text), &again) == 0 && again == value);
}

static void check_bytes(const char *s)
{
        _cleanup_free_ uint8_t *bytes = NULL, *more = NULL;
        _cleanup_free_ char *text = NULL;
        uint8_t id[UUID_SIZE];
        char id_text[UUID_TEXT_SIZE];
        size_t size, more_size;

        if (uuid_parse(s, id) == 0)
                assert(strcasecmp(uuid_format(id, id_text), s) == 0);
        if (base64_decode(s, &bytes, &size) < 0)
                return;
        assert(base64_encode(bytes, size, &text) == 0);
        assert(base64_decode(text, &more, &more_size) == 0);
        assert(size == more_size && memcmp(bytes, more, size) == 0);
}

/* What counts as a name never is more than one component of a path. */
static void check_names(const char *s)
{
        if (name_is_valid(s))
                assert(tree_path_is_valid(s) && store_path_is_valid(s) && !strchr(s, '/'));
        if (store_path_is_valid(s))
                assert(tree_path_is_valid(s));
        if (tree_link_is_inside("a/b", s))
                assert(s[0] != '/' && strncmp(s, "../../", 6) != 0);
        if (unit_name_is_valid(s))
                assert(!strchr(s, '/') && strlen(s) <= 255);
}

static void check_clean(const char *s)
{
        _cleanup_free_ char *clean = strdup(s);

        assert(clean);
        utf8_clean(clean);
        assert(streq(clean, s));
}

/* The short texts that people write, and others bring. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *s = fuzz_text(data, size), *err = NULL;
        uint64_t until_sec;
        OsRelease os;

        check_numbers(s);
        check_bytes(s);
        check_names(s);
        os_release_parse(s, &os);
        check_clean(os.name);
        check_clean(os.version);
        if (hold_parse_until(s, NOW, &until_sec, &err) == 0)
                assert(until_sec > NOW);
        else
                assert(err);
        return 0;
}
