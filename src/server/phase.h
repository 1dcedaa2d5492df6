/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Phase lock of a scrape to the commits of a NetSonde agent.
 *
 * Two loops of the same period that do not know of each other leave data up to
 * one period old when it is fetched, and up to two when it is shown. An agent
 * therefore says with each answer how old its snapshot is and how often it
 * commits:
 *
 *   Netsonde-Snapshot: generation=123; age=0.123; tick=1.000
 *
 * A request sent at s (our clock) found a commit of age a, so s - a is "when we
 * would have had to send to meet that commit": the way to the agent is in it
 * already, and the two clocks need not agree. The median of the last few such
 * points, modulo the tick, is the estimate; one late packet or one long pause
 * cannot move it. The next request is sent PHASE_AIM_NS after the next commit.
 * Where an agent's commits are late at times, an aimed request meets the old
 * snapshot (same generation): then it is asked again shortly after and the aim
 * widens, to come back slowly.
 *
 * Intervals longer than the tick become its nearest multiple; shorter ones
 * divide it, so that every n-th request is aimed. Ticks below PHASE_TICK_MIN_NS
 * are not worth a lock. Pure functions of their arguments: no clock, no I/O.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/clock.h"

#define PHASE_AIM_NS (15 * NS_PER_MS)      /* after the commit: jitter of both hosts' timers and of a LAN */
#define PHASE_TICK_MIN_NS (20 * NS_PER_MS)
#define PHASE_HISTORY 5                    /* points; the median bears two wrong ones */

struct phase_snapshot { uint64_t generation, age_ns, tick_ns; };

struct phase {
	uint64_t tick_ns;                  /* 0: not locked */
	uint64_t aim_ns;
	uint64_t points[PHASE_HISTORY];    /* mono ns; the newest at [n_seen % PHASE_HISTORY] once it is stored */
	unsigned n;                        /* points in use */
	unsigned next;                     /* where the next one goes */
	bool aimed;                        /* the request under way was to meet a new commit */
	bool retried;                      /* and was already the second attempt */
};

/* False for anything but three finite numbers in a sane range: the header is as hostile as the rest. */
bool phase_parse(const char *header, struct phase_snapshot *ret_snapshot);

void phase_reset(struct phase *phase); /* also of a zeroed struct: no lock */
/* An answer arrived to a request sent at `sent`. `same`: its generation is the one of the answer before. */
void phase_observe(struct phase *phase, mono_time sent, const struct phase_snapshot *snapshot, bool same);
bool phase_locked(const struct phase *phase);

/* When to send the next request. `due` is when the last one was to be sent, *ret_skipped how many whole periods
 * between it and the result passed unused because `now` is already beyond them. Without a lock: due + interval. */
mono_time phase_next(struct phase *phase, mono_time due, mono_time now, uint64_t interval_ns, uint64_t *ret_skipped);
