// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * DNS as its clients see it: every query that a socket of this host sends to port
 * 53, and its answer. Attached to the root of cgroup v2, where each packet of a local
 * socket passes exactly once, in whatever network namespace, beginning at the IP
 * header, not yet or no longer in fragments. The programs only look: they always
 * return 1.
 *
 * - dns_egress, dns_ingress: nearly all packets are somebody else's, and end after a
 *   look at the socket's remote port, or at the packet's when the socket has none.
 * - dns_expire, once per second over the pending queries: which had no answer.
 *
 * A query is known by its socket, server, id and protocol. Latency is measured from
 * the first transmission to the first answer's arrival. Where a connected socket
 * says who the server is, it is believed and not the packet: on the way out a local
 * NAT rule may have rewritten that already.
 *
 * The state of a pending query decides who counts it: what sets it away from
 * WAITING, by compare-and-swap, does. TCP: dns_parse.h.
 */
#include "kernel.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "abi_dns.h"
#include "dns_parse.h"
#include "hist.bpf.h"
#include "scope.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* One skb carries up to 64 KB (more with BIG TCP) of messages of at least 14 bytes. */
#define MESSAGES_MAX 8192
#define PASS 1

enum query_state { QUERY_WAITING, QUERY_ANSWERED, QUERY_EXPIRED };

struct query_key {
	__u64 cookie; /* the socket's */
	struct peer_address server;
	__u16 id;
	__u8 protocol;
	__u8 reserved[5];
};
_Static_assert(sizeof(struct query_key) == 32, "no padding");

struct query {
	__u64 first_ns;
	__u32 slot;
	__u32 state;         /* enum query_state */
	__u32 transmissions; /* queries seen */
	__u32 answers;       /* answers seen */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, DNS_PENDING_MAX);
	__type(key, struct query_key);
	__type(value, struct query);
} pending SEC(".maps");

/* Twice the slots: a server that is leaving and comes back has two for a while. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * DNS_SERVERS);
	__type(key, struct peer_address);
	__type(value, __u32);
} servers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, DNS_SERVERS);
	__type(value, __u32);
} free_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, DNS_ROWS);
	__type(key, __u32);
	__type(value, struct dns_row);
} rows SEC(".maps");

/* A TCP connection to port 53; ends with its socket. */
struct connection {
	struct dns_direction queries, answers;
	__u32 last_answered; /* id + 1; 0: none */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connection);
} connections SEC(".maps");

/* Written by the agent. */
__u64 timeout_ns = DNS_TIMEOUT_NS, keep_ns = DNS_KEEP_NS;
__u32 pressed; /* the pending map is filling up: nothing is kept that has been counted */

__u64 discarded[DNS_DISCARDED_COUNT];
__u64 lost[DNS_LOST_COUNT];
__u64 expire_seen; /* by the running dns_expire */

/* What a message needs to know about its packet. */
struct message {
	struct query_key key; /* without the id */
	__u64 now;
	__u32 ingress;
	__u32 reserved;
};

/* One segment on its way through a stream. */
struct feed {
	struct dns_cursor cursor;
	struct dns_stream *stream;
	struct connection *connection;
	struct message message;
};

static __always_inline void add(__u64 *counter, __u64 n)
{
	__sync_fetch_and_add(counter, n);
}

static __always_inline void discard(enum dns_discarded reason)
{
	add(&discarded[reason], 1);
}

static __always_inline struct dns_row *changed_row(__u32 slot)
{
	struct dns_row *row = bpf_map_lookup_elem(&rows, &slot);

	if (row)
		add(&row->changes, 1);
	return row;
}

static __always_inline __u32 slot_of(const struct peer_address *server)
{
	__u32 *found = bpf_map_lookup_elem(&servers, server), slot;
	struct dns_row *row;

	if (found)
		return *found;
	if (bpf_map_pop_elem(&free_slots, &slot))
		return DNS_OTHER;
	row = bpf_map_lookup_elem(&rows, &slot);
	if (row)
		row->address = *server;
	if (!bpf_map_update_elem(&servers, server, &slot, BPF_NOEXIST)) {
		if (row)
			add(&row->changes, 1);
		return slot;
	}
	/* Another processor was first. */
	bpf_map_push_elem(&free_slots, &slot, BPF_ANY);
	found = bpf_map_lookup_elem(&servers, server);
	return found ? *found : DNS_OTHER;
}

static __always_inline bool claim(struct query *q, enum query_state state)
{
	return __sync_val_compare_and_swap(&q->state, QUERY_WAITING, state) == QUERY_WAITING;
}

static __always_inline void count_timeout(struct query *q)
{
	struct dns_row *row;

	if (!claim(q, QUERY_EXPIRED))
		return;
	row = changed_row(q->slot);
	if (row)
		add(&row->timeouts, 1);
}

static __always_inline enum dns_rcode rcode_of(__u8 rcode)
{
	switch (rcode) {
	case 0: return DNS_NOERROR;
	case 1: return DNS_FORMERR;
	case 2: return DNS_SERVFAIL;
	case 3: return DNS_NXDOMAIN;
	case 4: return DNS_NOTIMP;
	case 5: return DNS_REFUSED;
	default: return DNS_RCODE_OTHER;
	}
}

/* The functions that are not static are verified once, by themselves, and not again in each state that a caller may be in. */
__noinline int dns_observe(__u32 slot, __u32 rcode, __u64 ns)
{
	struct dns_row *row = changed_row(slot);
	__u32 bucket = hist_bucket(ns);

	asm volatile("" : "+r"(bucket), "+r"(rcode));
	if (!row || bucket >= HIST_BUCKETS || rcode >= DNS_RCODE_COUNT)
		return 0;
	add(&row->buckets[rcode][bucket], 1);
	add(&row->sum_ns[rcode], ns);
	return 0;
}

/* A copy, since until Linux 6.3 a key must be on the stack of the function that looks it up. */
static __always_inline void key_of(const struct message *m, __u16 id, struct query_key *key)
{
	*key = m->key;
	key->id = id;
}

__noinline int dns_query(const struct message *m, __u16 id)
{
	struct query *q, fresh = {};
	struct query_key key;
	struct dns_row *row;

	if (!m)
		return 0;
	key_of(m, id, &key);
	q = bpf_map_lookup_elem(&pending, &key);
	if (q && q->state == QUERY_WAITING) {
		if (m->now - q->first_ns < timeout_ns) {
			__sync_fetch_and_add(&q->transmissions, 1);
			row = changed_row(q->slot);
			if (row)
				add(&row->retransmits, 1);
			return 0;
		}
		count_timeout(q); /* dns_expire was about to */
	}
	fresh.first_ns = m->now;
	fresh.slot = slot_of(&key.server);
	fresh.transmissions = 1;
	if (bpf_map_update_elem(&pending, &key, &fresh, BPF_ANY))
		add(&lost[DNS_LOST_QUERY], 1);
	return 0;
}

__noinline int dns_answer(const struct message *m, __u16 id, __u8 rcode, bool truncated)
{
	struct query_key key;
	struct dns_row *row;
	struct query *q;
	__u64 duration;

	if (!m)
		return 0;
	key_of(m, id, &key);
	q = bpf_map_lookup_elem(&pending, &key);
	if (!q) {
		discard(DNS_UNSOLICITED);
		return 0;
	}
	duration = m->now > q->first_ns ? m->now - q->first_ns : 0;
	if (duration >= timeout_ns)
		count_timeout(q);
	if (claim(q, QUERY_ANSWERED)) {
		dns_observe(q->slot, rcode_of(rcode), duration);
		row = truncated ? changed_row(q->slot) : NULL;
		if (row)
			add(&row->truncated, 1);
	} else if (q->state == QUERY_EXPIRED && !q->answers) {
		row = changed_row(q->slot);
		if (row)
			add(&row->late_answers, 1);
	} else {
		discard(DNS_DUPLICATE);
	}
	/* What was sent again may be answered again. */
	if (__sync_fetch_and_add(&q->answers, 1) + 1 >= q->transmissions)
		bpf_map_delete_elem(&pending, &key);
	return 0;
}

static __always_inline void on_message(const struct message *m, enum dns_kind kind, const struct dns_header *header,
				       struct connection *connection)
{
	if (kind == DNS_KIND_MALFORMED) {
		discard(DNS_BROKEN);
	} else if (kind == DNS_KIND_QUERY && !m->ingress) {
		if (connection && connection->last_answered == header->id + 1U)
			connection->last_answered = 0;
		dns_query(m, header->id);
	} else if (kind == DNS_KIND_ANSWER && m->ingress) {
		/* A zone comes as many answers to one query: the first one is the lookup. */
		if (connection && connection->last_answered == header->id + 1U)
			return;
		if (connection)
			connection->last_answered = header->id + 1U;
		dns_answer(m, header->id, header->rcode, header->truncated);
	}
}

static long feed_step(__u32 index, void *context)
{
	struct feed *f = context;
	struct dns_header header = {};
	enum dns_kind kind;

	if (!dns_stream_step(f->stream, &f->cursor, &kind, &header))
		return 1;
	on_message(&f->message, kind, &header, f->connection);
	return 0;
}

__noinline int dns_begins(struct __sk_buff *skb, __u32 offset, __u32 len, __u32 kind)
{
	return dns_stream_begins(skb, offset, len, kind);
}

/* A part of a segment. */
static __always_inline void feed(struct feed *f, struct dns_direction *d, __u32 ahead, __u64 *unparsed)
{
	struct dns_stream *s = ahead ? &d->ahead : &d->in_order;

	f->stream = s;
	if (s->state != DNS_STREAM_SYNCED && dns_begins(f->cursor.source, f->cursor.offset, f->cursor.left,
							f->message.ingress ? DNS_KIND_ANSWER : DNS_KIND_QUERY))
		dns_stream_found(d, ahead);
	if (s->state == DNS_STREAM_SYNCED)
		bpf_loop(MESSAGES_MAX, feed_step, f, 0);
	if (f->cursor.left)
		dns_stream_unparsed(d, ahead, f->cursor.left, unparsed);
}

static __always_inline void on_segment(struct feed *f, struct dns_direction *d, const struct packet *packet, __u32 len)
{
	/* Data may come with the SYN (RFC 7413), which has a number of its own. */
	__u32 sequence = packet->sequence + (packet->tcp_flags & PACKET_SYN ? 1 : 0);
	struct dns_part part;
	__u64 unparsed = 0;

	/* Twice, when the segment fills a hole and goes on behind what came after it. */
#pragma clang loop unroll(disable)
	for (int i = 0; i < 2; i++) {
		if (!dns_place(d, sequence, len, &part))
			break;
		f->cursor.offset = packet->payload_offset + part.from;
		f->cursor.left = part.len;
		feed(f, d, part.ahead, &unparsed);
		dns_join(d, &unparsed);
	}
	if (unparsed)
		add(&discarded[DNS_UNPARSED], unparsed);
}

static __always_inline void on_tcp(struct __sk_buff *skb, struct bpf_sock *sk, const struct packet *packet, struct feed *f)
{
	/* Not from the header, which says nothing in a packet of more than 64 KB. */
	__u32 len = packet->payload_offset && skb->len > packet->payload_offset ? skb->len - packet->payload_offset : 0;
	bool syn = packet->tcp_flags & PACKET_SYN;
	struct connection *c;

	if (!len && !syn)
		return;
	c = bpf_sk_storage_get(&connections, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!c) {
		add(&lost[DNS_LOST_STREAM], 1);
		return;
	}
	if (syn && !f->message.ingress) {
		__builtin_memset(&c->answers.in_order, 0, sizeof(c->answers.in_order));
		c->answers.ahead_active = 0;
		dns_direction_begin(&c->queries, packet->sequence + 1);
	} else if (syn && c->answers.in_order.state == DNS_STREAM_NEW) { /* a later one is none of ours */
		dns_direction_begin(&c->answers, packet->sequence + 1);
	}
	f->connection = c;
	if (len)
		on_segment(f, f->message.ingress ? &c->answers : &c->queries, packet, len);
}

__noinline int dns_datagram(struct __sk_buff *skb, const struct message *message, __u32 offset, __u32 len)
{
	struct dns_header header = {};
	__u8 bytes[DNS_HEADER];
	enum dns_kind kind = DNS_KIND_MALFORMED;

	if (!message)
		return 0;
	if (offset && len >= DNS_HEADER && !bpf_skb_load_bytes(skb, offset, bytes, sizeof(bytes)))
		kind = dns_header_parse(bytes, len, &header);
	on_message(message, kind, &header, NULL);
	/* A batch (UDP_SEGMENT, UDP_GRO) is looked at for its first datagram. */
	if (skb->gso_size && skb->gso_segs > 1)
		add(&discarded[DNS_UNPARSED], skb->gso_segs - 1);
	return 0;
}

/* Who the server is, by the socket when it is connected. Volatile: a load of its own for each field, at a fixed offset, is all
 * that a verifier allows. */
static __always_inline void server_of(const volatile struct bpf_sock *sk, const struct packet *packet, __u32 ingress,
				      struct peer_address *ret)
{
	if (!sk->dst_port) {
		*ret = ingress ? packet->source : packet->destination;
	} else if (sk->family == AF_INET) {
		ret->words[0] = ret->words[1] = 0;
		ret->words[2] = bpf_htonl(0xffff);
		ret->words[3] = sk->dst_ip4;
	} else {
		ret->words[0] = sk->dst_ip6[0];
		ret->words[1] = sk->dst_ip6[1];
		ret->words[2] = sk->dst_ip6[2];
		ret->words[3] = sk->dst_ip6[3];
	}
}

__noinline int dns_read_packet(struct __sk_buff *skb, struct packet *ret)
{
	return ret ? packet_parse(skb, 0, PACKET_IP, ret) : -1;
}

static __noinline int on_packet(struct __sk_buff *skb, __u32 ingress)
{
	struct bpf_sock *sk = (struct bpf_sock *)skb->sk;
	struct packet packet = {};
	struct feed f = {};

	if (!sk)
		return PASS;
	sk = bpf_sk_fullsock(sk);
	/* A raw socket gets a copy of what is another socket's. */
	if (!sk || sk->type == SOCK_RAW || !socket_in_scope(sk) || dns_read_packet(skb, &packet))
		return PASS;
	if (!sk->dst_port && (ingress ? packet.source_port : packet.destination_port) != DNS_PORT)
		return PASS;
	f.cursor.source = skb;
	f.message.ingress = ingress;
	f.message.now = bpf_ktime_get_ns();
	f.message.key.cookie = bpf_get_socket_cookie(skb);
	f.message.key.protocol = packet.protocol;
	server_of(sk, &packet, ingress, &f.message.key.server);
	if (packet.protocol == IPPROTO_TCP)
		on_tcp(skb, sk, &packet, &f);
	else if (packet.protocol == IPPROTO_UDP)
		dns_datagram(skb, &f.message, packet.payload_offset, packet.payload_length);
	return PASS;
}

/* For the many packets of sockets without a remote port (a QUIC server's): is the packet's own the one? Only where it usually
 * is; everything unusual is for the parser to decide. offset: of the port in the UDP header. */
static __always_inline bool may_be_dns(const struct __sk_buff *skb, __u32 offset)
{
	const __u8 *data = (const __u8 *)(unsigned long)skb->data, *end = (const __u8 *)(unsigned long)skb->data_end;

	if (skb->protocol == bpf_htons(PACKET_TYPE_IPV4)) {
		if (data + 24 > end)
			return true;
		if (data[9] != IPPROTO_UDP)
			return false;
		return data[0] != 0x45 || (data[20 + offset] == 0 && data[21 + offset] == DNS_PORT);
	}
	if (skb->protocol == bpf_htons(PACKET_TYPE_IPV6)) {
		if (data + 44 > end)
			return true;
		if (data[6] == IPPROTO_TCP || data[6] == PACKET_NEXT_ICMP6)
			return false;
		return data[6] != IPPROTO_UDP || (data[40 + offset] == 0 && data[41 + offset] == DNS_PORT);
	}
	return false;
}

static __always_inline int on_any_packet(struct __sk_buff *skb, __u32 ingress)
{
	const struct bpf_sock *sk = (const struct bpf_sock *)skb->sk;

	if (!sk)
		return PASS;
	if (sk->dst_port != bpf_htons(DNS_PORT) && (sk->dst_port || !may_be_dns(skb, ingress ? 0 : 2)))
		return PASS;
	return on_packet(skb, ingress);
}

SEC("cgroup_skb/egress")
int dns_egress(struct __sk_buff *skb)
{
	return on_any_packet(skb, 0);
}

SEC("cgroup_skb/ingress")
int dns_ingress(struct __sk_buff *skb)
{
	return on_any_packet(skb, 1);
}

SEC("iter/bpf_map_elem")
int dns_expire(struct bpf_iter__bpf_map_elem *ctx)
{
	const struct query_key *current = ctx->key;
	struct query *q = ctx->value;
	struct query_key key;
	__u64 age, now;

	if (!current || !q)
		return 0;
	expire_seen++;
	now = bpf_ktime_get_ns();
	age = now > q->first_ns ? now - q->first_ns : 0;
	if (age < timeout_ns)
		return 0;
	key = *current;
	q = bpf_map_lookup_elem(&pending, &key);
	if (!q)
		return 0;
	/* Another query may have taken its place. */
	age = now > q->first_ns ? now - q->first_ns : 0;
	if (age < timeout_ns)
		return 0;
	count_timeout(q);
	if (pressed || age >= keep_ns)
		bpf_map_delete_elem(&pending, &key);
	return 0;
}
