/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flow programs in the running kernel: what they count of packets written
 * here, and, by real traffic over the loopback, that they are attached. Needs root;
 * skipped with that reason otherwise. Round-trip times: test_flow_rtt.c.
 */
#include "flow_fixture.h"

static void build_udp(struct frame *frame) { put_ethernet(frame, 0x0800); put_ipv4(frame, A, B, 17, 108, 0); put_udp(frame, 100); }

static void build_padded(struct frame *frame)
{
	put_ethernet(frame, 0x0800);
	put_ipv4(frame, A, B, 17, 9, 0);
	put_udp(frame, 1);
	put(frame, NULL, 17);
}

static void build_qinq(struct frame *frame)
{
	put_ethernet(frame, 0x88a8);
	PUT(frame, "\0\x0a\x81\0\0\x64\x08\0");
	put_ipv4(frame, A, B, 1, 8, 0);
	PUT(frame, "\x08\0\0\0\0\0\0\0");
}

static void build_later_fragment(struct frame *frame)
{
	put_ethernet(frame, 0x0800);
	put_ipv4(frame, A, B, 17, 1000, 0x2000 | 185);
	put(frame, NULL, 1000);
}

static void build_esp(struct frame *frame)
{
	put_ethernet(frame, 0x0800);
	put_ipv4(frame, A, B, 50, 100, 0);
	put(frame, NULL, 100);
}

static void build_extensions(struct frame *frame)
{
	put_ethernet(frame, 0x86dd);
	put_ipv6(frame, 0, 8 + 8 + 8 + 60);
	PUT(frame, "\x3c\0\x01\x04\0\0\0\0");
	PUT(frame, "\x2b\0\x01\x04\0\0\0\0");
	PUT(frame, "\x11\0\0\0\0\0\0\0");
	put_udp(frame, 52);
}

static void build_icmp6(struct frame *frame)
{
	put_ethernet(frame, 0x8100);
	PUT(frame, "\0\x64\x86\xdd");
	put_ipv6(frame, 58, 8);
	PUT(frame, "\x80\0\0\0\0\x01\0\x01");
}

static void build_tcp(struct frame *frame)
{
	const struct segment s = { .from_port = 1, .to_port = 2, .flags = PACKET_ACK, .stamp = 1, .echo = 1, .payload = 2500 };

	put_ethernet(frame, 0x0800);
	put_ipv4(frame, A, B, 6, segment_size(&s), 0);
	put_tcp(frame, &s);
}

/* Says that it is 65535 bytes long. */
static void build_liar(struct frame *frame)
{
	build_udp(frame);
	frame->data[16] = frame->data[17] = 0xff;
}

static void each_packet_is_counted(void **state)
{
	static const struct {
		const char *name;
		void (*build)(struct frame *frame);
		uint32_t segments, segment_size;
		enum flow_protocol protocol;
		uint64_t packets, bytes;
		bool v6;
	} rows[] = {
		{ "UDP", build_udp, 0, 0, FLOW_UDP, 1, 128, false },
		{ "padding is not counted", build_padded, 0, 0, FLOW_UDP, 1, 29, false },
		{ "QinQ, ICMP", build_qinq, 0, 0, FLOW_ICMP, 1, 28, false },
		{ "a later fragment", build_later_fragment, 0, 0, FLOW_UDP, 1, 1020, false },
		{ "ESP", build_esp, 0, 0, FLOW_OTHER, 1, 120, false },
		{ "IPv6 with extension headers", build_extensions, 0, 0, FLOW_UDP, 1, 124, true },
		{ "VLAN, ICMPv6", build_icmp6, 0, 0, FLOW_ICMP, 1, 48, true },
		{ "TCP, not to be cut", build_tcp, 0, 0, FLOW_TCP, 1, 2552, false },
		{ "TCP, three segments", build_tcp, 3, 1000, FLOW_TCP, 3, 2500 + 3 * 52, false },
		{ "TCP, three segments by their size", build_tcp, 0, 1000, FLOW_TCP, 3, 2500 + 3 * 52, false },
		{ "a length that lies", build_liar, 0, 0, FLOW_UDP, 1, 128, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct frame frame = { .len = 0 };
		struct fixture f;

		fixture_open_runnable(&f, &loopback, 1);
		print_message("%s\n", rows[i].name);
		rows[i].build(&frame);
		run(&f, FLOW_RECEIVE, frame.data, frame.len, 1, rows[i].segments, rows[i].segment_size);
		run(&f, FLOW_TRANSMIT, frame.data, frame.len, 1, rows[i].segments, rows[i].segment_size);
		run(&f, FLOW_TRANSMIT, frame.data, frame.len, 1, rows[i].segments, rows[i].segment_size);
		expect(&f, 0, rows[i].v6 ? "fd00::1" : A, FLOW_RECEIVE, rows[i].protocol, rows[i].packets, rows[i].bytes);
		expect(&f, 0, rows[i].v6 ? "fd00::2" : B, FLOW_TRANSMIT, rows[i].protocol, 2 * rows[i].packets, 2 * rows[i].bytes);
		fixture_close(&f);
	}
}

static void what_is_no_ip_is_not(void **state)
{
	struct frame frame = { .len = 0 };
	struct fixture f;

	(void)state;
	fixture_open_runnable(&f, &loopback, 1);
	put_ethernet(&frame, 0x0806);
	PUT(&frame, "\0\x01\x08\0\x06\x04\0\x01\x02\0\0\0\0\x01\x0a\x4d\0\x01\0\0\0\0\0\0\x0a\x4d\0\x02");
	run(&f, FLOW_RECEIVE, frame.data, frame.len, 1, 0, 0);
	tick(&f, 0);
	for (uint32_t slot = 0; slot < peers_slots(f.peers); slot++)
		assert_null(peers_label(f.peers, slot));
	fixture_close(&f);
}

/* Three devices: the second without a link header, and a third interface that is none of them. */
static void devices_are_told_apart(void **state)
{
	const struct flow_device devices[2] = {
		{ .name = "other", .ifindex = 4711 }, { .name = "lo", .ifindex = 1, .is_ip = true },
	};
	struct frame frame = { .len = 0 };
	struct flow_program_stats stats;
	struct fixture f;

	(void)state;
	fixture_open_runnable(&f, devices, 2);
	put_ipv4(&frame, A, B, 17, 18, 0);
	put_udp(&frame, 10);
	run(&f, FLOW_RECEIVE, frame.data, frame.len, 1, 0, 0);
	expect(&f, 1, A, FLOW_RECEIVE, FLOW_UDP, 1, 38);
	assert_int_equal(row_named(&f, 0, A, FLOW_RECEIVE)->head.touched, 0);
	fixture_close(&f);

	fixture_open_runnable(&f, devices, 1);
	run(&f, FLOW_RECEIVE, frame.data, frame.len, 1, 0, 0);
	flow_program_stats(f.program, &stats);
	assert_int_equal(stats.lost[FLOW_LOST_DEVICE], 1);
	fixture_close(&f);
}

/* ---- attached ---- */

static void send_datagrams(const char *from, const char *to, size_t n, size_t len)
{
	struct sockaddr_in source = { .sin_family = AF_INET, .sin_addr.s_addr = inet_addr(from) };
	struct sockaddr_in destination = { .sin_family = AF_INET, .sin_addr.s_addr = inet_addr(to) };
	socklen_t size = sizeof(destination);
	char data[2000] = { 0 };
	int in = socket(AF_INET, SOCK_DGRAM, 0), out = socket(AF_INET, SOCK_DGRAM, 0);

	assert_int_equal(bind(in, (struct sockaddr *)&destination, size), 0);
	assert_int_equal(getsockname(in, (struct sockaddr *)&destination, &size), 0);
	assert_int_equal(bind(out, (struct sockaddr *)&source, sizeof(source)), 0);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(sendto(out, data, len, 0, (struct sockaddr *)&destination, size), len);
		assert_int_equal(recv(in, data, sizeof(data), 0), len);
	}
	close(in);
	close(out);
}

static void real_packets(enum flow_mode mode, const char *name)
{
	struct error error = { "" };
	struct fixture f;

	fixture_open(&f, "", &loopback, 1, mode);
	if (flow_program_attach(f.program, 0, &error))
		fail_msg("%s", error.text);
	if (strcmp(flow_program_mode(f.program), name)) {
		fixture_close(&f);
		print_message("skipped: this kernel has no %s\n", name);
		skip();
	}
	send_datagrams("127.77.2.1", "127.77.2.2", 5, 100);
	/* Transmitted to the one, then received from the other. */
	expect(&f, 0, "127.77.2.1", FLOW_RECEIVE, FLOW_UDP, 5, 5 * 128);
	expect(&f, 0, "127.77.2.2", FLOW_TRANSMIT, FLOW_UDP, 5, 5 * 128);
	assert_null(row_named(&f, 0, "127.77.2.1", FLOW_TRANSMIT));
	fixture_close(&f);
}

static void at_tcx(void **state)
{
	(void)state;
	real_packets(FLOW_BEST, "tcx");
}

static void at_a_packet_socket(void **state)
{
	(void)state;
	real_packets(FLOW_SOCKET, "packet_socket");
}

/* More peers than slots: what does not fit is in "other", and nothing is missing. */
static void other_peers(void **state)
{
	struct error error = { "" };
	const struct flow_row *other;
	struct fixture f;

	(void)state;
	fixture_open(&f, "networks:\n  ours: [\"127.77.3.0/24\"]\ncollect:\n  top_peers: 1\n", &loopback, 1, FLOW_BEST);
	if (flow_program_attach(f.program, 0, &error))
		fail_msg("%s", error.text);
	send_datagrams("127.77.3.1", "127.77.3.2", 3, 100); /* a network: transmitted and received */
	send_datagrams("127.77.4.1", "127.77.4.2", 4, 100); /* the one slot goes to the first that is seen: 127.77.4.2 */
	expect(&f, 0, "ours", FLOW_RECEIVE, FLOW_UDP, 3, 3 * 128);
	expect(&f, 0, "ours", FLOW_TRANSMIT, FLOW_UDP, 3, 3 * 128);
	expect(&f, 0, "127.77.4.2", FLOW_TRANSMIT, FLOW_UDP, 4, 4 * 128);
	other = row_named(&f, 0, "other", FLOW_RECEIVE);
	assert_non_null(other);
	assert_int_equal(other->bytes[FLOW_UDP], 4 * 128);
	fixture_close(&f);
}

static void interfaces_that_are_not(void **state)
{
	struct flow_device device;
	struct error error = { "" };

	(void)state;
	assert_int_equal(flow_device_find("nothing0", &device, &error), -ENODEV);
	assert_string_equal(error.text, "there is no interface nothing0");
	assert_int_equal(flow_device_find("a name that is longer than any", &device, &error), -ENODEV);
	assert_int_equal(flow_device_find("lo", &device, &error), 0);
	assert_int_equal(device.ifindex, 1);
	assert_false(device.is_ip);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_packet_is_counted),
		cmocka_unit_test(what_is_no_ip_is_not),
		cmocka_unit_test(devices_are_told_apart),
		cmocka_unit_test(at_tcx),
		cmocka_unit_test(at_a_packet_socket),
		cmocka_unit_test(other_peers),
		cmocka_unit_test(interfaces_that_are_not),
	};

	kbpf_log_setup();
	if (!geteuid() && own_namespace())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
