/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host of the test network: a network namespace, and for a host that people and
 * programs work in also a mount and a UTS namespace. It is held by descriptors and
 * nothing else, has no name in the file system and no process of its own, so whatever
 * ends the process that opened it, even kill -9, ends the host with its links.
 *
 * Everything in it is done by children: this process itself never leaves its own
 * namespaces, except for the two calls around socket() in host_socket.
 *
 * In a host with files, the files stand in place of the system's own of the same path:
 * private bind mounts from a tmpfs that has no other place.
 */
#pragma once
#include <stddef.h>
#include <sys/types.h>
#include "lib/error.h"

struct host;

enum host_namespace { HOST_NET, HOST_UTS, HOST_MNT, HOST_NAMESPACES };

struct host_file { const char *path, *text; }; /* a path that exists */

/* files NULL: only a network namespace. The loopback device is up. Needs CAP_SYS_ADMIN. */
int host_open(const char *name, const struct host_file *files, size_t n_files, struct host **ret_host,
	      struct error *ret_error);
void host_close(struct host *host);
const char *host_name(const struct host *host);
/* The descriptor of a namespace, or -1: a host without files has only the first. It stays the host's. */
int host_namespace(const struct host *host, enum host_namespace namespace);

/* A socket of the host, for this process. -errno. */
int host_socket(struct host *host, int family, int type);

/* Moves the calling process, which has one thread, into the host. `namespaces`: descriptors in the order of the enum. */
int host_enter(const int namespaces[static HOST_NAMESPACES]);

typedef int (*host_fn)(struct host *host, void *argument, struct error *ret_error);
/* Runs fn in a child inside the host and waits for it: 0, or its -errno and sentence. */
int host_run(struct host *host, host_fn fn, void *argument, struct error *ret_error);

struct host_process {
	const char *title;      /* as ps and the agent show it; NULL: as this one */
	host_fn fn;             /* returns only to end: 0, or -errno, whose sentence goes to standard error */
	void *argument;
	int input, output;      /* descriptors for its standard input and output, -1: /dev/null */
	int keep;               /* a descriptor that it keeps, or -1; it has no others */
};
/* A child inside the host, in a process group of its own, that dies with the calling process, by SIGKILL. host NULL: where this process is. Returns its
 * pid or -errno. */
pid_t host_start(struct host *host, const struct host_process *process);
