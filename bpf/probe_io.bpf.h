/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * Bytes of a packet, and sending it back, for code that runs both in XDP and in tc. `at` is a constant wherever it is
 * used, so only one branch remains.
 */
#ifndef NETSONDE_PROBE_IO_BPF_H
#define NETSONDE_PROBE_IO_BPF_H
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include "abi.h"

enum probe_at { PROBE_AT_XDP, PROBE_AT_SKB };

/* 0, or negative when not all of it is there. len is a constant. */
static __always_inline int probe_load(void *ctx, enum probe_at at, __u32 offset, void *to, __u32 len)
{
	return at == PROBE_AT_XDP ? (int)bpf_xdp_load_bytes(ctx, offset, to, len)
				  : (int)bpf_skb_load_bytes(ctx, offset, to, len);
}

/* In tc the checksum that the kernel keeps beside the packet (CHECKSUM_COMPLETE) follows. */
static __always_inline int probe_store(void *ctx, enum probe_at at, __u32 offset, const void *from, __u32 len)
{
	return at == PROBE_AT_XDP ? (int)bpf_xdp_store_bytes(ctx, offset, (void *)from, len)
				  : (int)bpf_skb_store_bytes(ctx, offset, from, len, BPF_F_RECOMPUTE_CSUM);
}

/* The whole packet's length, with its fragments' pages. */
static __always_inline __u32 probe_length(void *ctx, enum probe_at at)
{
	return at == PROBE_AT_XDP ? (__u32)bpf_xdp_get_buff_len(ctx) : ((struct __sk_buff *)ctx)->len;
}

/* Cuts the packet's end off; length is not more than it has. Pointers into the packet are void then. */
static __always_inline int probe_cut(void *ctx, enum probe_at at, __u32 length)
{
	return at == PROBE_AT_XDP ? (int)bpf_xdp_adjust_tail(ctx, (int)(length - probe_length(ctx, at))) :
				    (int)bpf_skb_change_tail(ctx, length, 0);
}

/* ---- what a program returns ---- */

/* To whatever comes next, as if we were not there. */
static __always_inline int probe_pass(enum probe_at at)
{
	return at == PROBE_AT_XDP ? XDP_PASS : TCX_NEXT;
}

static __always_inline int probe_drop(enum probe_at at)
{
	return at == PROBE_AT_XDP ? XDP_DROP : TCX_DROP;
}

/* Out of the device that it came in by. */
static __always_inline int probe_transmit(void *ctx, enum probe_at at)
{
	return at == PROBE_AT_XDP ? XDP_TX : (int)bpf_redirect(((struct __sk_buff *)ctx)->ifindex, 0);
}

/* Exchanges the Ethernet addresses. Nothing to do on devices without a link header. */
static __always_inline int probe_swap_link(void *ctx, enum probe_at at, __u32 link_length)
{
	__u16 from[6], to[6];

	if (!link_length)
		return 0;
	if (probe_load(ctx, at, 0, from, sizeof(from)))
		return -1;
	for (int i = 0; i < 3; i++) {
		to[i] = from[i + 3];
		to[i + 3] = from[i];
	}
	return probe_store(ctx, at, 0, to, sizeof(to));
}

/*
 * In tc: is the packet's transport checksum only begun (CHECKSUM_PARTIAL), to be finished by whoever sends it: a local
 * sender's over veth, a virtual machine's? What is sent back then needs the pseudo header's sum in its place. No
 * program may see it, but bpf_l4_csum_replace leaves such a checksum alone when other bytes than the pseudo header
 * changed. at: where the checksum is. Destroys it. In XDP nothing is partial.
 */
static __always_inline bool probe_checksum_partial(struct __sk_buff *skb, __u32 offset)
{
	__u16 before = 0x1234, behind;

	if (bpf_skb_store_bytes(skb, offset, &before, sizeof(before), 0) || bpf_l4_csum_replace(skb, offset, 0, 1, 0) ||
	    bpf_skb_load_bytes(skb, offset, &behind, sizeof(behind)))
		return false;
	return behind == before;
}

/* Where a recognised packet's parts are, from the frame's beginning. */
struct probe_packet {
	struct peer_address source, destination; /* IPv4 as mapped */
	__u32 link_length;               /* Ethernet with its tags: where IP begins; 0 on devices without a link header */
	__u32 transport, payload;        /* offsets; the IP header has 20 or 40 bytes unless there are options */
	__u32 payload_length;            /* as the headers say, and never more than there is */
	__u16 source_port, destination_port; /* host order; 0 for ICMP */
	__u8 v6, protocol, ttl, tcp_flags; /* protocol: IPPROTO_*, 58 is ICMPv6 */
	__u8 icmp_type, icmp_code;
	__u16 icmp_id, icmp_sequence;    /* host order */
	__u8 service;                    /* DSCP and ECN */
	__u8 clock;                      /* enum probe_clock: which hook it is in */
	__u32 tcp_sequence, tcp_acknowledgement; /* host order */
	__u32 ifindex;
};

#endif
