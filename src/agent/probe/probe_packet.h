/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Probes as bytes, from behind the IP header (which the kernel writes), and what an ICMP error quotes of them. Pure.
 *
 * An ICMP probe's checksum is the same for all probes of a path: routers that spread load take the first four bytes
 * behind the IP header for ports (Augustin et al., "Avoiding traceroute anomalies with Paris traceroute", 2006), so a
 * checksum that changed would send each probe another way. Two bytes of the payload make it so.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "abi_probe.h"
#include "lib/address.h"

/* Ports in host order; ICMP: source_port is the identifier, destination_port nothing. */
struct probe_ends {
	struct address source, destination; /* of one family */
	uint16_t source_port, destination_port;
};

#define PROBE_PACKET_RESET_LEN 20
#define PROBE_PACKET_TCP_LEN 24 /* a SYN with one option, the segment size that every stack sends */

/* The payload that is really sent where `wanted` was asked for: what the protocol needs at least, and a TLV's
 * header before more. */
uint16_t probe_packet_payload(enum probe_protocol protocol, bool authenticated, uint16_t wanted);
/* Bytes behind the IP header. */
size_t probe_packet_length(enum probe_protocol protocol, uint16_t payload);

/* Each writes probe_packet_length bytes; payload as probe_packet_payload says. checksum: not 0, not 0xffff, host order.
 * cookie and timestamp are the 8 bytes as they are in memory. */
void probe_packet_icmp(uint8_t *packet, const struct probe_ends *ends, uint16_t payload, uint16_t sequence, uint64_t cookie,
		       uint16_t checksum);
/* key NULL: unauthenticated. Behind STAMP's own fields, up to the payload's size, an Extra Padding TLV (RFC 8972,
 * section 4.1). */
void probe_packet_stamp(uint8_t *packet, const struct probe_ends *ends, uint16_t payload, uint32_t sequence, uint64_t timestamp,
			uint16_t error_estimate, const struct probe_hmac_key *key);
void probe_packet_tcp(uint8_t *packet, const struct probe_ends *ends, uint32_t sequence);
/* Ends what the SYN with this sequence number may have begun: it is what a half-open connection expects next (RFC 9293, 3.10.7.4). */
void probe_packet_reset(uint8_t *packet, const struct probe_ends *ends, uint32_t sequence);

/* RFC 1071, host order: of `len` bytes, with another sum taken in. 0 over a packet that has the right one in it. */
uint16_t probe_checksum(const void *data, size_t len, uint32_t sum);
/* The sum of the pseudo header (RFC 768, RFC 8200 section 8.1). */
uint32_t probe_checksum_pseudo(const struct probe_ends *ends, uint8_t protocol, size_t len);
/* A UDP or TCP packet's checksum field as it is, host order. */
uint16_t probe_packet_checksum(enum probe_protocol protocol, const uint8_t *packet);

/* What an error's quotation shows of a probe of ours. */
struct probe_quote {
	struct address destination;
	enum probe_protocol protocol;
	uint16_t source_port, destination_port; /* host order; ICMP: the identifier and 0 */
	uint16_t checksum;            /* ICMP, UDP: host order; of TCP it may not be quoted, and is 0 */
	uint32_t sequence;            /* ICMP: 16 bits; TCP: the initial sequence number, which is the cookie; STAMP: of the packet, if has_cookie */
	bool has_cookie;              /* as many bytes were quoted */
	uint64_t cookie[2];           /* STAMP: where the timestamp is in unauthenticated and in authenticated packets; ICMP: [0] */
};
/* `quoted` begins with the IP header of the packet that could not be delivered. False: it is no probe, or too
 * little of one. */
bool probe_packet_quote(const uint8_t *quoted, size_t len, bool v6, struct probe_quote *ret_quote);
/* The same of an ICMP echo request alone, without its destination. */
bool probe_packet_quote_icmp(const uint8_t *packet, size_t len, bool v6, struct probe_quote *ret_quote);
/* What an ICMP or ICMPv6 error means, as an errno; 0: it is no error that ends a probe. */
int probe_packet_error(bool v6, uint8_t type, uint8_t code);
