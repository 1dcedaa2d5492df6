/* SPDX-License-Identifier: Apache-2.0 */
/* DataAggregator: the process `netsonde agent`. */
#pragma once
#include <stddef.h>
#include "agent/features.h"
#include "lib/error.h"

struct agent_options {
	const char *config_file;       /* NULL: the defaults */
	const char *const *listen;
	size_t n_listen;
	const char *telemetry_path;
	const char *user;              /* whom to become when started as root; see lib/user.h */
};

/* Runs until SIGTERM or SIGINT. 0, or -errno after one clear line in the log. */
int agent_run(const struct agent_options *options);

/* Opens every collector and closes it again, to learn what works here. Needs the agent's privileges; without them the features say so. */
void agent_probe(struct features *features);

/* docs/metrics.md from the registry: every family with type, labels and help. */
int agent_write_metrics(struct buffer *out);
