/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The collector of flows on interfaces: attaches to each interface that
 * collect.flows names, and at each tick turns its part of the peer table into
 * samples. An interface is known by its index and shown under its present name. One
 * that is missing at the start, or disappears, is a missing feature: its counters
 * stand still, the others go on.
 */
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/collector.h"
#include "agent/flow_program.h"
#include "agent/kbpf.h"
#include "lib/log.h"

/* The buckets of the text formats: 2^-20 s (0.95 us) .. 2^4 s (16 s). */
#define LATENCY_FIRST (-20)
#define LATENCY_LAST 4

/* Conversations that can be followed, beside the sockets of the host's own (collect.max_sockets). */
#define CONVERSATIONS_PART 8

static const char *const direction_names[FLOW_DIRECTION_COUNT] = { "receive", "transmit" };
static const char *const protocol_names[FLOW_PROTOCOL_COUNT] = { "tcp", "udp", "icmp", "other" };
static const char *const lost_names[FLOW_LOST_COUNT] = { "flow_conversation", "flow_device" };

enum family { BYTES, PACKETS, RTT, N_FAMILIES };

static const struct registry_definition families[N_FAMILIES] = {
	[BYTES] = { { "netsonde_flow_bytes_total", "Bytes of the IP packets, headers included, that an interface received from a peer or transmitted to it.", "bytes", METRIC_COUNTER, 0, 0 }, { "device", "peer", "protocol", "direction", NULL } },
	[PACKETS] = { { "netsonde_flow_packets_total", "IP packets that an interface received from a peer or transmitted to it.", NULL, METRIC_COUNTER, 0, 0 }, { "device", "peer", "protocol", "direction", NULL } },
	[RTT] = { { "netsonde_flow_rtt_seconds", "Round-trip time of TCP connections that pass an interface, from the interface to the peer and back, with the peer's delay of acknowledgements.", "seconds", METRIC_HISTOGRAM, LATENCY_FIRST, LATENCY_LAST }, { "device", "peer", NULL } },
};

struct state {
	struct registry_family *families[N_FAMILIES];
	struct flow_program *program;
	struct peers *peers;       /* borrowed, as the next two */
	struct self *self;
	struct features *features;
	struct flow_device devices[FLOW_DEVICES_MAX];
	bool gone[FLOW_DEVICES_MAX];
	uint32_t n_devices;
	char missing[200];         /* sentences about what is not watched, "" when there is nothing to say */
	uint32_t conversations_max;
	struct hist hist;
};

static bool flow_wanted(const struct settings *settings)
{
	return settings->collect.n_flows > 0;
}

static void flow_close(void *opaque)
{
	struct state *s = opaque;

	if (!s)
		return;
	flow_program_close(s->program);
	hist_done(&s->hist);
	free(s);
}

/* All that are missing in one line of the features: their number is not known to anybody else. */
static void report_devices(struct state *s)
{
	if (s->missing[0])
		features_miss(s->features, "flow_interfaces", s->missing, "restart the agent when the interface is there");
	else
		features_enable(s->features, "flow_interfaces", "all");
}

static void miss_device(struct state *s, const char *why)
{
	size_t len = strlen(s->missing);

	snprintf(s->missing + len, sizeof(s->missing) - len, "%s%s", len ? "; " : "", why);
	report_devices(s);
}

/* An interface may have several names (ip link property add altname); watched twice, each of its packets would count twice. */
static const struct flow_device *known_device(const struct state *s, uint32_t ifindex)
{
	for (uint32_t i = 0; i < s->n_devices; i++)
		if (s->devices[i].ifindex == ifindex)
			return &s->devices[i];
	return NULL;
}

static int find_device(struct state *s, const char *name, struct error *ret_error)
{
	struct flow_device device;
	const struct flow_device *known;
	int r;

	if (s->n_devices == FLOW_DEVICES_MAX)
		return error_set(ret_error, -ENOSPC, "%s is one interface too many: %d can be watched", name, FLOW_DEVICES_MAX);
	r = flow_device_find(name, &device, ret_error);
	if (r < 0)
		return r;
	known = known_device(s, device.ifindex);
	if (known)
		return error_set(ret_error, -EEXIST, "%s is another name of interface %s", name, known->name);
	s->devices[s->n_devices++] = device;
	return 0;
}

static void find_devices(struct state *s, const struct settings *settings)
{
	for (size_t i = 0; i < settings->collect.n_flows; i++) {
		struct error error = { "" };

		if (find_device(s, settings->collect.flows[i], &error) < 0)
			miss_device(s, error.text);
	}
}

static int attach_devices(struct state *s, struct error *ret_error)
{
	uint32_t attached = 0;

	for (uint32_t i = 0; i < s->n_devices; i++) {
		struct error error = { "" };

		if (!flow_program_attach(s->program, i, &error)) {
			attached++;
			continue;
		}
		s->gone[i] = true;
		miss_device(s, error.text);
	}
	if (!attached)
		return error_set(ret_error, -ENODEV, "%s", s->missing);
	features_enable(s->features, "flows", flow_program_mode(s->program));
	report_devices(s);
	return 0;
}

static int flow_open(const struct collector_context *context, void **ret_state, struct error *ret_error)
{
	struct state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->peers = context->peers;
	s->self = context->self;
	s->features = context->features;
	s->conversations_max = context->settings->collect.max_sockets / CONVERSATIONS_PART;
	kbpf_hist_init(&s->hist);
	r = registry_register_all(context->registry, families, N_FAMILIES, s->families, ret_error);
	find_devices(s, context->settings);
	if (!r && !s->n_devices)
		r = error_set(ret_error, -ENODEV, "%s", s->missing);
	if (!r)
		r = flow_program_open(s->peers, s->devices, s->n_devices, s->conversations_max, FLOW_BEST, &s->program, ret_error);
	if (!r)
		r = attach_devices(s, ret_error);
	if (r < 0) {
		flow_close(s);
		return r;
	}
	*ret_state = s;
	return 0;
}

/* Renamed, or no longer there. */
static void look_at_devices(struct state *s)
{
	for (uint32_t i = 0; i < s->n_devices; i++) {
		char name[IF_NAMESIZE], why[64];

		if (s->gone[i])
			continue;
		if (if_indextoname(s->devices[i].ifindex, name)) {
			memcpy(s->devices[i].name, name, sizeof(name));
			continue;
		}
		s->gone[i] = true;
		snprintf(why, sizeof(why), "interface %s disappeared", s->devices[i].name);
		miss_device(s, why);
		log_warn("an interface disappeared; its flows stand still", "interface", s->devices[i].name, NULL);
	}
}

static void show_row(struct state *s, uint32_t device, uint32_t slot, const char *peer)
{
	const struct flow_row *row = flow_program_row(s->program, device, slot);
	const char *labels[4] = { s->devices[device].name, peer, NULL, direction_names[slot % FLOW_DIRECTION_COUNT] };

	for (size_t i = 0; row->head.touched && i < FLOW_PROTOCOL_COUNT; i++) {
		if (!row->packets[i])
			continue;
		labels[2] = protocol_names[i];
		registry_value(s->families[BYTES], labels, (double)row->bytes[i]);
		registry_value(s->families[PACKETS], labels, (double)row->packets[i]);
	}
}

static void show_peer(struct state *s, uint32_t device, uint32_t base)
{
	const struct flow_hist *hist;
	const char *peer = NULL;

	for (uint32_t direction = 0; direction < FLOW_DIRECTION_COUNT; direction++) {
		const char *label = peers_label(s->peers, base + direction);

		if (!label)
			continue;
		peer = label;
		show_row(s, device, base + direction, label);
	}
	hist = flow_program_hist(s->program, device, base);
	if (!peer || !hist->count)
		return;
	kbpf_hist_read(&s->hist, hist->buckets, hist->sum_ns);
	registry_histogram(s->families[RTT], (const char *const[]){ s->devices[device].name, peer }, &s->hist);
}

static void show_program(const char *name, int fd, void *userdata)
{
	self_program(userdata, name, fd);
}

static void show_self(struct state *s)
{
	struct flow_program_stats stats;

	flow_program_stats(s->program, &stats);
	for (size_t i = 0; i < FLOW_LOST_COUNT; i++)
		self_lost(s->self, lost_names[i], stats.lost[i]);
	self_map(s->self, "flow_conversations", stats.conversations, s->conversations_max);
	flow_program_each(s->program, show_program, s->self);
}

static void flow_tick(void *opaque, mono_time now)
{
	struct state *s = opaque;

	look_at_devices(s);
	flow_program_age(s->program, now);
	show_self(s);
	for (uint32_t device = 0; device < s->n_devices; device++)
		for (uint32_t slot = 0; slot < peers_slots(s->peers); slot += FLOW_DIRECTION_COUNT)
			show_peer(s, device, slot);
}

const struct collector collect_flow = {
	.name = "flows",
	.wanted = flow_wanted,
	.families = families,
	.n_families = N_FAMILIES,
	.open = flow_open,
	.tick = flow_tick,
	.close = flow_close,
};
