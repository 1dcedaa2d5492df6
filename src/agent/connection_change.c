/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a connection did between two looks at it.
 *
 * Time with data outstanding is a kernel counter. Time without belongs to the side whose
 * data ended it: when only one of them sent something until the second look, that is known. When nothing was sent, it
 * is pending: guessed now, and put right when somebody speaks. When both spoke, the looks decide: who had spoken last
 * waited for the other.
 *
 * The guess is by habit: who ended the last idle time after the same side had spoken? A request waits for an answer,
 * but the next piece of a stream that nobody answers comes from whoever sent the one before.
 */
#include "agent/connections_internal.h"

#include <stddef.h>

/* An answer that did not come for that long is no longer waited for: the connection is idle. */
#define WAIT_MAX_S 60
/* No interval counts as longer (12 days at 250 jiffies a second), so that sums of them fit. */
#define JIFFIES_MAX (1u << 28)
/* Received data that the application takes within this time is not waiting. */
#define READ_AT_ONCE_MS 10
/* Data that came so recently is part of a stream without pauses. */
#define STREAM_GAP_MS 8
/* So many times more segments one way than the other make a stream. */
#define STREAM_RATIO 4

/* Two bits for each side that spoke last: bit 0 known, bit 1 the far host ends it. */
#define HABIT_KNOWN 1u
#define HABIT_FAR 2u

static unsigned habit_shift(uint16_t flags)
{
	return flags & CONNECTION_FAR_TURN ? 2 : 0;
}

static bool far_ends(uint16_t flags, uint8_t habits)
{
	unsigned habit = habits >> habit_shift(flags);

	return habit & HABIT_KNOWN ? habit & HABIT_FAR : flags & CONNECTION_FAR_TURN;
}

static uint8_t habit_learn(uint16_t flags, uint8_t habits, bool far)
{
	unsigned shift = habit_shift(flags);

	return (uint8_t)((habits & ~(3u << shift)) | (HABIT_KNOWN | (far ? HABIT_FAR : 0)) << shift);
}

/*
 * Does the far host's buffer hold the sender back? What is on its way fills three quarters of the window (the kernel
 * defers what would fill the rest in pieces), or the window is half of what it has been: the rest waits for the
 * reader. Whatever the congestion window is: some algorithms (BBR) let it follow what the reader takes.
 */
static bool far_window_is_full(const struct connection_record *r)
{
	return (r->unacked && r->unacked_bytes * 4ULL >= r->send_window * 3ULL) ||
	       r->send_window <= r->send_window_max / 2;
}

uint16_t row_flags(const struct connection_record *r, unsigned hz)
{
	uint16_t flags =
	    r->flags & (CONNECTION_MPTCP | CONNECTION_CWND_LIMITED | CONNECTION_FAR_TURN | CONNECTION_BUFFER_FULL);

	if (r->unacked || r->not_sent)
		flags |= ROW_OUTSTANDING;
	/* A window that is smaller than what waits is one that the reader has closed. */
	if (r->receive_queue &&
	    (r->receive_queue >= r->receive_window || r->since_received * 1000ULL >= READ_AT_ONCE_MS * (uint64_t)hz))
		flags |= ROW_READING;
	if (r->not_sent || r->flags & CONNECTION_CWND_LIMITED)
		flags |= ROW_FULL;
	if (r->since_received * 1000ULL <= STREAM_GAP_MS * (uint64_t)hz)
		flags |= ROW_STREAM;
	if (r->not_sent && far_window_is_full(r))
		flags |= ROW_WINDOW;
	return flags;
}

void row_base_of(const struct connection_record *r, const struct row_change *change, struct row_base *ret_base)
{
	*ret_base = (struct row_base){
	    .cookie = r->cookie,
	    .sent_bytes = r->sent_bytes,
	    .received_bytes = r->received_bytes,
	    .looked = r->looked,
	    .busy = r->busy,
	    .receive_window = r->receive_window_limited,
	    .send_buffer = r->send_buffer_limited,
	    .sent_segments = r->sent_data_segments,
	    .retransmits = r->retransmits,
	    .received_segments = r->received_data_segments,
	    .reordered = r->reordered,
	    .since_sent = r->since_sent,
	    .since_received = r->since_received,
	    .pending = change->pending,
	    .guessed = change->guessed,
	    .flags = r->flags,
	    .habits = change->habits,
	};
}

/* Counters are read without a lock and may be a moment apart: never backwards, and no more than there was time. */
static uint32_t grown(uint32_t from, uint32_t to, uint32_t max)
{
	uint32_t by = to - from;

	return (int32_t)by < 0 ? 0 : by < max ? by : max;
}

/* Half of `time` for each look that shows it. */
static uint32_t share(uint32_t time, bool before, bool after)
{
	return before && after ? time : before || after ? time / 2 : 0;
}

/* Does data come in without pause, one way? Then who spoke last says nothing: it is the next piece that is waited for.
 */
static bool streams(uint32_t one_way, uint32_t other, uint32_t since_before, uint32_t since_after, uint32_t interval)
{
	return one_way / STREAM_RATIO > other && since_before <= interval / 8 && since_after <= interval / 8;
}

static uint32_t at_most(uint32_t value, uint32_t max)
{
	return value < max ? value : max;
}

/* Part of `time` as `part` is of `whole`. */
static uint32_t scale(uint32_t time, uint32_t part, uint32_t whole)
{
	return whole ? (uint32_t)((uint64_t)time * part / whole) : 0;
}

/* Idle time that nobody's data has ended yet. */
static void guess(const struct row_base *base, const struct connection_record *now, unsigned hz, uint32_t idle,
		  struct row_change *c)
{
	bool far = far_ends(now->flags, c->habits) && now->since_sent < WAIT_MAX_S * hz;

	c->waiting_far += far ? (int32_t)idle : 0;
	c->pending = at_most(base->pending + idle, JIFFIES_MAX);
	c->guessed = at_most(base->guessed + (far ? idle : 0), c->pending);
}

/*
 * Both spoke in between, and it is known when each did so last. What was before the earlier of these times belongs to
 * whom the look before showed to be waited for (right for one question and one answer, and on the average for many);
 * what was between them ended with the later one.
 */
static uint32_t waiting_of_both(const struct row_base *base, const struct connection_record *now,
				const struct row_change *c, uint32_t idle, uint32_t last, uint32_t earlier)
{
	uint32_t waiting = far_ends(base->flags, base->habits) ? c->interval - earlier : 0;

	if (streams(c->received_segments, c->sent_segments, base->since_received, now->since_received, c->interval))
		return idle;
	if (streams(c->sent_segments, c->received_segments, base->since_sent, now->since_sent, c->interval))
		return 0;
	if (!(now->flags & CONNECTION_FAR_TURN)) /* it spoke last */
		waiting += earlier - last;
	return scale(idle, waiting, c->interval - last);
}

static void divide_idle(const struct row_base *base, const struct connection_record *now, unsigned hz,
			struct row_change *c)
{
	static const struct row_base nothing_pending = { 0 };
	uint32_t idle = c->interval - c->busy, sent = at_most(now->since_sent, c->interval);
	uint32_t received = at_most(now->since_received, c->interval), last, tail;

	c->habits = base->habits;
	if (!c->sent_bytes && !c->received_bytes) {
		guess(base, now, hz, idle, c);
		return;
	}
	last = !c->received_bytes ? sent : !c->sent_bytes ? received : at_most(sent, received);
	tail = scale(idle, last, c->interval);
	if (c->sent_bytes && c->received_bytes) {
		c->waiting_far =
		    (int32_t)waiting_of_both(base, now, c, idle - tail, last, sent > received ? sent : received);
	} else {
		c->waiting_far =
		    (c->received_bytes ? (int32_t)(idle - tail + base->pending) : 0) - (int32_t)base->guessed;
		if (!(base->flags & ROW_OUTSTANDING))
			c->habits = habit_learn(base->flags, base->habits, c->received_bytes);
	}
	guess(&nothing_pending, now, hz, tail, c);
}

void row_change_of(const struct row_base *base, const struct connection_record *now, unsigned hz,
		   struct row_change *ret_change)
{
	struct row_change c = { 0 };
	uint32_t network, blocked;

	c.interval = grown(base->looked, now->looked, JIFFIES_MAX);
	c.sent_bytes = now->sent_bytes > base->sent_bytes ? now->sent_bytes - base->sent_bytes : 0;
	c.received_bytes = now->received_bytes > base->received_bytes ? now->received_bytes - base->received_bytes : 0;
	c.busy = grown(base->busy, now->busy, c.interval);
	c.receive_window = grown(base->receive_window, now->receive_window_limited, c.busy);
	c.send_buffer = grown(base->send_buffer, now->send_buffer_limited, c.busy - c.receive_window);
	c.sent_segments = grown(base->sent_segments, now->sent_data_segments, UINT32_MAX);
	c.retransmits = grown(base->retransmits, now->retransmits, UINT32_MAX);
	c.received_segments = grown(base->received_segments, now->received_data_segments, UINT32_MAX);
	c.reordered = grown(base->reordered, now->reordered, UINT32_MAX);
	network = c.busy - c.receive_window - c.send_buffer;
	/* The kernel counts the window as the limit only when not even a small segment fits, and a full send buffer
	 * only when a write was cut short by it. */
	blocked = share(network, base->flags & ROW_WINDOW, now->flags & ROW_WINDOW);
	c.receive_window += blocked;
	network -= blocked;
	blocked = share(network, base->flags & CONNECTION_BUFFER_FULL, now->flags & CONNECTION_BUFFER_FULL);
	c.send_buffer += blocked;
	network -= blocked;
	c.path_full = share(network, base->flags & ROW_FULL, now->flags & ROW_FULL);
	c.reading = share(c.interval, base->flags & ROW_READING, now->flags & ROW_READING);
	divide_idle(base, now, hz, &c);
	if (c.waiting_far > 0 && c.received_bytes)
		c.streaming = share((uint32_t)c.waiting_far, base->flags & ROW_STREAM, now->flags & ROW_STREAM);
	*ret_change = c;
}
