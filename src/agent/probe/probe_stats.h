/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of one target from the results of its probes: distributions, jitter, delay variation, and whether it is
 * up, has lost or has become slower lately. Pure: no clocks, no sockets.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "agent/probe/prober.h"
#include "lib/hist.h"

struct probe_stats {
	struct hist rtt[PROBE_CLOCK_COUNT];   /* by source of the times; untouched ones are empty. STAMP: without the reflector's time */
	struct hist forward, backward, residence;
	struct hist variation;                /* RFC 5481, section 4.2: PDV, above the smallest RTT of the current and the former window */
	double jitter_s;                      /* RFC 3550, section 6.4.1, of the round trip; NaN before the second answer */
	uint64_t clock_error_ns;              /* of the last STAMP answer; UINT64_MAX: not known */
	uint64_t one_way_unknown;             /* STAMP answers without one-way delays, since a clock was not synchronised */
	uint64_t last_rtt_ns;                 /* 0: none yet */
	uint64_t last_answer_ns;              /* mono, when the last answered probe was sent; 0: never */
	uint64_t lost_in_a_row, answered, lost, unreachable; /* in a row: without an answer, for whatever reason in the network */
	int last_error;                       /* of the last unreachable one */
	/* The recent past, for up and for the sampler. */
	uint64_t baseline_ns;                 /* slow mean of the RTT; 0: unknown */
	uint64_t deviation_ns;                /* slow mean of its absolute deviation */
	struct { uint64_t min_ns, former_min_ns, began_ns; } window;
	uint32_t above_in_a_row;              /* answers that were slower than the baseline allows */
	bool slower;                          /* that was told, and it is not back yet */
};

void probe_stats_init(struct probe_stats *stats);
void probe_stats_done(struct probe_stats *stats);

enum probe_news { PROBE_NEWS_NONE = 0, PROBE_NEWS_LOSS = 1, PROBE_NEWS_SLOWER = 2, PROBE_NEWS_BACK = 4 };
/*
 * Takes one result in; says what is new about the target (enum probe_news, a set). LOSS: the first probe without an
 * answer after one with. SLOWER: the second round trip in a row above the baseline by more than four mean deviations
 * (as TCP's retransmission time-out has it, RFC 6298, section 2), a fifth of the baseline, and 100 us. BACK: the first
 * answer behind a loss, and the first round trip that is not too slow any more, also because the baseline has followed.
 */
unsigned probe_stats_add(struct probe_stats *stats, const struct probe_result *result);
