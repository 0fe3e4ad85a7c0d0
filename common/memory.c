/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "macro.h"

/* Only segments that can't be written: in them every page is still the file's. What the kernel
 * refuses stays where it is. */
static int drop_segments(struct dl_phdr_info *info, size_t size, void *userdata)
{
        uintptr_t page = (uintptr_t) sysconf(_SC_PAGESIZE);

        (void) size;
        (void) userdata;
        for (size_t i = 0; i < info->dlpi_phnum; i++) {
                const ElfW(Phdr) *h = &info->dlpi_phdr[i];
                uintptr_t start = (info->dlpi_addr + h->p_vaddr) & ~(page - 1);

                if (h->p_type == PT_LOAD && !(h->p_flags & PF_W))
                        /* NOLINTNEXTLINE(performance-no-int-to-ptr): it is told as a number */
                        (void) madvise((void *) start,
                                       info->dlpi_addr + h->p_vaddr + h->p_memsz - start,
                                       MADV_DONTNEED);
        }
        return 0;
}

void memory_give_back(void)
{
        (void) malloc_trim(0);
        (void) dl_iterate_phdr(drop_segments, NULL);
}
