/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the files of `netsonde lab`: the running lab, and what each file does for it.
 *
 * lab.c has the flags and what needs no lab; lab_run.c starts everything, supervises it
 * and ends it; lab_config.c writes the configurations; lab_control.c plays faults and obeys
 * commands; lab_enter.c lets other processes into the hosts.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "lab/forward.h"
#include "lab/scenario.h"
#include "lab/topology.h"
#include "lab/traffic.h"
#include "lib/fetch.h"
#include "lib/flags.h"
#include "lib/loop.h"

#define LAB_AGENT_PORT 9435
#define LAB_FAULTS_MAX 32

struct lab_flags {
	const char *listen, *scenario, *fault, *user, *log_level;
	struct flag_strings agents;
	uint64_t duration_ns;
	bool list;
};

struct lab_agent { size_t host; pid_t pid; struct forward *forward; int config; bool ready; };

struct lab {
	const struct lab_flags *flags;
	struct loop *loop;
	struct fetch *fetch;
	struct topology *topology;
	struct traffic *traffic;
	struct lab_agent agents[FLAG_STRINGS_MAX];
	size_t n_agents;
	pid_t server;
	int server_config;
	struct loop_timer *poll, *deadline, *end;
	struct loop_signal *signals[4];
	bool asking, ready, stopping;
	int status;
	/* lab_control.c */
	struct loop_timer *step;
	struct loop_fd *input;
	uint64_t next_step;           /* of the tour */
	bool touring;
	bool faults[LAB_FAULTS_MAX];  /* which are on */
	char line[256];
	size_t line_len;
	/* lab_enter.c */
	int door;
	struct loop_fd *door_watch;
};

/* The whole life of a lab; the exit status. */
int lab_run(const struct lab_flags *flags);
/* Ends it, from the loop. */
void lab_stop(struct lab *lab);

/* The configuration of the agent on a host, and of the server, as open files that their processes read as
 * /proc/self/fd/N. A descriptor, or -errno. */
int lab_config_agent(const struct lab *lab, const struct lab_agent *agent);
int lab_config_server(const struct lab *lab);

/* Once everything is ready: the commands of standard input and the tour. */
int lab_control_start(struct lab *lab, struct error *ret_error);
void lab_control_done(struct lab *lab);

/* Where `netsonde lab exec` knocks. Another lab in this network may have the place: -EADDRINUSE. */
int lab_door_open(struct lab *lab);
void lab_door_done(struct lab *lab);
/* `netsonde lab exec HOST [COMMAND...]`: becomes the command. Returns the exit status when it could not. */
int lab_enter(int argc, char **argv);
