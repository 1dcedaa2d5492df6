/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Probes by the system calls rather than through libbpf: it would search the symbols
 * of a library anew for each probe, in memory that is mapped from a file which others
 * may cut short, keep two descriptors for each, and does not know (in 1.1) links of
 * many probes. These, since Linux 6.6, matter at the end: the kernel waits a tenth
 * of a second whenever a link goes. Before, each probe is a perf event.
 */
#include "agent/lookup_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <netdb.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/elf_functions.h"
#include "agent/kbpf.h"
#include "lookup.skel.h"

#define UPROBE_DEVICE "/sys/bus/event_source/devices/uprobe/"
#define ANY_PROCESS (-1)
#define ATTACH_UPROBE_MULTI 48 /* BPF_TRACE_UPROBE_MULTI, since Linux 6.6 */
#define UPROBE_MULTI_RETURN 1u /* BPF_F_UPROBE_MULTI_RETURN */
#define URETPROBE_SYSCALL 335  /* x86-64, since Linux 6.11 */
#define CHILD_SECONDS 5

static const char *const functions[LOOKUP_FUNCTION_COUNT] = {
	[LOOKUP_GETADDRINFO] = "getaddrinfo",
	[LOOKUP_GETHOSTBYNAME] = "gethostbyname",
	[LOOKUP_GETHOSTBYNAME2] = "gethostbyname2",
	[LOOKUP_GETHOSTBYNAME_R] = "gethostbyname_r",
	[LOOKUP_GETHOSTBYNAME2_R] = "gethostbyname2_r",
};

struct lookup_program {
	struct lookup_bpf *skel;
	bool multi;
	int *links; /* owned descriptors */
	size_t n_links;
	unsigned event_type, return_bit; /* of the kernel's uprobe events; numbers that it gives out at boot */
};

static int read_number(const char *path, const char *format, unsigned *ret_number)
{
	FILE *file = fopen(path, "re");
	int r;

	if (!file)
		return -errno;
	r = fscanf(file, format, ret_number) == 1 ? 0 : -EBADMSG;
	fclose(file);
	return r;
}

static int load(bool multi, uint32_t only_netns, struct lookup_bpf **ret_skel)
{
	struct lookup_bpf *skel = lookup_bpf__open();
	struct bpf_program *p;
	int r;

	if (!skel)
		return -errno;
	bpf_object__for_each_program(p, skel->obj)
		bpf_program__set_expected_attach_type(p, multi ? ATTACH_UPROBE_MULTI : 0);
	skel->rodata->only_netns = only_netns;
	r = lookup_bpf__load(skel);
	if (r < 0) {
		lookup_bpf__destroy(skel);
		return r;
	}
	*ret_skel = skel;
	return 0;
}

/* Learns the numbers of the kernel's uprobe events. */
static bool has_events(struct lookup_program *p)
{
	return !read_number(UPROBE_DEVICE "type", "%u", &p->event_type) &&
	       !read_number(UPROBE_DEVICE "format/retprobe", "config:%u", &p->return_bit) && p->return_bit < 64;
}

int lookup_program_open(enum lookup_probes probes, uint32_t only_netns, struct lookup_program **ret_program, struct error *ret_error)
{
	struct lookup_program *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->multi = probes == LOOKUP_PROBES_MULTI;
	r = load(p->multi, only_netns, &p->skel);
	if (r == -EPERM)
		error_set(ret_error, r, "cannot load the lookup programs: no permission; run as root, or with CAP_BPF and CAP_PERFMON");
	else if (r < 0)
		error_set_errno(ret_error, r, "the kernel does not take the lookup programs (%s)", kbpf_last_warning());
	if (!r && !p->multi && !has_events(p))
		r = error_set(ret_error, -ENOENT, "there are no probes of functions here: the kernel has no uprobes, or sysfs is not mounted at /sys");
	if (r < 0) {
		lookup_program_close(p);
		return r;
	}
	*ret_program = p;
	return 0;
}

/* What is probed in one file. */
struct targets {
	const char *path;
	uint64_t offsets[LOOKUP_FUNCTION_COUNT], cookies[LOOKUP_FUNCTION_COUNT];
	unsigned n;
	pid_t process; /* or ANY_PROCESS */
};

static int program_fd(const struct lookup_program *p, bool at_return)
{
	return bpf_program__fd(at_return ? p->skel->progs.lookup_return : p->skel->progs.lookup_enter);
}

/* One link for all. Its descriptor, or -errno. */
static int link_multi(const struct lookup_program *p, const struct targets *t, bool at_return)
{
	/* Of union bpf_attr, which the headers that we are built with may have without it. */
	struct {
		uint32_t program, target, attach_type, flags;
		uint64_t path, offsets, counters, cookies;
		uint32_t n, multi_flags, process, reserved;
	} attr = {
		.program = (uint32_t)program_fd(p, at_return),
		.attach_type = ATTACH_UPROBE_MULTI,
		.path = (uintptr_t)t->path,
		.offsets = (uintptr_t)t->offsets,
		.cookies = (uintptr_t)t->cookies,
		.n = t->n,
		.multi_flags = at_return ? UPROBE_MULTI_RETURN : 0,
		.process = t->process == ANY_PROCESS ? 0 : (uint32_t)t->process,
	};
	int fd = (int)syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof(attr));

	_Static_assert(sizeof(attr) == 64, "as the kernel has it");
	return fd < 0 ? -errno : fd;
}

static int link_event(const struct lookup_program *p, const struct targets *t, unsigned which, bool at_return)
{
	struct perf_event_attr attr = { .type = p->event_type, .size = sizeof(attr) };
	struct bpf_link_create_opts options;
	int event, link;

	/* libbpf demands zeroes behind the last field, in the padding too. */
	memset(&options, 0, sizeof(options));
	options.sz = sizeof(options);
	options.perf_event.bpf_cookie = t->cookies[which];
	attr.config = (uint64_t)at_return << p->return_bit;
	attr.config1 = (uintptr_t)t->path;
	attr.config2 = t->offsets[which];
	event = (int)syscall(SYS_perf_event_open, &attr, t->process, t->process == ANY_PROCESS ? 0 : -1, -1,
			     PERF_FLAG_FD_CLOEXEC);
	if (event < 0)
		return -errno;
	link = bpf_link_create(program_fd(p, at_return), event, BPF_PERF_EVENT, &options);
	if (link >= 0 && ioctl(event, PERF_EVENT_IOC_ENABLE, 0) < 0) {
		int r = -errno;

		close(link);
		link = r;
	}
	close(event); /* the link has it */
	return link;
}

static void unlink_from(struct lookup_program *p, size_t first)
{
	while (p->n_links > first)
		close(p->links[--p->n_links]);
}

void lookup_program_close(struct lookup_program *program)
{
	if (!program)
		return;
	unlink_from(program, 0);
	free(program->links);
	lookup_bpf__destroy(program->skel);
	free(program);
}

/* All of them, or none. */
static int probe(struct lookup_program *p, const struct targets *t, bool at_return)
{
	unsigned n = p->multi ? 1 : t->n;
	size_t before = p->n_links;
	int *grown = realloc(p->links, (before + n) * sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	p->links = grown;
	for (unsigned i = 0; i < n; i++) {
		int link = p->multi ? link_multi(p, t, at_return) : link_event(p, t, i, at_return);

		if (link < 0) {
			unlink_from(p, before);
			return link;
		}
		p->links[p->n_links++] = link;
	}
	return 0;
}

int lookup_program_add(struct lookup_program *program, int fd)
{
	uint64_t offsets[LOOKUP_FUNCTION_COUNT];
	struct targets t = { .process = ANY_PROCESS };
	size_t before = program->n_links;
	int r = elf_functions_find(fd, functions, LOOKUP_FUNCTION_COUNT, offsets);
	char path[32];

	if (r <= 0)
		return r;
	for (unsigned i = 0; i < LOOKUP_FUNCTION_COUNT; i++) {
		t.offsets[t.n] = offsets[i];
		t.cookies[t.n] = i;
		t.n += offsets[i] != 0;
	}
	/* The very file that we have open, whatever its name is by now. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	t.path = path;
	/* The return first: an entry without one would look like a call that was abandoned. */
	r = probe(program, &t, true);
	if (!r)
		r = probe(program, &t, false);
	if (r < 0)
		unlink_from(program, before);
	return r < 0 ? r : (int)t.n;
}

/* The program of a container under a seccomp filter that knows no system call uretprobe. */
static void child(int go)
{
#if defined(__x86_64__)
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, URETPROBE_SYSCALL, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		_exit(2);
#endif
	struct addrinfo *result;
	char byte;

	alarm(CHILD_SECONDS);
	/* Without a name: nothing is looked up, but the function is called and returns. */
	if (read(go, &byte, 1) == 1 && getaddrinfo(NULL, NULL, NULL, &result) == EAI_NONAME)
		_exit(0);
	_exit(1);
}

static int child_status(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGALRM)
		return -EFAULT;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EIO;
}

/* On x86-64 the return of a probed function is a system call of its own since Linux 6.11, and until 6.13 (and the stable
 * releases of early 2025) a seccomp filter that refuses it kills the process: most containers would die. So it is tried
 * in a child first, and only there. */
int lookup_program_try(struct lookup_program *program, int fd, struct error *ret_error)
{
	struct targets t = { .n = 1 };
	int go[2], exited, r = elf_functions_find(fd, functions, 1, t.offsets);
	size_t before = program->n_links;
	char path[32];

	_Static_assert(LOOKUP_GETADDRINFO == 0, "the first, and the only one here");
	if (r <= 0)
		return error_set(ret_error, -ENOENT, "our own C library does not tell where its functions are");
	if (pipe2(go, O_CLOEXEC))
		return error_set_errno(ret_error, -errno, "cannot try a probe");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	t.path = path;
	t.process = fork();
	if (!t.process) {
		close(go[1]);
		child(go[0]);
	}
	r = t.process < 0 ? -errno : probe(program, &t, true);
	if (!r && write(go[1], "", 1) != 1)
		r = -errno;
	close(go[0]);
	close(go[1]);
	if (t.process > 0) {
		exited = child_status(t.process);
		r = r ? r : exited;
	}
	unlink_from(program, before);
	if (r == -EPERM || r == -EACCES)
		return error_set(ret_error, r, "no permission to probe functions; run as root, or with CAP_SYS_ADMIN at start");
	if (r == -EFAULT)
		return error_set(ret_error, r, "this kernel kills processes under seccomp (most containers) when a probed function returns; update to Linux 6.14, 6.13.3 or 6.12.14");
	return r < 0 ? error_set_errno(ret_error, r, "the kernel does not take a probe of a function") : 0;
}

const struct lookup_hist *lookup_program_hists(const struct lookup_program *program)
{
	return program->skel->bss->hists;
}

void lookup_program_lost(const struct lookup_program *program, uint64_t ret_lost[static LOOKUP_LOST_COUNT],
			 uint64_t *ret_missed)
{
	memcpy(ret_lost, program->skel->bss->lost, sizeof(program->skel->bss->lost));
	*ret_missed = kbpf_recursion_misses(bpf_program__fd(program->skel->progs.lookup_enter)) +
		      kbpf_recursion_misses(bpf_program__fd(program->skel->progs.lookup_return));
}

void lookup_program_each(const struct lookup_program *program, void (*fn)(const char *name, int fd, void *userdata),
			 void *userdata)
{
	struct bpf_program *p;

	bpf_object__for_each_program(p, program->skel->obj)
		fn(bpf_program__name(p), bpf_program__fd(p), userdata);
}
