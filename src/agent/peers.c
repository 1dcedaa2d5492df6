/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots come in pairs, client and server. Life of a peer's pair: FREE (in the kernel's
 * queue) -> USED (the kernel put an address on it) -> DRAINING (taken out of the
 * look-up; sockets that still point at it move away at the next sweep; its last
 * values stay visible) -> cleared once a whole sweep saw no socket and no event
 * touched it -> FREE again, or USED for the peer that was waiting for it.
 */
#include "agent/peers.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/netns.h"
#include "agent/networks.h"

/* A peer without sockets and traffic keeps its series for so long. */
#define IDLE_NS (600 * NS_PER_SEC)
/* How often candidates and holders of slots are compared. */
#define COMPETE_NS (5 * NS_PER_SEC)
/* A candidate must have done so many times more than the weakest holder, so that slots do not flap. */
#define COMPETE_FACTOR 2
#define CANDIDATES_MAX 1024 /* of the kernel's map */

enum pair_state { PAIR_FREE, PAIR_USED, PAIR_DRAINING };

struct pair {
	enum pair_state state;
	struct address address;       /* USED, DRAINING */
	char label[ADDRESS_TEXT_MAX];
	bool hidden;                  /* DRAINING, and the peer is back on another pair */
	bool has_heir;                /* DRAINING: who gets it */
	struct address heir;
	uint64_t drain_generation;    /* only a sweep of a later generation can show that it is unused */
	uint64_t weight_seen;         /* at the last competition */
	uint64_t recent;              /* mean weight between competitions, half of it the last one's */
	mono_time last_active;
};

struct peers_size { uint32_t slots, networks, prefixes, peers; };

struct peers {
	int slots_fd, free_slots_fd, networks_fd, candidates_fd;
	struct peers_table tables[PEERS_TABLES_MAX];
	size_t n_tables;
	struct peers_size size;
	uint32_t first;               /* slot of the first pair; below are other and networks */
	struct pair *pairs;           /* size.peers */
	struct networks *networks;
	struct watched *watched;
	uint32_t scope;
	uint64_t generation;
	uint32_t parity, resolve_generation;
	uint64_t slots_taken_seen;
	mono_time last_competition;
};

/* How many slots and prefixes there is room for. */
static struct peers_size size_for(const struct settings *settings)
{
	struct peers_size size = { .networks = PEERS_NETWORKS_MIN, .peers = settings->collect.top_peers };
	size_t prefixes = 0;

	for (size_t i = 0; i < settings->n_networks; i++)
		prefixes += settings->networks[i].n_prefixes;
	if (settings->n_networks > size.networks)
		size.networks = (uint32_t)settings->n_networks;
	/* A reload adds the new prefixes before it removes the old ones. */
	size.prefixes = (uint32_t)(2 * prefixes + PEERS_PREFIXES_MIN);
	size.slots = ROLE_COUNT * (1 + size.networks + size.peers);
	return size;
}

/* The kernel asks the queue of free slots again. */
static void look_for_slots(struct peers *p)
{
	for (size_t i = 0; i < p->n_tables; i++)
		__atomic_store_n(p->tables[i].slots_may_be_free, 1, __ATOMIC_SEQ_CST);
}

/* Every socket looks its slot up again at its next event or sweep. */
static void resolve_again(struct peers *p)
{
	p->resolve_generation++;
	for (size_t i = 0; i < p->n_tables; i++)
		__atomic_store_n(p->tables[i].resolve_generation, p->resolve_generation, __ATOMIC_SEQ_CST);
	look_for_slots(p);
}

static struct row_head *row_of(const struct peers *p, const struct peers_table *table, uint32_t part, uint32_t slot)
{
	return (struct row_head *)((char *)table->rows + ((size_t)part * p->size.slots + slot) * table->row_size);
}

static uint32_t base_of(const struct peers *p, uint32_t pair)
{
	return p->first + ROLE_COUNT * pair;
}

static int make_map(enum bpf_map_type type, const char *name, uint32_t key_size, uint32_t value_size, uint32_t entries,
		    uint32_t flags, int *ret_fd, struct error *ret_error)
{
	/* Not LIBBPF_OPTS: a GNU statement expression, which clang refuses in pedantic mode. */
	struct bpf_map_create_opts options = { .sz = sizeof(options), .map_flags = flags };
	int fd = bpf_map_create(type, name, key_size, value_size, entries, &options);

	if (fd == -EPERM)
		return error_set(ret_error, fd, "cannot create the peer table: no permission; run as root, or with CAP_BPF and CAP_PERFMON");
	if (fd < 0)
		return error_set_errno(ret_error, fd, "cannot create the map %s", name);
	*ret_fd = fd;
	return 0;
}

static int make_maps(struct peers *p, struct error *ret_error)
{
	const uint32_t address = sizeof(struct peer_address), index = sizeof(uint32_t);
	int r = make_map(BPF_MAP_TYPE_HASH, "slots", address, index, p->size.peers + 1, 0, &p->slots_fd, ret_error);

	if (!r)
		r = make_map(BPF_MAP_TYPE_QUEUE, "free_slots", 0, index, p->size.peers + 1, 0, &p->free_slots_fd, ret_error);
	if (!r)
		r = make_map(BPF_MAP_TYPE_LPM_TRIE, "networks", sizeof(struct network_key), index, p->size.prefixes,
			     BPF_F_NO_PREALLOC, &p->networks_fd, ret_error);
	if (!r)
		r = make_map(BPF_MAP_TYPE_HASH, "candidates", address, sizeof(uint64_t), CANDIDATES_MAX, 0, &p->candidates_fd, ret_error);
	for (uint32_t i = 0; i < p->size.peers && !r; i++) {
		uint32_t base = base_of(p, i);

		if (bpf_map_update_elem(p->free_slots_fd, NULL, &base, BPF_ANY))
			r = error_set_errno(ret_error, -errno, "cannot fill the list of free peer slots");
	}
	return r;
}

int peers_new(const struct settings *settings, struct peers **ret_peers, struct error *ret_error)
{
	struct peers *p = calloc(1, sizeof(*p));
	int r = -ENOMEM;

	if (!p)
		return r;
	p->slots_fd = p->free_slots_fd = p->networks_fd = p->candidates_fd = -1;
	p->size = size_for(settings);
	p->scope = netns_scope(settings);
	p->first = p->size.slots - ROLE_COUNT * p->size.peers;
	p->generation = 1;
	p->resolve_generation = 1;
	p->last_competition = mono_now();
	p->pairs = calloc(p->size.peers + 1, sizeof(*p->pairs));
	if (p->pairs)
		r = make_maps(p, ret_error);
	if (!r)
		r = networks_new(p->networks_fd, p->size.networks, p->size.prefixes, settings, &p->networks, ret_error);
	if (!r)
		r = watched_new(settings_probe_wanted(settings) ? settings->probe.max_targets : 0, &p->watched, ret_error);
	if (r < 0) {
		peers_free(p);
		return r;
	}
	*ret_peers = p;
	return 0;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void peers_free(struct peers *peers)
{
	if (!peers)
		return;
	networks_free(peers->networks);
	watched_free(peers->watched);
	close_fd(peers->slots_fd);
	close_fd(peers->free_slots_fd);
	close_fd(peers->networks_fd);
	close_fd(peers->candidates_fd);
	free(peers->pairs);
	free(peers);
}

uint32_t peers_scope(const struct peers *peers)
{
	return peers->scope;
}

int peers_share(const struct peers *peers, struct bpf_object *object)
{
	const struct {
		const char *name;
		int fd;
	} maps[] = {
		{ "slots", peers->slots_fd }, { "free_slots", peers->free_slots_fd },
		{ "networks", peers->networks_fd }, { "candidates", peers->candidates_fd },
		{ "watched", watched_fd(peers->watched) },
	};

	for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(object, maps[i].name);
		int r = map ? bpf_map__reuse_fd(map, maps[i].fd) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

int peers_attach(struct peers *peers, const struct peers_table *table)
{
	if (peers->n_tables == PEERS_TABLES_MAX)
		return -ENOSPC;
	*table->generation = peers->generation;
	*table->sweep_parity = peers->parity;
	*table->network_count = networks_count(peers->networks);
	*table->resolve_generation = peers->resolve_generation;
	if (table->watched_count)
		*table->watched_count = watched_count(peers->watched);
	peers->tables[peers->n_tables++] = *table;
	return 0;
}

void peers_detach(struct peers *peers, const void *rows)
{
	for (size_t i = 0; i < peers->n_tables; i++)
		if (peers->tables[i].rows == rows)
			peers->tables[i--] = peers->tables[--peers->n_tables];
}

static void clear(struct peers *p, uint32_t base)
{
	for (size_t i = 0; i < p->n_tables; i++) {
		const struct peers_table *t = &p->tables[i];

		for (uint32_t part = 0; part < t->parts; part++) {
			size_t at = (size_t)part * p->size.slots + base;

			memset((char *)t->rows + at * t->row_size, 0, ROLE_COUNT * t->row_size);
			if (t->hists)
				memset((char *)t->hists + at * t->hists_size, 0, ROLE_COUNT * t->hists_size);
		}
	}
}

static void drain(struct peers *p, struct pair *pair, uint64_t generation)
{
	bpf_map_delete_elem(p->slots_fd, &pair->address);
	pair->state = PAIR_DRAINING;
	pair->drain_generation = generation;
	pair->has_heir = false;
	pair->hidden = false;
}

int peers_reload(struct peers *peers, const struct settings *settings, struct error *ret_error)
{
	int r = networks_reload(peers->networks, settings, ret_error);

	if (r < 0)
		return r;
	for (size_t i = 0; i < peers->n_tables; i++)
		__atomic_store_n(peers->tables[i].network_count, networks_count(peers->networks), __ATOMIC_SEQ_CST);
	resolve_again(peers);
	/* An index that changed its name starts from zero; sums of the old name end with it. */
	for (uint32_t i = 0; i < peers->size.networks; i++)
		if (networks_renamed(peers->networks, i))
			clear(peers, SLOT_NETWORK(i));
	/* Peers that a network now covers have no use for slots of their own. */
	for (uint32_t i = 0; i < peers->size.peers; i++)
		if (peers->pairs[i].state == PAIR_USED && networks_find(peers->networks, &peers->pairs[i].address))
			drain(peers, &peers->pairs[i], UINT64_MAX);
	return 0;
}

/* Of all rows that were ever used; the pages of the others are left alone. */
static void clear_gauges(struct peers *p)
{
	for (size_t i = 0; i < p->n_tables; i++) {
		const struct peers_table *t = &p->tables[i];

		for (uint32_t part = 0; part < t->parts; part++) {
			for (uint32_t slot = 0; slot < p->size.slots; slot++) {
				struct row_head *head = row_of(p, t, part, slot);

				if (!head->touched && !head->sockets[0] && !head->sockets[1])
					continue;
				head->sockets[p->parity] = 0;
				if (t->clear_gauges)
					t->clear_gauges(head, p->parity);
			}
		}
	}
}

void peers_begin(struct peers *peers)
{
	peers->generation++;
	peers->parity ^= 1;
	clear_gauges(peers);
	/* Once per tick, in case that its note and our last one crossed. */
	look_for_slots(peers);
	for (size_t i = 0; i < peers->n_tables; i++) {
		__atomic_store_n(peers->tables[i].sweep_parity, peers->parity, __ATOMIC_SEQ_CST);
		__atomic_store_n(peers->tables[i].generation, peers->generation, __ATOMIC_SEQ_CST);
	}
}

static void occupy(struct pair *pair, const struct address *address, mono_time now)
{
	*pair = (struct pair){ .state = PAIR_USED, .address = *address, .last_active = now };
	address_format(address, pair->label);
}

/* A peer that came back while its old pair drains shows on the new one. */
static void hide_doubles(struct peers *p, const struct address *address)
{
	for (uint32_t i = 0; i < p->size.peers; i++)
		if (p->pairs[i].state == PAIR_DRAINING && !address_compare(&p->pairs[i].address, address))
			p->pairs[i].hidden = true;
}

/* Reads the addresses that the kernel put on free pairs. */
static void learn_slots(struct peers *p, mono_time now)
{
	struct address address, next, *from = NULL;
	uint64_t taken = 0;
	uint32_t base;

	for (size_t i = 0; i < p->n_tables; i++)
		taken += __atomic_load_n(p->tables[i].slots_taken, __ATOMIC_ACQUIRE);
	if (taken == p->slots_taken_seen)
		return;
	p->slots_taken_seen = taken;
	while (!bpf_map_get_next_key(p->slots_fd, from, &next)) {
		struct pair *pair;

		address = next;
		from = &address;
		if (bpf_map_lookup_elem(p->slots_fd, &address, &base) || base < p->first || base >= p->size.slots)
			continue;
		pair = &p->pairs[(base - p->first) / ROLE_COUNT];
		if (pair->state != PAIR_FREE)
			continue;
		occupy(pair, &address, now);
		hide_doubles(p, &address);
	}
}

/* What it did since it got the pair, on the candidates' scale. */
static uint64_t weight_of(const struct peers *p, uint32_t pair)
{
	uint64_t weight = 0;

	for (size_t i = 0; i < p->n_tables; i++) {
		const struct peers_table *t = &p->tables[i];

		for (uint32_t part = 0; t->weight && part < t->parts; part++)
			for (uint32_t role = 0; role < ROLE_COUNT; role++)
				weight += t->weight(row_of(p, t, part, base_of(p, pair) + role));
	}
	return weight;
}

/* No socket points at it, and nothing touched it in this generation or the one before. */
static bool quiet(const struct peers *p, uint32_t pair)
{
	for (size_t i = 0; i < p->n_tables; i++) {
		const struct peers_table *t = &p->tables[i];

		for (uint32_t part = 0; part < t->parts; part++) {
			for (uint32_t role = 0; role < ROLE_COUNT; role++) {
				const struct row_head *head = row_of(p, t, part, base_of(p, pair) + role);

				if (head->sockets[p->parity] || head->touched + 1 >= p->generation)
					return false;
			}
		}
	}
	return true;
}

static void finish_draining(struct peers *p, uint32_t i, mono_time now)
{
	struct pair *pair = &p->pairs[i];
	uint32_t base = base_of(p, i);
	struct address heir = pair->heir;

	if (pair->drain_generation == UINT64_MAX) /* drained by a reload, between sweeps */
		pair->drain_generation = p->generation;
	/* Two quiet generations: one for sockets to move, one in which nothing may touch it. */
	if (p->generation < pair->drain_generation + 2 || !quiet(p, i))
		return;
	clear(p, base);
	if (pair->has_heir && !bpf_map_update_elem(p->slots_fd, &heir, &base, BPF_NOEXIST)) {
		occupy(pair, &heir, now);
		hide_doubles(p, &heir);
	} else {
		*pair = (struct pair){ .state = PAIR_FREE };
		bpf_map_update_elem(p->free_slots_fd, NULL, &base, BPF_ANY);
	}
	resolve_again(p); /* somebody in "other" may have it now */
}

struct contender {
	uint64_t weight;
	uint32_t pair;          /* holders */
	struct address address; /* candidates */
};

static int by_weight(const void *a, const void *b)
{
	const struct contender *x = a, *y = b;

	return (x->weight > y->weight) - (x->weight < y->weight);
}

static bool is_heir(const struct peers *p, const struct address *address)
{
	for (uint32_t i = 0; i < p->size.peers; i++)
		if (p->pairs[i].state == PAIR_DRAINING && p->pairs[i].has_heir && !address_compare(&p->pairs[i].heir, address))
			return true;
	return false;
}

/* Takes the candidates out of the kernel's map; those that have or get a slot already do not count. Lightest first. */
static size_t read_candidates(struct peers *p, struct contender *candidates)
{
	struct address address;
	uint64_t weight;
	uint32_t base;
	size_t n = 0;

	/* At most as often as there are entries: the kernel adds new ones meanwhile. */
	for (size_t i = 0; i < CANDIDATES_MAX && !bpf_map_get_next_key(p->candidates_fd, NULL, &address); i++) {
		if (bpf_map_lookup_elem(p->candidates_fd, &address, &weight))
			weight = 0;
		bpf_map_delete_elem(p->candidates_fd, &address);
		if (weight && bpf_map_lookup_elem(p->slots_fd, &address, &base) && !is_heir(p, &address))
			candidates[n++] = (struct contender){ .weight = weight, .address = address };
	}
	qsort(candidates, n, sizeof(*candidates), by_weight);
	return n;
}

/* Peers that wait in "other" against those that hold a pair: the heaviest against the weakest, while it is twice as heavy. */
static void compete(struct peers *p, mono_time now)
{
	struct contender *holders = calloc(p->size.peers + 1, sizeof(*holders));
	struct contender *candidates = calloc(CANDIDATES_MAX, sizeof(*candidates));
	size_t n_holders = 0, n_candidates = 0;
	bool drained = false;

	p->last_competition = now;
	if (!holders || !candidates)
		goto out; /* the next competition is in 5 s */
	for (uint32_t i = 0; i < p->size.peers; i++) {
		uint64_t weight;

		if (p->pairs[i].state != PAIR_USED)
			continue;
		weight = weight_of(p, i);
		holders[n_holders++] = (struct contender){ .weight = weight - p->pairs[i].weight_seen, .pair = i };
		p->pairs[i].recent = (p->pairs[i].recent + weight - p->pairs[i].weight_seen) / 2;
		p->pairs[i].weight_seen = weight;
	}
	qsort(holders, n_holders, sizeof(*holders), by_weight);
	n_candidates = read_candidates(p, candidates);
	for (size_t i = 0; i < n_holders && n_candidates; i++) {
		const struct contender *heaviest = &candidates[--n_candidates];
		struct pair *pair = &p->pairs[holders[i].pair];

		if (heaviest->weight / COMPETE_FACTOR <= holders[i].weight)
			break;
		drain(p, pair, p->generation);
		pair->has_heir = true;
		pair->heir = heaviest->address;
		drained = true;
	}
	if (drained)
		resolve_again(p);
out:
	free(holders);
	free(candidates);
}

void peers_end(struct peers *peers, mono_time now)
{
	learn_slots(peers, now);
	for (uint32_t i = 0; i < peers->size.peers; i++) {
		struct pair *pair = &peers->pairs[i];

		if (pair->state == PAIR_DRAINING) {
			finish_draining(peers, i, now);
		} else if (pair->state == PAIR_USED) {
			if (!quiet(peers, i)) {
				pair->last_active = now;
			} else if (mono_since_ns(now, pair->last_active) > IDLE_NS) {
				drain(peers, pair, peers->generation);
				resolve_again(peers);
			}
		}
	}
	if (mono_since_ns(now, peers->last_competition) >= COMPETE_NS)
		compete(peers, now);
}

uint64_t peers_generation(const struct peers *peers)
{
	return peers->generation;
}

uint32_t peers_parity(const struct peers *peers)
{
	return peers->parity;
}

uint32_t peers_slots(const struct peers *peers)
{
	return peers->size.slots;
}

static bool ever_touched(const struct peers *p, uint32_t slot)
{
	for (size_t i = 0; i < p->n_tables; i++)
		for (uint32_t part = 0; part < p->tables[i].parts; part++)
			if (row_of(p, &p->tables[i], part, slot)->touched)
				return true;
	return false;
}

const char *peers_label(const struct peers *peers, uint32_t slot)
{
	const struct pair *pair;

	if (!ever_touched(peers, slot))
		return NULL;
	if (slot < ROLE_COUNT)
		return "other";
	if (slot < peers->first)
		return networks_name(peers->networks, slot / ROLE_COUNT - 1);
	pair = &peers->pairs[(slot - peers->first) / ROLE_COUNT];
	return pair->state == PAIR_USED || (pair->state == PAIR_DRAINING && !pair->hidden) ? pair->label : NULL;
}

void peers_usage(const struct peers *peers, uint32_t *ret_used, uint32_t *ret_total)
{
	*ret_used = 0;
	*ret_total = peers->size.peers;
	for (uint32_t i = 0; i < peers->size.peers; i++)
		*ret_used += peers->pairs[i].state != PAIR_FREE;
}

uint64_t peers_lost_candidates(const struct peers *peers)
{
	uint64_t n = 0;

	for (size_t i = 0; i < peers->n_tables; i++)
		n += *peers->tables[i].lost_candidates;
	return n;
}

const char *peers_network(const struct peers *peers, const struct address *address)
{
	return networks_find(peers->networks, address);
}

size_t peers_busiest(const struct peers *peers, bool (*favoured)(const struct address *address, void *userdata), void *userdata,
		     struct address *ret_addresses, size_t max)
{
	struct contender *busy = calloc(peers->size.peers + 1, sizeof(*busy));
	size_t n = 0, taken = 0;

	for (uint32_t i = 0; busy && i < peers->size.peers; i++) {
		const struct pair *pair = &peers->pairs[i];

		if (pair->state == PAIR_USED && pair->recent)
			busy[n++] = (struct contender){ .weight = pair->recent << favoured(&pair->address, userdata), .address = pair->address };
	}
	if (n > 1)
		qsort(busy, n, sizeof(*busy), by_weight);
	while (n && taken < max)
		ret_addresses[taken++] = busy[--n].address;
	free(busy);
	return taken;
}

static void tell_watched(struct peers *p)
{
	for (size_t i = 0; i < p->n_tables; i++)
		if (p->tables[i].watched_count)
			__atomic_store_n(p->tables[i].watched_count, watched_count(p->watched), __ATOMIC_SEQ_CST);
}

int peers_watch(struct peers *peers, const struct address *address, struct watched_address **ret_address)
{
	int r = watched_add(peers->watched, address, ret_address);

	tell_watched(peers);
	return r;
}

void peers_unwatch(struct peers *peers, struct watched_address *address)
{
	watched_remove(peers->watched, address);
	tell_watched(peers);
}

int peers_read_watched(struct peers *peers)
{
	return watched_read(peers->watched);
}
