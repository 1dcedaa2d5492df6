/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * The polite end of a half-open connection: the SYN-ACK that answered a probe, turned into the reset that its sender
 * waits for, in the place where it was received. The local stack sees neither.
 *
 * As a host in CLOSED answers (RFC 9293, section 3.10.7.1): sequence number = what the SYN-ACK acknowledges, RST
 * without ACK. That is exactly what the far side expects next, so it believes the reset (RFC 5961, section 3.2). The IP
 * header is a new one, without the options or extension headers of the old.
 */
#ifndef NETSONDE_PROBE_RESET_BPF_H
#define NETSONDE_PROBE_RESET_BPF_H
#include "probe_find.bpf.h"

#define PROBE_ETHERNET_MIN 60
#define PROBE_RESET_TTL 64

static __always_inline __u16 probe_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)sum;
}

/* Of IPv4 as mapped, two words more than it has: 0xffff twice, which is 0. The same for both directions. */
static __always_inline __u64 probe_pseudo_sum(const struct probe_packet *p, __u16 length)
{
	__u64 sum = PACKET_HOST16(IPPROTO_TCP) + PACKET_HOST16(length);

	for (int i = 0; i < 4; i++)
		sum += (__u64)p->source.words[i] + p->destination.words[i];
	return sum;
}

/*
 * Is the checksum only begun, to be finished by whoever sends the packet (CHECKSUM_PARTIAL: a sender on this machine,
 * over veth or from a virtual machine)? In tc and generic XDP the kernel still knows, and will finish it. In the driver
 * it does not.
 */
static __always_inline bool probe_reset_partial(void *ctx, enum probe_at at, const struct probe_packet *p)
{
	__u16 checksum = 0;

	if (at == PROBE_AT_SKB)
		return probe_checksum_partial(ctx, p->transport + 16);
	return p->clock == PROBE_CLOCK_XDP_GENERIC &&
	       !probe_load(ctx, at, p->transport + 16, &checksum, sizeof(checksum)) &&
	       checksum == probe_fold(probe_pseudo_sum(p, (__u16)(p->payload_length + sizeof(struct packet_tcp))));
}

static __always_inline int probe_put_ipv6(void *ctx, enum probe_at at, const struct probe_packet *p)
{
	struct packet_ipv6 ip = { .version_flow = PACKET_HOST32(6U << 28), .next = IPPROTO_TCP, .hop_limit = PROBE_RESET_TTL };

	ip.payload_length = PACKET_HOST16(sizeof(struct packet_tcp));
	ip.source = p->destination;
	ip.destination = p->source;
	return probe_store(ctx, at, p->link_length, &ip, sizeof(ip));
}

static __always_inline int probe_put_ipv4(void *ctx, enum probe_at at, const struct probe_packet *p)
{
	struct packet_ipv4 ip = { .version_words = 0x45, .ttl = PROBE_RESET_TTL, .protocol = IPPROTO_TCP };
	__u64 sum = PACKET_HOST16(0x4500) + PACKET_HOST16(PROBE_RESET_TTL << 8 | IPPROTO_TCP);

	ip.length = PACKET_HOST16(sizeof(ip) + sizeof(struct packet_tcp));
	ip.fragment = PACKET_HOST16(0x4000); /* may not be fragmented */
	ip.source = p->destination.words[3];
	ip.destination = p->source.words[3];
	ip.checksum = (__u16)~probe_fold(sum + ip.length + ip.fragment + ip.source + ip.destination);
	return probe_store(ctx, at, p->link_length, &ip, sizeof(ip));
}

static __always_inline int probe_put_reset(void *ctx, enum probe_at at, const struct probe_packet *p, bool partial)
{
	struct packet_tcp tcp = {
		.source_port = PACKET_HOST16(p->destination_port), .destination_port = PACKET_HOST16(p->source_port),
		.sequence = PACKET_HOST32(p->tcp_acknowledgement), .words = sizeof(tcp) / 4 << 4, .flags = PACKET_RST,
	};
	__u64 pseudo = probe_pseudo_sum(p, sizeof(tcp));
	__u64 sum = pseudo + tcp.source_port + tcp.destination_port + tcp.sequence + PACKET_HOST16(0x5000 | PACKET_RST);

	tcp.checksum = partial ? probe_fold(pseudo) : (__u16)~probe_fold(sum);
	return probe_store(ctx, at, p->link_length + (p->v6 ? 40 : 20), &tcp, sizeof(tcp));
}

/* Returns what the program returns. */
static __always_inline int probe_reset(void *ctx, enum probe_at at, const struct probe_packet *p)
{
	__u32 offset = p->link_length + (p->v6 ? 40 : 20), length = offset + (__u32)sizeof(struct packet_tcp);
	__u32 there = probe_length(ctx, at), padded = length;
	const __u8 zero[6] = { 0 };
	bool partial;

	/* Where the kernel finishes a partial checksum cannot be moved. Rare; the stack resets it too, it has no such
	 * socket. */
	if (p->clock > PROBE_CLOCK_XDP && offset != p->transport)
		return probe_pass(at);
	if (p->link_length && padded < PROBE_ETHERNET_MIN)
		padded = PROBE_ETHERNET_MIN;
	if (padded > there)
		padded = length;
	if (there < length)
		return probe_pass(at);
	partial = probe_reset_partial(ctx, at, p);
	if (there > padded && probe_cut(ctx, at, padded))
		return probe_drop(at);
	/* 54 bytes, or 58 with a tag. */
	if (padded > length && probe_store(ctx, at, padded - sizeof(zero), zero, sizeof(zero)))
		return probe_drop(at);
	if (probe_swap_link(ctx, at, p->link_length) ||
	    (p->v6 ? probe_put_ipv6(ctx, at, p) : probe_put_ipv4(ctx, at, p)) || probe_put_reset(ctx, at, p, partial))
		return probe_drop(at);
	return probe_transmit(ctx, at);
}

__noinline int probe_reset_xdp(struct xdp_md *ctx, const struct probe_packet *packet)
{
	return packet ? probe_reset(ctx, PROBE_AT_XDP, packet) : XDP_PASS;
}

__noinline int probe_reset_skb(struct __sk_buff *ctx, const struct probe_packet *packet)
{
	return packet ? probe_reset(ctx, PROBE_AT_SKB, packet) : TCX_NEXT;
}

#endif
