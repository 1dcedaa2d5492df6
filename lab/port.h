/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One end of the relay: a packet socket on a veth device in the relay's own
 * network namespace; the other end of the veth belongs to a host of the lab.
 *
 * What the host sends comes here with the time at which the kernel took it from
 * the host, so that no delay of the relay's own process hides in the measured
 * time. A tc program then consumes the packet silently: the relay's namespace
 * has no stack that could answer it, and no drop of it is counted anywhere.
 *
 * Frames are as they would be on a wire: with their VLAN tags, and with their
 * checksums, for which the host's end must have checksum offload off (that also
 * turns off segmentation offload). A frame without its checksum is refused.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "lib/error.h"

#define PORT_FRAME_MAX 65600 /* the largest MTU, the Ethernet header and a VLAN tag */

struct port;

struct frame {
	const uint8_t *data; /* the port's, until the next port_receive */
	size_t len;
	uint64_t in_ns;      /* CLOCK_MONOTONIC */
	bool unfinished;     /* has no checksum, or is longer than a wire carries */
};

/* `device` in the calling thread's network namespace; only a veth is accepted. Brings it up, with the largest MTU. */
int port_open(const char *device, struct port **ret_port, struct error *ret_error);
void port_close(struct port *port);
int port_fd(const struct port *port); /* readable: there are frames */
/* 1: a frame; 0: none now; -errno. */
int port_receive(struct port *port, struct frame *ret_frame);
/* 0 or -errno. */
int port_send(struct port *port, const void *data, size_t len);
/* Frames lost so far because the relay did not read fast enough. */
uint64_t port_overrun(struct port *port);
