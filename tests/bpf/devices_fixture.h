/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of probes at interfaces share: a fresh network namespace with the link v0 - v1 in it and no packet that is
 * not the test's, the ways of attaching, packets, and looking for what was left behind.
 * To be included once by a test program, behind nothing else.
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <net/if.h> /* before those of the kernel, which leave out what it has */

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/kbpf.h"
#include "agent/privileges.h"
#include "agent/probe/netdev.h"
#include "agent/probe/probe_devices.h"
#include "agent/probe/probe_lock.h"
#include "ip_command.h"

#define DEADLINE_MS 5000
#define FRAMES 7
#define TCX_INGRESS 46
#define TCX_EGRESS 47

struct fixture {
	struct probe_program *program;
	struct probe_devices *devices;
};

static inline void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static inline void fresh_namespace(void)
{
	if (geteuid()) {
		print_message("# skipped: loading BPF programs needs root\n");
		skip();
	}
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	if (!access("/proc/sys/net/ipv6/conf/default/disable_ipv6", W_OK)) /* else each new link sends packets of its own */
		write_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
	ip_command("link add v0 type veth peer name v1\nlink set v0 up\nlink set v1 up");
}

static inline struct probe_program *open_program(void)
{
	const struct probe_program_options options = {
		.sessions_max = 16, .flights_max = 256, .port_first = 40000, .port_count = 16, .icmp_first = 40000,
		.reflect = true, .reflect_rate = 1000, .reflect_burst = 1000,
	};
	struct probe_program *program = NULL;
	struct error error = { "" };

	if (probe_program_open(&options, &program, &error) < 0)
		fail_msg("%s", error.text);
	return program;
}

static inline struct probe_devices *new_devices(struct probe_program *program, enum probe_attach attach)
{
	struct probe_devices *devices = NULL;
	struct error error = { "" };

	if (probe_devices_new(program, attach, &devices, &error) < 0)
		fail_msg("%s", error.text);
	return devices;
}

/* Loading takes long, so that is done once; the programs belong to no namespace. */
static inline void fixture_open(struct fixture *f, void *const *state, enum probe_attach attach)
{
	fresh_namespace();
	f->program = *state;
	f->devices = new_devices(f->program, attach);
}

static inline void fixture_close(struct fixture *f)
{
	probe_devices_free(f->devices);
}

static inline const struct probe_device *use(struct probe_devices *devices, const char *name, bool reflect)
{
	const struct probe_device *device = NULL;
	struct error error = { "" };

	if (probe_devices_use(devices, name, reflect, &device, &error) < 0)
		fail_msg("%s", error.text);
	return device;
}

/* How often the program ran, as the kernel counts it while bpf_enable_stats' descriptor is open. */
static inline uint64_t runs(const struct probe_program *program, enum probe_hook hook)
{
	uint64_t n = 0, ns;

	return kbpf_run_stats(probe_program_fd(program, hook), &n, &ns) ? n : 0;
}

/* UDP from 192.0.2.1 to 192.0.2.2, both nobody's, at most by broadcast: it gets no answer. */
static inline void send_frames(const char *name, int n)
{
	static const uint8_t frame[64] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 0,
		0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, 17, 0xb6, 0xb6, 192, 0, 2, 1, 192, 0, 2, 2, 0, 9, 0, 9, 0, 30,
	};
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(name) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0 && to.sll_ifindex);
	for (int i = 0; i < n; i++)
		assert_int_equal(sendto(fd, frame, sizeof(frame), 0, (struct sockaddr *)&to, sizeof(to)), sizeof(frame));
	close(fd);
}

/* A STAMP packet (its checksum is 0: none) to the Ethernet address that the interface `to` has, out of `by`. */
static inline void send_stamp(const char *by, const char *to)
{
	uint8_t frame[14 + 20 + 8 + 44] = {
		0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 8, 0,
		0x45, 0, 0, 72, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
		50000 >> 8, 50000 & 0xff, 862 >> 8, 862 & 0xff, 0, 52,
	};
	struct sockaddr_ll out = { .sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(by) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	struct netdev device;
	uint32_t sum = 0;

	assert_int_equal(netdev_read(to, 0, &device), 0);
	memcpy(frame, device.mac, sizeof(device.mac));
	for (int i = 14; i < 34; i += 2)
		sum += (uint32_t)frame[i] << 8 | frame[i + 1];
	sum = ~(sum + (sum >> 16));
	frame[24] = (uint8_t)(sum >> 8);
	frame[25] = (uint8_t)sum;
	assert_int_equal(sendto(fd, frame, sizeof(frame), 0, (struct sockaddr *)&out, sizeof(out)), sizeof(frame));
	close(fd);
}

static inline int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static inline void pause_ms(int ms)
{
	nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L }, NULL);
}

static inline unsigned tcx_programs(uint32_t ifindex, unsigned where)
{
	__u32 n = 0;

	return bpf_prog_query((int)ifindex, where, 0, NULL, NULL, &n) ? 0 : n;
}

/* Packet sockets of this namespace that see all protocols. */
static inline unsigned packet_sockets(void)
{
	FILE *file = fopen("/proc/net/packet", "re");
	char line[256];
	unsigned n = 0;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		char proto[16];

		n += sscanf(line, "%*s %*s %*s %15s", proto) == 1 && !strcmp(proto, "0003");
	}
	fclose(file);
	return n;
}

static inline bool is_clean(const char *name)
{
	struct netdev device;

	return !netdev_read(name, 0, &device) && !device.xdp && !tcx_programs(device.ifindex, TCX_INGRESS) &&
	       !tcx_programs(device.ifindex, TCX_EGRESS);
}

/* Links end a little after their process. */
static inline void expect_clean(const char *name)
{
	for (int64_t end = now_ms() + DEADLINE_MS; !is_clean(name) || packet_sockets();) {
		if (now_ms() > end)
			fail_msg("something is left at %s", name);
		pause_ms(1);
	}
}

static const struct mode {
	enum probe_attach attach;
	enum probe_clock clock;
	enum probe_hook receive_hook, send_hook;
	const char *receive, *send;
} modes[] = {
	{ PROBE_ATTACH_AUTO, PROBE_CLOCK_TC, PROBE_HOOK_TC_RECEIVE, PROBE_HOOK_TC_SEND, "tcx", "tcx" },
	{ PROBE_ATTACH_XDP, PROBE_CLOCK_XDP, PROBE_HOOK_XDP, PROBE_HOOK_TC_SEND, "xdp", "tcx" },
	{ PROBE_ATTACH_XDP_GENERIC, PROBE_CLOCK_XDP_GENERIC, PROBE_HOOK_XDP_GENERIC, PROBE_HOOK_TC_SEND, "xdp_generic", "tcx" },
	{ PROBE_ATTACH_TC, PROBE_CLOCK_TC, PROBE_HOOK_TC_RECEIVE, PROBE_HOOK_TC_SEND, "tcx", "tcx" },
	{ PROBE_ATTACH_SOCKET, PROBE_CLOCK_TC, PROBE_HOOK_SOCKET, PROBE_HOOK_SOCKET, "packet_socket", "packet_socket" },
};
#define MODES (sizeof(modes) / sizeof(modes[0]))

/* Before 6.6 there is no tcx, and a packet socket stands in for it. */
static inline struct mode expected(const struct mode *mode)
{
	struct mode m = *mode;
	struct netdev lo;

	if (!netdev_read("lo", 0, &lo) && !bpf_prog_query((int)lo.ifindex, TCX_INGRESS, 0, NULL, NULL, &(__u32){ 0 }))
		return m;
	if (m.send_hook == PROBE_HOOK_TC_SEND) {
		m.send_hook = PROBE_HOOK_SOCKET;
		m.send = "packet_socket";
	}
	if (m.receive_hook == PROBE_HOOK_TC_RECEIVE) {
		m.receive_hook = PROBE_HOOK_SOCKET;
		m.receive = "packet_socket";
	}
	if (m.send_hook == PROBE_HOOK_SOCKET && m.receive_hook != PROBE_HOOK_SOCKET)
		m.send_hook = PROBE_HOOK_SOCKET_SEND;
	return m;
}

static inline void expect_mode(const struct probe_device *device, const struct mode *mode)
{
	const struct mode m = expected(mode);

	assert_string_equal(device->receive_mode, m.receive);
	assert_string_equal(device->send_mode, m.send);
	assert_int_equal(device->receive, m.clock);
	assert_true(device->send);
	assert_int_not_equal(device->slot, PROBE_SLOT_NONE);
}

/* A carrier that comes back is noticed by a work queue; until then what is sent there is dropped. */
static inline void wait_until_running(const char *name)
{
	struct ifreq request = { 0 };
	struct netdev device;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	strcpy(request.ifr_name, name);
	for (int64_t end = now_ms() + DEADLINE_MS; now_ms() < end; pause_ms(1)) {
		assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &request), 0);
		if (request.ifr_flags & IFF_RUNNING)
			break;
	}
	assert_true(request.ifr_flags & IFF_RUNNING);
	close(fd);
	assert_int_equal(netdev_read(name, 0, &device), 0); /* behind the lock under which it was noticed */
}

/* XDP of a veth runs in a softirq, at the latest soon. */
static inline void wait_for_runs(const struct probe_program *program, enum probe_hook hook, uint64_t wanted)
{
	for (int64_t end = now_ms() + DEADLINE_MS; runs(program, hook) < wanted && now_ms() < end;)
		pause_ms(1);
	assert_int_equal(runs(program, hook), wanted);
}

/* Frames into the device and out of it, each seen once by the program that should. */
static inline void expect_packets(const struct probe_program *program, uint32_t slot, const char *name,
			   const char *peer, const struct mode *mode)
{
	const struct mode m = expected(mode);
	const uint64_t passed = probe_program_packets(program, slot, PROBE_PASS);
	uint64_t received = runs(program, m.receive_hook), sent = runs(program, m.send_hook);

	wait_until_running(name);
	wait_until_running(peer);
	send_frames(peer, FRAMES);
	wait_for_runs(program, m.receive_hook, received + FRAMES);
	assert_int_equal(probe_program_packets(program, slot, PROBE_PASS) - passed, FRAMES);
	if (m.send_hook == PROBE_HOOK_TC_SEND) /* a packet socket's filter sees both directions */
		assert_int_equal(runs(program, m.send_hook), sent);
	sent = runs(program, m.send_hook);
	send_frames(name, 2 * FRAMES);
	wait_for_runs(program, m.send_hook, sent + 2 * FRAMES);
}

static inline int set_up(void **state)
{
	kbpf_log_setup();
	*state = geteuid() ? NULL : open_program(); /* without it each test says that it is skipped */
	return 0;
}

static inline int tear_down(void **state)
{
	probe_program_close(*state);
	return 0;
}
