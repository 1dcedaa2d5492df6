/* SPDX-License-Identifier: Apache-2.0 */
/* The connection table's rows, for connections*.c only. */
#pragma once
#include "abi_connection.h"
#include "agent/connection_program.h"
#include "agent/connections.h"

/* Ours in the flags, beside CONNECTION_*. */
#define ROW_OUTSTANDING 0x10 /* something is sent and not acknowledged, or waits to be sent */
#define ROW_READING 0x20     /* received data waits for our application */
#define ROW_FULL 0x40        /* the path takes no more, or there is more than it takes */
#define ROW_STREAM 0x80      /* data came a moment ago */
#define ROW_WINDOW 0x100     /* there is more to send, and the far host's buffer has no room for it */

struct table_process {
	uint32_t tgid;
	bool asked;      /* /proc has been asked about its container */
	char comm[16];
	char container[CONTAINER_NAME_MAX];
};

/* What happened since the table before, in jiffies, bytes and segments. interval 0: it was not in that one. */
struct row_change {
	uint64_t sent_bytes, received_bytes;
	uint32_t interval, busy, receive_window, send_buffer, path_full, reading;
	uint32_t streaming;  /* part of waiting_far */
	int32_t waiting_far; /* < 0 takes back what an earlier change had guessed */
	uint32_t sent_segments, retransmits, received_segments, reordered;
	uint32_t pending;    /* idle time so far that nobody's data has ended yet */
	uint32_t guessed;    /* part of it that was counted as waiting_far */
	uint8_t habits;      /* see connection_change.c */
	uint8_t reserved[7];
};
_Static_assert(sizeof(struct row_change) == 80, "80 bytes a row");

struct row {
	struct connection_record record;
	uint32_t process; /* index */
	uint32_t holders;
};

/* What the next table needs of a row. */
struct row_base {
	uint64_t cookie, sent_bytes, received_bytes;
	uint32_t looked, busy, receive_window, send_buffer;
	uint32_t sent_segments, retransmits, received_segments, reordered;
	uint32_t since_sent, since_received, pending, guessed;
	uint16_t flags;
	uint8_t habits, reserved[5];
};
_Static_assert(sizeof(struct row_base) == 80, "80 bytes a row, while a table is made");

void row_base_of(const struct connection_record *record, const struct row_change *change, struct row_base *ret_base);
/* hz: jiffies per second. */
void row_change_of(const struct row_base *base, const struct connection_record *now, unsigned hz,
		   struct row_change *ret_change);
uint16_t row_flags(const struct connection_record *record, unsigned hz);

struct row_index {
	uint64_t cookie;
	uint32_t tgid, row;
};

struct connections {
	const struct peers *peers;
	struct connection_program *program;
	uint32_t rows_max;
	struct connection_wanted wanted;
	unsigned hz;
	bool ask_proc;              /* containers may be in a cgroup v1 hierarchy */
	struct row *rows;
	size_t n_rows, room;
	struct row_index *index;    /* one per connection, ordered by cookie */
	struct row_change *changes; /* likewise */
	size_t n;
	uint64_t left_out;
	struct table_process *processes;
	size_t n_processes, processes_room;
	uint64_t *listeners;        /* netns << 32 | port, ordered */
	size_t n_listeners, listeners_room;
	uint64_t table;             /* number of the last refresh */
	mono_time refreshed;
	uint64_t cost_ns;           /* of the last refresh */
	double interval_s;          /* 0: there is none before */
};

static inline const struct row *table_row(const struct connections *c, size_t index)
{
	return &c->rows[c->index[index].row];
}
