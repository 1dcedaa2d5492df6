/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/ping_samples.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROOM_FIRST 16

/* Coarser when the window would be too wide: never without an answer. */
static void observe(struct ping_samples *s, int64_t ns)
{
	struct hist *h = ns < 0 ? &s->negative : &s->positive;
	double seconds = fabs((double)ns) / 1e9;
	int r = hist_observe(h, seconds);

	while (r == -ERANGE && h->schema > HIST_SCHEMA_MIN && !hist_reduce(h, h->schema - 1))
		r = hist_observe(h, seconds);
	s->unkept += r < 0;
}

/* From values to histograms; what they took is free for others. */
static void spill(struct ping_samples *s, uint64_t kept, size_t *allowance)
{
	hist_init(&s->positive, PING_SAMPLES_SCHEMA, 0);
	hist_init(&s->negative, PING_SAMPLES_SCHEMA, 0);
	s->spilled = true;
	for (uint64_t i = 0; i < kept; i++)
		observe(s, s->values[i]);
	if (allowance)
		*allowance += kept;
	free(s->values);
	s->values = NULL;
	s->room = 0;
}

static bool make_room(struct ping_samples *s, uint64_t wanted)
{
	size_t room = s->room ? s->room : ROOM_FIRST;
	int64_t *grown;

	if (wanted <= s->room)
		return true;
	while (room < wanted)
		room *= 2;
	grown = reallocarray(s->values, room, sizeof(*s->values));
	if (!grown)
		return false;
	s->values = grown;
	s->room = room;
	return true;
}

static void extend(struct ping_samples *s, int64_t min_ns, int64_t max_ns)
{
	if (!s->n || min_ns < s->min_ns)
		s->min_ns = min_ns;
	if (!s->n || max_ns > s->max_ns)
		s->max_ns = max_ns;
}

void ping_samples_add(struct ping_samples *s, int64_t ns, size_t *allowance)
{
	double distance = (double)ns - s->mean_ns;

	extend(s, ns, ns);
	if (!s->spilled && (!*allowance || !make_room(s, s->n + 1)))
		spill(s, s->n, allowance);
	if (s->spilled) {
		observe(s, ns);
	} else {
		s->values[s->n] = ns;
		--*allowance;
	}
	s->n++;
	s->mean_ns += distance / (double)s->n;
	s->squares_ns += distance * ((double)ns - s->mean_ns);
	s->sorted = false;
}

static void merge_values(struct ping_samples *to, const struct ping_samples *from)
{
	if (!to->spilled && (from->spilled || !make_room(to, to->n + from->n)))
		spill(to, to->n, NULL);
	if (!to->spilled) {
		memcpy(to->values + to->n, from->values, from->n * sizeof(*from->values));
		return;
	}
	to->unkept += from->unkept;
	if (from->spilled) {
		if (hist_merge(&to->positive, &from->positive) < 0)
			to->unkept += from->positive.count;
		if (hist_merge(&to->negative, &from->negative) < 0)
			to->unkept += from->negative.count;
		return;
	}
	for (uint64_t i = 0; i < from->n; i++)
		observe(to, from->values[i]);
}

void ping_samples_merge(struct ping_samples *to, const struct ping_samples *from)
{
	double distance = from->mean_ns - to->mean_ns, n = (double)to->n + (double)from->n;

	if (!from->n)
		return;
	extend(to, from->min_ns, from->max_ns);
	merge_values(to, from);
	to->squares_ns += from->squares_ns + distance * distance * (double)to->n * (double)from->n / n;
	to->mean_ns += distance * (double)from->n / n;
	to->n += from->n;
	to->sorted = false;
}

void ping_samples_done(struct ping_samples *s)
{
	free(s->values);
	if (s->spilled) {
		hist_done(&s->positive);
		hist_done(&s->negative);
	}
	*s = (struct ping_samples){ 0 };
}

static int compare(const void *left, const void *right)
{
	int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;

	return (a > b) - (a < b);
}

static void sort(struct ping_samples *s)
{
	if (!s->sorted && s->n)
		qsort(s->values, s->n, sizeof(*s->values), compare);
	s->sorted = true;
}

static double clamp(double value, double low, double high)
{
	return value < low ? low : value > high ? high : value;
}

/* The middle of a rank's share, so that no rounding takes its neighbour. */
static double of_rank(const struct hist *h, uint64_t rank)
{
	return hist_quantile(h, ((double)rank - 0.5) / (double)h->count) * 1e9;
}

double ping_samples_quantile(struct ping_samples *s, double q)
{
	uint64_t n = s->spilled ? s->negative.count + s->positive.count : s->n;
	uint64_t rank = (uint64_t)ceil(q * (double)n);
	double value;

	if (!n || !(q >= 0 && q <= 1))
		return NAN;
	rank = rank < 1 ? 1 : rank > n ? n : rank;
	if (!s->spilled) {
		sort(s);
		return (double)s->values[rank - 1];
	}
	if (rank <= s->negative.count)
		value = -of_rank(&s->negative, s->negative.count - rank + 1);
	else
		value = of_rank(&s->positive, rank - s->negative.count);
	return clamp(value, (double)s->min_ns, (double)s->max_ns);
}

double ping_samples_deviation(const struct ping_samples *s)
{
	return s->n < 2 ? NAN : sqrt(s->squares_ns / (double)(s->n - 1));
}

double ping_samples_error(const struct ping_samples *s)
{
	int32_t schema;

	if (!s->spilled)
		return 0;
	schema = s->positive.schema < s->negative.schema ? s->positive.schema : s->negative.schema;
	return hist_relative_error(schema);
}

/* How many values are below. */
static uint64_t rank_of(const struct ping_samples *s, double ns)
{
	uint64_t low = 0, high = s->n;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if ((double)s->values[middle] < ns)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static uint64_t buckets_between(const struct hist *h, double sign, double from_ns, double to_ns)
{
	uint64_t n = from_ns <= 0 && to_ns > 0 ? h->zero_count : 0;

	for (uint32_t i = 0; i < h->n; i++) {
		double upper = hist_bucket_upper(h->schema, h->first + (int32_t)i), lower = hist_bucket_upper(h->schema, h->first + (int32_t)i - 1);
		double middle = sign * sqrt(lower * upper) * 1e9;

		if (middle >= from_ns && middle < to_ns)
			n += h->buckets[i];
	}
	return n;
}

uint64_t ping_samples_between(struct ping_samples *s, double from_ns, double to_ns)
{
	if (s->spilled)
		return buckets_between(&s->positive, 1, from_ns, to_ns) + buckets_between(&s->negative, -1, from_ns, to_ns);
	sort(s);
	return rank_of(s, to_ns) - rank_of(s, from_ns);
}
