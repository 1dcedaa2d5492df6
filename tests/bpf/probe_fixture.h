/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the probe programs share: a network namespace, sessions, and answers to their probes written byte
 * by byte, which are handed to the programs with BPF_PROG_TEST_RUN. To be included once by a test program, behind
 * nothing else.
 */
#pragma once
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
/* after the above: */
#include <cmocka.h>

#include "agent/probe/hmac_key.h"
#include "agent/probe/probe_program.h"
#include "lib/clock.h"
#include "stamp.h"
#include "frame_fixture.h"

#define OWN_MAC "\x02\0\0\0\0\x01"
#define PEER_MAC "\x02\0\0\0\0\x02"
#define SECRET "a secret of the test"
#define KEY_INDEX 7
#define ICMP_FIRST 5000
#define PORT_FIRST 40000
#define PORT_COUNT 8
#define RING 16
#define TIMEOUT_NS NS_PER_SEC

/* Each answer's kind in each IP version is a session of its own. */
enum kind { KIND_ICMP, KIND_STAMP, KIND_AUTHENTICATED, KIND_SYN_ACK, KIND_RESET, KINDS };
#define SESSIONS (2 * KINDS)
enum hook { XDP, XDP_GENERIC, TC, HOOKS };
enum verdict { PASSED, DROPPED, SENT_BACK };

/* ---- bytes ---- */


static inline void set32(uint8_t *at, uint32_t v)
{
	set16(at, v >> 16);
	set16(at + 2, v & 0xffff);
}

static inline uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static inline void put16(struct frame *frame, unsigned v)
{
	uint8_t bytes[2];

	set16(bytes, v);
	put(frame, bytes, sizeof(bytes));
}

static inline void put32(struct frame *frame, uint32_t v)
{
	uint8_t bytes[4];

	set32(bytes, v);
	put(frame, bytes, sizeof(bytes));
}

/* RFC 1071 of 16-bit words in network order. */
static inline unsigned sum16(const uint8_t *bytes, size_t len, unsigned sum)
{
	for (size_t i = 0; i < len; i++) {
		sum += i % 2 ? bytes[i] : (unsigned)bytes[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

/* Of the transport header and what follows. 0xffff when the packet's own checksum is right. */
static inline unsigned transport_sum(const struct frame *frame, bool v6, unsigned protocol, size_t len)
{
	const uint8_t *ip = frame->data + frame->ip;
	unsigned sum = (unsigned)len + protocol;

	sum = v6 ? sum16(ip + 8, 32, sum) : sum16(ip + 12, 8, sum);
	return sum16(frame->data + frame->transport, len, sum);
}

/* ---- answers ---- */

struct shape {
	const char *name;
	bool v6;
	enum kind kind;
	size_t payload;      /* ICMP and STAMP: behind the header; 0: the smallest */
	unsigned vlans;
	size_t options;      /* IPv4: bytes of options; IPv6: bytes of extension headers, of 8 each */
	size_t padding;      /* behind the IP packet */
	bool no_link;
	/* What is wrong with it: */
	uint64_t cookie_xor;
	unsigned sequence_add, source_add, port_add, remote_port_add;
	unsigned fragment;   /* IPv4's field; IPv6: a fragment header with it, shifted as it is there */
};

static inline size_t base_payload(const struct shape *s)
{
	static const size_t least[KINDS] = { PROBE_ICMP_PAYLOAD_MIN, 44, 112 };

	return s->payload ? s->payload : least[s->kind];
}

static inline unsigned session_index(enum kind kind, bool v6)
{
	return 1 + 2 * (unsigned)kind + v6;
}

static inline enum probe_protocol protocol_of(enum kind kind)
{
	return kind == KIND_ICMP ? PROBE_ICMP : kind <= KIND_AUTHENTICATED ? PROBE_STAMP : PROBE_TCP;
}

static inline unsigned own_port(enum kind kind, bool v6)
{
	return (kind == KIND_ICMP ? ICMP_FIRST : PORT_FIRST) + (kind == KIND_ICMP ? 2 : kind);
}

static inline unsigned remote_port(enum kind kind)
{
	return kind == KIND_ICMP ? 0 : kind <= KIND_AUTHENTICATED ? 862 : 443;
}

/* As in memory. Of TCP the low bits are the ring position's. */
static inline uint64_t cookie_of(enum kind kind, bool v6, uint32_t sequence)
{
	if (protocol_of(kind) == PROBE_TCP)
		return 0x5eed0000u + (v6 ? 0x10000u : 0) + (sequence & 0xff);
	return 0x0123456789abcdefULL * (sequence + 3) + session_index(kind, v6);
}

static inline unsigned ip_protocol(const struct shape *s)
{
	return s->kind == KIND_ICMP ? (s->v6 ? 58 : 1) : s->kind <= KIND_AUTHENTICATED ? 17 : 6;
}

static inline void put_icmp(struct frame *f, const struct shape *s, uint32_t sequence)
{
	uint64_t cookie = cookie_of(s->kind, s->v6, sequence) ^ s->cookie_xor;

	put16(f, s->v6 ? 129 << 8 : 0);
	put16(f, 0);
	put16(f, own_port(s->kind, s->v6) + s->port_add);
	put16(f, sequence + s->sequence_add);
	put(f, &cookie, sizeof(cookie));
	put(f, NULL, base_payload(s) - sizeof(cookie));
}

static inline void put_stamp(struct frame *f, const struct shape *s, uint32_t sequence)
{
	uint64_t cookie = cookie_of(s->kind, s->v6, sequence) ^ s->cookie_xor;
	const bool authenticated = s->kind == KIND_AUTHENTICATED;
	const size_t len = base_payload(s), body = f->len + 8;
	uint8_t *at;

	put16(f, remote_port(s->kind) + s->remote_port_add);
	put16(f, own_port(s->kind, s->v6) + s->port_add);
	put16(f, (unsigned)(8 + len));
	put16(f, 0);
	put(f, NULL, len);
	at = f->data + body;
	set32(at, sequence);
	set32(at + (authenticated ? 16 : 4), 0x11223344);  /* t3 */
	set32(at + (authenticated ? 20 : 8), 0x55667788);
	set16(at + (authenticated ? 24 : 12), 0x8a0b);
	set32(at + (authenticated ? 32 : 16), 0x21222324); /* t2 */
	set32(at + (authenticated ? 36 : 20), 0x25262728);
	set32(at + (authenticated ? 48 : 24), sequence + s->sequence_add);
	memcpy(at + (authenticated ? 64 : 28), &cookie, sizeof(cookie));
	at[authenticated ? 80 : 40] = 255;
	if (authenticated) {
		struct probe_hmac_key key;

		hmac_key_init(&key, SECRET, strlen(SECRET));
		hmac_sign(&key, at, at + HMAC_MESSAGE_LEN);
	}
}

/* SYN-ACK with the options that Linux sends, or RST with ACK. */
static inline void put_tcp(struct frame *f, const struct shape *s, uint32_t sequence)
{
	uint32_t isn = (uint32_t)(cookie_of(s->kind, s->v6, sequence) ^ s->cookie_xor) + s->sequence_add;
	const size_t at = f->len;

	put16(f, remote_port(s->kind) + s->remote_port_add);
	put16(f, own_port(s->kind, s->v6) + s->port_add);
	put32(f, s->kind == KIND_SYN_ACK ? 0x77777777 : 0);
	put32(f, isn + 1);
	put16(f, s->kind == KIND_SYN_ACK ? 0xa012 : 0x5014);
	put16(f, s->kind == KIND_SYN_ACK ? 65160 : 0);
	put32(f, 0);
	if (s->kind == KIND_SYN_ACK)
		PUT(f, "\x02\x04\x05\xb4\x04\x02\x08\x0a\x01\x02\x03\x04\0\0\0\0\x01\x03\x03\x07");
	put(f, NULL, s->payload);
	set16(f->data + at + 16, 0xffff ^ transport_sum(f, s->v6, 6, f->len - at));
}

/* IPv6: hop-by-hop options, then destination options as often as there is room. Returns the first header's type. */
static inline unsigned put_extensions(struct frame *f, const struct shape *s, unsigned protocol)
{
	unsigned first = protocol;
	const size_t n = s->options / 8;

	if (s->fragment) {
		put16(f, protocol << 8);
		put16(f, s->fragment);
		put32(f, 4711);
		return 44;
	}
	for (size_t i = 0; i < n; i++) {
		put16(f, (i + 1 < n ? 60 : protocol) << 8);
		PUT(f, "\x01\x04\0\0\0\0");
		first = 0;
	}
	return first;
}

static inline void put_ip(struct frame *f, const struct shape *s)
{
	f->ip = f->len;
	if (s->v6) {
		put32(f, 6U << 28 | 0x12345);
		put32(f, 57); /* length and type of what follows: below */
		PUT(f, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
		put(f, &(uint8_t){ (uint8_t)(2 + s->source_add) }, 1);
		PUT(f, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01");
		f->data[f->ip + 6] = (uint8_t)put_extensions(f, s, ip_protocol(s));
	} else {
		put16(f, (0x45 + (unsigned)s->options / 4) << 8);
		put16(f, 0);
		put16(f, 4711);
		put16(f, s->fragment);
		put16(f, 57 << 8 | ip_protocol(s));
		put16(f, 0);
		PUT(f, "\x0a\0\0");
		put(f, &(uint8_t){ (uint8_t)(2 + s->source_add) }, 1);
		PUT(f, "\x0a\0\0\x01");
		for (size_t i = 0; i < s->options; i++)
			PUT(f, "\x01");
	}
	f->transport = f->len;
}

static inline void finish_ip(struct frame *f, const struct shape *s)
{
	uint8_t *ip = f->data + f->ip;

	if (s->v6) {
		set16(ip + 4, (unsigned)(f->len - f->ip - 40));
		return;
	}
	set16(ip + 2, (unsigned)(f->len - f->ip));
	set16(ip + 10, 0);
	set16(ip + 10, 0xffff ^ sum16(ip, 20 + s->options, 0));
}

static inline void build(struct frame *f, const struct shape *s, uint32_t sequence)
{
	f->len = 0;
	if (!s->no_link) {
		PUT(f, OWN_MAC PEER_MAC);
		for (unsigned i = 0; i < s->vlans; i++) {
			put16(f, i + 1 < s->vlans ? 0x88a8 : 0x8100);
			put16(f, 100 + i);
		}
		put16(f, s->v6 ? 0x86dd : 0x0800);
	}
	put_ip(f, s);
	if (s->kind == KIND_ICMP)
		put_icmp(f, s, sequence);
	else if (protocol_of(s->kind) == PROBE_STAMP)
		put_stamp(f, s, sequence);
	else
		put_tcp(f, s, sequence);
	finish_ip(f, s);
	for (size_t i = 0; i < s->padding; i++)
		PUT(f, "\xaa");
}

/* ---- the programs ---- */

struct fixture {
	struct probe_program *program;
	struct probe_session *sessions;
	struct probe_flight *flights;
	uint32_t ifindex, slot;
	uint32_t gso_size; /* in tc */
	struct frame out; /* what the program made of the last one */
};

static inline void need_root(void)
{
	if (geteuid()) {
		print_message("skipped: loading BPF programs needs root\n");
		skip();
	}
}

static inline void add_session(struct fixture *f, enum kind kind, bool v6, size_t payload)
{
	const unsigned i = session_index(kind, v6);
	struct probe_key key = { .port = (uint16_t)own_port(kind, v6), .protocol = protocol_of(kind) };

	f->sessions[i] = (struct probe_session){
		.first = i * RING,
		.mask = RING - 1,
		.protocol = protocol_of(kind),
		.remote_port = remote_port(kind),
		.timeout_ns = TIMEOUT_NS,
		.key = kind == KIND_AUTHENTICATED ? 1 + KEY_INDEX : 0,
		.payload = kind == KIND_ICMP ? (uint32_t)payload : 0,
	};
	inet_pton(AF_INET6, v6 ? "fd00::2" : "::ffff:10.0.0.2", &key.address);
	probe_program_session_remove(f->program, &key);
	assert_int_equal(probe_program_session_add(f->program, &key, i), 0);
}

static inline void fixture_open_with(struct fixture *f, const struct probe_program_options *more)
{
	struct probe_program_options options = *more;
	struct error error = { "" };
	struct probe_hmac_key key;

	need_root();
	memset(f, 0, sizeof(*f));
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	options.sessions_max = SESSIONS;
	options.flights_max = (SESSIONS + 1) * RING;
	options.icmp_first = ICMP_FIRST;
	options.port_first = PORT_FIRST;
	options.port_count = PORT_COUNT;
	if (probe_program_open(&options, &f->program, &error))
		fail_msg("%s", error.text);
	f->sessions = probe_program_sessions(f->program);
	f->flights = probe_program_flights(f->program);
	f->ifindex = if_nametoindex("lo");
	assert_int_equal(probe_program_device_add(f->program, f->ifindex, false, &f->slot), 0);
	hmac_key_init(&key, SECRET, strlen(SECRET));
	assert_int_equal(probe_program_hmac_key(f->program, KEY_INDEX, &key), 0);
	for (enum kind kind = 0; kind < KINDS; kind++)
		for (int v6 = 0; v6 < 2; v6++)
			add_session(f, kind, v6, PROBE_ICMP_PAYLOAD_MIN);
}

static inline void fixture_open(struct fixture *f)
{
	fixture_open_with(f, &(struct probe_program_options){ 0 });
}

static inline void fixture_close(struct fixture *f)
{
	probe_program_close(f->program);
}

static inline struct probe_session *session_of(struct fixture *f, enum kind kind, bool v6)
{
	return &f->sessions[session_index(kind, v6)];
}

static inline struct probe_flight *flight_of(struct fixture *f, enum kind kind, bool v6, uint32_t sequence)
{
	return &f->flights[session_index(kind, v6) * RING + sequence % RING];
}

/* A probe that left so long ago, in this state. */
static inline struct probe_flight *set_flight(struct fixture *f, enum kind kind, bool v6, uint32_t sequence,
					      enum probe_stage stage, uint64_t age_ns)
{
	struct probe_flight *flight = flight_of(f, kind, v6, sequence);

	*flight = (struct probe_flight){
		.state = PROBE_STATE(sequence, stage),
		.cookie = cookie_of(kind, v6, sequence),
		.sent_ns = mono_now().ns - age_ns,
	};
	return flight;
}

static inline enum verdict run_on(struct fixture *f, enum hook hook, const struct frame *frame, uint32_t ifindex)
{
	static const int returns[HOOKS][3] = {
		{ XDP_PASS, XDP_DROP, XDP_TX }, { XDP_PASS, XDP_DROP, XDP_TX }, { -1, 2, 7 },
	};
	static const enum probe_hook programs[HOOKS] = {
		PROBE_HOOK_XDP, PROBE_HOOK_XDP_GENERIC, PROBE_HOOK_TC_RECEIVE,
	};
	struct xdp_md xdp = { .data_end = (uint32_t)frame->len, .ingress_ifindex = ifindex };
	struct __sk_buff skb = { .ifindex = ifindex, .gso_size = f->gso_size };
	struct bpf_test_run_opts options;
	int r;

	memset(&options, 0, sizeof(options)); /* the padding too: libbpf looks */
	options.sz = sizeof(options);
	options.data_in = frame->data;
	options.data_size_in = (uint32_t)frame->len;
	options.data_out = f->out.data;
	options.data_size_out = sizeof(f->out.data);
	options.repeat = 1;
	options.ctx_in = hook == TC ? (void *)&skb : (void *)&xdp;
	options.ctx_size_in = hook == TC ? sizeof(skb) : sizeof(xdp);
	r = bpf_prog_test_run_opts(probe_program_fd(f->program, programs[hook]), &options);
	if (r)
		fail_msg("test run of %zu bytes: %s", frame->len, strerror(-r));
	f->out.len = options.data_size_out;
	f->out.ip = frame->ip;
	for (int v = PASSED; v <= SENT_BACK; v++)
		if ((int)options.retval == returns[hook][v])
			return (enum verdict)v;
	fail_msg("returned %d", (int)options.retval);
	return PASSED;
}

static inline enum verdict run(struct fixture *f, enum hook hook, const struct frame *frame)
{
	return run_on(f, hook, frame, f->ifindex);
}

static inline void expect_untouched(const struct fixture *f, const struct frame *frame)
{
	assert_int_equal(f->out.len, frame->len);
	assert_memory_equal(f->out.data, frame->data, frame->len);
}

static inline void expect_passed(struct fixture *f, enum hook hook, const struct frame *frame)
{
	assert_int_equal(run(f, hook, frame), PASSED);
	expect_untouched(f, frame);
}

static inline uint64_t stray(const struct fixture *f)
{
	struct probe_program_stats stats;

	probe_program_stats(f->program, &stats);
	return stats.rejected;
}
