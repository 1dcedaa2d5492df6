/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * Nanoseconds to the bucket of an exponential histogram in seconds, with
 * integers only; plain C, so the unit tests check it natively against the
 * floating-point histogram of lib/hist.c.
 *
 * ns is normalised to a 34-bit mantissa and multiplied by 2^59/10^9 (29 bits,
 * rounded down): value = p * 2^(e - 92) seconds, with p in [2^62, 2^64). Rounding
 * down keeps exact powers of two in the bucket whose upper bound they are, which
 * the data model demands; the error of 5e-10 moves no other integer below 2 s.
 */
#ifndef NETSONDE_HIST_BPF_H
#define NETSONDE_HIST_BPF_H
#include "abi.h"

static inline __attribute__((always_inline)) __abi_u32 hist_log2(__abi_u64 v)
{
	__abi_u32 r = 0;

	if (v >> 32) { v >>= 32; r += 32; }
	if (v >> 16) { v >>= 16; r += 16; }
	if (v >> 8) { v >>= 8; r += 8; }
	if (v >> 4) { v >>= 4; r += 4; }
	if (v >> 2) { v >>= 2; r += 2; }
	return r + (__abi_u32)(v >> 1);
}

/* 0..HIST_BUCKETS-1 */
static inline __attribute__((always_inline)) __abi_u32 hist_bucket(__abi_u64 ns)
{
	__abi_u32 e, top, fraction, sub;
	__abi_u64 mantissa, p;
	int bucket;

	if (ns < 953) /* below 2^-20 s; also keeps zero out of the logarithm */
		return 0;
	e = hist_log2(ns);
	mantissa = e <= 33 ? ns << (33 - e) : ns >> (e - 33);
	p = mantissa * 576460752ULL - 1;
	top = (__abi_u32)(62 + (p >> 63));
	fraction = (__abi_u32)(p >> (top - 31));
	/* 2^31 * 2^(j/8), j = 1..7 */
	sub = (fraction >= 2341847524U) + (fraction >= 2553802834U) + (fraction >= 2784941738U) +
	      (fraction >= 3037000500U) + (fraction >= 3311872529U) + (fraction >= 3611622603U) +
	      (fraction >= 3938502376U);
	bucket = 8 * ((int)(top + e) - 92) + (int)sub + 1 + HIST_OFFSET;
	if (bucket < 0)
		return 0;
	return bucket < HIST_BUCKETS ? (__abi_u32)bucket : HIST_BUCKETS - 1;
}

#endif
