/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer of all three formats: small outputs compared byte by byte, random
 * families written and read back, protobuf checked with the code generated from
 * metrics.proto, text checked with promtool where it is installed.
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
#include <sys/wait.h>

#include "lib/decimal.h"
#include "lib/exposition.h"
#include "lib/exposition_proto.h"
#include "metrics.pb-c.h"
#include "samples.h"

#define SEED 9435u
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

static uint64_t random_state;

static uint64_t random_u64(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static uint64_t random_below(uint64_t n)
{
	return random_u64() % n;
}

static double random_double(void)
{
	uint64_t bits = random_u64();
	double value;

	switch (random_below(6)) {
	case 0:
		return (double)random_below(1000000);
	case 1:
		return (double)random_below(1000000000000ull) / 1e9;
	case 2:
		return (double)random_u64() * 0x1p-64;
	case 3:
		return -(double)random_below(100000) / 1000;
	case 4:
		return random_below(3) == 0 ? INFINITY : (double)random_u64();
	default:
		memcpy(&value, &bits, sizeof(value));
		return value;
	}
}

/* -- Small outputs -- */

static const struct metric_family counter = {
	.name = "net_sent_bytes_total", .help = "Bytes \"sent\"\\\nby peer.", .unit = "bytes", .type = METRIC_COUNTER,
};
static const struct metric_family gauge = { .name = "net_open", .help = "Open now.", .type = METRIC_GAUGE };
static const struct metric_family histogram = {
	.name = "net_rtt_seconds", .help = "Round trips.", .unit = "seconds", .type = METRIC_HISTOGRAM,
	.classic_first_exp = -2, .classic_last_exp = 1,
};

static void observe(struct hist *hist)
{
	hist_init(hist, 3, 1e-9);
	assert_int_equal(hist_observe(hist, 0), 0);
	assert_int_equal(hist_observe(hist, 0.25), 0); /* le is inclusive */
	assert_int_equal(hist_observe(hist, 0.26), 0);
	assert_int_equal(hist_observe(hist, 0.9), 0);
	assert_int_equal(hist_observe(hist, 100), 0);
}

static void write_small(struct buffer *out, enum exposition_format format)
{
	const struct label odd[] = { { "peer", "a\"b\\c\nd\xc3\xa9" }, { "role", "client" } };
	const struct label foreign[] = { { "peer", "x\xff\xc3\xa9\xe2\x82y\xf0\x90" } };
	struct exposition e;
	struct hist hist, empty;

	observe(&hist);
	hist_init(&empty, 3, 1e-9);
	exposition_begin(&e, out, format);
	exposition_family(&e, &counter);
	exposition_value(&e, odd, 2, 12345678901234);
	exposition_value(&e, foreign, 1, 0.5);
	exposition_family(&e, &gauge);
	exposition_value(&e, NULL, 0, NAN);
	exposition_family(&e, &histogram);
	exposition_histogram(&e, NULL, 0, &hist);
	exposition_histogram(&e, odd, 2, &empty);
	assert_int_equal(exposition_end(&e), 0);
	hist_done(&hist);
	hist_done(&empty);
}

static void test_text(void **state)
{
	struct buffer out = BUFFER_INIT;

	write_small(&out, EXPOSITION_TEXT);
	assert_string_equal(out.data,
		"# HELP net_sent_bytes_total Bytes \"sent\"\\\\\\nby peer.\n"
		"# TYPE net_sent_bytes_total counter\n"
		"net_sent_bytes_total{peer=\"a\\\"b\\\\c\\nd\xc3\xa9\",role=\"client\"} 12345678901234\n"
		"net_sent_bytes_total{peer=\"x\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbdy"
		"\xef\xbf\xbd\xef\xbf\xbd\"} 0.5\n"
		"# HELP net_open Open now.\n"
		"# TYPE net_open gauge\n"
		"net_open NaN\n"
		"# HELP net_rtt_seconds Round trips.\n"
		"# TYPE net_rtt_seconds histogram\n"
		"net_rtt_seconds_bucket{le=\"0.25\"} 2\n"
		"net_rtt_seconds_bucket{le=\"0.5\"} 3\n"
		"net_rtt_seconds_bucket{le=\"1.0\"} 4\n"
		"net_rtt_seconds_bucket{le=\"2.0\"} 4\n"
		"net_rtt_seconds_bucket{le=\"+Inf\"} 5\n"
		"net_rtt_seconds_sum 101.41\n"
		"net_rtt_seconds_count 5\n"
		"net_rtt_seconds_bucket{peer=\"a\\\"b\\\\c\\nd\xc3\xa9\",role=\"client\",le=\"0.25\"} 0\n"
		"net_rtt_seconds_bucket{peer=\"a\\\"b\\\\c\\nd\xc3\xa9\",role=\"client\",le=\"0.5\"} 0\n"
		"net_rtt_seconds_bucket{peer=\"a\\\"b\\\\c\\nd\xc3\xa9\",role=\"client\",le=\"1.0\"} 0\n"
		"net_rtt_seconds_bucket{peer=\"a\\\"b\\\\c\\nd\xc3\xa9\",role=\"client\",le=\"2.0\"} 0\n"
		"net_rtt_seconds_bucket{peer=\"a\\\"b\\\\c\\nd\xc3\xa9\",role=\"client\",le=\"+Inf\"} 0\n"
		"net_rtt_seconds_sum{peer=\"a\\\"b\\\\c\\nd\xc3\xa9\",role=\"client\"} 0\n"
		"net_rtt_seconds_count{peer=\"a\\\"b\\\\c\\nd\xc3\xa9\",role=\"client\"} 0\n");
	assert_int_equal(out.len, strlen(out.data));
	buffer_done(&out);
}

static void test_openmetrics(void **state)
{
	struct buffer out = BUFFER_INIT;
	const char *head =
		"# HELP net_sent_bytes Bytes \\\"sent\\\"\\\\\\nby peer.\n"
		"# TYPE net_sent_bytes counter\n"
		"# UNIT net_sent_bytes bytes\n"
		"net_sent_bytes_total{peer=\"a\\\"b\\\\c\\nd\xc3\xa9\",role=\"client\"} 12345678901234\n";
	const char *middle =
		"# HELP net_open Open now.\n"
		"# TYPE net_open gauge\n"
		"net_open NaN\n"
		"# HELP net_rtt_seconds Round trips.\n"
		"# TYPE net_rtt_seconds histogram\n"
		"# UNIT net_rtt_seconds seconds\n"
		"net_rtt_seconds_bucket{le=\"0.25\"} 2\n";
	const char *tail = "role=\"client\"} 0\n# EOF\n";

	write_small(&out, EXPOSITION_OPENMETRICS);
	assert_memory_equal(out.data, head, strlen(head));
	assert_non_null(strstr(out.data, middle));
	assert_string_equal(out.data + out.len - strlen(tail), tail);
	buffer_done(&out);
}

/* A family of another type than ours is still one a scraper accepts. */
static void test_foreign_types(void **state)
{
	static const struct metric_family summary = { .name = "x", .type = METRIC_SUMMARY };
	static const struct metric_family bare = { .name = "y", .type = METRIC_COUNTER };
	struct buffer out = BUFFER_INIT;
	struct exposition e;

	exposition_begin(&e, &out, EXPOSITION_OPENMETRICS);
	exposition_family(&e, &summary);
	exposition_value(&e, NULL, 0, 1);
	exposition_family(&e, &bare);
	exposition_value(&e, NULL, 0, 2);
	assert_int_equal(exposition_end(&e), 0);
	assert_string_equal(out.data, "# TYPE x unknown\nx 1\n# TYPE y unknown\ny 2\n# EOF\n");
	buffer_clear(&out);
	exposition_begin(&e, &out, EXPOSITION_TEXT);
	exposition_family(&e, &summary);
	exposition_value(&e, NULL, 0, 1);
	exposition_family(&e, &bare);
	exposition_value(&e, NULL, 0, 2);
	assert_int_equal(exposition_end(&e), 0);
	assert_string_equal(out.data, "# TYPE x untyped\nx 1\n# TYPE y counter\ny 2\n");
	buffer_done(&out);
}

static void test_appends(void **state)
{
	struct buffer out = BUFFER_INIT;
	struct exposition e;

	buffer_puts(&out, "before\n");
	exposition_begin(&e, &out, EXPOSITION_TEXT);
	exposition_family(&e, &gauge);
	assert_int_equal(exposition_end(&e), 0);
	assert_string_equal(out.data, "before\n# HELP net_open Open now.\n# TYPE net_open gauge\n");
	buffer_clear(&out);
	for (enum exposition_format f = 0; f < EXPOSITION_N_FORMATS; f++) { /* out of memory earlier on */
		struct hist hist;

		observe(&hist);
		out.failed = true;
		exposition_begin(&e, &out, f);
		exposition_family(&e, &gauge);
		exposition_value(&e, NULL, 0, 1);
		exposition_family(&e, &histogram);
		exposition_histogram(&e, NULL, 0, &hist);
		assert_int_equal(exposition_end(&e), -ENOMEM);
		hist_done(&hist);
	}
	buffer_done(&out);
}

/* -- Protobuf, by the generated code -- */

typedef Io__Prometheus__Client__MetricFamily pb_family;
typedef Io__Prometheus__Client__Metric pb_metric;
typedef Io__Prometheus__Client__Histogram pb_histogram;

static pb_family *next_family(const struct buffer *out, size_t *at)
{
	uint64_t len = 0;
	pb_family *family;

	for (unsigned shift = 0;; shift += 7) {
		unsigned char byte = (unsigned char)out->data[(*at)++];

		len |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80)
			break;
	}
	assert_true(*at + len <= out->len);
	family = io__prometheus__client__metric_family__unpack(NULL, len, (const uint8_t *)out->data + *at);
	assert_non_null(family);
	*at += len;
	return family;
}

static void check_small_histogram(const pb_histogram *h)
{
	assert_true(h->has_sample_count && h->has_sample_sum && h->has_schema);
	assert_true(h->has_zero_threshold && h->has_zero_count);
	assert_int_equal(h->sample_count, 5);
	assert_true(h->sample_sum == 0.25 + 0.26 + 0.9 + 100 && h->zero_threshold == 1e-9);
	assert_int_equal(h->schema, 3);
	assert_int_equal(h->zero_count, 1);
	assert_int_equal(h->n_bucket, 0);
	/* 0.25 is in -16, 0.26 in -15; 0.9 in -1; 100 in 54. */
	assert_int_equal(h->n_positive_span, 3);
	assert_int_equal(h->positive_span[0]->offset, -16);
	assert_int_equal(h->positive_span[0]->length, 2);
	assert_int_equal(h->positive_span[1]->offset, 13);
	assert_int_equal(h->positive_span[1]->length, 1);
	assert_int_equal(h->positive_span[2]->offset, 54);
	assert_int_equal(h->positive_span[2]->length, 1);
	assert_int_equal(h->n_positive_delta, 4);
	assert_int_equal(h->positive_delta[0], 1);
	assert_int_equal(h->positive_delta[1], 0);
	assert_int_equal(h->positive_delta[2], 0);
	assert_int_equal(h->positive_delta[3], 0);
}

static void test_protobuf(void **state)
{
	struct buffer out = BUFFER_INIT;
	pb_family *family;
	size_t at = 0;

	write_small(&out, EXPOSITION_PROTOBUF);
	family = next_family(&out, &at);
	assert_string_equal(family->name, counter.name);
	assert_string_equal(family->help, counter.help);
	assert_string_equal(family->unit, "bytes");
	assert_true(family->has_type && family->type == IO__PROMETHEUS__CLIENT__METRIC_TYPE__COUNTER);
	assert_int_equal(family->n_metric, 2);
	assert_int_equal(family->metric[0]->n_label, 2);
	assert_string_equal(family->metric[0]->label[0]->name, "peer");
	assert_string_equal(family->metric[0]->label[0]->value, "a\"b\\c\nd\xc3\xa9");
	assert_true(family->metric[0]->counter->value == 12345678901234);
	assert_string_equal(family->metric[1]->label[0]->value,
			    "x\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbdy\xef\xbf\xbd\xef\xbf\xbd");
	io__prometheus__client__metric_family__free_unpacked(family, NULL);
	family = next_family(&out, &at);
	assert_int_equal(family->type, IO__PROMETHEUS__CLIENT__METRIC_TYPE__GAUGE);
	assert_null(family->unit);
	assert_true(isnan(family->metric[0]->gauge->value));
	io__prometheus__client__metric_family__free_unpacked(family, NULL);
	family = next_family(&out, &at);
	assert_int_equal(family->type, IO__PROMETHEUS__CLIENT__METRIC_TYPE__HISTOGRAM);
	assert_int_equal(family->n_metric, 2);
	check_small_histogram(family->metric[0]->histogram);
	assert_int_equal(family->metric[1]->histogram->n_positive_span, 1);
	assert_int_equal(family->metric[1]->histogram->positive_span[0]->length, 0);
	assert_int_equal(family->metric[1]->histogram->n_positive_delta, 0);
	io__prometheus__client__metric_family__free_unpacked(family, NULL);
	assert_int_equal(at, out.len);
	buffer_done(&out);
}

static void test_protobuf_skips_empty_families(void **state)
{
	struct buffer out = BUFFER_INIT;
	struct exposition e;
	pb_family *family;
	size_t at = 0;

	exposition_begin(&e, &out, EXPOSITION_PROTOBUF);
	exposition_family(&e, &counter);
	exposition_family(&e, &gauge);
	exposition_value(&e, NULL, 0, 1);
	exposition_family(&e, &histogram);
	assert_int_equal(exposition_end(&e), 0);
	family = next_family(&out, &at);
	assert_string_equal(family->name, "net_open");
	assert_int_equal(at, out.len);
	io__prometheus__client__metric_family__free_unpacked(family, NULL);
	buffer_done(&out);
}

/* Two empty buckets stay inside a span, three end it. */
static void test_protobuf_spans(void **state)
{
	static const int64_t deltas[] = { 5, -5, 0, 7, 2 };
	struct buffer out = BUFFER_INIT;
	struct exposition e;
	struct hist hist;
	pb_family *family;
	pb_histogram *h;
	size_t at = 0;

	hist_init(&hist, 0, 0);
	assert_int_equal(hist_add_bucket(&hist, -1, 5), 0);
	assert_int_equal(hist_add_bucket(&hist, 2, 7), 0);
	assert_int_equal(hist_add_bucket(&hist, 6, 9), 0);
	exposition_begin(&e, &out, EXPOSITION_PROTOBUF);
	exposition_family(&e, &histogram);
	exposition_histogram(&e, NULL, 0, &hist);
	assert_int_equal(exposition_end(&e), 0);
	family = next_family(&out, &at);
	h = family->metric[0]->histogram;
	assert_int_equal(h->n_positive_span, 2);
	assert_int_equal(h->positive_span[0]->offset, -1);
	assert_int_equal(h->positive_span[0]->length, 4);
	assert_int_equal(h->positive_span[1]->offset, 3);
	assert_int_equal(h->positive_span[1]->length, 1);
	assert_int_equal(h->n_positive_delta, 5);
	assert_memory_equal(h->positive_delta, deltas, sizeof(deltas));
	io__prometheus__client__metric_family__free_unpacked(family, NULL);
	hist_done(&hist);
	buffer_done(&out);
}

static void check_field(const ProtobufCMessageDescriptor *message, const char *name, unsigned number)
{
	const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(message, name);

	assert_non_null(field);
	assert_int_equal(field->id, number);
}

/* The numbers the code works with are those of metrics.proto. */
static void test_field_numbers(void **state)
{
	const ProtobufCMessageDescriptor *h = &io__prometheus__client__histogram__descriptor;
	const ProtobufCMessageDescriptor *m = &io__prometheus__client__metric__descriptor;
	const ProtobufCMessageDescriptor *f = &io__prometheus__client__metric_family__descriptor;

	check_field(f, "name", FAMILY_NAME);
	check_field(f, "help", FAMILY_HELP);
	check_field(f, "type", FAMILY_TYPE);
	check_field(f, "metric", FAMILY_METRIC);
	check_field(f, "unit", FAMILY_UNIT);
	check_field(m, "label", METRIC_FIELD_LABEL);
	check_field(m, "gauge", METRIC_FIELD_GAUGE);
	check_field(m, "counter", METRIC_FIELD_COUNTER);
	check_field(m, "summary", METRIC_FIELD_SUMMARY);
	check_field(m, "untyped", METRIC_FIELD_UNTYPED);
	check_field(m, "timestamp_ms", METRIC_FIELD_TIMESTAMP);
	check_field(m, "histogram", METRIC_FIELD_HISTOGRAM);
	check_field(h, "sample_count", HISTOGRAM_COUNT);
	check_field(h, "sample_count_float", HISTOGRAM_COUNT_FLOAT);
	check_field(h, "sample_sum", HISTOGRAM_SUM);
	check_field(h, "bucket", HISTOGRAM_BUCKET);
	check_field(h, "schema", HISTOGRAM_SCHEMA);
	check_field(h, "zero_threshold", HISTOGRAM_ZERO_THRESHOLD);
	check_field(h, "zero_count", HISTOGRAM_ZERO_COUNT);
	check_field(h, "zero_count_float", HISTOGRAM_ZERO_COUNT_FLOAT);
	check_field(h, "negative_span", HISTOGRAM_NEGATIVE_SPAN);
	check_field(h, "negative_delta", HISTOGRAM_NEGATIVE_DELTA);
	check_field(h, "negative_count", HISTOGRAM_NEGATIVE_COUNT);
	check_field(h, "positive_span", HISTOGRAM_POSITIVE_SPAN);
	check_field(h, "positive_delta", HISTOGRAM_POSITIVE_DELTA);
	check_field(h, "positive_count", HISTOGRAM_POSITIVE_COUNT);
	check_field(&io__prometheus__client__bucket__descriptor, "cumulative_count", BUCKET_COUNT);
	check_field(&io__prometheus__client__bucket__descriptor, "cumulative_count_float", BUCKET_COUNT_FLOAT);
	check_field(&io__prometheus__client__bucket__descriptor, "upper_bound", BUCKET_UPPER);
	check_field(&io__prometheus__client__bucket_span__descriptor, "offset", SPAN_OFFSET);
	check_field(&io__prometheus__client__bucket_span__descriptor, "length", SPAN_LENGTH);
	check_field(&io__prometheus__client__label_pair__descriptor, "name", LABEL_NAME);
	check_field(&io__prometheus__client__label_pair__descriptor, "value", LABEL_VALUE);
	check_field(&io__prometheus__client__counter__descriptor, "value", VALUE_VALUE);
	check_field(&io__prometheus__client__gauge__descriptor, "value", VALUE_VALUE);
	check_field(&io__prometheus__client__untyped__descriptor, "value", VALUE_VALUE);
	check_field(&io__prometheus__client__summary__descriptor, "sample_count", SUMMARY_COUNT);
	check_field(&io__prometheus__client__summary__descriptor, "sample_sum", SUMMARY_SUM);
	check_field(&io__prometheus__client__summary__descriptor, "quantile", SUMMARY_QUANTILE);
	check_field(&io__prometheus__client__quantile__descriptor, "quantile", QUANTILE_QUANTILE);
	check_field(&io__prometheus__client__quantile__descriptor, "value", QUANTILE_VALUE);
	assert_int_equal(IO__PROMETHEUS__CLIENT__METRIC_TYPE__COUNTER, PROTO_TYPE_COUNTER);
	assert_int_equal(IO__PROMETHEUS__CLIENT__METRIC_TYPE__GAUGE, PROTO_TYPE_GAUGE);
	assert_int_equal(IO__PROMETHEUS__CLIENT__METRIC_TYPE__SUMMARY, PROTO_TYPE_SUMMARY);
	assert_int_equal(IO__PROMETHEUS__CLIENT__METRIC_TYPE__UNTYPED, PROTO_TYPE_UNTYPED);
	assert_int_equal(IO__PROMETHEUS__CLIENT__METRIC_TYPE__HISTOGRAM, PROTO_TYPE_HISTOGRAM);
	assert_int_equal(IO__PROMETHEUS__CLIENT__METRIC_TYPE__GAUGE_HISTOGRAM, PROTO_TYPE_GAUGE_HISTOGRAM);
}

/* -- Round trips -- */

#define LABELS_MAX 5

struct labels {
	char names[LABELS_MAX][16], values[LABELS_MAX][64];
	struct label label[LABELS_MAX]; /* sorted: the names begin with a, b, c ... */
	size_t n;
};

static void random_labels(struct labels *labels)
{
	static const char *const pieces[] = {
		"a", "B7", "\"", "\\", "\n", "\\n", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x90\xa7", " ", "}", "{",
		",", "=",
		"#", "\t", "\r", "x\"y",
	};

	labels->n = random_below(LABELS_MAX + 1);
	for (size_t i = 0; i < labels->n; i++) {
		snprintf(labels->names[i], sizeof(labels->names[i]), "%c_%u", (char)('a' + i),
			(unsigned)random_below(100));
		labels->values[i][0] = '\0';
		for (uint64_t j = 1 + random_below(10); j > 0; j--)
			strcat(labels->values[i], pieces[random_below(ARRAY_LEN(pieces))]);
		labels->label[i] = (struct label){ labels->names[i], labels->values[i] };
	}
}

static void random_hist(struct hist *hist)
{
	hist_init(hist, (int32_t)random_below(5), random_below(2) == 0 ? 0 : 1e-9);
	for (uint64_t i = random_below(40); i > 0; i--)
		assert_int_equal(hist_observe(hist, exp((double)random_below(200) / 10 - 12)), 0);
	if (random_below(3) == 0)
		hist_add_zero(hist, random_below(1000));
	for (uint64_t i = random_below(3); i > 0; i--)
		assert_int_equal(hist_add_bucket(hist, (int32_t)random_below(100) - 50, random_below(1ull << 40)), 0);
}

/* What the parser should say of a text histogram. */
static void expect_classic(struct buffer *expected, const struct metric_family *family, const struct labels *labels,
			   const struct hist *hist)
{
	struct label all[LABELS_MAX + 1];
	char name[64], bound[DECIMAL_MAX];
	struct exposition_sample sample = {
		.name = name, .family = family->name, .type = METRIC_HISTOGRAM, .labels = all,
		.n_labels = labels->n + 1, .timestamp_ms = EXPOSITION_NO_TIMESTAMP,
	};

	memcpy(all, labels->label, sizeof(labels->label));
	all[labels->n] = (struct label){ "le", bound };
	snprintf(name, sizeof(name), "%s_bucket", family->name);
	for (int exponent = family->classic_first_exp; exponent <= family->classic_last_exp; exponent++) {
		snprintf(bound, sizeof(bound), "%.17g", ldexp(1, exponent));
		if (strpbrk(bound, ".e") == NULL)
			strcat(bound, ".0");
		sample.value = (double)hist_count_below(hist, ldexp(1, exponent));
		sample_text(&sample, expected);
	}
	strcpy(bound, "+Inf");
	sample.value = (double)hist->count;
	sample_text(&sample, expected);
	sample.n_labels--;
	snprintf(name, sizeof(name), "%s_sum", family->name);
	sample.value = hist->sum;
	sample_text(&sample, expected);
	snprintf(name, sizeof(name), "%s_count", family->name);
	sample.value = (double)hist->count;
	sample_text(&sample, expected);
}

static void write_random_family(struct exposition *e, unsigned number, struct buffer *expected)
{
	static const enum metric_type types[] = { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };
	enum metric_type type = types[random_below(ARRAY_LEN(types))];
	int exp = (int)random_below(12) - 10;
	char name[32], family_name[32];
	struct metric_family family = {
		.name = name, .help = "Help with \\ \" and\na line feed.", .type = type,
		.classic_first_exp = exp, .classic_last_exp = exp + (int)random_below(4),
	};
	struct error error;

	snprintf(name, sizeof(name), "family_%u%s", number, type == METRIC_COUNTER ? "_total" : "");
	snprintf(family_name, sizeof(family_name), "family_%u%s", number,
		 type == METRIC_COUNTER && e->format != EXPOSITION_OPENMETRICS ? "_total" : "");
	assert_int_equal(metric_family_check(&family, &error), 0);
	exposition_family(e, &family);
	for (uint64_t i = random_below(5); i > 0; i--) {
		struct labels labels;
		struct hist hist;
		struct exposition_sample sample = {
			.name = name, .family = family_name, .type = type, .labels = labels.label,
			.timestamp_ms = EXPOSITION_NO_TIMESTAMP, .value = random_double(),
		};

		random_labels(&labels);
		random_hist(&hist);
		sample.n_labels = labels.n;
		if (type != METRIC_HISTOGRAM) {
			exposition_value(e, labels.label, labels.n, sample.value);
			sample_text(&sample, expected);
		} else {
			exposition_histogram(e, labels.label, labels.n, &hist);
			sample.hist = &hist;
			if (e->format == EXPOSITION_PROTOBUF)
				sample_text(&sample, expected);
			else
				expect_classic(expected, &family, &labels, &hist);
		}
		hist_done(&hist);
	}
	if (e->format == EXPOSITION_PROTOBUF)
		exposition_proto_family_end(e); /* name is on this stack */
	e->family = NULL;
}

static void round_trip(enum exposition_format format)
{
	for (unsigned i = 0; i < 300; i++) {
		struct buffer out = BUFFER_INIT, expected = BUFFER_INIT, got = BUFFER_INIT;
		unsigned n_families = (unsigned)random_below(6);
		struct exposition e;
		struct error error = { "" };
		int r;

		buffer_puts(&expected, "");
		exposition_begin(&e, &out, format);
		for (unsigned j = 0; j < n_families; j++)
			write_random_family(&e, j, &expected);
		assert_int_equal(exposition_end(&e), 0);
		r = exposition_parse(exposition_content_type(format), out.data, out.len, sample_text, &got, &error);
		if (r != 0)
			fail_msg("%d %s\n%s", r, error.text, out.data);
		assert_int_equal(got.len, expected.len);
		if (got.len > 0)
			assert_string_equal(got.data, expected.data);
		buffer_done(&out);
		buffer_done(&expected);
		buffer_done(&got);
	}
}

static void test_round_trip_text(void **state)
{
	round_trip(EXPOSITION_TEXT);
}

static void test_round_trip_openmetrics(void **state)
{
	round_trip(EXPOSITION_OPENMETRICS);
}

static void test_round_trip_protobuf(void **state)
{
	round_trip(EXPOSITION_PROTOBUF);
}

/* -- Another's verdict -- */

static void write_like_agent(struct buffer *out)
{
	static const struct metric_family families[] = {
		{ "netsonde_tcp_sent_bytes_total", "Bytes sent.", "bytes", METRIC_COUNTER, 0, 0 },
		{ "netsonde_tcp_limited_seconds_total", "Seconds \\ limited\nby cause.", "seconds", METRIC_COUNTER,
		  0, 0 },
		{ "netsonde_tcp_min_rtt_seconds", "Smallest \"RTT\".", "seconds", METRIC_GAUGE, 0, 0 },
		{ "netsonde_build_info", "Always 1.", NULL, METRIC_GAUGE, 0, 0 },
		{ "netsonde_tcp_rtt_seconds", "Round-trip time.", "seconds", METRIC_HISTOGRAM, -20, 4 },
		{ "netsonde_tcp_handshake_duration_seconds", "No sample.", "seconds", METRIC_HISTOGRAM, -20, 4 },
	};
	const struct label labels[] = { { "peer", "a\"b\\c\nd \xc3\xa9" }, { "role", "client" } };
	struct exposition e;

	exposition_begin(&e, out, EXPOSITION_TEXT);
	for (size_t i = 0; i < ARRAY_LEN(families); i++) {
		struct hist hist;

		random_hist(&hist);
		assert_int_equal(metric_family_check(&families[i], NULL), 0);
		exposition_family(&e, &families[i]);
		if (families[i].type == METRIC_HISTOGRAM)
			exposition_histogram(&e, labels, i == 4 ? 2 : 0, &hist);
		else
			exposition_value(&e, labels, 2, (double)random_below(1ull << 40) / 1e9);
		hist_done(&hist);
	}
	assert_int_equal(exposition_end(&e), 0);
}

static int promtool(const char *text)
{
	FILE *pipe = popen("promtool check metrics", "w");

	assert_non_null(pipe);
	assert_true(fputs(text, pipe) >= 0);
	return WEXITSTATUS(pclose(pipe));
}

static void test_promtool(void **state)
{
	struct buffer out = BUFFER_INIT;

	if (system("command -v promtool >/dev/null") != 0) {
		print_message("promtool is not installed\n");
		skip();
	}
	write_like_agent(&out);
	assert_int_equal(promtool(out.data), 0);
	buffer_puts(&out, "no_help 1\n"); /* it does look */
	assert_int_equal(promtool(out.data), 3);
	buffer_done(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_openmetrics),
		cmocka_unit_test(test_foreign_types),
		cmocka_unit_test(test_appends),
		cmocka_unit_test(test_protobuf),
		cmocka_unit_test(test_protobuf_skips_empty_families),
		cmocka_unit_test(test_protobuf_spans),
		cmocka_unit_test(test_field_numbers),
		cmocka_unit_test(test_round_trip_text),
		cmocka_unit_test(test_round_trip_openmetrics),
		cmocka_unit_test(test_round_trip_protobuf),
		cmocka_unit_test(test_promtool),
	};

	random_state = SEED;
	print_message("# seed %u\n", SEED);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
