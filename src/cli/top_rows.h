/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of `netsonde top`: a table seen as one of four views, filtered and
 * ordered. Pure: no terminal, no clock, no kernel.
 *
 * A row of peers or processes stands for several connections: bytes, rates and segments are added, RTT and jitter are
 * the means of those that moved data (of all, when none did), the verdict is the mean of those that are not idle, as
 * `netsonde why` has it. Rows point into the table, which must outlive them.
 */
#pragma once
#include "cli/top_filter.h"
#include "cli/top_table.h"

enum top_view { TOP_CONNECTIONS, TOP_PEERS, TOP_PROCESSES, TOP_DROPS, TOP_VIEWS };

enum top_column {
	TOP_PROCESS, TOP_PID, TOP_CONTAINER, TOP_PEER, TOP_REMOTE, TOP_LOCAL, TOP_STATE, TOP_ROLE, TOP_CONNECTIONS_COUNT,
	TOP_PROCESSES_COUNT, TOP_PEERS_COUNT, TOP_RTT, TOP_JITTER, TOP_RETRANS, TOP_OUT, TOP_IN, TOP_RATE, TOP_SENT, TOP_RECEIVED,
	TOP_WHY, TOP_REASON, TOP_PROTOCOL, TOP_DROP_RATE, TOP_DROP_COUNT, TOP_COLUMNS
};

struct top_row {
	uint64_t key;                         /* the same for the same thing in the next table */
	const struct connection *connection;  /* the one, or of several the busiest; NULL: a drop */
	const struct top_drop *drop;
	uint32_t connections, processes, peers;
	double interval_s;                    /* 0: no rates, no verdict */
	bool quiet;                           /* no payload moved in the interval */
	double rtt_s, jitter_s, retransmit_ratio, sent_rate, received_rate;
	double sent_bytes, received_bytes;
	struct verdict verdict;
};

/* Of the whole table, whatever is filtered. */
struct top_summary {
	double sent_rate, received_rate;      /* NAN: not known yet */
	double retransmit_ratio;
	double drop_rate;
	bool has_networks, has_containers;    /* columns that would be empty else */
	size_t end_width, peer_width;         /* the longest address with port, and peer; at least those of IPv4 */
};

struct top_rows {
	enum top_view view;
	struct top_row *rows, **order;        /* order[0..n): as asked for */
	size_t n;
	size_t connections;                   /* how many passed the filter; of TOP_DROPS: drops */
	struct top_summary summary;
};

/* -ENOMEM; then the rows are what they were. */
int top_rows_make(struct top_rows *rows, const struct top_table *table, enum top_view view, const struct top_filter *filter);
void top_rows_sort(struct top_rows *rows, enum top_column column, bool reverse);
void top_rows_done(struct top_rows *rows);
/* Where the row with this key is; SIZE_MAX: nowhere. */
size_t top_rows_find(const struct top_rows *rows, uint64_t key);
