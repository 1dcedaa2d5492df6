/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protobuf half of the writer: varint-delimited MetricFamily messages with
 * native histograms, written straight into the output. A message's length
 * stands before it and is only known after it, so one byte is left for it and
 * the message moved up when that is too few (protobuf encoding guide: lengths
 * are varints; most messages here are shorter than 128 bytes).
 *
 * Buckets are runs ("spans") of counts, each written as the difference to the
 * one before. Up to two empty buckets are cheaper than a new span. An empty
 * histogram has one span of length 0, which is how Prometheus tells it from a
 * classic one. Numbers that are 0 are written as well: in proto2 that is what
 * tells 0 from absent.
 */
#include <string.h>
#include "lib/exposition_proto.h"

#define VARINT_MAX 10 /* bytes of the longest varint */
#define SPAN_GAP_MAX 2 /* empty buckets inside a span: 1 byte each, a span is at least 6 */
#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

static size_t encode_varint(char *to, uint64_t value)
{
	size_t n = 0;

	while (value >= 0x80) {
		to[n++] = (char)(value | 0x80);
		value >>= 7;
	}
	to[n++] = (char)value;
	return n;
}

static uint64_t zigzag(int64_t value)
{
	return ((uint64_t)value << 1) ^ (value < 0 ? UINT64_MAX : 0);
}

static void put_varint(struct buffer *out, uint64_t value)
{
	char *to = buffer_reserve(out, VARINT_MAX);

	if (to != NULL) {
		out->len += encode_varint(to, value);
		out->data[out->len] = '\0';
	}
}

static void put_tag(struct buffer *out, unsigned field, enum proto_wire wire)
{
	put_varint(out, (uint64_t)field << 3 | wire);
}

static void put_uint(struct buffer *out, unsigned field, uint64_t value)
{
	put_tag(out, field, PROTO_VARINT);
	put_varint(out, value);
}

static void put_sint(struct buffer *out, unsigned field, int64_t value)
{
	put_uint(out, field, zigzag(value));
}

static void put_double(struct buffer *out, unsigned field, double value)
{
	uint64_t bits;
	char bytes[8];

	memcpy(&bits, &value, sizeof(bits));
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(bits >> (8 * i)); /* little endian, whatever the machine */
	put_tag(out, field, PROTO_FIXED64);
	buffer_append(out, bytes, sizeof(bytes));
}

/* Returns where the message begins; end_message is told. */
static size_t begin_message(struct buffer *out)
{
	buffer_putc(out, 0);
	return out->len;
}

static void end_message(struct buffer *out, size_t start)
{
	char length[VARINT_MAX];
	size_t len, n;

	if (!buffer_ok(out))
		return;
	len = out->len - start;
	n = encode_varint(length, len);
	if (n > 1) {
		if (buffer_reserve(out, n - 1) == NULL)
			return;
		memmove(out->data + start + n - 1, out->data + start, len + 1);
		out->len += n - 1;
	}
	memcpy(out->data + start - 1, length, n);
}

static size_t begin_field(struct buffer *out, unsigned field)
{
	put_tag(out, field, PROTO_BYTES);
	return begin_message(out);
}

/* A protobuf string is UTF-8; one label that is not must not cost the scrape. */
static void put_string(struct buffer *out, unsigned field, const char *text)
{
	size_t len = strlen(text), valid = metric_utf8_prefix(text, len), start;

	put_tag(out, field, PROTO_BYTES);
	if (valid == len) {
		put_varint(out, len);
		buffer_append(out, text, len);
		return;
	}
	start = begin_message(out);
	for (;;) {
		buffer_append(out, text, valid);
		text += valid;
		len -= valid;
		if (len == 0)
			break;
		buffer_puts(out, REPLACEMENT);
		text++;
		len--;
		valid = metric_utf8_prefix(text, len);
	}
	end_message(out, start);
}

static size_t begin_metric(struct exposition *e, const struct label *labels, size_t n_labels)
{
	size_t start = begin_field(e->out, FAMILY_METRIC);

	for (size_t i = 0; i < n_labels; i++) {
		size_t label = begin_field(e->out, METRIC_FIELD_LABEL);

		put_string(e->out, LABEL_NAME, labels[i].name);
		put_string(e->out, LABEL_VALUE, labels[i].value);
		end_message(e->out, label);
	}
	return start;
}

static enum proto_type type_of(const struct metric_family *family)
{
	switch (family->type) {
	case METRIC_COUNTER:
		return PROTO_TYPE_COUNTER;
	case METRIC_GAUGE:
		return PROTO_TYPE_GAUGE;
	case METRIC_HISTOGRAM:
		return PROTO_TYPE_HISTOGRAM;
	default:
		return PROTO_TYPE_UNTYPED;
	}
}

void exposition_proto_family(struct exposition *e)
{
	const struct metric_family *family = e->family;

	e->family_start = begin_message(e->out);
	put_string(e->out, FAMILY_NAME, family->name);
	if (family->help != NULL)
		put_string(e->out, FAMILY_HELP, family->help);
	put_uint(e->out, FAMILY_TYPE, type_of(family));
	if (family->unit != NULL)
		put_string(e->out, FAMILY_UNIT, family->unit);
	e->samples_start = e->out->len;
}

void exposition_proto_family_end(struct exposition *e)
{
	if (e->family == NULL || !buffer_ok(e->out))
		return;
	if (e->out->len > e->samples_start) {
		end_message(e->out, e->family_start);
	} else {
		e->out->len = e->family_start - 1;
		e->out->data[e->out->len] = '\0';
	}
}

void exposition_proto_value(struct exposition *e, const struct label *labels, size_t n_labels, double value)
{
	size_t metric = begin_metric(e, labels, n_labels), message;

	switch (type_of(e->family)) {
	case PROTO_TYPE_COUNTER:
		message = begin_field(e->out, METRIC_FIELD_COUNTER);
		break;
	case PROTO_TYPE_GAUGE:
		message = begin_field(e->out, METRIC_FIELD_GAUGE);
		break;
	default:
		message = begin_field(e->out, METRIC_FIELD_UNTYPED);
		break;
	}
	put_double(e->out, VALUE_VALUE, value);
	end_message(e->out, message);
	end_message(e->out, metric);
}

static void put_span(struct buffer *out, int64_t offset, uint32_t length)
{
	size_t start = begin_field(out, HISTOGRAM_POSITIVE_SPAN);

	put_sint(out, SPAN_OFFSET, offset);
	put_uint(out, SPAN_LENGTH, length);
	end_message(out, start);
}

/* The span at or after `at`: skips empty buckets, then takes buckets up to the next long gap. False at the end. */
static bool next_span(const struct hist *hist, uint32_t at, uint32_t *ret_begin, uint32_t *ret_end)
{
	uint32_t begin = at, end;

	while (begin < hist->n && hist->buckets[begin] == 0)
		begin++;
	if (begin == hist->n)
		return false;
	end = begin + 1;
	for (uint32_t i = end; i < hist->n && i - end <= SPAN_GAP_MAX; i++)
		if (hist->buckets[i] != 0)
			end = i + 1;
	*ret_begin = begin;
	*ret_end = end;
	return true;
}

static void put_spans(struct buffer *out, const struct hist *hist)
{
	uint32_t begin, end = 0;
	int64_t previous_end = 0; /* the first offset counts from bucket 0 */

	if (!next_span(hist, 0, &begin, &end)) {
		put_span(out, 0, 0);
		return;
	}
	do {
		put_span(out, (int64_t)hist->first + begin - previous_end, end - begin);
		previous_end = (int64_t)hist->first + end;
	} while (next_span(hist, end, &begin, &end));
}

static void put_deltas(struct buffer *out, const struct hist *hist)
{
	uint32_t begin, end = 0;
	uint64_t previous = 0;
	size_t start;

	if (!next_span(hist, 0, &begin, &end))
		return;
	/* Packed: every decoder has to take both forms, and this one is shorter by a byte per bucket. */
	start = begin_field(out, HISTOGRAM_POSITIVE_DELTA);
	do {
		for (uint32_t i = begin; i < end; i++) {
			put_varint(out, zigzag((int64_t)(hist->buckets[i] - previous)));
			previous = hist->buckets[i];
		}
	} while (next_span(hist, end, &begin, &end));
	end_message(out, start);
}

void exposition_proto_histogram(struct exposition *e, const struct label *labels, size_t n_labels,
				const struct hist *hist)
{
	size_t metric = begin_metric(e, labels, n_labels);
	size_t message = begin_field(e->out, METRIC_FIELD_HISTOGRAM);

	put_uint(e->out, HISTOGRAM_COUNT, hist->count);
	put_double(e->out, HISTOGRAM_SUM, hist->sum);
	put_sint(e->out, HISTOGRAM_SCHEMA, hist->schema);
	put_double(e->out, HISTOGRAM_ZERO_THRESHOLD, hist->zero_threshold);
	put_uint(e->out, HISTOGRAM_ZERO_COUNT, hist->zero_count);
	put_spans(e->out, hist);
	put_deltas(e->out, hist);
	end_message(e->out, message);
	end_message(e->out, metric);
}
