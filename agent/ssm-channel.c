/* SPDX-License-Identifier: Apache-2.0 */
#include "ssm-channel.h"

static const char *const channel_names[_SSM_CHANNEL_MAX] = {
        [SSM_CHANNEL_AUTO] = "auto",
        [SSM_CHANNEL_MDS] = "ec2messages",
        [SSM_CHANNEL_MGS] = "ssmmessages",
};

const char *ssm_channel_to_string(SsmChannel c)
{
        return c >= 0 && c < _SSM_CHANNEL_MAX ? channel_names[c] : NULL;
}

SsmChannel ssm_channel_from_string(const char *s)
{
        for (int i = 0; i < _SSM_CHANNEL_MAX; i++)
                if (streq(s, channel_names[i]))
                        return (SsmChannel) i;
        return _SSM_CHANNEL_INVALID;
}
