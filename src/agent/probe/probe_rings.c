/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe/probe_rings.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#define NONE UINT32_MAX
#define ORDERS 32
#define NOT_FREE 0xff

/* Everything in units of PROBE_RING_MIN flights. A free piece is known by its first unit, and in the list of its
 * order. */
struct unit {
	uint32_t next, previous;
	uint8_t order; /* of the free piece that begins here; NOT_FREE */
};

struct probe_rings {
	uint32_t n;
	uint32_t heads[ORDERS];
	struct unit units[];
};

static unsigned order_of(uint32_t units)
{
	return (unsigned)__builtin_ctz(units);
}

static void add(struct probe_rings *rings, uint32_t at, unsigned order)
{
	struct unit *unit = &rings->units[at];

	*unit = (struct unit){ .next = rings->heads[order], .previous = NONE, .order = (uint8_t)order };
	if (unit->next != NONE)
		rings->units[unit->next].previous = at;
	rings->heads[order] = at;
}

static void drop(struct probe_rings *rings, uint32_t at)
{
	struct unit *unit = &rings->units[at];

	if (unit->previous != NONE)
		rings->units[unit->previous].next = unit->next;
	else
		rings->heads[unit->order] = unit->next;
	if (unit->next != NONE)
		rings->units[unit->next].previous = unit->previous;
	unit->order = NOT_FREE;
}

static bool valid_size(uint32_t size)
{
	return size >= PROBE_RING_MIN && !(size & (size - 1));
}

int probe_rings_new(uint32_t flights, struct probe_rings **ret_rings)
{
	uint32_t n = flights / PROBE_RING_MIN;
	struct probe_rings *rings;

	assert(valid_size(flights));
	rings = malloc(sizeof(*rings) + n * sizeof(rings->units[0]));
	if (!rings)
		return -ENOMEM;
	rings->n = n;
	for (unsigned i = 0; i < ORDERS; i++)
		rings->heads[i] = NONE;
	for (uint32_t i = 0; i < n; i++)
		rings->units[i].order = NOT_FREE;
	add(rings, 0, order_of(n));
	*ret_rings = rings;
	return 0;
}

void probe_rings_free(struct probe_rings *rings)
{
	free(rings);
}

int probe_rings_take(struct probe_rings *rings, uint32_t size, uint32_t *ret_first)
{
	unsigned wanted, order;
	uint32_t at;

	assert(valid_size(size));
	if (size / PROBE_RING_MIN > rings->n)
		return -ENOSPC;
	wanted = order_of(size / PROBE_RING_MIN);
	for (order = wanted; order < ORDERS && rings->heads[order] == NONE; order++)
		;
	if (order == ORDERS)
		return -ENOSPC;
	at = rings->heads[order];
	drop(rings, at);
	while (order-- > wanted)
		add(rings, at + (1u << order), order);
	*ret_first = at * PROBE_RING_MIN;
	return 0;
}

void probe_rings_give(struct probe_rings *rings, uint32_t first, uint32_t size)
{
	uint32_t at = first / PROBE_RING_MIN, n = size / PROBE_RING_MIN, other;

	assert(valid_size(size) && first % size == 0 && at + n <= rings->n);
	for (; n < rings->n; n *= 2, at &= ~(n - 1)) {
		other = at ^ n;
		if (rings->units[other].order != order_of(n))
			break;
		drop(rings, other);
	}
	add(rings, at, order_of(n));
}
