/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reflector in the running kernel, on frames handed to it with BPF_PROG_TEST_RUN, in XDP and in tc: what it
 * answers, byte for byte, and what it does not. Real traffic: test_reflect_traffic.c. Needs root; skipped with that
 * reason otherwise.
 */
#include "reflect_fixture.h"
#include <linux/bpf.h>

enum hook { XDP, TC, HOOKS };
enum verdict { PASSED, ANSWERED, DROPPED };

struct fixture {
	struct probe_program *program;
	uint32_t ifindex, other, slot;
	struct packet_of out; /* what the program made of the last one; .frame only */
};

static void fixture_open(struct fixture *f, const struct probe_program_options *options)
{
	need_root();
	memset(f, 0, sizeof(*f));
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	ip_command("link set lo up\nlink add r0 address 02:00:00:00:00:01 type veth peer name s0\n"
		   "address add 10.0.0.1/24 broadcast 10.0.0.255 dev r0\naddress add fd00::1/64 dev r0\n"
		   "address add 10.1.0.1/24 dev s0\naddress add 10.2.0.1/32 dev lo\n"
		   "link set r0 up\nlink set s0 up");
	f->ifindex = if_nametoindex("r0");
	f->other = if_nametoindex("s0");
	f->program = open_program(options);
	assert_int_equal(probe_program_device_add(f->program, f->ifindex, true, &f->slot), 0);
}

static void fixture_close(struct fixture *f)
{
	probe_program_close(f->program);
}

/* Both contexts as in the uapi; in tc the kernel sets pkt_type by itself, from the addresses. */
static enum verdict run_on(struct fixture *f, enum hook hook, const struct frame *frame, uint32_t ifindex,
			   uint32_t gso_size)
{
	/* TCX_NEXT, _REDIRECT, _DROP */
	static const int returns[HOOKS][3] = { { XDP_PASS, XDP_TX, XDP_DROP }, { -1, 7, 2 } };
	struct __sk_buff skb = { .ifindex = ifindex, .gso_size = gso_size };
	struct xdp_md xdp = { .data_end = (uint32_t)frame->len, .ingress_ifindex = ifindex };
	struct bpf_test_run_opts options;
	int r;

	memset(&options, 0, sizeof(options)); /* the padding too: libbpf looks */
	options.sz = sizeof(options);
	options.data_in = frame->data;
	options.data_size_in = (uint32_t)frame->len;
	options.data_out = f->out.frame.data;
	options.data_size_out = sizeof(f->out.frame.data);
	options.repeat = 1;
	options.ctx_in = hook == XDP ? (void *)&xdp : (void *)&skb;
	options.ctx_size_in = hook == XDP ? sizeof(xdp) : sizeof(skb);
	r = bpf_prog_test_run_opts(probe_program_fd(f->program, hook == XDP ? PROBE_HOOK_XDP : PROBE_HOOK_TC_RECEIVE),
				   &options);
	if (r)
		fail_msg("test run of %zu bytes: %s", frame->len, strerror(errno));
	f->out.frame.len = options.data_size_out;
	for (int v = PASSED; v <= DROPPED; v++)
		if ((int)options.retval == returns[hook][v])
			return (enum verdict)v;
	fail_msg("returned %d", (int)options.retval);
	return PASSED;
}

static enum verdict run(struct fixture *f, enum hook hook, const struct frame *frame)
{
	return run_on(f, hook, frame, f->ifindex, 0);
}

static void expect_untouched(const struct fixture *f, const struct frame *frame)
{
	assert_int_equal(f->out.frame.len, frame->len);
	assert_memory_equal(f->out.frame.data, frame->data, frame->len);
}

static void expect_passed(struct fixture *f, enum hook hook, const struct frame *frame)
{
	assert_int_equal(run(f, hook, frame), PASSED);
	expect_untouched(f, frame);
}

static void expect_bytes(const struct frame *got, const struct frame *expected)
{
	assert_int_equal(got->len, expected->len);
	for (size_t i = 0; i < got->len; i++)
		if (got->data[i] != expected->data[i])
			fail_msg("byte %zu is %02x, not %02x", i, got->data[i], expected->data[i]);
}

/* The answer is right to the byte. authenticated: in which mode it must be. */
static void expect_answer(struct fixture *f, enum hook hook, const struct request *request, bool authenticated,
			  unsigned error_estimate)
{
	struct request answer_request;
	struct packet_of p;

	build(&p, request);
	assert_int_equal(run(f, hook, &p.frame), ANSWERED);
	turn_into_answer(&p, &answer_request, f->out.frame.data + p.body, authenticated, error_estimate);
	expect_bytes(&f->out.frame, &p.frame);
}

/* ---- what is answered ---- */

static const struct request requests[] = {
	{ "the smallest", .v6 = false },
	{ "the smallest, IPv6", .v6 = true },
	{ "authenticated", .authenticated = true },
	{ "authenticated, IPv6", .v6 = true, .authenticated = true },
	{ "a tag", .vlans = 1 },
	{ "two tags, IPv6, authenticated", .v6 = true, .vlans = 2, .authenticated = true },
	{ "an odd length", .payload = 45 },
	{ "padding up to where the other mode begins", .payload = 111 },
	{ "padding, as long as the other mode", .payload = 112 },
	{ "padding, one more, IPv6", .v6 = true, .payload = 113 },
	{ "authenticated with padding", .authenticated = true, .payload = 113 },
	{ "one chunk of the sum behind the base", .payload = 44 + 512 },
	{ "and a byte", .payload = 44 + 513 },
	{ "an MTU, IPv6", .v6 = true, .payload = 1452 },
	{ "an MTU, authenticated", .authenticated = true, .payload = 1472 },
	{ "more than one page's half", .payload = 3000 },
	{ "no checksum", .sum = SUM_NONE },
	{ "no checksum, authenticated, padding", .sum = SUM_NONE, .authenticated = true, .payload = 999 },
	{ "from the first port that may", .from_port = 1024 },
	{ "to an address of the loopback interface", .destination = "10.2.0.1" },
	{ "ICMP echo", .icmp = true },
	{ "ICMP echo, IPv6", .v6 = true, .icmp = true },
	{ "ICMP echo, one byte", .icmp = true, .payload = 1 },
	{ "ICMP echo, IPv6, a tag, an odd length", .v6 = true, .icmp = true, .vlans = 1, .payload = 1001 },
};

static const struct probe_program_options with_all = {
	.reflect = true, .reflect_icmp = true, .reflect_key = KEY_NUMBER,
};

static void answers(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, &with_all);
	for (enum hook hook = 0; hook < HOOKS; hook++)
		for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
			print_message("%s: %s\n", hook == XDP ? "XDP" : "tc", requests[i].name);
			expect_answer(&f, hook, &requests[i], requests[i].authenticated, 0x1d80);
		}
	assert_int_equal(probe_program_packets(f.program, f.slot, PROBE_REFLECT),
			 HOOKS * sizeof(requests) / sizeof(requests[0]));
	assert_int_equal(probe_program_packets(f.program, f.slot, PROBE_PASS), 0);
	fixture_close(&f);
}

/* What tc cannot be given here: a packet in several buffers, and a checksum that was only begun (there it is the
 * kernel's). */
static void answers_only_in_xdp(void **state)
{
	static const struct request rows[] = {
		{ "9000 bytes", .payload = 9000 - 28 },
		{ "9000 bytes, authenticated, IPv6", .v6 = true, .payload = 9000 - 48, .authenticated = true },
		{ "a checksum that was only begun", .sum = SUM_BEGUN },
		{ "the same, IPv6, authenticated, an odd length", .v6 = true, .authenticated = true, .payload = 701,
		  .sum = SUM_BEGUN },
	};
	struct fixture f;

	(void)state;
	fixture_open(&f, &with_all);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		print_message("%s\n", rows[i].name);
		expect_answer(&f, XDP, &rows[i], rows[i].authenticated, 0x1d80);
	}
	fixture_close(&f);
}

/* A key that the sender does not have: what looks authenticated is answered as padding. */
static void the_mode_follows_the_hmac(void **state)
{
	const struct request request = { .authenticated = true, .payload = 130 };
	struct probe_program_options options = with_all;
	struct fixture f;

	(void)state;
	options.reflect_key = KEY_NUMBER + 1; /* all zero: nobody's */
	fixture_open(&f, &options);
	for (enum hook hook = 0; hook < HOOKS; hook++) {
		struct request answer_request;
		struct packet_of p;

		build(&p, &request);
		/* As the unauthenticated request that it is for this reflector: its timestamp is where the zeros
		 * were. */
		assert_int_equal(run(&f, hook, &p.frame), ANSWERED);
		turn_into_answer(&p, &answer_request, f.out.frame.data + p.body, false, 0x1d80);
		expect_bytes(&f.out.frame, &p.frame);
	}
	fixture_close(&f);
	options.reflect_key = 0;
	fixture_open(&f, &options);
	for (enum hook hook = 0; hook < HOOKS; hook++) {
		struct packet_of p;

		build(&p, &request);
		assert_int_equal(run(&f, hook, &p.frame), ANSWERED);
		assert_memory_equal(f.out.frame.data + p.body + 44, p.frame.data + p.body + 44, 130 - 44);
	}
	fixture_close(&f);
}

/* t2 and t3 are this host's UTC, also when the kernel knows how far that is from TAI; the error is what user space
 * said. */
static void times(void **state)
{
	const int32_t offsets[] = { 0, 37, -12 };
	struct timespec now, tai;
	struct fixture f;

	(void)state;
	fixture_open(&f, &with_all);
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++)
		for (int k = 0; k < 4; k++) {
			const struct request request = { .authenticated = k & 1 };
			uint64_t before, after, t2, t3;
			const uint8_t *body;
			struct packet_of p;

			probe_program_clock(f.program, 0x8f84, offsets[i]);
			build(&p, &request);
			clock_gettime(CLOCK_TAI, &tai);
			before = (uint64_t)(tai.tv_sec - offsets[i]) * NS_PER_SEC + (uint64_t)tai.tv_nsec;
			assert_int_equal(run(&f, k < 2 ? XDP : TC, &p.frame), ANSWERED);
			clock_gettime(CLOCK_TAI, &tai);
			after = (uint64_t)(tai.tv_sec - offsets[i]) * NS_PER_SEC + (uint64_t)tai.tv_nsec;
			body = f.out.frame.data + p.body;
			t2 = clock_ns_from_ntp(get64(body + (request.authenticated ? 32 : 16)), before);
			t3 = clock_ns_from_ntp(get64(body + (request.authenticated ? 16 : 4)), before);
			assert_in_range(t2, before - 1, after);
			assert_in_range(t3, t2, after);
			assert_int_equal(get16(body + (request.authenticated ? 24 : 12)), 0x8f84);
		}
	clock_gettime(CLOCK_REALTIME, &now);
	/* so these are the present's seconds */
	assert_true(llabs((long long)now.tv_sec - (long long)tai.tv_sec) < 100);
	fixture_close(&f);
}

/* ---- what is not ---- */

struct refusal {
	struct request request;
	void (*spoil)(struct packet_of *p); /* before the checksums are written again; NULL: as it is */
	bool counted;                       /* as malformed; else it is no affair of the reflector's */
};

static void to_multicast_mac(struct packet_of *p) { p->frame.data[0] = 0x01; }
static void to_broadcast_mac(struct packet_of *p) { memset(p->frame.data, 0xff, 6); }
static void to_other_mac(struct packet_of *p) { p->frame.data[5] = 0x77; }
static void from_multicast_mac(struct packet_of *p) { p->frame.data[6] |= 0x01; }
static void more_fragments(struct packet_of *p) { p->frame.data[p->ip + 6] = 0x20; }
static void later_fragment(struct packet_of *p) { p->frame.data[p->ip + 7] = 0x10; }
static void udp_too_long(struct packet_of *p) { set16(p->frame.data + p->transport + 4, 8 + 45); }
static void udp_too_short(struct packet_of *p) { set16(p->frame.data + p->transport + 4, 8 + 43); }
static void udp_no_length(struct packet_of *p) { set16(p->frame.data + p->transport + 4, 0); }

static void udp_absurd(struct packet_of *p)
{
	set16(p->frame.data + p->transport + 4, 4);
	set16(p->frame.data + p->ip + 2, 20);
}

static void ip_shorter_than_udp(struct packet_of *p)
{
	set16(p->frame.data + p->ip + (p->request->v6 ? 4 : 2), p->request->v6 ? 0 : 10);
}

static void echo_code(struct packet_of *p) { p->frame.data[p->transport + 1] = 1; }
static void echo_reply(struct packet_of *p) { p->frame.data[p->transport] = p->request->v6 ? 129 : 0; }
static void not_ip(struct packet_of *p) { set16(p->frame.data + 12, 0x0806); }

static void insert(struct packet_of *p, size_t at, const char *bytes, size_t len)
{
	memmove(p->frame.data + at + len, p->frame.data + at, p->frame.len - at);
	memcpy(p->frame.data + at, bytes, len);
	p->frame.len += len;
}

static void ip_options(struct packet_of *p)
{
	insert(p, p->transport, "\x01\x01\x01\x00", 4);
	p->transport += 4;
	p->frame.data[p->ip] = 0x46;
	set16(p->frame.data + p->ip + 2, get16(p->frame.data + p->ip + 2) + 4);
	set16(p->frame.data + p->ip + 10, 0);
	set16(p->frame.data + p->ip + 10, 0xffff ^ sum16(p->frame.data + p->ip, 24, 0));
}

static void destination_options(struct packet_of *p)
{
	insert(p, p->transport, "\x11\x00\x01\x04\0\0\0\0", 8);
	p->transport += 8;
	p->frame.data[p->ip + 6] = 60;
	set16(p->frame.data + p->ip + 4, get16(p->frame.data + p->ip + 4) + 8);
}

static const struct refusal refusals[] = {
	{ { "43 bytes", .payload = 43 }, NULL, true },
	{ { "43 bytes, IPv6", .v6 = true, .payload = 43 }, NULL, true },
	{ { "one byte", .payload = 1 }, NULL, true },
	{ { "another port", .to_port = 863 }, NULL, false },
	{ { "from a reflector", .from_port = PORT }, NULL, true },
	{ { "from echo", .from_port = 7 }, NULL, true },
	{ { "from the last system port, IPv6", .v6 = true, .from_port = 1023 }, NULL, true },
	{ { "no checksum in IPv6", .v6 = true, .sum = SUM_NONE }, NULL, true },
	{ { "to a group", .destination = "224.0.0.1" }, NULL, false },
	{ { "to everybody", .destination = "255.255.255.255" }, NULL, false },
	{ { "to a group, IPv6", .v6 = true, .destination = "ff02::1" }, NULL, false },
	{ { "on its way to another host", .destination = "10.9.9.9" }, NULL, false },
	{ { "on its way to another host, IPv6", .v6 = true, .destination = "fd00::9" }, NULL, false },
	{ { "echo on its way to another host", .icmp = true, .destination = "10.9.9.9" }, NULL, false },
	{ { "echo on its way to another host, IPv6", .v6 = true, .icmp = true, .destination = "fd00::9" }, NULL, false },
	{ { "to another interface's address", .destination = "10.1.0.1" }, NULL, false },
	{ { "to everybody on the link", .destination = "10.0.0.255" }, NULL, false },
	{ { "to the loopback", .destination = "127.0.0.1" }, NULL, false },
	{ { "from the loopback", .source = "127.0.0.1" }, NULL, false },
	{ { "from the loopback, IPv6", .v6 = true, .source = "::1" }, NULL, false },
	{ { "from an IPv4 address in IPv6", .v6 = true, .source = "::ffff:10.0.0.2" }, NULL, false },
	{ { "from a group", .source = "239.1.2.3" }, NULL, false },
	{ { "from everybody", .source = "255.255.255.255" }, NULL, false },
	{ { "from nobody", .source = "0.0.0.0" }, NULL, false },
	{ { "from nobody, IPv6", .v6 = true, .source = "::" }, NULL, false },
	{ { "from a group, IPv6", .v6 = true, .source = "ff05::2" }, NULL, false },
	{ { "echo to a group, IPv6", .v6 = true, .icmp = true, .destination = "ff02::1" }, NULL, false },
	{ { "to a group's Ethernet address" }, to_multicast_mac, false },
	{ { "to every Ethernet address, echo", .icmp = true }, to_broadcast_mac, false },
	{ { "to another host's Ethernet address" }, to_other_mac, false },
	{ { "to another host's Ethernet address, echo, IPv6", .v6 = true, .icmp = true }, to_other_mac, false },
	{ { "from a group's Ethernet address" }, from_multicast_mac, false },
	{ { "the first fragment" }, more_fragments, false },
	{ { "a later fragment" }, later_fragment, false },
	{ { "a datagram longer than its packet" }, udp_too_long, true },
	{ { "a datagram shorter than STAMP" }, udp_too_short, true },
	{ { "a datagram without length" }, udp_no_length, true },
	{ { "lengths that end before they begin" }, udp_absurd, false },
	{ { "a packet shorter than its own header" }, ip_shorter_than_udp, false },
	{ { "a packet without payload, IPv6", .v6 = true }, ip_shorter_than_udp, false },
	{ { "options" }, ip_options, false },
	{ { "an extension header", .v6 = true }, destination_options, false },
	{ { "an echo with a code", .icmp = true }, echo_code, false },
	{ { "an echo reply", .icmp = true }, echo_reply, false },
	{ { "an echo reply, IPv6", .icmp = true, .v6 = true }, echo_reply, false },
	{ { "ARP" }, not_ip, false },
};

static void is_passed_on(void **state)
{
	struct fixture f;

	(void)state;
	fixture_open(&f, &with_all);
	for (enum hook hook = 0; hook < HOOKS; hook++)
		for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
			uint64_t malformed = refused(f.program, REFLECT_MALFORMED);
			struct packet_of p;

			print_message("%s: %s\n", hook == XDP ? "XDP" : "tc", refusals[i].request.name);
			build(&p, &refusals[i].request);
			if (refusals[i].spoil) {
				refusals[i].spoil(&p);
				if (p.frame.data[p.ip] != 0x46)
					finish(&p);
			}
			expect_passed(&f, hook, &p.frame);
			assert_int_equal(refused(f.program, REFLECT_MALFORMED), malformed + refusals[i].counted);
		}
	assert_int_equal(probe_program_packets(f.program, f.slot, PROBE_REFLECT), 0);
	assert_int_equal(refused(f.program, REFLECT_UNAUTHENTIC) + refused(f.program, REFLECT_RATE), 0);
	fixture_close(&f);
}

/* Frames that end early, wherever: their headers say more than there is. */
static void every_truncation_is_passed_on(void **state)
{
	static const struct request rows[] = {
		{ "IPv4" }, { "IPv6", .v6 = true, .authenticated = true, .payload = 120 },
		{ "no checksum", .sum = SUM_NONE, .payload = 60 },
		{ "echo", .icmp = true }, { "echo, IPv6, a tag", .v6 = true, .icmp = true, .vlans = 1 },
	};
	struct fixture f;

	(void)state;
	fixture_open(&f, &with_all);
	for (enum hook hook = 0; hook < HOOKS; hook++)
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			struct packet_of p;
			size_t whole;

			build(&p, &rows[i]);
			whole = p.frame.len;
			/* A test run in tc takes nothing without a network header. */
			for (p.frame.len = hook == XDP ? 14 : p.transport; p.frame.len < whole; p.frame.len++)
				expect_passed(&f, hook, &p.frame);
			assert_int_equal(run(&f, hook, &p.frame), ANSWERED);
		}
	fixture_close(&f);
}

/* One wrong bit anywhere from the IP header on: the checksums tell. IPv6 headers are covered only in their addresses. */
static void every_wrong_bit_is_passed_on(void **state)
{
	static const struct request rows[] = {
		{ "IPv4" }, { "IPv6, an odd length", .v6 = true, .payload = 47 },
		{ "echo", .icmp = true, .payload = 9 },
		{ "echo, IPv6", .v6 = true, .icmp = true, .payload = 8 },
		{ "authenticated", .authenticated = true, .payload = 113 },
	};
	struct fixture f;

	(void)state;
	fixture_open(&f, &with_all);
	for (enum hook hook = 0; hook < HOOKS; hook++)
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			struct packet_of p;

			build(&p, &rows[i]);
			for (size_t bit = 8 * (p.ip + (rows[i].v6 ? 8 : 0)); bit < 8 * p.frame.len; bit++) {
				p.frame.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
				expect_passed(&f, hook, &p.frame);
				p.frame.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
			}
			assert_int_equal(run(&f, hook, &p.frame), ANSWERED);
		}
	fixture_close(&f);
}

/* Many packets in one buffer, as a local sender hands them over. */
static void a_batch_is_passed_on(void **state)
{
	const struct request request = { .payload = 1000 };
	struct packet_of p;
	struct fixture f;

	(void)state;
	fixture_open(&f, &with_all);
	build(&p, &request);
	assert_int_equal(run_on(&f, TC, &p.frame, f.ifindex, 100), PASSED);
	expect_untouched(&f, &p.frame);
	assert_int_equal(refused(f.program, REFLECT_MALFORMED), 1);
	fixture_close(&f);
}

/* The frame as if the other end had sent it: both addresses change places, so no checksum changes. */
static void send_back(struct frame *frame)
{
	swap(frame->data, frame->data + 6, 6);
	swap(frame->data + 26, frame->data + 30, 4);
}

/* Two reflectors on ports that may both ask, and one forged packet between them. */
static void reflectors_do_not_talk_to_each_other(void **state)
{
	const unsigned ports[] = { 4862, 5862 };
	struct probe_program_options options = with_all;

	(void)state;
	for (int authenticated = 0; authenticated < 2; authenticated++)
		for (enum hook hook = 0; hook < HOOKS; hook++) {
			const struct request request = {
				.from_port = ports[1], .to_port = ports[0], .authenticated = authenticated,
			};
			struct fixture ends[2];
			struct packet_of p;

			for (size_t i = 0; i < 2; i++) {
				options.reflect_port = (uint16_t)ports[i];
				fixture_open(&ends[i], &options);
			}
			build(&p, &request);
			for (size_t i = 0; i < 2; i++) {
				assert_int_equal(run(&ends[i], hook, &p.frame), ANSWERED);
				p.frame = ends[i].out.frame;
				send_back(&p.frame);
			}
			expect_passed(&ends[0], hook, &p.frame);
			assert_int_equal(refused(ends[0].program, REFLECT_MALFORMED), 1);
			for (size_t i = 0; i < 2; i++)
				fixture_close(&ends[i]);
		}
}

static void addresses_come_and_go(void **state)
{
	const struct request request = { .destination = "10.3.0.1" }, request6 = { .v6 = true };
	struct packet_of p, p6;
	struct fixture f;

	(void)state;
	fixture_open(&f, &with_all);
	build(&p, &request);
	build(&p6, &request6);
	expect_passed(&f, TC, &p.frame);
	ip_command("address add 10.3.0.1/24 dev r0\naddress del fd00::1/64 dev r0");
	assert_int_equal(probe_program_addresses(f.program), 0);
	assert_int_equal(run(&f, TC, &p.frame), ANSWERED);
	expect_passed(&f, XDP, &p6.frame);
	ip_command("address del 10.3.0.1/24 dev r0\naddress add fd00::1/64 dev r0\naddress add fd00::1/64 dev s0");
	assert_int_equal(probe_program_addresses(f.program), 0);
	expect_passed(&f, TC, &p.frame);
	assert_int_equal(run(&f, XDP, &p6.frame), ANSWERED); /* on both */
	fixture_close(&f);
}

static void only_where_it_is_wanted(void **state)
{
	const struct request stamp = { .authenticated = true }, echo = { .icmp = true },
		echo6 = { .v6 = true, .icmp = true },
			     elsewhere = { .to_port = 4862 };
	struct probe_program_options options = { .reflect = true, .reflect_port = 4862 };
	struct packet_of p;
	struct fixture f;

	(void)state;
	fixture_open(&f, &options);
	for (enum hook hook = 0; hook < HOOKS; hook++) {
		build(&p, &echo);
		expect_passed(&f, hook, &p.frame);
		build(&p, &echo6);
		expect_passed(&f, hook, &p.frame);
		build(&p, &stamp);
		expect_passed(&f, hook, &p.frame);
		expect_answer(&f, hook, &elsewhere, false, 0x1d80);
		/* An interface that nobody named. */
		build(&p, &elsewhere);
		assert_int_equal(run_on(&f, hook, &p.frame, f.other, 0), PASSED);
		expect_untouched(&f, &p.frame);
	}
	assert_int_equal(refused(f.program, REFLECT_MALFORMED), 0);
	/* One that is only probed from. */
	probe_program_device_remove(f.program, f.slot);
	assert_int_equal(probe_program_device_add(f.program, f.ifindex, false, &f.slot), 0);
	for (enum hook hook = 0; hook < HOOKS; hook++)
		expect_passed(&f, hook, &p.frame);
	fixture_close(&f);
	options.reflect = false;
	options.reflect_icmp = true;
	fixture_open(&f, &options);
	for (enum hook hook = 0; hook < HOOKS; hook++) {
		expect_passed(&f, hook, &p.frame);
		build(&p, &echo);
		expect_passed(&f, hook, &p.frame);
		build(&p, &elsewhere);
	}
	fixture_close(&f);
}

static void without_the_key_nothing(void **state)
{
	const struct request plain = { .payload = 200 }, small = { 0 },
		authenticated = { .authenticated = true, .payload = 150 },
			     authenticated6 = { .v6 = true, .authenticated = true };
	struct probe_program_options options = with_all;
	uint64_t expected = 0;
	struct packet_of p;
	struct fixture f;

	(void)state;
	options.reflect_authenticated_only = true;
	fixture_open(&f, &options);
	for (enum hook hook = 0; hook < HOOKS; hook++) {
		build(&p, &plain);
		assert_int_equal(run(&f, hook, &p.frame), DROPPED);
		build(&p, &small);
		assert_int_equal(run(&f, hook, &p.frame), DROPPED);
		expected += 2;
		expect_answer(&f, hook, &authenticated, true, 0x1d80);
		expect_answer(&f, hook, &authenticated6, true, 0x1d80);
		/* Every bit counts, with a right UDP checksum around it. */
		build(&p, &authenticated);
		for (size_t bit = 0; bit < 8 * 112; bit++, expected++) {
			p.frame.data[p.body + bit / 8] ^= (uint8_t)(1 << bit % 8);
			finish(&p);
			assert_int_equal(run(&f, hook, &p.frame), DROPPED);
			p.frame.data[p.body + bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		/* What is behind is not covered (RFC 8762, section 4.4). */
		p.frame.data[p.body + 112] ^= 1;
		finish(&p);
		assert_int_equal(run(&f, hook, &p.frame), ANSWERED);
		assert_int_equal(refused(f.program, REFLECT_UNAUTHENTIC), expected);
	}
	fixture_close(&f);
}

static void not_more_than_the_rate(void **state)
{
	const struct request from_2 = { .source = "10.0.0.2" }, from_3 = { .source = "10.0.0.3" },
		from_6 = { .v6 = true, .source = "fd00::3" },
			     echo_2 = { .icmp = true, .source = "10.0.0.2" };
	struct probe_program_options options = with_all;
	struct packet_of p, q;
	mono_time began;
	struct fixture f;

	(void)state;
	options.reflect_rate = 2;
	options.reflect_burst = 5;
	fixture_open(&f, &options);
	build(&p, &from_2);
	began = mono_now();
	for (int i = 0; i < 5; i++)
		assert_int_equal(run(&f, i % 2 ? XDP : TC, &p.frame), ANSWERED);
	for (int i = 0; i < 10; i++)
		assert_int_equal(run(&f, i % 2 ? XDP : TC, &p.frame), DROPPED);
	assert_int_equal(refused(f.program, REFLECT_RATE), 10);
	build(&q, &echo_2); /* all of a source counts together */
	assert_int_equal(run(&f, XDP, &q.frame), DROPPED);
	build(&q, &from_3);
	for (int i = 0; i < 5; i++)
		assert_int_equal(run(&f, XDP, &q.frame), ANSWERED);
	assert_int_equal(run(&f, XDP, &q.frame), DROPPED);
	build(&q, &from_6);
	assert_int_equal(run(&f, TC, &q.frame), ANSWERED);
	/* Half a second for one packet. */
	while (run(&f, XDP, &p.frame) != ANSWERED)
		assert_true(mono_now().ns - began.ns < 5 * NS_PER_SEC);
	assert_true(mono_now().ns - began.ns >= NS_PER_SEC / 2);
	assert_int_equal(run(&f, TC, &p.frame), DROPPED);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers),
		cmocka_unit_test(answers_only_in_xdp),
		cmocka_unit_test(the_mode_follows_the_hmac),
		cmocka_unit_test(times),
		cmocka_unit_test(is_passed_on),
		cmocka_unit_test(every_truncation_is_passed_on),
		cmocka_unit_test(every_wrong_bit_is_passed_on),
		cmocka_unit_test(a_batch_is_passed_on),
		cmocka_unit_test(reflectors_do_not_talk_to_each_other),
		cmocka_unit_test(addresses_come_and_go),
		cmocka_unit_test(only_where_it_is_wanted),
		cmocka_unit_test(without_the_key_nothing),
		cmocka_unit_test(not_more_than_the_rate),
	};

	return cmocka_run_group_tests_name("reflect", tests, NULL, NULL);
}
