/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing JSON straight into a buffer (RFC 8259), for answers with 100,000s of
 * points, where building a tree of objects first would cost more than the query.
 * Strings may be hostile: what is not UTF-8 becomes U+FFFD, so the output always
 * is valid.
 */
#pragma once
#include <stdint.h>
#include "lib/buffer.h"
#include "lib/metric.h"

void json_text_string(struct buffer *out, const char *s);
/* A number as PromQL's API writes it: in quotes, shortest form, NaN, +Inf, -Inf. */
void json_text_value(struct buffer *out, double value);
void json_text_number(struct buffer *out, double value); /* bare; null for what JSON has no number for */
void json_text_seconds(struct buffer *out, int64_t ms);  /* Unix seconds with 3 decimals, bare */
void json_text_labels(struct buffer *out, const struct label *labels, size_t n); /* {"name":"value",...} */
