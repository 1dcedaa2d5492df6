/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/* UDP: what bpf/udp.bpf.c counts of a peer, in the first of its slots. */
#ifndef NETSONDE_ABI_UDP_H
#define NETSONDE_ABI_UDP_H
#include "abi.h"

struct udp_row {
	struct row_head head; /* sockets stays 0: no socket remembers a slot */
	__abi_u64 sent_bytes, received_bytes; /* payload */
	__abi_u64 sent_datagrams, received_datagrams;
	__abi_u64 receive_drops; /* datagrams of those received that found the socket's buffer full */
};
_Static_assert(sizeof(struct udp_row) == 64, "one cache line");

enum udp_lost {
	UDP_LOST_DATAGRAM, /* headers that could not be read: not counted anywhere */
	UDP_LOST_COUNT
};

#endif
