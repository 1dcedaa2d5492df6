/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What active probing costs where it matters:
 *   - packets that are not ours, through the receiving programs: BPF_PROG_TEST_RUN, an empty program in the same rounds.
 *   - the whole round trip at full speed on one core, by the engine that the agent and `netsonde ping` use, over a veth
 *     pair: probes per second of CPU time, how many of its own answers it lost, the round trips; against the far kernel's
 *     ICMP and against the reflector at tc and in XDP. The far host's work runs in our system call, so it is in the figure.
 *   - ns per run of the sending and receiving programs at that speed, by the kernel's statistics, above an empty program
 *     in the same rounds; the statistics slow the rates down, so they have rounds of their own.
 *   - other people's packets per second through an interface with nothing, an empty program and ours on it.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/kbpf.h"
#include "agent/probe/probe_devices.h"
#include "agent/probe/prober.h"
#include "bench.h"
#include "empty.skel.h"
#include "lib/clock.h"

#define ROUNDS 15
#define REPEAT 500000
#define PROBES 100000
#define BATCH 64
#define FOREIGN 200000
#define NEAR "near"
#define FAR "far"
#define LOOPBACK_INDEX 1
#define FAR_ADDRESS "192.0.2.1"

enum { ATTACH_XDP = 37, ATTACH_TCX_INGRESS = 46, XDP_FLAGS_NATIVE = 1 << 2, TCX_BEFORE = 1 << 3 };

struct rig { int near, far; };

static void enter(int ns)
{
	if (setns(ns, CLONE_NEWNET))
		bench_die("setns");
}

static void command(const char *text)
{
	if (system(text))
		bench_die(text);
}

/* A second namespace at the other end of a veth pair; we stay in the first. */
static void rig_open(struct rig *rig)
{
	char text[256];

	rig->near = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (rig->near < 0 || unshare(CLONE_NEWNET))
		bench_die("a second network namespace");
	rig->far = open("/proc/self/ns/net", O_RDONLY);
	command("ip link set lo up");
	enter(rig->near);
	snprintf(text, sizeof(text), "ip link add " NEAR " type veth peer name " FAR " netns /proc/%d/fd/%d", getpid(), rig->far);
	command(text);
	command("ip address add 192.0.2.2/24 dev " NEAR " && ip link set " NEAR " up");
	enter(rig->far);
	command("ip address add " FAR_ADDRESS "/24 dev " FAR " && ip link set " FAR " up");
	enter(rig->near);
	command("ping -q -c1 -w5 " FAR_ADDRESS " >/dev/null");
}

/* A reflector on the far end. */
struct reflector { struct probe_program *program; struct probe_devices *devices; };

static void reflector_open(struct reflector *reflector, const struct rig *rig, enum probe_attach attach)
{
	const struct probe_program_options options = {
		.sessions_max = 2, .flights_max = 16, .port_first = 1, .port_count = 1, .icmp_first = 1, .reflect = true,
		.reflect_rate = 1000000000, .reflect_burst = 1000000000,
	};
	struct error error = { "" };
	int r = probe_program_open(&options, &reflector->program, &error);

	enter(rig->far);
	if (!r)
		r = probe_devices_new(reflector->program, attach, &reflector->devices, &error);
	if (!r)
		r = probe_devices_use(reflector->devices, FAR, true, NULL, &error);
	enter(rig->near);
	if (r < 0) {
		fprintf(stderr, "reflector: %s\n", error.text);
		exit(1);
	}
}

static void reflector_close(struct reflector *reflector)
{
	probe_devices_free(reflector->devices);
	probe_program_close(reflector->program);
}

struct flood { uint64_t answered, lost, sum_ns; double rtt_us[PROBES]; };

static void on_result(struct probe_path *path, const struct probe_result *result, void *userdata)
{
	struct flood *flood = userdata;

	(void)path;
	if (result->outcome != PROBE_OK) {
		flood->lost++;
		return;
	}
	if (flood->answered < PROBES)
		flood->rtt_us[flood->answered] = (double)result->rtt_ns / 1e3;
	flood->sum_ns += result->rtt_ns;
	flood->answered++;
}

/* Sends PROBES probes as fast as one core can, and waits for the stragglers. Returns the CPU time. */
static uint64_t flood_run(struct prober *prober, struct probe_path *path)
{
	const uint64_t start = bench_cpu_ns();
	uint64_t took;

	for (int sent = 0; sent < PROBES;) {
		for (int i = 0; i < BATCH && sent < PROBES; i++) {
			int r = prober_send(path);

			if (r == -EAGAIN)
				break;
			if (r < 0)
				bench_die("prober_send");
			sent++;
		}
		prober_flush(prober);
		prober_collect_path(path, mono_now());
	}
	took = bench_cpu_ns() - start;
	for (int i = 0; probe_path_pending(path) && i < 100; i++) {
		usleep(10000);
		prober_collect_path(path, mono_now());
	}
	return took;
}

static int compare(const void *a, const void *b)
{
	return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static struct prober *open_prober(struct loop *loop, enum probe_attach attach)
{
	const struct prober_options options = { .attach = attach, .paths_max = 4, .flights_max = 8192 };
	struct error error = { "" };
	struct prober *prober;

	if (prober_open(loop, &options, NULL, &prober, &error) < 0) {
		fprintf(stderr, "prober: %s\n", error.text);
		exit(1);
	}
	return prober;
}

static struct probe_path *open_path(struct prober *prober, enum probe_protocol protocol, struct flood *flood)
{
	struct probe_spec spec = { .protocol = protocol, .payload = 56, .timeout_ns = 200 * NS_PER_MS, .ring = 2048 };
	struct error error = { "" };
	struct probe_path *path;

	if (address_parse(FAR_ADDRESS, &spec.address) || prober_add(prober, &spec, on_result, flood, &path, &error) < 0) {
		fprintf(stderr, "path: %s\n", error.text);
		exit(1);
	}
	return path;
}

static void measure_rate(struct bench *bench, const char *what, enum probe_attach attach, enum probe_protocol protocol)
{
	double rate[ROUNDS], p50[ROUNDS], p99[ROUNDS], mean[ROUNDS], lost[ROUNDS];
	static struct flood flood;
	struct loop *loop;
	struct prober *prober;
	struct probe_path *path;

	if (loop_new(&loop))
		bench_die("loop");
	prober = open_prober(loop, attach);
	path = open_path(prober, protocol, &flood);
	flood_run(prober, path); /* warm up */
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t ns;

		memset(&flood, 0, sizeof(flood));
		ns = flood_run(prober, path);
		if (!flood.answered)
			bench_die("no answer");
		rate[i] = PROBES / ((double)ns / 1e9) / 1e6;
		qsort(flood.rtt_us, flood.answered, sizeof(double), compare);
		p50[i] = flood.rtt_us[flood.answered / 2];
		p99[i] = flood.rtt_us[flood.answered * 99 / 100];
		mean[i] = (double)flood.sum_ns / (double)flood.answered / 1e3;
		lost[i] = (double)flood.lost;
	}
	bench_heading(what);
	bench_report(bench, "probes per second of one core", "M/s", rate, ROUNDS);
	bench_report(bench, "lost of 100,000", "", lost, ROUNDS);
	bench_report(bench, "round trip, mean", "us", mean, ROUNDS);
	bench_report(bench, "round trip, p50", "us", p50, ROUNDS);
	bench_report(bench, "round trip, p99", "us", p99, ROUNDS);
	prober_close(prober);
	loop_free(loop);
}

static double test_run(int fd, void *packet, uint32_t len)
{
	struct bpf_test_run_opts opts = { .sz = sizeof(opts), .data_in = packet, .data_size_in = len, .repeat = REPEAT };

	if (bpf_prog_test_run_opts(fd, &opts))
		bench_die("BPF_PROG_TEST_RUN");
	return opts.duration;
}

static int attach(int program, unsigned ifindex, uint32_t type, uint32_t flags)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.link_create.prog_fd = (uint32_t)program;
	attr.link_create.target_ifindex = ifindex;
	attr.link_create.attach_type = type;
	attr.link_create.flags = flags;
	return (int)syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof(attr));
}

/* What the kernel's statistics say of a program so far. */
static void read_statistics(int fd, struct bpf_prog_info *ret_info)
{
	__u32 len = sizeof(*ret_info);

	memset(ret_info, 0, sizeof(*ret_info));
	if (bpf_obj_get_info_by_fd(fd, ret_info, &len))
		bench_die("a program's statistics");
}

enum { PROGRAM_EMPTY, PROGRAM_SEND, PROGRAM_RECEIVE, PROGRAMS };

/* ns per run while answers come back as fast as they can. All of what they receive is theirs, so these are matched
 * answers. The empty program stands in front of the receiving one, in XDP at the far end: its figure is what the
 * statistics themselves take. */
static void measure_programs(struct bench *bench, const char *what, const struct rig *rig, const struct empty_bpf *empty,
			     bool xdp)
{
	const int empty_fd = bpf_program__fd(xdp ? empty->progs.empty_xdp : empty->progs.empty_tc);
	double ns[PROGRAMS][ROUNDS];
	static struct flood flood;
	int fds[PROGRAMS] = { empty_fd }, link, statistics;
	struct loop *loop;
	struct prober *prober;
	struct probe_path *path;

	if (loop_new(&loop))
		bench_die("loop");
	prober = open_prober(loop, xdp ? PROBE_ATTACH_XDP : PROBE_ATTACH_TC);
	path = open_path(prober, PROBE_ICMP, &flood);
	fds[PROGRAM_SEND] = probe_program_fd(prober_program(prober), PROBE_HOOK_TC_SEND);
	fds[PROGRAM_RECEIVE] = probe_program_fd(prober_program(prober), xdp ? PROBE_HOOK_XDP : PROBE_HOOK_TC_RECEIVE);
	enter(xdp ? rig->far : rig->near);
	link = attach(empty_fd, if_nametoindex(xdp ? FAR : NEAR), xdp ? ATTACH_XDP : ATTACH_TCX_INGRESS,
		      xdp ? XDP_FLAGS_NATIVE : TCX_BEFORE);
	enter(rig->near);
	statistics = bpf_enable_stats(BPF_STATS_RUN_TIME);
	if (link < 0 || statistics < 0)
		bench_die("an empty program, or the kernel's statistics");
	flood_run(prober, path);
	for (int i = 0; i < ROUNDS; i++) {
		struct bpf_prog_info before[PROGRAMS], now;

		for (size_t k = 0; k < PROGRAMS; k++)
			read_statistics(fds[k], &before[k]);
		memset(&flood, 0, sizeof(flood));
		flood_run(prober, path);
		for (size_t k = 0; k < PROGRAMS; k++) {
			read_statistics(fds[k], &now);
			if (now.run_cnt == before[k].run_cnt)
				bench_die("a program that did not run");
			ns[k][i] = (double)(now.run_time_ns - before[k].run_time_ns) /
				   (double)(now.run_cnt - before[k].run_cnt);
		}
		for (size_t k = PROGRAM_SEND; k < PROGRAMS; k++)
			ns[k][i] -= ns[PROGRAM_EMPTY][i];
	}
	bench_heading(what);
	bench_report(bench, "an empty program, by the kernel's statistics", "ns", ns[PROGRAM_EMPTY], ROUNDS);
	bench_report(bench, "sending, above that", "ns", ns[PROGRAM_SEND], ROUNDS);
	bench_report(bench, "receiving a matched answer, above that", "ns", ns[PROGRAM_RECEIVE], ROUNDS);
	close(statistics);
	close(link);
	prober_close(prober);
	loop_free(loop);
}

struct foreign { const char *what; uint8_t bytes[96]; uint32_t len; };

/* Frames of somebody else: what an interface is full of. */
static const struct foreign foreign[] = {
	{ "TCP over IPv4", { [12] = 8, 0, 0x45, [17] = 64, [22] = 64, 6, [26] = 198, 51, 100, 1, 192, 0, 2, 2, 0x01, 0xbb, 0xc0, 0x01, [46] = 0x50, 0x10 }, 78 },
	{ "TCP over IPv6", { [12] = 0x86, 0xdd, 0x60, [19] = 20, 6, 64, [22] = 0x20, 1, [54] = 0x01, 0xbb, 0xc0, 0x01, [66] = 0x50, 0x10 }, 78 },
	{ "UDP over IPv4", { [12] = 8, 0, 0x45, [17] = 64, [22] = 64, 17, [26] = 198, 51, 100, 1, 192, 0, 2, 2, 0x01, 0xbb, 0xc0, 0x01, 0, 44 }, 78 },
	{ "echo request", { [12] = 8, 0, 0x45, [17] = 64, [22] = 64, 1, [26] = 198, 51, 100, 1, 192, 0, 2, 2, 8, [38] = 1 }, 78 },
	{ "ARP", { [12] = 8, 6, 0, 1, 8, 0, 6, 4, 0, 1 }, 60 },
};

static void measure_foreign(struct bench *bench, const struct empty_bpf *empty)
{
	const struct probe_program_options options = {
		.sessions_max = 16, .flights_max = 64, .port_first = 61000, .port_count = 64, .icmp_first = 0x7000,
	};
	struct error error = { "" };
	struct probe_program *program;
	uint32_t slot;
	static const struct { const char *name; enum probe_hook hook; } hooks[] = { { "XDP", PROBE_HOOK_XDP }, { "tc", PROBE_HOOK_TC_RECEIVE } };

	/* A test run's packets come in by lo; those of other devices than ours are not even looked at. */
	if (probe_program_open(&options, &program, &error) < 0 || probe_program_device_add(program, LOOPBACK_INDEX, false, &slot))
		bench_die(error.text);
	for (size_t h = 0; h < 2; h++) {
		int nothing = bpf_program__fd(h ? empty->progs.empty_tc : empty->progs.empty_xdp);

		for (size_t f = 0; f < sizeof(foreign) / sizeof(foreign[0]); f++) {
			double above[ROUNDS], bare[ROUNDS];
			uint8_t packet[96];
			char text[96];

			memcpy(packet, foreign[f].bytes, sizeof(packet));
			for (int i = 0; i < ROUNDS; i++) {
				bare[i] = test_run(nothing, packet, foreign[f].len);
				above[i] = test_run(probe_program_fd(program, hooks[h].hook), packet, foreign[f].len) - bare[i];
			}
			snprintf(text, sizeof(text), "%s, not ours: %s, above an empty program", hooks[h].name, foreign[f].what);
			bench_report(bench, text, "ns", above, ROUNDS);
		}
	}
	probe_program_close(program);
}

/* Datagrams to a closed port of the far end, whose way there runs in our system call. */
static double foreign_rate(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9) };
	struct mmsghdr messages[BATCH];
	char bytes[64] = "";
	struct iovec iov = { bytes, sizeof(bytes) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t start;

	inet_pton(AF_INET, FAR_ADDRESS, &to.sin_addr);
	for (int i = 0; i < BATCH; i++)
		messages[i] = (struct mmsghdr){ .msg_hdr = { .msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = &iov, .msg_iovlen = 1 } };
	start = bench_cpu_ns();
	for (int i = 0; i < FOREIGN / BATCH; i++)
		if (sendmmsg(fd, messages, BATCH, 0) < 0)
			bench_die("sendmmsg");
	start = bench_cpu_ns() - start;
	close(fd);
	return FOREIGN / ((double)start / 1e9) / 1e6;
}

/* Ratios to nothing attached, within each round. */
static void measure_traffic(struct bench *bench, const struct rig *rig, const struct empty_bpf *empty)
{
	const struct probe_program_options options = {
		.sessions_max = 16, .flights_max = 64, .port_first = 61000, .port_count = 64, .icmp_first = 0x7000,
	};
	struct error error = { "" };
	struct probe_program *program;
	double ratio[ROUNDS], base[ROUNDS];
	unsigned ifindex;
	uint32_t slot;

	if (probe_program_open(&options, &program, &error) < 0)
		bench_die(error.text);
	enter(rig->far);
	ifindex = if_nametoindex(FAR);
	if (probe_program_device_add(program, ifindex, false, &slot))
		bench_die("a device");
	const struct { const char *what; int fd; uint32_t type, flags; } cases[] = {
		{ "nothing, again (noise)", -1, 0, 0 },
		{ "an empty tc program", bpf_program__fd(empty->progs.empty_tc), ATTACH_TCX_INGRESS, 0 },
		{ "probe_receive at tc", probe_program_fd(program, PROBE_HOOK_TC_RECEIVE), ATTACH_TCX_INGRESS, 0 },
		{ "an empty XDP program", bpf_program__fd(empty->progs.empty_xdp), ATTACH_XDP, XDP_FLAGS_NATIVE },
		{ "probe_xdp", probe_program_fd(program, PROBE_HOOK_XDP), ATTACH_XDP, XDP_FLAGS_NATIVE },
	};
	bench_heading("other packets through the interface, beside nothing attached");
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		for (int i = 0; i < ROUNDS; i++) {
			int link = -1;

			enter(rig->near);
			base[i] = foreign_rate();
			enter(rig->far);
			if (cases[c].fd >= 0 && (link = attach(cases[c].fd, ifindex, cases[c].type, cases[c].flags)) < 0)
				bench_die(cases[c].what);
			enter(rig->near);
			ratio[i] = foreign_rate() / base[i];
			enter(rig->far);
			if (link >= 0)
				close(link);
		}
		if (!c)
			bench_report(bench, "nothing attached, M packets per second of one core", "M/s", base, ROUNDS);
		bench_report(bench, cases[c].what, "", ratio, ROUNDS);
	}
	enter(rig->near);
	probe_program_close(program);
}

int main(int argc, char **argv)
{
	struct bench bench;
	struct rig rig;
	struct empty_bpf *empty;
	struct reflector reflector;

	bench_open(&bench, "probe", argc, argv);
	empty = empty_bpf__open();
	if (!empty)
		bench_die("the empty programs");
	bpf_program__set_autoload(empty->progs.empty, false);
	bpf_program__set_autoload(empty->progs.empty_tc, true);
	bpf_program__set_autoload(empty->progs.empty_xdp, true);
	if (empty_bpf__load(empty))
		bench_die("the empty programs");
	rig_open(&rig);
	bench_heading("packets that are not ours");
	measure_foreign(&bench, empty);
	measure_traffic(&bench, &rig, empty);
	measure_programs(&bench, "the programs at tc, flooding", &rig, empty, false);
	measure_programs(&bench, "the programs in XDP, flooding", &rig, empty, true);
	measure_rate(&bench, "ICMP, answered by the far kernel, timed at tc", PROBE_ATTACH_TC, PROBE_ICMP);
	reflector_open(&reflector, &rig, PROBE_ATTACH_TC);
	measure_rate(&bench, "STAMP, reflected at tc, timed at tc", PROBE_ATTACH_TC, PROBE_STAMP);
	reflector_close(&reflector);
	reflector_open(&reflector, &rig, PROBE_ATTACH_XDP);
	measure_rate(&bench, "STAMP, reflected in XDP, timed in XDP", PROBE_ATTACH_XDP, PROBE_STAMP);
	reflector_close(&reflector);
	empty_bpf__destroy(empty);
	bench_close(&bench);
	return 0;
}
