/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protobuf parser: messages written by the code generated from
 * metrics.proto, native histograms sound and unsound, and bytes by hand that no
 * encoder writes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/exposition_parse.h"
#include "metrics.pb-c.h"
#include "samples.h"

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

static const char *const proto_type =
	"application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

#define PB(name) io__prometheus__client__##name
typedef Io__Prometheus__Client__MetricFamily pb_family;
typedef Io__Prometheus__Client__Metric pb_metric;
typedef Io__Prometheus__Client__Histogram pb_histogram;
typedef Io__Prometheus__Client__BucketSpan pb_span;
typedef Io__Prometheus__Client__LabelPair pb_label;

#define PB_ENUM(name) IO__PROMETHEUS__CLIENT__METRIC_TYPE__##name

static void put_family(struct buffer *out, const pb_family *family)
{
	size_t len = PB(metric_family__get_packed_size)(family), rest = len;
	char *to;

	for (; rest >= 0x80; rest >>= 7)
		buffer_putc(out, (char)(rest | 0x80));
	buffer_putc(out, (char)rest);
	to = buffer_reserve(out, len);
	assert_non_null(to);
	PB(metric_family__pack)(family, (uint8_t *)to);
	out->len += len;
}

/* One family with one metric. */
static void put_metric(struct buffer *out, const char *name, Io__Prometheus__Client__MetricType type, pb_metric *metric)
{
	pb_family family = IO__PROMETHEUS__CLIENT__METRIC_FAMILY__INIT;

	family.name = (char *)(uintptr_t)name;
	family.help = (char *)(uintptr_t)"Help.";
	family.has_type = true;
	family.type = type;
	family.n_metric = 1;
	family.metric = &metric;
	put_family(out, &family);
}

static void put_plain(struct buffer *out)
{
	pb_label labels[] = { IO__PROMETHEUS__CLIENT__LABEL_PAIR__INIT, IO__PROMETHEUS__CLIENT__LABEL_PAIR__INIT,
			      IO__PROMETHEUS__CLIENT__LABEL_PAIR__INIT };
	pb_label *pointers[] = { &labels[0], &labels[1], &labels[2] };
	Io__Prometheus__Client__Counter counter = IO__PROMETHEUS__CLIENT__COUNTER__INIT;
	Io__Prometheus__Client__Gauge gauge = IO__PROMETHEUS__CLIENT__GAUGE__INIT;
	Io__Prometheus__Client__Untyped untyped = IO__PROMETHEUS__CLIENT__UNTYPED__INIT;
	pb_metric metric = IO__PROMETHEUS__CLIENT__METRIC__INIT;

	labels[0].name = (char *)(uintptr_t)"z";
	labels[0].value = (char *)(uintptr_t)"\xc3\xa9\"\n";
	labels[1].name = (char *)(uintptr_t)"a";
	labels[1].value = (char *)(uintptr_t)"1";
	labels[2].name = (char *)(uintptr_t)"empty";
	metric.n_label = 3;
	metric.label = pointers;
	metric.counter = &counter;
	counter.has_value = true;
	counter.value = 0.5;
	put_metric(out, "c_total", PB_ENUM(COUNTER), &metric);
	metric.n_label = 0;
	metric.gauge = &gauge;
	metric.has_timestamp_ms = true;
	metric.timestamp_ms = -5;
	put_metric(out, "g", PB_ENUM(GAUGE), &metric);
	untyped.has_value = true;
	untyped.value = INFINITY;
	metric.untyped = &untyped;
	put_metric(out, "u", PB_ENUM(UNTYPED), &metric);
}

static void put_summary(struct buffer *out)
{
	Io__Prometheus__Client__Quantile quantiles[] = { IO__PROMETHEUS__CLIENT__QUANTILE__INIT,
							 IO__PROMETHEUS__CLIENT__QUANTILE__INIT };
	Io__Prometheus__Client__Quantile *pointers[] = { &quantiles[0], &quantiles[1] };
	Io__Prometheus__Client__Summary summary = IO__PROMETHEUS__CLIENT__SUMMARY__INIT;
	pb_metric metric = IO__PROMETHEUS__CLIENT__METRIC__INIT;

	quantiles[0].has_quantile = quantiles[1].has_quantile = quantiles[0].has_value = true;
	quantiles[0].quantile = 0.5;
	quantiles[0].value = 7;
	quantiles[1].quantile = 1;
	summary.n_quantile = 2;
	summary.quantile = pointers;
	summary.has_sample_count = summary.has_sample_sum = true;
	summary.sample_count = 3;
	summary.sample_sum = 1.5;
	metric.summary = &summary;
	put_metric(out, "s", PB_ENUM(SUMMARY), &metric);
}

static void put_classic(struct buffer *out)
{
	Io__Prometheus__Client__Bucket buckets[] = { IO__PROMETHEUS__CLIENT__BUCKET__INIT,
						     IO__PROMETHEUS__CLIENT__BUCKET__INIT };
	Io__Prometheus__Client__Bucket *pointers[] = { &buckets[0], &buckets[1] };
	pb_label label = IO__PROMETHEUS__CLIENT__LABEL_PAIR__INIT, *labels[] = { &label };
	pb_histogram histogram = IO__PROMETHEUS__CLIENT__HISTOGRAM__INIT;
	pb_metric metric = IO__PROMETHEUS__CLIENT__METRIC__INIT;

	buckets[0].has_cumulative_count = buckets[0].has_upper_bound = true;
	buckets[1].has_cumulative_count = buckets[1].has_upper_bound = true;
	buckets[0].upper_bound = 1;
	buckets[0].cumulative_count = 2;
	buckets[1].upper_bound = 2.5;
	buckets[1].cumulative_count = 3;
	histogram.n_bucket = 2;
	histogram.bucket = pointers;
	histogram.has_sample_count = histogram.has_sample_sum = true;
	histogram.sample_count = 4;
	histogram.sample_sum = 9.5;
	label.name = (char *)(uintptr_t)"z";
	label.value = (char *)(uintptr_t)"1";
	metric.n_label = 1;
	metric.label = labels;
	metric.histogram = &histogram;
	put_metric(out, "h", PB_ENUM(HISTOGRAM), &metric);
	buckets[1].upper_bound = INFINITY;
	put_metric(out, "i", PB_ENUM(GAUGE_HISTOGRAM), &metric);
}

static void test_proto_valid(void **state)
{
	struct buffer out = BUFFER_INIT, samples = BUFFER_INIT;
	pb_family empty = IO__PROMETHEUS__CLIENT__METRIC_FAMILY__INIT;
	struct error error;

	empty.name = (char *)(uintptr_t)"empty";
	put_plain(&out);
	put_family(&out, &empty);
	put_summary(&out);
	put_classic(&out);
	if (parse(proto_type, out.data, out.len, &samples, &error) != 0)
		fail_msg("%s", error.text);
	assert_string_equal(samples.data,
		"c_total c_total counter {a=\"1\",z=\"\xc3\xa9\"<LF>\"} 0.5\n"
		"g g gauge {} 0 @-5\n"
		"u u untyped {} +Inf @-5\n"
		"s s summary {quantile=\"0.5\"} 7\ns s summary {quantile=\"1.0\"} 0\n"
		"s_sum s summary {} 1.5\ns_count s summary {} 3\n"
		"h_bucket h histogram {le=\"1.0\",z=\"1\"} 2\nh_bucket h histogram {le=\"2.5\",z=\"1\"} 3\n"
		"h_bucket h histogram {le=\"+Inf\",z=\"1\"} 4\nh_sum h histogram {z=\"1\"} 9.5\n"
		"h_count h histogram {z=\"1\"} 4\n"
		"i_bucket i gauge {le=\"1.0\",z=\"1\"} 2\ni_bucket i gauge {le=\"+Inf\",z=\"1\"} 3\n"
		"i_sum i gauge {z=\"1\"} 9.5\ni_count i gauge {z=\"1\"} 4\n");
	assert_int_equal(parse(proto_type, "", 0, &samples, &error), 0);
	buffer_done(&out);
	buffer_done(&samples);
}

/* A native histogram by its parts; the deltas are written one by one, not packed as ours are. */
struct native {
	int n_spans;
	struct {
		int32_t offset;
		uint32_t length;
	} spans[4];
	int n_deltas;
	int64_t deltas[8];
	uint64_t count, zero_count;
	int32_t schema;
	double sum, zero_threshold, count_float;
	bool negative, float_buckets, gauge;
};

static void put_native(struct buffer *out, const struct native *native)
{
	pb_span spans[4], *pointers[4], *negative;
	pb_histogram h = IO__PROMETHEUS__CLIENT__HISTOGRAM__INIT;
	pb_metric metric = IO__PROMETHEUS__CLIENT__METRIC__INIT;
	int64_t deltas[8];
	double counts[1] = { 1.5 };

	for (int i = 0; i < native->n_spans; i++) {
		spans[i] = (pb_span)IO__PROMETHEUS__CLIENT__BUCKET_SPAN__INIT;
		spans[i].has_offset = spans[i].has_length = true;
		spans[i].offset = native->spans[i].offset;
		spans[i].length = native->spans[i].length;
		pointers[i] = &spans[i];
	}
	memcpy(deltas, native->deltas, sizeof(deltas));
	h.has_sample_count = h.has_sample_sum = h.has_schema = h.has_zero_threshold = h.has_zero_count = true;
	h.sample_count = native->count;
	h.sample_sum = native->sum;
	h.schema = native->schema;
	h.zero_threshold = native->zero_threshold;
	h.zero_count = native->zero_count;
	h.has_sample_count_float = native->count_float != 0;
	h.sample_count_float = native->count_float;
	h.n_positive_span = (size_t)native->n_spans;
	h.positive_span = pointers;
	h.n_positive_delta = (size_t)native->n_deltas;
	h.positive_delta = deltas;
	if (native->negative) {
		negative = &spans[0];
		h.n_negative_span = 1;
		h.negative_span = &negative;
	}
	if (native->float_buckets) {
		h.n_positive_count = 1;
		h.positive_count = counts;
	}
	metric.histogram = &h;
	put_metric(out, "h", native->gauge ? PB_ENUM(GAUGE_HISTOGRAM) : PB_ENUM(HISTOGRAM), &metric);
}

static void test_proto_native(void **state)
{
	static const struct {
		struct native native;
		const char *samples; /* or the reason */
		bool refused;
	} table[] = {
		{ { 2, { { -3, 2 }, { 4, 1 } }, 3, { 5, -3, 8 }, .count = 18, .zero_count = 1, .schema = 3, .sum = 2.5,
		    .zero_threshold = 1e-9 },
		  "h h histogram {} H(3 1e-09 1 2.5; -3:5 -2:2 3:10)\n", false },
		{ { 1, { { 0, 0 } }, .schema = -4 }, "h h histogram {} H(-4 0 0 0;)\n", false },
		{ { 0, .zero_threshold = 1, .zero_count = 7, .count = 7, .schema = 8 },
		  "h h histogram {} H(8 1 7 0;)\n", false },
		{ { 3, { { 7, 1 }, { 0, 1 }, { 0, 0 } }, 2, { 1, 0 }, .count = 2 },
		  "h h histogram {} H(0 0 0 0; 7:1 8:1)\n", false },
		{ { 1, { { 2000, 1 } }, 1, { 0 }, .schema = 0 }, "h h histogram {} H(0 0 0 0;)\n", false },
		{ { 1, { { 1, 1 } }, 1, { 2 }, .count = 3, .sum = NAN }, "h h histogram {} H(0 0 0 NaN; 1:2)\n",
		  false },
		{ { 0 }, "h_bucket h histogram {le=\"+Inf\"} 0\nh_sum h histogram {} 0\n"
		  "h_count h histogram {} 0\n", false },
		{ { 2, { { 1, 1 }, { -1, 1 } }, 2, { 1, 0 }, .count = 2 },
		  "the spans of a native histogram overlap", true },
		{ { 1, { { 1, 3 } }, 2, { 1, 0 }, .count = 2 },
		  "the spans of a native histogram name more buckets", true },
		{ { 1, { { 1, 4000000000u } }, 2, { 1, 0 }, .count = 2 },
		  "the spans of a native histogram name more", true },
		{ { 1, { { 1, 1 } }, 2, { 1, 0 }, .count = 1 },
		  "the spans of a native histogram name fewer buckets", true },
		{ { 0, .n_deltas = 1, .deltas = { 1 }, .count = 1 }, "the spans of a native histogram name fewer",
		  true },
		{ { 1, { { 1, 2 } }, 2, { 1, -2 }, .count = 1 }, "a bucket of a native histogram is below 0", true },
		{ { 1, { { 1, 2 } }, 2, { INT64_MAX, 1 }, .count = 1 },
		  "a bucket of a native histogram is below 0", true },
		{ { 1, { { 1, 1 } }, 1, { 2 }, .count = 3 },
		  "a native histogram counts 3 observations, its buckets 2", true },
		{ { 1, { { 1, 1 } }, 1, { 2 }, .count = 1, .sum = NAN },
		  "a native histogram counts 1 observations", true },
		{ { 2, { { -4000, 1 }, { 8190, 1 } }, 2, { 1, 0 }, .count = 2, .schema = 3 }, NULL, false },
		{ { 2, { { -4000, 1 }, { 8192, 1 } }, 2, { 1, 0 }, .count = 2, .schema = 3 },
		  "the buckets of a native histogram are too far", true },
		{ { 1, { { INT32_MAX, 2 } }, 2, { 1, 0 }, .count = 2, .schema = 3 },
		  "the buckets of a native histogram are too far", true },
		{ { 2, { { INT32_MAX, 0 }, { INT32_MAX, 1 } }, 1, { 1 }, .count = 1 },
		  "the buckets of a native histogram are too far", true },
		{ { 1, { { INT32_MIN, 1 } }, 1, { 1 }, .count = 1 },
		  "the buckets of a native histogram are too far", true },
		{ { 1, { { 1, 1 } }, 1, { 1 }, .count = 1, .schema = 9 },
		  "schema 9 of a native histogram is not in -4..8", true },
		{ { 1, { { 1, 1 } }, 1, { 1 }, .count = 1, .schema = -53 }, "schema -53 of a native histogram", true },
		{ { 0, .zero_threshold = -1 }, "the zero threshold of a native histogram is below 0", true },
		{ { 0, .zero_threshold = NAN }, "the zero threshold of a native histogram is below 0", true },
		{ { 0, .zero_threshold = INFINITY }, "the zero threshold of a native histogram is below 0", true },
		{ { 1, { { 1, 1 } }, 1, { 1 }, .count_float = 1.5 },
		  "native histograms with fractional counts are not", true },
		{ { 1, { { 1, 1 } }, .float_buckets = true }, "native histograms with fractional counts are not",
		  true },
		{ { 1, { { 1, 1 } }, 1, { 1 }, .count = 1, .negative = true },
		  "native histograms of negative values are not", true },
		{ { 1, { { 1, 1 } }, 1, { 1 }, .count = 1, .gauge = true },
		  "native gauge histograms are not supported", true },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct buffer out = BUFFER_INIT, samples = BUFFER_INIT;
		struct error error;
		int r;

		put_native(&out, &table[i].native);
		r = parse(proto_type, out.data, out.len, &samples, &error);
		if (r != (table[i].refused ? -EBADMSG : 0))
			fail_msg("row %zu: %d %s", i, r, error.text);
		if (table[i].refused && (strncmp(error.text, "metric h, byte ", 15) != 0 ||
					 strstr(error.text, table[i].samples) == NULL))
			fail_msg("row %zu: %s", i, error.text);
		if (!table[i].refused && table[i].samples != NULL)
			assert_string_equal(samples.data, table[i].samples);
		buffer_done(&out);
		buffer_done(&samples);
	}
}

#define BYTES(...) { __VA_ARGS__ }, sizeof((const unsigned char[]){ __VA_ARGS__ })

static void test_proto_malformed(void **state)
{
	static const struct {
		unsigned char data[16];
		size_t len;
		const char *reason;
	} table[] = {
		{ BYTES(0x05), "byte 0: 5 bytes announced, 0 are there" },
		{ BYTES(0x80), "byte 0: number cut off" },
		{ BYTES(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x0a),
		  "byte 0: 18446744073709551615 bytes" },
		{ BYTES(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x0a),
		  "byte 0: number longer than 64 bits" },
		{ BYTES(0x00), "byte 1: bad metric name" },
		{ BYTES(0x02, 0x0a, 0x05), "byte 2: 5 bytes announced, 0 are there" },
		{ BYTES(0x04, 0x0a, 0x02, '9', 'a'), "byte 3: bad metric name" },
		{ BYTES(0x05, 0x0a, 0x03, 'a', 0, 'b'), "byte 3: bad metric name" },
		{ BYTES(0x02, 0x08, 0x01), "byte 1: field 1 has wire type 0" },
		{ BYTES(0x02, 0x02, 0x00), "byte 1: field number out of range" },
		{ BYTES(0x02, 0x0b, 0x0c), "byte 1: wire type 3: this is no protobuf message" },
		{ BYTES(0x02, 0x0e, 0x0c), "byte 1: wire type 6: this is no protobuf message" },
		{ BYTES(0x03, 0xfd, 0x01, 0x00), "byte 3: number cut off" },       /* fixed32, unknown field 31 */
		{ BYTES(0x05, 0x0a, 0x01, 'a', 0x18, 0x09), "metric a, byte 1: unknown metric type 9" },
		{ BYTES(0x05, 0x0a, 0x01, 'a', 0x22, 0x00), "metric a, byte 6: a metric without the value" },
		{ BYTES(0x09, 0x0a, 0x01, 'a', 0x22, 0x04, 0x0a, 0x02, 0x0a, 0x00),
		  "metric a, byte 10: bad label name" },
		{ BYTES(0x0a, 0x0a, 0x01, 'a', 0x22, 0x05, 0x0a, 0x03, 0x0a, 0x01, ':'),
		  "metric a, byte 10: bad label name" },
		{ BYTES(0x0d, 0x0a, 0x01, 'a', 0x22, 0x08, 0x0a, 0x06, 0x0a, 0x01, 'l', 0x12, 0x01, 0xff),
		  "metric a, byte 13: label value is not UTF-8" },
		{ BYTES(0x0d, 0x0a, 0x01, 'a', 0x22, 0x08, 0x0a, 0x06, 0x0a, 0x01, 'l', 0x12, 0x01, 0x00),
		  "metric a, byte 13: label value is not UTF-8" },
		{ BYTES(0x0f, 0x0a, 0x01, 'a', 0x22, 0x0a, 0x0a, 0x03, 0x0a, 0x01, 'l', 0x0a, 0x03, 0x0a, 0x01, 'l'),
		  "metric a, byte 6: label l is there twice" },
		{ BYTES(0x08, 0x0a, 0x01, 'a', 0x22, 0x03, 0x1a, 0x01, 0x09), "metric a, byte 9: number cut off" },
		{ BYTES(0x09, 0x0a, 0x01, 'a', 0x22, 0x04, 0x1a, 0x02, 0x08, 0x01),
		  "metric a, byte 8: field 1 has wire type 0" },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		refuse(proto_type, table[i].data, table[i].len, table[i].reason);
}

/* Unknown fields of every wire type; the name after the metric, the label after the value, its name last. */
static void test_proto_odd(void **state)
{
	static const unsigned char family[] = {
		50,
		0x22, 25, 0x1a, 9, 0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x0a, 6, 0x12, 1, 'v', 0x0a, 1, 'l',
		0xfd, 0x01, 1, 2, 3, 4,
		0x38, 0x96, 0x01,
		0x41, 1, 2, 3, 4, 5, 6, 7, 8,
		0x4d, 1, 2, 3, 4,
		0x32, 1, 'x',
		0x0a, 1, 'a',
	};
	struct buffer samples = BUFFER_INIT;
	struct error error;

	if (parse(proto_type, family, sizeof(family), &samples, &error) != 0)
		fail_msg("%s", error.text);
	assert_string_equal(samples.data, "a a counter {l=\"v\"} 1\n");
	buffer_done(&samples);
}

/* No prefix of a valid answer is taken for a whole one unless it ends with a family. */
static void test_proto_truncated(void **state)
{
	struct buffer out = BUFFER_INIT, samples = BUFFER_INIT;
	struct error error;
	int whole = 0;

	put_plain(&out);
	put_summary(&out);
	put_classic(&out);
	for (size_t len = 0; len < out.len; len++)
		whole += parse(proto_type, out.data, len, &samples, &error) == 0;
	assert_int_equal(whole, 6); /* the empty one and after each but the last family */
	buffer_done(&out);
	buffer_done(&samples);
}

static void test_proto_labels_max(void **state)
{
	struct buffer out = BUFFER_INIT, samples = BUFFER_INIT;
	char names[METRIC_LABELS_MAX + 1][16];
	pb_label labels[METRIC_LABELS_MAX + 1], *pointers[METRIC_LABELS_MAX + 1];
	Io__Prometheus__Client__Gauge gauge = IO__PROMETHEUS__CLIENT__GAUGE__INIT;
	pb_histogram histogram = IO__PROMETHEUS__CLIENT__HISTOGRAM__INIT;
	pb_metric metric = IO__PROMETHEUS__CLIENT__METRIC__INIT;
	struct error error;

	for (int i = 0; i <= METRIC_LABELS_MAX; i++) {
		snprintf(names[i], sizeof(names[i]), "l%d", i);
		labels[i] = (pb_label)IO__PROMETHEUS__CLIENT__LABEL_PAIR__INIT;
		labels[i].name = labels[i].value = names[i];
		pointers[i] = &labels[i];
	}
	metric.label = pointers;
	metric.gauge = &gauge;
	metric.histogram = &histogram;
	metric.n_label = METRIC_LABELS_MAX;
	put_metric(&out, "g", PB_ENUM(GAUGE), &metric);
	assert_int_equal(parse(proto_type, out.data, out.len, &samples, &error), 0);
	buffer_clear(&out);
	put_metric(&out, "h", PB_ENUM(HISTOGRAM), &metric); /* le is one more */
	assert_int_equal(parse(proto_type, out.data, out.len, &samples, &error), -EBADMSG);
	assert_non_null(strstr(error.text, "more than 64 labels"));
	buffer_clear(&out);
	metric.n_label = METRIC_LABELS_MAX + 1;
	put_metric(&out, "g", PB_ENUM(GAUGE), &metric);
	assert_int_equal(parse(proto_type, out.data, out.len, &samples, &error), -EBADMSG);
	assert_non_null(strstr(error.text, "more than 64 labels"));
	labels[0].name = (char *)(uintptr_t)"le";
	metric.n_label = 1;
	buffer_clear(&out);
	put_metric(&out, "h", PB_ENUM(HISTOGRAM), &metric);
	assert_int_equal(parse(proto_type, out.data, out.len, &samples, &error), -EBADMSG);
	assert_non_null(strstr(error.text, "label le is there twice"));
	buffer_done(&out);
	buffer_done(&samples);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_proto_valid),
		cmocka_unit_test(test_proto_native),
		cmocka_unit_test(test_proto_malformed),
		cmocka_unit_test(test_proto_odd),
		cmocka_unit_test(test_proto_truncated),
		cmocka_unit_test(test_proto_labels_max),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
