/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A packet's way: taken from a port with its arrival time, planned by its
 * direction, put into the heap, and sent when its time has come. Between
 * batches of arrivals the due ones are sent, so that a flood in one direction
 * delays nobody by more than a batch.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "lab/relay.h"
#include "lib/clock.h"

#define BATCH 16  /* arrivals taken before due packets are looked at again */
#define ROUNDS 64 /* batches before commands and signals are looked at again */

uint64_t relay_now_ns(void)
{
	return mono_now().ns;
}

uint64_t relay_next_ns(const struct relay *relay)
{
	const struct packet *first = schedule_first(&relay->waiting);
	return first ? first->due_ns : UINT64_MAX;
}

static void copy_take(struct relay *relay, struct packet *packet, const void *data, enum fate fate)
{
	struct counts *counts = &relay->directions[packet->direction].counts;
	if (fate == FATE_SENT) {
		if (!schedule_put(&relay->waiting, packet, data))
			return;
		counts->queued--;
		counts->memory_dropped++;
		fate = FATE_NO_MEMORY;
	}
	record_packet(relay->record, packet, data, fate, 0);
}

static void frame_take(struct relay *relay, int i, const struct frame *frame)
{
	struct direction *direction = &relay->directions[i];
	struct plan plan;
	if (frame->unfinished) {
		relay->unfinished[i]++;
		return;
	}
	uint64_t in_ns = frame->in_ns > relay->last_in_ns[i] ? frame->in_ns : relay->last_in_ns[i];
	relay->last_in_ns[i] = in_ns;
	direction_plan(direction, in_ns, frame->len, &plan);
	for (unsigned copy = 0; copy < plan.n_copies; copy++) {
		struct packet packet = {
			.due_ns = plan.copies[copy].due_ns, .in_ns = in_ns, .number = direction->counts.in,
			.len = (uint32_t)frame->len, .direction = (uint8_t)i, .duplicate = copy > 0,
		};
		copy_take(relay, &packet, frame->data, plan.copies[copy].fate);
	}
}

static void due_send(struct relay *relay)
{
	uint64_t now;
	while (schedule_first(&relay->waiting) && relay_next_ns(relay) <= (now = relay_now_ns())) {
		struct packet *packet = schedule_take(&relay->waiting);
		struct direction *direction = &relay->directions[packet->direction];
		int r = port_send(relay->ports[1 - packet->direction], packet->data, packet->len);
		if (r < 0) {
			direction->counts.queued--;
			direction->counts.send_failed++;
		} else {
			direction_sent(direction, packet->number, packet->len, packet->in_ns, packet->due_ns, now);
		}
		record_packet(relay->record, packet, packet->data, r < 0 ? FATE_SEND_FAILED : FATE_SENT,
			      r < 0 ? 0 : now);
		free(packet);
	}
}

int relay_turn(struct relay *relay)
{
	int r[2] = { 1, 1 };
	for (int round = 0; round < ROUNDS && (r[0] > 0 || r[1] > 0); round++) {
		for (int i = 0; i < 2; i++) {
			struct frame frame;
			for (int n = 0; n < BATCH && (r[i] = port_receive(relay->ports[i], &frame)) > 0; n++)
				frame_take(relay, i, &frame);
			if (r[i] < 0)
				return r[i];
		}
		due_send(relay);
	}
	for (int i = 0; i < 2; i++)
		relay->more[i] = r[i] > 0;
	return relay->more[0] || relay->more[1];
}

int relay_catch_up(struct relay *relay)
{
	uint64_t now = relay_now_ns();
	int r;
	do {
		r = relay_turn(relay);
		if (r < 0)
			return r;
	} while ((relay->more[0] && relay->last_in_ns[0] < now) || (relay->more[1] && relay->last_in_ns[1] < now));
	return 0;
}

int relay_set(struct relay *relay, const char *text, struct error *ret_error)
{
	static const struct { const char *name; unsigned which; } names[] = {
		{ "a->b", 1 }, { "b->a", 2 }, { "both", 3 },
	};
	text += strspn(text, " \t");
	size_t len = strcspn(text, " \t");
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (strlen(names[i].name) != len || memcmp(names[i].name, text, len))
			continue;
		/* The text is checked against one direction; what one accepts, the other does too. */
		for (int side = 0; side < 2; side++) {
			int r = names[i].which & 1 << side ?
				impair_parse(text + len, &relay->directions[side].impair, ret_error) : 0;
			if (r < 0)
				return r;
		}
		return 0;
	}
	return error_set(ret_error, -EINVAL, "expected a->b, b->a or both and then settings, not `%.*s`",
			 len < 32 ? (int)len : 32, text);
}

int relay_write_counts(struct relay *relay, struct buffer *out)
{
	struct port_counts extra[2];
	for (int i = 0; i < 2; i++)
		extra[i] = (struct port_counts){ port_overrun(relay->ports[i]), relay->unfinished[i] };
	int r = record_flush(relay->record);
	if (r < 0)
		return r;
	r = counts_write(relay->directions, extra, out);
	buffer_putc(out, '\n');
	return r;
}
