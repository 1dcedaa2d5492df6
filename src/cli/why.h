/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of `netsonde why`: whom it asks about, where tables come from, what was seen, how it is told. */
#pragma once
#include <stdio.h>
#include "agent/connections.h"
#include "lib/buffer.h"

/* What the argument may mean. In this order the first one that something matches is taken. */
enum why_kind { WHY_PAIR, WHY_PID, WHY_ADDRESS, WHY_NETWORK, WHY_ID, WHY_HOST, WHY_KIND_COUNT };

#define WHY_HOST_ADDRESSES_MAX 16

struct why_target {
	const char *text;
	bool possible[WHY_KIND_COUNT];
	struct address local, remote;          /* WHY_PAIR */
	uint16_t local_port, remote_port;
	uint32_t pid;
	struct prefix prefix;                  /* WHY_ADDRESS: a whole address is the longest one */
	uint64_t id;
	struct address addresses[WHY_HOST_ADDRESSES_MAX]; /* WHY_HOST */
	size_t n_addresses;
};

/* -EINVAL with a sentence when it can mean nothing. */
int why_target_parse(const char *text, struct why_target *ret_target, struct error *ret_error);
/* Asks the resolver, when the text may be the name of a host; waits for it. */
void why_target_resolve(struct why_target *target);
bool why_target_matches(const struct why_target *target, enum why_kind kind, const struct connection *connection);

/* Where tables come from: this host's kernel, or an agent over HTTP. */
struct why_source;
typedef int (*why_row_fn)(const struct connection *connection, void *userdata);

/* url NULL: this host; config_file (may be NULL) names its networks. */
int why_source_open(const char *url, const char *config_file, struct why_source **ret_source, struct error *ret_error);
void why_source_close(struct why_source *source);
/* From the next table on only what may match. */
void why_source_narrow(struct why_source *source, const struct why_target *target, enum why_kind kind);
/* The table now, each row in turn. *ret_fresh: not one that was given before, of which no row is given again. */
int why_source_table(struct why_source *source, why_row_fn fn, void *userdata, bool *ret_fresh,
		     struct error *ret_error);
/* Does it answer questions, rather than give everything? Then a table has what why_source_narrow asks for. */
bool why_source_asks(const struct why_source *source);
/* Of the last table: how many more would have matched, but there was no room. */
uint64_t why_source_left_out(const struct why_source *source);
/* How long to wait between two tables. */
uint64_t why_source_period_ns(const struct why_source *source);

/* Connections that were seen, with what they did while we looked. */
struct why_seen {
	struct connection connection; /* at the last look; input and verdict are of all looks */
	double observed_s;
	unsigned looks;
};

struct why_result {
	const struct why_target *target;
	enum why_kind kind;
	struct why_seen **seen;       /* the worst first */
	size_t n, idle;               /* idle: of n, those whose verdict is that nobody waits */
	struct verdict verdict;       /* of all that are not idle */
	double interval_s;
	unsigned looks;
};

void why_print(const struct why_result *result, FILE *out);
int why_write_json(const struct why_result *result, struct buffer *out);
/* Nothing was found: a sentence that helps, from what there was. */
void why_suggest(const struct why_target *target, struct why_source *source, struct buffer *out);
