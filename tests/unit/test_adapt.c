/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a target is probed faster: a simulated target at a simulated interval, whose losses follow a rule of the test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "agent/probe/adapt.h"
#include "lib/clock.h"

#define START (5000 * NS_PER_SEC)
#define TIMEOUT (2 * NS_PER_SEC)
#define BEHIND 64

enum rule { NEVER, ALWAYS, ONCE, HALF, TOKENS, OUTAGE };

/* A target, and the sampler around it. Results come in the order of their probes, a loss a time-out after it. */
struct target {
	struct adapt adapt;
	enum rule rule;
	uint64_t interval_ns, now;
	double tokens;            /* TOKENS: answers two probes per second, five at once */
	uint64_t sent, lost, fast_ns, times_fast;
	bool was_fast, was_lost;  /* was_lost: the last known probe */
	struct { uint64_t sent_ns, known_ns; bool lost; } behind[BEHIND];
	unsigned first, n;
};

static void setup(struct target *t, enum rule rule, uint64_t interval_ns)
{
	*t = (struct target){ .rule = rule, .interval_ns = interval_ns, .now = START, .tokens = 5 };
	adapt_init(&t->adapt, TIMEOUT);
}

static bool loses(struct target *t)
{
	switch (t->rule) {
	case NEVER: return false;
	case ALWAYS: return true;
	case ONCE: return t->sent == 20;
	case HALF: return t->sent % 2;
	case OUTAGE: return t->sent >= 20 && t->now < START + 30 * NS_PER_SEC;
	case TOKENS:
		if (t->sent == 20)
			return true; /* for a reason that has nothing to do with it */
		if (t->tokens < 1)
			return true;
		t->tokens -= 1;
		return false;
	}
	return false;
}

static void deliver(struct target *t)
{
	while (t->n && t->behind[t->first].known_ns <= t->now) {
		const bool lost = t->behind[t->first].lost;

		/* As probe_stats says it: the first loss behind an answer. */
		adapt_result(&t->adapt, t->behind[t->first].sent_ns, lost, lost && !t->was_lost, t->now);
		t->was_lost = lost;
		t->first = (t->first + 1) % BEHIND;
		t->n--;
	}
}

static void simulate(struct target *t, uint64_t seconds)
{
	const uint64_t end = t->now + seconds * NS_PER_SEC;

	while (t->now < end) {
		const bool fast = adapt_is_fast(&t->adapt);
		const uint64_t interval = fast ? adapt_fast_interval(t->interval_ns) : t->interval_ns;
		const bool lost = loses(t);
		const unsigned last = (t->first + t->n++) % BEHIND;

		assert_true(t->n <= BEHIND);
		t->behind[last].sent_ns = t->now;
		t->behind[last].lost = lost;
		t->behind[last].known_ns = t->now + (lost ? TIMEOUT : NS_PER_MS);
		t->sent++;
		t->lost += lost;
		t->times_fast += fast && !t->was_fast;
		t->fast_ns += fast ? interval : 0;
		t->was_fast = fast;
		t->now += interval;
		t->tokens += 2 * ns_to_seconds(interval);
		t->tokens = t->tokens > 5 ? 5 : t->tokens;
		deliver(t);
		adapt_tick(&t->adapt, t->now);
	}
}

static void test_intervals(void **state)
{
	assert_int_equal(adapt_fast_interval(NS_PER_SEC), NS_PER_SEC / 10);
	assert_int_equal(adapt_fast_interval(60 * NS_PER_SEC), 6 * NS_PER_SEC);
	assert_int_equal(adapt_fast_interval(500 * NS_PER_MS), NS_PER_SEC / 10);
	assert_int_equal(adapt_fast_interval(100 * NS_PER_MS), 100 * NS_PER_MS);
	assert_int_equal(adapt_fast_interval(20 * NS_PER_MS), 20 * NS_PER_MS);
}

static void test_nothing_happens(void **state)
{
	struct target t;

	setup(&t, NEVER, NS_PER_SEC);
	simulate(&t, 1000);
	assert_int_equal(t.times_fast, 0);
	assert_int_equal(t.sent, 1000);
}

static void test_one_loss(void **state)
{
	struct target t;

	setup(&t, ONCE, NS_PER_SEC);
	simulate(&t, 100);
	assert_int_equal(t.times_fast, 1);
	assert_true(t.fast_ns >= 10 * NS_PER_SEC && t.fast_ns < 11 * NS_PER_SEC);
	assert_true(t.sent >= 185 && t.sent <= 195); /* 90 slow ones and 100 fast ones */
	assert_int_equal(t.adapt.phase, ADAPT_CALM);
	assert_false(adapt_is_limited(&t.adapt));
}

static void test_slower(void **state)
{
	struct adapt a;

	adapt_init(&a, TIMEOUT);
	adapt_result(&a, START, false, true, START + NS_PER_MS);
	assert_true(adapt_is_fast(&a));
	adapt_tick(&a, START + 9 * NS_PER_SEC);
	assert_true(adapt_is_fast(&a));
	adapt_tick(&a, START + NS_PER_MS + 10 * NS_PER_SEC);
	assert_false(adapt_is_fast(&a));
}

/* A target that is down costs ten times as much once; then nothing is new. */
static void test_down(void **state)
{
	struct target t;

	setup(&t, ALWAYS, NS_PER_SEC);
	simulate(&t, 1000);
	assert_int_equal(t.times_fast, 1);
	assert_false(adapt_is_limited(&t.adapt));
}

/* One that always loses some rests longer and longer, and is never called rate limited. */
static void test_always_lossy(void **state)
{
	struct target t;
	uint64_t sent;

	setup(&t, HALF, NS_PER_SEC);
	simulate(&t, 1000);
	assert_true(t.times_fast >= 4 && t.times_fast <= 7);
	sent = t.sent;
	simulate(&t, 3000);
	assert_true(t.sent - sent < 3000 + 10 * 100);
	assert_false(adapt_is_limited(&t.adapt));
	assert_int_equal(t.adapt.limited_until_ns, 0);
	/* After a long quiet time it is quick again. */
	t.rule = NEVER;
	simulate(&t, 1500);
	t.rule = HALF;
	simulate(&t, 15);
	assert_int_equal(t.adapt.rest_ns, 10 * NS_PER_SEC);
}

static void test_rate_limited(void **state)
{
	struct target t;
	uint64_t lost, times;

	setup(&t, TOKENS, NS_PER_SEC);
	simulate(&t, 80);
	/* Fast for its first loss, slow without one, fast again to be sure. */
	assert_true(adapt_is_limited(&t.adapt));
	assert_int_equal(t.times_fast, 2);
	assert_true(t.lost > 100);
	lost = t.lost;
	times = t.times_fast;
	simulate(&t, 500);
	assert_int_equal(t.lost, lost);
	assert_int_equal(t.times_fast, times);
	assert_true(adapt_is_limited(&t.adapt));
	/* Looked at again some time. */
	simulate(&t, 200);
	assert_false(adapt_is_limited(&t.adapt));
	t.sent = 20;
	simulate(&t, 80);
	assert_true(adapt_is_limited(&t.adapt));
}

/* Loss that ends with the fast time by chance looks the same, but does not come back when it is fast again. */
static void test_chance(void **state)
{
	struct target t;

	setup(&t, NEVER, NS_PER_SEC);
	simulate(&t, 20);
	t.rule = HALF;
	simulate(&t, 12);
	assert_int_equal(t.times_fast, 1);
	t.rule = NEVER;
	simulate(&t, 60);
	assert_int_equal(t.times_fast, 2);
	assert_false(adapt_is_limited(&t.adapt));
	assert_int_equal(t.adapt.phase, ADAPT_CALM);
}

static void test_outage(void **state)
{
	struct target t;

	setup(&t, OUTAGE, NS_PER_SEC);
	simulate(&t, 300);
	assert_true(t.times_fast >= 1 && t.times_fast <= 2);
	assert_false(adapt_is_limited(&t.adapt));
}

/* A long interval has few results: it is fast once, and nothing is concluded. */
static void test_long_interval(void **state)
{
	struct target t;

	setup(&t, HALF, 60 * NS_PER_SEC);
	simulate(&t, 3600);
	assert_true(t.times_fast >= 1);
	assert_false(adapt_is_limited(&t.adapt));
	assert_true(t.adapt.phase == ADAPT_CALM || t.adapt.phase == ADAPT_FAST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_intervals),     cmocka_unit_test(test_nothing_happens), cmocka_unit_test(test_one_loss),
		cmocka_unit_test(test_slower),        cmocka_unit_test(test_down),            cmocka_unit_test(test_always_lossy),
		cmocka_unit_test(test_rate_limited),  cmocka_unit_test(test_chance),          cmocka_unit_test(test_outage),
		cmocka_unit_test(test_long_interval),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
