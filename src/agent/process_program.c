/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/process_program.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/kbpf.h"
#include "process.skel.h"

enum { EXEC, EXIT, N_HOOKS };

static const struct {
	const char *feature, *program, *tracepoint;
} hooks[N_HOOKS] = {
	[EXEC] = { "process_execs", "process_exec", "sched_process_exec" },
	[EXIT] = { "process_exits", "process_exit", "sched_process_exit" },
};

struct process_program {
	struct process_bpf *skel;
	struct bpf_link *links[N_HOOKS];
};

static struct bpf_program *program_of(const struct process_program *p, size_t hook)
{
	return bpf_object__find_program_by_name(p->skel->obj, hooks[hook].program);
}

/* What this kernel has, and which arguments it passes. */
static void choose(struct process_program *p, enum process_exit_mode mode)
{
	struct btf *btf = kbpf_btf_load();
	unsigned arguments = 0;

	for (size_t i = 0; i < N_HOOKS; i++)
		bpf_program__set_autoload(program_of(p, i), kbpf_tracepoint_exists(btf, hooks[i].tracepoint, &arguments));
	/* That of the last one, the exit: the task, then group_dead. */
	p->skel->rodata->exit_tells_group = mode == PROCESS_EXIT_BEST && arguments >= 2;
	if (p->skel->rodata->exit_tells_group)
		bpf_map__set_max_entries(p->skel->maps.ended, 1);
	kbpf_btf_free(btf);
}

static int attach(struct process_program *p, struct features *features, struct error *ret_error)
{
	int r = -ENOENT;

	for (size_t i = 0; i < N_HOOKS; i++) {
		if (!bpf_program__autoload(program_of(p, i)))
			continue;
		p->links[i] = bpf_program__attach(program_of(p, i));
		r = p->links[i] || p->links[EXEC] ? 0 : -errno;
	}
	if (r == -ENOENT)
		return error_set(ret_error, r, "this kernel has no tracepoints of process execution and exit");
	if (r < 0)
		return error_set_errno(ret_error, r, "cannot attach to the tracepoints of process execution and exit");
	features_enable(features, "processes", "tp_btf");
	for (size_t i = 0; i < N_HOOKS; i++)
		if (p->links[i])
			features_enable(features, hooks[i].feature, "tp_btf");
		else if (bpf_program__autoload(program_of(p, i)))
			features_miss(features, hooks[i].feature, "the kernel refused to attach to the tracepoint", "");
		else
			features_miss(features, hooks[i].feature, "this kernel has no such tracepoint", "a newer kernel");
	return 0;
}

int process_program_open(const struct events *events, struct features *features, enum process_exit_mode mode,
			 uint32_t only_netns, struct process_program **ret_program, struct error *ret_error)
{
	struct process_program *p = calloc(1, sizeof(*p));
	int r = 0;

	if (!p)
		return -ENOMEM;
	p->skel = process_bpf__open();
	if (!p->skel) {
		r = -errno;
		free(p);
		return r;
	}
	choose(p, mode);
	p->skel->rodata->only_netns = only_netns;
	if (events)
		r = events_share(events, p->skel->obj);
	if (!r)
		r = process_bpf__load(p->skel);
	if (r == -EPERM)
		error_set(ret_error, r, "cannot load the process programs: no permission; run as root, or with CAP_BPF and CAP_PERFMON");
	else if (r < 0)
		error_set_errno(ret_error, r, "the kernel does not take the process programs (%s)", kbpf_last_warning());
	else
		r = attach(p, features, ret_error);
	if (r < 0) {
		process_program_close(p);
		return r;
	}
	*ret_program = p;
	return 0;
}

void process_program_close(struct process_program *program)
{
	if (!program)
		return;
	for (size_t i = 0; i < N_HOOKS; i++)
		bpf_link__destroy(program->links[i]);
	process_bpf__destroy(program->skel);
	free(program);
}

bool process_program_counts(const struct process_program *program, enum process_count count)
{
	return program->links[count == PROCESS_EXECS ? EXEC : EXIT];
}

void process_program_read(const struct process_program *program, uint64_t ret_counts[static PROCESS_COUNT_COUNT],
			  uint64_t *ret_missed)
{
	memcpy(ret_counts, program->skel->bss->counts, sizeof(program->skel->bss->counts));
	*ret_missed = 0;
	for (size_t i = 0; i < N_HOOKS; i++)
		if (program->links[i])
			*ret_missed += kbpf_recursion_misses(bpf_program__fd(program_of(program, i)));
}

void process_program_each(const struct process_program *program, void (*fn)(const char *name, int fd, void *userdata),
			  void *userdata)
{
	for (size_t i = 0; i < N_HOOKS; i++)
		if (program->links[i])
			fn(hooks[i].program, bpf_program__fd(program_of(program, i)), userdata);
}
