/* SPDX-License-Identifier: Apache-2.0 */
/* The integer bucket function of the BPF programs, compiled natively, against the floating-point one of lib/hist.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
/* after the above: */
#include <cmocka.h>

#include "hist.bpf.h"
#include "lib/hist.h"

static unsigned expected_bucket(uint64_t ns)
{
	long index = ns ? hist_bucket_index(HIST_SCHEMA, (double)ns / 1e9) + HIST_OFFSET : 0;

	return index < 0 ? 0 : index >= HIST_BUCKETS ? HIST_BUCKETS - 1 : (unsigned)index;
}

static void test_random_durations(void **state)
{
	unsigned seed = 1795500592;

	print_message("seed %u\n", seed);
	for (int i = 0; i < 2000000; i++) {
		uint64_t high = (uint64_t)rand_r(&seed), low = (uint64_t)rand_r(&seed);
		uint64_t ns = ((high << 31) | low) >> (rand_r(&seed) % 52);

		/* Above 2 s the integer's rounding (5e-10) may put a value that lies on a boundary to the ns on its other side. */
		if (hist_bucket(ns) != expected_bucket(ns) && hist_bucket(ns + ns / 1000000000) != expected_bucket(ns) &&
		    hist_bucket(ns - ns / 1000000000) != expected_bucket(ns))
			fail_msg("%llu ns: bucket %u, expected %u", (unsigned long long)ns, hist_bucket(ns), expected_bucket(ns));
	}
}

static void test_every_ns_up_to_a_millisecond(void **state)
{
	for (uint64_t ns = 1; ns < 1000000; ns++)
		if (hist_bucket(ns) != expected_bucket(ns))
			fail_msg("%llu ns: bucket %u, expected %u", (unsigned long long)ns, hist_bucket(ns), expected_bucket(ns));
}

static void test_edges(void **state)
{
	assert_int_equal(hist_bucket(0), 0);
	assert_int_equal(hist_bucket(953), 0);
	assert_int_equal(hist_bucket(954), 1);
	assert_int_equal(hist_bucket(1000000000), HIST_OFFSET);     /* 1 s is the upper bound of its bucket */
	assert_int_equal(hist_bucket(1000000001), HIST_OFFSET + 1);
	assert_int_equal(hist_bucket(500000000), HIST_OFFSET - 8);
	assert_int_equal(hist_bucket(UINT64_MAX), HIST_BUCKETS - 1);
}

static void test_monotone(void **state)
{
	unsigned previous = 0;

	for (uint64_t ns = 1; ns < UINT64_MAX / 2; ns += ns / 64 + 1) {
		unsigned bucket = hist_bucket(ns);

		assert_true(bucket >= previous);
		assert_true(bucket < HIST_BUCKETS);
		previous = bucket;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_durations),
		cmocka_unit_test(test_every_ns_up_to_a_millisecond),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_monotone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
