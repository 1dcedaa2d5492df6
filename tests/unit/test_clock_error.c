/* SPDX-License-Identifier: Apache-2.0 */
/*
 * STAMP's timestamps and error estimates; expected values are worked out from the RFCs (4656, section 4.1.2; 5905,
 * section 6; 8186, section 2.3). Of the clock itself: that what is said agrees with what the kernel says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/timex.h>
#include <time.h>
#include <cmocka.h>
#include "agent/probe/clock_error.h"
#include "stamp.h"

#define S 1000000000ULL
#define ERA ((1ULL << 32) - STAMP_NTP_EPOCH) /* Unix time at which NTP's second era begins: 2036-02-07 06:28:16 */

static void estimates(void **state)
{
	static const struct { bool synchronized; uint64_t error_ns; uint16_t estimate; uint64_t back_ns; } rows[] = {
		{ true, 0, 0x8001, 1 },                       /* the multiplier may not be 0; 0.23 ns */
		{ true, 1, 0x8005, 2 },                       /* 4.29 units of 2^-32 s, up to 5 */
		{ true, 59, 0x80fe, 60 },                     /* 253.4 */
		{ true, 60, 0x8181, 61 },                     /* 257.7 -> 258 = 129 * 2 */
		{ true, 1000000, 0x8f84, 1007081 },           /* 1 ms: 4294968 units, 131.07 * 2^15 */
		{ true, S, 0x9980, S },                       /* 2^32 units: 128 * 2^25 */
		{ true, 16 * S, 0x9d80, 16 * S },
		{ true, 16 * S + 1, 0x9d81, 16 * S + S / 8 },
		{ true, 255 * S, 0xa0ff, 255 * S },
		{ true, UINT64_MAX - 1, 0xb880, (1ULL << 31) * S }, /* the most that this gives */
		{ false, 0, 0x1d80, CLOCK_ERROR_UNKNOWN },
		{ false, CLOCK_ERROR_UNKNOWN, 0x1d80, CLOCK_ERROR_UNKNOWN },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct clock_error e = { .synchronized = rows[i].synchronized, .error_ns = rows[i].error_ns };

		print_message("%zu\n", i);
		assert_int_equal(clock_error_estimate(&e), rows[i].estimate);
		assert_int_equal(clock_error_from_estimate(rows[i].estimate), rows[i].back_ns);
		assert_int_equal(clock_error_estimate_synchronized(rows[i].estimate), rows[i].synchronized);
	}
	assert_int_equal(clock_error_from_estimate(0x8000), CLOCK_ERROR_UNKNOWN);
	assert_int_equal(clock_error_from_estimate(0x8a00), CLOCK_ERROR_UNKNOWN);
	assert_false(clock_error_estimate_synchronized(0x8a00));
	/* 255 * 2^31 s: more than 64 bits of ns */
	assert_int_equal(clock_error_from_estimate(0xbfff), CLOCK_ERROR_UNKNOWN);
	assert_int_equal(clock_error_from_estimate(0xc005), 2); /* Z says nothing about the error */
}

/* Every error comes back not smaller and at most 1/128 larger (an octave has 128 multipliers) and a ns. */
static void estimates_bound(void **state)
{
	(void)state;
	for (uint64_t ns = 1; ns < 1000 * S; ns += ns / 37 + 1) {
		const struct clock_error e = { .synchronized = true, .error_ns = ns };
		uint16_t estimate = clock_error_estimate(&e);
		uint64_t back = clock_error_from_estimate(estimate);

		assert_true(estimate & 0xff);
		assert_int_equal(estimate >> 14, 2);
		assert_in_range(back, ns, ns + ns / 127 + 1);
	}
}

static void ntp(void **state)
{
	static const struct { uint64_t utc_ns, ntp; } rows[] = {
		{ 0, 0x83aa7e8000000000 },
		{ 1, 0x83aa7e8000000005 },
		{ S / 2, 0x83aa7e8080000000 },
		{ S - 1, 0x83aa7e80fffffffc },
		{ 1700000000 * S + 123456789, 0xe8fe6f801f9add38 },
		{ ERA * S - 1, 0xfffffffffffffffc },
		{ ERA * S, 0 },
		{ ERA * S + 42 * S, 42ULL << 32 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		print_message("%zu\n", i);
		assert_int_equal(clock_ntp_from_ns(rows[i].utc_ns), rows[i].ntp);
		assert_int_equal(clock_ns_from_ntp(rows[i].ntp, rows[i].utc_ns), rows[i].utc_ns);
		/* Near it is enough, on either side of the era's end. */
		assert_int_equal(clock_ns_from_ntp(rows[i].ntp, rows[i].utc_ns + 1000000000 * S), rows[i].utc_ns);
		if (rows[i].utc_ns > 1000000000 * S)
			assert_int_equal(clock_ns_from_ntp(rows[i].ntp, rows[i].utc_ns - 1000000000 * S),
					 rows[i].utc_ns);
	}
	/* What is before 1970 is not: times are without sign. */
	assert_int_equal(clock_ns_from_ntp(0x83aa7e7f00000000, 0), 0);
	/* A fraction that rounds up to a whole second. */
	assert_int_equal(clock_ns_from_ntp(0x83aa7e80ffffffff, 0), S);
}

/* Every ns of a second would take long; a step that is prime to 2 and 5 meets all remainders. Also as the BPF program
 * rounds: down. */
static void ntp_returns(void **state)
{
	const uint64_t base = 1800000000 * S;

	(void)state;
	for (uint64_t ns = 0; ns < S; ns += 99991) {
		uint64_t ntp = clock_ntp_from_ns(base + ns);

		assert_int_equal(clock_ns_from_ntp(ntp, base), base + ns);
		assert_int_equal(clock_ns_from_ntp((ntp & 0xffffffff00000000) | ns * 18446744073ULL >> 32, base),
				 base + ns);
	}
}

static void ptp(void **state)
{
	(void)state;
	assert_int_equal(clock_ns_from_ptp((1700000037ULL << 32) | 999999999, 37), 1700000000 * S + 999999999);
	assert_int_equal(clock_ns_from_ptp((1700000037ULL << 32) | 5, 0), 1700000037 * S + 5);
	assert_int_equal(clock_ns_from_ptp(5ULL << 32, 37), 0);
	/* No number of ns, but no harm either. */
	assert_int_equal(clock_ns_from_ptp((1700000037ULL << 32) | 0xffffffff, 37), 1700000000 * S + 0xffffffff);
	assert_int_equal(clock_ns_from_stamp((1700000037ULL << 32) | 7, 0xc001, 1700000000 * S, 37),
			 1700000000 * S + 7);
	assert_int_equal(clock_ns_from_stamp(0xe8fe6f801f9add38, 0x8001, 1700000000 * S, 37),
			 1700000000 * S + 123456789);
}

static void as_the_kernel_says(void **state)
{
	struct timex before = { .modes = 0 }, after = { .modes = 0 };
	struct clock_error e, stated;

	(void)state;
	assert_true(adjtimex(&before) >= 0);
	clock_error_read(0, &e);
	clock_error_read(12345, &stated);
	assert_true(adjtimex(&after) >= 0);
	if ((before.status ^ after.status) & STA_UNSYNC || before.tai != after.tai)
		skip();
	assert_int_equal(e.synchronized, !(before.status & STA_UNSYNC));
	assert_int_equal(e.tai_offset_s, before.tai);
	assert_int_equal(stated.tai_offset_s, before.tai);
	assert_true(stated.synchronized);
	if (e.synchronized) {
		assert_true(e.error_ns >= (uint64_t)(before.maxerror < after.maxerror ? before.maxerror :
						     after.maxerror) * 1000);
		assert_true(stated.error_ns != 12345 || e.error_ns == 12345); /* what the kernel knows comes first */
	} else {
		assert_int_equal(e.error_ns, CLOCK_ERROR_UNKNOWN);
		assert_int_equal(stated.error_ns, 12345);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(estimates),
		cmocka_unit_test(estimates_bound),
		cmocka_unit_test(ntp),
		cmocka_unit_test(ntp_returns),
		cmocka_unit_test(ptp),
		cmocka_unit_test(as_the_kernel_says),
	};

	return cmocka_run_group_tests_name("clock_error", tests, NULL, NULL);
}
