/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packet parser (bpf/parse.h) on arbitrary bytes: nothing is read outside,
 * and what it says about the packet is possible. The first byte says where the
 * packet begins: bit 0 with an IP header, else with Ethernet; the others are an offset.
 */
#include <stdint.h>
#include <stdlib.h>
#include "parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int truth)
{
	if (!truth)
		abort();
}

static void check_ip(const struct packet *p)
{
	uint32_t end = p->network_offset + p->length;

	demand(p->ethertype == PACKET_TYPE_IPV4 || p->ethertype == PACKET_TYPE_IPV6);
	demand(p->length >= (p->ethertype == PACKET_TYPE_IPV4 ? 20 : 40));
	demand(p->transport_offset == 0 || (p->transport_offset >= p->network_offset + 20 && p->transport_offset <= end));
	demand(p->payload_offset == 0 || (p->transport_offset && p->payload_offset >= p->transport_offset + 8));
	demand(p->payload_offset + p->payload_length <= end);
	demand(p->payload_offset || !p->payload_length);
	if (p->flags & PACKET_LATER_FRAGMENT)
		demand((p->flags & PACKET_FRAGMENT) && !p->transport_offset && !p->source_port && !p->destination_port);
	if (p->flags & PACKET_TIMESTAMPS)
		demand(p->protocol == PACKET_NEXT_TCP && p->payload_offset >= p->transport_offset + 30);
	if (p->flags & PACKET_TRUNCATED)
		demand(!p->payload_offset);
	if (p->protocol != PACKET_NEXT_TCP)
		demand(!p->sequence && !p->acknowledgement && !p->tcp_flags);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct packet_bytes bytes;
	struct packet packet;
	uint32_t offset;

	if (!size)
		return 0;
	bytes = (struct packet_bytes){ data + 1, (uint32_t)size - 1 };
	offset = data[0] >> 1;
	if (offset > bytes.len)
		return 0;
	if (packet_parse(&bytes, offset, data[0] & 1 ? PACKET_IP : PACKET_ETHERNET, &packet)) {
		demand(packet.protocol == PACKET_PROTOCOL_UNKNOWN && packet.length == bytes.len && !packet.transport_offset);
	} else {
		demand(packet.network_offset + packet.length <= bytes.len);
		check_ip(&packet);
	}
	demand(packet.vlans <= PACKET_VLANS_MAX && packet.network_offset <= offset + 14 + 4 * PACKET_VLANS_MAX + 8);
	return 0;
}
