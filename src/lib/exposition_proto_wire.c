/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protobuf wire format, read: tags, varints, lengths (the protobuf encoding
 * guide). Every length is checked against what is left of the message it stands
 * in, so a nested message can never reach beyond its parent. Groups, the one
 * construct that nests without a length, are refused.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include "lib/exposition_proto_read.h"

int proto_fail(const struct proto *p, const unsigned char *at, const char *format, ...)
{
	char reason[sizeof(p->error->text)];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(reason, sizeof(reason), format, arguments);
	va_end(arguments);
	if (p->names.len > 0)
		return error_set(p->error, -EBADMSG, "metric %.200s, byte %zu: %s", p->names.data,
				 (size_t)(at - p->data), reason);
	return error_set(p->error, -EBADMSG, "byte %zu: %s", (size_t)(at - p->data), reason);
}

int proto_read_varint(const struct proto *p, struct wire *wire, uint64_t *ret_value)
{
	const unsigned char *start = wire->at;
	uint64_t value = 0;

	for (unsigned shift = 0; wire->at < wire->end; shift += 7) {
		unsigned char byte = *wire->at++;

		if (shift == 63 && byte > 1)
			return proto_fail(p, start, "number longer than 64 bits");
		value |= (uint64_t)(byte & 0x7f) << shift;
		if ((byte & 0x80) == 0) {
			*ret_value = value;
			return 0;
		}
	}
	return proto_fail(p, start, "number cut off");
}

int proto_read_bytes(const struct proto *p, struct wire *wire, struct wire *ret_bytes)
{
	const unsigned char *start = wire->at;
	uint64_t len = 0;
	int r = proto_read_varint(p, wire, &len);

	if (r < 0)
		return r;
	if (len > (size_t)(wire->end - wire->at))
		return proto_fail(p, start, "%llu bytes announced, %zu are there", (unsigned long long)len,
			    (size_t)(wire->end - wire->at));
	*ret_bytes = (struct wire){ .at = wire->at, .end = wire->at + len };
	wire->at += len;
	return 0;
}

static int read_fixed(const struct proto *p, struct wire *wire, size_t size, uint64_t *ret_value)
{
	uint64_t value = 0;

	if ((size_t)(wire->end - wire->at) < size)
		return proto_fail(p, wire->at, "number cut off");
	for (size_t i = 0; i < size; i++)
		value |= (uint64_t)*wire->at++ << (8 * i);
	*ret_value = value;
	return 0;
}

static bool expected(const struct field *field, unsigned char expect)
{
	switch ((enum expect)expect) {
	case SKIP:
		return true;
	case VARINT:
		return field->wire == PROTO_VARINT;
	case FIXED64:
		return field->wire == PROTO_FIXED64;
	case BYTES:
		return field->wire == PROTO_BYTES;
	case PACKED:
		return field->wire == PROTO_VARINT || field->wire == PROTO_BYTES;
	}
	return false;
}

int proto_next_field(const struct proto *p, struct wire *message, const proto_shape shape, struct field *ret_field)
{
	const unsigned char *start = message->at;
	struct field field = { 0 };
	uint64_t tag = 0;
	int r;

	if (message->at == message->end)
		return 0;
	r = proto_read_varint(p, message, &tag);
	if (r < 0)
		return r;
	if (tag >> 3 == 0 || tag >> 3 >= 1u << 29)
		return proto_fail(p, start, "field number out of range: this is no protobuf message");
	field.number = (unsigned)(tag >> 3);
	field.wire = (enum proto_wire)(tag & 7);
	switch (field.wire) {
	case PROTO_VARINT:
		r = proto_read_varint(p, message, &field.value);
		break;
	case PROTO_FIXED64:
		r = read_fixed(p, message, 8, &field.value);
		break;
	case PROTO_BYTES:
		r = proto_read_bytes(p, message, &field.bytes);
		break;
	case PROTO_FIXED32:
		r = read_fixed(p, message, 4, &field.value);
		break;
	default:
		r = proto_fail(p, start, "wire type %u: this is no protobuf message", (unsigned)(tag & 7));
	}
	if (r < 0)
		return r;
	if (field.number < EXPECT_MAX && !expected(&field, shape[field.number]))
		return proto_fail(p, start, "field %u has wire type %u", field.number, (unsigned)field.wire);
	*ret_field = field;
	return 1;
}
