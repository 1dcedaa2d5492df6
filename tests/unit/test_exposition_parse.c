/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text parser: everything odd that is valid, malformed input with the place
 * and the reason it is refused for. And all parsers on captures of real
 * exporters in data/ (Debian's prometheus and prometheus-node-exporter, the
 * Python client in both text formats, and what a wrong address answers with).
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

#include "lib/exposition.h"
#include "lib/exposition_parse.h"
#include "samples.h"

#define SEED 442u
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

static const char *const text_type = "text/plain; version=0.0.4";
static const char *const om_type = "application/openmetrics-text; version=1.0.0";
static const char *const proto_type =
	"application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

static void expect(const char *type, const char *text, const char *expected)
{
	struct buffer out = BUFFER_INIT;
	struct error error;
	int r = parse(type, text, strlen(text), &out, &error);

	if (r != 0)
		fail_msg("%s\n%d %s", text, r, error.text);
	assert_string_equal(out.data == NULL ? "" : out.data, expected);
	buffer_done(&out);
}

/* -- Text 0.0.4 -- */

static void test_text_valid(void **state)
{
	static const struct {
		const char *text, *samples;
	} table[] = {
		{ "", "" },
		{ "\n\n \t\n", "" },
		{ "a 1\n", "a a untyped {} 1\n" },
		{ "a 1", "a a untyped {} 1\n" },
		{ "a 1\r\nb 2\r\n", "a a untyped {} 1\nb b untyped {} 2\n" },
		{ "a{} 1\n", "a a untyped {} 1\n" },
		{ "a { } 1\n", "a a untyped {} 1\n" },
		{ "a{x=\"y\",} 1\n", "a a untyped {x=\"y\"} 1\n" },
		{ "a{x=\"y\"}1\n", "a a untyped {x=\"y\"} 1\n" },
		{ " \ta \t{ \tx \t= \t\"y\" \t, \tz=\"1\" \t} \t1 \t2 \t\n", "a a untyped {x=\"y\",z=\"1\"} 1 @2\n" },
		{ "a{z=\"1\",b=\"2\",aa=\"3\"} 1\n", "a a untyped {aa=\"3\",b=\"2\",z=\"1\"} 1\n" },
		{ "a{x=\"\",y=\"1\"} 1\n", "a a untyped {y=\"1\"} 1\n" },
		{ "a{x=\"}\",y=\",#{\"} 1\n", "a a untyped {x=\"}\",y=\",#{\"} 1\n" },
		{ "a{x=\"\\\\ \\\" \\n\"} 1\n", "a a untyped {x=\"\\ \" <LF>\"} 1\n" },
		{ "a{x=\"C:\\dir\\\\\"} 1\n", "a a untyped {x=\"C:\\dir\\\"} 1\n" }, /* \d is no escape,
		  kept as Prometheus does */
		{ "a{x=\"\\\\n\"} 1\n", "a a untyped {x=\"\\n\"} 1\n" },
		{ "a{x=\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7\"} 1\n",
		  "a a untyped {x=\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7\"} 1\n" },
		{ "a{__x=\"1\"} 1\n", "a a untyped {__x=\"1\"} 1\n" },
		{ ":a:b_9 1\n", ":a:b_9 :a:b_9 untyped {} 1\n" },
		{ "a +Inf\na -Inf\na Inf\na NaN\na nan\na -inf\n",
		  "a a untyped {} +Inf\na a untyped {} -Inf\na a untyped {} +Inf\na a untyped {} NaN\n"
		  "a a untyped {} NaN\na a untyped {} -Inf\n" },
		{ "a 1e3\na 1.5E-3\na .5\na 5.\na +7\na -0\n",
		  "a a untyped {} 1000\na a untyped {} 0.0015\na a untyped {} 0.5\na a untyped {} 5\n"
		  "a a untyped {} 7\na a untyped {} -0\n" },
		{ "a 1 1395066363000\na 1 -12\na 1 0\n",
		  "a a untyped {} 1 @1395066363000\na a untyped {} 1 @-12\na a untyped {} 1 @0\n" },
		{ "# free\n#\n#comment\n  # TYPE\tx \t gauge \n#HELP x\nx 1\n# TYPES of things\n# EOF\n"
		  "# UNIT x seconds\n",
		  "x x gauge {} 1\n" },
		{ "# HELP x\n# HELP y \n# HELP z \\ \" \xc3\xa9\nx 1\n", "x x untyped {} 1\n" },
		/* families in any order, and what belongs to them */
		{ "# TYPE h histogram\n# TYPE s summary\n# TYPE c_total counter\n# TYPE c2 counter\n"
		  "h_bucket{le=\"1\"} 1\nh_sum 2\n"
		  "h_count 3\ns{quantile=\"0.5\"} 4\ns_sum 5\ns_count 6\nc_total 7\nc2_total 8\nh_other 9\n"
		  "s_bucket 10\nc_count 11\n",
		  "h_bucket h histogram {le=\"1\"} 1\nh_sum h histogram {} 2\nh_count h histogram {} 3\n"
		  "s s summary {quantile=\"0.5\"} 4\ns_sum s summary {} 5\ns_count s summary {} 6\n"
		  "c_total c_total counter {} 7\nc2_total c2 counter {} 8\nh_other h_other untyped {} 9\n"
		  "s_bucket s_bucket untyped {} 10\nc_count c_count untyped {} 11\n" },
		{ "# TYPE h histogram\n# TYPE h_count gauge\nh_count 3\n", "h_count h_count gauge {} 3\n" },
		{ "_count 3\n# TYPE _sum gauge\n_sum 1\n", "_count _count untyped {} 3\n_sum _sum gauge {} 1\n" },
		/* TYPE late, twice */
		{ "a 1\n# TYPE a gauge\na 2\n# TYPE a counter\na 3\n",
		  "a a untyped {} 1\na a gauge {} 2\na a counter {} 3\n" },
		{ "# TYPE a untyped\na 1\n# TYPE b unknown\nb 1\n", "a a untyped {} 1\nb b untyped {} 1\n" },
		{ "# TYPE a counter\na_created 1\na 2\n", "a a counter {} 2\n" },
		{ "# TYPE a_created gauge\n# TYPE a counter\na_created 1\n", "a_created a_created gauge {} 1\n" },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		expect(text_type, table[i].text, table[i].samples);
		expect(NULL, table[i].text, table[i].samples);
	}
}

static void test_text_malformed(void **state)
{
	static const struct {
		const char *text, *reason;
	} table[] = {
		{ "<html>\n", "1:1: expected a metric name, found '<'" },
		{ "a 1\n  9b 2\n", "2:3: expected a metric name, found '9'" },
		{ "{a=\"b\"} 1\n", "1:1: expected a metric name, found '{'" },
		{ "\xef\xbb\xbf" "a 1\n", "1:1: expected a metric name, found byte 0xef" },
		{ "a\n", "1:2: expected a number, found the end of the line" },
		{ "a ", "1:3: expected a number, found the end of the line" },
		{ "a{}\n", "1:4: expected a number, found the end of the line" },
		{ "a-b 1\n", "1:2: expected a space or '{' after the metric name, found '-'" },
		{ "a=1\n", "1:2: expected a space or '{' after the metric name, found '='" },
		{ "a 0x10\n", "1:3: \"0x10\" is not a number" },
		{ "a 1_000\n", "1:3: \"1_000\" is not a number" },
		{ "a 1,5\n", "1:3: \"1,5\" is not a number" },
		{ "a one\n", "1:3: \"one\" is not a number" },
		{ "a 1\x01\n", "1:3: \"1?\" is not a number" },
		{ "a 1 2.5\n", "1:5: \"2.5\" is not a timestamp in milliseconds" },
		{ "a 1 99999999999999999999\n", "1:5: \"99999999999999999999\" is not a timestamp" },
		{ "a 1 -9223372036854775808\n", "1:5: \"-9223372036854775808\" is not a timestamp" },
		{ "a 1 2 3\n", "1:7: unexpected '3' after the sample" },
		{ "a 1 # {x=\"y\"} 1\n", "1:5: \"#\" is not a timestamp" },
		{ "a{x} 1\n", "1:4: expected '=' after the label name, found '}'" },
		{ "a{x=y} 1\n", "1:5: expected '\"' before the label value, found 'y'" },
		{ "a{x='y'} 1\n", "1:5: expected '\"' before the label value, found '''" },
		{ "a{x=\"y} 1\n", "1:5: label value without a closing quote" },
		{ "a{x=\"y\\\n", "1:5: label value without a closing quote" },
		{ "a{x=\"y\nz\"} 1\n", "1:5: label value without a closing quote" },
		{ "a{x=\"y\"", "1:8: expected ',' or '}' after the label value, found the end of the line" },
		{ "a{x=\"y\" z=\"1\"} 1\n", "1:9: expected ',' or '}' after the label value, found 'z'" },
		{ "a{,} 1\n", "1:3: expected a label name or '}', found ','" },
		{ "a{x=\"y\",,} 1\n", "1:9: expected a label name or '}', found ','" },
		{ "a{9=\"y\"} 1\n", "1:3: expected a label name or '}', found '9'" },
		{ "a{x:y=\"y\"} 1\n", "1:4: expected '=' after the label name, found ':'" },
		{ "a{", "1:3: expected a label name or '}', found the end of the line" },
		{ "a{__name__=\"b\"} 1\n", "1:3: label __name__ is how" },
		{ "a{x=\"1\",y=\"2\",x=\"3\"} 1\n", "1:2: label \"x\" is there twice" },
		{ "a{x=\"\",x=\"\"} 1\n", "1:2: label \"x\" is there twice" },
		{ "a{x=\"\xff\"} 1\n", "1:6: label value is not UTF-8: byte 0xff" },
		{ "a{x=\"\xc3\xa9\xc3\xa9\xc3\"} 1\n", "1:8: label value is not UTF-8: byte 0xc3" },
		{ "a{x=\"\xed\xa0\x80\"} 1\n", "1:6: label value is not UTF-8: byte 0xed" },
		{ "# TYPE a number\n", "1:10: unknown metric type \"number\"" },
		{ "# TYPE a\n", "1:9: unknown metric type \"\"" },
		{ "# TYPE a gauge b\n", "1:16: unexpected 'b'" },
		{ "# TYPE 9 gauge\n", "1:8: expected a metric name, found '9'" },
		{ "# HELP a-b c\n", "1:9: expected a metric name, found '-'" },
		{ "# HELP\ta \xc3\n", "1:10: help is not UTF-8: byte 0xc3" },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		refuse(text_type, table[i].text, strlen(table[i].text), table[i].reason);
	refuse(text_type, "a{x=\"b\0c\"} 1\n", 13, "1:7: label value with a NUL byte");
	refuse(text_type, "a\0 1\n", 5, "1:2: expected a space or '{' after the metric name, found byte 0x00");
	assert_int_equal(exposition_parse(NULL, "<", 1, sample_text, NULL, NULL), -EBADMSG);
}

static void test_text_many_labels(void **state)
{
	struct buffer text = BUFFER_INIT, out = BUFFER_INIT;
	struct error error;

	for (int n = METRIC_LABELS_MAX; n <= METRIC_LABELS_MAX + 1; n++) {
		buffer_clear(&text);
		buffer_puts(&text, "a{");
		for (int i = 0; i < n; i++)
			buffer_printf(&text, "l%d=\"v\",", (i * 37) % n);
		buffer_puts(&text, "} 1\n");
		if (n == METRIC_LABELS_MAX) {
			assert_int_equal(parse(text_type, text.data, text.len, &out, &error), 0);
			assert_non_null(strstr(out.data, "{l0=\"v\",l1=\"v\",l10=\"v\","));
		} else {
			refuse(text_type, text.data, text.len, "1:505: more than 64 labels");
		}
	}
	buffer_done(&text);
	buffer_done(&out);
}

static int check_long(const struct exposition_sample *sample, void *userdata)
{
	assert_int_equal(sample->n_labels, 2);
	*(size_t *)userdata += strlen(sample->labels[0].value);
	assert_string_equal(sample->labels[1].value, "end");
	return 0;
}

static void test_text_long_line(void **state)
{
	enum { LEN = 1 << 20 };
	struct buffer text = BUFFER_INIT;
	size_t seen = 0;
	struct error error;

	buffer_puts(&text, "b{a=\"");
	for (int i = 0; i < LEN / 4; i++)
		buffer_puts(&text, i % 3 == 0 ? "\\n\\\\" : "abcd");
	buffer_puts(&text, "\",z=\"end\"} 1\n");
	buffer_puts(&text, "b{z=\"end\",a=\"x\"} 1\n");
	assert_int_equal(exposition_parse(NULL, text.data, text.len, check_long, &seen, &error), 0);
	assert_int_equal(seen, LEN - (LEN / 4 + 2) / 3 * 2 + 1);
	buffer_done(&text);
}

/* Thousands of families, looked up in another order than they were declared in. */
static int check_family(const struct exposition_sample *sample, void *userdata)
{
	unsigned number = (unsigned)strtoul(sample->family + 1, NULL, 10);

	assert_int_equal(sample->type, number % 2 ? METRIC_HISTOGRAM : METRIC_GAUGE);
	assert_int_equal((unsigned)sample->value, number);
	(*(unsigned *)userdata)++;
	return 0;
}

static void test_text_many_families(void **state)
{
	enum { N = 20000 };
	struct buffer text = BUFFER_INIT;
	struct error error;
	unsigned seen = 0;

	for (unsigned i = 0; i < N; i++)
		buffer_printf(&text, "# TYPE f%u %s\n", i, i % 2 ? "histogram" : "gauge");
	for (unsigned i = 0; i < N; i++) {
		unsigned number = i * 7919 % N;

		buffer_printf(&text, "f%u%s %u\n", number, number % 2 ? "_sum" : "", number);
	}
	assert_int_equal(exposition_parse(NULL, text.data, text.len, check_family, &seen, &error), 0);
	assert_int_equal(seen, N);
	buffer_done(&text);
}

static int stop_at_two(const struct exposition_sample *sample, void *userdata)
{
	return sample->value == 2 ? 42 : 0;
}

static void test_callback_ends_the_parse(void **state)
{
	struct error error;

	assert_int_equal(exposition_parse(NULL, "a 1\na 2\n<", 9, stop_at_two, NULL, &error), 42);
	assert_int_equal(exposition_parse(NULL, "a 1\na 3\n", 8, stop_at_two, NULL, &error), 0);
}

/* -- OpenMetrics -- */

static void test_openmetrics_valid(void **state)
{
	static const struct {
		const char *text, *samples;
	} table[] = {
		{ "# EOF\n", "" },
		{ "# EOF", "" },
		{ "# EOF\r\n", "" },
		{ "# TYPE c counter\n# HELP c \\\"x\\\" \\\\ \\n\n# UNIT c \nc_total 1 # {} 1\n# EOF\n",
		  "c_total c counter {} 1\n" },
		{ "# TYPE c_bytes counter\n# UNIT c_bytes bytes\n"
		  "c_bytes_total{a=\"b\"} 17.0 1520879607.789 # {id=\"x\"} 0.5 1e9\n"
		  "c_bytes_created{a=\"b\"} 1\n# EOF\n",
		  "c_bytes_total c_bytes counter {a=\"b\"} 17 @1520879607789\n" },
		{ "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 3 # {trace_id=\"} \\\" # {\"} 0.67\nh_sum 1\n"
		  "h_count 3\nh_created 5\n# EOF\n",
		  "h_bucket h histogram {le=\"+Inf\"} 3\nh_sum h histogram {} 1\nh_count h histogram {} 3\n" },
		{ "# TYPE g gaugehistogram\ng_bucket{le=\"+Inf\"} 3\ng_gsum 1\ng_gcount 3\n# EOF\n",
		  "g_bucket g gauge {le=\"+Inf\"} 3\ng_gsum g gauge {} 1\ng_gcount g gauge {} 3\n" },
		{ "# TYPE s stateset\ns{s=\"a\"} 1\n# TYPE i info\ni_info{v=\"1\"} 1\n# TYPE u unknown\nu 1\n# EOF\n",
		  "s s stateset {s=\"a\"} 1\ni_info i info {v=\"1\"} 1\nu u untyped {} 1\n" },
		{ "a 1 -0.0015\na 1 1e3\na 1 0\n# EOF\n",
		  "a a untyped {} 1 @-2\na a untyped {} 1 @1000000\na a untyped {} 1 @0\n" },
		{ "a  1  2  # { x = \"y\" , } 3  4\n# EOF\n", "a a untyped {} 1 @2000\n" },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		expect(om_type, table[i].text, table[i].samples);
}

static void test_openmetrics_malformed(void **state)
{
	static const struct {
		const char *text, *reason;
	} table[] = {
		{ "", "1:1: no # EOF at the end: the answer was cut off" },
		{ "a 1\n", "2:1: no # EOF at the end: the answer was cut off" },
		{ "a 1\n# EO", "2:1: OpenMetrics knows only" },
		{ "a 1\n# EOF\n\n", "3:1: text after # EOF" },
		{ "# EOF\na 1\n", "2:1: text after # EOF" },
		{ "# EOF \n", "1:6: text after # EOF" },
		{ "# EOF\n# EOF\n", "2:1: text after # EOF" },
		{ "\n# EOF\n", "1:1: empty line" },
		{ "# a comment\n# EOF\n", "1:1: OpenMetrics knows only # HELP, # TYPE, # UNIT and # EOF" },
		{ "#EOF\n", "1:1: OpenMetrics knows only" },
		{ "# UNIT a_bytes seconds\n# EOF\n", "1:16: unit \"seconds\" is not the end of the name \"a_bytes\"" },
		{ "# UNIT seconds seconds\n# EOF\n", "1:16: unit \"seconds\" is not the end" },
		{ "a 1 x\n# EOF\n", "1:5: \"x\" is not a timestamp in seconds" },
		{ "a 1 1e300\n# EOF\n", "1:5: timestamp out of range" },
		{ "a 1 NaN\n# EOF\n", "1:5: timestamp out of range" },
		{ "a 1 # x\n# EOF\n", "1:7: expected '{' of an exemplar, found 'x'" },
		{ "a 1 # {} \n# EOF\n", "1:10: expected the exemplar's value, found the end of the line" },
		{ "a 1 # {} z\n# EOF\n", "1:10: \"z\" is not the exemplar's value" },
		{ "a 1 # {x=\"1\",x=\"2\"} 1\n# EOF\n", "1:7: label \"x\" is there twice" },
		{ "a 1 # {} 1 2 3\n# EOF\n", "1:14: unexpected '3' after the sample" },
		{ "a_created x\n# EOF\n", "1:11: \"x\" is not a number" },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		refuse(om_type, table[i].text, strlen(table[i].text), table[i].reason);
}

/* -- Captures -- */

static void read_data(const char *name, struct buffer *out)
{
	const char *root = getenv("NETSONDE_SOURCE_ROOT");
	char path[4096], chunk[4096];
	FILE *file;
	size_t n;

	snprintf(path, sizeof(path), "%s/tests/unit/data/%s", root == NULL ? "." : root, name);
	file = fopen(path, "rb");
	if (file == NULL)
		fail_msg("%s: %s", path, strerror(errno));
	buffer_clear(out);
	while ((n = fread(chunk, 1, sizeof(chunk), file)) > 0)
		buffer_append(out, chunk, n);
	fclose(file);
	assert_true(out->len > 0);
}

static size_t count_lines(const char *text)
{
	size_t n = 0;

	for (; *text != '\0'; text++)
		n += *text == '\n';
	return n;
}

static void capture(const char *type, const char *name, size_t n_samples, const char *const *lines,
	struct buffer *samples)
{
	struct buffer data = BUFFER_INIT;
	struct error error;
	int r;

	read_data(name, &data);
	r = parse(type, data.data, data.len, samples, &error);
	if (r != 0)
		fail_msg("%s: %d %s", name, r, error.text);
	assert_int_equal(count_lines(samples->data), n_samples);
	for (; *lines != NULL; lines++)
		if (strstr(samples->data, *lines) == NULL)
			fail_msg("%s: not there: %s", name, *lines);
	buffer_done(&data);
}

static void test_capture_prometheus(void **state)
{
	static const char *const lines[] = {
		"\ngo_info go_info gauge {version=\"go1.19.8\"} 1\n",
		"\ngo_gc_duration_seconds go_gc_duration_seconds summary {quantile=\"0.5\"} ",
		"\nprometheus_http_request_duration_seconds_bucket prometheus_http_request_duration_seconds histogram "
		"{handler=\"/-/ready\",le=\"+Inf\"} ",
		"\nprocess_cpu_seconds_total process_cpu_seconds_total counter {} ",
		NULL,
	};
	struct buffer samples = BUFFER_INIT;

	capture(text_type, "prometheus.txt", 372, lines, &samples);
	buffer_done(&samples);
}

static void test_capture_node_exporter(void **state)
{
	static const char *const lines[] = {
		"\nnode_uname_info node_uname_info gauge {domainname=\"(none)\",machine=\"x86_64\",nodename=\"host\"",
		"\nnode_vmstat_oom_kill node_vmstat_oom_kill untyped {} 0\n",
		"\nnode_memory_VmallocTotal_bytes node_memory_VmallocTotal_bytes gauge {} 35184372087808\n",
		"\n"
		"node_network_receive_bytes_total node_network_receive_bytes_total counter "
		"{device=\"eth0\"} 771694876\n",
		NULL,
	};
	struct buffer samples = BUFFER_INIT;

	capture(text_type, "node_exporter.txt", 507, lines, &samples);
	buffer_done(&samples);
}

static void test_capture_python(void **state)
{
	static const char *const om_lines[] = {
		"\nshop_orders_total shop_orders counter {state=\"paid\"} 3\n",
		"\nshop_orders_total shop_orders counter {state=\"re\\fund<LF>\"ed\"\"} 1\n",
		"\nshop_latency_seconds_bucket shop_latency_seconds histogram {le=\"0.25\"} 50\n",
		"\nshop_size_bytes_sum shop_size_bytes summary {} 1028.5\n",
		"\nshop_build_info shop_build info {flavour=\"caf\xc3\xa9\",version=\"1.2.3\"} 1\n",
		"\nshop_state shop_state stateset {shop_state=\"closed\"} 1\n",
		"\nshop_queue_gsum shop_queue gauge {} 7.5\n",
		"\nshop_odd shop_odd untyped {} NaN @1520879607789\n",
		NULL,
	};
	static const char *const text_lines[] = {
		"\nshop_orders_total shop_orders_total counter {state=\"paid\"} 3\n",
		"\nshop_orders_created shop_orders_created gauge {state=\"paid\"} ",
		"\nshop_latency_seconds_bucket shop_latency_seconds histogram {le=\"0.25\"} 50\n",
		"\nshop_odd shop_odd untyped {} NaN @1520879607789\n",
		NULL,
	};
	struct buffer samples = BUFFER_INIT;

	capture(om_type, "python_client.openmetrics.txt", 45, om_lines, &samples); /* 49 less four _created */
	capture(text_type, "python_client.txt", 49, text_lines, &samples);
	buffer_done(&samples);
}

/* Only what identifies a series: the two captures were taken one after the other. */
static int series_text(const struct exposition_sample *sample, void *userdata)
{
	struct exposition_sample series = *sample;
	struct label labels[METRIC_LABELS_MAX];
	char bound[DECIMAL_MAX];
	double value;

	memcpy(labels, sample->labels, sample->n_labels * sizeof(labels[0]));
	for (size_t i = 0; i < sample->n_labels; i++) {
		if (strcmp(labels[i].name, "le") != 0 && strcmp(labels[i].name, "quantile") != 0)
			continue;
		assert_true(decimal_read(labels[i].value, strlen(labels[i].value), &value));
		decimal_write_bound(bound, value);
		labels[i].value = bound;
	}
	series.labels = labels;
	series.value = 0;
	return sample_text(&series, userdata);
}

static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static size_t sort_lines(char *text, const char **lines, size_t max)
{
	size_t n = 0;

	for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		assert_true(n < max);
		lines[n++] = line;
	}
	qsort(lines, n, sizeof(*lines), compare_lines);
	return n;
}

static void test_capture_protobuf(void **state)
{
	struct buffer data = BUFFER_INIT, from_text = BUFFER_INIT, from_proto = BUFFER_INIT;
	static const char *text_lines[1000], *proto_lines[1000];
	struct error error = { "" };
	size_t n_text, n_proto;

	read_data("prometheus.txt", &data);
	assert_int_equal(exposition_parse(text_type, data.data, data.len, series_text, &from_text, &error), 0);
	read_data("prometheus.pb", &data);
	if (exposition_parse(proto_type, data.data, data.len, series_text, &from_proto, &error) != 0)
		fail_msg("%s", error.text);
	n_text = sort_lines(from_text.data, text_lines, ARRAY_LEN(text_lines));
	n_proto = sort_lines(from_proto.data, proto_lines, ARRAY_LEN(proto_lines));
	for (size_t i = 0; i < n_text && i < n_proto; i++)
		assert_string_equal(proto_lines[i], text_lines[i]);
	assert_int_equal(n_proto, n_text);
	buffer_done(&data);
	buffer_done(&from_text);
	buffer_done(&from_proto);
}

static void test_capture_garbage(void **state)
{
	static const struct {
		const char *name, *reason;
	} table[] = {
		{ "not_found.html", "1:1: expected a metric name, found '<'" },
		{ "api.json", "1:1: expected a metric name, found '{'" },
		{ "truncated.gz", "1:1: expected a metric name, found byte 0x1f" },
		{ "elf_head.bin", "1:1: expected a metric name, found byte 0x7f" },
		{ "prometheus.pb", "" },
	};
	struct buffer data = BUFFER_INIT, out = BUFFER_INIT;
	struct error error;

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		read_data(table[i].name, &data);
		refuse(NULL, data.data, data.len, table[i].reason);
		refuse(om_type, data.data, data.len, table[i].reason);
		if (i < 4)
			refuse(proto_type, data.data, data.len, "byte ");
		assert_int_equal(parse("text/html; charset=utf-8", data.data, data.len, &out, &error), -EPROTO);
		assert_string_equal(error.text,
			"content type \"text/html; charset=utf-8\" is not one of metrics (text/plain, "
				    "application/openmetrics-text, application/vnd.google.protobuf)");
	}
	assert_int_equal(parse("x\x1b[31m/\xff", "", 0, &out, &error), -EPROTO);
	assert_non_null(strstr(error.text, "\"x?[31m/?\""));
	assert_int_equal(exposition_parse(text_type, NULL, 0, sample_text, &out, NULL), 0);
	assert_int_equal(exposition_parse(proto_type, NULL, 0, sample_text, &out, NULL), 0);
	buffer_done(&data);
	buffer_done(&out);
}

/* Every capture with random bytes changed: never a crash, and an error always says where. */
static void test_capture_damaged(void **state)
{
	static const struct {
		const char *name, *type;
	} table[] = {
		{ "python_client.openmetrics.txt", "application/openmetrics-text" },
		{ "python_client.txt", "text/plain" },
		{ "prometheus.pb", "application/vnd.google.protobuf" },
	};
	struct buffer data = BUFFER_INIT, out = BUFFER_INIT;
	uint64_t x = SEED;
	int refused = 0;

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		read_data(table[i].name, &data);
		for (int round = 0; round < 300; round++) {
			struct error error;
			size_t at = 0;
			char was;
			int r;

			x = x * 6364136223846793005u + 1442695040888963407u;
			at = (size_t)(x >> 33) % data.len;
			was = data.data[at];
			data.data[at] = (char)(x >> 56);
			r = parse(table[i].type, data.data, data.len, &out, &error);
			data.data[at] = was;
			assert_true(r == 0 || r == -EBADMSG);
			assert_int_equal(r != 0, error.text[0] != '\0');
			refused += r != 0;
		}
	}
	assert_true(refused > 100 && refused < 800);
	buffer_done(&data);
	buffer_done(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_valid),
		cmocka_unit_test(test_text_malformed),
		cmocka_unit_test(test_text_many_labels),
		cmocka_unit_test(test_text_long_line),
		cmocka_unit_test(test_text_many_families),
		cmocka_unit_test(test_callback_ends_the_parse),
		cmocka_unit_test(test_openmetrics_valid),
		cmocka_unit_test(test_openmetrics_malformed),
		cmocka_unit_test(test_capture_prometheus),
		cmocka_unit_test(test_capture_node_exporter),
		cmocka_unit_test(test_capture_python),
		cmocka_unit_test(test_capture_protobuf),
		cmocka_unit_test(test_capture_garbage),
		cmocka_unit_test(test_capture_damaged),
	};

	print_message("# seed %u\n", SEED);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
