/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup_container on any text: the name is printable ASCII without quotes and
 * backslashes, "" or KIND:NAME, and what follows a container's part of the path
 * does not change it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/cgroup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int truth)
{
	if (!truth)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char below[] = "/lxc/other";
	char name[CONTAINER_NAME_MAX], again[CONTAINER_NAME_MAX];
	char *path = malloc(size + sizeof(below));
	const char *colon;

	if (!path)
		return 0;
	memcpy(path, data, size);
	path[size] = '\0';
	memset(name, 0xff, sizeof(name));
	demand(cgroup_container(path, name) == name);
	demand(memchr(name, '\0', sizeof(name)) != NULL);
	if (*name) {
		colon = strchr(name, ':');
		demand(colon && colon > name && colon[1]);
		for (const char *c = name; *c; c++)
			demand(*c > ' ' && *c < 0x7f && *c != '"' && *c != '\\');
		memcpy(path + strlen(path), below, sizeof(below));
		demand(!strcmp(cgroup_container(path, again), name));
	}
	free(path);
	return 0;
}
