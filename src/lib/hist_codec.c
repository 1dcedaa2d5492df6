/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stored form of a histogram, version 1. Integers are LEB128 varints
 * (7 bits a byte, least significant first), signed ones zigzagged:
 *
 *   byte    1, the version
 *   varint  schema, zigzag
 *   varint  zero_threshold: the bytes of the double reversed, so that the usual
 *           thresholds (0, a power of two) take one to three bytes
 *   8 bytes sum, a little-endian double
 *   varint  zero_count
 *   varint  count, the saturating sum of zero_count and all buckets
 *   varint  number of buckets that are not empty
 *   then for each of them, upwards:
 *   varint  index, zigzag, for the first; later the empty buckets in between
 *   varint  its count, not 0
 *
 * One histogram has exactly one form: padded varints, empty buckets and
 * trailing bytes are refused. The input of hist_decode is hostile.
 */
#include "lib/hist.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "lib/buffer.h"

#define VERSION 1
#define VARINT_MAX 10 /* bytes of a 64-bit varint */

static void put_varint(struct buffer *out, uint64_t value)
{
	unsigned char bytes[VARINT_MAX];
	size_t n = 0;

	while (value >= 0x80) {
		bytes[n++] = (unsigned char)(value | 0x80);
		value >>= 7;
	}
	bytes[n++] = (unsigned char)value;
	buffer_append(out, bytes, n);
}

static uint64_t zigzag(int64_t value)
{
	return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
}

static int64_t unzigzag(uint64_t value)
{
	return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
}

static uint64_t double_bits(double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

static double double_from_bits(uint64_t bits)
{
	double value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

int hist_encode(const struct hist *h, struct buffer *out)
{
	uint64_t sum = htole64(double_bits(h->sum)), n_used = 0, total = h->zero_count;
	int64_t previous = -1;
	char version = VERSION;

	for (uint32_t i = 0; i < h->n; i++) {
		n_used += h->buckets[i] > 0;
		if (__builtin_add_overflow(total, h->buckets[i], &total))
			total = UINT64_MAX;
	}
	if (total != h->count || !hist_parameters_valid(h->schema, h->zero_threshold))
		return -EINVAL;

	buffer_append(out, &version, 1);
	put_varint(out, zigzag(h->schema));
	put_varint(out, __builtin_bswap64(double_bits(h->zero_threshold)));
	buffer_append(out, &sum, sizeof(sum));
	put_varint(out, h->zero_count);
	put_varint(out, h->count);
	put_varint(out, n_used);
	for (uint32_t i = 0; i < h->n; i++) {
		if (h->buckets[i] == 0)
			continue;
		put_varint(out, previous < 0 ? zigzag((int64_t)h->first + i) : (uint64_t)(i - previous - 1));
		put_varint(out, h->buckets[i]);
		previous = i;
	}
	return buffer_ok(out) ? 0 : -ENOMEM;
}

struct cursor { const unsigned char *at, *end; };

static int get_varint(struct cursor *c, uint64_t *ret_value)
{
	uint64_t value = 0;

	for (unsigned shift = 0; c->at < c->end && shift < 64; shift += 7) {
		unsigned char byte = *c->at++;

		if (shift == 63 && byte > 1)
			return -EBADMSG; /* beyond 64 bits */
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte & 0x80)
			continue;
		if (byte == 0 && shift > 0)
			return -EBADMSG; /* padded */
		*ret_value = value;
		return 0;
	}
	return -EBADMSG;
}

static int get_double(struct cursor *c, double *ret_value)
{
	uint64_t le;

	if (c->end - c->at < (ptrdiff_t)sizeof(le))
		return -EBADMSG;
	memcpy(&le, c->at, sizeof(le));
	c->at += sizeof(le);
	*ret_value = double_from_bits(le64toh(le));
	return 0;
}

/* Everything before the buckets; they are left to be checked against *ret_count. */
static int get_head(struct cursor *c, struct hist *h, uint64_t *ret_count, uint64_t *ret_n_used)
{
	uint64_t schema, threshold, zero_count;
	double zero_threshold;

	if (c->at == c->end || *c->at++ != VERSION)
		return -EBADMSG;
	if (get_varint(c, &schema) < 0 || get_varint(c, &threshold) < 0 || get_double(c, &h->sum) < 0 ||
	    get_varint(c, &zero_count) < 0 || get_varint(c, ret_count) < 0 || get_varint(c, ret_n_used) < 0)
		return -EBADMSG;
	zero_threshold = double_from_bits(__builtin_bswap64(threshold));
	if (!hist_parameters_valid(unzigzag(schema), zero_threshold))
		return -EBADMSG;
	h->schema = (int32_t)unzigzag(schema);
	h->zero_threshold = zero_threshold;
	hist_add_zero(h, zero_count);
	return 0;
}

static int get_buckets(struct cursor *c, struct hist *h, uint64_t n_used)
{
	uint64_t value, count;
	int64_t index = 0;
	int r;

	for (uint64_t i = 0; i < n_used; i++) {
		if (get_varint(c, &value) < 0 || get_varint(c, &count) < 0 || count == 0)
			return -EBADMSG;
		if (i == 0)
			index = unzigzag(value);
		else if (value < HIST_WINDOW_MAX)
			index += (int64_t)value + 1;
		else
			return -EBADMSG;
		if (index < INT32_MIN || index > INT32_MAX)
			return -EBADMSG;
		r = hist_add_bucket(h, (int32_t)index, count);
		if (r < 0)
			return r == -ENOMEM ? r : -EBADMSG;
	}
	return 0;
}

int hist_decode(const void *data, size_t len, struct hist *ret_hist)
{
	const unsigned char *bytes = data;
	struct cursor c = { bytes, len > 0 ? bytes + len : bytes };
	uint64_t count, n_used;
	int r;

	hist_clear(ret_hist);
	r = get_head(&c, ret_hist, &count, &n_used);
	if (r == 0)
		r = get_buckets(&c, ret_hist, n_used);
	if (r == 0 && (c.at != c.end || ret_hist->count != count))
		r = -EBADMSG;
	if (r < 0)
		hist_clear(ret_hist);
	return r;
}
