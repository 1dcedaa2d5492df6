/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a target is probed faster than usual, and when that does harm. Pure: results and times come from the caller.
 *
 * A target that loses a probe or becomes slower is probed ten times as often (ten times per second at most) for ten seconds, to tell
 * a lost packet from a broken path. Then it rests, each time longer while it goes on losing, so that a path that is always bad does
 * not cost ten times as much for ever.
 *
 * Many routers answer only so many probes per second. Such a target loses probes because it is probed faster, which would be
 * taken for the network's loss. So: when probes were lost all the time while they were fast, and none of the ten
 * slow ones that followed, it is probed fast once more; when probes are lost again, its answers seem to be rate limited. It is
 * not sped up then for ten minutes.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum adapt_phase {
	ADAPT_CALM,
	ADAPT_FAST,    /* for a reason */
	ADAPT_AFTER,   /* slow again: do losses end? */
	ADAPT_CONFIRM, /* fast again: do they begin again? */
};

#define ADAPT_QUARTERS 4

struct adapt {
	enum adapt_phase phase;
	uint64_t began_ns, until_ns;   /* of the last fast time */
	uint64_t rest_ns, rested_ns;   /* how long it rests, until when it does */
	uint64_t limited_until_ns;     /* 0: not rate limited */
	uint64_t timeout_ns;
	/* Of the probes that were sent in the last fast time, and behind it. */
	uint32_t answered[ADAPT_QUARTERS], lost[ADAPT_QUARTERS];
	uint32_t slow_answered, slow_lost;
};

void adapt_init(struct adapt *adapt, uint64_t timeout_ns);
/* What became of a probe that was sent at sent_ns; cause: it is a reason to probe faster. */
void adapt_result(struct adapt *adapt, uint64_t sent_ns, bool lost, bool cause, uint64_t now_ns);
/* Time passes. */
void adapt_tick(struct adapt *adapt, uint64_t now_ns);
bool adapt_is_fast(const struct adapt *adapt);
bool adapt_is_limited(const struct adapt *adapt);
/* The interval while it is fast: of a path whose own is interval_ns. Not shorter than that of ten probes per second, unless its own is. */
uint64_t adapt_fast_interval(uint64_t interval_ns);
