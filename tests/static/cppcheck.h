/* SPDX-License-Identifier: Apache-2.0 */
/* What cppcheck 2.10 can't parse (statement expressions inside of initializers), in words that it
 * can; and macros of libraries, whose headers it does not read. */
#include "../../common/macro.h"

#undef MIN
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#undef MAX
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#undef TAKE_PTR
#define TAKE_PTR(p) (p)
#undef TAKE_FD
#define TAKE_FD(fd) (fd)

#define cJSON_ArrayForEach(e, array) for (e = array ? array->child : 0; e; e = e->next)
