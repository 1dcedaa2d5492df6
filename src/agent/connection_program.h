/* SPDX-License-Identifier: Apache-2.0 */
/* The owner of bpf/connection.bpf.c: loads it, and hands out the records of one run. */
#pragma once
#include <stdint.h>
#include "abi_connection.h"
#include "lib/error.h"

struct connection_program;
struct tcp_program;

/* Needs CAP_BPF and CAP_PERFMON; running it later does not. tcp: whose records tell the connections' ages; NULL: nobody's. */
int connection_program_open(const struct tcp_program *tcp, struct connection_program **ret_program, struct error *ret_error);
void connection_program_close(struct connection_program *program);

struct connection_sink {
	/* Each is valid during the call. < 0 ends the run, which returns it. */
	int (*process)(const struct connection_process *process, void *userdata);
	int (*listener)(const struct connection_listener *listener, void *userdata);
	int (*connection)(const struct connection_record *record, void *userdata);
	void *userdata;
};

/* One run over all sockets. */
int connection_program_run(struct connection_program *program, const struct connection_wanted *wanted,
			   const struct connection_sink *sink);
void connection_program_each(const struct connection_program *program,
			     void (*fn)(const char *name, int fd, void *userdata), void *userdata);
