/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A target of probes: what was asked for (from the configuration, the peers in use or the plan, all in one form), and
 * what is known of it. What is known belongs to the target and not to the engine's paths, which come and go with the
 * target's address: its counters only rise.
 *
 * Each path has statistics of its own: round trips of different ways must not be taken for jitter.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "agent/probe/adapt.h"
#include "agent/probe/probe_stats.h"
#include "agent/probe/prober.h"
#include "agent/probe/probe_schedule.h"
#include "lib/settings.h"

enum probe_target_source { TARGET_CONFIGURED, TARGET_PEER, TARGET_PLANNED, TARGET_SOURCE_COUNT };

/* Why probes were not answered, beside silence: netsonde_probe_unreachable_total{reason}. */
enum probe_target_unreachable {
	UNREACHABLE_HOST, UNREACHABLE_NET, UNREACHABLE_PORT, UNREACHABLE_PROHIBITED, UNREACHABLE_TTL, UNREACHABLE_TOO_BIG,
	UNREACHABLE_NO_BUFFER, UNREACHABLE_OTHER, UNREACHABLE_COUNT
};
extern const char *const probe_target_unreachable_names[UNREACHABLE_COUNT];
extern const char *const probe_target_protocol_names[PROBE_PROTOCOL_COUNT];
extern const char *const probe_target_source_names[TARGET_SOURCE_COUNT];

/* All owned. */
struct probe_target_spec {
	enum probe_target_source source;
	char *name;
	char *host;                /* a name to look up; NULL: probe.address is known */
	char *interface;           /* NULL: by the route */
	struct probe_spec probe;   /* without path, ring and what is only known later */
	uint8_t *secret;           /* where probe.secret points */
	uint64_t interval_ns;
	uint32_t paths;
	bool passive;              /* TCP connections may take its place */
};

struct probe_target;
struct probe_target_path {
	struct probe_schedule_entry entry;
	struct probe_target *target;
	struct probe_path *path;     /* of the engine; NULL: not at the moment */
	struct probe_stats stats;
	struct probe_counts former;  /* of engine paths that it had before */
};

struct watched_address;
struct resolve_host;
struct sampler;

struct probe_target {
	struct sampler *sampler;
	struct probe_target *next;
	struct probe_target_spec spec;
	struct resolve_host *host;   /* NULL: the address is literal */
	bool has_address;
	uint32_t ifindex;            /* of spec.interface, as the paths have it */
	struct adapt adapt;
	struct watched_address *watched; /* NULL: nothing takes its place */
	bool passive;                /* at the moment: TCP connections measure it */
	bool was_limited;            /* its answers seemed to be rate limited once */
	uint64_t unreachable[UNREACHABLE_COUNT];
	uint64_t refused;            /* TCP: answered by a reset */
	uint64_t retry_ns;           /* paths that could not be made are tried again then */
	char why[200];               /* it is not probed; "" when it is */
	bool keep;                   /* while the list is compared with a new one */
	struct probe_target_path paths[];  /* spec.paths of them */
};

/* -ENOMEM, or -errno with a sentence. secret: NULL, or copied. */
int probe_target_spec_of_settings(const struct settings_probe_target *from, const uint8_t *secret, size_t secret_len,
				  struct probe_target_spec *ret_spec);
int probe_target_spec_of_peer(const struct address *address, const struct settings *settings, struct probe_target_spec *ret_spec);
void probe_target_spec_done(struct probe_target_spec *spec);
bool probe_target_spec_same(const struct probe_target_spec *a, const struct probe_target_spec *b);

/* Takes the spec over, which is empty then. */
int probe_target_new(struct sampler *sampler, struct probe_target_spec *spec, struct probe_target **ret_target);
/* Its paths must have left the schedule and the engine. */
void probe_target_free(struct probe_target *target);

/* One result of one of its paths; says what is new (enum probe_news). */
unsigned probe_target_result(struct probe_target_path *path, const struct probe_result *result);
/* IP packet of one probe, in bytes. */
uint32_t probe_target_packet_bytes(const struct probe_target_spec *spec, const struct address *address);
/* Probes that may be on their way of one path, a power of two: see probe_spec.ring. */
uint32_t probe_target_ring(enum probe_protocol protocol, uint64_t timeout_ns, uint64_t fastest_ns);

/* All paths together, since the target is there. */
void probe_target_counts(const struct probe_target *target, struct probe_counts *ret_counts);
void probe_target_path_counts(const struct probe_target_path *path, struct probe_counts *ret_counts);
/* 1: it answers (or TCP connections to it do); 0: it does not; -1: not known yet. */
int probe_target_up(const struct probe_target *target);
/* Mean of its paths; NaN: not known. */
double probe_target_jitter(const struct probe_target *target);
