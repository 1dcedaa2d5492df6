/* SPDX-License-Identifier: Apache-2.0 */
/* The lab's link by itself: its settings, its decisions about packets, and the packets that wait. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "lab/impair.h"
#include "lab/schedule.h"

#define MS UINT64_C(1000000)

static struct direction direction_with(const char *settings, uint64_t seed)
{
	struct direction direction;
	struct error error = { 0 };
	direction_init(&direction, seed, 0);
	if (impair_parse(settings, &direction.impair, &error) < 0)
		fail_msg("%s: %s", settings, error.text);
	return direction;
}

static void test_parse_good(void **state)
{
	struct direction d = direction_with(" delay=20ms jitter=1.5ms distribution=normal\tloss=1% duplicate=1/100 "
					    "reorder=0.25% hold=2ms rate=2.5Mbit queue=64kB ", 1);
	assert_int_equal(d.impair.delay_ns, 20 * MS);
	assert_int_equal(d.impair.jitter_ns, 1500000);
	assert_true(d.impair.jitter_normal);
	assert_true(d.impair.loss.probability == 0.01 && !d.impair.loss.every);
	assert_int_equal(d.impair.duplicate.every, 100);
	assert_true(d.impair.reorder.probability == 0.0025);
	assert_int_equal(d.impair.hold_ns, 2 * MS);
	assert_int_equal(d.impair.rate_bps, 2500000);
	assert_int_equal(d.impair.queue_bytes, 64000);
	assert_int_equal(d.impair.queue_ns, 0);
	/* What is not named stays. */
	assert_int_equal(impair_parse("loss=0 duplicate=0 rate=0 queue=1s distribution=uniform", &d.impair, NULL), 0);
	assert_int_equal(d.impair.delay_ns, 20 * MS);
	assert_true(d.impair.loss.probability == 0 && !d.impair.duplicate.every && !d.impair.rate_bps);
	assert_int_equal(d.impair.queue_ns, 1000 * MS);
	assert_int_equal(d.impair.queue_bytes, 0);
	assert_false(d.impair.jitter_normal);
}

static void test_parse_bad(void **state)
{
	static const struct { const char *text, *message; } cases[] = {
		{ "delay", "expected a setting such as delay=20ms, not `delay`" },
		{ "dealy=20ms", "unknown setting `dealy`; did you mean `delay`?" },
		{ "zzzzzz=1", "unknown setting `zzzzzz`" },
		{ "=1", "unknown setting ``" },
		{ "delay=20", "delay: expected a duration such as 20ms, not `20`" },
		{ "delay=2h", "delay: `2h` is more than an hour" },
		{ "loss=5", "loss: expected a share such as 1% or 1/100, not `5`" },
		{ "loss=101%", "loss: expected a share such as 1% or 1/100, not `101%`" },
		{ "loss=-1%", "loss: expected a share such as 1% or 1/100, not `-1%`" },
		{ "loss=nan%", "loss: expected a share such as 1% or 1/100, not `nan%`" },
		{ "loss=1/0", "loss: expected a share such as 1% or 1/100, not `1/0`" },
		{ "loss=2/3", "loss: expected a share such as 1% or 1/100, not `2/3`" },
		{ "rate=10MB", "rate: expected a rate such as 10Mbit, of at least 1kbit, or 0 for no limit, not `10MB`" },
		{ "rate=1bit", "rate: expected a rate such as 10Mbit, of at least 1kbit, or 0 for no limit, not `1bit`" },
		{ "queue=0", "queue: expected a limit such as 50ms or 64kB, not `0`" },
		{ "queue=64", "queue: expected a limit such as 50ms or 64kB, not `64`" },
		{ "distribution=pareto", "distribution: expected uniform or normal, not `pareto`" },
		{ "loss=1% delay=x", "delay: expected a duration such as 20ms, not `x`" },
		{ "delay=11111111111111111111111111111111111111111111111111111111111111111111",
		  "`delay=11111111111111111111111111...` is too long for a setting" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct impair impair = { .delay_ns = 7 }, before = impair;
		struct error error = { 0 };
		assert_int_equal(impair_parse(cases[i].text, &impair, &error), -EINVAL);
		assert_string_equal(error.text, cases[i].message);
		assert_memory_equal(&impair, &before, sizeof(impair));
	}
}

/* Everything balances, and what was put in and taken out is told apart. */
static void assert_balanced(const struct counts *c)
{
	assert_int_equal(c->in + c->duplicated, c->out + c->lost + c->queue_dropped + c->memory_dropped +
			 c->send_failed + c->queued);
}

static void test_every_nth(void **state)
{
	struct direction d = direction_with("loss=1/3 duplicate=1/4", 1);
	struct plan plan;
	for (unsigned n = 1; n <= 1200; n++) {
		direction_plan(&d, n * MS, 100, &plan);
		assert_int_equal(plan.copies[0].fate, n % 3 ? FATE_SENT : FATE_LOST);
	}
	assert_int_equal(d.counts.in, 1200);
	assert_int_equal(d.counts.in_bytes, 120000);
	assert_int_equal(d.counts.lost, 400);
	assert_int_equal(d.counts.duplicated, 200); /* every fourth of the 800 that were not lost */
	assert_int_equal(d.counts.queued, 1000);
	assert_balanced(&d.counts);
}

static void test_random_share(void **state)
{
	struct direction d = direction_with("loss=5%", 7), again = direction_with("loss=5%", 7),
			 other = direction_with("loss=5%", 8),
			 more = direction_with("loss=5% duplicate=50% reorder=50% delay=9ms jitter=1ms distribution=normal", 7);
	unsigned same = 0, n = 100000;
	for (unsigned i = 1; i <= n; i++) {
		struct plan a, b, c, e;
		direction_plan(&d, i * MS, 100, &a);
		direction_plan(&again, i * MS, 100, &b);
		direction_plan(&other, i * MS, 100, &c);
		direction_plan(&more, i * MS, 100, &e);
		assert_int_equal(a.copies[0].fate, b.copies[0].fate);
		assert_int_equal(a.copies[0].fate, e.copies[0].fate);
		same += a.copies[0].fate == FATE_LOST && c.copies[0].fate == FATE_LOST;
	}
	/* Five standard deviations of the binomial distribution: 345. */
	assert_true(d.counts.lost > 5000 - 345 && d.counts.lost < 5000 + 345);
	/* Another seed is unrelated: 250 by chance, +- 5 * 15.8. */
	assert_true(same > 170 && same < 330);
	assert_balanced(&more.counts);
}

static void test_rate(void **state)
{
	/* 1500 bytes at 12 Mbit/s take 1 ms. */
	struct direction d = direction_with("rate=12Mbit queue=4500B delay=10ms", 1);
	struct plan plan;
	for (unsigned i = 0; i < 5; i++) {
		direction_plan(&d, 100 * MS, 1500, &plan);
		assert_int_equal(plan.copies[0].fate, i < 3 ? FATE_SENT : FATE_QUEUE_FULL);
		if (i < 3)
			assert_int_equal(plan.copies[0].due_ns, (111 + i) * MS);
	}
	/* Half of the first has gone: 3,750 bytes wait, and a small one still fits. */
	direction_plan(&d, 100 * MS + MS / 2, 751, &plan);
	assert_int_equal(plan.copies[0].fate, FATE_QUEUE_FULL);
	direction_plan(&d, 100 * MS + MS / 2, 750, &plan);
	assert_int_equal(plan.copies[0].due_ns, 113 * MS + MS / 2);
	assert_int_equal(d.counts.queue_dropped, 3);
	/* An idle transmitter takes what is longer than its queue. */
	direction_plan(&d, 200 * MS, 9000, &plan);
	assert_int_equal(plan.copies[0].due_ns, 216 * MS);
	/* A limit in time: 2 ms are 3000 bytes. */
	d = direction_with("rate=12Mbit queue=2ms", 1);
	for (unsigned i = 0; i < 3; i++)
		direction_plan(&d, 100 * MS, 1500, &plan);
	assert_int_equal(d.counts.queue_dropped, 1);
	assert_balanced(&d.counts);
}

static void test_jitter(void **state)
{
	static const struct { const char *text; double low, high, deviation; } cases[] = {
		{ "delay=50ms jitter=3ms", 47, 53, 3 / 1.7320508 },
		{ "delay=50ms jitter=3ms distribution=normal", 30, 70, 3 },
	};
	for (size_t i = 0; i < 2; i++) {
		struct direction d = direction_with(cases[i].text, 3);
		double sum = 0, squares = 0;
		const unsigned n = 20000;
		for (unsigned k = 1; k <= n; k++) {
			struct plan plan;
			/* A second apart, so that the order constrains nothing. */
			direction_plan(&d, k * 1000 * MS, 100, &plan);
			double delay = (double)(plan.copies[0].due_ns - k * 1000 * MS) / (double)MS;
			assert_true(delay >= cases[i].low && delay <= cases[i].high);
			sum += delay;
			squares += delay * delay;
		}
		double mean = sum / n, deviation = sqrt(squares / n - mean * mean);
		assert_true(fabs(mean - 50) < 0.1);
		assert_true(fabs(deviation - cases[i].deviation) < 0.1);
	}
}

static void test_order(void **state)
{
	struct direction d = direction_with("delay=5ms jitter=5ms", 1);
	uint64_t last = 0;
	struct plan plan;
	for (unsigned i = 1; i <= 1000; i++) {
		direction_plan(&d, i * MS / 10, 100, &plan);
		assert_true(plan.copies[0].due_ns >= last);
		last = plan.copies[0].due_ns;
	}
	/* Less delay from now on: the packets under way are not overtaken. */
	assert_int_equal(impair_parse("delay=0 jitter=0", &d.impair, NULL), 0);
	direction_plan(&d, 101 * MS, 100, &plan);
	assert_int_equal(plan.copies[0].due_ns, last);
	/* Held back, and the next ones are not. */
	assert_int_equal(impair_parse("reorder=1/2 hold=30ms", &d.impair, NULL), 0);
	direction_plan(&d, 200 * MS, 100, &plan);
	assert_int_equal(plan.copies[0].due_ns, 200 * MS);
	direction_plan(&d, 201 * MS, 100, &plan);
	assert_int_equal(plan.copies[0].due_ns, 231 * MS);
	direction_plan(&d, 202 * MS, 100, &plan);
	assert_int_equal(plan.copies[0].due_ns, 202 * MS);
}

static void test_sent(void **state)
{
	static const uint64_t numbers[] = { 1, 3, 2, 4, 4, 7, 5, 6, 8 }; /* 2, 5 and 6 come after a later one */
	struct direction d = direction_with("", 1);
	struct plan plan;
	for (unsigned i = 0; i < 9; i++)
		direction_plan(&d, MS, 100, &plan);
	for (unsigned i = 0; i < 9; i++)
		direction_sent(&d, numbers[i], 100, MS, 2 * MS, 3 * MS + i);
	assert_int_equal(d.counts.reordered, 3);
	assert_int_equal(d.counts.out, 9);
	assert_int_equal(d.counts.queued, 0);
	assert_int_equal(d.counts.residence_min_ns, 2 * MS);
	assert_int_equal(d.counts.residence_max_ns, 2 * MS + 8);
	assert_int_equal(d.counts.residence_sum_ns, 18 * MS + 36);
	assert_int_equal(d.counts.late_min_ns, MS);
	assert_int_equal(d.counts.late_max_ns, MS + 8);
	assert_balanced(&d.counts);
}

static void test_schedule(void **state)
{
	struct schedule schedule;
	uint8_t data[64];
	schedule_init(&schedule, 1000000);
	srand(5);
	size_t put = 0, taken = 0;
	for (unsigned round = 0; round < 20000; round++) {
		if (schedule.n < 500 && (!schedule.n || rand() % 3)) {
			struct packet packet = { .due_ns = (uint64_t)(rand() % 50), .number = put++, .len = sizeof(data) };
			memset(data, (int)(packet.number & 0xff), sizeof(data));
			assert_int_equal(schedule_put(&schedule, &packet, data), 0);
			continue;
		}
		uint64_t due_ns = schedule_first(&schedule)->due_ns, number = schedule_first(&schedule)->number;
		struct packet *packet = schedule_take(&schedule);
		assert_int_equal(packet->number, number);
		assert_int_equal(packet->data[63], number & 0xff);
		free(packet);
		taken++;
		/* Whatever is left is due later, or at the same time and was put in later. */
		const struct packet *next = schedule_first(&schedule);
		if (next)
			assert_true(next->due_ns > due_ns || (next->due_ns == due_ns && next->number > number));
	}
	assert_int_equal(put - taken, schedule.n);
	schedule_done(&schedule);

	schedule_init(&schedule, 10000);
	struct packet packet = { .len = sizeof(data) };
	unsigned fit = 0;
	while (!schedule_put(&schedule, &packet, data))
		fit++;
	assert_true(fit > 50 && fit < 100);
	free(schedule_take(&schedule));
	assert_int_equal(schedule_put(&schedule, &packet, data), 0);
	assert_int_equal(schedule_put(&schedule, &packet, data), -ENOMEM);
	schedule_done(&schedule);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_good), cmocka_unit_test(test_parse_bad),
		cmocka_unit_test(test_every_nth),  cmocka_unit_test(test_random_share),
		cmocka_unit_test(test_rate),	   cmocka_unit_test(test_jitter),
		cmocka_unit_test(test_order),	   cmocka_unit_test(test_sent),
		cmocka_unit_test(test_schedule),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
