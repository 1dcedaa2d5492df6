/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe/reflect_addresses.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "abi_probe.h"

#define IPV4_LOOPBACK_NET 127

/* False: it is of another kind, or the loopback's. */
static bool take_address(const struct sockaddr *from, struct peer_address *ret_address)
{
	const struct sockaddr_in6 *v6 = (const void *)from;
	const struct sockaddr_in *v4 = (const void *)from;

	if (!from)
		return false;
	if (from->sa_family == AF_INET6) {
		memcpy(ret_address, &v6->sin6_addr, sizeof(*ret_address));
		return !IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
	}
	if (from->sa_family != AF_INET)
		return false;
	*ret_address = (struct peer_address){ .words = { 0, 0, htonl(0xffff), v4->sin_addr.s_addr } };
	return ntohl(v4->sin_addr.s_addr) >> 24 != IPV4_LOOPBACK_NET;
}

static int forget_others(int map_fd, uint32_t round)
{
	struct peer_address key, next;
	bool more = !bpf_map_get_next_key(map_fd, NULL, &next);
	struct reflect_address seen;

	while (more) {
		key = next;
		more = !bpf_map_get_next_key(map_fd, &key, &next);
		if (!bpf_map_lookup_elem(map_fd, &key, &seen) && seen.round != round &&
		    bpf_map_delete_elem(map_fd, &key) && errno != ENOENT)
			return -errno;
	}
	return 0;
}

static int add_address(int map_fd, const struct peer_address *address, const struct ifaddrs *on, uint32_t round)
{
	const bool loopback = on->ifa_flags & IFF_LOOPBACK;
	struct reflect_address before, value = {
		.ifindex = loopback ? REFLECT_EVERYWHERE : if_nametoindex(on->ifa_name), .round = round,
	};

	if (!loopback && !value.ifindex)
		return 0; /* it has just gone */
	if (!bpf_map_lookup_elem(map_fd, address, &before) && before.round == round && before.ifindex != value.ifindex)
		value.ifindex = REFLECT_EVERYWHERE;
	return bpf_map_update_elem(map_fd, address, &value, BPF_ANY) ? -errno : 0;
}

int reflect_addresses_read(int map_fd, uint32_t round)
{
	struct ifaddrs *all;
	struct peer_address key;
	int r = 0, added, forgotten;

	if (getifaddrs(&all))
		return -errno;
	for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
		added = take_address(a->ifa_addr, &key) ? add_address(map_fd, &key, a, round) : 0;
		if (!r)
			r = added;
	}
	freeifaddrs(all);
	forgotten = forget_others(map_fd, round);
	return r < 0 ? r : forgotten;
}
