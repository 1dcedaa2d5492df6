/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queries: the parser's messages word by word, and values computed by hand. That
 * the meaning is Prometheus' is the business of tests/system/test_query_oracle.py;
 * here is what it cannot see: native histograms, stale markers, limits, errors.
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
#include <unistd.h>
#include "lib/buffer.h"
#include "server/query_ast.h"

#define T0 1700000000000LL
#define FUNCTIONS \
	"rate, increase, histogram_quantile, histogram_count, histogram_sum, sum, avg, min, max, count, topk, bottomk"
#define NEEDS_RATE "a range like [30s] needs `rate` or `increase` around it"

static void test_good(void **state)
{
	static const char *const texts[] = {
		"a",
		"a{}",
		"a:b{c=\"d\"}",
		"{__name__=\"a\"}",
		"{a!=\"\"}",
		"sum",
		"sum{a=\"b\"}",
		"by",
		"rate",
		"inf_x",
		"rate(a[30s])",
		"increase(a{b=~\"c|d\"}[1h30m])",
		"rate(a[2d])",
		"rate(a[ 5m ])",
		"sum(a)",
		"sum by (b) (a)",
		"sum by(b,)(a)",
		"sum(a) without (b, c)",
		"SUM BY (b) (a)",
		"topk(3, a)",
		"bottomk by (x) (1 + 1, a)",
		"histogram_quantile(0.99, sum by (le) (rate(a[5m])))",
		"histogram_count(rate(h[1m]))",
		"a + b * c / -d - 1",
		"((((a))))",
		"- - + a",
		"1e3 + 0x1F + .5 + 5. + Inf - nan",
		"a # comment",
		"a\n+ # comment\n\tb",
		"a{b='it\\'s', c=`\\`, d=\"\\x41\\u00e9\\n\"}",
		"count(a) by ()",
		"sum by (by, sum) (by)",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct error error = { "" };
		struct query *query = NULL;

		if (query_parse(texts[i], &query, &error) != 0)
			fail_msg("%s: %s", texts[i], error.text);
		query_free(query);
	}
	query_free(NULL);
}

static void test_bad(void **state)
{
	static const struct { const char *text, *message;
	} rows[] = {
		{"sum by (x) (rat(a[5m]))", "1:13: unknown function `rat`; did you mean `rate`?"},
		{"histogram_quantil(0.9, a)",
	     "1:1: unknown function `histogram_quantil`; did you mean `histogram_quantile`?"},
		{"frobnicate(a)", "1:1: unknown function `frobnicate`; there are " FUNCTIONS},
		{"irate(a[5m])", "1:1: `irate` is not supported; there are " FUNCTIONS},
		{"", "1:1: the query ends too early; expected an expression"},
		{"  # nothing\n", "2:1: the query ends too early; expected an expression"},
		{"a +", "1:4: the query ends too early; expected an expression"},
		{"a\n  + )", "2:5: unexpected `)`; expected an expression"},
		{"a b", "1:3: unexpected `b`; expected an operator or the end"},
		{"(a", "1:3: the query ends too early; expected `)`"},
		{"a{\xc3\xa9=\"x\"}", "1:3: unexpected byte 0xc3"},
		{"a{b=\"\xc3\xa9\"} ;", "1:10: unexpected character `;`"},
		{"a{b}", "1:4: unexpected `}`; expected one of = != =~ !~"},
		{"a{b==\"c\"}", "1:4: labels are compared with = != =~ !~"},
		{"a{b=c}", "1:5: unexpected `c`; expected a quoted value"},
		{"a{b=\"c\"", "1:8: the query ends too early; expected `,` or `}`"},
		{"a{b=\"c}", "1:5: the string has no closing \""},
		{"a{b=\"c\\q\"}", "1:7: bad escape in the string; write \\\\ for a backslash"},
		{"a{b=\"\\x00\"}", "1:6: bad escape in the string; write \\\\ for a backslash"},
		{"a{b=\"\\ud800\"}", "1:6: bad escape in the string; write \\\\ for a backslash"},
		{"a{b:c=\"d\"}", "1:3: a label name has no colon"},
		{"a{b=~\"(\"}", "1:6: bad regular expression \"(\": Unmatched ( or \\("},
		{"a{b=~\"\\\\d+\"}",
	     "1:6: bad regular expression \"\\d+\": this escape is not in POSIX expressions; for \\d write [0-9]"},
		{"a{__name__=\"b\"}", "1:3: the metric name is given twice"},
		{"{}", "1:1: the selector matches every series; give a metric name or a label's value"},
		{"{a=~\".*\"}", "1:1: the selector matches every series; give a metric name or a label's value"},
		{"rate(a)", "1:6: `rate` needs a range: add one like [30s] behind the selector"},
		{"rate(sum(a))", "1:6: `rate` needs a selector with a range, like x[30s], not series"},
		{"increase(1)", "1:10: `increase` needs a selector with a range, like x[30s], not a number"},
		{"a[5m]", "1:1: " NEEDS_RATE},
		{"sum(a[5m])", "1:5: " NEEDS_RATE},
		{"1 + a[5m]", "1:5: " NEEDS_RATE},
		{"-a[5m]", "1:2: " NEEDS_RATE},
		{"sum(1)", "1:5: `sum` takes series here, not a number"},
		{"topk(a, b)", "1:6: `topk` takes a number here, not series"},
		{"topk(3)", "1:7: `topk` takes two arguments: a number and an expression"},
		{"sum(a, b)", "1:6: `sum` takes one argument"},
		{"histogram_quantile(0.5, a, b)", "1:26: `histogram_quantile` takes two arguments"},
		{"rate(a[5])",
	     "1:8: bad duration; write it like 30s, 5m, 1h30m or 2d (units y w d h m s ms, each once, largest first)"},
		{"rate(a[1m1h])",
	     "1:8: bad duration; write it like 30s, 5m, 1h30m or 2d (units y w d h m s ms, each once, largest first)"},
		{"rate(a[0s])", "1:8: the duration must be greater than 0"},
		{"rate(a[x])", "1:8: expected a duration like 30s or 5m"},
		{"rate(a[101y])", "1:8: the duration is longer than 100 years"},
		{"rate(a[99999999999999999999s])", "1:8: the duration is longer than 100 years"},
		{"rate(a[5m:1m])", "1:10: subqueries are not supported"},
		{"rate((a)[5m])", "1:9: a range belongs right behind a selector; subqueries are not supported"},
		{"rate(a[5m] offset 1m)", "1:12: `offset` is not supported"},
		{"a == b", "1:3: operator `==` is not supported; there are + - * /"},
		{"a ^ 2", "1:3: operator `^` is not supported; there are + - * /"},
		{"a and b", "1:3: `and` is not supported"},
		{"a + on(x) b", "1:5: `on` is not supported; there are " FUNCTIONS},
		{"sum by x (a)", "1:8: unexpected `x`; expected `(` and label names"},
		{"sum by (\"x\") (a)", "1:9: unexpected `\"x\"`; expected a label name or `)`"},
		{"5m", "1:1: a number with a unit is a duration and belongs in brackets, as in x[30s]"},
		{"1.2.3", "1:1: bad number"},
		{"\"a\"", "1:1: a string is only a label's value here, as in x{peer=\"web\"}"},
		{"nan{a='b'}", "1:4: unexpected `{`; expected an operator or the end"},
		{"a!b", "1:2: unexpected character `!`"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct error error = { "" };
		struct query *query = NULL;
		int r = query_parse(rows[i].text, &query, &error);

		if (r != -EINVAL || query || strcmp(error.text, rows[i].message))
			fail_msg("%s: %d\n%s\nexpected\n%s", rows[i].text, r, error.text, rows[i].message);
		assert_int_equal(query_parse(rows[i].text, &query, NULL), -EINVAL);
	}
}

static void expect_deep(const char *before, const char *middle, const char *after, size_t n, int r)
{
	struct buffer text = BUFFER_INIT;
	struct query *query = NULL;
	struct error error = { "" };

	for (size_t i = 0; i < n; i++)
		buffer_puts(&text, before);
	buffer_puts(&text, middle);
	for (size_t i = 0; i < n; i++)
		buffer_puts(&text, after);
	assert_true(buffer_ok(&text));
	assert_int_equal(query_parse(text.data, &query, &error), r);
	if (r < 0)
		assert_true(strstr(error.text, "too deeply") || strstr(error.text, "longer than"));
	query_free(query);
	buffer_done(&text);
}

static void test_hostile(void **state)
{
	(void)state;
	expect_deep("(", "a", ")", 150, 0);
	expect_deep("(", "a", ")", 201, -EINVAL);
	expect_deep("(", "a", "", 16000, -EINVAL);
	expect_deep("-", "a", "", 150, 0);
	expect_deep("-", "a", "", 16000, -EINVAL);
	expect_deep("a+", "a", "", 150, 0);
	expect_deep("a+", "a", "", 8000, -EINVAL);
	expect_deep("a*", "a", "", 8000, -EINVAL);
	expect_deep("sum(", "a", ")", 3000, -EINVAL);
	expect_deep("topk(1,", "a", ")", 2000, -EINVAL);
	expect_deep("aaaa", "a", "", 5000, -EINVAL);
}

struct fixture {
	char path[300], directory[256];
	struct store *store;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");

	snprintf(f->directory, sizeof(f->directory), "%s/netsonde-query-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(f->directory))
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/q.db", f->directory);
	*state = f;
	return store_open(f->path, &f->store, NULL);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	store_close(f->store);
	unlink(f->path);
	rmdir(f->directory);
	free(f);
	return 0;
}

/* peer NULL: a series without labels. */
static void put(struct store *s, const char *name, const char *peer, const char *le, int64_t t_ms, double value,
		const struct hist *hist)
{
	struct label labels[2];
	size_t n = 0;

	if (le)
		labels[n++] = (struct label){ "le", le };
	if (peer)
		labels[n++] = (struct label){ "peer", peer };
	assert_int_equal(store_append(s,
				      &(struct store_sample){.name = name,
							     .type = METRIC_UNKNOWN,
							     .labels = labels,
							     .n_labels = n,
							     .t_ms = T0 + t_ms,
							     .value = value,
							     .hist = hist},
				      NULL),
			 0);
}

/* "{a="b"} t:value t:value | {..}", times relative to T0 in s, values with nine digits. */
static char *evaluate(struct store *s, const char *text, int64_t start, int64_t end, int64_t step)
{
	const struct query_options options = { .time_max_ns = 60 * NS_PER_SEC }; /* no verdict depends on the host's speed */
	struct query *query = NULL;
	struct query_result result = { 0 };
	struct error error = { "" };
	struct buffer out = BUFFER_INIT;
	int r = query_parse(text, &query, &error);

	if (r == 0)
		r = query_eval(query, s, T0 + start, T0 + end, step, &options, &result, &error);
	query_free(query);
	if (r < 0)
		buffer_printf(&out, "error %d %s", r, error.text);
	buffer_puts(&out, "");
	for (size_t i = 0; i < result.n; i++) {
		buffer_puts(&out, i ? " | {" : "{");
		for (size_t k = 0; k < result.series[i].n_labels; k++)
			buffer_printf(&out, "%s%s=%s", k ? "," : "", result.series[i].labels[k].name,
				      result.series[i].labels[k].value);
		buffer_putc(&out, '}');
		for (size_t k = 0; k < result.series[i].n; k++)
			buffer_printf(&out, " %g:%.9g", (double)(result.series[i].t_ms[k] - T0) / 1000,
				      result.series[i].values[k]);
	}
	query_result_done(&result);
	buffer_putc(&out, '\0');
	assert_true(buffer_ok(&out));
	return buffer_steal(&out, NULL);
}

static void expect_range(struct store *s, const char *text, int64_t start, int64_t end, int64_t step,
			 const char *expected)
{
	char *got = evaluate(s, text, start, end, step);

	if (strcmp(got, expected))
		fail_msg("%s:\n%s\nexpected\n%s", text, got, expected);
	free(got);
}

static void expect_at(struct store *s, const char *text, int64_t t, const char *expected)
{
	expect_range(s, text, t, t, 0, expected);
}

static double stale(void)
{
	double v;

	memcpy(&v, &(uint64_t){ STORE_STALE_BITS }, sizeof(v));
	return v;
}

static void test_floats(void **state)
{
	struct fixture *f = *state;
	struct store *s = f->store;

	assert_int_equal(store_begin(s, NULL), 0);
	/* 10 per second from 100 on, with a reset to 5 between 4 s and 5 s. */
	for (int i = 0; i <= 10; i++)
		put(s, "c", "a", NULL, i * 1000, i < 5 ? 100 + i * 10 : 5 + (i - 5) * 10, NULL);
	put(s, "g", "a", NULL, 0, 1, NULL);
	put(s, "g", "b", NULL, 0, 2, NULL);
	put(s, "g", "c", NULL, 0, -4, NULL);
	put(s, "g", "a", NULL, 2000, 3, NULL);
	put(s, "g", "b", NULL, 2000, stale(), NULL);
	put(s, "k", "a", NULL, 0, 10, NULL);
	put(s, "n", NULL, NULL, 0, NAN, NULL);
	assert_int_equal(store_commit(s, NULL), 0);

	/* Without a reset: 30 in 3 s. With one: 140 - 110 = 30 before, 5 after from 0, then 20: 55 in 6 s. */
	expect_at(s, "increase(c[3s])", 4000, "{peer=a} 4:30");
	expect_at(s, "rate(c[6s])", 7000, "{peer=a} 7:9.16666667");
	/* A window that reaches half an interval beyond the data: 1 s of data, 2 samples at 9 and 10, window 8.5..10.5.
	 */
	expect_at(s, "increase(c[2s])", 10500, "{peer=a} 10.5:20");
	/* Too far out on the right: only half an interval is added. Samples 8, 9, 10; window 8..14. */
	expect_at(s, "increase(c[6s])", 14000, "{peer=a} 14:25");
	expect_at(s, "rate(c[500ms])", 4000, "");
	expect_at(s, "rate(c[1s])", 60000, "");

	/* Lookback and stale markers; b ends at 2 s, c is forgotten after 15 s. */
	expect_range(s, "g", 0, 18000, 1000 * 3,
		     "{__name__=g,peer=a} 0:1 3:3 6:3 9:3 12:3 15:3 | {__name__=g,peer=b} 0:2 | {__name__=g,peer=c} "
		     "0:-4 3:-4 6:-4 9:-4 12:-4 15:-4");
	expect_at(s, "g{peer='b'}", 1999, "{__name__=g,peer=b} 1.999:2");
	expect_at(s, "g{peer='b'}", 2000, "");
	expect_at(s, "g{peer='a'}", -1, "");
	expect_at(s, "g{peer='a'}", 17000, "{__name__=g,peer=a} 17:3");
	expect_at(s, "g{peer='a'}", 17001, "");

	expect_at(s, "sum(g)", 0, "{} 0:-1");
	expect_at(s, "sum by (peer, x) (g)", 0, "{peer=a} 0:1 | {peer=b} 0:2 | {peer=c} 0:-4");
	expect_at(s, "sum without (peer) (g)", 0, "{} 0:-1");
	expect_at(s, "count by (__name__) (g)", 0, "{__name__=g} 0:3");
	expect_at(s, "avg(g) + min(g) * max(g)", 0, "{} 0:-8.33333333");
	expect_range(s, "topk(1, g)", 0, 2000, 2000, "{__name__=g,peer=a} 2:3 | {__name__=g,peer=b} 0:2");
	expect_at(s, "bottomk(2, g)", 0, "{__name__=g,peer=a} 0:1 | {__name__=g,peer=c} 0:-4");
	expect_at(s, "topk(-1, g)", 0, "");
	expect_at(s, "topk(1.9, g)", 0, "{__name__=g,peer=b} 0:2");
	expect_at(s, "g + k", 0, "{peer=a} 0:11");
	expect_at(s, "k - g", 0, "{peer=a} 0:9");
	expect_at(s, "2 - g * 3", 0, "{peer=a} 0:-1 | {peer=b} 0:-4 | {peer=c} 0:14");
	expect_at(s, "-g{peer='c'} / 0", 0, "{peer=c} 0:inf");
	expect_at(s, "g + sum(g)", 0, "");
	expect_at(s, "n", 0, "{__name__=n} 0:nan");
	expect_range(s, "1 + 2 * 3 - -4 / 8", 0, 2000, 1000, "{} 0:7.5 1:7.5 2:7.5");
	expect_at(s, "{__name__=~'g|k',peer='a'}", 0, "{__name__=g,peer=a} 0:1 | {__name__=k,peer=a} 0:10");
	expect_at(s, "histogram_quantile(0.5, g)", 0, "");
	expect_at(s, "histogram_count(g)", 0, "");
	/* The metric name kept them apart. */
	expect_at(s, "-{__name__=~'g|k'}", 0,
		  "error -22 several series have the same labels once the metric name is dropped; "
		  "select one metric, or aggregate by __name__");
	expect_at(s, "{__name__=~'g|k'} - k", 0, "error -22 several series on the left of `-` have the same labels; "
						 "an operator needs one on each side");
	expect_at(s, "k - {__name__=~'g|k'}", 0, "error -22 several series on the right of `-` have the same labels; "
						 "an operator needs one on each side");
	expect_at(s, "topk(NaN, g)", 0, "error -22 topk and bottomk need a number of series, not NaN");
}

static void test_ranges(void **state)
{
	struct fixture *f = *state;

	expect_range(f->store, "1", 2, 1, 1, "error -22 the end is before the start");
	expect_range(f->store, "1", 0, 1, 0, "error -22 the step must be greater than 0");
	expect_range(f->store, "1", 0, 1, -1, "error -22 the step must be greater than 0");
	expect_range(f->store, "1", 0, QUERY_POINTS_MAX, 1,
		     "error -22 the range has more than 11000 steps; use a longer step");
	expect_range(f->store, "1", INT64_MIN / 2, 0, 1,
		     "error -22 the start or the end is not a time in milliseconds");
	expect_range(f->store, "1", 0, INT64_MAX - T0, INT64_MAX,
		     "error -22 the start or the end is not a time in milliseconds");
	expect_range(f->store, "a", 0, 10000, INT64_MAX, "");
	expect_range(f->store, "a", 0, QUERY_POINTS_MAX - 1, 1, "");
	expect_range(f->store, "1", 0, 5, 2, "{} 0:1 0.002:1 0.004:1");
}

/* n observations of 0.75 ms (bucket (0.707.., 0.771..] ms of schema 3) and m of 6 ms. */
static void observe(struct hist *h, unsigned n, unsigned m)
{
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(hist_observe(h, 0.00075), 0);
	for (unsigned i = 0; i < m; i++)
		assert_int_equal(hist_observe(h, 0.006), 0);
}

static void expect_near(struct store *s, const char *text, int64_t t, double expected, double tolerance)
{
	char *got = evaluate(s, text, t, t, 0), *colon = strchr(got, ':');

	if (!colon || strncmp(got, "{", 1) || !(fabs(strtod(colon + 1, NULL) - expected) <= fabs(expected) * tolerance))
		fail_msg("%s: %s, expected %g", text, got, expected);
	free(got);
}

static void test_native(void **state)
{
	struct fixture *f = *state;
	struct store *s = f->store;
	struct hist a, b;
	double error = hist_relative_error(HIST_SCHEMA) + 1e-9;

	hist_init(&a, HIST_SCHEMA, 1e-9);
	hist_init(&b, HIST_SCHEMA, 1e-9);
	observe(&a, 1000, 0);
	assert_int_equal(store_begin(s, NULL), 0);
	for (int i = 0; i <= 10; i++) {
		if (i == 6)
			hist_clear(&a); /* restarted */
		observe(&a, 4, 1);
		observe(&b, 0, 5);
		put(s, "h", "a", NULL, i * 1000, 0, &a);
		put(s, "h", "b", NULL, i * 1000, 0, &b);
	}
	put(s, "h", "b", NULL, 11000, stale(), NULL);
	put(s, "mixed", NULL, NULL, 0, 0, &a);
	put(s, "mixed", NULL, NULL, 1000, 5, NULL);
	put(s, "mixed", NULL, NULL, 2000, 6, NULL);
	assert_int_equal(store_commit(s, NULL), 0);

	/* 5 per second of both, also across the reset (at 6 s all five are new). */
	expect_at(s, "histogram_count(rate(h[5s]))", 5000, "{peer=a} 5:5 | {peer=b} 5:5");
	expect_at(s, "histogram_count(increase(h[6s]))", 8000, "{peer=a} 8:30 | {peer=b} 8:30");
	expect_at(s, "histogram_sum(rate(h[5s]))", 5000, "{peer=a} 5:0.009 | {peer=b} 5:0.03");
	expect_range(s, "histogram_sum(rate(h[2s]))", 5000, 8000, 1000,
		     "{peer=a} 5:0.009 6:0.009 7:0.009 8:0.009 | {peer=b} 5:0.03 6:0.03 7:0.03 8:0.03");
	/* Extrapolated by half an interval on the right: 2 s of data, window 8 .. 14. */
	expect_at(s, "histogram_count(increase(h{peer='a'}[6s]))", 14000, "{peer=a} 14:12.5");
	expect_at(s, "histogram_count(sum(rate(h[5s])))", 7000, "{} 7:10");
	expect_at(s, "histogram_count(sum(h))", 0, "{} 0:1010");
	expect_at(s, "histogram_count(h)", 11000, "{peer=a} 11:25");
	expect_at(s, "count(rate(h[5s]))", 7000, "{} 7:2");
	/* Of what came in the last 4 s: a has four of 0.75 ms and one of 6 ms, b only 6 ms. */
	expect_near(s, "histogram_quantile(0.5, rate(h{peer='a'}[4s]))", 4000, 0.00075, error);
	expect_near(s, "histogram_quantile(0.9, rate(h{peer='a'}[4s]))", 4000, 0.006, error);
	expect_near(s, "histogram_quantile(0.39, sum(rate(h[4s])))", 4000, 0.00075, error);
	expect_near(s, "histogram_quantile(0.41, sum(rate(h[4s])))", 4000, 0.006, error);
	expect_near(s, "histogram_quantile(0.9, h{peer='a'})", 4000, 0.00075, error);
	expect_at(s, "histogram_quantile(-0.1, h{peer='a'})", 0, "{peer=a} 0:-inf");
	expect_at(s, "histogram_quantile(1.1, h{peer='a'})", 0, "{peer=a} 0:inf");
	expect_at(s, "histogram_quantile(NaN, h{peer='a'})", 0, "{peer=a} 0:nan");

	expect_at(s, "histogram_count(rate(mixed[1s]))", 1000, "");
	expect_at(s, "rate(mixed[2s])", 2000, "");
	expect_at(s, "increase(mixed[1s])", 2000, "{} 2:1");
	expect_at(s, "histogram_count(mixed)", 500, "{} 0.5:25");
	expect_at(s, "sum(mixed) + 1", 1500, "{} 1.5:6");
	expect_at(s, "sum({__name__=~'h|mixed', peer!='b'})", 1500, ""); /* a histogram and a number have no sum */

	expect_at(
	    s, "h", 0,
		"error -22 the result is a histogram; wrap it in histogram_quantile, histogram_count or histogram_sum");
	expect_at(
	    s, "sum(rate(h[5s]))", 5000,
		"error -22 the result is a histogram; wrap it in histogram_quantile, histogram_count or histogram_sum");
#define ONLY                                                                                                        \
	"error -22 histograms can only be summed and counted; wrap them in histogram_quantile, histogram_count or " \
	"histogram_sum first"
	expect_at(s, "avg(h)", 0, ONLY);
	expect_at(s, "topk(1, h)", 0, ONLY);
	expect_at(s, "h * 2", 0, ONLY);
	expect_at(s, "h + h", 0, ONLY);
	expect_at(s, "-h", 0, ONLY);
	hist_done(&a);
	hist_done(&b);
}

static void test_classic(void **state)
{
	struct fixture *f = *state;
	struct store *s = f->store;
	static const struct { const char *le; double count; } buckets[] = {
		{ "0.1", 10 }, { "0.2", 30 }, { "+Inf", 40 }, { "1e0", 35 }, { "nonsense", 99 },
	};

	assert_int_equal(store_begin(s, NULL), 0);
	for (size_t i = 0; i < 5; i++)
		put(s, "h_bucket", "a", buckets[i].le, 0, buckets[i].count, NULL);
	put(s, "h_bucket", "b", "0.1", 0, 1, NULL); /* without +Inf */
	put(s, "h_bucket", "c", "+Inf", 0, 1, NULL);
	put(s, "h_bucket", "d", "0.1", 0, 0, NULL);
	put(s, "h_bucket", "d", "+Inf", 0, 0, NULL);
	assert_int_equal(store_commit(s, NULL), 0);
	/* Rank 20 is half way through (0.1, 0.2], which has 20. */
	expect_at(s, "histogram_quantile(0.5, h_bucket)", 0,
		  "{peer=a} 0:0.15 | {peer=b} 0:nan | {peer=c} 0:nan | {peer=d} 0:nan");
	expect_at(s, "histogram_quantile(0.125, h_bucket{peer='a'})", 0, "{peer=a} 0:0.05");
	expect_at(s, "histogram_quantile(0.99, h_bucket{peer='a'})", 0, "{peer=a} 0:1");
	/* Together 11, 30, 35, 41: rank 20.5 is 9.5 of 19 into (0.1, 0.2]. */
	expect_at(s, "histogram_quantile(0.5, sum by (le) (h_bucket))", 0, "{} 0:0.15");
}

/* More series than the limit, and a query that would need too much memory. */
static void test_limits(void **state)
{
	struct fixture *f = *state;
	struct store *s = f->store;
	char peer[16];

	assert_int_equal(store_begin(s, NULL), 0);
	for (int i = 0; i <= QUERY_SERIES_MAX; i++) {
		snprintf(peer, sizeof(peer), "p%d", i);
		put(s, "many", peer, NULL, 0, i, NULL);
		if (i < 2500)
			put(s, "some", peer, NULL, 0, i, NULL);
	}
	assert_int_equal(store_commit(s, NULL), 0);
	expect_at(s, "sum(many)", 0, "error -22 a selector matches more than 10000 series; narrow it with labels");
	expect_at(s, "sum(many{peer!='p10000'})", 0, "{} 0:49995000");
	expect_range(s, "some", 0, 10999, 1, "error -22 the query needs too many samples (more than 256 MiB); "
					     "use a shorter time range, a longer step or fewer series");
	expect_at(s, "sum(-(-(-(-(-(-(-(-(-(-(-many{peer!='p0'})))))))))))", 0,
		  "error -22 the query has too many series (more than 100000 in all its parts)");
}

/* The options: how far an instant query looks back, and how long it may take. */
static void test_options(void **state)
{
	struct fixture *f = *state;
	struct store *s = f->store;
	const struct query_options longer = { .lookback_ms = 60000 }, no_time = { .time_max_ns = 1 };
	struct query_result result = { 0 };
	struct error error = { "" };
	struct query *query;

	assert_int_equal(store_begin(s, NULL), 0);
	put(s, "m", NULL, NULL, 0, 7, NULL);
	assert_int_equal(store_commit(s, NULL), 0);
	assert_int_equal(query_parse("m", &query, &error), 0);
	assert_int_equal(query_eval(query, s, T0 + 40000, T0 + 40000, 1, NULL, &result, &error), 0);
	assert_int_equal(result.n, 0);
	query_result_done(&result);
	assert_int_equal(query_eval(query, s, T0 + 40000, T0 + 70000, 10000, &longer, &result, &error), 0);
	assert_int_equal(result.n, 1);
	assert_int_equal(result.series[0].n, 3); /* 40, 50 and 60 s */
	query_result_done(&result);
	assert_int_equal(query_eval(query, s, T0, T0, 1, &no_time, &result, &error), -ETIME);
	assert_non_null(strstr(error.text, "the query takes longer than 0 ms"));
	query_free(query);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good), cmocka_unit_test(test_bad), cmocka_unit_test(test_hostile),
		TEST(test_floats), TEST(test_ranges), TEST(test_native), TEST(test_classic), TEST(test_limits), TEST(test_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
