/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The C libraries that the processes of this host use: the host's own and those
 * of containers, each file once. Needs to see other users' processes (root, or
 * CAP_SYS_PTRACE and CAP_CHECKPOINT_RESTORE), so it is done at start.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct libc_files {
	int *fds;              /* open for reading; owned */
	size_t n;
	size_t processes;      /* whose maps were read */
	size_t unreadable;     /* processes whose maps, or whose library, we may not read */
	size_t left_out;       /* libraries beyond the limit, or held by a lease (each process that uses one counts) */
};

/* Is it how a C library's file is called? path: as in /proc/PID/maps, any bytes. */
bool libc_files_is_name(const char *path);

/* At most max files, our own process's first. -errno when nothing can be told at all. */
int libc_files_find(size_t max, struct libc_files *ret_files);
void libc_files_done(struct libc_files *files);
