/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DNS collector: latency and response code of each lookup by server, from the
 * packets of local sockets. Off by default, since its programs see every packet.
 * The kernel aggregates; once per second a sweep counts what got no answer.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/cgroup.h"
#include "agent/collector.h"
#include "agent/dns_program.h"
#include "agent/kbpf.h"
#include "agent/netns.h"
#include "lib/address.h"
#include "lib/log.h"

#define SWEEP_NS NS_PER_SEC /* a time-out of 10 s need not be known sooner */

static const char *const rcode_names[DNS_RCODE_COUNT] = {
	"noerror", "formerr", "servfail", "nxdomain", "notimp", "refused", "other",
};
static const char *const discarded_names[DNS_DISCARDED_COUNT] = { "unsolicited", "duplicate", "malformed", "unparsed" };
static const char *const lost_names[DNS_LOST_COUNT] = { "dns_query", "dns_stream" };

enum family { LOOKUPS, TIMEOUTS, LATE, RETRANSMITS, TRUNCATED, DISCARDED, N_FAMILIES };

#define SERVER { "server", NULL }
static const struct registry_definition families[N_FAMILIES] = {
	[LOOKUPS] = { { "netsonde_dns_lookup_duration_seconds", "DNS query sent for the first time to answer received, by the server's address, of local clients over UDP and TCP port 53.", "seconds", METRIC_HISTOGRAM, -20, 4 }, { "server", "rcode", NULL } },
	[TIMEOUTS] = { { "netsonde_dns_timeouts_total", "DNS queries without an answer within 10 s.", NULL, METRIC_COUNTER, 0, 0 }, SERVER },
	[LATE] = { { "netsonde_dns_late_answers_total", "First answers that came after their query had been counted as timed out.", NULL, METRIC_COUNTER, 0, 0 }, SERVER },
	[RETRANSMITS] = { { "netsonde_dns_retransmits_total", "DNS queries sent again while their answer was awaited.", NULL, METRIC_COUNTER, 0, 0 }, SERVER },
	[TRUNCATED] = { { "netsonde_dns_truncated_total", "Lookups whose answer was cut short (TC), which clients repeat over TCP.", NULL, METRIC_COUNTER, 0, 0 }, SERVER },
	[DISCARDED] = { { "netsonde_dns_discarded_messages_total", "What is part of no lookup: answers to no query (unsolicited) and second answers to a query sent again (duplicate), malformed messages, and TCP segments in which messages could not be told apart (unparsed).", NULL, METRIC_COUNTER, 0, 0 }, { "reason", NULL } },
};

/* What a server's row showed at the last tick. */
struct view {
	uint64_t changes;
	bool settled; /* nothing had changed since the tick before */
	struct hist hists[DNS_RCODE_COUNT];
};

struct state {
	struct registry_family *families[N_FAMILIES];
	struct self *self; /* borrowed */
	struct dns_program *program;
	struct view views[DNS_ROWS];
	mono_time swept;
};

static bool dns_wanted(const struct settings *settings)
{
	return settings->collect.dns;
}

static void dns_close(void *opaque)
{
	struct state *s = opaque;

	if (!s)
		return;
	for (size_t i = 0; i < DNS_ROWS; i++)
		for (size_t h = 0; h < DNS_RCODE_COUNT; h++)
			hist_done(&s->views[i].hists[h]);
	dns_program_close(s->program);
	free(s);
}

static int open_program(struct state *s, uint32_t only_netns, struct error *ret_error)
{
	int r = dns_program_open(only_netns, &s->program, ret_error), fd;

	if (r < 0)
		return r;
	fd = cgroup_root_open(ret_error);
	if (fd < 0)
		return fd;
	r = dns_program_attach(s->program, fd, ret_error);
	close(fd); /* the links hold it */
	return r;
}

static int dns_open(const struct collector_context *context, void **ret_state, struct error *ret_error)
{
	struct state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	for (size_t i = 0; i < DNS_ROWS; i++)
		for (size_t h = 0; h < DNS_RCODE_COUNT; h++)
			kbpf_hist_init(&s->views[i].hists[h]);
	s->self = context->self;
	r = registry_register_all(context->registry, families, N_FAMILIES, s->families, ret_error);
	if (!r)
		r = open_program(s, netns_scope(context->settings), ret_error);
	if (r < 0) {
		dns_close(s);
		return r;
	}
	features_enable(context->features, "dns", "cgroup_skb");
	*ret_state = s;
	return 0;
}

static void dns_sweep(void *opaque)
{
	struct state *s = opaque;
	mono_time now = mono_now();
	int r;

	if (mono_since_ns(now, s->swept) < SWEEP_NS)
		return;
	s->swept = now;
	r = dns_program_sweep(s->program, now);
	if (r < 0)
		log_warn("the sweep over the DNS queries failed; time-outs are not counted until the next one", "error", strerror(-r), NULL);
}

static void refresh_view(struct view *view, const struct dns_row *row)
{
	uint64_t changes = row->changes;

	/* A program counts the change and then makes it: once more at the tick after. */
	if (view->changes == changes && view->settled)
		return;
	view->settled = view->changes == changes;
	view->changes = changes;
	for (size_t i = 0; i < DNS_RCODE_COUNT; i++)
		kbpf_hist_read(&view->hists[i], row->buckets[i], row->sum_ns[i]);
}

static void show_server(struct state *s, const struct view *view, const struct dns_row *row, const char *server)
{
	const char *labels[2] = { server };

	for (size_t i = 0; i < DNS_RCODE_COUNT; i++) {
		labels[1] = rcode_names[i];
		if (view->hists[i].count)
			registry_histogram(s->families[LOOKUPS], labels, &view->hists[i]);
	}
	registry_value(s->families[TIMEOUTS], labels, (double)row->timeouts);
	registry_value(s->families[LATE], labels, (double)row->late_answers);
	registry_value(s->families[RETRANSMITS], labels, (double)row->retransmits);
	registry_value(s->families[TRUNCATED], labels, (double)row->truncated);
}

static void show_program(const char *name, int fd, void *userdata)
{
	struct state *s = userdata;

	self_program(s->self, name, fd);
}

static void show_self(struct state *s)
{
	struct dns_program_stats stats;

	dns_program_stats(s->program, &stats);
	for (size_t i = 0; i < DNS_LOST_COUNT; i++)
		self_lost(s->self, lost_names[i], stats.lost[i]);
	for (size_t i = 0; i < DNS_DISCARDED_COUNT; i++)
		registry_value(s->families[DISCARDED], &discarded_names[i], (double)stats.discarded[i]);
	self_map(s->self, "dns_pending", stats.pending, DNS_PENDING_MAX);
	self_map(s->self, "dns_servers", stats.servers, DNS_SERVERS);
	dns_program_each(s->program, show_program, s);
}

static void dns_tick(void *opaque, mono_time now)
{
	struct state *s = opaque;

	show_self(s);
	for (uint32_t i = 0; i < DNS_ROWS; i++) {
		const struct dns_row *row = dns_program_row(s->program, i);
		char text[ADDRESS_TEXT_MAX];
		struct address address;

		if (!row) {
			s->views[i].settled = false; /* whoever comes next begins anew */
			continue;
		}
		refresh_view(&s->views[i], row);
		memcpy(address.bytes, &row->address, sizeof(address.bytes));
		show_server(s, &s->views[i], row, i == DNS_OTHER ? "other" : address_format(&address, text));
	}
}

const struct collector collect_dns = {
	.name = "dns",
	.wanted = dns_wanted,
	.families = families,
	.n_families = N_FAMILIES,
	.open = dns_open,
	.sweep = dns_sweep,
	.tick = dns_tick,
	.close = dns_close,
};
