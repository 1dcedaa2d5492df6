/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why is a connection as fast as it is: the share of an interval that it spent
 * waiting for the network, for the far host, and for this host's application, from
 * the kernel's chrono counters and what happened beside them. Pure arithmetic.
 *
 * Time with data outstanding (busy) is measured by the kernel. Time with nothing outstanding belongs to the side whose
 * data ended it; who that is, is an estimate from looks at the connection, the better the more looks there were.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Whose fault it is, or whose turn. */
enum verdict_side { VERDICT_NOTHING, VERDICT_NETWORK, VERDICT_FAR_HOST, VERDICT_THIS_HOST, VERDICT_SIDE_COUNT };

enum verdict_cause {
	CAUSE_IDLE,            /* NOTHING: no traffic in the interval, and nobody waits */
	CAUSE_LOSS,            /* NETWORK: segments were lost and sent again */
	CAUSE_DISTANCE,        /* NETWORK: the path is long, and the window is filled once per round trip */
	CAUSE_BANDWIDTH,       /* NETWORK: the path is full: RTT far above its own minimum */
	CAUSE_RECEIVE_WINDOW,  /* FAR_HOST: its application reads slowly, or its buffer is small */
	CAUSE_FAR_APPLICATION, /* FAR_HOST: we wait for its data: an answer, or the next piece of a stream */
	CAUSE_SEND_BUFFER,     /* THIS_HOST: the socket's send buffer is too small for the path */
	CAUSE_LOCAL_READER,    /* THIS_HOST: received data waits in the socket for our application */
	CAUSE_LOCAL_WRITER,    /* THIS_HOST: our application sends less than the path would take */
	CAUSE_COUNT
};

/* What one connection did in an interval. */
struct verdict_input {
	double interval_s;      /* > 0 */
	double busy_s, receive_window_s,
	    send_buffer_s;	/* busy contains the others, which are the kernel's and what looks add */
	double waiting_far_s;   /* nothing outstanding, and the far host's data ended it, or is due */
	double streaming_s;     /* part of it: data came in without pause */
	double reading_s;       /* received data was waiting for our application */
	double path_full_s;     /* part of busy: more was to be sent than the path took */
	double rtt_s, min_rtt_s; /* NAN: unknown */
	double receive_rtt_s;   /* of what comes in; NAN: unknown */
	uint64_t sent_bytes, received_bytes;    /* payload, in the interval */
	/* Segments with data in the interval. sent_segments counts the retransmitted ones too; reordered ones came
	 * behind a gap, so something before them was lost or late. */
	uint64_t sent_segments, retransmits, received_segments, reordered;
};

/* The shares add up to 1, and so do causes (of CAUSE_IDLE: 1 or 0). */
struct verdict {
	enum verdict_side side;
	enum verdict_cause cause;  /* the largest of the side */
	double network, far_host, this_host;
	double loss;  /* part of network: 0..network */
	double idle;  /* part of this_host and far_host: nothing outstanding */
	double causes[CAUSE_COUNT];
};

/* Any input gives a verdict: what is negative, not a number or more than the interval is cut. */
void verdict_of(const struct verdict_input *input, struct verdict *ret_verdict);
/* Two pieces of one connection's time: *sum becomes both. A zeroed sum is no time. */
void verdict_input_add(struct verdict_input *sum, const struct verdict_input *input);
/* Several connections: *sum, the mean over *sum_s seconds so far, becomes the mean with one more that has `seconds`. */
void verdict_add(struct verdict *sum, double *sum_s, const struct verdict *verdict, double seconds);

const char *verdict_side_name(enum verdict_side side);    /* "network", "far_host", "this_host", "nothing" */
const char *verdict_cause_name(enum verdict_cause cause); /* "loss", "receive_window", ... */
/* What the names stand for; -EINVAL for others. */
int verdict_side_parse(const char *name, enum verdict_side *ret_side);
int verdict_cause_parse(const char *name, enum verdict_cause *ret_cause);
/* One plain sentence for people: what it waits for, and what would help. */
const char *verdict_sentence(const struct verdict *verdict);
