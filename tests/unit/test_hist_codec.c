/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stored form of a histogram: known bytes, round trips of random
 * histograms, and that no damaged form is taken for a whole one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lib/buffer.h"
#include "lib/hist.h"

#define SEED 20260731u

static uint64_t random_state = SEED;

static uint64_t random_u64(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static void assert_same(const struct hist *a, const struct hist *b)
{
	assert_int_equal(a->schema, b->schema);
	assert_int_equal(a->n, b->n);
	if (a->n > 0) {
		assert_int_equal(a->first, b->first);
		assert_memory_equal(a->buckets, b->buckets, a->n * sizeof(*a->buckets));
	}
	assert_memory_equal(&a->zero_threshold, &b->zero_threshold, sizeof(double));
	assert_true(a->zero_count == b->zero_count && a->count == b->count);
	assert_memory_equal(&a->sum, &b->sum, sizeof(double));
}

static void test_known_bytes(void **unused)
{
	static const unsigned char expected[] = {
		1,                          /* version */
		6,                          /* schema 3 */
		0xbe, 0x20,                 /* 2^-30 = 0x3e10000000000000, reversed 0x103e */
		0, 0, 0, 0, 0, 0, 0xf8, 0x3f, /* sum 1.5 */
		2,                          /* zero_count */
		0xb1, 0x02,                 /* count 305 */
		3,                          /* buckets */
		9, 1,                       /* -5: 1 */
		0, 2,                       /* -4: 2 */
		3, 0xac, 0x02,              /* 0: 300 */
	};
	struct buffer out = BUFFER_INIT;
	struct hist h;

	hist_init(&h, 3, 0x1p-30);
	hist_add_zero(&h, 2);
	hist_add_bucket(&h, -5, 1);
	hist_add_bucket(&h, -4, 2);
	hist_add_bucket(&h, 0, 300);
	h.sum = 1.5;
	buffer_putc(&out, 'x');
	assert_int_equal(hist_encode(&h, &out), 0);
	assert_int_equal(out.len, 1 + sizeof(expected));
	assert_int_equal(out.data[0], 'x');
	assert_memory_equal(out.data + 1, expected, sizeof(expected));
	/* What decode would refuse is not written. */
	h.count++;
	assert_int_equal(hist_encode(&h, &out), -EINVAL);
	assert_int_equal(out.len, 1 + sizeof(expected));
	hist_done(&h);
	buffer_done(&out);
}

static void random_hist(struct hist *h)
{
	unsigned n = (unsigned)(random_u64() % 60);
	int32_t spread = 1 + (int32_t)(random_u64() % 400);

	hist_clear(h);
	h->schema = HIST_SCHEMA_MIN + (int32_t)(random_u64() % (HIST_SCHEMA_MAX - HIST_SCHEMA_MIN + 1));
	h->zero_threshold = random_u64() & 1 ? 0 : ldexp((double)random_u64(), -80);
	for (unsigned i = 0; i < n; i++) {
		int32_t index = (int32_t)(random_u64() % (uint32_t)spread) - spread / 2;
		int r = hist_add_bucket(h, index, random_u64() >> (random_u64() % 64));

		assert_true(r == 0 || r == -ERANGE); /* a coarse schema has few indices */
	}
	if (random_u64() & 1)
		hist_add_zero(h, random_u64() >> (random_u64() % 64));
	h->sum = ldexp((double)random_u64(), (int)(random_u64() % 80) - 90);
}

static void test_round_trips(void **unused)
{
	struct buffer out = BUFFER_INIT;
	struct hist h, back;

	printf("# seed %u\n", SEED);
	hist_init(&h, 3, 0);
	hist_init(&back, 0, 0);
	for (int i = 0; i < 3000; i++) {
		random_hist(&h);
		buffer_clear(&out);
		assert_int_equal(hist_encode(&h, &out), 0);
		assert_int_equal(hist_decode(out.data, out.len, &back), 0);
		assert_same(&h, &back);
	}
	hist_done(&h);
	hist_done(&back);
	buffer_done(&out);
}

/* Sums are whatever a foreign exporter sent: they go through bit by bit. */
static void test_odd_sums(void **unused)
{
	static const double sums[] = { -0.0, INFINITY, -INFINITY, NAN, -1e300, 0x1p-1074 };
	struct buffer out = BUFFER_INIT;
	struct hist h, back;

	hist_init(&h, 3, 0);
	hist_init(&back, 0, 0);
	hist_add_bucket(&h, 7, 1);
	for (size_t i = 0; i < sizeof(sums) / sizeof(sums[0]); i++) {
		h.sum = sums[i];
		buffer_clear(&out);
		assert_int_equal(hist_encode(&h, &out), 0);
		assert_int_equal(hist_decode(out.data, out.len, &back), 0);
		assert_same(&h, &back);
	}
	hist_done(&h);
	hist_done(&back);
	buffer_done(&out);
}

/* So is the one odd threshold that counts as valid. */
static void test_negative_zero_threshold(void **unused)
{
	struct buffer out = BUFFER_INIT;
	struct hist h, back;

	hist_init(&h, 3, -0.0);
	hist_init(&back, 0, 0);
	hist_observe(&h, 0);
	assert_int_equal(hist_encode(&h, &out), 0);
	assert_int_equal(hist_decode(out.data, out.len, &back), 0);
	assert_same(&h, &back);
	hist_done(&h);
	hist_done(&back);
	buffer_done(&out);
}

static void assert_refused(const void *data, size_t len)
{
	struct hist h;

	hist_init(&h, 3, 0);
	hist_add_bucket(&h, 1, 1);
	assert_int_equal(hist_decode(data, len, &h), -EBADMSG);
	assert_true(h.n == 0 && h.count == 0 && h.zero_count == 0 && h.sum == 0);
	assert_true(h.cap <= HIST_WINDOW_MAX);
	hist_done(&h);
}

static void test_cut_and_prolonged(void **unused)
{
	struct buffer out = BUFFER_INIT;
	struct hist h;

	hist_init(&h, 3, 1e-9);
	hist_add_zero(&h, 1000);
	for (int32_t i = -100; i < 100; i += 3)
		hist_add_bucket(&h, i, (uint64_t)(i + 101) * 50);
	assert_int_equal(hist_encode(&h, &out), 0);
	assert_refused(NULL, 0);
	for (size_t len = 0; len < out.len; len++)
		assert_refused(out.data, len);
	buffer_putc(&out, 0);
	assert_refused(out.data, out.len);
	hist_done(&h);
	buffer_done(&out);
}

#define HEAD(schema) 1, schema, 0, 0, 0, 0, 0, 0, 0, 0, 0
#define REFUSE(...) \
	do { \
		static const unsigned char bytes[] = { __VA_ARGS__ }; \
		assert_refused(bytes, sizeof(bytes)); \
	} while (0)

static void test_hostile(void **unused)
{
	static const unsigned char good[] = { HEAD(6), 0, 3, 2, 10, 1, 0, 2 }, widest[] = { HEAD(6), 0, 2, 2, 0, 1, 0xfe, 0x3f, 1 };
	struct hist h;

	hist_init(&h, 0, 0);
	assert_int_equal(hist_decode(good, sizeof(good), &h), 0);
	assert_true(h.first == 5 && h.n == 2 && h.buckets[0] == 1 && h.buckets[1] == 2 && h.count == 3);
	assert_int_equal(hist_decode(widest, sizeof(widest), &h), 0);
	assert_int_equal(h.n, HIST_WINDOW_MAX);
	hist_done(&h);

	REFUSE(0);
	REFUSE(2, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);                /* version */
	REFUSE(HEAD(18), 0, 0, 0);                                       /* schema 9 */
	REFUSE(HEAD(9), 0, 0, 0);                                        /* schema -5 */
	REFUSE(HEAD(6), 0, 4, 2, 10, 1, 0, 2);                           /* count too large */
	REFUSE(HEAD(6), 0, 2, 2, 10, 1, 0, 2);                           /* count too small */
	REFUSE(HEAD(6), 0, 1, 2, 10, 1, 0, 0);                           /* an empty bucket */
	REFUSE(HEAD(6), 0, 2, 2, 0, 1, 0xff, 0x3f, 1);                   /* one bucket wider than the widest */
	REFUSE(HEAD(6), 0x80, 0, 3, 2, 10, 1, 0, 2);                     /* padded varint */
	REFUSE(HEAD(6), 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f, 1);       /* index INT32_MAX */
	REFUSE(HEAD(6), 0, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 1);       /* index INT32_MIN */
	REFUSE(HEAD(6), 0, 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1); /* INT64_MIN */
	REFUSE(HEAD(6), 0, 2, 2, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1); /* gap UINT64_MAX */
	/* A zero_count of 65 bits, which equals the count once its top bit is dropped. */
	REFUSE(HEAD(6), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,
	       0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0);
	REFUSE(HEAD(6), 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1); /* 2^64 - 1 buckets announced */
	REFUSE(1, 6, 0xbf, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);          /* threshold: a negative double */
	REFUSE(1, 6, 0xff, 0xe0, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0); /* threshold: a NaN */
}

static void test_saturated(void **unused)
{
	struct buffer out = BUFFER_INIT;
	struct hist h, back;

	hist_init(&h, 3, 0);
	hist_init(&back, 0, 0);
	hist_add_bucket(&h, 1, UINT64_MAX);
	hist_add_bucket(&h, 2, UINT64_MAX - 1);
	hist_add_zero(&h, 3);
	assert_int_equal(hist_encode(&h, &out), 0);
	assert_int_equal(hist_decode(out.data, out.len, &back), 0);
	assert_same(&h, &back);
	hist_done(&h);
	hist_done(&back);
	buffer_done(&out);
}

/* Any single changed byte either is refused or gives another histogram whose form is exactly these bytes. */
static void test_flipped_bytes(void **unused)
{
	struct buffer out = BUFFER_INIT, again = BUFFER_INIT;
	struct hist h, back;
	unsigned refused = 0;

	hist_init(&h, 3, 0);
	hist_init(&back, 0, 0);
	for (int32_t i = -60; i < 60; i += 1 + (i & 1))
		hist_add_bucket(&h, i, random_u64() % 300);
	assert_int_equal(hist_encode(&h, &out), 0);
	for (size_t at = 0; at < out.len; at++) {
		for (unsigned flip = 1; flip < 256; flip++) {
			out.data[at] = (char)(out.data[at] ^ flip);
			buffer_clear(&again);
			if (hist_decode(out.data, out.len, &back) < 0) {
				refused++;
			} else {
				assert_int_equal(hist_encode(&back, &again), 0);
				assert_int_equal(again.len, out.len);
				assert_memory_equal(again.data, out.data, out.len);
			}
			out.data[at] = (char)(out.data[at] ^ flip);
		}
	}
	/* All but changes of sum, of the threshold, of the schema and of gaps. */
	assert_true(refused > 100 * out.len);
	hist_done(&h);
	hist_done(&back);
	buffer_done(&out);
	buffer_done(&again);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_bytes),
		cmocka_unit_test(test_round_trips),
		cmocka_unit_test(test_odd_sums),
		cmocka_unit_test(test_negative_zero_threshold),
		cmocka_unit_test(test_cut_and_prolonged),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_saturated),
		cmocka_unit_test(test_flipped_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
