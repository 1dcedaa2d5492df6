/* SPDX-License-Identifier: Apache-2.0 */
/* See siphash.h. `word` collects the bytes since the last whole block of eight, little endian. */
#include "lib/siphash.h"

#include <string.h>
#include <sys/random.h>

#include "lib/clock.h"

#define ROUNDS_END 3 /* and one for each block */

static uint64_t rotate(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

static void sip_round(uint64_t v[static 4])
{
	v[0] += v[1];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[0] = rotate(v[0], 32);
	v[2] += v[3];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[2] = rotate(v[2], 32);
}

static void add_block(struct siphash *h, uint64_t block)
{
	h->v[3] ^= block;
	sip_round(h->v);
	h->v[0] ^= block;
}

void siphash_key_new(struct siphash_key *ret_key)
{
	/* Early at boot the kernel may have no entropy yet; then the clock and the address space have to do. */
	if (getrandom(ret_key->k, sizeof(ret_key->k), GRND_NONBLOCK) != (ssize_t)sizeof(ret_key->k)) {
		ret_key->k[0] = mono_now().ns;
		ret_key->k[1] = (uint64_t)(uintptr_t)ret_key;
	}
}

void siphash_begin(struct siphash *h, const struct siphash_key *key)
{
	*h = (struct siphash){ .v = { key->k[0] ^ 0x736f6d6570736575ULL, key->k[1] ^ 0x646f72616e646f6dULL,
				      key->k[0] ^ 0x6c7967656e657261ULL, key->k[1] ^ 0x7465646279746573ULL } };
}

void siphash_add(struct siphash *h, const void *data, size_t len)
{
	const unsigned char *bytes = data;

	for (size_t i = 0; i < len; i++) {
		h->word |= (uint64_t)bytes[i] << (h->len & 7) * 8;
		if ((++h->len & 7) == 0) {
			add_block(h, h->word);
			h->word = 0;
		}
	}
}

void siphash_string(struct siphash *h, const char *s)
{
	siphash_add(h, s, strlen(s) + 1);
}

uint64_t siphash_end(struct siphash *h)
{
	add_block(h, h->word | h->len << 56);
	h->v[2] ^= 0xff;
	for (int i = 0; i < ROUNDS_END; i++)
		sip_round(h->v);
	return h->v[0] ^ h->v[1] ^ h->v[2] ^ h->v[3];
}
