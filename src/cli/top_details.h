/* SPDX-License-Identifier: Apache-2.0 */
/* The long texts of `netsonde top`: all that is known of a connection, and the help. Clean lines, ended by '\n'. */
#pragma once
#include "cli/top_live.h"
#include "lib/buffer.h"

/* Wrapped to `width` columns. */
void top_write_details(const struct connection *connection, bool bits, size_t width, struct buffer *out);
void top_write_help(const struct top_live *live, struct buffer *out);
