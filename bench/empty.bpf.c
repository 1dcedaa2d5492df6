// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/* The same hook with nothing in it: what the kernel's statistics cost by themselves, to be subtracted. */
#include "kernel.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/inet_sock_set_state")
int empty(void *ctx)
{
	return 0;
}
