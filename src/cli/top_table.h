/* SPDX-License-Identifier: Apache-2.0 */
/* What `netsonde top` has of one look: the connections, and what was dropped. */
#pragma once
#include "agent/connections.h"
#include "lib/clock.h"

#define TOP_REASON_MAX 64
#define TOP_PROTOCOL_MAX 16

struct top_drop {
	char reason[TOP_REASON_MAX], protocol[TOP_PROTOCOL_MAX];
	uint64_t packets; /* since somebody counts: us, or the agent */
	double rate;      /* packets/s since the table before; NAN: there was none */
};

struct top_table {
	struct connection *connections; /* any order */
	size_t n;
	uint64_t total;          /* connections there are, also those that were left out */
	struct top_drop *drops;
	size_t n_drops;
	char no_drops[256];      /* why they are not known; "": they are */
	double drops_interval_s; /* what their rates are over; 0: there are none yet */
	double interval_s;       /* what the connections' rates and verdicts are over; 0: there are none yet */
	mono_time taken;
};
