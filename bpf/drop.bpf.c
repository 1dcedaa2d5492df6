// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * Dropped packets by the kernel's reason and by protocol, at the tracepoint
 * kfree_skb; the newest ones as events. Packets that reached their goal leave by
 * another tracepoint (consume_skb), so what comes here is lost, but for this noise,
 * which is_noise keeps out:
 * - Answers to our own probes: at tc by their mark (OWN_DROP_MARK), in XDP by the device (own_xdp_devices). The kernel's reason "xdp" is for
 *   packets that could not be redirected; XDP_DROP itself is "not specified".
 * - TCP's housekeeping. The kernel frees with "not specified" or, later, "queue
 *   purge", what it has acted upon: the last ACK of a close, a FIN in TIME_WAIT, a FIN
 *   that lies in the queue of a socket being closed. One per connection, seen on 6.1
 *   to 7.3. Only segments without data whose ACK was taken; from tcp_v4_rcv and from a
 *   purge only those with a FIN: the former also frees the ACK of a handshake that
 *   finds the listener's queue full (older kernels give no other reason), the latter
 *   what waited in anybody's queue.
 * - ICMPv6 errors and neighbour discovery on kernels before the latter's own reasons
 *   (6.3): icmpv6_rcv freed every such message so, also those it had acted upon. One
 *   from beyond the link, which it refuses (RFC 4861, section 7.1), is a drop; that a
 *   checksum is wrong cannot be seen here.
 *
 * Which function freed a packet is known by its address only. To tell the few that
 * matter, an address is turned into a name at its first sight and remembered.
 *
 * Packets here may be in any state: not yet parsed, half torn down, in a queue that
 * uses their fields for something else (skb->dev is one: TCP's trees and UDP's
 * queues overlay it). So offsets are checked against the buffer, headers by their
 * version, devices by their namespace's number, and all reads are ones that may fail.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "abi_drop.h"
#include "event.bpf.h"
#include "scope.bpf.h"

/* The parser's view of a packet: its linear bytes from the network header on. */
#define PACKET_SOURCE_OWN
typedef const struct linear_bytes {
	const unsigned char *data;
	__u32 len;    /* readable */
	__u32 packet; /* of the whole packet */
} packet_source;

static __always_inline int packet_load(packet_source *source, __u32 offset, void *to, __u32 len)
{
	if (offset > source->len || len > source->len - offset)
		return -1;
	return (int)bpf_probe_read_kernel(to, len, source->data + offset);
}

static __always_inline __u32 packet_source_length(packet_source *source)
{
	return source->packet;
}

#include "parse.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* What this kernel's tracepoint tells: (skb, location) + reason (5.17) + rx_sk (6.11). */
const volatile bool has_reason, has_socket;
const volatile bool can_name; /* bpf_snprintf (5.13): events, and noise by function */
const volatile bool tell;     /* events */
const volatile bool icmp6_untold; /* icmpv6_rcv has no reasons of its own */
/* Numbers of this kernel, from its BTF; DROP_REASON_NONE for what it does not have. */
const volatile __u32 reason_consumed = DROP_REASON_NONE, reason_unspecified = DROP_REASON_NONE;
const volatile __u32 reason_purged = DROP_REASON_NONE, reason_xdp = DROP_REASON_NONE;
const volatile __u32 reason_tc_ingress = DROP_REASON_NONE;
/* The table's shape, see abi_drop.h. */
const volatile __u32 core_rows, subsystems, table_rows = 1, shard_mask;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* the agent says how many */
	__type(key, __u32);
	__type(value, struct drop_row);
} drops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DROP_OWN_XDP_MAX);
	__type(key, struct drop_device);
	__type(value, __u8);
} own_xdp_devices SEC(".maps");

/* Functions that free packets without a reason of their own, by address. A few dozen in a kernel; when it is full, a
 * new one is looked up each time. */
enum place { PLACE_OTHER, PLACE_TCP_STATE, PLACE_TCP_ENTRY, PLACE_ICMPV6, PLACE_XDP };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__type(key, __u64);
	__type(value, __u32); /* enum place */
} places SEC(".maps");

__u64 kept_out; /* noise, for the tests */

enum { ETHERTYPE_ARP = 0x0806 }; /* the others are the parser's */
/* RFC 4443: unreachable to parameter problem; RFC 4861: router solicitation to redirect. */
enum { ICMP6_ERROR_FIRST = 1, ICMP6_ERROR_LAST = 4, NDISC_FIRST = 133, NDISC_LAST = 137 };
enum { HOP_LIMIT_OFFSET = 7 }; /* in the IPv6 header */

#define FUNCTION_NAME_MAX sizeof(((struct event *)0)->text)

static const char function_format[] = "%ps";

static __always_inline void name_function(__u64 address, char *name)
{
	__u64 arguments[1] = { address };

	bpf_snprintf(name, FUNCTION_NAME_MAX, function_format, arguments, sizeof(arguments));
}

/* Is it "tcp_v4_rcv", or a compiler's variant of it ("tcp_v4_rcv.part.0"), or a module's ("veth_xmit [veth]")? */
static __always_inline bool is_function(const char *name, const char *wanted, int len)
{
	for (int i = 0; i < len; i++)
		if (name[i] != wanted[i])
			return false;
	return !name[len] || name[len] == '.' || name[len] == ' ';
}
#define IS_FUNCTION(name, literal) is_function(name, literal, sizeof(literal) - 1)

/* Not static: see parse. */
__noinline __u32 place_of(__u64 location)
{
	char name[FUNCTION_NAME_MAX] = {};
	__u32 *known, place = PLACE_OTHER;

	if (!can_name)
		return PLACE_OTHER;
	known = bpf_map_lookup_elem(&places, &location);
	if (known)
		return *known;
	name_function(location, name);
	if (IS_FUNCTION(name, "tcp_rcv_state_process"))
		place = PLACE_TCP_STATE;
	else if (IS_FUNCTION(name, "tcp_v4_rcv") || IS_FUNCTION(name, "tcp_v6_rcv") || IS_FUNCTION(name, "sk_stream_kill_queues"))
		place = PLACE_TCP_ENTRY;
	else if (IS_FUNCTION(name, "icmpv6_rcv"))
		place = PLACE_ICMPV6;
	else if (IS_FUNCTION(name, "do_xdp_generic") || IS_FUNCTION(name, "netif_receive_generic_xdp") ||
		 IS_FUNCTION(name, "veth_xdp_rcv_skb"))
		place = PLACE_XDP;
	bpf_map_update_elem(&places, &location, &place, BPF_ANY);
	return place;
}

/* What is linear from `offset` of the buffer on; false when nothing is. */
static __always_inline bool bytes_from(const struct sk_buff *skb, __u32 offset, struct linear_bytes *bytes)
{
	const unsigned char *head = skb->head;
	__u32 tail = skb->tail, data = (__u32)((__u64)skb->data - (__u64)head), end = data + skb->len;

	if (!head || offset >= tail)
		return false;
	bytes->data = head + offset;
	bytes->len = tail - offset;
	bytes->packet = end > offset ? end - offset : 0;
	return true;
}

/* The first bytes of both IP headers, as far as they say what follows. */
struct ip_start {
	__u8 version, reserved[5];
	__u8 next6; /* IPv6: next header */
	__u8 reserved2[2];
	__u8 protocol4; /* IPv4: protocol */
};

/* Finds the IP header, where the kernel says that it is, or where it would be next. Returns the IP version, or 0. */
static __always_inline int find_ip(const struct sk_buff *skb, struct linear_bytes *bytes, struct ip_start *start)
{
	__u32 network = skb->network_header;

	/* A fresh buffer has 0 here. */
	if (network && bytes_from(skb, network, bytes) && !packet_load(bytes, 0, start, sizeof(*start)) &&
	    (start->version >> 4 == 4 || start->version >> 4 == 6))
		return start->version >> 4;
	network = (__u32)((__u64)skb->data - (__u64)skb->head);
	if (bytes_from(skb, network, bytes) && !packet_load(bytes, 0, start, sizeof(*start)) &&
	    (start->version >> 4 == 4 || start->version >> 4 == 6))
		return start->version >> 4;
	return 0;
}

/* Not static, so that the verifier goes through the parser once and not at each call: 0.1 instead of 0.5 s at start.
 * It must be given memory that is initialized. */
__noinline int parse(const struct linear_bytes *bytes, struct packet *packet)
{
	if (!bytes || !packet)
		return -1;
	return packet_parse(bytes, 0, PACKET_IP, packet);
}

static __always_inline enum drop_protocol protocol_of_ip(int version, __u8 next)
{
	switch (next) {
	case PACKET_NEXT_TCP: return DROP_TCP;
	case PACKET_NEXT_UDP: return DROP_UDP;
	case PACKET_NEXT_ICMP: return version == 4 ? DROP_ICMP : DROP_OTHER_IP;
	case PACKET_NEXT_ICMP6: return version == 6 ? DROP_ICMPV6 : DROP_OTHER_IP;
	default: return DROP_OTHER_IP;
	}
}

static __always_inline bool is_extension(__u8 next)
{
	return next == PACKET_NEXT_HOP_BY_HOP || next == PACKET_NEXT_ROUTING || next == PACKET_NEXT_FRAGMENT ||
	       next == PACKET_NEXT_AH || next == PACKET_NEXT_DESTINATION || next == PACKET_NEXT_MOBILITY;
}

/* A packet that has no header yet (dropped on its way out of the socket), or that is none. */
static __always_inline enum drop_protocol protocol_of_socket(const struct sk_buff *skb)
{
	const struct sock *sk = skb->sk;
	__u16 family, protocol;
	__u8 state;

	if (!sk)
		return DROP_NONE;
	family = sk->__sk_common.skc_family;
	if (family != AF_INET && family != AF_INET6)
		return DROP_NONE;
	state = sk->__sk_common.skc_state;
	if (state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV) /* no full sockets, and always TCP's */
		return DROP_TCP;
	protocol = sk->sk_protocol;
	return protocol_of_ip(family == AF_INET ? 4 : 6, protocol > 255 ? 255 : (__u8)protocol);
}

struct dropped {
	enum drop_protocol protocol;
	int version; /* of IP; 0: bytes and next mean nothing */
	__u8 next;
	struct linear_bytes bytes;
};

static __always_inline void look_at(const struct sk_buff *skb, struct dropped *d)
{
	__u16 type = bpf_ntohs(skb->protocol);
	struct ip_start start;

	d->version = 0;
	if (type == ETHERTYPE_ARP) {
		d->protocol = DROP_ARP;
		return;
	}
	if (!type) {
		d->protocol = protocol_of_socket(skb);
		return;
	}
	d->protocol = DROP_OTHER;
	if (type != PACKET_TYPE_IPV4 && type != PACKET_TYPE_IPV6 && type != PACKET_TYPE_VLAN && type != PACKET_TYPE_QINQ)
		return;
	if (type == PACKET_TYPE_IPV4 || type == PACKET_TYPE_IPV6)
		d->protocol = DROP_OTHER_IP;
	d->version = find_ip(skb, &d->bytes, &start);
	if (!d->version)
		return;
	d->next = d->version == 4 ? start.protocol4 : start.next6;
	if (d->version == 6 && is_extension(d->next)) {
		struct packet packet = {};

		parse(&d->bytes, &packet);
		d->next = packet.protocol;
	}
	d->protocol = protocol_of_ip(d->version, d->next);
}

/* A segment without data whose ACK, if a function of TCP's frees it, was taken. flags: what it must have beside ACK. */
static __always_inline bool is_bare_ack(const struct dropped *d, __u8 flags)
{
	__u8 wanted = PACKET_ACK | flags;

	if (d->protocol == DROP_TCP && d->version) {
		struct packet packet = {};

		return !parse(&d->bytes, &packet) && packet.payload_offset && !packet.payload_length &&
		       (packet.tcp_flags & (PACKET_SYN | PACKET_RST | wanted)) == wanted;
	}
	return false;
}

static __always_inline bool is_icmp6_for_kernel(const struct dropped *d)
{
	struct { __u8 type, code; } icmp;
	__u8 hops;

	if (d->protocol == DROP_ICMPV6 && d->version) {
		struct packet packet = {};

		if (parse(&d->bytes, &packet) || !packet.transport_offset ||
		    packet_load(&d->bytes, packet.transport_offset, &icmp, sizeof(icmp)) ||
		    packet_load(&d->bytes, HOP_LIMIT_OFFSET, &hops, sizeof(hops)))
			return false;
		return (icmp.type >= ICMP6_ERROR_FIRST && icmp.type <= ICMP6_ERROR_LAST) ||
		       (icmp.type >= NDISC_FIRST && icmp.type <= NDISC_LAST && hops == 255 && !icmp.code);
	}
	return false;
}

static __always_inline __u32 netns_of_device(const struct net_device *dev)
{
	__u32 netns = dev ? dev->nd_net.net->ns.inum : 0;

	/* The kernel numbers its namespaces from here on (PROC_DYNAMIC_FIRST, and a few fixed ones below it). Another
	 * structure at this address has something else there. */
	return netns >= 0xefffff00U && netns < 0xf1000000U ? netns : 0;
}

static __always_inline bool place_in_scope(const struct sk_buff *skb, const struct sock *receiver)
{
	const struct sock *sk = receiver ? receiver : skb->sk;
	__u32 netns = only_netns ? netns_of_device(skb->dev) : 0;

	if (only_netns && !netns && sk)
		netns = sk->__sk_common.skc_net.net->ns.inum;
	return netns == only_netns;
}

static __always_inline bool is_own_xdp(const struct sk_buff *skb)
{
	const struct net_device *dev = skb->dev;
	struct drop_device key = {};

	key.netns = netns_of_device(dev);
	if (!key.netns)
		return false;
	key.ifindex = (__u32)dev->ifindex;
	return bpf_map_lookup_elem(&own_xdp_devices, &key);
}

static __always_inline bool is_noise(const struct sk_buff *skb, __u64 location, __u32 reason, const struct dropped *d)
{
	if (!has_reason || reason == reason_unspecified) {
		switch (place_of(location)) {
		case PLACE_TCP_STATE: return is_bare_ack(d, 0);
		case PLACE_TCP_ENTRY: return is_bare_ack(d, PACKET_FIN);
		case PLACE_ICMPV6: return icmp6_untold && is_icmp6_for_kernel(d);
		case PLACE_XDP: return is_own_xdp(skb);
		default: return false;
		}
	}
	if (reason == reason_purged)
		return is_bare_ack(d, PACKET_FIN);
	if (reason == reason_tc_ingress)
		return skb->mark == OWN_DROP_MARK;
	return reason == reason_xdp && is_own_xdp(skb);
}

static __always_inline void count(__u32 reason, enum drop_protocol protocol)
{
	__u32 low = reason & 0xffff, subsystem = reason >> 16, row = table_rows - 1, column = protocol, key;
	struct drop_row *r;

	if (has_reason && !subsystem && low < core_rows)
		row = low;
	else if (has_reason && subsystem && subsystem <= subsystems && low < DROP_SUBSYSTEM_ROWS)
		row = core_rows + (subsystem - 1) * DROP_SUBSYSTEM_ROWS + low;
	key = (bpf_get_smp_processor_id() & shard_mask) * table_rows + row;
	r = bpf_map_lookup_elem(&drops, &key);
	asm volatile("" : "+r"(column));
	if (r && column < DROP_PROTOCOL_COUNT)
		__sync_fetch_and_add(&r->packets[column], 1);
}

/* The interface: the device that the packet is at, else where it came in. */
static __always_inline void tell_place(const struct sk_buff *skb, const struct sock *receiver, struct event *e)
{
	const struct net_device *dev = skb->dev;
	const struct sock *sk = receiver ? receiver : skb->sk;

	e->netns = netns_of_device(dev);
	e->ifindex = e->netns ? (__u32)dev->ifindex : (__u32)skb->skb_iif;
	if (!e->netns && sk)
		e->netns = sk->__sk_common.skc_net.net->ns.inum;
}

/* Local is the destination of a packet that came from outside, the source of one that a socket of ours sends. */
static __always_inline void tell_addresses(const struct sk_buff *skb, const struct dropped *d, struct event *e)
{
	struct packet packet = {};

	if (!d->version || parse(&d->bytes, &packet))
		return;
	e->protocol = packet.protocol == PACKET_PROTOCOL_UNKNOWN ? 0 : packet.protocol;
	if (!skb->skb_iif && skb->sk) {
		e->local = packet.source;
		e->remote = packet.destination;
		e->local_port = packet.source_port;
		e->remote_port = packet.destination_port;
	} else {
		e->local = packet.destination;
		e->remote = packet.source;
		e->local_port = packet.destination_port;
		e->remote_port = packet.source_port;
	}
}

SEC("tp_btf/kfree_skb")
int drop_packet(unsigned long long *ctx)
{
	const struct sk_buff *skb = (const struct sk_buff *)ctx[0];
	const struct sock *receiver = NULL;
	__u32 reason = DROP_REASON_NONE;
	__u64 location = ctx[1];
	struct dropped d = {};
	struct event *e;

	if (has_reason)
		reason = (__u32)ctx[2];
	if (has_socket)
		receiver = (const struct sock *)ctx[3];
	if ((reason == reason_consumed && has_reason) || !place_in_scope(skb, receiver))
		return 0;
	look_at(skb, &d);
	if (is_noise(skb, location, reason, &d)) {
		__sync_fetch_and_add(&kept_out, 1);
		return 0;
	}
	count(reason, d.protocol);
	if (!can_name || !tell || d.protocol == DROP_NONE)
		return 0;
	e = event_begin(EVENT_DROP);
	if (!e)
		return 0;
	e->code = reason;
	e->role = ROLE_COUNT;
	tell_place(skb, receiver, e);
	tell_addresses(skb, &d, e);
	name_function(location, e->text);
	event_end(e);
	return 0;
}
