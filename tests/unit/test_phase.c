/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The phase lock against a simulated agent and network: commits that jitter and
 * are late at times, a way that takes random time with rare long pauses, a clock
 * of another rate, a restart. No real time passes. Random numbers have a fixed
 * seed, which is printed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "server/phase.h"

#define SEED 20240611u
#define MS NS_PER_MS
#define SIM_SAMPLES 4000

struct sim {
	unsigned seed;
	uint64_t interval_ns, tick_ns;
	double drift;              /* of the agent's clock, 1e-6 = 1 ppm */
	uint64_t commit_jitter_ns; /* a commit is up to this late */
	uint64_t way_ns, way_jitter_ns;
	unsigned pause_every;      /* every n-th request is 120 ms under way, on average; 0: never */
	uint64_t restart_ns;       /* the agent restarts then, at another phase; 0: never */

	uint64_t ages[SIM_SAMPLES], gaps[SIM_SAMPLES];
	size_t n, same, skipped;
};

static uint64_t below(struct sim *s, uint64_t n)
{
	return n ? (uint64_t)rand_r(&s->seed) % n : 0;
}

/* When commit k became visible, on our clock; always the same for one k. */
static uint64_t commit_at(const struct sim *s, uint64_t start, uint64_t k)
{
	unsigned seed = (unsigned)k * 2654435761u;
	uint64_t late = s->commit_jitter_ns ? (uint64_t)rand_r(&seed) % s->commit_jitter_ns : 0;

	return start + (uint64_t)((double)(k * s->tick_ns) * (1 + s->drift)) + late;
}

static void ask(const struct sim *s, uint64_t start, uint64_t t, struct phase_snapshot *ret)
{
	uint64_t k = (t - start) / s->tick_ns + 1;

	while (k > 0 && commit_at(s, start, k) > t)
		k--;
	ret->generation = k + 1;
	ret->tick_ns = s->tick_ns;
	/* The header has three decimals. */
	ret->age_ns = (t - commit_at(s, start, k)) / MS * MS;
}

static void run(struct sim *s, uint64_t duration_ns)
{
	struct phase phase = { 0 };
	uint64_t start = 1000 * MS + below(s, s->tick_ns), last_generation = 0, last_sent = 0;
	mono_time due = { start + 5 * s->tick_ns + below(s, s->interval_ns) };
	const uint64_t end = due.ns + duration_ns, settled = due.ns + duration_ns / 10;
	bool restarted = false;

	phase_reset(&phase);
	while (due.ns < end && s->n < SIM_SAMPLES) {
		struct phase_snapshot snapshot;
		uint64_t way = s->way_ns + below(s, s->way_jitter_ns), skipped;
		mono_time sent = { due.ns + below(s, MS) };
		bool same;

		if (s->restart_ns && !restarted && due.ns > start + s->restart_ns) {
			start = due.ns - s->tick_ns / 3;
			restarted = true;
		}
		if (s->pause_every && below(s, s->pause_every) == 0)
			way += 120 * MS;
		ask(s, start, sent.ns + way, &snapshot);
		same = snapshot.generation == last_generation;
		if (snapshot.generation < last_generation)
			phase_reset(&phase);
		phase_observe(&phase, sent, &snapshot, same);
		if (sent.ns > settled) {
			s->same += same;
			s->ages[s->n] = snapshot.age_ns;
			s->gaps[s->n++] = sent.ns - last_sent;
		}
		last_generation = snapshot.generation;
		last_sent = sent.ns;
		due = phase_next(&phase, due, (mono_time){ sent.ns + 2 * way }, s->interval_ns, &skipped);
		assert_true(due.ns > sent.ns);
		s->skipped += skipped;
	}
}

static int compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t quantile(uint64_t *values, size_t n, double q)
{
	qsort(values, n, sizeof(values[0]), compare);
	return values[(size_t)(q * (double)(n - 1))];
}

static void show(const char *what, struct sim *s)
{
	print_message(
	    "%s: seed %u, %zu requests, age p50 %.0f p95 %.0f p99 %.0f ms, gap p50 %.0f ms, same %zu, skipped %zu\n",
	    what, SEED, s->n, (double)quantile(s->ages, s->n, .5) / 1e6, (double)quantile(s->ages, s->n, .95) / 1e6,
	    (double)quantile(s->ages, s->n, .99) / 1e6, (double)quantile(s->gaps, s->n, .5) / 1e6, s->same, s->skipped);
}

static void test_each_commit(void **state)
{
	struct sim s = {.seed = SEED,
			.interval_ns = 1000 * MS,
			.tick_ns = 1000 * MS,
			.drift = 100e-6,
			.way_ns = MS / 5,
			.way_jitter_ns = 3 * MS};

	run(&s, 3000 * NS_PER_SEC);
	show("1 s tick, 1 s interval", &s);
	assert_in_range(quantile(s.ages, s.n, .5), 10 * MS, 22 * MS);
	assert_true(quantile(s.ages, s.n, .99) < 30 * MS);
	assert_int_equal(s.same, 0);
	assert_int_equal(s.skipped, 0);
	assert_in_range(s.n, 2690, 2702);
}

static void test_pauses_do_not_move_it(void **state)
{
	struct sim s = {.seed = SEED,
			.interval_ns = 1000 * MS,
			.tick_ns = 1000 * MS,
			.drift = -100e-6,
			.way_ns = 2 * MS,
			.way_jitter_ns = 5 * MS,
			.pause_every = 15};

	run(&s, 3000 * NS_PER_SEC);
	show("with pauses of 120 ms", &s);
	/* The paused ones are late themselves (7 %); none of the others suffers. */
	assert_true(quantile(s.ages, s.n, .9) < 35 * MS);
	assert_true(s.same * 100 <= s.n);
}

static void test_late_commits(void **state)
{
	struct sim s = {.seed = SEED,
			.interval_ns = 1000 * MS,
			.tick_ns = 1000 * MS,
			.commit_jitter_ns = 40 * MS,
			.way_ns = MS,
			.way_jitter_ns = MS};

	run(&s, 3000 * NS_PER_SEC);
	show("commits up to 40 ms late", &s);
	assert_true(quantile(s.ages, s.n, .95) < 80 * MS);
	assert_true(s.same * 20 <= s.n);
}

static void test_short_tick(void **state)
{
	struct sim s = { .seed = SEED, .interval_ns = 1000 * MS, .tick_ns = 50 * MS, .drift = 200e-6, .way_ns = MS,
			 .way_jitter_ns = 2 * MS };

	run(&s, 2000 * NS_PER_SEC);
	show("50 ms tick, 1 s interval", &s);
	assert_true(quantile(s.ages, s.n, .99) < 30 * MS);
	assert_in_range(quantile(s.gaps, s.n, .5), 990 * MS, 1010 * MS);
	assert_int_equal(s.same, 0);
}

static void test_interval_rounds_to_ticks(void **state)
{
	struct sim s = {.seed = SEED, .interval_ns = 1000 * MS, .tick_ns = 300 * MS, .way_ns = MS, .way_jitter_ns = MS};

	run(&s, 2000 * NS_PER_SEC);
	show("300 ms tick, 1 s interval", &s);
	assert_in_range(quantile(s.gaps, s.n, .5), 895 * MS, 905 * MS);
	assert_true(quantile(s.ages, s.n, .99) < 30 * MS);
}

static void test_long_tick(void **state)
{
	struct sim s = {
	    .seed = SEED, .interval_ns = 1000 * MS, .tick_ns = 10000 * MS, .way_ns = MS, .way_jitter_ns = MS};

	run(&s, 3000 * NS_PER_SEC);
	show("10 s tick, 1 s interval", &s);
	/* Every tenth request meets a new commit at once; the others find nothing new. */
	assert_in_range(quantile(s.gaps, s.n, .5), 990 * MS, 1010 * MS);
	assert_true(quantile(s.ages, s.n, .05) < 30 * MS);
	assert_in_range(s.n - s.same, s.n / 10 - 3, s.n / 10 + 3);
}

static void test_restart(void **state)
{
	struct sim s = {.seed = SEED,
			.interval_ns = 1000 * MS,
			.tick_ns = 1000 * MS,
			.way_ns = MS,
			.way_jitter_ns = MS,
			.restart_ns = 500 * NS_PER_SEC};

	run(&s, 1000 * NS_PER_SEC);
	show("agent restarts", &s);
	assert_true(quantile(s.ages, s.n, .99) < 30 * MS);
}

static void test_no_lock_below_20_ms(void **state)
{
	struct phase phase = { 0 };
	const struct phase_snapshot snapshot = { 1, 3 * MS, 19 * MS };
	uint64_t skipped;

	phase_observe(&phase, (mono_time){ NS_PER_SEC }, &snapshot, false);
	assert_false(phase_locked(&phase));
	assert_int_equal(
	    phase_next(&phase, (mono_time){NS_PER_SEC}, (mono_time){NS_PER_SEC + 1}, 100 * MS, &skipped).ns,
	    NS_PER_SEC + 100 * MS);
	assert_int_equal(skipped, 0);
}

static void test_skips_are_counted(void **state)
{
	struct phase phase = { 0 };
	uint64_t skipped;
	mono_time next =
	    phase_next(&phase, (mono_time){10 * NS_PER_SEC}, (mono_time){13 * NS_PER_SEC + MS}, NS_PER_SEC, &skipped);

	assert_int_equal(next.ns, 14 * NS_PER_SEC);
	assert_int_equal(skipped, 3);
}

static void test_skips_are_counted_when_locked(void **state)
{
	struct phase phase = { 0 };
	const struct phase_snapshot snapshot = { 1, 15 * MS, 1000 * MS };
	uint64_t skipped;
	mono_time next;

	phase_observe(&phase, (mono_time){ 10 * NS_PER_SEC }, &snapshot, false);
	next =
	    phase_next(&phase, (mono_time){10 * NS_PER_SEC}, (mono_time){13 * NS_PER_SEC + MS}, NS_PER_SEC, &skipped);
	assert_int_equal(next.ns, 14 * NS_PER_SEC);
	assert_int_equal(skipped, 3);
}

static void test_header(void **state)
{
	static const char *const bad[] = {
	    "",
	    "generation=1",
	    "generation=1; age=0.1",
	    "generation=x; age=0.1; tick=1",
	    "generation=1; age=nan; tick=1",
	    "generation=1; age=-1; tick=1",
	    "generation=1; age=1e300; tick=1",
	    "generation=1; age=1; tick=inf",
	    "generation=-1; age=1; tick=1",
	    ";;;;",
	    "generation=1, age=0.1, tick=1",
	    "Generation=1; age=0.1; tick=1",
	};
	struct phase_snapshot s = { 0 };

	assert_true(phase_parse("generation=123; age=0.123; tick=1.000", &s));
	assert_int_equal(s.generation, 123);
	assert_int_equal(s.age_ns, 123 * MS);
	assert_int_equal(s.tick_ns, 1000 * MS);
	assert_true(phase_parse("tick=0.05;age=0;  generation=7; more=1", &s));
	assert_int_equal(s.generation, 7);
	assert_int_equal(s.tick_ns, 50 * MS);
	assert_false(phase_parse(NULL, &s));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(phase_parse(bad[i], &s));
}

/* Whatever a hostile agent says, the next time is in the future and not absurdly far. */
static void test_hostile_snapshots(void **state)
{
	unsigned seed = SEED;
	struct phase phase = { 0 };
	mono_time due = { 90000 * NS_PER_SEC }, now = due;

	for (int i = 0; i < 100000; i++) {
		const uint64_t interval = 20 * MS + (uint64_t)rand_r(&seed) % (2 * NS_PER_SEC);
		const struct phase_snapshot snapshot = {(uint64_t)rand_r(&seed) % 4, (uint64_t)rand_r(&seed) * 40000ull,
							(uint64_t)rand_r(&seed) % 3 * (uint64_t)rand_r(&seed)};
		uint64_t skipped;

		phase_observe(&phase, now, &snapshot, rand_r(&seed) % 2);
		now.ns += (uint64_t)rand_r(&seed) % (3 * NS_PER_SEC);
		due = phase_next(&phase, due, now, interval, &skipped);
		assert_true(due.ns > now.ns);
		assert_true(due.ns - now.ns < 10 * NS_PER_SEC);
		now = due;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_each_commit),
	    cmocka_unit_test(test_pauses_do_not_move_it),
	    cmocka_unit_test(test_late_commits),
	    cmocka_unit_test(test_short_tick),
	    cmocka_unit_test(test_interval_rounds_to_ticks),
	    cmocka_unit_test(test_long_tick),
	    cmocka_unit_test(test_restart),
	    cmocka_unit_test(test_no_lock_below_20_ms),
	    cmocka_unit_test(test_skips_are_counted),
	    cmocka_unit_test(test_skips_are_counted_when_locked),
	    cmocka_unit_test(test_header),
	    cmocka_unit_test(test_hostile_snapshots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
