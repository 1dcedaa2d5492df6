/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What no hook took: answers that arrived at the sockets, and errors. Nothing is told from here: what arrives changes
 * flights and notes, and collecting tells.
 *
 * Answers are judged by the code that the hooks have (bpf/probe_match.h). Where a hook saw a packet and let it pass, it
 * has counted it already (`judged`).
 *
 * Errors are anybody's word: an ICMP error needs no connection, and who knows a host's peers can forge one. So one must
 * quote what only the two ends and the path have seen: the cookie (ICMP with 16 bytes, STAMP, and TCP always: its
 * cookie is in the first 8 bytes, which every router quotes), or, from routers that quote 8 bytes only, the checksum,
 * which for a path of ICMP probes is a random constant, and for STAMP depends on the cookie. It ends one probe early,
 * at the next collection; an answer that comes before that, or to any other probe, counts all the same.
 *
 * Answers to TCP that come back by another interface than the SYN left by pass no hook, and our raw sockets do not
 * listen (that would cost every TCP packet of the host). When a path loses some probes in a row they listen for a
 * while; if there is such an answer, its interface gets a hook.
 */
#include "agent/probe/prober.h"

#include <string.h>

#include "agent/probe/hmac_key.h"
#include "agent/probe/prober_internal.h"

#define SEARCH_LOST 3                       /* probes in a row */
#define SEARCH_NS (10 * NS_PER_SEC)
#define SEARCH_PAUSE_NS (120 * NS_PER_SEC)
#define ATTACH_AGAIN_NS NS_PER_SEC

void prober_search_lost(struct probe_path *path, uint64_t now_ns)
{
	struct prober *p = path->prober;

	if (++path->lost_in_a_row < SEARCH_LOST || p->search.always || now_ns < p->search.again_ns)
		return;
	p->search.until_ns = now_ns + SEARCH_NS;
	p->search.again_ns = now_ns + SEARCH_PAUSE_NS;
	probe_sockets_tcp(p->sockets, true);
}

void prober_search_tick(struct prober *prober, uint64_t now_ns)
{
	if (!prober->n_tcp)
		prober->search.always = false;
	if (!prober->search.always && now_ns >= prober->search.until_ns)
		probe_sockets_tcp(prober->sockets, false);
}

/* An answer that no hook took. */
static void want_stamps(struct prober *p, uint64_t received_ns)
{
	p->alone_ns = received_ns;
	probe_sockets_want_stamps(p->sockets, true);
}

/* An answer came in where no hook is. */
static void unhooked(struct prober *p, uint32_t ifindex, uint64_t received_ns, bool tcp)
{
	const struct probe_device *device = prober_device(p, ifindex);
	bool known = device;

	if (!device && ifindex && received_ns - p->attached_ns >= ATTACH_AGAIN_NS) {
		p->attached_ns = received_ns; /* there may be too many interfaces, which is not asked for every answer */
		known = true;
		if (probe_devices_use_index(p->devices, ifindex, &device, NULL) < 0)
			device = NULL;
	}
	if (tcp && known && !device_hides(device))
		p->search.always = true; /* there is no other way to see them */
}

static bool authentic(const struct prober *p, const struct probe_session *session, const uint8_t *transport)
{
	const uint8_t *message = transport + PROBE_UDP_HEADER;

	return hmac_verify(&p->keys[session->key - 1].key, message, message + HMAC_MESSAGE_LEN) == 1;
}

static void take_answer(struct prober *p, const struct probe_arrival *arrival)
{
	struct probe_answer answer = {
		.ifindex = arrival->ifindex, .received_ns = arrival->received_ns, .clock = arrival->clock,
		.judged = device_receives(prober_device(p, arrival->ifindex)),
	};
	struct probe_path *path;
	struct probe_session *session;
	enum probe_verdict verdict;

	memcpy(&answer.key.address, arrival->source.bytes, sizeof(answer.key.address));
	if (!probe_answer_head(&p->block, arrival->ip_protocol, arrival->transport, arrival->captured, &answer))
		return;
	path = prober_find(p, &answer.key);
	if (!path) {
		probe_reject(&p->sessions[PROBE_SESSION_NONE], &answer);
		return;
	}
	session = path->session;
	probe_answer_body(session, arrival->transport, arrival->captured, &answer);
	/* Only so much of it was kept. */
	answer.payload = arrival->length - PROBE_ICMP_HEADER;
	if (session->key && !answer.broken)
		answer.broken = !authentic(p, session, arrival->transport);
	verdict = probe_judge(session, path_flight(path, answer.sequence), &answer);
	if (verdict != PROBE_VERDICT_FIRST)
		return;
	want_stamps(p, arrival->received_ns);
	if (!answer.judged)
		unhooked(p, arrival->ifindex, arrival->received_ns, answer.key.protocol == PROBE_TCP);
}

/* The sequence of the probe that an error is about; false: it is not known, or not proven. */
static bool quoted_probe(struct probe_path *path, const struct probe_quote *quote, uint32_t *ret_sequence)
{
	uint64_t cookie = quote->cookie[path->secret ? 1 : 0], state;
	uint32_t sequence = quote->sequence;

	if (quote->protocol == PROBE_STAMP && !quote->has_cookie) {
		for (sequence = path->oldest; sequence != path->next; sequence++)
			if (path_note(path, sequence)->checksum == quote->checksum) {
				*ret_sequence = sequence;
				return true;
			}
		return false;
	}
	state = flight_state(path_flight(path, sequence));
	*ret_sequence = PROBE_SEQUENCE(state);
	switch (quote->protocol) {
	case PROBE_ICMP:
		if ((*ret_sequence ^ sequence) & 0xffff)
			return false;
		if (!quote->has_cookie)
			return quote->checksum == path->checksum;
		break;
	case PROBE_STAMP:
		if (*ret_sequence != sequence)
			return false;
		break;
	default:
		cookie = sequence;
		break;
	}
	return path_flight(path, sequence)->cookie == cookie;
}

static void take_error(struct prober *p, const struct probe_quote *quote, int error)
{
	struct probe_key key = { .port = quote->source_port, .protocol = (uint16_t)quote->protocol };
	struct probe_path *path;
	enum probe_stage stage;
	uint32_t sequence;

	memcpy(&key.address, quote->destination.bytes, sizeof(key.address));
	path = prober_find(p, &key);
	if (!path || !error || quote->destination_port != path->session->remote_port)
		return;
	if (!quoted_probe(path, quote, &sequence)) {
		probe_count(&path->session->rejected);
		return;
	}
	stage = PROBE_STAGE(flight_state(path_flight(path, sequence)));
	if (stage == PROBE_ARMED || stage == PROBE_SENT)
		path_note(path, sequence)->error = (uint8_t)error;
}

static void arrived(const struct probe_arrival *arrival, void *userdata)
{
	const bool v6 = arrival->ip_protocol == PACKET_NEXT_ICMP6;
	struct prober *p = userdata;
	struct probe_quote quote;

	if (!arrival->errors) {
		take_answer(p, arrival);
		return;
	}
	/* Behind the ICMP header (RFC 792; RFC 4443, section 2.1: 8 bytes of both). */
	if (arrival->captured > PROBE_ICMP_HEADER &&
	    probe_packet_quote(arrival->transport + PROBE_ICMP_HEADER, arrival->captured - PROBE_ICMP_HEADER, v6, &quote))
		take_error(p, &quote, probe_packet_error(v6, arrival->transport[0], arrival->transport[1]));
}

static void refused(const struct probe_quote *quote, int error, void *userdata)
{
	take_error(userdata, quote, error);
}

static void stamped(uint64_t token, struct probe_flight *flight, uint64_t sent_ns, void *userdata)
{
	struct prober *p = userdata;
	struct probe_path *path = p->paths[token >> 32];
	uint32_t sequence = (uint32_t)token;

	/* Older than its message: of a path that had this place before. */
	if (!path || path_flight(path, sequence) != flight || PROBE_SEQUENCE(flight_state(flight)) != sequence ||
	    flight->flags & PROBE_SENT_BY_HOOK || sent_ns < flight->sent_ns)
		return;
	if (flight->sent_wall_ns)
		flight->sent_wall_ns += sent_ns - flight->sent_ns;
	flight->sent_ns = sent_ns;
	path_note(path, sequence)->stamped = true;
}

const struct probe_sockets_handler prober_handler = { .arrived = arrived, .refused = refused, .stamped = stamped };
