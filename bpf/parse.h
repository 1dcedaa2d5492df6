/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * The one packet parser: Ethernet with VLAN tags (802.1Q, 802.1ad) and PPPoE, IPv4
 * with options, IPv6 with extension headers, fragments, TCP with its timestamps,
 * UDP. Compiled into the BPF programs and natively, for unit tests and fuzzing:
 * only packet_load differs, bpf_skb_load_bytes there and a checked copy here.
 *
 * Nothing in a packet is believed. Every loop has a fixed bound, every header is
 * fetched through packet_fetch, which ends at the IP packet's end (not at the
 * frame's: Ethernet pads), and a length that cannot be true (shorter than its own
 * header, longer than what is there) is replaced by what is there. So length and
 * payload_length never exceed the bytes that exist.
 *
 * A VLAN tag that the kernel took out of the bytes is in skb->vlan_tci, not here.
 * RFC 791, RFC 8200 (4: extension headers), RFC 4302 (AH), RFC 9293, RFC 7323,
 * RFC 768, RFC 2516. IPv6 jumbograms (RFC 2675) and the kernel's own packets above
 * 64 KB say length 0.
 */
#ifndef NETSONDE_PARSE_H
#define NETSONDE_PARSE_H
#include "abi.h"
#ifdef __bpf__
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#elif !defined(__always_inline)
#define __always_inline inline __attribute__((always_inline))
#endif

enum packet_flags {
	PACKET_FRAGMENT = 1,       /* part of a fragmented datagram; ports are known only in the first part */
	PACKET_LATER_FRAGMENT = 2, /* not the first part: no ports */
	PACKET_TRUNCATED = 4,      /* ends before its headers do; what is zero was not there */
	PACKET_TIMESTAMPS = 8,     /* TCP timestamp option: timestamp_value, timestamp_echo are set */
};

/* What the bytes begin with. */
enum packet_start {
	PACKET_ETHERNET,
	PACKET_IP, /* cgroup_skb, and devices without a link header (tun, ppp, wireguard) */
};

#define PACKET_PROTOCOL_UNKNOWN 0xff
#define PACKET_VLANS_MAX 4
#define PACKET_EXTENSIONS_MAX 8   /* RFC 8200 recommends at most 7 different ones */
#define PACKET_TCP_OPTIONS_MAX 16 /* with the padding; the kernel sends at most 8 */

struct packet {
	struct peer_address source, destination; /* zero when it is no IP */
	__abi_u16 source_port, destination_port; /* host order; 0: none */
	__abi_u16 ethertype;       /* of the innermost payload: 0x0800, 0x86dd, 0x0806, ... host order */
	__abi_u8 protocol;         /* IPPROTO_* behind all extension headers; 0xff: not found (too many of them, or cut) */
	__abi_u8 flags;            /* enum packet_flags */
	/* From the packet's beginning. transport_offset is 0 when there is no transport header: a later fragment, or cut;
	 * payload_offset, behind the header of TCP or UDP, likewise. */
	__abi_u32 network_offset, transport_offset, payload_offset;
	__abi_u32 length;          /* of the IP packet, from its header; whole frames' length for others */
	__abi_u32 payload_length;  /* of TCP or UDP, from the headers; of a fragment what is in it */
	__abi_u32 sequence, acknowledgement, timestamp_value, timestamp_echo; /* TCP, host order */
	__abi_u8 tcp_flags;        /* FIN 1, SYN 2, RST 4, PSH 8, ACK 16 */
	__abi_u8 vlans;            /* how many tags were skipped in the packet's bytes */
	__abi_u16 vlan;            /* identifier in the innermost of them */
};
_Static_assert(sizeof(struct packet) == 80, "no padding");

enum { PACKET_FIN = 1, PACKET_SYN = 2, PACKET_RST = 4, PACKET_PSH = 8, PACKET_ACK = 16 };

enum {
	PACKET_TYPE_IPV4 = 0x0800, PACKET_TYPE_IPV6 = 0x86dd, PACKET_TYPE_VLAN = 0x8100, PACKET_TYPE_QINQ = 0x88a8,
	PACKET_TYPE_QINQ_OLD = 0x9100, PACKET_TYPE_PPPOE = 0x8864,
};
/* Of IPPROTO_*, which are in kernel.h or the C library as far as the includer has them. */
enum {
	PACKET_NEXT_HOP_BY_HOP = 0, PACKET_NEXT_ICMP = 1, PACKET_NEXT_TCP = 6, PACKET_NEXT_UDP = 17, PACKET_NEXT_ROUTING = 43,
	PACKET_NEXT_FRAGMENT = 44, PACKET_NEXT_AH = 51, PACKET_NEXT_ICMP6 = 58, PACKET_NEXT_DESTINATION = 60,
	PACKET_NEXT_MOBILITY = 135, PACKET_NEXT_HIP = 139, PACKET_NEXT_SHIM6 = 140,
};

/*
 * Where the bytes come from. A program that reads something else than its own __sk_buff defines PACKET_SOURCE_OWN, the type
 * packet_source and both functions before it includes this file.
 */
#ifdef PACKET_SOURCE_OWN
#elif defined(__bpf__)
typedef struct __sk_buff packet_source;

/* 0, or negative when not all of it is there. len is a constant. */
static __always_inline int packet_load(packet_source *source, __u32 offset, void *to, __u32 len)
{
	return (int)bpf_skb_load_bytes(source, offset, to, len);
}

static __always_inline __u32 packet_source_length(packet_source *source)
{
	return source->len;
}
#else
typedef const struct packet_bytes {
	const void *data;
	__abi_u32 len;
} packet_source;

static __always_inline int packet_load(packet_source *source, __abi_u32 offset, void *to, __abi_u32 len)
{
	if (offset > source->len || len > source->len - offset)
		return -1;
	__builtin_memcpy(to, (const unsigned char *)source->data + offset, len);
	return 0;
}

static __always_inline __abi_u32 packet_source_length(packet_source *source)
{
	return source->len;
}
#endif

/*
 * Adds zero, but the verifier does not know: a variable may have any value. What it knows of an offset decides a comparison
 * here and there, and then it must keep every such offset apart from all others: exponential in the number of headers.
 */
#ifdef __bpf__
static volatile __u32 packet_zero;

static __always_inline __u32 packet_forget(__u32 x)
{
	return x + packet_zero;
}
#else
static __always_inline __abi_u32 packet_forget(__abi_u32 x)
{
	return x;
}
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define PACKET_HOST16(x) __builtin_bswap16(x)
#define PACKET_HOST32(x) __builtin_bswap32(x)
#else
#define PACKET_HOST16(x) (x)
#define PACKET_HOST32(x) (x)
#endif

struct packet_vlan_tag { __abi_u16 tag, type; };
struct packet_pppoe { __abi_u8 version, code; __abi_u16 session, length, protocol; };
struct packet_ipv4 {
	__abi_u8 version_words, service;
	__abi_u16 length, id, fragment;
	__abi_u8 ttl, protocol;
	__abi_u16 checksum;
	__abi_u32 source, destination;
};
struct packet_ipv6 {
	__abi_u32 version_flow;
	__abi_u16 payload_length;
	__abi_u8 next, hop_limit;
	struct peer_address source, destination;
};
struct packet_extension { __abi_u8 next, length; __abi_u16 fragment; };
struct packet_tcp {
	__abi_u16 source_port, destination_port;
	__abi_u32 sequence, acknowledgement;
	__abi_u8 words, flags;
	__abi_u16 window, checksum, urgent;
};
struct packet_udp { __abi_u16 source_port, destination_port, length, checksum; };
struct packet_timestamps { __abi_u32 head, stamps[2]; };

/* What lies before `end`. */
static __always_inline int packet_fetch(packet_source *source, __abi_u32 offset, __abi_u32 end, void *to, __abi_u32 len)
{
	if (offset > end || len > end - offset)
		return -1;
	return packet_load(source, offset, to, len);
}

/* From Ethernet to the network header; sets ethertype and tags. Returns where it is. */
static __always_inline __abi_u32 packet_parse_link(packet_source *source, __abi_u32 offset, struct packet *ret)
{
	struct packet_pppoe pppoe;
	__abi_u16 type;

	if (packet_load(source, offset + 12, &type, sizeof(type)))
		return offset;
	type = PACKET_HOST16(type);
	offset += 14;
	for (int i = 0; i < PACKET_VLANS_MAX; i++) {
		struct packet_vlan_tag tag;

		if (type != PACKET_TYPE_VLAN && type != PACKET_TYPE_QINQ && type != PACKET_TYPE_QINQ_OLD)
			break;
		if (packet_load(source, offset, &tag, sizeof(tag)))
			break;
		type = PACKET_HOST16(tag.type);
		ret->vlan = PACKET_HOST16(tag.tag) & 0xfff;
		ret->vlans++;
		offset += sizeof(tag);
	}
	if (type == PACKET_TYPE_PPPOE && !packet_load(source, offset, &pppoe, sizeof(pppoe))) {
		__abi_u16 protocol = PACKET_HOST16(pppoe.protocol);

		/* PPP's numbers for both (RFC 1332, RFC 5072). Code 0 is a session's data. */
		if (pppoe.version == 0x11 && pppoe.code == 0 && (protocol == 0x0021 || protocol == 0x0057)) {
			type = protocol == 0x0021 ? PACKET_TYPE_IPV4 : PACKET_TYPE_IPV6;
			offset += sizeof(pppoe);
		}
	}
	ret->ethertype = type;
	return offset;
}

static __always_inline int packet_is_extension(int v6, __abi_u8 next)
{
	if (next == PACKET_NEXT_AH)
		return 1;
	return v6 && (next == PACKET_NEXT_HOP_BY_HOP || next == PACKET_NEXT_ROUTING || next == PACKET_NEXT_FRAGMENT ||
		      next == PACKET_NEXT_DESTINATION || next == PACKET_NEXT_MOBILITY || next == PACKET_NEXT_HIP ||
		      next == PACKET_NEXT_SHIM6);
}

/* Not the first fragment: `next` is the first header that was cut up, the payload begins anywhere. */
static __always_inline void packet_later_fragment(int v6, __abi_u8 next, struct packet *ret)
{
	ret->flags |= PACKET_FRAGMENT | PACKET_LATER_FRAGMENT;
	if (!packet_is_extension(v6, next))
		ret->protocol = next;
}

/* The extension headers from `offset` on, the first of type `next`. Sets protocol, and transport_offset when it got there. */
static __always_inline void packet_parse_extensions(packet_source *source, __abi_u32 offset, __abi_u32 end, __abi_u8 next,
						    int v6, struct packet *ret)
{
	offset = packet_forget(offset);
	end = packet_forget(end);
	for (int i = 0; i < PACKET_EXTENSIONS_MAX; i++) {
		struct packet_extension x;

		if (!packet_is_extension(v6, next)) {
			ret->protocol = next;
			if (offset > end)
				ret->flags |= PACKET_TRUNCATED;
			else
				ret->transport_offset = offset;
			return;
		}
		if (packet_fetch(source, offset, end, &x, sizeof(x))) {
			ret->flags |= PACKET_TRUNCATED;
			return;
		}
		if (next == PACKET_NEXT_AH) {
			offset += 8 + 4 * (__abi_u32)x.length;
		} else if (next == PACKET_NEXT_FRAGMENT) {
			/* Offset 0 and nothing more to come is a whole packet (RFC 6946). */
			if (PACKET_HOST16(x.fragment) & 0xfff8) {
				packet_later_fragment(v6, x.next, ret);
				return;
			}
			if (PACKET_HOST16(x.fragment) & 1)
				ret->flags |= PACKET_FRAGMENT;
			offset += 8;
		} else {
			offset += 8 + 8 * (__abi_u32)x.length;
		}
		next = x.next;
	}
}

/* Both return the end of the IP packet; 0 when it is none. */
static __always_inline __abi_u32 packet_parse_ipv4(packet_source *source, __abi_u32 offset, struct packet *ret)
{
	__abi_u32 there = packet_source_length(source) - offset, header, length;
	struct packet_ipv4 ip;

	if (packet_load(source, offset, &ip, sizeof(ip)) || ip.version_words >> 4 != 4)
		return 0;
	header = (ip.version_words & 15) * 4;
	if (header < sizeof(ip))
		return 0;
	length = PACKET_HOST16(ip.length);
	ret->length = length < header || length > there ? there : length;
	ret->source.words[2] = PACKET_HOST32(0xffffU);
	ret->source.words[3] = ip.source;
	ret->destination.words[2] = PACKET_HOST32(0xffffU);
	ret->destination.words[3] = ip.destination;
	if (PACKET_HOST16(ip.fragment) & 0x1fff) {
		packet_later_fragment(0, ip.protocol, ret);
		return offset + ret->length;
	}
	if (PACKET_HOST16(ip.fragment) & 0x2000)
		ret->flags |= PACKET_FRAGMENT;
	packet_parse_extensions(source, offset + header, offset + ret->length, ip.protocol, 0, ret);
	return offset + ret->length;
}

static __always_inline __abi_u32 packet_parse_ipv6(packet_source *source, __abi_u32 offset, struct packet *ret)
{
	__abi_u32 there = packet_source_length(source) - offset, length;
	struct packet_ipv6 ip;

	if (packet_load(source, offset, &ip, sizeof(ip)) || PACKET_HOST32(ip.version_flow) >> 28 != 6)
		return 0;
	length = PACKET_HOST16(ip.payload_length) + (__abi_u32)sizeof(ip);
	/* 0: a jumbogram, or no payload at all; behind it may be the frame's padding. */
	if (length > there || (length == sizeof(ip) && ip.next == PACKET_NEXT_HOP_BY_HOP) || (length == sizeof(ip) && there > 0xffff))
		length = there;
	ret->length = length;
	ret->source = ip.source;
	ret->destination = ip.destination;
	packet_parse_extensions(source, offset + (__abi_u32)sizeof(ip), offset + length, ip.next, 1, ret);
	return offset + length;
}

/* RFC 7323's option among up to PACKET_TCP_OPTIONS_MAX in [offset, end). */
static __always_inline void packet_parse_timestamps(packet_source *source, __abi_u32 offset, __abi_u32 end, struct packet *ret)
{
	struct packet_timestamps t;

	/* Two paddings, kind 8, length 10: how everybody sends it once the connection stands (RFC 7323, appendix A). */
	if (!packet_fetch(source, offset, end, &t, sizeof(t)) && PACKET_HOST32(t.head) == 0x0101080aU)
		goto found;
	for (int i = 0; i < PACKET_TCP_OPTIONS_MAX; i++) {
		struct { __abi_u8 kind, length; } o;

		if (packet_fetch(source, offset, end, &o, sizeof(o)) || !o.kind)
			return;
		if (o.kind == 1) {
			offset++;
			continue;
		}
		if (o.kind == 8 && o.length == 10) {
			if (packet_fetch(source, offset + 2, end, t.stamps, sizeof(t.stamps)))
				return;
			goto found;
		}
		if (o.length < 2)
			return;
		offset += o.length;
	}
	return;
found:
	ret->timestamp_value = PACKET_HOST32(t.stamps[0]);
	ret->timestamp_echo = PACKET_HOST32(t.stamps[1]);
	ret->flags |= PACKET_TIMESTAMPS;
}

static __always_inline void packet_parse_ports(packet_source *source, __abi_u32 end, struct packet *ret)
{
	__abi_u16 ports[2];

	ret->flags |= PACKET_TRUNCATED;
	if (packet_fetch(source, ret->transport_offset, end, ports, sizeof(ports)))
		return;
	ret->source_port = PACKET_HOST16(ports[0]);
	ret->destination_port = PACKET_HOST16(ports[1]);
}

static __always_inline void packet_parse_tcp(packet_source *source, __abi_u32 end, struct packet *ret)
{
	__abi_u32 offset = ret->transport_offset, header;
	struct packet_tcp tcp;

	if (packet_fetch(source, offset, end, &tcp, sizeof(tcp))) {
		packet_parse_ports(source, end, ret);
		return;
	}
	ret->source_port = PACKET_HOST16(tcp.source_port);
	ret->destination_port = PACKET_HOST16(tcp.destination_port);
	ret->sequence = PACKET_HOST32(tcp.sequence);
	ret->acknowledgement = PACKET_HOST32(tcp.acknowledgement);
	ret->tcp_flags = tcp.flags;
	header = (__abi_u32)(tcp.words >> 4) * 4;
	if (header < sizeof(tcp) || header > end - offset) {
		ret->flags |= PACKET_TRUNCATED;
		return;
	}
	ret->payload_offset = offset + header;
	ret->payload_length = end - offset - header;
	if (header > sizeof(tcp))
		packet_parse_timestamps(source, offset + (__abi_u32)sizeof(tcp), offset + header, ret);
}

static __always_inline void packet_parse_udp(packet_source *source, __abi_u32 end, struct packet *ret)
{
	__abi_u32 offset = ret->transport_offset, length;
	struct packet_udp udp;

	if (packet_fetch(source, offset, end, &udp, sizeof(udp))) {
		packet_parse_ports(source, end, ret);
		return;
	}
	ret->source_port = PACKET_HOST16(udp.source_port);
	ret->destination_port = PACKET_HOST16(udp.destination_port);
	ret->payload_offset = offset + (__abi_u32)sizeof(udp);
	ret->payload_length = end - ret->payload_offset;
	length = PACKET_HOST16(udp.length);
	/* A first fragment says the whole datagram's length; 0 is a jumbogram's. */
	if (length >= sizeof(udp) && length - sizeof(udp) < ret->payload_length)
		ret->payload_length = length - (__abi_u32)sizeof(udp);
}

/*
 * Reads the packet that begins at `offset` of the source. 0 when it is IP; negative when it is not (ARP, or cut inside the
 * first header). *ret is filled either way, with zeroes for what was not there.
 */
static __always_inline int packet_parse(packet_source *source, __abi_u32 offset, enum packet_start start, struct packet *ret)
{
	__abi_u8 version = 0;
	__abi_u32 end = 0;

	__builtin_memset(ret, 0, sizeof(*ret));
	ret->protocol = PACKET_PROTOCOL_UNKNOWN;
	if (start == PACKET_ETHERNET)
		offset = packet_parse_link(source, offset, ret);
	else if (!packet_load(source, offset, &version, 1))
		ret->ethertype = version >> 4 == 4 ? PACKET_TYPE_IPV4 : version >> 4 == 6 ? PACKET_TYPE_IPV6 : 0;
	ret->network_offset = offset;
	if (ret->ethertype == PACKET_TYPE_IPV4)
		end = packet_parse_ipv4(source, offset, ret);
	else if (ret->ethertype == PACKET_TYPE_IPV6)
		end = packet_parse_ipv6(source, offset, ret);
	if (!end) {
		ret->length = packet_source_length(source);
		return -1;
	}
	if (!ret->transport_offset)
		return 0;
	if (ret->protocol == PACKET_NEXT_TCP)
		packet_parse_tcp(source, end, ret);
	else if (ret->protocol == PACKET_NEXT_UDP)
		packet_parse_udp(source, end, ret);
	return 0;
}

#endif
