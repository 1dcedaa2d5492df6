/* SPDX-License-Identifier: Apache-2.0 */
/* The agent about itself: version, features, ticks, series left out, its own cost. */
#pragma once
#include "agent/features.h"
#include "agent/registry.h"
#include "lib/error.h"

struct self;

int self_new(struct registry *registry, const struct features *features, struct self **ret_self, struct error *ret_error);
void self_free(struct self *self);
/* Between begin and commit, before the collectors, so that these always fit the series budget. */
void self_tick(struct self *self);
/* After commit: how long the tick took, and how many periods it overran. */
void self_observe(struct self *self, double seconds, uint64_t missed);
