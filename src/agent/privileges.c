/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/privileges.h"

#include <cap-ng.h>
#include <errno.h>
#include <seccomp.h>
#include <string.h>

/* Commands of bpf(2) that a running agent needs (uapi linux/bpf.h, enum bpf_cmd); everything else is refused. */
static const unsigned bpf_commands_allowed[] = {
	1, 2, 3, 4,       /* map: look up, update, delete, next key */
	15,               /* object info: run-time statistics */
	21,               /* map: look up and delete */
	24, 25, 26, 27,   /* map: the same in batches */
	33,               /* create an iterator from an attached link */
};
#define BPF_LINK_CREATE_COMMAND 28 /* attaching a program that is loaded, to an interface that came later */
#define BPF_COMMANDS_KNOWN 64 /* beyond every command of today's kernels */

static bool bpf_command_allowed(unsigned command, bool may_attach)
{
	if (command == BPF_LINK_CREATE_COMMAND)
		return may_attach;
	for (size_t i = 0; i < sizeof(bpf_commands_allowed) / sizeof(bpf_commands_allowed[0]); i++)
		if (bpf_commands_allowed[i] == command)
			return true;
	return false;
}

/* A list of what an agent never does, not of all it may do: libraries and C library change their system calls
 * between versions, and a killed agent would be worse than the difference. */
static int add_rules(scmp_filter_ctx ctx, bool may_attach)
{
	static const char *const never[] = {
		"execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "mount", "umount2", "pivot_root",
		"setns", "unshare", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load",
		"perf_event_open", "keyctl", "add_key", "request_key", "reboot", "swapon", "swapoff",
	};
	int r = 0;

	for (unsigned command = 0; command < BPF_COMMANDS_KNOWN && !r; command++)
		if (!bpf_command_allowed(command, may_attach))
			r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(bpf), 1, SCMP_A0(SCMP_CMP_EQ, command));
	if (!r)
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(bpf), 1, SCMP_A0(SCMP_CMP_GE, BPF_COMMANDS_KNOWN));
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]) && !r; i++) {
		int call = seccomp_syscall_resolve_name(never[i]);

		if (call != __NR_SCMP_ERROR)
			r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), call, 0);
	}
	return r;
}

static int filter_calls(bool may_attach)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	int r = -ENOMEM;

	if (!ctx)
		return r;
	r = add_rules(ctx, may_attach);
	if (!r)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r;
}

int privileges_drop(const struct user *user, bool may_attach, struct features *features, struct error *ret_error)
{
	int r;

	/* While CAP_SETPCAP is still there; refused without it, and then there is nothing in it that we could use. */
	capng_clear(CAPNG_SELECT_BOUNDS);
	capng_apply(CAPNG_SELECT_BOUNDS);
	r = user_drop(user, ret_error);
	if (r < 0)
		return r;
	/* A change of user clears them; an agent that runs with file or ambient capabilities has them still. */
	capng_clear(CAPNG_SELECT_ALL);
	if (capng_apply(CAPNG_SELECT_CAPS) || capng_apply(CAPNG_SELECT_AMBIENT) || capng_get_caps_process() ||
	    capng_have_capabilities(CAPNG_SELECT_CAPS) > CAPNG_NONE)
		return error_set(ret_error, -EPERM, "cannot drop the capabilities");
	features_enable(features, "unprivileged", user->change ? "user" : "capabilities");
	r = filter_calls(may_attach);
	if (r < 0)
		features_miss(features, "seccomp", strerror(-r), "needs a kernel with CONFIG_SECCOMP_FILTER");
	else
		features_enable(features, "seccomp", "filter");
	return 0;
}
