/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of interfaces with probes, and of those who probe: interfaces that go, come back, change their name or their
 * namespace, for an agent that has no privileges any more; processes that are killed at any moment; who may probe. Needs
 * root; skipped with that reason otherwise.
 */
#include "devices_fixture.h"

#define SEED 1123u
#define KILLS 20

/* Down and up, another name. */
static void test_the_same_interface(void **state)
{
	for (size_t i = 0; i < MODES; i++) {
		const struct probe_device *device;
		struct fixture f;
		uint32_t ifindex;
		int stats;

		fixture_open(&f, state, modes[i].attach);
		stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
		device = use(f.devices, "v0", false);
		ifindex = device->ifindex;
		probe_devices_tick(f.devices);
		ip_command("link set v0 down\nlink set v0 name w0\nlink set w0 up");
		assert_int_equal(probe_devices_tick(f.devices), 1);
		assert_int_equal(probe_devices_tick(f.devices), 0);
		assert_string_equal(device->name, "w0");
		assert_int_equal(device->ifindex, ifindex);
		expect_mode(device, &modes[i]);
		expect_packets(f.program, device->slot, "w0", "v1", &modes[i]);
		/* The name is free, and another interface takes it. */
		ip_command("link add v0 type veth peer name v2");
		assert_ptr_not_equal(use(f.devices, "v0", false), device);
		assert_int_equal(probe_devices_count(f.devices), 2);
		fixture_close(&f);
		expect_clean("w0");
		close(stats);
	}
}

/* An agent: attached as root, then without privileges. Told by one byte: tick and report, or end. */
struct report {
	int changed;
	uint64_t passed;
	struct probe_device device;
};

static void be_agent(int talk, struct probe_program *program, enum probe_attach attach, bool reflect, bool may_attach)
{
	struct user user;
	struct features features = { 0 };
	struct error error = { "" };
	struct report report = { 0 };
	struct probe_devices *devices;
	const struct probe_device *device;
	char order;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (probe_devices_new(program, attach, &devices, &error) ||
	    probe_devices_use(devices, "v0", reflect, &device, &error) || probe_devices_lock(devices, &error) ||
	    user_find("auto", &user, &error) || privileges_drop(&user, may_attach, &features, &error)) {
		fprintf(stderr, "# %s\n", error.text);
		_exit(1);
	}
	do {
		report.device = *device;
		report.passed = device->slot == PROBE_SLOT_NONE ? 0 : probe_program_packets(program, device->slot, PROBE_PASS);
		if (write(talk, &report, sizeof(report)) != sizeof(report) || read(talk, &order, 1) != 1)
			break;
		report.changed = probe_devices_tick(devices);
	} while (order == 't');
	probe_devices_free(devices);
	_exit(0);
}

struct agent { pid_t pid; int talk; };

static void agent_read(const struct agent *agent, struct report *ret_report)
{
	assert_int_equal(read(agent->talk, ret_report, sizeof(*ret_report)), sizeof(*ret_report));
}

static void agent_tick(const struct agent *agent, struct report *ret_report)
{
	assert_int_equal(write(agent->talk, "t", 1), 1);
	agent_read(agent, ret_report);
}

static void agent_start(struct agent *agent, struct probe_program *program, enum probe_attach attach, bool reflect,
			bool may_attach, struct report *ret_report)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	agent->pid = fork();
	assert_true(agent->pid >= 0);
	if (!agent->pid) {
		close(pair[0]);
		be_agent(pair[1], program, attach, reflect, may_attach);
	}
	close(pair[1]);
	agent->talk = pair[0];
	agent_read(agent, ret_report);
}

static void agent_end(struct agent *agent)
{
	int status;

	assert_int_equal(write(agent->talk, "q", 1), 1);
	assert_int_equal(waitpid(agent->pid, &status, 0), agent->pid);
	assert_int_equal(status, 0);
	close(agent->talk);
}

/* Gone and back, for a process that may nothing any more. */
static void test_another_interface_of_the_name(void **state)
{
	for (size_t i = 0; i < MODES; i++) {
		const bool reflects = strcmp(expected(&modes[i]).receive, "packet_socket") != 0;
		struct agent agent;
		struct report report;
		uint32_t ifindex;
		int stats;

		fresh_namespace();
		stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
		agent_start(&agent, *state, modes[i].attach, reflects, true, &report);
		expect_mode(&report.device, &modes[i]);
		ifindex = report.device.ifindex;
		ip_command("link del v0");
		agent_tick(&agent, &report);
		assert_int_equal(report.changed, 1);
		assert_int_equal(report.device.ifindex, 0);
		assert_int_equal(report.device.slot, PROBE_SLOT_NONE);
		assert_string_equal(report.device.receive_mode, "off");
		for (int k = 0; k < 3; k++) { /* in one tick, whatever happened before it */
			ip_command("link add v0 type veth peer name v1\nlink set v0 up\nlink set v1 up");
			if (k < 2)
				ip_command("link del v0");
		}
		agent_tick(&agent, &report);
		assert_int_equal(report.changed, 1);
		assert_true(report.device.ifindex > ifindex);
		assert_int_equal(report.device.reflect, reflects);
		print_message("# %s, unprivileged: %s, %s; %s\n", modes[i].receive, report.device.receive_mode, report.device.send_mode,
			      report.device.reason);
		expect_mode(&report.device, &modes[i]);
		expect_packets(*state, report.device.slot, "v0", "v1", &modes[i]);
		agent_tick(&agent, &report);
		assert_int_equal(report.changed, 0);
		assert_int_equal(report.passed, FRAMES);
		agent_end(&agent);
		expect_clean("v0");
		close(stats);
	}
}

/* seccomp refuses new links unless there is probing: the spare packet sockets are left, and the reason says why. */
static void test_without_new_links(void **state)
{
	struct report report;
	struct agent agent;
	int stats;

	fresh_namespace();
	stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
	agent_start(&agent, *state, PROBE_ATTACH_AUTO, false, false, &report);
	expect_mode(&report.device, &modes[0]);
	ip_command("link del v0\nlink add v0 type veth peer name v1\nlink set v0 up\nlink set v1 up");
	agent_tick(&agent, &report);
	assert_string_equal(report.device.receive_mode, "packet_socket");
	assert_string_equal(report.device.send_mode, "packet_socket");
	assert_non_null(strstr(report.device.reason, "tcx: "));
	print_message("# %s\n", report.device.reason);
	expect_packets(*state, report.device.slot, "v0", "v1", &modes[MODES - 1]);
	agent_end(&agent);
	expect_clean("v0");
	close(stats);
}

/* Not there when the agent begins. */
static void test_an_interface_that_comes_later(void **state)
{
	const struct probe_device *device;
	struct fixture f;

	fixture_open(&f, state, PROBE_ATTACH_XDP);
	assert_int_equal(probe_devices_use(f.devices, "w0", false, NULL, NULL), -ENODEV);
	assert_int_equal(probe_devices_count(f.devices), 0); /* nobody waits for that */
	assert_int_equal(probe_devices_use(f.devices, "w0", true, NULL, NULL), -ENODEV);
	assert_int_equal(probe_devices_use(f.devices, "w0", true, NULL, NULL), -ENODEV);
	assert_int_equal(probe_devices_use(f.devices, "a name that is too long", true, NULL, NULL), -ENODEV);
	assert_int_equal(probe_devices_count(f.devices), 1);
	device = probe_devices_at(f.devices, 0);
	assert_int_equal(device->ifindex, 0);
	ip_command("link add w0 type veth peer name w1");
	assert_int_equal(probe_devices_tick(f.devices), 1);
	assert_int_equal(device->ifindex, if_nametoindex("w0"));
	assert_true(device->reflect);
	expect_mode(device, &modes[1]);
	assert_ptr_equal(use(f.devices, "w0", true), device);
	fixture_close(&f);
	expect_clean("w0");
}

/* Its own namespace, until it is killed. */
static pid_t fork_namespace(void)
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNET) || write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void enter(pid_t pid)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0 && !setns(fd, CLONE_NEWNET));
	close(fd);
}

static void test_another_namespace(void **state)
{
	for (size_t i = 0; i < MODES; i++) {
		pid_t far, home;
		struct report report;
		struct agent agent;

		fresh_namespace();
		agent_start(&agent, *state, modes[i].attach, false, true, &report);
		far = fork_namespace();
		home = agent.pid;
		ip_command("link set v0 netns %d", far);
		agent_tick(&agent, &report);
		assert_int_equal(report.device.ifindex, 0);
		enter(far);
		expect_clean("v0"); /* what is somebody else's now */
		ip_command("link set v0 netns %d", home);
		enter(home);
		agent_tick(&agent, &report);
		assert_int_equal(report.device.ifindex, if_nametoindex("v0"));
		expect_mode(&report.device, &modes[i]);
		agent_end(&agent);
		kill(far, SIGKILL);
		waitpid(far, NULL, 0);
		expect_clean("v0");
	}
}

/* More changes than the socket holds: the end is right all the same. */
static void test_lost_changes(void **state)
{
	const struct probe_device *device, *other;
	struct fixture f;
	FILE *many;

	fixture_open(&f, state, PROBE_ATTACH_AUTO);
	ip_command("link add v2 type veth peer name v3");
	device = use(f.devices, "v0", false);
	other = use(f.devices, "v2", false);
	many = popen("PATH=$PATH:/usr/sbin:/sbin ip -b -", "w");
	for (int i = 0; i < 2000; i++)
		fprintf(many, "link set lo alias x%d\n", i);
	/* An index that is used again, and a name. */
	fprintf(many, "link del v0\nlink add v0 type veth peer name v1\nlink set v2 name w2\n");
	assert_int_equal(pclose(many), 0);
	probe_devices_tick(f.devices);
	assert_int_equal(device->ifindex, if_nametoindex("v0"));
	assert_string_equal(device->name, "v0");
	expect_mode(device, &modes[0]);
	assert_string_equal(other->name, "w2");
	expect_mode(other, &modes[0]);
	fixture_close(&f);
}
static void detach_links(uint32_t ifindex)
{
	__u32 id = 0;

	while (!bpf_link_get_next_id(id, &id)) {
		struct bpf_link_info info = { 0 };
		__u32 len = sizeof(info);
		int fd = bpf_link_get_fd_by_id(id);

		if (fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &len) && info.xdp.ifindex == ifindex)
			assert_int_equal(bpf_link_detach(fd), 0);
		if (fd >= 0)
			close(fd);
	}
}

/* An administrator's `bpftool link detach`. Its index is one that no other namespace of this machine has, whose links we
 * would detach. */
static void test_detached_by_somebody(void **state)
{
	const struct probe_device *device;
	struct fixture f;

	fixture_open(&f, state, PROBE_ATTACH_XDP);
	ip_command("link add w0 index 471147 type veth peer name w1");
	device = use(f.devices, "w0", false);
	assert_string_equal(device->receive_mode, "xdp");
	probe_devices_tick(f.devices);
	detach_links(471147);
	assert_int_equal(probe_devices_tick(f.devices), 1);
	assert_int_equal(device->receive, PROBE_CLOCK_KERNEL);
	assert_false(device->send);
	assert_string_equal(device->reason, "its hooks were detached by somebody else");
	ip_command("link set w0 up");
	assert_int_equal(probe_devices_tick(f.devices), 0); /* he meant it */
	ip_command("link del w0\nlink add w0 type veth peer name w1");
	probe_devices_tick(f.devices);
	assert_string_equal(device->receive_mode, "xdp");
	fixture_close(&f);
}

/* Attaches everything everywhere, again and again. */
static void attach_for_ever(struct probe_program *program)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		struct probe_devices *devices[MODES];

		for (size_t i = 0; i < MODES; i++) {
			char name[IF_NAMESIZE];

			snprintf(name, sizeof(name), "d%zu", i);
			if (probe_devices_new(program, modes[i].attach, &devices[i], NULL) ||
			    probe_devices_use(devices[i], name, false, NULL, NULL))
				_exit(1);
		}
		for (size_t i = 0; i < MODES; i++)
			probe_devices_free(devices[i]);
	}
}

static void test_killed_at_any_moment(void **state)
{
	struct probe_program *program;
	unsigned attached = 0;

	(void)state;
	fresh_namespace();
	program = open_program();
	srandom(SEED);
	for (int i = 0; i < KILLS; i++) {
		int status;
		pid_t pid;

		/* With other indexes: in the memory that all the children share, those who were killed are still at theirs. */
		for (size_t k = 0; k < MODES; k++)
			ip_command("link add d%zu type veth peer name e%zu\nlink set d%zu up", k, k, k);
		pid = fork();
		assert_true(pid >= 0);
		if (!pid)
			attach_for_ever(program);
		pause_ms(1 + (int)(random() % 60));
		attached += !is_clean("d0") || !is_clean("d1") || !is_clean("d2") || packet_sockets();
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		for (size_t k = 0; k < MODES; k++) {
			char name[IF_NAMESIZE];

			snprintf(name, sizeof(name), "d%zu", k);
			expect_clean(name);
			ip_command("link del %s", name);
		}
	}
	print_message("# %u of %d were killed with something attached\n", attached, KILLS);
	assert_true(attached > KILLS / 2);
	probe_program_close(program);
}

static void sit_on_the_lock(uid_t uid, int type, bool listens)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const socklen_t len = offsetof(struct sockaddr_un, sun_path) + 1 + sizeof(PROBE_LOCK_NAME) - 1;
	int fd = socket(AF_UNIX, type, 0);

	memcpy(address.sun_path + 1, PROBE_LOCK_NAME, strlen(PROBE_LOCK_NAME));
	if (setuid(uid) || bind(fd, (struct sockaddr *)&address, len) || (listens && listen(fd, 1)))
		_exit(1);
}

static pid_t fork_squatter(uid_t uid, int type, bool listens)
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		sit_on_the_lock(uid, type, listens);
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of the user ends it */
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static void test_lock(void **state)
{
	struct probe_devices *devices;
	struct error error = { "" };
	struct report report;
	struct agent agent;
	char text[32];

	(void)state;
	fresh_namespace();
	agent_start(&agent, NULL, PROBE_ATTACH_AUTO, false, true, &report);
	devices = new_devices(NULL, PROBE_ATTACH_AUTO);
	snprintf(text, sizeof(text), "(PID %d)", agent.pid);
	/* The holder, who is nobody by now, is known as the root that he was; and however often somebody asks. */
	for (int i = 0; i < 50; i++) {
		error.text[0] = '\0';
		assert_int_equal(probe_devices_lock(devices, &error), -EBUSY);
		assert_non_null(strstr(error.text, text));
		if (i % 5 == 0)
			agent_tick(&agent, &report);
	}
	agent_end(&agent);
	assert_int_equal(probe_devices_lock(devices, &error), 0);
	assert_int_equal(probe_lock_take(&error), -EBUSY);
	probe_devices_free(devices);
	assert_int_equal(close(probe_lock_take(&error)), 0);
}

/* Anybody may take an abstract name; only root's, or our own user's, is a reason not to start. */
static void test_squatters(void **state)
{
	static const struct { uid_t uid; int type; bool listens; int expected; const char *words; } rows[] = {
		{ 12345, SOCK_STREAM, true, -EADDRINUSE, "user 12345" },
		{ 12345, SOCK_STREAM, false, -EADDRINUSE, "does not say" },
		{ 12345, SOCK_DGRAM, false, 0, "" }, /* names of datagram sockets are others */
		{ 0, SOCK_STREAM, true, -EBUSY, "PID" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct probe_devices *devices;
		struct error error = { "" };
		pid_t pid;
		int taken;

		fresh_namespace();
		pid = fork_squatter(rows[i].uid, rows[i].type, rows[i].listens);
		taken = probe_lock_take(&error);
		assert_int_equal(taken < 0 ? taken : 0, rows[i].expected);
		if (taken >= 0)
			close(taken);
		assert_non_null(strstr(error.text, rows[i].words));
		devices = new_devices(NULL, PROBE_ATTACH_AUTO);
		assert_int_equal(probe_devices_lock(devices, &error), rows[i].expected == -EBUSY ? -EBUSY : 0);
		probe_devices_free(devices);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_same_interface),
		cmocka_unit_test(test_another_interface_of_the_name),
		cmocka_unit_test(test_without_new_links),
		cmocka_unit_test(test_an_interface_that_comes_later),
		cmocka_unit_test(test_another_namespace),
		cmocka_unit_test(test_lost_changes),
		cmocka_unit_test(test_detached_by_somebody),
		cmocka_unit_test(test_killed_at_any_moment),
		cmocka_unit_test(test_lock),
		cmocka_unit_test(test_squatters),
	};

	return cmocka_run_group_tests_name("devices_life", tests, set_up, tear_down);
}
