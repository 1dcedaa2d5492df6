/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * Flows on an interface: every packet that it receives or transmits, by peer,
 * protocol and direction, and the round-trip time of the TCP connections that pass by
 * (flow_rtt.bpf.h). For gateways and mirror ports, whose hosts run no agent. Two
 * programs at tcx, or one as the filter of a packet socket where there is no tcx; both
 * let every packet go its way.
 *
 * The peer is the host behind the device: the source of what it receives, the
 * destination of what it transmits. Counted are IP packets as they are on the wire,
 * header and payload, without what carries them (the octets of NetFlow and IPFIX). The
 * kernel hands over many segments as one packet (GSO, GRO): they are counted as
 * gso_segs packets, each with the headers of the one, from IP to TCP or UDP. That is
 * exact for plain TCP and UDP; in a tunnel the inner headers of all but one
 * segment are missing. Fragments count by their bytes, with the protocol they carry.
 * A device that reaches us with its VLAN tags counts what is in them.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include "abi_flow.h"
#include "flow_rtt.bpf.h"
#include "parse.h"
#include "peer.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define GO_ON (-1) /* TC_ACT_UNSPEC, TCX_NEXT: to the next program, as if this one were not there */

/* Sizes are set by the agent before it loads the object. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct flow_row);
} flow_rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_hist);
} flow_hists SEC(".maps");

/* Set by the agent before it loads the object. */
const volatile __u32 slots_per_device = ROLE_COUNT;
const volatile __u32 device_count;
const volatile __u32 device_index[FLOW_DEVICES_MAX]; /* the kernel's */
const volatile __u8 device_is_ip[FLOW_DEVICES_MAX];  /* packets begin with the IP header: tun, ppp, wireguard */

__u64 lost[FLOW_LOST_COUNT];

static __always_inline void lose(enum flow_lost what)
{
	__sync_fetch_and_add(&lost[what], 1);
}

static __always_inline __u32 device_of(__u32 ifindex, enum packet_start *ret_start)
{
	__u32 device = FLOW_DEVICES_MAX;

	for (__u32 i = 0; i < FLOW_DEVICES_MAX; i++) {
		if (i < device_count && device_index[i] == ifindex) {
			device = i;
			*ret_start = device_is_ip[i] ? PACKET_IP : PACKET_ETHERNET;
			break;
		}
	}
	return packet_forget(device);
}

/* How many packets on the wire, and their bytes. */
static __always_inline __u32 wire_packets(struct __sk_buff *skb, const struct packet *p, __u64 *ret_bytes)
{
	__u32 segments = skb->gso_segs, size = skb->gso_size, headers;

	/* What comes from a guest or a TAP device is not counted yet. */
	if (!segments && size)
		segments = (p->payload_length + size - 1) / size;
	if (segments < 2) {
		*ret_bytes = p->length;
		return 1;
	}
	headers = (p->payload_offset ? p->payload_offset : p->transport_offset) - p->network_offset;
	if (!p->transport_offset)
		headers = 0;
	*ret_bytes = p->length + (__u64)(segments - 1) * headers;
	return segments;
}

static __always_inline enum flow_protocol protocol_of(const struct packet *p)
{
	switch (p->protocol) {
	case PACKET_NEXT_TCP: return FLOW_TCP;
	case PACKET_NEXT_UDP: return FLOW_UDP;
	case PACKET_NEXT_ICMP: return p->ethertype == PACKET_TYPE_IPV4 ? FLOW_ICMP : FLOW_OTHER;
	case PACKET_NEXT_ICMP6: return p->ethertype == PACKET_TYPE_IPV6 ? FLOW_ICMP : FLOW_OTHER;
	default: return FLOW_OTHER;
	}
}

static __always_inline struct flow_row *row_of(__u32 device, __u32 slot)
{
	__u32 index = device * slots_per_device + slot;
	struct flow_row *row = bpf_map_lookup_elem(&flow_rows, &index);

	if (row)
		touch(&row->head);
	return row;
}

static __always_inline void count(struct __sk_buff *skb, const struct packet *p, __u32 device, enum flow_direction direction)
{
	const struct peer_address *peer = direction == FLOW_RECEIVE ? &p->source : &p->destination;
	__u32 protocol = protocol_of(p), slot = slot_of(peer, direction), packets;
	struct flow_row *row = row_of(device, slot);
	__u64 bytes;

	packets = wire_packets(skb, p, &bytes);
	if (slot < SLOT_OTHER + FLOW_DIRECTION_COUNT)
		weigh(peer, bytes);
	/* The verifier must see the bound on the very register that indexes. */
	asm volatile("" : "+r"(protocol));
	if (!row || protocol >= FLOW_PROTOCOL_COUNT)
		return;
	add(&row->bytes[protocol], bytes);
	add(&row->packets[protocol], packets);
}

static __always_inline void observe(const struct peer_address *peer, __u32 device, __u64 ns)
{
	__u32 slot = slot_of(peer, FLOW_RECEIVE), bucket = hist_bucket(ns);
	__u32 index = (device * slots_per_device + slot) / FLOW_DIRECTION_COUNT;
	struct flow_hist *h = bpf_map_lookup_elem(&flow_hists, &index);

	/* The row says that the slot is in use. */
	row_of(device, slot);
	asm volatile("" : "+r"(bucket));
	if (!h || bucket >= HIST_BUCKETS)
		return;
	add(&h->buckets[bucket], 1);
	add(&h->sum_ns, ns);
	add(&h->count, 1);
}

/*
 * A global function, which the verifier follows once and for itself: inlined, every way through the parser would be followed
 * through all that comes behind it (231,000 instructions instead of 20,000).
 */
__noinline int flow_parse(struct __sk_buff *skb, __u32 start, struct packet *ret)
{
	return ret ? packet_parse(skb, 0, start, ret) : -1;
}

static __always_inline void flow(struct __sk_buff *skb, enum flow_direction direction)
{
	enum packet_start start = PACKET_ETHERNET;
	__u32 device = device_of(skb->ifindex, &start), vlan;
	bool full = false;
	struct packet p = { 0 };
	__u64 rtt;

	if (device >= device_count) {
		lose(FLOW_LOST_DEVICE);
		return;
	}
	if (flow_parse(skb, start, &p))
		return;
	count(skb, &p, device, direction);
	/* Without payload_offset it has no whole TCP header; what a fragment carries is known only when it is put together. */
	if (p.protocol != PACKET_NEXT_TCP || !p.payload_offset || p.flags & PACKET_FRAGMENT)
		return;
	vlan = p.vlans ? p.vlan : skb->vlan_present ? skb->vlan_tci & 0xfff : 0;
	rtt = follow(&p, device, vlan, &full);
	if (rtt)
		observe(&p.source, device, rtt);
	if (full)
		lose(FLOW_LOST_CONVERSATION);
}

SEC("tc")
int flow_receive(struct __sk_buff *skb)
{
	flow(skb, FLOW_RECEIVE);
	return GO_ON;
}

SEC("tc")
int flow_transmit(struct __sk_buff *skb)
{
	flow(skb, FLOW_TRANSMIT);
	return GO_ON;
}

/* A packet socket sees both directions, and wants nothing of the packet. */
SEC("socket")
int flow_packet(struct __sk_buff *skb)
{
	flow(skb, skb->pkt_type == PACKET_OUTGOING ? FLOW_TRANSMIT : FLOW_RECEIVE);
	return 0;
}
