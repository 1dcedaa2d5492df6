/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A star of hosts around a router. Each host has one device, eth0, and its link to the
 * router goes through a relay, a process in a network namespace of its own
 * (lab/README.md), so the delay of a path is the sum of its two links.
 *
 * Host number N (from 1) is 198.18.N.2 and 2001:db8:N::2, its router 198.18.N.1 and
 * 2001:db8:N::1: addresses for benchmarks and documentation (RFC 2544, RFC 3849), which are
 * nobody's. The router's devices are called like the hosts behind them.
 *
 * Configured by ip(8) of iproute2, in batches inside the hosts.
 */
#pragma once
#include <stddef.h>
#include "lab/host.h"
#include "lib/address.h"

#define TOPOLOGY_HOSTS_MAX 32

/* A row of a table that outlives the topology. */
struct topology_host {
	const char *name;
	const char *what;      /* one sentence about the host, no period */
	const char *link;      /* settings of its link in both directions (lab/impair.h) */
	const char *link_what; /* the same for people */
};

struct topology;

/* The files are put into every host, see host.h; the router gets them too. */
int topology_new(const struct topology_host *hosts, size_t n_hosts, const struct host_file *files, size_t n_files,
		 struct topology **ret_topology, struct error *ret_error);
void topology_free(struct topology *topology); /* ends the relays and waits for them */

size_t topology_count(const struct topology *topology);
const struct topology_host *topology_row(const struct topology *topology, size_t i);
struct host *topology_host(const struct topology *topology, size_t i);
struct host *topology_router(const struct topology *topology);
/* By name, in a table; -ENOENT with a sentence that may have a better name. */
int topology_find(const struct topology_host *hosts, size_t n_hosts, const char *name, struct error *ret_error);
/* Of host i of any topology; family is AF_INET or AF_INET6. Returns buf. */
const char *topology_address(size_t i, int family, char buf[static ADDRESS_TEXT_MAX]);

/* Changes host i's link: "both loss=5%", "a->b delay=30ms" (a is the host). */
int topology_set(struct topology *topology, size_t i, const char *settings, struct error *ret_error);
/* As it was in the table. */
int topology_reset(struct topology *topology, size_t i, struct error *ret_error);
/* The relay's counters, a line of JSON of the topology's, valid until the next call. */
int topology_counts(struct topology *topology, size_t i, const char **ret_json, struct error *ret_error);
/* A child has ended: which host's relay it was, or -ENOENT. For whoever waits for children. */
int topology_ended(struct topology *topology, pid_t pid);
