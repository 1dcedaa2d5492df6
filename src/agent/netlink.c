/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/netlink.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* What the kernel puts into one datagram at most (32 KiB, netlink_dump), with room for more. */
#define BUFFER_LEN 65536
#define DUMP_ATTEMPTS 3
/* Datagrams of one netlink_changes: some milliseconds, so that a flood of changes cannot hold up the tick. */
#define CHANGES_MAX 4096
#define ETHTOOL_MASK_WORDS 128 /* as many as its s8 can say; today 4 */
#define BYTES_PER_MEGABIT 125000u

struct list {
	void *items;
	size_t n, allocated;
};

struct netlink {
	int requests, changes;
	uint32_t sequence;
	int8_t mask_words; /* words per mask of the running kernel's link modes; 0: not asked yet */
	struct list links, counters;
	struct netlink_totals totals;
	uint8_t buffer[BUFFER_LEN];
};

static int open_socket(unsigned groups, size_t queue_bytes, int *ret_fd)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = groups };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE), size = (int)queue_bytes, r = 0;

	if (fd < 0)
		return -errno;
	/* The first goes beyond the system's limit and needs CAP_NET_ADMIN. */
	if (size && setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) &&
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)))
		r = -errno;
	if (!r && bind(fd, (struct sockaddr *)&address, sizeof(address)))
		r = -errno;
	if (r < 0) {
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

int netlink_open(size_t queue_bytes, struct netlink **ret_netlink)
{
	struct netlink *n = calloc(1, sizeof(*n));
	int r;

	if (!n)
		return -ENOMEM;
	n->requests = n->changes = -1;
	r = open_socket(RTMGRP_LINK, queue_bytes, &n->changes);
	if (!r)
		r = open_socket(0, 0, &n->requests);
	if (r < 0) {
		netlink_close(n);
		return r;
	}
	*ret_netlink = n;
	return 0;
}

void netlink_close(struct netlink *netlink)
{
	if (!netlink)
		return;
	if (netlink->requests >= 0)
		close(netlink->requests);
	if (netlink->changes >= 0)
		close(netlink->changes);
	free(netlink->links.items);
	free(netlink->counters.items);
	free(netlink);
}

/* The length of a datagram from the kernel, 0 when none waits, -errno. Never blocks: an answer is there when send returns. */
static ssize_t receive(struct netlink *n, int fd)
{
	for (;;) {
		struct sockaddr_nl from = { 0 };
		struct iovec part = { n->buffer, sizeof(n->buffer) };
		struct msghdr m = { .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &part, .msg_iovlen = 1 };
		ssize_t len = recvmsg(fd, &m, 0);

		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			return errno == EAGAIN ? 0 : -errno;
		if (from.nl_pid) /* another process */
			continue;
		if (!len || m.msg_flags & MSG_TRUNC) {
			n->totals.malformed++;
			return -EBADMSG;
		}
		return len;
	}
}

static int list_add(struct list *list, const void *item, size_t size)
{
	if (list->n == list->allocated) {
		size_t more = list->allocated ? 2 * list->allocated : 16;
		void *items = realloc(list->items, more * size);

		if (!items)
			return -ENOMEM;
		list->items = items;
		list->allocated = more;
	}
	memcpy((char *)list->items + list->n++ * size, item, size);
	return 0;
}

static int send_request(struct netlink *n, uint16_t type)
{
	struct {
		struct nlmsghdr header;
		union {
			struct ifinfomsg link;
			struct if_stats_msg stats;
		};
		struct nlattr attribute;
		uint32_t mask;
	} q = {
		.header = { .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP, .nlmsg_seq = ++n->sequence },
	};

	if (type == RTM_GETSTATS) {
		q.stats.filter_mask = IFLA_STATS_FILTER_BIT(IFLA_STATS_LINK_64);
		q.header.nlmsg_len = NLMSG_LENGTH(sizeof(q.stats));
	} else {
		/* Not the IPv4 and IPv6 statistics, a quarter of the message. */
		q.attribute = (struct nlattr){ .nla_len = NLA_HDRLEN + sizeof(q.mask), .nla_type = IFLA_EXT_MASK };
		q.mask = RTEXT_FILTER_SKIP_STATS;
		q.header.nlmsg_len = sizeof(q);
	}
	return send(n->requests, &q, q.header.nlmsg_len, 0) < 0 ? -errno : 0;
}

/* One message of a dump. 0, NETLINK_E_MORE for "not yet all", NETLINK_E_INCONSISTENT, -errno. */
static int take(struct netlink *n, const struct netlink_message *m, bool *interrupted)
{
	int r = 0;

	if (m->sequence != n->sequence)
		return NETLINK_E_MORE; /* of a dump that was given up */
	*interrupted |= m->interrupted;
	if (m->type == NETLINK_ERROR || m->type == NETLINK_END)
		return m->error || m->type == NETLINK_END ? m->error : -EPROTO;
	if (m->type == NETLINK_LINK)
		r = list_add(&n->links, &m->link, sizeof(m->link));
	else if (m->type == NETLINK_COUNTERS)
		r = list_add(&n->counters, &m->counters, sizeof(m->counters));
	return r < 0 ? r : NETLINK_E_MORE;
}

static int dump_once(struct netlink *n, uint16_t type)
{
	bool interrupted = false;
	ssize_t len;
	int r;

	while (receive(n, n->requests) > 0)
		; /* what is left of a dump that failed; the kernel starts no other before it has ended */
	(type == RTM_GETSTATS ? &n->counters : &n->links)->n = 0;
	r = send_request(n, type);
	if (r < 0)
		return r;
	do {
		struct netlink_message m;
		const void *at = n->buffer;
		size_t left;

		len = receive(n, n->requests);
		if (len <= 0)
			return len < 0 ? (int)len : -EPROTO;
		left = (size_t)len;
		r = NETLINK_E_MORE;
		while (r == NETLINK_E_MORE && left) {
			r = netlink_next(&at, &left, &m);
			if (r < 0)
				n->totals.malformed++;
			else
				r = take(n, &m, &interrupted);
		}
	} while (r == NETLINK_E_MORE);
	return !r && interrupted ? NETLINK_E_INCONSISTENT : r;
}

static int dump(struct netlink *n, uint16_t type)
{
	int r = dump_once(n, type);

	for (int attempt = 1; r == NETLINK_E_INCONSISTENT && attempt < DUMP_ATTEMPTS; attempt++) {
		n->totals.repeated++;
		r = dump_once(n, type);
	}
	if (r)
		n->totals.inconsistent++;
	return r;
}

static int compare_index(const void *a, const void *b)
{
	int32_t x, y; /* the first member of both kinds */

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return (x > y) - (x < y);
}

/* In an inconsistent dump a link can be twice; the later one in any order will do. */
static void list_unique(struct list *list, size_t size)
{
	char *items = list->items;
	size_t n = 0;

	if (!list->n)
		return;
	qsort(items, list->n, size, compare_index);
	for (size_t i = 0; i < list->n; i++)
		if (!n || compare_index(items + (n - 1) * size, items + i * size))
			memmove(items + n++ * size, items + i * size, size);
	list->n = n;
}

int netlink_links(struct netlink *netlink, const struct netlink_link **ret_links, size_t *ret_n)
{
	int r = dump(netlink, RTM_GETLINK);

	if (r < 0)
		return r;
	if (r == NETLINK_E_INCONSISTENT)
		list_unique(&netlink->links, sizeof(struct netlink_link));
	*ret_links = netlink->links.items;
	*ret_n = netlink->links.n;
	return r;
}

int netlink_counters(struct netlink *netlink, const struct netlink_counters **ret_counters, size_t *ret_n)
{
	int r = dump(netlink, RTM_GETSTATS);

	if (r < 0)
		return r;
	if (r == NETLINK_E_INCONSISTENT)
		list_unique(&netlink->counters, sizeof(struct netlink_counters));
	*ret_counters = netlink->counters.items;
	*ret_n = netlink->counters.n;
	return r;
}

int netlink_changes(struct netlink *netlink, netlink_change_fn fn, void *userdata)
{
	bool lost = false;

	for (int i = 0; i < CHANGES_MAX; i++) {
		ssize_t len = receive(netlink, netlink->changes);
		const void *at = netlink->buffer;
		size_t left = (size_t)len;
		struct netlink_message m;
		int r;

		if (!len)
			return lost ? NETLINK_E_LOST : 0;
		if (len == -ENOBUFS)
			netlink->totals.overflows++;
		else if (len < 0 && len != -EBADMSG)
			return (int)len;
		lost |= len < 0;
		if (len < 0)
			continue;
		while ((r = netlink_next(&at, &left, &m)) > 0)
			if (m.type == NETLINK_LINK || m.type == NETLINK_LINK_GONE)
				fn(&m, userdata);
		netlink->totals.malformed += r < 0;
		lost |= r < 0;
	}
	return lost ? NETLINK_E_LOST : NETLINK_E_MORE;
}

uint64_t netlink_speed(struct netlink *netlink, const char *name)
{
	/* The settings and, behind them, three masks. */
	union {
		struct ethtool_link_settings settings;
		uint8_t bytes[sizeof(struct ethtool_link_settings) + 3 * sizeof(uint32_t) * ETHTOOL_MASK_WORDS];
	} e;
	struct ifreq request = { .ifr_data = (void *)&e };

	if (strlen(name) >= sizeof(request.ifr_name))
		return 0;
	strcpy(request.ifr_name, name);
	memset(&e, 0, sizeof(e));
	e.settings.cmd = ETHTOOL_GLINKSETTINGS;
	/* The first call only tells how many words a mask has. */
	if (!netlink->mask_words) {
		if (ioctl(netlink->requests, SIOCETHTOOL, &request) || e.settings.link_mode_masks_nwords >= 0)
			return 0;
		netlink->mask_words = (int8_t)-e.settings.link_mode_masks_nwords;
		memset(&e, 0, sizeof(e));
		e.settings.cmd = ETHTOOL_GLINKSETTINGS;
	}
	e.settings.link_mode_masks_nwords = netlink->mask_words;
	if (ioctl(netlink->requests, SIOCETHTOOL, &request) || e.settings.speed == (uint32_t)SPEED_UNKNOWN)
		return 0;
	return (uint64_t)e.settings.speed * BYTES_PER_MEGABIT;
}

void netlink_totals(const struct netlink *netlink, struct netlink_totals *ret_totals)
{
	*ret_totals = netlink->totals;
}
