/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/memory.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* More maps than these count once per descriptor, which only makes the room smaller. */
#define MAPS_MAX 256

/* Of a map's descriptor; of any other (programs have a memlock too; it is small and not of our budget) false. */
static bool read_map(const char *fd, unsigned *ret_id, uint64_t *ret_bytes)
{
	unsigned long long bytes = 0;
	bool map = false, named = false;
	char path[300], line[128];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%s", fd);
	file = fopen(path, "re");
	if (!file)
		return false;
	while (!named && fgets(line, sizeof(line), file)) {
		map |= !strncmp(line, "map_type:", 9);
		if (map && sscanf(line, "memlock: %llu", &bytes) != 1)
			named = sscanf(line, "map_id: %u", ret_id) == 1;
	}
	fclose(file);
	*ret_bytes = bytes;
	return named;
}

/* Collectors share maps, each with a descriptor of its own. */
static bool is_new(unsigned *seen, size_t *n, unsigned id)
{
	for (size_t i = 0; i < *n; i++)
		if (seen[i] == id)
			return false;
	if (*n < MAPS_MAX)
		seen[(*n)++] = id;
	return true;
}

uint64_t memory_of_maps(void)
{
	DIR *dir = opendir("/proc/self/fdinfo");
	unsigned seen[MAPS_MAX], id = 0;
	const struct dirent *entry;
	uint64_t bytes = 0, one;
	size_t n = 0;

	if (!dir)
		return 0;
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.' && read_map(entry->d_name, &id, &one) && is_new(seen, &n, id))
			bytes += one;
	closedir(dir);
	return bytes;
}

uint64_t memory_resident(void)
{
	unsigned long long size, resident = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	if (!file)
		return 0;
	if (fscanf(file, "%llu %llu", &size, &resident) != 2)
		resident = 0;
	fclose(file);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t memory_room(uint64_t budget, uint64_t maps, uint64_t resident)
{
	/* Records stay while their sockets do; the process may still grow a little. */
	uint64_t least = budget / 16, used = maps + resident + budget / 64;

	return used + least < budget ? budget - used : least;
}
