/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PacketSampler: who is probed when. Targets come from the configuration, from the peers in use and from a plan; each has its
 * interval, which the budget makes longer, trouble makes shorter for a while, and fresh passive data makes endless.
 *
 * It paces and reads results; sending, timing and matching are the prober's. Everything runs in the loop: one timer
 * for the probes, one per second for the rest. A reload keeps what is known of every target that it does not change.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "agent/features.h"
#include "agent/peers.h"
#include "agent/probe/plan.h"
#include "agent/probe/prober.h"
#include "agent/probe/probe_schedule.h"
#include "agent/probe/probe_target.h"
#include "lib/clock.h"
#include "lib/error.h"
#include "lib/loop.h"
#include "lib/settings.h"

struct sampler;

struct sampler_stats {
	uint64_t late;               /* probes left out because the process was held up for longer than their interval */
	uint64_t ring_full;          /* probes left out because too many of their path were still on their way */
	uint64_t lookup_failures;    /* of host names */
	uint64_t plan_fetched, plan_failed;
	bool has_plan;
	size_t refused[PLAN_REFUSED_COUNT]; /* of the plan in force */
	uint32_t paths, paths_max;
};

/* Needs the privileges of probe_program and prober; nothing after it does. All borrowed; settings only during the call. -errno with a
 * sentence when nothing can be probed; -EBUSY: another agent does. */
int sampler_open(struct loop *loop, const struct settings *settings, struct peers *peers, struct features *features,
		 struct sampler **ret_sampler, struct error *ret_error);
void sampler_close(struct sampler *sampler);

/* Could it take these settings? Reads key files; nothing changes. -errno with a sentence. */
int sampler_prepare(struct sampler *sampler, const struct settings *settings, struct error *ret_error);
/* Takes the settings that were prepared last. */
void sampler_reload(struct sampler *sampler, const struct settings *settings);
/* The agent's tick: results, and which targets are measured passively. */
void sampler_tick(struct sampler *sampler, mono_time now);

/* In a stable order, linked by next. */
const struct probe_target *sampler_targets(const struct sampler *sampler, enum probe_target_source source);
/* Interval in force of a target's path. */
uint64_t sampler_interval_ns(const struct sampler *sampler, const struct probe_target *target);
const struct probe_schedule *sampler_schedule(const struct sampler *sampler);
struct prober *sampler_prober(const struct sampler *sampler);
void sampler_stats(const struct sampler *sampler, struct sampler_stats *ret_stats);
