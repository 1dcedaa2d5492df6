/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where functions of a shared library are in its file: what a probe needs. The
 * file may belong to anybody: it is read, never mapped (cutting it short would kill
 * us), every number in it is checked, and how much is read has a bound.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* The dynamic functions of these names in the ELF file fd. ret_offsets: in the file; 0: not there. Returns how many
 * there are; -ENOEXEC when the file is no 64-bit ELF file for this machine, -EBADMSG when it is a broken one, or
 * another -errno. */
int elf_functions_find(int fd, const char *const *names, size_t n, uint64_t *ret_offsets);
