/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owner of the kernel side of the UDP collector (bpf/udp.bpf.c): loading, attaching
 * to the root of cgroup v2, the rows. Everything is held by links.
 */
#pragma once
#include <stdint.h>
#include "abi_udp.h"
#include "agent/features.h"
#include "agent/peers.h"
#include "lib/error.h"

struct udp_program;

/* How drops are attributed; tests choose, others take the best that the kernel has. */
enum udp_drops_mode {
	UDP_DROPS_BEST,
	UDP_DROPS_PACKET, /* by the packet's sender (Linux 6.10) */
	UDP_DROPS_SOCKET, /* by the socket's peer, "other" when it is not connected */
	UDP_DROPS_OFF,
};

/* Loads; nothing runs yet. peers: borrowed until closed. -errno with a sentence. */
int udp_program_open(struct peers *peers, enum udp_drops_mode mode, struct udp_program **ret_program, struct error *ret_error);
void udp_program_close(struct udp_program *program);
/* cgroup_fd: the root of cgroup v2; not needed afterwards. Tells the features udp, udp_receive_drops, and udp_receive_drops_ipv6
 * where only that is missing. */
int udp_program_attach(struct udp_program *program, int cgroup_fd, struct features *features, struct error *ret_error);

enum udp_drops_mode udp_program_drops(const struct udp_program *program);
/* By slot, peers_slots of them. Memory that the kernel writes. */
const struct udp_row *udp_program_rows(const struct udp_program *program);
uint64_t udp_program_lost(const struct udp_program *program, enum udp_lost what);
/* Calls fn for each program with its name and descriptor. */
void udp_program_each(const struct udp_program *program, void (*fn)(const char *name, int fd, void *userdata), void *userdata);
