/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * What TCP tells one by one: failed connects, resets, bursts of retransmissions;
 * with the process. A client's process is in the record, since it was running when
 * it connected. An accepted connection begins in an interrupt of whatever ran, so
 * there the process is the one that listened on the port (port_owners).
 */
#ifndef NETSONDE_TCP_EVENT_BPF_H
#define NETSONDE_TCP_EVENT_BPF_H
#include "event.bpf.h"
#include "tcp_socket.bpf.h"

/* A burst: so many segments of one connection sent again within a second. A lone lost packet is no news, a time-out's worth of
 * them is. */
#define BURST_SEGMENTS 8

struct port {
	__u32 netns;
	__u32 number;
};

/* An LRU: what is lost is a name in an event. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct port);
	__type(value, struct owner);
} port_owners SEC(".maps");

__u32 hz; /* jiffies per second, written by the agent; 0: it does not know, and bursts are not told */

static __always_inline void note_owner(struct owner *owner)
{
	owner->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(owner->comm, sizeof(owner->comm));
}

static __always_inline void note_listener(const struct sock *sk)
{
	struct port port = { sk->__sk_common.skc_net.net->ns.inum, sk->__sk_common.skc_num };
	struct owner owner = {};

	note_owner(&owner);
	bpf_map_update_elem(&port_owners, &port, &owner, BPF_ANY);
}

static __always_inline void local_address_of(const struct sock_common *c, struct peer_address *address)
{
	if (c->skc_family == AF_INET6) {
		address->words[0] = c->skc_v6_rcv_saddr.in6_u.u6_addr32[0];
		address->words[1] = c->skc_v6_rcv_saddr.in6_u.u6_addr32[1];
		address->words[2] = c->skc_v6_rcv_saddr.in6_u.u6_addr32[2];
		address->words[3] = c->skc_v6_rcv_saddr.in6_u.u6_addr32[3];
	} else {
		address->words[0] = 0;
		address->words[1] = 0;
		address->words[2] = bpf_htonl(0xffff);
		address->words[3] = c->skc_rcv_saddr;
	}
}

static __always_inline void tell(enum event_kind kind, const struct sock *sk, const struct sock_state *st, __u32 code, __u32 count)
{
	const struct sock_common *c = &sk->__sk_common;
	const struct owner *owner;
	struct event *e = event_begin(kind);
	struct port port;

	if (!e)
		return;
	peer_address_of(c, &e->remote);
	local_address_of(c, &e->local);
	port.netns = e->netns = c->skc_net.net->ns.inum;
	port.number = e->local_port = c->skc_num;
	e->remote_port = bpf_ntohs(c->skc_dport);
	e->protocol = IPPROTO_TCP;
	e->role = st ? st->role : ROLE_SERVER;
	e->code = code;
	e->count = count;
	owner = st && st->owner.pid ? &st->owner : bpf_map_lookup_elem(&port_owners, &port);
	if (owner) {
		e->pid = owner->pid;
		__builtin_memcpy(e->comm, owner->comm, sizeof(e->comm));
	}
	event_end(e);
}

static __always_inline void tell_burst(const struct sock *sk, struct sock_state *st, __u32 segments)
{
	__u32 now = bpf_jiffies64();

	if (!hz)
		return;
	if (!st->burst_segments || now - st->burst_jiffies >= hz) {
		st->burst_jiffies = now;
		st->burst_segments = segments;
	} else {
		if (st->burst_segments >= BURST_SEGMENTS)
			return; /* told already */
		st->burst_segments += segments;
	}
	if (st->burst_segments >= BURST_SEGMENTS)
		tell(EVENT_RETRANSMIT_BURST, sk, st, 0, st->burst_segments);
}

#endif
