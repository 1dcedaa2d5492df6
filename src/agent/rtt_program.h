/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owner of bpf/rtt.bpf.c: the round-trip time at every acknowledgement, an option.
 * It writes into the histograms of the TCP programs.
 */
#pragma once
#include "agent/features.h"
#include "agent/tcp_program.h"

struct rtt_program;

/* Attached at the root of the cgroup hierarchy until the close. What is missing is reported as the feature
 * tcp_rtt_every_ack; then *ret_program is NULL and RTT is taken once per tick. */
int rtt_program_open(const struct tcp_program *tcp, struct features *features, struct rtt_program **ret_program);
void rtt_program_close(struct rtt_program *program);
int rtt_program_fd(const struct rtt_program *program); /* of the program, for its run-time statistics */
