/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The root of the cgroup v2 hierarchy, where programs for the sockets of all
 * namespaces are attached; and the names of containers, from cgroup paths.
 */
#pragma once
#include <stddef.h>
#include "lib/error.h"

#define CONTAINER_NAME_MAX 64

/* A directory descriptor. Uses a mounted hierarchy when there is one, else a detached mount of its own (fsopen), which
 * nobody sees and which ends with the descriptor. In a cgroup namespace its root is that of the namespace. -errno with a
 * sentence. */
int cgroup_root_open(struct error *ret_error);

/* The short name of the container that a cgroup path belongs to, into ret_name: "docker:0123456789ab" for
 * "/system.slice/docker-<64 hex>.scope", "lxc:web" for "/lxc/web/...", and so on; "" when it is of no container. The
 * path may come from anybody: any bytes, any length. Returns ret_name. */
const char *cgroup_container(const char *path, char ret_name[static CONTAINER_NAME_MAX]);
