/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What probe_packet_quote makes of any bytes that an ICMP error may quote. The first byte chooses the family. It reads
 * nothing behind their end, takes what is a probe, and says the same of a longer quotation of the same packet.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/probe/probe_packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int truth)
{
	if (!truth)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct probe_quote q, longer;
	uint8_t *exact, *more;
	size_t len;
	bool v6;

	if (!size)
		return 0;
	v6 = data[0] & 1;
	len = size - 1;
	exact = malloc(len + 1);
	more = calloc(1, len + 200);
	demand(exact && more);
	/* Up to the block's last byte. */
	memcpy(exact + 1, data + 1, len);
	memcpy(more, data + 1, len);
	if (probe_packet_quote(exact + 1, len, v6, &q)) {
		demand(len >= (v6 ? 48u : 28u));
		demand(address_is_ipv4(&q.destination) || v6);
		demand(q.protocol < PROBE_PROTOCOL_COUNT);
		demand(!q.has_cookie || len >= (v6 ? 56u : 36u));
		demand(q.protocol != PROBE_TCP || !q.has_cookie);
		demand(probe_packet_quote(more, len + 200, v6, &longer));
		demand(longer.protocol == q.protocol && longer.source_port == q.source_port && longer.checksum == q.checksum);
		demand(!q.has_cookie || !memcmp(longer.cookie, q.cookie, sizeof(q.cookie)));
	}
	free(exact);
	free(more);
	return 0;
}
