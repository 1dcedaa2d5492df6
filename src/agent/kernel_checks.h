/* SPDX-License-Identifier: Apache-2.0 */
/* What of the running kernel and of our own rights the agent depends on; reads only, changes nothing. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#define KERNEL_CHECKS_MAX 24

struct kernel_check {
	const char *name; /* static storage */
	bool ok;
	char detail[200]; /* what was found */
	char remedy[200]; /* what to do when it is not ok; may be "" */
};

struct kernel_checks {
	struct kernel_check items[KERNEL_CHECKS_MAX];
	size_t n;
};

void kernel_checks_run(struct kernel_checks *ret_checks);
