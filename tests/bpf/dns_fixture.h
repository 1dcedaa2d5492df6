/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the DNS programs share: the programs loaded and attached, rows by
 * server, and messages as datagrams. Each test has its servers in 127.88.0.0/16, which
 * nobody else asks, so other lookups of the machine (which the programs see as well)
 * cannot disturb a server's row; what is counted for the whole host may only be more.
 */
#pragma once
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
/* after the above: */
#include <cmocka.h>

#include "agent/cgroup.h"
#include "agent/dns_program.h"
#include "agent/kbpf.h"

#define MESSAGE 26 /* bytes: a header and the question "dns.test." A IN */

struct fixture {
	struct dns_program *program;
	struct dns_program_stats before;
	mono_time now; /* moved by hand, so that idle times need no waiting */
};

static inline void fixture_open(struct fixture *f)
{
	struct error error = { "" };
	int fd;

	if (geteuid()) {
		print_message("skipped: loading BPF programs needs root\n");
		skip();
	}
	f->now = mono_now();
	if (dns_program_open(0, &f->program, &error))
		fail_msg("%s", error.text);
	fd = cgroup_root_open(&error);
	if (fd < 0 || dns_program_attach(f->program, fd, &error))
		fail_msg("%s", error.text);
	close(fd);
	dns_program_stats(f->program, &f->before);
}

static inline void fixture_close(struct fixture *f)
{
	dns_program_close(f->program);
}

static inline void sweep(struct fixture *f, uint64_t seconds)
{
	f->now.ns += seconds * NS_PER_SEC;
	assert_int_equal(dns_program_sweep(f->program, f->now), 0);
}

/* "127.88.1.1", "::1", as a socket address of port 53 (or none). */
static inline socklen_t endpoint(const char *text, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return sizeof(*v4);
	}
	assert_int_equal(inet_pton(AF_INET6, text, &v6->sin6_addr), 1);
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	return sizeof(*v6);
}

static inline void row_address(const char *text, struct peer_address *ret)
{
	uint8_t *bytes = (uint8_t *)ret;

	memset(bytes, 0, 16);
	if (inet_pton(AF_INET6, text, bytes) == 1)
		return;
	memset(bytes + 10, 0xff, 2);
	assert_int_equal(inet_pton(AF_INET, text, bytes + 12), 1);
}

static inline const struct dns_row *row_of(const struct fixture *f, const char *server)
{
	struct peer_address address;

	row_address(server, &address);
	for (uint32_t i = 0; i < DNS_SERVERS; i++) {
		const struct dns_row *row = dns_program_row(f->program, i);

		if (row && !memcmp(&row->address, &address, sizeof(address)))
			return row;
	}
	return NULL;
}

static inline const struct dns_row *row_wanted(const struct fixture *f, const char *server)
{
	const struct dns_row *row = row_of(f, server);

	if (!row)
		fail_msg("%s has no row", server);
	return row;
}

static inline uint64_t lookups(const struct dns_row *row, enum dns_rcode rcode)
{
	uint64_t n = 0;

	for (size_t i = 0; i < HIST_BUCKETS; i++)
		n += row->buckets[rcode][i];
	return n;
}

static inline uint64_t all_lookups(const struct dns_row *row)
{
	uint64_t n = 0;

	for (size_t i = 0; i < DNS_RCODE_COUNT; i++)
		n += lookups(row, (enum dns_rcode)i);
	return n;
}

static inline uint64_t discarded(const struct fixture *f, enum dns_discarded reason)
{
	struct dns_program_stats now;

	dns_program_stats(f->program, &now);
	return now.discarded[reason] - f->before.discarded[reason];
}

static inline int udp_socket(const char *address, uint16_t port)
{
	struct sockaddr_storage local;
	socklen_t len = endpoint(address, port, &local);
	struct timeval patience = { 5, 0 };
	int fd = socket(local.ss_family, SOCK_DGRAM, 0);

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	assert_int_equal(bind(fd, (struct sockaddr *)&local, len), 0);
	return fd;
}

/* flags: the third and fourth byte. */
static inline size_t make_message(uint8_t buf[static MESSAGE], uint16_t id, uint16_t flags)
{
	static const uint8_t rest[] = { 0, 1, 0, 0, 0, 0, 0, 0, 3, 'd', 'n', 's', 4, 't', 'e', 's', 't', 0, 0, 1, 0, 1 };

	_Static_assert(sizeof(rest) + 4 == MESSAGE, "the whole message");
	buf[0] = (uint8_t)(id >> 8);
	buf[1] = (uint8_t)id;
	buf[2] = (uint8_t)(flags >> 8);
	buf[3] = (uint8_t)flags;
	memcpy(buf + 4, rest, sizeof(rest));
	return MESSAGE;
}

#define QUERY 0x0100
#define ANSWER(rcode) ((uint16_t)(0x8180 | (rcode)))
#define ANSWER_CUT 0x8380

static inline void send_message(int fd, const char *to, uint16_t id, uint16_t flags)
{
	uint8_t message[MESSAGE];
	struct sockaddr_storage address;
	socklen_t len = 0;

	make_message(message, id, flags);
	if (to)
		len = endpoint(to, 53, &address);
	assert_int_equal(sendto(fd, message, MESSAGE, 0, to ? (struct sockaddr *)&address : NULL, len), MESSAGE);
}

/* The server's side: takes one query, and says who asked. */
static inline uint16_t take_query(int server, struct sockaddr_storage *ret_client, socklen_t *ret_len)
{
	uint8_t message[512];
	ssize_t n;

	*ret_len = sizeof(*ret_client);
	n = recvfrom(server, message, sizeof(message), 0, (struct sockaddr *)ret_client, ret_len);
	assert_true(n >= 2);
	return (uint16_t)(message[0] << 8 | message[1]);
}

static inline void answer(int server, const struct sockaddr_storage *client, socklen_t len, uint16_t id, uint16_t flags)
{
	uint8_t message[MESSAGE];

	make_message(message, id, flags);
	assert_int_equal(sendto(server, message, MESSAGE, 0, (const struct sockaddr *)client, len), MESSAGE);
}

static inline void take_answer(int client, uint16_t id)
{
	uint8_t message[512];

	assert_true(recv(client, message, sizeof(message), 0) >= 2);
	assert_int_equal(message[0] << 8 | message[1], id);
}

/* One whole lookup, which the server answers with `flags`. */
static inline void exchange(int client, const char *to, int server, uint16_t id, uint16_t flags)
{
	struct sockaddr_storage from;
	socklen_t len;

	send_message(client, to, id, QUERY);
	assert_int_equal(take_query(server, &from, &len), id);
	answer(server, &from, len, id, flags);
	take_answer(client, id);
}

static inline int own_namespace(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd, r;

	if (unshare(CLONE_NEWNET))
		return -errno;
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	r = ioctl(fd, SIOCSIFFLAGS, &request) ? -errno : 0;
	close(fd);
	return r;
}
