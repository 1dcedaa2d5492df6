/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What became of probes. Each that was sent has one result: it was answered, refused by an error, or its time-out
 * passed.
 *
 * Paths with probes whose fate is not known are in a list; collecting looks at these, from the oldest such probe to the
 * last. So results of a path come in the order of their sequence as far as they are known at the time, which is the
 * order of arrival unless answers overtake each other between two collections. A probe is not given up before the
 * sockets were looked at: a process that was kept from running must not take its own absence for loss.
 */
#include "agent/probe/prober.h"

#include <errno.h>
#include <string.h>

#include "agent/probe/prober_internal.h"
#include "stamp.h"

void path_pend(struct probe_path *path)
{
	struct prober *p = path->prober;

	if (path->is_pending)
		return;
	path->is_pending = true;
	path->previous_pending = NULL;
	path->next_pending = p->pending;
	if (p->pending)
		p->pending->previous_pending = path;
	p->pending = path;
}

static void unpend(struct probe_path *path)
{
	struct prober *p = path->prober;

	if (path->previous_pending)
		path->previous_pending->next_pending = path->next_pending;
	else
		p->pending = path->next_pending;
	if (path->next_pending)
		path->next_pending->previous_pending = path->previous_pending;
	path->is_pending = false;
}

/* t2, t3 and what follows from them. An answer whose reflector held it longer than it was away, or sent it before
 * it came, says nothing. */
static void take_remote(struct probe_path *path, const struct probe_flight *f, struct probe_result *result)
{
	const struct clock_error *own = &path->prober->clock;
	const bool ptp = f->remote_error & STAMP_ERROR_PTP;
	const uint64_t near = (uint64_t)wall_now().ns;
	const uint64_t t2 = clock_ns_from_stamp(f->remote_received, f->remote_error, near, own->tai_offset_s);
	const uint64_t t3 = clock_ns_from_stamp(f->remote_sent, f->remote_error, near, own->tai_offset_s);
	const uint64_t remote_error = clock_error_from_estimate(f->remote_error);
	uint64_t t1;

	result->stamp = true;
	result->clock_error_ns = UINT64_MAX;
	if (t3 < t2 || t3 - t2 > result->rtt_ns) {
		path->implausible++;
		return;
	}
	result->has_residence = true;
	result->residence_ns = t3 - t2;
	/* PTP's scale is TAI; a host that was not told how far that is from UTC cannot compare. */
	if (!own->synchronized || !clock_error_estimate_synchronized(f->remote_error) || remote_error == CLOCK_ERROR_UNKNOWN ||
	    own->error_ns == CLOCK_ERROR_UNKNOWN || !f->sent_wall_ns || (ptp && !own->tai_offset_s))
		return;
	t1 = f->sent_wall_ns - (uint64_t)((int64_t)own->tai_offset_s * (int64_t)NS_PER_SEC);
	result->has_one_way = true;
	result->forward_ns = (int64_t)(t2 - t1);
	result->backward_ns = (int64_t)(t1 + result->rtt_ns - t3);
	result->clock_error_ns = own->error_ns + remote_error;
}

static enum probe_clock clock_of(const struct probe_flight *f, const struct probe_note *note)
{
	if (f->flags & PROBE_SENT_BY_HOOK)
		return (enum probe_clock)f->clock;
	if (note->stamped)
		return f->clock > PROBE_CLOCK_KERNEL ? (enum probe_clock)f->clock : PROBE_CLOCK_KERNEL;
	return PROBE_CLOCK_USER;
}

static void tell(struct probe_path *path, const struct probe_result *result)
{
	path->pending--;
	path->fn(path, result, path->userdata);
}

static void tell_lost(struct probe_path *path, uint32_t sequence, uint64_t sent_ns, uint64_t now_ns)
{
	const struct probe_result result = { .outcome = PROBE_TIMED_OUT, .sequence = sequence, .sent_ns = sent_ns };

	path->lost++;
	if (path->key.protocol == PROBE_TCP)
		prober_search_lost(path, now_ns);
	tell(path, &result);
}

/* The state is ANSWERED: nobody else changes it now. */
static void take_answer(struct probe_path *path, uint32_t sequence, uint64_t now_ns)
{
	struct probe_flight *f = path_flight(path, sequence);
	struct probe_result result = {
		.outcome = f->flags & PROBE_REFUSED ? PROBE_CLOSED : PROBE_OK, .sequence = sequence, .sent_ns = f->sent_ns,
		/* Two clocks of two places may disagree by some ns about a way that takes none. */
		.rtt_ns = f->received_ns > f->sent_ns ? f->received_ns - f->sent_ns : 0,
		.clock = clock_of(f, path_note(path, sequence)),
	};

	if (result.rtt_ns > path->session->timeout_ns) {
		__atomic_store_n(&f->state, PROBE_STATE(sequence, PROBE_LATE), __ATOMIC_RELEASE);
		probe_count(&path->session->late);
		tell_lost(path, sequence, f->sent_ns, now_ns);
		return;
	}
	if (path->key.protocol == PROBE_STAMP)
		take_remote(path, f, &result);
	__atomic_store_n(&f->state, PROBE_STATE(sequence, PROBE_DONE), __ATOMIC_RELEASE);
	path->answered++;
	path->lost_in_a_row = 0;
	tell(path, &result);
}

void path_give_up(struct probe_path *path, uint32_t sequence, int error)
{
	struct probe_flight *f = path_flight(path, sequence);
	const struct probe_result result = {
		.outcome = PROBE_UNREACHABLE, .sequence = sequence, .sent_ns = f->sent_ns, .error = error,
	};
	uint64_t state = flight_state(f);

	while (PROBE_SEQUENCE(state) == sequence && (PROBE_STAGE(state) == PROBE_ARMED || PROBE_STAGE(state) == PROBE_SENT)) {
		uint64_t found = probe_cas(&f->state, state, PROBE_STATE(sequence, PROBE_LOST));

		if (found == state) {
			path->unreachable++;
			tell(path, &result);
			return;
		}
		state = found; /* an answer after all, which is collected in its turn */
	}
}

void path_poll(struct probe_path *path)
{
	struct prober *p = path->prober;
	bool own_socket = path->key.protocol == PROBE_STAMP || !probe_sockets_raw(p->sockets);
	uint16_t first = path->key.protocol == PROBE_ICMP ? p->block.icmp_first : p->block.port_first;
	uint64_t bit = own_socket ? 1ull << (path->key.port - first) : 1;
	/* UDP sockets are of both families. */
	uint64_t *polled = &p->polled[path->key.protocol][path->v6 && path->key.protocol != PROBE_STAMP];

	if (*polled & bit)
		return;
	*polled |= bit;
	probe_sockets_poll(p->sockets, (enum probe_protocol)path->key.protocol, path->v6, path->key.port);
}

/* Its time-out passed. False: not so, look at it again. */
static bool time_out(struct probe_path *path, uint32_t sequence, uint64_t state, uint64_t now_ns)
{
	struct probe_flight *f = path_flight(path, sequence);
	uint64_t sent_ns = f->sent_ns;

	if (probe_cas(&f->state, state, PROBE_STATE(sequence, PROBE_LOST)) != state)
		return false;
	tell_lost(path, sequence, sent_ns, now_ns);
	return true;
}

bool path_settle(struct probe_path *path, uint32_t sequence, uint64_t now_ns)
{
	struct probe_flight *f = path_flight(path, sequence);
	bool polled = false;

	for (;;) {
		uint64_t state = flight_state(f);
		uint8_t error = path_note(path, sequence)->error;

		if (PROBE_SEQUENCE(state) != sequence)
			return true;
		switch (PROBE_STAGE(state)) {
		case PROBE_ARMED:
		case PROBE_SENT:
			break;
		case PROBE_TAKEN:
			return false; /* for as long as it takes to write six words */
		case PROBE_ANSWERED:
			take_answer(path, sequence, now_ns);
			return true;
		default:
			return true;
		}
		if (error) {
			path_give_up(path, sequence, error);
			continue;
		}
		if ((int64_t)(now_ns - __atomic_load_n(&f->sent_ns, __ATOMIC_RELAXED)) <= (int64_t)path->session->timeout_ns)
			return false;
		if (!polled) {
			polled = true;
			path_poll(path);
			continue;
		}
		if (time_out(path, sequence, state, now_ns))
			return true;
	}
}

static void collect(struct probe_path *path, uint64_t now_ns)
{
	for (uint32_t sequence = path->oldest; sequence != path->next; sequence++) {
		bool settled = path_settle(path, sequence, now_ns);

		if (settled && sequence == path->oldest)
			path->oldest++;
	}
}

void prober_begin_round(struct prober *p)
{
	memset(p->polled, 0, sizeof(p->polled));
	probe_sockets_stamps(p->sockets);
}

void prober_collect(struct prober *prober, mono_time now)
{
	struct probe_path *next;

	prober_begin_round(prober);
	/* Paths that results put to work anew are in front of us; none leaves the list but here. */
	for (struct probe_path *path = prober->pending; path; path = next) {
		collect(path, now.ns);
		next = path->next_pending;
		if (path->oldest == path->next)
			unpend(path);
	}
}

void prober_collect_path(struct probe_path *path, mono_time now)
{
	if (!path->is_pending)
		return;
	prober_begin_round(path->prober);
	collect(path, now.ns);
}
