/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a collector is: it opens what it needs from the kernel while the agent is
 * still privileged, writes samples into the registry at each tick, and closes.
 *
 * open reports every feature it got or missed. It returns 0 when at least its core works, and -errno only when
 * nothing of it does; the agent then says so and goes on without it.
 */
#pragma once
#include <stdbool.h>
#include "agent/events.h"
#include "agent/features.h"
#include "agent/peers.h"
#include "agent/registry.h"
#include "agent/self.h"
#include "lib/clock.h"
#include "lib/error.h"
#include "lib/http.h"
#include "lib/loop.h"
#include "lib/settings.h"

struct tcp_program;

/* All borrowed, and valid until the collector is closed; settings only during open. */
struct collector_context {
	const struct settings *settings;
	struct registry *registry;
	struct features *features;
	struct self *self;     /* losses, maps and programs are reported here at each tick */
	struct peers *peers;   /* the one peer table */
	struct events *events; /* the one event log */
	struct loop *loop;     /* NULL: only to learn what works here */
};

struct collector {
	const char *name; /* as its key below `collect`, and its feature */
	const char *key;  /* what turns it on, when it is not collect.NAME */
	/* Is it turned on? */
	bool (*wanted)(const struct settings *settings);
	/* Its metrics, which open registers: for the documentation. */
	const struct registry_definition *families;
	size_t n_families;
	int (*open)(const struct collector_context *context, void **ret_state, struct error *ret_error);
	/* Reads the kernel, between peers_begin and peers_end. NULL: it has no socket sweep of its own. */
	void (*sweep)(void *state);
	/* How many bytes its records in the kernel may take from now on, by the memory budget. NULL: it has none that grow. */
	void (*set_room)(void *state, uint64_t bytes);
	/* Between registry_begin and registry_commit, after all sweeps. */
	void (*tick)(void *state, mono_time now);
	/* Could reload take these settings? Changes nothing of what it does. NULL: yes. */
	int (*prepare)(void *state, const struct settings *settings, struct error *ret_error);
	/* New settings, already validated, and prepared: all or nothing. NULL: nothing of it can change. */
	int (*reload)(void *state, const struct settings *settings, struct error *ret_error);
	void (*close)(void *state); /* NULL is fine */
	/* What it serves over HTTP beside its metrics; NULLs: nothing. The handler's userdata is the state. */
	const char *route_path, *route_title;
	http_handler handle;
};

extern const struct collector collect_dns;
extern const struct collector collect_drop;
/* Which interfaces drop packets by our own XDP program, as of now: those are no drops. Borrows nothing. */
struct probe_devices;
void collect_drop_own_xdp(void *state, const struct probe_devices *devices);
extern const struct collector collect_flow;
extern const struct collector collect_interface;
extern const struct collector collect_lookup;
extern const struct collector collect_probe;
/* The interfaces of an open collect_probe; borrowed. NULL: none. */
const struct probe_devices *collect_probe_devices(const void *state);
extern const struct collector collect_process;
extern const struct collector collect_tcp;
/* The program behind an open collect_tcp, for what shares its maps; borrowed. */
const struct tcp_program *collect_tcp_program(const void *state);
extern const struct collector collect_udp;
