/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The collector of dropped packets: reads the kernel's table once per tick. A pair
 * of reason and protocol is shown from its first drop on and never disappears,
 * since the table only rises. There is no point in showing zeroes for the hundreds
 * of pairs that never happen.
 */
#include <errno.h>
#include <stdlib.h>

#include "abi_event.h"
#include "agent/collector.h"
#include "agent/drop_program.h"
#include "agent/netns.h"
#include "agent/probe/probe_devices.h"

static const struct registry_definition family = { { "netsonde_packet_drops_total", "Packets that the kernel dropped, by its own reason and by protocol, in all network namespaces; protocol \"none\" is what is no network packet (unix sockets, netlink).", NULL, METRIC_COUNTER, 0, 0 }, { "reason", "protocol", NULL } };

struct state {
	struct registry_family *drops;
	struct drop_program *program;
	struct events *events;
	struct self *self;
	uint32_t own_xdp[PROBE_DEVICES_MAX]; /* interfaces; 0: none */
};

static bool drop_wanted(const struct settings *settings)
{
	return settings->collect.drops;
}

static void drop_close(void *opaque)
{
	struct state *s = opaque;

	if (!s)
		return;
	events_set_code_name(s->events, EVENT_DROP, NULL, NULL);
	drop_program_close(s->program);
	free(s);
}

static bool drops_by_xdp(const struct probe_devices *devices, uint32_t ifindex)
{
	for (size_t i = 0; devices && i < probe_devices_count(devices); i++) {
		const struct probe_device *d = probe_devices_at(devices, i);

		if (d->ifindex == ifindex && (d->receive == PROBE_CLOCK_XDP || d->receive == PROBE_CLOCK_XDP_GENERIC))
			return true;
	}
	return false;
}

void collect_drop_own_xdp(void *state, const struct probe_devices *devices)
{
	struct state *s = state;
	const uint32_t netns = netns_own_inode();

	for (size_t i = 0; i < PROBE_DEVICES_MAX; i++)
		if (s->own_xdp[i] && !drops_by_xdp(devices, s->own_xdp[i])) {
			drop_program_own_xdp(s->program, netns, s->own_xdp[i], false);
			s->own_xdp[i] = 0;
		}
	for (size_t i = 0; devices && i < probe_devices_count(devices); i++) {
		const uint32_t ifindex = probe_devices_at(devices, i)->ifindex;
		size_t place = 0;

		if (!ifindex || !drops_by_xdp(devices, ifindex))
			continue;
		while (place < PROBE_DEVICES_MAX && s->own_xdp[place] && s->own_xdp[place] != ifindex)
			place++;
		if (place == PROBE_DEVICES_MAX || s->own_xdp[place] == ifindex)
			continue;
		if (!drop_program_own_xdp(s->program, netns, ifindex, true))
			s->own_xdp[place] = ifindex;
	}
}

static const char *reason_name(uint32_t code, void *userdata)
{
	return drop_reasons_name(userdata, code);
}

static int drop_open(const struct collector_context *context, void **ret_state, struct error *ret_error)
{
	struct state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->events = context->events;
	s->self = context->self;
	r = registry_register_all(context->registry, &family, 1, &s->drops, ret_error);
	if (!r)
		r = drop_program_open(s->events, netns_scope(context->settings), &s->program, ret_error);
	if (!r)
		r = drop_program_attach(s->program, context->features, ret_error);
	if (r < 0) {
		drop_close(s);
		return r;
	}
	events_set_code_name(s->events, EVENT_DROP, reason_name, (void *)drop_program_reasons(s->program));
	*ret_state = s;
	return 0;
}

static void drop_tick(void *opaque, mono_time now)
{
	struct state *s = opaque;
	const struct drop_count *counts;
	size_t n;

	drop_program_read(s->program);
	n = drop_program_counts(s->program, &counts);
	for (size_t i = 0; i < n; i++) {
		const char *values[] = { counts[i].reason, counts[i].protocol };

		registry_value(s->drops, values, (double)counts[i].packets);
	}
	self_lost(s->self, "packet_drops", drop_program_missed(s->program));
	self_program(s->self, "drop_packet", drop_program_fd(s->program));
}

/* GET /api/v1/drops */
static void drop_handle(struct http_request *request, void *opaque)
{
	const struct state *s = opaque;
	struct http_response response = { .status = 200, .content_type = "application/json", .owned = true };
	struct buffer out = BUFFER_INIT;

	if (drop_program_write_json(s->program, &out) < 0) {
		buffer_done(&out);
		http_respond_text(request, 500, "out of memory");
		return;
	}
	response.data = buffer_steal(&out, &response.len);
	http_respond(request, &response);
}

const struct collector collect_drop = {
	.name = "drops",
	.wanted = drop_wanted,
	.families = &family,
	.n_families = 1,
	.open = drop_open,
	.tick = drop_tick,
	.close = drop_close,
	.route_path = "/api/v1/drops",
	.route_title = "drops",
	.handle = drop_handle,
};
