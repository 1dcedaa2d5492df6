/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe/adapt.h"

#include <string.h>

#include "lib/clock.h"

#define FASTER 10
#define FAST_FLOOR_NS (NS_PER_SEC / 10)
#define FAST_NS (10 * NS_PER_SEC)
#define REST_MIN_NS (10 * NS_PER_SEC)
#define REST_MAX_NS (320 * NS_PER_SEC)
#define LIMITED_NS (600 * NS_PER_SEC)
/* To tell a rate limit from chance: so many results of a fast time, with losses above this share, and of the slow time behind. */
#define RESULTS_MIN 20
#define LOST_SHARE_PERCENT 20
#define SLOW_RESULTS 10

uint64_t adapt_fast_interval(uint64_t interval_ns)
{
	const uint64_t fast = interval_ns / FASTER > FAST_FLOOR_NS ? interval_ns / FASTER : FAST_FLOOR_NS;

	return fast < interval_ns ? fast : interval_ns;
}

void adapt_init(struct adapt *adapt, uint64_t timeout_ns)
{
	*adapt = (struct adapt){ .timeout_ns = timeout_ns, .rest_ns = REST_MIN_NS };
}

bool adapt_is_fast(const struct adapt *adapt)
{
	return adapt->phase == ADAPT_FAST || adapt->phase == ADAPT_CONFIRM;
}

bool adapt_is_limited(const struct adapt *adapt)
{
	return adapt->limited_until_ns;
}

static void speed_up(struct adapt *a, enum adapt_phase phase, uint64_t now_ns)
{
	/* It rests longer when the reasons come again soon. */
	if (phase == ADAPT_FAST && a->rested_ns && now_ns < a->rested_ns + 2 * a->rest_ns)
		a->rest_ns = 2 * a->rest_ns < REST_MAX_NS ? 2 * a->rest_ns : REST_MAX_NS;
	else if (phase == ADAPT_FAST)
		a->rest_ns = REST_MIN_NS;
	a->phase = phase;
	a->began_ns = now_ns;
	a->until_ns = now_ns + FAST_NS;
	a->rested_ns = a->until_ns + a->rest_ns;
	memset(a->answered, 0, sizeof(a->answered));
	memset(a->lost, 0, sizeof(a->lost));
	a->slow_answered = a->slow_lost = 0;
}

/* Lost and answered in each part of the fast time. Not in its first part: many limits let a burst pass. */
static bool lost_all_along(const struct adapt *a)
{
	uint32_t answered = a->answered[0], lost = a->lost[0];

	for (unsigned i = 1; i < ADAPT_QUARTERS; i++) {
		if (!a->answered[i] || !a->lost[i])
			return false;
		answered += a->answered[i];
		lost += a->lost[i];
	}
	return answered + lost >= RESULTS_MIN && lost * 100 >= (answered + lost) * LOST_SHARE_PERCENT;
}

static void count(struct adapt *a, uint64_t sent_ns, bool lost)
{
	uint64_t part;

	if (!a->until_ns || sent_ns < a->began_ns)
		return;
	if (sent_ns >= a->until_ns) {
		*(lost ? &a->slow_lost : &a->slow_answered) += 1;
		return;
	}
	part = (sent_ns - a->began_ns) * ADAPT_QUARTERS / FAST_NS;
	*(lost ? &a->lost[part] : &a->answered[part]) += 1;
}

/* What the slow time behind a fast one tells. */
static void conclude(struct adapt *a, uint64_t now_ns)
{
	/* The last probes of the fast time have their time-out still before them. */
	if (a->phase != ADAPT_AFTER || now_ns < a->until_ns + a->timeout_ns)
		return;
	if (a->slow_lost || !lost_all_along(a))
		a->phase = ADAPT_CALM; /* it loses probes anyway, or the faster ones lost none that matter */
	else if (a->slow_answered >= SLOW_RESULTS)
		speed_up(a, ADAPT_CONFIRM, now_ns);
}

void adapt_tick(struct adapt *adapt, uint64_t now_ns)
{
	if (adapt->limited_until_ns && now_ns >= adapt->limited_until_ns)
		adapt->limited_until_ns = 0;
	if (adapt->phase == ADAPT_FAST && now_ns >= adapt->until_ns)
		adapt->phase = ADAPT_AFTER;
	if (adapt->phase == ADAPT_CONFIRM && now_ns >= adapt->until_ns + adapt->timeout_ns) {
		if (lost_all_along(adapt))
			adapt->limited_until_ns = now_ns + LIMITED_NS;
		adapt->phase = ADAPT_CALM;
	}
	conclude(adapt, now_ns);
}

void adapt_result(struct adapt *adapt, uint64_t sent_ns, bool lost, bool cause, uint64_t now_ns)
{
	count(adapt, sent_ns, lost);
	conclude(adapt, now_ns);
	if (cause && adapt->phase == ADAPT_CALM && !adapt->limited_until_ns && now_ns >= adapt->rested_ns)
		speed_up(adapt, ADAPT_FAST, now_ns);
}
