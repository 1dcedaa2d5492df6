/* SPDX-License-Identifier: Apache-2.0 */
/* Samples against a plain sorted array: exact while they are kept, within the stated error after, alone and merged. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "cli/ping_samples.h"

#define N 5000

static int compare(const void *left, const void *right)
{
	int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;

	return (a > b) - (a < b);
}

/* Kinds: round trips with a tail; one-way delays around zero; all the same; over many octaves. */
static int64_t value(unsigned kind, uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	switch (kind) {
	case 0:
		return 1000000 + (int64_t)(*state % 100000) + (*state % 97 ? 0 : (int64_t)(*state % 300000000));
	case 1:
		return (int64_t)(*state % 2000001) - 1000000;
	case 2:
		return 4242;
	default:
		return (int64_t)(*state >> (30 + *state % 30));
	}
}

static double rank_value(const int64_t *sorted, size_t n, double q)
{
	size_t rank = (size_t)ceil(q * (double)n);

	return (double)sorted[rank ? rank - 1 : 0];
}

static void assert_near(double actual, double expected, double relative)
{
	if (fabs(actual - expected) > relative * fabs(expected) + 1)
		fail_msg("%.17g is not within %g of %.17g", actual, relative, expected);
}

static void check(struct ping_samples *s, int64_t *values, size_t n)
{
	static const double quantiles[] = { 0, 0.001, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1 };
	double sum = 0, squares = 0, error = ping_samples_error(s);

	qsort(values, n, sizeof(*values), compare);
	for (size_t i = 0; i < n; i++)
		sum += (double)values[i];
	for (size_t i = 0; i < n; i++)
		squares += ((double)values[i] - sum / (double)n) * ((double)values[i] - sum / (double)n);
	assert_int_equal(s->n, n);
	assert_int_equal(s->unkept, 0);
	assert_true(s->min_ns == values[0] && s->max_ns == values[n - 1]);
	assert_near(s->mean_ns, sum / (double)n, 1e-9);
	assert_near(ping_samples_deviation(s), sqrt(squares / (double)(n - 1)), 1e-6);
	for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
		if (error == 0)
			assert_true(ping_samples_quantile(s, quantiles[i]) == rank_value(values, n, quantiles[i]));
		else
			assert_near(ping_samples_quantile(s, quantiles[i]), rank_value(values, n, quantiles[i]), error);
	}
	/* Every value is in one of two neighbouring ranges. */
	assert_int_equal(ping_samples_between(s, -INFINITY, s->mean_ns) + ping_samples_between(s, s->mean_ns, INFINITY), n);
}

/* Allowances: all fit; they run out on the way; there was never any. */
static void test_kinds(void **state)
{
	static const size_t allowances[] = { N + 1, N / 3, 0 };
	static int64_t values[N];

	for (unsigned kind = 0; kind < 4; kind++) {
		for (size_t a = 0; a < 3; a++) {
			struct ping_samples s = { 0 };
			size_t allowance = allowances[a];
			uint64_t random = 88172645463325252u + kind;

			for (size_t i = 0; i < N; i++) {
				values[i] = value(kind, &random);
				ping_samples_add(&s, values[i], &allowance);
			}
			assert_true(s.spilled == (a > 0));
			assert_int_equal(allowance, a == 0 ? 1 : allowances[a]); /* what a spilled set had taken is free again */
			/* More than 32 octaves do not fit into the finest buckets. */
			assert_true(a ? ping_samples_error(&s) > 0 && ping_samples_error(&s) < (kind == 3 ? 0.0055 : 0.0014) : ping_samples_error(&s) == 0);
			check(&s, values, N);
			ping_samples_done(&s);
		}
	}
}

/* Any two states, in any split. */
static void test_merge(void **state)
{
	static int64_t values[N];

	for (unsigned kind = 0; kind < 4; kind++) {
		for (unsigned which = 0; which < 4; which++) {
			for (size_t cut = 0; cut <= N; cut += N / 5) {
				struct ping_samples first = { 0 }, second = { 0 };
				size_t plenty = N, none = 0;
				uint64_t random = 2463534242u + kind;

				for (size_t i = 0; i < N; i++) {
					values[i] = value(kind, &random);
					if (i < cut)
						ping_samples_add(&first, values[i], which & 1 ? &none : &plenty);
					else
						ping_samples_add(&second, values[i], which & 2 ? &none : &plenty);
				}
				ping_samples_quantile(&first, 0.5);
				ping_samples_merge(&first, &second);
				check(&first, values, N);
				ping_samples_done(&first);
				ping_samples_done(&second);
			}
		}
	}
}

static void test_none(void **state)
{
	struct ping_samples s = { 0 }, other = { 0 };
	size_t allowance = 10;

	assert_true(isnan(ping_samples_quantile(&s, 0.5)));
	assert_true(isnan(ping_samples_deviation(&s)));
	assert_int_equal(ping_samples_between(&s, -INFINITY, INFINITY), 0);
	ping_samples_merge(&s, &other);
	assert_int_equal(s.n, 0);
	ping_samples_add(&s, -5, &allowance);
	assert_true(ping_samples_quantile(&s, 0) == -5 && ping_samples_quantile(&s, 1) == -5);
	assert_true(isnan(ping_samples_quantile(&s, 1.1)) && isnan(ping_samples_quantile(&s, NAN)));
	assert_true(isnan(ping_samples_deviation(&s)));
	ping_samples_done(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
