/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses and prefixes to and from text, by inet_pton() and inet_ntop() of
 * the C library: they accept the strict forms only ("010.0.0.1" and "10.1" are
 * refused) and inet_ntop() writes what RFC 5952 asks for.
 *
 * Prefixes of IPv4 are counted from the start of the 16-byte form inside and
 * from the start of the IPv4 address in text: 10.0.0.0/8 is 104 bits. Note that
 * ::/0 therefore contains IPv4 addresses too; 0.0.0.0/0 (96 bits) is longer and
 * wins where the longest prefix is looked for.
 */
#include "lib/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MAPPED_BITS 96 /* length of ::ffff:0:0/96, under which IPv4 lies */

static const uint8_t mapped[MAPPED_BITS / 8] = { [10] = 0xff, [11] = 0xff };

bool address_is_ipv4(const struct address *a)
{
	return memcmp(a->bytes, mapped, sizeof(mapped)) == 0;
}

bool address_is_host(const struct address *a)
{
	static const struct address unspecified;

	if (address_is_ipv4(a))
		return a->bytes[12] < 224 && memcmp(a->bytes + 12, unspecified.bytes, 4) != 0;
	return a->bytes[0] != 0xff && memcmp(a, &unspecified, sizeof(*a)) != 0;
}

bool address_is_link_local6(const struct address *a)
{
	return a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80;
}

int address_compare(const struct address *a, const struct address *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

int address_parse(const char *text, struct address *ret_address)
{
	struct address a;

	if (strchr(text, ':')) {
		if (inet_pton(AF_INET6, text, a.bytes) != 1)
			return -EINVAL;
	} else {
		memcpy(a.bytes, mapped, sizeof(mapped));
		if (inet_pton(AF_INET, text, a.bytes + sizeof(mapped)) != 1)
			return -EINVAL;
	}
	*ret_address = a;
	return 0;
}

const char *address_format(const struct address *a, char buf[static ADDRESS_TEXT_MAX])
{
	/* Cannot fail: the families are known and the room is enough for INET6_ADDRSTRLEN. */
	if (address_is_ipv4(a))
		return inet_ntop(AF_INET, a->bytes + sizeof(mapped), buf, ADDRESS_TEXT_MAX);
	return inet_ntop(AF_INET6, a->bytes, buf, ADDRESS_TEXT_MAX);
}

/* Zeroes the bits of `a` from `bits` on; true when it had any set. */
static bool clear_host_bits(struct address *a, unsigned bits)
{
	bool had = false;

	for (unsigned i = 0; i < sizeof(a->bytes); i++) {
		unsigned keep = bits >= 8 * (i + 1) ? 8 : bits > 8 * i ? bits - 8 * i : 0;
		uint8_t mask = (uint8_t)(0xff00u >> keep);

		had |= (a->bytes[i] & ~mask) != 0;
		a->bytes[i] &= mask;
	}
	return had;
}

/* One to three digits without a leading zero. */
static int length_parse(const char *text, unsigned *ret_length)
{
	unsigned length = 0;
	size_t n = strspn(text, "0123456789");

	if (n == 0 || n > 3 || text[n] != '\0' || (text[0] == '0' && n > 1))
		return -EINVAL;
	for (; *text; text++)
		length = length * 10 + (unsigned)(*text - '0');
	*ret_length = length;
	return 0;
}

int prefix_parse(const char *text, struct prefix *ret_prefix, struct error *ret_error)
{
	const char *slash = strchr(text, '/');
	size_t n = slash ? (size_t)(slash - text) : strlen(text);
	unsigned length, max, offset;
	char address_text[ADDRESS_TEXT_MAX], meant[ADDRESS_TEXT_MAX];
	struct prefix p;
	bool dotted;

	if (n == 0)
		return error_set(ret_error, -EINVAL, "\"%.80s\" is not an address or prefix; write one like 10.1.0.0/16, "
				 "fd00::/64 or 192.0.2.1", text);
	snprintf(address_text, sizeof(address_text), "%.*s", n < sizeof(address_text) ? (int)n : 0, text);
	if (address_parse(address_text, &p.address) < 0)
		return error_set(ret_error, -EINVAL, "\"%.*s\" is not an IPv4 or IPv6 address", n < 80 ? (int)n : 80, text);

	/* In the colon form of a mapped address the length is that of the 16-byte form. */
	dotted = !strchr(address_text, ':');
	max = dotted ? 32 : 128;
	offset = dotted ? MAPPED_BITS : 0;
	length = max;
	if (slash && (length_parse(slash + 1, &length) < 0 || length > max))
		return error_set(ret_error, -EINVAL, "\"%.80s\" has no valid prefix length: after the slash of an %s prefix "
				 "goes a number from 0 to %u", text, dotted ? "IPv4" : "IPv6", max);
	p.bits = (uint8_t)(length + offset);
	if (!dotted && address_is_ipv4(&p.address) && p.bits < MAPPED_BITS)
		return error_set(ret_error, -EINVAL, "%.80s cuts into the ::ffff:0:0/96 of an IPv4-mapped address; "
				 "write an IPv4 prefix like 10.0.0.0/8", text);
	if (clear_host_bits(&p.address, p.bits))
		return error_set(ret_error, -EINVAL, "%.80s has host bits set; did you mean %s?", text,
				 prefix_format(&p, meant));
	*ret_prefix = p;
	return 0;
}

const char *prefix_format(const struct prefix *p, char buf[static ADDRESS_TEXT_MAX])
{
	unsigned length = address_is_ipv4(&p->address) && p->bits >= MAPPED_BITS ? p->bits - MAPPED_BITS : p->bits;
	size_t n = strlen(address_format(&p->address, buf));

	snprintf(buf + n, ADDRESS_TEXT_MAX - n, "/%u", length);
	return buf;
}

bool prefix_contains(const struct prefix *p, const struct address *a)
{
	struct address network = *a;

	clear_host_bits(&network, p->bits);
	return address_compare(&network, &p->address) == 0;
}
