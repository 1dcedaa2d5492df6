/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decisions about packets. The transmitter is a queue in virtual time: all it
 * needs is when it will have sent what it accepted so far; the backlog is that
 * time multiplied by the rate. The random numbers are SplitMix64's (Steele, Lea
 * and Flood, 2014), whose state is one word.
 */
#include <math.h>
#include "lab/impair.h"

#define NS_PER_S 1000000000.0

static uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* [0, 1) */
static double random_unit(uint64_t *state)
{
	return (double)(random_next(state) >> 11) * 0x1p-53;
}

/* Mean 0, standard deviation 1 (Box and Muller, 1958). */
static double random_normal(uint64_t *state)
{
	double u = 1 - random_unit(state), v = random_unit(state);
	return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

void direction_init(struct direction *direction, uint64_t seed, uint64_t number)
{
	uint64_t *const generators[] = { &direction->loss.random, &direction->duplicate.random,
					 &direction->reorder.random, &direction->jitter_random };
	*direction = (struct direction){ 0 };
	/* What the seed's own sequence gives starts each of the others, so that neighbouring seeds have nothing in common. */
	for (uint64_t i = 0; i <= number; i++)
		for (size_t k = 0; k < sizeof(generators) / sizeof(*generators); k++)
			*generators[k] = random_next(&seed);
	direction->impair.hold_ns = 5000000;
	direction->impair.queue_ns = 100000000;
	direction->counts.residence_min_ns = direction->counts.late_min_ns = UINT64_MAX;
}

static bool chosen(const struct share *share, struct draw *draw)
{
	bool lucky = random_unit(&draw->random) < share->probability;
	if (!share->every)
		return lucky;
	if (++draw->n < share->every)
		return false;
	draw->n = 0;
	return true;
}

static double jitter_ns(const struct impair *impair, uint64_t *random)
{
	if (!impair->jitter_ns)
		return 0;
	double unit = impair->jitter_normal ? random_normal(random) : 2 * random_unit(random) - 1;
	return unit * (double)impair->jitter_ns;
}

/* Whether the transmitter has room, and then when it has sent the packet. */
static bool transmit(struct direction *direction, uint64_t now_ns, size_t len, uint64_t *ret_sent_ns)
{
	const struct impair *impair = &direction->impair;
	*ret_sent_ns = now_ns;
	if (!impair->rate_bps)
		return true;
	double bytes_per_ns = (double)impair->rate_bps / 8 / NS_PER_S;
	uint64_t free_ns = direction->transmitter_free_ns > now_ns ? direction->transmitter_free_ns : now_ns;
	double backlog = (double)(free_ns - now_ns) * bytes_per_ns;
	double limit = impair->queue_bytes ? (double)impair->queue_bytes : (double)impair->queue_ns * bytes_per_ns;
	/* An idle transmitter takes any packet, however small the queue is. */
	if (backlog > 0 && backlog + (double)len > limit)
		return false;
	direction->transmitter_free_ns = free_ns + (uint64_t)((double)len / bytes_per_ns);
	*ret_sent_ns = direction->transmitter_free_ns;
	return true;
}

static uint64_t due_after(struct direction *direction, uint64_t sent_ns)
{
	const struct impair *impair = &direction->impair;
	double delay = (double)impair->delay_ns + jitter_ns(impair, &direction->jitter_random);
	uint64_t due_ns = sent_ns + (delay > 0 ? (uint64_t)delay : 0);
	bool late = chosen(&impair->reorder, &direction->reorder);
	if (due_ns < direction->last_due_ns)
		due_ns = direction->last_due_ns;
	if (late)
		return due_ns + impair->hold_ns;
	direction->last_due_ns = due_ns;
	return due_ns;
}

void direction_plan(struct direction *direction, uint64_t now_ns, size_t len, struct plan *ret_plan)
{
	const struct impair *impair = &direction->impair;
	struct counts *counts = &direction->counts;
	counts->in++;
	counts->in_bytes += len;
	bool lost = chosen(&impair->loss, &direction->loss);
	bool twice = !lost && chosen(&impair->duplicate, &direction->duplicate);
	*ret_plan = (struct plan){ .n_copies = twice ? 2 : 1 };
	counts->duplicated += twice;
	if (lost) {
		counts->lost++;
		ret_plan->copies[0].fate = FATE_LOST;
		return;
	}
	for (unsigned i = 0; i < ret_plan->n_copies; i++) {
		uint64_t sent_ns;
		if (transmit(direction, now_ns, len, &sent_ns)) {
			ret_plan->copies[i].due_ns = due_after(direction, sent_ns);
			counts->queued++;
		} else {
			ret_plan->copies[i].fate = FATE_QUEUE_FULL;
			counts->queue_dropped++;
		}
	}
}

void direction_sent(struct direction *direction, uint64_t number, size_t len, uint64_t in_ns, uint64_t due_ns,
		    uint64_t out_ns)
{
	struct counts *counts = &direction->counts;
	uint64_t residence = out_ns > in_ns ? out_ns - in_ns : 0, late = out_ns > due_ns ? out_ns - due_ns : 0;
	counts->queued--;
	counts->out++;
	counts->out_bytes += len;
	counts->residence_sum_ns += residence;
	counts->late_sum_ns += late;
	if (residence < counts->residence_min_ns)
		counts->residence_min_ns = residence;
	if (residence > counts->residence_max_ns)
		counts->residence_max_ns = residence;
	if (late < counts->late_min_ns)
		counts->late_min_ns = late;
	if (late > counts->late_max_ns)
		counts->late_max_ns = late;
	if (number < direction->highest_out)
		counts->reordered++;
	else
		direction->highest_out = number;
}
