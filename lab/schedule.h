/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets waiting for their time: a binary heap ordered by when they are due, and
 * among equals by when they were put in. The memory of all packets together stays
 * below a limit.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct packet {
	uint64_t due_ns, in_ns;
	uint64_t number;   /* of the arrival, per direction, from 1 */
	uint64_t order;    /* set by schedule_put */
	uint32_t len;
	uint8_t direction; /* 0: a to b */
	bool duplicate;
	uint8_t data[];
};

struct schedule { struct packet **heap; size_t n, cap; uint64_t order; size_t bytes, bytes_max; };

void schedule_init(struct schedule *schedule, size_t bytes_max);
void schedule_done(struct schedule *schedule); /* frees what still waits */
/* A copy of *packet with these bytes. -ENOMEM: over the limit, or the system has none. */
int schedule_put(struct schedule *schedule, const struct packet *packet, const void *data);
/* The next packet to leave, or NULL. It stays the schedule's. */
const struct packet *schedule_first(const struct schedule *schedule);
/* Removes the first; the caller frees it with free(). */
struct packet *schedule_take(struct schedule *schedule);
