/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the tables of `netsonde top` come from: this host's kernel, with programs of
 * our own, or an agent over HTTP. One at a time is asked for and comes, or does not,
 * by a call; nothing waits in between.
 *
 * The kernel is looked at more often than a table is asked for, as long as that costs little: the verdict is the better
 * the more looks there were.
 */
#pragma once
#include "cli/top_table.h"
#include "lib/error.h"
#include "lib/loop.h"

struct top_source;

struct top_source_options {
	const char *url;          /* NULL: this host's kernel */
	const char *config_file;  /* names of networks, for this host's kernel; may be NULL */
};

/* table: the caller's now (top_table_free). NULL: why is in error. */
typedef void (*top_source_fn)(struct top_table *table, const char *error, void *userdata);

/* -EPERM: the kernel needs more rights than we have. */
int top_source_open(struct loop *loop, const struct top_source_options *options, top_source_fn fn, void *userdata,
		    struct top_source **ret_source, struct error *ret_error);
void top_source_close(struct top_source *source);
/* The answer may come before this returns. Nothing is asked while one is under way. */
void top_source_ask(struct top_source *source);
/* Stops looking, until something is asked for again. */
void top_source_rest(struct top_source *source);
/* Not sooner than this after a table was asked for: what it costs shall be a small part of the time. */
uint64_t top_source_least_period_ns(const struct top_source *source);
const char *top_source_name(const struct top_source *source); /* "kernel", or the URL without password */

void top_table_free(struct top_table *table);
