/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hist_decode on arbitrary bytes: it refuses them, or the histogram is sound,
 * encodes to exactly these bytes, and every reading function copes with it. The
 * first byte says where the rest is cut into two; when both parts decode, they
 * are merged and subtracted as well.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buffer.h"
#include "lib/hist.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int truth)
{
	if (!truth)
		abort();
}

static void check_sound(const struct hist *h)
{
	uint64_t total = h->zero_count;

	demand(hist_parameters_valid(h->schema, h->zero_threshold));
	demand(h->n <= h->cap && h->cap <= HIST_WINDOW_MAX);
	for (uint32_t i = 0; i < h->n; i++)
		if (__builtin_add_overflow(total, h->buckets[i], &total))
			total = UINT64_MAX;
	demand(total == h->count);
	demand(h->n == 0 || (h->buckets[0] > 0 && h->buckets[h->n - 1] > 0));
}

static void check_readers(const struct hist *h)
{
	double previous = 0;
	uint64_t below = 0;

	for (int i = 0; i <= 8; i++) {
		double quantile = hist_quantile(h, i / 8.0);

		demand(h->count == 0 ? quantile != quantile : quantile >= 0);
		/* Whole buckets lie above a zero bucket unless the sender cut them. */
		demand(h->count == 0 || h->zero_count > 0 || quantile >= previous);
		previous = quantile;
	}
	for (int e = -80; e <= 80; e += 5) {
		uint64_t now = hist_count_below(h, ldexp(1, e));

		demand(now >= below && now <= h->count);
		below = now;
	}
}

static void check_two(const struct hist *a, const struct hist *b)
{
	struct hist h;

	hist_init(&h, 0, 0);
	demand(hist_copy(&h, a) == 0);
	if (hist_merge(&h, b) == 0) {
		check_sound(&h);
		demand(h.count >= a->count && h.count >= b->count);
		demand(h.schema == (a->schema < b->schema ? a->schema : b->schema));
	}
	check_readers(&h);
	demand(hist_copy(&h, a) == 0);
	if (hist_subtract(&h, b) == 0)
		demand(h.count <= a->count);
	else
		demand(h.count == a->count);
	check_sound(&h);
	hist_done(&h);
}

static int decode(const uint8_t *data, size_t size, struct hist *h)
{
	struct buffer again = BUFFER_INIT;
	int r;

	hist_init(h, HIST_SCHEMA, 0);
	r = hist_decode(data, size, h);
	check_sound(h);
	if (r == 0) {
		demand(hist_encode(h, &again) == 0);
		demand(again.len == size && memcmp(again.data, data, size) == 0);
		check_readers(h);
	} else {
		demand(h->n == 0 && h->count == 0);
	}
	buffer_done(&again);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t cut;
	struct hist a, b;

	if (size == 0)
		return 0;
	cut = data[0] % size;
	data++;
	size--;
	if (decode(data, cut, &a) == 0) {
		if (decode(data + cut, size - cut, &b) == 0) {
			check_two(&a, &b);
			check_two(&b, &a);
		}
		hist_done(&b);
	}
	hist_done(&a);
	return 0;
}
