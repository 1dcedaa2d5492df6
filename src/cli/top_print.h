/* SPDX-License-Identifier: Apache-2.0 */
/* One table of `netsonde top` as text for people and as a line of JSON, for scripts. */
#pragma once
#include "cli/top_live.h"
#include "lib/buffer.h"

/* "12 connections  out 1.2 MB/s  in 3 kB/s  retrans 0.1%  drops 0/s" */
void top_write_summary(const struct top_table *table, const struct top_summary *summary, bool bits, struct buffer *out);
/* Of live's table and rows. A head, the rows, an empty line. */
void top_write_batch(const struct top_live *live, struct buffer *out);
/* One object and '\n'. -ENOMEM. */
int top_write_json(const struct top_live *live, struct buffer *out);
