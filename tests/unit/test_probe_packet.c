/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Probes as bytes: checksums against a plain sum made here, an ICMP path's constant checksum, STAMP's fields at the
 * offsets of RFC 8762's figures, and what is read from the quotations of ICMP errors, whole, cut and broken.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "agent/probe/hmac_key.h"
#include "agent/probe/probe_packet.h"

static struct probe_ends ends_of(const char *source, const char *destination)
{
	struct probe_ends ends = { .source_port = 0xabcd, .destination_port = 862 };

	assert_int_equal(address_parse(source, &ends.source), 0);
	assert_int_equal(address_parse(destination, &ends.destination), 0);
	return ends;
}

/* RFC 1071 as it is written: 16 bits after another, the carry at once. */
static uint16_t plain_sum(uint16_t sum, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i += 2) {
		uint32_t next = sum + (uint32_t)(bytes[i] << 8 | (i + 1 < len ? bytes[i + 1] : 0));

		sum = (uint16_t)(next > 0xffff ? next - 0xffff : next);
	}
	return sum;
}

/* The packet's sum with its pseudo header, made as a receiver makes it. 0xffff: the checksum is right. */
static uint16_t received_sum(const struct probe_ends *ends, uint8_t protocol, const uint8_t *packet, size_t len)
{
	const uint8_t rest[8] = { 0, 0, (uint8_t)(len >> 8), (uint8_t)len, 0, 0, 0, protocol };
	const size_t skip = address_is_ipv4(&ends->source) ? 12 : 0;
	uint16_t sum = 0;

	if (protocol != IPPROTO_ICMP) {
		sum = plain_sum(sum, ends->source.bytes + skip, 16 - skip);
		sum = plain_sum(sum, ends->destination.bytes + skip, 16 - skip);
		sum = plain_sum(sum, rest, sizeof(rest));
	}
	return plain_sum(sum, packet, len);
}

static uint16_t read16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t read32(const uint8_t *at)
{
	return (uint32_t)read16(at) << 16 | read16(at + 2);
}

static void test_checksum(void **state)
{
	/* RFC 1071, section 3. */
	static const uint8_t example[] = { 0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7 };
	uint8_t bytes[1500];

	assert_int_equal(probe_checksum(example, sizeof(example), 0), (uint16_t)~0xddf2);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 37 + (i >> 8) * 11);
	for (size_t len = 0; len <= sizeof(bytes); len += len < 20 ? 1 : 37)
		assert_int_equal(probe_checksum(bytes, len, 0x1234), (uint16_t)~plain_sum(0x1234, bytes, len));
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(probe_checksum(bytes, sizeof(bytes), 0xffffffff), 0);
}

static void test_payload_is_raised(void **state)
{
	assert_int_equal(probe_packet_payload(PROBE_ICMP, false, 0), 16);
	assert_int_equal(probe_packet_payload(PROBE_ICMP, false, 56), 56);
	assert_int_equal(probe_packet_payload(PROBE_STAMP, false, 0), 44);
	assert_int_equal(probe_packet_payload(PROBE_STAMP, false, 45), 48); /* room for a TLV's header */
	assert_int_equal(probe_packet_payload(PROBE_STAMP, true, 44), 112);
	assert_int_equal(probe_packet_payload(PROBE_STAMP, true, 1000), 1000);
	assert_int_equal(probe_packet_payload(PROBE_TCP, false, 1000), 0);
}

static void test_icmp_keeps_a_paths_checksum(void **state)
{
	static const uint16_t payloads[] = { 16, 17, 56, 1472 }, checksums[] = { 1, 0x1234, 0xfffe, 0x8000 };
	static const char *const addresses[2][2] = { { "192.0.2.1", "198.51.100.7" }, { "2001:db8::1", "fe80::5" } };
	uint8_t packet[1500];

	for (size_t v6 = 0; v6 < 2; v6++)
		for (size_t c = 0; c < 4; c++)
			for (size_t n = 0; n < 4; n++)
				for (uint32_t sequence = 0; sequence < 70000; sequence += 4999) {
					struct probe_ends ends = ends_of(addresses[v6][0], addresses[v6][1]);
					uint64_t cookie = sequence * 0x9e3779b97f4a7c15ull;

					probe_packet_icmp(packet, &ends, payloads[n], (uint16_t)sequence, cookie, checksums[c]);
					assert_int_equal(read16(packet + 2), checksums[c]);
					assert_int_equal(received_sum(&ends, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, packet,
								      8u + payloads[n]), 0xffff);
					assert_int_equal(packet[0], v6 ? 128 : 8);
					assert_int_equal(packet[1], 0);
					assert_int_equal(read16(packet + 4), 0xabcd);
					assert_int_equal(read16(packet + 6), sequence & 0xffff);
					assert_memory_equal(packet + 8, &cookie, 8);
				}
}

static void test_stamp(void **state)
{
	const uint64_t timestamp = 0x1122334455667788;
	uint8_t packet[8 + 200];

	for (int v6 = 0; v6 < 2; v6++) {
		struct probe_ends ends = v6 ? ends_of("2001:db8::1", "2001:db8::2") : ends_of("192.0.2.1", "192.0.2.2");

		memset(packet, 0xee, sizeof(packet));
		probe_packet_stamp(packet, &ends, 44, 0xdeadbeef, timestamp, 0x8001, NULL);
		assert_int_equal(received_sum(&ends, IPPROTO_UDP, packet, 52), 0xffff);
		assert_int_equal(read16(packet), 0xabcd);
		assert_int_equal(read16(packet + 2), 862);
		assert_int_equal(read16(packet + 4), 52);
		/* RFC 8762, figure 2: sequence 0, timestamp 4, error estimate 12, the rest must be zero. */
		assert_int_equal(read32(packet + 8), 0xdeadbeef);
		assert_memory_equal(packet + 12, &timestamp, 8);
		assert_int_equal(read16(packet + 20), 0x8001);
		for (size_t i = 22; i < 52; i++)
			assert_int_equal(packet[i], 0);
		assert_int_equal(packet[52], 0xee);
	}
}

static void test_stamp_padding_is_a_tlv(void **state)
{
	struct probe_ends ends = ends_of("192.0.2.1", "192.0.2.2");
	uint8_t packet[8 + 101];

	probe_packet_stamp(packet, &ends, 101, 1, 2, 3, NULL);
	assert_int_equal(received_sum(&ends, IPPROTO_UDP, packet, sizeof(packet)), 0xffff);
	/* RFC 8972, section 4: flags (U), type 1, length of what follows. */
	assert_int_equal(packet[8 + 44], 0x80);
	assert_int_equal(packet[8 + 45], 1);
	assert_int_equal(read16(packet + 8 + 46), 101 - 48);
}

static void test_stamp_authenticated(void **state)
{
	struct probe_ends ends = ends_of("2001:db8::1", "2001:db8::2");
	const uint64_t timestamp = 0x1122334455667788;
	struct probe_hmac_key key;
	uint8_t packet[8 + 112];

	hmac_key_init(&key, "secret", 6);
	probe_packet_stamp(packet, &ends, 112, 7, timestamp, 0x4321, &key);
	assert_int_equal(received_sum(&ends, IPPROTO_UDP, packet, sizeof(packet)), 0xffff);
	/* RFC 8762, figure 4: sequence 0, timestamp 16, error estimate 24, HMAC 96. */
	assert_int_equal(read32(packet + 8), 7);
	assert_memory_equal(packet + 8 + 16, &timestamp, 8);
	assert_int_equal(read16(packet + 8 + 24), 0x4321);
	assert_int_equal(hmac_verify(&key, packet + 8, packet + 8 + 96), 1);
	packet[8 + 3] ^= 1;
	assert_int_equal(hmac_verify(&key, packet + 8, packet + 8 + 96), 0);
}

static void test_tcp(void **state)
{
	for (int v6 = 0; v6 < 2; v6++) {
		struct probe_ends ends = v6 ? ends_of("2001:db8::1", "2001:db8::2") : ends_of("192.0.2.1", "192.0.2.2");
		uint8_t packet[PROBE_PACKET_TCP_LEN];

		probe_packet_tcp(packet, &ends, 0x12345678);
		assert_int_equal(received_sum(&ends, IPPROTO_TCP, packet, sizeof(packet)), 0xffff);
		assert_int_equal(read16(packet), 0xabcd);
		assert_int_equal(read16(packet + 2), 862);
		assert_int_equal(read32(packet + 4), 0x12345678);
		assert_int_equal(read32(packet + 8), 0);
		assert_int_equal(packet[12], 6 << 4);
		assert_int_equal(packet[13], 2);
		assert_int_equal(probe_packet_checksum(PROBE_TCP, packet), read16(packet + 16));
		probe_packet_reset(packet, &ends, 0x12345678);
		assert_int_equal(received_sum(&ends, IPPROTO_TCP, packet, PROBE_PACKET_RESET_LEN), 0xffff);
		assert_int_equal(read16(packet + 2), 862);
		assert_int_equal(read32(packet + 4), 0x12345679);
		assert_int_equal(packet[12], 5 << 4);
		assert_int_equal(packet[13], 4);
	}
}

/* The IP header in front of a packet, as a router quotes it; options: bytes. Returns its length. */
static size_t put_header(uint8_t *out, const struct probe_ends *ends, uint8_t protocol, size_t options)
{
	if (!address_is_ipv4(&ends->destination)) {
		memset(out, 0, 40);
		out[0] = 0x60;
		out[6] = protocol;
		memcpy(out + 8, ends->source.bytes, 16);
		memcpy(out + 24, ends->destination.bytes, 16);
		return 40;
	}
	memset(out, 0, 20 + options);
	out[0] = (uint8_t)(0x40 | (20 + options) / 4);
	out[9] = protocol;
	memcpy(out + 12, ends->source.bytes + 12, 4);
	memcpy(out + 16, ends->destination.bytes + 12, 4);
	return 20 + options;
}

static void test_quotes(void **state)
{
	static const char *const addresses[2][2] = { { "192.0.2.1", "198.51.100.7" }, { "2001:db8::1", "2001:db8::7" } };
	const uint64_t cookie = 0x0102030405060708;
	struct probe_hmac_key key;
	uint8_t quoted[300];
	struct probe_quote q;

	hmac_key_init(&key, "secret", 6);
	for (int v6 = 0; v6 < 2; v6++) {
		struct probe_ends ends = ends_of(addresses[v6][0], addresses[v6][1]);
		size_t header = put_header(quoted, &ends, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, 8);

		probe_packet_icmp(quoted + header, &ends, 32, 77, cookie, 0x4242);
		for (size_t len = 0; len < header + 40; len++) {
			assert_int_equal(probe_packet_quote(quoted, len, v6, &q), len >= header + 8);
			if (len < header + 8)
				continue;
			assert_int_equal(q.protocol, PROBE_ICMP);
			assert_int_equal(address_compare(&q.destination, &ends.destination), 0);
			assert_int_equal(q.source_port, 0xabcd);
			assert_int_equal(q.destination_port, 0);
			assert_int_equal(q.sequence, 77);
			assert_int_equal(q.checksum, 0x4242);
			assert_int_equal(q.has_cookie, len >= header + 16);
			if (q.has_cookie)
				assert_true(q.cookie[0] == cookie);
		}
		header = put_header(quoted, &ends, IPPROTO_UDP, 0);
		probe_packet_stamp(quoted + header, &ends, 44, 78, cookie, 1, NULL);
		assert_true(probe_packet_quote(quoted, header + 52, v6, &q));
		assert_int_equal(q.protocol, PROBE_STAMP);
		assert_int_equal(q.destination_port, 862);
		assert_int_equal(q.sequence, 78);
		assert_int_equal(q.checksum, probe_packet_checksum(PROBE_STAMP, quoted + header));
		assert_true(q.has_cookie && q.cookie[0] == cookie);
		assert_true(probe_packet_quote(quoted, header + 8, v6, &q) && !q.has_cookie);
		probe_packet_stamp(quoted + header, &ends, 112, 79, cookie, 1, &key);
		assert_true(probe_packet_quote(quoted, header + 120, v6, &q) && q.has_cookie && q.cookie[1] == cookie);
		header = put_header(quoted, &ends, IPPROTO_TCP, 0);
		probe_packet_tcp(quoted + header, &ends, 0xcafe0101);
		assert_true(probe_packet_quote(quoted, header + 8, v6, &q));
		assert_int_equal(q.protocol, PROBE_TCP);
		assert_int_equal(q.sequence, 0xcafe0101);
	}
}

static void test_what_is_no_quote(void **state)
{
	struct probe_ends ends = ends_of("192.0.2.1", "198.51.100.7");
	uint8_t quoted[300] = { 0 };
	struct probe_quote q;
	size_t header = put_header(quoted, &ends, IPPROTO_ICMP, 0);

	probe_packet_icmp(quoted + header, &ends, 16, 77, 1, 0x4242);
	assert_true(probe_packet_quote(quoted, header + 24, false, &q));
	assert_false(probe_packet_quote(quoted, header + 24, true, &q));
	quoted[7] = 1; /* a later fragment */
	assert_false(probe_packet_quote(quoted, header + 24, false, &q));
	quoted[7] = 0;
	quoted[0] = 0x44; /* a header shorter than one */
	assert_false(probe_packet_quote(quoted, header + 24, false, &q));
	quoted[0] = 0x4f; /* and one longer than what is there */
	assert_false(probe_packet_quote(quoted, 50, false, &q));
	quoted[0] = 0x45;
	quoted[header] = 0; /* an echo reply */
	assert_false(probe_packet_quote(quoted, header + 24, false, &q));
	quoted[9] = IPPROTO_GRE;
	assert_false(probe_packet_quote(quoted, header + 24, false, &q));
}

/* Exactly as many bytes as there are, in memory of their own, for the sanitizer. */
static void test_random_quotes(void **state)
{
	uint32_t seed = 1;

	for (int round = 0; round < 20000; round++) {
		size_t len = (size_t)round % 90;
		uint8_t *bytes = malloc(len ? len : 1);
		struct probe_quote q;

		for (size_t i = 0; i < len; i++) {
			seed = seed * 1664525 + 1013904223;
			bytes[i] = (uint8_t)(seed >> 24);
		}
		if (len)
			bytes[0] = (uint8_t)((round & 1 ? 0x60 : 0x40) | (bytes[0] & 15));
		if (len > 9)
			bytes[round & 1 ? 6 : 9] = (uint8_t[]){ IPPROTO_UDP, IPPROTO_TCP, IPPROTO_ICMP, IPPROTO_ICMPV6 }[round / 2 % 4];
		if (probe_packet_quote(bytes, len, round & 1, &q))
			assert_true(len >= 28);
		free(bytes);
	}
}

static void test_errors(void **state)
{
	static const struct { bool v6; uint8_t type, code; int error; } rows[] = {
		{ false, 3, 0, ENETUNREACH }, { false, 3, 1, EHOSTUNREACH }, { false, 3, 3, ECONNREFUSED }, { false, 3, 4, EMSGSIZE },
		{ false, 3, 13, EACCES }, { false, 3, 99, EHOSTUNREACH }, { false, 11, 0, ETIME }, { false, 12, 0, EPROTO },
		{ false, 0, 0, 0 }, { false, 4, 0, 0 }, { false, 5, 1, 0 },
		{ true, 1, 0, ENETUNREACH }, { true, 1, 1, EACCES }, { true, 1, 3, EHOSTUNREACH }, { true, 1, 4, ECONNREFUSED },
		{ true, 2, 0, EMSGSIZE }, { true, 3, 0, ETIME }, { true, 1, 200, EHOSTUNREACH }, { true, 129, 0, 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(probe_packet_error(rows[i].v6, rows[i].type, rows[i].code), rows[i].error);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checksum),
		cmocka_unit_test(test_payload_is_raised),
		cmocka_unit_test(test_icmp_keeps_a_paths_checksum),
		cmocka_unit_test(test_stamp),
		cmocka_unit_test(test_stamp_padding_is_a_tlv),
		cmocka_unit_test(test_stamp_authenticated),
		cmocka_unit_test(test_tcp),
		cmocka_unit_test(test_quotes),
		cmocka_unit_test(test_what_is_no_quote),
		cmocka_unit_test(test_random_quotes),
		cmocka_unit_test(test_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
