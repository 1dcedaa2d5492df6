/* SPDX-License-Identifier: Apache-2.0 */
/* What a relay has done, for people and tests: the log of packets (CSV) and the counters (JSON). */
#pragma once
#include <stdint.h>
#include "lab/impair.h"
#include "lab/schedule.h"
#include "lib/buffer.h"
#include "lib/error.h"

struct record; /* the log; NULL is none */

/* Creates the file and writes the line of names. */
int record_open(const char *path, struct record **ret_record, struct error *ret_error);
/* One line; out_ns is 0 for a packet that never left. */
void record_packet(struct record *record, const struct packet *packet, const void *data, enum fate fate,
		   uint64_t out_ns);
/* What was recorded so far is in the file afterwards. 0 or -errno: something could not be written. */
int record_flush(struct record *record);
int record_close(struct record *record); /* the same, and the end of it */

/* One line of JSON: {"a->b": {...}, "b->a": {...}}. `extra` are counts that the ports keep. */
struct port_counts { uint64_t overrun, unfinished; };
int counts_write(const struct direction directions[static 2], const struct port_counts extra[static 2],
		 struct buffer *out);
