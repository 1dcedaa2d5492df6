/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far apart the ticks are. A tick that takes more than half of the interval
 * would soon overrun it and leave the host no rest, so the interval doubles until
 * it does not, and comes back when there is room again: a slower picture, but a
 * whole one. Pure arithmetic.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define PACE_MAX_NS 60000000000ULL /* as long as the longest tick that can be configured */

struct pace {
	uint64_t configured_ns, interval_ns;
	unsigned slow, quick; /* ticks in a row over half the interval; ticks in a row that would have fitted half of it */
};

void pace_init(struct pace *pace, uint64_t configured_ns);
/* A tick took so long. Returns whether the interval changed. */
bool pace_took(struct pace *pace, uint64_t duration_ns);
