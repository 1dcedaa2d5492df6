/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the measuring programs in C share: a table of results that becomes JSON, real TCP connections on loopback in a
 * network namespace of the program's own, and the TCP programs of the agent, loaded as the agent loads them.
 *
 * CPU time where the time is long enough to be told from other work's; other work then costs caches, but no time slice.
 * Whatever fails ends the program (bench_die): half a measurement is none.
 */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/peers.h"
#include "agent/tcp_program.h"
#include "lib/json.h"

struct bench {
	const char *name;
	const char *json_path; /* --json FILE, or NULL */
	json_t *rows;
};

void __attribute__((noreturn)) bench_die(const char *what);

/* Reads the command line, demands root, and moves into a network namespace of its own with lo up. */
void bench_open(struct bench *bench, const char *name, int argc, char **argv);
/* Writes the JSON. */
void bench_close(struct bench *bench);

void bench_heading(const char *text);
/* One row: median, minimum and maximum of values, which are sorted in place. */
void bench_report(struct bench *bench, const char *what, const char *unit, double *values, size_t n);

/* CPU time of this thread. */
uint64_t bench_cpu_ns(void);
/* CPU time of a program from fork to exit, its output thrown away; exit status not 0 ends us. */
uint64_t bench_cpu_of_command_ns(const char *const *command);

/* A listening socket on 127.88.NET.0/24, at any address of it when host is 0. */
int bench_listen(unsigned net, unsigned host, struct sockaddr_in *ret_address);
int bench_connect(const struct sockaddr_in *address);
/* n connections one after the other; each carries a request and an answer and is closed in order, the client first. */
void bench_live_and_die(int listener, const struct sockaddr_in *address, int n);

/* A child process that holds established connections, both ends, over eight addresses of 127.88.NET.0/24. */
struct holder {
	pid_t pid;
	int orders, answers;
};

void holder_start(struct holder *holder, unsigned net, int connections);
/* One byte over every connection in each direction; returns when all have been read. */
void holder_exchange(struct holder *holder);
void holder_end(struct holder *holder); /* resets all: nothing is left in TIME_WAIT */

/* The agent's TCP programs with their peer table, on the default settings. */
struct subject {
	struct settings settings;
	struct tcp_program *program;
	struct peers *peers;
};

void subject_open(struct subject *subject);
void subject_close(struct subject *subject);
/* What the agent does with the kernel at every tick. */
void subject_sweep(struct subject *subject);
uint64_t subject_swept(const struct subject *subject); /* sockets seen by the last sweep */
/* Descriptor of one program, or -1. */
int subject_program_fd(const struct subject *subject, const char *name);
