/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How good this host's wall clock is, and the timestamps and error estimates of STAMP.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define CLOCK_ERROR_UNKNOWN UINT64_MAX

struct clock_error {
	bool synchronized;     /* by the kernel's word (adjtimex), or because the configuration states an error */
	uint64_t error_ns;     /* CLOCK_ERROR_UNKNOWN when not synchronised */
	/* TAI - UTC as the kernel has it; 0 where nobody told it, and then its CLOCK_TAI is UTC as well */
	int32_t tai_offset_s;
};

/* stated_ns: the error that the configuration states for hosts whose kernel does not know (PTP in a hypervisor, ...);
 * 0: none. */
void clock_error_read(uint64_t stated_ns, struct clock_error *ret_error);

/* STAMP's error estimate (host order), rounded up; the multiplier is never 0. And back, in ns: CLOCK_ERROR_UNKNOWN
 * when its S bit is clear or its multiplier is 0, which no estimate may have. */
uint16_t clock_error_estimate(const struct clock_error *error);
uint64_t clock_error_from_estimate(uint16_t estimate);
bool clock_error_estimate_synchronized(uint16_t estimate);

/*
 * Timestamps, 64 bits in host order, <-> ns of Unix time (UTC). NTP 32.32, in the era that puts it nearest to near_ns; or
 * the truncated PTP format, where the estimate that goes with it says so: that is TAI, tai_offset_s its distance.
 */
uint64_t clock_ntp_from_ns(uint64_t utc_ns);
uint64_t clock_ns_from_ntp(uint64_t ntp, uint64_t near_ns);
uint64_t clock_ns_from_ptp(uint64_t ptp, int32_t tai_offset_s);
uint64_t clock_ns_from_stamp(uint64_t timestamp, uint16_t estimate, uint64_t near_ns, int32_t tai_offset_s);
