/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "fuzz.h"
#include "instance.h"
#include "name.h"

/* What is taken has the form that paths, texts and logs need, and is packed as it came. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(instance_freep) Instance *i = NULL;
        _cleanup_free_ char *text = fuzz_text(data, size), *packed = NULL;
        size_t packed_size;
        int r = instance_unpack(text, size, &i);

        assert(r == 0 || r == -EPROTO);
        if (r < 0)
                return 0;
        assert(name_is_valid(i->id) && (!i->region || name_is_valid(i->region)));
        assert(i->n_tags <= INSTANCE_TAGS_MAX && (i->n_tags == 0 || i->tags_from));
        for (size_t k = 0; k < i->n_tags; k++)
                assert(*i->tags[k].key && strlen(i->tags[k].value) <= TAG_VALUE_SIZE_MAX);
        assert(instance_pack(i, &packed, &packed_size) == 0);
        assert(packed_size == size && memcmp(packed, text, size) == 0);
        return 0;
}
