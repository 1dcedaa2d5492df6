/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owner of the kernel side of the TCP collector (bpf/tcp.bpf.c): which of its
 * programs this kernel takes, loading, attaching, seeding, sweeping. Everything
 * is held by file descriptors and links, so a killed agent leaves nothing behind.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "abi.h"
#include "agent/features.h"
#include "agent/peers.h"
#include "lib/error.h"

struct bpf_object;
struct events;
struct tcp_program;

struct tcp_program_stats {
	uint64_t lost[LOST_COUNT];
	uint64_t missed;            /* events that the kernel did not hand to our programs (recursion) */
	uint64_t state_missed;      /* state changes among them */
	uint64_t recovered;         /* events that tcp_state_again found behind an interrupted tcp_state */
	uint64_t swept, open;       /* sockets at the last sweep */
};

/* Loads; nothing runs yet. The TCP core (life cycle and sweep) must load: -errno with a sentence otherwise. */
enum tcp_sweep_mode {
	TCP_SWEEP_BEST,  /* what is safe on this kernel */
	TCP_SWEEP_FILES, /* over the files of all tasks, for tests */
};
/* events: where failed connects, resets and bursts are told; NULL: nowhere. peers: borrowed until the close; the program's rows are attached to it. */
int tcp_program_open(struct peers *peers, const struct events *events, uint32_t sockets_max, enum tcp_sweep_mode mode, struct tcp_program **ret_program,
		     struct error *ret_error);
void tcp_program_close(struct tcp_program *program);

/* Gives an object that is not loaded yet the records of the sockets and the histograms (maps `sockets` and `hists`). -errno. */
int tcp_program_share(const struct tcp_program *program, struct bpf_object *object);

/* By slot, peers_slots of them. */
struct peer_row *tcp_program_rows(const struct tcp_program *program);
struct peer_hists *tcp_program_hists(const struct tcp_program *program);
/* What is optional is reported in features. */
int tcp_program_attach(struct tcp_program *program, struct features *features, struct error *ret_error);
/* Records for the connections that are older than the agent. */
int tcp_program_seed(struct tcp_program *program, struct features *features);
/* Jiffies per second; without it no bursts are told. */
void tcp_program_set_hz(struct tcp_program *program, uint32_t hz);
void tcp_program_set_sockets_max(struct tcp_program *program, uint32_t sockets_max);

/* Is there a hook for it? What is not counted is not shown as 0. */
bool tcp_program_counts_retransmits(const struct tcp_program *program, enum tcp_retransmit type);
bool tcp_program_counts_resets(const struct tcp_program *program, enum tcp_reset_direction direction);

/* After peers_begin. */
int tcp_program_sweep(struct tcp_program *program);
/* Turns tcp_state_again on (see bpf/tcp.bpf.c). */
void tcp_program_look_again(struct tcp_program *program);
/* Does so by itself when the kernel reports the first miss. */
void tcp_program_stats(struct tcp_program *program, struct tcp_program_stats *ret_stats);

/* Calls fn for each loaded program with its name and descriptor. */
void tcp_program_each(const struct tcp_program *program, void (*fn)(const char *name, int fd, void *userdata), void *userdata);
