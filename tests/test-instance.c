/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <sys/mman.h>

#include "instance-watch.h"
#include "instance.h"

#define HEAD                 \
        "i-1\0eu-1\0eu-1a\0" \
        "1111\0metadata\0\0"

static Instance *sample(void)
{
        Instance *i = calloc(1, sizeof(Instance));

        assert_non_null(i);
        i->id = strdup("i-0123456789abcdef0");
        i->region = strdup("eu-central-1");
        i->tags_from = strdup(INSTANCE_TAGS_METADATA);
        assert_int_equal(instance_add_tag(i, "slipway:store", "s3://b/p"), 0);
        assert_int_equal(instance_add_tag(i, "Name", "h\xc3\xb6st 1"), 0);
        assert_int_equal(instance_add_tag(i, "Empty", ""), 0);
        return i;
}

static void there_and_back(void **state)
{
        _cleanup_(instance_freep) Instance *i = sample(), *got = NULL, *again = NULL;
        _cleanup_free_ char *data = NULL;
        _cleanup_close_ int fd = -EBADF, dir_fd = dir_open_at(AT_FDCWD, *state);
        size_t size;

        assert_int_equal(instance_pack(i, &data, &size), 0);
        assert_int_equal(instance_unpack(data, size, &got), 0);
        assert_true(instance_equal(i, got));
        assert_string_equal(got->id, i->id);
        assert_null(got->zone);
        assert_int_equal(got->n_tags, 3);
        assert_string_equal(got->tags[0].key, "Empty");
        assert_string_equal(instance_tag(got, "Name"), "h\xc3\xb6st 1");
        assert_null(instance_tag(got, "name"));
        got = instance_free(got);

        fd = memfd_sealed("test", data, size);
        assert_int_equal(instance_unpack_fd(fd, &got), 0);
        assert_true(instance_equal(i, got));

        assert_int_equal(instance_load(dir_fd, &again), -ENOENT);
        assert_int_equal(instance_save(i, dir_fd), 0);
        assert_int_equal(instance_load(dir_fd, &again), 0);
        assert_true(instance_equal(i, again));
        free(again->tags[1].value);
        again->tags[1].value = strdup("other");
        assert_false(instance_equal(i, again));
}

static void hostile(void **state)
{
#define ROW(text)                      \
        {                              \
                text, sizeof(text) - 1 \
        }
        static const struct {
                const char *data;
                size_t size;
        } bad[] = {
                ROW(""),
                ROW("i-1"),
                ROW("i-1\0"),
                ROW("i-1\0eu-1\0eu-1a\0"
                    "1111\0metadata\0"),
                ROW("\0eu-1\0eu-1a\0"
                    "1111\0metadata\0\0"),
                ROW("../x\0eu-1\0eu-1a\0"
                    "1111\0metadata\0\0"),
                ROW("i-1\0eu 1\0eu-1a\0"
                    "1111\0metadata\0\0"),
                ROW("i-1\0eu-1\0eu-1a\0"
                    "1111\0elsewhere\0\0"),
                ROW("i-1\0eu-1\0eu-1a\0"
                    "1111\0\0line\nbreak\0"),
                ROW("i-1\0eu-1\0eu-1a\0"
                    "1111\0\0why\0key\0value\0"), /* tags from nowhere */
                ROW("i-1\0eu-1\0eu-1a\0"
                    "1111\0metadata\0not now\0key\0value\0"), /* tags that were not told */
                ROW(HEAD "key"),
                ROW(HEAD "key\0value"),
                ROW(HEAD "key\0"),
                ROW(HEAD "\0value\0"),
                ROW(HEAD "a\0x\0a\0y\0"),
                ROW(HEAD "b\0x\0a\0y\0"),
                ROW(HEAD "a\0\x1b[2J\0"),
                ROW(HEAD "a\0\xc3\0"),
                ROW(HEAD "a\0\xc2\x80\0"),
                ROW(HEAD "a\xff\0x\0"),
        };
        static const char good[] = HEAD "a\0x\0b\0\0";
        Instance *i = NULL;

        (void) state;
        for (size_t k = 0; k < ELEMENTSOF(bad); k++)
                if (instance_unpack(bad[k].data, bad[k].size, &i) != -EPROTO)
                        fail_msg("row %zu is taken", k);
        assert_null(i);
        assert_int_equal(instance_unpack(good, sizeof(good) - 1, &i), 0);
        assert_int_equal(i->n_tags, 2);
        i = instance_free(i);
}

static void too_much(void **state)
{
        _cleanup_(instance_freep) Instance *i = sample(), *got = NULL;
        _cleanup_free_ char *data = NULL, *large = calloc(1, TAG_VALUE_SIZE_MAX + 2);
        _cleanup_close_ int fd = memfd_create("test", MFD_CLOEXEC);
        size_t size;
        int fds[2];

        (void) state;
        for (char key[8] = "k"; i->n_tags < INSTANCE_TAGS_MAX;) {
                snprintf(key, sizeof(key), "k%zu", i->n_tags);
                assert_int_equal(instance_add_tag(i, key, "v"), 0);
        }
        assert_int_equal(instance_add_tag(i, "more", "v"), -E2BIG);
        assert_int_equal(instance_pack(i, &data, &size), 0);
        assert_int_equal(instance_unpack(data, size, &got), 0);
        got = instance_free(got);
        free(i->tags[5].value);
        i->tags[5].value = memset(large, 'x', TAG_VALUE_SIZE_MAX + 1);
        large = NULL;
        free(data);
        assert_int_equal(instance_pack(i, &data, &size), 0);
        assert_int_equal(instance_unpack(data, size, &got), -EPROTO);

        assert_int_equal(ftruncate(fd, INSTANCE_PACKED_MAX + 1), 0);
        assert_int_equal(instance_unpack_fd(fd, &got), -EFBIG);
        assert_int_equal(pipe(fds), 0);
        assert_int_equal(instance_unpack_fd(fds[0], &got), -EPROTO);
        (void) close(fds[0]);
        (void) close(fds[1]);
}

static void set(char **text, const char *value)
{
        free(*text);
        *text = value ? strdup(value) : NULL;
}

/* What could not be asked for is as it was; each refusal has another id. */
static void tags_not_now(void **state)
{
        _cleanup_(instance_freep) Instance *known = sample(), *i = calloc(1, sizeof(Instance));

        (void) state;
        assert_false(instance_lacks_tags(known));
        i->id = strdup(known->id);
        set(&i->region, known->region);
        set(&i->tags_from, INSTANCE_TAGS_API);
        set(&i->tags_error, "throttled");
        assert_true(instance_lacks_tags(i));
        assert_false(instance_equal(i, known));
        assert_int_equal(instance_keep_tags(i, known), 0);
        assert_true(instance_equal(i, known));
        assert_false(instance_lacks_tags(i));

        set(&known->tags_error, "denied (status 403, request id a-1); ask");
        set(&i->tags_error, "denied (status 403, request id b-22); ask");
        assert_true(instance_equal(i, known));
        set(&i->tags_error, "denied (status 400, request id a-1); ask");
        assert_false(instance_equal(i, known));
}

static void waits(void **state)
{
        const uint64_t sec = 1000000;

        (void) state;
        assert_int_equal(instance_watch_delay_usec(60 * sec, 0, 0), 60 * sec);
        assert_int_equal(instance_watch_delay_usec(60 * sec, 0, UINT32_MAX), 48 * sec);
        assert_int_equal(instance_watch_delay_usec(60 * sec, 1, 0), 1 * sec);
        assert_int_equal(instance_watch_delay_usec(60 * sec, 3, 0), 4 * sec);
        assert_int_equal(instance_watch_delay_usec(60 * sec, 3, UINT32_MAX), 2 * sec);
        assert_int_equal(instance_watch_delay_usec(1 * sec, 1000, 0), 60 * sec);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(there_and_back), cmocka_unit_test(hostile),
                cmocka_unit_test(too_much),  cmocka_unit_test(tags_not_now),
                cmocka_unit_test(waits),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
