/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When each path is probed next, so that probes leave evenly, cheaply and never above a budget. Pure: the caller
 * brings the time (CLOCK_MONOTONIC, ns) and sends.
 *
 * - A path starts at a random phase, and each interval is up to a tenth shorter or longer, so that no pattern of ours
 *   meets a pattern of the network, and many paths spread by themselves.
 * - Wake-ups are bounded: at high rates the probes of a slot of 1 to 20 ms leave together, about 8 of them; at low rates each leaves
 *   exactly when it is due.
 * - The budget holds in every second. First the intervals are chosen so that the mean stays 5 % below it: paths that are
 *   probed faster for a while lose that first, then all intervals grow by the same factor. What chance
 *   brings together beyond that waits: a virtual clock (the generic cell rate algorithm of ITU-T I.371) lets nothing leave that
 *   could be one too many in any second.
 *
 * All of it is a heap: a probe costs a few comparisons, with 10,000 paths too.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Embedded in what is to be probed. To be zeroed before the first use. */
struct probe_schedule_entry {
	uint64_t due_ns;
	uint64_t interval_ns; /* as asked for */
	uint64_t fast_ns;     /* shorter, for a while; 0: not at the moment */
	uint32_t bytes;       /* of one probe, with its IP header */
	uint32_t place;       /* 1 + its index in the heap; 0: it is in none */
	bool early;           /* its first probe comes before its random phase */
};

/* With the time beside it, since what is compared must be together: the entries are all over the memory. */
struct probe_schedule_place { uint64_t due_ns; struct probe_schedule_entry *entry; };

struct probe_schedule {
	struct probe_schedule_place *heap; /* by due time, with four children each; owned, the entries are not */
	size_t n, cap;
	uint64_t random;
	uint32_t packets_max, bytes_max;        /* per second */
	/* Sums over the entries, in millionths per second: as asked for, and what being faster adds. */
	uint64_t packets, bytes, extra_packets, extra_bytes;
	double stretch;       /* >= 1: by how much all intervals are longer */
	double share;         /* 0..1: of their higher rate that the faster ones get */
	/* The virtual clock: when the next packet and the next byte would leave at the highest even rate. */
	uint64_t packets_ns, bytes_ns;
	uint64_t last_ns;     /* last wake-up */
	uint32_t left;        /* that may still leave at this wake-up */
	uint64_t skipped;     /* probes left out: the process was held up for longer than their interval */
};

void probe_schedule_init(struct probe_schedule *schedule, uint32_t packets_max, uint32_t bytes_max, uint64_t seed);
void probe_schedule_done(struct probe_schedule *schedule);
void probe_schedule_budget(struct probe_schedule *schedule, uint32_t packets_max, uint32_t bytes_max);

/* An entry that is in no schedule. One that was in it before with the same interval is not due earlier than it was: who comes and
 * goes is not probed more often for it. -ENOMEM. */
int probe_schedule_add(struct probe_schedule *schedule, struct probe_schedule_entry *entry, uint64_t interval_ns, uint32_t bytes,
		       uint64_t now_ns);
void probe_schedule_remove(struct probe_schedule *schedule, struct probe_schedule_entry *entry); /* one that is in none is fine */
/* Another interval for a while, shorter than its own; 0: its own again. */
void probe_schedule_speed(struct probe_schedule *schedule, struct probe_schedule_entry *entry, uint64_t fast_ns, uint64_t now_ns);

/* A wake-up begins; then probe_schedule_next until it gives NULL: each has its next time already. */
void probe_schedule_begin(struct probe_schedule *schedule, uint64_t now_ns);
struct probe_schedule_entry *probe_schedule_next(struct probe_schedule *schedule, uint64_t now_ns);
/* When the next wake-up is to be; UINT64_MAX: there is nothing to do. */
uint64_t probe_schedule_wake(const struct probe_schedule *schedule);

/* In force at the moment, without the random part. */
uint64_t probe_schedule_interval(const struct probe_schedule *schedule, const struct probe_schedule_entry *entry);
/* Probes per second that are asked for, faster ones included, and that may leave by the intervals in force. */
double probe_schedule_wanted(const struct probe_schedule *schedule);
double probe_schedule_rate(const struct probe_schedule *schedule);
