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
#include "lib/http.h"
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

#define EXPORTER_ROUTES_MAX 16

/* What another module serves here. Strings are borrowed, and valid until the exporter is closed. */
struct exporter_route {
	const char *method, *path;
	const char *title;    /* on the landing page */
	http_handler handler; /* NULL: the feature is off, and the answer is `reason` */
	void *userdata;       /* of the handler; NULL: it gets NULL */
	const char *reason;   /* one sentence: why the feature is off, and what would turn it on */
	unsigned status;      /* with the reason: 404 when it was not asked for, 503 (also 0) when this host cannot */
};

int exporter_open(struct loop *loop, const struct exporter_options *options, struct exporter **ret_exporter, struct error *ret_error);
/* Ends the streams of all routes too. */
void exporter_close(struct exporter *exporter);
/* Before the loop runs. -ENOSPC beyond EXPORTER_ROUTES_MAX, -EEXIST when the method of that path is served already. */
int exporter_add(struct exporter *exporter, const struct exporter_route *route);
/* After each commit. */
void exporter_committed(struct exporter *exporter, uint64_t tick_ns);
const char *exporter_listen_address(const struct exporter *exporter, size_t index);
