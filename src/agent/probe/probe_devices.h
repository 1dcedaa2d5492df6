/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interfaces on which probes are timed and reflected: which way their packets are seen, attached by descriptors
 * only (bpf_link, or a packet socket), so that a killed process leaves nothing behind and nothing of anybody else is replaced.
 *
 * Receiving: XDP native, XDP generic, tcx, a packet socket; sending: tcx, a packet socket. On veth and other software
 * devices XDP is only taken when it is asked for: it would cost the device its offloads.
 * A device is its index; its name is a label that follows. An interface that goes and comes back (its name is the same, its index is
 * not) is attached to again; that takes no privileges on 6.1 and later. One that moves to another namespace is gone.
 */
#pragma once
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include "agent/probe/probe_program.h"
#include "lib/error.h"

enum probe_attach { PROBE_ATTACH_AUTO, PROBE_ATTACH_XDP, PROBE_ATTACH_XDP_GENERIC, PROBE_ATTACH_TC, PROBE_ATTACH_SOCKET, PROBE_ATTACH_OFF };

struct probe_devices;
#define PROBE_SLOT_NONE UINT32_MAX

struct probe_device {
	char name[IF_NAMESIZE];
	uint32_t ifindex;            /* 0: gone at the moment */
	uint32_t slot;               /* of probe_program; PROBE_SLOT_NONE: no hook is attached */
	bool reflect;
	enum probe_clock receive;    /* PROBE_CLOCK_KERNEL: no hook, the sockets' stamps are used */
	bool send;                   /* a hook takes t1 */
	const char *receive_mode;    /* "xdp", "xdp_generic", "tcx", "packet_socket", "off" */
	const char *send_mode;       /* "tcx", "packet_socket", "off" */
	char reason[256];            /* why not a better mode, or what this one costs; "" when there is nothing to say */
};

/* program NULL: nothing can be attached; every device is then without hooks. Borrowed. Opens spare packet sockets while it may. */
int probe_devices_new(struct probe_program *program, enum probe_attach attach, struct probe_devices **ret_devices, struct error *ret_error);
void probe_devices_free(struct probe_devices *devices);

/* Attaches to an interface, unless that has been done. 0 also when there is no hook to be had there (device->reason says why; the
 * sockets' stamps remain); -ENODEV, -EOPNOTSUPP, -ENOSPC with a sentence when the interface does not exist, must reflect and cannot, or
 * there are too many. reflect: from now on, whatever it was before, and of one that does not exist as soon as it does; by index it
 * stays what it was. ret_device may be NULL; borrowed, valid until the free, but one that is gone (ifindex 0) may become another
 * interface when there is no other room: compare ifindex. */
int probe_devices_use(struct probe_devices *devices, const char *name, bool reflect, const struct probe_device **ret_device, struct error *ret_error);
int probe_devices_use_index(struct probe_devices *devices, uint32_t ifindex, const struct probe_device **ret_device, struct error *ret_error);
/* Reads what happened to links since the last call, and attaches again where it must. Cheap when nothing did. Returns how many devices changed. */
int probe_devices_tick(struct probe_devices *devices);
size_t probe_devices_count(const struct probe_devices *devices);
const struct probe_device *probe_devices_at(const struct probe_devices *devices, size_t i);

/* The programs of cards that stamp what they receive, or NULL. */
struct probe_hardware;
const struct probe_hardware *probe_devices_hardware(const struct probe_devices *devices);

/* One agent at a time probes from a network namespace: an abstract socket, which ends with its process. -EBUSY with a
 * sentence that names the holder's PID. `netsonde ping` does not take it. */
int probe_devices_lock(struct probe_devices *devices, struct error *ret_error);
