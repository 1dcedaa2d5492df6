/* SPDX-License-Identifier: Apache-2.0 */
/*
 * elf_functions_find on arbitrary files: it refuses them, or every offset that it
 * tells is one that the kernel could take, and their number is right.
 */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/elf_functions.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int truth)
{
	if (!truth)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = { "first", "second", "data" };
	uint64_t offsets[3];
	int fd = memfd_create("fuzz", MFD_CLOEXEC), found = 0, r;

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		return 0;
	r = elf_functions_find(fd, names, 3, offsets);
	for (size_t i = 0; i < 3 && r >= 0; i++) {
		demand(offsets[i] <= INT64_MAX);
		found += offsets[i] != 0;
	}
	demand(r < 0 || r == found);
	close(fd);
	return 0;
}
