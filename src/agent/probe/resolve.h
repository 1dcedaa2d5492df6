/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The addresses of targets that are known by a host name: looked up again every minute, soon when that failed, and when the target
 * is down. A few look-ups at a time, so that a dead name server holds few threads.
 *
 * A target keeps its address while the name still has it, so that names with several addresses do not jump between them; a
 * look-up that fails changes nothing.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "lib/address.h"
#include "lib/clock.h"
#include "lib/loop.h"

struct resolve;
struct resolve_host;

/* The address is there for the first time, or is another one. Never called from inside this module's functions. */
typedef void (*resolve_fn)(struct resolve_host *host, const struct address *address, void *userdata);

int resolve_new(struct loop *loop, struct resolve **ret_resolve);
void resolve_free(struct resolve *resolve); /* with all hosts */

/* family: AF_INET or AF_INET6, or AF_UNSPEC: the one that getaddrinfo puts first. */
int resolve_add(struct resolve *resolve, const char *name, int family, resolve_fn fn, void *userdata, struct resolve_host **ret_host);
void resolve_remove(struct resolve_host *host); /* NULL is fine */
/* Nobody answers there: look again, unless that was just done. */
void resolve_again(struct resolve_host *host, mono_time now);
/* Once per second or so: starts what is due. */
void resolve_tick(struct resolve *resolve, mono_time now);
const char *resolve_reason(const struct resolve_host *host); /* why the last look-up failed; "" when it did not */
uint64_t resolve_failures(const struct resolve *resolve);    /* look-ups so far that failed */
