/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * Passive round-trip time of TCP connections that pass by, as pping finds it: a
 * segment that is sighted, until the acknowledgement that it caused comes back. It is
 * the way from here to the acknowledging host and back, so that is the peer it is
 * counted for; the host's delayed acknowledgement (up to 40 ms on Linux, 500 ms by
 * RFC 9293) is in it when the segment came alone.
 *
 * With timestamps (RFC 7323) the first sighting of a TSval is matched with its first
 * echo. A receiver echoes the timestamp of the segment that advanced its window, so a
 * retransmission (which has a newer one) and reordering cannot be mistaken for it; an
 * echo of anything newer ends the waiting without a sample. A value counts as
 * sighted on any segment, pure acknowledgements too, since they are echoed as well; but
 * only what occupies sequence space is waited for. Without timestamps the segment is
 * matched with the first acknowledgement of its end, and Karn's rule holds: a segment
 * below the highest sequence number, be it a retransmission or late, ends the waiting.
 *
 * One segment per direction is awaited at a time: about one sample per round trip,
 * bounded memory, and no list to search. Of what the agent does not see begin, the
 * first segment only teaches where it stands. Acknowledgements that are lost behind us
 * make the sample that of the next one. Both processors that carry a connection's two
 * directions may be here at once: `sent_ns` is claimed and taken by compare-and-swap.
 *
 * Idea: Strowes, "Passively measuring TCP round-trip times", 2013; Nichols, pping.
 */
#ifndef NETSONDE_FLOW_RTT_BPF_H
#define NETSONDE_FLOW_RTT_BPF_H
#include "abi_flow.h"
#include "parse.h"
#include "peer.bpf.h"
#include "hist.bpf.h"

/* Nobody acknowledges later: then the way of one direction was elsewhere meanwhile. */
#define FLOW_RTT_MAX_NS 10000000000ULL

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024); /* set by the agent */
	__type(key, struct flow_key);
	__type(value, struct flow_conversation);
} conversations SEC(".maps");

__u32 epoch;             /* counted by the agent */
__u64 conversations_now; /* entries; the agent takes off what it deletes */

/* a - b of numbers that wrap round. */
static __always_inline __s32 distance(__u32 a, __u32 b)
{
	return (__s32)(a - b);
}

static __always_inline void forget(struct flow_half *half)
{
	if (half->sent_ns > FLOW_BUSY)
		half->sent_ns = FLOW_NOTHING;
}

static __always_inline void await(struct flow_half *half, __u64 expects)
{
	if (__sync_val_compare_and_swap(&half->sent_ns, FLOW_NOTHING, FLOW_BUSY) != FLOW_NOTHING)
		return;
	half->expects = expects;
	__sync_lock_test_and_set(&half->sent_ns, bpf_ktime_get_ns());
}

/* A segment of this direction with a timestamp. */
static __always_inline void sight_stamp(struct flow_half *half, const struct packet *p, bool occupies)
{
	__u32 value = p->timestamp_value;
	bool syn = p->tcp_flags & PACKET_SYN, known = half->known & FLOW_KNOWN_STAMP;

	/* A SYN begins anew: another connection with the same ports, or the same one asks again. */
	if (!syn && known && distance(value, half->stamp) <= 0)
		return;
	half->stamp = value;
	if (!known)
		half->known |= FLOW_KNOWN_STAMP;
	if (syn)
		forget(half);
	if (syn || (known && occupies))
		await(half, FLOW_EXPECTS_STAMP | value);
}

static __always_inline void sight_sequence(struct flow_half *half, const struct packet *p, __u32 occupied)
{
	__u32 end = p->sequence + occupied;
	bool syn = p->tcp_flags & PACKET_SYN, known = half->known & FLOW_KNOWN_SEQUENCE;
	__s32 ahead;

	if (!known || (syn && end != half->sequence_end)) {
		forget(half);
		half->sequence_end = end;
		half->known |= FLOW_KNOWN_SEQUENCE;
		if (syn)
			await(half, FLOW_EXPECTS_SEQUENCE | end);
		return;
	}
	if (!occupied)
		return;
	ahead = distance(p->sequence, half->sequence_end);
	if (distance(end, half->sequence_end) > 0)
		half->sequence_end = end;
	if (ahead < 0)
		forget(half);
	else
		await(half, FLOW_EXPECTS_SEQUENCE | end);
}

/* Does it acknowledge what the other direction awaits? Nanoseconds, or 0. */
static __always_inline __u64 answered(struct flow_half *half, const struct packet *p)
{
	__u64 sent = half->sent_ns, expects = half->expects, now;
	__s32 beyond;

	if (sent <= FLOW_BUSY || !(p->tcp_flags & PACKET_ACK))
		return 0;
	if (expects & FLOW_EXPECTS_STAMP) {
		if (!(p->flags & PACKET_TIMESTAMPS))
			return 0;
		beyond = distance(p->timestamp_echo, (__u32)expects);
		if (beyond < 0)
			return 0;
	} else {
		if (distance(p->acknowledgement, (__u32)expects) < 0)
			return 0;
		/* What was never sighted: the other direction has another way. */
		beyond = distance(p->acknowledgement, half->sequence_end);
	}
	if (__sync_val_compare_and_swap(&half->sent_ns, sent, FLOW_NOTHING) != sent || beyond > 0)
		return 0;
	now = bpf_ktime_get_ns();
	return now - sent <= FLOW_RTT_MAX_NS ? now - sent : 0;
}

/* Which end sent it: 0 when the source is the lower one. Fills the key. */
static __always_inline __u32 conversation_key(const struct packet *p, __u32 device, __u32 vlan, struct flow_key *ret)
{
	__u32 from = p->source_port > p->destination_port;

	/* From the least significant word on; a word that differs overrules. */
	for (int i = 3; i >= 0; i--)
		if (p->source.words[i] != p->destination.words[i])
			from = bpf_ntohl(p->source.words[i]) > bpf_ntohl(p->destination.words[i]);
	if (from) {
		ret->address[0] = p->destination;
		ret->address[1] = p->source;
		ret->port[0] = p->destination_port;
		ret->port[1] = p->source_port;
	} else {
		ret->address[0] = p->source;
		ret->address[1] = p->destination;
		ret->port[0] = p->source_port;
		ret->port[1] = p->destination_port;
	}
	ret->device = device;
	ret->vlan = vlan;
	return from;
}

/* NULL when there is none and this segment is none to begin with, or the map is full (then *ret_full). */
static __always_inline struct flow_conversation *conversation_of(const struct flow_key *key, bool begins, bool *ret_full)
{
	struct flow_conversation *c = bpf_map_lookup_elem(&conversations, key);
	struct flow_conversation fresh = { .epoch = epoch };

	if (c || !begins)
		return c;
	if (!bpf_map_update_elem(&conversations, key, &fresh, BPF_NOEXIST))
		__sync_fetch_and_add(&conversations_now, 1);
	c = bpf_map_lookup_elem(&conversations, key);
	*ret_full = !c;
	return c;
}

static __always_inline void conversation_end(const struct flow_key *key)
{
	if (!bpf_map_delete_elem(&conversations, key))
		__sync_fetch_and_sub(&conversations_now, 1);
}

static __always_inline void mark(struct flow_conversation *c, __u32 bits)
{
	if ((c->state & bits) != bits)
		__sync_fetch_and_or(&c->state, bits);
	if (c->epoch != epoch)
		c->epoch = epoch;
}

/* Both sides closed it, and know that the other one did. */
static __always_inline bool over(const struct flow_conversation *c)
{
	return (c->state & FLOW_CLOSED_BOTH) == FLOW_CLOSED_BOTH && !c->half[0].sent_ns && !c->half[1].sent_ns;
}

/* A whole TCP header. Returns the round-trip time to the packet's source, 0 when it tells none. */
static __always_inline __u64 follow(const struct packet *p, __u32 device, __u32 vlan, bool *ret_full)
{
	__u32 occupied = p->payload_length + !!(p->tcp_flags & PACKET_SYN) + !!(p->tcp_flags & PACKET_FIN), from;
	bool reset = p->tcp_flags & PACKET_RST;
	struct flow_conversation *c;
	struct flow_half *mine, *other;
	struct flow_key key;
	__u64 rtt;

	from = conversation_key(p, device, vlan, &key);
	c = conversation_of(&key, occupied && !reset, ret_full);
	if (!c)
		return 0;
	mine = from ? &c->half[1] : &c->half[0];
	other = from ? &c->half[0] : &c->half[1];
	/* A reset is no acknowledgement: who sends it may not even have got what it acknowledges. */
	rtt = reset ? 0 : answered(other, p);
	if (reset || (!occupied && over(c))) {
		conversation_end(&key);
		return rtt;
	}
	mark(c, (FLOW_SEEN | (p->tcp_flags & PACKET_FIN ? FLOW_CLOSED : 0)) << from);
	if (p->flags & PACKET_TIMESTAMPS)
		sight_stamp(mine, p, occupied);
	else
		sight_sequence(mine, p, occupied);
	return rtt;
}

#endif
