/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One direction of a TCP connection followed natively, as feed and on_segment of
 * bpf/dns.bpf.c do it in the kernel. Shared by the unit test and the fuzz target.
 */
#pragma once
#include <stdint.h>
#include "dns_parse.h"

struct dns_follow {
	struct dns_direction direction;
	enum dns_kind kind;  /* that flows this way */
	uint64_t unparsed;
	void (*on_message)(enum dns_kind kind, const struct dns_header *header, void *userdata);
	void *userdata;
};

static inline void follow_part(struct dns_follow *f, uint32_t ahead, struct dns_cursor *c)
{
	struct dns_direction *d = &f->direction;
	struct dns_stream *s = ahead ? &d->ahead : &d->in_order;
	struct dns_header header = { 0 };
	enum dns_kind kind;

	if (s->state != DNS_STREAM_SYNCED && dns_stream_begins(c->source, c->offset, c->left, f->kind))
		dns_stream_found(d, ahead);
	while (s->state == DNS_STREAM_SYNCED && dns_stream_step(s, c, &kind, &header))
		f->on_message(kind, &header, f->userdata);
	if (c->left)
		dns_stream_unparsed(d, ahead, c->left, &f->unparsed);
}

static inline void follow_segment(struct dns_follow *f, uint32_t sequence, const void *data, uint32_t len)
{
	const struct packet_bytes bytes = { data, len };
	struct dns_part part;

	for (int i = 0; i < 2 && dns_place(&f->direction, sequence, len, &part); i++) {
		struct dns_cursor cursor = { &bytes, part.from, part.len };

		follow_part(f, part.ahead, &cursor);
		dns_join(&f->direction, &f->unparsed);
	}
}
