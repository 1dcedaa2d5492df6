/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS over TCP (bpf/dns_parse.h) from arbitrary bytes. The first byte chooses:
 * even: the rest is a connection's bytes, at whose head are the lengths of its
 * segments; in order, what is found must not depend on where the cuts are.
 * odd: the rest is a script of segments (where, how many bytes, the bytes), in any
 * disorder; then whatever is found must be sound, and memory.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/dns_follow.h"

#define FOUND_MAX 4096
#define CUTS 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct found {
	unsigned n;
	uint32_t messages[FOUND_MAX]; /* kind, id, rcode */
	int broken;                   /* a prefix that cannot be: from there on the cuts matter */
};

static void demand(int truth)
{
	if (!truth)
		abort();
}

static void on_message(enum dns_kind kind, const struct dns_header *header, void *userdata)
{
	struct found *found = userdata;
	uint32_t message = (uint32_t)kind << 24;

	demand(kind <= DNS_KIND_MALFORMED && header->rcode < 16 && header->truncated < 2);
	if (kind == DNS_KIND_QUERY || kind == DNS_KIND_ANSWER)
		message |= (uint32_t)header->rcode << 16 | header->id;
	if (found->n < FOUND_MAX && !found->broken)
		found->messages[found->n++] = message;
}

static void check_stream(const struct dns_stream *s)
{
	demand(s->state <= DNS_STREAM_SYNCED && s->have < DNS_PREFIX + DNS_HEADER && s->skip <= 65535 - DNS_HEADER);
	demand(s->state == DNS_STREAM_SYNCED || (!s->have && !s->skip));
	demand(!s->have || !s->skip);
}

static void check(const struct dns_follow *f)
{
	check_stream(&f->direction.in_order);
	if (!f->direction.ahead_active)
		return;
	check_stream(&f->direction.ahead);
	demand((int32_t)(f->direction.ahead_start - f->direction.in_order.next) > 0);
	demand((int32_t)(f->direction.ahead.next - f->direction.ahead_start) > 0);
}

/* A copy of its own, so that a sanitizer sees a read past the segment. */
static void segment(struct dns_follow *f, uint32_t sequence, const uint8_t *data, uint32_t len)
{
	struct found *found = f->userdata;
	uint8_t *copy = malloc(len ? len : 1);

	if (!copy)
		return;
	memcpy(copy, data, len);
	follow_segment(f, sequence, copy, len);
	free(copy);
	check(f);
	if (f->direction.in_order.state != DNS_STREAM_SYNCED)
		found->broken = 1;
}

static struct dns_follow begin(struct found *found, uint32_t sequence)
{
	struct dns_follow f = { .kind = DNS_KIND_ANSWER, .on_message = on_message, .userdata = found };

	memset(found, 0, sizeof(*found));
	dns_direction_begin(&f.direction, sequence);
	return f;
}

static void check_cuts(const uint8_t *data, uint32_t size)
{
	static struct found whole, cut;
	struct dns_follow a, b;
	const uint8_t *cuts = data;
	uint32_t at = 0, n;

	if (size < CUTS)
		return;
	data += CUTS;
	size -= CUTS;
	a = begin(&whole, 0xffffff00);
	if (size)
		segment(&a, 0xffffff00, data, size);
	b = begin(&cut, 0xffffff00);
	for (unsigned i = 0; at < size; i++, at += n) {
		n = 1 + cuts[i % CUTS];
		if (n > size - at)
			n = size - at;
		segment(&b, 0xffffff00 + at, data + at, n);
	}
	demand(whole.n >= cut.n || !whole.broken);
	demand(cut.broken || whole.n == cut.n);
	demand(!memcmp(whole.messages, cut.messages, (whole.n < cut.n ? whole.n : cut.n) * sizeof(whole.messages[0])));
}

static void run_script(const uint8_t *data, uint32_t size)
{
	static struct found found;
	struct dns_follow f = begin(&found, 0x7fffff00);
	uint32_t last = 0x7fffff00;

	if (size && data[0] & 1)
		memset(&f.direction, 0, sizeof(f.direction));
	while (size > 3) {
		uint32_t n = data[2] < size - 3 ? data[2] : size - 3;

		last += (uint32_t)(int32_t)(int16_t)(uint16_t)(data[0] | data[1] << 8);
		if (n)
			segment(&f, last, data + 3, n);
		data += 3 + n;
		size -= 3 + n;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dns_header header;

	if (!size || size > 65536)
		return 0;
	if (size > DNS_HEADER)
		demand(dns_header_parse(data + 1, (uint32_t)size - 1, &header) <= DNS_KIND_MALFORMED);
	if (data[0] & 1)
		run_script(data + 1, (uint32_t)size - 1);
	else
		check_cuts(data + 1, (uint32_t)size - 1);
	return 0;
}
