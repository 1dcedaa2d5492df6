/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DataExporter: publishes the last committed snapshot over HTTP. A scrape never
 * touches the kernel. A snapshot is rendered at most once per format and once
 * compressed, whoever asks how often.
 *
 * Every answer of the telemetry path says how old it is, so that a scraper can time
 * its next request right behind the next commit:
 *   Netsonde-Snapshot: generation=123; age=0.123; tick=1.000     (seconds)
 */
#pragma once
#include <stdint.h>
#include "agent/features.h"
#include "agent/registry.h"
#include "lib/error.h"
#include "lib/loop.h"

struct exporter;

struct exporter_options {
	const char *const *listen;
	size_t n_listen;
	const char *telemetry_path;
	const struct registry *registry;
	const struct features *features;
	/* Reloads the configuration: 0, or -errno with the sentences for the client in `out`. */
	int (*reload)(void *userdata, struct buffer *out);
	void *userdata;
};

int exporter_open(struct loop *loop, const struct exporter_options *options, struct exporter **ret_exporter, struct error *ret_error);
void exporter_close(struct exporter *exporter);
/* After each commit. */
void exporter_committed(struct exporter *exporter, uint64_t tick_ns);
const char *exporter_listen_address(const struct exporter *exporter, size_t index);
