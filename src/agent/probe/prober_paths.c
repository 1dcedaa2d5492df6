/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths: their sessions, rings, ports and keys, and where their packets leave. What a path has while it lives is given
 * back here when it ends; the kernel forgets a session before its ring may become another's.
 */
#include "agent/probe/prober.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/probe/hmac_key.h"
#include "agent/probe/prober_internal.h"
#include "stamp.h"

#define STAMP_PORT_DEFAULT STAMP_PORT
#define TCP_PORT_DEFAULT 443
#define TCP_RING_MAX 256   /* the answer shows 8 bits of the position */
#define PAYLOAD_MAX_V4 (65535 - 20 - 8)
#define PAYLOAD_MAX_V6 (65535 - 8)

static struct probe_path **bucket_of(const struct prober *p, const struct probe_key *key)
{
	struct siphash hash;

	siphash_begin(&hash, &p->hash_key);
	siphash_add(&hash, key, sizeof(*key));
	return &p->buckets[siphash_end(&hash) & p->bucket_mask];
}

struct probe_path *prober_find(const struct prober *prober, const struct probe_key *key)
{
	for (struct probe_path *path = *bucket_of(prober, key); path; path = path->next_in_bucket)
		if (!memcmp(&path->key, key, sizeof(*key)))
			return path;
	return NULL;
}

const struct probe_device *prober_device(const struct prober *prober, uint32_t ifindex)
{
	for (size_t i = 0; ifindex && i < probe_devices_count(prober->devices); i++) {
		const struct probe_device *device = probe_devices_at(prober->devices, i);

		if (device->ifindex == ifindex)
			return device;
	}
	return NULL;
}

const struct probe_device *path_device(const struct probe_path *path)
{
	return path->ifindex && path->device && path->device->ifindex == path->ifindex ? path->device : NULL;
}

bool device_receives(const struct probe_device *device)
{
	return device && device->receive <= PROBE_CLOCK_TC;
}

bool device_hides(const struct probe_device *device)
{
	return device_receives(device) && strcmp(device->receive_mode, "packet_socket") != 0;
}

void path_resolve(struct probe_path *path, uint64_t now_ns)
{
	const struct route_query query = {
		.destination = path->destination, .source = path->wanted_source, .has_source = path->has_source,
		.ifindex = path->wanted_ifindex,
	};
	static const struct address none;
	struct route route;
	int r = routes_find(path->prober->routes, &query, &route);

	path->resolved_ns = now_ns;
	if (!r && !address_compare(&route.source, &none))
		r = -EADDRNOTAVAIL;
	if (r < 0) {
		path->route_error = r == -EINVAL ? EHOSTUNREACH : -r; /* a blackhole */
		path->ifindex = 0;
		path->device = NULL;
		return;
	}
	path->route_error = 0;
	path->source = route.source;
	path->ifindex = route.ifindex;
	if (path_device(path))
		return;
	path->device = prober_device(path->prober, path->ifindex);
	if (!path->device && probe_devices_use_index(path->prober->devices, path->ifindex, &path->device, NULL) < 0)
		path->device = NULL; /* too many, or just gone: the sockets' stamps remain */
}

static int take_key(struct prober *p, const struct probe_spec *spec, uint32_t *ret_number, struct error *ret_error)
{
	struct probe_hmac_key key;
	size_t free_place = PROBE_HMAC_KEYS_MAX;
	int r = 0;

	*ret_number = 0;
	if (spec->protocol != PROBE_STAMP || !spec->secret)
		return 0;
	hmac_key_init(&key, spec->secret, spec->secret_len);
	for (size_t i = PROBE_HMAC_KEYS_MAX; i-- > 0;) {
		if (!p->keys[i].users) {
			free_place = i;
		} else if (!memcmp(&p->keys[i].key, &key, sizeof(key))) {
			p->keys[i].users++;
			*ret_number = (uint32_t)i + 1;
			goto out;
		}
	}
	if (free_place == PROBE_HMAC_KEYS_MAX) {
		r = error_set(ret_error, -ENOSPC, "more than %u different STAMP keys", PROBE_HMAC_KEYS_MAX);
		goto out;
	}
	if (p->program)
		r = probe_program_hmac_key(p->program, (uint32_t)free_place, &key);
	if (r < 0) {
		error_set_errno(ret_error, r, "cannot store a STAMP key");
		goto out;
	}
	p->keys[free_place].key = key;
	p->keys[free_place].users = 1;
	*ret_number = (uint32_t)free_place + 1;
out:
	explicit_bzero(&key, sizeof(key));
	return r;
}

static void give_key(struct prober *p, uint32_t number)
{
	if (number)
		p->keys[number - 1].users--;
}

static int check(const struct prober *p, const struct probe_spec *spec, struct error *ret_error)
{
	const bool v6 = !address_is_ipv4(&spec->address);
	char text[ADDRESS_TEXT_MAX];

	address_format(&spec->address, text);
	if (spec->payload > (v6 ? PAYLOAD_MAX_V6 : PAYLOAD_MAX_V4))
		return error_set(ret_error, -EINVAL, "a probe's payload has at most %u bytes",
				 v6 ? PAYLOAD_MAX_V6 : PAYLOAD_MAX_V4);
	if (spec->has_source && address_is_ipv4(&spec->source) == v6)
		return error_set(ret_error, -EINVAL, "the source address for %s must be of the same family", text);
	if (spec->dscp > 63 || !spec->timeout_ns || (unsigned)spec->protocol >= PROBE_PROTOCOL_COUNT)
		return error_set(ret_error, -EINVAL, "DSCP is 0 to 63, the time-out is not 0, the protocol is one that is known");
	if (spec->secret && (!spec->secret_len || spec->secret_len > HMAC_SECRET_MAX))
		return error_set(ret_error, -EINVAL, "a STAMP key has 1 to %u bytes", HMAC_SECRET_MAX);
	if (spec->protocol != PROBE_ICMP && !probe_sockets_raw(p->sockets))
		return error_set(ret_error, -EOPNOTSUPP, "%s probes need raw sockets; run as root, or with CAP_NET_RAW",
				 spec->protocol == PROBE_TCP ? "TCP" : "STAMP");
	return 0;
}

static struct probe_path *new_path(struct prober *p, const struct probe_spec *spec, probe_result_fn fn, void *userdata)
{
	struct probe_path *path = calloc(1, sizeof(*path));
	uint64_t random = prober_random(p);

	if (!path)
		return NULL;
	path->prober = p;
	path->fn = fn;
	path->userdata = userdata;
	path->destination = spec->address;
	path->v6 = !address_is_ipv4(&spec->address);
	path->wanted_source = spec->source;
	path->has_source = spec->has_source;
	path->wanted_ifindex = spec->ifindex;
	path->dont_fragment = spec->dont_fragment;
	path->dscp = spec->dscp;
	path->ttl = spec->ttl;
	path->payload = probe_packet_payload(spec->protocol, spec->secret, spec->payload);
	path->checksum = (uint16_t)(1 + (random & 0xffff) % 0xfffe); /* neither 0 nor 0xffff, which are the same */
	path->flow_label = (uint32_t)(1 + (random >> 16) % 0xffffe);
	memcpy(&path->key.address, spec->address.bytes, sizeof(path->key.address));
	path->key.protocol = (uint16_t)spec->protocol;
	return path;
}

static int take_port(struct prober *p, struct probe_path *path)
{
	uint16_t first = path->key.protocol == PROBE_ICMP ? p->block.icmp_first : p->block.port_first;

	/* Somewhere else each time: whoever comes back does not get his forerunner's late answers. */
	for (uint16_t i = 0; i < p->block.count; i++) {
		path->key.port = (uint16_t)(first + (p->rotor + i) % p->block.count);
		if (prober_find(p, &path->key))
			continue;
		p->rotor = (uint16_t)((p->rotor + i + 1) % p->block.count);
		return 0;
	}
	return -ENOSPC;
}

static uint32_t ring_size(const struct probe_spec *spec)
{
	uint32_t most = spec->protocol == PROBE_TCP ? TCP_RING_MAX : PROBE_RING_MAX, size = PROBE_RING_MIN;

	while (size < spec->ring && size < most)
		size *= 2;
	return size;
}

/* Takes a session and a ring, and fills them. What it has not taken when it fails has mask 0 and index 0. */
static int take_session(struct prober *p, struct probe_path *path, const struct probe_spec *spec, uint32_t key_number)
{
	uint32_t size = ring_size(spec), first;
	uint16_t port = spec->port;
	int r;

	if (!p->n_free)
		return -ENOSPC;
	r = probe_rings_take(p->rings, size, &first);
	if (r < 0)
		return r;
	path->index = p->free_sessions[--p->n_free];
	path->first = first;
	path->mask = size - 1;
	path->flights = &p->flights[first];
	path->notes = &p->notes[first];
	path->session = &p->sessions[path->index];
	if (!port && spec->protocol != PROBE_ICMP)
		port = spec->protocol == PROBE_TCP ? TCP_PORT_DEFAULT : STAMP_PORT_DEFAULT;
	*path->session = (struct probe_session){
		.first = first, .mask = path->mask, .protocol = spec->protocol, .timeout_ns = spec->timeout_ns, .key = key_number,
		.remote_port = spec->protocol == PROBE_ICMP ? 0 : port,
		.payload = spec->protocol == PROBE_ICMP ? path->payload : 0,
	};
	path->secret = key_number ? &p->keys[key_number - 1].key : NULL;
	return 0;
}

static void give_session(struct prober *p, struct probe_path *path)
{
	give_key(p, path->session->key);
	for (uint32_t i = 0; i <= path->mask; i++)
		__atomic_store_n(&path->flights[i].state, PROBE_STATE(0, PROBE_FREE), __ATOMIC_RELEASE);
	probe_rings_give(p->rings, path->first, path->mask + 1);
	p->free_sessions[p->n_free++] = path->index;
}

static int check_tcp(const struct probe_path *path, struct error *ret_error)
{
	const struct probe_device *device = path_device(path);
	char text[ADDRESS_TEXT_MAX];

	/* Without a route nothing is known yet: probes will be unreachable until there is one, and as long as it
	 * lacks a hook. */
	if (path->key.protocol != PROBE_TCP || !path->ifindex || device_hides(device))
		return 0;
	return error_set(ret_error, -EOPNOTSUPP,
			 "TCP probes to %s need a hook on %s that keeps their answers from the host's own TCP%s%s",
			 address_format(&path->destination, text), device ? device->name : "its interface",
			 device && device->reason[0] ? ": " : "", device ? device->reason : "");
}

int prober_add(struct prober *prober, const struct probe_spec *spec, probe_result_fn fn, void *userdata,
	       struct probe_path **ret_path, struct error *ret_error)
{
	struct probe_path *path;
	uint32_t key_number = 0;
	int r = check(prober, spec, ret_error);

	if (r < 0)
		return r;
	path = new_path(prober, spec, fn, userdata);
	if (!path)
		return error_set_errno(ret_error, -ENOMEM, "cannot add a path of probes");
	path_resolve(path, mono_now().ns);
	r = check_tcp(path, ret_error);
	if (!r)
		r = take_key(prober, spec, &key_number, ret_error);
	if (r < 0)
		goto fail;
	r = take_port(prober, path);
	if (r < 0) {
		error_set(ret_error, r, "more than %u paths to one address by one protocol", prober->block.count);
		goto fail_key;
	}
	r = take_session(prober, path, spec, key_number);
	if (r < 0) {
		error_set(ret_error, r, "no room for another path: %u paths, %u probes on their way", prober->options.paths_max,
			  prober->flights_max);
		goto fail_key;
	}
	if (prober->program)
		r = probe_program_session_add(prober->program, &path->key, path->index);
	if (r < 0) {
		error_set_errno(ret_error, r, "the kernel does not take another path of probes");
		give_session(prober, path);
		goto fail;
	}
	prober->paths[path->index] = path;
	prober->n_tcp += path->key.protocol == PROBE_TCP;
	path->next_in_bucket = *bucket_of(prober, &path->key);
	*bucket_of(prober, &path->key) = path;
	*ret_path = path;
	return 0;

fail_key:
	give_key(prober, key_number);
fail:
	free(path);
	return r;
}

void prober_remove(struct probe_path *path)
{
	struct prober *p;
	struct probe_path **link;

	if (!path)
		return;
	p = path->prober;
	prober_flush(p);
	if (p->program)
		probe_program_session_remove(p->program, &path->key);
	for (link = bucket_of(p, &path->key); *link != path; link = &(*link)->next_in_bucket)
		;
	*link = path->next_in_bucket;
	if (path->is_pending) {
		if (path->previous_pending)
			path->previous_pending->next_pending = path->next_pending;
		else
			p->pending = path->next_pending;
		if (path->next_pending)
			path->next_pending->previous_pending = path->previous_pending;
	}
	p->paths[path->index] = NULL;
	p->n_tcp -= path->key.protocol == PROBE_TCP;
	give_session(p, path);
	free(path);
}

static uint64_t read_count(const uint64_t *at)
{
	return __atomic_load_n(at, __ATOMIC_RELAXED);
}

void probe_path_counts(const struct probe_path *path, struct probe_counts *ret_counts)
{
	const struct probe_session *s = path->session;

	*ret_counts = (struct probe_counts){
		.sent = path->sent, .answered = path->answered, .lost = path->lost, .unreachable = path->unreachable,
		.duplicates = read_count(&s->duplicates), .reordered = read_count(&s->reordered), .late = read_count(&s->late),
		.rejected = read_count(&s->rejected), .implausible = path->implausible,
	};
}

uint32_t probe_path_pending(const struct probe_path *path)
{
	return path->pending;
}

const struct probe_device *probe_path_device(const struct probe_path *path)
{
	return path_device(path);
}
