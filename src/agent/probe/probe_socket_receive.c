/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What arrives at the prober's sockets, from recvmmsg to the handler: addresses, interface, time, and where the
 * transport header is. All of it is somebody else's; nothing is read that was not received.
 */
#include "agent/probe/probe_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/errqueue.h>
#include <string.h>

#include "agent/probe/probe_socket_internal.h"
#include "lib/clock.h"
#include "parse.h"

#define UDP_HEADER RECEIVE_HEADROOM
#define ROUNDS 64 /* of one call, so that a flood leaves time for the rest */

void receive_prepare(struct receive_buffer *buffer)
{
	for (size_t i = 0; i < RECEIVE_BATCH; i++) {
		buffer->vectors[i] = (struct iovec){ .iov_base = buffer->bytes[i] + RECEIVE_HEADROOM, .iov_len = RECEIVE_BYTES };
		buffer->headers[i].msg_hdr = (struct msghdr){
			.msg_name = &buffer->names[i], .msg_namelen = sizeof(buffer->names[i]),
			.msg_iov = &buffer->vectors[i], .msg_iovlen = 1,
			.msg_control = buffer->control[i], .msg_controllen = sizeof(buffer->control[i]),
		};
	}
}

struct receiver *receiver_of(struct probe_sockets *sockets, enum receiver_kind kind, bool v6, uint16_t port)
{
	for (size_t i = 0; i < sockets->n_receivers; i++) {
		struct receiver *r = &sockets->receivers[i];

		/* UDP sockets are of both families. */
		if (r->kind == kind && r->port == port && (r->v6 == v6 || kind == RECEIVER_UDP))
			return r;
	}
	return NULL;
}

static struct address address_of(const struct sockaddr_in6 *name)
{
	struct address a = { .bytes = { [10] = 0xff, [11] = 0xff } };

	if (name->sin6_family == AF_INET6)
		memcpy(a.bytes, &name->sin6_addr, 16);
	else
		memcpy(a.bytes + 12, &((const struct sockaddr_in *)name)->sin_addr, 4);
	return a;
}

static void read_control(struct receiver *receiver, struct msghdr *header, struct probe_arrival *arrival)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
		struct in_pktinfo info4;
		struct in6_pktinfo info6;
		uint32_t drops;

		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			memcpy(&info4, CMSG_DATA(c), sizeof(info4));
			arrival->ifindex = (uint32_t)info4.ipi_ifindex;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			memcpy(&info6, CMSG_DATA(c), sizeof(info6));
			arrival->ifindex = info6.ipi6_ifindex;
		} else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
			memcpy(&drops, CMSG_DATA(c), sizeof(drops));
			receiver->sockets->overflows += drops - receiver->drops;
			receiver->drops = drops;
		}
	}
}

static void put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

/* Finds the transport header, or makes it. False: there is none. */
static bool find_transport(const struct receiver *receiver, const struct sockaddr_in6 *name, uint8_t *bytes, uint32_t captured,
			   uint32_t length, struct probe_arrival *arrival)
{
	uint32_t skip = 0;

	switch (receiver->kind) {
	case RECEIVER_UDP:
		arrival->ip_protocol = PACKET_NEXT_UDP;
		arrival->transport = bytes - UDP_HEADER;
		put16(bytes - 8, ntohs(name->sin6_port)); /* at the same place in sockaddr_in */
		put16(bytes - 6, receiver->port);
		put16(bytes - 4, length + UDP_HEADER);
		put16(bytes - 2, 0);
		arrival->captured = captured + UDP_HEADER;
		arrival->length = length + UDP_HEADER;
		return true;
	case RECEIVER_TCP:
		arrival->ip_protocol = PACKET_NEXT_TCP;
		break;
	case RECEIVER_ICMP:
	case RECEIVER_PING:
		arrival->ip_protocol = receiver->v6 ? PACKET_NEXT_ICMP6 : PACKET_NEXT_ICMP;
		break;
	}
	/* Raw sockets of IPv4 show the IP header, others do not. */
	if (receiver->kind != RECEIVER_PING && !receiver->v6) {
		if (captured < 20)
			return false;
		skip = (bytes[0] & 15u) * 4;
	}
	if (skip >= captured)
		return false;
	arrival->transport = bytes + skip;
	arrival->captured = captured - skip;
	arrival->length = length - skip;
	if (arrival->ip_protocol == PACKET_NEXT_ICMP)
		arrival->errors = arrival->transport[0] != 0;
	else if (arrival->ip_protocol == PACKET_NEXT_ICMP6)
		arrival->errors = arrival->transport[0] < 128;
	return true;
}

/* How many there were; RECEIVE_BATCH: maybe more. */
static int read_batch(struct receiver *receiver)
{
	struct probe_sockets *s = receiver->sockets;
	struct receive_buffer *b = s->buffer;
	uint64_t now;
	int64_t distance = 0;
	int n;

	receive_prepare(b);
	/* With MSG_TRUNC the length is the packet's, whatever there was room for. */
	n = recvmmsg(receiver->fd, b->headers, RECEIVE_BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
	now = mono_now().ns;
	if (s->stamps)
		distance = clock_distance();
	for (int i = 0; i < n; i++) {
		struct msghdr *header = &b->headers[i].msg_hdr;
		uint32_t length = b->headers[i].msg_len, captured = length < RECEIVE_BYTES ? length : RECEIVE_BYTES;
		struct probe_arrival arrival = {
			.source = address_of(&b->names[i]), .received_ns = now, .clock = PROBE_CLOCK_USER,
		};
		int64_t stamp = s->stamps ? control_stamp(header) : 0;

		read_control(receiver, header, &arrival);
		if (stamp && stamp - distance > 0 && (uint64_t)(stamp - distance) <= now) {
			arrival.received_ns = (uint64_t)(stamp - distance);
			arrival.clock = PROBE_CLOCK_KERNEL;
		}
		if (find_transport(receiver, &b->names[i], b->bytes[i] + RECEIVE_HEADROOM, captured, length, &arrival))
			s->handler.arrived(&arrival, s->handler.userdata);
	}
	return n;
}

/* A ping socket's errors: the packet that it sent, from the ICMP header, and what was wrong. */
static int read_refusals(struct receiver *receiver)
{
	struct probe_sockets *s = receiver->sockets;
	struct receive_buffer *b = s->buffer;
	int n;

	receive_prepare(b);
	n = recvmmsg(receiver->fd, b->headers, RECEIVE_BATCH, MSG_ERRQUEUE | MSG_DONTWAIT, NULL);
	for (int i = 0; i < n; i++) {
		struct msghdr *header = &b->headers[i].msg_hdr;
		struct sock_extended_err e = { 0 };
		struct probe_quote quote;

		for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c))
			if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
			    (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR))
				memcpy(&e, CMSG_DATA(c), sizeof(e));
		if (e.ee_origin != SO_EE_ORIGIN_ICMP && e.ee_origin != SO_EE_ORIGIN_ICMP6)
			continue; /* our own host's refusals were told when it was sent */
		if (!probe_packet_quote_icmp(b->bytes[i] + RECEIVE_HEADROOM, b->headers[i].msg_len, receiver->v6, &quote))
			continue;
		quote.source_port = receiver->port; /* was 0 when it was given to the kernel */
		quote.destination = address_of(&b->names[i]);
		s->handler.refused(&quote, probe_packet_error(receiver->v6, e.ee_type, e.ee_code), s->handler.userdata);
	}
	return n;
}

void receiver_read(struct receiver *receiver)
{
	for (int i = 0; i < ROUNDS && read_batch(receiver) == RECEIVE_BATCH; i++)
		;
	for (int i = 0; i < ROUNDS && receiver->kind == RECEIVER_PING && read_refusals(receiver) == RECEIVE_BATCH; i++)
		;
}

void probe_sockets_poll(struct probe_sockets *sockets, enum probe_protocol protocol, bool v6, uint16_t identifier)
{
	static const enum receiver_kind kinds[PROBE_PROTOCOL_COUNT] = {
		[PROBE_ICMP] = RECEIVER_ICMP, [PROBE_STAMP] = RECEIVER_UDP, [PROBE_TCP] = RECEIVER_TCP,
	};
	enum receiver_kind kind = sockets->raw ? kinds[protocol] : RECEIVER_PING;
	bool own_socket = kind == RECEIVER_UDP || kind == RECEIVER_PING;
	struct receiver *receiver = receiver_of(sockets, kind, v6, own_socket ? identifier : 0);

	if (receiver)
		receiver_read(receiver);
}
