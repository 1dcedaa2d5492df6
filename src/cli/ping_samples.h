/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measured durations of one kind, in nanoseconds and with their sign (a one-way delay can be negative, by the error of
 * the clocks). Count, extremes, mean and deviation are always exact. Quantiles are exact while every value is kept; many
 * sets share one allowance of values, and the one that finds it used up changes to histograms, whose error is stated.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/hist.h"

/* Relative error of a quantile out of histograms: 0.14 %, in 256 buckets an octave. */
#define PING_SAMPLES_SCHEMA 8

struct ping_samples {
	uint64_t n;
	int64_t min_ns, max_ns;       /* 0 while n is */
	double mean_ns, squares_ns;   /* sum of the squares of the distances from the mean (Welford) */
	int64_t *values;              /* owned; n of them, unless spilled */
	size_t room;
	bool sorted, spilled;
	struct hist positive, negative; /* spilled: values above and (their magnitudes) below 0; 0 is in positive */
	uint64_t unkept;              /* out of memory: not in the quantiles */
};

/* A zeroed set is empty. *allowance: how many more values may be kept, of all sets. */
void ping_samples_add(struct ping_samples *samples, int64_t ns, size_t *allowance);
void ping_samples_merge(struct ping_samples *to, const struct ping_samples *from);
void ping_samples_done(struct ping_samples *samples);

/* The value of rank ceil(q * n), q in 0..1; NaN when there is none. Sorts what is kept. */
double ping_samples_quantile(struct ping_samples *samples, double q);
double ping_samples_deviation(const struct ping_samples *samples); /* of the sample, n - 1; NaN below two */
/* How far a quantile may be off: 0 while every value is kept. */
double ping_samples_error(const struct ping_samples *samples);
/* How many are from `from` on and below `to`, in ns; after spilling, those whose bucket's middle is. */
uint64_t ping_samples_between(struct ping_samples *samples, double from_ns, double to_ns);
