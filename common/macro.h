/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The few macros that every file uses: cleanup attributes, ownership transfer, sizes. */

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define _cleanup_(f)   __attribute__((cleanup(f)))
#define _must_check_   __attribute__((warn_unused_result))
#define _printf_(a, b) __attribute__((format(printf, a, b)))
#define _unused_       __attribute__((unused))

#define ELEMENTSOF(x) (sizeof(x) / sizeof((x)[0]))
#define STRLEN(x)     (sizeof(x "") - 1)
#define MIN(a, b)                   \
        ({                          \
                typeof(a) _a = (a); \
                typeof(b) _b = (b); \
                _a < _b ? _a : _b;  \
        })
#define MAX(a, b)                   \
        ({                          \
                typeof(a) _a = (a); \
                typeof(b) _b = (b); \
                _a > _b ? _a : _b;  \
        })

#define CLAMP(x, low, high)                                       \
        ({                                                        \
                typeof(x) _x = (x), _low = (low), _high = (high); \
                _x<_low ? _low : _x> _high ? _high : _x;          \
        })

/* Moves a pointer out of its variable: the variable's cleanup then finds NULL. */
#define TAKE_PTR(p)                 \
        ({                          \
                typeof(p) _p = (p); \
                (p) = NULL;         \
                _p;                 \
        })

/* The same for a file descriptor, which becomes -EBADF. */
#define TAKE_FD(fd)             \
        ({                      \
                int _fd = (fd); \
                (fd) = -EBADF;  \
                _fd;            \
        })

/* Defines name##p() for _cleanup_(), from a destructor that takes NULL. */
#define DEFINE_CLEANUP_FUNC(type, func)                                                      \
        static inline void func##p(type *p) /* NOLINT(bugprone-macro-parentheses): a type */ \
        {                                                                                    \
                if (*p)                                                                      \
                        func(*p);                                                            \
        }                                                                                    \
        struct _swallow_semicolon

static inline void freep(void *p)
{
        free(*(void **) p);
}
#define _cleanup_free_ _cleanup_(freep)

/* Makes an array one element longer, and clears that element. NULL: no memory, and the array stays.
 */
static inline void *array_extend(void *array, size_t n, size_t element_size)
{
        char *larger = reallocarray(array, n + 1, element_size);

        if (larger)
                memset(larger + n * element_size, 0, element_size);
        return larger;
}

static inline bool streq(const char *a, const char *b)
{
        return strcmp(a, b) == 0;
}

static inline bool streq_ptr(const char *a, const char *b)
{
        return a == b || (a && b && streq(a, b));
}

static inline const char *strempty(const char *s)
{
        return s ? s : "";
}
