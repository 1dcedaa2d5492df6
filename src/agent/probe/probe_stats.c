/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe/probe_stats.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "abi.h"

#define WINDOW_NS (60 * NS_PER_SEC)
#define BASELINE_WEIGHT 32     /* answers that the slow means look back on */
#define BASELINE_LEARNING 8    /* answers before anything is called slower */
#define SLOWER_IN_A_ROW 2      /* one late answer is somebody's scheduler */
#define SLOWER_LEAST_NS (100 * NS_PER_US) /* below are wake-ups of the far host */
#define JITTER_WEIGHT 16       /* RFC 3550, section 6.4.1 */

/* Ends of hist_observe's zero bucket: as in the kernel's histograms, but for round trips below a microsecond, which an
 * XDP reflector at the other end of a veth has. */
#define ZERO_SECONDS 0x1p-30

void probe_stats_init(struct probe_stats *stats)
{
	*stats = (struct probe_stats){ .jitter_s = NAN, .clock_error_ns = UINT64_MAX };
	for (size_t i = 0; i < PROBE_CLOCK_COUNT; i++)
		hist_init(&stats->rtt[i], HIST_SCHEMA, ZERO_SECONDS);
	hist_init(&stats->forward, HIST_SCHEMA, ZERO_SECONDS);
	hist_init(&stats->backward, HIST_SCHEMA, ZERO_SECONDS);
	hist_init(&stats->residence, HIST_SCHEMA, ZERO_SECONDS);
	hist_init(&stats->variation, HIST_SCHEMA, ZERO_SECONDS);
}

void probe_stats_done(struct probe_stats *stats)
{
	for (size_t i = 0; i < PROBE_CLOCK_COUNT; i++)
		hist_done(&stats->rtt[i]);
	hist_done(&stats->forward);
	hist_done(&stats->backward);
	hist_done(&stats->residence);
	hist_done(&stats->variation);
}

/* A one-way delay below zero is one of zero and the clocks' error. */
static void observe(struct hist *hist, int64_t ns)
{
	(void)hist_observe(hist, ns > 0 ? (double)ns / 1e9 : 0);
}

static uint64_t distance(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

static void add_jitter(struct probe_stats *s, uint64_t rtt)
{
	double difference = ns_to_seconds(distance(rtt, s->last_rtt_ns));

	if (s->answered < 2)
		return;
	if (isnan(s->jitter_s))
		s->jitter_s = 0;
	s->jitter_s += (difference - s->jitter_s) / JITTER_WEIGHT;
}

static void add_variation(struct probe_stats *s, uint64_t rtt, uint64_t sent_ns)
{
	uint64_t least;

	if (s->answered == 1) {
		s->window.began_ns = sent_ns;
		s->window.min_ns = s->window.former_min_ns = rtt;
	} else if (sent_ns > s->window.began_ns && sent_ns - s->window.began_ns >= WINDOW_NS) {
		s->window.began_ns = sent_ns;
		s->window.former_min_ns = s->window.min_ns;
		s->window.min_ns = rtt;
	}
	if (rtt < s->window.min_ns)
		s->window.min_ns = rtt;
	least = s->window.min_ns < s->window.former_min_ns ? s->window.min_ns : s->window.former_min_ns;
	observe(&s->variation, (int64_t)(rtt - least));
}

static uint64_t allowed_ns(const struct probe_stats *s)
{
	uint64_t above = 4 * s->deviation_ns;

	if (above < s->baseline_ns / 5)
		above = s->baseline_ns / 5;
	if (above < SLOWER_LEAST_NS)
		above = SLOWER_LEAST_NS;
	return s->baseline_ns + above;
}

/* Slow means; at first of all there are. What is far above counts as the limit: one such answer moves little, and a
 * lasting shift becomes the new baseline within a few dozen. */
static void learn(struct probe_stats *s, uint64_t rtt)
{
	uint64_t weight = s->answered < BASELINE_WEIGHT ? s->answered : BASELINE_WEIGHT;
	uint64_t most = allowed_ns(s);

	if (s->answered == 1) {
		s->baseline_ns = rtt ? rtt : 1;
		return;
	}
	if (s->answered > BASELINE_LEARNING && rtt > most)
		rtt = most;
	s->deviation_ns = (s->deviation_ns * (weight - 1) + distance(rtt, s->baseline_ns)) / weight;
	s->baseline_ns = (s->baseline_ns * (weight - 1) + rtt + weight / 2) / weight;
	if (!s->baseline_ns)
		s->baseline_ns = 1;
}

static unsigned judge(struct probe_stats *s, uint64_t rtt)
{
	bool above = s->answered > BASELINE_LEARNING && rtt > allowed_ns(s);
	unsigned news = 0;

	s->above_in_a_row = above ? s->above_in_a_row + 1 : 0;
	if (!s->slower && s->above_in_a_row >= SLOWER_IN_A_ROW) {
		s->slower = true;
		news = PROBE_NEWS_SLOWER;
	} else if (s->slower && !above) {
		s->slower = false;
		news = PROBE_NEWS_BACK;
	}
	learn(s, rtt);
	return news;
}

static void add_stamp(struct probe_stats *s, const struct probe_result *result)
{
	if (result->has_residence)
		observe(&s->residence, (int64_t)result->residence_ns);
	s->clock_error_ns = result->clock_error_ns;
	if (result->has_one_way) {
		observe(&s->forward, result->forward_ns);
		observe(&s->backward, result->backward_ns);
	} else {
		s->one_way_unknown++;
	}
}

static unsigned add_answer(struct probe_stats *s, const struct probe_result *result)
{
	const uint64_t rtt = probe_result_rtt_ns(result);
	unsigned news = s->lost_in_a_row ? PROBE_NEWS_BACK : 0;

	s->lost_in_a_row = 0;
	s->answered++;
	observe(&s->rtt[result->clock], (int64_t)rtt);
	add_jitter(s, rtt);
	add_variation(s, rtt, result->sent_ns);
	if (result->stamp)
		add_stamp(s, result);
	news |= judge(s, rtt);
	s->last_rtt_ns = rtt ? rtt : 1;
	if (result->sent_ns > s->last_answer_ns)
		s->last_answer_ns = result->sent_ns;
	return news;
}

unsigned probe_stats_add(struct probe_stats *stats, const struct probe_result *result)
{
	switch (result->outcome) {
	case PROBE_OK:
	case PROBE_CLOSED:
		return add_answer(stats, result);
	case PROBE_TIMED_OUT:
		stats->lost++;
		break;
	case PROBE_UNREACHABLE:
		stats->unreachable++;
		stats->last_error = result->error;
		if (result->error == ENOBUFS) /* it never left this host: nothing is known of the target */
			return PROBE_NEWS_NONE;
		break;
	}
	return stats->lost_in_a_row++ == 0 && stats->answered ? PROBE_NEWS_LOSS : PROBE_NEWS_NONE;
}
