/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON text from jansson values. jansson refuses to make strings that are not
 * UTF-8 and numbers that are not finite by returning NULL, and its packing
 * functions hand that NULL on; json_write therefore takes NULL for "something
 * on the way failed" and reports it, so that callers need not check each step.
 */
#include "lib/json.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "lib/metric.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */
#define DIGITS 16 /* a time to the microsecond, and 0.1 as 0.1; a 17th would only show how binary fractions differ */

static int append(const char *text, size_t len, void *userdata)
{
	struct buffer *out = userdata;

	buffer_append(out, text, len);
	return buffer_ok(out) ? 0 : -1;
}

int json_write(json_t *value, struct buffer *out)
{
	size_t before = out->len;
	int r = -ENOMEM;

	if (value && buffer_ok(out)) {
		r = json_dump_callback(value, append, out, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(DIGITS));
		/* With room in the buffer, what is left is a value that contains itself, or jansson's own memory. */
		if (r < 0)
			r = buffer_ok(out) ? -EINVAL : -ENOMEM;
	}
	if (r < 0 && out->data && out->len > before) {
		out->len = before;
		out->data[before] = '\0';
	}
	json_decref(value);
	return r;
}

json_t *json_text(const char *text, size_t max)
{
	size_t len = strnlen(text, max), good = metric_utf8_prefix(text, len);
	struct buffer out = BUFFER_INIT;
	json_t *value;

	if (good == len)
		return json_stringn(text, len);
	while (len > 0) {
		good = metric_utf8_prefix(text, len);
		buffer_append(&out, text, good);
		if (good < len) {
			buffer_puts(&out, REPLACEMENT);
			good++;
		}
		text += good;
		len -= good;
	}
	value = buffer_ok(&out) ? json_stringn(out.data, out.len) : NULL;
	buffer_done(&out);
	return value;
}

json_t *json_number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}
