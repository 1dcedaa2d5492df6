/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe/probe_target.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/probe/probe_packet.h"

/* So many probes in a row without an answer, and a path counts as down; one is a lost packet. */
#define DOWN_AFTER 3
#define TCP_RING_MAX 256
#define RING_MIN 8

const char *const probe_target_unreachable_names[UNREACHABLE_COUNT] = {
	"host", "net", "port", "prohibited", "ttl_exceeded", "too_big", "no_buffer", "other",
};
const char *const probe_target_protocol_names[PROBE_PROTOCOL_COUNT] = { "icmp", "stamp", "tcp" };
const char *const probe_target_source_names[TARGET_SOURCE_COUNT] = { "configuration", "peers", "plan" };

static int copy_text(const char *from, char **to)
{
	if (!from)
		return 0;
	*to = strdup(from);
	return *to ? 0 : -ENOMEM;
}

int probe_target_spec_of_settings(const struct settings_probe_target *from, const uint8_t *secret, size_t secret_len,
				  struct probe_target_spec *ret_spec)
{
	struct probe_target_spec spec = {
		.interval_ns = from->interval_ns, .paths = from->paths, .passive = from->passive && from->protocol == SETTINGS_PROBE_ICMP,
		.probe = {
			.protocol = (enum probe_protocol)from->protocol, .port = (uint16_t)from->port, .payload = (uint16_t)from->size,
			.dscp = (uint8_t)from->dscp, .ttl = (uint8_t)from->ttl, .timeout_ns = from->timeout_ns,
		},
	};
	int r = copy_text(from->name, &spec.name);

	if (address_parse(from->address, &spec.probe.address) < 0 && !r)
		r = copy_text(from->address, &spec.host);
	if (from->source)
		spec.probe.has_source = !address_parse(from->source, &spec.probe.source);
	if (!r)
		r = copy_text(from->interface, &spec.interface);
	if (!r && secret_len) {
		spec.secret = malloc(secret_len);
		if (spec.secret)
			memcpy(spec.secret, secret, secret_len);
		else
			r = -ENOMEM;
		spec.probe.secret = spec.secret;
		spec.probe.secret_len = secret_len;
	}
	if (r < 0)
		probe_target_spec_done(&spec);
	else
		*ret_spec = spec;
	return r;
}

int probe_target_spec_of_peer(const struct address *address, const struct settings *settings, struct probe_target_spec *ret_spec)
{
	char name[ADDRESS_TEXT_MAX];
	struct probe_target_spec spec = {
		.source = TARGET_PEER, .interval_ns = settings->probe.defaults.interval_ns, .paths = 1, .passive = true,
		.probe = {
			.address = *address, .protocol = PROBE_ICMP, .payload = (uint16_t)settings->probe.defaults.size,
			.dscp = (uint8_t)settings->probe.defaults.dscp, .timeout_ns = settings->probe.defaults.timeout_ns,
		},
	};

	spec.name = strdup(address_format(address, name));
	if (!spec.name)
		return -ENOMEM;
	*ret_spec = spec;
	return 0;
}

void probe_target_spec_done(struct probe_target_spec *spec)
{
	free(spec->name);
	free(spec->host);
	free(spec->interface);
	if (spec->secret)
		explicit_bzero(spec->secret, spec->probe.secret_len);
	free(spec->secret);
	*spec = (struct probe_target_spec){ 0 };
}

static bool same_text(const char *a, const char *b)
{
	return !a || !b ? a == b : !strcmp(a, b);
}

bool probe_target_spec_same(const struct probe_target_spec *a, const struct probe_target_spec *b)
{
	const struct probe_spec *p = &a->probe, *q = &b->probe;

	return a->source == b->source && same_text(a->name, b->name) && same_text(a->host, b->host) &&
	       same_text(a->interface, b->interface) && a->interval_ns == b->interval_ns && a->paths == b->paths &&
	       a->passive == b->passive && (a->host || !address_compare(&p->address, &q->address)) &&
	       p->has_source == q->has_source && (!p->has_source || !address_compare(&p->source, &q->source)) &&
	       p->protocol == q->protocol && p->port == q->port && p->payload == q->payload && p->dscp == q->dscp &&
	       p->ttl == q->ttl && p->timeout_ns == q->timeout_ns && p->secret_len == q->secret_len &&
	       (!p->secret_len || !memcmp(p->secret, q->secret, p->secret_len));
}

int probe_target_new(struct sampler *sampler, struct probe_target_spec *spec, struct probe_target **ret_target)
{
	struct probe_target *t = calloc(1, sizeof(*t) + spec->paths * sizeof(t->paths[0]));

	if (!t)
		return -ENOMEM;
	t->sampler = sampler;
	t->spec = *spec;
	*spec = (struct probe_target_spec){ 0 };
	t->has_address = !t->spec.host;
	adapt_init(&t->adapt, t->spec.probe.timeout_ns);
	for (uint32_t i = 0; i < t->spec.paths; i++) {
		t->paths[i].target = t;
		probe_stats_init(&t->paths[i].stats);
	}
	*ret_target = t;
	return 0;
}

void probe_target_free(struct probe_target *target)
{
	if (!target)
		return;
	for (uint32_t i = 0; i < target->spec.paths; i++)
		probe_stats_done(&target->paths[i].stats);
	probe_target_spec_done(&target->spec);
	free(target);
}

static enum probe_target_unreachable unreachable_of(int error)
{
	switch (error) {
	case EHOSTUNREACH:
	case EHOSTDOWN: return UNREACHABLE_HOST;
	case ENETUNREACH:
	case ENETDOWN: return UNREACHABLE_NET;
	case ECONNREFUSED: return UNREACHABLE_PORT;
	case EACCES:
	case EPERM: return UNREACHABLE_PROHIBITED;
	case ETIME: return UNREACHABLE_TTL;
	case EMSGSIZE: return UNREACHABLE_TOO_BIG;
	case ENOBUFS: return UNREACHABLE_NO_BUFFER;
	default: return UNREACHABLE_OTHER;
	}
}

unsigned probe_target_result(struct probe_target_path *path, const struct probe_result *result)
{
	if (result->outcome == PROBE_UNREACHABLE)
		path->target->unreachable[unreachable_of(result->error)]++;
	if (result->outcome == PROBE_CLOSED)
		path->target->refused++;
	return probe_stats_add(&path->stats, result);
}

uint32_t probe_target_packet_bytes(const struct probe_target_spec *spec, const struct address *address)
{
	const uint16_t payload = probe_packet_payload(spec->probe.protocol, spec->probe.secret_len, spec->probe.payload);

	return (address_is_ipv4(address) ? 20u : 40u) + (uint32_t)probe_packet_length(spec->probe.protocol, payload);
}

uint32_t probe_target_ring(enum probe_protocol protocol, uint64_t timeout_ns, uint64_t fastest_ns)
{
	const uint64_t wanted = (timeout_ns + timeout_ns / 2) / fastest_ns;
	const uint32_t most = protocol == PROBE_TCP ? TCP_RING_MAX : PROBE_RING_MAX;
	uint32_t ring = RING_MIN;

	while (ring < wanted && ring < most)
		ring *= 2;
	return ring;
}

void probe_target_path_counts(const struct probe_target_path *path, struct probe_counts *ret_counts)
{
	struct probe_counts now;

	*ret_counts = path->former;
	if (!path->path)
		return;
	probe_path_counts(path->path, &now);
	probe_counts_add(ret_counts, &now);
}

void probe_target_counts(const struct probe_target *target, struct probe_counts *ret_counts)
{
	*ret_counts = (struct probe_counts){ 0 };
	for (uint32_t i = 0; i < target->spec.paths; i++) {
		struct probe_counts counts;

		probe_target_path_counts(&target->paths[i], &counts);
		probe_counts_add(ret_counts, &counts);
	}
}

int probe_target_up(const struct probe_target *target)
{
	int up = -1;

	if (target->passive)
		return 1;
	for (uint32_t i = 0; i < target->spec.paths; i++) {
		const struct probe_stats *s = &target->paths[i].stats;

		if (s->answered && s->lost_in_a_row < DOWN_AFTER)
			return 1;
		if (s->lost_in_a_row >= DOWN_AFTER)
			up = 0;
	}
	return target->why[0] ? 0 : up;
}

double probe_target_jitter(const struct probe_target *target)
{
	double sum = 0;
	uint32_t n = 0;

	for (uint32_t i = 0; i < target->spec.paths; i++) {
		if (isnan(target->paths[i].stats.jitter_s))
			continue;
		sum += target->paths[i].stats.jitter_s;
		n++;
	}
	return n ? sum / n : NAN;
}
