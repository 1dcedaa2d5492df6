/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the probe programs make of packets, by BPF_PROG_TEST_RUN at every hook: genuine answers in every wrapping, what
 * only looks like one, the life of a flight, and everybody else's packets, which must come out as they went in. Real
 * packets: test_probe_traffic.c. Needs root; skipped with that reason otherwise.
 */
#include "probe_fixture.h"

#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

#define SEQUENCE 0x1234567
#define SEED 20261124u
#define TEST_RUN_TC_MAX 3500 /* the kernel takes less than a page; and no packet that ends before its IP header does */

static const char *const hook_names[HOOKS] = { "xdp", "xdp_generic", "tc" };
static const enum probe_clock clocks[HOOKS] = { PROBE_CLOCK_XDP, PROBE_CLOCK_XDP_GENERIC, PROBE_CLOCK_TC };

/* In ICMP and TCP the packet has not all of the sequence number. */
static const struct shape genuine[] = {
	{ "ICMP", .kind = KIND_ICMP },
	{ "ICMPv6", .kind = KIND_ICMP, .v6 = true },
	{ "STAMP", .kind = KIND_STAMP },
	{ "STAMP over IPv6", .kind = KIND_STAMP, .v6 = true },
	{ "STAMP, authenticated", .kind = KIND_AUTHENTICATED },
	{ "STAMP over IPv6, authenticated", .kind = KIND_AUTHENTICATED, .v6 = true },
	{ "SYN-ACK", .kind = KIND_SYN_ACK },
	{ "SYN-ACK over IPv6", .kind = KIND_SYN_ACK, .v6 = true },
	{ "RST", .kind = KIND_RESET },
	{ "RST over IPv6", .kind = KIND_RESET, .v6 = true },
};
#define GENUINE (sizeof(genuine) / sizeof(genuine[0]))

static const struct wrapping {
	const char *name;
	unsigned vlans;
	size_t options, padding;
	size_t mtu; /* as large as that allows */
} wrappings[] = {
	{ "plain" },
	{ "padded", .padding = 18 },
	{ "VLAN", .vlans = 1 },
	{ "QinQ", .vlans = 2 },
	{ "options", .options = 8 },
	{ "VLAN and the most options", .vlans = 1, .options = 40 },
	{ "MTU", .mtu = 1500 },
	{ "jumbo", .mtu = 9000 },
	{ "jumbo, QinQ, options", .vlans = 2, .options = 16, .mtu = 9000 },
};
#define WRAPPINGS (sizeof(wrappings) / sizeof(wrappings[0]))

static struct shape wrap(const struct shape *base, const struct wrapping *w)
{
	struct shape s = *base;
	const size_t transport = s.kind == KIND_SYN_ACK ? 40 : s.kind == KIND_RESET ? 20 : 8;
	const size_t headers = (s.v6 ? 40 : 20) + w->options + transport;

	s.vlans = w->vlans;
	s.options = w->options;
	s.padding = w->padding;
	if (w->mtu)
		s.payload = w->mtu - headers;
	return s;
}

/* The reset of RFC 9293, section 3.10.7.1, in a frame with the tags of the SYN-ACK. */
static void expect_reset(const struct fixture *f, const struct frame *frame, const struct shape *s)
{
	const uint8_t *ip = f->out.data + frame->ip, *tcp = ip + (s->v6 ? 40 : 20);
	const uint8_t *was = frame->data + frame->transport;
	const size_t length = frame->ip + (s->v6 ? 60 : 40);
	struct frame out = { .len = 0 };

	assert_int_equal(f->out.len, length < 60 ? 60 : length);
	assert_memory_equal(f->out.data, PEER_MAC OWN_MAC, 12);
	assert_memory_equal(f->out.data + 12, frame->data + 12, frame->ip - 12);
	for (size_t i = length; i < f->out.len; i++)
		assert_int_equal(f->out.data[i], 0);
	if (s->v6) {
		assert_memory_equal(ip, "\x60\0\0\0\0\x14\x06\x40", 8);
		assert_memory_equal(ip + 8, frame->data + frame->ip + 24, 16);
		assert_memory_equal(ip + 24, frame->data + frame->ip + 8, 16);
	} else {
		assert_memory_equal(ip, "\x45\0\0\x28\0\0\x40\0\x40\x06", 10);
		assert_memory_equal(ip + 12, "\x0a\0\0\x01\x0a\0\0\x02", 8);
		assert_int_equal(sum16(ip, 20, 0), 0xffff);
	}
	assert_int_equal(get16(tcp), get16(was + 2));
	assert_int_equal(get16(tcp + 2), get16(was));
	assert_int_equal(get32(tcp + 4), get32(was + 8));
	assert_memory_equal(tcp + 8, "\0\0\0\0\x50\x04\0\0", 8);
	assert_memory_equal(tcp + 18, "\0\0", 2);
	memcpy(out.data, f->out.data, length);
	out.ip = frame->ip;
	out.transport = length - 20;
	assert_int_equal(transport_sum(&out, s->v6, 6, 20), 0xffff);
}

static void expect_answered(struct fixture *f, enum hook hook, const struct shape *s, uint64_t before)
{
	const struct probe_flight *flight = flight_of(f, s->kind, s->v6, SEQUENCE);
	const struct probe_session *session = session_of(f, s->kind, s->v6);

	assert_int_equal(flight->state, PROBE_STATE(SEQUENCE, PROBE_ANSWERED));
	assert_in_range(flight->received_ns, before, mono_now().ns);
	assert_int_equal(flight->clock, clocks[hook]);
	assert_int_equal(flight->ifindex, f->ifindex);
	assert_int_equal(flight->flags, s->kind == KIND_RESET ? PROBE_REFUSED : 0);
	if (protocol_of(s->kind) == PROBE_STAMP) {
		assert_int_equal(flight->remote_received, 0x2122232425262728);
		assert_int_equal(flight->remote_sent, 0x1122334455667788);
		assert_int_equal(flight->remote_error, 0x8a0b);
	}
	assert_int_equal(session->highest, SEQUENCE + 1);
	assert_int_equal(session->reordered + session->duplicates + session->late + session->rejected, 0);
}

static void answer_once(struct fixture *f, enum hook hook, const struct shape *s)
{
	const bool half_open = s->kind == KIND_SYN_ACK, left_to_stack = half_open && s->options && hook != XDP;
	const enum verdict expected = left_to_stack ? PASSED : half_open ? SENT_BACK : DROPPED;
	const uint64_t dropped = probe_program_packets(f->program, f->slot, PROBE_DROP);
	uint64_t before;
	struct frame frame;

	add_session(f, s->kind, s->v6, base_payload(s));
	build(&frame, s, SEQUENCE);
	set_flight(f, s->kind, s->v6, SEQUENCE, PROBE_SENT, 0);
	before = mono_now().ns;
	assert_int_equal(run(f, hook, &frame), expected);
	expect_answered(f, hook, s, before);
	if (expected == SENT_BACK)
		expect_reset(f, &frame, s);
	else
		expect_untouched(f, &frame);
	assert_int_equal(probe_program_packets(f->program, f->slot, PROBE_DROP) - dropped, !left_to_stack);
}

static void genuine_answers(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f);
	for (enum hook hook = 0; hook < HOOKS; hook++)
		for (size_t i = 0; i < GENUINE; i++)
			for (size_t k = 0; k < WRAPPINGS; k++) {
				struct shape s = wrap(&genuine[i], &wrappings[k]);

				if (hook == TC && wrappings[k].mtu > TEST_RUN_TC_MAX)
					continue;
				print_message("%s: %s, %s\n", hook_names[hook], s.name, wrappings[k].name);
				answer_once(&f, hook, &s);
			}
	assert_int_equal(stray(&f), 0);
	assert_int_equal(probe_program_packets(f.program, f.slot, PROBE_REFLECT), 0);
	fixture_close(&f);
}

/* ---- what is not genuine ---- */

enum counted { NOT_OURS, STRAY, REJECTED };

static const struct bad {
	const char *name;
	struct shape shape; /* .kind is not used: each row is tried for the kinds named */
	unsigned kinds;     /* bits */
	enum counted counted;
} bads[] = {
#define ALL 0x1f
#define PORTS 0x1e
#define HOST 0x18
	{ "another cookie", { .cookie_xor = 1 }, ALL, REJECTED },
	{ "the cookie of 2 positions on", { .sequence_add = 2 }, ALL & ~HOST, REJECTED },
	{ "another initial sequence number", { .sequence_add = 256 }, HOST, REJECTED },
	{ "a position that was never used", { .sequence_add = 5, .cookie_xor = 0 }, ALL & ~HOST, REJECTED },
	{ "the same position, another round", { .sequence_add = RING }, ALL & ~HOST, REJECTED },
	{ "another host", { .source_add = 1 }, ALL, STRAY },
	{ "another identifier of ours", { .port_add = PORT_COUNT - 5 }, ALL, STRAY },
	{ "an identifier that is not ours", { .port_add = PORT_COUNT }, ALL, NOT_OURS },
	{ "the one before ours", { .port_add = (unsigned)-5 }, ALL, NOT_OURS },
	{ "another port of the host", { .remote_port_add = 1 }, PORTS, REJECTED },
	{ "a first fragment", { .fragment = 0x2000 }, ALL, NOT_OURS },
	{ "a later fragment", { .fragment = 0x0010 }, ALL, NOT_OURS },
	{ "the last fragment, IPv6", { .fragment = 0x0008, .v6 = true }, ALL, NOT_OURS },
	{ "the first fragment, IPv6", { .fragment = 0x0001, .v6 = true }, ALL, NOT_OURS },
	{ "a longer payload", { .payload = PROBE_ICMP_PAYLOAD_MIN + 1 }, 1 << KIND_ICMP, REJECTED },
	{ "a shorter payload", { .payload = PROBE_ICMP_PAYLOAD_MIN - 1 }, 1 << KIND_ICMP, REJECTED },
	{ "options, another cookie", { .cookie_xor = 1ULL << 20, .options = 8 }, ALL, REJECTED },
	{ "options, another host", { .source_add = 1, .options = 8 }, ALL, STRAY },
	{ "three tags", { .vlans = 3 }, ALL, NOT_OURS },
	{ "QinQ, another cookie", { .cookie_xor = 1, .vlans = 2 }, ALL, REJECTED },
};

static void expect_counted(struct fixture *f, const struct shape *s, enum counted counted, uint64_t strays,
			   const char *name)
{
	const struct probe_session *session = session_of(f, s->kind, s->v6);

	if (session->rejected != (counted == REJECTED) || stray(f) - strays != (counted == STRAY))
		fail_msg("%s, kind %d, IPv%d: %d rejected, %d stray", name, s->kind, s->v6 ? 6 : 4,
			 (int)session->rejected, (int)(stray(f) - strays));
	assert_int_equal(session->highest + session->reordered + session->duplicates + session->late, 0);
}

/* The frame is none of ours: nothing changes but one counter. */
static void refuse(struct fixture *f, enum hook hook, const struct shape *s, const struct frame *frame,
		   enum counted counted, const char *name)
{
	const uint64_t passed = probe_program_packets(f->program, f->slot, PROBE_PASS), strays = stray(f);
	struct probe_flight before[RING];

	add_session(f, s->kind, s->v6, PROBE_ICMP_PAYLOAD_MIN);
	memset(flight_of(f, s->kind, s->v6, 0), 0, sizeof(before));
	set_flight(f, s->kind, s->v6, SEQUENCE, PROBE_SENT, 0);
	set_flight(f, s->kind, s->v6, SEQUENCE + 2, PROBE_SENT, 0);
	memcpy(before, flight_of(f, s->kind, s->v6, 0), sizeof(before));
	if (run(f, hook, frame) != PASSED)
		fail_msg("%s, kind %d, IPv%d: taken", name, s->kind, s->v6 ? 6 : 4);
	expect_untouched(f, frame);
	assert_memory_equal(flight_of(f, s->kind, s->v6, 0), before, sizeof(before));
	expect_counted(f, s, counted, strays, name);
	assert_int_equal(probe_program_packets(f->program, f->slot, PROBE_PASS) - passed, 1);
}

static void false_answers(void **state)
{
	struct fixture f;
	struct frame frame;

	(void)state;
	fixture_open(&f);
	for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
		print_message("%s\n", bads[i].name);
		for (unsigned n = 0; n < HOOKS * KINDS * 2; n++) {
			struct shape s = bads[i].shape;
			const bool v6 = n / KINDS % 2;

			s.kind = n % KINDS;
			if (!(bads[i].kinds >> s.kind & 1) || (s.fragment && v6 != s.v6))
				continue;
			s.v6 = v6;
			build(&frame, &s, SEQUENCE);
			refuse(&f, n / KINDS / 2, &s, &frame, bads[i].counted, bads[i].name);
		}
	}
	fixture_close(&f);
}

/* What is wrong with bytes that no shape has. at: from the transport header, unless it is from IP's. */
static const struct twist {
	const char *name;
	enum kind kind;
	bool v6, ip;
	size_t at;
	uint8_t value;
	enum counted counted;
} twists[] = {
	{ "a request, not an answer", KIND_ICMP, false, false, 0, 8, NOT_OURS },
	{ "a request of ICMPv6", KIND_ICMP, true, false, 0, 128, NOT_OURS },
	{ "ICMPv6's type in IPv4", KIND_ICMP, false, false, 0, 129, NOT_OURS },
	{ "ICMP's type in IPv6", KIND_ICMP, true, false, 0, 0, NOT_OURS },
	{ "a code", KIND_ICMP, false, false, 1, 1, NOT_OURS },
	{ "ICMPv6 in IPv4", KIND_ICMP, false, true, 9, 58, NOT_OURS },
	{ "ICMP in IPv6", KIND_ICMP, true, true, 6, 1, NOT_OURS },
	{ "IPv5", KIND_ICMP, false, true, 0, 0x55, NOT_OURS },
	{ "a header of 16 bytes", KIND_ICMP, false, true, 0, 0x44, NOT_OURS },
	{ "IPv7", KIND_ICMP, true, true, 0, 0x70, NOT_OURS },
	{ "behind an authentication header", KIND_ICMP, false, true, 9, 51, NOT_OURS },
	{ "behind an authentication header, IPv6", KIND_ICMP, true, true, 6, 51, NOT_OURS },
	{ "a packet shorter than its cookie", KIND_ICMP, false, true, 3, 28 + 7, REJECTED },
	{ "a packet longer than the frame", KIND_ICMP, false, true, 3, 28 + 17, REJECTED },
	{ "a datagram longer than the packet", KIND_STAMP, false, false, 5, 8 + 45, REJECTED },
	{ "a datagram shorter than STAMP's", KIND_STAMP, true, false, 5, 8 + 43, REJECTED },
	{ "a datagram shorter than authenticated STAMP's", KIND_AUTHENTICATED, false, false, 5, 8 + 111, REJECTED },
	{ "a time that was changed", KIND_AUTHENTICATED, false, false, 8 + 33, 1, REJECTED },
	{ "a wrong HMAC", KIND_AUTHENTICATED, true, false, 8 + 96, 1, REJECTED },
	{ "a wrong end of the HMAC", KIND_AUTHENTICATED, false, false, 8 + 111, 1, REJECTED },
	{ "SYN without ACK", KIND_SYN_ACK, false, false, 13, 2, NOT_OURS },
	{ "ACK without SYN", KIND_SYN_ACK, true, false, 13, 16, NOT_OURS },
	{ "FIN", KIND_SYN_ACK, false, false, 13, 17, NOT_OURS },
	{ "RST without ACK", KIND_RESET, false, false, 13, 4, REJECTED },
};

static void twisted_answers(void **state)
{
	struct fixture f;
	struct frame frame;

	(void)state;
	fixture_open(&f);
	for (size_t i = 0; i < sizeof(twists) / sizeof(twists[0]); i++)
		for (enum hook hook = 0; hook < HOOKS; hook++) {
			const struct twist *t = &twists[i];
			const struct shape s = { .kind = t->kind, .v6 = t->v6 };

			build(&frame, &s, SEQUENCE);
			frame.data[(t->ip ? frame.ip : frame.transport) + t->at] = t->value;
			refuse(&f, hook, &s, &frame, t->counted, t->name);
		}
	fixture_close(&f);
}

/* The other mode's answers of STAMP, and an answer to the session of the other IP version. */
static void answers_of_another_kind(void **state)
{
	struct shape s = { .kind = KIND_STAMP, .port_add = KIND_AUTHENTICATED - KIND_STAMP };
	struct fixture f;
	struct frame frame;

	(void)state;
	fixture_open(&f);
	for (enum hook hook = 0; hook < HOOKS; hook++) {
		s.payload = 0;
		s.kind = KIND_STAMP;
		build(&frame, &s, SEQUENCE); /* too short */
		s.kind = KIND_AUTHENTICATED;
		refuse(&f, hook, &s, &frame, REJECTED, "unauthenticated, short");
		s.kind = KIND_STAMP;
		s.payload = 200;
		build(&frame, &s, SEQUENCE);
		s.kind = KIND_AUTHENTICATED;
		refuse(&f, hook, &s, &frame, REJECTED, "unauthenticated, long");
	}
	fixture_close(&f);
}

/* Every frame that ends too early, with and without options: up to its last byte it is refused, and the whole one is
 * taken. */
static void truncated_answers(void **state)
{
	static const struct wrapping some[] = { { "plain" }, { "options", .options = 8 }, { "VLAN", .vlans = 1 } };
	struct fixture f;
	struct frame frame;

	(void)state;
	fixture_open(&f);
	for (unsigned n = 0; n < HOOKS * GENUINE * 3; n++) {
		const struct shape s = wrap(&genuine[n / HOOKS % GENUINE], &some[n / HOOKS / GENUINE]);
		const enum hook hook = n % HOOKS;
		uint64_t strays, rejected = 0;
		size_t whole;

		add_session(&f, s.kind, s.v6, PROBE_ICMP_PAYLOAD_MIN);
		build(&frame, &s, SEQUENCE);
		set_flight(&f, s.kind, s.v6, SEQUENCE, PROBE_SENT, 0);
		whole = frame.len;
		strays = stray(&f);
		for (frame.len = hook == TC ? frame.ip + (s.v6 ? 40 : 20) : ETH_HLEN; frame.len < whole; frame.len++) {
			uint64_t now;

			expect_passed(&f, hook, &frame);
			assert_int_equal(flight_of(&f, s.kind, s.v6, SEQUENCE)->state,
					 PROBE_STATE(SEQUENCE, PROBE_SENT));
			now = session_of(&f, s.kind, s.v6)->rejected;
			/* What still shows whose it is, is rejected. */
			assert_int_equal(now - rejected,
					 frame.len >= frame.transport + (protocol_of(s.kind) == PROBE_TCP ? 20 : 8));
			rejected = now;
		}
		assert_int_equal(stray(&f), strays);
		run(&f, hook, &frame);
		assert_int_equal(flight_of(&f, s.kind, s.v6, SEQUENCE)->state, PROBE_STATE(SEQUENCE, PROBE_ANSWERED));
	}
	fixture_close(&f);
}

/* Two datagrams that GRO made one (rx-udp-gro-forwarding, rx-gro-list): in tc they go on to the socket, which gets
 * both. */
static void joined_answers(void **state)
{
	const struct shape shapes[] = {
	    {.kind = KIND_STAMP},
	    {.kind = KIND_AUTHENTICATED, .v6 = true},
	    {.kind = KIND_STAMP, .options = 8},
	};
	struct fixture f;

	(void)state;
	fixture_open(&f);
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		const struct shape *s = &shapes[i];
		struct frame first, second;

		build(&first, s, SEQUENCE);
		build(&second, s, SEQUENCE + 1);
		f.gso_size = (uint32_t)base_payload(s);
		put(&first, second.data + second.transport + 8, f.gso_size);
		set16(first.data + first.transport + 4, 8 + 2 * f.gso_size);
		finish_ip(&first, s);
		set_flight(&f, s->kind, s->v6, SEQUENCE, PROBE_SENT, 0);
		set_flight(&f, s->kind, s->v6, SEQUENCE + 1, PROBE_SENT, 0);
		expect_passed(&f, TC, &first);
		assert_int_equal(flight_of(&f, s->kind, s->v6, SEQUENCE)->state, PROBE_STATE(SEQUENCE, PROBE_SENT));
		assert_int_equal(session_of(&f, s->kind, s->v6)->rejected, 0);
	}
	fixture_close(&f);
}

/* ---- the life of a flight ---- */

static const struct life {
	const char *name;
	enum probe_stage stage;
	uint64_t age_ns;
	enum probe_stage then;
	bool taken;
	unsigned duplicates, late, rejected;
	uint64_t highest;
} lives[] = {
	{ "sent", PROBE_SENT, 0, PROBE_ANSWERED, true, .highest = SEQUENCE + 1 },
	{ "sent, and no hook saw it leave", PROBE_ARMED, 0, PROBE_ANSWERED, true, .highest = SEQUENCE + 1 },
	{ "behind the time-out, not yet given up", PROBE_SENT, TIMEOUT_NS + NS_PER_SEC, PROBE_ANSWERED, true },
	{ "free", PROBE_FREE, 0, PROBE_FREE, false, .rejected = 1 },
	{ "being taken", PROBE_TAKEN, 0, PROBE_TAKEN, true, .duplicates = 1 },
	{ "answered", PROBE_ANSWERED, 0, PROBE_ANSWERED, true, .duplicates = 1 },
	{ "done", PROBE_DONE, 0, PROBE_DONE, true, .duplicates = 1 },
	{ "replayed", PROBE_ANSWERED, TIMEOUT_NS + NS_PER_SEC, PROBE_ANSWERED, false, .rejected = 1 },
	{ "replayed when it is done", PROBE_DONE, TIMEOUT_NS + NS_PER_SEC, PROBE_DONE, false, .rejected = 1 },
	{ "given up", PROBE_LOST, TIMEOUT_NS + NS_PER_SEC, PROBE_LATE, true, .late = 1 },
	{ "given up early", PROBE_LOST, 0, PROBE_LATE, true, .late = 1 },
	{ "late, once more", PROBE_LATE, 0, PROBE_LATE, true, .duplicates = 1 },
	{ "late, replayed", PROBE_LATE, TIMEOUT_NS + NS_PER_SEC, PROBE_LATE, false, .rejected = 1 },
};

static void each_state(void **state)
{
	struct fixture f;
	struct frame frame;

	(void)state;
	fixture_open(&f);
	for (unsigned n = 0; n < sizeof(lives) / sizeof(lives[0]) * HOOKS * GENUINE; n++) {
		const struct life *l = &lives[n / HOOKS / GENUINE];
		const struct shape *s = &genuine[n % GENUINE];
		const enum hook hook = n / GENUINE % HOOKS;
		const struct probe_session *session = session_of(&f, s->kind, s->v6);
		enum verdict verdict;

		add_session(&f, s->kind, s->v6, PROBE_ICMP_PAYLOAD_MIN);
		set_flight(&f, s->kind, s->v6, SEQUENCE, l->stage, l->age_ns);
		build(&frame, s, SEQUENCE);
		verdict = run(&f, hook, &frame);
		if (verdict != (!l->taken ? PASSED : s->kind == KIND_SYN_ACK ? SENT_BACK : DROPPED))
			fail_msg("%s, %s: verdict %d", l->name, s->name, verdict);
		if (verdict != SENT_BACK)
			expect_untouched(&f, &frame);
		assert_int_equal(flight_of(&f, s->kind, s->v6, SEQUENCE)->state, PROBE_STATE(SEQUENCE, l->then));
		assert_int_equal(session->duplicates, l->duplicates);
		assert_int_equal(session->late, l->late);
		assert_int_equal(session->rejected, l->rejected);
		assert_int_equal(session->highest, l->highest);
	}
	fixture_close(&f);
}

/* RFC 4737's example in section 5: 3 and 5 arrive behind later ones. */
static void reordering(void **state)
{
	static const uint32_t arrivals[] = { 1, 2, 4, 3, 6, 5, 5, 7, 0 };
	const struct shape s = { .kind = KIND_STAMP };
	struct fixture f;
	struct frame frame;

	(void)state;
	fixture_open(&f);
	for (uint32_t i = 0; i < 8; i++)
		set_flight(&f, s.kind, s.v6, i, PROBE_SENT, 0);
	for (size_t i = 0; i < sizeof(arrivals) / sizeof(arrivals[0]); i++) {
		build(&frame, &s, arrivals[i]);
		assert_int_equal(run(&f, XDP, &frame), DROPPED);
	}
	assert_int_equal(session_of(&f, s.kind, s.v6)->reordered, 3);
	assert_int_equal(session_of(&f, s.kind, s.v6)->duplicates, 1);
	assert_int_equal(session_of(&f, s.kind, s.v6)->highest, 8);
	fixture_close(&f);
}

/* ---- everybody else ---- */

static void put_foreign_ipv4(struct frame *frame, unsigned protocol, size_t payload)
{
	PUT(frame, OWN_MAC PEER_MAC "\x08\0\x45\0");
	put16(frame, (unsigned)(20 + payload));
	PUT(frame, "\0\x01\0\0\x40");
	put(frame, &(uint8_t){ (uint8_t)protocol }, 1);
	PUT(frame, "\0\0\x0a\0\0\x02\x0a\0\0\x01");
	put(frame, NULL, payload);
}

static void put_foreign(struct frame *frame, unsigned n)
{
	frame->len = 0;
	switch (n) {
	case 0:
		PUT(frame, OWN_MAC PEER_MAC "\x08\x06\0\x01\x08\0\x06\x04\0\x01" PEER_MAC
					    "\x0a\0\0\x02\0\0\0\0\0\0\x0a\0\0\x01");
		break;
	case 1:
		PUT(frame, "\x01\x80\xc2\0\0\x0e" PEER_MAC "\x88\xcc\x02\x07\x04" PEER_MAC
			   "\x04\x03\x07\x31\x06\x02\0\x78\0\0");
		break;
	case 2: put_foreign_ipv4(frame, 6, 20); break;
	case 3: put_foreign_ipv4(frame, 17, 8); break;
	case 4: put_foreign_ipv4(frame, 1, 8); break;
	case 5: put_foreign_ipv4(frame, 47, 100); break;
	case 6: put_foreign_ipv4(frame, 50, 100); break;
	case 7: put_foreign_ipv4(frame, 51, 100); break;
	case 8: put_foreign_ipv4(frame, 132, 100); break;
	case 9: put_foreign_ipv4(frame, 17, 8980); break;
	case 10:
		PUT(frame, OWN_MAC PEER_MAC
		    "\x88\x64\x11\0\0\x01\0\x16\0\x21\x45\0\0\x14\0\0\0\0\x40\x06\0\0\x0a\0\0\x02\x0a\0\0\x01");
		break;
	case 11:
		PUT(frame,
		    OWN_MAC PEER_MAC "\x88\x47\0\x01\x01\x40\x45\0\0\x14\0\0\0\0\x40\x06\0\0\x0a\0\0\x02\x0a\0\0\x01");
		break;
	case 12:
		PUT(frame, OWN_MAC PEER_MAC "\x86\xdd\x60\0\0\0\0\x20\x3a\xff");
		put(frame, NULL, 32);
		PUT(frame, "\x87\0");
		put(frame, NULL, 30);
		break;
	case 13: PUT(frame, OWN_MAC PEER_MAC "\x86\xdd\x60\0\0\0\0\0\x3b\x40"); put(frame, NULL, 32); break;
	case 14:
		PUT(frame, OWN_MAC PEER_MAC "\x81\0\0\x64\x81\0\0\x65\x81\0\0\x66\x81\0\0\x67\x08\0\x45\0");
		put(frame, NULL, 40);
		break;
	case 15: PUT(frame, OWN_MAC PEER_MAC "\0\x26\x42\x42\x03"); put(frame, NULL, 40); break; /* spanning tree */
	case 16: put(frame, NULL, ETH_HLEN + 1); break;
	default:
		PUT(frame, OWN_MAC PEER_MAC
		    "\x08\0\x46\0\0\x20\0\0\0\0\x01\x02\0\0\x0a\0\0\x02\xe0\0\0\x01\x94\x04\0\0\x11\0\0\0\0\0\0\0");
		break;
	}
}
#define FOREIGN 18

static void foreign_packets(void **state)
{
	struct fixture f;
	struct frame frame;

	(void)state;
	fixture_open(&f);
	for (unsigned n = 0; n < FOREIGN * HOOKS; n++) {
		const uint64_t passed = probe_program_packets(f.program, f.slot, PROBE_PASS);

		put_foreign(&frame, n / HOOKS);
		if (n % HOOKS == TC && frame.len > TEST_RUN_TC_MAX)
			continue;
		expect_passed(&f, n % HOOKS, &frame);
		assert_int_equal(probe_program_packets(f.program, f.slot, PROBE_PASS) - passed, 1);
	}
	assert_int_equal(stray(&f), 0);
	for (unsigned i = 0; i <= SESSIONS; i++)
		assert_int_equal(f.sessions[i].rejected, 0);
	fixture_close(&f);
}

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* Genuine answers with a few bytes changed: taken only while everything that makes it genuine is as it was, else
 * untouched. */
static void broken_at_random(void **state)
{
	uint32_t seed = SEED;
	unsigned taken = 0, passed = 0;
	struct fixture f;
	struct frame frame, was;

	(void)state;
	fixture_open(&f);
	for (unsigned n = 0; n < 30000; n++) {
		const struct shape s = wrap(&genuine[n % GENUINE], &wrappings[n / GENUINE % 7]);
		const unsigned changes = 1 + next_random(&seed) % 3;

		build(&frame, &s, SEQUENCE);
		was = frame;
		for (unsigned i = 0; i < changes; i++)
			frame.data[12 + next_random(&seed) % (frame.len - 12)] ^=
			    (uint8_t)(1 << next_random(&seed) % 8);
		set_flight(&f, s.kind, s.v6, SEQUENCE, PROBE_SENT, 0);
		if (run(&f, n / GENUINE / 7 % HOOKS, &frame) == PASSED) {
			expect_untouched(&f, &frame);
			/* Or it was a SYN-ACK with options, which the stack resets. */
			if (!(s.kind == KIND_SYN_ACK && s.options))
				assert_int_equal(flight_of(&f, s.kind, s.v6, SEQUENCE)->state,
						 PROBE_STATE(SEQUENCE, PROBE_SENT));
			passed++;
			continue;
		}
		taken++;
		if (s.kind == KIND_ICMP) /* identifier, sequence number, cookie */
			assert_memory_equal(frame.data + frame.transport + 4, was.data + was.transport + 4, 12);
		else
			assert_memory_equal(frame.data + frame.transport, was.data + was.transport, 4);
		if (s.kind == KIND_STAMP)
			assert_memory_equal(frame.data + frame.transport + 32, was.data + was.transport + 32, 12);
		if (s.kind == KIND_AUTHENTICATED)
			assert_memory_equal(frame.data + frame.transport + 8, was.data + was.transport + 8, 112);
		if (s.kind == KIND_SYN_ACK || s.kind == KIND_RESET)
			assert_memory_equal(frame.data + frame.transport + 8, was.data + was.transport + 8, 4);
	}
	print_message("%u taken, %u passed on\n", taken, passed);
	assert_true(taken > 3000 && passed > 10000);
	fixture_close(&f);
}

/* ---- devices ---- */

static void places_of_devices(void **state)
{
	uint32_t slot, slots[PROBE_DEVICES_MAX];
	struct fixture f;
	struct frame frame;

	(void)state;
	fixture_open(&f);
	assert_int_equal(probe_program_device_add(f.program, f.ifindex, false, &slot), -EEXIST);
	assert_int_equal(probe_program_device_add(f.program, 0, false, &slot), -ENODEV);
	/* Two have their place in one bucket, a third one has not. */
	assert_int_equal(probe_program_device_add(f.program, f.ifindex + PROBE_DEVICE_BUCKETS, false, &slots[1]), 0);
	assert_int_equal(probe_program_device_add(f.program, f.ifindex + 2 * PROBE_DEVICE_BUCKETS, false, &slot),
			 -ENOSPC);
	for (unsigned i = 2; i < PROBE_DEVICES_MAX; i++)
		assert_int_equal(probe_program_device_add(f.program, 1000 + i, false, &slots[i]), 0);
	assert_int_equal(probe_program_device_add(f.program, 999, false, &slot), -ENOSPC);

	put_foreign(&frame, 2);
	expect_passed(&f, XDP, &frame);
	expect_passed(&f, TC, &frame);
	assert_int_equal(probe_program_packets(f.program, f.slot, PROBE_PASS), 2);
	assert_int_equal(probe_program_packets(f.program, slots[1], PROBE_PASS), 0);
	probe_program_device_remove(f.program, f.slot);
	expect_passed(&f, XDP, &frame); /* counted nowhere */
	expect_passed(&f, TC, &frame);
	assert_int_equal(probe_program_device_add(f.program, f.ifindex, false, &slot), 0);
	assert_int_equal(slot, f.slot);
	assert_int_equal(probe_program_packets(f.program, slot, PROBE_PASS), 0);
	fixture_close(&f);
}

/* A device whose packets begin with the IP header, among them answers. */
static void device_without_link_header(void **state)
{
	struct ifreq request = { .ifr_name = "tun0", .ifr_flags = IFF_TUN | IFF_NO_PI };
	struct fixture f;
	struct frame frame;
	uint32_t slot;
	int tun;

	(void)state;
	fixture_open(&f);
	tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (tun < 0 || ioctl(tun, TUNSETIFF, &request)) {
		print_message("skipped: no tun devices here\n");
		if (tun >= 0)
			close(tun);
		fixture_close(&f);
		skip();
	}
	probe_program_device_remove(f.program, f.slot);
	f.ifindex = if_nametoindex("tun0");
	assert_int_equal(probe_program_device_add(f.program, f.ifindex, false, &slot), 0);
	f.slot = slot;
	for (size_t i = 0; i < GENUINE; i++) {
		struct shape s = genuine[i];
		uint64_t before = mono_now().ns;

		s.no_link = true;
		add_session(&f, s.kind, s.v6, PROBE_ICMP_PAYLOAD_MIN);
		set_flight(&f, s.kind, s.v6, SEQUENCE, PROBE_SENT, 0);
		build(&frame, &s, SEQUENCE);
		assert_int_equal(run(&f, TC, &frame), s.kind == KIND_SYN_ACK ? SENT_BACK : DROPPED);
		expect_answered(&f, TC, &s, before);
		s.cookie_xor = 1;
		build(&frame, &s, SEQUENCE);
		expect_passed(&f, TC, &frame);
	}
	fixture_close(&f);
	close(tun);
}

/* More sessions than short cuts have places for: the map has the rest. Removed ones are nobody's. */
static void every_session_is_found(void **state)
{
	enum { MANY = 500 };
	const struct probe_program_options options = {
		.sessions_max = MANY,
		.flights_max = MANY,
		.icmp_first = ICMP_FIRST,
		.port_first = PORT_FIRST,
		.port_count = PORT_COUNT,
	};
	struct shape s = { .kind = KIND_ICMP };
	struct error error = { "" };
	struct fixture f = { .slot = 0 };
	struct probe_key keys[MANY + 1];
	struct frame frame;

	(void)state;
	need_root();
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	if (probe_program_open(&options, &f.program, &error))
		fail_msg("%s", error.text);
	f.sessions = probe_program_sessions(f.program);
	f.flights = probe_program_flights(f.program);
	f.ifindex = if_nametoindex("lo");
	assert_int_equal(probe_program_device_add(f.program, f.ifindex, false, &f.slot), 0);
	build(&frame, &s, 0);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 1; i <= MANY; i++) {
			f.sessions[i] = (struct probe_session){
				.first = i - 1, .timeout_ns = TIMEOUT_NS, .payload = PROBE_ICMP_PAYLOAD_MIN};
			keys[i] = (struct probe_key){ .port = ICMP_FIRST + 2, .protocol = PROBE_ICMP };
			inet_pton(AF_INET6, "::ffff:10.0.0.2", &keys[i].address);
			keys[i].address.words[3] = htonl(0x0a000000 + i * (round ? 256 : 1));
			assert_int_equal(probe_program_session_add(f.program, &keys[i], i), 0);
			assert_int_equal(probe_program_session_add(f.program, &keys[i], i), -EEXIST);
			f.flights[i - 1] = (struct probe_flight){.state = PROBE_STATE(0, PROBE_SENT),
								 .cookie = cookie_of(s.kind, false, 0),
								 .sent_ns = mono_now().ns};
		}
		for (unsigned i = 1; i <= MANY; i++) {
			memcpy(frame.data + frame.ip + 12, &keys[i].address.words[3], 4);
			assert_int_equal(run(&f, XDP, &frame), DROPPED);
			assert_int_equal(f.flights[i - 1].state, PROBE_STATE(0, PROBE_ANSWERED));
			assert_int_equal(probe_program_session_remove(f.program, &keys[i]), 0);
			expect_passed(&f, XDP, &frame);
			assert_int_equal(stray(&f), round * MANY + i);
		}
	}
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(genuine_answers),
		cmocka_unit_test(false_answers),
		cmocka_unit_test(twisted_answers),
		cmocka_unit_test(answers_of_another_kind),
		cmocka_unit_test(truncated_answers),
		cmocka_unit_test(joined_answers),
		cmocka_unit_test(each_state),
		cmocka_unit_test(reordering),
		cmocka_unit_test(foreign_packets),
		cmocka_unit_test(broken_at_random),
		cmocka_unit_test(places_of_devices),
		cmocka_unit_test(device_without_link_header),
		cmocka_unit_test(every_session_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
