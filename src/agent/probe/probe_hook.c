/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe/probe_hook.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <sys/socket.h>
#include <unistd.h>

/* Of the uapi from Linux 6.6 on, for good; not in every header. */
#define ATTACH_TCX_INGRESS 46
#define ATTACH_TCX_EGRESS 47
#define ATTACH_BEFORE 8 /* BPF_F_BEFORE without another program: before all */

/* A bound packet socket cannot be unbound; of this protocol (reserved by IANA) there are no packets. */
#define PROTOCOL_NONE 0xffff

static int create(int program_fd, uint32_t ifindex, unsigned where, uint32_t flags)
{
	const struct bpf_link_create_opts options = { .sz = sizeof(options), .flags = flags };
	int fd = bpf_link_create(program_fd, (int)ifindex, (enum bpf_attach_type)where, &options);

	return fd < 0 ? -errno : fd;
}

int probe_hook_xdp(int program_fd, uint32_t ifindex, bool generic)
{
	return create(program_fd, ifindex, BPF_XDP, generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE);
}

int probe_hook_tcx(int program_fd, uint32_t ifindex, bool send)
{
	return create(program_fd, ifindex, send ? ATTACH_TCX_EGRESS : ATTACH_TCX_INGRESS, ATTACH_BEFORE);
}

/* Only a kernel that knows the place looks for the interface, which cannot be. */
bool probe_hook_has_tcx(int program_fd)
{
	return probe_hook_tcx(program_fd, INT32_MAX, false) == -ENODEV;
}

/* Of XDP and tcx links alike the interface comes first in the union of struct bpf_link_info; 0 when there is none any
 * more. */
bool probe_hook_alive(int link_fd, uint32_t ifindex)
{
	struct bpf_link_info info = { 0 };
	__u32 len = sizeof(info);

	return bpf_obj_get_info_by_fd(link_fd, &info, &len) || info.xdp.ifindex == ifindex;
}

int probe_hook_socket(void)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); /* protocol 0: nothing arrives before bind */
	int least = 0;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof(least)); /* nothing is ever kept; larger would do no harm */
	return fd;
}

static int bind_to(int fd, uint16_t protocol, uint32_t ifindex)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = (int)ifindex,
	};

	return bind(fd, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
}

int probe_hook_socket_bind(int fd, int program_fd, uint32_t ifindex)
{
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &program_fd, sizeof(program_fd)))
		return -errno;
	return bind_to(fd, ETH_P_ALL, ifindex);
}

int probe_hook_socket_park(int fd)
{
	return bind_to(fd, PROTOCOL_NONE, 0);
}

bool probe_hook_socket_alive(int fd, uint32_t ifindex)
{
	struct sockaddr_ll address = { 0 };
	socklen_t len = sizeof(address);

	return getsockname(fd, (struct sockaddr *)&address, &len) || (uint32_t)address.sll_ifindex == ifindex;
}
