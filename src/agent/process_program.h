/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owner of the kernel side of the process collector (bpf/process.bpf.c): loads
 * the variant that fits the running kernel, attaches, reads the counters. Held by
 * links, so a killed agent leaves nothing behind.
 */
#pragma once
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include "abi_process.h"
#include "agent/events.h"
#include "agent/features.h"
#include "lib/error.h"

struct process_program;

enum process_exit_mode {
	PROCESS_EXIT_BEST,     /* what the running kernel's tracepoint tells */
	PROCESS_EXIT_BY_COUNT, /* as before Linux 6.16, by the number of live threads; for tests */
};

/* Loads and attaches. One of both hooks is enough; each is reported in features. -errno with a sentence when there is
 * neither. events: NULL for none, in tests. only_netns: of netns_scope. */
int process_program_open(const struct events *events, struct features *features, enum process_exit_mode mode,
			 uint32_t only_netns, struct process_program **ret_program, struct error *ret_error);
void process_program_close(struct process_program *program);

bool process_program_counts(const struct process_program *program, enum process_count count);
/* missed: events that the kernel did not hand to our programs (recursion). */
void process_program_read(const struct process_program *program, uint64_t ret_counts[static PROCESS_COUNT_COUNT],
			  uint64_t *ret_missed);
/* Calls fn for each loaded program with its name and descriptor. */
void process_program_each(const struct process_program *program, void (*fn)(const char *name, int fd, void *userdata),
			  void *userdata);
