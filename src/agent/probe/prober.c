/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe/prober.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "agent/features.h"
#include "agent/probe/hmac_key.h"
#include "agent/probe/prober_internal.h"

#define FLIGHTS_PER_PATH 16
#define PORTS_MIN 8
#define ROUTES_PER_TICK 500     /* look-ups at most, 5 to 10 us each */
#define ROUTES_WHOLE_WALK 60    /* ticks in which all are asked for, though nothing seems to have changed */
#define STAMPS_KEEP_NS (30 * NS_PER_SEC)

static uint32_t power_of_two(uint32_t n, uint32_t least)
{
	uint32_t power = least;

	while (power < n && power < 1u << 31)
		power *= 2;
	return power;
}

uint64_t prober_random(struct prober *prober)
{
	size_t have = 0;

	if (!prober->n_random) {
		/* Waits only where the kernel's generator has not been seeded yet, in the first second after boot. */
		while (have < sizeof(prober->random)) {
			ssize_t n = getrandom((uint8_t *)prober->random + have, sizeof(prober->random) - have, 0);

			have += n > 0 ? (size_t)n : 0;
		}
		prober->n_random = RANDOM_WORDS;
	}
	return prober->random[--prober->n_random];
}

/* Everything that is per path or per flight, but what is shared with the kernel. */
static int allocate(struct prober *p)
{
	p->notes = calloc(p->flights_max, sizeof(*p->notes));
	p->paths = calloc(p->sessions_max, sizeof(struct probe_path *));
	p->free_sessions = calloc(p->sessions_max, sizeof(*p->free_sessions));
	p->bucket_mask = power_of_two(p->sessions_max, 16) - 1;
	p->buckets = calloc(p->bucket_mask + 1, sizeof(struct probe_path *));
	p->arena = malloc(ARENA_BYTES);
	if (!p->notes || !p->paths || !p->free_sessions || !p->buckets || !p->arena)
		return -ENOMEM;
	for (uint32_t i = p->sessions_max - 1; i > PROBE_SESSION_NONE; i--)
		p->free_sessions[p->n_free++] = i;
	siphash_key_new(&p->hash_key);
	return probe_rings_new(p->flights_max, &p->rings);
}

static int allocate_shared(struct prober *p)
{
	if (p->program) {
		p->flights = probe_program_flights(p->program);
		p->sessions = probe_program_sessions(p->program);
		return 0;
	}
	p->own_memory = true;
	p->flights = aligned_alloc(sizeof(*p->flights), p->flights_max * sizeof(*p->flights));
	p->sessions = calloc(p->sessions_max, sizeof(*p->sessions));
	if (!p->flights || !p->sessions)
		return -ENOMEM;
	memset(p->flights, 0, p->flights_max * sizeof(*p->flights));
	return 0;
}

static void open_program(struct prober *p, struct features *features)
{
	struct probe_program_options options = p->options.reflect;
	struct probe_hmac_key key;
	struct error error = { .text = "" };
	int r;

	if (p->options.attach == PROBE_ATTACH_OFF && !options.reflect)
		return;
	options.sessions_max = p->options.paths_max;
	options.flights_max = p->flights_max;
	options.port_first = p->block.port_first;
	options.icmp_first = p->block.icmp_first;
	options.port_count = p->block.count;
	if (p->options.reflect_secret) {
		/* The first key is the reflector's, for as long as there is one. */
		hmac_key_init(&key, p->options.reflect_secret, p->options.reflect_secret_len);
		p->keys[0].key = key;
		p->keys[0].users = 1;
		options.reflect_key = 1;
	}
	r = probe_program_open(&options, &p->program, &error);
	if (!r && options.reflect_key)
		r = probe_program_hmac_key(p->program, 0, &p->keys[0].key);
	if (r < 0 && p->program) {
		probe_program_close(p->program);
		p->program = NULL;
	}
	if (!features)
		return;
	if (!r)
		features_enable(features, "probe_programs", "bpf");
	else
		features_miss(features, "probe_programs", error.text[0] ? error.text : "the kernel refused the probe's programs",
			      "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, on Linux 6.1 or later");
}

static int open_all(struct prober *p, struct features *features, struct error *ret_error)
{
	struct probe_sockets_handler handler = prober_handler;
	uint16_t ports = PROBE_PORTS_MAX;
	int r;

	if (p->options.paths_max < PROBE_PORTS_MAX)
		ports = p->options.paths_max < PORTS_MIN ? PORTS_MIN : (uint16_t)p->options.paths_max;
	handler.userdata = p;
	r = probe_sockets_open(p->loop, ports, p->options.unprivileged, &handler, &p->sockets, ret_error);
	if (r < 0)
		return r;
	if (features)
		features_enable(features, "probe_sockets", probe_sockets_raw(p->sockets) ? "raw" : "ping");
	p->block = (struct probe_block){
		.icmp_first = probe_sockets_icmp_first(p->sockets), .port_first = probe_sockets_port_first(p->sockets),
		.count = probe_sockets_count(p->sockets),
	};
	/* A hook knows its packets by the raw socket that they are from. */
	if (probe_sockets_raw(p->sockets))
		open_program(p, features);
	r = allocate_shared(p);
	if (!r)
		r = allocate(p);
	if (r < 0)
		return error_set_errno(ret_error, r, "no memory for %u paths of probes", p->options.paths_max);
	r = probe_devices_new(p->program, p->options.attach, &p->devices, ret_error);
	if (r < 0)
		return r;
	r = routes_open(&p->routes);
	return r < 0 ? error_set_errno(ret_error, r, "cannot ask for routes") : 0;
}

static void read_clock(struct prober *p)
{
	clock_error_read(p->options.clock_error_ns, &p->clock);
	p->error_estimate = clock_error_estimate(&p->clock);
	if (p->program)
		probe_program_clock(p->program, p->error_estimate, p->clock.tai_offset_s);
}

int prober_open(struct loop *loop, const struct prober_options *options, struct features *features, struct prober **ret_prober,
		struct error *ret_error)
{
	struct prober *p = calloc(1, sizeof(*p));
	uint64_t flights = options->flights_max ? options->flights_max : (uint64_t)FLIGHTS_PER_PATH * options->paths_max;
	int r;

	if (!p)
		return error_set_errno(ret_error, -ENOMEM, "cannot probe");
	p->loop = loop;
	p->options = *options;
	p->sessions_max = options->paths_max + 1;
	p->flights_max = power_of_two(flights < 1u << 30 ? (uint32_t)flights : 1u << 30, PROBE_RING_MIN);
	r = open_all(p, features, ret_error);
	if (r < 0) {
		prober_close(p);
		return r;
	}
	p->options.reflect_secret = NULL; /* the caller's */
	read_clock(p);
	*ret_prober = p;
	return 0;
}

void prober_close(struct prober *prober)
{
	if (!prober)
		return;
	for (uint32_t i = 0; prober->paths && i < prober->sessions_max; i++)
		free(prober->paths[i]);
	probe_devices_free(prober->devices);
	probe_program_close(prober->program);
	probe_sockets_close(prober->sockets);
	routes_close(prober->routes);
	probe_rings_free(prober->rings);
	if (prober->own_memory) {
		free(prober->flights);
		free(prober->sessions);
	}
	free(prober->notes);
	free(prober->paths);
	free(prober->free_sessions);
	free(prober->buckets);
	free(prober->arena);
	explicit_bzero(prober->keys, sizeof(prober->keys));
	free(prober);
}

static void resolve_some(struct prober *p, uint64_t now_ns)
{
	uint32_t looks = p->sessions_max / ROUTES_WHOLE_WALK + 1, look;

	if (looks < p->walk_soon)
		looks = p->walk_soon;
	if (looks > p->sessions_max)
		looks = p->sessions_max;
	/* Places without a path cost nothing, so only look-ups are rationed. */
	for (look = 0; looks && look < ROUTES_PER_TICK; looks--) {
		p->walk = p->walk + 1 < p->sessions_max ? p->walk + 1 : 0;
		p->walk_soon -= p->walk_soon > 0;
		if (!p->paths[p->walk])
			continue;
		path_resolve(p->paths[p->walk], now_ns);
		look++;
	}
}

void prober_tick(struct prober *prober, mono_time now)
{
	bool changed = probe_devices_tick(prober->devices) > 0;

	if (routes_changed(prober->routes)) { /* or addresses */
		changed = true;
		if (prober->program)
			probe_program_addresses(prober->program);
	}
	if (changed)
		prober->walk_soon = prober->sessions_max;
	resolve_some(prober, now.ns);
	read_clock(prober);
	prober_search_tick(prober, now.ns);
	if (prober->alone_ns + STAMPS_KEEP_NS < now.ns)
		probe_sockets_want_stamps(prober->sockets, false);
}

struct probe_devices *prober_devices(struct prober *prober)
{
	return prober->devices;
}

struct probe_program *prober_program(struct prober *prober)
{
	return prober->program;
}

uint64_t prober_rejected(const struct prober *prober)
{
	return __atomic_load_n(&prober->sessions[PROBE_SESSION_NONE].rejected, __ATOMIC_RELAXED);
}

uint64_t prober_unsent(const struct prober *prober)
{
	return prober->unsent;
}

uint64_t prober_overflows(const struct prober *prober)
{
	return probe_sockets_overflows(prober->sockets);
}
