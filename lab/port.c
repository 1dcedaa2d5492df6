/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arrival time is SO_TIMESTAMPNS's, which a veth takes when the sender's
 * stack hands the packet over (__dev_forward_skb). It is a time of day; the
 * difference to CLOCK_MONOTONIC is taken anew for every frame, and an arrival that
 * would lie in the future or implausibly far back (the clock was set meanwhile)
 * becomes now.
 *
 * Consuming instead of dropping: a frame for another MAC address would be counted
 * and traced as dropped (SKB_DROP_REASON_OTHERHOST), and an agent on this machine
 * would report it. TC_ACT_STOLEN ends in consume_skb().
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <linux/bpf.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <linux/sockios.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "lab/port.h"

#define RECEIVE_BUFFER (32 * 1024 * 1024) /* bytes; the kernel counts a small frame as about 800 of them */
#define VETH_MTU_MAX 65535
#define ARRIVAL_AGE_MAX_NS UINT64_C(10000000000)
#define CLOCKS_APART_MAX_NS 500
#define VLAN_HEADER 4

struct port {
	int fd;
	uint64_t overrun;
	/* Room in front of the frame for a VLAN tag that the kernel took out. */
	uint8_t buffer[VLAN_HEADER + PORT_FRAME_MAX];
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int device_ioctl(int fd, const char *device, unsigned long request, struct ifreq *ifr)
{
	snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%s", device);
	return ioctl(fd, request, ifr) < 0 ? -errno : 0;
}

/* Anything but a veth could be an interface that somebody needs. */
static int veth_check(int fd, const char *device, struct error *error)
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq ifr = { .ifr_data = (char *)&info };
	int r = device_ioctl(fd, device, SIOCETHTOOL, &ifr);
	if (r < 0 && r != -EOPNOTSUPP)
		return error_set_errno(error, r, "cannot look at %s", device);
	if (strcmp(info.driver, "veth"))
		return error_set(error, -EINVAL, "%s is no veth device", device);
	return 0;
}

static int device_up(int fd, const char *device, struct error *error)
{
	struct ifreq ifr = { .ifr_mtu = VETH_MTU_MAX };
	int r = device_ioctl(fd, device, SIOCSIFMTU, &ifr);
	if (!r)
		r = device_ioctl(fd, device, SIOCGIFFLAGS, &ifr);
	if (!r) {
		ifr.ifr_flags |= IFF_UP | IFF_NOARP;
		r = device_ioctl(fd, device, SIOCSIFFLAGS, &ifr);
	}
	return r < 0 ? error_set_errno(error, r, "cannot bring up %s", device) : 0;
}

static int consume_all(int ifindex, const char *device, struct error *error)
{
	const struct bpf_insn program[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = TC_ACT_STOLEN },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	struct bpf_tc_hook hook;
	struct bpf_tc_opts options;
	/* libbpf wants the padding to be zero, which an initializer need not make it. */
	memset(&hook, 0, sizeof(hook));
	memset(&options, 0, sizeof(options));
	hook.sz = sizeof(hook);
	hook.ifindex = ifindex;
	hook.attach_point = BPF_TC_INGRESS;
	options.sz = sizeof(options);
	options.handle = options.priority = 1;
	int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "lab_consume", "Apache-2.0", program, 2, NULL);
	if (fd < 0)
		return error_set_errno(error, fd, "cannot load the tc program for %s", device);
	options.prog_fd = fd;
	int r = bpf_tc_hook_create(&hook);
	if (!r || r == -EEXIST)
		r = bpf_tc_attach(&hook, &options);
	close(fd);
	return r < 0 ? error_set_errno(error, r, "cannot attach the tc program to %s", device) : 0;
}

static int socket_setup(int fd, int ifindex, const char *device, struct error *error)
{
	const int on = 1, size = RECEIVE_BUFFER;
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = ifindex };
	struct packet_mreq promiscuous = { .mr_ifindex = ifindex, .mr_type = PACKET_MR_PROMISC };
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)) < 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)) < 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) < 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof(promiscuous)) < 0 ||
	    bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return error_set_errno(error, -errno, "cannot set up a packet socket on %s", device);
	return 0;
}

int port_open(const char *device, struct port **ret_port, struct error *ret_error)
{
	int ifindex = (int)if_nametoindex(device);
	if (!ifindex)
		return error_set(ret_error, -ENODEV, "there is no device %s in this network namespace", device);
	struct port *port = calloc(1, sizeof(*port));
	if (!port)
		return error_set(ret_error, -ENOMEM, "out of memory");
	/* Protocol 0: nothing is received before the socket is bound to the one device. */
	port->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r = port->fd < 0 ? error_set_errno(ret_error, -errno, "cannot open a packet socket") : 0;
	if (!r)
		r = veth_check(port->fd, device, ret_error);
	if (!r)
		r = consume_all(ifindex, device, ret_error);
	if (!r)
		r = socket_setup(port->fd, ifindex, device, ret_error);
	if (!r)
		r = device_up(port->fd, device, ret_error);
	if (r < 0) {
		port_close(port);
		return r;
	}
	*ret_port = port;
	return 0;
}

void port_close(struct port *port)
{
	if (!port)
		return;
	if (port->fd >= 0)
		close(port->fd);
	free(port);
}

int port_fd(const struct port *port)
{
	return port->fd;
}

/* Both clocks at the same moment: read again when something came between the readings. */
static void clocks_read(uint64_t *ret_now, uint64_t *ret_wall)
{
	uint64_t before = clock_ns(CLOCK_MONOTONIC);
	for (int tries = 0; tries < 10; tries++) {
		*ret_wall = clock_ns(CLOCK_REALTIME);
		*ret_now = clock_ns(CLOCK_MONOTONIC);
		if (*ret_now - before < CLOCKS_APART_MAX_NS)
			break;
		before = *ret_now;
	}
}

static uint64_t arrival_ns(const struct timespec *stamp)
{
	uint64_t now, wall;
	clocks_read(&now, &wall);
	uint64_t then = (uint64_t)stamp->tv_sec * 1000000000 + (uint64_t)stamp->tv_nsec;
	if (then > wall || wall - then > ARRIVAL_AGE_MAX_NS || wall - then > now)
		return now;
	return now - (wall - then);
}

/* Puts back the tag that the kernel moved out of the frame. Returns where the frame begins now. */
static uint8_t *vlan_restore(uint8_t *frame, const struct tpacket_auxdata *aux)
{
	uint16_t type = htons(aux->tp_status & TP_STATUS_VLAN_TPID_VALID ? aux->tp_vlan_tpid : ETH_P_8021Q);
	uint16_t tci = htons(aux->tp_vlan_tci);
	uint8_t *begin = frame - VLAN_HEADER;
	memmove(begin, frame, 2 * ETH_ALEN);
	memcpy(begin + 2 * ETH_ALEN, &type, sizeof(type));
	memcpy(begin + 2 * ETH_ALEN + sizeof(type), &tci, sizeof(tci));
	return begin;
}

int port_receive(struct port *port, struct frame *ret_frame)
{
	union { struct cmsghdr align; char bytes[256]; } control;
	uint8_t *data = port->buffer + VLAN_HEADER;
	struct iovec iov = { .iov_base = data, .iov_len = PORT_FRAME_MAX };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	struct tpacket_auxdata aux = { 0 };
	struct timespec stamp = { 0 };
	ssize_t n = recvmsg(port->fd, &message, MSG_TRUNC);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR || errno == ENETDOWN ? 0 : -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA)
			memcpy(&aux, CMSG_DATA(c), sizeof(aux));
		else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS)
			memcpy(&stamp, CMSG_DATA(c), sizeof(stamp));
	}
	bool truncated = n > PORT_FRAME_MAX;
	size_t len = truncated ? PORT_FRAME_MAX : (size_t)n;
	if (aux.tp_status & TP_STATUS_VLAN_VALID && len >= 2 * ETH_ALEN) {
		data = vlan_restore(data, &aux);
		len += VLAN_HEADER;
	}
	*ret_frame = (struct frame){ .data = data, .len = len, .in_ns = arrival_ns(&stamp),
				     .unfinished = truncated || aux.tp_status & TP_STATUS_CSUMNOTREADY };
	return 1;
}

int port_send(struct port *port, const void *data, size_t len)
{
	return send(port->fd, data, len, MSG_DONTWAIT) < 0 ? -errno : 0;
}

uint64_t port_overrun(struct port *port)
{
	struct tpacket_stats stats; /* reading sets them to zero */
	socklen_t len = sizeof(stats);
	if (!getsockopt(port->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len))
		port->overrun += stats.tp_drops;
	return port->overrun;
}
