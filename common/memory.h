/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Gives back what a process that is about to be idle for long does not need: free heap pages, and
 * the pages of program and libraries that only loading and linking touched, which are read again
 * where they are needed (with so many libraries behind libcurl they are most of an agent's memory).
 * Changes nothing that can be seen; a process that is busy soon had better not.
 */
void memory_give_back(void);
