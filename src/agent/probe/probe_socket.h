/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The prober's sockets: how packets leave, and where those arrive that no hook took. It knows packets, not paths.
 *
 * The raw sockets that send receive nothing: a raw socket is handed a copy of every packet of its protocol that the
 * host gets, unless it is bound to an address that nobody uses, so they are. One raw ICMP socket of each family
 * receives, with filters in front of it that let pass only answers to our identifiers and errors that quote our packets
 * (of all three protocols). Answers to STAMP arrive at the bound UDP sockets. Those to TCP are only looked for when
 * asked to (probe_sockets_tcp).
 *
 * Times without hooks: the kernel's software stamps (SO_TIMESTAMPING), of both directions. They are CLOCK_REALTIME; the
 * difference between that and CLOCK_MONOTONIC is read when the stamp is, so a clock that is slewed (500 ppm at most,
 * for some ms) matters little, and one that is set in between gives a time that cannot be, which is not used. Stamps of
 * sent packets are in the sending sockets' error queues, which nobody watches: they wake nobody and are read when
 * results are (probe_sockets_stamps). User space's clock right before the system call is not as good: over veth it was
 * 3 to 7 us early (p50), and up to 200 us when something came in between. Receive stamps are asked for only while they
 * are needed: they cost every packet of the host a look at the clock.
 *
 * Without CAP_NET_RAW: one ping socket for each identifier, which the kernel lets send echo requests and receive their
 * answers.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "agent/probe/probe_packet.h"
#include "agent/probe/probe_ports.h"
#include "lib/error.h"
#include "lib/loop.h"

struct probe_sockets;

#define PROBE_BATCH 64 /* messages of one probe_sockets_send */

/* A packet of ours to send. */
struct probe_message {
	const uint8_t *packet;        /* from behind the IP header */
	uint32_t len;
	struct address source, destination;
	uint32_t ifindex;             /* to leave by, or a link-local address' scope; 0: by the route */
	uint32_t flow_label;          /* IPv6; 0: the host's own choice */
	uint16_t identifier;          /* ICMP; chooses the ping socket */
	uint8_t protocol;             /* enum probe_protocol */
	uint8_t dscp, ttl;            /* ttl 0: the host's default */
	bool dont_fragment;
	/* No hook takes its t1: it is sent by itself with user space's clock in the flight, and a stamp is asked for.
	 * Else sent_ns is set for the whole batch, and the hook will replace it. */
	bool alone;
	struct probe_flight *flight;  /* sent_ns and sent_wall_ns (alone only) are written before it leaves; NULL: no probe, not alone */
	uint64_t token;               /* comes back with the stamp */
	int error;                    /* out: 0 or errno */
};

/* A packet that arrived. */
struct probe_arrival {
	struct address source;
	uint8_t ip_protocol;          /* PACKET_NEXT_* */
	bool errors;                  /* an ICMP error; transport is its header */
	const uint8_t *transport;     /* UDP: with a header made up from what the socket knows */
	uint32_t captured, length;    /* bytes at transport; bytes that there were */
	uint32_t ifindex;             /* 0: not known */
	uint64_t received_ns;         /* CLOCK_MONOTONIC */
	uint8_t clock;                /* PROBE_CLOCK_KERNEL or PROBE_CLOCK_USER */
};

struct probe_sockets_handler {
	void (*arrived)(const struct probe_arrival *arrival, void *userdata);
	/* From a ping socket's error queue; with raw sockets, errors are arrivals. error: errno. */
	void (*refused)(const struct probe_quote *quote, int error, void *userdata);
	/* t1 of a message that was sent alone, as the kernel has it. */
	void (*stamped)(uint64_t token, struct probe_flight *flight, uint64_t sent_ns, void *userdata);
	void *userdata;
};

/* count: identifiers and ports. unprivileged: ping sockets are fine when raw ones are refused. -errno with a
 * sentence. */
int probe_sockets_open(struct loop *loop, uint16_t count, bool unprivileged, const struct probe_sockets_handler *handler,
		       struct probe_sockets **ret_sockets, struct error *ret_error);
void probe_sockets_close(struct probe_sockets *sockets);
bool probe_sockets_raw(const struct probe_sockets *sockets); /* else only ICMP, by ping sockets */
uint16_t probe_sockets_count(const struct probe_sockets *sockets); /* ping sockets may be fewer than were asked for */
uint16_t probe_sockets_port_first(const struct probe_sockets *sockets);
uint16_t probe_sockets_icmp_first(const struct probe_sockets *sockets);

/* At most PROBE_BATCH. Those that go through the same socket leave in one system call. Calls no handler. */
void probe_sockets_send(struct probe_sockets *sockets, struct probe_message *messages, size_t n);
/* Reads what the kernel has to say about messages that were sent alone. Free of charge when there are none. */
void probe_sockets_stamps(struct probe_sockets *sockets);
/* Reads what waits where answers to this would arrive, without waiting for the loop. */
void probe_sockets_poll(struct probe_sockets *sockets, enum probe_protocol protocol, bool v6, uint16_t identifier);
/* Whether arrivals shall have the kernel's stamp; from the next packets on. */
void probe_sockets_want_stamps(struct probe_sockets *sockets, bool want);
/* Whether TCP answers are received. */
void probe_sockets_tcp(struct probe_sockets *sockets, bool receive);
uint64_t probe_sockets_overflows(const struct probe_sockets *sockets); /* arrivals that the kernel threw away, since the queue was full */
