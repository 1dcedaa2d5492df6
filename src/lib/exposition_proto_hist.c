/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Histograms of the protobuf format, read: classic ones become x_bucket, x_sum
 * and x_count, native ones a struct hist (Prometheus native histograms, schema
 * -4..8). One that has both forms is taken as native.
 *
 * A native histogram is two lists to be walked side by side: spans name the
 * buckets, deltas their counts. The work is bounded by the deltas that are
 * there, never by a length a span claims, and the memory by HIST_WINDOW_MAX.
 */
#include <errno.h>
#include <math.h>
#include "lib/decimal.h"
#include "lib/exposition_proto_read.h"

static const proto_shape histogram_shape = {
	[HISTOGRAM_COUNT] = VARINT,
	[HISTOGRAM_SUM] = FIXED64,
	[HISTOGRAM_BUCKET] = BYTES,
	[HISTOGRAM_COUNT_FLOAT] = FIXED64,
	[HISTOGRAM_SCHEMA] = VARINT,
	[HISTOGRAM_ZERO_THRESHOLD] = FIXED64,
	[HISTOGRAM_ZERO_COUNT] = VARINT,
	[HISTOGRAM_ZERO_COUNT_FLOAT] = FIXED64,
	[HISTOGRAM_NEGATIVE_SPAN] = BYTES,
	[HISTOGRAM_NEGATIVE_DELTA] = PACKED,
	[HISTOGRAM_POSITIVE_SPAN] = BYTES,
	[HISTOGRAM_POSITIVE_DELTA] = PACKED,
};

struct histogram {
	struct wire message;
	uint64_t count, zero_count;
	int64_t schema;
	double sum, count_float, zero_count_float, zero_threshold;
	bool native, negative, float_buckets;
};

static int read_histogram_scalars(const struct proto *p, struct wire message, struct histogram *ret_h)
{
	struct histogram h = { .message = message };
	struct field field;
	int r;

	while ((r = proto_next_field(p, &message, histogram_shape, &field)) > 0) {
		switch (field.number) {
		case HISTOGRAM_COUNT:
			h.count = field.value;
			break;
		case HISTOGRAM_SUM:
			h.sum = proto_double(field.value);
			break;
		case HISTOGRAM_COUNT_FLOAT:
			h.count_float = proto_double(field.value);
			break;
		case HISTOGRAM_SCHEMA:
			h.schema = proto_zigzag(field.value);
			break;
		case HISTOGRAM_ZERO_THRESHOLD:
			h.zero_threshold = proto_double(field.value);
			h.native = h.native || h.zero_threshold != 0;
			break;
		case HISTOGRAM_ZERO_COUNT:
			h.zero_count = field.value;
			h.native = h.native || field.value > 0;
			break;
		case HISTOGRAM_ZERO_COUNT_FLOAT:
			h.zero_count_float = proto_double(field.value);
			h.native = h.native || h.zero_count_float != 0;
			break;
		case HISTOGRAM_NEGATIVE_SPAN:
		case HISTOGRAM_NEGATIVE_DELTA:
		case HISTOGRAM_NEGATIVE_COUNT:
			h.native = h.negative = true;
			break;
		case HISTOGRAM_POSITIVE_COUNT:
			h.float_buckets = true;
			h.native = true;
			break;
		case HISTOGRAM_POSITIVE_SPAN:
		case HISTOGRAM_POSITIVE_DELTA:
			h.native = true;
			break;
		}
	}
	*ret_h = h;
	return r;
}

static int read_bucket(struct proto *p, struct wire message, size_t label, bool *ret_infinite)
{
	static const proto_shape shape = {
		[BUCKET_COUNT] = VARINT, [BUCKET_UPPER] = FIXED64, [BUCKET_COUNT_FLOAT] = FIXED64,
	};
	double count = 0, count_float = 0, upper = 0;
	char text[DECIMAL_MAX];
	struct field field;
	int r;

	while ((r = proto_next_field(p, &message, shape, &field)) > 0) {
		if (field.number == BUCKET_COUNT)
			count = (double)field.value;
		else if (field.number == BUCKET_UPPER)
			upper = proto_double(field.value);
		else if (field.number == BUCKET_COUNT_FLOAT)
			count_float = proto_double(field.value);
	}
	if (r < 0)
		return r;
	*ret_infinite = upper == INFINITY;
	(void)decimal_write_bound(text, upper);
	p->labels[label].value = text;
	return proto_emit(p, p->names.data + p->bucket_at, NULL, count_float > 0 ? count_float : count);
}

/* x_bucket for every bucket, +Inf when it was left out, x_sum, x_count. */
static int read_classic(struct proto *p, const struct histogram *h)
{
	double count = h->count_float > 0 ? h->count_float : (double)h->count;
	struct wire message = h->message;
	bool infinite = false;
	struct field field;
	size_t label;
	int r = proto_insert_label(p, h->message.at, "le", &label);

	if (r < 0)
		return r;
	while ((r = proto_next_field(p, &message, histogram_shape, &field)) > 0) {
		if (field.number != HISTOGRAM_BUCKET)
			continue;
		r = read_bucket(p, field.bytes, label, &infinite);
		if (r != 0)
			return r;
	}
	if (r == 0 && !infinite) {
		p->labels[label].value = "+Inf";
		r = proto_emit(p, p->names.data + p->bucket_at, NULL, count);
	}
	if (r != 0)
		return r;
	proto_remove_label(p, label);
	r = proto_emit(p, p->names.data + p->sum_at, NULL, h->sum);
	return r != 0 ? r : proto_emit(p, p->names.data + p->count_at, NULL, count);
}

/* Goes through the deltas of a histogram, whichever way they are written. */
struct deltas {
	struct wire message, packed;
};

static int next_delta(const struct proto *p, struct deltas *deltas, int64_t *ret_delta)
{
	struct field field;
	uint64_t value;
	int r;

	while (deltas->packed.at == deltas->packed.end) {
		r = proto_next_field(p, &deltas->message, histogram_shape, &field);
		if (r <= 0)
			return r;
		if (field.number != HISTOGRAM_POSITIVE_DELTA)
			continue;
		if (field.wire == PROTO_VARINT) {
			*ret_delta = proto_zigzag(field.value);
			return 1;
		}
		deltas->packed = field.bytes;
	}
	r = proto_read_varint(p, &deltas->packed, &value);
	if (r < 0)
		return r;
	*ret_delta = proto_zigzag(value);
	return 1;
}

static int read_span(const struct proto *p, struct wire message, int64_t *ret_offset, uint64_t *ret_length)
{
	static const proto_shape shape = { [SPAN_OFFSET] = VARINT, [SPAN_LENGTH] = VARINT };
	const unsigned char *start = message.at;
	struct field field;
	int64_t offset = 0;
	uint64_t length = 0;
	int r;

	while ((r = proto_next_field(p, &message, shape, &field)) > 0) {
		if (field.number == SPAN_OFFSET)
			offset = proto_zigzag(field.value);
		else if (field.number == SPAN_LENGTH)
			length = field.value;
	}
	if (r < 0)
		return r;
	if (offset < INT32_MIN || offset > INT32_MAX || length > UINT32_MAX)
		return proto_fail(p, start, "a bucket span is longer than 32 bits");
	*ret_offset = offset;
	*ret_length = length;
	return 0;
}

/* The buckets of one span; count is carried from span to span. */
static int add_span(struct proto *p, const unsigned char *at, struct deltas *deltas, int64_t *index, uint64_t length,
		    int64_t *count)
{
	for (; length > 0; length--, (*index)++) {
		int64_t delta;
		int r = next_delta(p, deltas, &delta);

		if (r < 0)
			return r;
		if (r == 0)
			return proto_fail(p, at, "the spans of a native histogram name more buckets than there are");
		if (__builtin_add_overflow(*count, delta, count) || *count < 0)
			return proto_fail(p, at, "a bucket of a native histogram is below 0");
		if (*count == 0)
			continue; /* must not widen the window */
		r = *index < INT32_MIN || *index > INT32_MAX ?
			-ERANGE : hist_add_bucket(&p->hist, (int32_t)*index, (uint64_t)*count);
		if (r == -ERANGE)
			return proto_fail(p, at, "the buckets of a native histogram are too far apart (index %lld)",
				    (long long)*index);
		if (r < 0)
			return error_set(p->error, r, "out of memory for a histogram");
	}
	return 0;
}

static int add_buckets(struct proto *p, const struct histogram *h)
{
	struct deltas deltas = { .message = h->message };
	struct wire message = h->message;
	int64_t index = 0, count = 0, delta;
	bool first = true;
	struct field field;
	int r;

	while ((r = proto_next_field(p, &message, histogram_shape, &field)) > 0) {
		int64_t offset = 0;
		uint64_t length = 0;

		if (field.number != HISTOGRAM_POSITIVE_SPAN)
			continue;
		r = read_span(p, field.bytes, &offset, &length);
		if (r != 0)
			return r;
		if (!first && offset < 0)
			return proto_fail(p, field.bytes.at, "the spans of a native histogram overlap");
		first = false;
		index += offset;
		r = add_span(p, field.bytes.at, &deltas, &index, length, &count);
		if (r < 0)
			return r;
	}
	if (r == 0)
		r = next_delta(p, &deltas, &delta);
	if (r > 0)
		return proto_fail(p, h->message.at,
				  "the spans of a native histogram name fewer buckets than there are");
	return r;
}

static int check_native(const struct proto *p, const struct histogram *h)
{
	const unsigned char *at = h->message.at;

	if (p->type == PROTO_TYPE_GAUGE_HISTOGRAM)
		return proto_fail(p, at, "native gauge histograms are not supported");
	if (h->count_float != 0 || h->zero_count_float != 0 || h->float_buckets)
		return proto_fail(p, at, "native histograms with fractional counts are not supported");
	if (h->negative)
		return proto_fail(p, at, "native histograms of negative values are not supported");
	if (h->schema < HIST_SCHEMA_MIN || h->schema > HIST_SCHEMA_MAX)
		return proto_fail(p, at, "schema %lld of a native histogram is not in %d..%d", (long long)h->schema,
			    HIST_SCHEMA_MIN, HIST_SCHEMA_MAX);
	if (!(h->zero_threshold >= 0) || isinf(h->zero_threshold))
		return proto_fail(p, at, "the zero threshold of a native histogram is below 0 or not finite");
	return 0;
}

static int read_native(struct proto *p, const struct histogram *h)
{
	int r = check_native(p, h);

	if (r < 0)
		return r;
	hist_clear(&p->hist);
	p->hist.schema = (int32_t)h->schema;
	p->hist.zero_threshold = h->zero_threshold;
	p->hist.sum = h->sum;
	hist_add_zero(&p->hist, h->zero_count);
	r = add_buckets(p, h);
	if (r < 0)
		return r;
	/* Observations of NaN make the sum NaN and are in the count, but in no bucket; they are left out. */
	if (p->hist.count != h->count && !(isnan(h->sum) && p->hist.count < h->count))
		return proto_fail(p, h->message.at, "a native histogram counts %llu observations, its buckets %llu",
			    (unsigned long long)h->count, (unsigned long long)p->hist.count);
	return proto_emit(p, p->names.data, &p->hist, 0);
}

int proto_read_histogram(struct proto *p, struct wire message)
{
	struct histogram h;
	int r = read_histogram_scalars(p, message, &h);

	if (r < 0)
		return r;
	return h.native ? read_native(p, &h) : read_classic(p, &h);
}
