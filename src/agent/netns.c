/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NAMED_DIRECTORY "/run/netns" /* ip-netns(8) */
#define LINKS_MAX 8

struct netns {
	char label[NETNS_LABEL_MAX];
	char file[NAME_MAX + 1]; /* within directory */
	int directory, fd, process; /* fd: until netns_run; process: -1 when it hangs on none */
	struct stat identity;
};

/* The process of /proc/PID/..., or 0. */
static pid_t process_of(const char *path)
{
	long pid;
	char *end;

	if (strncmp(path, "/proc/", 6) || path[6] < '1' || path[6] > '9')
		return 0;
	errno = 0;
	pid = strtol(path + 6, &end, 10);
	return *end == '/' && !errno && pid <= INT_MAX ? (pid_t)pid : 0;
}

static void make_label(const char *path, char ret_label[static NETNS_LABEL_MAX])
{
	static const char suffix[] = "/ns/net";
	size_t len = strlen(path);
	const char *end = path + len, *start;

	if (!strncmp(path, "/proc/", 6) && len > sizeof(suffix) && !strcmp(end - strlen(suffix), suffix))
		end -= strlen(suffix);
	for (start = end; start > path && start[-1] != '/';)
		start--;
	snprintf(ret_label, NETNS_LABEL_MAX, "%.*s", (int)(end - start), start);
}

/* Follows links by name, for they may lead to a process: "ln -s /proc/PID/ns/net" is common. 0: they lead to none. */
static pid_t process_behind(const char *path)
{
	char at[PATH_MAX], target[PATH_MAX];

	snprintf(at, sizeof(at), "%s", path);
	for (int i = 0; i < LINKS_MAX && !process_of(at); i++) {
		ssize_t len = readlink(at, target, sizeof(target) - 1);
		char *slash = strrchr(at, '/');
		size_t room;

		if (len <= 0)
			return 0;
		target[len] = '\0';
		if (target[0] == '/' || !slash)
			slash = at;
		else
			slash++;
		room = sizeof(at) - (size_t)(slash - at);
		if ((size_t)len >= room)
			return 0;
		memcpy(slash, target, (size_t)len + 1);
	}
	return process_of(at);
}

/* The process first: if it still lives after the file was opened, the file was its. */
static int open_file(struct netns *n, const char *path)
{
	pid_t pid = process_behind(path);
	struct pollfd ended;

	if (pid) {
		n->process = (int)syscall(SYS_pidfd_open, pid, 0);
		if (n->process < 0)
			return -errno;
	}
	n->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (n->fd < 0 || fstat(n->fd, &n->identity))
		return -errno;
	ended = (struct pollfd){ .fd = n->process, .events = POLLIN };
	return pid && poll(&ended, 1, 0) ? -ESRCH : 0;
}

static int open_path(struct netns *n, const char *path)
{
	const char *slash = strrchr(path, '/');
	char directory[PATH_MAX];
	int r;

	if ((size_t)(slash - path) >= sizeof(directory) || !slash[1] || strlen(slash + 1) > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(directory, path, (size_t)(slash - path));
	directory[slash - path] = '\0';
	strcpy(n->file, slash + 1);
	make_label(path, n->label);
	r = open_file(n, path);
	if (r < 0)
		return r;
	n->directory = open(slash == path ? "/" : directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return n->directory < 0 ? -errno : 0;
}

int netns_open(const char *name, struct netns **ret_netns, struct error *ret_error)
{
	struct netns *n = calloc(1, sizeof(*n));
	char path[PATH_MAX];
	int r;

	if (!n)
		return -ENOMEM;
	n->directory = n->fd = n->process = -1;
	if (strchr(name, '/'))
		r = snprintf(path, sizeof(path), "%s", name);
	else
		r = snprintf(path, sizeof(path), NAMED_DIRECTORY "/%s", name);
	r = (size_t)r >= sizeof(path) ? -ENAMETOOLONG : open_path(n, path);
	if (r < 0) {
		netns_close(n);
		return r == -ENOENT ? error_set(ret_error, r, "%s does not exist", path) :
				      error_set_errno(ret_error, r, "cannot open %s", path);
	}
	*ret_netns = n;
	return 0;
}

void netns_close(struct netns *netns)
{
	if (!netns)
		return;
	if (netns->directory >= 0)
		close(netns->directory);
	if (netns->fd >= 0)
		close(netns->fd);
	if (netns->process >= 0)
		close(netns->process);
	free(netns);
}

struct visit {
	int fd, result;
	int (*fn)(void *userdata);
	void *userdata;
};

static void *visit(void *arg)
{
	struct visit *v = arg;

	v->result = setns(v->fd, CLONE_NEWNET) ? -errno : v->fn(v->userdata);
	return NULL;
}

int netns_run(struct netns *netns, int (*fn)(void *userdata), void *userdata)
{
	/* Only a thread moves, and it ends there: no way back that could fail. */
	struct visit v = { .fd = netns->fd, .fn = fn, .userdata = userdata };
	pthread_t thread;
	int r = pthread_create(&thread, NULL, visit, &v);

	if (r)
		return -r;
	pthread_join(thread, NULL);
	/* It would keep the namespace alive. */
	close(netns->fd);
	netns->fd = -1;
	return v.result;
}

const char *netns_label(const struct netns *netns)
{
	return netns->label;
}

uint32_t netns_inode(const struct netns *netns)
{
	return (uint32_t)netns->identity.st_ino;
}

const char *netns_gone(const struct netns *netns)
{
	struct pollfd ended = { .fd = netns->process, .events = POLLIN };
	struct stat now;

	if (netns->process >= 0 && poll(&ended, 1, 0))
		return "its process has ended";
	if (!fstatat(netns->directory, netns->file, &now, 0))
		return now.st_dev == netns->identity.st_dev && now.st_ino == netns->identity.st_ino ?
		       NULL : "its name now stands for another namespace";
	if (errno != EACCES && errno != EPERM)
		return "it was deleted";
	return netns->process >= 0 ? NULL : "without privileges the agent may not look whether it still exists";
}

uint32_t netns_own_inode(void)
{
	struct stat own;

	return stat("/proc/thread-self/ns/net", &own) ? 0 : (uint32_t)own.st_ino;
}

uint32_t netns_scope(const struct settings *settings)
{
	return settings->collect.scope == SETTINGS_SCOPE_NAMESPACE ? netns_own_inode() : 0;
}
