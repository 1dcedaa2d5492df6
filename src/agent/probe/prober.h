/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine of active probing, for the agent's sampler and for `netsonde ping`: it sends a probe when told, and says
 * what became of it.
 *
 * Packets leave through raw sockets (ordinary routing, neighbours, firewall), many in one system call. Their times are
 * taken, and answers recognised and dropped, by BPF programs where they can be attached; what these did not take (no
 * BPF here, or the answer came in by another interface) arrives at the sockets and is recognised there, with the
 * kernel's receive stamp (SO_TIMESTAMPING), or at last with user space's clock. Which it was is said of every result.
 *
 * Opened while privileged (CAP_NET_RAW, and what BPF takes); everything after needs none, on 6.6 and later even new
 * interfaces. Without CAP_NET_RAW only ICMP works, where net.ipv4.ping_group_range allows it, by user space's clocks.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "agent/probe/probe_devices.h"
#include "lib/address.h"
#include "lib/clock.h"
#include "lib/error.h"
#include "lib/loop.h"

struct prober;
struct probe_path; /* one session */

struct prober_options {
	enum probe_attach attach;
	uint32_t paths_max;        /* sessions at the same time */
	uint32_t flights_max;      /* probes on their way at the same time, over all paths; 0: 16 for each path */
	struct probe_program_options reflect; /* only its reflector's members */
	const uint8_t *reflect_secret; size_t reflect_secret_len; /* the reflector's HMAC key; NULL: none */
	bool unprivileged;         /* ping sockets are fine when raw ones are refused */
	uint64_t clock_error_ns;   /* what the host's clock is known to be good for when the kernel does not know; 0: not known */
};

struct probe_spec {
	struct address address;
	uint32_t ifindex;          /* link-local addresses, or to leave by a certain interface; 0: by the route */
	struct address source; bool has_source;
	enum probe_protocol protocol;
	uint16_t port;             /* STAMP, TCP; 0: 862, 443 */
	uint16_t payload;          /* bytes behind the ICMP or UDP header; at least PROBE_ICMP_PAYLOAD_MIN, 44 or 112; raised to that */
	uint8_t dscp;              /* 0..63 */
	uint8_t ttl;               /* 0: the host's default */
	bool dont_fragment;
	uint8_t path;              /* which of a target's paths: another source port, checksum or flow label for each */
	uint64_t timeout_ns;
	uint32_t ring;             /* probes within a time-out and a half at the fastest; rounded up to a power of two, 8 at least */
	const uint8_t *secret; size_t secret_len; /* STAMP authenticated; copied */
};

enum probe_outcome {
	PROBE_OK,
	PROBE_CLOSED,       /* TCP: refused by a reset; the round trip is as good */
	PROBE_TIMED_OUT,
	PROBE_UNREACHABLE,  /* an ICMP error, or the kernel refused to send; error says which. Lost, but told before the time-out */
};

struct probe_result {
	enum probe_outcome outcome;
	uint32_t sequence;         /* of the path, from 0 */
	uint64_t sent_ns;          /* CLOCK_MONOTONIC */
	uint64_t rtt_ns;           /* STAMP: with the reflector's time in it; answered ones only */
	enum probe_clock clock;
	int error;                 /* PROBE_UNREACHABLE: EHOSTUNREACH, ENETUNREACH, EMSGSIZE, EACCES, ETIME (TTL exceeded), EPERM, ... */
	/* STAMP, answered: */
	bool stamp;                /* the following say something */
	bool has_residence;        /* residence_ns = t3 - t2 by the reflector's clock */
	bool has_one_way;          /* both clocks are synchronised */
	uint64_t residence_ns;
	int64_t forward_ns, backward_ns; /* t2 - t1, t4 - t3; can be negative, by the error */
	uint64_t clock_error_ns;   /* of either, this host's and the reflector's together; UINT64_MAX: not known */
};

/* The network's part of the round trip. A reflector can claim any time; it cannot have taken more than there was. */
static inline uint64_t probe_result_rtt_ns(const struct probe_result *result)
{
	return result->has_residence && result->residence_ns <= result->rtt_ns ? result->rtt_ns - result->residence_ns : result->rtt_ns;
}

/*
 * Called once for each probe that prober_send took, from prober_collect*, prober_send and prober_flush; may send, may
 * not add or remove paths or collect. In the order of sequences as far as they are decided at the time of a collection.
 */
typedef void (*probe_result_fn)(struct probe_path *path, const struct probe_result *result, void *userdata);

/* sent = answered + lost + unreachable + pending. late are lost as well. implausible: STAMP answers whose times
 * cannot be. */
struct probe_counts { uint64_t sent, answered, lost, unreachable, duplicates, reordered, late, rejected, implausible; };

static inline void probe_counts_add(struct probe_counts *to, const struct probe_counts *from)
{
	to->sent += from->sent;
	to->answered += from->answered;
	to->lost += from->lost;
	to->unreachable += from->unreachable;
	to->duplicates += from->duplicates;
	to->reordered += from->reordered;
	to->late += from->late;
	to->rejected += from->rejected;
	to->implausible += from->implausible;
}

/* loop: sockets are watched there; borrowed. features may be NULL. -errno with a sentence when nothing can be sent
 * at all. */
struct features;
int prober_open(struct loop *loop, const struct prober_options *options, struct features *features,
		struct prober **ret_prober, struct error *ret_error);
void prober_close(struct prober *prober); /* with all paths */

/* -ENOSPC beyond the room, -EINVAL, -EOPNOTSUPP (TCP by an interface without a hook that can hide its answers; STAMP
 * and TCP without raw sockets), each with a sentence. To have no route is no error: the probes will be unreachable
 * until there is one (those of TCP with EOPNOTSUPP, if it then is by such an interface). */
int prober_add(struct prober *prober, const struct probe_spec *spec, probe_result_fn fn, void *userdata,
	       struct probe_path **ret_path, struct error *ret_error);
void prober_remove(struct probe_path *path); /* probes on their way are forgotten */

/* Puts a probe into the batch. 0; -EAGAIN: the ring is full of probes that may still be answered (the path is
 * probed too fast). */
int prober_send(struct probe_path *path);
void prober_flush(struct prober *prober); /* the batch leaves */
/* Results of everything that is over by now: calls the paths' functions. now by CLOCK_MONOTONIC. */
void prober_collect(struct prober *prober, mono_time now);
void prober_collect_path(struct probe_path *path, mono_time now);
/* Once per second or so: links and routes that changed, the clock's state. */
void prober_tick(struct prober *prober, mono_time now);

void probe_path_counts(const struct probe_path *path, struct probe_counts *ret_counts);
uint32_t probe_path_pending(const struct probe_path *path); /* probes whose fate is not known */
/* The interface it leaves by, or NULL while there is no route. */
const struct probe_device *probe_path_device(const struct probe_path *path);
struct probe_devices *prober_devices(struct prober *prober);
struct probe_program *prober_program(struct prober *prober); /* NULL: without BPF */
uint64_t prober_rejected(const struct prober *prober);       /* looked like ours, belonged to no path */
/* netsonde_lost_events_total: "probe_send", probes that this host had no room for (their result is unreachable with
 * ENOBUFS, which says nothing about the network); "probe_receive", packets that the kernel threw away since a queue of
 * ours was full. */
uint64_t prober_unsent(const struct prober *prober);
uint64_t prober_overflows(const struct prober *prober);
