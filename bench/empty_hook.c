/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaches an empty program to each hook named on the command line and turns on the kernel's BPF run-time statistics for
 * as long as it lives: they are held by a descriptor, so that no end of this process leaves them on.
 *
 *   tracepoint:NAME   cgroup:egress|ingress|sockops   device:NAME:ingress|egress   function:FILE:NAME:enter|return
 *
 * The cgroup is the root, the device is one of the network namespace that this runs in. Says "ready", then answers each
 * line on standard input with "RUNS NS" of every program, in the order of the command line, and ends with the input.
 * bench/hooks.py starts it.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/cgroup.h"
#include "agent/kbpf.h"
#include "bench.h"
#include "empty.skel.h"

#define HOOKS_MAX 16
/* enum bpf_attach_type of Linux 6.6; older headers lack them. */
#define ATTACH_TCX_INGRESS 46
#define ATTACH_TCX_EGRESS 47

static bool word_is(const char *word, const char *expected)
{
	return word && !strcmp(word, expected);
}

/* The program that fits the hook; NULL: there is no such hook. */
static struct bpf_program *program_for(struct empty_bpf *skel, const char *kind, const char *name)
{
	if (!strcmp(kind, "tracepoint") && name)
		return skel->progs.empty_tracepoint;
	if (!strcmp(kind, "cgroup") && word_is(name, "egress"))
		return skel->progs.empty_egress;
	if (!strcmp(kind, "cgroup") && word_is(name, "ingress"))
		return skel->progs.empty_ingress;
	if (!strcmp(kind, "cgroup") && word_is(name, "sockops"))
		return skel->progs.empty_sockops;
	if (!strcmp(kind, "device") && name)
		return skel->progs.empty_tc;
	return !strcmp(kind, "function") && name ? skel->progs.empty_uprobe : NULL;
}

static void attach_cgroup(const struct bpf_program *program)
{
	struct error error = { "" };
	int root = cgroup_root_open(&error);

	if (root < 0 || !bpf_program__attach_cgroup(program, root)) /* held until we end */
		bench_die("the root cgroup");
	close(root);
}

static void attach_device(const struct bpf_program *program, const char *device, const char *direction)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.link_create.prog_fd = (uint32_t)bpf_program__fd(program);
	attr.link_create.target_ifindex = if_nametoindex(device);
	attr.link_create.attach_type = word_is(direction, "egress") ? ATTACH_TCX_EGRESS : ATTACH_TCX_INGRESS;
	if (!attr.link_create.target_ifindex || syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof(attr)) < 0)
		bench_die(device);
}

static void attach_function(const struct bpf_program *program, const char *file, const char *name, const char *where)
{
	LIBBPF_OPTS(bpf_uprobe_opts, options, .func_name = name, .retprobe = word_is(where, "return"));

	if (!name || !bpf_program__attach_uprobe_opts(program, -1, file, 0, &options))
		bench_die(file);
}

/* Returns the program's descriptor. */
static int attach(char *hook)
{
	char *rest = hook, *kind = strsep(&rest, ":"), *name = strsep(&rest, ":"), *third = strsep(&rest, ":");
	struct empty_bpf *skel = empty_bpf__open();
	struct bpf_program *program = skel ? program_for(skel, kind, name) : NULL;

	errno = EINVAL;
	if (!program)
		bench_die(hook);
	bpf_program__set_autoload(skel->progs.empty, false);
	bpf_program__set_autoload(program, true);
	if ((!strcmp(kind, "tracepoint") && bpf_program__set_attach_target(program, 0, name)) || empty_bpf__load(skel))
		bench_die(name);
	if (!strcmp(kind, "cgroup"))
		attach_cgroup(program);
	else if (!strcmp(kind, "device"))
		attach_device(program, name, third);
	else if (!strcmp(kind, "function"))
		attach_function(program, name, third, rest);
	else if (!bpf_program__attach(program))
		bench_die(name);
	return bpf_program__fd(program);
}

static void answer(const int *fds, int n)
{
	for (int i = 0; i < n; i++) {
		uint64_t runs = 0, ns = 0;

		if (!kbpf_run_stats(fds[i], &runs, &ns))
			runs = ns = 0; /* has not run yet */
		printf("%s%llu %llu", i ? " " : "", (unsigned long long)runs, (unsigned long long)ns);
	}
	printf("\n");
}

int main(int argc, char **argv)
{
	int fds[HOOKS_MAX], n = argc - 1;
	char line[16];

	if (n > HOOKS_MAX) {
		fprintf(stderr, "empty_hook: at most %d hooks\n", HOOKS_MAX);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	kbpf_log_setup();
	for (int i = 0; i < n; i++)
		fds[i] = attach(argv[i + 1]);
	if (bpf_enable_stats(BPF_STATS_RUN_TIME) < 0)
		bench_die("the kernel's BPF statistics");
	puts("ready");
	while (fgets(line, sizeof(line), stdin))
		answer(fds, n);
	return 0;
}
