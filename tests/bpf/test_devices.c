/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The probe programs at interfaces of the running kernel: every way of attaching with real packets, what stands in the
 * way, and what reflects. Interfaces that go, and processes: test_devices_life.c. Needs root; skipped with that reason
 * otherwise.
 */
#include "devices_fixture.h"

static void test_every_mode(void **state)
{
	int stats;

	for (size_t i = 0; i < MODES; i++) {
		struct fixture f;
		const struct probe_device *device;

		fixture_open(&f, state, modes[i].attach);
		stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
		assert_true(stats >= 0);
		device = use(f.devices, "v0", false);
		print_message("# %s: %s, %s; %s\n", modes[i].receive, device->receive_mode, device->send_mode, device->reason);
		expect_mode(device, &modes[i]);
		expect_packets(f.program, device->slot, "v0", "v1", &modes[i]);
		assert_ptr_equal(use(f.devices, "v0", false), device);
		assert_int_equal(probe_devices_count(f.devices), 1);
		fixture_close(&f);
		expect_clean("v0");
		close(stats);
	}
}

static int pass_program(const char *name)
{
	const struct bpf_insn pass[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS }, { .code = BPF_JMP | BPF_EXIT },
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, name, "GPL", pass, 2, NULL);

	assert_true(fd >= 0);
	return fd;
}

/* An XDP program of somebody else, attached the way that stays; program_name NULL: removed. */
static void foreign_xdp(const char *name, const char *program_name, uint32_t flags)
{
	int fd = program_name ? pass_program(program_name) : -1;

	assert_int_equal(bpf_xdp_attach((int)if_nametoindex(name), fd, flags, NULL), 0);
	if (fd >= 0)
		close(fd);
}

static uint32_t xdp_program(const char *name)
{
	struct netdev device;

	assert_int_equal(netdev_read(name, 0, &device), 0);
	return device.xdp_program;
}

/* XDP has one place, and who has it keeps it. */
static void test_another_xdp_program(void **state)
{
	static const struct { enum probe_attach attach; uint32_t flags; const char *name, *words[3]; } rows[] = {
		{ PROBE_ATTACH_XDP, XDP_FLAGS_DRV_MODE, "other", { "another program is attached", "native, other, id ", "" } },
		{ PROBE_ATTACH_XDP, XDP_FLAGS_SKB_MODE, "other", { "another program is attached", "generic, other, id ", "" } },
		{ PROBE_ATTACH_XDP_GENERIC, XDP_FLAGS_DRV_MODE, "xdp_dispatcher",
		  { "another program is attached", "native", "libxdp" } },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct probe_device *device;
		struct fixture f;
		uint32_t other;

		fixture_open(&f, state, rows[i].attach);
		foreign_xdp("v0", rows[i].name, rows[i].flags);
		other = xdp_program("v0");
		assert_int_not_equal(other, 0);
		device = use(f.devices, "v0", false);
		print_message("# %s\n", device->reason);
		for (size_t k = 0; k < 3; k++)
			assert_non_null(strstr(device->reason, rows[i].words[k]));
		assert_string_equal(device->receive_mode, "off");
		assert_int_equal(device->receive, PROBE_CLOCK_KERNEL);
		assert_true(device->send);
		assert_int_equal(xdp_program("v0"), other);
		/* It cannot reflect then, and nothing of the attempt remains. */
		assert_int_equal(probe_devices_use(f.devices, "v0", true, NULL, NULL), -EOPNOTSUPP);
		assert_false(device->reflect);
		assert_true(device->send);
		/* The other one leaves: that is noticed, without a word from anybody. */
		assert_int_equal(probe_devices_tick(f.devices), 1);
		foreign_xdp("v0", NULL, rows[i].flags);
		assert_int_equal(probe_devices_tick(f.devices), 1);
		assert_string_equal(device->receive_mode, rows[i].attach == PROBE_ATTACH_XDP ? "xdp" : "xdp_generic");
		assert_string_equal(device->reason, "");
		fixture_close(&f);
		expect_clean("v0");
	}
}

/* A link that ends is told to nobody. */
static void test_another_xdp_link(void **state)
{
	const struct bpf_link_create_opts options = { .sz = sizeof(options), .flags = XDP_FLAGS_DRV_MODE };
	const struct probe_device *device;
	struct fixture f;
	int program, link;

	fixture_open(&f, state, PROBE_ATTACH_XDP);
	program = pass_program("other");
	link = bpf_link_create(program, (int)if_nametoindex("v0"), BPF_XDP, &options);
	assert_true(link >= 0);
	device = use(f.devices, "v0", false);
	assert_string_equal(device->receive_mode, "off");
	assert_int_equal(probe_devices_tick(f.devices), 1);
	assert_int_equal(probe_devices_tick(f.devices), 0);
	close(link);
	close(program);
	assert_int_equal(probe_devices_tick(f.devices), 1);
	assert_string_equal(device->receive_mode, "xdp");
	fixture_close(&f);
	expect_clean("v0");
}

/* What cannot be made here without the hardware: what is known of a card, and what is said. */
static void test_obstacles(void **state)
{
	static const struct netdev card = { .ifindex = 2, .mtu = 1500, .link_type = ARPHRD_ETHER, .hardware = true, .name = "eth0" };
	char reason[256] = "";
	struct netdev d = card;

	(void)state;
	assert_false(netdev_xdp_obstacle(&d, false, false, reason, sizeof(reason)));
	d.joins = "rx-lro";
	assert_true(netdev_xdp_obstacle(&d, false, false, reason, sizeof(reason)));
	assert_non_null(strstr(reason, "rx-lro"));
	assert_false(netdev_xdp_obstacle(&d, false, true, reason, sizeof(reason)));
	d = card;
	d.gro = true;
	assert_false(netdev_xdp_obstacle(&d, false, false, reason, sizeof(reason)));
	assert_true(netdev_xdp_obstacle(&d, true, false, reason, sizeof(reason)));
	assert_non_null(strstr(reason, "rx-gro"));
	assert_false(netdev_xdp_obstacle(&d, true, true, reason, sizeof(reason)));
	d = card;
	d.hardware = false;
	strcpy(d.kind, "bond");
	assert_true(netdev_xdp_obstacle(&d, false, false, reason, sizeof(reason)));
	assert_non_null(strstr(reason, "bond"));
	assert_false(netdev_xdp_obstacle(&d, false, true, reason, sizeof(reason)));
	d = card;
	d.link_type = ARPHRD_NONE;
	assert_true(netdev_xdp_obstacle(&d, false, true, reason, sizeof(reason)));
	d = card;
	d.xdp = "native";
	assert_true(netdev_xdp_obstacle(&d, false, false, reason, sizeof(reason)));
	assert_non_null(strstr(reason, "id not known"));
	d = card;
	d.mtu = 9000;
	netdev_xdp_refusal(&d, false, -EINVAL, reason, sizeof(reason));
	assert_non_null(strstr(reason, "MTU of 9000"));
	netdev_xdp_refusal(&d, false, -EOPNOTSUPP, reason, sizeof(reason));
	assert_non_null(strstr(reason, "native XDP: not known to the driver"));
	netdev_xdp_refusal(&d, true, -EBUSY, reason, sizeof(reason));
	assert_non_null(strstr(reason, "generic XDP: another program"));
}

/* Without a link header, or with an MTU that no driver takes for XDP. */
static void test_refused_by_the_device(void **state)
{
	const struct probe_device *device;
	struct fixture f;

	fixture_open(&f, state, PROBE_ATTACH_XDP);
	ip_command("link set v0 mtu 65000\nlink set v1 mtu 65000\ntuntap add t0 mode tun");
	device = use(f.devices, "t0", false);
	assert_string_equal(device->receive_mode, "off");
	assert_non_null(strstr(device->reason, "no Ethernet frames"));
	assert_true(device->send);
	device = use(f.devices, "v0", false);
	print_message("# %s: %s\n", device->receive_mode, device->reason);
	/* xdp.frags takes any MTU; an older veth takes 3.5 kB and says so. */
	if (strcmp(device->receive_mode, "xdp"))
		assert_non_null(strstr(device->reason, "MTU"));
	assert_int_equal(probe_devices_use(f.devices, "nosuch", false, NULL, NULL), -ENODEV);
	assert_int_equal(probe_devices_use_index(f.devices, 4711, NULL, NULL), -ENODEV);
	assert_int_equal(probe_devices_use_index(f.devices, 0, NULL, NULL), -ENODEV);
	assert_int_equal(probe_devices_count(f.devices), 2);
	fixture_close(&f);
}

static void test_reflecting(void **state)
{
	struct error error = { "" };
	const struct probe_device *device;
	struct fixture f;

	for (size_t i = 0; i < MODES; i++) {
		const bool can = strcmp(expected(&modes[i]).receive, "packet_socket") != 0;

		fixture_open(&f, state, modes[i].attach);
		assert_int_equal(probe_devices_use(f.devices, "v0", true, &device, &error), can ? 0 : -EOPNOTSUPP);
		if (can) {
			assert_true(device->reflect);
			expect_mode(device, &modes[i]);
			assert_int_equal(!!strstr(device->reason, "peer"), modes[i].attach == PROBE_ATTACH_XDP);
			/* The routes do not take it away, the configuration does. */
			assert_int_equal(probe_devices_use_index(f.devices, device->ifindex, &device, NULL), 0);
			assert_true(device->reflect);
			assert_false(use(f.devices, "v0", false)->reflect);
			assert_true(use(f.devices, "v0", true)->reflect);
			expect_mode(device, &modes[i]);
		} else {
			assert_non_null(strstr(error.text, "interface v0 cannot reflect probes: "));
			assert_int_equal(probe_devices_count(f.devices), 0);
		}
		fixture_close(&f);
		expect_clean("v0");
	}
	fixture_open(&f, state, PROBE_ATTACH_OFF);
	assert_int_equal(probe_devices_use(f.devices, "v0", true, NULL, &error), -EOPNOTSUPP);
	assert_string_equal(use(f.devices, "v0", false)->receive_mode, "off");
	assert_true(is_clean("v0") && !packet_sockets());
	fixture_close(&f);
}

static void wait_for_reflected(const struct probe_program *program, const struct probe_device *device, uint64_t wanted)
{
	for (int64_t end = now_ms() + DEADLINE_MS; probe_program_packets(program, device->slot, PROBE_REFLECT) != wanted; pause_ms(1))
		if (now_ms() > end)
			fail_msg("%lu packets were reflected", probe_program_packets(program, device->slot, PROBE_REFLECT));
}

/* Only what is sent to the interface's own Ethernet address is answered, and that can change. */
static void test_reflecting_with_another_address(void **state)
{
	for (size_t i = 0; i < MODES; i++) {
		const struct probe_device *device;
		struct fixture f;

		if (modes[i].attach == PROBE_ATTACH_SOCKET || !strcmp(expected(&modes[i]).receive, "packet_socket"))
			continue;
		fixture_open(&f, state, modes[i].attach);
		ip_command("addr add 192.0.2.2/32 dev v0"); /* it answers for no other */
		device = use(f.devices, "v0", true);
		wait_until_running("v0");
		wait_until_running("v1");
		send_stamp("v1", "v0");
		wait_for_reflected(f.program, device, 1);
		ip_command("link set v0 address 02:00:00:00:00:42");
		probe_devices_tick(f.devices);
		wait_for_reflected(f.program, device, 0); /* another device to the program */
		send_stamp("v1", "v0");
		wait_for_reflected(f.program, device, 1);
		assert_int_equal(probe_devices_tick(f.devices), 0);
		send_stamp("v1", "v1"); /* not to us */
		send_stamp("v1", "v0");
		wait_for_reflected(f.program, device, 2);
		use(f.devices, "v0", false);
		wait_for_reflected(f.program, device, 0);
		send_stamp("v1", "v0");
		for (int64_t end = now_ms() + DEADLINE_MS; !probe_program_packets(f.program, device->slot, PROBE_PASS) && now_ms() < end;)
			pause_ms(1);
		assert_int_equal(probe_program_packets(f.program, device->slot, PROBE_PASS), 1);
		assert_int_equal(probe_program_packets(f.program, device->slot, PROBE_REFLECT), 0);
		fixture_close(&f);
	}
}

static void test_without_programs(void **state)
{
	const struct probe_device *device;
	struct probe_devices *devices;

	(void)state;
	fresh_namespace();
	devices = new_devices(NULL, PROBE_ATTACH_AUTO);
	device = use(devices, "v0", false);
	assert_int_equal(device->receive, PROBE_CLOCK_KERNEL);
	assert_false(device->send);
	assert_int_equal(device->slot, PROBE_SLOT_NONE);
	assert_string_equal(device->reason, "the probe programs are not loaded");
	ip_command("link set v0 down\nlink set v0 name w0");
	probe_devices_tick(devices);
	assert_string_equal(device->name, "w0");
	ip_command("link del w0");
	probe_devices_tick(devices);
	assert_int_equal(device->ifindex, 0);
	probe_devices_free(devices);
}
static void test_room(void **state)
{
	const struct probe_device *last = NULL;
	struct error error = { "" };
	struct fixture f;
	char name[IF_NAMESIZE];

	fixture_open(&f, state, PROBE_ATTACH_AUTO);
	for (int i = 0; i < PROBE_DEVICES_MAX; i++) {
		ip_command("link add d%d type veth peer name e%d", i, i);
		snprintf(name, sizeof(name), "d%d", i);
		last = use(f.devices, name, false);
		expect_mode(last, &modes[0]);
	}
	assert_int_equal(probe_devices_use(f.devices, "v0", false, NULL, &error), -ENOSPC);
	assert_string_equal(error.text, "no probes on interface v0: there are 16 others already");
	ip_command("link del d3\nlink del d2");
	probe_devices_tick(f.devices);
	/* The place of the one that went first. */
	expect_mode(use(f.devices, "v0", false), &modes[0]);
	ip_command("link add d2 type veth peer name e2");
	probe_devices_tick(f.devices);
	assert_int_equal(probe_devices_use_index(f.devices, if_nametoindex("d2"), &last, NULL), 0);
	assert_string_equal(last->name, "d2");
	expect_mode(last, &modes[0]);
	assert_int_equal(probe_devices_count(f.devices), PROBE_DEVICES_MAX);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_mode),
		cmocka_unit_test(test_another_xdp_program),
		cmocka_unit_test(test_another_xdp_link),
		cmocka_unit_test(test_obstacles),
		cmocka_unit_test(test_refused_by_the_device),
		cmocka_unit_test(test_reflecting),
		cmocka_unit_test(test_reflecting_with_another_address),
		cmocka_unit_test(test_without_programs),
		cmocka_unit_test(test_room),
	};

	return cmocka_run_group_tests_name("devices", tests, set_up, tear_down);
}
