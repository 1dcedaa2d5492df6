/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From arbitrary bytes to a judged answer, as the prober does it in user space: the packet parser, then probe_match.h.
 * Nothing is read outside; an answer is taken only if all that makes it genuine is in the bytes; a flight changes only
 * as its life allows, and whatever is rejected changes nothing but one counter. The first byte: where the packet begins
 * (bit 0: with IP), the state of all flights (bits 1-3), whether a hook has seen it (4), the age of the probes (5:
 * behind the time-out), whether the HMAC is right (6).
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "probe_match.h"

#define RING 4
#define SESSIONS 5 /* the first is nobody's; ICMP, STAMP, STAMP with a key, TCP */
#define ICMP_FIRST 5000
#define PORT_FIRST 40000
#define NOW_NS 10000000000ULL
#define TIMEOUT_NS 1000000000ULL

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
	struct probe_session sessions[SESSIONS];
	struct probe_flight flights[SESSIONS * RING];
};

static void demand(int truth)
{
	if (!truth)
		abort();
}

static uint64_t cookie_of(uint32_t session, uint32_t sequence)
{
	return session == 4 ? 0x5eed0000 + sequence : 0x0101010101010101ULL * (session << 4 | sequence);
}

static void build(struct world *w, enum probe_stage stage, uint64_t sent_ns)
{
	static const enum probe_protocol protocols[SESSIONS] = { 0, PROBE_ICMP, PROBE_STAMP, PROBE_STAMP, PROBE_TCP };
	static const uint32_t ports[SESSIONS] = { 0, 0, 862, 862, 443 };

	memset(w, 0, sizeof(*w));
	for (uint32_t i = 1; i < SESSIONS; i++) {
		w->sessions[i] = (struct probe_session){
			.first = i * RING,
			.mask = RING - 1,
			.protocol = protocols[i],
			.remote_port = ports[i],
			.timeout_ns = TIMEOUT_NS,
			.key = i == 3,
			.payload = i == 1 ? 16 : 0,
		};
		for (uint32_t k = 0; k < RING; k++)
			w->flights[i * RING + k] = (struct probe_flight){
				.state = PROBE_STATE(k, stage), .cookie = cookie_of(i, k), .sent_ns = sent_ns,
			};
	}
}

/* One host, by both versions' addresses; a session for each identifier or port. */
static uint32_t find_session(const struct probe_key *key)
{
	static const uint8_t v4[16] = { [10] = 0xff, 0xff, 10, 0, 0, 2 }, v6[16] = { 0xfd, [15] = 2 };

	if (memcmp(&key->address, v4, 16) && memcmp(&key->address, v6, 16))
		return PROBE_SESSION_NONE;
	if (key->protocol == PROBE_ICMP)
		return key->port == ICMP_FIRST + 1 ? 1 : PROBE_SESSION_NONE;
	if (key->protocol == PROBE_STAMP)
		return key->port == PORT_FIRST + 2 ? 2 : key->port == PORT_FIRST + 3 ? 3 : PROBE_SESSION_NONE;
	return key->port == PORT_FIRST + 4 ? 4 : PROBE_SESSION_NONE;
}

static uint64_t counted(const struct probe_session *s)
{
	return s->duplicates + s->late + s->rejected + s->reordered;
}

/* The bytes themselves, without the code that is tested. */
static int holds_cookie(const uint8_t *transport, uint32_t there, uint32_t session, uint64_t cookie)
{
	static const uint32_t at[SESSIONS] = { 0, 8, 8 + 28, 8 + 64, 8 };
	uint32_t acknowledged;

	if (session != 4)
		return there >= at[session] + 8 && !memcmp(transport + at[session], &cookie, 8);
	acknowledged =
	    (uint32_t)transport[8] << 24 | (uint32_t)transport[9] << 16 | (uint32_t)transport[10] << 8 | transport[11];
	return acknowledged == (uint32_t)cookie + 1;
}

static void check(const struct world *was, const struct world *w, uint32_t session, uint32_t flight,
		  enum probe_verdict verdict, const struct probe_answer *a, enum probe_stage stage)
{
	const struct probe_session *s = &w->sessions[session];
	const enum probe_stage now = PROBE_STAGE(w->flights[flight].state);

	for (uint32_t i = 0; i < SESSIONS; i++)
		demand(i == session || !memcmp(&was->sessions[i], &w->sessions[i], sizeof(*s)));
	for (uint32_t i = 0; i < SESSIONS * RING; i++)
		demand((i == flight && verdict != PROBE_VERDICT_REJECTED) ||
		       !memcmp(&was->flights[i], &w->flights[i], sizeof(w->flights[i])));
	demand(w->flights[flight].state >> 8 == was->flights[flight].state >> 8);
	switch (verdict) {
	case PROBE_VERDICT_REJECTED:
		demand(s->rejected == !a->judged && counted(s) == s->rejected && !s->highest);
		break;
	case PROBE_VERDICT_FIRST:
		demand((stage == PROBE_SENT || stage == PROBE_ARMED) && now == PROBE_ANSWERED && !counted(s));
		demand(w->flights[flight].received_ns == a->received_ns && w->flights[flight].clock == a->clock);
		break;
	case PROBE_VERDICT_LATE:
		demand(stage == PROBE_LOST && now == PROBE_LATE && s->late == 1 && counted(s) == 1);
		break;
	case PROBE_VERDICT_DUPLICATE:
		demand(stage == now && s->duplicates == !a->judged && counted(s) == s->duplicates);
		break;
	}
}

static void judge(const uint8_t *transport, uint32_t there, const struct packet *p, uint8_t control)
{
	static const struct probe_block block = { ICMP_FIRST, PORT_FIRST, 8 };
	const enum probe_stage stage = control >> 1 & 7;
	struct probe_answer a = {
		.key.address = p->source, .received_ns = NOW_NS, .clock = PROBE_CLOCK_KERNEL, .judged = control >> 4 & 1};
	enum probe_verdict verdict;
	struct world was, w;
	uint32_t session, flight;

	if (!probe_answer_head(&block, p->protocol, transport, there, &a))
		return;
	build(&was, stage, control & 32 ? NOW_NS - 2 * TIMEOUT_NS : NOW_NS - TIMEOUT_NS / 2);
	w = was;
	session = find_session(&a.key);
	if (session == PROBE_SESSION_NONE) {
		check(&was, &w, session, 0, probe_reject(&w.sessions[session], &a) , &a, stage);
		return;
	}
	probe_answer_body(&w.sessions[session], transport, there, &a);
	if (session == 3)
		a.broken |= !(control & 64);
	flight = probe_flight_index(&w.sessions[session], &a);
	demand(flight >= session * RING && flight < (session + 1) * RING);
	verdict = probe_judge(&w.sessions[session], &w.flights[flight], &a);
	if (verdict != PROBE_VERDICT_REJECTED)
		demand(holds_cookie(transport, there, session, cookie_of(session, flight - session * RING)));
	check(&was, &w, session, flight, verdict, &a, stage);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct packet_bytes bytes;
	struct packet p;
	uint32_t there;
	uint8_t *copy;

	if (!size)
		return 0;
	bytes = (struct packet_bytes){ data + 1, (uint32_t)size - 1 };
	if (packet_parse(&bytes, 0, data[0] & 1 ? PACKET_IP : PACKET_ETHERNET, &p) || !p.transport_offset ||
	    p.flags & PACKET_LATER_FRAGMENT)
		return 0;
	there = p.network_offset + p.length - p.transport_offset;
	/* Of exactly that size, so that a sanitizer sees what is read behind it. */
	copy = malloc(there ? there : 1);
	if (!copy)
		return 0;
	memcpy(copy, data + 1 + p.transport_offset, there);
	judge(copy, there, &p, data[0]);
	free(copy);
	return 0;
}
