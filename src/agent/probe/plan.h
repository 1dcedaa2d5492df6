/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plan: targets that somebody else asks this agent to probe, pulled over HTTP as one JSON object:
 *   {"version": 1, "targets": [{"name": "host-b", "address": "10.0.0.2", "protocol": "stamp", "port": 862, "interval_s": 1.0, "paths": 1}]}
 * Of a target only name and address are needed; unknown keys are for later versions. The bounds of our own configuration win:
 * what they do not allow is left out (an interval that is too short is made longer), counted and told. A plan that cannot be
 * fetched or read changes nothing: the last one stays.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/address.h"
#include "lib/error.h"
#include "lib/loop.h"

#define PLAN_NAME_MAX 128       /* characters, as in the configuration */
#define PLAN_BYTES_MAX (16 * 1024 * 1024)
#define PLAN_INTERVAL_MAX_NS 3600000000000ULL
/* Values in a plan's JSON: enough for several times as many targets as may be asked for, each with all its keys. */
#define PLAN_VALUES_MAX(targets_max) (65536 + 16 * (size_t)(targets_max))

enum plan_refused {
	PLAN_MALFORMED, /* no name, no address, a wrong type, a value out of range */
	PLAN_NAME,      /* the name is taken */
	PLAN_ADDRESS,   /* outside the networks that it may name, or not one host's */
	PLAN_PROTOCOL,
	PLAN_INTERVAL,  /* shorter than allowed: made longer */
	PLAN_TOO_MANY,
	PLAN_REFUSED_COUNT
};
extern const char *const plan_refused_names[PLAN_REFUSED_COUNT];

struct plan_bounds {
	uint32_t targets_max, paths_max;
	uint64_t min_interval_ns;
	const struct prefix *networks; size_t n_networks;  /* none: everything */
	const unsigned *protocols; size_t n_protocols;     /* enum settings_probe_protocol; none: all */
	/* What an entry has that does not say. */
	unsigned protocol;
	uint64_t interval_ns;
	uint32_t paths;
	bool (*taken)(const char *name, void *userdata);   /* by somebody else than the plan; may be NULL */
	void *userdata;
};

struct plan_target {
	char *name;
	struct address address;
	unsigned protocol;
	uint16_t port; /* 0: the protocol's */
	uint64_t interval_ns;
	uint32_t paths;
};

struct plan {
	struct plan_target *targets; size_t n;
	size_t refused[PLAN_REFUSED_COUNT];
	char example[PLAN_REFUSED_COUNT][160]; /* of each: a sentence about the first */
};

/* -EINVAL with a sentence for what is no plan; -ENOMEM. */
int plan_parse(const char *text, size_t len, const struct plan_bounds *bounds, struct plan *ret_plan, struct error *ret_error);
void plan_done(struct plan *plan);

/* Fetching. fn gets the text of each plan that is another than the one before. Logs when it stops working, and when it works again. */
struct plan_source;
typedef void (*plan_fn)(const char *text, size_t len, void *userdata);
int plan_source_new(struct loop *loop, const char *url, uint64_t interval_ns, plan_fn fn, void *userdata, struct plan_source **ret_source,
		    struct error *ret_error);
void plan_source_free(struct plan_source *source);
/* Another interval; when it is another, the plan is fetched at once. What came last stays. */
void plan_source_interval(struct plan_source *source, uint64_t interval_ns);
/* What came last, to read it again by other bounds; NULL: nothing yet. */
const char *plan_source_text(const struct plan_source *source, size_t *ret_len);
/* The last plan could not be read: told and counted as a failure of the fetch. */
void plan_source_refuse(struct plan_source *source, const char *reason);
void plan_source_counts(const struct plan_source *source, uint64_t *ret_fetched, uint64_t *ret_failed);
