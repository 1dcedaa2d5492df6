/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading rtnetlink messages (RFC 3549; <linux/rtnetlink.h>, <linux/if_link.h>).
 * They come from the kernel, but nothing here relies on that: each length is checked
 * against what is left before it is used, headers are copied out so that alignment does
 * not matter, and what a message does not say is zero.
 */
#include <errno.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/netlink.h"

/* One attribute off *data. False at the end and, with *ret_bad set, at what is none. */
static bool next_attribute(const uint8_t **data, size_t *len, unsigned *ret_type, const uint8_t **ret_value, size_t *ret_len,
			   bool *ret_bad)
{
	struct nlattr a;
	size_t taken;

	if (*len < sizeof(a))
		return false;
	memcpy(&a, *data, sizeof(a));
	if (a.nla_len < sizeof(a) || a.nla_len > *len) {
		*ret_bad = true;
		return false;
	}
	*ret_type = a.nla_type & NLA_TYPE_MASK;
	*ret_value = *data + sizeof(a);
	*ret_len = a.nla_len - sizeof(a);
	taken = NLA_ALIGN((size_t)a.nla_len);
	taken = taken < *len ? taken : *len;
	*data += taken;
	*len -= taken;
	return true;
}

/* A string that fits, with its end. */
static bool copy_string(char *to, size_t size, const uint8_t *value, size_t len)
{
	size_t n = strnlen((const char *)value, len);

	if (!n || n >= size)
		return false;
	memcpy(to, value, n);
	to[n] = '\0';
	return true;
}

static bool read_kind(const uint8_t *data, size_t len, char *ret_kind)
{
	const uint8_t *value;
	size_t value_len;
	unsigned type;
	bool bad = false;

	while (next_attribute(&data, &len, &type, &value, &value_len, &bad))
		if (type == IFLA_INFO_KIND && !copy_string(ret_kind, NETLINK_KIND_MAX, value, value_len))
			strcpy(ret_kind, "?"); /* longer than any that we care for */
	return !bad;
}

/* RTM_NEWLINK and RTM_DELLINK. */
static bool read_link(const uint8_t *data, size_t len, struct netlink_message *m)
{
	struct netlink_link *link = &m->link;
	struct ifinfomsg info;
	const uint8_t *value;
	size_t value_len, taken = NLMSG_ALIGN(sizeof(info));
	unsigned type;
	bool bad = false;

	if (len < taken)
		return false;
	memcpy(&info, data, sizeof(info));
	/* Of other families are a bridge's ports: RTM_DELLINK then says that the device left the bridge. */
	if (info.ifi_family != AF_UNSPEC) {
		m->type = NETLINK_OTHER;
		return true;
	}
	if (info.ifi_index <= 0)
		return false;
	link->index = info.ifi_index;
	link->flags = info.ifi_flags;
	data += taken;
	len -= taken;
	while (next_attribute(&data, &len, &type, &value, &value_len, &bad)) {
		if (type == IFLA_IFNAME) {
			bad |= !copy_string(link->name, sizeof(link->name), value, value_len);
		} else if (type == IFLA_CARRIER_DOWN_COUNT && value_len >= sizeof(link->carrier_downs)) {
			memcpy(&link->carrier_downs, value, sizeof(link->carrier_downs));
			link->carrier_known = true;
		} else if (type == IFLA_LINKINFO) {
			bad |= !read_kind(value, value_len, link->kind);
		}
	}
	return !bad && (m->type == NETLINK_LINK_GONE || link->name[0]);
}

/* RTM_NEWSTATS. struct rtnl_link_stats64 grew with the years; what we read was always in it. */
static bool read_counters(const uint8_t *data, size_t len, struct netlink_message *m)
{
	struct netlink_counters *c = &m->counters;
	struct rtnl_link_stats64 s = { 0 };
	const size_t needed = offsetof(struct rtnl_link_stats64, rx_missed_errors) + sizeof(s.rx_missed_errors);
	struct if_stats_msg info;
	const uint8_t *value;
	size_t value_len, taken = NLMSG_ALIGN(sizeof(info));
	unsigned type;
	bool bad = false, found = false;

	if (len < taken)
		return false;
	memcpy(&info, data, sizeof(info));
	data += taken;
	len -= taken;
	while (next_attribute(&data, &len, &type, &value, &value_len, &bad))
		if (type == IFLA_STATS_LINK_64 && value_len >= needed) {
			memcpy(&s, value, value_len < sizeof(s) ? value_len : sizeof(s));
			found = true;
		}
	if (bad || !found || !info.ifindex || info.ifindex > INT32_MAX)
		return false;
	*c = (struct netlink_counters){
		.index = (int32_t)info.ifindex,
		.receive_bytes = s.rx_bytes, .receive_packets = s.rx_packets,
		.receive_errors = s.rx_errors, .receive_drops = s.rx_dropped + s.rx_missed_errors,
		.transmit_bytes = s.tx_bytes, .transmit_packets = s.tx_packets,
		.transmit_errors = s.tx_errors, .transmit_drops = s.tx_dropped,
	};
	return true;
}

static bool read_error(const uint8_t *data, size_t len, struct netlink_message *m)
{
	int32_t error = 0;

	if (len >= sizeof(error))
		memcpy(&error, data, sizeof(error));
	else if (m->type == NETLINK_ERROR)
		return false;
	if (error > 0 || error < -4095)
		return false;
	m->error = error;
	return true;
}

static bool read_payload(unsigned type, const uint8_t *data, size_t len, struct netlink_message *m)
{
	switch (type) {
	case RTM_NEWLINK:
		m->type = NETLINK_LINK;
		return read_link(data, len, m);
	case RTM_DELLINK:
		m->type = NETLINK_LINK_GONE;
		return read_link(data, len, m);
	case RTM_NEWSTATS:
		m->type = NETLINK_COUNTERS;
		return read_counters(data, len, m);
	case NLMSG_DONE:
		m->type = NETLINK_END;
		return read_error(data, len, m);
	case NLMSG_ERROR:
		m->type = NETLINK_ERROR;
		return read_error(data, len, m);
	default:
		m->type = NETLINK_OTHER;
		return true;
	}
}

int netlink_next(const void **data, size_t *len, struct netlink_message *ret_message)
{
	const uint8_t *at = *data;
	struct netlink_message m = { 0 };
	struct nlmsghdr h;
	size_t taken;

	if (!*len)
		return 0;
	if (*len < sizeof(h))
		goto bad;
	memcpy(&h, at, sizeof(h));
	if (h.nlmsg_len < sizeof(h) || h.nlmsg_len > *len)
		goto bad;
	m.sequence = h.nlmsg_seq;
	m.interrupted = h.nlmsg_flags & NLM_F_DUMP_INTR;
	if (!read_payload(h.nlmsg_type, at + sizeof(h), h.nlmsg_len - sizeof(h), &m))
		goto bad;
	taken = NLMSG_ALIGN((size_t)h.nlmsg_len);
	taken = taken < *len ? taken : *len;
	*data = at + taken;
	*len -= taken;
	*ret_message = m;
	return 1;
bad:
	*len = 0;
	return -EBADMSG;
}
