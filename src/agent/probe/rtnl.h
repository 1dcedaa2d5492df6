/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One question to rtnetlink and its one answer: a route, a link. (Dumps and notifications of links: agent/netlink.h.)
 * What comes back is checked before it is used, although it comes from the kernel; attributes are copied out, at any
 * alignment.
 */
#pragma once
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <stdint.h>

#define RTNL_ANSWER_MAX 8192 /* bytes; a link without statistics and virtual functions takes 1,500. More is refused */

struct rtnl_request {
	struct nlmsghdr header;
	union {
		struct rtmsg route;
		struct ifinfomsg link;
	};
	uint8_t attributes[64];
};

struct rtnl_answer {
	uint8_t bytes[RTNL_ANSWER_MAX];
	const uint8_t *head;       /* struct rtmsg, struct ifinfomsg */
	const uint8_t *attributes; /* behind it */
	size_t attributes_len;
};

/* Never blocks; groups: notifications to receive, of RTMGRP_*; queue_bytes: how much of them may wait, 0: as usual. */
int rtnl_open(unsigned groups, int queue_bytes, int *ret_fd);

#define RTNL_ROUTE_INIT(type) { .header = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)), .nlmsg_type = (type) } }
#define RTNL_LINK_INIT(type) { .header = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)), .nlmsg_type = (type) } }
void rtnl_put(struct rtnl_request *request, uint16_t type, const void *value, uint16_t len);
/* 0; the kernel's refusal as -errno; -EBADMSG. type: of the answer, RTM_NEW*; head_len: of its head. */
int rtnl_ask(int fd, struct rtnl_request *request, uint16_t type, size_t head_len, struct rtnl_answer *ret_answer);

/* The value of an attribute that has at least `least` bytes; NULL: there is none. ret_len may be NULL. */
const uint8_t *rtnl_find(const uint8_t *data, size_t len, unsigned type, size_t least, size_t *ret_len);
uint32_t rtnl_find_u32(const uint8_t *data, size_t len, unsigned type); /* 0: there is none */
