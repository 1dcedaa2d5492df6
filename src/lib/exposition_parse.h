/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading metrics of any exporter: text 0.0.4, OpenMetrics 1.0, delimited
 * protobuf. Tolerant of everything valid (exemplars and _created are skipped,
 * families may come in any order in 0.0.4, CRLF, missing TYPE), strict about
 * garbage: the first malformed line ends the parse with line:column and the
 * reason. Input is hostile: never reads beyond len, never recurses, bounded
 * work per byte; non-UTF-8 label values are refused.
 *
 * Text classic histograms and summaries are reported as their plain series
 * (x_bucket{le=...}, x_sum, x_count; x{quantile=...}) with the family's type,
 * as Prometheus stores them. Protobuf native histograms are reported as one
 * sample with `hist`; a protobuf classic histogram as its plain series, one that
 * is both as native. The series of a gauge histogram are gauges. Native float,
 * gauge and negative histograms are refused.
 */
#pragma once
#include <stdint.h>
#include "lib/hist.h"
#include "lib/metric.h"

#define EXPOSITION_NO_TIMESTAMP INT64_MIN

struct exposition_sample {
	const char *name;            /* of the series: "x_total", "x_bucket" */
	const char *family;          /* of the family as its TYPE line names it; name when there is none */
	enum metric_type type;       /* of the family */
	const struct label *labels;  /* sorted by name, no duplicates, empty values left out */
	size_t n_labels;
	const struct hist *hist;     /* NULL for a plain value */
	double value;
	int64_t timestamp_ms;        /* EXPOSITION_NO_TIMESTAMP when absent */
};

/* Everything in the sample is valid only during the call. Not 0 ends the parse and is returned. */
typedef int (*exposition_sample_fn)(const struct exposition_sample *sample, void *userdata);

/* content_type chooses the parser; NULL or "" is text 0.0.4 (so an exporter without the header still works);
 * text/html and other foreign types are refused by name: -EPROTO. Malformed input: -EBADMSG. */
int exposition_parse(const char *content_type, const char *data, size_t len, exposition_sample_fn fn, void *userdata,
		     struct error *ret_error);
