/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The probe programs with real packets: raw sockets send, the far host's kernel answers over veth, at every hook. Both
 * hosts are network namespaces of this process: near (e0) and far (f0). Needs root; skipped with that reason otherwise.
 */
#include "probe_fixture.h"

#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <netinet/icmp6.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <time.h>

#include "agent/probe/probe_hook.h"
#include "probe_match.h"
#include "ip_command.h"

#define NEAR4 "10.0.0.1"
#define FAR4 "10.0.0.2"
#define NEAR6 "fd00::1"
#define FAR6 "fd00::2"
#define DEADLINE_MS 5000
#define PROBES 5

static const struct mode {
	const char *name;
	enum probe_hook receive;
	enum probe_clock clock;
	bool near_offload, far_offload; /* of transmit checksums; without it the kernel finishes them before the link */
	bool socket_sends;
} modes[] = {
	{ "tcx", PROBE_HOOK_TC_RECEIVE, PROBE_CLOCK_TC, true, true },
	{ "tcx, whole checksums", PROBE_HOOK_TC_RECEIVE, PROBE_CLOCK_TC, false, false },
	{ "tcx, begun checksums that must be finished", PROBE_HOOK_TC_RECEIVE, PROBE_CLOCK_TC, false, true },
	{ "XDP", PROBE_HOOK_XDP, PROBE_CLOCK_XDP, true, true },
	{ "XDP, whole checksums", PROBE_HOOK_XDP, PROBE_CLOCK_XDP, false, false },
	{ "generic XDP", PROBE_HOOK_XDP_GENERIC, PROBE_CLOCK_XDP_GENERIC, true, true },
	{ "generic XDP, whole checksums", PROBE_HOOK_XDP_GENERIC, PROBE_CLOCK_XDP_GENERIC, false, false },
	{ "generic XDP, a packet socket for what leaves", PROBE_HOOK_XDP_GENERIC, PROBE_CLOCK_XDP_GENERIC, true, true, .socket_sends = true },
	{ "packet socket", PROBE_HOOK_SOCKET, PROBE_CLOCK_TC, true, true, .socket_sends = true },
};
#define MODES (sizeof(modes) / sizeof(modes[0]))

struct hosts {
	struct fixture f;
	int near, far;          /* namespaces */
	int receive, send, far_pass; /* what holds the hooks; -1 */
	bool socket_sends;
	int udp, listener;      /* of the far host */
	int icmp, icmp6, udp_raw, tcp_raw;
};

/* ---- the two hosts ---- */

static int this_namespace(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void go(int namespace)
{
	assert_int_equal(setns(namespace, CLONE_NEWNET), 0);
}

static void set_offload(const char *name, bool on)
{
	struct ethtool_value value = { .cmd = ETHTOOL_STXCSUM, .data = on };
	struct ifreq request = { .ifr_data = (void *)&value };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	strcpy(request.ifr_name, name);
	assert_int_equal(ioctl(fd, SIOCETHTOOL, &request), 0);
	close(fd);
}

static int bound(int type, int family, const char *address, uint16_t port)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(family, type | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, address, &v4.sin_addr);
	assert_int_equal(bind(fd, (struct sockaddr *)&v4, sizeof(v4)), 0);
	return fd;
}

/* Bounced frames of a veth in the driver's XDP arrive only where somebody polls (NAPI): a program there makes it so. */
static int pass_everything(const char *name)
{
	const struct bpf_insn code[] = { { .code = 0xb7, .imm = XDP_PASS }, { .code = 0x95 } };
	int program = bpf_prog_load(BPF_PROG_TYPE_XDP, NULL, "GPL", code, 2, NULL), link;

	assert_true(program >= 0);
	link = probe_hook_xdp(program, if_nametoindex(name), false);
	close(program);
	assert_true(link >= 0);
	return link;
}

static void open_far(struct hosts *h, const struct mode *m)
{
	go(h->far);
	ip_command("link set lo up\naddr add " FAR4 "/24 dev f0\naddr add " FAR6 "/64 dev f0 nodad\nlink set f0 up");
	set_offload("f0", m->far_offload);
	if (m->receive == PROBE_HOOK_XDP)
		h->far_pass = pass_everything("f0");
	h->udp = bound(SOCK_DGRAM, AF_INET, FAR4, 862);
	h->listener = bound(SOCK_STREAM, AF_INET, FAR4, 443);
	assert_int_equal(listen(h->listener, 16), 0);
	go(h->near);
}

/* A socket's filter may have 20480 bytes before Linux 6.8 (net.core.optmem_max); the kernel's head takes up to 80. */
static void expect_small(int program)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);

	assert_int_equal(bpf_obj_get_info_by_fd(program, &info, &len), 0);
	assert_in_range(info.xlated_prog_len, 1, 20400);
}

static bool attach(struct hosts *h, const struct mode *m)
{
	const struct probe_program *program = h->f.program;
	const uint32_t ifindex = h->f.ifindex;

	if (m->receive == PROBE_HOOK_SOCKET) {
		h->socket_sends = true;
		expect_small(probe_program_fd(program, PROBE_HOOK_SOCKET));
		h->receive = probe_hook_socket();
		assert_true(h->receive >= 0);
		assert_int_equal(
		    probe_hook_socket_bind(h->receive, probe_program_fd(program, PROBE_HOOK_SOCKET), ifindex), 0);
		return true;
	}
	h->socket_sends = m->socket_sends || !probe_hook_has_tcx(probe_program_fd(program, PROBE_HOOK_TC_SEND));
	if (h->socket_sends) {
		if (m->receive == PROBE_HOOK_TC_RECEIVE)
			return false;
		expect_small(probe_program_fd(program, PROBE_HOOK_SOCKET_SEND));
		h->send = probe_hook_socket();
		assert_true(h->send >= 0);
		assert_int_equal(probe_hook_socket_bind(h->send, probe_program_fd(program, PROBE_HOOK_SOCKET_SEND), ifindex), 0);
	} else {
		h->send = probe_hook_tcx(probe_program_fd(program, PROBE_HOOK_TC_SEND), ifindex, true);
	}
	if (m->receive == PROBE_HOOK_TC_RECEIVE)
		h->receive = probe_hook_tcx(probe_program_fd(program, m->receive), ifindex, false);
	else
		h->receive = probe_hook_xdp(probe_program_fd(program, m->receive), ifindex,
					    m->receive == PROBE_HOOK_XDP_GENERIC);
	assert_true(h->send >= 0 && h->receive >= 0);
	return true;
}

static bool hosts_open(struct hosts *h, const struct mode *m)
{
	memset(h, 0, sizeof(*h));
	h->receive = h->send = h->far_pass = -1;
	need_root();
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	h->far = this_namespace();
	fixture_open(&h->f);
	h->near = this_namespace();
	ip_command("link set lo up\nlink add e0 type veth peer name f0 netns /proc/%d/fd/%d\naddr add " NEAR4
		   "/24 dev e0\n"
		   "addr add " NEAR6 "/64 dev e0 nodad\nlink set e0 up",
		   (int)getpid(), h->far);
	probe_program_device_remove(h->f.program, h->f.slot);
	h->f.ifindex = if_nametoindex("e0");
	assert_int_equal(probe_program_device_add(h->f.program, h->f.ifindex, false, &h->f.slot), 0);
	set_offload("e0", m->near_offload);
	open_far(h, m);
	h->icmp = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
	h->icmp6 = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6);
	h->udp_raw = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_UDP);
	h->tcp_raw = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_TCP);
	assert_true(h->icmp >= 0 && h->icmp6 >= 0 && h->udp_raw >= 0 && h->tcp_raw >= 0);
	return attach(h, m);
}

static void hosts_close(struct hosts *h)
{
	const int fds[] = {
		h->receive, h->send, h->far_pass, h->udp, h->listener, h->icmp, h->icmp6, h->udp_raw, h->tcp_raw, h->near, h->far,
	};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	fixture_close(&h->f);
}

/* ---- sending ---- */

static void pause_ms(unsigned ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000L }, NULL);
}

static struct probe_flight *arm(struct hosts *h, enum kind kind, bool v6, uint32_t sequence)
{
	return set_flight(&h->f, kind, v6, sequence, PROBE_ARMED, 0);
}

static void send_to(int fd, bool v6, const struct frame *packet)
{
	struct sockaddr_in to4 = { .sin_family = AF_INET };
	struct sockaddr_in6 to6 = { .sin6_family = AF_INET6 };

	inet_pton(AF_INET, FAR4, &to4.sin_addr);
	inet_pton(AF_INET6, FAR6, &to6.sin6_addr);
	assert_int_equal(
	    sendto(fd, packet->data, packet->len, 0, v6 ? (void *)&to6 : (void *)&to4, v6 ? sizeof(to6) : sizeof(to4)),
	    packet->len);
}

static void send_echo(struct hosts *h, bool v6, uint32_t sequence, size_t payload)
{
	uint64_t cookie = cookie_of(KIND_ICMP, v6, sequence);
	struct frame p = { .len = 0 };

	put16(&p, (v6 ? 128 : 8) << 8);
	put16(&p, 0); /* ICMPv6: by the kernel */
	put16(&p, own_port(KIND_ICMP, v6));
	put16(&p, sequence);
	put(&p, &cookie, sizeof(cookie));
	put(&p, NULL, payload - sizeof(cookie));
	if (!v6)
		set16(p.data + 2, 0xffff ^ sum16(p.data, p.len, 0));
	send_to(v6 ? h->icmp6 : h->icmp, v6, &p);
}

/* RFC 8762, figures 2 and 4. */
static void put_request(struct frame *p, enum kind kind, uint32_t sequence)
{
	uint64_t cookie = cookie_of(kind, false, sequence);

	put32(p, sequence);
	put(p, NULL, kind == KIND_STAMP ? 0 : 12);
	put(p, &cookie, sizeof(cookie));
	put(p, NULL, kind == KIND_STAMP ? 44 - 12 : 112 - 24);
}

static void send_stamp(struct hosts *h, enum kind kind, uint32_t sequence)
{
	struct frame p = { .len = 0 };

	put16(&p, own_port(kind, false));
	put16(&p, 862);
	put16(&p, kind == KIND_STAMP ? 8 + 44 : 8 + 112);
	put16(&p, 0);
	put_request(&p, kind, sequence);
	send_to(h->udp_raw, false, &p);
}

static void send_syn(struct hosts *h, enum kind kind, unsigned to_port, uint32_t sequence)
{
	struct frame p = { .len = 20, .ip = 0, .transport = 20 }, tcp = { .len = 0 };

	inet_pton(AF_INET, NEAR4, p.data + 12);
	inet_pton(AF_INET, FAR4, p.data + 16);
	put16(&p, own_port(kind, false));
	put16(&p, to_port);
	put32(&p, (uint32_t)cookie_of(kind, false, sequence));
	put32(&p, 0);
	put16(&p, 0x6002);
	put16(&p, 65535);
	put32(&p, 0);
	PUT(&p, "\x02\x04\x05\xb4");
	set16(p.data + 36, 0xffff ^ transport_sum(&p, false, 6, 24));
	put(&tcp, p.data + 20, 24);
	send_to(h->tcp_raw, false, &tcp);
}

/* Reflectors as small as can be: RFC 8762, figures 5 and 6. */
static void reflect_stamp(struct hosts *h, enum kind kind, const char *secret)
{
	const bool plain = kind == KIND_STAMP;
	const ssize_t size = plain ? 44 : 112;
	struct pollfd poll_udp = { .fd = h->udp, .events = POLLIN };
	uint8_t in[200], out[112] = { 0 };
	struct probe_hmac_key key;
	struct sockaddr_in from;
	socklen_t len = sizeof(from);

	assert_int_equal(poll(&poll_udp, 1, DEADLINE_MS), 1);
	assert_int_equal(recvfrom(h->udp, in, sizeof(in), 0, (struct sockaddr *)&from, &len), size);
	memcpy(out, in, 4);
	memcpy(out + (plain ? 4 : 16), "\x11\x22\x33\x44\x55\x66\x77\x88\x8a\x0b", 10);
	memcpy(out + (plain ? 16 : 32), "\x21\x22\x23\x24\x25\x26\x27\x28", 8);
	memcpy(out + (plain ? 24 : 48), in, 4);
	memcpy(out + (plain ? 28 : 64), in + (plain ? 4 : 16), 10);
	hmac_key_init(&key, secret, strlen(secret));
	if (!plain)
		hmac_sign(&key, out, out + HMAC_MESSAGE_LEN);
	assert_int_equal(sendto(h->udp, out, (size_t)size, 0, (struct sockaddr *)&from, len), size);
}

/* ---- what came of it ---- */

static void wait_for(const struct probe_flight *flight, enum probe_stage stage)
{
	for (int i = 0; i < DEADLINE_MS; i++) {
		if (PROBE_STAGE(__atomic_load_n(&flight->state, __ATOMIC_ACQUIRE)) == stage)
			return;
		pause_ms(1);
	}
	fail_msg("stage %d instead of %d", (int)PROBE_STAGE(flight->state), (int)stage);
}

static void expect_round_trip(struct hosts *h, const struct mode *m, const struct probe_flight *flight, uint64_t before)
{
	wait_for(flight, PROBE_ANSWERED);
	assert_true(flight->flags & PROBE_SENT_BY_HOOK);
	assert_true(flight->sent_ns > before && flight->received_ns > flight->sent_ns &&
		    flight->received_ns < mono_now().ns);
	assert_int_equal(flight->clock, m->clock);
	assert_int_equal(flight->ifindex, h->f.ifindex);
}

/* Did the answer end at the hook? A packet socket lets it pass. */
static void expect_at_socket(const struct mode *m, int fd, bool wanted)
{
	struct pollfd at = { .fd = fd, .events = POLLIN };
	char data[4000];

	if (m->receive != PROBE_HOOK_SOCKET && !wanted) {
		assert_int_equal(recv(fd, data, sizeof(data), MSG_DONTWAIT), -1);
		return;
	}
	assert_int_equal(poll(&at, 1, DEADLINE_MS), 1);
	assert_true(recv(fd, data, sizeof(data), 0) > 0);
}

/* ---- the tests ---- */

static void echo(struct hosts *h, const struct mode *m)
{
	struct icmp6_filter filter;

	ICMP6_FILTER_SETBLOCKALL(&filter);
	ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &filter);
	assert_int_equal(setsockopt(h->icmp6, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof(filter)), 0);
	for (uint32_t n = 0; n < PROBES; n++)
		for (int v6 = 0; v6 < 2; v6++) {
			const uint64_t before = mono_now().ns;
			struct probe_flight *flight = arm(h, KIND_ICMP, v6, n);

			send_echo(h, v6, n, PROBE_ICMP_PAYLOAD_MIN);
			expect_round_trip(h, m, flight, before);
			assert_int_equal(flight->sent_wall_ns, 0);
			expect_at_socket(m, v6 ? h->icmp6 : h->icmp, false);
		}
	for (int v6 = 0; v6 < 2; v6++) {
		const struct probe_session *session = session_of(&h->f, KIND_ICMP, v6);

		assert_int_equal(session->highest, PROBES);
		assert_int_equal(session->rejected + session->duplicates + session->late + session->reordered, 0);
	}
	assert_int_equal(probe_program_packets(h->f.program, h->f.slot, PROBE_DROP),
			 m->receive == PROBE_HOOK_SOCKET ? 0 : 2 * PROBES);
}

static void stamp_in(struct hosts *h, const struct mode *m, enum kind kind)
{
	for (uint32_t n = 0; n < PROBES; n++) {
		const uint64_t before = mono_now().ns;
		struct probe_flight *flight = arm(h, kind, false, n);
		struct timespec tai;

		send_stamp(h, kind, n);
		reflect_stamp(h, kind, SECRET);
		expect_round_trip(h, m, flight, before);
		clock_gettime(CLOCK_TAI, &tai);
		assert_in_range((uint64_t)tai.tv_sec * NS_PER_SEC + (uint64_t)tai.tv_nsec - flight->sent_wall_ns, 0,
				mono_now().ns - before);
		assert_int_equal(flight->remote_sent, 0x1122334455667788);
		assert_int_equal(flight->remote_received, 0x2122232425262728);
	}
	assert_int_equal(session_of(&h->f, kind, false)->highest, PROBES);
	assert_int_equal(session_of(&h->f, kind, false)->rejected, 0);
}

static void stamp(struct hosts *h, const struct mode *m)
{
	stamp_in(h, m, KIND_STAMP);
}

static void stamp_authenticated(struct hosts *h, const struct mode *m)
{
	struct probe_flight *flight;

	stamp_in(h, m, KIND_AUTHENTICATED);
	flight = arm(h, KIND_AUTHENTICATED, false, PROBES);
	send_stamp(h, KIND_AUTHENTICATED, PROBES);
	reflect_stamp(h, KIND_AUTHENTICATED, "another secret");
	for (int i = 0; !PROBE_READ(session_of(&h->f, KIND_AUTHENTICATED, false)->rejected) && i < DEADLINE_MS; i++)
		pause_ms(1);
	assert_int_equal(session_of(&h->f, KIND_AUTHENTICATED, false)->rejected, 1);
	assert_int_equal(flight->state, PROBE_STATE(PROBES, PROBE_SENT));
}

/* How often a half-open connection of the far host was ended by a reset. */
static uint64_t embryonic_resets(struct hosts *h)
{
	char names[8192], values[8192], *save_names, *save_values, *name, *value;
	uint64_t found = UINT64_MAX;
	FILE *file;

	go(h->far);
	file = fopen("/proc/thread-self/net/netstat", "r");
	assert_non_null(file);
	assert_non_null(fgets(names, sizeof(names), file));
	assert_non_null(fgets(values, sizeof(values), file));
	fclose(file);
	go(h->near);
	name = strtok_r(names, " \n", &save_names);
	value = strtok_r(values, " \n", &save_values);
	for (; name && value; name = strtok_r(NULL, " \n", &save_names), value = strtok_r(NULL, " \n", &save_values))
		if (!strcmp(name, "EmbryonicRsts"))
			found = strtoull(value, NULL, 10);
	assert_true(found != UINT64_MAX);
	return found;
}

static void connect_half(struct hosts *h, const struct mode *m)
{
	for (uint32_t n = 0; n < PROBES; n++) {
		const uint64_t before = mono_now().ns;
		struct probe_flight *flight = arm(h, KIND_SYN_ACK, false, n);

		send_syn(h, KIND_SYN_ACK, 443, n);
		expect_round_trip(h, m, flight, before);
		assert_false(flight->flags & PROBE_REFUSED);
		/* By our reset; with a packet socket it is the stack's own. */
		for (int i = 0; embryonic_resets(h) <= n; i++) {
			if (i == DEADLINE_MS)
				fail_msg("the half-open connection is still there");
			pause_ms(1);
		}
		expect_at_socket(m, h->tcp_raw, false);
	}
	assert_int_equal(embryonic_resets(h), PROBES);
	assert_int_equal(session_of(&h->f, KIND_SYN_ACK, false)->highest, PROBES);
}

/* Nobody listens there. */
static void refused(struct hosts *h, const struct mode *m)
{
	session_of(&h->f, KIND_RESET, false)->remote_port = 444;
	for (uint32_t n = 0; n < PROBES; n++) {
		const uint64_t before = mono_now().ns;
		struct probe_flight *flight = arm(h, KIND_RESET, false, n);

		send_syn(h, KIND_RESET, 444, n);
		expect_round_trip(h, m, flight, before);
		assert_true(flight->flags & PROBE_REFUSED);
		expect_at_socket(m, h->tcp_raw, false);
	}
}

/* The same bytes from an ordinary socket are no probe: what leaves is nobody's t1. A packet socket cannot tell. */
static void other_sockets(struct hosts *h, const struct mode *m)
{
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_port = htons((uint16_t)own_port(KIND_STAMP, false)) };
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(862) };
	struct probe_flight *flight = arm(h, KIND_STAMP, false, 3);
	const uint64_t sent_ns = flight->sent_ns;
	struct frame p = { .len = 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, FAR4, &to.sin_addr);
	assert_int_equal(bind(fd, (struct sockaddr *)&own, sizeof(own)), 0);
	put_request(&p, KIND_STAMP, 3);
	assert_int_equal(sendto(fd, p.data, p.len, 0, (struct sockaddr *)&to, sizeof(to)), p.len);
	reflect_stamp(h, KIND_STAMP, SECRET);
	wait_for(flight, PROBE_ANSWERED);
	assert_int_equal(!!(flight->flags & PROBE_SENT_BY_HOOK), h->socket_sends);
	assert_int_equal(flight->sent_ns == sent_ns, !h->socket_sends);
	expect_at_socket(m, fd, false);
	close(fd);
}

/* With another cookie than the flight's, or none of ours: not stamped either. */
static void other_packets(struct hosts *h, const struct mode *m)
{
	struct probe_flight *flight = arm(h, KIND_ICMP, false, 4);

	flight->cookie ^= 1;
	send_echo(h, false, 4, PROBE_ICMP_PAYLOAD_MIN);
	expect_at_socket(m, h->icmp, true); /* the answer is refused, and goes on */
	assert_int_equal(flight->state, PROBE_STATE(4, PROBE_ARMED));
	assert_int_equal(session_of(&h->f, KIND_ICMP, false)->rejected, 1);
	assert_int_equal(stray(&h->f), 0);
}

/* A probe larger than the MTU leaves with its first fragment. Its answer comes in fragments, and so to the socket. */
static void fragments(struct hosts *h, const struct mode *m)
{
	struct probe_flight *flight = arm(h, KIND_ICMP, false, 9);

	session_of(&h->f, KIND_ICMP, false)->payload = 3000;
	send_echo(h, false, 9, 3000);
	expect_at_socket(m, h->icmp, true);
	assert_int_equal(flight->state, PROBE_STATE(9, PROBE_SENT));
	assert_true(flight->flags & PROBE_SENT_BY_HOOK);
	assert_int_equal(session_of(&h->f, KIND_ICMP, false)->rejected, 0);
}

static const struct step {
	const char *name;
	void (*run)(struct hosts *h, const struct mode *m);
} steps[] = {
	{ "echo", echo },
	{ "stamp", stamp },
	{ "stamp, authenticated", stamp_authenticated },
	{ "half-open", connect_half },
	{ "refused", refused },
	{ "other sockets", other_sockets },
	{ "other packets", other_packets },
	{ "fragments", fragments },
};

static void in_mode(void **state)
{
	const struct mode *m = *state;
	struct hosts h;

	if (!hosts_open(&h, m)) {
		hosts_close(&h);
		print_message("skipped: this kernel has no tcx\n");
		skip();
	}
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		print_message("%s\n", steps[i].name);
		for (enum kind kind = 0; kind < KINDS; kind++)
			for (int v6 = 0; v6 < 2; v6++)
				add_session(&h.f, kind, v6, PROBE_ICMP_PAYLOAD_MIN);
		steps[i].run(&h, m);
	}
	hosts_close(&h);
}

int main(void)
{
	struct CMUnitTest tests[MODES];

	for (size_t i = 0; i < MODES; i++)
		tests[i] = (struct CMUnitTest){
			.name = modes[i].name, .test_func = in_mode, .initial_state = (void *)&modes[i]};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
