/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a link does to packets, and what it has done. One struct direction per
 * direction of a relay; nothing here knows about sockets or clocks, so the
 * decisions are tested by themselves.
 *
 * A packet meets, in this order: loss; duplication; the queue of a transmitter
 * of limited rate (its length on the wire is that of the Ethernet frame without
 * preamble and checksum; what finds the queue full is dropped at the tail); and
 * the delay with its jitter. Jitter never reorders. A packet chosen for
 * reordering leaves `hold` later than its place in the order, and others pass it.
 *
 * Each kind of decision has a random sequence of its own, started by the seed: the
 * n-th decision about loss is the same whatever else is set, and in every run.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/error.h"

/* Which packets: a share of them at random, or exactly every Nth. */
struct share { double probability; uint64_t every; };

struct impair {
	uint64_t delay_ns, jitter_ns; /* uniform: delay +- jitter; normal: jitter is the standard deviation */
	bool jitter_normal;
	struct share loss, duplicate, reorder;
	uint64_t hold_ns;
	uint64_t rate_bps;            /* bits per second; 0: no limit */
	uint64_t queue_bytes, queue_ns; /* what may wait for the transmitter; the one that is not 0 */
};

/* Every count is of packets. in + duplicated = out + lost + queue_dropped + memory_dropped + send_failed + queued. */
struct counts {
	uint64_t in, in_bytes, out, out_bytes;
	uint64_t lost, duplicated, queue_dropped;
	uint64_t memory_dropped;  /* no room in the relay's own memory */
	uint64_t send_failed;     /* the kernel did not take it: longer than the MTU, interface down */
	uint64_t reordered;       /* left after a packet that came later (RFC 4737) */
	uint64_t queued;          /* still inside */
	uint64_t residence_min_ns, residence_max_ns, residence_sum_ns; /* in to out */
	uint64_t late_min_ns, late_max_ns, late_sum_ns; /* out after what was due: the relay's own error, part of the residence */
};

struct direction {
	struct impair impair;
	struct counts counts;
	/* The generator, and the packets since the last one that `every` chose. */
	struct draw { uint64_t random, n; } loss, duplicate, reorder;
	uint64_t jitter_random;
	uint64_t transmitter_free_ns, last_due_ns;
	uint64_t highest_out;     /* number of the latest packet that has left */
};

enum fate { FATE_SENT, FATE_LOST, FATE_QUEUE_FULL, FATE_NO_MEMORY, FATE_SEND_FAILED };

/* What becomes of a packet: its copies, each dropped (fate) or due at a time. */
struct plan {
	unsigned n_copies; /* 1, or 2 when duplicated */
	struct { enum fate fate; uint64_t due_ns; } copies[2];
};

/* `number` tells the two directions' sequences apart. */
void direction_init(struct direction *direction, uint64_t seed, uint64_t number);
/* The fate of a packet of `len` bytes that came at now_ns (times must not fall); counts all but what happens later. */
void direction_plan(struct direction *direction, uint64_t now_ns, size_t len, struct plan *ret_plan);
/* A packet has left; `number` counts the arrivals from 1. */
void direction_sent(struct direction *direction, uint64_t number, size_t len, uint64_t in_ns, uint64_t due_ns,
		    uint64_t out_ns);

/* "delay=20ms jitter=1ms distribution=normal loss=1% duplicate=1/100 reorder=2% hold=5ms rate=10Mbit queue=50ms": sets
 * what is named and keeps the rest. -EINVAL with a sentence; then nothing is changed. */
int impair_parse(const char *text, struct impair *impair, struct error *ret_error);
