/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * What comes in: is it an answer to one of our probes, or a question for the reflector? If not, it costs a few ns and
 * goes its way untouched. Answers end here, whether they are the first, late or a duplicate; a SYN-ACK goes back as a
 * reset. What looks like an answer and is not genuine is counted and goes its way too.
 *
 * t4 is taken as soon as a packet looks like ours. Matching itself is in probe_match.h.
 */
#ifndef NETSONDE_PROBE_RECEIVE_BPF_H
#define NETSONDE_PROBE_RECEIVE_BPF_H
#include "probe_find.bpf.h"
#include "probe_hmac.bpf.h"
#include "probe_match.h"
#include "probe_reflect.bpf.h"
#include "probe_reset.bpf.h"
#include "probe_table.bpf.h"

enum probe_kind { PROBE_KIND_OTHER, PROBE_KIND_ANSWER, PROBE_KIND_REQUEST, PROBE_KIND_UNUSUAL };

/* The first 8 bytes of the transport header are there; of TCP all 20 are read, so they must be. */
static __always_inline enum probe_kind probe_looks(const struct probe_head *head, struct probe_answer *answer)
{
	const struct probe_block block = { icmp_first, port_first, port_count };
	const unsigned char *t = head->transport;

	switch (head->protocol) {
	case PACKET_NEXT_TCP:
		if (!probe_in_block(PACKET_HOST16(probe_get16(t + 2)), port_first, port_count))
			return PROBE_KIND_OTHER;
		if (t + PROBE_TCP_BODY > head->end)
			return PROBE_KIND_UNUSUAL;
		return probe_head_tcp(&block, t, answer) ? PROBE_KIND_ANSWER : PROBE_KIND_OTHER;
	case PACKET_NEXT_UDP:
		if (probe_head_stamp(&block, t, answer))
			return PROBE_KIND_ANSWER;
		return reflect.on && answer->key.port == reflect.port ? PROBE_KIND_REQUEST : PROBE_KIND_OTHER;
	default: /* ICMP of the right version: probe_find let no other pass */
		if (probe_head_icmp(&block, head->v6, t, answer))
			return PROBE_KIND_ANSWER;
		return reflect.on && reflect.icmp && t[0] == (head->v6 ? PROBE_ECHO6_REQUEST : PROBE_ECHO_REQUEST) ?
			       PROBE_KIND_REQUEST : PROBE_KIND_OTHER;
	}
}

/* Reads what the answer says. False: some of it cannot be read directly. */
static __always_inline bool probe_body(const struct probe_head *head, const struct probe_session *session,
				       struct probe_answer *answer)
{
	const unsigned char *t = head->transport;

	switch (answer->key.protocol) {
	case PROBE_ICMP:
		if (t + PROBE_ICMP_BODY > head->end)
			return false;
		probe_body_icmp(t, head->there, answer);
		answer->broken |= head->there < PROBE_ICMP_BODY;
		return true;
	case PROBE_TCP:
		if (t + PROBE_TCP_BODY > head->end)
			return false;
		probe_body_tcp(t, answer);
		answer->broken |= head->there < PROBE_TCP_BODY;
		return true;
	default:
		if (session->key) {
			if (t + PROBE_STAMP_AUTHENTICATED_BODY > head->end)
				return false;
			probe_body_stamp_authenticated(t, head->there, answer);
		} else {
			if (t + PROBE_STAMP_BODY > head->end)
				return false;
			probe_body_stamp(t, head->there, answer);
		}
		return true;
	}
}

/* A function of its own in each program: the same for both ways that lead here, and with a stack of its own. */
__noinline int probe_authentic_xdp(struct xdp_md *ctx, __u32 payload, __u32 key)
{
	return probe_hmac_verify(ctx, PROBE_AT_XDP, payload, key, false);
}

__noinline int probe_authentic_skb(struct __sk_buff *ctx, __u32 payload, __u32 key)
{
	return probe_hmac_verify(ctx, PROBE_AT_SKB, payload, key, false);
}

__noinline int probe_authentic_socket(struct __sk_buff *ctx, __u32 payload, __u32 key)
{
	return probe_hmac_verify(ctx, PROBE_AT_SKB, payload, key, true);
}

/* For a packet socket the way with few instructions. */
static __always_inline bool probe_authentic(void *ctx, enum probe_at at, __u32 payload, __u32 key, bool socket)
{
	if (socket)
		return probe_authentic_socket(ctx, payload, key) == 1;
	if (at == PROBE_AT_XDP)
		return probe_authentic_xdp(ctx, payload, key) == 1;
	return probe_authentic_skb(ctx, payload, key) == 1;
}

/*
 * Several datagrams that GRO made one (rx-udp-gro-forwarding, rx-gro-list)? Only the first could be judged here. The
 * stack takes them apart again, and the socket gets each.
 */
static __always_inline bool probe_is_joined(void *ctx, enum probe_at at, const struct probe_answer *answer)
{
	return at == PROBE_AT_SKB && answer->key.protocol == PROBE_STAMP && ((struct __sk_buff *)ctx)->gso_size;
}

/* The body has been read. transport: the header's offset. */
static __always_inline enum probe_verdict probe_conclude(void *ctx, enum probe_at at, __u32 transport,
							 const struct probe_route *route, struct probe_answer *answer,
							 bool socket)
{
	struct probe_flight *flight = probe_flight_of(route, answer->sequence);
	struct probe_session *session = route->session;

	if (!flight)
		return probe_reject(session, answer);
	/* Dear, so only for what could be genuine. */
	if (answer->key.protocol == PROBE_STAMP && session->key && !answer->broken &&
	    PROBE_READ(flight->cookie) == answer->cookie &&
	    !probe_authentic(ctx, at, transport + PROBE_UDP_HEADER, session->key, socket))
		answer->broken = 1;
	return probe_judge(session, flight, answer);
}

/* What a recognised packet's parts are, for whoever sends it back. TCP's options count as payload. */
static __always_inline void probe_describe(const struct probe_head *head, __u32 ifindex, enum probe_clock clock,
					   struct probe_packet *ret)
{
	const unsigned char *ip = head->network, *t = head->transport;
	__u32 header = head->protocol == PACKET_NEXT_TCP ? PROBE_TCP_BODY : PROBE_UDP_HEADER;

	__builtin_memset(ret, 0, sizeof(*ret));
	probe_source_address(head, &ret->source);
	probe_destination_address(head, &ret->destination);
	ret->link_length = head->link_length;
	ret->transport = head->offset;
	ret->v6 = head->v6;
	ret->protocol = head->protocol;
	ret->ttl = ip[head->v6 ? 7 : 8];
	ret->service = head->v6 ? (__u8)(PACKET_HOST16(probe_get16(ip)) >> 4) : ip[1];
	ret->payload = ret->transport + header;
	ret->payload_length = head->there - header;
	ret->ifindex = ifindex;
	ret->clock = clock;
	if (head->protocol == PACKET_NEXT_ICMP || head->protocol == PACKET_NEXT_ICMP6) {
		ret->icmp_type = t[0];
		ret->icmp_code = t[1];
		ret->icmp_id = PACKET_HOST16(probe_get16(t + 4));
		ret->icmp_sequence = PACKET_HOST16(probe_get16(t + 6));
		return;
	}
	ret->source_port = PACKET_HOST16(probe_get16(t));
	ret->destination_port = PACKET_HOST16(probe_get16(t + 2));
	if (head->protocol == PACKET_NEXT_UDP && (__u32)PACKET_HOST16(probe_get16(t + 4)) - 8 < ret->payload_length)
		ret->payload_length = PACKET_HOST16(probe_get16(t + 4)) - 8;
}

/* The same of what the parser read; TCP only. */
static __always_inline void probe_describe_parsed(const struct packet *p, __u32 there, enum probe_clock clock,
						  struct probe_packet *ret)
{
	__builtin_memset(ret, 0, sizeof(*ret));
	ret->source = p->source;
	ret->destination = p->destination;
	ret->link_length = p->network_offset;
	ret->transport = p->transport_offset;
	ret->v6 = p->ethertype == PACKET_TYPE_IPV6;
	ret->protocol = p->protocol;
	ret->source_port = p->source_port;
	ret->destination_port = p->destination_port;
	ret->payload = ret->transport + PROBE_TCP_BODY;
	ret->payload_length = there - PROBE_TCP_BODY;
	ret->clock = clock;
	ret->tcp_flags = p->tcp_flags;
	ret->tcp_sequence = p->sequence;
	ret->tcp_acknowledgement = p->acknowledgement;
}

static __always_inline int probe_send_reset(void *ctx, enum probe_at at, const struct probe_packet *packet)
{
	return at == PROBE_AT_XDP ? probe_reset_xdp(ctx, packet) : probe_reset_skb(ctx, packet);
}

static __always_inline bool probe_is_half_open(const struct probe_answer *answer)
{
	return answer->key.protocol == PROBE_TCP && !answer->refused;
}

/* A better time of an answer than that of the hook; probe_hardware.bpf.c has one. */
#ifndef PROBE_REFINE_OWN
static __always_inline void probe_refine(void *ctx, struct probe_answer *answer)
{
}
#endif

/* ---- the other way: options, extension headers, bytes that cannot be read directly, and packet sockets ---- */

/* sees_only: a packet socket, which can neither drop nor send back. */
static __always_inline int probe_receive_parsed(void *ctx, enum probe_at at, bool is_ip, enum probe_clock clock,
						__u32 ifindex, bool sees_only)
{
	const struct probe_block block = { icmp_first, port_first, port_count };
	__u64 now = bpf_ktime_get_ns();
	struct probe_work *work = probe_work_memory();
	enum probe_verdict verdict;
	struct probe_answer *answer;
	struct probe_route route;
	struct packet *p;
	__u32 there, n;

	if (!work)
		return probe_pass(at);
	p = &work->parsed;
	answer = &work->answer;
	if (probe_parse(ctx, at, is_ip, PROBE_RECEIVE, p, &there))
		return probe_pass(at);
	__builtin_memset(answer, 0, sizeof(*answer));
	__builtin_memset(work->transport, 0, sizeof(work->transport));
	n = there < sizeof(work->transport) ? there : (__u32)sizeof(work->transport);
	/* Two comparisons, which the compiler must not make one of: the verifier of 6.12 learns no lower bound then. */
	if (n < PROBE_ICMP_HEADER)
		return probe_pass(at);
	asm volatile("" : "+r"(n));
	if (n > sizeof(work->transport) || probe_load(ctx, at, p->transport_offset, work->transport, n))
		return probe_pass(at);
	/* The one version's ICMP in the other's packet. */
	if (p->protocol == (p->ethertype == PACKET_TYPE_IPV6 ? PACKET_NEXT_ICMP : PACKET_NEXT_ICMP6))
		return probe_pass(at);
	if (!probe_answer_head(&block, p->protocol, work->transport, there, answer) || probe_is_joined(ctx, at, answer))
		return probe_pass(at);
	answer->key.address = p->source;
	answer->received_ns = now;
	answer->clock = clock;
	answer->ifindex = ifindex;
	probe_refine(ctx, answer);
	probe_route_of(&answer->key, &route);
	if (!route.session) {
		probe_reject_stray(answer);
		return probe_pass(at);
	}
	probe_answer_body(route.session, work->transport, there, answer);
	if (probe_is_cut(ctx, at, p))
		answer->broken = 1;
	verdict = probe_conclude(ctx, at, p->transport_offset, &route, answer, sees_only);
	if (verdict == PROBE_VERDICT_REJECTED || sees_only)
		return probe_pass(at);
	if (!probe_is_half_open(answer))
		return probe_drop(at);
	probe_describe_parsed(p, there, clock, &work->packet);
	return probe_send_reset(ctx, at, &work->packet);
}

__noinline int probe_receive_parsed_xdp(struct xdp_md *ctx, __u32 clock)
{
	return probe_receive_parsed(ctx, PROBE_AT_XDP, false, clock, ctx->ingress_ifindex, false);
}

__noinline int probe_receive_parsed_skb(struct __sk_buff *ctx, __u32 is_ip)
{
	return probe_receive_parsed(ctx, PROBE_AT_SKB, is_ip, PROBE_CLOCK_TC, ctx->ifindex, false);
}

__noinline int probe_receive_parsed_socket(struct __sk_buff *ctx, __u32 is_ip)
{
	return probe_receive_parsed(ctx, PROBE_AT_SKB, is_ip, PROBE_CLOCK_TC, ctx->ifindex, true);
}

static __always_inline int probe_receive_unusual(void *ctx, enum probe_at at, bool is_ip, enum probe_clock clock)
{
	return at == PROBE_AT_XDP ? probe_receive_parsed_xdp(ctx, clock) : probe_receive_parsed_skb(ctx, is_ip);
}

/* ---- the usual way ---- */

/* A function of its own likewise. */
__noinline int probe_request_xdp(struct xdp_md *ctx, const struct probe_packet *packet, __u32 slot)
{
	return packet ? probe_reflect(ctx, PROBE_AT_XDP, packet, slot) : REFLECT_PASS;
}

__noinline int probe_request_skb(struct __sk_buff *ctx, const struct probe_packet *packet, __u32 slot)
{
	return packet ? probe_reflect(ctx, PROBE_AT_SKB, packet, slot) : REFLECT_PASS;
}

static __always_inline int probe_receive_request(void *ctx, enum probe_at at, const struct probe_head *head,
						 __u32 ifindex, enum probe_clock clock, enum probe_action *ret_counted)
{
	const struct probe_device_entry *device = probe_device_of(ifindex);
	struct probe_work *work = probe_work_memory();
	int verdict;

	if (!device || !device->reflect || !work)
		return probe_pass(at);
	probe_describe(head, ifindex, clock, &work->packet);
	verdict = at == PROBE_AT_XDP ? probe_request_xdp(ctx, &work->packet, device->slot)
				     : probe_request_skb(ctx, &work->packet, device->slot);
	if (verdict == REFLECT_PASS)
		return probe_pass(at);
	if (verdict == REFLECT_DROP)
		return probe_drop(at);
	*ret_counted = PROBE_REFLECT;
	return probe_transmit(ctx, at);
}

static __always_inline int probe_receive_answer(void *ctx, enum probe_at at, bool is_ip, const struct probe_head *head,
						struct probe_answer *answer)
{
	struct probe_route route;
	struct probe_work *work;

	if (probe_is_joined(ctx, at, answer))
		return probe_pass(at);
	probe_source_address(head, &answer->key.address);
	probe_route_of(&answer->key, &route);
	if (!route.session) {
		probe_reject_stray(answer);
		return probe_pass(at);
	}
	if (!probe_body(head, route.session, answer))
		return probe_receive_unusual(ctx, at, is_ip, answer->clock);
	probe_refine(ctx, answer);
	/* A cut frame; or the rest is in fragments. */
	if (head->offset + head->there > head->linear && head->offset + head->there > probe_length(ctx, at))
		answer->broken = 1;
	if (probe_conclude(ctx, at, head->offset, &route, answer, false) == PROBE_VERDICT_REJECTED)
		return probe_pass(at);
	if (!probe_is_half_open(answer))
		return probe_drop(at);
	work = probe_work_memory();
	if (!work)
		return probe_drop(at);
	probe_describe(head, answer->ifindex, answer->clock, &work->packet);
	work->packet.tcp_acknowledgement = PACKET_HOST32(probe_get32(head->transport + 8));
	return probe_send_reset(ctx, at, &work->packet);
}

#define PROBE_DATA(ctx, at, what)                                                            \
	((const unsigned char *)(long)((at) == PROBE_AT_XDP ? ((struct xdp_md *)(ctx))->what \
							    : ((struct __sk_buff *)(ctx))->what))

static __always_inline __u32 probe_ifindex(void *ctx, enum probe_at at)
{
	return at == PROBE_AT_XDP ? ((struct xdp_md *)ctx)->ingress_ifindex : ((struct __sk_buff *)ctx)->ifindex;
}

static __always_inline int probe_receive_look(void *ctx, enum probe_at at, bool is_ip, enum probe_clock clock,
					      enum probe_action *ret_counted)
{
	const unsigned char *data = PROBE_DATA(ctx, at, data), *end = PROBE_DATA(ctx, at, data_end);
	struct probe_answer answer;
	struct probe_head head = { 0 }; /* else a verifier may see registers that were never set */
	enum probe_found found = probe_find(data, end, is_ip, PROBE_RECEIVE, &head);
	enum probe_kind kind;

	if (found == PROBE_FOUND_OTHER)
		return probe_pass(at);
	if (found == PROBE_FOUND_UNUSUAL)
		return probe_receive_unusual(ctx, at, is_ip, clock);
	kind = probe_looks(&head, &answer);
	if (kind == PROBE_KIND_OTHER)
		return probe_pass(at);
	if (kind == PROBE_KIND_UNUSUAL)
		return probe_receive_unusual(ctx, at, is_ip, clock);
	if (kind == PROBE_KIND_REQUEST)
		return probe_receive_request(ctx, at, &head, probe_ifindex(ctx, at), clock, ret_counted);
	answer.received_ns = bpf_ktime_get_ns();
	head.linear = (__u32)(end - data);
	answer.ifindex = probe_ifindex(ctx, at);
	answer.clock = clock;
	answer.broken = answer.judged = 0;
	return probe_receive_answer(ctx, at, is_ip, &head, &answer);
}

/* Each looks for the device as late as it can, which is 4 ns cheaper. Without one (it has just gone, or is about to be
 * added) it is Ethernet. */
static __always_inline int probe_receive_packet(void *ctx, enum probe_at at, enum probe_clock clock)
{
	const struct probe_device_entry *device = NULL;
	enum probe_action counted = PROBE_DROP; /* unless passed on: also a SYN-ACK that became a reset */
	int action;

	if (at == PROBE_AT_SKB)
		device = probe_device_of(probe_ifindex(ctx, at));
	action = probe_receive_look(ctx, at, device && device->is_ip, clock, &counted);
	if (at == PROBE_AT_XDP)
		device = probe_device_of(probe_ifindex(ctx, at));
	if (device)
		probe_count_packet(device, action == probe_pass(at) ? PROBE_PASS : counted);
	if (at == PROBE_AT_SKB && action == TCX_DROP)
		((struct __sk_buff *)ctx)->mark = OWN_DROP_MARK;
	return action;
}

#endif
