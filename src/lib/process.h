/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process about itself: the standard process_* metrics of Prometheus' client
 * libraries, for the agent and the server alike.
 */
#pragma once
#include <stddef.h>
#include "lib/metric.h"

enum process_metric {
	PROCESS_CPU_SECONDS, PROCESS_RESIDENT_BYTES, PROCESS_VIRTUAL_BYTES, PROCESS_OPEN_FDS, PROCESS_MAX_FDS, PROCESS_START_TIME,
	PROCESS_METRICS
};

extern const struct metric_family process_families[PROCESS_METRICS];

struct process_reader;

/* Opens what is read later; call it before privileges are dropped. */
int process_reader_new(struct process_reader **ret_reader);
void process_reader_free(struct process_reader *reader);
/* NaN for a value that cannot be read. */
void process_read(struct process_reader *reader, double ret_values[static PROCESS_METRICS]);
