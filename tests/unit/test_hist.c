/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The histogram in memory: that boundaries are sorted in rightly, that merging,
 * reducing and subtracting lose nothing, and that quantiles keep their promised
 * error against the exact order statistics of random samples.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/hist.h"

#define SEED 20260731u
#define N_SAMPLES 20000

static uint64_t random_state;

static uint64_t random_u64(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static double random_unit(void) /* 0 < x <= 1 */
{
	return (double)((random_u64() >> 11) + 1) * 0x1p-53;
}

static double random_normal(void)
{
	return sqrt(-2 * log(random_unit())) * cos(2 * M_PI * random_unit());
}

static double lognormal(void) { return fmin(fmax(exp(log(5e-3) + 2 * random_normal()), 1e-6), 1e4); }
static double uniform(void) { return 1e-6 + random_unit() * 0.2; }
static double bimodal(void) { return random_u64() % 3 ? 50e-6 * (1 + random_unit()) : 3 * (1 + random_unit()); }
static double log_uniform(void) { return 1e-6 * pow(10, 10 * random_unit()); } /* 1e-6 .. 1e4 */
static double constant(void) { return 0.25; }

static uint64_t bucket(const struct hist *h, int64_t index)
{
	return index >= h->first && index < (int64_t)h->first + h->n ? h->buckets[index - h->first] : 0;
}

static void assert_sound(const struct hist *h)
{
	uint64_t total = h->zero_count;

	for (uint32_t i = 0; i < h->n; i++)
		if (__builtin_add_overflow(total, h->buckets[i], &total))
			total = UINT64_MAX;
	assert_true(total == h->count);
	assert_true(h->n <= h->cap && h->cap <= HIST_WINDOW_MAX);
	if (h->n > 0) {
		assert_true(h->buckets[0] > 0);
		assert_true(h->buckets[h->n - 1] > 0);
	}
}

static void assert_same(const struct hist *a, const struct hist *b)
{
	assert_sound(a);
	assert_sound(b);
	assert_int_equal(a->schema, b->schema);
	assert_int_equal(a->n, b->n);
	if (a->n > 0) {
		assert_int_equal(a->first, b->first);
		assert_memory_equal(a->buckets, b->buckets, a->n * sizeof(*a->buckets));
	}
	assert_true(a->zero_threshold == b->zero_threshold);
	assert_true(a->zero_count == b->zero_count);
	assert_true(a->count == b->count);
}

static void test_boundaries_are_inclusive(void **unused)
{
	for (int32_t s = HIST_SCHEMA_MIN; s <= HIST_SCHEMA_MAX; s++) {
		int32_t from = s >= 0 ? -40 * (1 << s) : -40 / (1 << -s), to = s >= 0 ? 20 * (1 << s) : 20 / (1 << -s);

		for (int32_t i = from; i <= to; i++) {
			double upper = hist_bucket_upper(s, i);

			assert_int_equal(hist_bucket_index(s, upper), i);
			assert_int_equal(hist_bucket_index(s, nextafter(upper, DBL_MAX)), i + 1);
			assert_int_equal(hist_bucket_index(s, nextafter(upper, 0)), i);
		}
	}
}

static void test_powers_of_two_are_exact(void **unused)
{
	for (int32_t s = 0; s <= HIST_SCHEMA_MAX; s++)
		for (int e = -1074; e < 1024; e++) {
			assert_true(hist_bucket_upper(s, e * (1 << s)) == ldexp(1, e));
			assert_int_equal(hist_bucket_index(s, ldexp(1, e)), e * (1 << s));
		}
	for (int32_t s = HIST_SCHEMA_MIN; s < 0; s++)
		for (int i = -20; i <= 20; i++)
			assert_true(hist_bucket_upper(s, i) == ldexp(1, i * (1 << -s)));
	assert_true(hist_bucket_upper(3, 1) == exp2(0.125));
	assert_true(hist_bucket_upper(3, 4) == hist_bucket_upper(1, 1));
	/* The ends of what a double holds. */
	for (int32_t s = HIST_SCHEMA_MIN; s <= HIST_SCHEMA_MAX; s++) {
		int32_t last = hist_bucket_index(s, DBL_MAX);

		assert_true(hist_bucket_upper(s, last) == DBL_MAX);
		assert_true(hist_bucket_upper(s, last - 1) < DBL_MAX);
		assert_true(hist_bucket_upper(s, last + 1) == INFINITY);
		assert_true(hist_bucket_upper(s, INT32_MAX) == INFINITY);
		assert_true(hist_bucket_upper(s, INT32_MIN) == 0);
		assert_true(hist_bucket_upper(s, hist_bucket_index(s, 0x1p-1074)) >= 0x1p-1074);
	}
}

static void test_observe(void **unused)
{
	struct hist h;

	hist_init(&h, 3, 1e-6);
	assert_int_equal(hist_observe(&h, -1e-9), -EINVAL);
	assert_int_equal(hist_observe(&h, NAN), -EINVAL);
	assert_int_equal(hist_observe(&h, INFINITY), -EINVAL);
	assert_true(h.count == 0 && h.sum == 0 && h.n == 0);
	assert_int_equal(hist_observe(&h, 0), 0);
	assert_int_equal(hist_observe(&h, 1e-6), 0);
	assert_int_equal(hist_observe(&h, nextafter(1e-6, 1)), 0);
	assert_int_equal(hist_observe(&h, 1), 0);
	assert_int_equal(hist_observe(&h, 2), 0);
	assert_true(h.zero_count == 2 && h.count == 5);
	assert_true(bucket(&h, 0) == 1 && bucket(&h, 8) == 1);
	assert_true(bucket(&h, hist_bucket_index(3, 1e-6)) == 1);
	assert_true(fabs(h.sum - 3.000002) < 1e-12);
	assert_sound(&h);
	hist_clear(&h);
	assert_true(h.count == 0 && h.sum == 0 && h.zero_threshold == 1e-6 && h.cap > 0);
	hist_done(&h);
}

static void test_window_limits(void **unused)
{
	struct hist h;

	hist_init(&h, 8, 0);
	assert_int_equal(hist_add_bucket(&h, -5, 0), 0);
	assert_int_equal(h.n, 0);
	assert_int_equal(hist_add_bucket(&h, -5, 7), 0);
	assert_int_equal(hist_add_bucket(&h, -5 + HIST_WINDOW_MAX, 1), -ERANGE);
	assert_int_equal(hist_add_bucket(&h, -5 - HIST_WINDOW_MAX, 1), -ERANGE);
	assert_int_equal(hist_add_bucket(&h, -5 - HIST_WINDOW_MAX + 1, 2), 0);
	assert_int_equal(h.n, HIST_WINDOW_MAX);
	assert_int_equal(hist_add_bucket(&h, -4, 1), -ERANGE);
	assert_true(bucket(&h, -5) == 7 && h.count == 9);
	assert_int_equal(hist_observe(&h, 100), -ERANGE);
	assert_true(h.sum == 0);
	assert_sound(&h);
	/* Indices that no double reaches, whatever the window. */
	hist_clear(&h);
	assert_int_equal(hist_add_bucket(&h, INT32_MIN, 1), -ERANGE);
	assert_int_equal(hist_add_bucket(&h, INT32_MAX, 1), -ERANGE);
	assert_int_equal(hist_add_bucket(&h, 1024 * 256 + 2, 1), -ERANGE);
	assert_int_equal(hist_add_bucket(&h, -1074 * 256 - 1, 1), -ERANGE);
	assert_int_equal(hist_add_bucket(&h, 1024 * 256 + 1, 1), 0);
	hist_done(&h);
}

static void test_grows_both_ways(void **unused)
{
	struct hist h;
	uint64_t expected[601] = { 0 };

	random_state = SEED;
	hist_init(&h, 3, 0);
	for (int i = 0; i < 5000; i++) {
		/* Slowly wider, so that the window grows often and on both sides. */
		int32_t reach = 1 + i / 17, index = (int32_t)(random_u64() % (uint32_t)(2 * reach + 1)) - reach;

		assert_int_equal(hist_add_bucket(&h, index, (uint64_t)i), 0);
		expected[index + 300] += (uint64_t)i;
	}
	assert_sound(&h);
	for (int32_t i = -300; i <= 300; i++)
		assert_true(bucket(&h, i) == expected[i + 300]);
	hist_done(&h);
}

static void test_counts_saturate(void **unused)
{
	struct hist h, other;

	hist_init(&h, 3, 0);
	hist_init(&other, 3, 0);
	assert_int_equal(hist_add_bucket(&h, 1, UINT64_MAX - 1), 0);
	assert_int_equal(hist_add_bucket(&h, 1, 5), 0);
	assert_int_equal(hist_add_bucket(&h, 2, 9), 0);
	hist_add_zero(&h, 3);
	assert_true(bucket(&h, 1) == UINT64_MAX && h.count == UINT64_MAX);
	assert_int_equal(hist_copy(&other, &h), 0);
	assert_int_equal(hist_merge(&h, &other), 0);
	assert_true(bucket(&h, 1) == UINT64_MAX && bucket(&h, 2) == 18 && h.count == UINT64_MAX);
	assert_sound(&h);
	assert_true(hist_count_below(&h, 64) == UINT64_MAX);
	assert_true(hist_quantile(&h, 1) > 0);
	assert_int_equal(hist_reduce(&h, 0), 0);
	assert_sound(&h);
	/* What was saturated subtracts to what is left, not to a wrapped count. */
	hist_reduce(&other, 0);
	assert_int_equal(hist_subtract(&h, &other), 0);
	assert_true(h.count == 3 && h.zero_count == 3);
	assert_sound(&h);
	hist_done(&h);
	hist_done(&other);
}

/* Reducing must give what observing with the coarser schema would have given. */
static void test_reduce_equals_observing_coarser(void **unused)
{
	random_state = SEED;
	for (int32_t fine = HIST_SCHEMA_MIN; fine <= HIST_SCHEMA_MAX; fine++) {
		for (int32_t coarse = HIST_SCHEMA_MIN; coarse <= fine; coarse++) {
			struct hist a, b;

			hist_init(&a, fine, 0);
			hist_init(&b, coarse, 0);
			for (int i = 0; i < 400; i++) {
				/* Every fourth a power of two: boundaries of both, on both sides of 1. */
				double v = i % 4 ? 1e-3 * pow(10, 5 * random_unit()) :
						   ldexp(1, (int)(random_u64() % 31) - 15);

				assert_int_equal(hist_observe(&a, v), 0);
				assert_int_equal(hist_observe(&b, v), 0);
			}
			assert_int_equal(hist_reduce(&a, coarse), 0);
			assert_same(&a, &b);
			assert_true(a.sum == b.sum);
			if (coarse < HIST_SCHEMA_MAX)
				assert_int_equal(hist_reduce(&a, coarse + 1), -EINVAL);
			assert_int_equal(hist_reduce(&a, HIST_SCHEMA_MIN - 1), -EINVAL);
			hist_done(&a);
			hist_done(&b);
		}
	}
}

static void test_reduce_by_hand(void **unused)
{
	/* d = 1: 2 -> 1, 1 -> 1, 0 -> 0, -1 -> 0, -2 -> -1, -3 -> -1, -4 -> -2 */
	struct hist h;

	hist_init(&h, 3, 0);
	for (int32_t i = -4; i <= 2; i++)
		assert_int_equal(hist_add_bucket(&h, i, 1u << (i + 4)), 0);
	assert_int_equal(hist_reduce(&h, 2), 0);
	assert_int_equal(h.first, -2);
	assert_int_equal(h.n, 4);
	assert_true(h.buckets[0] == 1 && h.buckets[1] == 2 + 4 && h.buckets[2] == 8 + 16 && h.buckets[3] == 32 + 64);
	hist_done(&h);
}

static void test_merge_equals_observing_all(void **unused)
{
	static const int32_t schemas[][2] = { { 3, 3 }, { 3, 0 }, { 0, 3 }, { 5, -2 }, { -4, 8 }, { 7, 7 } };

	random_state = SEED;
	for (size_t p = 0; p < sizeof(schemas) / sizeof(schemas[0]); p++) {
		int32_t coarse = schemas[p][0] < schemas[p][1] ? schemas[p][0] : schemas[p][1];
		struct hist a, b, all;

		hist_init(&a, schemas[p][0], 1e-3);
		hist_init(&b, schemas[p][1], 1e-3);
		hist_init(&all, coarse, 1e-3);
		for (int i = 0; i < 2000; i++) {
			double v = log_uniform();

			assert_int_equal(hist_observe(random_u64() & 1 ? &a : &b, v), 0);
			assert_int_equal(hist_observe(&all, v), 0);
		}
		assert_int_equal(hist_merge(&a, &b), 0);
		assert_same(&a, &all);
		assert_true(fabs(a.sum / all.sum - 1) < 1e-9);
		hist_done(&a);
		hist_done(&b);
		hist_done(&all);
	}
}

static void test_merge_edges(void **unused)
{
	struct hist a, b, before;

	hist_init(&a, 8, 0);
	hist_init(&b, 8, 0);
	hist_init(&before, 8, 0);
	hist_add_bucket(&a, 0, 1);
	hist_add_bucket(&b, HIST_WINDOW_MAX, 1);
	hist_copy(&before, &a);
	assert_int_equal(hist_merge(&a, &b), -ERANGE);
	assert_same(&a, &before);
	/* At the coarser schema of a third the same two fit. */
	hist_reduce(&b, 5);
	assert_int_equal(hist_merge(&a, &b), 0);
	assert_int_equal(a.schema, 5);
	assert_true(bucket(&a, 0) == 1 && bucket(&a, HIST_WINDOW_MAX / 8) == 1 && a.count == 2);
	/* With itself: doubled. */
	assert_int_equal(hist_merge(&a, &a), 0);
	assert_true(bucket(&a, 0) == 2 && a.count == 4);
	/* Empty ones change nothing but the resolution. */
	hist_clear(&b);
	assert_int_equal(hist_reduce(&b, 2), 0);
	assert_int_equal(hist_merge(&a, &b), 0);
	assert_true(a.schema == 2 && a.count == 4);
	assert_int_equal(hist_merge(&b, &a), 0);
	assert_same(&a, &b);
	hist_done(&a);
	hist_done(&b);
	hist_done(&before);
}

static void test_merge_zero_thresholds(void **unused)
{
	struct hist a, b;

	/* 1 is a boundary: whole buckets up to it move, on either side. */
	for (int swap = 0; swap < 2; swap++) {
		hist_init(&a, 3, 1);
		hist_init(&b, 3, 0.25);
		hist_add_zero(&a, 10);
		hist_add_bucket(&a, 9, 1);
		hist_add_zero(&b, 100);
		hist_add_bucket(&b, -8, 2); /* up to 0.5 */
		hist_add_bucket(&b, 0, 3);  /* up to 1 */
		hist_add_bucket(&b, 1, 4);  /* beyond */
		assert_int_equal(swap ? hist_merge(&b, &a) : hist_merge(&a, &b), 0);
		assert_true((swap ? b : a).zero_threshold == 1 && (swap ? b : a).zero_count == 115);
		assert_true((swap ? b : a).first == 1 && (swap ? b : a).count == 120);
		assert_sound(swap ? &b : &a);
		hist_done(&a);
		hist_done(&b);
	}

	/* 1.01 cuts bucket 1 of b, which has observations: the threshold rises to its upper bound, which then cuts
	 * nothing of a, since a's boundaries are the same. */
	hist_init(&a, 3, 1.01);
	hist_init(&b, 3, 0);
	hist_add_bucket(&a, 1, 5);
	hist_add_bucket(&a, 2, 7);
	hist_add_bucket(&b, 1, 4);
	hist_add_bucket(&b, 3, 6);
	assert_int_equal(hist_merge(&a, &b), 0);
	assert_true(a.zero_threshold == hist_bucket_upper(3, 1));
	assert_true(a.zero_count == 9 && bucket(&a, 2) == 7 && bucket(&a, 3) == 6 && a.count == 22);
	assert_sound(&a);
	hist_done(&a);
	hist_done(&b);

	/* The same with a coarser b, whose upper bound (2) swallows more of a. */
	hist_init(&a, 3, 1.01);
	hist_init(&b, 0, 0);
	hist_add_bucket(&a, 2, 7);
	hist_add_bucket(&a, 9, 1);
	hist_add_bucket(&b, 1, 4);
	assert_int_equal(hist_merge(&a, &b), 0);
	assert_true(a.zero_threshold == 2 && a.zero_count == 11 && a.schema == 0 && bucket(&a, 2) == 1);
	assert_sound(&a);
	hist_done(&a);
	hist_done(&b);

	/* To and fro: b raises 1.01 to its boundary 1.09, which cuts the (1, 2] of a, which raises it to 2. */
	hist_init(&a, 0, 1.01);
	hist_init(&b, 3, 0);
	hist_add_bucket(&a, 1, 5);
	hist_add_bucket(&b, 1, 4);
	hist_add_bucket(&b, 9, 1);
	assert_int_equal(hist_merge(&a, &b), 0);
	assert_true(a.zero_threshold == 2 && a.zero_count == 9 && bucket(&a, 2) == 1 && a.count == 10);
	assert_sound(&a);
	hist_done(&a);
	hist_done(&b);

	/* A cut bucket without observations raises nothing. */
	hist_init(&a, 3, 1.01);
	hist_init(&b, 3, 0);
	hist_add_bucket(&b, 2, 4);
	assert_int_equal(hist_merge(&b, &a), 0);
	assert_true(b.zero_threshold == 1.01 && b.zero_count == 0 && b.count == 4);
	hist_done(&a);
	hist_done(&b);
}

static void test_subtract(void **unused)
{
	struct hist now, earlier, window, expected;

	random_state = SEED;
	hist_init(&now, 3, 1e-6);
	hist_init(&earlier, 3, 0);
	hist_init(&window, 3, 0);
	hist_init(&expected, 3, 1e-6);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(hist_observe(&now, lognormal()), 0);
	assert_int_equal(hist_copy(&earlier, &now), 0);
	for (int i = 0; i < 1000; i++) {
		double v = bimodal();

		assert_int_equal(hist_observe(&now, v), 0);
		assert_int_equal(hist_observe(&expected, v), 0);
	}
	assert_int_equal(hist_copy(&window, &now), 0);
	assert_int_equal(hist_subtract(&window, &earlier), 0);
	assert_same(&window, &expected);
	assert_true(fabs(window.sum / expected.sum - 1) < 1e-9);

	/* Earlier minus later is a reset and leaves everything as it was. */
	assert_int_equal(hist_copy(&window, &earlier), 0);
	assert_int_equal(hist_subtract(&window, &now), HIST_E_RESET);
	assert_same(&window, &earlier);
	assert_true(window.sum == earlier.sum);
	hist_copy(&window, &now);
	hist_add_zero(&earlier, 1);
	assert_int_equal(hist_subtract(&window, &earlier), HIST_E_RESET);
	assert_same(&window, &now);

	/* Where no observation is left, no rounding error of the sum is left either. */
	hist_copy(&window, &now);
	window.sum = nextafter(window.sum, 0);
	assert_int_equal(hist_subtract(&window, &now), 0);
	assert_true(window.count == 0 && window.sum == 0);
	/* Minus itself. */
	assert_int_equal(hist_subtract(&now, &now), 0);
	assert_true(now.count == 0 && now.n == 0 && now.sum == 0);
	hist_done(&now);
	hist_done(&earlier);
	hist_done(&window);
	hist_done(&expected);
}

static void test_subtract_after_getting_coarser(void **unused)
{
	struct hist now, earlier, before;

	hist_init(&now, 3, 0);
	hist_init(&earlier, 3, 0);
	hist_init(&before, 3, 0);
	for (int32_t i = -20; i <= 20; i++) {
		hist_add_bucket(&now, i, 10);
		hist_add_bucket(&earlier, i, 4);
	}
	/* A finer schema than before, or a smaller zero bucket: another counter. */
	hist_copy(&before, &earlier);
	hist_reduce(&before, 1);
	assert_int_equal(hist_subtract(&now, &before), HIST_E_RESET);
	assert_true(now.count == 410);
	before.zero_threshold = 1e-9;
	before.schema = 3;
	assert_int_equal(hist_subtract(&now, &before), HIST_E_RESET);

	hist_reduce(&now, 1);
	assert_int_equal(hist_subtract(&now, &earlier), 0);
	assert_true(now.schema == 1 && now.count == 41 * 6 && bucket(&now, 1) == 24);
	assert_true(earlier.schema == 3 && earlier.count == 41 * 4);
	assert_sound(&now);

	/* now's zero bucket has grown to 1: what earlier had below counts there. */
	hist_clear(&now);
	now.zero_threshold = 1;
	hist_add_zero(&now, 21 * 4 + 1);
	for (int32_t i = 1; i <= 5; i++)
		hist_add_bucket(&now, i, 100);
	assert_int_equal(hist_subtract(&now, &earlier), 0);
	assert_true(now.zero_count == 1 && bucket(&now, 1) == 100 - 4 * 4 && now.count == 501 - 20 * 4);
	/* A threshold that cuts earlier's buckets cannot have grown from it. */
	now.zero_threshold = 1.01;
	assert_int_equal(hist_subtract(&now, &earlier), HIST_E_RESET);
	hist_done(&now);
	hist_done(&earlier);
	hist_done(&before);
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void check_quantiles(const char *name, double (*draw)(void), int32_t schema)
{
	static double samples[N_SAMPLES];
	double bound = hist_relative_error(schema), worst = 0;
	struct hist h;

	hist_init(&h, schema, 0);
	for (size_t i = 0; i < N_SAMPLES; i++) {
		samples[i] = draw();
		assert_int_equal(hist_observe(&h, samples[i]), 0);
	}
	qsort(samples, N_SAMPLES, sizeof(samples[0]), compare_doubles);
	for (int i = 0; i <= 1000; i++) {
		double q = i / 1000.0, rank = fmax(1, ceil(q * N_SAMPLES));
		double error = fabs(hist_quantile(&h, q) / samples[(size_t)rank - 1] - 1);

		/* The last digits of a boundary are rounded. */
		assert_true(error <= bound * (1 + 1e-12));
		worst = fmax(worst, error);
	}
	if (schema == HIST_SCHEMA)
		printf("# %s, schema %d: worst error %.3f %%, bound %.3f %%\n", name, (int)schema, 100 * worst,
		       100 * bound);
	/* The bound is not merely far above what happens. */
	if (draw == log_uniform)
		assert_true(worst > 0.9 * bound);
	hist_done(&h);
}

static void test_quantile_error(void **unused)
{
	random_state = SEED;
	printf("# seed %u\n", SEED);
	for (int32_t schema = -2; schema <= 7; schema++) {
		check_quantiles("lognormal", lognormal, schema);
		check_quantiles("uniform", uniform, schema);
		check_quantiles("bimodal", bimodal, schema);
		check_quantiles("log-uniform", log_uniform, schema);
		check_quantiles("constant", constant, schema);
	}
	assert_true(fabs(hist_relative_error(3) - 0.04427) < 1e-5);
	assert_true(fabs(hist_relative_error(0) - (M_SQRT2 - 1)) < 1e-15);
}

static void test_quantile_edges(void **unused)
{
	struct hist h;

	hist_init(&h, 3, 0);
	assert_true(isnan(hist_quantile(&h, 0.5)));
	hist_add_zero(&h, 1);
	assert_true(hist_quantile(&h, 0.5) == 0 && hist_quantile(&h, 1) == 0);
	h.zero_threshold = 0x1p-20;
	assert_true(hist_quantile(&h, 0) == 0x1p-21);
	hist_add_bucket(&h, 8, 1); /* (1.83, 2] */
	hist_add_bucket(&h, 16, 2);
	assert_true(isnan(hist_quantile(&h, -0.1)) && isnan(hist_quantile(&h, 1.1)) && isnan(hist_quantile(&h, NAN)));
	/* Ranks 1, 2 and 3, 4. */
	assert_true(hist_quantile(&h, 0.25) == 0x1p-21);
	assert_true(hist_quantile(&h, 0.26) == exp2(15.0 / 16));
	assert_true(hist_quantile(&h, 0.5) == exp2(15.0 / 16));
	assert_true(hist_quantile(&h, 0.51) == 2 * exp2(15.0 / 16));
	assert_true(hist_quantile(&h, 1) == 2 * exp2(15.0 / 16));
	hist_done(&h);
}

static void test_count_below(void **unused)
{
	static double samples[2000];
	struct hist h;

	random_state = SEED;
	hist_init(&h, 3, 0x1p-18);
	for (size_t i = 0; i < 2000; i++) {
		samples[i] = i % 5 ? log_uniform() : ldexp(1, (int)(random_u64() % 20) - 15);
		assert_int_equal(hist_observe(&h, samples[i]), 0);
	}
	for (int e = -18; e <= 15; e++) {
		uint64_t exact = 0;

		for (size_t i = 0; i < 2000; i++)
			exact += samples[i] <= ldexp(1, e);
		assert_true(hist_count_below(&h, ldexp(1, e)) == exact);
	}
	assert_true(hist_count_below(&h, INFINITY) == 2000);
	assert_true(hist_count_below(&h, DBL_MAX) == 2000);
	assert_true(hist_count_below(&h, 0x1p-19) == 0);
	assert_true(hist_count_below(&h, 0) == 0 && hist_count_below(&h, -1) == 0 && hist_count_below(&h, NAN) == 0);
	/* A bound within a bucket leaves that bucket out. */
	assert_true(hist_count_below(&h, 1.01) == hist_count_below(&h, 1));
	hist_clear(&h);
	h.zero_threshold = 0;
	hist_add_zero(&h, 3);
	assert_true(hist_count_below(&h, 0) == 3);
	hist_done(&h);
}

static void test_parameters(void **unused)
{
	assert_true(hist_parameters_valid(-4, 0) && hist_parameters_valid(8, 1e-128) && hist_parameters_valid(3, -0.0));
	assert_false(hist_parameters_valid(-5, 0) || hist_parameters_valid(9, 0));
	assert_false(hist_parameters_valid(3, -1) || hist_parameters_valid(3, NAN) || hist_parameters_valid(3, INFINITY));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_boundaries_are_inclusive),
		cmocka_unit_test(test_powers_of_two_are_exact),
		cmocka_unit_test(test_observe),
		cmocka_unit_test(test_window_limits),
		cmocka_unit_test(test_grows_both_ways),
		cmocka_unit_test(test_counts_saturate),
		cmocka_unit_test(test_reduce_equals_observing_coarser),
		cmocka_unit_test(test_reduce_by_hand),
		cmocka_unit_test(test_merge_equals_observing_all),
		cmocka_unit_test(test_merge_edges),
		cmocka_unit_test(test_merge_zero_thresholds),
		cmocka_unit_test(test_subtract),
		cmocka_unit_test(test_subtract_after_getting_coarser),
		cmocka_unit_test(test_quantile_error),
		cmocka_unit_test(test_quantile_edges),
		cmocka_unit_test(test_count_below),
		cmocka_unit_test(test_parameters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
