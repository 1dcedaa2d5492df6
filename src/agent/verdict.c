/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An interval is divided in steps, each with what the one before left:
 *
 * - Limited by the receive window, by the send buffer: as the kernel counted it.
 * - The rest of the busy time is the path's. Where there was more to send than it took, it is divided into queueing
 *   (RTT above its minimum), loss (by how much was sent again) and distance. Where the application had nothing more to
 *   send, the connection itself cannot have filled a queue, and an acknowledgement that comes late was held back for
 * the answer (delayed acknowledgements, RFC 1122 section 4.2.3.2): what is above the minimum RTT is the far host's. A
 * queue that other traffic filled looks the same and is counted there too.
 * - The idle time is the reader's, the far host's, and else our application's. What streams in while we wait shows a
 * full path by the round trip that the receiver sees, and loss by what arrives behind a gap.
 *
 * The minimum RTT is the kernel's, over five minutes: on a path that was never idle in them it contains the queue.
 */
#include "agent/verdict.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

/* RTT above the minimum by less than this is scheduling on both hosts, not a queue on the path; nor is a path that
 * takes less long. */
#define HOST_DELAY_S 1e-3
/* With so many of the segments sent again, loss counts as much as distance: at that rate a window of TCP Reno (RFC
 * 5681) has its 1.2 / sqrt(p) = 27 segments, and CUBIC's (RFC 9438) on usual paths is of that order. */
#define LOSS_HALF 0.002
/* Of what arrives, that many come behind a gap at such a loss: all that is on its way until the lost one is there. */
#define REORDERED_HALF 0.05
/* Traffic in less than this part of the time is none, beside somebody who waits. */
#define SHARE_MIN 1e-9

static const enum verdict_side sides[CAUSE_COUNT] = {
	[CAUSE_IDLE] = VERDICT_NOTHING, [CAUSE_LOSS] = VERDICT_NETWORK, [CAUSE_DISTANCE] = VERDICT_NETWORK,
	[CAUSE_BANDWIDTH] = VERDICT_NETWORK, [CAUSE_RECEIVE_WINDOW] = VERDICT_FAR_HOST,
	[CAUSE_FAR_APPLICATION] = VERDICT_FAR_HOST, [CAUSE_SEND_BUFFER] = VERDICT_THIS_HOST,
	[CAUSE_LOCAL_READER] = VERDICT_THIS_HOST, [CAUSE_LOCAL_WRITER] = VERDICT_THIS_HOST,
};

static const char *const side_names[VERDICT_SIDE_COUNT] = { "nothing", "network", "far_host", "this_host" };
static const char *const cause_names[CAUSE_COUNT] = {
    "idle",	   "loss",	   "distance",	   "bandwidth", "receive_window", "far_application",
    "send_buffer", "local_reader", "local_writer",
};

/* At most `left`, which it is taken from; what is no number is nothing. */
static double take(double seconds, double *left)
{
	double taken = seconds > 0 ? fmin(seconds, *left) : 0;

	*left -= taken;
	return taken;
}

/* The part of the RTT that is waiting beyond the path itself: 0..1. */
static double queued_part(double rtt_s, double min_rtt_s)
{
	double queue = rtt_s - min_rtt_s - HOST_DELAY_S;

	return queue > 0 && min_rtt_s >= 0 && isfinite(rtt_s) ? queue / rtt_s : 0;
}

static double ratio_weight(uint64_t part, uint64_t of, double half)
{
	double ratio = part ? (double)part / (double)(of > part ? of : part) : 0;

	return ratio / (ratio + half);
}

/* The busy time that neither window nor buffer limited. */
static void divide_network(const struct verdict_input *in, double network, double *causes)
{
	double left = network, full = take(in->path_full_s, &left), light = left;
	double queued = queued_part(in->rtt_s, in->min_rtt_s),
	       lost = ratio_weight(in->retransmits, in->sent_segments, LOSS_HALF);
	bool near = !(in->min_rtt_s >= HOST_DELAY_S);
	double rest = full * (1 - queued) * (1 - lost);

	causes[CAUSE_BANDWIDTH] += full * queued;
	causes[CAUSE_LOSS] += full * (1 - queued) * lost + light * lost;
	/* No path is long that takes less than a millisecond: then what it takes is what it, or a host, is able to. */
	causes[near ? CAUSE_BANDWIDTH : CAUSE_DISTANCE] += rest;
	causes[CAUSE_FAR_APPLICATION] += light * (1 - lost) * queued;
	causes[CAUSE_DISTANCE] += light * (1 - lost) * (1 - queued);
}

static void divide_idle(const struct verdict_input *in, double idle, double *causes)
{
	double left = idle, waiting, stream, queued, lost;

	causes[CAUSE_LOCAL_READER] += take(in->reading_s, &left);
	waiting = take(in->waiting_far_s, &left);
	/* From here the sender's limits are not seen, but a full path is: what streams in without pause is late. */
	stream = take(in->streaming_s, &waiting);
	queued = stream * queued_part(in->receive_rtt_s, in->min_rtt_s);
	waiting += stream - queued;
	/* And what waits for something before it that was lost on its way to us. */
	lost = waiting * ratio_weight(in->reordered, in->received_segments, REORDERED_HALF);
	causes[CAUSE_BANDWIDTH] += queued;
	causes[CAUSE_LOSS] += lost;
	causes[CAUSE_FAR_APPLICATION] += waiting - lost;
	causes[CAUSE_LOCAL_WRITER] += left;
}

/* From the causes to the rest of it. */
static void conclude(struct verdict *v)
{
	double side_shares[VERDICT_SIDE_COUNT] = { 0 };
	enum verdict_side side = VERDICT_NETWORK;

	for (size_t i = 0; i < CAUSE_COUNT; i++)
		side_shares[sides[i]] += v->causes[i];
	v->network = side_shares[VERDICT_NETWORK];
	v->far_host = side_shares[VERDICT_FAR_HOST];
	v->loss = fmin(v->causes[CAUSE_LOSS], v->network);
	v->this_host = fmax(0, 1 - v->network - v->far_host); /* with what is idle: it would be our turn */
	if (side_shares[VERDICT_NOTHING] > 0.5) {
		v->side = VERDICT_NOTHING;
		v->cause = CAUSE_IDLE;
		return;
	}
	if (side_shares[VERDICT_FAR_HOST] > side_shares[side])
		side = VERDICT_FAR_HOST;
	if (side_shares[VERDICT_THIS_HOST] > side_shares[side])
		side = VERDICT_THIS_HOST;
	v->side = side;
	v->cause = CAUSE_IDLE;
	for (size_t i = 0; i < CAUSE_COUNT; i++)
		if (sides[i] == side && (v->cause == CAUSE_IDLE || v->causes[i] > v->causes[v->cause]))
			v->cause = (enum verdict_cause)i;
}

void verdict_of(const struct verdict_input *in, struct verdict *ret_verdict)
{
	struct verdict v = { 0 };
	double left = in->interval_s, busy, network, traffic;

	if (!(left > 0) || !isfinite(left)) {
		v.causes[CAUSE_IDLE] = 1;
		v.idle = 1;
		conclude(&v);
		*ret_verdict = v;
		return;
	}
	busy = network = take(in->busy_s, &left);
	v.causes[CAUSE_RECEIVE_WINDOW] = take(in->receive_window_s, &network);
	v.causes[CAUSE_SEND_BUFFER] = take(in->send_buffer_s, &network);
	divide_network(in, network, v.causes);
	divide_idle(in, left, v.causes);
	traffic = (double)in->sent_bytes + (double)in->received_bytes;
	for (size_t i = 0; i < CAUSE_COUNT; i++)
		v.causes[i] /= in->interval_s;
	v.idle = fmin(1, left / in->interval_s);
	/* Nothing happened, and all of the time is the writer's: who has nothing to say is not slow. */
	if (!(traffic > 0) && busy <= 0 && v.causes[CAUSE_LOCAL_WRITER] >= 1 - SHARE_MIN) {
		memset(v.causes, 0, sizeof(v.causes));
		v.causes[CAUSE_IDLE] = 1;
	}
	conclude(&v);
	*ret_verdict = v;
}

static double finite_or(double value, double otherwise)
{
	return isfinite(value) ? value : otherwise;
}

/* Mean of two that may be unknown. */
static double mean_known(double a, double a_weight, double b, double b_weight)
{
	if (!isfinite(a) || a_weight <= 0)
		return isfinite(b) ? b : a;
	if (!isfinite(b) || b_weight <= 0)
		return a;
	return (a * a_weight + b * b_weight) / (a_weight + b_weight);
}

void verdict_input_add(struct verdict_input *sum, const struct verdict_input *in)
{
	if (!(sum->interval_s > 0)) {
		*sum = *in;
		return;
	}
	/* An RTT counts by how long it was waited for. */
	sum->rtt_s = mean_known(sum->rtt_s, sum->busy_s, in->rtt_s, in->busy_s);
	sum->min_rtt_s =
	    isfinite(sum->min_rtt_s) ? fmin(sum->min_rtt_s, finite_or(in->min_rtt_s, sum->min_rtt_s)) : in->min_rtt_s;
	sum->receive_rtt_s = mean_known(sum->receive_rtt_s, sum->streaming_s, in->receive_rtt_s, in->streaming_s);
	sum->interval_s += in->interval_s;
	sum->busy_s += in->busy_s;
	sum->receive_window_s += in->receive_window_s;
	sum->send_buffer_s += in->send_buffer_s;
	sum->waiting_far_s += in->waiting_far_s;
	sum->streaming_s += in->streaming_s;
	sum->reading_s += in->reading_s;
	sum->path_full_s += in->path_full_s;
	sum->sent_bytes += in->sent_bytes;
	sum->received_bytes += in->received_bytes;
	sum->sent_segments += in->sent_segments;
	sum->retransmits += in->retransmits;
	sum->received_segments += in->received_segments;
	sum->reordered += in->reordered;
}

void verdict_add(struct verdict *sum, double *sum_s, const struct verdict *verdict, double seconds)
{
	double total = *sum_s + seconds;

	if (!(seconds > 0) || !isfinite(seconds))
		return;
	for (size_t i = 0; i < CAUSE_COUNT; i++)
		sum->causes[i] = (sum->causes[i] * *sum_s + verdict->causes[i] * seconds) / total;
	sum->idle = (sum->idle * *sum_s + verdict->idle * seconds) / total;
	*sum_s = total;
	conclude(sum);
}

const char *verdict_side_name(enum verdict_side side)
{
	return (unsigned)side < VERDICT_SIDE_COUNT ? side_names[side] : "nothing";
}

const char *verdict_cause_name(enum verdict_cause cause)
{
	return (unsigned)cause < CAUSE_COUNT ? cause_names[cause] : "idle";
}

int verdict_side_parse(const char *name, enum verdict_side *ret_side)
{
	for (size_t i = 0; i < VERDICT_SIDE_COUNT; i++)
		if (!strcmp(name, side_names[i])) {
			*ret_side = (enum verdict_side)i;
			return 0;
		}
	return -EINVAL;
}

int verdict_cause_parse(const char *name, enum verdict_cause *ret_cause)
{
	for (size_t i = 0; i < CAUSE_COUNT; i++)
		if (!strcmp(name, cause_names[i])) {
			*ret_cause = (enum verdict_cause)i;
			return 0;
		}
	return -EINVAL;
}

const char *verdict_sentence(const struct verdict *verdict)
{
	static const char *const sentences[CAUSE_COUNT] = {
	    [CAUSE_IDLE] = "Nobody waits: there was no traffic.",
	    [CAUSE_LOSS] = "The network loses packets: time goes into sending again; look for a bad link or an "
			   "overloaded device on the path.",
	    [CAUSE_DISTANCE] = "The path is long: time goes into round trips; fewer of them, larger windows or a "
			       "nearer host would help.",
	    [CAUSE_BANDWIDTH] =
		"The path is full: it takes no more than this; more bandwidth or less traffic would help.",
	    [CAUSE_RECEIVE_WINDOW] =
		"The far host takes no more: its application reads too slowly, or its receive buffer is too small.",
	    [CAUSE_FAR_APPLICATION] =
		"The far host is waited for: it has our data, and its next data is due; look at its application.",
	    [CAUSE_SEND_BUFFER] =
		"This host's send buffer is too small for the path; a larger SO_SNDBUF, or none set, would help.",
	    [CAUSE_LOCAL_READER] = "This host's application reads too slowly: received data waits in its socket.",
	    [CAUSE_LOCAL_WRITER] = "This host's application sends no more than this: network and far host wait for it.",
	};

	return (unsigned)verdict->cause < CAUSE_COUNT ? sentences[verdict->cause] : sentences[CAUSE_IDLE];
}
