/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the prober share: prober.c (opening, the tick), prober_paths.c (paths, routes, devices),
 * prober_send.c (packets leave), prober_collect.c (results), prober_receive.c (what no hook took).
 *
 * A flight's memory is shared with the kernel (see abi_probe.h). What only user space knows of a probe is in its note,
 * at the same index: nobody else writes there.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "agent/probe/clock_error.h"
#include "agent/probe/probe_rings.h"
#include "agent/probe/probe_socket.h"
#include "agent/probe/prober.h"
#include "agent/probe/route.h"
#include "lib/siphash.h"
#include "probe_match.h"

#define ARENA_BYTES (256u << 10)  /* packets of one batch; holds the largest one at least */
#define RANDOM_WORDS 256
#define RESOLVE_AGAIN_NS NS_PER_SEC /* a path without a route asks at most so often */

struct probe_note {
	uint16_t checksum;  /* STAMP: of the UDP packet, by which an error with a short quotation is known */
	uint8_t error;      /* errno that an ICMP error told, 0: none. An answer that comes all the same counts more */
	bool stamped;       /* sent_ns is the kernel's software stamp */
};

struct probe_path {
	struct prober *prober;
	probe_result_fn fn;
	void *userdata;
	struct probe_path *next_in_bucket;
	struct probe_path *next_pending, *previous_pending;
	bool is_pending;                 /* in the list of paths that have something to collect */

	/* What was asked for. */
	struct address destination, wanted_source;
	uint32_t wanted_ifindex;
	bool has_source, dont_fragment, v6;
	uint8_t dscp, ttl;
	uint16_t payload, checksum;      /* checksum: ICMP, the path's constant */
	uint32_t flow_label;
	const struct probe_hmac_key *secret; /* among the prober's; NULL: none */

	/* Where it leaves. */
	struct address source;
	uint32_t ifindex;                /* 0: no route */
	int route_error;                 /* errno */
	const struct probe_device *device;
	uint64_t resolved_ns;

	/* Its session and its ring. */
	struct probe_key key;
	uint32_t index, first, mask;
	struct probe_session *session;
	struct probe_flight *flights;
	struct probe_note *notes;
	uint32_t next, oldest;           /* sequences: of the next probe, of the first whose fate is not known (or next) */
	uint32_t pending;
	uint64_t sent, answered, lost, unreachable, implausible;
	uint32_t lost_in_a_row;          /* TCP: see prober_receive.c */
};

struct prober {
	struct loop *loop;
	struct prober_options options;
	struct probe_sockets *sockets;
	struct probe_program *program;   /* NULL: without BPF */
	struct probe_devices *devices;
	struct routes *routes;
	struct probe_block block;

	/* The kernel's, or our own without BPF. */
	struct probe_flight *flights;
	struct probe_session *sessions;
	bool own_memory;
	uint32_t flights_max, sessions_max;
	struct probe_note *notes;
	struct probe_rings *rings;

	struct probe_path **paths;       /* by session; NULL: free */
	uint32_t *free_sessions, n_free;
	struct probe_path **buckets;     /* by key */
	uint32_t bucket_mask;
	struct siphash_key hash_key;
	uint16_t rotor;                  /* where the next path looks for a free port */
	struct probe_path *pending;
	struct { struct probe_hmac_key key; uint32_t users; } keys[PROBE_HMAC_KEYS_MAX];

	struct clock_error clock;
	uint16_t error_estimate;
	uint64_t alone_ns;               /* when a probe last left, or an answer came, without a hook */
	uint64_t attached_ns;            /* when a hook was last wanted where an answer came in without one */
	uint32_t walk;                   /* session whose route is asked for next */
	uint32_t walk_soon;              /* that many of them as soon as possible: something changed */
	struct { uint64_t until_ns, again_ns; bool always; } search; /* see prober_receive.c */
	uint32_t n_tcp;                  /* paths */

	/* The batch. */
	struct probe_message messages[PROBE_BATCH];
	struct { struct probe_path *path; uint32_t sequence; } queued[PROBE_BATCH];
	size_t n_queued;
	uint8_t *arena;
	size_t arena_used;
	uint64_t unsent;                 /* probes that the host had no room for */

	uint64_t polled[PROBE_PROTOCOL_COUNT][2]; /* [v6]: sockets that this round of collecting has looked at */
	uint64_t random[RANDOM_WORDS];
	uint32_t n_random;               /* words that are left */
};

static inline struct probe_flight *path_flight(const struct probe_path *path, uint32_t sequence)
{
	return &path->flights[sequence & path->mask];
}

static inline struct probe_note *path_note(const struct probe_path *path, uint32_t sequence)
{
	return &path->notes[sequence & path->mask];
}

static inline uint64_t flight_state(const struct probe_flight *flight)
{
	return __atomic_load_n(&flight->state, __ATOMIC_ACQUIRE);
}

/* prober.c */
uint64_t prober_random(struct prober *prober);

/* prober_paths.c */
struct probe_path *prober_find(const struct prober *prober, const struct probe_key *key);
void path_resolve(struct probe_path *path, uint64_t now_ns);
/* The device that it leaves by, if that is (still) one with hooks or without; NULL: none is known. */
const struct probe_device *path_device(const struct probe_path *path);
/* The device of that index among those in use; NULL. */
const struct probe_device *prober_device(const struct prober *prober, uint32_t ifindex);
bool device_receives(const struct probe_device *device); /* a hook sees what comes in */
bool device_hides(const struct probe_device *device);    /* and can keep it from the host's own stack */

/* prober_collect.c */
/* Something of this path is to be collected. */
void path_pend(struct probe_path *path);
/* Before probes are settled: what the kernel's stamps have to say, and all sockets count as not looked at. */
void prober_begin_round(struct prober *prober);
/* The fate of one probe, and its result if it has just been decided. False: it is not known yet. */
bool path_settle(struct probe_path *path, uint32_t sequence, uint64_t now_ns);
/* Looks, once in a round, at the socket where an answer would be that no hook took. */
void path_poll(struct probe_path *path);
/* It was not sent, or will not be answered: `error` says why. */
void path_give_up(struct probe_path *path, uint32_t sequence, int error);

/* prober_receive.c */
extern const struct probe_sockets_handler prober_handler; /* without userdata */
void prober_search_tick(struct prober *prober, uint64_t now_ns);
void prober_search_lost(struct probe_path *path, uint64_t now_ns); /* a TCP probe was lost */
