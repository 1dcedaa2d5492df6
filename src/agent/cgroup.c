/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Container managers give each container a cgroup whose name tells what it is,
 * by one of two drivers: systemd (RUNTIME-<64 hex>.scope in some slice) or
 * cgroupfs (a directory <64 hex> below one of the runtime's). LXC, LXD and
 * systemd-nspawn use the container's own name.
 *
 * The outermost container of a path is the one that is named: the host gave that
 * name, while what lies below may have been made by the container itself, which
 * must not pose as another. Names go into labels and terminals, so only printable
 * ASCII is kept.
 *
 * Sources: cgroups(7), systemd.unit(5) and systemd-nspawn(1) for names and their
 * escapes, the kernel's Documentation/admin-guide/cgroup-v2.rst, proc(5) for mountinfo.
 */
#include "agent/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define CGROUP2_MAGIC 0x63677270
#define ID_LEN 64       /* hex digits of a container id, everywhere */
#define ID_SHOWN 12     /* of them, as the container tools do */
#define RUNTIME_MAX 24

/* linux/mount.h and glibc's sys/mount.h exclude each other; the numbers are the same on all architectures. */
#ifndef SYS_fsopen
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#endif
#define FSOPEN_CLOEXEC 1u
#define FSCONFIG_CMD_CREATE 6u
#define FSMOUNT_CLOEXEC 1u

/* The root directory of the hierarchy, or -errno; -EXDEV: it is only a part of it. */
static int open_hierarchy(int at, const char *path)
{
	int r = 0, fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct statfs stat;

	if (fd < 0)
		return -errno;
	/* Something else may be mounted over it. */
	if (fstatfs(fd, &stat) || stat.f_type != CGROUP2_MAGIC)
		r = -ENOENT;
	else if (!faccessat(fd, "cgroup.type", F_OK, 0)) /* all have it but the root */
		r = -EXDEV;
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

/* Spaces and the like are three octal digits behind a backslash. In place. */
static void unescape_mountinfo(char *text)
{
	char *to = text;

	for (const char *from = text; *from; to++) {
		if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' && from[2] <= '7' && from[3] >= '0' &&
		    from[3] <= '7') {
			*to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

/* The mount point when the line is of a cgroup2 hierarchy, or a part of it (ROOT is no help: it is as the cgroup namespace has
 * it): "ID PARENT MAJ:MIN ROOT POINT OPTIONS ... - TYPE SOURCE OPTIONS". */
static char *hierarchy_of_line(char *line)
{
	char *fields[5], *next = line, *type = strstr(line, " - ");

	if (!type || strncmp(type, " - cgroup2 ", 11))
		return NULL;
	for (size_t i = 0; i < 5; i++) {
		fields[i] = strsep(&next, " ");
		if (!next)
			return NULL;
	}
	unescape_mountinfo(fields[4]);
	return fields[4];
}

/* The best of what is mounted: where systemd has it on unified, then on hybrid hosts, then anywhere. -ENOENT: none. */
static int open_mounted(void)
{
	static const char *const usual[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
	size_t best = SIZE_MAX, size = 0;
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	int fd = -ENOENT;

	if (!mounts)
		return -errno;
	while (best && getline(&line, &size, mounts) >= 0) {
		const char *point = hierarchy_of_line(line);
		size_t rank = 0;
		int candidate;

		while (point && rank < 2 && strcmp(point, usual[rank]))
			rank++;
		if (!point || rank >= best)
			continue;
		candidate = open_hierarchy(AT_FDCWD, point);
		if (candidate < 0)
			continue;
		if (fd >= 0)
			close(fd);
		fd = candidate;
		best = rank;
	}
	free(line);
	fclose(mounts);
	return fd;
}

/* A mount that is in no namespace: it goes away with the descriptor, also when the agent is killed. */
static int open_detached(void)
{
	int fd, mount, context = (int)syscall(SYS_fsopen, "cgroup2", FSOPEN_CLOEXEC);

	if (context < 0)
		return -errno;
	mount = syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) ?
			-1 : (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
	fd = mount < 0 ? -errno : open_hierarchy(mount, ".");
	if (mount >= 0)
		close(mount);
	close(context);
	return fd;
}

int cgroup_root_open(struct error *ret_error)
{
	int fd = open_mounted();

	if (fd >= 0)
		return fd;
	fd = open_detached();
	if (fd >= 0)
		return fd;
	if (fd == -EPERM)
		return error_set(ret_error, fd, "no cgroup2 hierarchy is mounted, and there is no permission to open it without; mount it at /sys/fs/cgroup, or run with CAP_SYS_ADMIN");
	if (fd == -EXDEV)
		return error_set(ret_error, fd, "this is a cgroup namespace (a container's), which shows only a part of the hierarchy; run in the host's, or mount the host's hierarchy here");
	if (fd == -ENODEV || fd == -ENOSYS)
		return error_set(ret_error, fd, "this kernel has no cgroup2 hierarchy");
	return error_set_errno(ret_error, fd, "no cgroup2 hierarchy is mounted, and it cannot be opened without");
}

/* A part of a path, not terminated. */
struct span {
	const char *at;
	size_t len;
};

static bool span_is(struct span s, const char *text)
{
	return s.len == strlen(text) && !memcmp(s.at, text, s.len);
}

static bool span_begins(struct span s, const char *text)
{
	size_t len = strlen(text);

	return s.len >= len && !memcmp(s.at, text, len);
}

static bool span_ends(struct span s, const char *text)
{
	size_t len = strlen(text);

	return s.len >= len && !memcmp(s.at + s.len - len, text, len);
}

static struct span span_cut(struct span s, size_t front, size_t back)
{
	return (struct span){ s.at + front, s.len - front - back };
}

static bool is_id(struct span s)
{
	if (s.len != ID_LEN)
		return false;
	for (size_t i = 0; i < ID_LEN; i++)
		if (!(s.at[i] >= '0' && s.at[i] <= '9') && !(s.at[i] >= 'a' && s.at[i] <= 'f'))
			return false;
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "KIND:NAME", with systemd's escapes (\x2d) undone, cut to what there is room for. Returns that there is a name. */
static bool put_name(const char *kind, struct span name, char ret_name[static CONTAINER_NAME_MAX])
{
	size_t n = (size_t)snprintf(ret_name, CONTAINER_NAME_MAX, "%s:", kind);
	size_t start = n;

	for (size_t i = 0; i < name.len && n < CONTAINER_NAME_MAX - 1; i++) {
		char c = name.at[i];

		if (c == '\\' && i + 3 < name.len && name.at[i + 1] == 'x' && hex_digit(name.at[i + 2]) >= 0 &&
		    hex_digit(name.at[i + 3]) >= 0) {
			c = (char)(hex_digit(name.at[i + 2]) * 16 + hex_digit(name.at[i + 3]));
			i += 3;
		}
		ret_name[n++] = c > ' ' && c < 0x7f && c != '"' && c != '\\' ? c : '?';
	}
	ret_name[n] = '\0';
	return n > start;
}

/* What users call the program that is known by this word in cgroup names; NULL: not of a container. */
static const char *runtime_name(struct span word, char buf[static RUNTIME_MAX])
{
	static const struct { const char *word, *name; } known[] = {
		{ "cri-containerd", "containerd" },
		{ "libpod", "podman" },
		{ "libpod_parent", "podman" },
		/* The monitor beside a container, which is a process of the host. */
		{ "crio-conmon", NULL },
		{ "libpod-conmon", NULL },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (span_is(word, known[i].word))
			return known[i].name;
	if (!word.len || word.len >= RUNTIME_MAX)
		return "container";
	for (size_t i = 0; i < word.len; i++) {
		char c = word.at[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_')
			return "container";
		buf[i] = c;
	}
	buf[word.len] = '\0';
	return buf;
}

/* "RUNTIME-<id>.scope", "RUNTIME-<id>", "SLICE:RUNTIME:<id>", or "<id>" below the runtime's directory. 1: named, 0: no
 * container, -1: neither. */
static int name_by_id(struct span part, struct span parent, bool kubernetes, char ret_name[static CONTAINER_NAME_MAX])
{
	char buf[RUNTIME_MAX];
	struct span id, word = parent;
	const char *runtime;

	if (span_ends(part, ".scope"))
		part = span_cut(part, 0, 6);
	if (part.len < ID_LEN)
		return -1;
	id = span_cut(part, part.len - ID_LEN, 0);
	if (!is_id(id))
		return -1;
	if (part.len > ID_LEN) {
		char mark = part.at[part.len - ID_LEN - 1];
		const char *colon;

		if (mark != '-' && mark != ':')
			return -1;
		word = span_cut(part, 0, ID_LEN + 1);
		colon = mark == ':' ? memrchr(word.at, ':', word.len) : NULL;
		if (colon)
			word = span_cut(word, (size_t)(colon + 1 - word.at), 0);
	} else if (kubernetes) {
		word = (struct span){ "kubernetes", 10 }; /* the parent is the pod: which runtime it is, is not told */
	} else if (!span_is(parent, "docker") && !span_is(parent, "libpod_parent") && !span_is(parent, "buildkit")) {
		word = (struct span){ "container", 9 };
	}
	runtime = runtime_name(word, buf);
	return runtime && put_name(runtime, span_cut(id, 0, ID_LEN - ID_SHOWN), ret_name);
}

/* A virtual machine of libvirt, "qemu-NUMBER-NAME", is registered like a container. */
static bool is_virtual_machine(struct span name)
{
	return span_begins(name, "qemu\\x2d") && name.len > 8 && name.at[8] >= '0' && name.at[8] <= '9';
}

/* Containers that are known by a name. As name_by_id. */
static int name_by_name(struct span part, struct span parent, bool machines, char ret_name[static CONTAINER_NAME_MAX])
{
	if (span_is(parent, "lxc") || span_is(parent, "lxc.payload"))
		return put_name("lxc", part, ret_name);
	if (span_begins(part, "lxc.payload."))
		return put_name("lxc", span_cut(part, 12, 0), ret_name);
	if (span_begins(part, "systemd-nspawn@") && span_ends(part, ".service"))
		return put_name("nspawn", span_cut(part, 15, 8), ret_name);
	if (machines && span_begins(part, "machine-") && span_ends(part, ".scope")) {
		struct span name = span_cut(part, 8, 6);

		return is_virtual_machine(name) ? 0 : put_name("nspawn", name, ret_name);
	}
	return -1;
}

const char *cgroup_container(const char *path, char ret_name[static CONTAINER_NAME_MAX])
{
	struct span part, parent = { "", 0 };
	bool kubernetes = false, machines = false;

	for (;; parent = part) {
		int r;

		path += strspn(path, "/");
		part = (struct span){ path, strcspn(path, "/") };
		path += part.len;
		if (!part.len)
			break;
		r = name_by_id(part, parent, kubernetes, ret_name);
		if (r < 0)
			r = name_by_name(part, parent, machines, ret_name);
		if (r > 0)
			return ret_name;
		if (!r)
			break;
		kubernetes |= span_begins(part, "kubepods");
		machines |= span_is(part, "machine.slice");
	}
	ret_name[0] = '\0';
	return ret_name;
}
