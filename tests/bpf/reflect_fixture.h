/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the reflector share: a network namespace with a veth pair, requests written byte by byte from the
 * RFCs (8762, 8972, 768, 791, 8200, 792, 4443), the answers they must get, and checksums that share nothing with the
 * program's. To be included once by a test program, behind nothing else.
 */
#pragma once
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
/* after the above: */
#include <cmocka.h>

#include "agent/probe/clock_error.h"
#include "agent/probe/hmac_key.h"
#include "agent/probe/probe_program.h"
#include "lib/clock.h"
#include "stamp.h"
#include "frame_fixture.h"
#include "ip_command.h"

#define OWN_MAC "\x02\0\0\0\0\x01"
#define PEER_MAC "\x02\0\0\0\0\x02"
#define SECRET "a secret of the test"
#define PORT 862

/* ---- bytes ---- */


static inline uint64_t get64(const uint8_t *at)
{
	uint64_t v = 0;

	for (size_t i = 0; i < 8; i++)
		v = v << 8 | at[i];
	return v;
}

static inline void put16(struct frame *frame, unsigned v)
{
	uint8_t bytes[2];

	set16(bytes, v);
	put(frame, bytes, 2);
}

/* RFC 1071, the plain way: 16-bit words in network order, the carry put back at every step. */
static inline unsigned sum16(const uint8_t *bytes, size_t len, unsigned sum)
{
	for (size_t i = 0; i < len; i++) {
		sum += i % 2 ? bytes[i] : (unsigned)bytes[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

/* ---- requests ---- */

struct request {
	const char *name;
	bool v6, icmp;
	bool authenticated;
	size_t payload;      /* STAMP: all of it; ICMP: behind the header; 0: the smallest */
	unsigned vlans;
	unsigned from_port, to_port; /* 0: 40001, PORT */
	enum { SUM_WHOLE, SUM_NONE, SUM_BEGUN } sum;
	const char *source, *destination; /* NULL: 10.0.0.2, fd00::2 to 10.0.0.1, fd00::1 */
};

/* A frame and where its parts are. */
struct packet_of {
	struct frame frame;
	const struct request *request;
	size_t ip, transport, body; /* offsets; the body is behind the UDP or ICMP header */
};

static inline size_t base_len(const struct request *request)
{
	return request->authenticated ? sizeof(struct stamp_sender_authenticated) : sizeof(struct stamp_sender);
}

static inline size_t body_len(const struct request *request)
{
	if (request->payload)
		return request->payload;
	return request->icmp ? 56 : base_len(request);
}

static inline void put_address(struct frame *frame, bool v6, const char *text)
{
	uint8_t address[16];

	assert_int_equal(inet_pton(v6 ? AF_INET6 : AF_INET, text, address), 1);
	put(frame, address, v6 ? 16 : 4);
}

static inline unsigned pseudo_sum(const struct packet_of *p)
{
	const uint8_t *ip = p->frame.data + p->ip;
	size_t len = body_len(p->request) + 8;
	unsigned protocol = p->request->icmp ? 58 : 17, sum = (unsigned)len + protocol;

	return p->request->v6 ? sum16(ip + 8, 32, sum) : sum16(ip + 12, 8, sum);
}

/* Writes the checksums of both layers, as the request wants its own. */
static inline void finish(struct packet_of *p)
{
	uint8_t *ip = p->frame.data + p->ip, *t = p->frame.data + p->transport;
	uint8_t *checksum = t + (p->request->icmp ? 2 : 6);
	unsigned pseudo = p->request->icmp && !p->request->v6 ? 0 : pseudo_sum(p), sum;

	if (!p->request->v6) {
		set16(ip + 10, 0);
		set16(ip + 10, 0xffff ^ sum16(ip, 20, 0));
	}
	set16(checksum, 0);
	if (p->request->sum == SUM_NONE)
		return;
	if (p->request->sum == SUM_BEGUN) {
		set16(checksum, pseudo);
		return;
	}
	sum = 0xffff ^ sum16(t, 8 + body_len(p->request), pseudo);
	set16(checksum, sum || p->request->icmp ? sum : 0xffff);
}

static inline void put_ip(struct packet_of *p)
{
	const struct request *r = p->request;
	size_t len = 8 + body_len(r);

	p->ip = p->frame.len;
	if (r->v6) {
		PUT(&p->frame, "\x6b\x91\xab\xcd"); /* class 0xb9: DSCP 46, ECT(1); flow label 0x1abcd */
		put16(&p->frame, (unsigned)len);
		put16(&p->frame, (r->icmp ? 58 : 17) << 8 | 57);
	} else {
		PUT(&p->frame, "\x45\xb9");
		put16(&p->frame, (unsigned)(20 + len));
		PUT(&p->frame, "\x12\x34\x40\0");
		put16(&p->frame, 57 << 8 | (r->icmp ? 1 : 17));
		put16(&p->frame, 0);
	}
	put_address(&p->frame, r->v6, r->source ? r->source : r->v6 ? "fd00::2" : "10.0.0.2");
	put_address(&p->frame, r->v6, r->destination ? r->destination : r->v6 ? "fd00::1" : "10.0.0.1");
	p->transport = p->frame.len;
}

/* What must be zero is not, since a reflector has to ignore that; padding and TLVs are bytes that would be noticed. */
static inline void put_stamp(struct packet_of *p)
{
	const struct request *r = p->request;
	uint8_t *body;

	put16(&p->frame, r->from_port ? r->from_port : 40001);
	put16(&p->frame, r->to_port ? r->to_port : PORT);
	put16(&p->frame, (unsigned)(8 + body_len(r)));
	put16(&p->frame, 0);
	p->body = p->frame.len;
	for (size_t i = 0; i < body_len(r); i++)
		put(&p->frame, &(uint8_t){ (uint8_t)(i * 7 + 3) }, 1);
	body = p->frame.data + p->body;
	if (body_len(r) < base_len(r))
		return;
	memcpy(body, "\x01\x02\x03\x04", 4);
	memcpy(body + (r->authenticated ? 16 : 4), "\xe8\xfe\x6f\x80\x12\x34\x56\x78\x8f\x84\xbe\xef", 12);
	if (r->authenticated) {
		struct probe_hmac_key key;

		hmac_key_init(&key, SECRET, strlen(SECRET));
		hmac_sign(&key, body, body + HMAC_MESSAGE_LEN);
	}
}

static inline void put_echo(struct packet_of *p)
{
	put16(&p->frame, (p->request->v6 ? 128 : 8) << 8);
	PUT(&p->frame, "\0\0\x77\x66\x00\x05");
	p->body = p->frame.len;
	for (size_t i = 0; i < body_len(p->request); i++)
		put(&p->frame, &(uint8_t){ (uint8_t)(i * 5 + 1) }, 1);
}

static inline void build(struct packet_of *p, const struct request *request)
{
	p->frame.len = 0;
	p->request = request;
	PUT(&p->frame, OWN_MAC PEER_MAC);
	for (unsigned i = 0; i < request->vlans; i++) {
		put16(&p->frame, i + 1 < request->vlans ? 0x88a8 : 0x8100);
		put16(&p->frame, 100 + i);
	}
	put16(&p->frame, request->v6 ? 0x86dd : 0x0800);
	put_ip(p);
	if (request->icmp)
		put_echo(p);
	else
		put_stamp(p);
	finish(p);
}

/* ---- the answers ---- */

static inline void swap(uint8_t *a, uint8_t *b, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		uint8_t x = a[i];

		a[i] = b[i];
		b[i] = x;
	}
}

static inline void expect_stamp(struct packet_of *p, const uint8_t *got, bool authenticated, unsigned error_estimate)
{
	uint8_t request[sizeof(struct stamp_sender_authenticated)], *body = p->frame.data + p->body;
	const size_t base = authenticated ? 112 : 44;
	/* Offsets in a reflector's packet (figures 5 and 6), and in a sender's (figures 2 and 4). */
	const size_t sent = authenticated ? 16 : 4, received = authenticated ? 32 : 16, sequence = authenticated ?
		48 : 24,
		     stamp = authenticated ? 64 : 28, error = authenticated ? 72 : 36, ttl = authenticated ? 80 : 40;

	memcpy(request, body, base);
	memset(body, 0, base);
	memcpy(body, request, 4);
	memcpy(body + sent, got + sent, 8);
	set16(body + sent + 8, error_estimate);
	memcpy(body + sent + 10, request + sent + 10, 2);
	memcpy(body + received, got + received, 8);
	memcpy(body + sequence, request, 4);
	memcpy(body + stamp, request + sent, 8);
	memcpy(body + error, request + sent + 8, 2);
	body[ttl] = 57;
	if (authenticated) {
		struct probe_hmac_key key;

		hmac_key_init(&key, SECRET, strlen(SECRET));
		hmac_sign(&key, body, body + HMAC_MESSAGE_LEN);
	}
	swap(p->frame.data + p->transport, p->frame.data + p->transport + 2, 2);
}

/*
 * Makes the request its own answer, except for t2 and t3, which are taken from the one that came (got: its body). A
 * checksum that was only begun is whole in the answer.
 */
static inline void turn_into_answer(struct packet_of *p, struct request *ret_request, const uint8_t *got,
				    bool authenticated, unsigned error_estimate)
{
	uint8_t *ip = p->frame.data + p->ip;

	swap(p->frame.data, p->frame.data + 6, 6);
	if (p->request->v6) {
		swap(ip + 8, ip + 24, 16);
		ip[7] = p->request->icmp ? 64 : 255;
		ip[1] &= 0xcf; /* no ECN */
	} else {
		swap(ip + 12, ip + 16, 4);
		ip[8] = p->request->icmp ? 64 : 255;
		ip[1] &= 0xfc;
	}
	if (p->request->icmp)
		p->frame.data[p->transport] = p->request->v6 ? 129 : 0;
	else
		expect_stamp(p, got, authenticated, error_estimate);
	*ret_request = *p->request;
	if (ret_request->sum == SUM_BEGUN)
		ret_request->sum = SUM_WHOLE;
	p->request = ret_request;
	finish(p);
}

/* ---- the namespace ---- */

static inline void need_root(void)
{
	if (geteuid()) {
		print_message("skipped: loading BPF programs needs root\n");
		skip();
	}
}

static inline void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static inline struct probe_program *open_program(const struct probe_program_options *options)
{
	struct probe_program_options all = *options;
	struct probe_program *program = NULL;
	struct probe_hmac_key key;
	struct error error = { "" };

	all.sessions_max = 1;
	all.flights_max = 8;
	all.port_first = 50000;
	all.icmp_first = 50000;
	all.port_count = 1;
	if (probe_program_open(&all, &program, &error) < 0)
		fail_msg("%s", error.text);
	hmac_key_init(&key, SECRET, strlen(SECRET));
	assert_int_equal(probe_program_hmac_key(program, 4, &key), 0);
	return program;
}
#define KEY_NUMBER 5 /* 1 + its index */

static inline uint64_t refused(const struct probe_program *program, enum reflect_refused reason)
{
	struct probe_program_stats stats;

	probe_program_stats(program, &stats);
	return stats.reflect_refused[reason];
}
