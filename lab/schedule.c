/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lab/schedule.h"

void schedule_init(struct schedule *schedule, size_t bytes_max)
{
	*schedule = (struct schedule){ .bytes_max = bytes_max };
}

void schedule_done(struct schedule *schedule)
{
	for (size_t i = 0; i < schedule->n; i++)
		free(schedule->heap[i]);
	free(schedule->heap);
	*schedule = (struct schedule){ 0 };
}

static size_t weight(const struct packet *packet)
{
	return sizeof(*packet) + packet->len + 2 * sizeof(void *); /* the allocator's share, about */
}

static bool before(const struct packet *a, const struct packet *b)
{
	return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static int grow(struct schedule *schedule)
{
	if (schedule->n < schedule->cap)
		return 0;
	size_t cap = schedule->cap ? schedule->cap * 2 : 1024;
	struct packet **heap = reallocarray(schedule->heap, cap, sizeof(struct packet *));
	if (!heap)
		return -ENOMEM;
	schedule->heap = heap;
	schedule->cap = cap;
	return 0;
}

int schedule_put(struct schedule *schedule, const struct packet *packet, const void *data)
{
	if (schedule->bytes + weight(packet) > schedule->bytes_max || grow(schedule) < 0)
		return -ENOMEM;
	struct packet *copy = malloc(sizeof(*copy) + packet->len);
	if (!copy)
		return -ENOMEM;
	*copy = *packet;
	copy->order = schedule->order++;
	memcpy(copy->data, data, packet->len);
	schedule->bytes += weight(copy);
	size_t i = schedule->n++;
	for (; i && before(copy, schedule->heap[(i - 1) / 2]); i = (i - 1) / 2)
		schedule->heap[i] = schedule->heap[(i - 1) / 2];
	schedule->heap[i] = copy;
	return 0;
}

const struct packet *schedule_first(const struct schedule *schedule)
{
	return schedule->n ? schedule->heap[0] : NULL;
}

struct packet *schedule_take(struct schedule *schedule)
{
	struct packet *first = schedule->heap[0], *last = schedule->heap[--schedule->n];
	size_t i = 0, child;
	for (; (child = 2 * i + 1) < schedule->n; i = child) {
		if (child + 1 < schedule->n && before(schedule->heap[child + 1], schedule->heap[child]))
			child++;
		if (!before(schedule->heap[child], last))
			break;
		schedule->heap[i] = schedule->heap[child];
	}
	if (schedule->n)
		schedule->heap[i] = last;
	schedule->bytes -= weight(first);
	return first;
}
