/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exponential histogram in memory; its stored form is hist_codec.c.
 *
 * A boundary is 2^octave * 2^(k / 2^schema) with 0 <= k < 2^schema. The
 * fraction comes from exp2() of an exact argument and the octave from ldexp(),
 * so whole octaves are exact and k / 2^schema gives one double however it is
 * written (4/8 or 1/2). Observations are sorted in by comparing with these same
 * doubles, never by a rounded logarithm alone, so a boundary value lands in the
 * bucket whose (inclusive) upper bound it is.
 *
 * Going from schema s to s - d joins 2^d buckets: index i becomes
 * ceil(i / 2^d), because upper bounds are inclusive. It is written
 * ((i - 1) >> d) + 1; the shift rounds towards minus infinity also for negative
 * indices (gcc and clang define it so).
 *
 * Zero buckets of different width and counter resets are treated as Prometheus
 * treats them in its FloatHistogram, so both give the same answers.
 */
#include "lib/hist.h"

#include <assert.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define OCTAVE_MIN (-1074) /* 2^-1074 is the smallest double */
#define OCTAVE_MAX 1024    /* the largest is just below 2^1024 */
#define CAP_MIN 16         /* buckets: two octaves of schema 3, what one peer's RTT usually needs */

static uint64_t add_saturating(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static int64_t index_reduce(int64_t index, int d)
{
	return ((index - 1) >> d) + 1;
}

/* The boundary at 2^octave in indices of `schema`, rounded up where it is none (schema < 0). */
static int64_t octave_index(int32_t schema, int64_t octave)
{
	return schema >= 0 ? octave * ((int64_t)1 << schema) : index_reduce(octave, -schema);
}

static double boundary_fraction(int32_t schema, int64_t k)
{
	return exp2(ldexp((double)k, -schema));
}

double hist_bucket_upper(int32_t schema, int32_t index)
{
	int64_t octave, k = 0, max = octave_index(schema, OCTAVE_MAX);

	if (index >= max)
		return index == max ? DBL_MAX : INFINITY;
	if (schema >= 0) {
		octave = (int64_t)index >> schema;
		k = index - octave * ((int64_t)1 << schema);
	} else {
		octave = (int64_t)index * ((int64_t)1 << -schema);
	}
	if (octave < 2 * OCTAVE_MIN) /* far below the smallest double; ldexp takes an int */
		return 0;
	return ldexp(boundary_fraction(schema, k), (int)octave);
}

int32_t hist_bucket_index(int32_t schema, double seconds)
{
	int exponent;
	double f = 2 * frexp(seconds, &exponent); /* seconds = f * 2^octave, 1 <= f < 2 */
	int64_t octave = exponent - 1, k;

	if (schema <= 0)
		return (int32_t)octave_index(schema, octave + (f > 1));
	k = (int64_t)ceil(ldexp(log2(f), schema));
	/* log2 is off by a rounding error at most, so these loops take one step at most. */
	while (k > 0 && f <= boundary_fraction(schema, k - 1))
		k--;
	while (f > boundary_fraction(schema, k))
		k++;
	return (int32_t)(octave_index(schema, octave) + k);
}

double hist_relative_error(int32_t schema)
{
	return expm1(M_LN2 * ldexp(0.5, -schema));
}

bool hist_parameters_valid(int64_t schema, double zero_threshold)
{
	return schema >= HIST_SCHEMA_MIN && schema <= HIST_SCHEMA_MAX && isfinite(zero_threshold) && zero_threshold >= 0;
}

void hist_init(struct hist *h, int32_t schema, double zero_threshold)
{
	assert(hist_parameters_valid(schema, zero_threshold));
	*h = (struct hist){ .schema = schema, .zero_threshold = zero_threshold };
}

void hist_done(struct hist *h)
{
	free(h->buckets);
	*h = (struct hist){ .schema = h->schema, .zero_threshold = h->zero_threshold };
}

void hist_clear(struct hist *h)
{
	h->first = 0;
	h->n = 0;
	h->zero_count = 0;
	h->count = 0;
	h->sum = 0;
}

/* Room for n buckets; the window stays as it is. */
static int reserve(struct hist *h, uint32_t n)
{
	uint32_t cap = h->cap ? h->cap : CAP_MIN;
	uint64_t *buckets;

	if (n > HIST_WINDOW_MAX)
		return -ERANGE;
	if (n <= h->cap)
		return 0;
	while (cap < n)
		cap *= 2;
	buckets = realloc(h->buckets, cap * sizeof(*buckets));
	if (!buckets)
		return -ENOMEM;
	h->buckets = buckets;
	h->cap = cap;
	return 0;
}

/* Buckets that a window needs to hold both h's and low..high. */
static uint64_t window_width(const struct hist *h, int64_t low, int64_t high)
{
	if (h->n > 0) {
		if (h->first < low)
			low = h->first;
		if ((int64_t)h->first + h->n - 1 > high)
			high = (int64_t)h->first + h->n - 1;
	}
	return (uint64_t)(high - low + 1);
}

/* Grows the window by empty buckets until it holds `index`. */
static int window_extend(struct hist *h, int32_t index)
{
	uint64_t width = window_width(h, index, index);
	uint32_t left;
	int r;

	if (width == h->n)
		return 0;
	if (width > HIST_WINDOW_MAX)
		return -ERANGE;
	r = reserve(h, (uint32_t)width);
	if (r < 0)
		return r;
	if (h->n == 0)
		h->first = index;
	left = index < h->first ? (uint32_t)(h->first - index) : 0;
	if (left > 0) {
		memmove(h->buckets + left, h->buckets, h->n * sizeof(*h->buckets));
		memset(h->buckets, 0, left * sizeof(*h->buckets));
		h->first = index;
	}
	memset(h->buckets + left + h->n, 0, (width - left - h->n) * sizeof(*h->buckets));
	h->n = (uint32_t)width;
	return 0;
}

/* Restores the invariant that the outermost buckets are not empty. */
static void window_trim(struct hist *h)
{
	uint32_t left = 0;

	while (h->n > 0 && h->buckets[h->n - 1] == 0)
		h->n--;
	while (left < h->n && h->buckets[left] == 0)
		left++;
	if (left > 0) {
		memmove(h->buckets, h->buckets + left, (h->n - left) * sizeof(*h->buckets));
		h->first += (int32_t)left;
		h->n -= left;
	}
	if (h->n == 0)
		h->first = 0;
}

static uint64_t bucket_count(const struct hist *h, int64_t index)
{
	return index >= h->first && index < (int64_t)h->first + h->n ? h->buckets[index - h->first] : 0;
}

/* Adds to a bucket only, not to count. */
static int bucket_add(struct hist *h, int32_t index, uint64_t count)
{
	uint64_t *bucket;
	int r = window_extend(h, index);

	if (r < 0)
		return r;
	bucket = &h->buckets[index - h->first];
	*bucket = add_saturating(*bucket, count);
	return 0;
}

int hist_copy(struct hist *to, const struct hist *from)
{
	int r;

	if (to == from)
		return 0;
	r = reserve(to, from->n);
	if (r < 0)
		return r;
	to->schema = from->schema;
	to->first = from->first;
	to->n = from->n;
	if (from->n > 0)
		memcpy(to->buckets, from->buckets, from->n * sizeof(*from->buckets));
	to->zero_threshold = from->zero_threshold;
	to->zero_count = from->zero_count;
	to->count = from->count;
	to->sum = from->sum;
	return 0;
}

int hist_add_bucket(struct hist *h, int32_t index, uint64_t count)
{
	int r;

	if (index < octave_index(h->schema, OCTAVE_MIN) || index > octave_index(h->schema, OCTAVE_MAX) + 1)
		return -ERANGE;
	if (count == 0)
		return 0;
	r = bucket_add(h, index, count);
	if (r < 0)
		return r;
	h->count = add_saturating(h->count, count);
	return 0;
}

void hist_add_zero(struct hist *h, uint64_t count)
{
	h->zero_count = add_saturating(h->zero_count, count);
	h->count = add_saturating(h->count, count);
}

int hist_observe(struct hist *h, double seconds)
{
	int r;

	if (!isfinite(seconds) || seconds < 0)
		return -EINVAL;
	if (seconds <= h->zero_threshold) {
		hist_add_zero(h, 1);
	} else {
		r = hist_add_bucket(h, hist_bucket_index(h->schema, seconds), 1);
		if (r < 0)
			return r;
	}
	h->sum += seconds;
	return 0;
}

int hist_reduce(struct hist *h, int32_t schema)
{
	int d = h->schema - schema;
	int64_t first = index_reduce(h->first, d < 0 ? 0 : d), slot = -1;

	if (d < 0 || schema < HIST_SCHEMA_MIN)
		return -EINVAL;
	if (d == 0)
		return 0;
	/* In place: the slot that is written never overtakes the one that is read. */
	for (uint32_t i = 0; i < h->n; i++) {
		int64_t to = index_reduce((int64_t)h->first + i, d) - first;

		h->buckets[to] = to > slot ? h->buckets[i] : add_saturating(h->buckets[to], h->buckets[i]);
		slot = to;
	}
	h->schema = schema;
	h->first = h->n > 0 ? (int32_t)first : 0;
	h->n = (uint32_t)(slot + 1);
	return 0;
}

/* The threshold h gets when it must be at least `threshold`: no bucket with observations may be cut. */
static double zero_threshold_fit(const struct hist *h, double threshold)
{
	int32_t index;

	if (threshold <= h->zero_threshold)
		return h->zero_threshold;
	index = hist_bucket_index(h->schema, threshold);
	return bucket_count(h, index) > 0 ? hist_bucket_upper(h->schema, index) : threshold;
}

/* The last bucket that a zero bucket of this threshold, larger than h's own, swallows. */
static int64_t zero_last_index(const struct hist *h, double threshold)
{
	return threshold > h->zero_threshold ? hist_bucket_index(h->schema, threshold) : INT64_MIN;
}

/* threshold: one that zero_threshold_fit returned. */
static void zero_widen(struct hist *h, double threshold)
{
	int64_t last = zero_last_index(h, threshold);

	for (uint32_t i = 0; i < h->n && (int64_t)h->first + i <= last; i++) {
		h->zero_count = add_saturating(h->zero_count, h->buckets[i]);
		h->buckets[i] = 0;
	}
	h->zero_threshold = threshold;
	window_trim(h);
}

int hist_merge(struct hist *to, const struct hist *from)
{
	int32_t schema = to->schema < from->schema ? to->schema : from->schema;
	int to_d = to->schema - schema, from_d = from->schema - schema, r;
	double threshold = fmax(to->zero_threshold, from->zero_threshold), fitted;
	int64_t low, high, zero_last;
	uint64_t width = to->n;

	/* Each side's fit can cut a bucket of the other; it only rises, over finitely many boundaries. */
	while ((fitted = zero_threshold_fit(from, zero_threshold_fit(to, threshold))) > threshold)
		threshold = fitted;
	zero_last = zero_last_index(from, threshold);

	/* Whatever can fail comes before the first change. */
	if (from->n > 0) {
		struct hist reduced = { .first = (int32_t)index_reduce(to->first, to_d) };

		if (to->n > 0)
			reduced.n = (uint32_t)(index_reduce((int64_t)to->first + to->n - 1, to_d) - reduced.first + 1);
		low = index_reduce(from->first, from_d);
		high = index_reduce((int64_t)from->first + from->n - 1, from_d);
		width = window_width(&reduced, low, high);
	}
	if (width > HIST_WINDOW_MAX)
		return -ERANGE;
	r = reserve(to, (uint32_t)width);
	if (r < 0)
		return r;

	zero_widen(to, threshold);
	hist_reduce(to, schema);
	to->zero_count = add_saturating(to->zero_count, from->zero_count);
	for (uint32_t i = 0; i < from->n; i++) {
		int64_t index = (int64_t)from->first + i;

		if (from->buckets[i] == 0)
			continue;
		if (index <= zero_last)
			to->zero_count = add_saturating(to->zero_count, from->buckets[i]);
		else
			r = bucket_add(to, (int32_t)index_reduce(index, from_d), from->buckets[i]);
		assert(r == 0);
	}
	to->count = add_saturating(to->count, from->count);
	to->sum += from->sum;
	return 0;
}

/* Same schema, same threshold. */
static int subtract_aligned(struct hist *h, const struct hist *earlier)
{
	if (h->zero_count < earlier->zero_count)
		return HIST_E_RESET;
	for (uint32_t i = 0; i < earlier->n; i++)
		if (bucket_count(h, (int64_t)earlier->first + i) < earlier->buckets[i])
			return HIST_E_RESET;
	h->zero_count -= earlier->zero_count;
	for (uint32_t i = 0; i < earlier->n; i++)
		if (earlier->buckets[i] > 0)
			h->buckets[(int64_t)earlier->first + i - h->first] -= earlier->buckets[i];
	h->sum -= earlier->sum;
	/* Added up anew: the old count may have been saturated. */
	h->count = h->zero_count;
	for (uint32_t i = 0; i < h->n; i++)
		h->count = add_saturating(h->count, h->buckets[i]);
	if (h->count == 0)
		h->sum = 0; /* without the rounding error that subtracting leaves */
	window_trim(h);
	return 0;
}

int hist_subtract(struct hist *h, const struct hist *earlier)
{
	struct hist aligned = { 0 };
	int r;

	if (h->schema > earlier->schema || h->zero_threshold < earlier->zero_threshold)
		return HIST_E_RESET;
	if (h->schema == earlier->schema && h->zero_threshold == earlier->zero_threshold)
		return subtract_aligned(h, earlier);
	if (zero_threshold_fit(earlier, h->zero_threshold) != h->zero_threshold)
		return HIST_E_RESET;
	r = hist_copy(&aligned, earlier);
	if (r == 0) {
		zero_widen(&aligned, h->zero_threshold);
		hist_reduce(&aligned, h->schema);
		r = subtract_aligned(h, &aligned);
	}
	hist_done(&aligned);
	return r;
}

double hist_quantile(const struct hist *h, double q)
{
	uint64_t rank, seen = h->zero_count;
	uint32_t i = 0;
	double exact;

	if (!(q >= 0 && q <= 1) || h->count == 0)
		return NAN;
	exact = ceil(q * (double)h->count);
	rank = exact < 1 ? 1 : exact >= (double)h->count ? h->count : (uint64_t)exact;
	if (rank <= seen || h->n == 0)
		return h->zero_threshold / 2;
	for (; i < h->n - 1; i++) {
		seen = add_saturating(seen, h->buckets[i]);
		if (seen >= rank)
			break;
	}
	/* The middle of bucket i is a boundary of the next finer schema. */
	return hist_bucket_upper(h->schema + 1, 2 * (h->first + (int32_t)i) - 1);
}

uint64_t hist_count_below(const struct hist *h, double bound)
{
	uint64_t count = h->zero_count;
	int64_t last;

	if (isnan(bound) || bound < h->zero_threshold)
		return 0;
	if (bound > DBL_MAX)
		return h->count;
	if (bound == 0)
		return count;
	last = hist_bucket_index(h->schema, bound);
	if (hist_bucket_upper(h->schema, (int32_t)last) > bound)
		last--;
	for (uint32_t i = 0; i < h->n && (int64_t)h->first + i <= last; i++)
		count = add_saturating(count, h->buckets[i]);
	return count;
}
