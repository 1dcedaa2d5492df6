/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe/probe_packet.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "agent/probe/hmac_key.h"
#include "stamp.h"

#define TRANSPORT_HEADER 8 /* of ICMP echo and UDP */
#define BALANCE_OFFSET 8   /* in an ICMP probe's payload, behind the cookie */
#define PADDING_TLV_HEADER 4
#define PADDING_TLV_TYPE 1
#define PADDING_TLV_FLAGS 0x80 /* U: whoever does not know the type leaves it so (RFC 8972, section 4) */
#define SEGMENT_SIZE 1460
#define WINDOW 64240

static void put16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, (uint16_t)(value >> 16));
	put16(at + 2, (uint16_t)value);
}

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

uint16_t probe_packet_payload(enum probe_protocol protocol, bool authenticated, uint16_t wanted)
{
	uint16_t least = PROBE_ICMP_PAYLOAD_MIN;

	if (protocol == PROBE_TCP)
		return 0;
	if (protocol == PROBE_STAMP)
		least = authenticated ? sizeof(struct stamp_sender_authenticated) : sizeof(struct stamp_sender);
	if (wanted <= least)
		return least;
	if (protocol == PROBE_STAMP && wanted < least + PADDING_TLV_HEADER)
		return (uint16_t)(least + PADDING_TLV_HEADER);
	return wanted;
}

size_t probe_packet_length(enum probe_protocol protocol, uint16_t payload)
{
	return protocol == PROBE_TCP ? PROBE_PACKET_TCP_LEN : (size_t)TRANSPORT_HEADER + payload;
}

static uint16_t fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

uint16_t probe_checksum(const void *data, size_t len, uint32_t sum)
{
	const uint8_t *bytes = data;
	uint64_t total = sum;

	for (; len >= 4; bytes += 4, len -= 4)
		total += get32(bytes);
	if (len >= 2)
		total += get16(bytes);
	if (len & 1)
		total += (uint32_t)bytes[len - 1] << 8;
	return (uint16_t)~fold(total);
}

uint32_t probe_checksum_pseudo(const struct probe_ends *ends, uint8_t protocol, size_t len)
{
	const size_t skip = address_is_ipv4(&ends->source) ? 12 : 0;
	uint64_t sum = protocol + len;

	for (size_t i = skip; i < sizeof(ends->source.bytes); i += 2)
		sum += (uint32_t)get16(ends->source.bytes + i) + get16(ends->destination.bytes + i);
	return fold(sum);
}

void probe_packet_icmp(uint8_t *packet, const struct probe_ends *ends, uint16_t payload, uint16_t sequence, uint64_t cookie,
		       uint16_t checksum)
{
	const size_t len = TRANSPORT_HEADER + (size_t)payload;
	const bool v6 = !address_is_ipv4(&ends->destination);
	uint8_t *data = packet + TRANSPORT_HEADER;
	uint16_t rest;

	assert(payload >= PROBE_ICMP_PAYLOAD_MIN && checksum != 0 && checksum != 0xffff);
	memset(packet, 0, TRANSPORT_HEADER);
	packet[0] = v6 ? 128 : 8;
	put16(packet + 4, ends->source_port);
	put16(packet + 6, sequence);
	memcpy(data, &cookie, sizeof(cookie));
	put16(data + BALANCE_OFFSET, 0);
	for (size_t i = BALANCE_OFFSET + 2; i < payload; i++)
		data[i] = (uint8_t)i;
	/* Complement of the sum of everything else; what that lacks of the sum that is wanted goes into the payload. */
	rest = probe_checksum(packet, len, v6 ? probe_checksum_pseudo(ends, IPPROTO_ICMPV6, len) : 0);
	put16(data + BALANCE_OFFSET, fold((uint64_t)rest + (uint16_t)~checksum));
	put16(packet + 2, checksum);
}

static void put_stamp(uint8_t *payload, uint32_t sequence, uint64_t timestamp, uint16_t error_estimate)
{
	struct stamp_sender s = { .sequence = htonl(sequence), .error_estimate = htons(error_estimate) };

	memcpy(s.timestamp, &timestamp, sizeof(timestamp));
	memcpy(payload, &s, sizeof(s));
}

static void put_stamp_authenticated(uint8_t *payload, uint32_t sequence, uint64_t timestamp, uint16_t error_estimate,
				    const struct probe_hmac_key *key)
{
	struct stamp_sender_authenticated s = { .sequence = htonl(sequence), .error_estimate = htons(error_estimate) };

	memcpy(s.timestamp, &timestamp, sizeof(timestamp));
	hmac_sign(key, (const uint8_t *)&s, s.hmac);
	memcpy(payload, &s, sizeof(s));
}

void probe_packet_stamp(uint8_t *packet, const struct probe_ends *ends, uint16_t payload, uint32_t sequence, uint64_t timestamp,
			uint16_t error_estimate, const struct probe_hmac_key *key)
{
	const size_t len = TRANSPORT_HEADER + (size_t)payload;
	const size_t own = key ? sizeof(struct stamp_sender_authenticated) : sizeof(struct stamp_sender);
	uint8_t *data = packet + TRANSPORT_HEADER, *padding = data + own;
	uint16_t checksum;

	assert(payload == own || payload >= own + PADDING_TLV_HEADER);
	put16(packet, ends->source_port);
	put16(packet + 2, ends->destination_port);
	put16(packet + 4, (uint16_t)len);
	put16(packet + 6, 0);
	if (key)
		put_stamp_authenticated(data, sequence, timestamp, error_estimate, key);
	else
		put_stamp(data, sequence, timestamp, error_estimate);
	if (payload > own) {
		memset(padding, 0, payload - own);
		padding[0] = PADDING_TLV_FLAGS;
		padding[1] = PADDING_TLV_TYPE;
		put16(padding + 2, (uint16_t)(payload - own - PADDING_TLV_HEADER));
	}
	checksum = probe_checksum(packet, len, probe_checksum_pseudo(ends, IPPROTO_UDP, len));
	put16(packet + 6, checksum ? checksum : 0xffff); /* 0 says that there is none (RFC 768) */
}

static void put_tcp(uint8_t *packet, const struct probe_ends *ends, uint32_t sequence, uint8_t flags, uint8_t len)
{
	put16(packet, ends->source_port);
	put16(packet + 2, ends->destination_port);
	put32(packet + 4, sequence);
	packet[12] = len / 4 << 4;
	packet[13] = flags;
	put16(packet + 16, probe_checksum(packet, len, probe_checksum_pseudo(ends, IPPROTO_TCP, len)));
}

void probe_packet_tcp(uint8_t *packet, const struct probe_ends *ends, uint32_t sequence)
{
	memset(packet, 0, PROBE_PACKET_TCP_LEN);
	put16(packet + 14, WINDOW);
	packet[20] = 2; /* maximum segment size */
	packet[21] = 4;
	put16(packet + 22, SEGMENT_SIZE);
	put_tcp(packet, ends, sequence, 2 /* SYN */, PROBE_PACKET_TCP_LEN);
}

void probe_packet_reset(uint8_t *packet, const struct probe_ends *ends, uint32_t sequence)
{
	memset(packet, 0, PROBE_PACKET_RESET_LEN);
	put_tcp(packet, ends, sequence + 1, 4 /* RST */, PROBE_PACKET_RESET_LEN);
}

uint16_t probe_packet_checksum(enum probe_protocol protocol, const uint8_t *packet)
{
	static const uint8_t offset[PROBE_PROTOCOL_COUNT] = { [PROBE_ICMP] = 2, [PROBE_STAMP] = 6, [PROBE_TCP] = 16 };

	return get16(packet + offset[protocol]);
}

/* The quoted IP header: how long it is, and what is behind it; 0: it is none, or a later fragment. */
static size_t quoted_header(const uint8_t *quoted, size_t len, bool v6, struct address *ret_destination, uint8_t *ret_protocol)
{
	size_t header;

	if (v6) {
		/* Our probes have no extension headers. */
		if (len < 40 || quoted[0] >> 4 != 6)
			return 0;
		memcpy(ret_destination->bytes, quoted + 24, 16);
		*ret_protocol = quoted[6];
		return 40;
	}
	header = len ? (size_t)(quoted[0] & 15) * 4 : 0;
	if (len < 20 || quoted[0] >> 4 != 4 || header < 20 || header > len || get16(quoted + 6) & 0x1fff)
		return 0;
	memset(ret_destination->bytes, 0, 10);
	memset(ret_destination->bytes + 10, 0xff, 2);
	memcpy(ret_destination->bytes + 12, quoted + 16, 4);
	*ret_protocol = quoted[9];
	return header;
}

static void quote_stamp(const uint8_t *packet, size_t len, struct probe_quote *q)
{
	const uint8_t *payload = packet + TRANSPORT_HEADER;

	q->protocol = PROBE_STAMP;
	q->checksum = get16(packet + 6);
	q->has_cookie = len >= TRANSPORT_HEADER + offsetof(struct stamp_sender_authenticated, error_estimate);
	if (!q->has_cookie)
		return;
	q->sequence = get32(payload);
	memcpy(&q->cookie[0], payload + offsetof(struct stamp_sender, timestamp), 8);
	memcpy(&q->cookie[1], payload + offsetof(struct stamp_sender_authenticated, timestamp), 8);
}

bool probe_packet_quote_icmp(const uint8_t *packet, size_t len, bool v6, struct probe_quote *ret_quote)
{
	struct probe_quote q = { .protocol = PROBE_ICMP };

	if (len < TRANSPORT_HEADER || packet[0] != (v6 ? 128 : 8) || packet[1])
		return false;
	q.checksum = get16(packet + 2);
	q.source_port = get16(packet + 4);
	q.sequence = get16(packet + 6);
	q.has_cookie = len >= TRANSPORT_HEADER + sizeof(q.cookie[0]);
	if (q.has_cookie)
		memcpy(&q.cookie[0], packet + TRANSPORT_HEADER, sizeof(q.cookie[0]));
	*ret_quote = q;
	return true;
}

bool probe_packet_quote(const uint8_t *quoted, size_t len, bool v6, struct probe_quote *ret_quote)
{
	struct probe_quote q = { 0 };
	uint8_t protocol;
	size_t header = quoted_header(quoted, len, v6, &q.destination, &protocol);
	const uint8_t *packet = quoted + header;

	if (!header || len - header < TRANSPORT_HEADER)
		return false;
	len -= header;
	q.source_port = get16(packet);
	q.destination_port = get16(packet + 2);
	if (protocol == IPPROTO_UDP) {
		quote_stamp(packet, len, &q);
	} else if (protocol == IPPROTO_TCP) {
		q.protocol = PROBE_TCP;
		q.sequence = get32(packet + 4);
	} else if (protocol == (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP) && probe_packet_quote_icmp(packet, len, v6, ret_quote)) {
		ret_quote->destination = q.destination;
		return true;
	} else {
		return false;
	}
	*ret_quote = q;
	return true;
}

int probe_packet_error(bool v6, uint8_t type, uint8_t code)
{
	/* RFC 792 and RFC 1812, section 5.2.7; RFC 4443, section 3. */
	static const uint8_t v4_codes[16] = {
		ENETUNREACH, EHOSTUNREACH, ENOPROTOOPT, ECONNREFUSED, EMSGSIZE, EHOSTUNREACH, ENETUNREACH, EHOSTUNREACH,
		EHOSTUNREACH, EACCES, EACCES, ENETUNREACH, EHOSTUNREACH, EACCES, EACCES, EACCES,
	};
	static const uint8_t v6_codes[8] = {
		ENETUNREACH, EACCES, EHOSTUNREACH, EHOSTUNREACH, ECONNREFUSED, EACCES, EACCES, EHOSTUNREACH,
	};

	if (v6)
		switch (type) {
		case 1:
			return code < sizeof(v6_codes) ? v6_codes[code] : EHOSTUNREACH;
		case 2:
			return EMSGSIZE;
		case 3:
			return ETIME;
		case 4:
			return EPROTO;
		default:
			return 0;
		}
	switch (type) {
	case 3:
		return code < sizeof(v4_codes) ? v4_codes[code] : EHOSTUNREACH;
	case 11:
		return ETIME;
	case 12:
		return EPROTO;
	default:
		return 0;
	}
}
