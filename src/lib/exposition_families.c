/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The family table of the text parser: a hash table with linear probing. The
 * hash folds the 128-bit product of text and key, eight bytes at a time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "lib/exposition_families.h"

#define SLOTS_MIN 64

__extension__ typedef unsigned __int128 product_t;

static uint64_t fold(uint64_t a, uint64_t b)
{
	product_t product = (product_t)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash_name(const struct families *families, const char *name, size_t len)
{
	uint64_t hash = families->key[0] ^ len, word;

	for (; len >= sizeof(word); name += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, name, sizeof(word));
		hash = fold(hash ^ word, families->key[1]);
	}
	word = 0;
	memcpy(&word, name, len);
	return fold(hash ^ word, families->key[1]);
}

void families_init(struct families *families)
{
	*families = (struct families){ 0 };
	/* Short or refused only before the kernel has any randomness; the table is then merely predictable. */
	if (getrandom(families->key, sizeof(families->key), GRND_NONBLOCK) < 0)
		families->key[0] = (uintptr_t)families;
	families->key[1] |= 1; /* a factor of 0 would lose everything */
}

void families_done(struct families *families)
{
	free(families->slots);
	families->slots = NULL;
	families->n = families->cap = 0;
}

/* The slot of that name, or the free one where it belongs. */
static struct family *slot_of(struct family *slots, size_t cap, uint64_t hash, const char *name, size_t len)
{
	size_t i = hash & (cap - 1);

	while (slots[i].name != NULL &&
	       (slots[i].hash != hash || slots[i].len != len || memcmp(slots[i].name, name, len) != 0))
		i = (i + 1) & (cap - 1);
	return &slots[i];
}

static int grow(struct families *families)
{
	size_t cap = families->cap == 0 ? SLOTS_MIN : families->cap * 2;
	struct family *slots = calloc(cap, sizeof(*slots));

	if (slots == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < families->cap; i++) {
		const struct family *family = &families->slots[i];

		if (family->name != NULL)
			*slot_of(slots, cap, family->hash, family->name, family->len) = *family;
	}
	free(families->slots);
	families->slots = slots;
	families->cap = cap;
	return 0;
}

int families_set(struct families *families, const char *name, size_t len, enum metric_type type, bool gauge_histogram)
{
	uint64_t hash = hash_name(families, name, len);
	struct family *slot;

	if (families->n >= families->cap / 2) {
		int r = grow(families);

		if (r < 0)
			return r;
	}
	slot = slot_of(families->slots, families->cap, hash, name, len);
	if (slot->name == NULL)
		families->n++;
	*slot = (struct family){
		.name = name, .len = len, .hash = hash, .type = type, .gauge_histogram = gauge_histogram,
	};
	return 0;
}

static const struct family *find(const struct families *families, const char *name, size_t len)
{
	const struct family *slot;

	if (families->cap == 0)
		return NULL;
	slot = slot_of(families->slots, families->cap, hash_name(families, name, len), name, len);
	return slot->name == NULL ? NULL : slot;
}

enum suffix { OF_COUNTER = 1, OF_HISTOGRAM = 2, OF_SUMMARY = 4, OF_INFO = 8, OF_GAUGE_HISTOGRAM = 16 };

/* Which kinds of family have a part with that suffix. */
static unsigned suffix_kinds(const char *suffix, size_t len)
{
	static const struct {
		const char *text;
		unsigned kinds;
	} known[] = {
		{ "_bucket", OF_HISTOGRAM | OF_GAUGE_HISTOGRAM },
		{ "_count", OF_HISTOGRAM | OF_SUMMARY },
		{ "_sum", OF_HISTOGRAM | OF_SUMMARY },
		{ "_total", OF_COUNTER },
		{ "_created", OF_COUNTER | OF_HISTOGRAM | OF_SUMMARY },
		{ "_info", OF_INFO },
		{ "_gcount", OF_GAUGE_HISTOGRAM },
		{ "_gsum", OF_GAUGE_HISTOGRAM },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strlen(known[i].text) == len && memcmp(known[i].text, suffix, len) == 0)
			return known[i].kinds;
	return 0;
}

static unsigned kind_of(const struct family *family)
{
	switch (family->type) {
	case METRIC_COUNTER:
		return OF_COUNTER;
	case METRIC_HISTOGRAM:
		return OF_HISTOGRAM;
	case METRIC_SUMMARY:
		return OF_SUMMARY;
	case METRIC_INFO:
		return OF_INFO;
	case METRIC_GAUGE:
		return family->gauge_histogram ? OF_GAUGE_HISTOGRAM : 0;
	default:
		return 0;
	}
}

const struct family *families_of(const struct families *families, const char *name, size_t len, bool *ret_created)
{
	const struct family *family = find(families, name, len);
	const char *suffix;
	size_t suffix_len;
	unsigned kinds;

	*ret_created = false;
	if (family != NULL)
		return family;
	suffix = memrchr(name, '_', len);
	if (suffix == NULL || suffix == name)
		return NULL;
	suffix_len = (size_t)(name + len - suffix);
	kinds = suffix_kinds(suffix, suffix_len);
	if (kinds == 0)
		return NULL;
	family = find(families, name, (size_t)(suffix - name));
	if (family == NULL || (kinds & kind_of(family)) == 0)
		return NULL;
	*ret_created = suffix_len == strlen("_created") && memcmp(suffix, "_created", suffix_len) == 0;
	return family;
}
