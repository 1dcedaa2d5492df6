/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the sampler share: sampler.c (time), sampler_targets.c (the list), sampler_sources.c (who wants what). */
#pragma once
#include "agent/probe/resolve.h"
#include "agent/probe/sampler.h"

/* Specs of one source, in order. */
struct wish_list { struct probe_target_spec *specs; size_t n; };

/* What of the settings is needed later; owned. */
struct sampler_config {
	uint32_t peers, max_targets;
	bool passive, adapt;
	struct settings defaults;      /* only probe.defaults of it */
	char *plan_url;
	uint64_t plan_interval_ns;
	struct plan_bounds plan;       /* networks and protocols are owned */
	uint32_t packets, bytes;
};

/* The keys of STAMP by file, so that a reload without the right to read one goes on with what was read at the start. */
struct key { struct key *next; char *path; uint8_t *secret; size_t len; };

struct sampler {
	struct loop *loop;
	struct peers *peers;
	struct features *features;
	struct sampler_config config, prepared;
	struct wish_list wished;       /* of the prepared settings */
	struct key *keys;
	struct prober *prober;
	struct resolve *resolve;
	struct plan_source *plan;
	size_t plan_refused[PLAN_REFUSED_COUNT];
	bool refusals_told[PLAN_REFUSED_COUNT];
	struct probe_schedule schedule;
	struct loop_timer *pace, *second;
	struct probe_target *targets[TARGET_SOURCE_COUNT];
	struct { struct probe_target **sorted; size_t n; } names[TARGET_SOURCE_COUNT]; /* the same, for sampler_find */
	uint32_t paths;                /* of all of them */
	uint64_t ring_full;
	uint64_t collected_ns, ticked_ns, tick_ns, peers_ns;
	bool over_budget;               /* and told so */
	char untargeted[200];          /* what the feature probe_targets says */
};

/* sampler_targets.c */

/* Makes the list of a source what is wished: targets that are the same stay. Empties the list. The plan has the room that the
 * configuration leaves, with its number of peers; what does not fit is left out. */
void sampler_apply(struct sampler *s, enum probe_target_source source, struct wish_list *wishes);
/* The plan gives way to what will be configured. */
void sampler_make_room(struct sampler *s, const struct wish_list *configured);
const struct probe_target *sampler_find(const struct sampler *s, enum probe_target_source source, const char *name);
/* Results change what is to be done with a target. */
void sampler_adapt(struct sampler *s, struct probe_target *target, uint64_t now_ns);
/* Once per second: paths that could not be made, interfaces that changed, the time of being fast. */
void sampler_tend(struct sampler *s, uint64_t now_ns);
/* All targets get their paths anew, as now configured; what is known of them stays. */
void sampler_restart(struct sampler *s);
/* TCP connections measure it, or do so no more. */
void sampler_set_passive(struct sampler *s, struct probe_target *target, bool passive);

/* sampler_sources.c */
int sampler_config_read(struct sampler *s, const struct settings *settings, struct sampler_config *ret_config, struct wish_list *ret_wishes,
			struct error *ret_error);
void sampler_config_done(struct sampler_config *config);
void sampler_keys_free(struct sampler *s);
/* The key in a file; from the last time when it may not be read any more. -errno with a sentence. */
int sampler_key(struct sampler *s, const char *path, const struct key **ret_key, struct error *ret_error);
void wish_list_done(struct wish_list *wishes);
/* Starts, changes or ends the plan, as configured, and reads the last one by the new bounds. */
void sampler_update_plan(struct sampler *s, const char *former_url);
void sampler_update_peers(struct sampler *s);

/* sampler.c: something is due earlier than the timer knows. */
void sampler_rearm(struct sampler *s);
