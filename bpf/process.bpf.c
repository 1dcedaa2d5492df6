// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * Programs started and processes ended: two counters, and an event for each.
 *
 * A process has ended when its last thread exits. Since Linux 6.16 the tracepoint
 * says whether it is the last one. Before, the number of live threads does, but
 * two threads that exit at the same time both find 0, since the kernel takes them
 * off before the tracepoint; so the first of them marks the process as counted.
 * The leader is no help: it may exit long before its process, and exec in
 * another thread ends the leader but not the process.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "abi_process.h"
#include "event.bpf.h"
#include "scope.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The tracepoint's second argument is group_dead. */
const volatile bool exit_tells_group;

__u64 counts[PROCESS_COUNT_COUNT];

/* A process id, and as it is used again, when that process began. */
struct process_key {
	__u64 start_time;
	__u64 tgid;
};

/* Only for a kernel that does not tell: processes whose end is counted. They matter while their threads are on their way
 * through exit, so the last thousand are plenty. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct process_key);
	__type(value, __u8);
} ended SEC(".maps");

static __always_inline bool task_in_scope(const struct task_struct *task)
{
	return !only_netns || task->nsproxy->net_ns->ns.inum == only_netns;
}

static __always_inline void describe(struct event *e, struct task_struct *task)
{
	e->pid = (__u32)task->tgid;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	e->netns = task->nsproxy->net_ns->ns.inum;
}

/* The end of a long name tells more than its beginning. */
static __always_inline void copy_tail(char *to, const char *from)
{
	const long chunk = sizeof(((struct event *)0)->text) - 1;
	long len = 0;

	for (int i = 0; i < 4096 / chunk + 1; i++) { /* PATH_MAX */
		long n = bpf_probe_read_kernel_str(to, chunk + 1, from + len);

		if (n <= 0) /* not allowed in lockdown: confidentiality */
			return;
		len += n - 1;
		if (n <= chunk)
			break;
	}
	if (len >= chunk) /* the rest of it overwrote the beginning */
		bpf_probe_read_kernel_str(to, chunk + 1, from + len - chunk);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct event *e;

	if (!task_in_scope(task))
		return 0;
	__sync_fetch_and_add(&counts[PROCESS_EXECS], 1);
	e = event_begin(EVENT_EXEC);
	if (!e)
		return 0;
	describe(e, task);
	copy_tail(e->text, bprm->filename);
	event_end(e);
	return 0;
}

static __always_inline bool first_to_end(struct task_struct *task)
{
	struct process_key key = { .start_time = task->group_leader->start_time, .tgid = (__u32)task->tgid };
	__u8 one = 1;

	/* Whatever else went wrong, the process has ended. An int: older kernels leave the upper half of the register alone. */
	return (int)bpf_map_update_elem(&ended, &key, &one, BPF_NOEXIST) != -EEXIST;
}

/* As the parent's wait() will have it. */
static __always_inline __u32 wait_status(struct task_struct *task)
{
	struct signal_struct *signal = task->signal;

	return (__u32)(signal->flags & SIGNAL_GROUP_EXIT ? signal->group_exit_code : task->group_leader->exit_code);
}

SEC("tp_btf/sched_process_exit")
int process_exit(unsigned long long *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	struct event *e;

	if (task->flags & PF_KTHREAD || !task_in_scope(task))
		return 0;
	if (exit_tells_group) {
		if (!(ctx[1] & 0xff))
			return 0;
	} else if (task->signal->live.counter || !first_to_end(task)) {
		return 0;
	}
	__sync_fetch_and_add(&counts[PROCESS_EXITS], 1);
	e = event_begin(EVENT_EXIT);
	if (!e)
		return 0;
	describe(e, task);
	e->code = wait_status(task);
	event_end(e);
	return 0;
}
