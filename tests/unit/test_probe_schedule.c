/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pacing of probes, in simulated time: that every path gets its interval, that probes are spread, that wake-ups are few, and that no
 * second ever has more than the budget, whatever happens to the process.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "agent/probe/probe_schedule.h"
#include "lib/clock.h"

#define START (1000 * NS_PER_SEC)
#define PACKET 84
#define NO_BUDGET 2000000
#define NO_BYTES 4000000000u

struct path { struct probe_schedule_entry entry; uint64_t sent, first_ns, last_ns, least_ns, most_ns; };

/* What left: its times in order, and how many at each wake-up. */
struct run {
	struct probe_schedule schedule;
	struct path *paths;
	size_t n;
	uint64_t now;
	uint64_t *times, *sizes;
	size_t n_times, cap;
	size_t wakes, most_per_wake;
};

static void setup(struct run *run, size_t n, uint64_t interval_ns, uint32_t bytes, uint32_t packets_max, uint32_t bytes_max)
{
	*run = (struct run){ .paths = calloc(n, sizeof(struct path)), .n = n, .now = START, .cap = 1 << 20 };
	run->times = calloc(run->cap, sizeof(uint64_t));
	run->sizes = calloc(run->cap, sizeof(uint64_t));
	assert_true(run->paths && run->times && run->sizes);
	probe_schedule_init(&run->schedule, packets_max, bytes_max, 42);
	for (size_t i = 0; i < n; i++) {
		run->paths[i].least_ns = UINT64_MAX;
		assert_int_equal(probe_schedule_add(&run->schedule, &run->paths[i].entry, interval_ns, bytes, run->now), 0);
	}
}

static void teardown(struct run *run)
{
	probe_schedule_done(&run->schedule);
	free(run->paths);
	free(run->times);
	free(run->sizes);
}

static void note(struct run *run, struct path *path)
{
	const uint64_t gap = run->now - path->last_ns;

	if (path->sent++) {
		path->least_ns = gap < path->least_ns ? gap : path->least_ns;
		path->most_ns = gap > path->most_ns ? gap : path->most_ns;
	} else {
		path->first_ns = run->now;
	}
	path->last_ns = run->now;
	assert_true(run->n_times < run->cap);
	run->sizes[run->n_times] = path->entry.bytes;
	run->times[run->n_times++] = run->now;
}

static void wake(struct run *run)
{
	struct probe_schedule_entry *entry;
	size_t sent = 0;

	probe_schedule_begin(&run->schedule, run->now);
	while ((entry = probe_schedule_next(&run->schedule, run->now))) {
		note(run, (struct path *)entry);
		sent++;
	}
	run->wakes++;
	run->most_per_wake = sent > run->most_per_wake ? sent : run->most_per_wake;
}

/* held_up: by how much a wake-up may come too late, at random. */
static void simulate(struct run *run, uint64_t seconds, uint64_t held_up_ns)
{
	const uint64_t end = run->now + seconds * NS_PER_SEC;

	for (;;) {
		uint64_t next = probe_schedule_wake(&run->schedule);

		if (next <= run->now)
			next = run->now + 1;
		if (held_up_ns && rand() % 50 == 0)
			next += (uint64_t)rand() % held_up_ns;
		if (next >= end)
			break;
		run->now = next;
		wake(run);
	}
	run->now = end;
}

/* The most that left within any second, in probes and in bytes. */
static void any_second(const struct run *run, uint64_t *ret_packets, uint64_t *ret_bytes)
{
	uint64_t bytes = 0;
	size_t from = 0;

	*ret_packets = *ret_bytes = 0;
	for (size_t i = 0; i < run->n_times; i++) {
		bytes += run->sizes[i];
		for (; run->times[i] - run->times[from] >= NS_PER_SEC; from++)
			bytes -= run->sizes[from];
		if (i - from + 1 > *ret_packets)
			*ret_packets = i - from + 1;
		if (bytes > *ret_bytes)
			*ret_bytes = bytes;
	}
}

static void assert_within(double value, double low, double high)
{
	if (value < low || value > high)
		print_message("%g is not within %g .. %g\n", value, low, high);
	assert_true(value >= low && value <= high);
}

static void test_rate_and_spread(void **state)
{
	struct run run;
	uint64_t packets, bytes;
	uint64_t most = 0;

	setup(&run, 1000, NS_PER_SEC, PACKET, NO_BUDGET, NO_BYTES);
	simulate(&run, 100, 0);
	for (size_t i = 0; i < run.n; i++) {
		assert_within((double)run.paths[i].sent, 98, 102);
		/* A tenth, and the slot of 8 ms. */
		assert_within(ns_to_seconds(run.paths[i].least_ns), 0.89, 1);
		assert_within(ns_to_seconds(run.paths[i].most_ns), 1, 1.11);
		assert_true(run.paths[i].first_ns < START + NS_PER_SEC + 10 * NS_PER_MS);
	}
	/* In the first second too: 100 ms have 100 on average, with the spread of chance. */
	for (size_t from = 0, i = 0; i < run.n_times; i++) {
		for (; run.times[i] - run.times[from] >= 100 * NS_PER_MS; from++)
			;
		most = i - from + 1 > most ? i - from + 1 : most;
	}
	assert_within((double)most, 100, 160);
	any_second(&run, &packets, &bytes);
	assert_within((double)packets, 1000, 1150);
	assert_within(probe_schedule_rate(&run.schedule), 1000, 1000);
	/* About 8 at a time. */
	assert_within((double)run.n_times / (double)run.wakes, 7, 9.5);
	assert_true(run.most_per_wake <= 16);
	teardown(&run);
}

static void test_slots(void **state)
{
	/* Paths at 1/s; wake-ups per second at most. At a few per second each leaves when it is due. */
	static const struct { size_t paths; double wakes; } cases[] = { { 1, 1.1 }, { 40, 41 }, { 100, 51 }, { 400, 51 }, { 2000, 252 }, { 10000, 1001 } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct run run;

		setup(&run, cases[i].paths, NS_PER_SEC, PACKET, NO_BUDGET, NO_BYTES);
		simulate(&run, 20, 0);
		assert_within((double)run.wakes / 20, 0.9, cases[i].wakes);
		assert_within((double)run.n_times / 20, (double)cases[i].paths * 0.94, (double)cases[i].paths * 1.06);
		teardown(&run);
	}
}

static void test_exactly_when_due(void **state)
{
	struct run run;

	setup(&run, 10, NS_PER_SEC, PACKET, 1000, 1000000);
	for (size_t i = 0; i < 200; i++) {
		const uint64_t next = probe_schedule_wake(&run.schedule);
		const size_t before = run.n_times;

		run.now = next - 1;
		wake(&run);
		assert_int_equal(run.n_times, before);
		run.now = next;
		wake(&run);
		assert_int_equal(run.n_times, before + 1);
	}
	teardown(&run);
}

/* Whatever is asked for, and however long the process is held up. */
static void test_budget(void **state)
{
	static const struct { size_t paths; uint64_t interval_ns; uint32_t bytes, packets_max, bytes_max; } cases[] = {
		{ 1, 10 * NS_PER_MS, PACKET, 1, NO_BYTES },          { 5, NS_PER_SEC, PACKET, 3, NO_BYTES },
		{ 10, NS_PER_SEC, PACKET, 10, NO_BYTES },            { 94, NS_PER_SEC, PACKET, 94, NO_BYTES },
		{ 100, 10 * NS_PER_MS, PACKET, 100, NO_BYTES },      { 500, 100 * NS_PER_MS, PACKET, 1000, NO_BYTES },
		{ 2000, 100 * NS_PER_MS, PACKET, 10000, NO_BYTES },  { 100, 100 * NS_PER_MS, 1500, NO_BUDGET, 100000 },
		{ 100, 100 * NS_PER_MS, 9060, NO_BUDGET, 1000000 },  { 10, 10 * NS_PER_MS, 9060, NO_BUDGET, 20000 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (unsigned held_up = 0; held_up <= 2; held_up++) {
			uint64_t packets, bytes;
			struct run run;

			srand(7);
			setup(&run, cases[i].paths, cases[i].interval_ns, cases[i].bytes, cases[i].packets_max, cases[i].bytes_max);
			simulate(&run, 20, held_up * 700 * NS_PER_MS);
			any_second(&run, &packets, &bytes);
			assert_true(packets <= cases[i].packets_max);
			assert_true(bytes <= cases[i].bytes_max);
			/* And what is allowed is used. */
			if (!held_up && cases[i].packets_max != NO_BUDGET)
				assert_within((double)run.n_times / 20, 0.88 * cases[i].packets_max, cases[i].packets_max);
			if (!held_up && cases[i].bytes_max != NO_BYTES)
				assert_within((double)run.n_times / 20 * cases[i].bytes, 0.88 * (cases[i].bytes_max - 9100.0), cases[i].bytes_max);
			/* Everybody gets the same. */
			for (size_t p = 1; !held_up && p < run.n; p++)
				assert_within((double)run.paths[p].sent, 0.7 * (double)run.paths[0].sent - 2, 1.4 * (double)run.paths[0].sent + 2);
			teardown(&run);
		}
	}
}

static void test_stretch(void **state)
{
	struct run run;

	setup(&run, 200, 100 * NS_PER_MS, PACKET, 1000, 1000000);
	assert_within(probe_schedule_wanted(&run.schedule), 1999, 2001);
	assert_within(run.schedule.stretch, 2.10, 2.11); /* 2000 / (0.95 * 1000) */
	assert_within(ns_to_seconds(probe_schedule_interval(&run.schedule, &run.paths[0].entry)), 0.210, 0.211);
	assert_within(probe_schedule_rate(&run.schedule), 949, 951);
	for (size_t i = 0; i < 150; i++)
		probe_schedule_remove(&run.schedule, &run.paths[i].entry);
	assert_true(run.schedule.stretch == 1);
	assert_int_equal(probe_schedule_interval(&run.schedule, &run.paths[199].entry), 100 * NS_PER_MS);
	probe_schedule_budget(&run.schedule, 100, 1000000);
	assert_within(run.schedule.stretch, 5.26, 5.27);
	teardown(&run);
}

static void test_speed(void **state)
{
	struct run run;
	uint64_t packets, bytes;

	/* 100 of 1/s and a budget of 200/s: ten times as fast takes 9 more for each. */
	setup(&run, 100, NS_PER_SEC, PACKET, 200, 1000000);
	simulate(&run, 5, 0);
	for (size_t i = 0; i < 5; i++)
		probe_schedule_speed(&run.schedule, &run.paths[i].entry, 100 * NS_PER_MS, run.now);
	assert_true(run.schedule.share == 1);
	assert_int_equal(probe_schedule_interval(&run.schedule, &run.paths[0].entry), 100 * NS_PER_MS);
	assert_true(run.paths[0].entry.due_ns <= run.now + 100 * NS_PER_MS);
	run.n_times = 0;
	for (size_t i = 0; i < run.n; i++)
		run.paths[i].sent = 0;
	simulate(&run, 10, 0);
	for (size_t i = 0; i < run.n; i++)
		assert_within((double)run.paths[i].sent, i < 5 ? 95 : 9, i < 5 ? 105 : 11);

	/* With 20 of them the room of 90/s (0.95 * 200 - 100) is half of the 180/s that they want; the others lose nothing. */
	for (size_t i = 5; i < 20; i++)
		probe_schedule_speed(&run.schedule, &run.paths[i].entry, 100 * NS_PER_MS, run.now);
	assert_within(run.schedule.share, 0.49, 0.51);
	assert_true(run.schedule.stretch == 1);
	simulate(&run, 2, 0);
	run.n_times = 0;
	for (size_t i = 0; i < run.n; i++)
		run.paths[i].sent = 0;
	simulate(&run, 10, 0);
	for (size_t i = 0; i < run.n; i++)
		assert_within((double)run.paths[i].sent, i < 20 ? 48 : 8, i < 20 ? 62 : 12);
	any_second(&run, &packets, &bytes);
	assert_true(packets <= 200);

	/* Above the budget nobody is faster. */
	probe_schedule_budget(&run.schedule, 50, 1000000);
	assert_true(run.schedule.share == 0);
	assert_within(run.schedule.stretch, 2.1, 2.11);
	assert_int_equal(probe_schedule_interval(&run.schedule, &run.paths[0].entry), probe_schedule_interval(&run.schedule, &run.paths[50].entry));

	/* And back. */
	probe_schedule_budget(&run.schedule, 200, 1000000);
	for (size_t i = 0; i < 20; i++)
		probe_schedule_speed(&run.schedule, &run.paths[i].entry, 0, run.now);
	assert_int_equal(probe_schedule_interval(&run.schedule, &run.paths[0].entry), NS_PER_SEC);
	assert_int_equal(run.schedule.extra_packets, 0);
	assert_int_equal(run.schedule.extra_bytes, 0);
	teardown(&run);
}

static void test_long_intervals(void **state)
{
	struct run run;
	size_t early = 0, third[3] = { 0 };

	/* Known soon, and spread afterwards. */
	setup(&run, 300, 3600 * NS_PER_SEC, PACKET, 1000, 1000000);
	simulate(&run, 11, 0);
	for (size_t i = 0; i < run.n; i++)
		early += run.paths[i].sent == 1;
	assert_int_equal(early, run.n);
	simulate(&run, 3620, 0);
	for (size_t i = 0; i < run.n; i++) {
		assert_int_equal(run.paths[i].sent >= 2, 1);
		third[(run.paths[i].least_ns / NS_PER_SEC) / 1201]++;
	}
	for (size_t i = 0; i < 3; i++)
		assert_within((double)third[i], 60, 140);
	teardown(&run);
}

/* A suspended host does not send what it missed. */
static void test_held_up(void **state)
{
	struct run run;
	uint64_t packets, bytes;

	setup(&run, 100, 100 * NS_PER_MS, PACKET, NO_BUDGET, NO_BYTES);
	simulate(&run, 2, 0);
	run.now += 3600 * NS_PER_SEC;
	run.n_times = 0;
	simulate(&run, 2, 0);
	any_second(&run, &packets, &bytes);
	assert_within((double)packets, 900, 1300);
	assert_within((double)run.schedule.skipped, 3595.0 * 1000, 3601.0 * 1000);
	assert_true(run.most_per_wake <= 20);
	teardown(&run);
}

/* Connections that measure a target for some seconds now and then must not make it be probed more often. */
static void test_interrupted(void **state)
{
	struct run run;

	setup(&run, 20, 300 * NS_PER_SEC, PACKET, 1000, 1000000);
	for (size_t round = 0; round < 600; round++) {
		simulate(&run, 7, 0);
		for (size_t i = 0; i < run.n; i++)
			probe_schedule_remove(&run.schedule, &run.paths[i].entry);
		run.now += 3 * NS_PER_SEC;
		for (size_t i = 0; i < run.n; i++)
			assert_int_equal(probe_schedule_add(&run.schedule, &run.paths[i].entry, 300 * NS_PER_SEC, PACKET, run.now), 0);
	}
	/* 6000 s, and what came due while it was out is made up for. */
	for (size_t i = 0; i < run.n; i++)
		assert_within((double)run.paths[i].sent, 18, 30);
	teardown(&run);
}

/* Sums are whole numbers: a year of coming and going leaves nothing behind. */
static void test_coming_and_going(void **state)
{
	static const uint64_t intervals[] = { 10 * NS_PER_MS, 333333333, NS_PER_SEC, 7 * NS_PER_SEC + 1, 3600 * NS_PER_SEC };
	struct run run;

	srand(3);
	setup(&run, 200, NS_PER_SEC, PACKET, 1000, 1000000);
	for (size_t round = 0; round < 100000; round++) {
		struct path *path = &run.paths[rand() % 200];

		switch (rand() % 3) {
		case 0: probe_schedule_remove(&run.schedule, &path->entry); break;
		case 1:
			if (!path->entry.place)
				assert_int_equal(probe_schedule_add(&run.schedule, &path->entry, intervals[rand() % 5], (uint32_t)(rand() % 9000), run.now), 0);
			break;
		case 2: probe_schedule_speed(&run.schedule, &path->entry, rand() % 2 ? path->entry.interval_ns / 10 : 0, run.now); break;
		}
		if (round % 16 == 0) {
			run.now += 10 * NS_PER_MS;
			run.n_times = 0;
			wake(&run);
		}
		/* The heap is one, and knows where everybody is. */
		for (size_t i = 0; round % 500 == 0 && i < run.schedule.n; i++) {
			assert_int_equal(run.schedule.heap[i].entry->place, i + 1);
			assert_int_equal(run.schedule.heap[i].entry->due_ns, run.schedule.heap[i].due_ns);
			assert_true(!i || run.schedule.heap[(i - 1) / 4].due_ns <= run.schedule.heap[i].due_ns);
		}
	}
	for (size_t i = 0; i < 200; i++)
		probe_schedule_remove(&run.schedule, &run.paths[i].entry);
	assert_int_equal(run.schedule.n, 0);
	assert_int_equal(run.schedule.packets | run.schedule.bytes | run.schedule.extra_packets | run.schedule.extra_bytes, 0);
	assert_true(probe_schedule_wake(&run.schedule) == UINT64_MAX);
	teardown(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rate_and_spread), cmocka_unit_test(test_slots),       cmocka_unit_test(test_exactly_when_due),
		cmocka_unit_test(test_budget),          cmocka_unit_test(test_stretch),     cmocka_unit_test(test_speed),
		cmocka_unit_test(test_long_intervals),  cmocka_unit_test(test_held_up),     cmocka_unit_test(test_coming_and_going),
		cmocka_unit_test(test_interrupted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
