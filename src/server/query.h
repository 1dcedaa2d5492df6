/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Query: the part of PromQL that a network dashboard needs, with PromQL's own
 * syntax and meaning, so that nobody has to learn a second language:
 *
 *   name{label="x", l2!="y", l3=~"re", l4!~"re"}        instant selector
 *   rate(s[30s])  increase(s[5m])                        per series, counter resets handled; floats and histograms
 *   sum|avg|min|max|count [by|without (labels)] (expr)   histograms can be summed
 *   topk(k, expr)   bottomk(k, expr)
 *   histogram_quantile(q, expr)                          native histograms (sum'ed or not) and classic *_bucket series
 *   histogram_count(expr)  histogram_sum(expr)
 *   expr + - * / expr, number literals                   one-to-one on equal labels, or with a scalar
 *
 * Evaluation at a time t looks back for instant selectors (15 s unless told otherwise) and ends at stale markers.
 * rate extrapolates as Prometheus does; its window is closed at both ends, as in Prometheus 2.
 *
 * Different from Prometheus: regular expressions are POSIX extended; the quantile of a native histogram is the
 * geometric middle of its bucket (error bound of hist.h); what PromQL drops silently because it makes no sense for a
 * histogram (avg of histograms, arithmetic) is an error. by/without work in front of and behind the parentheses.
 * A query is bounded: steps, series, 256 MiB of samples, 1 s (nothing else runs meanwhile); its text: 16 KiB, 200 levels.
 */
#pragma once
#include "lib/clock.h"
#include "server/store.h"

#define QUERY_LOOKBACK_MS 15000
#define QUERY_TIME_MAX_NS (1000 * NS_PER_MS)
#define QUERY_POINTS_MAX 11000 /* steps per series, as Prometheus */
#define QUERY_SERIES_MAX 10000

struct query; /* parsed */

/* -EINVAL with position and reason: "1:14: unknown function `rat`; did you mean `rate`?" */
int query_parse(const char *text, struct query **ret_query, struct error *ret_error);
void query_free(struct query *query);
/* The matchers of a bare selector such as `up` or `{job="x"}`, for store_select; borrowed. -EINVAL for any other
 * expression. */
int query_matchers(const struct query *query, const struct matcher **ret_matchers, size_t *ret_n,
		   struct error *ret_error);
/* True when the value is one number without labels, whatever the store holds ("1 + 1"). */
bool query_is_scalar(const struct query *query);

struct query_series {
	struct label *labels; size_t n_labels;  /* sorted; __name__ first when kept */
	int64_t *t_ms; double *values; size_t n; /* only the steps that have a value */
};
struct query_result { struct query_series *series; size_t n; };
void query_result_done(struct query_result *result);

struct query_options {
	int64_t lookback_ms;  /* 0: QUERY_LOOKBACK_MS; to be longer than the gap between two scrapes */
	uint64_t time_max_ns; /* 0: QUERY_TIME_MAX_NS */
};

/* Evaluated at start, start + step, .. end (all ms); an instant query has start == end. options may be NULL. -EINVAL for
 * bad ranges or too much, -ETIME for too long, with a sentence. A result that is still a histogram is -EINVAL ("wrap it in
 * histogram_quantile"). */
int query_eval(const struct query *query, struct store *store, int64_t start_ms, int64_t end_ms, int64_t step_ms,
	       const struct query_options *options, struct query_result *ret_result, struct error *ret_error);
