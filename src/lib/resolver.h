/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host names to addresses, as the host is configured to (getaddrinfo(3)), without
 * blocking the loop: each look-up runs in a thread of its own, which knows the
 * loop only by a descriptor. Not libuv's thread pool: that has to be waited for
 * at the end, and a name server that does not answer takes half a minute.
 */
#pragma once
#include <stddef.h>
#include "lib/address.h"
#include "lib/loop.h"

#define RESOLVER_ADDRESSES_MAX 16

struct resolver_job;

/* r: 0 with at least one address, in the order in which they are to be tried; else -errno and a reason: -ENOENT (there is no such name),
 * -EAGAIN (no name server answered), ... Everything, and the job, is valid only during the call. */
typedef void (*resolver_fn)(struct resolver_job *job, int r, const char *reason, const struct address *addresses, size_t n,
			    void *userdata);

/* Never calls fn from inside. -errno when there is no thread to be had. */
int resolver_start(struct loop *loop, const char *name, resolver_fn fn, void *userdata, struct resolver_job **ret_job);
void resolver_cancel(struct resolver_job *job); /* no call follows; NULL is fine */
