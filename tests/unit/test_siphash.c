/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The expected values are from an independent SipHash-1-3: CPython 3.11's, which
 * hashes bytes with it (key 0: PYTHONHASHSEED=0), and for the other key a second
 * implementation that agrees with CPython's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "lib/siphash.h"

static const struct siphash_key zero, counting = { { 0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull } };

/* Of the bytes 0, 1, .. n - 1, given in two pieces. */
static uint64_t hash_of(const struct siphash_key *key, size_t n, size_t cut)
{
	unsigned char bytes[64];
	struct siphash h;

	for (size_t i = 0; i < n; i++)
		bytes[i] = (unsigned char)i;
	siphash_begin(&h, key);
	siphash_add(&h, bytes, cut);
	siphash_add(&h, bytes + cut, n - cut);
	return siphash_end(&h);
}

static void test_vectors(void **state)
{
	static const struct { size_t n; uint64_t zero, counting; } rows[] = {
		{ 0, 0xd1fba762150c532cull, 0xabac0158050fc4dcull },
		{ 1, 0x68a914128e01e473ull, 0xc9f49bf37d57ca93ull },
		{ 7, 0x2f098ab0c751325aull, 0xd3927d989bb11140ull },
		{ 8, 0xead411e67ebe2eeaull, 0x369095118d299a8eull },
		{ 9, 0x75927f9d95124362ull, 0x25a48eb36c063de4ull },
		{ 15, 0xf30eb725bb91c9eaull, 0xd320d86d2a519956ull },
		{ 16, 0x8972188433a5c5b7ull, 0xcc4fdd1a7d908b66ull },
		{ 63, 0x385d3e39e5f37359ull, 0x9d199062b7bbb3a8ull },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (size_t cut = 0; cut <= rows[i].n; cut++) {
			assert_int_equal(hash_of(&zero, rows[i].n, cut), rows[i].zero);
			assert_int_equal(hash_of(&counting, rows[i].n, cut), rows[i].counting);
		}
}

static uint64_t hash_pair(const char *a, const char *b)
{
	struct siphash h;

	siphash_begin(&h, &counting);
	siphash_string(&h, a);
	siphash_string(&h, b);
	return siphash_end(&h);
}

static void test_strings(void **state)
{
	assert_int_equal(hash_pair("ab", "c"), hash_pair("ab", "c"));
	assert_int_not_equal(hash_pair("ab", "c"), hash_pair("a", "bc"));
	assert_int_not_equal(hash_pair("", "a"), hash_pair("a", ""));
}

static void test_keys_differ(void **state)
{
	struct siphash_key a = { { 0 } }, b = { { 0 } };

	siphash_key_new(&a);
	siphash_key_new(&b);
	assert_memory_not_equal(&a, &b, sizeof(a));
	assert_memory_not_equal(&a, &zero, sizeof(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_keys_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
