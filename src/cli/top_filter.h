/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The filter of `netsonde top`: terms between blanks, all of which must be true.
 *
 *   nginx            this text somewhere in the row
 *   process:nginx    this text in that column; process=nginx: no more than it. pid:,
 *                    port: and id: are whole numbers, peer:10.0.0.1 is the whole
 *                    address, peer:10.0.0.0/8 the prefix
 *   verdict:network  a side (network, far_host, this_host, nothing) or a cause (loss, ...)
 *   rtt>10ms         more or less than that; retrans>1% rate>1M out<10kbit drops: count>5
 *   !term            the opposite
 *
 * Upper and lower case are the same. A row of peers or processes is what its matching connections make.
 */
#pragma once
#include <stdbool.h>
#include "cli/top_table.h"
#include "lib/error.h"

#define TOP_FILTER_MAX 256 /* bytes of its text, with the NUL */
#define TOP_TERMS_MAX 16

struct top_term {
	unsigned field;    /* of a table in top_filter.c */
	bool negated, whole;
	char operator;     /* ':', or '<' and '>' with number, or 'l' and 'g' for <= and >= */
	char text[TOP_FILTER_MAX];
	double number;
	bool is_prefix;
	struct prefix prefix;
};

struct top_filter {
	char text[TOP_FILTER_MAX];
	size_t n; /* 0: everything matches */
	struct top_term terms[TOP_TERMS_MAX];
};

/* drops: for rows of drops, else for connections. -EINVAL with a sentence; then nothing is written. */
int top_filter_parse(const char *text, bool drops, struct top_filter *ret_filter, struct error *ret_error);
bool top_filter_connection(const struct top_filter *filter, const struct connection *connection);
bool top_filter_drop(const struct top_filter *filter, const struct top_drop *drop);
