/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/ping.h"

#include <math.h>

static void count_error(struct ping_stats *s, int error, uint64_t n)
{
	size_t i = 0;

	while (i < PING_ERRORS_MAX - 1 && s->errors[i].n && s->errors[i].error != error)
		i++;
	/* In the last place: several reasons, when there are more than places. */
	s->errors[i].error = s->errors[i].n && s->errors[i].error != error ? 0 : error;
	s->errors[i].n += n;
}

static void add_stamp(struct ping_stats *s, const struct probe_result *result, size_t *allowance)
{
	if (!result->stamp)
		return;
	s->residence_unknown += !result->has_residence;
	if (!result->has_residence)
		return;
	ping_samples_add(&s->residence, (int64_t)result->residence_ns, allowance);
	if (!result->has_one_way) {
		s->one_way_unknown++;
		return;
	}
	ping_samples_add(&s->forward, result->forward_ns, allowance);
	ping_samples_add(&s->backward, result->backward_ns, allowance);
	if (!s->has_clock_error || result->clock_error_ns > s->clock_error_ns)
		s->clock_error_ns = result->clock_error_ns;
	s->has_clock_error = true;
}

static void add_jitter(struct ping_stats *s, int64_t rtt_ns)
{
	if (s->rtt.n > 1) {
		s->jitters = 1;
		s->jitter_ns += (fabs((double)(rtt_ns - s->last_rtt_ns)) - s->jitter_ns) / 16;
	}
	s->last_rtt_ns = rtt_ns;
}

void ping_stats_add(struct ping_stats *s, const struct probe_result *result, size_t *allowance)
{
	int64_t rtt_ns = (int64_t)probe_result_rtt_ns(result);

	switch (result->outcome) {
	case PROBE_TIMED_OUT:
		s->timed_out++;
		return;
	case PROBE_UNREACHABLE:
		s->unreachable++;
		count_error(s, result->error, 1);
		return;
	case PROBE_CLOSED:
		s->closed++;
		break;
	case PROBE_OK:
		break;
	}
	s->answered++;
	s->clocks[result->clock < PROBE_CLOCK_COUNT ? result->clock : PROBE_CLOCK_USER]++;
	ping_samples_add(&s->rtt, rtt_ns, allowance);
	add_jitter(s, rtt_ns);
	add_stamp(s, result, allowance);
}

void ping_stats_merge(struct ping_stats *to, const struct ping_stats *from)
{
	double jitters = (double)(to->jitters + from->jitters);

	if (from->jitters)
		to->jitter_ns = (to->jitter_ns * (double)to->jitters + from->jitter_ns * (double)from->jitters) / jitters;
	to->jitters += from->jitters;
	to->answered += from->answered;
	to->closed += from->closed;
	to->timed_out += from->timed_out;
	to->unreachable += from->unreachable;
	for (size_t i = 0; i < PING_ERRORS_MAX; i++)
		if (from->errors[i].n)
			count_error(to, from->errors[i].error, from->errors[i].n);
	for (size_t i = 0; i < PROBE_CLOCK_COUNT; i++)
		to->clocks[i] += from->clocks[i];
	ping_samples_merge(&to->rtt, &from->rtt);
	ping_samples_merge(&to->forward, &from->forward);
	ping_samples_merge(&to->backward, &from->backward);
	ping_samples_merge(&to->residence, &from->residence);
	to->residence_unknown += from->residence_unknown;
	to->one_way_unknown += from->one_way_unknown;
	if (from->has_clock_error && (!to->has_clock_error || from->clock_error_ns > to->clock_error_ns))
		to->clock_error_ns = from->clock_error_ns;
	to->has_clock_error |= from->has_clock_error;
	to->unsent += from->unsent;
	probe_counts_add(&to->counts, &from->counts);
}

void ping_stats_done(struct ping_stats *s)
{
	ping_samples_done(&s->rtt);
	ping_samples_done(&s->forward);
	ping_samples_done(&s->backward);
	ping_samples_done(&s->residence);
	*s = (struct ping_stats){ 0 };
}

uint64_t ping_stats_pending(const struct ping_stats *s)
{
	uint64_t over = s->answered + s->timed_out + s->unreachable;

	return s->counts.sent > over ? s->counts.sent - over : 0;
}
