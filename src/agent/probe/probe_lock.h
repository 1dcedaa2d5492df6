/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One prober per network namespace: whoever listens on the abstract socket @netsonde-probe. Such a name belongs to
 * the network namespace and ends with its process. Anybody may take it, so a holder counts only when it is root or
 * our own user: the kernel says who it is (SO_PEERCRED). A lock that somebody else sits on is done without.
 */
#pragma once
#include "lib/error.h"

#define PROBE_LOCK_NAME "netsonde-probe"

/* A descriptor; -EBUSY with a sentence when another prober has it; -EADDRINUSE with a sentence when the name is taken
 * by one who may not; -errno. */
int probe_lock_take(struct error *ret_error);
/* Lets those go that asked who has it; now and then, so that its queue stays open. */
void probe_lock_serve(int fd);
