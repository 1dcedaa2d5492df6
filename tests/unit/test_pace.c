/* SPDX-License-Identifier: Apache-2.0 */
/* The distance between ticks: longer when they take long, back when there is room, never outside its bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
/* after the above: */
#include <cmocka.h>

#include "agent/pace.h"

#define MS 1000000ULL

static void test_quick_ticks_change_nothing(void **state)
{
	struct pace pace;

	pace_init(&pace, 1000 * MS);
	for (int i = 0; i < 100; i++)
		assert_false(pace_took(&pace, 400 * MS));
	assert_int_equal(pace.interval_ns, 1000 * MS);
}

static void test_one_slow_tick_changes_nothing(void **state)
{
	struct pace pace;

	pace_init(&pace, 50 * MS);
	for (int i = 0; i < 100; i++)
		assert_false(pace_took(&pace, i % 2 ? 40 * MS : 5 * MS));
	assert_int_equal(pace.interval_ns, 50 * MS);
}

static void test_slow_ticks_lengthen_and_quick_ones_shorten(void **state)
{
	struct pace pace;
	int ticks = 0;

	pace_init(&pace, 50 * MS);
	assert_false(pace_took(&pace, 150 * MS));
	assert_true(pace_took(&pace, 150 * MS));
	assert_int_equal(pace.interval_ns, 400 * MS); /* 150 is at most half of it */
	while (pace.interval_ns != 50 * MS) {
		pace_took(&pace, 2 * MS);
		assert_true(++ticks < 100);
	}
	assert_int_equal(ticks, 30); /* ten for each halving */
}

static void test_no_swing(void **state)
{
	struct pace pace;
	int changes = 0;

	/* A tick takes 30 of 50 ms, whatever the interval: one change, and then it stays. */
	pace_init(&pace, 50 * MS);
	for (int i = 0; i < 1000; i++)
		changes += pace_took(&pace, 30 * MS);
	assert_int_equal(changes, 1);
	assert_int_equal(pace.interval_ns, 100 * MS);
}

static void test_bounds_hold_for_any_durations(void **state)
{
	unsigned seed = 7;
	struct pace pace;

	print_message("seed 7\n");
	pace_init(&pace, 20 * MS);
	for (int i = 0; i < 100000; i++) {
		uint64_t duration = (uint64_t)rand_r(&seed) * (uint64_t)(rand_r(&seed) % 100);

		pace_took(&pace, i % 97 ? duration : UINT64_MAX);
		assert_true(pace.interval_ns >= 20 * MS && pace.interval_ns <= PACE_MAX_NS);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quick_ticks_change_nothing),
		cmocka_unit_test(test_one_slow_tick_changes_nothing),
		cmocka_unit_test(test_slow_ticks_lengthen_and_quick_ones_shorten),
		cmocka_unit_test(test_no_swing),
		cmocka_unit_test(test_bounds_hold_for_any_durations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
