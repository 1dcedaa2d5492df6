/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The UDP collector: bytes, datagrams and receive-buffer drops per peer. Off unless
 * asked for, since its programs run for every packet. A tick reads memory that the
 * kernel writes, and makes no system call.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/cgroup.h"
#include "agent/collector.h"
#include "agent/udp_program.h"

enum family { SENT_BYTES, RECEIVED_BYTES, SENT_DATAGRAMS, RECEIVED_DATAGRAMS, RECEIVE_DROPS, N_FAMILIES };

#define PEER { "peer", NULL }
static const struct registry_definition families[N_FAMILIES] = {
	[SENT_BYTES] = { { "netsonde_udp_sent_bytes_total", "Payload bytes sent in UDP datagrams.", "bytes", METRIC_COUNTER, 0, 0 }, PEER },
	[RECEIVED_BYTES] = { { "netsonde_udp_received_bytes_total", "Payload bytes of UDP datagrams that arrived at a socket, those that it had no room for included.", "bytes", METRIC_COUNTER, 0, 0 }, PEER },
	[SENT_DATAGRAMS] = { { "netsonde_udp_sent_datagrams_total", "UDP datagrams sent; a batch (UDP_SEGMENT) counts as what it becomes.", NULL, METRIC_COUNTER, 0, 0 }, PEER },
	[RECEIVED_DATAGRAMS] = { { "netsonde_udp_received_datagrams_total", "UDP datagrams that arrived at a socket, those that it had no room for included.", NULL, METRIC_COUNTER, 0, 0 }, PEER },
	[RECEIVE_DROPS] = { { "netsonde_udp_receive_drops_total", "UDP datagrams dropped because the socket's receive buffer was full.", NULL, METRIC_COUNTER, 0, 0 }, PEER },
};

struct state {
	struct registry_family *families[N_FAMILIES];
	struct collector_context context;
	struct udp_program *program;
};

static bool udp_wanted(const struct settings *settings)
{
	return settings->collect.udp;
}

static void udp_close(void *opaque)
{
	struct state *s = opaque;

	if (!s)
		return;
	udp_program_close(s->program);
	free(s);
}

static int open_program(struct state *s, struct error *ret_error)
{
	int cgroup_fd = cgroup_root_open(ret_error), r;

	if (cgroup_fd < 0)
		return cgroup_fd;
	r = udp_program_open(s->context.peers, UDP_DROPS_BEST, &s->program, ret_error);
	if (!r)
		r = udp_program_attach(s->program, cgroup_fd, s->context.features, ret_error);
	close(cgroup_fd);
	return r;
}

static int udp_open(const struct collector_context *context, void **ret_state, struct error *ret_error)
{
	struct state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->context = *context;
	r = registry_register_all(context->registry, families, N_FAMILIES, s->families, ret_error);
	if (!r)
		r = open_program(s, ret_error);
	if (r < 0) {
		udp_close(s);
		return r;
	}
	*ret_state = s;
	return 0;
}

static void show_program(const char *name, int fd, void *userdata)
{
	struct state *s = userdata;

	self_program(s->context.self, name, fd);
}

static void show_peer(struct state *s, const char *peer, const struct udp_row *row)
{
	registry_value(s->families[SENT_BYTES], &peer, (double)row->sent_bytes);
	registry_value(s->families[RECEIVED_BYTES], &peer, (double)row->received_bytes);
	registry_value(s->families[SENT_DATAGRAMS], &peer, (double)row->sent_datagrams);
	registry_value(s->families[RECEIVED_DATAGRAMS], &peer, (double)row->received_datagrams);
	if (udp_program_drops(s->program) != UDP_DROPS_OFF)
		registry_value(s->families[RECEIVE_DROPS], &peer, (double)row->receive_drops);
}

static void udp_tick(void *opaque, mono_time now)
{
	struct state *s = opaque;
	const struct udp_row *rows = udp_program_rows(s->program);

	for (uint32_t slot = 0; slot < peers_slots(s->context.peers); slot += ROLE_COUNT) {
		const char *peer;

		if (!rows[slot].head.touched)
			continue;
		peer = peers_label(s->context.peers, slot);
		if (peer)
			show_peer(s, peer, &rows[slot]);
	}
	self_lost(s->context.self, "udp_datagram", udp_program_lost(s->program, UDP_LOST_DATAGRAM));
	udp_program_each(s->program, show_program, s);
}

const struct collector collect_udp = {
	.name = "udp",
	.wanted = udp_wanted,
	.families = families,
	.n_families = N_FAMILIES,
	.open = udp_open,
	.tick = udp_tick,
	.close = udp_close,
};
