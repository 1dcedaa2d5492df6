/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owner of the kernel side of the lookup collector (bpf/lookup.bpf.c): loads it
 * and puts its probes into C libraries. A probe is in the file, so it works in
 * every process that uses that file, now and later. Held by links, which the
 * kernel ends with our process.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "abi_lookup.h"
#include "lib/error.h"

struct lookup_program;

enum lookup_probes {
	LOOKUP_PROBES_MULTI,  /* two links per library, since Linux 6.6; whether they can be had, lookup_program_try tells */
	LOOKUP_PROBES_EVENTS, /* two for each function */
};

/* Loads; nothing is probed yet. only_netns: of netns_scope. -errno with a sentence. */
int lookup_program_open(enum lookup_probes probes, uint32_t only_netns, struct lookup_program **ret_program, struct error *ret_error);
void lookup_program_close(struct lookup_program *program);

/* Can there be such probes, and do processes survive them? A child of ours tries. fd: the C library of our own
 * process. -EFAULT when the child dies of it, another -errno when there are none; with a sentence. */
int lookup_program_try(struct lookup_program *program, int fd, struct error *ret_error);
/* Probes the functions of the library fd (which may then be closed). How many there are, 0: none of them; -errno:
 * nothing of it is probed. */
int lookup_program_add(struct lookup_program *program, int fd);

/* One per outcome; memory that the kernel adds to. */
const struct lookup_hist *lookup_program_hists(const struct lookup_program *program);
/* missed: returns and entries that the kernel did not hand to our programs. */
void lookup_program_lost(const struct lookup_program *program, uint64_t ret_lost[static LOOKUP_LOST_COUNT],
			 uint64_t *ret_missed);
/* Calls fn for each program with its name and descriptor. */
void lookup_program_each(const struct lookup_program *program, void (*fn)(const char *name, int fd, void *userdata),
			 void *userdata);
