/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owner of the kernel side of the TCP collector (bpf/tcp.bpf.c): which of its
 * programs this kernel takes, loading, attaching, seeding, sweeping. Everything
 * is held by file descriptors and links, so a killed agent leaves nothing behind.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "abi.h"
#include "agent/features.h"
#include "agent/peers.h"
#include "lib/error.h"

struct tcp_program;

struct tcp_program_stats {
	uint64_t lost[LOST_COUNT];
	uint64_t missed;            /* events that the kernel did not hand to our programs (recursion) */
	uint64_t recovered;         /* events that tcp_state_again found behind an interrupted tcp_state */
	uint64_t swept, open;       /* sockets at the last sweep */
	uint64_t jiffies, ns;       /* the kernel's clocks at the last sweep */
};

/* Loads; nothing runs yet. The TCP core (life cycle and sweep) must load: -errno with a sentence otherwise. */
enum tcp_sweep_mode {
	TCP_SWEEP_BEST,  /* what is safe on this kernel */
	TCP_SWEEP_FILES, /* over the files of all tasks, for tests */
};
int tcp_program_open(const struct peers_size *size, uint32_t sockets_max, enum tcp_sweep_mode mode,
		     struct tcp_program **ret_program, struct error *ret_error);
void tcp_program_close(struct tcp_program *program);

void tcp_program_kernel(struct tcp_program *program, struct peers_kernel *ret_kernel);
/* After peers_new, so that every event finds its slot. What is optional is reported in features. */
int tcp_program_attach(struct tcp_program *program, struct features *features, struct error *ret_error);
/* Records for the connections that are older than the agent. */
int tcp_program_seed(struct tcp_program *program, struct features *features);
void tcp_program_set_sockets_max(struct tcp_program *program, uint32_t sockets_max);

/* A new generation begins, the parity flips. Returns what the coming sweep will run under. */
uint64_t tcp_program_next_generation(struct tcp_program *program, uint32_t *ret_parity);
int tcp_program_sweep(struct tcp_program *program);
/* Turns tcp_state_again on (see bpf/tcp.bpf.c). */
void tcp_program_look_again(struct tcp_program *program);
/* Does so by itself when the kernel reports the first miss. */
void tcp_program_stats(struct tcp_program *program, struct tcp_program_stats *ret_stats);

/* Calls fn for each loaded program with its name and descriptor. */
void tcp_program_each(const struct tcp_program *program, void (*fn)(const char *name, int fd, void *userdata), void *userdata);
