/* SPDX-License-Identifier: Apache-2.0 */
#include "key-source.h"

#include "kms.h"

static const char *kms_name(const char *name)
{
        return strncmp(name, KMS_PREFIX, STRLEN(KMS_PREFIX)) == 0 ? name + STRLEN(KMS_PREFIX)
                                                                  : NULL;
}

int key_source_signer(const char *name, Key **ret, char **reterr)
{
        const char *kms = kms_name(name);

        return kms ? kms_key_load(kms, ret, reterr) : key_load_private(name, ret, reterr);
}

int key_source_public(const char *name, Key **ret, char **reterr)
{
        const char *kms = kms_name(name);

        return kms ? kms_key_load(kms, ret, reterr) : key_load_public(name, ret, reterr);
}
