/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two clocks, two types, so that they cannot be mixed by mistake.
 *
 * mono_time is CLOCK_MONOTONIC: for intervals, deadlines and everything that is
 * subtracted; it is the clock of bpf_ktime_get_ns(). wall_time is
 * CLOCK_REALTIME: only for showing and storing when something happened; it can
 * jump, so differences of wall times are never a duration.
 */
#pragma once
#include <stdint.h>

#define NS_PER_SEC 1000000000ULL
#define NS_PER_MS 1000000ULL
#define NS_PER_US 1000ULL

typedef struct mono_time { uint64_t ns; } mono_time;
typedef struct wall_time { int64_t ns; } wall_time;

mono_time mono_now(void);
wall_time wall_now(void);

/* later - earlier in ns, 0 when earlier is the later one. */
static inline uint64_t mono_since_ns(mono_time later, mono_time earlier)
{
	return later.ns > earlier.ns ? later.ns - earlier.ns : 0;
}

static inline double ns_to_seconds(uint64_t ns) { return (double)ns / 1e9; }
static inline int64_t wall_ms(wall_time t) { return t.ns / (int64_t)NS_PER_MS; }
