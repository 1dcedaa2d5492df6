/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network namespace that is watched: entered once, while the agent may, to open
 * sockets there (netns_run); then only looked at from outside (netns_gone).
 *
 * A socket keeps its namespace alive after everybody else has left it. So whoever
 * holds sockets there must ask at each tick whether the file that names the
 * namespace is gone or names another one, and close them then. Opening them again takes
 * privileges that the agent has given up by that time.
 *
 * The file is looked at through its directory, opened at the start, so that directories
 * that others may not enter are no obstacle. A file below /proc/PID may not be
 * looked at by others at all: there the process is watched instead (pidfd).
 */
#pragma once
#include <stdint.h>
#include "lib/error.h"
#include "lib/settings.h"

#define NETNS_LABEL_MAX 256

struct netns;

/* name: of a file in /run/netns, or a path. -errno with a sentence. */
int netns_open(const char *name, struct netns **ret_netns, struct error *ret_error);
void netns_close(struct netns *netns);

/* Once: runs fn inside, in a thread of its own, and returns what it returns; -errno when it cannot go there. Needs
 * CAP_SYS_ADMIN. */
int netns_run(struct netns *netns, int (*fn)(void *userdata), void *userdata);

/* The name; of a path its last component; of /proc/PID/ns/net the PID. UTF-8 if the name is. */
const char *netns_label(const struct netns *netns);
uint32_t netns_inode(const struct netns *netns);
/* Why nothing may be held in it any longer, or NULL. */
const char *netns_gone(const struct netns *netns);

/* Inode number of the namespace that the calling thread is in; 0: unknown. */
uint32_t netns_own_inode(void);
/* The only namespace whose sockets count, for the programs (bpf/scope.bpf.h); 0: those of all do (collect.scope). */
uint32_t netns_scope(const struct settings *settings);
