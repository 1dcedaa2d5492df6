/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owner of the kernel side of the flow collector (bpf/flow.bpf.c): loading it for a
 * set of interfaces, attaching, and the age of conversations. At tcx where the kernel
 * has it (6.6), else as the filter of a packet socket per interface. Either is held
 * by a file descriptor and leaves nothing behind when the agent is killed, which a
 * clsact filter would; and neither can replace, or be in the way of, anybody else's.
 */
#pragma once
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include "abi_flow.h"
#include "agent/peers.h"
#include "lib/clock.h"
#include "lib/error.h"

struct flow_program;

enum flow_mode {
	FLOW_BEST,
	/* For tests: */
	FLOW_TCX,    /* its programs, even where they cannot be attached */
	FLOW_SOCKET, /* the packet socket, even where there is tcx */
};

struct flow_device {
	char name[IF_NAMESIZE];
	uint32_t ifindex;
	bool is_ip; /* without a link header */
};

struct flow_program_stats {
	uint64_t lost[FLOW_LOST_COUNT];
	uint64_t conversations;
};

/* In the agent's network namespace. -ENODEV, or -EOPNOTSUPP for a kind of link whose packets cannot be read, with a sentence. */
int flow_device_find(const char *name, struct flow_device *ret_device, struct error *ret_error);

/* Loads for up to FLOW_DEVICES_MAX devices, and tells the peer table; nothing runs yet. -errno with a sentence. */
int flow_program_open(struct peers *peers, const struct flow_device *devices, uint32_t n_devices, uint32_t conversations_max,
		      enum flow_mode mode, struct flow_program **ret_program, struct error *ret_error);
void flow_program_close(struct flow_program *program);
/* To one of the devices. -errno with a sentence. */
int flow_program_attach(struct flow_program *program, uint32_t device, struct error *ret_error);
const char *flow_program_mode(const struct flow_program *program); /* "tcx" or "packet_socket" */

/* Moves the clock of the conversations on, and takes out a part of those that ended. */
void flow_program_age(struct flow_program *program, mono_time now);

const struct flow_row *flow_program_row(const struct flow_program *program, uint32_t device, uint32_t slot);
/* Of the peer whose first slot, or either, it is. */
const struct flow_hist *flow_program_hist(const struct flow_program *program, uint32_t device, uint32_t slot);
void flow_program_stats(const struct flow_program *program, struct flow_program_stats *ret_stats);
/* Calls fn for each loaded program with its name and descriptor. */
void flow_program_each(const struct flow_program *program, void (*fn)(const char *name, int fd, void *userdata), void *userdata);
