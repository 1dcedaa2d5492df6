/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The prober's UDP and TCP source ports: a block of consecutive numbers that nobody else has, held by sockets that are
 * bound and nothing more. Outside net.ipv4.ip_local_port_range where there is room, so that it takes no port from
 * anybody's connections.
 *
 * Answers by UDP that no hook took arrive at the UDP sockets. Those by TCP find a port without a listener, so the
 * host's own stack answers a SYN-ACK that no hook took with a reset, which ends the half-open connection.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "abi_probe.h"
#include "lib/error.h"

struct probe_ports {
	uint16_t first, count;
	bool v6;                     /* the sockets are of both families; else of IPv4 only */
	int udp[PROBE_PORTS_MAX], tcp[PROBE_PORTS_MAX]; /* owned; -1: none */
};

int probe_ports_open(uint16_t count, struct probe_ports *ret_ports, struct error *ret_error);
void probe_ports_close(struct probe_ports *ports); /* also of one that is {0} with count 0 */
