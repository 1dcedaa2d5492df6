/* SPDX-License-Identifier: Apache-2.0 */
/* What the statistics of a target make of results: against formulas computed here, and stories with a known end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/probe/probe_stats.h"

#define US NS_PER_US
#define MS NS_PER_MS

static uint64_t at_ns;

static struct probe_result answer(uint64_t rtt_ns)
{
	at_ns += NS_PER_SEC;
	return (struct probe_result){ .outcome = PROBE_OK, .sent_ns = at_ns, .rtt_ns = rtt_ns, .clock = PROBE_CLOCK_TC };
}

static unsigned add(struct probe_stats *s, uint64_t rtt_ns)
{
	const struct probe_result result = answer(rtt_ns);

	return probe_stats_add(s, &result);
}

static unsigned lose(struct probe_stats *s, enum probe_outcome outcome, int error)
{
	const struct probe_result result = { .outcome = outcome, .sent_ns = at_ns += NS_PER_SEC, .error = error };

	return probe_stats_add(s, &result);
}

static int begin(void **state)
{
	static struct probe_stats stats;

	at_ns = 1000 * NS_PER_SEC;
	probe_stats_init(&stats);
	*state = &stats;
	return 0;
}

static int end(void **state)
{
	probe_stats_done(*state);
	return 0;
}

static void test_jitter_is_rfc_3550(void **state)
{
	static const uint64_t rtts[] = { 10 * MS, 12 * MS, 11 * MS, 30 * MS, 10 * MS };
	struct probe_stats *s = *state;
	double jitter = 0;

	assert_true(isnan(s->jitter_s));
	add(s, rtts[0]);
	assert_true(isnan(s->jitter_s));
	for (size_t i = 1; i < 5; i++) {
		double d = fabs((double)rtts[i] - (double)rtts[i - 1]) / 1e9;

		jitter += (d - jitter) / 16;
		add(s, rtts[i]);
		assert_true(fabs(s->jitter_s - jitter) < 1e-12);
	}
	/* A lost one in between changes nothing. */
	lose(s, PROBE_TIMED_OUT, 0);
	assert_true(fabs(s->jitter_s - jitter) < 1e-12);
}

static void test_distributions_by_clock(void **state)
{
	struct probe_stats *s = *state;
	struct probe_result result = answer(5 * MS);

	add(s, 1 * MS);
	add(s, 2 * MS);
	result.clock = PROBE_CLOCK_USER;
	result.outcome = PROBE_CLOSED;
	probe_stats_add(s, &result);
	assert_true(s->rtt[PROBE_CLOCK_TC].count == 2 && s->rtt[PROBE_CLOCK_USER].count == 1);
	assert_true(fabs(s->rtt[PROBE_CLOCK_TC].sum - 0.003) < 1e-12);
	assert_true(s->answered == 3 && s->lost == 0);
	assert_true(s->last_rtt_ns == 5 * MS);
	assert_true(s->rtt[PROBE_CLOCK_XDP].count == 0);
}

static void test_variation_is_above_the_least(void **state)
{
	struct probe_stats *s = *state;

	add(s, 10 * MS);
	add(s, 13 * MS);
	add(s, 9 * MS); /* the new least: 0 */
	add(s, 10 * MS);
	assert_true(s->variation.count == 4 && s->variation.zero_count == 2);
	assert_true(fabs(s->variation.sum - 0.004) < 1e-12);
}

/* The least of the former minute counts on, that of an hour ago does not. */
static void test_variation_forgets(void **state)
{
	struct probe_stats *s = *state;
	double before;

	for (int i = 0; i < 60; i++)
		add(s, 10 * MS);
	for (int i = 0; i < 59; i++)
		add(s, 50 * MS);
	before = s->variation.sum;
	assert_true(fabs(before - 59 * 0.04) < 1e-9);
	for (int i = 0; i < 200; i++)
		add(s, 50 * MS);
	before = s->variation.sum;
	add(s, 51 * MS);
	assert_true(fabs(s->variation.sum - before - 0.001) < 1e-9);
}

static void test_stamp(void **state)
{
	struct probe_stats *s = *state;
	struct probe_result result = answer(10 * MS);

	result.stamp = result.has_residence = result.has_one_way = true;
	result.residence_ns = 4 * MS;
	result.forward_ns = 5 * (int64_t)MS;
	result.backward_ns = -(int64_t)MS;
	result.clock_error_ns = 100 * US;
	probe_stats_add(s, &result);
	assert_true(s->last_rtt_ns == 6 * MS);
	assert_true(fabs(s->rtt[PROBE_CLOCK_TC].sum - 0.006) < 1e-12);
	assert_true(fabs(s->residence.sum - 0.004) < 1e-12);
	assert_true(fabs(s->forward.sum - 0.005) < 1e-12);
	assert_true(s->backward.count == 1 && s->backward.zero_count == 1);
	assert_true(s->clock_error_ns == 100 * US && s->one_way_unknown == 0);
	result.has_one_way = false;
	result.clock_error_ns = UINT64_MAX;
	probe_stats_add(s, &result);
	assert_true(s->clock_error_ns == UINT64_MAX && s->one_way_unknown == 1 && s->forward.count == 1);
}

static void test_loss_is_told_once(void **state)
{
	struct probe_stats *s = *state;

	assert_int_equal(lose(s, PROBE_TIMED_OUT, 0), 0); /* nothing has ever been answered */
	assert_int_equal(add(s, MS), PROBE_NEWS_BACK);
	assert_int_equal(lose(s, PROBE_TIMED_OUT, 0), PROBE_NEWS_LOSS);
	assert_int_equal(lose(s, PROBE_UNREACHABLE, EHOSTUNREACH), 0);
	assert_true(s->lost_in_a_row == 2 && s->lost == 2 && s->unreachable == 1 && s->last_error == EHOSTUNREACH);
	assert_int_equal(add(s, MS), PROBE_NEWS_BACK);
	assert_true(s->lost_in_a_row == 0);
	assert_int_equal(add(s, MS), 0);
	/* What did not leave this host says nothing. */
	assert_int_equal(lose(s, PROBE_UNREACHABLE, ENOBUFS), 0);
	assert_true(s->lost_in_a_row == 0);
}

static void test_a_shift_is_told(void **state)
{
	struct probe_stats *s = *state;
	uint32_t seed = 5;
	int back = 0;

	for (int i = 0; i < 300; i++) {
		seed = seed * 1664525 + 1013904223;
		assert_int_equal(add(s, 10 * MS + (seed >> 24) * 4 * US), 0); /* 10 to 11 ms */
	}
	assert_int_equal(add(s, 100 * MS), 0); /* one alone */
	for (int i = 0; i < 40; i++)
		assert_int_equal(add(s, 10 * MS + 500 * US), 0);
	assert_int_equal(add(s, 20 * MS), 0);
	assert_int_equal(add(s, 20 * MS), PROBE_NEWS_SLOWER);
	assert_int_equal(add(s, 20 * MS), 0);
	assert_int_equal(add(s, 10 * MS), PROBE_NEWS_BACK);
	for (int i = 0; i < 100; i++)
		assert_int_equal(add(s, 10 * MS), 0);
	/* A shift that stays is the new normal after a while. */
	for (int i = 0; i < 300; i++)
		back += add(s, 20 * MS) == PROBE_NEWS_BACK;
	assert_int_equal(back, 1);
	assert_false(s->slower);
	assert_true(s->baseline_ns > 18 * MS && s->baseline_ns < 21 * MS);
}

static void test_a_steady_target_may_wobble_by_a_wake_up(void **state)
{
	struct probe_stats *s = *state;

	for (int i = 0; i < 200; i++)
		assert_int_equal(add(s, 30 * US), 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(add(s, 100 * US), 0);
}

/* Nothing overflows or divides by nothing. */
static void test_extremes(void **state)
{
	struct probe_stats *s = *state;
	struct probe_result result;

	add(s, 0);
	add(s, 0);
	for (int i = 0; i < 20; i++)
		add(s, i & 1 ? 0 : 3600 * NS_PER_SEC);
	result = answer(5);
	result.stamp = result.has_residence = result.has_one_way = true;
	result.residence_ns = UINT64_MAX;
	result.forward_ns = INT64_MIN;
	result.backward_ns = INT64_MAX;
	result.clock_error_ns = UINT64_MAX - 1;
	probe_stats_add(s, &result);
	assert_true(s->answered == 23);
	assert_true(isfinite(s->jitter_s));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_jitter_is_rfc_3550, begin, end),
		cmocka_unit_test_setup_teardown(test_distributions_by_clock, begin, end),
		cmocka_unit_test_setup_teardown(test_variation_is_above_the_least, begin, end),
		cmocka_unit_test_setup_teardown(test_variation_forgets, begin, end),
		cmocka_unit_test_setup_teardown(test_stamp, begin, end),
		cmocka_unit_test_setup_teardown(test_loss_is_told_once, begin, end),
		cmocka_unit_test_setup_teardown(test_a_shift_is_told, begin, end),
		cmocka_unit_test_setup_teardown(test_a_steady_target_may_wobble_by_a_wake_up, begin, end),
		cmocka_unit_test_setup_teardown(test_extremes, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
