/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * The reflector: STAMP requests (RFC 8762, stateless; RFC 8972's session identifier) and, where wanted, ICMP echo
 * requests become their own answers in the place where they arrived. An answer is exactly as long as its request:
 * what is behind the base packet is left as it is (TLVs: their sender set the U flag, which says that nobody
 * understood them).
 *
 * Nothing is believed. Answered is what came to this interface's own address from an address of one host, whole, with
 * correct checksums; authentic where that is demanded; not more of it than reflect.interval_ns allows each source;
 * and not from a system port (below 1024) or a reflector's, nor what is itself an answer to one of ours: with a forged
 * sender two services that answer anything would talk to each other for ever. A packet whose HMAC is right is answered
 * in authenticated mode; any other one in the unauthenticated mode, so long as reflect.authenticated_only is off.
 * Authenticity comes before the rate, so that forged packets cannot use up what a peer may ask.
 *
 * Checksums. The packet's own is verified; what did not change need not be summed again for the answer's. One that
 * was only begun (CHECKSUM_PARTIAL: a sender on this machine, over veth or from a virtual machine) is the sum of the
 * pseudo header. It is finished in XDP, where nobody would do it later; in tc and generic XDP the kernel knows, and
 * does it. A UDP checksum of 0 (IPv4: none) stays so.
 *
 * Clocks. t2 is read first, t3 when all that does not depend on it is done. Both by CLOCK_TAI, less its distance to
 * UTC, which user space sets with the error estimate once per tick.
 */
#ifndef NETSONDE_PROBE_REFLECT_BPF_H
#define NETSONDE_PROBE_REFLECT_BPF_H
#include "abi_probe.h"
#include "probe_hmac.bpf.h"
#include "reflect_io.bpf.h"
#include "stamp.h"

struct reflect_mac reflect_macs[PROBE_DEVICES_MAX] = {}; /* by slot */
volatile struct reflect_clock reflect_clock = {};
__u64 reflect_refused[REFLECT_REFUSED_COUNT] = {}; /* added to atomically */

/*
 * This host's addresses. What is for another host came by only because this one is a router. What is for another
 * interface is not for one that was named; it may be a VLAN's, whose tag the card has taken off, and XDP would not put
 * it back.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct peer_address);
	__type(value, struct reflect_address);
} reflect_addresses SEC(".maps");

/*
 * When a source's next packet would be due if it came at its rate without bursts (the "generic cell rate algorithm",
 * ITU-T I.371). A source that was evicted begins with a full burst, which is no more than it could have anyway after
 * a pause. User space makes it one entry where nothing is reflected.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct peer_address);
	__type(value, __u64);
} reflect_sources SEC(".maps");

enum reflect_verdict {
	REFLECT_PASS,   /* not for the reflector, or it does not answer this: it goes on to the stack, unchanged */
	REFLECT_ANSWER, /* the frame is the answer now: probe_transmit */
	REFLECT_DROP,   /* for the reflector, and refused: probe_drop */
};

enum {
	REFLECT_TTL_STAMP = 255,   /* as TWAMP (RFC 5357): so the sender sees how far the way back is */
	REFLECT_TTL_ICMP = 64,     /* what this host's stack would say */
	REFLECT_SYSTEM_PORTS = 1024,
	/* 16 s, NTP's MAXDISP, and not synchronised: until user space has looked at the clock. */
	REFLECT_ERROR_UNKNOWN = 29 << STAMP_ERROR_SCALE_SHIFT | 128,
	REFLECT_SOURCE_TRIES = 4,
	REFLECT_LOOP_S = 60,
	BPF_F_MARK_MANGLED_0 = 32, /* uapi */
};
#define REFLECT_SECOND_NS 1000000000ULL

static __always_inline __u64 reflect_pseudo_header(const struct reflect_work *work, const struct probe_packet *packet)
{
	__u32 rest = packet->protocol + packet->payload_length + 8; /* behind a UDP or ICMP header of 8 bytes */

	rest = PACKET_HOST16((__u16)reflect_fold(rest));
	if (packet->v6)
		return rest + reflect_sum_words(work->ip.words + 2, 8);
	return rest + reflect_sum_words(work->ip.words + 3, 2);
}

enum reflect_checksum { REFLECT_SUM_WRONG, REFLECT_SUM_NONE, REFLECT_SUM_BEGUN, REFLECT_SUM_RIGHT };

struct reflect_sums {
	enum reflect_checksum state;
	__u64 request; /* of the segment as it came, its checksum included */
	/* of what does not change: pseudo header (whose addresses only change places), and all behind the segment */
	__u64 rest;
};

static __always_inline void reflect_verify(void *ctx, enum probe_at at, const struct probe_packet *packet,
					   const struct reflect_work *work,
					   enum reflect_segment_length len, struct reflect_sums *ret)
{
	__u32 covered = packet->payload_length + 8;
	int udp = packet->protocol == PACKET_NEXT_UDP, tail = 0;
	__u16 checksum = udp ? work->segment.udp.checksum : work->segment.icmp.checksum;
	__u64 pseudo = 0;

	ret->state = REFLECT_SUM_WRONG;
	ret->request = ret->rest = 0;
	if (udp && !checksum) { /* then nothing else reads up to the end; and RFC 8200, section 8.1 */
		if (!packet->v6 && packet->transport + covered <= probe_length(ctx, at))
			ret->state = REFLECT_SUM_NONE;
		return;
	}
	if (udp || packet->v6)
		pseudo = reflect_pseudo_header(work, packet);
	if (covered > len)
		tail = at == PROBE_AT_XDP ? (int)reflect_sum_xdp(ctx, packet->transport + len, covered - len) :
					    (int)reflect_sum_skb(ctx, packet->transport + len, covered - len);
	if (tail < 0)
		return;
	ret->rest = pseudo + (__u32)tail;
	ret->request = reflect_sum_segment(work, len);
	if (reflect_fold(ret->rest + ret->request) == 0xffff)
		ret->state = REFLECT_SUM_RIGHT;
	else if (pseudo && checksum == reflect_fold(pseudo))
		ret->state = REFLECT_SUM_BEGUN;
}

/* ---- who may ask ---- */

static __always_inline int reflect_link_is_ours(void *ctx, enum probe_at at, const struct probe_packet *packet,
						const struct reflect_mac *own,
						struct reflect_work *work)
{
	if (at == PROBE_AT_SKB && ((struct __sk_buff *)ctx)->pkt_type != 0) /* PACKET_HOST */
		return 0;
	if (!packet->link_length)
		return 1;
	if (reflect_load(ctx, at, 0, work->link.words, sizeof(work->link)))
		return 0;
	if ((work->link.bytes[0] | work->link.bytes[6]) & 1) /* group addresses */
		return 0;
	if (at == PROBE_AT_SKB || !(own->words[0] | own->halves[2]))
		return 1;
	return work->link.words[0] == own->words[0] && work->link.halves[2] == own->halves[2];
}

/* One host's address, not a group's or nobody's, nor one that no wire may carry: the loopback's, IPv4's in IPv6 (RFC
 * 4291, section 2.5). */
static __always_inline int reflect_is_host(const struct peer_address *address, int v6)
{
	__u32 first;

	if (v6)
		return (PACKET_HOST32(address->words[0]) >> 24) != 0xff && (address->words[0] | address->words[1]);
	first = PACKET_HOST32(address->words[3]) >> 24;
	return first && first < 224 && first != 127;
}

static __always_inline bool reflect_is_for_us(const struct probe_packet *packet)
{
	struct peer_address destination = packet->destination; /* as below */
	const struct reflect_address *own = bpf_map_lookup_elem(&reflect_addresses, &destination);

	return own && (own->ifindex == REFLECT_EVERYWHERE || own->ifindex == packet->ifindex);
}

/* Takes one packet off what the source may send. */
static __always_inline int reflect_within_rate(const struct probe_packet *packet, __u64 now)
{
	struct peer_address source = packet->source; /* a key in a function's argument is not taken before Linux 6.2 */
	__u64 fresh = now + reflect.interval_ns, *next;

	if (!reflect.interval_ns)
		return 1;
	next = bpf_map_lookup_elem(&reflect_sources, &source);
	if (!next) {
		bpf_map_update_elem(&reflect_sources, &source, &fresh, BPF_ANY);
		return 1;
	}
	for (int i = 0; i < REFLECT_SOURCE_TRIES; i++) {
		__u64 due = *(volatile __u64 *)next, from = due;

		/* Further away than it can be: the clock was set back. */
		if (due > now + reflect.tolerance_ns + reflect.interval_ns + REFLECT_SECOND_NS)
			from = now;
		if (from > now + reflect.tolerance_ns)
			return 0;
		if (from < now)
			from = now;
		if (__sync_val_compare_and_swap(next, due, from + reflect.interval_ns) == due)
			return 1;
	}
	return 0;
}

/* ---- the answer ---- */

/* A time in NTP's format, and what it was made of. */
struct reflect_time {
	__u64 utc_ns, seconds, rest; /* rest: ns */
};

static __always_inline struct reflect_time reflect_time_of(__u64 utc_ns)
{
	struct reflect_time t = { .utc_ns = utc_ns, .seconds = utc_ns / REFLECT_SECOND_NS };

	t.rest = utc_ns - t.seconds * REFLECT_SECOND_NS;
	return t;
}

/* Nearly always within the same second: without another division. */
static __always_inline struct reflect_time reflect_time_after(struct reflect_time before, __u64 utc_ns)
{
	__u64 rest = before.rest + (utc_ns - before.utc_ns);

	if (rest >= REFLECT_SECOND_NS)
		return reflect_time_of(utc_ns);
	before.rest = rest;
	return before;
}

/* In network order. 2^64 / 10^9, rounded down: the error is below 0.04 ns. */
static __always_inline void reflect_put_time(struct reflect_time t, __u32 ret_timestamp[2])
{
	ret_timestamp[0] = PACKET_HOST32((__u32)(t.seconds + STAMP_NTP_EPOCH));
	ret_timestamp[1] = PACKET_HOST32((__u32)(t.rest * 18446744073ULL >> 32));
}

static __always_inline __u16 reflect_error_estimate(void)
{
	__u16 estimate = reflect_clock.error_estimate;

	return PACKET_HOST16(estimate ? estimate : (__u16)REFLECT_ERROR_UNKNOWN);
}

/* The request becomes the answer, but for t3. Sequence and session are where they were. */
static __always_inline void reflect_fill(struct reflect_work *work, __u8 ttl, struct reflect_time received)
{
	struct stamp_reflector *answer = &work->segment.answer;

	answer->sender_sequence = answer->sequence;
	answer->sender_timestamp[0] = answer->timestamp[0];
	answer->sender_timestamp[1] = answer->timestamp[1];
	answer->sender_error_estimate = answer->error_estimate;
	answer->zero = 0;
	answer->sender_ttl = ttl;
	answer->zero2[0] = answer->zero2[1] = answer->zero2[2] = 0;
	answer->error_estimate = reflect_error_estimate();
	reflect_put_time(received, answer->received);
}

enum { REFLECT_AUTHENTICATED_END = sizeof(struct stamp_reflector_authenticated) -
				   __builtin_offsetof(struct stamp_reflector_authenticated, zero2) };

static __always_inline void reflect_fill_authenticated(struct reflect_work *work, __u8 ttl,
						       struct reflect_time received)
{
	struct stamp_reflector_authenticated *answer = &work->segment.answer_authenticated;

	__builtin_memset(answer->zero, 0, sizeof(answer->zero));
	__builtin_memset(answer->zero2, 0, REFLECT_AUTHENTICATED_END);
	answer->sender_sequence = answer->sequence;
	answer->sender_timestamp[0] = answer->timestamp[0];
	answer->sender_timestamp[1] = answer->timestamp[1];
	answer->sender_error_estimate = answer->error_estimate;
	answer->sender_ttl = ttl;
	answer->error_estimate = reflect_error_estimate();
	reflect_put_time(received, answer->received);
}

static __always_inline int reflect_turn_link(void *ctx, enum probe_at at, struct reflect_work *work)
{
	for (int i = 0; i < 3; i++) {
		__u16 half = work->link.halves[i];

		work->link.halves[i] = work->link.halves[i + 3];
		work->link.halves[i + 3] = half;
	}
	return reflect_store(ctx, at, 0, work->link.words, sizeof(work->link), 0);
}

static __always_inline int reflect_turn_ipv4(void *ctx, enum probe_at at, __u32 offset, struct reflect_work *work,
					     __u8 ttl)
{
	struct packet_ipv4 *ip = &work->ip.v4;
	__u32 source = ip->source;

	ip->source = ip->destination;
	ip->destination = source;
	ip->ttl = ttl;
	ip->service &= ~3; /* ECN: no congestion control will hear of it */
	ip->checksum = 0;
	ip->checksum = ~reflect_fold(reflect_sum_words(work->ip.words, 5));
	return reflect_store(ctx, at, offset, work->ip.words, sizeof(*ip), 0);
}

static __always_inline int reflect_turn_ipv6(void *ctx, enum probe_at at, __u32 offset, struct reflect_work *work,
					     __u8 ttl)
{
	struct packet_ipv6 *ip = &work->ip.v6;
	struct peer_address source = ip->source;

	ip->source = ip->destination;
	ip->destination = source;
	ip->hop_limit = ttl;
	ip->version_flow &= ~PACKET_HOST32(3U << 20);
	/* There is no checksum of its own that would make up for it. */
	return reflect_store(ctx, at, offset, work->ip.words, sizeof(*ip), BPF_F_RECOMPUTE_CSUM);
}

/* Link and network header. Whatever fails from here on leaves a broken packet. */
static __always_inline int reflect_turn(void *ctx, enum probe_at at, const struct probe_packet *packet,
					struct reflect_work *work, __u8 ttl)
{
	if (packet->link_length && reflect_turn_link(ctx, at, work))
		return -1;
	return packet->v6 ? reflect_turn_ipv6(ctx, at, packet->link_length, work, ttl) :
			    reflect_turn_ipv4(ctx, at, packet->link_length, work, ttl);
}

/*
 * Writes the answer's segment over the request's, with the checksum that it needs. In tc the sum that the kernel may
 * keep of the whole packet (CHECKSUM_COMPLETE) stays as it was, since the packet's own checksum makes up for every
 * change; without one it must follow.
 */
static __always_inline int reflect_store_segment(void *ctx, enum probe_at at, const struct probe_packet *packet,
						 struct reflect_work *work,
						 enum reflect_segment_length len, const struct reflect_sums *sums)
{
	int udp = packet->protocol == PACKET_NEXT_UDP;
	__u32 checksum_at = packet->transport + (udp ? __builtin_offsetof(struct packet_udp, checksum) :
						       __builtin_offsetof(struct packet_icmp, checksum));
	__u16 *checksum = udp ? &work->segment.udp.checksum : &work->segment.icmp.checksum, now;
	__u64 answer = reflect_sum_segment(work, len);

	if (at == PROBE_AT_SKB) {
		if (reflect_put_segment(ctx, at, packet->transport, work, len,
					sums->state == REFLECT_SUM_NONE ? BPF_F_RECOMPUTE_CSUM : 0))
			return -1;
		if (sums->state == REFLECT_SUM_NONE)
			return 0;
		return (int)bpf_l4_csum_replace(ctx, checksum_at, 0,
						reflect_fold(answer) + (__u16)~reflect_fold(sums->request),
						udp ? BPF_F_MARK_MANGLED_0 : 0);
	}
	if (sums->state == REFLECT_SUM_RIGHT ||
	    (sums->state == REFLECT_SUM_BEGUN && packet->clock != PROBE_CLOCK_XDP_GENERIC)) {
		now = ~reflect_fold(sums->rest + answer + (__u16)~*checksum);
		*checksum = udp && !now ? 0xffff : now;
	}
	return reflect_put_segment(ctx, at, packet->transport, work, len, 0);
}

/* ---- both kinds of requests ---- */

/* Loads and checks all but who may ask how often. False: malformed. */
static __always_inline bool reflect_look(void *ctx, enum probe_at at, const struct probe_packet *packet,
					 struct reflect_work *work,
					 enum reflect_segment_length len, struct reflect_sums *ret_sums)
{
	__u32 header = packet->transport - packet->link_length;

	if (packet->payload_length > 0xffff)
		return false;
	if (packet->v6) {
		if (header != sizeof(work->ip.v6) ||
		    reflect_load(ctx, at, packet->link_length, work->ip.words, sizeof(work->ip.v6)))
			return false;
	} else {
		if (header != sizeof(work->ip.v4) ||
		    reflect_load(ctx, at, packet->link_length, work->ip.words, sizeof(work->ip.v4)) ||
		    work->ip.v4.version_words != 0x45 || PACKET_HOST16(work->ip.v4.fragment) & 0x3fff ||
		    reflect_fold(reflect_sum_words(work->ip.words, 5)) != 0xffff)
			return false;
	}
	if (reflect_load_segment(ctx, at, packet->transport, work, len))
		return false;
	if (packet->protocol == PACKET_NEXT_UDP &&
	    PACKET_HOST16(work->segment.udp.length) != packet->payload_length + 8)
		return false;
	reflect_verify(ctx, at, packet, work, len, ret_sums);
	return ret_sums->state != REFLECT_SUM_WRONG;
}

/* Was the request made with the reflector's key? */
static __always_inline int reflect_is_authentic(const struct reflect_work *work)
{
	const struct probe_hmac_key *key = probe_hmac_key(reflect.key);
	struct hmac_stamp *hmac = probe_hmac_memory();

	if (!hmac || !key)
		return 0;
	__builtin_memcpy(hmac->text, work->segment.words + REFLECT_HMAC_TEXT, sizeof(hmac->text));
	return probe_hmac_is(hmac, key, work->segment.words + REFLECT_HMAC_TAG, false);
}

static __always_inline void reflect_sign(struct reflect_work *work)
{
	const struct probe_hmac_key *key = probe_hmac_key(reflect.key);
	struct hmac_stamp *hmac = probe_hmac_memory();

	if (!hmac || !key)
		return;
	__builtin_memcpy(hmac->text, work->segment.words + REFLECT_HMAC_TEXT, sizeof(hmac->text));
	(void)hmac_stamp_compute(hmac, key);
	__builtin_memcpy(work->segment.words + REFLECT_HMAC_TAG, hmac->tag, sizeof(hmac->tag));
}

static __always_inline enum reflect_verdict reflect_refuse(enum reflect_refused reason, enum reflect_verdict verdict)
{
	__sync_fetch_and_add(&reflect_refused[reason], 1);
	return verdict;
}

/* Does it say that its request left here a moment ago? Then another reflector was asked by an answer of ours. A sender
 * has zeroes there. */
static __always_inline bool reflect_is_answer(const struct reflect_work *work, int authentic, struct reflect_time now)
{
	__u32 seconds = authentic ? work->segment.answer_authenticated.sender_timestamp[0] :
				    work->segment.answer.sender_timestamp[0];

	return (__u32)(now.seconds + STAMP_NTP_EPOCH) - PACKET_HOST32(seconds) < REFLECT_LOOP_S;
}

static __always_inline bool reflect_port_may_ask(__u16 port)
{
	return port >= REFLECT_SYSTEM_PORTS && port != reflect.port;
}

static __always_inline enum reflect_verdict reflect_stamp(void *ctx, enum probe_at at,
							  const struct probe_packet *packet,
							  struct reflect_work *work, __u64 received_tai_ns)
{
	__u64 offset_ns = reflect_clock.tai_offset_ns;
	enum reflect_segment_length len = REFLECT_STAMP;
	struct reflect_time received, sent;
	struct reflect_sums sums;
	int authentic = 0;
	__u16 port;

	if (packet->payload_length < sizeof(struct stamp_sender) || !reflect_port_may_ask(packet->source_port))
		return reflect_refuse(REFLECT_MALFORMED, REFLECT_PASS);
	if (reflect.key && packet->payload_length >= sizeof(struct stamp_sender_authenticated))
		len = REFLECT_STAMP_AUTHENTICATED;
	if (!reflect_look(ctx, at, packet, work, len, &sums))
		return reflect_refuse(REFLECT_MALFORMED, REFLECT_PASS);
	if (len == REFLECT_STAMP_AUTHENTICATED)
		authentic = reflect_is_authentic(work);
	if (!authentic && reflect.authenticated_only)
		return reflect_refuse(REFLECT_UNAUTHENTIC, REFLECT_DROP);
	received = reflect_time_of(received_tai_ns - offset_ns);
	if (reflect_is_answer(work, authentic, received))
		return reflect_refuse(REFLECT_MALFORMED, REFLECT_PASS);
	if (!reflect_within_rate(packet, received_tai_ns))
		return reflect_refuse(REFLECT_RATE, REFLECT_DROP);
	port = work->segment.udp.source_port;
	work->segment.udp.source_port = work->segment.udp.destination_port;
	work->segment.udp.destination_port = port;
	if (authentic)
		reflect_fill_authenticated(work, packet->ttl, received);
	else
		reflect_fill(work, packet->ttl, received);
	if (reflect_turn(ctx, at, packet, work, REFLECT_TTL_STAMP))
		return REFLECT_DROP;
	sent = reflect_time_after(received, bpf_ktime_get_tai_ns() - offset_ns);
	if (authentic) {
		reflect_put_time(sent, work->segment.answer_authenticated.timestamp);
		reflect_sign(work);
	} else {
		reflect_put_time(sent, work->segment.answer.timestamp);
	}
	return reflect_store_segment(ctx, at, packet, work, len, &sums) ? REFLECT_DROP : REFLECT_ANSWER;
}

static __always_inline enum reflect_verdict reflect_echo(void *ctx, enum probe_at at,
							 const struct probe_packet *packet, struct reflect_work *work,
							 __u64 received_tai_ns)
{
	struct reflect_sums sums;

	if (!reflect_look(ctx, at, packet, work, REFLECT_ECHO, &sums))
		return reflect_refuse(REFLECT_MALFORMED, REFLECT_PASS);
	if (!reflect_within_rate(packet, received_tai_ns))
		return reflect_refuse(REFLECT_RATE, REFLECT_DROP);
	work->segment.icmp.type = packet->v6 ? PROBE_ECHO6_REPLY : PROBE_ECHO_REPLY;
	if (reflect_turn(ctx, at, packet, work, REFLECT_TTL_ICMP) ||
	    reflect_store_segment(ctx, at, packet, work, REFLECT_ECHO, &sums))
		return REFLECT_DROP;
	return REFLECT_ANSWER;
}

/*
 * May be called with every UDP, ICMP and ICMPv6 packet that came in by a device that reflects; slot: of that device.
 * Cheap for what is not for the reflector: that is asked first.
 */
static __always_inline enum reflect_verdict probe_reflect(void *ctx, enum probe_at at,
							  const struct probe_packet *packet,
							  __u32 slot)
{
	int stamp = packet->protocol == PACKET_NEXT_UDP;
	struct reflect_work *work;
	__u32 zero = 0;
	__u64 received;

	if (!reflect.on)
		return REFLECT_PASS;
	if (stamp ? packet->destination_port != reflect.port :
		    !reflect.icmp || packet->icmp_code ||
		    packet->protocol != (packet->v6 ? PACKET_NEXT_ICMP6 : PACKET_NEXT_ICMP) ||
		    packet->icmp_type != (packet->v6 ? PROBE_ECHO6_REQUEST : PROBE_ECHO_REQUEST))
		return REFLECT_PASS;
	asm volatile("" : "+r"(slot));
	if (slot >= PROBE_DEVICES_MAX)
		return REFLECT_PASS;
	received = bpf_ktime_get_tai_ns();
	work = bpf_map_lookup_elem(&reflect_work, &zero);
	if (!work || !reflect_link_is_ours(ctx, at, packet, &reflect_macs[slot], work) ||
	    !reflect_is_host(&packet->source, packet->v6) ||
	    !reflect_is_host(&packet->destination, packet->v6) || !reflect_is_for_us(packet))
		return REFLECT_PASS;
	/* Many packets in one, of a sender on this machine: one answer would not do. */
	if (at == PROBE_AT_SKB && ((struct __sk_buff *)ctx)->gso_size)
		return reflect_refuse(REFLECT_MALFORMED, REFLECT_PASS);
	return stamp ? reflect_stamp(ctx, at, packet, work, received) : reflect_echo(ctx, at, packet, work, received);
}

#endif
