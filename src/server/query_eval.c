/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The evaluation: plan (rows and samples of every node), step, collect. What is
 * hostile or just too large ends in a sentence: series, rows, memory, time and
 * steps are limited (query.h, query_plan.h).
 */
#include "server/query_plan.h"
#include "lib/decimal.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TIME_MAX_MS (INT64_C(1) << 53) /* so that adding windows never overflows */

int query_out_of_memory(struct evaluation *e)
{
	return error_set_errno(e->error, -ENOMEM, "cannot evaluate the query");
}

int query_too_long(struct evaluation *e)
{
	return error_set(e->error, -ETIME,
			 "the query takes longer than %llu ms; use a shorter time range, a longer step or fewer series",
			 (unsigned long long)(e->time_max_ns / NS_PER_MS));
}

int query_check_limits(struct evaluation *e)
{
	if (e->bytes > QUERY_MEMORY_MAX)
		return error_set(e->error, -EINVAL,
				 "the query needs too many samples (more than %u MiB); "
				 "use a shorter time range, a longer step or fewer series",
				 QUERY_MEMORY_MAX >> 20);
	if (mono_now().ns > e->deadline.ns)
		return query_too_long(e);
	return 0;
}

int query_add_row(struct evaluation *e, struct rows *rows, const struct label *labels, size_t n, size_t *ret_row)
{
	size_t before = rows->n;

	if (rows_add(rows, labels, n, ret_row) < 0)
		return query_out_of_memory(e);
	e->n_rows += rows->n - before;
	if (e->n_rows > QUERY_ROWS_MAX)
		return error_set(e->error, -EINVAL, "the query has too many series (more than %d in all its parts)",
				 QUERY_ROWS_MAX);
	return 0;
}

/* Of nodes of type TYPE_SCALAR, which do not depend on time. */
static double number_of(const struct node *n)
{
	double a, b;

	if (n->kind == NODE_NUMBER)
		return n->number;
	a = number_of(n->operand[0]);
	if (n->kind == NODE_NEGATE)
		return -a;
	b = number_of(n->operand[1]);
	return n->op == '+' ? a + b : n->op == '-' ? a - b : n->op == '*' ? a * b : a / b;
}

static void plan_free(struct plan *p)
{
	if (!p)
		return;
	for (int i = 0; i < 2; i++) {
		plan_free(p->operand[i]);
		free(p->map[i]);
		free(p->pair[i]);
	}
	for (size_t i = 0; p->cells && i < p->rows.n; i++)
		hist_done(&p->cells[i].hist);
	for (size_t i = 0; i < p->n_samples; i++)
		query_samples_done(&p->samples[i]);
	rows_done(&p->rows);
	free(p->cells);
	free(p->samples);
	free(p->series_row);
	free(p->counts);
	free(p->order);
	free(p->buckets);
	free(p->scratch);
	free(p);
}

static bool in_grouping(const struct node *n, const char *label)
{
	for (size_t i = 0; i < n->n_grouping; i++)
		if (!strcmp(n->grouping[i], label))
			return true;
	return false;
}

/* Which labels of the operand a node's result has. */
static bool keeps_label(const struct node *n, const char *label)
{
	bool is_name = !strcmp(label, "__name__");

	if (n->kind == NODE_AGGREGATE)
		return n->without ? !is_name && !in_grouping(n, label) : in_grouping(n, label);
	if (n->kind == NODE_CALL && n->call == CALL_QUANTILE && !strcmp(label, "le"))
		return false;
	return !is_name;
}

/* The labels of operand row `row` that the node keeps; scratch has room. */
static size_t kept_labels(const struct node *n, const struct rows *rows, size_t row, struct label *scratch)
{
	size_t kept = 0;

	for (size_t i = 0; i < rows->sets[row].n; i++)
		if (keeps_label(n, rows->sets[row].labels[i].name))
			scratch[kept++] = rows->sets[row].labels[i];
	return kept;
}

static struct label *scratch_for(const struct rows *rows)
{
	size_t most = 1;

	for (size_t i = 0; i < rows->n; i++)
		if (rows->sets[i].n > most)
			most = rows->sets[i].n;
	return calloc(most, sizeof(struct label));
}

/* Maps the operand's rows to rows of `to`, adding these. */
static int map_rows(struct evaluation *e, struct plan *p, int side, struct rows *to)
{
	const struct rows *from = &p->operand[side]->rows;
	struct label *scratch = scratch_for(from);
	int r = 0;

	p->map[side] = calloc(from->n + 1, sizeof(size_t));
	if (!p->map[side] || !scratch)
		r = query_out_of_memory(e);
	for (size_t i = 0; r == 0 && i < from->n; i++)
		r = query_add_row(e, to, scratch, kept_labels(p->node, from, i, scratch), &p->map[side][i]);
	free(scratch);
	return r;
}

static int compare_buckets(const void *a, const void *b)
{
	const struct bucket *x = a, *y = b;

	if (x->group != y->group)
		return x->group < y->group ? -1 : 1;
	return x->upper < y->upper ? -1 : x->upper > y->upper;
}

/* The operand's rows that have a bound `le` are buckets of classic histograms. */
static int find_buckets(struct evaluation *e, struct plan *p)
{
	const struct rows *from = &p->operand[0]->rows;

	p->buckets = calloc(from->n + 1, sizeof(*p->buckets));
	p->scratch = calloc(2 * from->n + 1, sizeof(*p->scratch));
	if (!p->buckets || !p->scratch)
		return query_out_of_memory(e);
	for (size_t i = 0; i < from->n; i++)
		for (size_t k = 0; k < from->sets[i].n; k++) {
			const struct label *l = &from->sets[i].labels[k];
			double upper;

			if (!strcmp(l->name, "le") && decimal_read(l->value, strlen(l->value), &upper) && !isnan(upper))
				p->buckets[p->n_buckets++] = (struct bucket){ p->map[0][i], i, upper };
		}
	qsort(p->buckets, p->n_buckets, sizeof(*p->buckets), compare_buckets);
	return 0;
}

static int plan_aggregate(struct evaluation *e, struct plan *p)
{
	const struct rows *from = &p->operand[0]->rows;
	struct rows groups = { 0 };
	int r = 0;

	if (p->node->aggregate != AGGREGATE_TOPK && p->node->aggregate != AGGREGATE_BOTTOMK) {
		r = map_rows(e, p, 0, &p->rows);
		p->counts = calloc(p->rows.n + 1, sizeof(*p->counts));
		return r == 0 && !p->counts ? query_out_of_memory(e) : r;
	}
	if (isnan(p->parameter))
		return error_set(e->error, -EINVAL, "topk and bottomk need a number of series, not NaN");
	r = map_rows(e, p, 0, &groups);
	for (size_t i = 0, row; r == 0 && i < from->n; i++)
		r = query_add_row(e, &p->rows, from->sets[i].labels, from->sets[i].n, &row);
	rows_done(&groups);
	p->order = calloc(from->n + 1, sizeof(*p->order));
	return r == 0 && !p->order ? query_out_of_memory(e) : r;
}

/* Rows are the left side's label sets (without the name) that the right side has too. */
static int plan_pairs(struct evaluation *e, struct plan *p)
{
	struct rows sides[2] = { 0 };
	size_t *to_row = NULL;
	int r = map_rows(e, p, 0, &sides[0]);

	if (r == 0)
		r = map_rows(e, p, 1, &sides[1]);
	if (r == 0 && !(to_row = calloc(sides[0].n + sides[1].n + 1, sizeof(*to_row))))
		r = query_out_of_memory(e);
	for (int side = 0; r == 0 && side < 2; side++) {
		const struct rows *mine = &sides[side], *other = &sides[!side];

		for (size_t i = 0; r == 0 && i < mine->n; i++) {
			to_row[i] = SIZE_MAX;
			if (rows_find(other, mine->sets[i].labels, mine->sets[i].n) != SIZE_MAX)
				r = query_add_row(e, &p->rows, mine->sets[i].labels, mine->sets[i].n, &to_row[i]);
		}
		for (size_t i = 0; r == 0 && i < p->operand[side]->rows.n; i++)
			p->map[side][i] = to_row[p->map[side][i]];
	}
	rows_done(&sides[0]);
	rows_done(&sides[1]);
	free(to_row);
	for (int side = 0; r == 0 && side < 2; side++) {
		p->pair[side] = calloc(p->rows.n + 1, sizeof(size_t));
		if (!p->pair[side])
			r = query_out_of_memory(e);
	}
	return r;
}

static int plan_rows(struct evaluation *e, struct plan *p)
{
	const struct node *n = p->node;
	int r;

	switch (n->kind) {
	case NODE_SELECTOR:
		return query_read_samples(e, p, n, false);
	case NODE_CALL:
		if (n->operand[0]->type == TYPE_RANGE)
			return query_read_samples(e, p, n->operand[0], true);
		r = map_rows(e, p, 0, &p->rows);
		return r == 0 && n->call == CALL_QUANTILE ? find_buckets(e, p) : r;
	case NODE_AGGREGATE:
		return plan_aggregate(e, p);
	case NODE_BINARY:
		return p->operand[0] && p->operand[1] ? plan_pairs(e, p)
						      : map_rows(e, p, p->operand[0] ? 0 : 1, &p->rows);
	case NODE_NEGATE:
		return map_rows(e, p, 0, &p->rows);
	case NODE_NUMBER:
		break;
	}
	return 0;
}

static int plan_new(struct evaluation *e, const struct node *n, struct plan **ret_plan)
{
	struct plan *p = calloc(1, sizeof(*p));
	int r = 0;

	if (!p)
		return query_out_of_memory(e);
	p->node = n;
	if (n->parameter)
		p->parameter = number_of(n->parameter);
	for (int i = 0; r == 0 && i < 2 && n->operand[i]; i++) {
		if (n->operand[i]->type == TYPE_SCALAR)
			p->number[i] = number_of(n->operand[i]);
		else if (n->operand[i]->type == TYPE_VECTOR)
			r = plan_new(e, n->operand[i], &p->operand[i]);
	}
	if (r == 0)
		r = plan_rows(e, p);
	if (r == 0) {
		p->cells = calloc(p->rows.n + 1, sizeof(*p->cells));
		if (!p->cells)
			r = query_out_of_memory(e);
	}
	if (r < 0) {
		plan_free(p);
		return r;
	}
	*ret_plan = p;
	return 0;
}

static int step_all(struct evaluation *e, struct plan *p, int64_t t_ms)
{
	int r = 0;

	for (int i = 0; r == 0 && i < 2; i++)
		if (p->operand[i])
			r = step_all(e, p->operand[i], t_ms);
	return r < 0 ? r : query_step(e, p, t_ms);
}

static int result_add(struct evaluation *e, struct query_series *s, size_t *cap, int64_t t_ms, double value)
{
	if (s->n == *cap) {
		size_t grown = *cap ? *cap * 2 : 16;
		int64_t *t = reallocarray(s->t_ms, grown, sizeof(*t));
		double *values;

		if (!t)
			return query_out_of_memory(e);
		s->t_ms = t;
		values = reallocarray(s->values, grown, sizeof(*values));
		if (!values)
			return query_out_of_memory(e);
		s->values = values;
		e->bytes += (grown - *cap) * (sizeof(*t) + sizeof(*values));
		*cap = grown;
	}
	s->t_ms[s->n] = t_ms;
	s->values[s->n++] = value;
	return 0;
}

static int run_steps(struct evaluation *e, struct plan *p, struct query_result *result, size_t *caps)
{
	int r = 0;

	for (size_t step = 0; r == 0 && step < e->n_steps; step++) {
		int64_t t = e->start_ms + (int64_t)step * e->step_ms;

		r = step_all(e, p, t);
		for (size_t i = 0; r == 0 && i < p->rows.n; i++) {
			if (p->cells[i].kind == CELL_HIST)
				return error_set(e->error, -EINVAL,
						 "the result is a histogram; "
						 "wrap it in histogram_quantile, histogram_count or histogram_sum");
			if (p->cells[i].kind == CELL_FLOAT)
				r = result_add(e, &result->series[i], &caps[i], t, p->cells[i].value);
		}
		if (r == 0)
			r = query_check_limits(e);
	}
	return r;
}

static int compare_series(const void *a, const void *b)
{
	const struct query_series *x = a, *y = b;

	return label_set_compare(&(struct label_set){x->labels, x->n_labels},
				 &(struct label_set){y->labels, y->n_labels});
}

static void series_done(struct query_series *s)
{
	free(s->labels);
	free(s->t_ms);
	free(s->values);
}

/* Without the rows that never had a value, in the order of their labels. The rows' labels become the result's. */
static void finish_result(struct query_result *result, struct rows *rows)
{
	size_t kept = 0;

	for (size_t i = 0; i < result->n; i++) {
		if (!result->series[i].n) {
			series_done(&result->series[i]);
			continue;
		}
		result->series[kept] = result->series[i];
		result->series[kept].labels = rows->sets[i].labels;
		result->series[kept++].n_labels = rows->sets[i].n;
		rows->sets[i] = (struct label_set){ 0 };
	}
	result->n = kept;
	if (kept)
		qsort(result->series, kept, sizeof(*result->series), compare_series);
}

static int evaluate(struct evaluation *e, struct plan *p, struct query_result *ret_result)
{
	struct query_result result = { calloc(p->rows.n + 1, sizeof(*result.series)), p->rows.n };
	size_t *caps = calloc(p->rows.n + 1, sizeof(*caps));
	int r = result.series && caps ? run_steps(e, p, &result, caps) : query_out_of_memory(e);

	free(caps);
	if (r < 0) {
		result.n = result.series ? result.n : 0;
		query_result_done(&result);
		return r;
	}
	finish_result(&result, &p->rows);
	*ret_result = result;
	return 0;
}

/* A number is one series without labels, with the same value at every step. */
static int evaluate_number(struct evaluation *e, const struct node *n, struct query_result *ret_result)
{
	struct query_result result = { calloc(1, sizeof(*result.series)), 1 };
	double value = number_of(n);
	size_t cap = 0;
	int r = 0;

	if (!result.series)
		return query_out_of_memory(e);
	for (size_t i = 0; r == 0 && i < e->n_steps; i++)
		r = result_add(e, &result.series[0], &cap, e->start_ms + (int64_t)i * e->step_ms, value);
	if (r < 0)
		query_result_done(&result);
	else
		*ret_result = result;
	return r;
}

void query_result_done(struct query_result *result)
{
	for (size_t i = 0; i < result->n; i++)
		series_done(&result->series[i]);
	free(result->series);
	*result = (struct query_result){ 0 };
}

static int check_range(int64_t start_ms, int64_t end_ms, int64_t step_ms, struct error *ret_error)
{
	if (start_ms < -TIME_MAX_MS || end_ms > TIME_MAX_MS)
		return error_set(ret_error, -EINVAL, "the start or the end is not a time in milliseconds");
	if (end_ms < start_ms)
		return error_set(ret_error, -EINVAL, "the end is before the start");
	if (end_ms > start_ms && step_ms <= 0)
		return error_set(ret_error, -EINVAL, "the step must be greater than 0");
	if (end_ms > start_ms && (end_ms - start_ms) / step_ms >= QUERY_POINTS_MAX)
		return error_set(ret_error, -EINVAL, "the range has more than %d steps; use a longer step",
				 QUERY_POINTS_MAX);
	return 0;
}

int query_eval(const struct query *query, struct store *store, int64_t start_ms, int64_t end_ms, int64_t step_ms,
	       const struct query_options *options, struct query_result *ret_result, struct error *ret_error)
{
	struct evaluation e = { .store = store, .start_ms = start_ms, .end_ms = end_ms, .step_ms = 1, .n_steps = 1,
				.lookback_ms = QUERY_LOOKBACK_MS, .time_max_ns = QUERY_TIME_MAX_NS, .error = ret_error };
	struct plan *plan = NULL;
	int r = check_range(start_ms, end_ms, step_ms, ret_error);

	if (r < 0)
		return r;
	if (options && options->lookback_ms)
		e.lookback_ms = options->lookback_ms;
	if (options && options->time_max_ns)
		e.time_max_ns = options->time_max_ns;
	e.deadline = (mono_time){ mono_now().ns + e.time_max_ns };
	if (end_ms > start_ms) {
		e.step_ms = step_ms;
		e.n_steps = (size_t)((end_ms - start_ms) / step_ms) + 1;
		e.end_ms = start_ms + (int64_t)(e.n_steps - 1) * step_ms;
	}
	if (query->root->type == TYPE_SCALAR)
		return evaluate_number(&e, query->root, ret_result);
	hist_init(&e.hist, HIST_SCHEMA, 0);
	r = plan_new(&e, query->root, &plan);
	if (r == 0)
		r = evaluate(&e, plan, ret_result);
	plan_free(plan);
	hist_done(&e.hist);
	return r;
}
