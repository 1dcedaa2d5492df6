/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses and prefixes: both families through one form, text that comes back
 * as RFC 5952 writes it, every kind of wrong text with its sentence, and prefix
 * membership against bit-by-bit comparison.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/address.h"

#define SEED 20260731u

static uint64_t random_state = SEED;

static uint64_t random_u64(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static struct address random_address(void)
{
	struct address a;

	for (size_t i = 0; i < sizeof(a.bytes); i++)
		a.bytes[i] = (uint8_t)(random_u64() & (random_u64() & 1 ? 0xff : 0));
	if (random_u64() & 1) {
		memset(a.bytes, 0, 10);
		memset(a.bytes + 10, 0xff, 2);
	}
	return a;
}

static void assert_text(const char *text, const char *expected)
{
	char buf[ADDRESS_TEXT_MAX];
	struct address a;

	assert_int_equal(address_parse(text, &a), 0);
	assert_ptr_equal(address_format(&a, buf), buf);
	assert_string_equal(buf, expected);
}

static void test_text(void **unused)
{
	static const uint8_t v4[16] = { [10] = 0xff, 0xff, 192, 0, 2, 1 };
	struct address a;

	assert_int_equal(address_parse("192.0.2.1", &a), 0);
	assert_memory_equal(a.bytes, v4, 16);
	assert_true(address_is_ipv4(&a));
	assert_int_equal(address_parse("::1", &a), 0);
	assert_false(address_is_ipv4(&a));

	assert_text("192.0.2.1", "192.0.2.1");
	assert_text("::ffff:192.0.2.1", "192.0.2.1");
	assert_text("::FFFF:c000:0201", "192.0.2.1");
	assert_text("0.0.0.0", "0.0.0.0");
	assert_text("255.255.255.255", "255.255.255.255");
	/* RFC 5952, section 4: lower case, no leading zeros, the first longest run of zeros, never a single one. */
	assert_text("2001:0DB8:0000:0000:0000:0000:0000:0001", "2001:db8::1");
	assert_text("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1");
	assert_text("2001:0:0:1:0:0:0:1", "2001:0:0:1::1");
	assert_text("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1");
	assert_text("::", "::");
	assert_text("fe80:1234:5678:9abc:def0:1234:5678:9abc", "fe80:1234:5678:9abc:def0:1234:5678:9abc");
}

static void test_bad_addresses(void **unused)
{
	static const char *const bad[] = {
		"", " ", "1", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.4 ", " 1.2.3.4", "01.2.3.4", "1.2.3.-4", "0x1.2.3.4",
		":", ":::", "1::2::3", "12345::", "::1%lo", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "::g", "[::1]",
		"::ffff:1.2.3", "localhost", "1.2.3.4/32", "\xff\xfe", "::1\n",
	};
	struct address a, before;

	memset(&a, 0x5a, sizeof(a));
	before = a;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(address_parse(bad[i], &a), -EINVAL);
		assert_memory_equal(&a, &before, sizeof(a));
	}
}

static void test_compare(void **unused)
{
	struct address a, b, c;

	address_parse("10.0.0.1", &a);
	address_parse("10.0.0.2", &b);
	address_parse("2001:db8::", &c);
	assert_true(address_compare(&a, &b) < 0 && address_compare(&b, &a) > 0 && address_compare(&a, &a) == 0);
	assert_true(address_compare(&a, &c) < 0);
}

static void assert_prefix(const char *text, unsigned bits, const char *expected)
{
	char buf[ADDRESS_TEXT_MAX];
	struct error error = { "" };
	struct prefix p;

	assert_int_equal(prefix_parse(text, &p, &error), 0);
	assert_string_equal(error.text, "");
	assert_int_equal(p.bits, bits);
	assert_string_equal(prefix_format(&p, buf), expected);
}

static void test_prefix_text(void **unused)
{
	assert_prefix("10.1.0.0/16", 112, "10.1.0.0/16");
	assert_prefix("0.0.0.0/0", 96, "0.0.0.0/0");
	assert_prefix("192.0.2.1", 128, "192.0.2.1/32");
	assert_prefix("192.0.2.1/32", 128, "192.0.2.1/32");
	assert_prefix("128.0.0.0/1", 97, "128.0.0.0/1");
	assert_prefix("fd00::/64", 64, "fd00::/64");
	assert_prefix("::/0", 0, "::/0");
	assert_prefix("::1", 128, "::1/128");
	assert_prefix("fe80::/10", 10, "fe80::/10");
	assert_prefix("::ffff:10.1.0.0/112", 112, "10.1.0.0/16");
	assert_prefix("::ffff:0:0/96", 96, "0.0.0.0/0");
	assert_prefix("2001:db8:1234:5678:9abc:def0:1234:5678/128", 128, "2001:db8:1234:5678:9abc:def0:1234:5678/128");
}

static void assert_no_prefix(const char *text, const char *sentence)
{
	struct prefix p, before;
	struct error error = { "" };

	memset(&p, 0x5a, sizeof(p));
	before = p;
	assert_int_equal(prefix_parse(text, &p, &error), -EINVAL);
	assert_string_equal(error.text, sentence);
	assert_memory_equal(&p, &before, sizeof(p));
	assert_int_equal(prefix_parse(text, &p, NULL), -EINVAL);
}

static void test_bad_prefixes(void **unused)
{
	char longest[300];

	assert_no_prefix("10.1.2.3/16", "10.1.2.3/16 has host bits set; did you mean 10.1.0.0/16?");
	assert_no_prefix("fd00::1/64", "fd00::1/64 has host bits set; did you mean fd00::/64?");
	assert_no_prefix("1.1.1.1/0", "1.1.1.1/0 has host bits set; did you mean 0.0.0.0/0?");
	assert_no_prefix("10.0.0.129/25", "10.0.0.129/25 has host bits set; did you mean 10.0.0.128/25?");
	assert_no_prefix("", "\"\" is not an address or prefix; write one like 10.1.0.0/16, fd00::/64 or 192.0.2.1");
	assert_no_prefix("/8", "\"/8\" is not an address or prefix; write one like 10.1.0.0/16, fd00::/64 or 192.0.2.1");
	assert_no_prefix("office/8", "\"office\" is not an IPv4 or IPv6 address");
	assert_no_prefix("10.1/16", "\"10.1\" is not an IPv4 or IPv6 address");
	assert_no_prefix("::ffff:10.0.0.0/8", "::ffff:10.0.0.0/8 cuts into the ::ffff:0:0/96 of an IPv4-mapped address; "
			 "write an IPv4 prefix like 10.0.0.0/8");
	for (size_t i = 0; i < 9; i++) {
		static const char *const lengths[] = { "33", "", "-1", "+8", "08", "8/8", "1000", "8 ", "4294967304" };
		char text[64], sentence[160];

		snprintf(text, sizeof(text), "10.0.0.0/%s", lengths[i]);
		snprintf(sentence, sizeof(sentence), "\"%s\" has no valid prefix length: after the slash of an IPv4 prefix "
			 "goes a number from 0 to 32", text);
		assert_no_prefix(text, sentence);
	}
	assert_no_prefix("fd00::/129", "\"fd00::/129\" has no valid prefix length: after the slash of an IPv6 prefix goes a "
			 "number from 0 to 128");
	memset(longest, '1', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(prefix_parse(longest, &(struct prefix){ .bits = 0 }, NULL), -EINVAL);
}

static bool first_bits_equal(const struct address *a, const struct address *b, unsigned bits)
{
	for (unsigned i = 0; i < bits; i++)
		if ((a->bytes[i / 8] ^ b->bytes[i / 8]) & (0x80 >> i % 8))
			return false;
	return true;
}

static void test_contains(void **unused)
{
	struct prefix p;
	struct address a;

	printf("# seed %u\n", SEED);
	assert_int_equal(prefix_parse("10.0.0.0/8", &p, NULL), 0);
	address_parse("10.255.0.1", &a);
	assert_true(prefix_contains(&p, &a));
	address_parse("11.0.0.0", &a);
	assert_false(prefix_contains(&p, &a));
	address_parse("a00::", &a);
	assert_false(prefix_contains(&p, &a));

	for (int i = 0; i < 20000; i++) {
		char text[ADDRESS_TEXT_MAX], again[ADDRESS_TEXT_MAX];
		struct prefix parsed;

		p.address = random_address();
		p.bits = (uint8_t)(random_u64() % 129);
		for (unsigned bit = p.bits; bit < 128; bit++)
			p.address.bytes[bit / 8] &= (uint8_t)~(0x80 >> bit % 8);
		a = random_u64() & 1 ? random_address() : p.address;
		a.bytes[random_u64() % 16] ^= (uint8_t)(1 << random_u64() % 8);
		assert_int_equal(prefix_contains(&p, &a), first_bits_equal(&p.address, &a, p.bits));
		assert_true(prefix_contains(&p, &p.address));

		/* Text comes back as the same prefix, and an address as the same address. */
		assert_int_equal(prefix_parse(prefix_format(&p, text), &parsed, NULL), 0);
		assert_memory_equal(&parsed, &p, sizeof(p));
		assert_int_equal(address_parse(address_format(&a, again), &parsed.address), 0);
		assert_memory_equal(&parsed.address, &a, sizeof(a));
	}
}

static void test_kinds(void **state)
{
	static const struct { const char *text; bool host, link_local; } cases[] = {
		{ "10.0.0.1", true, false }, { "127.0.0.1", true, false }, { "223.255.255.255", true, false }, { "0.0.0.1", true, false },
		{ "169.254.0.1", true, false }, { "0.0.0.0", false, false }, { "224.0.0.1", false, false }, { "240.0.0.1", false, false },
		{ "255.255.255.255", false, false }, { "::1", true, false }, { "fd00::1", true, false }, { "::", false, false },
		{ "ff02::1", false, false }, { "fe80::1", true, true }, { "febf::1", true, true }, { "fec0::1", true, false },
		{ "fe7f::1", true, false }, { "::ffff:224.0.0.1", false, false },
	};
	struct address a;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(address_parse(cases[i].text, &a), 0);
		assert_int_equal(address_is_host(&a), cases[i].host);
		assert_int_equal(address_is_link_local6(&a), cases[i].link_local);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_bad_addresses),
		cmocka_unit_test(test_compare),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_prefix_text),
		cmocka_unit_test(test_bad_prefixes),
		cmocka_unit_test(test_contains),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
