/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text half of the writer: Prometheus text 0.0.4 and OpenMetrics 1.0.0.
 *
 * One line per sample and up to 20,000 of them a second: each line reserves its
 * worst case once and is then written without a check per byte; the bucket
 * lines of a histogram share their beginning, and the bounds are spelled once
 * per exposition. Nothing here remembers an allocation failure: the buffers are
 * sticky, exposition_end looks at them.
 *
 * Differences of the two: OpenMetrics names a counter's family without _total,
 * has UNIT and EOF, and escapes quotes in HELP.
 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <string.h>
#include "lib/decimal.h"
#include "lib/exposition.h"
#include "lib/exposition_proto.h"

#define TOTAL "_total"
#define TOTAL_LEN (sizeof(TOTAL) - 1)
#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */
#define ESCAPED_MAX 3              /* bytes one byte of a label value becomes: a foreign byte becomes U+FFFD */

static char *put(char *to, const char *text, size_t len)
{
	memcpy(to, text, len);
	return to + len;
}

static char *put_escaped(char *to, const char *value, size_t len)
{
	const char *end = value + len;

	while (value < end) {
		char c = *value;

		if (c == '\\' || c == '"' || c == '\n') {
			*to++ = '\\';
			*to++ = c == '\n' ? 'n' : c;
			value++;
		} else if ((unsigned char)c < 0x80) {
			*to++ = c;
			value++;
		} else {
			size_t n = 1;

			/* Not ASCII: the characters that are whole in the next four bytes go through unchanged. */
			while (n < 4 && value + n < end && (unsigned char)value[n] >= 0x80)
				n++;
			n = metric_utf8_prefix(value, n);
			to = n > 0 ? put(to, value, n) : put(to, REPLACEMENT, sizeof(REPLACEMENT) - 1);
			value += n > 0 ? n : 1;
		}
	}
	return to;
}

static size_t labels_len_max(const struct label *labels, size_t n_labels)
{
	size_t len = 2; /* braces */

	for (size_t i = 0; i < n_labels; i++)
		len += strlen(labels[i].name) + ESCAPED_MAX * strlen(labels[i].value) + 4; /* ="", */
	return len;
}

static char *put_labels(char *to, const struct label *labels, size_t n_labels)
{
	for (size_t i = 0; i < n_labels; i++) {
		if (i > 0)
			*to++ = ',';
		to = put(to, labels[i].name, strlen(labels[i].name));
		*to++ = '=';
		*to++ = '"';
		to = put_escaped(to, labels[i].value, strlen(labels[i].value));
		*to++ = '"';
	}
	return to;
}

/* "name" "suffix" "{labels} ", with room for a number and a line feed after it; NULL when out of memory. */
static char *begin_line(struct exposition *e, const char *suffix, const struct label *labels, size_t n_labels)
{
	size_t name_len = strlen(e->family->name), suffix_len = strlen(suffix);
	char *to = buffer_reserve(e->out, name_len + suffix_len + labels_len_max(labels, n_labels) + 2 + DECIMAL_MAX);

	if (to == NULL)
		return NULL;
	to = put(to, e->family->name, name_len);
	to = put(to, suffix, suffix_len);
	if (n_labels > 0) {
		*to++ = '{';
		to = put_labels(to, labels, n_labels);
		*to++ = '}';
	}
	*to++ = ' ';
	return to;
}

static void end_line(struct exposition *e, char *to)
{
	*to++ = '\n';
	*to = '\0';
	e->out->len = (size_t)(to - e->out->data);
}

static void write_value_line(struct exposition *e, const char *suffix, const struct label *labels, size_t n_labels,
			     double value)
{
	char *to = begin_line(e, suffix, labels, n_labels);

	if (to != NULL)
		end_line(e, to + decimal_write(to, value));
}

static void write_count_line(struct exposition *e, const char *suffix, const struct label *labels, size_t n_labels,
			     uint64_t value)
{
	char *to = begin_line(e, suffix, labels, n_labels);

	if (to != NULL)
		end_line(e, to + decimal_write_u64(to, value));
}

/* "# KEYWORD name " */
static void write_keyword(struct exposition *e, const char *keyword, size_t name_len)
{
	buffer_puts(e->out, keyword);
	buffer_append(e->out, e->family->name, name_len);
	buffer_putc(e->out, ' ');
}

static void write_help(struct exposition *e, const char *help)
{
	for (; *help != '\0'; help++) {
		if (*help == '\\')
			buffer_puts(e->out, "\\\\");
		else if (*help == '\n')
			buffer_puts(e->out, "\\n");
		else if (*help == '"' && e->format == EXPOSITION_OPENMETRICS)
			buffer_puts(e->out, "\\\"");
		else
			buffer_putc(e->out, *help);
	}
	buffer_putc(e->out, '\n');
}

/* Info, stateset and summary would promise lines that exposition_value cannot write. */
static const char *written_type(const struct exposition *e, bool counter)
{
	enum metric_type type = e->family->type;

	if (type == METRIC_GAUGE || type == METRIC_HISTOGRAM || counter)
		return metric_type_name(type);
	return e->format == EXPOSITION_OPENMETRICS ? "unknown" : metric_type_name(METRIC_UNKNOWN);
}

static void write_family(struct exposition *e)
{
	const struct metric_family *family = e->family;
	size_t name_len = strlen(family->name);
	bool openmetrics = e->format == EXPOSITION_OPENMETRICS;
	bool total = name_len > TOTAL_LEN && strcmp(family->name + name_len - TOTAL_LEN, TOTAL) == 0;
	bool counter = family->type == METRIC_COUNTER && (total || !openmetrics);

	if (openmetrics && counter)
		name_len -= TOTAL_LEN;
	if (family->help != NULL) {
		write_keyword(e, "# HELP ", name_len);
		write_help(e, family->help);
	}
	write_keyword(e, "# TYPE ", name_len);
	buffer_puts(e->out, written_type(e, counter));
	buffer_putc(e->out, '\n');
	if (openmetrics && family->unit != NULL) {
		write_keyword(e, "# UNIT ", name_len);
		buffer_puts(e->out, family->unit);
		buffer_putc(e->out, '\n');
	}
}

/* The families of one exposition nearly always share a range of buckets. */
static void spell_bounds(struct exposition *e)
{
	int first = e->family->classic_first_exp, last = e->family->classic_last_exp;

	if (e->bounds.len > 0 && e->bounds_first_exp == first && e->bounds_last_exp == last)
		return;
	buffer_clear(&e->bounds);
	for (int exponent = first; exponent <= last; exponent++) {
		char text[DECIMAL_MAX];
		size_t len = decimal_write_bound(text, ldexp(1.0, exponent));

		buffer_append(&e->bounds, text, len + 1);
	}
	e->bounds_first_exp = first;
	e->bounds_last_exp = last;
}

/* Leaves `name_bucket{labels,le="` in e->line. */
static bool spell_bucket(struct exposition *e, const struct label *labels, size_t n_labels)
{
	static const char bucket[] = "_bucket{", le[] = "le=\"";
	size_t name_len = strlen(e->family->name);
	char *to;

	buffer_clear(&e->line);
	to = buffer_reserve(&e->line, name_len + sizeof(bucket) + labels_len_max(labels, n_labels) + sizeof(le));
	if (to == NULL)
		return false;
	to = put(to, e->family->name, name_len);
	to = put(to, bucket, sizeof(bucket) - 1);
	to = put_labels(to, labels, n_labels);
	if (n_labels > 0)
		*to++ = ',';
	to = put(to, le, sizeof(le) - 1);
	*to = '\0';
	e->line.len = (size_t)(to - e->line.data);
	return true;
}

static void write_buckets(struct exposition *e, const struct hist *hist)
{
	const char *bound = e->bounds.data;
	size_t n_bounds = (size_t)(e->bounds_last_exp - e->bounds_first_exp + 1);
	char *to = buffer_reserve(e->out, (n_bounds + 1) * (e->line.len + 2 * DECIMAL_MAX));

	if (to == NULL)
		return;
	for (size_t i = 0; i <= n_bounds; i++) {
		uint64_t count = hist->count;

		to = put(to, e->line.data, e->line.len);
		if (i < n_bounds) {
			size_t len = strlen(bound);

			count = hist_count_below(hist, ldexp(1.0, e->bounds_first_exp + (int)i));
			to = put(to, bound, len);
			bound += len + 1;
		} else {
			to = put(to, "+Inf", 4);
		}
		to = put(to, "\"} ", 3);
		to += decimal_write_u64(to, count);
		*to++ = '\n';
	}
	*to = '\0';
	e->out->len = (size_t)(to - e->out->data);
}

void exposition_begin(struct exposition *e, struct buffer *out, enum exposition_format format)
{
	*e = (struct exposition){ .out = out, .format = format };
}

void exposition_family(struct exposition *e, const struct metric_family *family)
{
	if (e->format == EXPOSITION_PROTOBUF) {
		exposition_proto_family_end(e);
		e->family = family;
		exposition_proto_family(e);
	} else {
		e->family = family;
		write_family(e);
	}
}

void exposition_value(struct exposition *e, const struct label *labels, size_t n_labels, double value)
{
	assert(e->family != NULL && e->family->type != METRIC_HISTOGRAM);
	if (e->format == EXPOSITION_PROTOBUF)
		exposition_proto_value(e, labels, n_labels, value);
	else
		write_value_line(e, "", labels, n_labels, value);
}

void exposition_histogram(struct exposition *e, const struct label *labels, size_t n_labels, const struct hist *hist)
{
	assert(e->family != NULL && e->family->type == METRIC_HISTOGRAM);
	if (e->format == EXPOSITION_PROTOBUF) {
		exposition_proto_histogram(e, labels, n_labels, hist);
		return;
	}
	spell_bounds(e);
	if (!spell_bucket(e, labels, n_labels) || !buffer_ok(&e->bounds))
		return;
	write_buckets(e, hist);
	write_value_line(e, "_sum", labels, n_labels, hist->sum);
	write_count_line(e, "_count", labels, n_labels, hist->count);
}

int exposition_end(struct exposition *e)
{
	bool ok;

	if (e->format == EXPOSITION_PROTOBUF)
		exposition_proto_family_end(e);
	else if (e->format == EXPOSITION_OPENMETRICS)
		buffer_puts(e->out, "# EOF\n");
	ok = buffer_ok(e->out) && buffer_ok(&e->line) && buffer_ok(&e->bounds);
	buffer_done(&e->line);
	buffer_done(&e->bounds);
	e->family = NULL;
	return ok ? 0 : -ENOMEM;
}
