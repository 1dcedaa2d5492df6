/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `netsonde lab exec`: asks the running lab for the namespaces of a host, over an abstract
 * unix socket (which is of the network namespace and ends with the lab), and goes there.
 *
 * Any user may bind or connect to such a name, so each side looks who the other is
 * (SO_PEERCRED): the lab gives nothing to others than root, and root takes nothing from others.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "cli/lab.h"

#define DOOR_NAME "netsonde-lab"
#define NAME_MAX_BYTES 64

static socklen_t door_address(struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(address->sun_path + 1, DOOR_NAME, strlen(DOOR_NAME)); /* a zero first: abstract */
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(DOOR_NAME));
}

static bool is_root(int fd)
{
	struct ucred peer = { 0 };
	socklen_t len = sizeof(peer);
	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) && peer.uid == 0;
}

/* A text, and the descriptors if there is a host. */
static void reply(int fd, const struct host *host, const char *text)
{
	union { struct cmsghdr align; char bytes[CMSG_SPACE(HOST_NAMESPACES * sizeof(int))]; } control = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text) + 1 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (host) {
		int fds[HOST_NAMESPACES];
		for (int i = 0; i < HOST_NAMESPACES; i++)
			fds[i] = host_namespace(host, (enum host_namespace)i);
		message.msg_control = control.bytes;
		message.msg_controllen = sizeof(control.bytes);
		struct cmsghdr *c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(fds));
		memcpy(CMSG_DATA(c), fds, sizeof(fds));
	}
	/* Whoever went away again needs no answer. */
	if (sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return;
}

/* The name is there when the connection is: the other side sends it before it knows whether it was accepted. One that
 * does not is not waited for. */
static void on_knock(struct loop_fd *watch, unsigned events, void *userdata)
{
	struct lab *lab = userdata;
	struct timeval limit = { .tv_usec = 200000 };
	char name[NAME_MAX_BYTES];
	struct error error = { "" };
	int fd = accept4(lab->door, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	ssize_t n = is_root(fd) ? recv(fd, name, sizeof(name) - 1, 0) : 0;
	if (n > 0) {
		name[n] = '\0';
		int i = topology_find(scenario_hosts, scenario_n_hosts, name, &error);
		if (!strcmp(name, "router"))
			reply(fd, topology_router(lab->topology), "");
		else
			reply(fd, i < 0 ? NULL : topology_host(lab->topology, (size_t)i), error.text);
	}
	close(fd);
}

int lab_door_open(struct lab *lab)
{
	struct sockaddr_un address;
	socklen_t len = door_address(&address);
	lab->door = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (lab->door < 0 || bind(lab->door, (const struct sockaddr *)&address, len) < 0 || listen(lab->door, 8) < 0)
		return -errno;
	return loop_fd_new(lab->loop, lab->door, LOOP_READABLE, on_knock, lab, &lab->door_watch);
}

void lab_door_done(struct lab *lab)
{
	loop_fd_free(lab->door_watch);
	if (lab->door >= 0)
		close(lab->door);
}

static int namespaces_receive(int fd, int ret_fds[static HOST_NAMESPACES], char *text, size_t size)
{
	union { struct cmsghdr align; char bytes[CMSG_SPACE(HOST_NAMESPACES * sizeof(int))]; } control;
	struct iovec iov = { .iov_base = text, .iov_len = size - 1 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
				  .msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	struct cmsghdr *c = n ? CMSG_FIRSTHDR(&message) : NULL;
	if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(HOST_NAMESPACES * sizeof(int)))
		return -ENOENT;
	memcpy(ret_fds, CMSG_DATA(c), HOST_NAMESPACES * sizeof(int));
	return 0;
}

static int namespaces_ask(const char *name, int ret_fds[static HOST_NAMESPACES], struct error *error)
{
	struct sockaddr_un address;
	socklen_t len = door_address(&address);
	char text[sizeof(error->text)] = "";
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int r = fd < 0 || connect(fd, (const struct sockaddr *)&address, len) < 0 ?
		error_set(error, -ENOENT, "no lab is running; `netsonde lab` starts one") : 0;
	if (!r && !is_root(fd))
		r = error_set(error, -EPERM, "somebody else than root pretends to be a lab");
	if (!r && send(fd, name, strlen(name), MSG_NOSIGNAL) < 0)
		r = error_set_errno(error, -errno, "the lab does not listen");
	if (!r && (r = namespaces_receive(fd, ret_fds, text, sizeof(text))) < 0)
		r = error_set(error, r, "%s", *text ? text : "the lab does not answer");
	if (fd >= 0)
		close(fd);
	return r;
}

/* `netsonde` in the host is this same program. */
static void path_extend(void)
{
	char self[4096], all[8192];
	const char *path = getenv("PATH");
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n <= 0)
		return;
	self[n] = '\0';
	char *slash = strrchr(self, '/');
	if (!slash)
		return;
	*slash = '\0';
	snprintf(all, sizeof(all), "%s:%s:/usr/sbin:/sbin", self, path ? path : "/usr/bin:/bin");
	setenv("PATH", all, 1);
}

int lab_enter(int argc, char **argv)
{
	int namespaces[HOST_NAMESPACES];
	const char *shell = getenv("SHELL");
	char *interactive[] = { (char *)(uintptr_t)(shell && *shell ? shell : "/bin/sh"), NULL };
	struct error error = { "" };
	if (argc < 1 || *argv[0] == '-') {
		fputs("netsonde lab: expected `netsonde lab exec HOST [COMMAND...]`\n", stderr);
		return 2;
	}
	if (geteuid() != 0) {
		fputs("netsonde lab: needs root to go into another network namespace\n", stderr);
		return 1;
	}
	char *here = getcwd(NULL, 0);
	int r = namespaces_ask(argv[0], namespaces, &error);
	if (!r && (r = host_enter(namespaces)) < 0)
		error_set_errno(&error, r, "cannot enter %s", argv[0]);
	/* Entering a mount namespace leads to its root; the host has the same files. */
	if (here && !r && chdir(here) < 0)
		fprintf(stderr, "netsonde lab: %s is not there in %s; going on in /\n", here, argv[0]);
	free(here);
	if (!r) {
		char **command = argc > 1 ? argv + 1 : interactive;
		path_extend();
		execvp(*command, command);
		r = error_set_errno(&error, -errno, "cannot run %s", *command);
	}
	fprintf(stderr, "netsonde lab: %s\n", error.text);
	return 1;
}
