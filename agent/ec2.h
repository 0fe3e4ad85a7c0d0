/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"

/* Whether this host is to be asked for instance metadata: it is an EC2 instance by its DMI data
 * ("Identify EC2 Linux instances" in the EC2 User Guide; Nitro: the vendor is "Amazon EC2", Xen:
 * the BIOS version ends in ".amazon"), or AWS_EC2_METADATA_SERVICE_ENDPOINT is set; and
 * AWS_EC2_METADATA_DISABLED is not true. */
bool ec2_has_metadata(void);
