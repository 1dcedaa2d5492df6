/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The traffic of the demonstration network: a process for each program of a small
 * company's network, inside the host it belongs to, with a name that ps, `top` and `why`
 * show. They talk all the time, over both families, and go on after any fault.
 *
 *   browser  (client-a twice, client-b)  pages from webd, with time to think
 *   webd     (web)                       asks dbd for every page; also streams
 *   player   (client-b)                  reads a stream of webd
 *   dbd, storaged (db, site-b)           rows; a sink
 *   backup   (db)                        a block after the other to storaged
 *   phone, phoned (client-b, site-b)     UDP, 50 datagrams/s each way
 *   named    (dns)                       answers for all; every connection begins with a look-up
 *
 * A fault of a program is a number in memory that all of them share, and so are the
 * counts of what they did.
 */
#pragma once
#include <stdint.h>
#include "lab/topology.h"

/* Values of traffic_set; 0 is none. */
enum traffic_fault {
	TRAFFIC_SLOW_DNS,    /* named takes so many ns longer */
	TRAFFIC_SLOW_READER, /* player reads so many bytes per second */
	TRAFFIC_REFUSED,     /* 1: nobody listens on dbd's port */
	TRAFFIC_FAULTS
};

struct traffic;

/* The hosts by the names above must be in the topology, which outlives the traffic. */
int traffic_start(struct topology *topology, struct traffic **ret_traffic, struct error *ret_error);
void traffic_free(struct traffic *traffic); /* ends the processes and waits for them */
void traffic_set(struct traffic *traffic, enum traffic_fault fault, uint64_t value);

/* Of the program on the host of a row; what a server did, its clients count. */
struct traffic_count { const char *program, *host, *what; uint64_t done, failed; };
/* false: there is no row i. */
bool traffic_count(const struct traffic *traffic, size_t i, struct traffic_count *ret_count);
/* A child has ended: the name of the program it was, or NULL. */
const char *traffic_ended(struct traffic *traffic, pid_t pid);

/* What the resolvers of all hosts need: pass it to topology_new. */
extern const struct host_file traffic_files[];
extern const size_t traffic_n_files;
