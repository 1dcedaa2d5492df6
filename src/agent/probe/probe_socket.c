/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe/probe_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/in6.h>
#include <linux/net_tstamp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "agent/probe/probe_filter.h"
#include "agent/probe/probe_socket_internal.h"

/* Addresses that are nobody's: the IPv4 dummy address (RFC 7600), and one of the discard-only block (RFC 6666). */
#define NOBODY4 "192.0.0.8"
#define NOBODY6 "100::8"

#define SEND_QUEUE (4 << 20)    /* bytes that may wait in a sending socket's queue disciplines: some thousand probes */
#define RECEIVE_QUEUE (2 << 20) /* bytes: some thousand answers */
#define PING_SOCKETS_MAX 16     /* identifiers without privileges: descriptors are dearer than paths to one host */

static const int protocols[2][PROBE_PROTOCOL_COUNT] = {
	{ [PROBE_ICMP] = IPPROTO_ICMP, [PROBE_STAMP] = IPPROTO_UDP, [PROBE_TCP] = IPPROTO_TCP },
	{ [PROBE_ICMP] = IPPROTO_ICMPV6, [PROBE_STAMP] = IPPROTO_UDP, [PROBE_TCP] = IPPROTO_TCP },
};

static void set(int fd, int level, int option, int value)
{
	/* All that is set by this is an improvement; where it is refused (an old kernel, a limit), the socket still
	 * does its work. */
	(void)setsockopt(fd, level, option, &value, sizeof(value));
}

static void queue_sizes(int fd, int send, int receive)
{
	if (send && setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &send, sizeof(send)))
		set(fd, SOL_SOCKET, SO_SNDBUF, send);
	if (receive && setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &receive, sizeof(receive)))
		set(fd, SOL_SOCKET, SO_RCVBUF, receive);
}

/* From now on a raw socket receives nothing. -errno. */
static int bind_nowhere(int fd, bool v6)
{
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in a4 = { .sin_family = AF_INET };
	int r;

	inet_pton(AF_INET6, NOBODY6, &a6.sin6_addr);
	inet_pton(AF_INET, NOBODY4, &a4.sin_addr);
	set(fd, IPPROTO_IP, IP_FREEBIND, 1);
	if (v6)
		set(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1);
	r = v6 ? bind(fd, (struct sockaddr *)&a6, sizeof(a6)) : bind(fd, (struct sockaddr *)&a4, sizeof(a4));
	r = r ? -errno : 0;
	set(fd, IPPROTO_IP, IP_FREEBIND, 0); /* its packets may only be from addresses that are ours */
	if (v6)
		set(fd, IPPROTO_IPV6, IPV6_FREEBIND, 0);
	return r;
}

static int bind_anywhere(int fd, bool v6)
{
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in a4 = { .sin_family = AF_INET };

	return (v6 ? bind(fd, (struct sockaddr *)&a6, sizeof(a6)) : bind(fd, (struct sockaddr *)&a4, sizeof(a4))) ? -errno : 0;
}

void sender_reset(struct sender *sender)
{
	set(sender->fd, SOL_SOCKET, SO_TIMESTAMPING, 0);
	set(sender->fd, SOL_SOCKET, SO_TIMESTAMPING,
	    SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY);
	memset(sender->waits, 0, sizeof(sender->waits));
	sender->next_id = 0;
	sender->outstanding = 0;
	sender->untidy = true;
}

static int open_sender(struct sender *sender, bool v6, int protocol, bool dont_fragment)
{
	int r;

	sender->fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
	if (sender->fd < 0)
		return -errno;
	r = bind_nowhere(sender->fd, v6);
	if (r < 0)
		return r;
	queue_sizes(sender->fd, SEND_QUEUE, RECEIVE_QUEUE);
	/* Without it the kernel keeps to itself that a queue discipline threw a packet away. */
	set(sender->fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_RECVERR : IP_RECVERR, 1);
	if (v6)
		set(sender->fd, IPPROTO_IPV6, IPV6_FLOWINFO_SEND, 1);
	if (dont_fragment) {
		/* Whatever the host believes of the path: the probe is to find out. */
		set(sender->fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_MTU_DISCOVER : IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
		if (v6)
			set(sender->fd, IPPROTO_IPV6, IPV6_DONTFRAG, 1);
	}
	sender_reset(sender);
	return 0;
}

static int open_senders(struct probe_sockets *s)
{
	int r;

	for (unsigned v6 = 0; v6 < 2; v6++)
		for (unsigned protocol = 0; protocol < PROBE_PROTOCOL_COUNT; protocol++)
			for (unsigned df = 0; df < 2; df++) {
				struct sender *sender = &s->senders[sender_index(v6, protocol, df)];

				r = open_sender(sender, v6, protocols[v6][protocol], df);
				if (r == -EAFNOSUPPORT && v6)
					return 0; /* IPv6 is off in this kernel */
				if (r < 0)
					return r;
			}
	return 0;
}

static void readable(struct loop_fd *fd, unsigned events, void *userdata)
{
	receiver_read(userdata);
}

/* Takes fd in. */
static int add_receiver(struct probe_sockets *s, int fd, enum receiver_kind kind, bool v6, uint16_t port)
{
	struct receiver *receiver = &s->receivers[s->n_receivers++];

	*receiver = (struct receiver){ .sockets = s, .fd = fd, .kind = kind, .v6 = v6, .port = port };
	queue_sizes(fd, 0, RECEIVE_QUEUE);
	set(fd, SOL_SOCKET, SO_RXQ_OVFL, 1);
	if (v6)
		set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	else
		set(fd, IPPROTO_IP, IP_PKTINFO, 1);
	return loop_fd_new(s->loop, fd, LOOP_READABLE, readable, receiver, &receiver->watch);
}

static int open_raw_receiver(struct probe_sockets *s, enum receiver_kind kind, bool v6)
{
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
			protocols[v6][kind == RECEIVER_TCP ? PROBE_TCP : PROBE_ICMP]);
	int r;

	if (fd < 0)
		return errno == EAFNOSUPPORT && v6 ? 0 : -errno;
	r = add_receiver(s, fd, kind, v6, 0);
	if (!r && kind == RECEIVER_TCP)
		r = bind_nowhere(fd, v6);
	if (!r)
		r = kind == RECEIVER_TCP ? probe_filter_tcp(fd, v6, s->ports.first, s->count) :
					   probe_filter_icmp(fd, v6, s->icmp_first, s->ports.first, s->count);
	return r;
}

static int open_raw(struct probe_sockets *s, struct error *ret_error)
{
	int r = open_senders(s);

	if (r == -EPERM || r == -EACCES)
		return error_set(ret_error, r, "cannot open raw sockets: no permission; run as root, or with CAP_NET_RAW");
	if (r < 0)
		return error_set_errno(ret_error, r, "cannot open raw sockets");
	s->raw = true;
	r = probe_ports_open(s->count, &s->ports, ret_error);
	if (r < 0)
		return r;
	for (unsigned v6 = 0; v6 < 2 && !r; v6++) {
		r = open_raw_receiver(s, RECEIVER_ICMP, v6);
		if (!r)
			r = open_raw_receiver(s, RECEIVER_TCP, v6);
	}
	for (uint16_t i = 0; i < s->count && !r; i++)
		r = add_receiver(s, s->ports.udp[i], RECEIVER_UDP, s->ports.v6, (uint16_t)(s->ports.first + i));
	return r < 0 ? error_set_errno(ret_error, r, "cannot receive answers to probes") : 0;
}

static int open_ping_socket(struct probe_sockets *s, bool v6, uint16_t identifier)
{
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_port = htons(identifier) };
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_port = htons(identifier) };
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, protocols[v6][PROBE_ICMP]);
	int r;

	if (fd < 0)
		return errno == EAFNOSUPPORT && v6 ? 0 : -errno;
	r = add_receiver(s, fd, RECEIVER_PING, v6, identifier);
	if (r < 0)
		return r;
	set(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_RECVERR : IP_RECVERR, 1);
	if (v6)
		set(fd, IPPROTO_IPV6, IPV6_FLOWINFO_SEND, 1);
	return (v6 ? bind(fd, (struct sockaddr *)&a6, sizeof(a6)) : bind(fd, (struct sockaddr *)&a4, sizeof(a4))) ? -errno : 0;
}

static int open_ping(struct probe_sockets *s, struct error *ret_error)
{
	int r = 0;

	if (s->count > PING_SOCKETS_MAX)
		s->count = PING_SOCKETS_MAX;
	for (unsigned v6 = 0; v6 < 2 && !r; v6++)
		for (uint16_t i = 0; i < s->count && !r; i++)
			r = open_ping_socket(s, v6, (uint16_t)(s->icmp_first + i));
	if (r == -EACCES || r == -EPERM)
		return error_set(ret_error, r, "cannot open sockets for ICMP: no permission; run as root, with "
				 "CAP_NET_RAW, or with a group that net.ipv4.ping_group_range allows");
	return r < 0 ? error_set_errno(ret_error, r, "cannot open sockets for ICMP") : 0;
}

static struct probe_sockets *new(struct loop *loop, uint16_t count, const struct probe_sockets_handler *handler)
{
	struct probe_sockets *s = calloc(1, sizeof(*s));
	uint16_t random = 0;

	if (!s)
		return NULL;
	s->loop = loop;
	s->handler = *handler;
	s->count = count;
	/* Not 0, and no block that wraps around. */
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
		random = (uint16_t)getpid();
	s->icmp_first = (uint16_t)(1 + random % (65535 - count));
	s->senders = calloc(SENDERS, sizeof(*s->senders));
	s->receivers = calloc(2u * count + 4, sizeof(*s->receivers));
	s->buffer = calloc(1, sizeof(*s->buffer));
	for (size_t i = 0; s->senders && i < SENDERS; i++)
		s->senders[i].fd = -1;
	if (s->senders && s->receivers && s->buffer)
		return s;
	probe_sockets_close(s);
	return NULL;
}

/* What a failed attempt has opened. */
static void close_all(struct probe_sockets *s)
{
	for (size_t i = 0; i < s->n_receivers; i++) {
		loop_fd_free(s->receivers[i].watch);
		if (s->receivers[i].kind != RECEIVER_UDP)
			close(s->receivers[i].fd);
	}
	s->n_receivers = 0;
	for (size_t i = 0; s->senders && i < SENDERS; i++) {
		if (s->senders[i].fd >= 0)
			close(s->senders[i].fd);
		s->senders[i].fd = -1;
	}
	probe_ports_close(&s->ports);
}

int probe_sockets_open(struct loop *loop, uint16_t count, bool unprivileged, const struct probe_sockets_handler *handler,
		       struct probe_sockets **ret_sockets, struct error *ret_error)
{
	struct probe_sockets *s = new(loop, count, handler);
	int r;

	if (!s)
		return error_set_errno(ret_error, -ENOMEM, "cannot open the prober's sockets");
	r = open_raw(s, ret_error);
	if ((r == -EPERM || r == -EACCES) && !s->raw && unprivileged) {
		close_all(s);
		r = open_ping(s, ret_error);
	}
	if (r < 0) {
		probe_sockets_close(s);
		return r;
	}
	*ret_sockets = s;
	return 0;
}

void probe_sockets_close(struct probe_sockets *sockets)
{
	if (!sockets)
		return;
	close_all(sockets);
	free(sockets->senders);
	free(sockets->receivers);
	free(sockets->buffer);
	free(sockets);
}

bool probe_sockets_raw(const struct probe_sockets *sockets)
{
	return sockets->raw;
}

uint16_t probe_sockets_count(const struct probe_sockets *sockets)
{
	return sockets->count;
}

uint16_t probe_sockets_port_first(const struct probe_sockets *sockets)
{
	return sockets->ports.first;
}

uint16_t probe_sockets_icmp_first(const struct probe_sockets *sockets)
{
	return sockets->icmp_first;
}

void probe_sockets_want_stamps(struct probe_sockets *sockets, bool want)
{
	const int flags = want ? SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE : 0;

	if (sockets->stamps == want)
		return;
	sockets->stamps = want;
	for (size_t i = 0; i < sockets->n_receivers; i++)
		set(sockets->receivers[i].fd, SOL_SOCKET, SO_TIMESTAMPING, flags);
}

void probe_sockets_tcp(struct probe_sockets *sockets, bool receive)
{
	if (sockets->tcp == receive)
		return;
	sockets->tcp = receive;
	for (size_t i = 0; i < sockets->n_receivers; i++) {
		struct receiver *r = &sockets->receivers[i];

		if (r->kind != RECEIVER_TCP)
			continue;
		if (receive)
			bind_anywhere(r->fd, r->v6);
		else
			bind_nowhere(r->fd, r->v6);
	}
}

uint64_t probe_sockets_overflows(const struct probe_sockets *sockets)
{
	return sockets->overflows;
}
