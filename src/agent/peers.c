/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life of a slot: FREE (in the kernel's queue) -> USED (the kernel put an address
 * on it) -> DRAINING (taken out of the look-up; sockets that still point at it move
 * away at the next sweep) -> cleared once a whole sweep saw no socket and no
 * event touched it -> FREE again, or USED for the peer that was waiting for it.
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

#define NO_SLOT UINT32_MAX

enum slot_state { SLOT_FREE, SLOT_USED, SLOT_DRAINING, SLOT_FIXED };

struct slot {
	enum slot_state state;
	struct peer_key key;          /* USED, DRAINING */
	char label[ADDRESS_TEXT_MAX]; /* USED: the address */
	uint32_t sibling;
	uint64_t drain_generation;    /* DRAINING: only a sweep of a later generation can show that it is unused */
	bool has_heir;
	struct peer_key heir;         /* DRAINING: who gets it */
	uint64_t weight_seen;         /* at the last competition */
	mono_time last_active;
};

struct peers {
	struct peers_kernel kernel;
	struct peers_size size;
	uint32_t first_peer;          /* slots below are fixed: other and networks */
	struct slot *slots;
	struct networks *networks;
	uint64_t slots_taken_seen;
	mono_time last_competition;
};

struct peers_size peers_size(const struct settings *settings)
{
	struct peers_size size = { .networks = PEERS_NETWORKS_MIN, .peers = ROLE_COUNT * settings->collect.top_peers };

	if (settings->n_networks > size.networks)
		size.networks = (uint32_t)settings->n_networks;
	size.slots = ROLE_COUNT * (1 + size.networks) + size.peers;
	return size;
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
	p->first_peer = size->slots - size->peers;
	p->last_competition = mono_now();
	p->slots = calloc(size->slots, sizeof(*p->slots));
	if (!p->slots)
		goto fail;
	for (uint32_t i = 0; i < size->slots; i++) {
		p->slots[i].sibling = i < p->first_peer ? i ^ 1u : NO_SLOT;
		p->slots[i].state = i < p->first_peer ? SLOT_FIXED : SLOT_FREE;
		if (i < p->first_peer)
			continue;
		r = bpf_map_update_elem(kernel->free_slots_fd, NULL, &i, BPF_ANY) ? -errno : 0;
		if (r < 0) {
			error_set_errno(ret_error, r, "cannot fill the list of free peer slots");
			goto fail;
		}
	}
	r = networks_new(kernel->networks_fd, size->networks, settings, &p->networks, ret_error);
	if (r < 0)
		goto fail;
	*kernel->network_count = networks_count(p->networks);
	*ret_peers = p;
	return 0;
fail:
	peers_free(p);
	return r;
}

void peers_free(struct peers *peers)
{
	if (!peers)
		return;
	networks_free(peers->networks);
	free(peers->slots);
	free(peers);
}

/* Every socket looks its slot up again at its next event or sweep. */
static void resolve_again(struct peers *p)
{
	__atomic_add_fetch(p->kernel.resolve_generation, 1, __ATOMIC_SEQ_CST);
}

static void drain(struct peers *p, uint32_t slot, uint64_t generation)
{
	struct slot *s = &p->slots[slot];

	bpf_map_delete_elem(p->kernel.slots_fd, &s->key);
	s->state = SLOT_DRAINING;
	s->drain_generation = generation;
	s->has_heir = false;
}

static void clear(struct peers *p, uint32_t slot)
{
	memset(&p->kernel.rows[slot], 0, sizeof(p->kernel.rows[slot]));
	memset(&p->kernel.hists[slot], 0, sizeof(p->kernel.hists[slot]));
}

int peers_reload(struct peers *peers, const struct settings *settings, struct error *ret_error)
{
	int r = networks_reload(peers->networks, settings, ret_error);

	if (r < 0)
		return r;
	*peers->kernel.network_count = networks_count(peers->networks);
	/* An index that changed its name starts from zero; sums of the old name end with it. */
	for (uint32_t i = 0; i < peers->size.networks; i++)
		if (networks_renamed(peers->networks, i))
			for (uint32_t role = 0; role < ROLE_COUNT; role++)
				clear(peers, SLOT_NETWORK(i, role));
	/* Peers that a network now covers have no use for their own slot. */
	for (uint32_t i = peers->first_peer; i < peers->size.slots; i++) {
		struct slot *s = &peers->slots[i];
		struct address address;

		memcpy(address.bytes, s->key.address, sizeof(address.bytes));
		if (s->state == SLOT_USED && networks_find(peers->networks, &address))
			drain(peers, i, UINT64_MAX);
	}
	resolve_again(peers);
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

static int compare_keys(const void *a, const void *b, void *arg)
{
	const struct slot *slots = arg;
	const struct slot *x = &slots[*(const uint32_t *)a], *y = &slots[*(const uint32_t *)b];

	return memcmp(x->key.address, y->key.address, sizeof(x->key.address));
}

/* Client and server slot of one address point at each other. */
static void pair_siblings(struct peers *p)
{
	uint32_t *order = calloc(p->size.peers + 1, sizeof(*order)), n = 0;

	if (!order)
		return; /* the pairs of before stay; at worst a peer's two roles are shown apart */
	for (uint32_t i = p->first_peer; i < p->size.slots; i++) {
		p->slots[i].sibling = NO_SLOT;
		if (p->slots[i].state == SLOT_USED)
			order[n++] = i;
	}
	qsort_r(order, n, sizeof(*order), compare_keys, p->slots);
	for (uint32_t i = 0; i + 1 < n; i++) {
		if (compare_keys(&order[i], &order[i + 1], p->slots))
			continue;
		p->slots[order[i]].sibling = order[i + 1];
		p->slots[order[i + 1]].sibling = order[i];
	}
	free(order);
}

static void occupy(struct peers *p, uint32_t slot, const struct peer_key *key, mono_time now)
{
	struct slot *s = &p->slots[slot];
	struct address address;

	memcpy(address.bytes, key->address, sizeof(address.bytes));
	*s = (struct slot){ .state = SLOT_USED, .key = *key, .sibling = NO_SLOT, .last_active = now };
	address_format(&address, s->label);
}

/* Reads the addresses that the kernel put on free slots. */
static bool learn_slots(struct peers *p, mono_time now)
{
	struct peer_key key, next, *from = NULL;
	bool changed = false;
	uint32_t slot;
	uint64_t taken = __atomic_load_n(p->kernel.slots_taken, __ATOMIC_ACQUIRE);

	if (taken == p->slots_taken_seen)
		return false;
	p->slots_taken_seen = taken;
	while (!bpf_map_get_next_key(p->kernel.slots_fd, from, &next)) {
		key = next;
		from = &key;
		if (bpf_map_lookup_elem(p->kernel.slots_fd, &key, &slot) || slot < p->first_peer || slot >= p->size.slots)
			continue;
		if (p->slots[slot].state != SLOT_FREE)
			continue;
		occupy(p, slot, &key, now);
		changed = true;
	}
	return changed;
}

/* Bytes and connections since the peer got the slot, on the candidates' scale. */
static uint64_t weight_of(const struct peer_row *row)
{
	return row->sent_bytes + row->received_bytes + CANDIDATE_CONNECTION_WEIGHT * row->outcomes[OUTCOME_ESTABLISHED];
}

static bool finish_draining(struct peers *p, uint32_t slot, uint64_t generation, uint32_t parity, mono_time now)
{
	struct slot *s = &p->slots[slot];
	struct peer_row *row = &p->kernel.rows[slot];

	if (s->drain_generation == UINT64_MAX) /* drained by a reload, between sweeps */
		s->drain_generation = generation;
	/* Two quiet generations: one for sockets to move, one in which nothing may touch it. */
	if (generation < s->drain_generation + 2 || row->sockets[parity] || row->touched + 1 >= generation)
		return false;
	clear(p, slot);
	if (s->has_heir) {
		struct peer_key heir = s->heir;

		if (!bpf_map_update_elem(p->kernel.slots_fd, &heir, &slot, BPF_NOEXIST)) {
			occupy(p, slot, &heir, now);
			resolve_again(p);
			return true;
		}
	}
	*s = (struct slot){ .state = SLOT_FREE, .sibling = NO_SLOT };
	bpf_map_update_elem(p->kernel.free_slots_fd, NULL, &slot, BPF_ANY);
	return true;
}

/* The USED slot that did least since the last competition; its weight in *ret_weight. */
static uint32_t weakest(const struct peers *p, uint64_t *ret_weight)
{
	uint32_t slot = NO_SLOT;

	*ret_weight = UINT64_MAX;
	for (uint32_t i = p->first_peer; i < p->size.slots; i++) {
		uint64_t weight = weight_of(&p->kernel.rows[i]) - p->slots[i].weight_seen;

		if (p->slots[i].state == SLOT_USED && weight < *ret_weight) {
			*ret_weight = weight;
			slot = i;
		}
	}
	return slot;
}

/* Peers that wait in "other" against those that hold a slot. Returns whether a slot was taken away. */
static bool compete(struct peers *p, uint64_t generation, mono_time now)
{
	struct peer_key key;
	bool changed = false;
	uint64_t weight, weak;
	uint32_t slot;

	p->last_competition = now;
	while (!bpf_map_get_next_key(p->kernel.candidates_fd, NULL, &key)) {
		if (bpf_map_lookup_elem(p->kernel.candidates_fd, &key, &weight))
			weight = 0;
		if (bpf_map_delete_elem(p->kernel.candidates_fd, &key))
			break; /* ours alone to delete; anything else would loop for ever */
		slot = weakest(p, &weak);
		if (slot == NO_SLOT || weight / COMPETE_FACTOR <= weak)
			continue;
		drain(p, slot, generation);
		p->slots[slot].has_heir = true;
		p->slots[slot].heir = key;
		changed = true;
	}
	for (uint32_t i = p->first_peer; i < p->size.slots; i++)
		p->slots[i].weight_seen = weight_of(&p->kernel.rows[i]);
	return changed;
}

void peers_after_sweep(struct peers *peers, uint64_t generation, uint32_t parity, mono_time now)
{
	bool changed = learn_slots(peers, now), drained = false;

	for (uint32_t i = peers->first_peer; i < peers->size.slots; i++) {
		struct slot *s = &peers->slots[i];
		struct peer_row *row = &peers->kernel.rows[i];

		if (s->state == SLOT_DRAINING) {
			changed |= finish_draining(peers, i, generation, parity, now);
		} else if (s->state == SLOT_USED) {
			if (row->sockets[parity] || row->touched + 1 >= generation)
				s->last_active = now;
			else if (mono_since_ns(now, s->last_active) > IDLE_NS) {
				drain(peers, i, generation);
				drained = true;
			}
		}
	}
	if (mono_since_ns(now, peers->last_competition) >= COMPETE_NS)
		drained |= compete(peers, generation, now);
	if (drained)
		resolve_again(peers);
	if (changed || drained)
		pair_siblings(peers);
}

uint32_t peers_slots(const struct peers *peers)
{
	return peers->size.slots;
}

uint32_t peers_role(const struct peers *peers, uint32_t slot)
{
	return slot < peers->first_peer ? slot % ROLE_COUNT : peers->slots[slot].key.role;
}

const char *peers_label(const struct peers *peers, uint32_t slot)
{
	if (!peers->kernel.rows[slot].touched)
		return NULL;
	if (slot < ROLE_COUNT)
		return "other";
	if (slot < peers->first_peer)
		return networks_name(peers->networks, slot / ROLE_COUNT - 1);
	return peers->slots[slot].state == SLOT_USED ? peers->slots[slot].label : NULL;
}

uint32_t peers_sibling(const struct peers *peers, uint32_t slot)
{
	uint32_t sibling = peers->slots[slot].sibling;

	return sibling != NO_SLOT && peers_label(peers, sibling) ? sibling : NO_SLOT;
}

void peers_usage(const struct peers *peers, uint32_t *ret_used, uint32_t *ret_total)
{
	*ret_used = 0;
	*ret_total = peers->size.peers;
	for (uint32_t i = peers->first_peer; i < peers->size.slots; i++)
		*ret_used += peers->slots[i].state != SLOT_FREE;
}
