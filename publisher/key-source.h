/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "key.h"
#include "macro.h"

/* A key as the command line names it: a PEM file, or kms:KEY (kms.h). A file whose name begins with
 * "kms:" is given as ./kms:… */

/* A key that signs. */
_must_check_ int key_source_signer(const char *name, Key **ret, char **reterr);

/* A key whose public half counts; it may sign, too. */
_must_check_ int key_source_public(const char *name, Key **ret, char **reterr);
