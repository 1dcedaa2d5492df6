/* SPDX-License-Identifier: Apache-2.0 */
/* A packet that is put together piece by piece, for the tests of programs on packets. Behind cmocka's header. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct frame {
	uint8_t data[9300];
	size_t len;
	size_t ip, transport; /* offsets, for whoever sets them */
};

/* data NULL: zeroes. */
static inline void put(struct frame *frame, const void *data, size_t len)
{
	assert_true(frame->len + len <= sizeof(frame->data));
	if (data)
		memcpy(frame->data + frame->len, data, len);
	else
		memset(frame->data + frame->len, 0, len);
	frame->len += len;
}

#define PUT(frame, bytes) put(frame, bytes, sizeof(bytes) - 1)

static inline void set16(uint8_t *at, unsigned v)
{
	at[0] = (uint8_t)(v >> 8);
	at[1] = (uint8_t)v;
}

static inline unsigned get16(const uint8_t *at)
{
	return (unsigned)at[0] << 8 | at[1];
}
