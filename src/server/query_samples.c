/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading what the selectors of a query need: every series once, over the whole
 * range of the query and its window.
 *
 * Histograms are large, so one is kept (encoded) only when some step uses it: as
 * the last one not later than the step, or as the first one of its window. For
 * rate and increase they are first turned into a counter without resets: the sum
 * of the increases so far, where a reset adds the new histogram as a whole, which
 * is what Prometheus' rate amounts to. Then a window's increase is its last
 * minus its first.
 */
#include "server/query_plan.h"
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct reading {
	struct evaluation *e;
	struct samples *samples;
	int64_t range_ms;          /* 0: instant selector */
	struct hist total, previous, increase;
	bool any_hist;
	int64_t before_ms;         /* time of the sample before the last one; INT64_MIN: none */
	int r;
};

/* How many steps are not later than t. */
static int64_t steps_until(const struct evaluation *e, int64_t t_ms)
{
	if (t_ms >= e->end_ms) /* end_ms is the last step */
		return (int64_t)e->n_steps;
	return t_ms < e->start_ms ? 0 : (t_ms - e->start_ms) / e->step_ms + 1;
}

/* Whether a step uses the last sample read, given when the next one comes. */
static bool is_used(const struct reading *rd, int64_t next_ms)
{
	const struct evaluation *e = rd->e;
	int64_t t = rd->samples->at[rd->samples->n - 1].t_ms;

	if (steps_until(e, next_ms - 1) > steps_until(e, t - 1))
		return true;
	if (!rd->range_ms)
		return false;
	return rd->before_ms == INT64_MIN ||
	       steps_until(e, t + rd->range_ms) > steps_until(e, rd->before_ms + rd->range_ms);
}

/* Now that the next sample's time is known: keep or skip the last one's histogram. */
static int settle(struct reading *rd, int64_t next_ms)
{
	struct samples *s = rd->samples;
	struct sample *last;
	size_t before;
	int r;

	if (!s->n)
		return 0;
	last = &s->at[s->n - 1];
	if (last->kind == SAMPLE_HIST_SKIPPED && is_used(rd, next_ms)) {
		before = s->blobs.len;
		r = hist_encode(&rd->total, &s->blobs);
		if (r < 0)
			return r;
		last->kind = SAMPLE_HIST;
		last->blob = before;
		last->blob_len = (uint32_t)(s->blobs.len - before);
		rd->e->bytes += last->blob_len;
	}
	rd->before_ms = last->t_ms;
	return 0;
}

/* rd->total: what is stored for this sample, when it is. */
static int take_hist(struct reading *rd, const struct hist *hist)
{
	int r;

	if (!rd->range_ms)
		return hist_copy(&rd->total, hist);
	if (!rd->any_hist) {
		rd->any_hist = true;
		r = hist_copy(&rd->total, hist);
	} else {
		r = hist_copy(&rd->increase, hist);
		if (r == 0)
			r = hist_subtract(&rd->increase, &rd->previous); /* after a reset all of it is new */
		if (r >= 0)
			r = hist_merge(&rd->total, &rd->increase);
	}
	return r < 0 ? r : hist_copy(&rd->previous, hist);
}

static int add_sample(struct reading *rd, const struct store_point *point)
{
	struct samples *s = rd->samples;
	struct sample *last = s->n ? &s->at[s->n - 1] : NULL;

	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 64;
		struct sample *at = reallocarray(s->at, cap, sizeof(*at));

		if (!at)
			return -ENOMEM;
		rd->e->bytes += (cap - s->cap) * sizeof(*at);
		s->at = at;
		s->cap = cap;
		last = s->n ? &at[s->n - 1] : NULL;
	}
	s->at[s->n] = (struct sample){ .t_ms = point->t_ms, .value = point->value, .kind = SAMPLE_FLOAT };
	if (point->stale) {
		s->at[s->n].kind = SAMPLE_STALE;
	} else if (point->hist) {
		s->at[s->n].kind = SAMPLE_HIST_SKIPPED;
		s->has_hists = true;
	} else {
		s->has_floats = true;
		if (last && last->kind == SAMPLE_FLOAT && point->value < last->value)
			s->has_resets = true;
	}
	s->n++;
	return 0;
}

static int on_point(const struct store_point *point, void *userdata)
{
	struct reading *rd = userdata;
	int r;

	if (point->stale && rd->range_ms)
		return 0; /* only ends instant selectors */
	r = settle(rd, point->t_ms);
	if (r == 0 && point->hist)
		r = take_hist(rd, point->hist);
	if (r == 0)
		r = add_sample(rd, point);
	if (r == 0)
		return rd->samples->n % 256 ? 0 : query_check_limits(rd->e);
	if (r == -ENOMEM)
		return query_out_of_memory(rd->e);
	return error_set(rd->e->error, -EINVAL, "the histograms of a series are too different to be added up");
}

static int read_one(struct evaluation *e, struct samples *samples, uint64_t id, int64_t range_ms)
{
	struct reading rd = { .e = e, .samples = samples, .range_ms = range_ms, .before_ms = INT64_MIN };
	int64_t window = range_ms ? range_ms : e->lookback_ms;
	int r;

	hist_init(&rd.total, HIST_SCHEMA, 0);
	hist_init(&rd.previous, HIST_SCHEMA, 0);
	hist_init(&rd.increase, HIST_SCHEMA, 0);
	r = store_read(e->store, id, e->start_ms - window, e->end_ms, on_point, &rd, e->error);
	if (r == 0 && settle(&rd, INT64_MAX) < 0)
		r = query_out_of_memory(e);
	if (r == 0)
		r = query_check_limits(e);
	hist_done(&rd.total);
	hist_done(&rd.previous);
	hist_done(&rd.increase);
	return r;
}

struct found { uint64_t id; struct label_set labels; };
struct finding { struct evaluation *e; struct found *at; size_t n, cap; struct label *scratch; size_t cap_scratch; };

static int on_series(const struct store_series *series, void *userdata)
{
	struct finding *f = userdata;
	int r;

	if (f->n == QUERY_SERIES_MAX)
		return error_set(f->e->error, -EINVAL, "a selector matches more than %d series; narrow it with labels",
				 QUERY_SERIES_MAX);
	if (f->n == f->cap) {
		size_t cap = f->cap ? f->cap * 2 : 64;
		struct found *at = reallocarray(f->at, cap, sizeof(*at));

		if (!at)
			return query_out_of_memory(f->e);
		f->at = at;
		f->cap = cap;
	}
	if (series->n_labels + 1 > f->cap_scratch) {
		struct label *scratch = reallocarray(f->scratch, series->n_labels + 1, sizeof(*scratch));

		if (!scratch)
			return query_out_of_memory(f->e);
		f->scratch = scratch;
		f->cap_scratch = series->n_labels + 1;
	}
	f->scratch[0] = (struct label){ "__name__", series->name };
	memcpy(f->scratch + 1, series->labels, series->n_labels * sizeof(*f->scratch));
	r = label_set_copy(&f->at[f->n].labels, f->scratch, series->n_labels + 1);
	if (r < 0)
		return query_out_of_memory(f->e);
	f->at[f->n++].id = series->id;
	return 0;
}

static int compare_found(const void *a, const void *b)
{
	return label_set_compare(&((const struct found *)a)->labels, &((const struct found *)b)->labels);
}

static int read_found(struct evaluation *e, struct plan *plan, const struct finding *f, int64_t range_ms,
		      bool drop_name)
{
	int r = 0;

	plan->samples = calloc(f->n + 1, sizeof(*plan->samples));
	plan->series_row = calloc(f->n + 1, sizeof(*plan->series_row));
	if (!plan->samples || !plan->series_row)
		return query_out_of_memory(e);
	plan->n_samples = f->n;
	for (size_t i = 0; r == 0 && i < f->n; i++) {
		r = query_add_row(e, &plan->rows, f->at[i].labels.labels + drop_name, f->at[i].labels.n - drop_name,
				  &plan->series_row[i]);
		if (r == 0)
			r = read_one(e, &plan->samples[i], f->at[i].id, range_ms);
	}
	return r;
}

int query_read_samples(struct evaluation *e, struct plan *plan, const struct node *selector, bool drop_name)
{
	int64_t range = selector->range_ms, window = range ? range : e->lookback_ms;
	struct finding f = { .e = e };
	int r;

	r = store_select(e->store, selector->matchers, selector->n_matchers, e->start_ms - window, e->end_ms, e->deadline,
			 on_series, &f, e->error);
	if (r == -ETIME)
		r = query_too_long(e);
	if (f.n)
		qsort(f.at, f.n, sizeof(*f.at), compare_found);
	if (r == 0)
		r = read_found(e, plan, &f, range, drop_name);
	for (size_t i = 0; i < f.n; i++)
		label_set_done(&f.at[i].labels);
	free(f.at);
	free(f.scratch);
	return r;
}

void query_samples_done(struct samples *samples)
{
	free(samples->at);
	buffer_done(&samples->blobs);
}
