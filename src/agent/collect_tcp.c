/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TCP collector: at each tick one sweep over the tracked sockets, then the
 * peer table becomes samples. Reading is from memory-mapped maps; a slot that
 * nothing touched keeps its histograms of the tick before.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/jiffies.h"
#include "agent/kbpf.h"
#include "agent/collector.h"
#include "agent/memory.h"
#include "agent/peers.h"
#include "agent/rtt_program.h"
#include "agent/tcp_program.h"
#include "lib/log.h"

/* The latency buckets of the text formats: 2^-20 s (0.95 us) .. 2^4 s (16 s); of durations 2^-10 s .. 2^17 s (36 h). */
#define LATENCY_FIRST (-20)
#define LATENCY_LAST 4
#define DURATION_FIRST (-10)
#define DURATION_LAST 17

/* Of the kernel's memory: two slab objects of 192 bytes (the record with its links, and the socket's storage head) and 8 each for
 * their accounting. */
#define RECORD_BYTES 400

static const char *const role_names[ROLE_COUNT] = { "client", "server" };
static const char *const outcome_names[OUTCOME_COUNT] = {
	"established", "refused", "reset", "timed_out", "host_unreachable", "net_unreachable", "other",
};
static const char *const retransmit_names[RETRANSMIT_COUNT] = {
	"syn", "synack", "fast", "timeout", "tail_loss_probe", "other",
};
static const char *const reset_names[RESET_DIRECTION_COUNT] = { "sent", "received" };
static const char *const limit_names[LIMIT_COUNT] = { "busy", "receive_window", "send_buffer" };
static const char *const lost_names[LOST_COUNT] = { "tcp_socket", "tcp_handshake", "peer_address" };

enum family {
	CONNECTIONS, OPEN, HANDSHAKE, DURATION, RTT, JITTER, MIN_RTT, SENT_BYTES, RECEIVED_BYTES, SENT_SEGMENTS,
	RECEIVED_SEGMENTS, RETRANSMITS, RESETS, LIMITED, N_FAMILIES,
};

#define PEER_ROLE { "peer", "role", NULL }
static const struct registry_definition families[N_FAMILIES] = {
	[CONNECTIONS] = { { "netsonde_tcp_connections_total", "TCP connections: established counts completed handshakes; the others count handshakes that failed, and established connections that ended by a reset or a time-out. A connect() that fails before a SYN is sent is none.", NULL, METRIC_COUNTER, 0, 0 }, { "peer", "role", "outcome", NULL } },
	[OPEN] = { { "netsonde_tcp_open_connections", "TCP connections open at the last sweep.", NULL, METRIC_GAUGE, 0, 0 }, PEER_ROLE },
	[HANDSHAKE] = { { "netsonde_tcp_handshake_duration_seconds", "Client: first SYN sent to SYN-ACK received. Server: first SYN-ACK sent to ACK received.", "seconds", METRIC_HISTOGRAM, LATENCY_FIRST, LATENCY_LAST }, PEER_ROLE },
	[DURATION] = { { "netsonde_tcp_connection_duration_seconds", "Time from established to closed.", "seconds", METRIC_HISTOGRAM, DURATION_FIRST, DURATION_LAST }, PEER_ROLE },
	[RTT] = { { "netsonde_tcp_rtt_seconds", "Smoothed round-trip time of each connection, taken once per tick in which the peer acknowledged something, and at close.", "seconds", METRIC_HISTOGRAM, LATENCY_FIRST, LATENCY_LAST }, PEER_ROLE },
	[JITTER] = { { "netsonde_tcp_rtt_jitter_seconds", "Mean deviation of the round-trip time (RFC 6298 RTTVAR), taken with netsonde_tcp_rtt_seconds.", "seconds", METRIC_HISTOGRAM, LATENCY_FIRST, LATENCY_LAST }, PEER_ROLE },
	[MIN_RTT] = { { "netsonde_tcp_min_rtt_seconds", "Smallest round-trip time in the kernel's window (5 min by default) over the peer's connections.", "seconds", METRIC_GAUGE, 0, 0 }, PEER_ROLE },
	[SENT_BYTES] = { { "netsonde_tcp_sent_bytes_total", "Payload bytes sent for the first time, without retransmissions.", "bytes", METRIC_COUNTER, 0, 0 }, PEER_ROLE },
	[RECEIVED_BYTES] = { { "netsonde_tcp_received_bytes_total", "Payload bytes received in order.", "bytes", METRIC_COUNTER, 0, 0 }, PEER_ROLE },
	[SENT_SEGMENTS] = { { "netsonde_tcp_sent_segments_total", "Segments sent, with retransmissions and pure acknowledgements.", NULL, METRIC_COUNTER, 0, 0 }, PEER_ROLE },
	[RECEIVED_SEGMENTS] = { { "netsonde_tcp_received_segments_total", "Segments received.", NULL, METRIC_COUNTER, 0, 0 }, PEER_ROLE },
	[RETRANSMITS] = { { "netsonde_tcp_retransmits_total", "Segments sent again, by what caused it.", NULL, METRIC_COUNTER, 0, 0 }, { "peer", "type", NULL } },
	[RESETS] = { { "netsonde_tcp_resets_total", "TCP resets.", NULL, METRIC_COUNTER, 0, 0 }, { "peer", "direction", NULL } },
	[LIMITED] = { { "netsonde_tcp_limited_seconds_total", "Time with data outstanding (busy), and the part of it limited by the peer's receive window or by the send buffer.", "seconds", METRIC_COUNTER, 0, 0 }, { "peer", "cause", NULL } },
};

/* What a slot showed at the last tick. */
struct slot_view {
	struct peer_row row;
	struct hist hists[TCP_HIST_COUNT];
	double min_rtt_s; /* 0: none yet */
};

struct state {
	struct registry_family *families[N_FAMILIES];
	struct tcp_program *program;
	struct rtt_program *rtt; /* NULL: RTT is taken once per tick */
	struct peers *peers;     /* borrowed */
	struct self *self;       /* borrowed */
	struct features *features; /* borrowed */
	struct slot_view *views; /* one per slot */
	bool seeded;             /* connections older than the agent have their records */
	unsigned hz;             /* jiffies per second; 0: the kernel does not tell */
	uint32_t configured_max, sockets_max; /* as configured; as the memory allows */
};

static void tcp_close(void *opaque)
{
	struct state *s = opaque;

	if (!s)
		return;
	for (uint32_t i = 0; s->views && i < peers_slots(s->peers); i++)
		for (size_t h = 0; h < TCP_HIST_COUNT; h++)
			hist_done(&s->views[i].hists[h]);
	free(s->views);
	rtt_program_close(s->rtt);
	tcp_program_close(s->program);
	free(s);
}

static void limit_sockets(struct state *s, uint64_t bytes)
{
	uint64_t room = bytes / RECORD_BYTES;

	s->sockets_max = room < s->configured_max ? (uint32_t)room : s->configured_max;
}

static int tcp_open(const struct collector_context *context, void **ret_state, struct error *ret_error)
{
	uint32_t slots = peers_slots(context->peers);
	struct state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->peers = context->peers;
	s->self = context->self;
	r = registry_register_all(context->registry, families, N_FAMILIES, s->families, ret_error);
	s->configured_max = context->settings->collect.max_sockets;
	/* For connections that begin before the first set_room. */
	limit_sockets(s, memory_room(context->settings->collect.memory_budget, memory_of_maps(), memory_resident()));
	if (!r)
		r = tcp_program_open(s->peers, context->events, s->sockets_max, TCP_SWEEP_BEST, &s->program, ret_error);
	if (!r) {
		s->views = calloc(slots, sizeof(*s->views));
		r = s->views ? tcp_program_attach(s->program, context->features, ret_error) : -ENOMEM;
	}
	if (r < 0) {
		tcp_close(s);
		return r;
	}
	for (uint32_t i = 0; i < slots; i++)
		for (size_t h = 0; h < TCP_HIST_COUNT; h++)
			kbpf_hist_init(&s->views[i].hists[h]);
	s->hz = jiffies_per_second();
	tcp_program_set_hz(s->program, s->hz);
	s->features = context->features;
	if (context->settings->collect.tcp_rtt == SETTINGS_RTT_EVERY_ACK)
		rtt_program_open(s->program, context->features, &s->rtt);
	*ret_state = s;
	return 0;
}

static int tcp_reload(void *opaque, const struct settings *settings, struct error *ret_error)
{
	struct state *s = opaque;

	s->configured_max = settings->collect.max_sockets; /* takes effect with the next set_room */
	return 0;
}

static void tcp_set_room(void *opaque, uint64_t bytes)
{
	struct state *s = opaque;

	limit_sockets(s, bytes);
	tcp_program_set_sockets_max(s->program, s->sockets_max);
}

/* Copies what changed since the last tick. */
static void refresh_views(struct state *s)
{
	uint64_t generation = peers_generation(s->peers);
	uint32_t parity = peers_parity(s->peers);

	for (uint32_t i = 0; i < peers_slots(s->peers); i++) {
		const struct peer_row *row = &tcp_program_rows(s->program)[i];
		const struct peer_hists *hists = &tcp_program_hists(s->program)[i];
		struct slot_view *view = &s->views[i];

		if (!row->head.touched && !view->row.head.touched)
			continue;
		if (!row->head.touched || row->head.touched + 1 >= generation)
			for (size_t h = 0; h < TCP_HIST_COUNT; h++)
				kbpf_hist_read(&view->hists[h], hists->buckets[h], hists->sum_ns[h]);
		if (!row->head.touched)
			view->min_rtt_s = 0;
		view->row = *row;
		if (row->min_rtt_us[parity])
			view->min_rtt_s = (double)row->min_rtt_us[parity] / 1e6;
	}
}

static bool outcome_shown(uint32_t role, enum tcp_outcome outcome, uint64_t count)
{
	/* From zero on, what can happen in the role: a counter that appears with its first event hides that event from rate(). */
	return count || role == ROLE_CLIENT || outcome == OUTCOME_ESTABLISHED || outcome == OUTCOME_RESET ||
	       outcome == OUTCOME_TIMED_OUT;
}

static void show_slot(struct state *s, uint32_t slot, const char *peer)
{
	const struct slot_view *view = &s->views[slot];
	uint32_t role = slot % ROLE_COUNT;
	const char *labels[3] = { peer, role_names[role] };
	const enum family hist_families[TCP_HIST_COUNT] = { HANDSHAKE, DURATION, RTT, JITTER };

	for (size_t i = 0; i < OUTCOME_COUNT; i++) {
		labels[2] = outcome_names[i];
		if (outcome_shown(role, (enum tcp_outcome)i, view->row.outcomes[i]))
			registry_value(s->families[CONNECTIONS], labels, (double)view->row.outcomes[i]);
	}
	registry_value(s->families[OPEN], labels, (double)view->row.open[peers_parity(s->peers)]);
	registry_value(s->families[SENT_BYTES], labels, (double)view->row.sent_bytes);
	registry_value(s->families[RECEIVED_BYTES], labels, (double)view->row.received_bytes);
	registry_value(s->families[SENT_SEGMENTS], labels, (double)view->row.sent_segments);
	registry_value(s->families[RECEIVED_SEGMENTS], labels, (double)view->row.received_segments);
	if (view->min_rtt_s > 0)
		registry_value(s->families[MIN_RTT], labels, view->min_rtt_s);
	for (size_t h = 0; h < TCP_HIST_COUNT; h++)
		if (view->hists[h].count)
			registry_histogram(s->families[hist_families[h]], labels, &view->hists[h]);
}

/* What has no role: both slots of the peer together. */
static void show_peer(struct state *s, uint32_t slot, const char *peer)
{
	const struct peer_row *a = &s->views[slot].row, *b = &s->views[slot ^ 1].row;
	const char *labels[2] = { peer };

	if (slot % ROLE_COUNT && s->views[slot ^ 1].row.head.touched)
		return; /* shown with the other one */
	for (size_t i = 0; i < RETRANSMIT_COUNT; i++) {
		labels[1] = retransmit_names[i];
		if (tcp_program_counts_retransmits(s->program, (enum tcp_retransmit)i))
			registry_value(s->families[RETRANSMITS], labels, (double)(a->retransmits[i] + b->retransmits[i]));
	}
	for (size_t i = 0; i < RESET_DIRECTION_COUNT; i++) {
		labels[1] = reset_names[i];
		if (tcp_program_counts_resets(s->program, (enum tcp_reset_direction)i))
			registry_value(s->families[RESETS], labels, (double)(a->resets[i] + b->resets[i]));
	}
	for (size_t i = 0; s->hz && i < LIMIT_COUNT; i++) {
		labels[1] = limit_names[i];
		registry_value(s->families[LIMITED], labels,
			       (double)(a->limited_jiffies[i] + b->limited_jiffies[i]) / s->hz);
	}
}

static void show_program(const char *name, int fd, void *userdata)
{
	struct state *s = userdata;

	self_program(s->self, name, fd);
}

static void show_self(struct state *s, const struct tcp_program_stats *stats)
{
	for (size_t i = 0; i < LOST_COUNT; i++)
		self_lost(s->self, lost_names[i], stats->lost[i]);
	self_lost(s->self, "bpf_recursion", stats->missed);
	self_map(s->self, "tcp_sockets", stats->swept, s->sockets_max);
	tcp_program_each(s->program, show_program, s);
	if (s->rtt)
		self_program(s->self, "tcp_rtt", rtt_program_fd(s->rtt));
}

const struct tcp_program *collect_tcp_program(const void *opaque)
{
	const struct state *s = opaque;

	return s->program;
}

static void tcp_sweep(void *opaque)
{
	struct state *s = opaque;
	int r;

	/* Not at the open: only now is it known how many records the memory allows. */
	if (!s->seeded && tcp_program_seed(s->program, s->features) < 0)
		log_warn("connections older than the agent are not followed", NULL);
	s->seeded = true;
	r = tcp_program_sweep(s->program);
	if (r < 0)
		log_warn("the TCP socket sweep failed; its numbers stand still until the next one", "error", strerror(-r), NULL);
}

static void tcp_tick(void *opaque, mono_time now)
{
	struct state *s = opaque;
	struct tcp_program_stats stats;

	tcp_program_stats(s->program, &stats);
	show_self(s, &stats);
	refresh_views(s);
	for (uint32_t i = 0; i < peers_slots(s->peers); i++) {
		const char *peer = peers_label(s->peers, i);

		/* A slot that others touched, but not TCP, shows nothing here. */
		if (!peer || !s->views[i].row.head.touched)
			continue;
		show_slot(s, i, peer);
		show_peer(s, i, peer);
	}
}

static bool tcp_wanted(const struct settings *settings)
{
	return settings->collect.tcp;
}

const struct collector collect_tcp = {
	.name = "tcp",
	.wanted = tcp_wanted,
	.families = families,
	.n_families = N_FAMILIES,
	.open = tcp_open,
	.sweep = tcp_sweep,
	.set_room = tcp_set_room,
	.tick = tcp_tick,
	.reload = tcp_reload,
	.close = tcp_close,
};
