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
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "abi.h"
#include "lib/address.h"
#include "lib/clock.h"
#include "lib/error.h"
#include "lib/settings.h"

/* Room for networks and prefixes that a reload adds. */
#define PEERS_NETWORKS_MIN 64
#define PEERS_PREFIXES_MIN 1024

struct peers;

/* The kernel side; all borrowed. */
struct peers_kernel {
	int slots_fd, free_slots_fd, networks_fd, candidates_fd;
	struct peer_row *rows;
	struct peer_hists *hists;
	uint32_t *resolve_generation, *network_count;
	const uint64_t *slots_taken;
};

struct peers_size { uint32_t slots, networks, prefixes, peers; };

/* How many slots the kernel maps need for these settings. */
struct peers_size peers_size(const struct settings *settings);

int peers_new(const struct peers_kernel *kernel, const struct peers_size *size, const struct settings *settings,
	      struct peers **ret_peers, struct error *ret_error);
void peers_free(struct peers *peers);

/* Changed networks. All or nothing: -ENOSPC with a sentence when there are more than the maps have room for. */
int peers_reload(struct peers *peers, const struct settings *settings, struct error *ret_error);

/* Clears the gauges; parity: the half that the coming sweep fills. */
void peers_before_sweep(struct peers *peers, uint32_t parity);
/* generation: the one the sweep ran under. Names new slots, retires, promotes. */
void peers_after_sweep(struct peers *peers, uint64_t generation, uint32_t parity, mono_time now);

uint32_t peers_slots(const struct peers *peers);
/* The label of a slot, NULL when it has nothing to show. Valid until the next call that takes peers. The slot's role is
 * slot % ROLE_COUNT; slot ^ 1 is the same peer in the other role. */
const char *peers_label(const struct peers *peers, uint32_t slot);
/* Peers that hold slots of their own, and how many can. */
void peers_usage(const struct peers *peers, uint32_t *ret_used, uint32_t *ret_total);
