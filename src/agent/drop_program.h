/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owner of the kernel side of the drops (bpf/drop.bpf.c): which variant this kernel
 * takes, loading, attaching, and the table of drops by reason and protocol. Works
 * alone as well as inside the agent (netsonde top): open, attach, then read at will.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "agent/drop_reasons.h"
#include "agent/events.h"
#include "agent/features.h"
#include "lib/buffer.h"
#include "lib/error.h"

struct drop_program;

/* Packets since the program was attached. Both texts are borrowed and as old as the program. */
struct drop_count {
	const char *reason, *protocol;
	uint64_t packets;
};

/* Loads; nothing runs yet. events NULL: only counts. only_netns: of netns_scope. -EOPNOTSUPP, -EPERM, ... with a sentence. */
int drop_program_open(const struct events *events, uint32_t only_netns, struct drop_program **ret_program, struct error *ret_error);
void drop_program_close(struct drop_program *program);
/* Features: drops; drop_reasons and drop_events where they are missing (features may be NULL). */
int drop_program_attach(struct drop_program *program, struct features *features, struct error *ret_error);

/* Reads the kernel's table, without a system call. */
void drop_program_read(struct drop_program *program);
/* What was ever dropped, as of the last read, in a stable order. Valid until the next read. Returns how many. */
size_t drop_program_counts(const struct drop_program *program, const struct drop_count **ret_counts);
const struct drop_reasons *drop_program_reasons(const struct drop_program *program);
/* Drops that the kernel did not tell us, because they interrupted the program on their processor. */
uint64_t drop_program_missed(const struct drop_program *program);
/* What is no drop, though the kernel frees it as one. */
uint64_t drop_program_noise(const struct drop_program *program);

/* From now on this interface's XDP drops are our own (on), or the host's (off). -ENOSPC beyond DROP_OWN_XDP_MAX. Works
 * without capabilities. What a driver drops by XDP before there is an sk_buff is never seen. */
int drop_program_own_xdp(struct drop_program *program, uint32_t netns, uint32_t ifindex, bool on);

/* The body of GET /api/v1/drops:
 * {"status":"success","data":{"drops":[{"reason":"no_socket","protocol":"udp","count":12}, ...]}} as of the last read. */
int drop_program_write_json(const struct drop_program *program, struct buffer *out);

/* The loaded program, for run-time statistics. */
int drop_program_fd(const struct drop_program *program);
