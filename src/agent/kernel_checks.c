/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/kernel_checks.h"

#include <assert.h>
#include <cap-ng.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent/kbpf.h"

static void __attribute__((format(printf, 5, 6)))
check(struct kernel_checks *checks, const char *name, bool ok, const char *remedy, const char *detail, ...)
{
	struct kernel_check *c = &checks->items[checks->n++];
	va_list args;

	assert(checks->n <= KERNEL_CHECKS_MAX);
	c->name = name;
	c->ok = ok;
	va_start(args, detail);
	vsnprintf(c->detail, sizeof(c->detail), detail, args);
	va_end(args);
	snprintf(c->remedy, sizeof(c->remedy), "%s", ok ? "" : remedy);
}

/* First line of a small file, "" when it cannot be read. */
static void first_line(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
}

static void check_version(struct kernel_checks *checks)
{
	struct utsname kernel;
	unsigned major = 0, minor = 0;

	uname(&kernel);
	sscanf(kernel.release, "%u.%u", &major, &minor);
	check(checks, "kernel", major > 6 || (major == 6 && minor >= 1), "Linux 6.1 or newer has every feature; 5.10 has a part of them",
	      "%s", kernel.release);
}

static void check_bpf(struct kernel_checks *checks)
{
	static const char *const tracepoints[] = {
		"inet_sock_set_state", "tcp_retransmit_skb", "tcp_retransmit_synack", "tcp_send_reset", "tcp_receive_reset",
	};
	struct btf *btf = kbpf_btf_load();
	char text[256];

	check(checks, "BTF", btf, "needs a kernel built with CONFIG_DEBUG_INFO_BTF=y", "/sys/kernel/btf/vmlinux");
	for (size_t i = 0; i < sizeof(tracepoints) / sizeof(tracepoints[0]); i++) {
		unsigned arguments = 0;
		bool exists = kbpf_tracepoint_exists(btf, tracepoints[i], &arguments);

		check(checks, tracepoints[i], exists, "", exists ? "tracepoint with %u arguments" : "no such tracepoint", arguments);
	}
	check(checks, "socket storage iterator", kbpf_function_exists(btf, "bpf_iter_bpf_sk_storage_map"), "needs Linux 5.9 or newer",
	      "iter/bpf_sk_storage_map");
	check(checks, "task file iterator", kbpf_function_exists(btf, "bpf_iter_task_file"), "needs Linux 5.8 or newer", "iter/task_file");
	first_line("/proc/sys/net/core/bpf_jit_enable", text, sizeof(text));
	/* The file is missing where the JIT cannot be turned off. */
	check(checks, "BPF compiler (JIT)", text[0] != '0', "programs run several times slower; sysctl net.core.bpf_jit_enable=1",
	      "%s", text[0] == '0' ? "off" : "on");
	first_line("/sys/kernel/security/lockdown", text, sizeof(text));
	check(checks, "lockdown", !strstr(text, "[confidentiality]"), "lockdown=confidentiality hides the type of retransmissions and the peer of some resets",
	      "%s", text[0] ? text : "not in use");
}

static void check_rights(struct kernel_checks *checks)
{
	static const struct { int capability; const char *name; } needed[] = {
		{ CAP_BPF, "CAP_BPF" }, { CAP_PERFMON, "CAP_PERFMON" },
	};

	capng_get_caps_process();
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		bool have = capng_have_capability(CAPNG_EFFECTIVE, (unsigned)needed[i].capability);

		check(checks, needed[i].name, have, "run as root, or give it to the binary or the service", "%s",
		      have ? "held" : "missing: loading was tried without it");
	}
}

void kernel_checks_run(struct kernel_checks *ret_checks)
{
	ret_checks->n = 0;
	check_version(ret_checks);
	check_bpf(ret_checks);
	check_rights(ret_checks);
}
