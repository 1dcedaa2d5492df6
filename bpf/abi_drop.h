/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * Dropped packets: what is in the maps of bpf/drop.bpf.c.
 *
 * Counters are a table of rows, one row per reason and in it one counter per
 * protocol, in memory that the agent reads without a system call. There is one such
 * table per shard, and a processor adds to the shard of its number, so that a flood
 * on many processors does not fight for one cache line. A sum over the shards is
 * exact: the programs add atomically, nobody else writes.
 *
 * Rows of a table, by the kernel's reason: first the core reasons by their number,
 * then DROP_SUBSYSTEM_ROWS for each subsystem (upper 16 bits of the reason), then one
 * for every reason that has no row of its own.
 */
#ifndef NETSONDE_ABI_DROP_H
#define NETSONDE_ABI_DROP_H
#include "abi.h"

/* Of the packet itself; what carries no network packet (unix sockets, netlink) is DROP_NONE. */
enum drop_protocol {
	DROP_TCP,
	DROP_UDP,
	DROP_ICMP,
	DROP_ICMPV6,
	DROP_OTHER_IP, /* another protocol over IP, or an IP header that could not be read */
	DROP_ARP,
	DROP_OTHER,    /* another protocol over Ethernet */
	DROP_NONE,
	DROP_PROTOCOL_COUNT
};

#define DROP_SHARDS_MAX 16
#define DROP_CORE_ROWS_MAX 1024
#define DROP_SUBSYSTEMS_MAX 15
#define DROP_SUBSYSTEM_ROWS 128 /* per subsystem; mac80211, the largest, has about 60 reasons */
#define DROP_REASON_NONE 0xffffffffU /* no reason of the kernel's has this number */

struct drop_row {
	__abi_u64 packets[DROP_PROTOCOL_COUNT];
};
_Static_assert(sizeof(struct drop_row) == 64, "a cache line");

/* Where we drop packets ourselves by XDP: the number of an interface says nothing without its namespace. */
#define DROP_OWN_XDP_MAX 256

struct drop_device {
	__abi_u32 netns; /* inode number */
	__abi_u32 ifindex;
};
_Static_assert(sizeof(struct drop_device) == 8, "key of own_xdp_devices");

#endif
