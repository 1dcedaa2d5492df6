/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * Is this packet the answer to one of our probes, to which, and what becomes of that probe. The BPF programs decide it
 * for what comes in where they are attached; the prober, compiled from the same lines, for what arrives at its sockets.
 *
 * Step by step, so that each may read the bytes in its own way:
 *   probe_head_*      what looks like ours: the session's key, from the transport header's beginning
 *   (look-up of the key; nobody's: probe_reject(&sessions[PROBE_SESSION_NONE], answer))
 *   probe_body_*      ring position and cookie, and what a STAMP reflector says
 *   (HMAC, where the session has a key)
 *   probe_judge       the only one that changes anything
 * Their arguments are bytes that are there; how many each reads is in enum probe_lengths. probe_answer_head and
 * probe_answer_body do the first and the third with the lengths checked, for whoever has the whole transport header.
 *
 * Nothing else in the answer is believed, also not its checksum: between a virtual machine and its host it is not
 * filled in. The cookie covers what the measurement rests on; STAMP's times are the reflector's word in any case.
 */
#ifndef NETSONDE_PROBE_MATCH_H
#define NETSONDE_PROBE_MATCH_H
#include "abi_probe.h"
#include "parse.h"
#include "stamp.h"

enum probe_lengths {
	PROBE_ICMP_HEADER = 8,
	PROBE_ICMP_BODY = PROBE_ICMP_HEADER + 8,                /* with the cookie */
	PROBE_UDP_HEADER = 8,
	PROBE_STAMP_BODY = PROBE_UDP_HEADER + 36,               /* the sender's timestamp is the last of it */
	PROBE_STAMP_AUTHENTICATED_BODY = PROBE_UDP_HEADER + 72, /* likewise; without the HMAC */
	PROBE_TCP_BODY = 20,
};

enum { PROBE_ECHO_REQUEST = 8, PROBE_ECHO_REPLY = 0, PROBE_ECHO6_REQUEST = 128, PROBE_ECHO6_REPLY = 129 };

/* Which identifiers and ports are ours; host order. */
struct probe_block {
	__abi_u16 icmp_first, port_first, count;
};

struct probe_answer {
	struct probe_key key;         /* .address is set by the caller, the rest by probe_head_* */
	__abi_u32 ifindex;            /* where it came in; 0: not known. By the caller */
	__abi_u64 received_ns;        /* CLOCK_MONOTONIC. By the caller */
	__abi_u64 cookie;
	__abi_u64 remote_received, remote_sent; /* STAMP, host order */
	__abi_u32 sequence;           /* the bits of it that the packet carries */
	__abi_u32 sequence_mask;      /* which these are */
	__abi_u32 payload;            /* bytes behind the ICMP header */
	__abi_u16 remote_port;        /* host order; ICMP: 0 */
	__abi_u16 remote_error;
	__abi_u8 clock;               /* enum probe_clock. By the caller */
	__abi_u8 refused;             /* TCP: a reset */
	__abi_u8 broken;              /* cut short, or not authentic: not genuine, whatever else is right. By anyone */
	/* It came in where a hook sees every packet, which counted it unless it was a fragment. So here it is only
	 * taken as the first answer, and nothing is counted a second time. By the caller; user space only. */
	__abi_u8 judged;
};

enum probe_verdict {
	PROBE_VERDICT_REJECTED,  /* goes on to the stack; all others end here */
	PROBE_VERDICT_FIRST,     /* the flight is ANSWERED */
	PROBE_VERDICT_DUPLICATE,
	PROBE_VERDICT_LATE,
};

/* ---- memory that the kernel's CPUs and user space share ---- */

#define PROBE_READ(x) (*(const volatile __typeof__(x) *)&(x))

static __always_inline __abi_u64 probe_cas(__abi_u64 *at, __abi_u64 from, __abi_u64 to)
{
	return __sync_val_compare_and_swap(at, from, to);
}

static __always_inline void probe_count(__abi_u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
}

/* Everything written before is seen by whoever reads this. BPF has no such store before Linux 6.15; on x86 every store
 * is one. */
static __always_inline void probe_publish(__abi_u64 *at, __abi_u64 value)
{
#if !defined(__bpf__)
	__atomic_store_n(at, value, __ATOMIC_RELEASE);
#elif defined(__TARGET_ARCH_x86)
	asm volatile("" ::: "memory");
	*(volatile __abi_u64 *)at = value;
#else
	(void)__sync_lock_test_and_set(at, value);
#endif
}

/* ---- bytes, at no particular alignment (the kernels that we run on read packets so) ---- */

static __always_inline __abi_u16 probe_get16(const void *at)
{
#ifdef __bpf__
	return *(const __abi_u16 *)at;
#else
	__abi_u16 v;

	__builtin_memcpy(&v, at, sizeof(v));
	return v;
#endif
}

static __always_inline __abi_u32 probe_get32(const void *at)
{
#ifdef __bpf__
	return *(const __abi_u32 *)at;
#else
	__abi_u32 v;

	__builtin_memcpy(&v, at, sizeof(v));
	return v;
#endif
}

static __always_inline __abi_u64 probe_get64(const void *at)
{
#ifdef __bpf__
	return *(const __abi_u64 *)at;
#else
	__abi_u64 v;

	__builtin_memcpy(&v, at, sizeof(v));
	return v;
#endif
}

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define PROBE_HOST64(x) __builtin_bswap64(x)
#else
#define PROBE_HOST64(x) (x)
#endif

/* ---- whose it is ---- */

static __always_inline int probe_key_equal(const struct probe_key *a, const struct probe_key *b)
{
	return !((a->address.words[0] ^ b->address.words[0]) | (a->address.words[1] ^ b->address.words[1]) |
		 (a->address.words[2] ^ b->address.words[2]) | (a->address.words[3] ^ b->address.words[3]) |
		 (a->port ^ b->port) | (a->protocol ^ b->protocol));
}

/* The high half of a product depends on all bits of both; the odd number is the golden ratio's fraction. */
static __always_inline __abi_u32 probe_key_hash(const struct probe_key *key)
{
	const __abi_u32 *w = key->address.words;
	__abi_u64 mixed = (__abi_u64)(w[1] ^ w[3]) << 32 | (w[0] ^ w[2]);

	mixed ^= (__abi_u64)key->protocol << 16 | key->port;

	return (__abi_u32)(mixed * 0x9e3779b97f4a7c15ULL >> 32);
}

/* ---- does it look like ours ---- */

static __always_inline int probe_in_block(__abi_u16 number, __abi_u16 first, __abi_u16 count)
{
	return (__abi_u16)(number - first) < count;
}

/* PROBE_ICMP_HEADER bytes. */
static __always_inline int probe_head_icmp(const struct probe_block *block, int v6, const void *transport,
					   struct probe_answer *answer)
{
	const unsigned char *t = transport;

	if (t[0] != (v6 ? PROBE_ECHO6_REPLY : PROBE_ECHO_REPLY) || t[1])
		return 0;
	answer->key.port = PACKET_HOST16(probe_get16(t + 4));
	answer->key.protocol = PROBE_ICMP;
	answer->remote_port = 0;
	answer->refused = 0;
	return probe_in_block(answer->key.port, block->icmp_first, block->count);
}

/* PROBE_UDP_HEADER bytes. */
static __always_inline int probe_head_stamp(const struct probe_block *block, const void *transport,
					    struct probe_answer *answer)
{
	const unsigned char *t = transport;

	answer->key.port = PACKET_HOST16(probe_get16(t + 2));
	answer->key.protocol = PROBE_STAMP;
	answer->remote_port = PACKET_HOST16(probe_get16(t));
	answer->refused = 0;
	return probe_in_block(answer->key.port, block->port_first, block->count);
}

/* PROBE_TCP_BODY bytes. An answer to a SYN is a SYN with an ACK, or a reset. */
static __always_inline int probe_head_tcp(const struct probe_block *block, const void *transport,
					  struct probe_answer *answer)
{
	const unsigned char *t = transport;

	answer->key.port = PACKET_HOST16(probe_get16(t + 2));
	answer->key.protocol = PROBE_TCP;
	answer->remote_port = PACKET_HOST16(probe_get16(t));
	answer->refused = (t[13] & PACKET_RST) != 0;
	return probe_in_block(answer->key.port, block->port_first, block->count) &&
	       (answer->refused || (t[13] & (PACKET_SYN | PACKET_ACK)) == (PACKET_SYN | PACKET_ACK));
}

/* ---- which probe it answers ---- */

/* PROBE_ICMP_BODY bytes. there: from the ICMP header to the IP packet's end. */
static __always_inline void probe_body_icmp(const void *transport, __abi_u32 there, struct probe_answer *answer)
{
	const unsigned char *t = transport;

	answer->sequence = PACKET_HOST16(probe_get16(t + 6));
	answer->sequence_mask = 0xffff;
	answer->cookie = probe_get64(t + PROBE_ICMP_HEADER);
	answer->payload = there - PROBE_ICMP_HEADER;
}

/* The datagram's payload must be all there. there: from the UDP header to the IP packet's end. */
static __always_inline int probe_stamp_fits(const void *transport, __abi_u32 there, int authenticated)
{
	__abi_u32 length = PACKET_HOST16(probe_get16((const unsigned char *)transport + 4));

	return length <= there && length >= PROBE_UDP_HEADER + (authenticated ? 112 : 44);
}

/* PROBE_STAMP_BODY bytes. */
static __always_inline void probe_body_stamp(const void *transport, __abi_u32 there, struct probe_answer *answer)
{
	const unsigned char *s = (const unsigned char *)transport + PROBE_UDP_HEADER;

	answer->broken |= !probe_stamp_fits(transport, there, 0);
	answer->sequence = PACKET_HOST32(probe_get32(s + __builtin_offsetof(struct stamp_reflector, sender_sequence)));
	answer->sequence_mask = 0xffffffff;
	answer->cookie = probe_get64(s + __builtin_offsetof(struct stamp_reflector, sender_timestamp));
	answer->remote_received = PROBE_HOST64(probe_get64(s + __builtin_offsetof(struct stamp_reflector, received)));
	answer->remote_sent = PROBE_HOST64(probe_get64(s + __builtin_offsetof(struct stamp_reflector, timestamp)));
	answer->remote_error =
	    PACKET_HOST16(probe_get16(s + __builtin_offsetof(struct stamp_reflector, error_estimate)));
}

/* PROBE_STAMP_AUTHENTICATED_BODY bytes. The HMAC is the caller's to check: over the payload's first 96 bytes, the next
 * 16 are it. */
static __always_inline void probe_body_stamp_authenticated(const void *transport, __abi_u32 there,
							   struct probe_answer *answer)
{
	const unsigned char *s = (const unsigned char *)transport + PROBE_UDP_HEADER;

	answer->broken |= !probe_stamp_fits(transport, there, 1);
	answer->sequence =
	    PACKET_HOST32(probe_get32(s + __builtin_offsetof(struct stamp_reflector_authenticated, sender_sequence)));
	answer->sequence_mask = 0xffffffff;
	answer->cookie = probe_get64(s + __builtin_offsetof(struct stamp_reflector_authenticated, sender_timestamp));
	answer->remote_received =
	    PROBE_HOST64(probe_get64(s + __builtin_offsetof(struct stamp_reflector_authenticated, received)));
	answer->remote_sent =
	    PROBE_HOST64(probe_get64(s + __builtin_offsetof(struct stamp_reflector_authenticated, timestamp)));
	answer->remote_error =
	    PACKET_HOST16(probe_get16(s + __builtin_offsetof(struct stamp_reflector_authenticated, error_estimate)));
}

/* PROBE_TCP_BODY bytes. Without ACK a reset acknowledges nothing, so it answers no SYN (RFC 9293, section 3.10.7.3). */
static __always_inline void probe_body_tcp(const void *transport, struct probe_answer *answer)
{
	const unsigned char *t = transport;
	__abi_u32 initial = PACKET_HOST32(probe_get32(t + 8)) - 1;

	answer->broken |= !(t[13] & PACKET_ACK);
	answer->sequence = initial & 0xff;
	answer->sequence_mask = 0xff;
	answer->cookie = initial;
}

/* In the array of flights. Not yet compared with the array's size: the session is user space's memory. */
static __always_inline __abi_u32 probe_flight_index(const struct probe_session *session,
						    const struct probe_answer *answer)
{
	return PROBE_READ(session->first) + (answer->sequence & PROBE_READ(session->mask));
}

/* ---- and what becomes of it ---- */

static __always_inline enum probe_verdict probe_reject(struct probe_session *session, const struct probe_answer *answer)
{
	if (!answer->judged)
		probe_count(&session->rejected);
	return PROBE_VERDICT_REJECTED;
}

/* RFC 4737, section 3.4: `highest` is NextExp. */
static __always_inline void probe_order(struct probe_session *session, __abi_u32 sequence)
{
	__abi_u64 next = (__abi_u64)sequence + 1, highest = PROBE_READ(session->highest);

	if (next < highest) {
		probe_count(&session->reordered);
		return;
	}
	/* Not atomic, for 6 ns: two answers of one session on two CPUs in the same moment came in no order at all. */
	*(volatile __abi_u64 *)&session->highest = next;
}

static __always_inline void probe_fill(struct probe_flight *flight, const struct probe_answer *answer)
{
	flight->received_ns = answer->received_ns;
	if (answer->key.protocol == PROBE_STAMP) {
		flight->remote_received = answer->remote_received;
		flight->remote_sent = answer->remote_sent;
		flight->remote_error = answer->remote_error;
	}
	flight->clock = answer->clock;
	if (answer->refused)
		flight->flags |= PROBE_REFUSED;
	flight->ifindex = answer->ifindex;
}

/* Only state changes that are lost to somebody else repeat: at most ARMED -> SENT -> LOST -> LATE. */
#define PROBE_JUDGE_TRIES 4

/*
 * `flight` is the one at probe_flight_index. An answer behind its time-out whose flight user space has not yet given up
 * is ANSWERED as well; user space, which sees both times, calls it lost and late.
 */
static __always_inline enum probe_verdict probe_judge(struct probe_session *session, struct probe_flight *flight,
						      const struct probe_answer *answer)
{
	__abi_u64 state = PROBE_READ(flight->state), found;
	__abi_u32 sequence = PROBE_SEQUENCE(state);
	int in_time;

	if (answer->broken || PROBE_STAGE(state) == PROBE_FREE || PROBE_READ(flight->cookie) != answer->cookie ||
	    (sequence ^ answer->sequence) & answer->sequence_mask || answer->remote_port != session->remote_port ||
	    (answer->key.protocol == PROBE_ICMP && answer->payload != session->payload))
		return probe_reject(session, answer);
	in_time = (long long)(answer->received_ns - PROBE_READ(flight->sent_ns)) <= (long long)session->timeout_ns;
	for (int i = 0; i < PROBE_JUDGE_TRIES && PROBE_SEQUENCE(state) == sequence; i++) {
		enum probe_stage stage = PROBE_STAGE(state);

		if (stage == PROBE_SENT || stage == PROBE_ARMED) {
			found = probe_cas(&flight->state, state, PROBE_STATE(sequence, PROBE_TAKEN));
			if (found == state) {
				probe_fill(flight, answer);
				probe_publish(&flight->state, PROBE_STATE(sequence, PROBE_ANSWERED));
				if (in_time)
					probe_order(session, sequence);
				return PROBE_VERDICT_FIRST;
			}
		} else if (stage == PROBE_LOST) {
			found = probe_cas(&flight->state, state, PROBE_STATE(sequence, PROBE_LATE));
			if (found == state) {
				probe_count(&session->late);
				return PROBE_VERDICT_LATE;
			}
		} else {
			if (!in_time)
				break;
			if (!answer->judged)
				probe_count(&session->duplicates);
			return PROBE_VERDICT_DUPLICATE;
		}
		state = found;
	}
	return probe_reject(session, answer);
}

/* A packet with this cookie is leaving now. True when that is the flight's t1. wall_ns: 0 when not known. */
static __always_inline int probe_depart(struct probe_flight *flight, __abi_u64 cookie, __abi_u64 now_ns,
					__abi_u64 wall_ns)
{
	__abi_u64 state = PROBE_READ(flight->state);

	/* Behind the state: the place may be getting its next probe at this moment, which is not what leaves. */
	if (PROBE_READ(flight->cookie) != cookie)
		return 0;
	/* First, so that a flight which user space has given up keeps its time. Nobody can have answered yet. */
	if (PROBE_STAGE(state) != PROBE_ARMED ||
	    probe_cas(&flight->state, state, PROBE_STATE(PROBE_SEQUENCE(state), PROBE_SENT)) != state)
		return 0;
	flight->sent_ns = now_ns;
	flight->sent_wall_ns = wall_ns;
	flight->flags |= PROBE_SENT_BY_HOOK;
	return 1;
}

/* ---- with the lengths checked ---- */

/* ip_protocol: PACKET_NEXT_ICMP, _ICMP6, _UDP, _TCP. there: bytes from the transport header to the IP packet's end. 1:
 * it looks like ours. */
static __always_inline int probe_answer_head(const struct probe_block *block, __abi_u8 ip_protocol,
					     const void *transport, __abi_u32 there, struct probe_answer *answer)
{
	switch (ip_protocol) {
	case PACKET_NEXT_ICMP:
	case PACKET_NEXT_ICMP6:
		return there >= PROBE_ICMP_HEADER &&
		       probe_head_icmp(block, ip_protocol == PACKET_NEXT_ICMP6, transport, answer);
	case PACKET_NEXT_UDP:
		return there >= PROBE_UDP_HEADER && probe_head_stamp(block, transport, answer);
	case PACKET_NEXT_TCP:
		return there >= PROBE_TCP_BODY && probe_head_tcp(block, transport, answer);
	}
	return 0;
}

/* Behind probe_answer_head. Without enough bytes the answer is marked as broken. */
static __always_inline void probe_answer_body(const struct probe_session *session, const void *transport,
					      __abi_u32 there, struct probe_answer *answer)
{
	__abi_u32 needed = session->protocol == PROBE_ICMP ? PROBE_ICMP_BODY :
			   session->protocol == PROBE_TCP ? PROBE_TCP_BODY :
			   session->key ? PROBE_STAMP_AUTHENTICATED_BODY : PROBE_STAMP_BODY;

	if (there < needed) {
		answer->broken = 1;
		return;
	}
	if (session->protocol == PROBE_ICMP)
		probe_body_icmp(transport, there, answer);
	else if (session->protocol == PROBE_TCP)
		probe_body_tcp(transport, answer);
	else if (session->key)
		probe_body_stamp_authenticated(transport, there, answer);
	else
		probe_body_stamp(transport, there, answer);
}

#endif
