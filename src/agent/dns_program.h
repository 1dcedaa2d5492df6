/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owner of the kernel side of the DNS collector (bpf/dns.bpf.c): loading, attaching
 * to the root of cgroup v2, the expiry of unanswered queries, and the rows of
 * servers. A server that has been idle leaves its row; the row is cleared and
 * given to another only when no query can point at it any more.
 */
#pragma once
#include <stdint.h>
#include "abi_dns.h"
#include "lib/clock.h"
#include "lib/error.h"

struct dns_program;

struct dns_program_stats {
	uint64_t discarded[DNS_DISCARDED_COUNT];
	uint64_t lost[DNS_LOST_COUNT];
	uint32_t pending; /* entries at the last sweep */
	uint32_t servers; /* that have a row of their own */
};

/* Loads; nothing runs yet. only_netns: of netns_scope. -errno with a sentence. */
int dns_program_open(uint32_t only_netns, struct dns_program **ret_program, struct error *ret_error);
void dns_program_close(struct dns_program *program);
/* cgroup_fd: the root of cgroup v2; not needed afterwards. */
int dns_program_attach(struct dns_program *program, int cgroup_fd, struct error *ret_error);

/* For tests: how long a query waits for its answer, and how long it is remembered. Else DNS_TIMEOUT_NS, DNS_KEEP_NS. */
void dns_program_set_times(struct dns_program *program, uint64_t timeout_ns, uint64_t keep_ns);
/* Counts the queries whose time is over, and takes back the rows of idle servers. Returns -errno. */
int dns_program_sweep(struct dns_program *program, mono_time now);

/* Row 0..DNS_ROWS-1; NULL when it is nobody's, or DNS_OTHER's with nothing in it. Memory that the kernel writes. */
const struct dns_row *dns_program_row(const struct dns_program *program, uint32_t slot);
void dns_program_stats(const struct dns_program *program, struct dns_program_stats *ret_stats);
/* Calls fn for each program with its name and descriptor. */
void dns_program_each(const struct dns_program *program, void (*fn)(const char *name, int fd, void *userdata), void *userdata);
