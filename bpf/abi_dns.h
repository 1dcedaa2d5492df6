/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * What the DNS programs (bpf/dns.bpf.c) and the agent share.
 *
 * A *server* is the address of a DNS server that a socket of this host asked. The
 * first DNS_SERVERS of them have a row of their own, all others share DNS_OTHER.
 * Who writes: the programs add atomically; the agent clears a row that no query can
 * point at any more, and gives it back through the queue of free slots.
 */
#ifndef NETSONDE_ABI_DNS_H
#define NETSONDE_ABI_DNS_H
#include "abi.h"

#define DNS_SERVERS 64
#define DNS_OTHER DNS_SERVERS /* the last row */
#define DNS_ROWS (DNS_SERVERS + 1)

/* Queries without an answer yet, those whose answer may still come late, and those that were sent more than once. */
#define DNS_PENDING_MAX 16384

/* Nobody waits longer: glibc has made its two attempts of 5 s, BIND gives a query up after 10 s, most others sooner. */
#define DNS_TIMEOUT_NS 10000000000ULL
/* From the query on, how long an answer is still known as late, or as a second one. */
#define DNS_KEEP_NS 30000000000ULL

enum dns_rcode {
	DNS_NOERROR,
	DNS_FORMERR,
	DNS_SERVFAIL,
	DNS_NXDOMAIN,
	DNS_NOTIMP,
	DNS_REFUSED,
	DNS_RCODE_OTHER,
	DNS_RCODE_COUNT
};

/* Messages that are part of no lookup; each is a value of netsonde_dns_discarded_messages_total{reason}. */
enum dns_discarded {
	DNS_UNSOLICITED, /* an answer to no query of this socket */
	DNS_DUPLICATE,   /* a second answer, to a query that was sent more than once */
	DNS_BROKEN,      /* no DNS message, by its header */
	DNS_UNPARSED,    /* a TCP segment (or a datagram in a batch) whose messages could not be told apart */
	DNS_DISCARDED_COUNT
};

/* What could not be recorded; each is a value of netsonde_lost_events_total{source}. */
enum dns_lost {
	DNS_LOST_QUERY,  /* no room for a query: it is in no metric, and its answer is unsolicited */
	DNS_LOST_STREAM, /* no memory to follow a TCP connection: its segments are not looked at */
	DNS_LOST_COUNT
};

struct dns_row {
	__abi_u64 changes; /* rises with every change; 0: nothing in it */
	struct peer_address address;
	__abi_u64 timeouts, late_answers, retransmits, truncated;
	__abi_u64 sum_ns[DNS_RCODE_COUNT];
	__abi_u64 buckets[DNS_RCODE_COUNT][HIST_BUCKETS];
};
_Static_assert(sizeof(struct dns_row) == 8 * (1 + 2 + 4 + DNS_RCODE_COUNT * (1 + HIST_BUCKETS)), "no padding");

#endif
