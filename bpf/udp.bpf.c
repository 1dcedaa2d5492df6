// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * UDP by peer, from the packets of all UDP sockets at the root of cgroup v2.
 *
 * - udp_egress sees a datagram before it is fragmented and a UDP_SEGMENT batch before
 *   it is cut; udp_ingress one behind reassembly, a GRO batch as the socket gets it.
 *   Both run for every packet of every socket, so what is no UDP leaves at the first look.
 * - udp_ingress comes before the socket's receive buffer: what does not fit there is
 *   in received, and udp_drop counts it again as dropped.
 *
 * A connected socket's peer is the address that it is connected to, also where
 * address translation sends its packets elsewhere, and so the same in both directions.
 * Only sockets of type datagram: a raw socket gets copies.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "abi_udp.h"
#include "parse.h"
#include "peer.bpf.h"
#include "scope.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define PASS 1
#define UDP_HEADER 8

/* The size is set by the agent before it loads the object. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct udp_row);
} rows SEC(".maps");

__u64 lost[UDP_LOST_COUNT];

static __always_inline struct udp_row *row_of(__u32 slot)
{
	struct udp_row *row = bpf_map_lookup_elem(&rows, &slot);

	if (row)
		touch(&row->head);
	return row;
}

static __always_inline void set_ipv4(struct peer_address *address, __be32 from)
{
	address->words[0] = 0;
	address->words[1] = 0;
	address->words[2] = bpf_htonl(0xffff);
	address->words[3] = from;
}

/* The address that the socket is connected to. All fields in any case, and volatile: a verifier allows loads at fixed offsets
 * only, and from two branches a compiler may make one load at a computed offset. */
static __always_inline void connected_to(const volatile struct bpf_sock *sk, struct peer_address *address)
{
	__u32 family = sk->family, ipv4 = sk->dst_ip4;

	address->words[0] = sk->dst_ip6[0];
	address->words[1] = sk->dst_ip6[1];
	address->words[2] = sk->dst_ip6[2];
	address->words[3] = sk->dst_ip6[3];
	if (family == AF_INET)
		set_ipv4(address, ipv4);
}

/* Where the UDP header begins behind IPv6 extension headers; 0: there is none. Not static: a function of its own for the
 * verifier too, which follows the parser once and not from each state that its caller may be in. */
__noinline __u32 udp_behind_extensions(struct __sk_buff *skb)
{
	struct packet packet = {};

	if (!packet_parse_ipv6(skb, 0, &packet) || packet.protocol != IPPROTO_UDP)
		return 0;
	return packet.transport_offset;
}

static __always_inline void count(struct __sk_buff *skb, const struct peer_address *address, __u32 header, bool ingress)
{
	__u32 bytes, datagrams = 1, segment = skb->gso_size, slot;
	struct udp_row *row;

	if (!header || header + UDP_HEADER > skb->len) {
		add(&lost[UDP_LOST_DATAGRAM], 1);
		return;
	}
	bytes = skb->len - header - UDP_HEADER;
	if (segment && bytes)
		datagrams = (bytes + segment - 1) / segment;
	slot = slot_of(address, 0);
	row = row_of(slot);
	if (!row)
		return;
	add(ingress ? &row->received_bytes : &row->sent_bytes, bytes);
	add(ingress ? &row->received_datagrams : &row->sent_datagrams, datagrams);
	if (slot == SLOT_OTHER)
		weigh(address, bytes);
}

static __always_inline int on_packet(struct __sk_buff *skb, bool ingress)
{
	const __u8 *data = (const __u8 *)(unsigned long)skb->data, *end = (const __u8 *)(unsigned long)skb->data_end;
	struct peer_address address;
	const struct bpf_sock *sk;
	__u32 header;

	if (data + sizeof(struct packet_ipv4) > end)
		return PASS;
	if (data[0] >> 4 == 4) {
		const struct packet_ipv4 *ip = (const void *)data;

		if (ip->protocol != IPPROTO_UDP)
			return PASS;
		header = (ip->version_words & 15) * 4;
		set_ipv4(&address, ingress ? ip->source : ip->destination);
	} else {
		const struct packet_ipv6 *ip = (const void *)data;

		if (data + sizeof(*ip) > end || ip->next == IPPROTO_TCP || ip->next == PACKET_NEXT_ICMP6)
			return PASS;
		header = ip->next == IPPROTO_UDP ? sizeof(*ip) : 0;
		address = ingress ? ip->source : ip->destination;
	}
	sk = (const struct bpf_sock *)skb->sk;
	if (!sk)
		return PASS;
	sk = bpf_sk_fullsock((struct bpf_sock *)sk);
	if (!sk || sk->type != SOCK_DGRAM || sk->protocol != IPPROTO_UDP || !socket_in_scope(sk))
		return PASS;
	if (!ingress && sk->dst_port)
		connected_to(sk, &address);
	if (!header)
		header = udp_behind_extensions(skb);
	count(skb, &address, header, ingress);
	return PASS;
}

SEC("cgroup_skb/egress")
int udp_egress(struct __sk_buff *skb)
{
	return on_packet(skb, false);
}

SEC("cgroup_skb/ingress")
int udp_ingress(struct __sk_buff *skb)
{
	return on_packet(skb, true);
}

static __always_inline int count_drops(const struct peer_address *address, __u32 datagrams)
{
	struct udp_row *row = row_of(address ? slot_of(address, 0) : SLOT_OTHER);

	if (row)
		add(&row->receive_drops, datagrams);
	return 0;
}

/* The sender, from the IP header in front of the data. */
static __always_inline bool sender_of(const struct sk_buff *skb, struct peer_address *address)
{
	const unsigned char *ip = skb->head + skb->network_header;
	struct packet_ipv4 v4;
	struct packet_ipv6 v6;

	if (bpf_probe_read_kernel(&v4, sizeof(v4), ip))
		return false;
	if (v4.version_words >> 4 == 4) {
		set_ipv4(address, v4.source);
		return true;
	}
	if (bpf_probe_read_kernel(&v6, sizeof(v6), ip))
		return false;
	*address = v6.source;
	return true;
}

/* Of a GRO batch, all in it. The UDP header has been taken off. */
static __always_inline __u32 datagrams_in(const struct sk_buff *skb)
{
	const struct skb_shared_info *shared = (const void *)(skb->head + skb->end);
	__u16 segment;

	if (bpf_core_read(&segment, sizeof(segment), &shared->gso_size) || !segment || !skb->len)
		return 1;
	return (skb->len + segment - 1) / segment;
}

SEC("tp_btf/udp_fail_queue_rcv_skb")
int BPF_PROG(udp_drop, int rc, struct sock *sk, struct sk_buff *skb)
{
	struct peer_address address;

	if (!in_scope(&sk->__sk_common))
		return 0;
	return count_drops(sender_of(skb, &address) ? &address : NULL, datagrams_in(skb));
}

/* Before Linux 6.10 the tracepoint does not tell the packet: only a connected socket knows who sent it. */
SEC("tp_btf/udp_fail_queue_rcv_skb")
int BPF_PROG(udp_drop_no_packet, int rc, struct sock *sk)
{
	struct peer_address address;

	if (!in_scope(&sk->__sk_common))
		return 0;
	if (!sk->__sk_common.skc_dport)
		return count_drops(NULL, 1);
	peer_address_of(&sk->__sk_common, &address);
	return count_drops(&address, 1);
}
