/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owner of the kernel side of active probing (bpf/probe.bpf.c): loading, the shared memory (see bpf/abi_probe.h), the
 * reflector's settings. Attaching is probe_devices' work. Loading takes CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; nothing
 * after it does.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "abi_probe.h"
#include "lib/error.h"

struct probe_program;

struct probe_program_options {
	uint32_t sessions_max, flights_max; /* flights: rounded up to a power of two */
	/* The block of ICMP identifiers, UDP and TCP source ports that are ours, host order; count at most
	 * PROBE_PORTS_MAX. */
	uint16_t port_first, port_count;
	uint16_t icmp_first;                /* identifiers icmp_first .. + port_count - 1 */
	/* The reflector; everything off when reflect is false. */
	bool reflect, reflect_icmp;
	bool reflect_authenticated_only;
	uint16_t reflect_port;              /* 0: STAMP_PORT */
	uint32_t reflect_key;               /* 1 + index of its HMAC key; 0: none */
	uint32_t reflect_rate, reflect_burst; /* packets/s of one source, and at once */
	bool hardware_anywhere; /* the program for cards also on devices in software, for tests; see probe_hardware.h */
};

/* The programs, for probe_devices. RECEIVE_* also reflect, on devices that are marked for it. */
enum probe_hook {
	PROBE_HOOK_XDP, PROBE_HOOK_XDP_GENERIC, /* the same code, but each knows what it is */
	PROBE_HOOK_TC_RECEIVE, PROBE_HOOK_TC_SEND,
	PROBE_HOOK_SOCKET,                      /* filter of a packet socket: both directions, it only sees */
	PROBE_HOOK_SOCKET_SEND,                 /* the same for what leaves, where another hook receives */
	PROBE_HOOK_COUNT
};

struct probe_program_stats {
	uint64_t reflect_refused[REFLECT_REFUSED_COUNT];
	uint64_t rejected; /* looks like ours and belongs to no session */
};

int probe_program_open(const struct probe_program_options *options, struct probe_program **ret_program,
		       struct error *ret_error);
void probe_program_close(struct probe_program *program);
/* -EOPNOTSUPP: this kernel does not take that program. */
int probe_program_fd(const struct probe_program *program, enum probe_hook hook);
/* False also where it was wanted and the kernel is too old for it (bpf_ktime_get_tai_ns, Linux 6.1). */
bool probe_program_reflects(const struct probe_program *program);

/* For probe_hardware: a map by its name, variables by that of their section; negative: there is none. */
int probe_program_map(const struct probe_program *program, const char *name);
bool probe_program_hardware_anywhere(const struct probe_program *program);

/* Shared with the kernel: flights_max, rounded up; 1 + sessions_max, of which the first is PROBE_SESSION_NONE. */
struct probe_flight *probe_program_flights(const struct probe_program *program);
uint32_t probe_program_flights_max(const struct probe_program *program);
struct probe_session *probe_program_sessions(const struct probe_program *program);
/* Makes answers to `key` belong to sessions[index]; -EEXIST, -errno. And no longer. */
int probe_program_session_add(struct probe_program *program, const struct probe_key *key, uint32_t index);
int probe_program_session_remove(struct probe_program *program, const struct probe_key *key);
/* index below PROBE_HMAC_KEYS_MAX. */
int probe_program_hmac_key(struct probe_program *program, uint32_t index, const struct probe_hmac_key *key);

/* A device's place among PROBE_DEVICES_MAX, for its counters and whether it reflects; before its programs are attached,
 * which let everything pass until then. -EEXIST, -ENOSPC (also when its index has the same remainder as two others').
 * By slot from then on. */
int probe_program_device_add(struct probe_program *program, uint32_t ifindex, bool reflect, uint32_t *ret_slot);
void probe_program_device_remove(struct probe_program *program, uint32_t slot);
uint64_t probe_program_packets(const struct probe_program *program, uint32_t slot, enum probe_action action);

/* Reads which addresses this host has: the reflector answers for no others. When they may have changed; a device that
 * reflects does it when it is added. 0 also when nothing reflects; -errno: some are missing. */
int probe_program_addresses(struct probe_program *program);
/* The reflector's own clock, once per tick: its error estimate as STAMP has it (host order), and TAI - UTC. */
void probe_program_clock(struct probe_program *program, uint16_t error_estimate, int32_t tai_offset_s);
void probe_program_stats(const struct probe_program *program, struct probe_program_stats *ret_stats);
/* Calls fn for each loaded program with its name and descriptor. */
void probe_program_each(const struct probe_program *program, void (*fn)(const char *name, int fd, void *userdata),
			void *userdata);
