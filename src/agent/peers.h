/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The peer classifier: which remote address is counted under which label. The
 * kernel side (bpf/peer.bpf.h) finds the slot of an address; this side owns the
 * slots: it names them, takes them back when a peer has been idle, and gives a
 * slot to a heavier peer that has to wait in "other".
 *
 * A label is the name of a configured network (longest prefix), else the address
 * while it is among the top K, else "other". Nothing is ever moved between
 * labels after it was counted: what a peer did while it was in "other" stays there.
 * So rates are right at every instant, and the sum over all labels misses only what
 * expired with an idle peer's series.
 *
 * There is one peer table for all collectors, so a peer has one label everywhere.
 * The look-up maps are made here and shared with every BPF object that includes
 * peer.bpf.h (peers_share, before its load); each object keeps rows of its own,
 * indexed by slot, and tells about them with peers_attach, after its load.
 *
 * A tick is peers_begin (a new generation, the gauges of the coming sweep cleared), the collectors' sweeps, peers_end.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "abi.h"
#include "agent/watched.h"
#include "lib/address.h"
#include "lib/clock.h"
#include "lib/error.h"
#include "lib/settings.h"

/* Room for networks and prefixes that a reload adds. */
#define PEERS_NETWORKS_MIN 64
#define PEERS_PREFIXES_MIN 1024
#define PEERS_TABLES_MAX 4

struct peers;
struct bpf_object;

/* One BPF object's side; all borrowed. */
struct peers_table {
	/* The globals of peer.bpf.h in the object's .data and .bss. */
	uint64_t *generation;
	uint32_t *resolve_generation, *network_count, *sweep_parity, *slots_may_be_free;
	const uint64_t *slots_taken, *lost_candidates;
	uint32_t *watched_count; /* NULL: the object notes nothing about watched addresses */
	/* The row of slot s in part p is at rows + (p * peers_slots + s) * row_size and begins with struct row_head. */
	void *rows;
	size_t row_size;
	uint32_t parts;     /* 1, or one per device */
	void *hists;        /* likewise; NULL: none */
	size_t hists_size;
	uint64_t (*weight)(const void *row); /* bytes so far, or as heavy; NULL: its rows weigh nothing */
	void (*clear_gauges)(void *row, uint32_t parity); /* the row's further gauges, before a sweep fills this half; or NULL */
};

int peers_new(const struct settings *settings, struct peers **ret_peers, struct error *ret_error);
void peers_free(struct peers *peers);

/* Gives an object that is not loaded yet the shared maps (slots, free_slots, networks, candidates, watched). -errno. */
int peers_share(const struct peers *peers, struct bpf_object *object);
/* netns_scope of the settings, for whoever loads an object of the table. */
uint32_t peers_scope(const struct peers *peers);
/* Before the object's programs are attached. -ENOSPC beyond PEERS_TABLES_MAX. */
int peers_attach(struct peers *peers, const struct peers_table *table);
/* Before the rows are unmapped; unknown ones are fine. */
void peers_detach(struct peers *peers, const void *rows);

/* Changed networks. All or nothing: -ENOSPC with a sentence when there are more than the maps have room for. */
int peers_reload(struct peers *peers, const struct settings *settings, struct error *ret_error);

void peers_begin(struct peers *peers);
/* Names new slots, retires, promotes. */
void peers_end(struct peers *peers, mono_time now);
uint64_t peers_generation(const struct peers *peers); /* of the last begin */
uint32_t peers_parity(const struct peers *peers);     /* the half that the last sweep filled */

uint32_t peers_slots(const struct peers *peers);
/* The label of a slot, NULL when it has nothing to show in any table. Valid until the next call that takes peers. The
 * slot's role is slot % ROLE_COUNT; slot ^ 1 is the same peer in the other role. What has no role is in the first slot. */
const char *peers_label(const struct peers *peers, uint32_t slot);
/* Peers that hold slots of their own, and how many can. */
void peers_usage(const struct peers *peers, uint32_t *ret_used, uint32_t *ret_total);
/* Peers in "other" that could not be weighed for promotion. */
uint64_t peers_lost_candidates(const struct peers *peers);
/* Label of an address that has no slot at hand: its network's name, or NULL. */
const char *peers_network(const struct peers *peers, const struct address *address);

/* The peers with slots of their own that did most lately, busiest first; those in `favoured` count twice, so that equals do not
 * take turns. Returns how many there are, at most max; idle ones are left out. */
size_t peers_busiest(const struct peers *peers, bool (*favoured)(const struct address *address, void *userdata), void *userdata,
		     struct address *ret_addresses, size_t max);

/* Addresses of which a TCP connection's fresh round-trip time is to be noted. -ENOSPC beyond the room for targets of probes. */
int peers_watch(struct peers *peers, const struct address *address, struct watched_address **ret_address);
void peers_unwatch(struct peers *peers, struct watched_address *address);
/* Once per tick: when that was last (watched_ns). */
int peers_read_watched(struct peers *peers);
