/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "lab/host.h"

/* Covered only while files are copied, in a mount namespace that nobody else sees. It exists on every system. */
#define WORKSHOP "/tmp"
#define NAME_MAX_BYTES 32

static const int clone_flags[HOST_NAMESPACES] = { CLONE_NEWNET, CLONE_NEWUTS, CLONE_NEWNS };
static const char *const namespace_files[HOST_NAMESPACES] = { "net", "uts", "mnt" };

struct host { char name[NAME_MAX_BYTES]; int namespaces[HOST_NAMESPACES]; };

/* What a child says to its parent: the result, then the sentence. */
struct verdict { int r; struct error error; };

static void die_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
}

static void say(int fd, const struct verdict *verdict)
{
	ssize_t n = write(fd, verdict, sizeof(*verdict)); /* below PIPE_BUF: all or nothing */
	if (n != (ssize_t)sizeof(*verdict))
		_exit(1);
}

static int hear(int fd, struct error *ret_error)
{
	struct verdict verdict;
	ssize_t n;
	do
		n = read(fd, &verdict, sizeof(verdict));
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(verdict))
		return error_set(ret_error, -EPIPE, "a child ended without a word");
	verdict.error.text[sizeof(verdict.error.text) - 1] = '\0';
	return verdict.r < 0 ? error_set(ret_error, verdict.r, "%s", verdict.error.text) : 0;
}

static int file_write(const char *path, const char *text, struct error *error)
{
	size_t len = strlen(text);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	ssize_t n = fd < 0 ? -1 : write(fd, text, len);
	int r = n == (ssize_t)len ? 0 : error_set_errno(error, n < 0 ? -errno : -EIO, "cannot write %s", path);
	if (fd >= 0)
		close(fd);
	return r;
}

static int files_place(const struct host_file *files, size_t n, struct error *error)
{
	int r = 0;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("tmpfs", WORKSHOP, "tmpfs", 0, "mode=755") < 0)
		return error_set_errno(error, -errno, "cannot set up a mount namespace");
	for (size_t i = 0; !r && i < n; i++) {
		char copy[64];
		snprintf(copy, sizeof(copy), WORKSHOP "/%zu", i);
		r = file_write(copy, files[i].text, error);
		if (!r && mount(copy, files[i].path, NULL, MS_BIND, NULL) < 0)
			r = error_set_errno(error, -errno, "cannot put a file in place of %s", files[i].path);
	}
	umount2(WORKSHOP, MNT_DETACH); /* the mounts of the files keep what they need */
	return r;
}

static int loopback_up(struct error *error)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r = fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 ?
		error_set_errno(error, -errno, "cannot bring up the loopback device") : 0;
	if (fd >= 0)
		close(fd);
	return r;
}

static int furnish(const char *name, const struct host_file *files, size_t n_files, struct error *error)
{
	int flags = CLONE_NEWNET;
	for (int i = 0; files && i < HOST_NAMESPACES; i++)
		flags |= clone_flags[i];
	if (unshare(flags) < 0)
		return error_set_errno(error, -errno, "cannot make namespaces");
	int r = loopback_up(error);
	if (!r && files && sethostname(name, strlen(name)) < 0)
		r = error_set_errno(error, -errno, "cannot set the host name");
	if (!r && files)
		r = files_place(files, n_files, error);
	return r;
}

static int namespaces_open(struct host *host, pid_t pid, bool all, struct error *error)
{
	for (int i = 0; i < (all ? HOST_NAMESPACES : 1); i++) {
		char path[64];
		snprintf(path, sizeof(path), "/proc/%ld/ns/%s", (long)pid, namespace_files[i]);
		host->namespaces[i] = open(path, O_RDONLY | O_CLOEXEC);
		if (host->namespaces[i] < 0)
			return error_set_errno(error, -errno, "cannot open %s", path);
	}
	return 0;
}

int host_open(const char *name, const struct host_file *files, size_t n_files, struct host **ret_host,
	      struct error *ret_error)
{
	struct host *host = calloc(1, sizeof(*host));
	int answer[2] = { -1, -1 }, hold[2] = { -1, -1 };
	pid_t parent = getpid(), pid = -1;
	if (!host)
		return error_set(ret_error, -ENOMEM, "out of memory");
	for (int i = 0; i < HOST_NAMESPACES; i++)
		host->namespaces[i] = -1;
	snprintf(host->name, sizeof(host->name), "%s", name);
	if (!pipe2(answer, O_CLOEXEC) && !pipe2(hold, O_CLOEXEC))
		pid = fork();
	if (!pid) {
		struct verdict verdict = { 0 };
		char byte;
		die_with(parent);
		close(hold[1]);
		verdict.r = furnish(name, files, n_files, &verdict.error);
		say(answer[1], &verdict);
		/* Until the parent holds the namespaces. */
		_exit(read(hold[0], &byte, 1) != 0);
	}
	int r = pid < 0 ? error_set_errno(ret_error, -errno, "cannot start a process") : 0;
	if (answer[1] >= 0)
		close(answer[1]);
	if (!r)
		r = hear(answer[0], ret_error);
	if (!r)
		r = namespaces_open(host, pid, files != NULL, ret_error);
	const int fds[] = { answer[0], hold[0], hold[1] };
	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	if (r < 0) {
		host_close(host);
		return r;
	}
	*ret_host = host;
	return 0;
}

void host_close(struct host *host)
{
	if (!host)
		return;
	for (int i = 0; i < HOST_NAMESPACES; i++)
		if (host->namespaces[i] >= 0)
			close(host->namespaces[i]);
	free(host);
}

const char *host_name(const struct host *host)
{
	return host->name;
}

int host_namespace(const struct host *host, enum host_namespace namespace)
{
	return host->namespaces[namespace];
}

int host_socket(struct host *host, int family, int type)
{
	int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), fd = -1;
	if (here < 0)
		return -errno;
	int r = setns(host->namespaces[HOST_NET], CLONE_NEWNET) < 0 ? -errno : 0;
	if (!r) {
		fd = socket(family, type | SOCK_CLOEXEC, 0);
		r = fd < 0 ? -errno : fd;
		/* A process in the wrong network must not go on, and the way back can only fail by our own mistake. */
		if (setns(here, CLONE_NEWNET) < 0)
			abort();
	}
	close(here);
	return r;
}

int host_enter(const int namespaces[static HOST_NAMESPACES])
{
	for (int i = 0; i < HOST_NAMESPACES; i++)
		if (namespaces[i] >= 0 && setns(namespaces[i], clone_flags[i]) < 0)
			return -errno;
	return 0;
}

int host_run(struct host *host, host_fn fn, void *argument, struct error *ret_error)
{
	int answer[2];
	pid_t parent = getpid(), pid;
	if (pipe2(answer, O_CLOEXEC) < 0)
		return error_set_errno(ret_error, -errno, "cannot make a pipe");
	pid = fork();
	if (!pid) {
		struct verdict verdict = { 0 };
		die_with(parent);
		verdict.r = host_enter(host->namespaces);
		if (verdict.r < 0)
			error_set_errno(&verdict.error, verdict.r, "cannot enter %s", host->name);
		else
			verdict.r = fn(host, argument, &verdict.error);
		say(answer[1], &verdict);
		_exit(0);
	}
	close(answer[1]);
	int r = pid < 0 ? error_set_errno(ret_error, -errno, "cannot start a process") : hear(answer[0], ret_error);
	close(answer[0]);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return r;
}

static void standard_fd(int number, int fd)
{
	int null = fd < 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
	if (dup2(fd < 0 ? null : fd, number) < 0)
		_exit(1);
	if (null >= 0)
		close(null);
}

/* All descriptors but the standard ones and one: they would keep the namespaces of the other hosts alive. */
static void close_others(int keep)
{
	if (keep > STDERR_FILENO + 1)
		syscall(SYS_close_range, STDERR_FILENO + 1, keep - 1, 0);
	syscall(SYS_close_range, (keep > STDERR_FILENO ? keep : STDERR_FILENO) + 1, UINT32_MAX, 0);
}

static void child(struct host *host, const struct host_process *process, pid_t parent)
{
	struct error error = { 0 };
	int r = 0;
	die_with(parent);
	setpgid(0, 0); /* Ctrl-C goes to the lab alone */
	if (process->title)
		prctl(PR_SET_NAME, process->title);
	if (host)
		r = host_enter(host->namespaces);
	if (r < 0)
		error_set_errno(&error, r, "cannot enter %s", host->name);
	standard_fd(STDIN_FILENO, process->input);
	standard_fd(STDOUT_FILENO, process->output);
	close_others(process->keep);
	if (!r)
		r = process->fn(host, process->argument, &error);
	if (r < 0)
		fprintf(stderr, "netsonde lab: %s: %s\n", process->title ? process->title : "a child", error.text);
	fflush(NULL);
	_exit(r < 0);
}

pid_t host_start(struct host *host, const struct host_process *process)
{
	pid_t parent = getpid(), pid;
	sigset_t all, before, none;
	/* No signal may meet our handlers in the child: they would write into our own loop. */
	sigfillset(&all);
	sigemptyset(&none);
	fflush(NULL);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (!pid) {
		for (int i = 1; i < NSIG; i++)
			signal(i, SIG_DFL);
		signal(SIGPIPE, SIG_IGN);
		sigprocmask(SIG_SETMASK, &none, NULL);
		child(host, process, parent);
	}
	int r = pid < 0 ? -errno : pid;
	sigprocmask(SIG_SETMASK, &before, NULL);
	return r;
}
