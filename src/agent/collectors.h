/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All that the agent measures with: the collectors, in the order of the metrics
 * page, and what they share (the peer table, the event log, the table of
 * connections). Opening needs privileges; nothing after it does.
 */
#pragma once
#include "agent/collector.h"
#include "agent/exporter.h"

struct collectors;

/* What is missing is reported in features. -errno when nothing can be measured at all, with a sentence; then nothing is open, but
 * features says why of each. The arguments are borrowed until the free; settings only until the next reload. loop NULL: nothing is
 * measured, it is only to learn what works. */
int collectors_open(const struct settings *settings, struct registry *registry, struct features *features, struct self *self,
		    struct loop *loop, struct collectors **ret_collectors, struct error *ret_error);
/* After exporter_close. */
void collectors_free(struct collectors *collectors);
/* What they serve over HTTP. */
int collectors_add_routes(const struct collectors *collectors, struct exporter *exporter);

/* One tick in two parts: reading the kernel, and samples, between registry_begin and registry_commit. */
void collectors_sweep(struct collectors *collectors, mono_time now);
void collectors_tick(struct collectors *collectors, mono_time now);

/* All or nothing; -EBUSY with a sentence for a key that needs a restart. */
int collectors_reload(struct collectors *collectors, const struct settings *settings, struct error *ret_error);
/* Only registers the families. */
int collectors_describe(struct registry *registry, struct error *ret_error);
