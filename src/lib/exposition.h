/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing metrics: Prometheus text 0.0.4, OpenMetrics text 1.0.0, and
 * length-delimited io.prometheus.client.MetricFamily protobuf (the only format
 * that carries native histograms to Prometheus 2.40+).
 *
 * Call order: begin, then for each family: family, its samples; end. All bytes
 * go into one buffer; failure of the buffer is reported once by end. Families
 * and labels have passed metric_family_check and metric_label_name_valid; label
 * values may be any bytes, what is not UTF-8 in them is written as U+FFFD. No
 * timestamps, no _created. Floats are written in the shortest form that reads
 * back the same, `le` always with a fraction ("1.0", as Prometheus writes it).
 * A histogram with a text format becomes classic buckets at the family's powers
 * of two: exact, because those are boundaries of the exponential buckets.
 */
#pragma once
#include "lib/buffer.h"
#include "lib/hist.h"
#include "lib/metric.h"

enum exposition_format { EXPOSITION_TEXT, EXPOSITION_OPENMETRICS, EXPOSITION_PROTOBUF, EXPOSITION_N_FORMATS };

struct exposition {
	struct buffer *out; /* borrowed */
	enum exposition_format format;
	const struct metric_family *family; /* the current one, borrowed */
	size_t family_start;  /* protobuf: where in out the current family's message is */
	size_t samples_start; /* protobuf: where in out its samples begin */
	struct buffer line;   /* text: what the bucket lines of one histogram have in common */
	struct buffer bounds; /* text: le of every classic bucket of bounds_first_exp..last, each NUL-terminated */
	int bounds_first_exp, bounds_last_exp;
};

/* From an Accept header (NULL or unparsable: TEXT): highest q, then the first listed (RFC 9110, 12.5.1). */
enum exposition_format exposition_negotiate(const char *accept);
const char *exposition_content_type(enum exposition_format format);
/* The format of a Content-Type header: -EPROTO for a foreign one. NULL and "" are TEXT. */
int exposition_format_of(const char *content_type, enum exposition_format *ret_format);

void exposition_begin(struct exposition *e, struct buffer *out, enum exposition_format format);
void exposition_family(struct exposition *e, const struct metric_family *family);
void exposition_value(struct exposition *e, const struct label *labels, size_t n_labels, double value);
void exposition_histogram(struct exposition *e, const struct label *labels, size_t n_labels, const struct hist *hist);
int exposition_end(struct exposition *e); /* 0 or -ENOMEM; frees what the writer held */
