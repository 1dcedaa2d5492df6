/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protobuf parser's inside: a cursor over the wire format and the state of
 * one parse. Internal to lib/exposition_parse_proto.c, exposition_proto_wire.c
 * (the cursor) and exposition_proto_hist.c (histograms).
 */
#pragma once
#include <string.h>
#include "lib/buffer.h"
#include "lib/exposition_parse.h"
#include "lib/exposition_proto.h"

/* A run of bytes not yet read. */
struct wire {
	const unsigned char *at, *end;
};

struct field {
	unsigned number;
	enum proto_wire wire;
	uint64_t value;    /* VARINT; the bits of FIXED64 */
	struct wire bytes; /* BYTES */
};

/* What a message expects of a field number. PACKED: VARINT, or BYTES of many. */
enum expect { SKIP, VARINT, FIXED64, BYTES, PACKED };
#define EXPECT_MAX 16 /* field numbers below are looked up, the rest is skipped */
typedef unsigned char proto_shape[EXPECT_MAX];

struct proto {
	const unsigned char *data; /* the whole input */
	struct error *error;
	exposition_sample_fn fn;
	void *userdata;

	/* The current family. */
	struct buffer names; /* x NUL x_bucket NUL x_sum NUL x_count NUL */
	size_t bucket_at, sum_at, count_at;
	uint64_t type; /* enum proto_type */

	/* The current metric. */
	struct buffer values;
	struct label labels[METRIC_LABELS_MAX];
	size_t n_labels;
	int64_t timestamp_ms;
	struct hist hist; /* reused */
};

/* "metric x, byte N: ..." into p->error; returns -EBADMSG. `at` is in the input. */
int proto_fail(const struct proto *p, const unsigned char *at, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* 0 or -EBADMSG. */
int proto_read_varint(const struct proto *p, struct wire *wire, uint64_t *ret_value);
int proto_read_bytes(const struct proto *p, struct wire *wire, struct wire *ret_bytes);
/* 1: a field, of the wire type the shape expects; 0: the end of the message; -EBADMSG. */
int proto_next_field(const struct proto *p, struct wire *message, const proto_shape shape, struct field *ret_field);

static inline double proto_double(uint64_t bits)
{
	double value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static inline int64_t proto_zigzag(uint64_t value)
{
	return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
}

/* Hands one sample of the current metric to the caller's function and returns what that does. */
int proto_emit(struct proto *p, const char *name, const struct hist *hist, double value);

/* Puts a label into its place in the order; its value may be exchanged at *ret_at until proto_remove_label. */
int proto_insert_label(struct proto *p, const unsigned char *at, const char *name, size_t *ret_at);
void proto_remove_label(struct proto *p, size_t i);

/* The histogram of the current metric, native or classic. */
int proto_read_histogram(struct proto *p, struct wire message);
