/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reflector on a link: a veth pair between two network namespaces, ordinary sockets on one end, the program in
 * tc, generic XDP and native XDP on the other. Senders leave their checksums to the device (on veth nobody ever
 * finishes those) or compute them. The bytes of answers are test_reflect.c's matter; here it is that they arrive, and
 * that the kernel on the way knows the state of their checksums. Needs root; skipped with that reason otherwise.
 */
#include "reflect_fixture.h"
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include "agent/probe/probe_hook.h"

#define DEADLINE_S 5

struct link {
	int here, there; /* namespaces: the reflector's, the senders' */
	uint32_t ifindex, slot;
	struct probe_program *program;
	int hook, peer_hook; /* 0: none */
};

static void enter(int namespace)
{
	assert_int_equal(setns(namespace, CLONE_NEWNET), 0);
}

static int new_namespace(void)
{
	int fd;

	assert_int_equal(unshare(CLONE_NEWNET), 0);
	fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	/* No packets but ours; the addresses are usable at once. */
	write_file("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
	write_file("/proc/sys/net/ipv6/conf/default/router_solicitations", "0");
	return fd;
}

static void set_feature(const char *name, uint32_t command, uint32_t value)
{
	struct ethtool_value v = { .cmd = command, .data = value };
	struct ifreq request = { .ifr_data = (void *)&v };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	assert_int_equal(ioctl(fd, SIOCETHTOOL, &request), 0);
	close(fd);
}

/* The kernel lets a link that was down send again only when it has looked at the carrier, which can be a second
 * later. */
static void wait_for_carrier(const char *name)
{
	mono_time began = mono_now();
	char line[512] = "", command[64];

	snprintf(command, sizeof(command), "ip -o link show %s", name);
	while (!strstr(line, " state UP ")) {
		FILE *pipe = popen(command, "r");

		assert_non_null(pipe);
		assert_non_null(fgets(line, sizeof(line), pipe));
		pclose(pipe);
		assert_true(mono_now().ns - began.ns < DEADLINE_S * NS_PER_SEC);
	}
}

static void link_close(struct link *l)
{
	if (l->hook >= 0)
		close(l->hook);
	if (l->peer_hook)
		close(l->peer_hook);
	probe_program_close(l->program);
	close(l->here);
	close(l->there);
}

/* False: this kernel has no such hook. */
static bool link_open(struct link *l, enum probe_hook hook, bool offload)
{
	const struct probe_program_options options = {
		.reflect = true, .reflect_icmp = true, .reflect_key = KEY_NUMBER,
	};

	need_root();
	memset(l, 0, sizeof(*l));
	l->there = new_namespace();
	l->here = new_namespace();
	ip_command("link add r0 address 02:00:00:00:00:01 type veth peer name s0 address 02:00:00:00:00:02 "
		   "netns /proc/%d/fd/%d\n"
		   "address add 10.0.0.1/24 dev r0\naddress add fd00::1/64 dev r0\nlink set r0 up",
		   (int)getpid(), l->there);
	l->ifindex = if_nametoindex("r0");
	enter(l->there);
	ip_command("address add 10.0.0.2/24 dev s0\naddress add fd00::2/64 dev s0\nlink set s0 up");
	ip_command("neighbour add 10.0.0.1 lladdr 02:00:00:00:00:01 dev s0\n"
		   "neighbour add fd00::1 lladdr 02:00:00:00:00:01 dev s0");
	if (!offload)
		set_feature("s0", ETHTOOL_STXCSUM, 0);
	enter(l->here);
	wait_for_carrier("r0");
	l->program = open_program(&options);
	assert_int_equal(probe_program_device_add(l->program, l->ifindex, true, &l->slot), 0);
	if (hook == PROBE_HOOK_TC_RECEIVE)
		l->hook = probe_hook_tcx(probe_program_fd(l->program, hook), l->ifindex, false);
	else
		l->hook = probe_hook_xdp(probe_program_fd(l->program, hook), l->ifindex,
					 hook == PROBE_HOOK_XDP_GENERIC);
	if (l->hook == -EINVAL && hook == PROBE_HOOK_TC_RECEIVE) {
		print_message("not tried: no tcx before Linux 6.6\n");
		link_close(l);
		return false;
	}
	assert_true(l->hook >= 0);
	/* What a veth sends back by XDP_TX is only looked at by a peer that has XDP itself; this one's lets all pass.
	 * */
	enter(l->there);
	if (hook == PROBE_HOOK_XDP)
		l->peer_hook = probe_hook_xdp(probe_program_fd(l->program, hook), if_nametoindex("s0"), false);
	assert_true(l->peer_hook >= 0);
	enter(l->here);
	return true;
}

static int udp_socket(int family, const char *address, unsigned port)
{
	struct timeval deadline = { .tv_sec = DEADLINE_S };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1, service = 0xb8;

	assert_true(fd >= 0);
	assert_int_equal(inet_pton(family, address, family == AF_INET ? (void *)&v4.sin_addr : &v6.sin6_addr), 1);
	if (family == AF_INET) {
		setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &on, sizeof(on));
		setsockopt(fd, IPPROTO_IP, IP_TOS, &service, sizeof(service));
		assert_int_equal(bind(fd, (void *)&v4, sizeof(v4)), 0);
	} else {
		setsockopt(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &on, sizeof(on));
		setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &service, sizeof(service));
		assert_int_equal(bind(fd, (void *)&v6, sizeof(v6)), 0);
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline));
	return fd;
}

static void connect_to(int fd, int family, unsigned port)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };

	inet_pton(AF_INET, "10.0.0.1", &v4.sin_addr);
	inet_pton(AF_INET6, "fd00::1", &v6.sin6_addr);
	if (family == AF_INET)
		assert_int_equal(connect(fd, (void *)&v4, sizeof(v4)), 0);
	else
		assert_int_equal(connect(fd, (void *)&v6, sizeof(v6)), 0);
}

/* The next datagram; its TTL or hop limit. */
static size_t receive(int fd, uint8_t *data, size_t size, int *ret_ttl)
{
	char control[64];
	struct iovec part = { data, size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(fd, &message, 0);

	if (n < 0)
		fail_msg("no answer: %s", strerror(errno));
	*ret_ttl = -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
		if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TTL) ||
		    (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_HOPLIMIT))
			memcpy(ret_ttl, CMSG_DATA(c), sizeof(*ret_ttl));
	return (size_t)n;
}

/* Sees what arrives at the senders' end, and whether the kernel takes its checksum for finished. */
static int open_tap(void)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
				       .sll_ifindex = (int)if_nametoindex("s0") };
	struct timeval deadline = { .tv_sec = DEADLINE_S };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), on = 1;

	assert_true(fd >= 0);
	setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline));
	assert_int_equal(bind(fd, (void *)&address, sizeof(address)), 0);
	return fd;
}

/* The next answer of the reflector: its checksum is right, or begun and marked so. */
static void check_tap(int tap, bool v6, unsigned port)
{
	for (;;) {
		char control[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
		uint8_t data[4096], *t = data + (v6 ? 54 : 34);
		struct iovec part = { data, sizeof(data) };
		struct sockaddr_ll from;
		struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
					  .msg_controllen = sizeof(control),
					  .msg_name = &from, .msg_namelen = sizeof(from) };
		ssize_t n = recvmsg(tap, &message, 0);
		struct tpacket_auxdata aux;
		struct cmsghdr *c;
		unsigned pseudo;

		if (n < 0)
			fail_msg("no answer on the wire: %s", strerror(errno));
		if (from.sll_pkttype != PACKET_HOST || n < (v6 ? 62 : 42) ||
		    get16(data + 12) != (v6 ? 0x86dd : 0x0800) ||
		    data[v6 ? 20 : 23] != 17 || get16(t) != port)
			continue;
		c = CMSG_FIRSTHDR(&message);
		assert_non_null(c);
		memcpy(&aux, CMSG_DATA(c), sizeof(aux));
		pseudo = v6 ? sum16(data + 22, 32, 17 + get16(t + 4)) : sum16(data + 26, 8, 17 + get16(t + 4));
		if (aux.tp_status & TP_STATUS_CSUMNOTREADY)
			assert_int_equal(get16(t + 6), pseudo);
		else
			assert_int_equal(sum16(t, get16(t + 4), pseudo), 0xffff);
		return;
	}
}

static void ask(struct link *l, int fd, int tap, const struct request *request)
{
	struct request answer_request;
	struct packet_of p;
	uint8_t answer[2048];
	uint64_t before = (uint64_t)wall_now().ns, t2, t3;
	size_t n;
	int ttl;

	build(&p, request);
	assert_int_equal(send(fd, p.frame.data + p.body, body_len(request), 0), body_len(request));
	n = receive(fd, answer, sizeof(answer), &ttl);
	assert_int_equal(n, body_len(request));
	assert_int_equal(ttl, 255);
	p.frame.data[p.body + (request->authenticated ? 80 : 40)] = 0;
	turn_into_answer(&p, &answer_request, answer, request->authenticated, 0x8f84);
	/* The sender's TTL is this host's, not the 57 of the other tests. */
	p.frame.data[p.body + (request->authenticated ? 80 : 40)] = 64;
	if (request->authenticated) {
		struct probe_hmac_key key;

		hmac_key_init(&key, SECRET, strlen(SECRET));
		hmac_sign(&key, p.frame.data + p.body, p.frame.data + p.body + HMAC_MESSAGE_LEN);
	}
	assert_memory_equal(answer, p.frame.data + p.body, n);
	t2 = clock_ns_from_ntp(get64(answer + (request->authenticated ? 32 : 16)), before);
	t3 = clock_ns_from_ntp(get64(answer + (request->authenticated ? 16 : 4)), before);
	assert_true(before <= t2 + 1 && t2 <= t3 && t3 <= (uint64_t)wall_now().ns + 1);
	check_tap(tap, request->v6, PORT);
}

static void stamp_over(struct link *l)
{
	static const struct request requests[] = {
		{ "plain" }, { "authenticated", .authenticated = true }, { "an odd length", .payload = 1201 },
		{ "IPv6", .v6 = true }, { "IPv6, authenticated", .v6 = true, .authenticated = true, .payload = 113 },
		{ "IPv6, longer", .v6 = true, .payload = 1452 },
	};
	int listener, fds[2], tap;
	struct clock_error error;
	uint8_t byte;

	clock_error_read(0, &error);
	probe_program_clock(l->program, 0x8f84, error.tai_offset_s);
	/* The stack's own listener at that port gets nothing. */
	listener = udp_socket(AF_INET6, "::", PORT);
	enter(l->there);
	tap = open_tap();
	fds[0] = udp_socket(AF_INET, "10.0.0.2", 0);
	fds[1] = udp_socket(AF_INET6, "fd00::2", 0);
	connect_to(fds[0], AF_INET, PORT);
	connect_to(fds[1], AF_INET6, PORT);
	for (int round = 0; round < 3; round++)
		for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
			ask(l, fds[requests[i].v6], tap, &requests[i]);
	assert_int_equal(recv(listener, &byte, 1, MSG_DONTWAIT), -1);
	enter(l->here);
	assert_int_equal(probe_program_packets(l->program, l->slot, PROBE_REFLECT),
			 3 * sizeof(requests) / sizeof(requests[0]));
	for (enum reflect_refused reason = 0; reason < REFLECT_REFUSED_COUNT; reason++)
		assert_int_equal(refused(l->program, reason), 0);
	close(listener);
	close(fds[0]);
	close(fds[1]);
	close(tap);
}

static void stamp_is_answered(void **state)
{
	static const struct { const char *name; enum probe_hook hook; bool offload; } rows[] = {
		{ "tc, checksums left to the device", PROBE_HOOK_TC_RECEIVE, true },
		{ "tc, checksums computed", PROBE_HOOK_TC_RECEIVE, false },
		{ "generic XDP, checksums left to the device", PROBE_HOOK_XDP_GENERIC, true },
		{ "generic XDP, checksums computed", PROBE_HOOK_XDP_GENERIC, false },
		{ "native XDP, checksums left to the device", PROBE_HOOK_XDP, true },
		{ "native XDP, checksums computed", PROBE_HOOK_XDP, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct link l;

		print_message("%s\n", rows[i].name);
		if (!link_open(&l, rows[i].hook, rows[i].offload))
			continue;
		stamp_over(&l);
		link_close(&l);
	}
}

/* A ping of the kernel's own making: ICMP datagram sockets need no privilege and no code here. */
static void echo_over(struct link *l, int family)
{
	static const uint8_t echo[2][12] = { "\x08\0\0\0\0\0\0\x01ping", "\x80\0\0\0\0\0\0\x01ping" };
	struct timeval deadline = { .tv_sec = DEADLINE_S };
	uint64_t before = probe_program_packets(l->program, l->slot, PROBE_REFLECT);
	int v6 = family == AF_INET6, on = 1, ttl, fd;
	uint8_t answer[64];

	enter(l->there);
	write_file("/proc/sys/net/ipv4/ping_group_range", "0 0");
	fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline));
	setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_RECVHOPLIMIT : IP_RECVTTL, &on, sizeof(on));
	connect_to(fd, family, 0);
	assert_int_equal(send(fd, echo[v6], sizeof(echo[v6]), 0), sizeof(echo[v6]));
	assert_int_equal(receive(fd, answer, sizeof(answer), &ttl), sizeof(echo[v6]));
	assert_int_equal(answer[0], v6 ? 129 : 0);
	assert_memory_equal(answer + 6, echo[v6] + 6, sizeof(echo[v6]) - 6);
	assert_int_equal(ttl, 64);
	close(fd);
	enter(l->here);
	/* so it was not the stack */
	assert_int_equal(probe_program_packets(l->program, l->slot, PROBE_REFLECT), before + 1);
}

static void echo_is_answered(void **state)
{
	static const enum probe_hook hooks[] = { PROBE_HOOK_TC_RECEIVE, PROBE_HOOK_XDP_GENERIC, PROBE_HOOK_XDP };

	(void)state;
	for (size_t i = 0; i < sizeof(hooks) / sizeof(hooks[0]); i++) {
		struct link l;

		if (!link_open(&l, hooks[i], true))
			continue;
		/* The stack must not answer in its place. */
		write_file("/proc/sys/net/ipv4/icmp_echo_ignore_all", "1");
		write_file("/proc/sys/net/ipv6/icmp/echo_ignore_all", "1");
		echo_over(&l, AF_INET);
		echo_over(&l, AF_INET6);
		link_close(&l);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stamp_is_answered),
		cmocka_unit_test(echo_is_answered),
	};

	return cmocka_run_group_tests_name("reflect_traffic", tests, NULL, NULL);
}
