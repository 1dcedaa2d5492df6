/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * Where a packet's headers are, in two ways. probe_find looks at what nearly every packet is: Ethernet with up to two
 * VLAN tags, IPv4 without options or IPv6 without extension headers, all in the part of the packet that can be read
 * directly. It costs a few ns, and for packets that are not ours that is all there is. Whatever is not so plain, but
 * might be ours, goes through the parser (parse.h) in a function of its own, a tenth as fast.
 *
 * Never ours: fragments (reassembled, they reach the prober's socket), what begins with an authentication header (only
 * IPsec can tell whether it is genuine), PPPoE, more tags.
 */
#ifndef NETSONDE_PROBE_FIND_BPF_H
#define NETSONDE_PROBE_FIND_BPF_H
#include "probe_io.bpf.h"

#define PACKET_SOURCE_OWN
typedef const struct probe_source {
	void *ctx;
	enum probe_at at;
} packet_source;

static __always_inline int packet_load(packet_source *source, __u32 offset, void *to, __u32 len)
{
	return probe_load(source->ctx, source->at, offset, to, len);
}

static __always_inline __u32 packet_source_length(packet_source *source)
{
	return probe_length(source->ctx, source->at);
}
#include "probe_match.h"

/* Set by user space before it loads the object. */
const volatile __u16 icmp_first, port_first, port_count;
const volatile struct reflect_settings reflect = {};

enum probe_way { PROBE_RECEIVE, PROBE_SEND };
enum probe_found { PROBE_FOUND_OTHER, PROBE_FOUND_PLAIN, PROBE_FOUND_UNUSUAL };

struct probe_head {
	const unsigned char *network, *transport, *end; /* end: of what can be read directly */
	__u32 link_length, offset; /* of the transport header */
	__u32 there;               /* from the transport header to the IP packet's end, as its header says */
	__u32 linear;              /* end - the packet's beginning; set only for what looks like ours */
	__u8 v6, protocol;
};

#define PROBE_TYPE(type) ((__u16)PACKET_HOST16(type))

static __always_inline bool probe_is_vlan(__u16 type)
{
	return type == PROBE_TYPE(PACKET_TYPE_VLAN) || type == PROBE_TYPE(PACKET_TYPE_QINQ) ||
	       type == PROBE_TYPE(PACKET_TYPE_QINQ_OLD);
}

/* Is the port one of ours, or the reflector's? */
static __always_inline enum probe_found probe_find_port(__u16 port, __u8 protocol, enum probe_way way)
{
	port = PACKET_HOST16(port);
	if (probe_in_block(port, port_first, port_count))
		return PROBE_FOUND_PLAIN;
	if (way == PROBE_RECEIVE && protocol == PACKET_NEXT_UDP && reflect.on && port == reflect.port)
		return PROBE_FOUND_PLAIN;
	return PROBE_FOUND_OTHER;
}

/* Is it an answer, or what the reflector answers; of what leaves, a request? */
static __always_inline enum probe_found probe_find_icmp(__u8 type, bool v6, enum probe_way way)
{
	const __u8 request = v6 ? PROBE_ECHO6_REQUEST : PROBE_ECHO_REQUEST;

	if (type == (way == PROBE_SEND ? request : v6 ? PROBE_ECHO6_REPLY : PROBE_ECHO_REPLY))
		return PROBE_FOUND_PLAIN;
	return way == PROBE_RECEIVE && reflect.on && reflect.icmp && type == request ? PROBE_FOUND_PLAIN : PROBE_FOUND_OTHER;
}

/* Nearly every packet ends here, after a few constant offsets. Nothing is said yet about fragments and lengths. */
static __always_inline enum probe_found probe_find_ip(const unsigned char *ip, __u16 type, __u32 link_length,
						      enum probe_way way, struct probe_head *ret)
{
	int port_at = way == PROBE_RECEIVE ? 2 : 0;

	ret->network = ip;
	ret->link_length = link_length;
	if (type == PROBE_TYPE(PACKET_TYPE_IPV4)) {
		if (ip + 24 > ret->end)
			return PROBE_FOUND_UNUSUAL;
		ret->v6 = 0;
		ret->protocol = ip[9];
		if (ret->protocol != PACKET_NEXT_TCP && ret->protocol != PACKET_NEXT_UDP &&
		    ret->protocol != PACKET_NEXT_ICMP)
			return PROBE_FOUND_OTHER;
		if (ip[0] != 0x45)
			return PROBE_FOUND_UNUSUAL;
		if (ret->protocol == PACKET_NEXT_ICMP)
			return probe_find_icmp(ip[20], false, way);
		return probe_find_port(probe_get16(ip + 20 + port_at), ret->protocol, way);
	}
	if (type != PROBE_TYPE(PACKET_TYPE_IPV6))
		return PROBE_FOUND_OTHER;
	if (ip + 44 > ret->end)
		return PROBE_FOUND_UNUSUAL;
	ret->v6 = 1;
	ret->protocol = ip[6];
	if (ret->protocol == PACKET_NEXT_TCP || ret->protocol == PACKET_NEXT_UDP)
		return probe_find_port(probe_get16(ip + 40 + port_at), ret->protocol, way);
	if (ret->protocol == PACKET_NEXT_ICMP6)
		return probe_find_icmp(ip[40], true, way);
	if (ret->protocol == PACKET_NEXT_HOP_BY_HOP || ret->protocol == PACKET_NEXT_ROUTING ||
	    ret->protocol == PACKET_NEXT_DESTINATION)
		return PROBE_FOUND_UNUSUAL;
	return PROBE_FOUND_OTHER;
}

/* Each number of tags is written out, so that all offsets are constants. */
static __always_inline enum probe_found probe_find_frame(const unsigned char *data, bool is_ip, enum probe_way way,
							 struct probe_head *ret)
{
	__u16 type;

	if (data + 24 > ret->end)
		return PROBE_FOUND_UNUSUAL;
	if (is_ip)
		return probe_find_ip(data, PROBE_TYPE(data[0] >> 4 == 6 ? PACKET_TYPE_IPV6 : PACKET_TYPE_IPV4), 0, way, ret);
	type = probe_get16(data + 12);
	if (!probe_is_vlan(type))
		return probe_find_ip(data + 14, type, 14, way, ret);
	type = probe_get16(data + 16);
	if (!probe_is_vlan(type))
		return probe_find_ip(data + 18, type, 18, way, ret);
	return probe_find_ip(data + 22, probe_get16(data + 20), 22, way, ret);
}

/* PLAIN: one of ours by its port, or ICMP echo; at least the first 8 bytes of its transport header can be read, and
 * there are so many by the IP header too. */
static __always_inline enum probe_found probe_find(const unsigned char *data, const unsigned char *end, bool is_ip,
						   enum probe_way way, struct probe_head *ret)
{
	enum probe_found found;
	__u32 header;

	ret->end = end;
	found = probe_find_frame(data, is_ip, way, ret);
	if (found != PROBE_FOUND_PLAIN)
		return found;
	/* One way on for the verifier, whatever is before the IP header. */
	ret->link_length = packet_forget(ret->link_length) & 31;
	ret->network = data + ret->link_length;
	header = ret->v6 ? 40 : 20;
	ret->transport = ret->network + header;
	ret->offset = ret->link_length + header;
	if (ret->network + 20 > end || ret->transport + 8 > end)
		return PROBE_FOUND_UNUSUAL;
	if (ret->v6) {
		ret->there = PACKET_HOST16(probe_get16(ret->network + 4));
		return ret->network[0] >> 4 == 6 && ret->there >= 8 ? PROBE_FOUND_PLAIN : PROBE_FOUND_OTHER;
	}
	ret->there = PACKET_HOST16(probe_get16(ret->network + 2)) - 20U;
	/* Also what is below 0. */
	if (ret->there - 8 > 0xffff)
		return PROBE_FOUND_OTHER;
	/* What leaves in fragments leaves with the first one. */
	if (probe_get16(ret->network + 6) & PROBE_TYPE(way == PROBE_RECEIVE ? 0x3fff : 0x1fff))
		return PROBE_FOUND_OTHER;
	return PROBE_FOUND_PLAIN;
}

/* IPv4 as mapped. */
static __always_inline void probe_address(const unsigned char *at, bool v6, struct peer_address *ret)
{
	if (v6) {
		ret->words[0] = probe_get32(at);
		ret->words[1] = probe_get32(at + 4);
		ret->words[2] = probe_get32(at + 8);
		ret->words[3] = probe_get32(at + 12);
		return;
	}
	ret->words[0] = 0;
	ret->words[1] = 0;
	ret->words[2] = PACKET_HOST32(0xffffU);
	ret->words[3] = probe_get32(at);
}

static __always_inline void probe_source_address(const struct probe_head *head, struct peer_address *ret)
{
	probe_address(head->network + (head->v6 ? 8 : 12), head->v6, ret);
}

static __always_inline void probe_destination_address(const struct probe_head *head, struct peer_address *ret)
{
	probe_address(head->network + (head->v6 ? 24 : 16), head->v6, ret);
}

/* ---- the other way ---- */

/* Global: the verifier follows the parser once, and for itself. */
__noinline int probe_parse_xdp(struct xdp_md *ctx, struct packet *ret)
{
	struct probe_source source = { ctx, PROBE_AT_XDP };

	return ret ? packet_parse(&source, 0, PACKET_ETHERNET, ret) : -1;
}

__noinline int probe_parse_skb(struct __sk_buff *ctx, __u32 start, struct packet *ret)
{
	struct probe_source source = { ctx, PROBE_AT_SKB };

	return ret ? packet_parse(&source, 0, start, ret) : -1;
}

/* The IP header says more bytes than there are. */
static __always_inline bool probe_is_cut(void *ctx, enum probe_at at, const struct packet *p)
{
	bool v6 = p->ethertype == PACKET_TYPE_IPV6;
	__u16 length;

	if (probe_load(ctx, at, p->network_offset + (v6 ? 4 : 2), &length, sizeof(length)))
		return true;
	return PACKET_HOST16(length) + (v6 ? 40U : 0) > p->length;
}

/* 0 when it may be ours, and its transport header is there. *ret_there: from that to the IP packet's end, or to that of
 * the bytes. */
static __always_inline int probe_parse(void *ctx, enum probe_at at, bool is_ip, enum probe_way way, struct packet *ret,
				       __u32 *ret_there)
{
	__u8 not_ours = way == PROBE_RECEIVE ? PACKET_FRAGMENT | PACKET_LATER_FRAGMENT : PACKET_LATER_FRAGMENT;

	if (at == PROBE_AT_XDP ? probe_parse_xdp(ctx, ret)
			       : probe_parse_skb(ctx, is_ip ? PACKET_IP : PACKET_ETHERNET, ret))
		return -1;
	if (!ret->transport_offset || ret->flags & not_ours)
		return -1;
	*ret_there = ret->network_offset + ret->length - ret->transport_offset;
	return 0;
}

#endif
