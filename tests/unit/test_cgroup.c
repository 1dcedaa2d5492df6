/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Container names from cgroup paths: each manager and driver as it writes them,
 * what only looks like one, and bytes that mean harm. Opening the root of the
 * hierarchy needs root: with a mounted one that is chosen over a part of it, and
 * with none at all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/cgroup.h"

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define POD "pod6a1b2c3d-0000-4000-8000-123456789abc"
#define PODU "pod6a1b2c3d_0000_4000_8000_123456789abc"

static void test_containers(void **unused)
{
	static const struct { const char *path, *name; } cases[] = {
		{ "/docker/" ID, "docker:0123456789ab" },
		{ "/system.slice/docker-" ID ".scope", "docker:0123456789ab" },
		{ "/system.slice/docker-" ID ".scope/init.scope", "docker:0123456789ab" },
		{ "/kubepods/burstable/" POD "/" ID, "kubernetes:0123456789ab" },
		{ "/kubepods/" POD "/" ID "/child", "kubernetes:0123456789ab" },
		{ "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-" PODU ".slice/cri-containerd-" ID ".scope", "containerd:0123456789ab" },
		{ "/kubepods.slice/kubepods-" PODU ".slice/crio-" ID ".scope/container", "crio:0123456789ab" },
		{ "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-" PODU ".slice/docker-" ID ".scope", "docker:0123456789ab" },
		{ "/kubepods-burstable-" PODU ".slice:cri-containerd:" ID, "containerd:0123456789ab" },
		{ "/system.slice/containerd.service/kubepods-burstable-" PODU ".slice:cri-containerd:" ID, "containerd:0123456789ab" },
		{ "/kubepods/besteffort/" POD "/crio-" ID, "crio:0123456789ab" },
		{ "/machine.slice/libpod-" ID ".scope", "podman:0123456789ab" },
		{ "/machine.slice/libpod-" ID ".scope/container", "podman:0123456789ab" },
		{ "/libpod_parent/libpod-" ID, "podman:0123456789ab" },
		{ "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" ID ".scope/container", "podman:0123456789ab" },
		{ "/system.slice/nerdctl-" ID ".scope", "nerdctl:0123456789ab" },
		{ "/default/" ID, "container:0123456789ab" },
		{ "/ecs/0123/" ID, "container:0123456789ab" },
		{ "/lxc/web", "lxc:web" },
		{ "/lxc/web/system.slice/nginx.service", "lxc:web" },
		{ "/lxc.payload.web/init.scope", "lxc:web" },
		{ "/lxc.payload/web", "lxc:web" },
		{ "/lxc.payload.project_web-1/system.slice", "lxc:project_web-1" },
		{ "/machine.slice/machine-web.scope/payload", "nspawn:web" },
		{ "/machine.slice/machine-my\\x2dweb.scope", "nspawn:my-web" },
		{ "/machine.slice/systemd-nspawn@web.service/payload/init.scope", "nspawn:web" },
		{ "docker/" ID, "docker:0123456789ab" },
		{ "//docker//" ID "//", "docker:0123456789ab" },
		{ "/../../docker/" ID, "docker:0123456789ab" },
		/* The host's name wins over what a container calls its own groups. */
		{ "/lxc/web/docker/" ID, "lxc:web" },
		{ "/docker/" ID "/lxc/other", "docker:0123456789ab" },
	};
	char name[CONTAINER_NAME_MAX];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memset(name, 'x', sizeof(name));
		assert_ptr_equal(cgroup_container(cases[i].path, name), name);
		if (strcmp(name, cases[i].name))
			fail_msg("%s: \"%s\", not \"%s\"", cases[i].path, name, cases[i].name);
	}
}

static void test_no_containers(void **unused)
{
	static const char *const paths[] = {
		"", "/", "///", "..", "/init.scope", "/system.slice/docker.service", "/system.slice/containerd.service",
		"/user.slice/user-1000.slice/session-2.scope", "/lxc", "/lxc/", "/lxc.payload", "/lxc.payload.", "/lxc.monitor.web",
		"/kubepods", "/kubepods/burstable/" POD, "/docker", "/docker/0123456789ab",
		"/docker/" ID "0", "/docker/0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
		"/system.slice/docker-" ID ".service", "/system.slice/docker" ID ".scope", "/machine.slice", "/machine-web.scope",
		"/machine.slice/machine-.scope", "/machine.slice/machine-qemu\\x2d1\\x2dguest.scope/libvirt", "/machine.slice/machine-web",
		/* Their monitors are processes of the host. */
		"/machine.slice/libpod-conmon-" ID ".scope", "/kubepods.slice/crio-conmon-" ID ".scope",
		"/system.slice/systemd-nspawn@.service", ".scope", "/.scope", "-.scope",
	};
	char name[CONTAINER_NAME_MAX];

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		if (*cgroup_container(paths[i], name))
			fail_msg("\"%s\" is no container, but was called \"%s\"", paths[i], name);
}

static void test_hostile(void **unused)
{
	char name[CONTAINER_NAME_MAX], path[20000];

	assert_string_equal(cgroup_container("/lxc/a\n\x1b[31m\"b\\\xff\xc3\xa4 c", name), "lxc:a??[31m?b????" "?c");
	/* An escape may not bring back what would be refused as such, nor be cut short. */
	assert_string_equal(cgroup_container("/lxc/\\x0a\\x1b\\x5c\\x41\\x4\\x\\xzz", name), "lxc:???A?x4?x?xzz");
	assert_string_equal(cgroup_container("/system.slice/\x01\x02-" ID ".scope", name), "container:0123456789ab");
	assert_string_equal(cgroup_container("/a-very-long-word-that-is-no-runtime-" ID ".scope", name), "container:0123456789ab");
	assert_string_equal(cgroup_container("/-" ID ".scope", name), "container:0123456789ab");

	memset(path, 'y', sizeof(path));
	memcpy(path, "/lxc/", 5);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(strlen(cgroup_container(path, name)), CONTAINER_NAME_MAX - 1);
	memset(path, '/', sizeof(path) - 1);
	assert_string_equal(cgroup_container(path, name), "");
	for (size_t i = 0; i + 2 < sizeof(path); i += 2)
		memcpy(path + i, "a/", 2);
	assert_string_equal(cgroup_container(path, name), "");
}

/* In a child with mounts of its own; its exit status says where it failed. */
static void in_child(int (*body)(void))
{
	int status;
	pid_t pid;

	if (geteuid()) {
		print_message("skipped: mounting needs root\n");
		skip();
	}
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
			_exit(77);
		_exit(body());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		print_message("skipped: no permission for mounts\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* Only the root of the hierarchy, seen from the root cgroup namespace, has no cgroup.type. */
static int is_root(int fd)
{
	return fd >= 0 && !faccessat(fd, "cgroup.procs", F_OK, 0) && faccessat(fd, "cgroup.type", F_OK, 0) && errno == ENOENT;
}

static int without_a_mount(void)
{
	struct error error = { "" };
	int fd;

	/* Empty and on top of whatever the host has there; then nothing that is mounted is a hierarchy. */
	if (mount("none", "/sys", "tmpfs", 0, NULL))
		return 77;
	fd = cgroup_root_open(&error);
	if (fd < 0)
		fprintf(stderr, "# %s\n", error.text);
	return is_root(fd) ? 0 : 1;
}

static int with_a_part_and_the_whole(void)
{
	char whole[] = "/tmp/netsonde-whole 1-XXXXXX", part[64], group[64];
	struct error error = { "" };
	struct stat expected, got;
	int fd, r = 1;

	if (mount("none", "/sys", "tmpfs", 0, NULL) || !mkdtemp(whole))
		return 77;
	if (mount("cgroup2", whole, "cgroup2", 0, NULL)) {
		rmdir(whole);
		return 77;
	}
	snprintf(group, sizeof(group), "%s/netsonde-test-%d", whole, (int)getpid());
	snprintf(part, sizeof(part), "/sys/fs");
	if (mkdir(group, 0755) || mkdir(part, 0755) || mkdir("/sys/fs/cgroup", 0755) ||
	    mount(group, "/sys/fs/cgroup", NULL, MS_BIND, NULL)) {
		r = 2;
	} else {
		fd = cgroup_root_open(&error);
		if (fd >= 0 && is_root(fd) && !fstat(fd, &got) && !stat(whole, &expected) && got.st_dev == expected.st_dev &&
		    got.st_ino == expected.st_ino)
			r = 0;
		close(fd);
		umount("/sys/fs/cgroup");
	}
	rmdir(group);
	umount(whole);
	rmdir(whole);
	return r;
}

static void test_root_without_a_mount(void **unused)
{
	in_child(without_a_mount);
}

static void test_root_is_the_whole_hierarchy(void **unused)
{
	in_child(with_a_part_and_the_whole);
}

static bool join(const char *group)
{
	char path[96];
	int fd;
	bool joined;

	snprintf(path, sizeof(path), "%s/cgroup.procs", group);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	joined = fd >= 0 && write(fd, "0", 1) == 1;
	close(fd);
	return joined;
}

/* In a cgroup namespace of our own, as in a container: there the root "/" of a mount is the container's part of the hierarchy, and
 * the whole, where the host lent it, has the root "/..". */
static int roots_in_a_namespace(const char *whole)
{
	struct error error = { "" };
	int fd, r = 0;

	if (mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL))
		return 3;
	fd = cgroup_root_open(&error); /* `whole` is mounted too */
	if (!is_root(fd))
		r = 4;
	close(fd);
	umount2(whole, MNT_DETACH);
	fd = cgroup_root_open(&error);
	if (fd >= 0 || !strstr(error.text, "cgroup namespace"))
		r = r ? r : 5;
	return r;
}

static int in_a_cgroup_namespace(void)
{
	char whole[] = "/tmp/netsonde-whole-XXXXXX", group[64];
	int r = 77, status;
	pid_t pid;

	if (mount("none", "/sys", "tmpfs", 0, NULL) || mkdir("/sys/fs", 0755) || mkdir("/sys/fs/cgroup", 0755) || !mkdtemp(whole))
		return 77;
	snprintf(group, sizeof(group), "%s/netsonde-test-%d", whole, (int)getpid());
	if (!mount("cgroup2", whole, "cgroup2", 0, NULL) && !mkdir(group, 0755)) {
		pid = fork();
		if (!pid) {
			if (!join(group) || unshare(CLONE_NEWCGROUP | CLONE_NEWNS))
				_exit(77);
			_exit(roots_in_a_namespace(whole));
		}
		r = waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 6;
		rmdir(group);
	}
	umount(whole);
	rmdir(whole);
	return r;
}

static void test_root_in_a_cgroup_namespace(void **unused)
{
	in_child(in_a_cgroup_namespace);
}

static int unprivileged(void)
{
	struct error error = { "" };
	int fd;

	if (mount("none", "/sys", "tmpfs", 0, NULL) || setuid(65534))
		return 77;
	fd = cgroup_root_open(&error);
	return fd == -EPERM && strstr(error.text, "CAP_SYS_ADMIN") ? 0 : 1;
}

static void test_root_without_permission(void **unused)
{
	in_child(unprivileged);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_containers),
		cmocka_unit_test(test_no_containers),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_root_without_a_mount),
		cmocka_unit_test(test_root_is_the_whole_hierarchy),
		cmocka_unit_test(test_root_in_a_cgroup_namespace),
		cmocka_unit_test(test_root_without_permission),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
