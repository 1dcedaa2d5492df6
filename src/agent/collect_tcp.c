/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TCP collector: at each tick one sweep over the tracked sockets, then the
 * peer table becomes samples. Reading is from memory-mapped maps; a slot that
 * nothing touched keeps its histograms of the tick before.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/kbpf.h"
#include "agent/collector.h"
#include "agent/peers.h"
#include "agent/tcp_program.h"
#include "lib/log.h"

/* The latency buckets of the text formats: 2^-20 s (0.95 us) .. 2^4 s (16 s); of durations 2^-10 s .. 2^17 s (36 h). */
#define LATENCY_FIRST (-20)
#define LATENCY_LAST 4
#define DURATION_FIRST (-10)
#define DURATION_LAST 17

static const char *const role_names[ROLE_COUNT] = { "client", "server" };
static const char *const outcome_names[OUTCOME_COUNT] = {
	"established", "refused", "reset", "timed_out", "host_unreachable", "net_unreachable", "other",
};
static const char *const retransmit_names[RETRANSMIT_COUNT] = {
	"syn", "synack", "fast", "timeout", "tail_loss_probe", "other",
};
static const char *const reset_names[RESET_DIRECTION_COUNT] = { "sent", "received" };
static const char *const limit_names[LIMIT_COUNT] = { "busy", "receive_window", "send_buffer" };
static const char *const lost_names[LOST_COUNT] = { "tcp_socket", "tcp_handshake", "peer_candidate", "peer_address" };

enum family {
	CONNECTIONS, OPEN, HANDSHAKE, DURATION, RTT, JITTER, MIN_RTT, SENT_BYTES, RECEIVED_BYTES, SENT_SEGMENTS,
	RECEIVED_SEGMENTS, RETRANSMITS, RESETS, LIMITED, LOST, MAP_ENTRIES, MAP_MAX_ENTRIES, BPF_SECONDS, BPF_RUNS, N_FAMILIES,
};

#define PEER_ROLE { "peer", "role", NULL }
static const struct {
	struct metric_family family;
	const char *labels[4];
} families[N_FAMILIES] = {
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
	[LOST] = { { "netsonde_lost_events_total", "What could not be recorded, by where it was lost.", NULL, METRIC_COUNTER, 0, 0 }, { "source", NULL } },
	[MAP_ENTRIES] = { { "netsonde_map_entries", "Entries in a kernel map.", NULL, METRIC_GAUGE, 0, 0 }, { "map", NULL } },
	[MAP_MAX_ENTRIES] = { { "netsonde_map_max_entries", "How many entries the map can hold.", NULL, METRIC_GAUGE, 0, 0 }, { "map", NULL } },
	[BPF_SECONDS] = { { "netsonde_bpf_run_seconds_total", "Time spent in a BPF program, while the kernel's BPF statistics are on.", "seconds", METRIC_COUNTER, 0, 0 }, { "program", NULL } },
	[BPF_RUNS] = { { "netsonde_bpf_runs_total", "Runs of a BPF program, while the kernel's BPF statistics are on.", NULL, METRIC_COUNTER, 0, 0 }, { "program", NULL } },
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
	struct peers *peers;
	struct peers_kernel kernel;
	struct slot_view *views; /* one per slot */
	uint64_t first_jiffies, first_ns;
	unsigned hz;             /* 0 until two sweeps told */
	uint32_t sockets_max;
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
	peers_free(s->peers);
	tcp_program_close(s->program);
	free(s);
}

static int register_families(struct registry *registry, struct registry_family *ret_families[static N_FAMILIES], struct error *ret_error)
{
	int r = 0;

	for (size_t i = 0; i < N_FAMILIES && !r; i++)
		r = registry_register(registry, &families[i].family, families[i].labels, &ret_families[i], ret_error);
	return r;
}

static int tcp_describe(struct registry *registry, struct error *ret_error)
{
	struct registry_family *ignored[N_FAMILIES];

	return register_families(registry, ignored, ret_error);
}

static int tcp_open(const struct collector_context *context, void **ret_state, struct error *ret_error)
{
	struct peers_size size = peers_size(context->settings);
	struct state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	r = register_families(context->registry, s->families, ret_error);
	s->sockets_max = context->settings->collect.max_sockets;
	if (!r)
		r = tcp_program_open(&size, s->sockets_max, TCP_SWEEP_BEST, &s->program, ret_error);
	if (!r) {
		tcp_program_kernel(s->program, &s->kernel);
		r = peers_new(&s->kernel, &size, context->settings, &s->peers, ret_error);
	}
	if (!r) {
		s->views = calloc(size.slots, sizeof(*s->views));
		r = s->views ? tcp_program_attach(s->program, context->features, ret_error) : -ENOMEM;
	}
	if (r < 0) {
		tcp_close(s);
		return r;
	}
	for (uint32_t i = 0; i < size.slots; i++)
		for (size_t h = 0; h < TCP_HIST_COUNT; h++)
			hist_init(&s->views[i].hists[h], HIST_SCHEMA, ldexp(1, -HIST_OFFSET / 8));
	tcp_program_seed(s->program, context->features);
	*ret_state = s;
	return 0;
}

static int tcp_reload(void *opaque, const struct settings *settings, struct error *ret_error)
{
	struct state *s = opaque;
	int r = peers_reload(s->peers, settings, ret_error);

	if (r < 0)
		return r;
	s->sockets_max = settings->collect.max_sockets;
	tcp_program_set_sockets_max(s->program, s->sockets_max);
	return 0;
}

/* Jiffies per second: a kernel build option that is told nowhere, so it is measured over at least a second. */
static void learn_hz(struct state *s, const struct tcp_program_stats *stats)
{
	static const unsigned known[] = { 100, 250, 300, 1000, 1024 };
	double hz;

	if (s->hz || !stats->ns)
		return;
	if (!s->first_ns) {
		s->first_jiffies = stats->jiffies;
		s->first_ns = stats->ns;
		return;
	}
	if (stats->ns - s->first_ns < NS_PER_SEC)
		return;
	hz = (double)(stats->jiffies - s->first_jiffies) / ns_to_seconds(stats->ns - s->first_ns);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!s->hz && fabs(hz / known[i] - 1) < 0.011)
			s->hz = known[i];
}

static void read_hist(const struct peer_hists *from, enum tcp_hist which, struct hist *to)
{
	hist_clear(to);
	hist_add_zero(to, from->buckets[which][0]);
	for (int i = 1; i < HIST_BUCKETS; i++)
		if (from->buckets[which][i])
			hist_add_bucket(to, i - HIST_OFFSET, from->buckets[which][i]);
	to->sum = ns_to_seconds(from->sum_ns[which]);
}

/* Copies what changed since the last tick. */
static void refresh_views(struct state *s, uint64_t generation, uint32_t parity)
{
	for (uint32_t i = 0; i < peers_slots(s->peers); i++) {
		const struct peer_row *row = &s->kernel.rows[i];
		struct slot_view *view = &s->views[i];

		if (!row->touched && !view->row.touched)
			continue;
		if (!row->touched || row->touched + 1 >= generation)
			for (size_t h = 0; h < TCP_HIST_COUNT; h++)
				read_hist(&s->kernel.hists[i], (enum tcp_hist)h, &view->hists[h]);
		if (!row->touched)
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

static void show_slot(struct state *s, uint32_t slot, const char *peer, uint32_t parity)
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
	registry_value(s->families[OPEN], labels, (double)view->row.open[parity]);
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

	if (slot % ROLE_COUNT && peers_label(s->peers, slot ^ 1))
		return; /* shown with the other one */
	for (size_t i = 0; i < RETRANSMIT_COUNT; i++) {
		labels[1] = retransmit_names[i];
		registry_value(s->families[RETRANSMITS], labels, (double)(a->retransmits[i] + b->retransmits[i]));
	}
	for (size_t i = 0; i < RESET_DIRECTION_COUNT; i++) {
		labels[1] = reset_names[i];
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
	uint64_t runs, ns;

	if (!kbpf_run_stats(fd, &runs, &ns))
		return;
	registry_value(s->families[BPF_SECONDS], &name, ns_to_seconds(ns));
	registry_value(s->families[BPF_RUNS], &name, (double)runs);
}

static void show_self(struct state *s, const struct tcp_program_stats *stats)
{
	const char *label = "tcp_sockets";
	uint32_t used, total;

	for (size_t i = 0; i < LOST_COUNT; i++)
		registry_value(s->families[LOST], &lost_names[i], (double)stats->lost[i]);
	registry_value(s->families[MAP_ENTRIES], &label, (double)stats->swept);
	registry_value(s->families[MAP_MAX_ENTRIES], &label, s->sockets_max);
	label = "tcp_peers";
	peers_usage(s->peers, &used, &total);
	registry_value(s->families[MAP_ENTRIES], &label, used);
	registry_value(s->families[MAP_MAX_ENTRIES], &label, total);
	label = "bpf_recursion";
	registry_value(s->families[LOST], &label, (double)stats->missed);
	tcp_program_each(s->program, show_program, s);
}

static void tcp_tick(void *opaque, mono_time now)
{
	struct state *s = opaque;
	struct tcp_program_stats stats;
	uint32_t parity;
	uint64_t generation = tcp_program_next_generation(s->program, &parity);
	int r;

	peers_before_sweep(s->peers, parity);
	r = tcp_program_sweep(s->program);
	if (r < 0)
		log_warn("the TCP socket sweep failed; its numbers stand still until the next one", "error", strerror(-r), NULL);
	peers_after_sweep(s->peers, generation, parity, now);
	tcp_program_stats(s->program, &stats);
	learn_hz(s, &stats);
	show_self(s, &stats);
	refresh_views(s, generation, parity);
	for (uint32_t i = 0; i < peers_slots(s->peers); i++) {
		const char *peer = peers_label(s->peers, i);

		if (!peer)
			continue;
		show_slot(s, i, peer, parity);
		show_peer(s, i, peer);
	}
}

const struct collector collect_tcp = {
	.name = "tcp",
	.describe = tcp_describe,
	.open = tcp_open,
	.tick = tcp_tick,
	.reload = tcp_reload,
	.close = tcp_close,
};
