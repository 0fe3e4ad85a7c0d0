/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "err.h"
#include "key.h"
#include "new-file.h"
#include "result.h"
#include "verbs.h"

static inline void key_textp(char **pem)
{
        key_text_free(*pem);
}

static int write_pair(const Key *k, const char *private_path, const char *public_path,
                      char **reterr)
{
        _cleanup_(key_textp) char *private_pem = NULL;
        _cleanup_free_ char *public_pem = NULL;
        int r = key_private_pem(k, &private_pem);

        if (r >= 0)
                r = key_public_pem(k, &public_pem);
        if (r < 0)
                return r;
        /* The public one first: what can be in the way is found before a secret is on disk. */
        r = new_file_write(public_path, public_pem, strlen(public_pem), 0644, reterr);
        if (r < 0)
                return r;
        r = new_file_write(private_path, private_pem, strlen(private_pem), 0600, reterr);
        if (r < 0)
                (void) unlink(public_path);
        return r;
}

static int report(const Arguments *a, const Key *k, const char *private_path,
                  const char *public_path, cJSON *result)
{
        char id[SHA256_HEX_SIZE];
        int r = result_add_string(result, "private", private_path);

        if (r >= 0)
                r = result_add_string(result, "public", public_path);
        if (r >= 0)
                r = result_add_string(result, "type", key_type_to_string(key_type(k)));
        if (r >= 0)
                r = result_add_sha256(result, "id", key_id(k));
        if (r < 0 || a->json)
                return r;
        printf("%s\tprivate: keep it secret, give it to 'release --key'\n"
               "%s\tpublic: give it to 'trust init --key'\n"
               "id\t%s (%s)\n",
               private_path, public_path, sha256_to_hex(key_id(k), id),
               key_type_to_string(key_type(k)));
        return 0;
}

int verb_keygen(const Arguments *a, cJSON *result, char **reterr)
{
        _cleanup_free_ char *private_path = NULL, *public_path = NULL;
        _cleanup_(key_freep) Key *k = NULL;
        KeyType type = a->type ? key_type_from_string(a->type) : KEY_ED25519;
        const char *name = a->operands.items[0];

        if (type < 0)
                return fail(reterr, PUBLISH_USAGE, "--type '%s' is neither ed25519 nor ecdsa-p256",
                            a->type);
        if (!*name || name[strlen(name) - 1] == '/')
                return fail(reterr, PUBLISH_USAGE, "'%s' is not a name for two files", name);
        if (asprintf(&private_path, "%s.key", name) < 0)
                return private_path = NULL, -ENOMEM;
        if (asprintf(&public_path, "%s.pub", name) < 0)
                return public_path = NULL, -ENOMEM;
        int r = key_generate(type, &k);
        if (r < 0)
                return fail_errno(reterr, r, "can't make a key");
        r = write_pair(k, private_path, public_path, reterr);
        return r < 0 ? r : report(a, k, private_path, public_path, result);
}
