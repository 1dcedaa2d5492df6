/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe/netdev_stamps.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/genetlink.h>
#include <linux/net_tstamp.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/probe/rtnl.h"

/* uapi linux/netdev.h, newer than many headers */
#define NETDEV_FAMILY "netdev"
#define NETDEV_DEV_GET 1
#define NETDEV_IFINDEX 1
#define NETDEV_METADATA_FEATURES 5
#define NETDEV_METADATA_TIMESTAMP 1

#define ANSWER_MAX 4096 /* bytes: the family's description takes some hundred, the device's less */

struct question {
	struct nlmsghdr header;
	struct genlmsghdr general;
	struct nlattr attribute;
	uint8_t value[16];
};

struct answer {
	uint8_t bytes[ANSWER_MAX];
	const uint8_t *attributes;
	size_t len;
};

int netdev_clock(const char *name)
{
	struct ethtool_ts_info info = { .cmd = ETHTOOL_GET_TS_INFO };
	struct ifreq request = { .ifr_data = (void *)&info };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r = -1;

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (fd >= 0 && !ioctl(fd, SIOCETHTOOL, &request) && info.so_timestamping & SOF_TIMESTAMPING_RX_HARDWARE)
		r = info.phc_index;
	if (fd >= 0)
		close(fd);
	return r;
}

/* A question with one attribute, and its one answer. */
static bool ask(int fd, uint16_t family, uint8_t command, uint16_t attribute, const void *value, uint16_t len,
		struct answer *ret_answer)
{
	struct question q = {
		.header = { .nlmsg_type = family, .nlmsg_flags = NLM_F_REQUEST, .nlmsg_seq = 1 },
		.general = { .cmd = command, .version = 1 },
		.attribute = { .nla_len = (uint16_t)(NLA_HDRLEN + len), .nla_type = attribute },
	};
	struct nlmsghdr h;
	ssize_t n;

	memcpy(q.value, value, len);
	q.header.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN) + NLA_ALIGN(NLA_HDRLEN + len);
	if (send(fd, &q, q.header.nlmsg_len, 0) < 0)
		return false;
	n = recv(fd, ret_answer->bytes, sizeof(ret_answer->bytes), MSG_TRUNC);
	if (n < (ssize_t)NLMSG_LENGTH(GENL_HDRLEN) || (size_t)n > sizeof(ret_answer->bytes))
		return false;
	memcpy(&h, ret_answer->bytes, sizeof(h));
	if (h.nlmsg_type != family || h.nlmsg_len < NLMSG_LENGTH(GENL_HDRLEN) || h.nlmsg_len > (size_t)n)
		return false;
	ret_answer->attributes = ret_answer->bytes + NLMSG_LENGTH(GENL_HDRLEN);
	ret_answer->len = h.nlmsg_len - NLMSG_LENGTH(GENL_HDRLEN);
	return true;
}

static int open_general(void)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_GENERIC);

	/* Connected, it hears nobody but the kernel, whose answer is there when send returns. */
	if (fd >= 0 && connect(fd, (struct sockaddr *)&kernel, sizeof(kernel))) {
		close(fd);
		return -1;
	}
	return fd;
}

bool netdev_has_stamps(uint32_t ifindex)
{
	const uint8_t *value;
	struct answer answer;
	uint64_t features = 0;
	uint16_t family = 0;
	int fd = open_general();

	if (fd < 0)
		return false;
	if (ask(fd, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, NETDEV_FAMILY, sizeof(NETDEV_FAMILY), &answer)) {
		value = rtnl_find(answer.attributes, answer.len, CTRL_ATTR_FAMILY_ID, sizeof(family), NULL);
		if (value)
			memcpy(&family, value, sizeof(family));
	}
	if (family && ask(fd, family, NETDEV_DEV_GET, NETDEV_IFINDEX, &ifindex, sizeof(ifindex), &answer)) {
		value = rtnl_find(answer.attributes, answer.len, NETDEV_METADATA_FEATURES, sizeof(features), NULL);
		if (value)
			memcpy(&features, value, sizeof(features));
	}
	close(fd);
	return features & NETDEV_METADATA_TIMESTAMP;
}
