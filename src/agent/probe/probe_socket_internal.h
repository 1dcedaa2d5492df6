/* SPDX-License-Identifier: Apache-2.0 */
/* What probe_socket.c (opening), probe_socket_send.c and probe_socket_receive.c share. */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include "agent/probe/probe_socket.h"

#define STAMP_WAITS 256         /* messages whose stamp may be outstanding, of one socket; a power of two */
#define RECEIVE_BATCH 16
#define RECEIVE_BYTES 2048      /* of a packet; more than that is quoted of nothing */
#define RECEIVE_HEADROOM 8      /* for a UDP header */

enum receiver_kind { RECEIVER_ICMP, RECEIVER_TCP, RECEIVER_UDP, RECEIVER_PING };

struct receiver {
	struct probe_sockets *sockets;
	struct loop_fd *watch;
	int fd;                 /* owned, but of RECEIVER_UDP, whose are probe_ports' */
	enum receiver_kind kind;
	bool v6;
	uint16_t port;          /* RECEIVER_UDP: its own; RECEIVER_PING: its identifier */
	uint32_t drops;         /* as the socket last told */
};

/* A sending socket. */
struct sender {
	int fd;                 /* -1: the host has no such family */
	uint32_t next_id;       /* the kernel's number of the next message that asks for a stamp */
	uint32_t outstanding;   /* stamps that may come */
	bool untidy;            /* something else is in its error queue */
	struct stamp_wait {
		struct probe_flight *flight;
		uint64_t token, before_ns; /* before_ns: CLOCK_MONOTONIC */
	} waits[STAMP_WAITS];
};

struct probe_sockets {
	struct loop *loop;
	struct probe_sockets_handler handler;
	struct probe_ports ports;
	uint16_t count, icmp_first;
	bool raw, stamps, tcp;
	struct sender *senders; /* [v6][protocol][dont_fragment] */
	struct receiver *receivers;
	size_t n_receivers;
	uint64_t overflows;
	/* Of one recvmmsg. */
	struct receive_buffer {
		struct mmsghdr headers[RECEIVE_BATCH];
		struct iovec vectors[RECEIVE_BATCH];
		struct sockaddr_in6 names[RECEIVE_BATCH]; /* or sockaddr_in */
		_Alignas(struct cmsghdr) uint8_t control[RECEIVE_BATCH][256];
		uint8_t bytes[RECEIVE_BATCH][RECEIVE_HEADROOM + RECEIVE_BYTES];
	} *buffer;
};

#define SENDERS (2 * PROBE_PROTOCOL_COUNT * 2)

static inline size_t sender_index(bool v6, unsigned protocol, bool dont_fragment)
{
	return ((size_t)v6 * PROBE_PROTOCOL_COUNT + protocol) * 2 + dont_fragment;
}

/* Starts counting stamps anew, since it is not known whether a message that failed has used a number. */
void sender_reset(struct sender *sender);
/* Fills the buffer's headers for a call of recvmmsg. */
void receive_prepare(struct receive_buffer *buffer);
/* Reads what there is, until there is no more (or it is very much); hands it to the handler. */
void receiver_read(struct receiver *receiver);
/* The receiver of an answer; NULL: none. */
struct receiver *receiver_of(struct probe_sockets *sockets, enum receiver_kind kind, bool v6, uint16_t port);
/* CLOCK_REALTIME minus CLOCK_MONOTONIC, now. */
int64_t clock_distance(void);
/* The kernel's software stamp among a message's control data, in ns of CLOCK_REALTIME; 0: none. */
int64_t control_stamp(struct msghdr *message);
