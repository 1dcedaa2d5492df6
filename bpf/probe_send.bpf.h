/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * What leaves: is it a probe that user space has just sent? Then now is its t1. The packet is never changed.
 *
 * Recognised as answers are, by destination, identifier or port, ring position and cookie, which only user space and
 * its packet know. A packet of another kind of socket than ours (raw) is not looked at any further; one without a
 * socket, as packet sockets see it and some tunnels pass it on, is, since the cookie says enough. Of a probe in
 * fragments the first one counts.
 */
#ifndef NETSONDE_PROBE_SEND_BPF_H
#define NETSONDE_PROBE_SEND_BPF_H
#include "probe_find.bpf.h"
#include "probe_match.h"
#include "probe_table.bpf.h"

enum probe_send_lengths {
	PROBE_SEND_STAMP = PROBE_UDP_HEADER + 12,               /* with the timestamp */
	PROBE_SEND_STAMP_AUTHENTICATED = PROBE_UDP_HEADER + 24,
	PROBE_SEND_MAX = PROBE_SEND_STAMP_AUTHENTICATED,
};

struct probe_departure {
	struct probe_key key;
	__u32 sequence;
	__u64 cookie;
};

/* The first 8 bytes are there. */
static __always_inline bool probe_departs(__u8 protocol, bool v6, const unsigned char *t, struct probe_departure *ret)
{
	switch (protocol) {
	case PACKET_NEXT_ICMP:
	case PACKET_NEXT_ICMP6:
		ret->key.port = PACKET_HOST16(probe_get16(t + 4));
		ret->key.protocol = PROBE_ICMP;
		return t[0] == (v6 ? PROBE_ECHO6_REQUEST : PROBE_ECHO_REQUEST) &&
		       probe_in_block(ret->key.port, icmp_first, port_count);
	case PACKET_NEXT_UDP:
	case PACKET_NEXT_TCP:
		ret->key.port = PACKET_HOST16(probe_get16(t));
		ret->key.protocol = protocol == PACKET_NEXT_UDP ? PROBE_STAMP : PROBE_TCP;
		return probe_in_block(ret->key.port, port_first, port_count);
	default:
		return false;
	}
}

/* Ring position and cookie, of `there` bytes that can be read. */
static __always_inline bool probe_departure_body(const struct probe_session *session, const unsigned char *t,
						 const unsigned char *end, struct probe_departure *ret)
{
	switch (ret->key.protocol) {
	case PROBE_ICMP:
		if (t + PROBE_ICMP_BODY > end)
			return false;
		ret->sequence = PACKET_HOST16(probe_get16(t + 6));
		ret->cookie = probe_get64(t + PROBE_ICMP_HEADER);
		return true;
	case PROBE_TCP:
		if (t + PROBE_TCP_BODY > end || (t[13] & (PACKET_SYN | PACKET_ACK | PACKET_RST)) != PACKET_SYN)
			return false;
		ret->cookie = PACKET_HOST32(probe_get32(t + 4));
		ret->sequence = (__u32)ret->cookie & 0xff;
		return true;
	default:
		if (t + (session->key ? PROBE_SEND_STAMP_AUTHENTICATED : PROBE_SEND_STAMP) > end)
			return false;
		ret->sequence = PACKET_HOST32(probe_get32(t + PROBE_UDP_HEADER));
		ret->cookie = probe_get64(t + PROBE_UDP_HEADER + (session->key ? 16 : 4));
		return true;
	}
}

static __always_inline void probe_depart_now(const struct probe_route *route, const struct probe_departure *departure)
{
	struct probe_flight *flight = probe_flight_of(route, departure->sequence);
	__u64 wall_ns = 0;

	if (!flight)
		return;
	if (departure->key.protocol == PROBE_STAMP && has_tai)
		wall_ns = bpf_ktime_get_tai_ns();
	probe_depart(flight, departure->cookie, bpf_ktime_get_ns(), wall_ns);
}

/* The other way: what cannot be read directly, and packet sockets. */
static __always_inline int probe_send_parsed(struct __sk_buff *skb, bool is_ip)
{
	struct probe_work *work = probe_work_memory();
	struct probe_departure departure = { 0 };
	struct probe_route route;
	struct packet *p;
	__u32 there, n;

	if (!work)
		return 0;
	p = &work->parsed;
	if (probe_parse(skb, PROBE_AT_SKB, is_ip, PROBE_SEND, p, &there))
		return 0;
	/* What is behind the packet's end is zero then, which is nobody's cookie. */
	__builtin_memset(work->transport, 0, PROBE_SEND_MAX);
	n = there < PROBE_SEND_MAX ? there : PROBE_SEND_MAX;
	asm volatile("" : "+r"(n));
	if (n < 8 || n > PROBE_SEND_MAX || probe_load(skb, PROBE_AT_SKB, p->transport_offset, work->transport, n))
		return 0;
	if (!probe_departs(p->protocol, p->ethertype == PACKET_TYPE_IPV6, work->transport, &departure))
		return 0;
	departure.key.address = p->destination;
	probe_route_of(&departure.key, &route);
	if (route.session &&
	    probe_departure_body(route.session, work->transport, work->transport + PROBE_SEND_MAX, &departure))
		probe_depart_now(&route, &departure);
	return 0;
}

/* Global functions: verified once, with a stack of their own. */
__noinline int probe_send_unusual(struct __sk_buff *skb, __u32 is_ip)
{
	return probe_send_parsed(skb, is_ip);
}

static __always_inline void probe_send_packet(struct __sk_buff *skb)
{
	const struct probe_device_entry *device = probe_device_of(skb->ifindex);
	const unsigned char *data = (const unsigned char *)(long)skb->data,
			    *end = (const unsigned char *)(long)skb->data_end;
	struct probe_departure departure;
	struct probe_route route;
	struct probe_head head = { 0 }; /* else a verifier may see registers that were never set */
	enum probe_found found;
	struct bpf_sock *sk;

	if (!device)
		return;
	found = probe_find(data, end, device->is_ip, PROBE_SEND, &head);
	if (found == PROBE_FOUND_OTHER ||
	    (found == PROBE_FOUND_PLAIN && !probe_departs(head.protocol, head.v6, head.transport, &departure)))
		return;
	sk = (struct bpf_sock *)(long)skb->sk;
	if (sk) {
		sk = bpf_sk_fullsock(sk);
		if (!sk || sk->type != SOCK_RAW)
			return;
	}
	if (found == PROBE_FOUND_UNUSUAL) {
		probe_send_unusual(skb, device->is_ip);
		return;
	}
	probe_destination_address(&head, &departure.key.address);
	probe_route_of(&departure.key, &route);
	if (!route.session)
		return;
	if (probe_departure_body(route.session, head.transport, end, &departure))
		probe_depart_now(&route, &departure);
	else
		probe_send_unusual(skb, device->is_ip);
}

#endif
