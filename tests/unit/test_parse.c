/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packet parser (bpf/parse.h), compiled natively: a table of packets, each
 * written out byte by byte, with everything the parser must find in it; and each
 * of them cut after every byte, in memory that ends there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the above: */
#include <cmocka.h>

#include "parse.h"

#define MACS "\x02\0\0\0\0\x01" "\x02\0\0\0\0\x02"
#define IS_IPV4 "\x08\0"
#define IS_IPV6 "\x86\xdd"
#define IS_ARP "\x08\x06"
#define VLAN(id) "\x81\0" "\x20" id /* priority 1: only the low 12 bits are the identifier */
#define QINQ(id) "\x88\xa8" "\0" id
#define PPPOE(protocol) "\x88\x64" "\x11\0\0\x07\0\x50" protocol

/* 10.0.0.1 -> 10.0.0.2 and fd00::1 -> fd00::2 */
#define IPV4(first, length, fragment, protocol) \
	first "\0" length "\x12\x34" fragment "\x40" protocol "\xab\xcd" "\x0a\0\0\x01" "\x0a\0\0\x02"
#define IPV6(length, next) \
	"\x60\x01\x02\x03" length next "\x40" "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01" "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02"
#define WHOLE "\x40\0" /* do not fragment */

/* 1000 -> 2000 */
#define TCP(words_flags) "\x03\xe8\x07\xd0" "\x01\x02\x03\x04" "\x05\x06\x07\x08" words_flags "\xff\xff" "\xab\xcd" "\0\0"
#define UDP(length) "\x03\xe8\x07\xd0" length "\xab\xcd"
#define STAMPS "\x08\x0a" "\0\0\0\x64" "\0\0\0\xc8" /* 100, 200 */

#define HOP_BY_HOP(next) next "\0" "\x01\x04\0\0\0\0"
#define ROUTING(next) next "\x02" "\0\0" "\0\0\0\0" "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x03"
#define DESTINATION(next) next "\x01" "\x01\x0c\0\0\0\0\0\0\0\0\0\0\0\0"
#define FRAGMENT(next, bits) next "\0" bits "\0\0\0\x07"
#define AH(next) next "\x04" "\0\0" "\0\0\0\x01\0\0\0\x02" "\0\0\0\0\0\0\0\0\0\0\0\0"

#define SOURCE4 { { 0, 0, PACKET_HOST32(0xffffU), PACKET_HOST32(0x0a000001U) } }
#define DESTINATION4 { { 0, 0, PACKET_HOST32(0xffffU), PACKET_HOST32(0x0a000002U) } }
#define SOURCE6 { { PACKET_HOST32(0xfd000000U), 0, 0, PACKET_HOST32(1U) } }
#define DESTINATION6 { { PACKET_HOST32(0xfd000000U), 0, 0, PACKET_HOST32(2U) } }
#define V4(l, t) .source = SOURCE4, .destination = DESTINATION4, .ethertype = 0x0800, .network_offset = (l), .transport_offset = (t)
#define V6(l, t) .source = SOURCE6, .destination = DESTINATION6, .ethertype = 0x86dd, .network_offset = (l), .transport_offset = (t)
#define PORTS .source_port = 1000, .destination_port = 2000
#define IS_TCP(flag) PORTS, .protocol = 6, .sequence = 0x01020304, .acknowledgement = 0x05060708, .tcp_flags = (flag)

struct row {
	const char *name;
	enum packet_start start;
	const char *bytes;
	size_t len;
	int result;
	struct packet expected;
};

#define ROW(name, start, bytes, result, ...) { name, start, bytes, sizeof(bytes) - 1, result, { __VA_ARGS__ } }
#define ETHERNET(name, bytes, ...) ROW(name, PACKET_ETHERNET, MACS bytes, 0, __VA_ARGS__)
#define IP(name, bytes, ...) ROW(name, PACKET_IP, bytes, 0, __VA_ARGS__)
#define NO_IP(name, bytes, ...) ROW(name, PACKET_ETHERNET, MACS bytes, -1, .protocol = 0xff, __VA_ARGS__)

static const struct row rows[] = {
	ETHERNET("TCP, plain", IS_IPV4 IPV4("\x45", "\0\x2a", WHOLE, "\x06") TCP("\x50\x12") "hi",
		V4(14, 34), IS_TCP(PACKET_SYN | PACKET_ACK), .payload_offset = 54, .payload_length = 2, .length = 42),
	ETHERNET("Ethernet's padding is no payload", IS_IPV4 IPV4("\x45", "\0\x28", WHOLE, "\x06") TCP("\x50\x10") "\0\0\0\0\0\0",
		V4(14, 34), IS_TCP(PACKET_ACK), .payload_offset = 54, .length = 40),
	IP("TCP timestamps as they usually are", IPV4("\x45", "\0\x34", WHOLE, "\x06") TCP("\x80\x10") "\x01\x01" STAMPS,
		V4(0, 20), IS_TCP(PACKET_ACK), .flags = PACKET_TIMESTAMPS, .timestamp_value = 100, .timestamp_echo = 200,
		.payload_offset = 52, .length = 52),
	IP("TCP timestamps of a SYN", IPV4("\x45", "\0\x3c", WHOLE, "\x06") TCP("\xa0\x02") "\x02\x04\x05\xb4" "\x04\x02" STAMPS
		"\x01" "\x03\x03\x07",
		V4(0, 20), IS_TCP(PACKET_SYN), .flags = PACKET_TIMESTAMPS, .timestamp_value = 100, .timestamp_echo = 200,
		.payload_offset = 60, .length = 60),
	IP("TCP timestamps behind the end of options", IPV4("\x45", "\0\x34", WHOLE, "\x06") TCP("\x80\x10") "\0\x01" STAMPS,
		V4(0, 20), IS_TCP(PACKET_ACK), .payload_offset = 52, .length = 52),
	IP("TCP timestamps that reach beyond the header", IPV4("\x45", "\0\x34", WHOLE, "\x06") TCP("\x70\x10") "\x01\x01" STAMPS,
		V4(0, 20), IS_TCP(PACKET_ACK), .payload_offset = 48, .payload_length = 4, .length = 52),
	IP("TCP option of length 0", IPV4("\x45", "\0\x34", WHOLE, "\x06") TCP("\x80\x10") "\xfe\0" STAMPS,
		V4(0, 20), IS_TCP(PACKET_ACK), .payload_offset = 52, .length = 52),
	IP("TCP header shorter than itself", IPV4("\x45", "\0\x2a", WHOLE, "\x06") TCP("\x40\x10") "hi",
		V4(0, 20), IS_TCP(PACKET_ACK), .flags = PACKET_TRUNCATED, .length = 42),
	IP("TCP header longer than the packet", IPV4("\x45", "\0\x2a", WHOLE, "\x06") TCP("\xf0\x10") "hi",
		V4(0, 20), IS_TCP(PACKET_ACK), .flags = PACKET_TRUNCATED, .length = 42),
	IP("TCP cut behind its ports", IPV4("\x45", "\0\x1c", WHOLE, "\x06") "\x03\xe8\x07\xd0" "\x01\x02\x03\x04",
		V4(0, 20), PORTS, .protocol = 6, .flags = PACKET_TRUNCATED, .length = 28),
	IP("UDP", IPV4("\x45", "\0\x1e", WHOLE, "\x11") UDP("\0\x0a") "hi",
		V4(0, 20), PORTS, .protocol = 17, .payload_offset = 28, .payload_length = 2, .length = 30),
	IP("UDP that says more than there is", IPV4("\x45", "\0\x1e", WHOLE, "\x11") UDP("\xff\xff") "hi",
		V4(0, 20), PORTS, .protocol = 17, .payload_offset = 28, .payload_length = 2, .length = 30),
	IP("UDP that says less than its header", IPV4("\x45", "\0\x1e", WHOLE, "\x11") UDP("\0\x03") "hi",
		V4(0, 20), PORTS, .protocol = 17, .payload_offset = 28, .payload_length = 2, .length = 30),
	IP("UDP with bytes behind the datagram", IPV4("\x45", "\0\x1e", WHOLE, "\x11") UDP("\0\x09") "hi",
		V4(0, 20), PORTS, .protocol = 17, .payload_offset = 28, .payload_length = 1, .length = 30),
	IP("ICMP", IPV4("\x45", "\0\x1c", WHOLE, "\x01") "\x08\0\xab\xcd\0\x01\0\x02",
		V4(0, 20), .protocol = 1, .length = 28),
	IP("ESP", IPV4("\x45", "\0\x1c", WHOLE, "\x32") "\0\0\0\x01\0\0\0\x02", V4(0, 20), .protocol = 50, .length = 28),
	IP("AH", IPV4("\x45", "\0\x34", WHOLE, "\x33") AH("\x11") UDP("\0\x08"),
		V4(0, 44), PORTS, .protocol = 17, .payload_offset = 52, .length = 52),
	IP("IPv4 options", IPV4("\x47", "\0\x24", WHOLE, "\x11") "\x94\x04\0\0\x01\x01\x01\0" UDP("\0\x08"),
		V4(0, 28), PORTS, .protocol = 17, .payload_offset = 36, .length = 36),
	IP("IPv4 options longer than the packet", IPV4("\x4f", "\0\x1c", WHOLE, "\x11") UDP("\0\x08"),
		V4(0, 0), .protocol = 17, .flags = PACKET_TRUNCATED, .length = 28),
	IP("IPv4 first fragment", IPV4("\x45", "\0\x20", "\x20\0", "\x11") UDP("\x0b\xb8") "data",
		V4(0, 20), PORTS, .protocol = 17, .flags = PACKET_FRAGMENT, .payload_offset = 28, .payload_length = 4, .length = 32),
	IP("IPv4 later fragment", IPV4("\x45", "\0\x1c", "\x20\xb9", "\x06") "no ports",
		V4(0, 0), .protocol = 6, .flags = PACKET_FRAGMENT | PACKET_LATER_FRAGMENT, .length = 28),
	IP("IPv4 last fragment", IPV4("\x45", "\0\x1c", "\x01\x72", "\x11") "no ports",
		V4(0, 0), .protocol = 17, .flags = PACKET_FRAGMENT | PACKET_LATER_FRAGMENT, .length = 28),
	IP("IPv4 length 0: a packet above 64 KB", IPV4("\x45", "\0\0", WHOLE, "\x06") TCP("\x50\x10") "hi",
		V4(0, 20), IS_TCP(PACKET_ACK), .payload_offset = 40, .payload_length = 2, .length = 42),
	IP("IPv4 that says more than there is", IPV4("\x45", "\xff\xff", WHOLE, "\x06") TCP("\x50\x10") "hi",
		V4(0, 20), IS_TCP(PACKET_ACK), .payload_offset = 40, .payload_length = 2, .length = 42),
	IP("IPv4 that says less than its header", IPV4("\x45", "\0\x13", WHOLE, "\x06") TCP("\x50\x10") "hi",
		V4(0, 20), IS_TCP(PACKET_ACK), .payload_offset = 40, .payload_length = 2, .length = 42),
	IP("IPv4 that ends inside TCP", IPV4("\x45", "\0\x1e", WHOLE, "\x06") TCP("\x50\x10") "hi",
		V4(0, 20), PORTS, .protocol = 6, .flags = PACKET_TRUNCATED, .length = 30),

	ETHERNET("IPv6 TCP", IS_IPV6 IPV6("\0\x16", "\x06") TCP("\x50\x10") "hi",
		V6(14, 54), IS_TCP(PACKET_ACK), .payload_offset = 74, .payload_length = 2, .length = 62),
	IP("IPv6 UDP", IPV6("\0\x08", "\x11") UDP("\0\x08"),
		V6(0, 40), PORTS, .protocol = 17, .payload_offset = 48, .length = 48),
	IP("ICMPv6", IPV6("\0\x08", "\x3a") "\x80\0\xab\xcd\0\x01\0\x02", V6(0, 40), .protocol = 58, .length = 48),
	IP("IPv6 with every extension header", IPV6("\0\x58", "\0") HOP_BY_HOP("\x3c") DESTINATION("\x2b") ROUTING("\x2c")
		FRAGMENT("\x33", "\0\x01") AH("\x11") UDP("\x0b\xb8"),
		V6(0, 120), PORTS, .protocol = 17, .flags = PACKET_FRAGMENT, .payload_offset = 128, .length = 128),
	IP("IPv6 atomic fragment", IPV6("\0\x10", "\x2c") FRAGMENT("\x11", "\0\0") UDP("\0\x08"),
		V6(0, 48), PORTS, .protocol = 17, .payload_offset = 56, .length = 56),
	IP("IPv6 later fragment", IPV6("\0\x10", "\x2c") FRAGMENT("\x06", "\x05\xa9") "no ports",
		V6(0, 0), .protocol = 6, .flags = PACKET_FRAGMENT | PACKET_LATER_FRAGMENT, .length = 56),
	IP("IPv6 later fragment of what begins with an extension", IPV6("\0\x10", "\x2c") FRAGMENT("\x3c", "\x05\xa8") "\x06\0rubbi",
		V6(0, 0), .protocol = 0xff, .flags = PACKET_FRAGMENT | PACKET_LATER_FRAGMENT, .length = 55),
	IP("IPv6 no next header", IPV6("\0\0", "\x3b"), V6(0, 40), .protocol = 59, .length = 40),
	IP("IPv6 extension longer than the packet", IPV6("\0\x10", "\x3c") "\x11\xff" "\x01\x04\0\0\0\0" UDP("\0\x08"),
		V6(0, 0), .protocol = 17, .flags = PACKET_TRUNCATED, .length = 56),
	IP("IPv6 extension cut", IPV6("\0\x02", "\x3c") "\x11\0", V6(0, 0), .protocol = 0xff, .flags = PACKET_TRUNCATED, .length = 42),
	IP("IPv6 too many extensions", IPV6("\0\x50", "\x3c") "\x3c\0\x01\x04\0\0\0\0" "\x3c\0\x01\x04\0\0\0\0" "\x3c\0\x01\x04\0\0\0\0"
		"\x3c\0\x01\x04\0\0\0\0" "\x3c\0\x01\x04\0\0\0\0" "\x3c\0\x01\x04\0\0\0\0" "\x3c\0\x01\x04\0\0\0\0"
		"\x3c\0\x01\x04\0\0\0\0" "\x11\0\x01\x04\0\0\0\0" UDP("\0\x08"),
		V6(0, 0), .protocol = 0xff, .length = 120),
	IP("IPv6 jumbogram", IPV6("\0\0", "\0") "\x06\0\xc2\x04\0\x01\0\0" TCP("\x50\x10") "hi",
		V6(0, 48), IS_TCP(PACKET_ACK), .payload_offset = 68, .payload_length = 2, .length = 70),
	IP("IPv6 header numbers mean nothing to IPv4", IPV4("\x45", "\0\x1c", WHOLE, "\x2c") UDP("\0\x08"),
		V4(0, 20), .protocol = 44, .length = 28),

	ETHERNET("VLAN", VLAN("\x64") IS_IPV4 IPV4("\x45", "\0\x1c", WHOLE, "\x11") UDP("\0\x08"),
		V4(18, 38), PORTS, .protocol = 17, .payload_offset = 46, .length = 28, .vlans = 1, .vlan = 100),
	ETHERNET("QinQ", QINQ("\x0a") VLAN("\x64") IS_IPV6 IPV6("\0\x08", "\x11") UDP("\0\x08"),
		V6(22, 62), PORTS, .protocol = 17, .payload_offset = 70, .length = 48, .vlans = 2, .vlan = 100),
	ETHERNET("PPPoE", PPPOE("\0\x21") IPV4("\x45", "\0\x1c", WHOLE, "\x11") UDP("\0\x08"),
		V4(22, 42), PORTS, .protocol = 17, .payload_offset = 50, .length = 28),
	ETHERNET("PPPoE in a VLAN, IPv6", VLAN("\x64") PPPOE("\0\x57") IPV6("\0\x08", "\x11") UDP("\0\x08"),
		V6(26, 66), PORTS, .protocol = 17, .payload_offset = 74, .length = 48, .vlans = 1, .vlan = 100),
	NO_IP("five tags", VLAN("\x01") VLAN("\x02") VLAN("\x03") VLAN("\x04") VLAN("\x05") IS_IPV4 "\x45",
		.ethertype = 0x8100, .network_offset = 30, .vlans = 4, .vlan = 4, .length = 35),
	NO_IP("PPPoE control", "\x88\x64" "\x11\0\0\x07\0\x50" "\xc0\x21" "\x01\x01", .ethertype = 0x8864, .network_offset = 14, .length = 24),
	NO_IP("ARP", IS_ARP "\0\x01\x08\0\x06\x04\0\x01", .ethertype = 0x0806, .network_offset = 14, .length = 22),
	NO_IP("802.3 length", "\0\x26\x42\x42\x03", .ethertype = 0x0026, .network_offset = 14, .length = 17),
	NO_IP("IPv6 behind IPv4's number", IS_IPV4 IPV6("\0\0", "\x3b"), .ethertype = 0x0800, .network_offset = 14, .length = 54),
	NO_IP("IPv4 header shorter than itself", IS_IPV4 IPV4("\x44", "\0\x1c", WHOLE, "\x11") UDP("\0\x08"),
		.ethertype = 0x0800, .network_offset = 14, .length = 42),
	ROW("neither version", PACKET_IP, "\x55zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", -1, .protocol = 0xff, .length = 45),
	ROW("nothing", PACKET_ETHERNET, "", -1, .protocol = 0xff),
	ROW("nothing, as IP", PACKET_IP, "", -1, .protocol = 0xff),
};
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

static int parse(const struct row *row, size_t len, struct packet *ret)
{
	uint8_t *copy = malloc(len ? len : 1);
	struct packet_bytes bytes = { copy, (uint32_t)len };
	int r;

	assert_non_null(copy);
	memcpy(copy, row->bytes, len);
	r = packet_parse(&bytes, 0, row->start, ret);
	free(copy);
	return r;
}

static void compare(const char *name, const struct packet *p, const struct packet *e)
{
#define FIELD(field) \
	if (p->field != e->field) \
		fail_msg("%s: " #field " is %#x, not %#x", name, (unsigned)p->field, (unsigned)e->field)
	FIELD(source_port);
	FIELD(destination_port);
	FIELD(ethertype);
	FIELD(protocol);
	FIELD(flags);
	FIELD(network_offset);
	FIELD(transport_offset);
	FIELD(payload_offset);
	FIELD(length);
	FIELD(payload_length);
	FIELD(sequence);
	FIELD(acknowledgement);
	FIELD(timestamp_value);
	FIELD(timestamp_echo);
	FIELD(tcp_flags);
	FIELD(vlans);
	FIELD(vlan);
#undef FIELD
	if (memcmp(p, e, sizeof(*p)))
		fail_msg("%s: the addresses are wrong", name);
}

static void each_packet(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_ROWS; i++) {
		struct packet packet;
		int r = parse(&rows[i], rows[i].len, &packet);

		if (r != rows[i].result)
			fail_msg("%s: returned %d", rows[i].name, r);
		compare(rows[i].name, &packet, &rows[i].expected);
	}
}

/* The same packet somewhere inside a buffer. */
static void at_an_offset(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_ROWS; i++) {
		struct packet packet, expected = rows[i].expected;
		uint8_t buffer[256] = { 0 };
		struct packet_bytes bytes = { buffer, 0 };

		memcpy(buffer + 5, rows[i].bytes, rows[i].len);
		bytes.len = (uint32_t)rows[i].len + 5;
		assert_int_equal(packet_parse(&bytes, 5, rows[i].start, &packet), rows[i].result);
		if (rows[i].result < 0)
			continue;
		expected.network_offset += 5;
		expected.transport_offset += expected.transport_offset ? 5 : 0;
		expected.payload_offset += expected.payload_offset ? 5 : 0;
		compare(rows[i].name, &packet, &expected);
	}
}

#define KEPT_OR_ZERO(field) \
	if (packet.field && packet.field != whole->field) \
		fail_msg("%s, cut to %zu: " #field " is %#x, not %#x", row->name, len, (unsigned)packet.field, (unsigned)whole->field)

/* What a packet says of itself does not change when its end is missing: it is there, or it is zero. */
static void check_cut(const struct row *row, size_t len)
{
	const struct packet *whole = &row->expected;
	size_t network = whole->network_offset + (whole->ethertype == 0x0800 ? 20 : 40);
	struct packet packet;
	int r = parse(row, len, &packet);

	if (r != (!row->result && len >= network ? 0 : -1))
		fail_msg("%s, cut to %zu: returned %d", row->name, len, r);
	KEPT_OR_ZERO(source_port);
	KEPT_OR_ZERO(destination_port);
	KEPT_OR_ZERO(payload_offset);
	KEPT_OR_ZERO(sequence);
	KEPT_OR_ZERO(timestamp_value);
	KEPT_OR_ZERO(timestamp_echo);
	KEPT_OR_ZERO(tcp_flags);
	if (packet.protocol != whole->protocol && packet.protocol != PACKET_PROTOCOL_UNKNOWN)
		fail_msg("%s, cut to %zu: protocol %u", row->name, len, packet.protocol);
	if ((!r && packet.length > whole->length) || packet.length > len || packet.payload_length > whole->payload_length)
		fail_msg("%s, cut to %zu: length %u, payload %u", row->name, len, packet.length, packet.payload_length);
	if (!r && memcmp(&packet.source, &whole->source, 32))
		fail_msg("%s, cut to %zu: other addresses", row->name, len);
	/* Something of the headers is missing, and it says so. */
	if (!r && whole->payload_offset && len < whole->payload_offset && !(packet.flags & PACKET_TRUNCATED))
		fail_msg("%s, cut to %zu: and says nothing", row->name, len);
	if (!r && whole->payload_offset && len >= whole->payload_offset && (packet.flags & PACKET_TRUNCATED))
		fail_msg("%s, cut to %zu: headers are there", row->name, len);
}

static void cut_everywhere(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_ROWS; i++)
		for (size_t len = 0; len < rows[i].len; len++)
			check_cut(&rows[i], len);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_packet),
		cmocka_unit_test(at_an_offset),
		cmocka_unit_test(cut_everywhere),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
