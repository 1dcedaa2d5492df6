/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IP addresses and prefixes. Everything is 16 bytes in network order; an IPv4
 * address is held as its IPv4-mapped IPv6 address (::ffff:a.b.c.d, RFC 4291
 * section 2.5.5.2), the form in which dual-stack sockets show it, so one key
 * serves both families in user space and in the BPF maps.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/error.h"

#define ADDRESS_TEXT_MAX 64 /* longest text of an address or prefix, with its NUL */

struct address { uint8_t bytes[16]; };

struct prefix {
	struct address address; /* host bits are zero */
	uint8_t bits;           /* 0..128, counted in the 16-byte form: 10.0.0.0/8 has 104 */
};

bool address_is_ipv4(const struct address *a);
int address_compare(const struct address *a, const struct address *b);
/* Can it be one host's? Not unspecified, not multicast, not of what IPv4 has reserved (from 240.0.0.0 on, with broadcast). */
bool address_is_host(const struct address *a);
bool address_is_link_local6(const struct address *a); /* fe80::/10, which means something with an interface only */

/* "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1". -EINVAL otherwise. */
int address_parse(const char *text, struct address *ret_address);
/* Shortest usual form (RFC 5952); IPv4-mapped is written as IPv4. Returns buf. */
const char *address_format(const struct address *a, char buf[static ADDRESS_TEXT_MAX]);

/* "10.1.0.0/16", "fd00::/64", or a bare address. -EINVAL with a sentence, also
 * when host bits are set ("10.1.2.3/16 has host bits set; did you mean 10.1.0.0/16?"). */
int prefix_parse(const char *text, struct prefix *ret_prefix, struct error *ret_error);
const char *prefix_format(const struct prefix *p, char buf[static ADDRESS_TEXT_MAX]);
bool prefix_contains(const struct prefix *p, const struct address *a);
