/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A relay as a process: `lab-relay`, and the forked children of `netsonde lab`.
 *
 * Standard input takes commands, one a line (relay_set's, and `counts`); each is
 * answered by one line on standard output: `ok`, `error: ...`, or the counters.
 * `ready` is the first line, once packets pass. The end of the input ends the
 * relay, so that it does not outlive whoever started it, and the counters are the
 * last line.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/error.h"

struct relay_options {
	const char *devices[2];             /* in this process's network namespace */
	const char *both, *a_to_b, *b_to_a; /* settings (lab/impair.h), or NULL */
	const char *log;                    /* of packets: a file, or NULL */
	uint64_t seed, memory_mb, spin_ns;
	bool realtime;
};

/* Until the input ends or SIGINT or SIGTERM comes. Keeps the process on one CPU. 0, or -errno with a sentence. */
int relay_run(const struct relay_options *options, struct error *ret_error);
