/* SPDX-License-Identifier: Apache-2.0 */
/*
 * By which interface, and from which address, packets to a destination leave: the kernel's own answer (RTM_GETROUTE,
 * so rules, VRFs and tables count), without privileges. The socket stays open; a question is answered before the call
 * returns (5 to 10 us). Answers are not kept here: ask again when route_changed says so.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/address.h"

struct routes;

struct route_query {
	struct address destination;
	struct address source; bool has_source; /* as if it was sent from there */
	uint32_t ifindex;                       /* leave by this interface; link-local destinations need it. 0: any */
};

struct route {
	uint32_t ifindex;      /* the loopback's for what is this host itself */
	struct address source; /* the one that will be used, or was asked for; all zeros: no address is assigned */
	bool local;            /* the destination is this host */
};

/* In the network namespace of the calling thread. */
int routes_open(struct routes **ret_routes);
void routes_close(struct routes *routes);

/* -ENETUNREACH and -EHOSTUNREACH: there is none, or (IPv4) the source is none of this host's; -EACCES: a prohibiting
 * one; -EINVAL: a blackhole, or the source is of the other family; -ENODEV (IPv4; IPv6 says -ENETUNREACH): there is
 * no such interface. */
int routes_find(struct routes *routes, const struct route_query *query, struct route *ret_route);

/* Have routes, rules or addresses changed since the last call? At first: yes. Cheap; once per tick. */
bool routes_changed(struct routes *routes);
