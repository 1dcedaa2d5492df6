// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * probe_xdp for one network card, with the card's own time of answers (XDP metadata, Linux 6.3). An object of its own:
 * it must be loaded for a device, and where the kernel lacks the function that it calls it does not load at all. Its
 * maps and variables are those of probe.bpf.c, whose files it includes in the same order; only probe_cards is its own.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include "abi_probe.h"
#include "probe_find.bpf.h"
#include "probe_card.h"

#define PROBE_REFINE_OWN
static __always_inline void probe_refine(void *ctx, struct probe_answer *answer);
#include "probe_receive.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The driver's; where it has none the kernel's, which says so. */
extern int bpf_xdp_metadata_rx_timestamp(const struct xdp_md *ctx, __u64 *timestamp) __ksym;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct probe_card);
} probe_cards SEC(".maps");

static __always_inline void probe_refine(void *ctx, struct probe_answer *answer)
{
	__u64 stamp = 0, received;
	__u32 zero = 0;
	const struct probe_card *card = bpf_map_lookup_elem(&probe_cards, &zero);

	if (!has_tai || !card || !PROBE_READ(card->until_ns) || bpf_xdp_metadata_rx_timestamp(ctx, &stamp))
		return;
	received = probe_hardware_time(card, bpf_ktime_get_ns(), bpf_ktime_get_tai_ns(), stamp);
	if (!received)
		return;
	answer->received_ns = received;
	answer->clock = PROBE_CLOCK_HARDWARE;
}

/* Also for packets in fragments, where the loader's flags say so. */
SEC("xdp")
int probe_xdp_hardware(struct xdp_md *ctx)
{
	return probe_receive_packet(ctx, PROBE_AT_XDP, PROBE_CLOCK_XDP);
}
