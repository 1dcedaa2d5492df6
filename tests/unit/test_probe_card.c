/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network card's stamps: which of them become times, and when its clock is believed. Figures by hand; and the
 * system's own clocks in the place of a card's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/timex.h>
#include <time.h>
#include <cmocka.h>
#include "agent/probe/probe_hardware.h"

#define MS 1000000ULL
#define S 1000000000ULL
#define NOW (1000 * S)
#define TAI (1700000037 * S)

static void times(void **state)
{
	static const struct { uint64_t behind, until, now, tai, stamp, received; } rows[] = {
		{ 0, NOW + 1, NOW, TAI, TAI, NOW },
		{ 0, NOW + 1, NOW, TAI, TAI - 1500, NOW - 1500 },
		{ 37 * S, NOW + 1, NOW, TAI, TAI - 37 * S - 1500, NOW - 1500 },       /* a clock by UTC */
		{ 0, NOW + 1, NOW, TAI, TAI - 10 * MS + 1, NOW - 10 * MS + 1 },
		{ 0, NOW + 1, NOW, TAI, TAI - 10 * MS, 0 },                           /* too old */
		{ 0, NOW + 1, NOW, TAI, TAI + 1, 0 },                                 /* of the future */
		{ 0, NOW + 1, NOW, TAI, TAI - 37 * S, 0 },                            /* UTC, believed to be TAI */
		{ 37 * S, NOW + 1, NOW, TAI, TAI, 0 },                                /* and the reverse */
		{ 0, NOW + 1, NOW, TAI, 0, 0 },                                       /* none */
		{ 0, NOW + 1, NOW, TAI, UINT64_MAX, 0 },
		{ UINT64_MAX, NOW + 1, NOW, TAI, TAI + 1 - 1500, NOW - 1500 },        /* wraps, as unsigned numbers do */
		{ 0, NOW, NOW, TAI, TAI - 1500, 0 },                                  /* not believed any more */
		{ 0, 0, NOW, TAI, TAI - 1500, 0 },                                    /* never was */
		{ 0, S, MS, TAI, TAI - 2 * MS, 0 },                                   /* before the machine was on */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct probe_card card = { .behind_ns = rows[i].behind, .until_ns = rows[i].until };
		uint64_t received = probe_hardware_time(&card, rows[i].now, rows[i].tai, rows[i].stamp);

		if (received != rows[i].received)
			fail_msg("row %zu: %lu, expected %lu", i, received, rows[i].received);
	}
}

static void judgements(void **state)
{
	static const struct {
		int64_t before, card, after, offset;
		enum probe_hardware_clock expected;
		uint64_t behind;
	} rows[] = {
		{ TAI, TAI + 500, TAI + 1000, 37 * S, PROBE_HARDWARE_AGREES, 0 },
		{ TAI, TAI - 10000, TAI + 1000, 37 * S, PROBE_HARDWARE_AGREES, 0 },
		{ TAI, TAI - 10001, TAI + 1000, 37 * S, PROBE_HARDWARE_ASTRAY, 0 },
		{ TAI, TAI + 11000, TAI + 1000, 37 * S, PROBE_HARDWARE_AGREES, 0 },
		{ TAI, TAI + 11001, TAI + 1000, 37 * S, PROBE_HARDWARE_ASTRAY, 0 },
		{ TAI, TAI - 37 * (int64_t)S, TAI + 1000, 37 * S, PROBE_HARDWARE_AGREES, 37 * S },
		{ TAI, TAI - 37 * (int64_t)S - 10001, TAI + 1000, 37 * S, PROBE_HARDWARE_ASTRAY, 0 },
		{ TAI, TAI - 37 * (int64_t)S, TAI + 1000, 0, PROBE_HARDWARE_ASTRAY, 0 },
		{ TAI, TAI + 500, TAI + 50000, 0, PROBE_HARDWARE_AGREES, 0 },
		{ TAI, TAI + 500, TAI + 50001, 0, PROBE_HARDWARE_UNKNOWN, 0 }, /* interrupted */
		{ TAI, TAI, TAI - 1, 0, PROBE_HARDWARE_UNKNOWN, 0 },           /* the clock was set */
		{ TAI, 0, TAI + 1000, 37 * S, PROBE_HARDWARE_ASTRAY, 0 },      /* a card's clock at its start */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t behind = 0;
		enum probe_hardware_clock found =
		    probe_hardware_judge(rows[i].before, rows[i].card, rows[i].after, rows[i].offset, &behind);

		if (found != rows[i].expected || behind != rows[i].behind)
			fail_msg("row %zu: %d, behind %lu", i, found, behind);
	}
}

/* On a busy machine every reading may be interrupted, but not for ever. */
static enum probe_hardware_clock compare(clockid_t clock, uint64_t *ret_behind)
{
	enum probe_hardware_clock found = PROBE_HARDWARE_UNKNOWN;

	for (int i = 0; i < 10000 && found == PROBE_HARDWARE_UNKNOWN; i++)
		found = probe_hardware_compare(clock, ret_behind);
	return found;
}

static void system_clocks(void **state)
{
	struct timex timex = { 0 };
	uint64_t behind = 1;

	(void)state;
	adjtimex(&timex);
	assert_int_equal(compare(CLOCK_TAI, &behind), PROBE_HARDWARE_AGREES);
	assert_int_equal(behind, 0);
	assert_int_equal(compare(CLOCK_REALTIME, &behind), PROBE_HARDWARE_AGREES);
	assert_int_equal(behind, (uint64_t)timex.tai * S);
	assert_int_equal(compare(CLOCK_MONOTONIC, &behind), PROBE_HARDWARE_ASTRAY);
	assert_int_equal(compare(99, &behind), PROBE_HARDWARE_ASTRAY); /* no such clock: the card is gone */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(times),
		cmocka_unit_test(judgements),
		cmocka_unit_test(system_clocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
