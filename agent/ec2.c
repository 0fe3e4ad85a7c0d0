/* SPDX-License-Identifier: Apache-2.0 */
#include "ec2.h"

#include <fcntl.h>

#include "aws-environment.h"
#include "fd.h"

#define DMI_SIZE_MAX 4096

static bool file_ends_in(const char *path, const char *end)
{
        _cleanup_free_ char *text = NULL;
        size_t size, n = strlen(end);

        if (file_read_at(AT_FDCWD, path, DMI_SIZE_MAX, &text, &size) < 0)
                return false;
        while (size > 0 && text[size - 1] == '\n')
                size--;
        return size >= n && memcmp(text + size - n, end, n) == 0;
}

bool ec2_has_metadata(void)
{
        if (aws_environment_is_on("AWS_EC2_METADATA_DISABLED"))
                return false;
        return aws_environment("AWS_EC2_METADATA_SERVICE_ENDPOINT") ||
               file_ends_in("/sys/class/dmi/id/sys_vendor", "Amazon EC2") ||
               file_ends_in("/sys/class/dmi/id/bios_version", ".amazon");
}
