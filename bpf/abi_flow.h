/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * Flows on an interface: what is in the maps of bpf/flow.bpf.c.
 *
 * Rows and histograms are by device and by slot of the peer table, element
 * device * slots + slot, in memory that the agent reads without a system call. A
 * peer's two slots, client and server elsewhere, are here its two directions; its RTT
 * histogram, which has none, takes the place of both: an element is half of one.
 *
 * A conversation is a TCP connection as a device sees it, both directions in one
 * entry, the lower address first. It remembers per direction the one segment whose
 * acknowledgement is awaited; see bpf/flow_rtt.bpf.h for the rules.
 */
#ifndef NETSONDE_ABI_FLOW_H
#define NETSONDE_ABI_FLOW_H
#include "abi.h"

#define FLOW_DEVICES_MAX 16

/* As the packet goes; the number is added to the peer's first slot. */
enum flow_direction { FLOW_RECEIVE, FLOW_TRANSMIT, FLOW_DIRECTION_COUNT };
_Static_assert((int)FLOW_DIRECTION_COUNT == (int)ROLE_COUNT, "a direction takes a role's slot");

enum flow_protocol {
	FLOW_TCP,
	FLOW_UDP,
	FLOW_ICMP,  /* of both families */
	FLOW_OTHER, /* another one, or one that could not be read */
	FLOW_PROTOCOL_COUNT
};

enum flow_lost {
	FLOW_LOST_CONVERSATION, /* the map was full: no RTT from this segment on, until there is room */
	FLOW_LOST_DEVICE,       /* a packet of an interface that is none of ours: it was moved to another namespace */
	FLOW_LOST_COUNT
};

struct flow_row {
	struct row_head head;
	__abi_u64 bytes[FLOW_PROTOCOL_COUNT]; /* IP packets: header and payload */
	__abi_u64 packets[FLOW_PROTOCOL_COUNT];
};
_Static_assert(sizeof(struct flow_row) == 88, "no padding");

/* Of a pair of slots. */
struct flow_hist {
	__abi_u64 sum_ns;
	__abi_u64 count;
	__abi_u64 buckets[HIST_BUCKETS];
};
_Static_assert(sizeof(struct flow_hist) == 8 * (2 + HIST_BUCKETS), "no padding");
#define FLOW_HIST_HALF (sizeof(struct flow_hist) / ROLE_COUNT)
_Static_assert(sizeof(struct flow_hist) % (8 * ROLE_COUNT) == 0, "the halves are whole words");

struct flow_key {
	struct peer_address address[2]; /* the lower one first, as numbers */
	__abi_u16 port[2];
	__abi_u16 device;               /* index */
	__abi_u16 vlan;                 /* a router on a stick sends on the device where it received, with another tag */
};
_Static_assert(sizeof(struct flow_key) == 40, "no padding");

/* In flow_half.expects, above the value in the low 32 bits. */
#define FLOW_EXPECTS_STAMP (1ULL << 32)    /* the echo of this timestamp */
#define FLOW_EXPECTS_SEQUENCE (2ULL << 32) /* an acknowledgement of at least this sequence number */

/* In flow_half.known: that the field of the name was set. */
#define FLOW_KNOWN_STAMP 1
#define FLOW_KNOWN_SEQUENCE 2

/* One direction. */
struct flow_half {
	__abi_u64 sent_ns;       /* when the awaited segment was sighted; FLOW_NOTHING, FLOW_BUSY */
	__abi_u64 expects;
	__abi_u32 stamp;         /* newest timestamp sighted */
	__abi_u32 sequence_end;  /* highest sequence number sighted, behind the segment */
	__abi_u32 known;
	__abi_u32 reserved;
};
#define FLOW_NOTHING 0
#define FLOW_BUSY 1 /* one processor is just writing `expects` */

/* In flow_conversation.state, shifted by the direction. */
#define FLOW_SEEN 1   /* a segment of that direction */
#define FLOW_CLOSED 4 /* its FIN */
#define FLOW_SEEN_BOTH (3 * FLOW_SEEN)
#define FLOW_CLOSED_BOTH (3 * FLOW_CLOSED)

struct flow_conversation {
	struct flow_half half[2]; /* of what address[0] sends, of what address[1] sends */
	__abi_u32 epoch;          /* of the last segment; the agent counts epochs, about one per second */
	__abi_u32 state;
};
_Static_assert(sizeof(struct flow_conversation) == 72, "no padding");

#endif
