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
#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
	mono_time last_active;
};

struct peers {
	struct peers_kernel kernel;
	struct peers_size size;
	uint32_t first;               /* slot of the first pair; below are other and networks */
	struct pair *pairs;           /* size.peers */
	struct networks *networks;
	uint64_t slots_taken_seen;
	mono_time last_competition;
};

struct peers_size peers_size(const struct settings *settings)
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

/* Every socket looks its slot up again at its next event or sweep. */
static void resolve_again(struct peers *p)
{
	__atomic_add_fetch(p->kernel.resolve_generation, 1, __ATOMIC_SEQ_CST);
}

static uint32_t base_of(const struct peers *p, uint32_t pair)
{
	return p->first + ROLE_COUNT * pair;
}

int peers_new(const struct peers_kernel *kernel, const struct peers_size *size, const struct settings *settings,
	      struct peers **ret_peers, struct error *ret_error)
{
	struct peers *p = calloc(1, sizeof(*p));
	int r = -ENOMEM;

	if (!p)
		return r;
	p->kernel = *kernel;
	p->size = *size;
	p->first = size->slots - ROLE_COUNT * size->peers;
	p->last_competition = mono_now();
	p->pairs = calloc(size->peers + 1, sizeof(*p->pairs));
	r = p->pairs ? networks_new(kernel->networks_fd, size->networks, size->prefixes, settings, &p->networks, ret_error) : -ENOMEM;
	for (uint32_t i = 0; i < size->peers && !r; i++) {
		uint32_t base = base_of(p, i);

		if (bpf_map_update_elem(kernel->free_slots_fd, NULL, &base, BPF_ANY))
			r = error_set_errno(ret_error, -errno, "cannot fill the list of free peer slots");
	}
	if (r < 0) {
		peers_free(p);
		return r;
	}
	*kernel->network_count = networks_count(p->networks);
	resolve_again(p); /* whatever found its slot before there were any */
	*ret_peers = p;
	return 0;
}

void peers_free(struct peers *peers)
{
	if (!peers)
		return;
	networks_free(peers->networks);
	free(peers->pairs);
	free(peers);
}

static void clear(struct peers *p, uint32_t base)
{
	memset(&p->kernel.rows[base], 0, ROLE_COUNT * sizeof(p->kernel.rows[base]));
	memset(&p->kernel.hists[base], 0, ROLE_COUNT * sizeof(p->kernel.hists[base]));
}

static void drain(struct peers *p, struct pair *pair, uint64_t generation)
{
	bpf_map_delete_elem(p->kernel.slots_fd, &pair->address);
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
	*peers->kernel.network_count = networks_count(peers->networks);
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

void peers_before_sweep(struct peers *peers, uint32_t parity)
{
	for (uint32_t i = 0; i < peers->size.slots; i++) {
		struct peer_row *row = &peers->kernel.rows[i];

		if (!row->touched && !row->sockets[0] && !row->sockets[1])
			continue; /* never used: leave its page alone */
		row->sockets[parity] = 0;
		row->open[parity] = 0;
		row->min_rtt_us[parity ^ 1] = 0; /* closes write there once the parity has flipped */
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
	uint64_t taken = __atomic_load_n(p->kernel.slots_taken, __ATOMIC_ACQUIRE);
	uint32_t base;

	if (taken == p->slots_taken_seen)
		return;
	p->slots_taken_seen = taken;
	while (!bpf_map_get_next_key(p->kernel.slots_fd, from, &next)) {
		struct pair *pair;

		address = next;
		from = &address;
		if (bpf_map_lookup_elem(p->kernel.slots_fd, &address, &base) || base < p->first || base >= p->size.slots)
			continue;
		pair = &p->pairs[(base - p->first) / ROLE_COUNT];
		if (pair->state != PAIR_FREE)
			continue;
		occupy(pair, &address, now);
		hide_doubles(p, &address);
	}
}

/* Bytes and connections since the peer got the pair, on the candidates' scale. */
static uint64_t weight_of(const struct peers *p, uint32_t pair)
{
	const struct peer_row *row = &p->kernel.rows[base_of(p, pair)];
	uint64_t weight = 0;

	for (uint32_t role = 0; role < ROLE_COUNT; role++)
		weight += row[role].sent_bytes + row[role].received_bytes +
			  CANDIDATE_CONNECTION_WEIGHT * row[role].outcomes[OUTCOME_ESTABLISHED];
	return weight;
}

/* No socket points at it, and nothing touched it in this generation or the one before. */
static bool quiet(const struct peers *p, uint32_t pair, uint64_t generation, uint32_t parity)
{
	const struct peer_row *row = &p->kernel.rows[base_of(p, pair)];

	for (uint32_t role = 0; role < ROLE_COUNT; role++)
		if (row[role].sockets[parity] || row[role].touched + 1 >= generation)
			return false;
	return true;
}

static void finish_draining(struct peers *p, uint32_t i, uint64_t generation, uint32_t parity, mono_time now)
{
	struct pair *pair = &p->pairs[i];
	uint32_t base = base_of(p, i);
	struct address heir = pair->heir;

	if (pair->drain_generation == UINT64_MAX) /* drained by a reload, between sweeps */
		pair->drain_generation = generation;
	/* Two quiet generations: one for sockets to move, one in which nothing may touch it. */
	if (generation < pair->drain_generation + 2 || !quiet(p, i, generation, parity))
		return;
	clear(p, base);
	if (pair->has_heir && !bpf_map_update_elem(p->kernel.slots_fd, &heir, &base, BPF_NOEXIST)) {
		occupy(pair, &heir, now);
		hide_doubles(p, &heir);
	} else {
		*pair = (struct pair){ .state = PAIR_FREE };
		bpf_map_update_elem(p->kernel.free_slots_fd, NULL, &base, BPF_ANY);
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
	for (size_t i = 0; i < CANDIDATES_MAX && !bpf_map_get_next_key(p->kernel.candidates_fd, NULL, &address); i++) {
		if (bpf_map_lookup_elem(p->kernel.candidates_fd, &address, &weight))
			weight = 0;
		bpf_map_delete_elem(p->kernel.candidates_fd, &address);
		if (weight && bpf_map_lookup_elem(p->kernel.slots_fd, &address, &base) && !is_heir(p, &address))
			candidates[n++] = (struct contender){ .weight = weight, .address = address };
	}
	qsort(candidates, n, sizeof(*candidates), by_weight);
	return n;
}

/* Peers that wait in "other" against those that hold a pair: the heaviest against the weakest, while it is twice as heavy. */
static void compete(struct peers *p, uint64_t generation, mono_time now)
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
		p->pairs[i].weight_seen = weight;
	}
	qsort(holders, n_holders, sizeof(*holders), by_weight);
	n_candidates = read_candidates(p, candidates);
	for (size_t i = 0; i < n_holders && n_candidates; i++) {
		const struct contender *heaviest = &candidates[--n_candidates];
		struct pair *pair = &p->pairs[holders[i].pair];

		if (heaviest->weight / COMPETE_FACTOR <= holders[i].weight)
			break;
		drain(p, pair, generation);
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

void peers_after_sweep(struct peers *peers, uint64_t generation, uint32_t parity, mono_time now)
{
	learn_slots(peers, now);
	for (uint32_t i = 0; i < peers->size.peers; i++) {
		struct pair *pair = &peers->pairs[i];

		if (pair->state == PAIR_DRAINING) {
			finish_draining(peers, i, generation, parity, now);
		} else if (pair->state == PAIR_USED) {
			if (!quiet(peers, i, generation, parity)) {
				pair->last_active = now;
			} else if (mono_since_ns(now, pair->last_active) > IDLE_NS) {
				drain(peers, pair, generation);
				resolve_again(peers);
			}
		}
	}
	if (mono_since_ns(now, peers->last_competition) >= COMPETE_NS)
		compete(peers, generation, now);
}

uint32_t peers_slots(const struct peers *peers)
{
	return peers->size.slots;
}

const char *peers_label(const struct peers *peers, uint32_t slot)
{
	const struct pair *pair;

	if (!peers->kernel.rows[slot].touched)
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
