/* SPDX-License-Identifier: Apache-2.0 */
#include "kept-root.h"

#include <stdio.h>

#include "err.h"
#include "fd.h"

/* NULL: there is none, or none that can be read, and then *ret_trouble says why. */
static int load_kept(const char *state_dir, Trust **ret, char **ret_trouble)
{
        _cleanup_free_ char *path = NULL, *err = NULL;
        int r;

        if (asprintf(&path, "%s/" KEPT_ROOT_NAME, state_dir) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        r = trust_load(path, ret, &err);
        if (r < 0 && r != -ENOENT)
                err_set(ret_trouble,
                        "what was learned of trust roots is lost, and the image's counts until it is "
                        "learned again: %s",
                        err_text(r, err));
        return 0;
}

int kept_root_load(const char *path, const char *state_dir, Trust **ret, Envelope **ret_new,
                   char **ret_trouble, char **reterr)
{
        _cleanup_(trust_freep) Trust *image = NULL, *kept = NULL;
        _cleanup_(envelope_freep) Envelope *e = NULL;
        uint64_t kept_version;
        int r = trust_load_signed(path, &e, &image, reterr);

        *ret_new = NULL;
        *ret_trouble = NULL;
        if (r >= 0)
                r = load_kept(state_dir, &kept, ret_trouble);
        if (r < 0)
                return r;
        /* Nobody can go back to before the first one. */
        kept_version = kept ? trust_version(kept) : 1;
        if (trust_version(image) > kept_version)
                *ret_new = TAKE_PTR(e);
        *ret = trust_version(image) < kept_version ? TAKE_PTR(kept) : TAKE_PTR(image);
        return 0;
}

int kept_root_save(int state_dir_fd, const Envelope *e)
{
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r = envelope_format(e, TRUST_PAYLOAD_TYPE, &text, &size);

        if (r >= 0)
                r = replace_leftovers_remove_at(state_dir_fd, KEPT_ROOT_NAME);
        return r < 0 ? r : file_write_atomic_at(state_dir_fd, KEPT_ROOT_NAME, text, size, 0600);
}
