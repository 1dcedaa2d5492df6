/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe/route.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/probe/rtnl.h"

#define LOOPBACK_INDEX 1 /* in every network namespace */
/* How much may wait for routes_changed, and how much of it one call takes. What changed does not matter, so a queue
 * that overflowed is a change like any other, and a router's thousand routes cost little. */
#define CHANGES_QUEUE 16384
#define CHANGES_MAX 256
#define GROUP(group) (1u << ((group) - 1))

struct routes {
	int requests, changes;
	uint32_t sequence;
	bool changed;
};

int routes_open(struct routes **ret_routes)
{
	const unsigned groups = GROUP(RTNLGRP_IPV4_ROUTE) | GROUP(RTNLGRP_IPV6_ROUTE) | GROUP(RTNLGRP_IPV4_RULE) |
				GROUP(RTNLGRP_IPV6_RULE) | GROUP(RTNLGRP_IPV4_IFADDR) | GROUP(RTNLGRP_IPV6_IFADDR);
	struct routes *routes = calloc(1, sizeof(*routes));
	int r;

	if (!routes)
		return -ENOMEM;
	routes->requests = routes->changes = -1;
	routes->changed = true;
	r = rtnl_open(groups, CHANGES_QUEUE, &routes->changes);
	if (!r)
		r = rtnl_open(0, 0, &routes->requests);
	if (r < 0) {
		routes_close(routes);
		return r;
	}
	*ret_routes = routes;
	return 0;
}

void routes_close(struct routes *routes)
{
	if (!routes)
		return;
	if (routes->requests >= 0)
		close(routes->requests);
	if (routes->changes >= 0)
		close(routes->changes);
	free(routes);
}

static void put_address(struct rtnl_request *q, uint16_t type, const struct address *address)
{
	if (q->route.rtm_family == AF_INET)
		rtnl_put(q, type, address->bytes + 12, 4);
	else
		rtnl_put(q, type, address->bytes, 16);
}

/* IPv6 answers with such a route where IPv4 answers with the error. */
static int refusal(const struct rtmsg *m)
{
	switch (m->rtm_type) {
	case RTN_UNREACHABLE:
		return -EHOSTUNREACH;
	case RTN_PROHIBIT:
		return -EACCES;
	case RTN_BLACKHOLE:
		return -EINVAL;
	case RTN_THROW:
		return -ENETUNREACH;
	default:
		return 0;
	}
}

static int read_route(const struct rtnl_answer *answer, struct route *ret_route)
{
	const uint8_t *data = answer->attributes, *value;
	const size_t len = answer->attributes_len;
	struct route route = { 0 };
	struct rtmsg m;
	int r;

	memcpy(&m, answer->head, sizeof(m));
	r = refusal(&m);
	if (r < 0)
		return r;
	route.local = m.rtm_type == RTN_LOCAL;
	/* Of a local address IPv6 names the interface that has it, but its packets go round by the loopback. */
	route.ifindex = route.local && m.rtm_family == AF_INET6 ? LOOPBACK_INDEX : rtnl_find_u32(data, len, RTA_OIF);
	if (!route.ifindex)
		return -ENETUNREACH;
	value = rtnl_find(data, len, RTA_PREFSRC, m.rtm_family == AF_INET ? 4 : 16, NULL);
	if (value && m.rtm_family == AF_INET) {
		memset(route.source.bytes + 10, 0xff, 2);
		memcpy(route.source.bytes + 12, value, 4);
	} else if (value) {
		memcpy(route.source.bytes, value, 16);
	}
	*ret_route = route;
	return 0;
}

int routes_find(struct routes *routes, const struct route_query *query, struct route *ret_route)
{
	const bool v4 = address_is_ipv4(&query->destination);
	struct rtnl_request q = RTNL_ROUTE_INIT(RTM_GETROUTE);
	struct rtnl_answer answer;
	int r;

	if (query->has_source && address_is_ipv4(&query->source) != v4)
		return -EINVAL;
	q.header.nlmsg_seq = ++routes->sequence;
	q.route.rtm_family = v4 ? AF_INET : AF_INET6;
	q.route.rtm_dst_len = v4 ? 32 : 128;
	put_address(&q, RTA_DST, &query->destination);
	if (query->has_source) {
		q.route.rtm_src_len = v4 ? 32 : 128;
		put_address(&q, RTA_SRC, &query->source);
	}
	if (query->ifindex)
		rtnl_put(&q, RTA_OIF, &query->ifindex, sizeof(query->ifindex));
	r = rtnl_ask(routes->requests, &q, RTM_NEWROUTE, sizeof(struct rtmsg), &answer);
	if (!r)
		r = read_route(&answer, ret_route);
	if (!r && query->has_source)
		ret_route->source = query->source;
	return r;
}

bool routes_changed(struct routes *routes)
{
	bool changed = routes->changed;
	char byte; /* that there was something is all that counts */

	for (int i = 0; i < CHANGES_MAX; i++) {
		ssize_t len = recv(routes->changes, &byte, sizeof(byte), 0);

		if (len < 0 && errno == EAGAIN)
			break;
		changed |= len >= 0 || errno == ENOBUFS;
	}
	routes->changed = false;
	return changed;
}
