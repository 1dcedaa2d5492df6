/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who wants which targets. A name is one target's only: what is configured comes first, then the plan, then the peers, who are
 * left out where somebody probes their address by ICMP already.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/probe/hmac_key.h"
#include "agent/probe/sampler_internal.h"
#include "lib/log.h"

#define DISCARD_PORT 9

void wish_list_done(struct wish_list *wishes)
{
	for (size_t i = 0; i < wishes->n; i++)
		probe_target_spec_done(&wishes->specs[i]);
	free(wishes->specs);
	*wishes = (struct wish_list){ 0 };
}

/* Keys */

static struct key *key_of(struct sampler *s, const char *path)
{
	struct key *key = s->keys;

	while (key && strcmp(key->path, path))
		key = key->next;
	return key;
}

static int key_new(struct sampler *s, const char *path, struct key **ret_key)
{
	struct key *key = calloc(1, sizeof(*key));

	if (!key)
		return -ENOMEM;
	key->path = strdup(path);
	if (!key->path) {
		free(key);
		return -ENOMEM;
	}
	key->next = s->keys;
	s->keys = key;
	*ret_key = key;
	return 0;
}

static void key_clear(struct key *key)
{
	if (key->secret)
		explicit_bzero(key->secret, key->len);
	free(key->secret);
	key->secret = NULL;
	key->len = 0;
}

void sampler_keys_free(struct sampler *s)
{
	while (s->keys) {
		struct key *key = s->keys;

		s->keys = key->next;
		key_clear(key);
		free(key->path);
		free(key);
	}
}

int sampler_key(struct sampler *s, const char *path, const struct key **ret_key, struct error *ret_error)
{
	struct key *key = key_of(s, path);
	uint8_t secret[HMAC_SECRET_MAX], *copy;
	size_t len;
	int r = hmac_secret_read(path, secret, &len, ret_error);

	if (r == -EACCES && key) {
		*ret_key = key;
		return 0;
	}
	if (r < 0)
		return r;
	copy = malloc(len);
	if (copy)
		memcpy(copy, secret, len);
	explicit_bzero(secret, sizeof(secret));
	r = copy ? 0 : -ENOMEM;
	if (!r && !key)
		r = key_new(s, path, &key);
	if (r < 0) {
		free(copy);
		return r;
	}
	key_clear(key);
	key->secret = copy;
	key->len = len;
	*ret_key = key;
	return 0;
}

/* The configuration */

static int copy_array(const void *from, size_t n, size_t size, void *ret_copy)
{
	void *copy = NULL;

	if (n) {
		copy = malloc(n * size);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, from, n * size);
	}
	memcpy(ret_copy, &copy, sizeof(copy));
	return 0;
}

void sampler_config_done(struct sampler_config *config)
{
	free(config->plan_url);
	free((void *)config->plan.networks);
	free((void *)config->plan.protocols);
	*config = (struct sampler_config){ 0 };
}

static int copy_config(const struct settings *settings, struct sampler_config *c)
{
	const struct settings_probe *p = &settings->probe;
	int r = 0;

	*c = (struct sampler_config){
		.peers = p->peers, .max_targets = p->max_targets, .passive = p->passive, .adapt = p->adapt,
		.plan_interval_ns = p->plan.interval_ns, .packets = p->budget.packets, .bytes = p->budget.bytes,
		.plan = {
			.targets_max = p->plan.targets, .paths_max = PROBE_PATHS_MAX, .min_interval_ns = p->plan.min_interval_ns,
			.protocol = p->defaults.protocol, .interval_ns = p->defaults.interval_ns, .paths = p->defaults.paths,
		},
	};
	c->defaults.probe.defaults = p->defaults;
	if (p->plan.url) {
		c->plan_url = strdup(p->plan.url);
		r = c->plan_url ? 0 : -ENOMEM;
	}
	if (!r)
		r = copy_array(p->plan.networks, p->plan.n_networks, sizeof(*p->plan.networks), &c->plan.networks);
	if (!r)
		r = copy_array(p->plan.protocols, p->plan.n_protocols, sizeof(*p->plan.protocols), &c->plan.protocols);
	if (r < 0)
		return r;
	c->plan.n_networks = p->plan.n_networks;
	c->plan.n_protocols = p->plan.n_protocols;
	return 0;
}

static int read_target(struct sampler *s, const struct settings_probe_target *target, struct probe_target_spec *ret_spec,
		       struct error *ret_error)
{
	static const struct key none;
	const struct key *key = &none;
	int r = target->key_file ? sampler_key(s, target->key_file, &key, ret_error) : 0;

	return r < 0 ? r : probe_target_spec_of_settings(target, key->secret, key->len, ret_spec);
}

int sampler_config_read(struct sampler *s, const struct settings *settings, struct sampler_config *ret_config, struct wish_list *ret_wishes,
			struct error *ret_error)
{
	const struct settings_probe *p = &settings->probe;
	struct wish_list wishes = { .specs = calloc(p->n_targets ? p->n_targets : 1, sizeof(*wishes.specs)) };
	struct sampler_config config = { 0 };
	int r = wishes.specs ? copy_config(settings, &config) : -ENOMEM;

	for (size_t i = 0; !r && i < p->n_targets; i++) {
		r = read_target(s, &p->targets[i], &wishes.specs[wishes.n], ret_error);
		wishes.n += !r;
		/* A reload is refused as a whole; a start goes on with what there is. */
		if (r < 0 && r != -ENOMEM && !s->prober) {
			log_warn("a target is not probed", "target", p->targets[i].name, "reason", ret_error->text, NULL);
			*ret_error = (struct error){ "" };
			r = 0;
		}
	}
	if (r < 0) {
		wish_list_done(&wishes);
		sampler_config_done(&config);
		return r;
	}
	*ret_config = config;
	*ret_wishes = wishes;
	return 0;
}

/* The plan */

static bool taken(const char *name, void *userdata)
{
	return sampler_find(userdata, TARGET_CONFIGURED, name);
}

static void tell_refusals(struct sampler *s, const struct plan *plan)
{
	for (size_t i = 0; i < PLAN_REFUSED_COUNT; i++) {
		char count[24];

		s->plan_refused[i] = plan->refused[i];
		if (plan->refused[i] && !s->refusals_told[i]) {
			snprintf(count, sizeof(count), "%zu", plan->refused[i]);
			log_warn("the plan asks for what is not allowed here", "reason", plan_refused_names[i], "targets", count, "first",
				 plan->example[i], NULL);
		}
		s->refusals_told[i] = plan->refused[i];
	}
}

/* Takes the names over. */
static void spec_of_plan(const struct sampler *s, struct plan_target *from, struct probe_target_spec *to)
{
	const struct settings_probe *p = &s->config.defaults.probe;

	*to = (struct probe_target_spec){
		.source = TARGET_PLANNED, .name = from->name, .interval_ns = from->interval_ns, .paths = from->paths,
		.passive = from->protocol == SETTINGS_PROBE_ICMP,
		.probe = {
			.address = from->address, .protocol = (enum probe_protocol)from->protocol, .port = from->port,
			.payload = (uint16_t)p->defaults.size, .dscp = (uint8_t)p->defaults.dscp, .timeout_ns = p->defaults.timeout_ns,
		},
	};
	from->name = NULL;
}

static void on_plan(const char *text, size_t len, void *userdata)
{
	struct sampler *s = userdata;
	struct plan_bounds bounds = s->config.plan;
	struct error error = { "" };
	struct wish_list wishes = { 0 };
	struct plan plan;
	int r;

	if (bounds.targets_max > s->config.max_targets)
		bounds.targets_max = s->config.max_targets;
	bounds.taken = taken;
	bounds.userdata = s;
	r = plan_parse(text, len, &bounds, &plan, &error);
	if (!r) {
		wishes.specs = calloc(plan.n ? plan.n : 1, sizeof(*wishes.specs));
		if (!wishes.specs) {
			plan_done(&plan);
			r = -ENOMEM;
		}
	}
	if (r < 0) {
		plan_source_refuse(s->plan, error.text[0] ? error.text : strerror(-r));
		return;
	}
	for (; wishes.n < plan.n; wishes.n++)
		spec_of_plan(s, &plan.targets[wishes.n], &wishes.specs[wishes.n]);
	tell_refusals(s, &plan);
	plan_done(&plan);
	sampler_apply(s, TARGET_PLANNED, &wishes);
	/* Some may be called or probed as those of the plan are now. */
	if (s->targets[TARGET_PEER])
		sampler_update_peers(s);
}

void sampler_update_plan(struct sampler *s, const char *former_url)
{
	const struct sampler_config *c = &s->config;
	struct wish_list none = { 0 };
	struct error error = { "" };
	const char *text;
	size_t len;

	if (s->plan && (!c->plan_url || strcmp(c->plan_url, former_url))) {
		plan_source_free(s->plan);
		s->plan = NULL;
		memset(s->plan_refused, 0, sizeof(s->plan_refused));
		sampler_apply(s, TARGET_PLANNED, &none);
	}
	if (s->plan) {
		plan_source_interval(s->plan, c->plan_interval_ns);
		text = plan_source_text(s->plan, &len);
		if (text)
			on_plan(text, len, s);
	} else if (c->plan_url && plan_source_new(s->loop, c->plan_url, c->plan_interval_ns, on_plan, s, &s->plan, &error) < 0) {
		log_error("there will be no plan", "reason", error.text, NULL);
	}
}

/* The peers in use */

/* Sorted. */
struct address_set { struct address *at; size_t n; };

static int by_address(const void *a, const void *b)
{
	return address_compare(a, b);
}

/* What is probed by ICMP, by peers or by all others. -ENOMEM. */
static int probed_addresses(const struct sampler *s, bool of_peers, struct address_set *ret_set)
{
	struct address_set set = { .at = calloc(s->paths + 1, sizeof(struct address)) }; /* a target has a path at least */

	if (!set.at)
		return -ENOMEM;
	for (size_t source = 0; source < TARGET_SOURCE_COUNT; source++)
		for (const struct probe_target *t = (source == TARGET_PEER) == of_peers ? s->targets[source] : NULL; t; t = t->next)
			if (t->has_address && t->spec.probe.protocol == PROBE_ICMP)
				set.at[set.n++] = t->spec.probe.address;
	if (set.n > 1)
		qsort(set.at, set.n, sizeof(struct address), by_address);
	*ret_set = set;
	return 0;
}

static bool contains(const struct address_set *set, const struct address *address)
{
	return bsearch(address, set->at, set->n, sizeof(struct address), by_address);
}

static bool is_peer(const struct address *address, void *userdata)
{
	return contains(userdata, address);
}

/* What this host would send from when it is sent to. (That it can be bound to says nothing where ip_nonlocal_bind is on.) */
static bool is_own(const struct address *a)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(DISCARD_PORT) }, from = { 0 };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(DISCARD_PORT) };
	const bool ipv4 = address_is_ipv4(a);
	int fd = socket(ipv4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(from);
	bool own = false;

	if (fd < 0)
		return false;
	memcpy(&v6.sin6_addr, a->bytes, 16);
	memcpy(&v4.sin_addr, a->bytes + 12, 4);
	/* Of UDP it sends nothing. */
	if (!(ipv4 ? connect(fd, (struct sockaddr *)&v4, sizeof(v4)) : connect(fd, (struct sockaddr *)&v6, sizeof(v6))) &&
	    !getsockname(fd, (struct sockaddr *)&from, &len))
		own = ipv4 ? !memcmp(&((struct sockaddr_in *)&from)->sin_addr, &v4.sin_addr, 4) : !memcmp(&from.sin6_addr, &v6.sin6_addr, 16);
	close(fd);
	return own;
}

/* No host's in the network, or not to be reached without more. */
static bool is_special(const struct address *a)
{
	static const struct address loopback = { .bytes = { [15] = 1 } };

	return !address_is_host(a) || address_is_link_local6(a) || !address_compare(a, &loopback) ||
	       (address_is_ipv4(a) && (a->bytes[12] == 127 || a->bytes[12] == 0));
}

static bool is_wanted(const struct sampler *s, const struct address_set *others, const struct address *address)
{
	char name[ADDRESS_TEXT_MAX];

	address_format(address, name);
	return !contains(others, address) && !sampler_find(s, TARGET_CONFIGURED, name) && !sampler_find(s, TARGET_PLANNED, name) &&
	       !is_special(address) && !is_own(address);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct probe_target_spec *)a)->name, ((const struct probe_target_spec *)b)->name);
}

void sampler_update_peers(struct sampler *s)
{
	/* More than are wanted: some of them will not do. */
	const size_t max = s->config.peers ? (size_t)2 * s->config.peers + 16 : 0;
	struct address *addresses = calloc(max ? max : 1, sizeof(*addresses));
	struct wish_list wishes = { .specs = calloc(max ? max : 1, sizeof(*wishes.specs)) };
	struct address_set peers = { 0 }, others = { 0 };
	size_t n = 0;

	if (addresses && wishes.specs && max && !probed_addresses(s, true, &peers) && !probed_addresses(s, false, &others))
		n = peers_busiest(s->peers, is_peer, &peers, addresses, max);
	for (size_t i = 0; i < n && wishes.n < s->config.peers; i++)
		if (is_wanted(s, &others, &addresses[i]) &&
		    !probe_target_spec_of_peer(&addresses[i], &s->config.defaults, &wishes.specs[wishes.n]))
			wishes.n++;
	/* Their order must not change with what they do. */
	if (wishes.n > 1)
		qsort(wishes.specs, wishes.n, sizeof(*wishes.specs), by_name);
	if (addresses && wishes.specs)
		sampler_apply(s, TARGET_PEER, &wishes);
	wish_list_done(&wishes);
	free(addresses);
	free(peers.at);
	free(others.at);
}
