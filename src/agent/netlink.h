/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The links of one network namespace, from rtnetlink: two sockets, one that asks
 * and one that is told of changes. Opened once; needs no privileges afterwards.
 *
 * Two kinds of dump: RTM_GETLINK says all about the links and costs 3.4 us per
 * link, RTM_GETSTATS only their counters and costs 0.24 us. So the first is for the start
 * and after lost notifications, the second for every tick; in between, names and
 * states come from the notifications.
 *
 * A dump is not atomic. The kernel marks one during which the list of links
 * changed (NLM_F_DUMP_INTR); it is asked for again, a few times, and counted. A
 * notification queue that overflowed (ENOBUFS) is counted and told to the caller.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NETLINK_NAME_MAX 16 /* IFNAMSIZ */
#define NETLINK_KIND_MAX 24

struct netlink_link {
	int32_t index;
	uint32_t flags;         /* IFF_* of <linux/if.h> */
	uint32_t carrier_downs; /* how often the carrier was lost, as the kernel counts it */
	bool carrier_known;     /* not every message says it (wireless events do not) */
	char name[NETLINK_NAME_MAX]; /* any bytes but 0, '/', ':' and white space */
	char kind[NETLINK_KIND_MAX]; /* "veth", "bridge", ...; "" for hardware, what has no kind, and where the message has it not */
};

struct netlink_counters {
	int32_t index;
	/* Drops: with those that the device counts as missed, as /proc/net/dev has it. */
	uint64_t receive_bytes, receive_packets, receive_errors, receive_drops;
	uint64_t transmit_bytes, transmit_packets, transmit_errors, transmit_drops;
};

enum netlink_type {
	NETLINK_LINK,      /* link: new, or changed */
	NETLINK_LINK_GONE, /* link.index */
	NETLINK_COUNTERS,  /* counters */
	NETLINK_END,       /* of a dump; error: 0 or why it ended early */
	NETLINK_ERROR,     /* the answer to a request that was refused; error */
	NETLINK_OTHER,     /* nothing for us */
};

struct netlink_message {
	enum netlink_type type;
	uint32_t sequence;
	bool interrupted; /* the dump that it belongs to is inconsistent */
	int error;        /* negative errno */
	struct netlink_link link;
	struct netlink_counters counters;
};

/* Takes the first message off *data. 1, 0 when there is none left, -EBADMSG when the rest is none (and is then all taken).
 * Safe with any bytes at any alignment. */
int netlink_next(const void **data, size_t *len, struct netlink_message *ret_message);

#define NETLINK_E_INCONSISTENT 1 /* something may be missing or twice */
#define NETLINK_E_LOST 2         /* changes were lost: ask for all links */
#define NETLINK_E_MORE 3         /* too many at once; call again later */

struct netlink_totals {
	uint64_t repeated;     /* dumps that were asked for again */
	uint64_t inconsistent; /* dumps that were given up on */
	uint64_t overflows;    /* of the notification queue */
	uint64_t malformed;    /* datagrams that were no messages, or cut */
};

struct netlink;

/* In the network namespace of the calling thread; queue_bytes is how much may wait for netlink_changes. */
int netlink_open(size_t queue_bytes, struct netlink **ret_netlink);
void netlink_close(struct netlink *netlink);

/* All links; all counters. In no order, an index once. Borrowed until the next call for the same. 0, NETLINK_E_INCONSISTENT, -errno. */
int netlink_links(struct netlink *netlink, const struct netlink_link **ret_links, size_t *ret_n);
int netlink_counters(struct netlink *netlink, const struct netlink_counters **ret_counters, size_t *ret_n);

/* Each change (NETLINK_LINK, NETLINK_LINK_GONE) since the last call, in order. 0, NETLINK_E_LOST, NETLINK_E_MORE, -errno. */
typedef void (*netlink_change_fn)(const struct netlink_message *message, void *userdata);
int netlink_changes(struct netlink *netlink, netlink_change_fn fn, void *userdata);

/* As the device's driver says it, in bytes per second; 0: it does not know, or has no driver to ask. About 3 us. */
uint64_t netlink_speed(struct netlink *netlink, const char *name);

void netlink_totals(const struct netlink *netlink, struct netlink_totals *ret_totals);
