/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a collector is: it opens what it needs from the kernel while the agent is
 * still privileged, writes samples into the registry at each tick, and closes.
 *
 * open reports every feature it got or missed. It returns 0 when at least its core works, and -errno only when
 * nothing of it does; the agent then says so and goes on without it.
 */
#pragma once
#include "agent/features.h"
#include "agent/registry.h"
#include "lib/clock.h"
#include "lib/error.h"
#include "lib/settings.h"

struct collector_context {
	const struct settings *settings;
	struct registry *registry;
	struct features *features;
};

struct collector {
	const char *name;
	/* Only registers the families, for the documentation; open does it as well. */
	int (*describe)(struct registry *registry, struct error *ret_error);
	int (*open)(const struct collector_context *context, void **ret_state, struct error *ret_error);
	/* Between registry_begin and registry_commit. */
	void (*tick)(void *state, mono_time now);
	/* New settings, already validated: all or nothing. NULL: nothing of it can change. */
	int (*reload)(void *state, const struct settings *settings, struct error *ret_error);
	void (*close)(void *state); /* NULL is fine */
};

extern const struct collector collect_tcp;
