/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"

/* Memory that holds secrets. */

/* Overwrites a text before it is freed. NULL is fine. */
void secret_free(char *s);

static inline void secret_freep(char **p)
{
        secret_free(*p);
}

/* For a process whose memory holds credentials, in its environment too: it leaves no core dump, and
 * processes of the same user can't read it (PR_SET_DUMPABLE in prctl(2)). Wiping alone would not
 * do: libraries keep copies. */
_must_check_ int secret_process(char **reterr);
