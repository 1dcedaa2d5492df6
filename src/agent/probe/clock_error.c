/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See clock_error.h. What the kernel says of its clock: adjtimex(2).
 *
 * The error is maxerror, not esterror. maxerror is a bound: who disciplines the clock sets it to the distance to the
 * reference (half the round trip to it, since nobody knows how that is split, and all dispersions: RFC 5905, section
 * 11.2.3), and the kernel lets it grow by 500 ppm from then on, until at 16 s it takes the clock for unsynchronised.
 * esterror is a guess of the jitter: it leaves out the asymmetry of the way to the server, which is the very thing
 * that spoils one-way delays, it does not age, and systemd-timesyncd always writes 0.
 */
#include "agent/probe/clock_error.h"
#include <sys/timex.h>
#include "stamp.h"

#define NS_PER_S 1000000000ULL
/* NTP's MAXDISP: nothing is known, but a clock that is set by hand at all will be better than that. */
#define UNKNOWN_NS (16 * NS_PER_S)

void clock_error_read(uint64_t stated_ns, struct clock_error *ret_error)
{
	struct timex t = { .modes = 0 };
	struct clock_error e = { .error_ns = CLOCK_ERROR_UNKNOWN };

	if (adjtimex(&t) >= 0) {
		long us = t.maxerror > t.esterror ? t.maxerror : t.esterror;

		e.tai_offset_s = t.tai;
		e.synchronized = !(t.status & STA_UNSYNC);
		if (e.synchronized)
			e.error_ns = us > 0 ? (uint64_t)us * 1000 : 0;
	}
	if (!e.synchronized && stated_ns) {
		e.synchronized = true;
		e.error_ns = stated_ns;
	}
	*ret_error = e;
}

uint16_t clock_error_estimate(const struct clock_error *error)
{
	uint64_t ns = error->synchronized ? error->error_ns : UNKNOWN_NS, units;
	unsigned scale = 0;

	if (ns / NS_PER_S >= 1ULL << 31)
		ns = ((1ULL << 31) - 1) * NS_PER_S;
	/* Units of 2^-32 s, rounded up, as is every halving. */
	units = (ns / NS_PER_S << 32) + (((ns % NS_PER_S << 32) + NS_PER_S - 1) / NS_PER_S);
	for (; units > STAMP_ERROR_MULTIPLIER_MASK; scale++)
		units = (units + 1) / 2;
	if (!units)
		units = 1;
	units |= scale << STAMP_ERROR_SCALE_SHIFT;
	return (uint16_t)(error->synchronized ? units | STAMP_ERROR_SYNCHRONIZED : units);
}

uint64_t clock_error_from_estimate(uint16_t estimate)
{
	unsigned scale = estimate >> STAMP_ERROR_SCALE_SHIFT & STAMP_ERROR_SCALE_MASK;
	uint64_t product = (uint64_t)(estimate & STAMP_ERROR_MULTIPLIER_MASK) * NS_PER_S;

	if (!clock_error_estimate_synchronized(estimate))
		return CLOCK_ERROR_UNKNOWN;
	if (scale <= 32)
		return (product + (1ULL << (32 - scale)) - 1) >> (32 - scale);
	return product > UINT64_MAX >> (scale - 32) ? CLOCK_ERROR_UNKNOWN : product << (scale - 32);
}

bool clock_error_estimate_synchronized(uint16_t estimate)
{
	return estimate & STAMP_ERROR_SYNCHRONIZED && estimate & STAMP_ERROR_MULTIPLIER_MASK;
}

/* The fraction is rounded up, so that rounding to the next ns, as below, gives the same ns back. */
uint64_t clock_ntp_from_ns(uint64_t utc_ns)
{
	uint64_t seconds = utc_ns / NS_PER_S + STAMP_NTP_EPOCH, rest = utc_ns % NS_PER_S;

	return seconds << 32 | ((rest << 32) + NS_PER_S - 1) / NS_PER_S;
}

uint64_t clock_ns_from_ntp(uint64_t ntp, uint64_t near_ns)
{
	int64_t near = (int64_t)(near_ns / NS_PER_S);
	int64_t seconds = near + (int32_t)((uint32_t)(ntp >> 32) - (uint32_t)((uint64_t)near + STAMP_NTP_EPOCH));
	uint64_t rest = ((ntp & 0xffffffff) * NS_PER_S + (1ULL << 31)) >> 32;

	if (seconds < 0)
		return 0;
	return (uint64_t)seconds * NS_PER_S + rest;
}

uint64_t clock_ns_from_ptp(uint64_t ptp, int32_t tai_offset_s)
{
	int64_t seconds = (int64_t)(ptp >> 32) - tai_offset_s;

	return seconds < 0 ? 0 : (uint64_t)seconds * NS_PER_S + (ptp & 0xffffffff);
}

uint64_t clock_ns_from_stamp(uint64_t timestamp, uint16_t estimate, uint64_t near_ns, int32_t tai_offset_s)
{
	return estimate & STAMP_ERROR_PTP ? clock_ns_from_ptp(timestamp, tai_offset_s) :
		clock_ns_from_ntp(timestamp, near_ns);
}
