/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which hooks one interface gets, and holding them. In the order of what they are worth, each that is not possible
 * leaves its reason. Part of probe_devices, which owns the table of interfaces and follows what happens to them.
 */
#pragma once
#include "agent/probe/netdev.h"
#include "agent/probe/probe_devices.h"

/* What was made while that was allowed: packet sockets, and programs of cards (may be NULL). */
struct probe_spares {
	int fds[PROBE_DEVICES_MAX];
	size_t n;
	struct probe_hardware *hardware;
};

struct probe_attachment {
	struct probe_device device;
	struct netdev netdev; /* the interface as it was when it was attached to */
	int receive, send; /* links; -1: none */
	int socket;        /* for one direction or both; -1: none */
};

#define PROBE_ATTACHMENT_INIT { \
	.device = { .slot = PROBE_SLOT_NONE, .receive = PROBE_CLOCK_KERNEL, .receive_mode = "off", .send_mode = "off" }, \
	.receive = -1, .send = -1, .socket = -1 }

/* device.name, .ifindex and .reflect say to what. program NULL: to nothing. -ENODEV when the interface is gone;
 * -EOPNOTSUPP with a sentence when it must reflect and cannot, and then nothing is attached. Whatever was attached
 * before is released first. */
int probe_attach(struct probe_attachment *a, struct probe_program *program, enum probe_attach attach,
		 struct probe_spares *spares, struct error *ret_error);
/* Everything off; its packet socket becomes a spare one. */
void probe_detach(struct probe_attachment *a, struct probe_program *program, struct probe_spares *spares);
/* Are its hooks still at the interface? */
bool probe_attach_alive(const struct probe_attachment *a);
