/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP connections from this network to loopback addresses of a host of the lab, carried by
 * this process: accepted here, connected there by a socket of the host. So the machine's
 * own network gets neither a device nor a route.
 */
#pragma once
#include <stddef.h>
#include "lab/host.h"
#include "lib/loop.h"

struct forward;

/* Listens on 127.0.0.1 at a port that the kernel chooses, in the calling process's network; connections go to 127.0.0.1
 * and `port` of the host, which outlives this. */
int forward_new(struct loop *loop, struct host *host, unsigned port, struct forward **ret_forward,
		struct error *ret_error);
void forward_free(struct forward *forward); /* breaks what is open */
unsigned forward_port(const struct forward *forward);
