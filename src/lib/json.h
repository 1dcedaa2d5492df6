/* SPDX-License-Identifier: Apache-2.0 */
/* JSON by jansson. This header is its one home: others include it, not <jansson.h>. */
#pragma once
#include <jansson.h>
#include "lib/buffer.h"

/* Compact text of `value` appended to out; the reference is released. -ENOMEM when value is NULL (jansson's answer to no
 * memory and to text that is not UTF-8) or memory ran out; -EINVAL when it contains itself. Then nothing is appended. */
int json_write(json_t *value, struct buffer *out);
/* A string from bytes that may be anything, up to their NUL or `max` of them: what is not UTF-8 becomes U+FFFD. */
json_t *json_text(const char *text, size_t max);
/* A finite number as JSON, NaN and infinities as null (JSON has none). */
json_t *json_number(double value);
