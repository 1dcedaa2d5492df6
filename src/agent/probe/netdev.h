/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What decides how probes may be seen on an interface: is it hardware, what would XDP take from it, is XDP taken
 * already. By rtnetlink and ethtool's ioctl, which answer for our own network namespace (/sys may show another one's)
 * and ask for no privileges.
 *
 * Hardware is what has a device of a bus above it and no kind of its own. Drivers of hardware run XDP before they
 * make a packet of it, at tens of nanoseconds; software devices (veth, bridge, bond, VLAN, tun, ...) lose their
 * offloads by it. So do cards that join packets into larger ones themselves (LRO, GRO in hardware): they must stop
 * that for XDP. Generic XDP copies each packet to make room before it, also those that GRO has joined, which halves
 * the throughput; tc sees the packet some lines later for nothing.
 */
#pragma once
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct netdev {
	uint32_t ifindex, mtu;
	uint32_t receive_queues;     /* 0: not known */
	uint16_t link_type;          /* ARPHRD_* */
	bool up, hardware;
	bool gro;                    /* the stack joins its packets */
	uint8_t mac[6];              /* Ethernet address; 0: none */
	char name[IF_NAMESIZE];
	char kind[24];               /* "veth", "bridge", ...; "" for hardware and the loopback */
	const char *joins;           /* "rx-lro" or "rx-gro-hw" when that is on; else NULL */
	const char *xdp;             /* "native", "generic", "offloaded", "several"; NULL: no XDP program is attached */
	uint32_t xdp_program;        /* its id; 0: not known */
};

/* name NULL: by index. -ENODEV, -errno. */
int netdev_read(const char *name, uint32_t ifindex, struct netdev *ret_device);

/* Has it Ethernet frames? Else its packets begin with IP (tun, WireGuard, PPP), or are none that we know (then
 * *ret_known is false). */
bool netdev_ethernet(const struct netdev *device, bool *ret_known);

/* Why not to attach XDP here: a sentence without its full stop. False: no reason. asked: somebody did ask for XDP on
 * this interface, so that only the impossible counts. */
bool netdev_xdp_obstacle(const struct netdev *device, bool generic, bool asked, char *ret_reason, size_t size);
/* Why it was refused: error is the kernel's answer, -errno. */
void netdev_xdp_refusal(const struct netdev *device, bool generic, int error, char *ret_reason, size_t size);
