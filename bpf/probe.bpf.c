// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * Active probing at an interface: when our probes leave (probe_send.bpf.h), when their answers come in
 * (probe_receive.bpf.h), and answering the probes of others (probe_reflect.bpf.h). See abi_probe.h for what is shared
 * with user space.
 *
 * One program per place, the best that the interface allows: the driver (XDP), the stack's XDP, tc (tcx), or the filter
 * of a packet socket, which sees both directions and can neither drop nor send. All let every packet that is not ours
 * go on.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include "abi_probe.h"
#include "probe_find.bpf.h"
#include "probe_receive.bpf.h"
#include "probe_send.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* "frags": also where packets do not fit one page; otherwise the device's MTU would be limited. */
SEC("xdp.frags")
int probe_xdp(struct xdp_md *ctx)
{
	return probe_receive_packet(ctx, PROBE_AT_XDP, PROBE_CLOCK_XDP);
}

SEC("xdp.frags")
int probe_xdp_generic(struct xdp_md *ctx)
{
	return probe_receive_packet(ctx, PROBE_AT_XDP, PROBE_CLOCK_XDP_GENERIC);
}

SEC("tc")
int probe_receive(struct __sk_buff *skb)
{
	return probe_receive_packet(skb, PROBE_AT_SKB, PROBE_CLOCK_TC);
}

SEC("tc")
int probe_send(struct __sk_buff *skb)
{
	probe_send_packet(skb);
	return TCX_NEXT;
}

/*
 * The filter of a packet socket sees every packet of both directions and wants none of it. Before Linux 6.8 it may have 20480
 * bytes (net.core.optmem_max), 2,550 instructions.
 */
SEC("socket")
int probe_socket(struct __sk_buff *skb)
{
	const struct probe_device_entry *device = probe_device_of(skb->ifindex);

	if (!device)
		return 0;
	if (skb->pkt_type == PACKET_OUTGOING) {
		probe_send_unusual(skb, device->is_ip);
		return 0;
	}
	probe_receive_parsed_socket(skb, device->is_ip);
	probe_count_packet(device, PROBE_PASS);
	return 0;
}

/* Beside XDP, which has judged what comes in. */
SEC("socket")
int probe_socket_send(struct __sk_buff *skb)
{
	const struct probe_device_entry *device = probe_device_of(skb->ifindex);

	if (device && skb->pkt_type == PACKET_OUTGOING)
		probe_send_unusual(skb, device->is_ip);
	return 0;
}
