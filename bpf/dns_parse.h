/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * DNS messages, as far as a lookup's latency needs them: the header (RFC 1035,
 * section 4.1.1), and over TCP where each message begins: there it has a prefix of
 * two bytes, its length (section 4.2.2). Compiled into the BPF programs and
 * natively, for unit tests and fuzzing; packet_load is parse.h's.
 *
 * A direction of a connection is followed by sequence numbers, with a fixed amount
 * of state and without keeping data. What comes twice is skipped. What comes behind
 * a hole (a segment lost or reordered on its way to us) is followed as a second
 * stream, `ahead`, which takes over when the hole has been filled, if both agree
 * where a message begins. A stream that does not know it (`lost`: it came out of a
 * hole, the connection is older than we are, nonsense in a prefix) finds its place
 * again at a segment that is exactly one plausible message. Segments that nobody
 * could follow are counted, but not those that turn out to be inside of one message.
 */
#ifndef NETSONDE_DNS_PARSE_H
#define NETSONDE_DNS_PARSE_H
#include "abi.h"
#include "parse.h"

#define DNS_PORT 53
#define DNS_HEADER 12
#define DNS_PREFIX 2

enum dns_kind {
	DNS_KIND_QUERY,
	DNS_KIND_ANSWER,
	DNS_KIND_OTHER, /* not the operation QUERY: a zone's notification or update, a session's upkeep */
	DNS_KIND_MALFORMED,
};

struct dns_header {
	__abi_u16 id;
	__abi_u8 rcode; /* without the extension by EDNS, which is at the end of the message */
	__abi_u8 truncated;
};

struct dns_stream {
	__abi_u32 next;     /* sequence number behind the last byte seen */
	__abi_u32 skip;     /* bytes of the message that are still to be passed over */
	__abi_u8 state;     /* enum dns_stream_state */
	__abi_u8 have;      /* of head: 0..13 */
	__abi_u8 reserved[2];
	__abi_u8 head[32];  /* prefix and header; twice as long as used, so that a verifier can see 15 + 15 < 32 */
};

enum dns_stream_state { DNS_STREAM_NEW, DNS_STREAM_LOST, DNS_STREAM_SYNCED };

struct dns_direction {
	struct dns_stream in_order, ahead;
	__abi_u32 ahead_start;
	__abi_u32 ahead_found;    /* where it first found its place */
	__abi_u32 ahead_unparsed; /* segments without a place: before that, then since */
	__abi_u16 ahead_active, ahead_was_found;
};

/* Where a segment, or a part of it, belongs. */
struct dns_part {
	__abi_u32 ahead; /* to the stream behind the hole */
	__abi_u32 from, len;
};

/* What is left to read of a packet. */
struct dns_cursor {
	packet_source *source;
	__abi_u32 offset, left;
};

static __always_inline __abi_u32 dns_u16(const __abi_u8 *p)
{
	return (__abi_u32)p[0] << 8 | p[1];
}

/* length: of the whole message. A message whose counts cannot fit its length is none. Exempt are answers that servers send
 * cut short, with the counts of what was there before. */
static __always_inline enum dns_kind dns_header_parse(const __abi_u8 *h, __abi_u32 length,
									     struct dns_header *ret)
{
	__abi_u32 questions, records;
	int answer, cut;

	if (length < DNS_HEADER)
		return DNS_KIND_MALFORMED;
	answer = h[2] & 0x80;
	ret->id = (__abi_u16)dns_u16(h);
	ret->truncated = h[2] >> 1 & 1;
	ret->rcode = h[3] & 15;
	if (h[2] & 0x78)
		return DNS_KIND_OTHER;
	questions = dns_u16(h + 4);
	records = dns_u16(h + 6) + dns_u16(h + 8) + dns_u16(h + 10);
	cut = answer && (ret->truncated || ret->rcode == 1);
	/* RFC 9619: never more than one question. The shortest has 5 bytes, the shortest record 11. */
	if (questions > 1 || (!cut && DNS_HEADER + questions * 5 + records * 11 > length))
		return DNS_KIND_MALFORMED;
	return answer ? DNS_KIND_ANSWER : DNS_KIND_QUERY;
}

static __always_inline void dns_stream_lose(struct dns_stream *s)
{
	s->state = DNS_STREAM_LOST;
	s->skip = 0;
	s->have = 0;
}

/* The SYN was seen: messages begin at `next`. */
static __always_inline void dns_direction_begin(struct dns_direction *d, __abi_u32 next)
{
	dns_stream_lose(&d->in_order);
	d->in_order.state = DNS_STREAM_SYNCED;
	d->in_order.next = next;
	d->ahead_active = 0;
}

/* The stream has its place again, at its next byte. */
static __always_inline void dns_stream_found(struct dns_direction *d, __abi_u32 ahead)
{
	if (ahead) {
		d->ahead.state = DNS_STREAM_SYNCED;
		if (d->ahead_was_found)
			return;
		d->ahead_was_found = 1;
		d->ahead_found = d->ahead.next;
		d->ahead_unparsed = 0;
	} else {
		d->in_order.state = DNS_STREAM_SYNCED;
	}
}

/* `len` bytes passed that nobody could follow. */
static __always_inline void dns_stream_unparsed(struct dns_direction *d, __abi_u32 ahead, __abi_u32 len, __abi_u64 *unparsed)
{
	if (ahead) {
		dns_stream_lose(&d->ahead);
		d->ahead.next += len;
		d->ahead_unparsed++;
	} else {
		dns_stream_lose(&d->in_order);
		d->in_order.next += len;
		++*unparsed;
	}
}

static __always_inline int dns_place_ahead(struct dns_direction *d, __abi_u32 sequence, __abi_u32 len, struct dns_part *ret_part)
{
	struct dns_stream *a = &d->ahead;
	__abi_u32 from = 0;

	if (!d->ahead_active) {
		dns_stream_lose(a);
		a->next = d->ahead_start = sequence;
		d->ahead_active = 1;
		d->ahead_was_found = 0;
		d->ahead_unparsed = 0;
	} else if ((int)(sequence - d->ahead_start) < 0) {
		/* Before what is followed already, and not next to what is in order. */
		d->ahead_unparsed++;
		dns_stream_lose(a);
		d->ahead_start = sequence;
		if ((int)(sequence + len - a->next) > 0)
			a->next = sequence + len;
		return 0;
	} else if ((int)(sequence - a->next) > 0) { /* a second hole: what fills it will look like something old */
		d->ahead_unparsed++;
		dns_stream_lose(a);
		a->next = sequence;
	} else {
		from = a->next - sequence;
		if (from >= len)
			return 0;
	}
	*ret_part = (struct dns_part){ 1, from, len - from };
	return 1;
}

/* What is new in the segment of `len` bytes at `sequence`, and which stream it continues. Called again for the same segment
 * after dns_join, it finds what lies behind the part that `ahead` had. 0: nothing is new. */
static __always_inline int dns_place(struct dns_direction *d, __abi_u32 sequence, __abi_u32 len, struct dns_part *ret_part)
{
	struct dns_stream *s = &d->in_order;
	__abi_u32 from, n, known;

	if (s->state == DNS_STREAM_NEW) {
		dns_stream_lose(s);
		s->next = sequence;
		d->ahead_active = 0;
	}
	if ((int)(sequence - s->next) > 0)
		return dns_place_ahead(d, sequence, len, ret_part);
	from = s->next - sequence;
	if (from >= len)
		return 0;
	n = len - from;
	/* Up to where `ahead` has found messages; what passed it before that is read now. */
	known = d->ahead_found - s->next;
	if (d->ahead_active && d->ahead_was_found && n > known)
		n = known;
	*ret_part = (struct dns_part){ 0, from, n };
	return n != 0;
}

/* After a part was read: is the hole filled? */
static __always_inline void dns_join(struct dns_direction *d, __abi_u64 *unparsed)
{
	struct dns_stream *s = &d->in_order, *a = &d->ahead;
	__abi_u32 beyond = a->next - s->next;

	if (!d->ahead_active || (int)(s->next - d->ahead_start) < 0)
		return;
	d->ahead_active = 0;
	if ((int)beyond <= 0)
		return;
	if (s->state == DNS_STREAM_SYNCED && !s->have && s->skip >= beyond) { /* all of it is inside of one message */
		s->skip -= beyond;
		s->next = a->next;
	} else if (s->state == DNS_STREAM_SYNCED && d->ahead_was_found && !s->have && s->next + s->skip == d->ahead_found) {
		*unparsed += d->ahead_unparsed;
		*s = *a;
	} else {
		*unparsed += d->ahead_unparsed ? d->ahead_unparsed : 1;
		dns_stream_lose(s);
		s->next = a->next;
	}
}

static __always_inline void dns_advance(struct dns_stream *s, struct dns_cursor *c, __abi_u32 n)
{
	s->next += n;
	c->offset += n;
	c->left -= n;
}

/* Are these bytes exactly one message, of the kind that flows this way? Then a stream that had lost its place has it again. */
static __always_inline int dns_stream_begins(packet_source *source, __abi_u32 offset, __abi_u32 len, enum dns_kind kind)
{
	__abi_u8 head[DNS_PREFIX + DNS_HEADER];
	struct dns_header header;

	if (len < sizeof(head) || packet_load(source, offset, head, sizeof(head)) || dns_u16(head) + DNS_PREFIX != len)
		return 0;
	/* One question, and the reserved bit clear. */
	return dns_header_parse(head + DNS_PREFIX, len - DNS_PREFIX, &header) == kind &&
	       dns_u16(head + DNS_PREFIX + 4) == 1 && !(head[DNS_PREFIX + 3] & 0x40);
}

/* Reads up to the end of the next message's header, and passes over as much of its body as is there. 1: a message, its kind
 * in ret_kind; 0: the segment is used up. A prefix that cannot be is a malformed message, and the stream is lost. */
static __always_inline int dns_stream_step(struct dns_stream *s, struct dns_cursor *c,
								  enum dns_kind *ret_kind, struct dns_header *ret_header)
{
	__abi_u32 n = s->skip < c->left ? s->skip : c->left, have, length;

	s->skip -= n;
	dns_advance(s, c, n);
	have = s->have & 15;
	n = DNS_PREFIX + DNS_HEADER - have;
	if (n > c->left)
		n = c->left;
	n--; /* 0..13, or nothing is left: as one upper bound, which every verifier understands */
#ifdef __bpf__
	asm volatile("" : "+r"(n), "+r"(have));
	have &= 15;
#endif
	if (n >= DNS_PREFIX + DNS_HEADER)
		return 0;
	n++;
	if (packet_load(c->source, c->offset, s->head + have, n))
		return 0;
	dns_advance(s, c, n);
	have += n;
	s->have = (__abi_u8)have;
	if (have < DNS_PREFIX)
		return 0;
	length = dns_u16(s->head);
	if (length < DNS_HEADER) {
		dns_stream_lose(s);
		s->next += c->left;
		c->left = 0;
		*ret_kind = DNS_KIND_MALFORMED;
		return 1;
	}
	if (have < DNS_PREFIX + DNS_HEADER)
		return 0;
	*ret_kind = dns_header_parse(s->head + DNS_PREFIX, length, ret_header);
	s->have = 0;
	s->skip = length - DNS_HEADER;
	n = s->skip < c->left ? s->skip : c->left;
	s->skip -= n;
	dns_advance(s, c, n);
	return 1;
}

#endif
