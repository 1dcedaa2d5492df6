/* SPDX-License-Identifier: Apache-2.0 */
/* The agent about itself: version, features, ticks, series left out, its own cost. */
#pragma once
#include <stdint.h>
#include "agent/features.h"
#include "agent/registry.h"
#include "lib/error.h"

struct self;

int self_new(struct registry *registry, const struct features *features, struct self **ret_self, struct error *ret_error);
void self_free(struct self *self);
/* Between begin and commit, before the collectors, so that these always fit the series budget. interval_ns: from tick to
 * tick at the moment. */
void self_tick(struct self *self, uint64_t interval_ns);
/* After commit: how long the tick took, and how many periods it overran. */
void self_observe(struct self *self, double seconds, uint64_t missed);

/* What every collector has to tell about itself, in the families that they share; between begin and commit. */
void self_lost(struct self *self, const char *source, uint64_t n); /* netsonde_lost_events_total */
void self_map(struct self *self, const char *map, uint64_t entries, uint64_t max);
/* Run time of a program, while the kernel's BPF statistics are on. */
void self_program(struct self *self, const char *name, int program_fd);
