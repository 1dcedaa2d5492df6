/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The UDP programs in the running kernel, with real sockets in a network
 * namespace of the test's own, over a loopback with an MTU of 1500, so that large datagrams
 * are fragmented. Truth: what the test sent and received, and the namespace's own
 * counters (/proc/net/snmp, snmp6). Peers are addresses that nobody else uses,
 * since the programs see all namespaces. Needs root; skipped with that reason otherwise.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ipv6.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
/* after the above: */
#include <cmocka.h>

#include "agent/cgroup.h"
#include "agent/kbpf.h"
#include "agent/peers.h"
#include "agent/udp_program.h"
#include "lib/settings.h"

/* Two addresses of each family; B is written as IPv4-mapped for sockets of both. */
#define A4 "127.78.1.1"
#define B4 "127.78.1.2"
#define A6 "fd78:6e65:7473::1"
#define B6 "fd78:6e65:7473::2"
#define MTU 1500

struct fixture {
	struct settings settings;
	struct features features;
	struct udp_program *program;
	struct peers *peers;
};

static void add_ipv6_address(const char *text)
{
	struct in6_ifreq request = { .ifr6_prefixlen = 128, .ifr6_ifindex = 1 };
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);

	inet_pton(AF_INET6, text, &request.ifr6_addr);
	if (ioctl(fd, SIOCSIFADDR, &request) && errno != EEXIST)
		fail_msg("cannot add %s: %s", text, strerror(errno));
	close(fd);
}

static int own_namespace(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd, r;

	if (unshare(CLONE_NEWNET | CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("sysfs", "/sys", "sysfs", 0, NULL))
		return -errno;
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	r = ioctl(fd, SIOCSIFFLAGS, &request) ? -errno : 0;
	request.ifr_mtu = MTU;
	if (!r)
		r = ioctl(fd, SIOCSIFMTU, &request) ? -errno : 0;
	close(fd);
	return r;
}

static void fixture_open(struct fixture *f, const char *yaml, enum udp_drops_mode mode)
{
	struct buffer errors = BUFFER_INIT;
	struct error error = { "" };
	int cgroup;

	if (geteuid()) {
		print_message("skipped: loading BPF programs needs root\n");
		skip();
	}
	add_ipv6_address(A6);
	add_ipv6_address(B6);
	memset(f, 0, sizeof(*f));
	if (settings_parse(yaml, strlen(yaml), "test", &f->settings, &errors))
		fail_msg("%s", errors.data);
	cgroup = cgroup_root_open(&error);
	if (cgroup < 0 || peers_new(&f->settings, &f->peers, &error) || udp_program_open(f->peers, mode, &f->program, &error) ||
	    udp_program_attach(f->program, cgroup, &f->features, &error))
		fail_msg("%s", error.text);
	close(cgroup);
}

static void fixture_close(struct fixture *f)
{
	assert_int_equal(udp_program_lost(f->program, UDP_LOST_DATAGRAM), 0);
	udp_program_close(f->program);
	peers_free(f->peers);
	settings_done(&f->settings);
}

/* A peer's row; all zero when there is none yet. */
static struct udp_row row_named(const struct fixture *f, const char *label)
{
	peers_begin(f->peers);
	peers_end(f->peers, mono_now());
	for (uint32_t i = 0; i < peers_slots(f->peers); i += ROLE_COUNT) {
		const char *l = peers_label(f->peers, i);

		if (l && !strcmp(l, label))
			return udp_program_rows(f->program)[i];
	}
	return (struct udp_row){ 0 };
}

static void expect(const struct fixture *f, const char *label, uint64_t sent_bytes, uint64_t sent, uint64_t received_bytes,
		   uint64_t received)
{
	struct udp_row row = row_named(f, label);

	assert_int_equal(row.sent_bytes, sent_bytes);
	assert_int_equal(row.sent_datagrams, sent);
	assert_int_equal(row.received_bytes, received_bytes);
	assert_int_equal(row.received_datagrams, received);
	assert_int_equal(row.head.sockets[0] + row.head.sockets[1], 0);
}

/* One of the kernel's own counters of this namespace, of both families. */
static uint64_t kernel_counter(const char *name)
{
	char line[4096], names[4096], key[64];
	unsigned long long v6 = 0;
	uint64_t value = 0;
	FILE *file = fopen("/proc/thread-self/net/snmp", "r");

	assert_non_null(file);
	while (fgets(names, sizeof(names), file) && fgets(line, sizeof(line), file)) {
		char *at_name, *at, *name_word = strtok_r(names, " \n", &at_name), *word = strtok_r(line, " \n", &at);

		if (strcmp(word, "Udp:"))
			continue;
		while ((name_word = strtok_r(NULL, " \n", &at_name)) && (word = strtok_r(NULL, " \n", &at)))
			if (!strcmp(name_word, name))
				value = strtoull(word, NULL, 10);
	}
	fclose(file);
	file = fopen("/proc/thread-self/net/snmp6", "r");
	assert_non_null(file);
	snprintf(names, sizeof(names), "Udp6%s", name);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "%63s %llu", key, &v6) == 2 && !strcmp(key, names))
			value += v6;
	fclose(file);
	return value;
}

static uint64_t fragments_made(void)
{
	char line[4096];
	unsigned long long fields[19] = { 0 }, v6 = 0;
	uint64_t n = 0;
	FILE *file = fopen("/proc/thread-self/net/snmp", "r");

	assert_non_null(file);
	/* Ip: 19 numbers, the last one is FragCreates (RFC 4293's order, kept since). */
	while (fgets(line, sizeof(line), file)) {
		char *at = line + 3;

		if (strncmp(line, "Ip: ", 4) || line[4] < '0' || line[4] > '9')
			continue;
		for (size_t i = 0; i < 19; i++)
			fields[i] = strtoull(at, &at, 10);
		n = fields[18];
	}
	fclose(file);
	file = fopen("/proc/thread-self/net/snmp6", "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Ip6FragCreates %llu", &v6) == 1)
			n += v6;
	fclose(file);
	return n;
}

union any_address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static int family_of(const char *text)
{
	return strchr(text, ':') ? AF_INET6 : AF_INET;
}

static union any_address address_of(const char *text, in_port_t port)
{
	union any_address a = { .any.sa_family = (sa_family_t)family_of(text) };

	if (a.any.sa_family == AF_INET6) {
		a.v6.sin6_port = port;
		assert_int_equal(inet_pton(AF_INET6, text, &a.v6.sin6_addr), 1);
	} else {
		a.v4.sin_port = port;
		assert_int_equal(inet_pton(AF_INET, text, &a.v4.sin_addr), 1);
	}
	return a;
}

/* Bound to an address and any port. */
static int udp_socket(const char *address)
{
	union any_address a = address_of(address, 0);
	const struct timeval patience = { .tv_sec = 10 };
	int fd = socket(a.any.sa_family, SOCK_DGRAM, 0), off = 0;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (a.any.sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	assert_int_equal(bind(fd, &a.any, sizeof(a)), 0);
	return fd;
}

static in_port_t port_of(int fd)
{
	union any_address a;
	socklen_t len = sizeof(a);

	assert_int_equal(getsockname(fd, &a.any, &len), 0);
	return a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port;
}

static void connect_to(int fd, const char *address, int other)
{
	union any_address a = address_of(address, port_of(other));

	assert_int_equal(connect(fd, &a.any, sizeof(a)), 0);
}

static const char zeros[66000];

static void send_to(int fd, const char *address, int other, size_t len)
{
	union any_address a = address_of(address, port_of(other));

	assert_int_equal(sendto(fd, zeros, len, 0, &a.any, sizeof(a)), len);
}

static void receive(int fd, size_t len)
{
	static char data[66000];

	assert_int_equal(recv(fd, data, sizeof(data), 0), len);
}

static const size_t sizes[] = { 0, 1, 1000, 1472, 1473, 20000, 65000 };
#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))
#define SUM_SIZES (0 + 1 + 1000 + 1472 + 1473 + 20000 + 65000)

/* From a to b with sendto, answered over a connected socket; from nothing to the largest, most of them in fragments. */
static void both_ways(const char *a, const char *b, const char *label_a, const char *label_b)
{
	struct fixture f;
	uint64_t out = kernel_counter("OutDatagrams"), in = kernel_counter("InDatagrams"), fragments = fragments_made();
	int one, two;

	fixture_open(&f, "", UDP_DROPS_BEST);
	one = udp_socket(a);
	two = udp_socket(b);
	for (size_t i = 0; i < N_SIZES; i++) {
		send_to(one, b, two, sizes[i]);
		receive(two, sizes[i]);
	}
	/* Both are addresses of this host: b is who it was sent to, a is who it came from. */
	expect(&f, label_b, SUM_SIZES, N_SIZES, 0, 0);
	expect(&f, label_a, 0, 0, SUM_SIZES, N_SIZES);
	connect_to(two, a, one);
	assert_int_equal(send(two, zeros, 500, 0), 500);
	receive(one, 500);
	expect(&f, label_b, SUM_SIZES, N_SIZES, 500, 1);
	expect(&f, label_a, 500, 1, SUM_SIZES, N_SIZES);
	assert_int_equal(kernel_counter("OutDatagrams") - out, N_SIZES + 1);
	assert_int_equal(kernel_counter("InDatagrams") - in, N_SIZES + 1);
	assert_true(fragments_made() - fragments > 20000 / MTU + 65000 / MTU);
	assert_int_equal(row_named(&f, label_b).receive_drops + row_named(&f, label_a).receive_drops, 0);
	close(one);
	close(two);
	fixture_close(&f);
}

static void test_ipv4(void **state)
{
	both_ways(A4, B4, A4, B4);
}

static void test_ipv6(void **state)
{
	both_ways(A6, B6, A6, B6);
}

/* IPv4 through sockets of IPv6. */
static void test_mapped(void **state)
{
	both_ways("::ffff:" A4, "::ffff:" B4, A4, B4);
}

/* UDP_SEGMENT: one send becomes 11 datagrams; the receiver takes them one by one, or all at once (UDP_GRO). */
static void batches(const char *a, const char *b)
{
	struct fixture f;
	int one, two, segment = 1000, on = 1;
	uint64_t in;

	fixture_open(&f, "", UDP_DROPS_BEST);
	one = udp_socket(a);
	two = udp_socket(b);
	if (setsockopt(one, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof(segment)))
		fail_msg("no UDP_SEGMENT: %s", strerror(errno));
	in = kernel_counter("InDatagrams");
	send_to(one, b, two, 10500);
	for (int i = 0; i < 10; i++)
		receive(two, 1000);
	receive(two, 500);
	assert_int_equal(kernel_counter("InDatagrams") - in, 11);
	expect(&f, b, 10500, 11, 0, 0);
	expect(&f, a, 0, 0, 10500, 11);
	assert_int_equal(setsockopt(two, IPPROTO_UDP, UDP_GRO, &on, sizeof(on)), 0);
	send_to(one, b, two, 10000);
	receive(two, 10000);
	expect(&f, b, 20500, 21, 0, 0);
	expect(&f, a, 0, 0, 20500, 21);
	/* Nothing to cut. */
	send_to(one, b, two, 700);
	receive(two, 700);
	expect(&f, b, 21200, 22, 0, 0);
	expect(&f, a, 0, 0, 21200, 22);
	close(one);
	close(two);
	fixture_close(&f);
}

static void test_batches(void **state)
{
	batches(A4, B4);
	batches(A6, B6);
}

/* Extension headers in front of the UDP header. */
static void test_extension_headers(void **state)
{
	/* The next header is the kernel's; length 0 is 8 bytes; then PadN of the rest (RFC 8200, section 4.2), at most 7 bytes, or
	 * Linux drops the packet. */
	const unsigned char options[8] = { 0, 0, 1, 4 };
	struct fixture f;
	int one, two;

	fixture_open(&f, "", UDP_DROPS_BEST);
	one = udp_socket(A6);
	two = udp_socket(B6);
	assert_int_equal(setsockopt(one, IPPROTO_IPV6, IPV6_HOPOPTS, options, sizeof(options)), 0);
	assert_int_equal(setsockopt(one, IPPROTO_IPV6, IPV6_DSTOPTS, options, sizeof(options)), 0);
	send_to(one, B6, two, 300);
	receive(two, 300);
	send_to(one, B6, two, 5000); /* with a fragment header too, when it is on its way */
	receive(two, 5000);
	expect(&f, B6, 5300, 2, 0, 0);
	expect(&f, A6, 0, 0, 5300, 2);
	close(one);
	close(two);
	fixture_close(&f);
}

/* IPv4 options move the UDP header. */
static void test_ipv4_options(void **state)
{
	const unsigned char timestamps[8] = { 68, 8, 5, 0 }; /* RFC 791, room for one */
	struct fixture f;
	int one, two;

	fixture_open(&f, "", UDP_DROPS_BEST);
	one = udp_socket(A4);
	two = udp_socket(B4);
	assert_int_equal(setsockopt(one, IPPROTO_IP, IP_OPTIONS, timestamps, sizeof(timestamps)), 0);
	send_to(one, B4, two, 77);
	receive(two, 77);
	expect(&f, B4, 77, 1, 0, 0);
	expect(&f, A4, 0, 0, 77, 1);
	close(one);
	close(two);
	fixture_close(&f);
}

/* What is no datagram of a UDP socket: TCP, ICMP, copies for raw sockets, what a raw socket sends. */
static void test_others(void **state)
{
	struct fixture f;
	union any_address b = address_of(B4, 0);
	struct sockaddr_in server = { .sin_family = AF_INET };
	socklen_t len = sizeof(server);
	char data[100] = { 0 };
	struct udphdr header = { .len = htons(8) };
	int one, two, raw, ping, listener, client;

	fixture_open(&f, "", UDP_DROPS_BEST);
	one = udp_socket(A4);
	two = udp_socket(B4);
	raw = socket(AF_INET, SOCK_RAW, IPPROTO_UDP);
	assert_int_equal(bind(raw, &b.any, sizeof(b)), 0);
	send_to(one, B4, two, 40);
	receive(two, 40);
	assert_int_equal(recv(raw, data, sizeof(data), 0), 68); /* it got its copy */
	header.source = header.dest = htons(9);
	assert_int_equal(sendto(raw, &header, sizeof(header), 0, &b.any, sizeof(b)), sizeof(header));
	listener = socket(AF_INET, SOCK_STREAM, 0);
	inet_pton(AF_INET, B4, &server.sin_addr);
	assert_int_equal(bind(listener, (struct sockaddr *)&server, sizeof(server)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&server, &len), 0);
	client = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(client, (struct sockaddr *)&server, sizeof(server)), 0);
	assert_int_equal(send(client, zeros, 1000, 0), 1000);
	ping = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
	data[0] = 8;
	assert_int_equal(sendto(ping, data, 16, 0, &b.any, sizeof(b)), 16);
	expect(&f, B4, 40, 1, 0, 0);
	expect(&f, A4, 0, 0, 40, 1);
	close(ping);
	close(client);
	close(listener);
	close(raw);
	close(one);
	close(two);
	fixture_close(&f);
}

/* 300 datagrams to a socket that has room for a few and reads none. Returns how many the kernel says were dropped. */
static uint64_t overflow(const char *a, const char *b, bool connected)
{
	uint64_t before = kernel_counter("RcvbufErrors"), dropped;
	int one = udp_socket(a), two = udp_socket(b), size = 10000;

	assert_int_equal(setsockopt(two, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), 0);
	if (connected)
		connect_to(two, a, one);
	for (int i = 0; i < 300; i++)
		send_to(one, b, two, 100);
	dropped = kernel_counter("RcvbufErrors") - before;
	assert_true(dropped > 200 && dropped < 300);
	close(one);
	close(two);
	return dropped;
}

static void test_drops_by_packet(void **state)
{
	struct fixture f;
	uint64_t dropped;

	fixture_open(&f, "", UDP_DROPS_PACKET);
	if (udp_program_drops(f.program) != UDP_DROPS_PACKET) {
		print_message("skipped: this kernel's tracepoint does not tell the packet\n");
		fixture_close(&f);
		skip();
	}
	dropped = overflow(A4, B4, false) + overflow(A4, B4, true);
	assert_int_equal(row_named(&f, A4).receive_drops, dropped);
	assert_int_equal(row_named(&f, B4).receive_drops, 0);
	/* Received is what arrived. */
	expect(&f, A4, 0, 0, 2 * 30000, 2 * 300);
	dropped = overflow(A6, B6, false) + overflow(A6, B6, true);
	assert_int_equal(row_named(&f, A6).receive_drops, dropped);
	expect(&f, A6, 0, 0, 2 * 30000, 2 * 300);
	fixture_close(&f);
}

static bool is_missing(const struct fixture *f, const char *feature)
{
	for (size_t i = 0; i < f->features.n; i++)
		if (!strcmp(f->features.items[i].name, feature))
			return !f->features.items[i].enabled;
	return false;
}

/* As before Linux 6.10: a connected socket's peer, else "other". */
static void test_drops_by_socket(void **state)
{
	struct fixture f;
	uint64_t dropped, other;

	fixture_open(&f, "", UDP_DROPS_SOCKET);
	assert_int_equal(udp_program_drops(f.program), UDP_DROPS_SOCKET);
	dropped = overflow(A4, B4, true);
	assert_int_equal(row_named(&f, A4).receive_drops, dropped);
	other = row_named(&f, "other").receive_drops;
	dropped = overflow(A4, B4, false);
	assert_true(row_named(&f, "other").receive_drops - other >= dropped); /* the machine's others are there too */
	expect(&f, A4, 0, 0, 2 * 30000, 2 * 300);
	/* Before Linux 6.6 none of IPv6, and that is said. */
	dropped = overflow(A6, B6, true);
	assert_int_equal(row_named(&f, A6).receive_drops, is_missing(&f, "udp_receive_drops_ipv6") ? 0 : dropped);
	fixture_close(&f);
}

/* A dropped GRO batch is as many datagrams as are in it. */
static void test_drops_of_batches(void **state)
{
	struct fixture f;
	int one, two, segment = 1000, on = 1, size = 20000;
	struct udp_row row;
	uint64_t got = 0;
	char data[66000];
	ssize_t n;

	fixture_open(&f, "", UDP_DROPS_PACKET);
	if (udp_program_drops(f.program) != UDP_DROPS_PACKET) {
		fixture_close(&f);
		skip();
	}
	one = udp_socket(A4);
	two = udp_socket(B4);
	assert_int_equal(setsockopt(one, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof(segment)), 0);
	assert_int_equal(setsockopt(two, IPPROTO_UDP, UDP_GRO, &on, sizeof(on)), 0);
	assert_int_equal(setsockopt(two, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), 0);
	for (int i = 0; i < 20; i++)
		send_to(one, B4, two, 9500);
	while ((n = recv(two, data, sizeof(data), MSG_DONTWAIT)) >= 0)
		got += ((uint64_t)n + 999) / 1000;
	row = row_named(&f, A4);
	assert_int_equal(row.received_datagrams, 20 * 10);
	assert_true(row.receive_drops > 0);
	assert_int_equal(row.received_datagrams - row.receive_drops, got);
	close(one);
	close(two);
	fixture_close(&f);
}

static void test_networks_and_other(void **state)
{
	struct fixture f;
	struct udp_row other;
	int one, two, three;

	fixture_open(&f, "networks: {near: [\"" A4 "/32\"]}\ncollect: {top_peers: 0}\n", UDP_DROPS_BEST);
	one = udp_socket(A4);
	two = udp_socket(B4);
	three = udp_socket(B6);
	other = row_named(&f, "other");
	send_to(one, B4, two, 123);
	receive(two, 123);
	expect(&f, "near", 0, 0, 123, 1);
	assert_true(row_named(&f, "other").sent_bytes - other.sent_bytes >= 123);
	assert_int_equal(row_named(&f, B4).sent_datagrams, 0);
	close(one);
	close(two);
	close(three);
	fixture_close(&f);
}

/* Nothing of a collector that does not work is reported as working. */
static void test_no_cgroup(void **state)
{
	struct error error = { "" };
	struct fixture f;
	int no_cgroup = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	fixture_open(&f, "", UDP_DROPS_BEST);
	assert_true(f.features.n >= 2);
	udp_program_close(f.program);
	memset(&f.features, 0, sizeof(f.features));
	assert_int_equal(udp_program_open(f.peers, UDP_DROPS_BEST, &f.program, &error), 0);
	assert_true(udp_program_attach(f.program, no_cgroup, &f.features, &error) < 0);
	for (size_t i = 0; i < f.features.n; i++)
		assert_false(f.features.items[i].enabled);
	close(no_cgroup);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ipv4),
		cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_mapped),
		cmocka_unit_test(test_batches),
		cmocka_unit_test(test_extension_headers),
		cmocka_unit_test(test_ipv4_options),
		cmocka_unit_test(test_others),
		cmocka_unit_test(test_drops_by_packet),
		cmocka_unit_test(test_drops_by_socket),
		cmocka_unit_test(test_drops_of_batches),
		cmocka_unit_test(test_networks_and_other),
		cmocka_unit_test(test_no_cgroup),
	};

	kbpf_log_setup();
	if (!geteuid() && own_namespace()) {
		print_error("cannot make a network namespace: %s\n", strerror(errno));
		return 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
