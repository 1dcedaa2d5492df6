/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Base-2 exponential histogram of durations in seconds: the data model of
 * Prometheus native histograms and of OTLP exponential histograms.
 *
 * With schema s the base is 2^(2^-s); bucket i counts values in
 * (base^(i-1), base^i]. Schema 3 (8 buckets per octave, base 1.0905) is what the
 * BPF programs fill. Observations up to zero_threshold are in zero_count.
 * Merging, subtracting and reducing the schema lose nothing but resolution.
 * A quantile is off by at most hist_relative_error(schema): the estimate is the
 * geometric middle of a bucket, so the bound is sqrt(base) - 1 (4.43 % at 3).
 *
 * The buckets are one dense window [first, first + n) of bucket indices, grown
 * on demand and owned by the histogram; its first and last bucket are never
 * empty. A zeroed struct is an empty histogram of schema 0; use hist_init.
 * Counts saturate at UINT64_MAX instead of wrapping round.
 *
 * A function that fails leaves its histogram as it was, unless it says otherwise.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HIST_SCHEMA 3
#define HIST_SCHEMA_MIN (-4)
#define HIST_SCHEMA_MAX 8
#define HIST_WINDOW_MAX 8192 /* buckets; a window wider than this is refused (hostile input) */

struct buffer;

struct hist {
	int32_t schema;          /* HIST_SCHEMA_MIN .. HIST_SCHEMA_MAX */
	int32_t first;           /* bucket index of buckets[0] */
	uint32_t n, cap;         /* buckets in use; allocated */
	uint64_t *buckets;       /* owned */
	double zero_threshold;   /* seconds */
	uint64_t zero_count;
	uint64_t count;          /* all observations: zero_count + every bucket, saturating */
	double sum;              /* seconds */
};

/* What hist_init demands; ask first when the values come from outside: a known schema, a threshold finite and >= 0. */
bool hist_parameters_valid(int64_t schema, double zero_threshold);
void hist_init(struct hist *h, int32_t schema, double zero_threshold);
void hist_done(struct hist *h);
void hist_clear(struct hist *h); /* no observations; keeps schema, threshold and memory */
int hist_copy(struct hist *to, const struct hist *from);

/* Adds `count` to bucket `index`, to count, but not to sum; a count of 0 changes nothing. -ENOMEM, or -ERANGE for a
 * window too wide or an index that no double reaches. */
int hist_add_bucket(struct hist *h, int32_t index, uint64_t count);
void hist_add_zero(struct hist *h, uint64_t count); /* the same for the zero bucket */
/* One observation of `seconds` (negative, infinite and NaN are -EINVAL). Errors as hist_add_bucket. */
int hist_observe(struct hist *h, double seconds);

/* to += from. Different schemas: `to` is reduced to the coarser of both. Different zero thresholds: the larger
 * wins, and the buckets below it move to zero_count; one that it cuts moves as a whole and its upper bound becomes the
 * threshold (as Prometheus does). -ENOMEM, or -ERANGE for a window too wide. */
int hist_merge(struct hist *to, const struct hist *from);
/* h -= earlier, both cumulative states of one counter. When any bucket of `earlier` is
 * larger (the counter was reset) h is left as it is, as Prometheus' rate() does, and HIST_E_RESET is returned.
 * A finer schema or a smaller zero threshold than before are a reset too: a living counter only gets coarser.
 * -ENOMEM only when schema or threshold differ. */
#define HIST_E_RESET 1
int hist_subtract(struct hist *h, const struct hist *earlier);
int hist_reduce(struct hist *h, int32_t schema); /* to a coarser schema; -EINVAL for a finer one */

/* Seconds. Exact for whole octaves and the same double for the same boundary in every schema. The bucket of the largest
 * doubles ends at DBL_MAX, the one beyond it (where Prometheus counts infinities) at infinity. */
double hist_bucket_upper(int32_t schema, int32_t index);
/* The bucket of `seconds`, finite and > 0, whatever the zero threshold. */
int32_t hist_bucket_index(int32_t schema, double seconds);
double hist_relative_error(int32_t schema);
/* Estimates the order statistic of rank ceil(q * count), at least 1: the smallest observation that at least the share q
 * of all does not exceed. q in 0..1; NaN when empty or q is out of range. The middle of the bucket; in the zero bucket
 * zero_threshold / 2, for which the error bound does not hold. */
double hist_quantile(const struct hist *h, double q);
/* Observations <= bound (seconds). Exact when bound is a bucket boundary and not below zero_threshold (every power of
 * two is a boundary in every schema >= 0); else a bucket that bound cuts is left out, so it is never too many. */
uint64_t hist_count_below(const struct hist *h, double bound);

/* Compact form for the store: varints, sparse (hist_codec.c). decode never trusts its input: -EBADMSG, and then, as for
 * -ENOMEM, ret_hist is empty. One histogram has one form: encoding what was decoded gives the same bytes. */
/* Appends. -ENOMEM, or -EINVAL when h->count is not the sum of its parts: nothing is stored that decode would refuse. */
int hist_encode(const struct hist *h, struct buffer *out);
int hist_decode(const void *data, size_t len, struct hist *ret_hist); /* ret_hist: initialised, is overwritten */
