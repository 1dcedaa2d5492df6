/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS headers byte by byte, and streams against their truth: a connection's bytes
 * are cut into segments, repeated, overlapped and reordered at random (fixed seeds),
 * and the messages found must be the messages sent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
/* after the above: */
#include <cmocka.h>

#include "dns_follow.h"

#define MESSAGES_MAX 400

/* A connection's bytes, and where its messages begin. The id of message i is i. */
struct sent {
	uint8_t data[MESSAGES_MAX * 700];
	uint32_t len, starts[MESSAGES_MAX + 1];
	unsigned messages;
};

struct found {
	unsigned counts[MESSAGES_MAX], in_all, malformed;
};

static void on_message(enum dns_kind kind, const struct dns_header *header, void *userdata)
{
	struct found *found = userdata;

	if (kind == DNS_KIND_MALFORMED) {
		found->malformed++;
		return;
	}
	assert_int_equal(kind, DNS_KIND_ANSWER);
	assert_true(header->id < MESSAGES_MAX);
	found->counts[header->id]++;
	found->in_all++;
}

static void make_sent(struct sent *sent, unsigned messages, unsigned body_max)
{
	sent->len = 0;
	sent->messages = messages;
	for (unsigned i = 0; i < messages; i++) {
		uint8_t *p = sent->data + sent->len;
		uint32_t length = 12 + 5 + (unsigned)rand() % (body_max + 1);

		memset(p, 0xff, 2 + length);
		memcpy(p, (uint8_t[]){ (uint8_t)(length >> 8), (uint8_t)length, (uint8_t)(i >> 8), (uint8_t)i, 0x81, 0x80, 0, 1, 0, 0,
				       0, 0, 0, 0, 0 }, 15);
		sent->starts[i] = sent->len;
		sent->len += 2 + length;
	}
	sent->starts[messages] = sent->len;
}

static struct dns_follow begin(struct found *found, uint32_t sequence)
{
	struct dns_follow f = { .kind = DNS_KIND_ANSWER, .on_message = on_message, .userdata = found };

	memset(found, 0, sizeof(*found));
	dns_direction_begin(&f.direction, sequence);
	return f;
}

static void assert_all_once(const struct sent *sent, const struct found *found, const struct dns_follow *f)
{
	for (unsigned i = 0; i < sent->messages; i++)
		if (found->counts[i] != 1)
			fail_msg("message %u was found %u times", i, found->counts[i]);
	assert_int_equal(found->in_all, sent->messages);
	assert_int_equal(found->malformed + f->unparsed, 0);
}

static enum dns_kind parse(const uint8_t header[12], uint32_t length, struct dns_header *ret)
{
	return dns_header_parse(header, length, ret);
}

static void test_headers(void **state)
{
	static const struct {
		uint8_t bytes[12];
		uint32_t length;
		enum dns_kind kind;
		struct dns_header header;
	} rows[] = {
		{ { 0x12, 0x34, 0x01, 0x00, 0, 1 }, 17, DNS_KIND_QUERY, { 0x1234, 0, 0 } },
		{ { 0x12, 0x34, 0x01, 0x00, 0, 1 }, 16, DNS_KIND_MALFORMED, { 0 } },         /* no room for the question */
		{ { 0x12, 0x34, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 1 }, 28, DNS_KIND_QUERY, { 0x1234, 0, 0 } }, /* with EDNS */
		{ { 0x12, 0x34, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 1 }, 27, DNS_KIND_MALFORMED, { 0 } },
		{ { 0, 1, 0x81, 0x83, 0, 1, 0, 0, 0, 1 }, 100, DNS_KIND_ANSWER, { 1, 3, 0 } },
		{ { 0, 1, 0x83, 0x80, 0, 1, 0, 9 }, 30, DNS_KIND_ANSWER, { 1, 0, 1 } },      /* cut, with the counts of before */
		{ { 0, 1, 0x81, 0x81, 0, 1 }, 12, DNS_KIND_ANSWER, { 1, 1, 0 } },            /* FORMERR, header only */
		{ { 0, 1, 0x81, 0x85, 0, 0 }, 12, DNS_KIND_ANSWER, { 1, 5, 0 } },
		{ { 0, 1, 0x81, 0x80, 0, 1, 0, 9 }, 30, DNS_KIND_MALFORMED, { 0 } },
		{ { 0, 1, 0x81, 0x80, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, 65535, DNS_KIND_MALFORMED, { 0 } },
		{ { 0, 1, 0x01, 0x00, 0, 2 }, 100, DNS_KIND_MALFORMED, { 0 } },              /* RFC 9619 */
		{ { 0, 1, 0x81, 0x81, 0, 2 }, 100, DNS_KIND_MALFORMED, { 0 } },
		{ { 0, 1, 0x01, 0x00, 0, 0 }, 12, DNS_KIND_QUERY, { 1, 0, 0 } },             /* RFC 7873, section 5.4 */
		{ { 0, 1, 0x20, 0x00, 0, 1 }, 60, DNS_KIND_OTHER, { 0 } },                   /* NOTIFY */
		{ { 0, 1, 0xa8, 0x00, 0, 1 }, 60, DNS_KIND_OTHER, { 0 } },                   /* UPDATE, answered */
		{ { 0, 1, 0x30, 0x00, 0, 0 }, 16, DNS_KIND_OTHER, { 0 } },                   /* DSO */
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct dns_header header;

		if (parse(rows[i].bytes, rows[i].length, &header) != rows[i].kind)
			fail_msg("row %zu", i);
		if (rows[i].kind == DNS_KIND_QUERY || rows[i].kind == DNS_KIND_ANSWER) {
			assert_int_equal(header.id, rows[i].header.id);
			assert_int_equal(header.rcode, rows[i].header.rcode);
			assert_int_equal(header.truncated, rows[i].header.truncated);
		}
	}
	for (uint32_t length = 0; length < 12; length++) {
		struct dns_header header;

		assert_int_equal(parse(rows[0].bytes, length, &header), DNS_KIND_MALFORMED);
	}
}

/* In order, cut anywhere, with repetitions of anything that was already sent; around the end of the sequence numbers. */
static void test_cut_and_repeated(void **state)
{
	static struct sent sent;

	srand(1);
	for (int round = 0; round < 300; round++) {
		uint32_t first = 0u - (uint32_t)rand() % 20000, at = 0, step_max = 1 + (uint32_t)rand() % (round % 2 ? 20 : 1500);
		struct found found;
		struct dns_follow f = begin(&found, first);

		make_sent(&sent, 100, (unsigned)rand() % 600);
		while (at < sent.len) {
			uint32_t back = rand() % 4 ? 0 : (uint32_t)rand() % (at + 1), from = at - back;
			uint32_t n = 1 + (uint32_t)rand() % step_max;

			if (n > sent.len - from)
				n = sent.len - from;
			follow_segment(&f, first + from, sent.data + from, n);
			if (from + n > at)
				at = from + n;
		}
		assert_all_once(&sent, &found, &f);
	}
}

/* A segment is lost, what follows it (whole messages) arrives, then the lost one, at times with some that arrived. */
static void test_one_hole_at_a_time(void **state)
{
	static struct sent sent;

	srand(2);
	for (int round = 0; round < 300; round++) {
		struct found found;
		uint32_t first = (uint32_t)rand();
		struct dns_follow f = begin(&found, first);
		unsigned i = 0;

		make_sent(&sent, 200, 300);
		while (i < sent.messages) {
			unsigned lost = 1 + (unsigned)rand() % 3, behind = (unsigned)rand() % 4, last, again;

			if (lost > sent.messages - i)
				lost = sent.messages - i;
			last = i + lost + behind > sent.messages ? sent.messages : i + lost + behind;
			for (unsigned m = i + lost; m < last; m++) /* each in a segment of its own */
				follow_segment(&f, first + sent.starts[m], sent.data + sent.starts[m],
					       sent.starts[m + 1] - sent.starts[m]);
			again = i + lost + (last > i + lost ? (unsigned)rand() % (last - i - lost + 1) : 0);
			if (again < sent.messages && rand() % 4 == 0)
				again++; /* and one that is new */
			follow_segment(&f, first + sent.starts[i], sent.data + sent.starts[i], sent.starts[again] - sent.starts[i]);
			i = again > last ? again : last;
		}
		assert_all_once(&sent, &found, &f);
	}
}

/* A hole inside of one large message: what is behind it belongs to the message and holds no other. */
static void test_hole_in_a_large_message(void **state)
{
	static uint8_t data[2 + 20000 + 2 + 17];
	struct found found;
	struct dns_follow f = begin(&found, 5);

	memset(data, 0, sizeof(data));
	memcpy(data, (uint8_t[]){ 20000 >> 8, 20000 & 255, 0, 0, 0x80, 0, 0, 1 }, 8);
	memcpy(data + 20002, (uint8_t[]){ 0, 17, 0, 1, 0x80, 0, 0, 1 }, 8);
	follow_segment(&f, 5, data, 1000);
	follow_segment(&f, 5 + 2000, data + 2000, 5000);
	follow_segment(&f, 5 + 7000, data + 7000, 3000);
	follow_segment(&f, 5 + 1000, data + 1000, 1000);
	follow_segment(&f, 5 + 10000, data + 10000, sizeof(data) - 10000);
	assert_int_equal(found.counts[0], 1);
	assert_int_equal(found.counts[1], 1);
	assert_int_equal(f.unparsed, 0);
	/* And with the next message behind it before the hole is filled. */
	f = begin(&found, 5);
	follow_segment(&f, 5, data, 1000);
	follow_segment(&f, 5 + 2000, data + 2000, 18002);
	follow_segment(&f, 5 + 20002, data + 20002, sizeof(data) - 20002);
	assert_int_equal(found.in_all, 2);
	follow_segment(&f, 5 + 1000, data + 1000, 1000);
	follow_segment(&f, 5 + sizeof(data), data + 20002, sizeof(data) - 20002);
	assert_int_equal(found.counts[0], 1);
	assert_int_equal(found.counts[1], 2);
	assert_int_equal(f.unparsed, 0);
}

/* What came behind a hole comes again with what was in it: it is read then, if it could not be before. */
static void test_hole_in_a_prefix(void **state)
{
	static struct sent sent;
	struct found found;
	struct dns_follow f = begin(&found, 5);

	srand(4);
	make_sent(&sent, 3, 50);
	follow_segment(&f, 6, sent.data + 1, sent.starts[1] - 5);
	assert_int_equal(found.in_all, 0);
	follow_segment(&f, 5, sent.data, sent.starts[1]);
	follow_segment(&f, 5 + sent.starts[1], sent.data + sent.starts[1], sent.len - sent.starts[1]);
	assert_all_once(&sent, &found, &f);
}

/* Inside of a message's body is what looks like a message, right behind a hole: the stream does not follow it. */
static void test_look_alike_behind_a_hole(void **state)
{
	uint8_t data[2 + 60 + 2 + 17 + 2 + 17] = { 0, 60, 0, 1, 0x80, 0, 0, 1 };
	const uint8_t message[2 + 17] = { 0, 17, 0, 2, 0x80, 0, 0, 1 };
	struct found found;
	struct dns_follow f = begin(&found, 0);

	memcpy(data + 30, message, sizeof(message));
	memcpy(data + 62, message, sizeof(message));
	data[62 + 3] = 3;
	memcpy(data + 81, message, sizeof(message));
	data[81 + 3] = 4;
	follow_segment(&f, 30, data + 30, 19);
	follow_segment(&f, 49, data + 49, 62 - 49 + 19);
	follow_segment(&f, 0, data, 30);
	assert_true(f.unparsed > 0); /* nobody knows what was in the second segment */
	assert_int_equal(found.counts[1], 1);
	follow_segment(&f, 81, data + 81, 19);
	assert_int_equal(found.counts[4], 1);
}

/* One state follows one hole. What fills a second one looks old, and that this may have been missed is counted. */
static void test_two_holes(void **state)
{
	static const unsigned order[] = { 0, 2, 4, 1, 3, 5 }, times[] = { 1, 1, 1, 0, 1, 1 };
	static struct sent sent;
	struct found found;
	struct dns_follow f = begin(&found, 5);

	srand(5);
	make_sent(&sent, 6, 50);
	for (size_t i = 0; i < 6; i++)
		follow_segment(&f, 5 + sent.starts[order[i]], sent.data + sent.starts[order[i]],
			       sent.starts[order[i] + 1] - sent.starts[order[i]]);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(found.counts[i], times[i]);
	assert_int_equal(f.unparsed, 1);
}

/* Any disorder: nothing is found twice or that was not sent, and when something is missing that was counted. */
static void test_any_disorder(void **state)
{
	static struct sent sent;
	unsigned missed_rounds = 0;

	srand(3);
	for (int round = 0; round < 500; round++) {
		struct found found;
		uint32_t first = (uint32_t)rand();
		struct dns_follow f = begin(&found, first);
		unsigned missing = 0;

		make_sent(&sent, 100, 200);
		for (uint32_t at = 0; at < sent.len;) { /* pieces of one window, shuffled */
			uint32_t cuts[9] = { at };
			unsigned n = 1 + (unsigned)rand() % 8, order[8];

			for (unsigned k = 0; k < n; k++) {
				uint32_t next = cuts[k] + 1 + (uint32_t)rand() % 400;

				cuts[k + 1] = next > sent.len ? sent.len : next;
				order[k] = k;
			}
			for (unsigned k = n; k-- > 1;) {
				unsigned j = (unsigned)rand() % (k + 1), t = order[k];

				order[k] = order[j];
				order[j] = t;
			}
			for (unsigned k = 0; k < n; k++)
				follow_segment(&f, first + cuts[order[k]], sent.data + cuts[order[k]],
					       cuts[order[k] + 1] - cuts[order[k]]);
			at = cuts[n];
		}
		for (unsigned i = 0; i < sent.messages; i++) {
			assert_true(found.counts[i] <= 1);
			missing += !found.counts[i];
		}
		assert_true(!missing || f.unparsed);
		missed_rounds += missing != 0;
	}
	assert_true(missed_rounds > 0); /* else this test tests nothing */
}

static void test_nonsense_in_a_prefix(void **state)
{
	static struct sent sent;
	uint8_t zeros[4096] = { 0 };
	struct found found;
	struct dns_follow f = begin(&found, 0);
	uint32_t at = sizeof(zeros);

	make_sent(&sent, 3, 50);
	follow_segment(&f, 0, zeros, sizeof(zeros));
	assert_int_equal(found.malformed, 1);
	for (unsigned i = 0; i < 3; i++) {
		follow_segment(&f, at, sent.data + sent.starts[i], sent.starts[i + 1] - sent.starts[i]);
		at += sent.starts[i + 1] - sent.starts[i];
	}
	assert_int_equal(found.in_all, 3);
	assert_int_equal(f.unparsed, 0);
}

/* Without the SYN: lost until a segment is one whole message of the right kind. */
static void test_joined_late(void **state)
{
	static struct sent sent;
	struct found found;
	struct dns_follow f = begin(&found, 0);
	uint8_t query[2 + 17] = { 0, 17, 0, 5, 1, 0, 0, 1 };
	uint32_t at;

	make_sent(&sent, 3, 50);
	memset(&f.direction, 0, sizeof(f.direction));
	follow_segment(&f, 1000, sent.data + 10, sent.starts[1] - 10);
	assert_int_equal(f.unparsed, 1);
	at = 1000 + sent.starts[1] - 10;
	follow_segment(&f, at, query, sizeof(query)); /* the wrong way */
	assert_int_equal(f.unparsed, 2);
	at += (uint32_t)sizeof(query);
	sent.data[sent.starts[1] + 5] |= 0x40; /* the reserved bit */
	follow_segment(&f, at, sent.data + sent.starts[1], sent.starts[2] - sent.starts[1]);
	assert_int_equal(f.unparsed, 3);
	at += sent.starts[2] - sent.starts[1];
	follow_segment(&f, at, sent.data + sent.starts[2], sent.starts[3] - sent.starts[2]);
	assert_int_equal(found.in_all, 1);
	assert_int_equal(found.counts[2], 1);
	assert_int_equal(f.unparsed, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_cut_and_repeated),
		cmocka_unit_test(test_one_hole_at_a_time),
		cmocka_unit_test(test_hole_in_a_large_message),
		cmocka_unit_test(test_hole_in_a_prefix),
		cmocka_unit_test(test_look_alike_behind_a_hole),
		cmocka_unit_test(test_two_holes),
		cmocka_unit_test(test_any_disorder),
		cmocka_unit_test(test_nonsense_in_a_prefix),
		cmocka_unit_test(test_joined_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
