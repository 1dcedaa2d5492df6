/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe/rtnl.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int rtnl_open(unsigned groups, int queue_bytes, int *ret_fd)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = groups };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE), r = 0;

	if (fd < 0)
		return -errno;
	if ((queue_bytes && setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &queue_bytes, sizeof(queue_bytes))) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)))
		r = -errno;
	if (r < 0) {
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

void rtnl_put(struct rtnl_request *request, uint16_t type, const void *value, uint16_t len)
{
	struct rtattr a = { .rta_len = (uint16_t)RTA_LENGTH(len), .rta_type = type };
	uint8_t *at = (uint8_t *)request + NLMSG_ALIGN(request->header.nlmsg_len);

	assert(at + RTA_SPACE(len) <= (uint8_t *)(request + 1));
	memcpy(at, &a, sizeof(a));
	memcpy(at + RTA_LENGTH(0), value, len);
	request->header.nlmsg_len = (uint32_t)(NLMSG_ALIGN(request->header.nlmsg_len) + RTA_ALIGN(a.rta_len));
}

/* One message from the kernel. 0, -EAGAIN for one that answers an earlier question, -errno. */
static int take(int fd, uint32_t sequence, uint16_t type, size_t head_len, struct rtnl_answer *answer)
{
	struct nlmsghdr h;
	struct sockaddr_nl from = { 0 };
	socklen_t from_len = sizeof(from);
	ssize_t len = recvfrom(fd, answer->bytes, sizeof(answer->bytes), MSG_TRUNC, (struct sockaddr *)&from, &from_len);
	int32_t error;

	if (len < 0 && errno == EINTR)
		return -EAGAIN;
	/* The kernel has its answer ready when send returns. */
	if (len < 0)
		return errno == EAGAIN ? -EPROTO : -errno;
	if (from.nl_pid) /* another process */
		return -EAGAIN;
	if ((size_t)len < sizeof(h) || (size_t)len > sizeof(answer->bytes))
		return -EBADMSG;
	memcpy(&h, answer->bytes, sizeof(h));
	if (h.nlmsg_len < sizeof(h) || h.nlmsg_len > (size_t)len)
		return -EBADMSG;
	if (h.nlmsg_seq != sequence)
		return -EAGAIN;
	answer->head = answer->bytes + NLMSG_HDRLEN;
	if (h.nlmsg_type == type && h.nlmsg_len >= NLMSG_HDRLEN + NLMSG_ALIGN(head_len)) {
		answer->attributes = answer->head + NLMSG_ALIGN(head_len);
		answer->attributes_len = h.nlmsg_len - NLMSG_HDRLEN - NLMSG_ALIGN(head_len);
		return 0;
	}
	if (h.nlmsg_type != NLMSG_ERROR || h.nlmsg_len < NLMSG_HDRLEN + sizeof(error))
		return -EBADMSG;
	memcpy(&error, answer->head, sizeof(error));
	return error < 0 && error >= -4095 && error != -EAGAIN ? error : -EPROTO;
}

int rtnl_ask(int fd, struct rtnl_request *request, uint16_t type, size_t head_len, struct rtnl_answer *ret_answer)
{
	int r;

	request->header.nlmsg_flags = NLM_F_REQUEST;
	if (send(fd, request, request->header.nlmsg_len, 0) < 0)
		return -errno;
	do {
		r = take(fd, request->header.nlmsg_seq, type, head_len, ret_answer);
	} while (r == -EAGAIN);
	return r;
}

const uint8_t *rtnl_find(const uint8_t *data, size_t len, unsigned type, size_t least, size_t *ret_len)
{
	struct rtattr a;

	while (len >= sizeof(a)) {
		size_t taken;

		memcpy(&a, data, sizeof(a));
		if (a.rta_len < sizeof(a) || a.rta_len > len)
			return NULL;
		if ((a.rta_type & NLA_TYPE_MASK) == type && a.rta_len - sizeof(a) >= least) {
			if (ret_len)
				*ret_len = a.rta_len - sizeof(a);
			return data + sizeof(a);
		}
		taken = RTA_ALIGN((size_t)a.rta_len);
		taken = taken < len ? taken : len;
		data += taken;
		len -= taken;
	}
	return NULL;
}

uint32_t rtnl_find_u32(const uint8_t *data, size_t len, unsigned type)
{
	const uint8_t *value = rtnl_find(data, len, type, sizeof(uint32_t), NULL);
	uint32_t number = 0;

	if (value)
		memcpy(&number, value, sizeof(number));
	return number;
}
