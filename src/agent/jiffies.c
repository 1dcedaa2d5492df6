/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's tick rate (CONFIG_HZ) is told to user space in one place: the coarse
 * clocks move once per tick, so their resolution is the length of a jiffy
 * (KTIME_LOW_RES, kernel/time/posix-timers.c).
 */
#include "agent/jiffies.h"

#include <time.h>

unsigned jiffies_per_second(void)
{
	struct timespec tick;

	if (clock_getres(CLOCK_MONOTONIC_COARSE, &tick) || tick.tv_sec || tick.tv_nsec <= 0)
		return 0;
	return (unsigned)((1000000000 + tick.tv_nsec / 2) / tick.tv_nsec);
}
