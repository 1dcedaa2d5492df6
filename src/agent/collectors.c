/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/collectors.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/connections.h"
#include "agent/memory.h"
#include "lib/log.h"

/* In the order of the metrics page. */
static const struct collector *const all[] = {
	&collect_tcp, &collect_udp, &collect_dns, &collect_lookup, &collect_drop, &collect_process, &collect_interface, &collect_flow,
	&collect_probe,
};
#define N_ALL (sizeof(all) / sizeof(all[0]))

struct collectors {
	const struct settings *settings;
	struct features *features;
	struct self *self;
	struct peers *peers;
	struct events *events;
	struct connections *connections; /* NULL: no table of connections */
	void *states[N_ALL];             /* NULL: not open */
	uint64_t maps_bytes;
	bool over_budget;                /* and told so */
};

static void open_all(struct collectors *c, struct registry *registry, struct loop *loop)
{
	const struct collector_context context = {
		.settings = c->settings, .registry = registry, .features = c->features, .self = c->self,
		.peers = c->peers, .events = c->events, .loop = loop,
	};

	for (size_t i = 0; i < N_ALL; i++) {
		struct error error = { "" };

		if (!all[i]->wanted(c->settings))
			features_unwanted(c->features, all[i]->name, all[i]->key ? all[i]->key : "collect", all[i]->key ? NULL : all[i]->name);
		else if (all[i]->open(&context, &c->states[i], &error) < 0)
			features_miss(c->features, all[i]->name, error.text[0] ? error.text : "out of memory", "");
	}
}

static void *state_of(const struct collectors *c, const struct collector *collector)
{
	for (size_t i = 0; i < N_ALL; i++)
		if (all[i] == collector)
			return c->states[i];
	return NULL;
}

static const struct tcp_program *tcp_program(const struct collectors *c)
{
	const void *state = state_of(c, &collect_tcp);

	return state ? collect_tcp_program(state) : NULL;
}

static void open_connections(struct collectors *c)
{
	/* While somebody looks, half of the budget may be rows. */
	uint32_t rows_max = c->settings->collect.memory_budget / 2 / CONNECTIONS_ROW_BYTES;
	struct error error = { "" };

	if (!c->settings->collect.tcp)
		features_unwanted(c->features, "connections", "collect", "tcp");
	else if (connections_open(c->peers, tcp_program(c), rows_max, &c->connections, &error) < 0)
		features_miss(c->features, "connections", error.text[0] ? error.text : "out of memory", "");
	else
		features_enable(c->features, "connections", "iter");
}

static const char *reason_of(const struct features *features, const char *name)
{
	for (size_t i = 0; i < features->n; i++)
		if (!strcmp(features->items[i].name, name))
			return features->items[i].reason;
	return "not available";
}

/* Why there is nothing to measure at all, or NULL: the reason of the first collector that was wanted and failed. */
static const char *nothing_works(const struct collectors *c)
{
	const char *reason = NULL;

	for (size_t i = 0; i < N_ALL; i++) {
		if (c->states[i])
			return NULL;
		if (!reason && all[i]->wanted(c->settings))
			reason = reason_of(c->features, all[i]->name);
	}
	return reason;
}

int collectors_open(const struct settings *settings, struct registry *registry, struct features *features, struct self *self,
		    struct loop *loop, struct collectors **ret_collectors, struct error *ret_error)
{
	struct collectors *c = calloc(1, sizeof(*c));
	const char *reason;
	int r;

	if (!c)
		return -ENOMEM;
	c->settings = settings;
	c->features = features;
	c->self = self;
	r = peers_new(settings, &c->peers, ret_error);
	if (!r)
		r = events_new(settings->collect.events_per_second, &c->events, ret_error);
	if (!r)
		r = events_register(c->events, registry, ret_error);
	if (r < 0) {
		for (size_t i = 0; i < N_ALL; i++)
			features_miss(features, all[i]->name, ret_error->text, "");
		goto fail;
	}
	open_all(c, registry, loop);
	open_connections(c);
	reason = nothing_works(c);
	if (reason) {
		r = error_set(ret_error, -EPERM, "%s; there is nothing else to measure", reason);
		goto fail;
	}
	c->maps_bytes = memory_of_maps();
	*ret_collectors = c;
	return 0;
fail:
	collectors_free(c);
	return r;
}

void collectors_free(struct collectors *collectors)
{
	if (!collectors)
		return;
	for (size_t i = N_ALL; i-- > 0;)
		if (collectors->states[i])
			all[i]->close(collectors->states[i]);
	connections_close(collectors->connections);
	events_free(collectors->events);
	peers_free(collectors->peers);
	free(collectors);
}

int collectors_add_routes(const struct collectors *c, struct exporter *exporter)
{
	const struct exporter_route shared[] = {
		{ "GET", "/api/v1/events", "events", events_handle, c->events, NULL, 0 },
		{ "GET", "/api/v1/connections", "connections", c->connections ? connections_handle : NULL, c->connections,
		  reason_of(c->features, "connections"), c->settings->collect.tcp ? 503 : 404 },
	};
	int r = 0;

	for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]) && !r; i++)
		r = exporter_add(exporter, &shared[i]);
	for (size_t i = 0; i < N_ALL && !r; i++) {
		const struct exporter_route route = {
			"GET", all[i]->route_path, all[i]->route_title, c->states[i] ? all[i]->handle : NULL, c->states[i],
			reason_of(c->features, all[i]->name), all[i]->wanted(c->settings) ? 503 : 404,
		};

		if (route.path)
			r = exporter_add(exporter, &route);
	}
	return r;
}

/* Records in the kernel are the only part that can give way. */
static void tell_over_budget(struct collectors *c, uint64_t resident)
{
	const uint64_t budget = c->settings->collect.memory_budget;
	const bool over = c->maps_bytes + resident > budget;
	char maps[32], process[32], wanted[32];

	if (over && !c->over_budget) {
		snprintf(maps, sizeof(maps), "%.1fM", (double)c->maps_bytes / 1e6);
		snprintf(process, sizeof(process), "%.1fM", (double)resident / 1e6);
		snprintf(wanted, sizeof(wanted), "%.1fM", (double)budget / 1e6);
		log_warn("the agent itself takes more than the memory budget; records of sockets get a sixteenth of it", "maps", maps,
			 "process", process, "budget", wanted, "remedy", "lower collect.top_peers and collect.series_budget, or raise collect.memory_budget", NULL);
	}
	c->over_budget = over;
}

/* What the process does not need of the budget is for records in the kernel. */
static void share_memory(struct collectors *c)
{
	const uint64_t resident = memory_resident();
	const uint64_t room = memory_room(c->settings->collect.memory_budget, c->maps_bytes, resident);

	tell_over_budget(c, resident);
	for (size_t i = 0; i < N_ALL; i++)
		if (c->states[i] && all[i]->set_room)
			all[i]->set_room(c->states[i], room);
}

void collectors_sweep(struct collectors *c, mono_time now)
{
	share_memory(c);
	peers_begin(c->peers);
	for (size_t i = 0; i < N_ALL; i++)
		if (c->states[i] && all[i]->sweep)
			all[i]->sweep(c->states[i]);
	peers_end(c->peers, now);
	events_tick(c->events, now);
	if (c->connections)
		connections_tidy(c->connections, now);
}

static void show_program(const char *name, int fd, void *self)
{
	self_program(self, name, fd);
}

/* What the prober takes out of the stack is nothing that was lost. */
static void tell_drops_of_probes(const struct collectors *c)
{
	void *drop = state_of(c, &collect_drop);
	const void *probe = state_of(c, &collect_probe);

	if (drop && probe)
		collect_drop_own_xdp(drop, collect_probe_devices(probe));
}

static void show_shared(const struct collectors *c)
{
	uint32_t used, total;

	peers_usage(c->peers, &used, &total);
	self_map(c->self, "peers", used, total);
	self_lost(c->self, "peer_candidate", peers_lost_candidates(c->peers));
	self_lost(c->self, "event_ring", events_lost(c->events));
	events_show(c->events);
	if (c->connections)
		connections_each_program(c->connections, show_program, c->self);
}

void collectors_tick(struct collectors *c, mono_time now)
{
	tell_drops_of_probes(c);
	show_shared(c);
	for (size_t i = 0; i < N_ALL; i++)
		if (c->states[i])
			all[i]->tick(c->states[i], now);
}

static bool same_strings(char *const *a, size_t n_a, char *const *b, size_t n_b)
{
	if (n_a != n_b)
		return false;
	for (size_t i = 0; i < n_a; i++)
		if (strcmp(a[i], b[i]))
			return false;
	return true;
}

static bool same_text(const char *a, const char *b)
{
	return !a || !b ? a == b : !strcmp(a, b);
}

static const char *probe_needs_restart(const struct settings_probe *a, const struct settings_probe *b, bool wanted, bool still_wanted)
{
	if (!wanted)
		return still_wanted ? "probe" : NULL; /* nothing was loaded */
	if (a->attach != b->attach)
		return "probe.attach";
	if (!same_strings(a->reflect, a->n_reflect, b->reflect, b->n_reflect))
		return "probe.reflect";
	if (a->n_reflect && (a->reflector.port != b->reflector.port || a->reflector.rate != b->reflector.rate ||
			     a->reflector.icmp != b->reflector.icmp || a->reflector.authenticated_only != b->reflector.authenticated_only ||
			     !same_text(a->reflector.key_file, b->reflector.key_file)))
		return "probe.reflector";
	if (a->clock_error_ns != b->clock_error_ns)
		return "probe.clock_error";
	return a->max_targets != b->max_targets ? "probe.max_targets" : NULL;
}

/* What a running agent cannot change: it gave up the rights to load programs and to enter namespaces. */
static const char *needs_restart(const struct settings *a, const struct settings *b)
{
	if (a->collect.scope != b->collect.scope)
		return "collect.scope";
	if (a->collect.tcp != b->collect.tcp || a->collect.tcp_rtt != b->collect.tcp_rtt)
		return "collect.tcp";
	if (a->collect.udp != b->collect.udp)
		return "collect.udp";
	if (a->collect.dns != b->collect.dns)
		return "collect.dns";
	if (a->collect.lookups != b->collect.lookups)
		return "collect.lookups";
	if (a->collect.drops != b->collect.drops)
		return "collect.drops";
	if (a->collect.processes != b->collect.processes)
		return "collect.processes";
	if (a->collect.interfaces != b->collect.interfaces)
		return "collect.interfaces";
	if (!same_strings(a->collect.flows, a->collect.n_flows, b->collect.flows, b->collect.n_flows))
		return "collect.flows";
	if (!same_strings(a->collect.namespaces, a->collect.n_namespaces, b->collect.namespaces, b->collect.n_namespaces))
		return "collect.namespaces";
	if (a->collect.top_peers != b->collect.top_peers)
		return "collect.top_peers";
	return probe_needs_restart(&a->probe, &b->probe, settings_probe_wanted(a), settings_probe_wanted(b));
}

int collectors_reload(struct collectors *c, const struct settings *settings, struct error *ret_error)
{
	const char *key = needs_restart(c->settings, settings);
	int r;

	if (key)
		return error_set(ret_error, -EBUSY, "%s needs a restart: the agent gave up the rights that it takes", key);
	for (size_t i = 0; i < N_ALL; i++) {
		r = c->states[i] && all[i]->prepare ? all[i]->prepare(c->states[i], settings, ret_error) : 0;
		if (r < 0)
			return r;
	}
	r = peers_reload(c->peers, settings, ret_error);
	for (size_t i = 0; i < N_ALL && !r; i++)
		if (c->states[i] && all[i]->reload)
			r = all[i]->reload(c->states[i], settings, ret_error);
	if (!r)
		events_set_limit(c->events, settings->collect.events_per_second);
	return r;
}

int collectors_describe(struct registry *registry, struct error *ret_error)
{
	int r = events_describe(registry, ret_error);

	for (size_t i = 0; i < N_ALL && !r; i++)
		r = registry_register_all(registry, all[i]->families, all[i]->n_families, NULL, ret_error);
	return r;
}
