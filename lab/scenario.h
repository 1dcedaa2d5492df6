/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The demonstration as tables: its hosts, the faults that it can play, when the tour
 * plays which, and the commands that a person can type. Nothing here does anything; see
 * src/cli/lab_control.c.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lab/topology.h"
#include "lab/traffic.h"

extern const struct topology_host scenario_hosts[];
extern const size_t scenario_n_hosts;

struct fault {
	const char *name;       /* of commands and of --fault */
	const char *host;       /* whose link or program it is */
	const char *settings;   /* of that link (lab/impair.h), or NULL: it is the traffic's */
	enum traffic_fault traffic;
	uint64_t value;         /* for traffic_set */
	const char *sentence;   /* what happens now: "the link of web loses 5 % of its packets" */
	const char *look;       /* where it shows */
};
extern const struct fault scenario_faults[];
extern const size_t scenario_n_faults;
/* By name; -ENOENT with a sentence. */
int scenario_find(const char *name, struct error *ret_error);

/* The tour: a healthy while, then every fault in turn with a healthy pause behind it, for ever. */
#define SCENARIO_QUIET_NS UINT64_C(15000000000)
#define SCENARIO_FAULT_NS UINT64_C(20000000000)
/* Step i of the tour: when it comes after the start, which fault it is about, and whether that begins or ends. */
struct scenario_step { uint64_t at_ns; size_t fault; bool begins; };
struct scenario_step scenario_step(uint64_t i);

enum command_kind {
	COMMAND_NONE, COMMAND_HELP, COMMAND_STATUS, COMMAND_QUIT,
	COMMAND_FAULT,  /* index: of the fault */
	COMMAND_LINK,   /* index: of the host; text: settings for topology_set */
	COMMAND_STOP,   /* everything */
	COMMAND_STOP_FAULT, COMMAND_STOP_LINK,
};
struct command { enum command_kind kind; size_t index; char text[128]; };
/* A line of a person: "loss web 5%", "slow-dns", "stop". -EINVAL with a sentence. */
int command_parse(const char *line, struct command *ret_command, struct error *ret_error);
extern const char command_help[];
