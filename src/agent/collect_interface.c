/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interfaces of the agent's own network namespace and of those it is told to
 * watch. No BPF: the kernel counts, rtnetlink tells (netlink.h). Per tick and
 * namespace one dump of counters, and what changed since the last tick, in order; so an
 * interface that went down and up between two ticks is in the events all the same.
 *
 * An interface is followed by its index and shown under the name it has at the
 * tick. A deleted one's series end; another one that gets its name begins a series that
 * looks like a reset counter. In another namespace the name is NAMESPACE/INTERFACE.
 *
 * A scope is one namespace with its two sockets, opened at the start. The sockets of a
 * namespace that was deleted are closed at the next tick, so that it really ends (netns.h).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/collector.h"
#include "agent/links.h"
#include "agent/netlink.h"
#include "agent/netns.h"
#include "lib/log.h"

/* About a thousand notifications may wait between two ticks. */
#define QUEUE_BYTES (2u << 20)
/* Asked after each change of the link, and again after a while for drivers that change it silently. */
#define SPEED_AGE_NS (60 * NS_PER_SEC)
#define DEVICE_MAX (NETNS_LABEL_MAX + LINK_NAME_TEXT_MAX + 1)
#define FEATURE "interfaces"
#define FEATURE_NAMESPACES "interface_namespaces"

enum family {
	RECEIVE_BYTES, RECEIVE_PACKETS, RECEIVE_ERRORS, RECEIVE_DROPS,
	TRANSMIT_BYTES, TRANSMIT_PACKETS, TRANSMIT_ERRORS, TRANSMIT_DROPS,
	SPEED, UP, DUMPS_REPEATED, N_FAMILIES,
};

#define DEVICE { "device", NULL }
static const struct registry_definition families[N_FAMILIES] = {
	[RECEIVE_BYTES] = { { "netsonde_interface_receive_bytes_total", "Bytes received on an interface, link-layer headers included.", "bytes", METRIC_COUNTER, 0, 0 }, DEVICE },
	[RECEIVE_PACKETS] = { { "netsonde_interface_receive_packets_total", "Packets received on an interface.", NULL, METRIC_COUNTER, 0, 0 }, DEVICE },
	[RECEIVE_ERRORS] = { { "netsonde_interface_receive_errors_total", "Packets that arrived broken.", NULL, METRIC_COUNTER, 0, 0 }, DEVICE },
	[RECEIVE_DROPS] = { { "netsonde_interface_receive_drops_total", "Received packets that were dropped, with those that the device had no buffer for.", NULL, METRIC_COUNTER, 0, 0 }, DEVICE },
	[TRANSMIT_BYTES] = { { "netsonde_interface_transmit_bytes_total", "Bytes sent on an interface, link-layer headers included.", "bytes", METRIC_COUNTER, 0, 0 }, DEVICE },
	[TRANSMIT_PACKETS] = { { "netsonde_interface_transmit_packets_total", "Packets sent on an interface.", NULL, METRIC_COUNTER, 0, 0 }, DEVICE },
	[TRANSMIT_ERRORS] = { { "netsonde_interface_transmit_errors_total", "Packets that could not be sent.", NULL, METRIC_COUNTER, 0, 0 }, DEVICE },
	[TRANSMIT_DROPS] = { { "netsonde_interface_transmit_drops_total", "Packets dropped on their way out.", NULL, METRIC_COUNTER, 0, 0 }, DEVICE },
	[SPEED] = { { "netsonde_interface_speed_bytes", "Speed of the link in bytes per second; absent while the link is down, and where the driver does not know it or only makes it up.", "bytes", METRIC_GAUGE, 0, 0 }, DEVICE },
	[UP] = { { "netsonde_interface_up", "1 when the interface is switched on, has a carrier, and can pass packets.", NULL, METRIC_GAUGE, 0, 0 }, DEVICE },
	[DUMPS_REPEATED] = { { "netsonde_interface_dumps_repeated_total", "Times that the counters were read again because the list of interfaces changed meanwhile.", NULL, METRIC_COUNTER, 0, 0 }, { NULL } },
};

struct state;

struct scope {
	struct state *state;
	struct netns *netns;     /* NULL: the agent's own */
	struct netlink *netlink; /* NULL: not watched (any more) */
	uint32_t inode;
	bool ask_all;            /* news was lost: the next look is at all links */
	struct links links;
};

struct state {
	struct registry_family *families[N_FAMILIES];
	struct collector_context context;
	struct scope *scopes; /* the first one is the agent's own */
	size_t n_scopes;
	struct netlink_totals ended; /* of scopes that are closed */
	char missing[256];    /* which namespaces, and why */
};

static const char *device_label(const struct scope *s, const struct link *link, char ret_label[static DEVICE_MAX])
{
	if (s->netns)
		snprintf(ret_label, DEVICE_MAX, "%s/%s", netns_label(s->netns), link->text);
	else
		snprintf(ret_label, DEVICE_MAX, "%s", link->text);
	return ret_label;
}

static void on_event(enum event_link change, const struct link *link, const char *former, uint32_t count, void *userdata)
{
	struct scope *s = userdata;
	char device[DEVICE_MAX];
	struct event event = {
		.kind = EVENT_LINK, .code = change, .count = count, .role = ROLE_COUNT,
		.netns = s->inode, .ifindex = (uint32_t)link->index,
	};

	snprintf(event.text, sizeof(event.text), "%.*s", (int)sizeof(event.text) - 1, former);
	events_add(s->state->context.events, &event, device_label(s, link, device));
}

static void on_change(const struct netlink_message *message, void *userdata)
{
	struct scope *s = userdata;

	if (message->type == NETLINK_LINK_GONE)
		links_remove(&s->links, message->link.index, on_event, s);
	else if (links_set(&s->links, &message->link, on_event, s) < 0)
		s->ask_all = true;
}

static int read_all(struct scope *s, links_event_fn fn)
{
	const struct netlink_link *links;
	size_t n;
	int r = netlink_links(s->netlink, &links, &n);

	if (r >= 0) {
		s->ask_all = r > 0;
		r = links_replace(&s->links, links, n, fn, s);
	}
	if (r < 0)
		s->ask_all = true;
	return r;
}

static void read_changes(struct scope *s)
{
	int r = netlink_changes(s->netlink, on_change, s);

	s->ask_all |= r < 0 || r == NETLINK_E_LOST;
}

static void follow_changes(struct scope *s)
{
	read_changes(s);
	if (!s->ask_all && !s->links.name_taken)
		return;
	read_all(s, on_event);
	/* What was said before the dump but heard behind it leads to the same state again. */
	read_changes(s);
}

static void read_counters(struct scope *s)
{
	const struct netlink_counters *counters;
	size_t n;
	int r = netlink_counters(s->netlink, &counters, &n);

	if (r >= 0)
		links_counters(&s->links, counters, n, !r);
}

static void scope_close(struct scope *s)
{
	struct netlink_totals *sum = &s->state->ended, t;

	if (s->netlink) {
		netlink_totals(s->netlink, &t);
		sum->repeated += t.repeated;
		sum->inconsistent += t.inconsistent;
		sum->overflows += t.overflows;
		sum->malformed += t.malformed;
	}
	netlink_close(s->netlink);
	s->netlink = NULL;
	netns_close(s->netns);
	s->netns = NULL;
	links_done(&s->links);
}

static void miss_namespace(struct state *s, const char *name, const char *reason)
{
	size_t len = strlen(s->missing);

	snprintf(s->missing + len, sizeof(s->missing) - len, "%s%s: %s", len ? "; " : "", name, reason);
	features_miss(s->context.features, FEATURE_NAMESPACES, s->missing, "restart the agent when the namespace is there; only then may it enter");
}

static int open_sockets(void *userdata)
{
	struct scope *s = userdata;
	int r;

	s->inode = netns_own_inode();
	r = netlink_open(QUEUE_BYTES, &s->netlink);
	return r < 0 ? r : read_all(s, NULL);
}

static bool label_taken(const struct state *s, const struct scope *new)
{
	for (size_t i = 1; i < s->n_scopes; i++)
		if (&s->scopes[i] != new && s->scopes[i].netns && !strcmp(netns_label(s->scopes[i].netns), netns_label(new->netns)))
			return true;
	return false;
}

static void open_namespace(struct state *s, const char *name)
{
	struct scope *scope = &s->scopes[s->n_scopes++];
	struct error error = { "" };
	int r;

	scope->state = s;
	r = netns_open(name, &scope->netns, &error);
	if (!r && label_taken(s, scope))
		r = error_set(&error, -EEXIST, "another one has the label %s already", netns_label(scope->netns));
	if (!r) {
		r = netns_run(scope->netns, open_sockets, scope);
		if (r == -EPERM)
			error_set(&error, r, "entering it needs CAP_SYS_ADMIN");
		else if (r < 0)
			error_set_errno(&error, r, "cannot watch it");
	}
	if (r < 0) {
		miss_namespace(s, name, error.text[0] ? error.text : strerror(-r));
		scope_close(scope);
	}
}

static void interface_close(void *opaque)
{
	struct state *s = opaque;

	if (!s)
		return;
	for (size_t i = 0; i < s->n_scopes; i++)
		scope_close(&s->scopes[i]);
	free(s->scopes);
	free(s);
}

static bool interface_wanted(const struct settings *settings)
{
	return settings->collect.interfaces;
}

static int interface_open(const struct collector_context *context, void **ret_state, struct error *ret_error)
{
	size_t n = context->settings->collect.n_namespaces;
	struct state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->context = *context;
	s->scopes = calloc(n + 1, sizeof(*s->scopes));
	r = s->scopes ? registry_register_all(context->registry, families, N_FAMILIES, s->families, ret_error) : -ENOMEM;
	if (!r) {
		s->n_scopes = 1;
		s->scopes[0].state = s;
		r = open_sockets(&s->scopes[0]);
		if (r < 0)
			error_set_errno(ret_error, r, "cannot ask the kernel for its interfaces (rtnetlink)");
	}
	if (r < 0) {
		interface_close(s);
		return r;
	}
	features_enable(context->features, FEATURE, "netlink");
	if (n)
		features_enable(context->features, FEATURE_NAMESPACES, "setns");
	for (size_t i = 0; i < n; i++)
		open_namespace(s, context->settings->collect.namespaces[i]);
	*ret_state = s;
	return 0;
}

/* A virtual cable has no speed; its driver says 10 Gbit/s (veth) or 10 Mbit/s (tun) for the sake of those who must have
 * one. A bridge says the highest of its ports', most often that of a virtual cable. */
static bool speed_is_made_up(const struct link *link)
{
	return !strcmp(link->kind, "veth") || !strcmp(link->kind, "tun") || !strcmp(link->kind, "bridge");
}

static uint64_t speed_of(struct scope *s, struct link *link, mono_time now)
{
	if (!link->up || speed_is_made_up(link))
		return 0;
	if (!link->speed_ns || now.ns - link->speed_ns >= SPEED_AGE_NS) {
		link->speed = netlink_speed(s->netlink, link->name);
		link->speed_ns = now.ns;
	}
	return link->speed;
}

static void show_link(struct scope *s, struct link *link, mono_time now)
{
	struct registry_family *const *to = s->state->families;
	const struct netlink_counters *c = &link->counters;
	char text[DEVICE_MAX];
	const char *device = device_label(s, link, text);
	uint64_t speed = speed_of(s, link, now);

	registry_value(to[UP], &device, link->up);
	if (speed)
		registry_value(to[SPEED], &device, (double)speed);
	if (!link->has_counters)
		return;
	registry_value(to[RECEIVE_BYTES], &device, (double)c->receive_bytes);
	registry_value(to[RECEIVE_PACKETS], &device, (double)c->receive_packets);
	registry_value(to[RECEIVE_ERRORS], &device, (double)c->receive_errors);
	registry_value(to[RECEIVE_DROPS], &device, (double)c->receive_drops);
	registry_value(to[TRANSMIT_BYTES], &device, (double)c->transmit_bytes);
	registry_value(to[TRANSMIT_PACKETS], &device, (double)c->transmit_packets);
	registry_value(to[TRANSMIT_ERRORS], &device, (double)c->transmit_errors);
	registry_value(to[TRANSMIT_DROPS], &device, (double)c->transmit_drops);
}

static void show_totals(struct state *s)
{
	struct netlink_totals sum = s->ended, t;

	for (size_t i = 0; i < s->n_scopes; i++) {
		if (!s->scopes[i].netlink)
			continue;
		netlink_totals(s->scopes[i].netlink, &t);
		sum.repeated += t.repeated;
		sum.inconsistent += t.inconsistent;
		sum.overflows += t.overflows;
		sum.malformed += t.malformed;
	}
	registry_value(s->families[DUMPS_REPEATED], NULL, (double)sum.repeated);
	self_lost(s->context.self, "interface_dump", sum.inconsistent);
	self_lost(s->context.self, "interface_notification", sum.overflows);
	self_lost(s->context.self, "interface_message", sum.malformed);
}

static void end_scope(struct scope *s, const char *reason)
{
	log_warn("no longer watching the interfaces of a network namespace", "namespace", netns_label(s->netns), "reason", reason, NULL);
	miss_namespace(s->state, netns_label(s->netns), reason);
	scope_close(s);
}

/* What happened since the last tick, early enough for this tick's events. */
static void interface_sweep(void *opaque)
{
	struct state *s = opaque;

	for (size_t i = 0; i < s->n_scopes; i++) {
		struct scope *scope = &s->scopes[i];
		const char *gone = scope->netns && scope->netlink ? netns_gone(scope->netns) : NULL;

		if (gone)
			end_scope(scope, gone);
		if (scope->netlink)
			follow_changes(scope);
	}
}

static void interface_tick(void *opaque, mono_time now)
{
	struct state *s = opaque;

	for (size_t i = 0; i < s->n_scopes; i++) {
		struct scope *scope = &s->scopes[i];

		if (!scope->netlink)
			continue;
		read_counters(scope);
		/* Again, so that an entry whose link is gone does not show what another one of the same index counted. */
		follow_changes(scope);
		for (size_t k = 0; k < scope->links.n; k++)
			if (scope->links.items[k].name[0])
				show_link(scope, &scope->links.items[k], now);
	}
	show_totals(s);
}

const struct collector collect_interface = {
	.name = FEATURE,
	.wanted = interface_wanted,
	.families = families,
	.n_families = N_FAMILIES,
	.open = interface_open,
	.sweep = interface_sweep,
	.tick = interface_tick,
	.close = interface_close,
};
