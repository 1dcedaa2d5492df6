/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay proper: two ports, what each direction does to packets, and the
 * packets that wait. One thread; relay_turn() is one round of its loop.
 */
#pragma once
#include "lab/impair.h"
#include "lab/port.h"
#include "lab/record.h"
#include "lab/schedule.h"

struct relay {
	struct port *ports[2];            /* direction i goes from ports[i] to ports[1 - i] */
	struct direction directions[2];
	uint64_t unfinished[2];
	uint64_t last_in_ns[2];           /* arrivals do not go back in time */
	bool more[2];                     /* the last turn left something unread */
	struct schedule waiting;
	struct record *record;            /* or NULL */
};

uint64_t relay_now_ns(void); /* CLOCK_MONOTONIC */
/* Takes what has arrived and sends what is due. 0: everything; 1: there is more, but others want attention too;
 * -errno: a port is beyond use. */
int relay_turn(struct relay *relay);
/* Takes everything that arrived before now, however much that is. 0 or -errno. */
int relay_catch_up(struct relay *relay);
/* When the next packet is due, UINT64_MAX: none waits. */
uint64_t relay_next_ns(const struct relay *relay);
/* "a->b loss=5%", "b->a rate=0", "both delay=20ms": changes a direction. -EINVAL with a sentence. */
int relay_set(struct relay *relay, const char *text, struct error *ret_error);
/* The counters as a line of JSON; the log is flushed first, so that it holds what they count. */
int relay_write_counts(struct relay *relay, struct buffer *out);
