/* SPDX-License-Identifier: Apache-2.0 */
/* The buddy allocator of the probes' rings, against a map that the test keeps of who has what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/probe/probe_rings.h"

#define FLIGHTS 1024

static void test_sizes_are_aligned_and_all_fit(void **state)
{
	static const uint32_t sizes[] = { 8, 512, 16, 8, 256, 32, 64, 128 };
	struct probe_rings *rings;
	uint32_t first;

	assert_int_equal(probe_rings_new(FLIGHTS, &rings), 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(probe_rings_take(rings, sizes[i], &first), 0);
		assert_int_equal(first % sizes[i], 0);
	}
	/* 8 + 512 + 16 + 8 + 256 + 32 + 64 + 128 is everything. */
	assert_int_equal(probe_rings_take(rings, 8, &first), -ENOSPC);
	assert_int_equal(probe_rings_take(rings, 2 * FLIGHTS, &first), -ENOSPC);
	probe_rings_free(rings);
}

static void test_what_was_given_back_joins(void **state)
{
	struct probe_rings *rings;
	uint32_t firsts[FLIGHTS / 8], whole;

	assert_int_equal(probe_rings_new(FLIGHTS, &rings), 0);
	for (size_t i = 0; i < FLIGHTS / 8; i++)
		assert_int_equal(probe_rings_take(rings, 8, &firsts[i]), 0);
	/* Every second one, then the others: pieces join on either side. */
	for (size_t i = 0; i < FLIGHTS / 8; i += 2)
		probe_rings_give(rings, firsts[i], 8);
	assert_int_equal(probe_rings_take(rings, 16, &whole), -ENOSPC);
	for (size_t i = 1; i < FLIGHTS / 8; i += 2)
		probe_rings_give(rings, firsts[i], 8);
	assert_int_equal(probe_rings_take(rings, FLIGHTS, &whole), 0);
	assert_int_equal(whole, 0);
	probe_rings_free(rings);
}

static void test_random_use_never_overlaps(void **state)
{
	struct { uint32_t first, size; } held[64] = { { 0 } };
	uint8_t owner[FLIGHTS] = { 0 };
	struct probe_rings *rings;
	uint32_t seed = 4711, used = 0, first;

	assert_int_equal(probe_rings_new(FLIGHTS, &rings), 0);
	for (int round = 0; round < 20000; round++) {
		uint32_t i, size;

		seed = seed * 1664525 + 1013904223;
		i = seed >> 26;
		size = 8u << (seed >> 20 & 3);
		if (held[i].size) {
			for (uint32_t k = 0; k < held[i].size; k++) {
				assert_int_equal(owner[held[i].first + k], i + 1);
				owner[held[i].first + k] = 0;
			}
			probe_rings_give(rings, held[i].first, held[i].size);
			used -= held[i].size;
			held[i].size = 0;
		} else if (!probe_rings_take(rings, size, &first)) {
			for (uint32_t k = 0; k < size; k++) {
				assert_int_equal(owner[first + k], 0);
				owner[first + k] = (uint8_t)(i + 1);
			}
			held[i].first = first;
			held[i].size = size;
			used += size;
		} else {
			assert_true(used >= FLIGHTS / 8); /* in each 64 something of at least 8 */
		}
	}
	for (uint32_t i = 0; i < 64; i++)
		if (held[i].size)
			probe_rings_give(rings, held[i].first, held[i].size);
	assert_int_equal(probe_rings_take(rings, FLIGHTS, &first), 0);
	probe_rings_free(rings);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes_are_aligned_and_all_fit),
		cmocka_unit_test(test_what_was_given_back_joins),
		cmocka_unit_test(test_random_use_never_overlaps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
