/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protobuf half of the exposition: field numbers of lib/metrics.proto and
 * the writer's functions. Internal to lib/exposition*.c and their tests.
 */
#pragma once
#include <stdint.h>
#include "lib/exposition.h"

enum proto_wire { PROTO_VARINT = 0, PROTO_FIXED64 = 1, PROTO_BYTES = 2, PROTO_FIXED32 = 5 };

enum proto_field {
	FAMILY_NAME = 1, FAMILY_HELP = 2, FAMILY_TYPE = 3, FAMILY_METRIC = 4, FAMILY_UNIT = 5,

	METRIC_FIELD_LABEL = 1, METRIC_FIELD_GAUGE = 2, METRIC_FIELD_COUNTER = 3, METRIC_FIELD_SUMMARY = 4,
	METRIC_FIELD_UNTYPED = 5, METRIC_FIELD_TIMESTAMP = 6, METRIC_FIELD_HISTOGRAM = 7,

	LABEL_NAME = 1, LABEL_VALUE = 2,

	VALUE_VALUE = 1, /* of Gauge, Counter, Untyped */

	SUMMARY_COUNT = 1, SUMMARY_SUM = 2, SUMMARY_QUANTILE = 3,
	QUANTILE_QUANTILE = 1, QUANTILE_VALUE = 2,

	HISTOGRAM_COUNT = 1, HISTOGRAM_SUM = 2, HISTOGRAM_BUCKET = 3, HISTOGRAM_COUNT_FLOAT = 4,
	HISTOGRAM_SCHEMA = 5, HISTOGRAM_ZERO_THRESHOLD = 6, HISTOGRAM_ZERO_COUNT = 7, HISTOGRAM_ZERO_COUNT_FLOAT = 8,
	HISTOGRAM_NEGATIVE_SPAN = 9, HISTOGRAM_NEGATIVE_DELTA = 10, HISTOGRAM_NEGATIVE_COUNT = 11,
	HISTOGRAM_POSITIVE_SPAN = 12, HISTOGRAM_POSITIVE_DELTA = 13, HISTOGRAM_POSITIVE_COUNT = 14,

	BUCKET_COUNT = 1, BUCKET_UPPER = 2, BUCKET_COUNT_FLOAT = 4,
	SPAN_OFFSET = 1, SPAN_LENGTH = 2,
};

enum proto_type {
	PROTO_TYPE_COUNTER = 0, PROTO_TYPE_GAUGE = 1, PROTO_TYPE_SUMMARY = 2,
	PROTO_TYPE_UNTYPED = 3, PROTO_TYPE_HISTOGRAM = 4, PROTO_TYPE_GAUGE_HISTOGRAM = 5,
};

/* The counterparts of exposition_family, _value, _histogram for EXPOSITION_PROTOBUF. A family without a sample leaves
 * nothing behind. */
void exposition_proto_family(struct exposition *e);
void exposition_proto_value(struct exposition *e, const struct label *labels, size_t n_labels, double value);
void exposition_proto_histogram(struct exposition *e, const struct label *labels, size_t n_labels,
				const struct hist *hist);
void exposition_proto_family_end(struct exposition *e);
