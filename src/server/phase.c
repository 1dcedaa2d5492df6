/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See phase.h for the idea. Times are ns of the monotonic clock; a distance
 * between two points of the commit grid is reduced to (-tick/2, tick/2], so the
 * arithmetic is exact and does not drift however long the lock holds.
 */
#include "server/phase.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define AGE_MAX_S 86400.0
#define TICK_MAX_S 3600.0
#define AIM_BACK_NS (NS_PER_MS / 2) /* per good answer: a widened aim is back after half a minute at 1 s */

static bool parse_seconds(const char *text, double max, uint64_t *ret_ns)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || !isfinite(v) || v < 0 || v > max)
		return false;
	*ret_ns = (uint64_t)llround(v * 1e9);
	return true;
}

static bool parse_count(const char *text, uint64_t *ret_value)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	*ret_value = strtoull(text, &end, 10);
	return true;
}

bool phase_parse(const char *header, struct phase_snapshot *ret_snapshot)
{
	struct phase_snapshot s = { 0 };
	unsigned found = 0;

	for (const char *p = header; p && *p;) {
		p += strspn(p, " \t;");
		if (strncmp(p, "generation=", 11) == 0 && parse_count(p + 11, &s.generation))
			found |= 1;
		else if (strncmp(p, "age=", 4) == 0 && parse_seconds(p + 4, AGE_MAX_S, &s.age_ns))
			found |= 2;
		else if (strncmp(p, "tick=", 5) == 0 && parse_seconds(p + 5, TICK_MAX_S, &s.tick_ns))
			found |= 4;
		p += strcspn(p, ";");
	}
	if (found != 7)
		return false;
	*ret_snapshot = s;
	return true;
}

void phase_reset(struct phase *phase)
{
	memset(phase, 0, sizeof(*phase));
}

bool phase_locked(const struct phase *phase)
{
	return phase->tick_ns > 0 && phase->n > 0;
}

/* a - b on the circle of one tick, in (-tick/2, tick/2]. */
static int64_t distance(uint64_t a, uint64_t b, uint64_t tick)
{
	int64_t d = (int64_t)(a - b) % (int64_t)tick;

	if (d > (int64_t)(tick / 2))
		d -= (int64_t)tick;
	else if (d <= -(int64_t)(tick / 2))
		d += (int64_t)tick;
	return d;
}

static int compare_distance(const void *a, const void *b)
{
	const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* The estimated commit nearest to the newest point. */
static uint64_t commit_estimate(const struct phase *phase)
{
	const uint64_t newest = phase->points[(phase->next + PHASE_HISTORY - 1) % PHASE_HISTORY];
	int64_t d[PHASE_HISTORY];

	/* Two points have no middle, and the first request often waits for an agent that is just starting. */
	if (phase->n < 3)
		return newest;
	for (unsigned i = 0; i < phase->n; i++)
		d[i] = distance(phase->points[i], newest, phase->tick_ns);
	qsort(d, phase->n, sizeof(d[0]), compare_distance);
	return newest + (uint64_t)d[phase->n / 2];
}

void phase_observe(struct phase *phase, mono_time sent, const struct phase_snapshot *snapshot, bool same)
{
	const uint64_t aim_max = snapshot->tick_ns / 2;

	if (snapshot->tick_ns < PHASE_TICK_MIN_NS || snapshot->age_ns > sent.ns) {
		phase_reset(phase);
		return;
	}
	if (snapshot->tick_ns != phase->tick_ns) {
		phase_reset(phase);
		phase->tick_ns = snapshot->tick_ns;
		phase->aim_ns = PHASE_AIM_NS;
	}
	if (phase->aimed && same)
		phase->aim_ns += PHASE_AIM_NS / 3;
	else if (phase->aim_ns > PHASE_AIM_NS + AIM_BACK_NS)
		phase->aim_ns -= AIM_BACK_NS;
	if (phase->aim_ns > aim_max)
		phase->aim_ns = aim_max;
	phase->retried = phase->aimed && same && !phase->retried;
	phase->points[phase->next] = sent.ns - snapshot->age_ns;
	phase->next = (phase->next + 1) % PHASE_HISTORY;
	if (phase->n < PHASE_HISTORY)
		phase->n++;
}

static mono_time next_unlocked(mono_time due, mono_time now, uint64_t interval_ns, uint64_t *ret_skipped)
{
	uint64_t skipped = 0, next = due.ns + interval_ns;

	if (next <= now.ns) {
		skipped = (now.ns - next) / interval_ns + 1;
		next += skipped * interval_ns;
	}
	*ret_skipped = skipped;
	return (mono_time){ next };
}

mono_time phase_next(struct phase *phase, mono_time due, mono_time now, uint64_t interval_ns, uint64_t *ret_skipped)
{
	const uint64_t tick = phase->tick_ns;
	uint64_t parts, step, period, origin, wanted, next, skipped = 0;
	int64_t steps;

	phase->aimed = false;
	if (!phase_locked(phase))
		return next_unlocked(due, now, interval_ns, ret_skipped);
	*ret_skipped = 0;
	if (phase->retried) {
		phase->aimed = true;
		return (mono_time){ now.ns + phase->aim_ns };
	}
	/* The interval as a multiple or as a part of the tick, whichever is near. */
	parts = interval_ns < tick ? (tick + interval_ns / 2) / interval_ns : 1;
	step = tick / parts;
	period = interval_ns < tick ? step : (interval_ns + tick / 2) / tick * tick;
	/* The aim is a point of the grid; count steps from it to the one nearest to a whole period after `due`. */
	origin = commit_estimate(phase) + phase->aim_ns;
	wanted = due.ns + period;
	steps = (int64_t)llround((double)(int64_t)(wanted - origin) / (double)step);
	next = origin + (uint64_t)(steps * (int64_t)step);
	while (next <= now.ns) {
		next += period;
		steps += (int64_t)(period / step);
		skipped++;
	}
	/* A skip is a whole period without a request; one step of rounding is none. */
	*ret_skipped = next > wanted + period / 2 ? skipped : 0;
	phase->aimed = steps % (int64_t)parts == 0;
	return (mono_time){ next };
}
