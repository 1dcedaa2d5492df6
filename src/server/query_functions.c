/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One step of a query: each node's cells at one time.
 *
 * Meanings are Prometheus 2's: a window [t - range, t] and the lookback are
 * closed at both ends, rate extrapolates to the window's ends (promql/functions.go,
 * extrapolatedRate), classic histograms interpolate within a bucket. A native
 * histogram's quantile is hist_quantile's (the bucket's geometric middle), whose
 * error is bounded; Prometheus interpolates there.
 */
#include "server/query_plan.h"
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int row_taken(struct evaluation *e)
{
	return error_set(e->error, -EINVAL, "several series have the same labels once the metric name is dropped; "
						"select one metric, or aggregate by __name__");
}

static int not_for_histograms(struct evaluation *e)
{
	return error_set(e->error, -EINVAL, "histograms can only be summed and counted; "
						"wrap them in histogram_quantile, histogram_count or histogram_sum first");
}

/* The cell is free; makes it a histogram and empty. */
static void start_hist(struct cell *c)
{
	hist_clear(&c->hist);
	c->kind = CELL_HIST;
	c->count = c->sum = 0;
}

static int set_float(struct evaluation *e, struct plan *p, size_t row, double value)
{
	struct cell *c = &p->cells[row];

	if (c->kind != CELL_NONE)
		return row_taken(e);
	c->kind = CELL_FLOAT;
	c->value = value;
	return 0;
}

static int decode(struct evaluation *e, const struct samples *s, const struct sample *sample, struct hist *to)
{
	assert(sample->kind == SAMPLE_HIST);
	return hist_decode(s->blobs.data + sample->blob, sample->blob_len, to) < 0 ? query_out_of_memory(e) : 0;
}

/* Moves the window to the step; both ends only go forward. */
static void slide(struct samples *s, int64_t t_ms, int64_t window_ms)
{
	while (s->high < s->n && s->at[s->high].t_ms <= t_ms)
		s->high++;
	while (s->low < s->high && s->at[s->low].t_ms < t_ms - window_ms)
		s->low++;
}

static int step_selector(struct evaluation *e, struct plan *p, int64_t t_ms)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < p->n_samples; i++) {
		struct samples *s = &p->samples[i];
		struct cell *c = &p->cells[p->series_row[i]];
		const struct sample *last;

		slide(s, t_ms, e->lookback_ms);
		if (s->low == s->high)
			continue;
		last = &s->at[s->high - 1];
		if (last->kind == SAMPLE_FLOAT) {
			c->kind = CELL_FLOAT;
			c->value = last->value;
		} else if (last->kind != SAMPLE_STALE) {
			start_hist(c);
			r = decode(e, s, last, &c->hist);
			c->count = (double)c->hist.count;
			c->sum = c->hist.sum;
		}
	}
	return r;
}

/* By how much the window's increase is to be multiplied. Samples reach to the window's ends when they come within 1.1
 * of the mean interval, else half an interval further; a counter not before it was 0. */
static double extrapolation(const struct sample *first, const struct sample *last, size_t n, int64_t t_ms,
			    int64_t range_ms, double counter_first, double increase)
{
	double to_start = (double)(first->t_ms - (t_ms - range_ms)) / 1000, to_end = (double)(t_ms - last->t_ms) / 1000;
	double sampled = (double)(last->t_ms - first->t_ms) / 1000, interval = sampled / (double)(n - 1),
	       covered = sampled;

	if (increase > 0 && counter_first >= 0) {
		double to_zero = sampled * (counter_first / increase);

		if (to_zero < to_start)
			to_start = to_zero;
	}
	covered += to_start < interval * 1.1 ? to_start : interval / 2;
	covered += to_end < interval * 1.1 ? to_end : interval / 2;
	return covered / sampled;
}

static double increase_of_floats(const struct samples *s)
{
	double increase = s->at[s->high - 1].value - s->at[s->low].value;

	for (size_t i = s->low + 1; s->has_resets && i < s->high; i++)
		if (s->at[i].value < s->at[i - 1].value)
			increase += s->at[i - 1].value;
	return increase;
}

static bool window_is_mixed(const struct samples *s)
{
	for (size_t i = s->low + 1; s->has_floats && s->has_hists && i < s->high; i++)
		if ((s->at[i].kind == SAMPLE_FLOAT) != (s->at[s->low].kind == SAMPLE_FLOAT))
			return true;
	return false;
}

static int rate_of_hists(struct evaluation *e, struct plan *p, const struct samples *s, size_t row, double factor)
{
	struct cell *c = &p->cells[row];
	int r;

	if (c->kind != CELL_NONE)
		return row_taken(e);
	start_hist(c);
	r = decode(e, s, &s->at[s->high - 1], &c->hist);
	if (r == 0)
		r = decode(e, s, &s->at[s->low], &e->hist);
	if (r < 0)
		return r;
	r = hist_subtract(&c->hist, &e->hist);
	if (r < 0)
		return query_out_of_memory(e);
	if (r == HIST_E_RESET) { /* zero buckets that cannot be compared */
		c->kind = CELL_NONE;
		return 0;
	}
	c->count = (double)c->hist.count * factor;
	c->sum = c->hist.sum * factor;
	return 0;
}

static int step_rate(struct evaluation *e, struct plan *p, int64_t t_ms)
{
	int64_t range = p->node->operand[0]->range_ms;
	double divisor = p->node->call == CALL_RATE ? (double)range / 1000 : 1;
	int r = 0;

	for (size_t i = 0; r == 0 && i < p->n_samples; i++) {
		struct samples *s = &p->samples[i];
		const struct sample *first, *last;
		double increase;

		slide(s, t_ms, range);
		if (s->high - s->low < 2 || window_is_mixed(s))
			continue;
		first = &s->at[s->low];
		last = &s->at[s->high - 1];
		if (first->kind == SAMPLE_FLOAT) {
			increase = increase_of_floats(s);
			r = set_float(e, p, p->series_row[i],
				      increase * (extrapolation(first, last, s->high - s->low, t_ms, range,
								first->value, increase) /
						  divisor));
		} else {
			r = rate_of_hists(e, p, s, p->series_row[i],
					  extrapolation(first, last, s->high - s->low, t_ms, range, 0, 0) / divisor);
		}
	}
	return r;
}

static int add_hist(struct evaluation *e, struct cell *to, const struct cell *from)
{
	int r;

	if (to->kind == CELL_NONE) {
		start_hist(to);
		r = hist_copy(&to->hist, &from->hist);
	} else {
		r = hist_merge(&to->hist, &from->hist);
	}
	to->count += from->count;
	to->sum += from->sum;
	if (r == -ERANGE)
		return error_set(e->error, -EINVAL, "the histograms are too different to be summed");
	return r < 0 ? query_out_of_memory(e) : 0;
}

static int aggregate_one(struct evaluation *e, enum aggregate op, struct cell *to, const struct cell *from)
{
	if (op == AGGREGATE_COUNT || to->kind == CELL_MIXED) {
		to->kind = op == AGGREGATE_COUNT ? CELL_FLOAT : CELL_MIXED;
		return 0;
	}
	if (from->kind == CELL_HIST && op != AGGREGATE_SUM)
		return not_for_histograms(e);
	if (to->kind != CELL_NONE && to->kind != from->kind) {
		to->kind = CELL_MIXED;
		return 0;
	}
	if (from->kind == CELL_HIST)
		return add_hist(e, to, from);
	if (to->kind == CELL_NONE) {
		to->kind = CELL_FLOAT;
		to->value = from->value;
	} else if (op == AGGREGATE_SUM || op == AGGREGATE_AVG) {
		to->value += from->value;
	} else if (isnan(to->value) || (op == AGGREGATE_MIN ? from->value < to->value : from->value > to->value)) {
		to->value = from->value;
	}
	return 0;
}

static int step_aggregate(struct evaluation *e, struct plan *p)
{
	const struct plan *operand = p->operand[0];
	enum aggregate op = p->node->aggregate;
	int r = 0;

	memset(p->counts, 0, p->rows.n * sizeof(*p->counts));
	for (size_t i = 0; r == 0 && i < operand->rows.n; i++)
		if (operand->cells[i].kind != CELL_NONE) {
			p->counts[p->map[0][i]]++;
			r = aggregate_one(e, op, &p->cells[p->map[0][i]], &operand->cells[i]);
		}
	for (size_t i = 0; i < p->rows.n; i++) {
		if (p->cells[i].kind == CELL_MIXED)
			p->cells[i].kind = CELL_NONE;
		else if (p->cells[i].kind == CELL_FLOAT && op == AGGREGATE_COUNT)
			p->cells[i].value = p->counts[i];
		else if (p->cells[i].kind == CELL_FLOAT && op == AGGREGATE_AVG)
			p->cells[i].value /= p->counts[i];
	}
	return r;
}

/* By group, then the best first (NaN is worst), then the order of the rows. */
static int compare_ranks(const void *a, const void *b, void *userdata)
{
	const struct plan *p = userdata;
	size_t x = *(const size_t *)a, y = *(const size_t *)b;
	double v = p->operand[0]->cells[x].value, w = p->operand[0]->cells[y].value;

	if (p->map[0][x] != p->map[0][y])
		return p->map[0][x] < p->map[0][y] ? -1 : 1;
	if (isnan(v) != isnan(w))
		return isnan(v) ? 1 : -1;
	if (v != w && !isnan(v))
		return (v > w) == (p->node->aggregate == AGGREGATE_TOPK) ? -1 : 1;
	return x < y ? -1 : x > y;
}

static int step_topk(struct evaluation *e, struct plan *p)
{
	const struct plan *operand = p->operand[0];
	size_t n = 0, rank = 0;

	for (size_t i = 0; i < operand->rows.n; i++) {
		if (operand->cells[i].kind == CELL_HIST)
			return not_for_histograms(e);
		if (operand->cells[i].kind == CELL_FLOAT)
			p->order[n++] = i;
	}
	qsort_r(p->order, n, sizeof(*p->order), compare_ranks, p);
	for (size_t i = 0; i < n; i++) {
		size_t row = p->order[i];

		rank = i && p->map[0][row] == p->map[0][p->order[i - 1]] ? rank + 1 : 0;
		if ((double)(rank + 1) <= p->parameter) { /* our rows are the operand's */
			p->cells[row].kind = CELL_FLOAT;
			p->cells[row].value = operand->cells[row].value;
		}
	}
	return 0;
}

static double compute(char op, double a, double b)
{
	return op == '+' ? a + b : op == '-' ? a - b : op == '*' ? a * b : a / b;
}

static int step_with_number(struct evaluation *e, struct plan *p, int side)
{
	const struct plan *operand = p->operand[side];
	int r = 0;

	for (size_t i = 0; r == 0 && i < operand->rows.n; i++) {
		const struct cell *c = &operand->cells[i];

		if (c->kind == CELL_HIST)
			return not_for_histograms(e);
		if (c->kind == CELL_FLOAT)
			r = set_float(e, p, p->map[side][i], side ? compute(p->node->op, p->number[0], c->value)
								  : compute(p->node->op, c->value, p->number[1]));
	}
	return r;
}

static int step_binary(struct evaluation *e, struct plan *p)
{
	for (int side = 0; side < 2; side++) {
		for (size_t i = 0; i < p->rows.n; i++)
			p->pair[side][i] = SIZE_MAX;
		for (size_t i = 0; i < p->operand[side]->rows.n; i++) {
			size_t row = p->map[side][i];

			if (row == SIZE_MAX || p->operand[side]->cells[i].kind == CELL_NONE)
				continue;
			if (p->operand[side]->cells[i].kind == CELL_HIST)
				return not_for_histograms(e);
			if (p->pair[side][row] != SIZE_MAX)
				return error_set(e->error, -EINVAL,
						 "several series on the %s of `%c` have the same labels; "
						 "an operator needs one on each side",
						 side ? "right" : "left", p->node->op);
			p->pair[side][row] = i;
		}
	}
	for (size_t i = 0; i < p->rows.n; i++)
		if (p->pair[0][i] != SIZE_MAX && p->pair[1][i] != SIZE_MAX) {
			p->cells[i].kind = CELL_FLOAT;
			p->cells[i].value = compute(p->node->op, p->operand[0]->cells[p->pair[0][i]].value,
						    p->operand[1]->cells[p->pair[1][i]].value);
		}
	return 0;
}

static double quantile_outside(double q)
{
	return isnan(q) ? NAN : q < 0 ? -INFINITY : INFINITY;
}

/* bounds ascending, each once; counts cumulative. */
static double classic_quantile(double q, const double *bounds, double *counts, size_t n)
{
	double rank, from = 0, in_bucket;
	size_t b = 0;

	if (!(q >= 0 && q <= 1))
		return quantile_outside(q);
	if (n < 2 || bounds[n - 1] != INFINITY)
		return NAN;
	/* Buckets of one scrape can be torn; Prometheus lets no count fall below an earlier one. */
	for (size_t i = 1; i < n; i++)
		if (counts[i] < counts[i - 1])
			counts[i] = counts[i - 1];
	if (counts[n - 1] == 0 || isnan(counts[n - 1]))
		return NAN;
	rank = q * counts[n - 1];
	while (b < n - 1 && !(counts[b] >= rank))
		b++;
	if (b == n - 1)
		return bounds[n - 2];
	if (b == 0 && bounds[0] <= 0)
		return bounds[0];
	in_bucket = counts[b];
	if (b > 0) {
		from = bounds[b - 1];
		in_bucket -= counts[b - 1];
		rank -= counts[b - 1];
	}
	return from + (bounds[b] - from) * (rank / in_bucket);
}

/* All buckets of one group, from `at`; returns behind them. */
static size_t step_classic_group(struct evaluation *e, struct plan *p, size_t at, int *ret_r)
{
	size_t group = p->buckets[at].group, n = 0, start = at, room;
	double *bounds = p->scratch, *counts;

	while (at < p->n_buckets && p->buckets[at].group == group)
		at++;
	room = at - start;
	counts = bounds + room;
	for (size_t i = start; i < at; i++) {
		const struct cell *c = &p->operand[0]->cells[p->buckets[i].row];

		if (c->kind != CELL_FLOAT)
			continue;
		if (n && bounds[n - 1] == p->buckets[i].upper) {
			counts[n - 1] += c->value;
		} else {
			bounds[n] = p->buckets[i].upper;
			counts[n++] = c->value;
		}
	}
	if (n && p->cells[group].kind == CELL_FLOAT)
		p->cells[group].kind = CELL_MIXED; /* a native and a classic histogram of one name */
	else if (n)
		*ret_r = set_float(e, p, group, classic_quantile(p->parameter, bounds, counts, n));
	return at;
}

/* histogram_quantile, _count and _sum; series of other kinds have no result. */
static int step_histogram(struct evaluation *e, struct plan *p)
{
	const struct plan *operand = p->operand[0];
	double q = p->parameter;
	int r = 0;

	for (size_t i = 0; r == 0 && i < operand->rows.n; i++) {
		const struct cell *c = &operand->cells[i];

		if (c->kind != CELL_HIST)
			continue;
		r = set_float(e, p, p->map[0][i],
			      p->node->call == CALL_COUNT ? c->count : p->node->call == CALL_SUM ? c->sum :
			      q >= 0 && q <= 1 ? hist_quantile(&c->hist, q) : quantile_outside(q));
	}
	for (size_t at = 0; r == 0 && at < p->n_buckets;)
		at = step_classic_group(e, p, at, &r);
	for (size_t i = 0; i < p->rows.n; i++)
		if (p->cells[i].kind == CELL_MIXED)
			p->cells[i].kind = CELL_NONE;
	return r;
}

static int step_negate(struct evaluation *e, struct plan *p)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < p->operand[0]->rows.n; i++) {
		const struct cell *c = &p->operand[0]->cells[i];

		if (c->kind == CELL_HIST)
			return not_for_histograms(e);
		if (c->kind == CELL_FLOAT)
			r = set_float(e, p, p->map[0][i], -c->value);
	}
	return r;
}

int query_step(struct evaluation *e, struct plan *p, int64_t t_ms)
{
	for (size_t i = 0; i < p->rows.n; i++)
		p->cells[i].kind = CELL_NONE;
	switch (p->node->kind) {
	case NODE_SELECTOR:
		return step_selector(e, p, t_ms);
	case NODE_CALL:
		return p->samples ? step_rate(e, p, t_ms) : step_histogram(e, p);
	case NODE_AGGREGATE:
		return p->order ? step_topk(e, p) : step_aggregate(e, p);
	case NODE_BINARY:
		return !p->operand[0]	? step_with_number(e, p, 1)
		       : !p->operand[1] ? step_with_number(e, p, 0)
					: step_binary(e, p);
	case NODE_NEGATE:
		return step_negate(e, p);
	case NODE_NUMBER:
		break;
	}
	return 0;
}
