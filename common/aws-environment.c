/* SPDX-License-Identifier: Apache-2.0 */
#include "aws-environment.h"

const char *aws_environment(const char *name)
{
        const char *value = getenv(name);

        return value && *value ? value : NULL;
}

bool aws_environment_is_on(const char *name)
{
        const char *value = aws_environment(name);

        return value && strcasecmp(value, "true") == 0;
}
