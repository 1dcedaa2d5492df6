/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program for cards that stamp what they receive, on a veth: its driver knows the question, and its stamps are 0.
 * With a clock that is said to stand at 0 as well such a stamp is as good as a card's; the rest of the way is the real
 * one. Two hosts in network namespaces, see prober_fixture.h. Needs root and a kernel with XDP metadata (6.6), whose
 * netlink says which device has them; skipped with that reason otherwise.
 */
#include "prober_fixture.h"

#include <net/if.h> /* before those of the kernel, which leave out what it has */

#include <bpf/bpf.h>
#include <linux/if_link.h>

#include "agent/probe/netdev.h"
#include "agent/probe/netdev_stamps.h"
#include "agent/probe/probe_hardware.h"
#include "probe_match.h"

#define PROBES 50
#define CLOCKS_NS 100000 /* that may lie between two readings of the clocks, and their slewing */

static struct fixture fixture;

static const char *const far_addresses[2] = { FAR4, FAR6 };

static void open_hardware(struct fixture *f, enum probe_attach attach, bool anywhere, bool reflect)
{
	const struct prober_options options = {
		.attach = attach, .paths_max = 64, .flights_max = 4096, .unprivileged = true, .clock_error_ns = 1000,
		.reflect = {
			.hardware_anywhere = anywhere, .reflect = reflect, .reflect_icmp = reflect, .reflect_rate = 1000,
			.reflect_burst = 1000,
		},
	};
	struct error error = { .text = "" };

	if (prober_open(f->loop, &options, NULL, &f->prober, &error) < 0)
		fail_msg("%s", error.text);
}

/* A veth takes what its peer's XDP sends back only while it has XDP too. Returns the link. */
static int far_xdp(const struct fixture *f)
{
	const struct bpf_insn pass[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS }, { .code = BPF_JMP | BPF_EXIT },
	};
	const struct bpf_link_create_opts options = { .sz = sizeof(options), .flags = XDP_FLAGS_DRV_MODE };
	int near = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), far, program, link;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", f->child);
	far = open(path, O_RDONLY | O_CLOEXEC);
	program = bpf_prog_load(BPF_PROG_TYPE_XDP, "pass", "GPL", pass, 2, NULL);
	assert_true(near >= 0 && far >= 0 && program >= 0);
	assert_int_equal(setns(far, CLONE_NEWNET), 0);
	link = bpf_link_create(program, (int)if_nametoindex("f0"), BPF_XDP, &options);
	assert_int_equal(setns(near, CLONE_NEWNET), 0);
	assert_true(link >= 0);
	close(program);
	close(near);
	close(far);
	return link;
}

static void start(void **state, bool reflect)
{
	fixture_open(&fixture, state);
	far_xdp(&fixture); /* until this process ends */
	if (!netdev_has_stamps(if_nametoindex("e0"))) {
		print_message("# skipped: this kernel does not say that a veth has XDP metadata\n");
		skip();
	}
	open_hardware(&fixture, PROBE_ATTACH_XDP, true, reflect);
	assert_non_null(probe_devices_hardware(prober_devices(fixture.prober)));
}

static const struct probe_device *device_of(const struct fixture *f, const char *name)
{
	const struct probe_devices *devices = prober_devices(f->prober);

	for (size_t i = 0; i < probe_devices_count(devices); i++)
		if (!strcmp(probe_devices_at(devices, i)->name, name))
			return probe_devices_at(devices, i);
	fail_msg("%s is not used", name);
	return NULL;
}

static void expect_attached(const struct fixture *f, const char *name, bool hardware)
{
	const struct probe_device *device = device_of(f, name);
	int fd = hardware ? probe_hardware_fd(probe_devices_hardware(prober_devices(f->prober)), device->ifindex)
			  : probe_program_fd(prober_program(f->prober), PROBE_HOOK_XDP);
	struct bpf_prog_info info = { 0 };
	__u32 len = sizeof(info);
	struct netdev netdev;

	assert_string_equal(device->receive_mode, "xdp");
	assert_int_equal(device->receive, PROBE_CLOCK_XDP);
	assert_int_equal(!!strstr(device->reason, "hardware timestamps, while"), hardware);
	assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &len), 0);
	assert_int_equal(netdev_read(NULL, device->ifindex, &netdev), 0);
	assert_string_equal(netdev.xdp, "native");
	assert_int_equal(netdev.xdp_program, info.id);
}

static void expect_clean(const char *name)
{
	struct netdev netdev;
	uint64_t end = mono_now().ns + DEADLINE_NS;

	do {
		assert_int_equal(netdev_read(name, 0, &netdev), 0);
		if (mono_now().ns > end)
			fail_msg("something is left at %s", name);
	} while (netdev.xdp);
}

/* From now on the card's clock stands at 0, and that is believed; what comes in was stamped when it did. */
static struct probe_card *stop_clock(const struct fixture *f)
{
	struct probe_card *card = probe_hardware_card(probe_devices_hardware(prober_devices(f->prober)), if_nametoindex("e0"));
	struct timespec tai;

	assert_non_null(card);
	clock_gettime(CLOCK_TAI, &tai);
	card->behind_ns = (uint64_t)tai.tv_sec * NS_PER_SEC + (uint64_t)tai.tv_nsec;
	__atomic_store_n(&card->until_ns, UINT64_MAX, __ATOMIC_RELEASE);
	return card;
}

/* By such stamps each answer came at the moment when the clock stopped, before its probe was sent. */
static void expect_stopped(struct fixture *f, struct probe_path *path)
{
	for (int i = 0; i < PROBES; i++) {
		struct probe_card *card;
		const struct probe_flight *flight;
		uint32_t sequence = path->next;
		uint64_t before = mono_now().ns, after;

		card = stop_clock(f);
		after = mono_now().ns;
		probe_once(f, path);
		flight = &f->prober->flights[f->prober->sessions[path->index].first +
					     (sequence & f->prober->sessions[path->index].mask)];
		/* Held up for longer than a stamp may be old: the program's own time. */
		if (flight->clock == PROBE_CLOCK_XDP && mono_now().ns - before > PROBE_HARDWARE_AGE_MAX_NS)
			continue;
		assert_int_equal(flight->clock, PROBE_CLOCK_HARDWARE);
		if (flight->received_ns + CLOCKS_NS < before || flight->received_ns > after + CLOCKS_NS)
			fail_msg("received at %ld ns behind the stop, which took %lu ns", (long)(flight->received_ns - before), after - before);
		__atomic_store_n(&card->until_ns, 0, __ATOMIC_RELEASE);
	}
}

static uint64_t dropped_at(const struct fixture *f)
{
	return probe_program_packets(prober_program(f->prober), device_of(f, "e0")->slot, PROBE_DROP);
}

static void test_without_a_clock(void **state)
{
	start(state, false);
	for (int v6 = 0; v6 < 2; v6++)
		for (int protocol = 0; protocol < PROBE_PROTOCOL_COUNT; protocol++) {
			struct probe_spec spec = spec_of((enum probe_protocol)protocol, far_addresses[v6]);
			struct probe_path *path = add_path(&fixture, &spec);
			uint64_t dropped;
			struct probe_counts counts;

			probe_many(&fixture, path, 1, PROBE_OK, PROBE_CLOCK_XDP); /* from now on e0 is in use */
			dropped = dropped_at(&fixture);
			probe_many(&fixture, path, PROBES - 1, PROBE_OK, PROBE_CLOCK_XDP);
			counts = counts_of(path);
			assert_int_equal(counts.answered, PROBES);
			assert_int_equal(counts.duplicates + counts.late + counts.rejected, 0);
			expect_attached(&fixture, "e0", true);
			assert_int_equal(dropped_at(&fixture) - dropped, PROBES - 1);
			prober_remove(path);
		}
	assert_int_equal(prober_rejected(fixture.prober), 0);
	prober_close(fixture.prober);
	fixture.prober = NULL;
	expect_clean("e0");
}

static void test_stamps(void **state)
{
	start(state, false);
	for (int v6 = 0; v6 < 2; v6++)
		for (int protocol = 0; protocol < PROBE_PROTOCOL_COUNT; protocol++) {
			struct probe_spec spec = spec_of((enum probe_protocol)protocol, far_addresses[v6]);
			struct probe_path *path = add_path(&fixture, &spec);

			expect_stopped(&fixture, path);
			probe_many(&fixture, path, 3, PROBE_OK, PROBE_CLOCK_XDP); /* its clock is not believed any more */
			prober_remove(path);
		}
	/* Ticks say nothing of a card without a clock that can be read. */
	stop_clock(&fixture);
	prober_tick(fixture.prober, mono_now());
	assert_int_equal(stop_clock(&fixture)->until_ns, UINT64_MAX);
}

/* Settings and addresses are those of the other programs. */
static void test_reflects(void **state)
{
	const struct probe_device *device;
	struct error error = { .text = "" };

	start(state, true);
	if (probe_devices_use(prober_devices(fixture.prober), "e0", true, &device, &error) < 0)
		fail_msg("%s", error.text);
	expect_attached(&fixture, "e0", true);
	far_do(&fixture, "ping -c 5 -i 0.01 -W 5 10.1.0.1 >/dev/null");
	assert_int_equal(probe_program_packets(prober_program(fixture.prober), device->slot, PROBE_REFLECT), 5);
}

/* Not by itself: neither on a device in software, nor for one that came later; there the usual program is as good. */
static void test_usual_program(void **state)
{
	struct probe_spec spec = spec_of(PROBE_ICMP, FAR4);

	fixture_open(&fixture, state);
	open_hardware(&fixture, PROBE_ATTACH_XDP, false, false);
	assert_null(probe_devices_hardware(prober_devices(fixture.prober)));
	probe_many(&fixture, add_path(&fixture, &spec), 3, PROBE_OK, PROBE_CLOCK_XDP);
	expect_attached(&fixture, "e0", false);
	prober_close(fixture.prober);
	open_hardware(&fixture, PROBE_ATTACH_XDP, true, false);
	add_link(&fixture, 1);
	spec = spec_of(PROBE_ICMP, "10.2.0.2");
	probe_many(&fixture, add_path(&fixture, &spec), 3, PROBE_OK, PROBE_CLOCK_XDP);
	expect_attached(&fixture, "e1", false);
}

static void test_killed(void **state)
{
	int pair[2], status;
	char byte;
	pid_t pid;

	start(state, false);
	prober_close(fixture.prober);
	fixture.prober = NULL;
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		open_hardware(&fixture, PROBE_ATTACH_XDP, true, false);
		if (probe_devices_use(prober_devices(fixture.prober), "e0", false, NULL, NULL) || write(pair[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(pair[1]);
	assert_int_equal(read(pair[0], &byte, 1), 1);
	close(pair[0]);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	expect_clean("e0");
}

static int set_up(void **state)
{
	kbpf_log_setup();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_without_a_clock, fixture_close),
		cmocka_unit_test_teardown(test_stamps, fixture_close),
		cmocka_unit_test_teardown(test_reflects, fixture_close),
		cmocka_unit_test_teardown(test_usual_program, fixture_close),
		cmocka_unit_test_teardown(test_killed, fixture_close),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
