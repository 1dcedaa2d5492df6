/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pace.h"

/* One slow tick may be somebody else's work on a busy host. */
#define SLOW_TICKS 2
/* So many quick ticks before the interval shrinks again, so that it does not swing. */
#define QUICK_TICKS 10

void pace_init(struct pace *pace, uint64_t configured_ns)
{
	*pace = (struct pace){ .configured_ns = configured_ns, .interval_ns = configured_ns };
}

static bool longer(struct pace *pace, uint64_t duration_ns)
{
	uint64_t before = pace->interval_ns;

	while (duration_ns > pace->interval_ns / 2 && pace->interval_ns < PACE_MAX_NS)
		pace->interval_ns = pace->interval_ns > PACE_MAX_NS / 2 ? PACE_MAX_NS : pace->interval_ns * 2;
	return pace->interval_ns != before;
}

bool pace_took(struct pace *pace, uint64_t duration_ns)
{
	pace->slow = duration_ns > pace->interval_ns / 2 ? pace->slow + 1 : 0;
	/* With a margin, and only when there is something to come back from. */
	pace->quick = pace->interval_ns > pace->configured_ns && duration_ns < pace->interval_ns / 5 ? pace->quick + 1 : 0;
	if (pace->slow >= SLOW_TICKS) {
		pace->slow = 0;
		return longer(pace, duration_ns);
	}
	if (pace->quick < QUICK_TICKS)
		return false;
	pace->quick = 0;
	pace->interval_ns /= 2;
	if (pace->interval_ns < pace->configured_ns)
		pace->interval_ns = pace->configured_ns;
	return true;
}
