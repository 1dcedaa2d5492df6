// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * How long applications wait for the address of a name: probes at the entry and
 * the return of libc's getaddrinfo and gethostbyname family.
 *
 * A thread waits in one lookup at a time, so its record is in task storage, which
 * ends with the thread: one that is killed inside the call leaves nothing behind.
 * These functions call each other; the application's own call is the outermost
 * one, which is told by the stack pointer, since the stack grows down. It also
 * tells a call that the thread jumped out of (siglongjmp from an alarm): its frame
 * is gone when another call begins at the same height or above. A tail call
 * begins at the same height too, and takes the place of its caller. The return is
 * the one at the recorded height; a library that is probed twice counts once.
 *
 * What is no lookup is left out: no name, or an address in the place of a name.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include "abi_lookup.h"
#include "hist.bpf.h"
#include "scope.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define TAIL_CALL_NS 1000000ULL     /* a tail call follows at once, unless the thread is preempted just there */
#define NESTED_NS 300000000000ULL   /* no resolver tries for five minutes: what is so old was abandoned */

/* netdb.h, the same in glibc and musl. */
enum { AI_NUMERICHOST = 4 };
enum { EAI_NONAME = -2, EAI_AGAIN = -3, EAI_NODATA = -5, EAI_ADDRFAMILY = -9 };
enum { HOST_NOT_FOUND = 1, TRY_AGAIN = 2, NO_DATA = 4 };
enum { ERANGE = 34 };

/* The context of a probe, as the uapi has it (asm/ptrace.h). */
#if defined(__TARGET_ARCH_x86)
struct registers {
	unsigned long r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
	unsigned long orig_rax, rip, cs, eflags, rsp, ss;
};
#define STACK_POINTER(r) ((r)->rsp)
#define RETURN_VALUE(r) ((r)->rax)
#define RETURN_ADDRESS_SIZE 8 /* taken off the stack by the return */
#elif defined(__TARGET_ARCH_arm64)
struct registers {
	__u64 regs[31], sp, pc, pstate;
};
#define STACK_POINTER(r) ((r)->sp)
#define RETURN_VALUE(r) ((r)->regs[0])
#define RETURN_ADDRESS_SIZE 0
#else
#error "the registers of this architecture are not described"
#endif

struct call {
	__u64 start_ns;       /* 0: the thread is in no lookup */
	__u64 stack;
	/* Where the innermost _r function so far puts its result and its h_errno; both are user memory. */
	__u64 answer_stack, result, error_at;
	__u32 function;
	__u32 error;          /* h_errno of the last one that returned */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct call);
} calls SEC(".maps");

struct lookup_hist hists[LOOKUP_OUTCOME_COUNT];
__u64 lost[LOOKUP_LOST_COUNT];

static __always_inline void lose(enum lookup_lost what)
{
	__sync_fetch_and_add(&lost[what], 1);
}

/* 1..7 */
static __always_inline __u64 argument(const struct registers *r, int number)
{
#if defined(__TARGET_ARCH_x86)
	__u64 value = 0;

	switch (number) {
	case 1: return r->rdi;
	case 2: return r->rsi;
	case 3: return r->rdx;
	case 4: return r->rcx;
	case 5: return r->r8;
	case 6: return r->r9;
	}
	bpf_probe_read_user(&value, sizeof(value), (void *)(r->rsp + 8));
	return value;
#else
	return r->regs[number - 1];
#endif
}

/* "192.0.2.1", "::1", "fe80::1%eth0": nothing is looked up for these. The first colon of an IPv6 address is within five
 * characters, and no name has one; an IPv4 address has at most 15, and no name has no letter. */
static __always_inline bool is_address(const char *name)
{
	bool letters = false;
	char text[17];
	long n = bpf_probe_read_user_str(text, sizeof(text), name);

	if (n <= 1)
		return false;
	for (int i = 0; i < 16; i++) {
		char c = text[i];

		if (!c)
			break;
		if (c == ':')
			return true;
		if (c != '.' && (c < '0' || c > '9'))
			letters = true;
	}
	return !letters && n <= 16;
}

static __always_inline bool is_lookup(const struct registers *r, __u32 function)
{
	const char *name = (const char *)argument(r, 1);
	const int *hints = (const int *)argument(r, 3);
	int flags = 0;

	if (!name)
		return false;
	if (function == LOOKUP_GETADDRINFO && hints && !bpf_probe_read_user(&flags, sizeof(flags), hints) &&
	    flags & AI_NUMERICHOST)
		return false;
	return !is_address(name);
}

static __always_inline void note_answer(struct call *call, const struct registers *r, __u32 function)
{
	if (function != LOOKUP_GETHOSTBYNAME_R && function != LOOKUP_GETHOSTBYNAME2_R)
		return;
	call->answer_stack = STACK_POINTER(r);
	call->result = function == LOOKUP_GETHOSTBYNAME_R ? argument(r, 5) : argument(r, 6);
	call->error_at = function == LOOKUP_GETHOSTBYNAME_R ? argument(r, 6) : argument(r, 7);
}

SEC("uprobe")
int lookup_enter(struct registers *r)
{
	__u32 function = (__u32)bpf_get_attach_cookie(r);
	struct task_struct *task = bpf_get_current_task_btf();
	struct call *call = bpf_task_storage_get(&calls, task, 0, 0);
	__u64 now = bpf_ktime_get_ns(), stack = STACK_POINTER(r);

	if (call && call->start_ns) {
		if (stack < call->stack && now - call->start_ns < NESTED_NS) {
			note_answer(call, r, function);
			return 0;
		}
		if (now - call->start_ns >= TAIL_CALL_NS)
			lose(LOOKUP_LOST_ABANDONED);
		call->start_ns = 0;
	}
	if (!is_lookup(r, function) || (only_netns && BPF_CORE_READ(task, nsproxy, net_ns, ns.inum) != only_netns))
		return 0;
	if (!call)
		call = bpf_task_storage_get(&calls, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!call) {
		lose(LOOKUP_LOST_RECORD);
		return 0;
	}
	call->start_ns = now;
	call->stack = stack;
	call->function = function;
	call->error = 0;
	call->answer_stack = 0;
	note_answer(call, r, function);
	return 0;
}

static __always_inline enum lookup_outcome outcome_of_h_errno(__u32 error)
{
	if (error == HOST_NOT_FOUND || error == NO_DATA)
		return LOOKUP_NOT_FOUND;
	return error == TRY_AGAIN ? LOOKUP_TRY_AGAIN : LOOKUP_FAILED;
}

static __always_inline enum lookup_outcome outcome_of_eai(int error)
{
	if (!error)
		return LOOKUP_SUCCESS;
	if (error == EAI_NONAME || error == EAI_NODATA || error == EAI_ADDRFAMILY)
		return LOOKUP_NOT_FOUND;
	return error == EAI_AGAIN ? LOOKUP_TRY_AGAIN : LOOKUP_FAILED;
}

/* Global, so that the verifier looks at it once by itself instead of once for each way to an outcome. */
__attribute__((noinline)) int observe(__u32 outcome, __u64 ns)
{
	__u32 bucket = hist_bucket(ns);

	/* The verifier must see the bound on the very registers that index. */
	asm volatile("" : "+r"(bucket), "+r"(outcome));
	if (bucket >= HIST_BUCKETS || outcome >= LOOKUP_OUTCOME_COUNT)
		return 0;
	__sync_fetch_and_add(&hists[outcome].buckets[bucket], 1);
	__sync_fetch_and_add(&hists[outcome].sum_ns, ns);
	return 0;
}

SEC("uprobe")
int lookup_return(struct registers *r)
{
	__u64 now = bpf_ktime_get_ns(), stack = STACK_POINTER(r) - RETURN_ADDRESS_SIZE, value = RETURN_VALUE(r), result = 0;
	__u32 function = (__u32)bpf_get_attach_cookie(r);
	struct call *call = bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0, 0);
	enum lookup_outcome outcome;

	if (!call || !call->start_ns)
		return 0;
	/* The error of the application's own call is in a thread's variable that we cannot find; that of the _r function below
	 * it is where its caller wanted it. */
	if (stack == call->answer_stack && (function == LOOKUP_GETHOSTBYNAME_R || function == LOOKUP_GETHOSTBYNAME2_R))
		bpf_probe_read_user(&call->error, sizeof(call->error), (void *)call->error_at);
	if (stack != call->stack || function != call->function)
		return 0;
	if (function == LOOKUP_GETADDRINFO) {
		outcome = outcome_of_eai((int)value);
	} else if (function == LOOKUP_GETHOSTBYNAME || function == LOOKUP_GETHOSTBYNAME2) {
		outcome = value ? LOOKUP_SUCCESS : outcome_of_h_errno(call->error);
	} else {
		bpf_probe_read_user(&result, sizeof(result), (void *)call->result);
		outcome = !(int)value && result ? LOOKUP_SUCCESS : outcome_of_h_errno(call->error);
	}
	/* The caller's buffer is too small: it comes again with a larger one. */
	if ((function != LOOKUP_GETHOSTBYNAME_R && function != LOOKUP_GETHOSTBYNAME2_R) || (int)value != ERANGE)
		observe(outcome, now - call->start_ns);
	call->start_ns = 0;
	return 0;
}
