/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The drop program in the running kernel. The packets are dropped on the loopback
 * of a network namespace of the test's own; the table counts those of all
 * namespaces, so a count may be a little above what the test did (SLACK), never
 * below. Events are told apart by their namespace and are exact. Needs root;
 * skipped with that reason otherwise.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
/* after the above: */
#include <cmocka.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "abi_drop.h"
#include "agent/drop_program.h"
#include "agent/event_log.h"
#include "agent/events.h"
#include "agent/kbpf.h"
#include "parse.h"

#define SLACK 60
#define LO 1 /* the loopback's index in every namespace */

struct fixture {
	struct events *events;
	struct features features;
	struct drop_program *program;
	uint32_t netns;
};

static uint32_t own_netns(void)
{
	struct stat st;

	assert_int_equal(stat("/proc/thread-self/ns/net", &st), 0);
	return (uint32_t)st.st_ino;
}

static void fixture_open(struct fixture *f, uint32_t events_per_second)
{
	struct error error = { "" };

	if (geteuid()) {
		print_message("skipped: loading BPF programs needs root\n");
		skip();
	}
	memset(f, 0, sizeof(*f));
	f->netns = own_netns();
	if (events_per_second && events_new(events_per_second, &f->events, &error))
		fail_msg("%s", error.text);
	if (drop_program_open(f->events, 0, &f->program, &error) || drop_program_attach(f->program, &f->features, &error))
		fail_msg("%s", error.text);
}

static void fixture_close(struct fixture *f)
{
	drop_program_close(f->program);
	events_free(f->events);
}

/* NULL: any. */
static uint64_t packets(struct fixture *f, const char *reason, const char *protocol)
{
	const struct drop_count *counts;
	uint64_t sum = 0;
	size_t n;

	drop_program_read(f->program);
	n = drop_program_counts(f->program, &counts);
	for (size_t i = 0; i < n; i++)
		if ((!reason || !strcmp(counts[i].reason, reason)) && (!protocol || !strcmp(counts[i].protocol, protocol)))
			sum += counts[i].packets;
	return sum;
}

/* Which reason a kernel gives for the same thing may differ from release to release. */
static void skip_without(const struct fixture *f, const char *reason)
{
	if (drop_reasons_number(drop_program_reasons(f->program), reason) != DROP_REASON_NONE)
		return;
	print_message("skipped: this kernel has no reason %s\n", reason);
	skip();
}

static int udp_socket(int family)
{
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	return fd;
}

/* To a port where nobody is, not connected, so that the ICMP errors that come back do not end it. */
static void send_to_nobody(int family, unsigned n)
{
	struct sockaddr_in6 to6 = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback, .sin6_port = htons(9) };
	struct sockaddr_in to4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(9) };
	const void *to = family == AF_INET ? (const void *)&to4 : &to6;
	socklen_t len = family == AF_INET ? sizeof(to4) : sizeof(to6);
	int fd = udp_socket(family);

	for (unsigned i = 0; i < n; i++)
		assert_int_equal(sendto(fd, "drop", 4, 0, to, len), 4);
	close(fd);
}

/* For frames that arrive at the loopback. One for many: closing it waits for all processors. */
static int packet_socket(void)
{
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0); /* protocol 0: it only sends */

	assert_true(fd >= 0);
	return fd;
}

static void inject_to(int fd, uint8_t mac_byte, uint16_t ethertype, const void *data, size_t len)
{
	struct sockaddr_ll to = {
		.sll_family = AF_PACKET, .sll_ifindex = LO, .sll_protocol = htons(ethertype), .sll_halen = 6,
	};

	memset(to.sll_addr, mac_byte, to.sll_halen);
	assert_int_equal(sendto(fd, data, len, 0, (struct sockaddr *)&to, sizeof(to)), len);
}

static void inject(int fd, uint16_t ethertype, const void *data, size_t len)
{
	inject_to(fd, 0, ethertype, data, len); /* the loopback's own address */
}

static void test_by_reason_and_protocol(void **state)
{
	enum { N = 1000 };
	uint64_t before4, before6;
	struct fixture f;

	fixture_open(&f, 0);
	skip_without(&f, "no_socket");
	before4 = packets(&f, "no_socket", "udp");
	send_to_nobody(AF_INET, N);
	before6 = packets(&f, "no_socket", "udp");
	assert_in_range(before6 - before4, N, N + SLACK);
	send_to_nobody(AF_INET6, N);
	assert_in_range(packets(&f, "no_socket", "udp") - before6, N, N + SLACK);
	assert_int_equal(drop_program_missed(f.program), 0);
	fixture_close(&f);
}

/* Each processor adds to its own shard; the sum must not depend on where. */
static void test_all_processors(void **state)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	cpu_set_t before, one;
	struct fixture f;
	uint64_t start;

	fixture_open(&f, 0);
	start = packets(&f, NULL, "udp");
	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	for (int i = 0; i < n; i++) {
		CPU_ZERO(&one);
		CPU_SET(i, &one);
		assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
		send_to_nobody(AF_INET, 100);
	}
	assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
	assert_in_range(packets(&f, NULL, "udp") - start, 100 * (uint64_t)n, 100 * (uint64_t)n + SLACK);
	fixture_close(&f);
}

/* Rows of a frame of each protocol; the reason is the kernel's affair. */
static void test_protocols(void **state)
{
	enum { N = 20 };
	static const uint8_t hop_by_hop[40 + 8 + 8] = {
		0x60, 0, 0, 0, 0, 16, 0, 64, [23] = 1, [39] = 1, 17, 0, 1, 4, 0, 0, 0, 0, /* UDP behind padding */
		0x12, 0x34, 0, 9, 0, 8, 0, 1, /* wrong checksum */
	};
	static const struct { const char *protocol; uint16_t ethertype; uint8_t data[56]; uint8_t len; } rows[] = {
		/* Wrong checksums, of IP or of what is in it. */
		{ "tcp", 0x0800, { 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 1, 1, 127, 0, 0, 1, 127, 0, 0, 1 }, 40 },
		{ "udp", 0x0800, { 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 1, 1, 127, 0, 0, 1, 127, 0, 0, 1 }, 28 },
		{ "icmp", 0x0800, { 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 1, 1, 127, 0, 0, 1, 127, 0, 0, 1 }, 28 },
		{ "other_ip", 0x0800, { 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 132, 1, 1, 127, 0, 0, 1, 127, 0, 0, 1 }, 28 },
		{ "icmpv6", 0x86dd, { 0x60, 0, 0, 0, 0, 8, 58, 64, [23] = 1, [39] = 1, 128, 0, 1, 1 }, 48 },
		{ "other_ip", 0x0800, { 0x15 }, 28 }, /* no IP version */
		{ "other", 0x88b5, { 1 }, 20 },       /* for experiments, IEEE 802 */
	};
	struct fixture f;
	uint64_t before;
	int fd;

	fixture_open(&f, 0);
	fd = packet_socket();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		before = packets(&f, NULL, rows[i].protocol);
		for (int n = 0; n < N; n++)
			inject(fd, rows[i].ethertype, rows[i].data, rows[i].len);
		print_message("%s\n", rows[i].protocol);
		assert_in_range(packets(&f, NULL, rows[i].protocol) - before, N, N + SLACK);
	}
	before = packets(&f, NULL, "udp");
	for (int n = 0; n < N; n++)
		inject(fd, 0x86dd, hop_by_hop, sizeof(hop_by_hop));
	assert_in_range(packets(&f, NULL, "udp") - before, N, N + SLACK);
	close(fd);
	fixture_close(&f);
}

/* Frames of any bytes and length: each is counted once, under some protocol. */
static void test_garbage(void **state)
{
	static const uint16_t types[] = { 0x0800, 0x86dd, 0x8100, 0x88a8, 0x0806, 0x8864, 0x8847, 0x0004, 0x1234 };
	enum { N = 3000 };
	unsigned seed = 77;
	struct fixture f;
	uint64_t before;
	int fd;

	fixture_open(&f, 1000);
	fd = packet_socket();
	before = packets(&f, NULL, NULL) + drop_program_noise(f.program);
	for (int i = 0; i < N; i++) {
		uint8_t data[200];
		size_t len = 1 + (size_t)rand_r(&seed) % sizeof(data);

		for (size_t j = 0; j < len; j++)
			data[j] = (uint8_t)rand_r(&seed);
		if (i % 3)
			data[0] = i & 4 ? 0x45 : 0x60;
		inject(fd, types[rand_r(&seed) % (sizeof(types) / sizeof(types[0]))], data, len);
	}
	/* The kernel answers some with an ICMP error, which nobody takes. */
	assert_in_range(packets(&f, NULL, NULL) + drop_program_noise(f.program) - before, N, N + N / 4 + SLACK);
	events_tick(f.events, mono_now());
	assert_true(event_log_total(events_log(f.events), EVENT_DROP) > 0);
	close(fd);
	fixture_close(&f);
}

static struct sockaddr_in listen_on_loopback(int *ret_fd)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);

	*ret_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(*ret_fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(*ret_fd, 64), 0);
	assert_int_equal(getsockname(*ret_fd, (struct sockaddr *)&address, &len), 0);
	return address;
}

/* Connections that end in either order are no drops, though the kernel frees their last segments as such. */
static void test_orderly_ends_are_noise(void **state)
{
	enum { N = 300 };
	struct fixture f;
	struct sockaddr_in address;
	uint64_t tcp, noise;
	int listener;
	char c;

	fixture_open(&f, 0);
	tcp = packets(&f, NULL, "tcp");
	noise = drop_program_noise(f.program);
	address = listen_on_loopback(&listener);
	for (int i = 0; i < N; i++) {
		int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), server;

		assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
		server = accept(listener, NULL, NULL);
		assert_int_equal(send(i & 1 ? client : server, "x", 1, 0), 1);
		assert_int_equal(recv(i & 1 ? server : client, &c, 1, 0), 1);
		close(i & 2 ? client : server);
		assert_int_equal(recv(i & 2 ? server : client, &c, 1, 0), 0);
		close(i & 2 ? server : client);
	}
	close(listener);
	print_message("%d connections: %llu drops, %llu kept out\n", N, (unsigned long long)(packets(&f, NULL, "tcp") - tcp),
		      (unsigned long long)(drop_program_noise(f.program) - noise));
	assert_in_range(packets(&f, NULL, "tcp") - tcp, 0, 5);
	assert_true(drop_program_noise(f.program) - noise >= N / 2); /* or this test tests nothing */
	fixture_close(&f);
}

/* A pure ACK that TCP refuses at the door, here because it was broadcast, and copies of it that wait for a reader who closes:
 * both are freed as the last ACK of a connection is, and are drops. */
static void test_refused_acks_are_drops(void **state)
{
	enum { N = 50 };
	static const uint8_t ack[60] = { 0x60, 0, 0, 0, 0, 20, 6, 64, [23] = 1, [39] = 1, 0x12, 0x34, 0, 9, [52] = 0x50, PACKET_ACK };
	int fd, reader = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(0x86dd));
	struct fixture f;
	uint64_t before;

	fixture_open(&f, 0);
	assert_true(reader >= 0);
	fd = packet_socket();
	before = packets(&f, "not_specified", "tcp");
	for (int n = 0; n < N; n++)
		inject_to(fd, 0xff, 0x86dd, ack, sizeof(ack));
	assert_in_range(packets(&f, "not_specified", "tcp") - before, N, N + SLACK / 2);
	before = packets(&f, NULL, "tcp");
	close(reader);
	assert_in_range(packets(&f, NULL, "tcp") - before, N, N + SLACK / 2);
	close(fd);
	fixture_close(&f);
}

/* Neighbour discovery from beyond the link, which no kernel takes. */
static void test_forged_neighbours_are_drops(void **state)
{
	enum { N = 50 };
	/* A solicitation of ::1 by ::1; its checksum is right. */
	static const uint8_t solicitation[64] = {
		0x60, 0, 0, 0, 0, 24, 58, 64, [23] = 1, [39] = 1, 135, 0, 0x78, 0xaa, [63] = 1,
	};
	struct fixture f;
	uint64_t before;
	int fd;

	fixture_open(&f, 0);
	fd = packet_socket();
	before = packets(&f, NULL, "icmpv6");
	for (int n = 0; n < N; n++)
		inject(fd, 0x86dd, solicitation, sizeof(solicitation));
	assert_in_range(packets(&f, NULL, "icmpv6") - before, N, N + SLACK / 2);
	assert_int_equal(packets(&f, "icmp_csum", "icmpv6"), 0);
	close(fd);
	fixture_close(&f);
}

/* What was received and never read is lost when the socket is closed: that stays a drop. */
static void test_unread_datagrams_are_drops(void **state)
{
	enum { N = 50 };
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	mono_time deadline = mono_now();
	int receiver, sender;
	struct fixture f;
	uint64_t before;

	fixture_open(&f, 0);
	receiver = udp_socket(AF_INET);
	sender = udp_socket(AF_INET);
	assert_int_equal(bind(receiver, (struct sockaddr *)&address, len), 0);
	assert_int_equal(getsockname(receiver, (struct sockaddr *)&address, &len), 0);
	before = packets(&f, NULL, "udp");
	for (int i = 0; i < N; i++)
		assert_int_equal(sendto(sender, "unread", 6, 0, (struct sockaddr *)&address, len), 6);
	assert_in_range(packets(&f, NULL, "udp") - before, 0, SLACK / 2); /* still there */
	close(receiver);
	close(sender);
	/* The kernel frees the socket when no processor can look at it any more. */
	deadline.ns += 10 * NS_PER_SEC;
	while (packets(&f, NULL, "udp") - before < N && mono_now().ns < deadline.ns)
		usleep(1000);
	assert_in_range(packets(&f, NULL, "udp") - before, N, N + SLACK / 2);
	fixture_close(&f);
}

/* XDP_DROP on the loopback, in generic mode. */
static int attach_xdp_drop(void)
{
	const struct bpf_insn program[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_DROP },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "test_drop", "GPL", program, 2, NULL);

	assert_true(fd >= 0);
	assert_int_equal(bpf_xdp_attach(LO, fd, XDP_FLAGS_SKB_MODE, NULL), 0);
	return fd;
}

static void send_both(unsigned n)
{
	send_to_nobody(AF_INET, n);
	send_to_nobody(AF_INET6, n);
}

static void test_own_xdp_drops_are_noise(void **state)
{
	enum { N = 200 };
	uint64_t before, noise;
	struct fixture f;
	int fd;

	fixture_open(&f, 0);
	fd = attach_xdp_drop();
	before = packets(&f, NULL, "udp");
	noise = drop_program_noise(f.program);
	send_both(N); /* somebody else's program: counted */
	assert_in_range(packets(&f, NULL, "udp") - before, 2 * N, 2 * N + SLACK);
	assert_in_range(drop_program_noise(f.program) - noise, 0, SLACK);

	assert_int_equal(drop_program_own_xdp(f.program, f.netns, LO, true), 0);
	before = packets(&f, NULL, "udp");
	noise = drop_program_noise(f.program);
	send_both(N);
	assert_in_range(packets(&f, NULL, "udp") - before, 0, SLACK);
	assert_in_range(drop_program_noise(f.program) - noise, 2 * N, 2 * N + SLACK);

	/* The same number in another namespace is another interface. */
	assert_int_equal(drop_program_own_xdp(f.program, f.netns, LO, false), 0);
	assert_int_equal(drop_program_own_xdp(f.program, f.netns, LO, false), 0);
	assert_int_equal(drop_program_own_xdp(f.program, f.netns + 1, LO, true), 0);
	assert_int_equal(drop_program_own_xdp(f.program, f.netns, LO + 1, true), 0);
	before = packets(&f, NULL, "udp");
	send_both(N);
	assert_in_range(packets(&f, NULL, "udp") - before, 2 * N, 2 * N + SLACK);
	assert_int_equal(bpf_xdp_detach(LO, XDP_FLAGS_SKB_MODE, NULL), 0);
	close(fd);

	/* Without the program these are the host's drops again, whatever the map says. */
	assert_int_equal(drop_program_own_xdp(f.program, f.netns, LO, true), 0);
	before = packets(&f, NULL, "udp");
	send_both(N);
	assert_in_range(packets(&f, NULL, "udp") - before, 2 * N, 2 * N + SLACK);
	fixture_close(&f);
}

static void test_own_xdp_devices_are_bounded(void **state)
{
	struct fixture f;

	fixture_open(&f, 0);
	for (uint32_t i = 0; i < DROP_OWN_XDP_MAX; i++)
		assert_int_equal(drop_program_own_xdp(f.program, f.netns, 1000 + i, true), 0);
	assert_int_equal(drop_program_own_xdp(f.program, f.netns, 1000, true), 0); /* there already */
	assert_int_equal(drop_program_own_xdp(f.program, f.netns, 999, true), -ENOSPC);
	fixture_close(&f);
}

struct seen { uint32_t netns; size_t n; struct event last; };

static void see(const struct event_entry *entry, void *userdata)
{
	struct seen *seen = userdata;

	if (entry->event.kind != EVENT_DROP || entry->event.netns != seen->netns)
		return;
	seen->n++;
	seen->last = entry->event;
}

static struct seen drop_events(struct fixture *f)
{
	const struct event_filter filter = { .kinds = 1u << EVENT_DROP, .limit = SIZE_MAX };
	struct seen seen = { .netns = f->netns };

	events_tick(f->events, mono_now());
	event_log_each(events_log(f->events), &filter, see, &seen);
	return seen;
}

/* One datagram: everything that the event says of it. */
static void one_event(int family, uint32_t local_word)
{
	struct fixture f;
	struct seen seen;

	fixture_open(&f, 100);
	skip_without(&f, "no_socket");
	send_to_nobody(family, 1);
	seen = drop_events(&f);
	assert_int_equal(seen.n, 1);
	assert_string_equal(drop_reasons_name(drop_program_reasons(f.program), seen.last.code), "no_socket");
	assert_int_equal(seen.last.protocol, IPPROTO_UDP);
	assert_int_equal(seen.last.local.words[3], local_word);
	assert_memory_equal(&seen.last.local, &seen.last.remote, sizeof(seen.last.local));
	assert_int_equal(seen.last.local_port, 9); /* it was received */
	assert_true(seen.last.remote_port > 1023);
	assert_int_equal(seen.last.ifindex, LO);
	assert_int_equal(seen.last.role, ROLE_COUNT);
	assert_int_equal(seen.last.count, 1);
	print_message("freed by %s\n", seen.last.text);
	assert_non_null(strstr(seen.last.text, "udp"));
	fixture_close(&f);
}

static void test_event_ipv4(void **state)
{
	one_event(AF_INET, htonl(INADDR_LOOPBACK));
}

static void test_event_ipv6(void **state)
{
	one_event(AF_INET6, htonl(1));
}

/* A flood fills the allowance and no more; the table has all of it. */
static void test_a_flood_of_events(void **state)
{
	enum { N = 5000, ALLOWED = 50 };
	struct fixture f;
	uint64_t before;
	struct seen seen;

	fixture_open(&f, ALLOWED);
	before = packets(&f, NULL, "udp");
	send_to_nobody(AF_INET, N);
	assert_in_range(packets(&f, NULL, "udp") - before, N, N + SLACK);
	seen = drop_events(&f);
	assert_in_range(seen.n, 1, ALLOWED);
	assert_int_equal(events_lost(f.events), 0);
	fixture_close(&f);
}

static void test_json(void **state)
{
	struct buffer out = BUFFER_INIT;
	struct fixture f;

	fixture_open(&f, 0);
	send_to_nobody(AF_INET, 3);
	drop_program_read(f.program);
	assert_int_equal(drop_program_write_json(f.program, &out), 0);
	assert_non_null(strstr(out.data, "{\"status\":\"success\",\"data\":{\"drops\":[{\"reason\":\""));
	assert_non_null(strstr(out.data, "\"protocol\":\"udp\",\"count\":"));
	buffer_done(&out);
	fixture_close(&f);
}

/* Everything of this test happens in a namespace of its own. */
static int own_namespace(void **state)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd, r;

	kbpf_log_setup();
	if (geteuid())
		return 0; /* each test says that it is skipped */
	if (unshare(CLONE_NEWNET))
		return -errno;
	fd = udp_socket(AF_INET);
	r = ioctl(fd, SIOCSIFFLAGS, &request) ? -errno : 0;
	close(fd);
	return r;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_by_reason_and_protocol),
		cmocka_unit_test(test_all_processors),
		cmocka_unit_test(test_protocols),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_orderly_ends_are_noise),
		cmocka_unit_test(test_refused_acks_are_drops),
		cmocka_unit_test(test_forged_neighbours_are_drops),
		cmocka_unit_test(test_unread_datagrams_are_drops),
		cmocka_unit_test(test_own_xdp_drops_are_noise),
		cmocka_unit_test(test_own_xdp_devices_are_bounded),
		cmocka_unit_test(test_event_ipv4),
		cmocka_unit_test(test_event_ipv6),
		cmocka_unit_test(test_a_flood_of_events),
		cmocka_unit_test(test_json),
	};

	return cmocka_run_group_tests_name("drop", tests, own_namespace, NULL);
}
