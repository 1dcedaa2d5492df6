/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making one attachment, each held by a descriptor that ends with its process. Links are never put in the place of
 * another program: XDP has one place, and the kernel refuses a link when it is taken; tcx has a list. Not used:
 * clsact (its filters outlive a killed process) and attaching by netlink (it silently replaces).
 *
 * A loaded program can be attached without privileges, here and to any interface of our network namespace; a packet
 * socket takes CAP_NET_RAW when it is made, and none when it is bound, later.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Return the link, or -errno. */
int probe_hook_xdp(int program_fd, uint32_t ifindex, bool generic);
/* First in the list, in both directions: a program that ends the list before us (most of them do, by TC_ACT_OK) would
 * otherwise hide the packet. -EINVAL: the kernel has no tcx, before 6.6. */
int probe_hook_tcx(int program_fd, uint32_t ifindex, bool send);
bool probe_hook_has_tcx(int program_fd); /* of a tc program */
/* Is the link still at this interface? Not when that is gone, or somebody detached it. */
bool probe_hook_alive(int link_fd, uint32_t ifindex);

/* A packet socket that receives nothing yet; -errno. */
int probe_hook_socket(void);
/* From then on its filter sees all packets of the interface in both directions, and keeps none. Also when it was
 * bound before. */
int probe_hook_socket_bind(int fd, int program_fd, uint32_t ifindex);
/* Keeps it for later, away from all interfaces. */
int probe_hook_socket_park(int fd);
bool probe_hook_socket_alive(int fd, uint32_t ifindex);
