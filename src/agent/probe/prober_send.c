/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From "probe this path" to a packet that has left: the flight is armed, the packet built into the batch, the batch
 * sent.
 *
 * What the host refuses is told as unreachable, with the reason. What it has no room for at the moment (a queue
 * discipline or a socket's queue that is full: ENOBUFS) is told so too, and counted by itself: it says nothing about
 * the network. It is not tried again, which would make a burst of probes that were meant to be spread.
 */
#include "agent/probe/prober.h"

#include <errno.h>
#include <string.h>

#include "agent/probe/prober_internal.h"

#define STAMP_RANDOM_BITS 0xfffu /* of the fraction of a second: below the clock's resolution of a microsecond */

/* 0, or why this path cannot be probed now. */
static int obstacle(struct probe_path *path, uint64_t now_ns)
{
	if (path->route_error && now_ns - path->resolved_ns >= RESOLVE_AGAIN_NS)
		path_resolve(path, now_ns);
	if (path->route_error)
		return path->route_error;
	/* Without a hook the host's own stack would be handed the answers. */
	if (path->key.protocol == PROBE_TCP && !device_hides(path_device(path)))
		return EOPNOTSUPP;
	return 0;
}

static uint64_t new_cookie(struct probe_path *path, uint32_t sequence)
{
	uint64_t random = prober_random(path->prober), ntp;

	switch (path->key.protocol) {
	case PROBE_STAMP:
		ntp = clock_ntp_from_ns((uint64_t)wall_now().ns) & ~(uint64_t)STAMP_RANDOM_BITS;
		return PROBE_HOST64(ntp | (random & STAMP_RANDOM_BITS));
	case PROBE_TCP:
		return (uint32_t)random << 8 | (sequence & 0xff);
	default:
		return random;
	}
}

/* In this order: an answer to the probe that was here before must not be taken for one to the new one. */
static void arm(struct probe_path *path, uint32_t sequence, uint64_t cookie, uint64_t now_ns)
{
	struct probe_flight *f = path_flight(path, sequence);
	uint64_t state = flight_state(f), found;

	__atomic_store_n(&f->cookie, cookie, __ATOMIC_RELAXED);
	__atomic_store_n(&f->sent_ns, now_ns, __ATOMIC_RELAXED);
	f->received_ns = f->sent_wall_ns = f->remote_received = f->remote_sent = 0;
	f->remote_error = 0;
	f->clock = f->flags = 0;
	f->ifindex = 0;
	*path_note(path, sequence) = (struct probe_note){ 0 };
	/* Until now it may have been a lost one that becomes a late one. */
	while ((found = probe_cas(&f->state, state, PROBE_STATE(sequence, PROBE_ARMED))) != state)
		state = found;
}

static struct probe_ends ends_of(const struct probe_path *path)
{
	return (struct probe_ends){
		.source = path->source, .destination = path->destination, .source_port = path->key.port,
		.destination_port = (uint16_t)path->session->remote_port,
	};
}

static void build(struct probe_path *path, uint32_t sequence, uint64_t cookie, uint8_t *packet)
{
	const struct probe_ends ends = ends_of(path);

	switch (path->key.protocol) {
	case PROBE_ICMP:
		probe_packet_icmp(packet, &ends, path->payload, (uint16_t)sequence, cookie, path->checksum);
		break;
	case PROBE_STAMP:
		probe_packet_stamp(packet, &ends, path->payload, sequence, cookie, path->prober->error_estimate, path->secret);
		path_note(path, sequence)->checksum = probe_packet_checksum(PROBE_STAMP, packet);
		break;
	case PROBE_TCP:
		probe_packet_tcp(packet, &ends, (uint32_t)cookie);
		break;
	}
}

static struct probe_message message_of(const struct probe_path *path, const uint8_t *packet, size_t length)
{
	return (struct probe_message){
		.packet = packet, .len = (uint32_t)length, .source = path->source, .destination = path->destination,
		.ifindex = path->wanted_ifindex, .flow_label = path->v6 ? path->flow_label : 0,
		.identifier = path->key.port, .protocol = (uint8_t)path->key.protocol, .dscp = path->dscp, .ttl = path->ttl,
		.dont_fragment = path->dont_fragment,
	};
}

/*
 * All SYNs of a path come from one port, so that they take one way. A far end that has answered the one before, but whose
 * answer has not come (yet), is half-open on that port and would not answer a new one. So it is told to forget it: the hook
 * does that for answers that came.
 */
static void queue_reset(struct probe_path *path, uint32_t former)
{
	struct prober *p = path->prober;
	const struct probe_ends ends = ends_of(path);
	const struct probe_flight *f = path_flight(path, former);
	const uint64_t state = flight_state(f);
	const enum probe_stage stage = PROBE_STAGE(state);
	uint8_t *packet = p->arena + p->arena_used;

	if (PROBE_SEQUENCE(state) != former || (stage != PROBE_ARMED && stage != PROBE_SENT && stage != PROBE_LOST))
		return;
	probe_packet_reset(packet, &ends, (uint32_t)f->cookie);
	p->messages[p->n_queued] = message_of(path, packet, PROBE_PACKET_RESET_LEN);
	p->queued[p->n_queued++].path = NULL;
	p->arena_used += PROBE_PACKET_RESET_LEN;
}

static bool batch_is_full(const struct prober *p, size_t length)
{
	/* With a reset before it. */
	return p->n_queued + 1 >= PROBE_BATCH || p->arena_used + PROBE_PACKET_RESET_LEN + length > ARENA_BYTES;
}

static void queue(struct probe_path *path, uint32_t sequence, uint64_t cookie, size_t length, uint64_t now_ns)
{
	struct prober *p = path->prober;
	const struct probe_device *device = path_device(path);
	struct probe_message *m = &p->messages[p->n_queued];
	uint8_t *packet = p->arena + p->arena_used;

	build(path, sequence, cookie, packet);
	*m = message_of(path, packet, length);
	m->alone = !device || !device->send;
	m->flight = path_flight(path, sequence);
	m->token = (uint64_t)path->index << 32 | sequence;
	if (m->alone || !device_receives(device)) {
		p->alone_ns = now_ns;
		probe_sockets_want_stamps(p->sockets, true);
	}
	p->queued[p->n_queued].path = path;
	p->queued[p->n_queued].sequence = sequence;
	p->n_queued++;
	p->arena_used += length;
}

/* Is the place of this probe free of the one that had it before? */
static bool make_room(struct probe_path *path, uint32_t sequence, uint64_t now_ns)
{
	const uint32_t former = sequence - path->mask - 1;
	const uint64_t state = flight_state(path_flight(path, sequence));

	if (PROBE_SEQUENCE(state) != former || PROBE_STAGE(state) == PROBE_DONE || PROBE_STAGE(state) == PROBE_FREE)
		return true;
	prober_begin_round(path->prober);
	if (path_settle(path, former, now_ns))
		return true;
	path_poll(path);
	return path_settle(path, former, now_ns);
}

int prober_send(struct probe_path *path)
{
	struct prober *p = path->prober;
	size_t length = probe_packet_length(path->key.protocol, path->payload);
	uint64_t now = mono_now().ns, cookie;
	uint32_t sequence;
	int error;

	/* Both may tell results, whose receiver may send on this very path. */
	do {
		sequence = path->next;
		if (!make_room(path, sequence, now))
			return -EAGAIN;
		if (batch_is_full(p, length))
			prober_flush(p);
	} while (path->next != sequence || batch_is_full(p, length));
	error = obstacle(path, now);
	cookie = new_cookie(path, sequence);
	arm(path, sequence, cookie, now);
	path->next++;
	path->pending++;
	path->sent++;
	path_pend(path);
	if (error)
		path_give_up(path, sequence, error);
	else {
		if (path->key.protocol == PROBE_TCP && sequence)
			queue_reset(path, sequence - 1);
		queue(path, sequence, cookie, length, now);
	}
	return 0;
}

void prober_flush(struct prober *prober)
{
	struct { struct probe_path *path; uint32_t sequence; int error; } failed[PROBE_BATCH];
	size_t n = prober->n_queued, n_failed = 0;
	uint64_t now;

	if (!n)
		return;
	probe_sockets_send(prober->sockets, prober->messages, n);
	now = mono_now().ns;
	prober->n_queued = prober->arena_used = 0;
	/* Who is told may send, and so use the batch. */
	for (size_t i = 0; i < n; i++)
		if (prober->messages[i].error && prober->queued[i].path) {
			failed[n_failed].path = prober->queued[i].path;
			failed[n_failed].sequence = prober->queued[i].sequence;
			failed[n_failed++].error = prober->messages[i].error;
		}
	for (size_t i = 0; i < n_failed; i++) {
		struct probe_path *path = failed[i].path;

		prober->unsent += failed[i].error == ENOBUFS;
		/* The source address may be gone, or the route. */
		if (failed[i].error != ENOBUFS && failed[i].error != EMSGSIZE && now - path->resolved_ns >= RESOLVE_AGAIN_NS)
			path_resolve(path, now);
		if (failed[i].error == EINVAL)
			failed[i].error = EADDRNOTAVAIL;
		path_give_up(path, failed[i].sequence, failed[i].error);
	}
}
