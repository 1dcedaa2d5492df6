/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How probes leave: the batch, its control data, and the kernel's stamps of messages that no hook sees.
 *
 * Stamps are told apart by a number that the kernel gives to each message of a socket that asks for one
 * (SOF_TIMESTAMPING_OPT_ID). Whether a message that failed has used a number depends on the kernel's version, so behind
 * a failure the count begins anew, and a stamp from before is known by being older than its message.
 */
#include "agent/probe/probe_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <string.h>
#include <time.h>

#include "agent/probe/probe_socket_internal.h"
#include "lib/clock.h"

/* PKTINFO, TOS, TTL and the demand for a stamp, of either family. */
#define CONTROL_MAX (CMSG_SPACE(sizeof(struct in6_pktinfo)) + 3 * CMSG_SPACE(sizeof(int)))

/* Three looks at a clock take some 60 ns, in virtual machines without a clock of their own a few us. */
#define DISTANCE_GOOD_NS 300
#define DISTANCE_TRIES 4

union name {
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

struct outgoing {
	struct mmsghdr headers[PROBE_BATCH];
	struct iovec vectors[PROBE_BATCH];
	union name names[PROBE_BATCH];
	_Alignas(struct cmsghdr) uint8_t control[PROBE_BATCH][CONTROL_MAX];
};

static void put_control(struct msghdr *header, int level, int type, const void *data, size_t len)
{
	struct cmsghdr *c = (struct cmsghdr *)((uint8_t *)header->msg_control + header->msg_controllen);

	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), data, len);
	header->msg_controllen += CMSG_SPACE(len);
}

static void put_number(struct msghdr *header, int level, int type, int value)
{
	put_control(header, level, type, &value, sizeof(value));
}

static void fill_v4(struct msghdr *header, struct sockaddr_in *name, const struct probe_message *m)
{
	struct in_pktinfo info = { .ipi_ifindex = (int)m->ifindex };

	*name = (struct sockaddr_in){ .sin_family = AF_INET };
	memcpy(&name->sin_addr, m->destination.bytes + 12, 4);
	memcpy(&info.ipi_spec_dst, m->source.bytes + 12, 4);
	header->msg_namelen = sizeof(*name);
	put_control(header, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
	if (m->dscp)
		put_number(header, IPPROTO_IP, IP_TOS, m->dscp << 2);
	if (m->ttl)
		put_number(header, IPPROTO_IP, IP_TTL, m->ttl);
}

static void fill_v6(struct msghdr *header, struct sockaddr_in6 *name, const struct probe_message *m)
{
	struct in6_pktinfo info = { .ipi6_ifindex = m->ifindex };

	*name = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_flowinfo = htonl(m->flow_label) };
	memcpy(&name->sin6_addr, m->destination.bytes, 16);
	memcpy(&info.ipi6_addr, m->source.bytes, 16);
	if (IN6_IS_ADDR_LINKLOCAL(&name->sin6_addr))
		name->sin6_scope_id = m->ifindex;
	header->msg_namelen = sizeof(*name);
	put_control(header, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
	if (m->dscp)
		put_number(header, IPPROTO_IPV6, IPV6_TCLASS, m->dscp << 2);
	if (m->ttl)
		put_number(header, IPPROTO_IPV6, IPV6_HOPLIMIT, m->ttl);
}

static void fill(struct outgoing *out, size_t i, const struct probe_message *m, bool stamp)
{
	struct msghdr *header = &out->headers[i].msg_hdr;

	out->vectors[i] = (struct iovec){ .iov_base = (void *)m->packet, .iov_len = m->len };
	*header = (struct msghdr){
		.msg_name = &out->names[i], .msg_iov = &out->vectors[i], .msg_iovlen = 1, .msg_control = out->control[i],
	};
	if (address_is_ipv4(&m->destination))
		fill_v4(header, &out->names[i].v4, m);
	else
		fill_v6(header, &out->names[i].v6, m);
	if (stamp)
		put_number(header, SOL_SOCKET, SO_TIMESTAMPING, SOF_TIMESTAMPING_TX_SOFTWARE);
}

static int64_t read_clock(clockid_t id)
{
	struct timespec t = { 0 };

	clock_gettime(id, &t);
	return t.tv_sec * (int64_t)NS_PER_SEC + t.tv_nsec;
}

int64_t clock_distance(void)
{
	int64_t least = INT64_MAX, distance = 0;

	/* Who is kept from running between the looks is wrong by half of that time: again then, and the best one
	 * counts. */
	for (int i = 0; i < DISTANCE_TRIES && least > DISTANCE_GOOD_NS; i++) {
		int64_t before = (int64_t)mono_now().ns, real = read_clock(CLOCK_REALTIME), after = (int64_t)mono_now().ns;

		if (after - before >= least)
			continue;
		least = after - before;
		distance = real - (before + least / 2);
	}
	return distance;
}

int64_t control_stamp(struct msghdr *message)
{
	struct scm_timestamping stamps;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPING && c->cmsg_len >= CMSG_LEN(sizeof(stamps))) {
			memcpy(&stamps, CMSG_DATA(c), sizeof(stamps));
			return stamps.ts[0].tv_sec * (int64_t)NS_PER_SEC + stamps.ts[0].tv_nsec;
		}
	return 0;
}

/* All that says "there is no room at the moment" as one error. */
static int send_error(int error)
{
	return error == EAGAIN || error == ENOMEM ? ENOBUFS : error;
}

/* The messages that were put into `out` leave; each gets its error. */
static void send_all(int fd, struct outgoing *out, struct probe_message **messages, size_t n, bool *untidy)
{
	for (size_t at = 0; at < n;) {
		int sent = sendmmsg(fd, &out->headers[at], (unsigned)(n - at), MSG_DONTWAIT);
		struct probe_message *m = messages[at];

		if (sent > 0) {
			at += (size_t)sent; /* the next one's error, if that was why it ended, comes by trying it again */
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno == EINVAL && m->flow_label) {
			m->flow_label = 0; /* somebody on this host has the label for himself (IPV6_FL_S_EXCL) */
			out->names[at].v6.sin6_flowinfo = 0;
			continue;
		}
		m->error = send_error(errno);
		*untidy = true;
		at++;
	}
}

/* What the message's hook will say is only known behind it; until then the time by user space, in case there is no
 * hook after all. */
static void send_batch(struct sender *sender, struct probe_message **messages, size_t n, struct outgoing *out)
{
	uint64_t now = mono_now().ns;

	for (size_t i = 0; i < n; i++) {
		fill(out, i, messages[i], false);
		if (messages[i]->flight)
			messages[i]->flight->sent_ns = now;
	}
	send_all(sender->fd, out, messages, n, &sender->untidy);
}

/* Reads one batch of the error queue; false when it was the last. */
static bool read_stamps(struct probe_sockets *s, struct sender *sender)
{
	struct receive_buffer *b = s->buffer;
	int64_t distance;
	int n;

	receive_prepare(b);
	n = recvmmsg(sender->fd, b->headers, RECEIVE_BATCH, MSG_ERRQUEUE | MSG_DONTWAIT, NULL);
	distance = clock_distance();
	for (int i = 0; i < n; i++) {
		struct msghdr *header = &b->headers[i].msg_hdr;
		int64_t stamp = control_stamp(header) - distance;
		const struct sock_extended_err *e = NULL;
		struct stamp_wait *wait;

		for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c))
			if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
			    (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR))
				e = (const struct sock_extended_err *)CMSG_DATA(c);
		if (!e || e->ee_origin != SO_EE_ORIGIN_TIMESTAMPING)
			continue;
		sender->outstanding -= sender->outstanding > 0;
		wait = &sender->waits[e->ee_data % STAMP_WAITS];
		if (wait->flight && stamp >= (int64_t)wait->before_ns && stamp <= (int64_t)mono_now().ns)
			s->handler.stamped(wait->token, wait->flight, (uint64_t)stamp, s->handler.userdata);
		wait->flight = NULL;
	}
	return n == RECEIVE_BATCH;
}

static void drain(struct probe_sockets *s, struct sender *sender)
{
	if (sender->fd < 0 || (!sender->outstanding && !sender->untidy))
		return;
	sender->untidy = false;
	while (read_stamps(s, sender))
		;
}

void probe_sockets_stamps(struct probe_sockets *sockets)
{
	for (size_t i = 0; i < SENDERS; i++)
		drain(sockets, &sockets->senders[i]);
}

static void send_alone(struct probe_sockets *s, struct sender *sender, struct probe_message *m, struct outgoing *out)
{
	bool failed = false;

	if (sender->outstanding == STAMP_WAITS) {
		drain(s, sender);
		if (sender->outstanding == STAMP_WAITS)
			sender->outstanding = 0; /* this device's driver stamps nothing */
	}
	fill(out, 0, m, true);
	m->flight->sent_wall_ns = (uint64_t)read_clock(CLOCK_TAI);
	m->flight->sent_ns = mono_now().ns;
	sender->waits[sender->next_id % STAMP_WAITS] =
		(struct stamp_wait){ .flight = m->flight, .token = m->token, .before_ns = m->flight->sent_ns };
	send_all(sender->fd, out, &m, 1, &failed);
	if (failed) {
		drain(s, sender);
		sender_reset(sender);
		return;
	}
	sender->next_id++;
	sender->outstanding++;
}

static struct receiver *ping_socket(struct probe_sockets *s, const struct probe_message *m)
{
	if (m->protocol != PROBE_ICMP)
		return NULL;
	return receiver_of(s, RECEIVER_PING, !address_is_ipv4(&m->destination), m->identifier);
}

/* Has no stamps of its own: they would wake us, since this socket is watched for answers. */
static void send_ping(struct probe_sockets *s, struct probe_message *m, struct outgoing *out)
{
	struct receiver *receiver = ping_socket(s, m);
	bool untidy;

	if (!receiver) {
		m->error = EAFNOSUPPORT;
		return;
	}
	fill(out, 0, m, false);
	m->flight->sent_wall_ns = (uint64_t)read_clock(CLOCK_TAI);
	m->flight->sent_ns = mono_now().ns;
	send_all(receiver->fd, out, &m, 1, &untidy);
}

static void send_by(struct probe_sockets *s, struct sender *sender, struct probe_message **messages, size_t n,
		    struct outgoing *out)
{
	struct probe_message *batch[PROBE_BATCH];
	size_t batched = 0;

	if (sender->fd < 0) {
		for (size_t i = 0; i < n; i++)
			messages[i]->error = EAFNOSUPPORT;
		return;
	}
	for (size_t i = 0; i < n; i++)
		if (messages[i]->alone)
			send_alone(s, sender, messages[i], out);
		else
			batch[batched++] = messages[i];
	if (batched)
		send_batch(sender, batch, batched, out);
}

static size_t sender_of(const struct probe_message *m)
{
	return sender_index(!address_is_ipv4(&m->destination), m->protocol, m->dont_fragment);
}

void probe_sockets_send(struct probe_sockets *sockets, struct probe_message *messages, size_t n)
{
	struct probe_message *same[PROBE_BATCH];
	struct outgoing out;
	uint32_t done = 0; /* senders that had their turn, a bit each */
	_Static_assert(SENDERS <= 32, "bits");

	for (size_t i = 0; i < n; i++) {
		messages[i].error = 0;
		if (!sockets->raw)
			send_ping(sockets, &messages[i], &out);
	}
	for (size_t i = 0; sockets->raw && i < n; i++) {
		size_t sender = sender_of(&messages[i]), count = 0;

		if (done & 1u << sender)
			continue;
		done |= 1u << sender;
		for (size_t k = i; k < n; k++)
			if (sender_of(&messages[k]) == sender)
				same[count++] = &messages[k];
		send_by(sockets, &sockets->senders[sender], same, count, &out);
	}
}
