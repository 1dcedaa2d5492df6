/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A query that is being evaluated: one plan per node that yields series. First
 * every plan gets its rows (all label sets it can ever have here) and, for
 * selectors, the samples of the whole time range, each series read once. Then the
 * steps: each plan fills one cell per row from its operands' cells. So memory
 * is samples + rows, whatever the number of steps.
 *
 * query_eval.c       planning, the loop over the steps, the result
 * query_samples.c    reading the samples of selectors
 * query_functions.c  what is computed in a step
 */
#pragma once
#include "lib/buffer.h"
#include "lib/clock.h"
#include "server/query_ast.h"
#include "server/query_rows.h"

#define QUERY_MEMORY_MAX (256u << 20) /* bytes of samples and result values */
#define QUERY_ROWS_MAX 100000         /* over all nodes of one query */

/* The increase of a histogram over a window is whole counts; how they are extrapolated (and divided by the
 * window) concerns only their number and their sum, never a quantile, so those two are kept beside them. */
enum cell_kind { CELL_NONE, CELL_FLOAT, CELL_HIST, CELL_MIXED /* sum of both: PromQL has no value for it */ };
struct cell {
	enum cell_kind kind;
	double value;
	struct hist hist; /* initialised from the first use as CELL_HIST on; reused */
	double count, sum;
};

enum sample_kind { SAMPLE_FLOAT, SAMPLE_STALE, SAMPLE_HIST, SAMPLE_HIST_SKIPPED /* no step needs it */ };
struct sample {
	int64_t t_ms;
	union { double value; size_t blob; }; /* offset in blobs */
	uint32_t kind, blob_len;
};
/* In a range, a histogram is stored as the sum of all increases since the first sample, so that resets are dealt with.
 */
struct samples {
	struct sample *at;
	size_t n, cap;
	struct buffer blobs;
	bool has_resets, has_floats, has_hists;
	size_t low, high; /* the window of the current step: at[low..high) */
};

struct bucket { size_t group, row; double upper; }; /* of a classic histogram; row of the operand */

struct plan {
	const struct node *node;
	struct plan *operand[2]; /* NULL where the operand is a number */
	double number[2];        /* then this */
	double parameter;
	struct rows rows;
	struct cell *cells;      /* one per row */
	size_t *map[2];          /* operand's row -> row of ours (or group); SIZE_MAX: none */
	struct samples *samples; /* selectors and rate: one per series found */
	size_t n_samples;
	size_t *series_row;      /* series found -> row */
	double *counts;          /* aggregates: operands of each row in this step */
	size_t *order;           /* topk: scratch, the operand's rows that have a value */
	struct bucket *buckets;  /* classic histograms, sorted by group and bound */
	size_t n_buckets;
	double *scratch;         /* their bounds and counts in one step */
	size_t *pair[2];         /* BINARY: the operands' rows that meet in each row in this step */
};

struct evaluation {
	struct store *store;
	int64_t start_ms, end_ms, step_ms; /* step > 0 */
	size_t n_steps;
	size_t bytes, n_rows;              /* used of the limits */
	int64_t lookback_ms;
	uint64_t time_max_ns;
	mono_time deadline;
	struct hist hist;                  /* scratch */
	struct error *error;
};

int query_out_of_memory(struct evaluation *e);
int query_too_long(struct evaluation *e);
int query_check_limits(struct evaluation *e);
int query_add_row(struct evaluation *e, struct rows *rows, const struct label *labels, size_t n, size_t *ret_row);

/* query_samples.c: fills plan->rows, samples and series_row. drop_name: the rows are for rate and increase. */
int query_read_samples(struct evaluation *e, struct plan *plan, const struct node *selector, bool drop_name);
void query_samples_done(struct samples *samples);

/* query_functions.c: fills the cells for time t_ms from the operands' cells, which are filled. */
int query_step(struct evaluation *e, struct plan *plan, int64_t t_ms);
