/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the flow programs share: a network namespace, the programs
 * loaded for its loopback, and packets handed to them with BPF_PROG_TEST_RUN.
 * To be included once by a test program, behind nothing else.
 */
#pragma once
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
/* after the above: */
#include <cmocka.h>

#include "agent/flow_program.h"
#include "agent/kbpf.h"
#include "agent/peers.h"
#include "lib/settings.h"
#include "parse.h"
#include "frame_fixture.h"

#define A "10.77.0.1"
#define B "10.77.0.2"
#define CONVERSATIONS 64

struct fixture {
	struct settings settings;
	struct peers *peers;
	struct flow_program *program;
	int receive, transmit; /* descriptors of the programs; 0 when not loaded */
	mono_time now;
};

static inline int own_namespace(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd, r;

	if (unshare(CLONE_NEWNET))
		return -errno;
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	r = ioctl(fd, SIOCSIFFLAGS, &request) ? -errno : 0;
	close(fd);
	return r;
}

static inline void remember(const char *name, int fd, void *userdata)
{
	struct fixture *f = userdata;

	if (!strcmp(name, "flow_receive"))
		f->receive = fd;
	else if (!strcmp(name, "flow_transmit"))
		f->transmit = fd;
}

static inline void fixture_open(struct fixture *f, const char *yaml, const struct flow_device *devices, uint32_t n, enum flow_mode mode)
{
	struct buffer errors = BUFFER_INIT;
	struct error error = { "" };

	memset(f, 0, sizeof(*f));
	if (geteuid()) {
		print_message("skipped: loading BPF programs needs root\n");
		skip();
	}
	if (settings_parse(yaml, strlen(yaml), "test", &f->settings, &errors))
		fail_msg("%s", errors.data);
	if (peers_new(&f->settings, &f->peers, &error) ||
	    flow_program_open(f->peers, devices, n, CONVERSATIONS, mode, &f->program, &error))
		fail_msg("%s", error.text);
	f->now = mono_now();
	flow_program_each(f->program, remember, f);
}

static const struct flow_device loopback = { .name = "lo", .ifindex = 1 };

/* With the programs of tcx, which can be run on packets from here. */
static inline void fixture_open_runnable(struct fixture *f, const struct flow_device *devices, uint32_t n)
{
	fixture_open(f, "", devices, n, FLOW_TCX);
}

static inline void fixture_close(struct fixture *f)
{
	flow_program_close(f->program);
	peers_free(f->peers);
	settings_done(&f->settings);
}

static inline void tick(struct fixture *f, uint64_t ns)
{
	f->now.ns += ns;
	peers_begin(f->peers);
	peers_end(f->peers, f->now);
	flow_program_age(f->program, f->now);
}

/* The start of the uapi's struct __sk_buff. */
struct context {
	uint32_t unused[10], ifindex, unused2[30], gso_segs, unused3[2], gso_size;
};
_Static_assert(offsetof(struct context, gso_segs) == 164 && offsetof(struct context, gso_size) == 176, "the uapi's layout");

static inline void run(const struct fixture *f, enum flow_direction direction, const void *data, size_t len, uint32_t ifindex, uint32_t segments,
		uint32_t segment_size)
{
	uint8_t context[192] = { 0 };
	struct bpf_test_run_opts options;
	int r;

	memcpy(context + offsetof(struct context, ifindex), &ifindex, sizeof(ifindex));
	memcpy(context + offsetof(struct context, gso_segs), &segments, sizeof(segments));
	memcpy(context + offsetof(struct context, gso_size), &segment_size, sizeof(segment_size));
	memset(&options, 0, sizeof(options)); /* the padding too: libbpf looks */
	options.sz = sizeof(options);
	options.data_in = data;
	options.data_size_in = (uint32_t)len;
	options.repeat = 1;
	options.ctx_in = context;
	options.ctx_size_in = sizeof(context);
	r = bpf_prog_test_run_opts(direction == FLOW_RECEIVE ? f->receive : f->transmit, &options);
	assert_int_equal(r, 0);
	assert_int_equal((int)options.retval, -1); /* the packet goes on */
}

/* ---- packets ---- */


static inline void put16(struct frame *frame, unsigned v)
{
	uint16_t n = htons((uint16_t)v);

	put(frame, &n, 2);
}

static inline void put32(struct frame *frame, uint32_t v)
{
	uint32_t n = htonl(v);

	put(frame, &n, 4);
}

static inline void put_ethernet(struct frame *frame, unsigned type)
{
	PUT(frame, "\x02\0\0\0\0\x01\x02\0\0\0\0\x02");
	put16(frame, type);
}

static inline void put_ipv4(struct frame *frame, const char *from, const char *to, unsigned protocol, size_t payload, unsigned fragment)
{
	struct in_addr source, destination;

	inet_pton(AF_INET, from, &source);
	inet_pton(AF_INET, to, &destination);
	put16(frame, 0x4500);
	put16(frame, (unsigned)(20 + payload));
	put16(frame, 1);
	put16(frame, fragment);
	put16(frame, 64 << 8 | protocol);
	put16(frame, 0);
	put(frame, &source, 4);
	put(frame, &destination, 4);
}

static inline void put_ipv6(struct frame *frame, unsigned next, size_t payload)
{
	put32(frame, 6U << 28);
	put16(frame, (unsigned)payload);
	put16(frame, next << 8 | 64);
	PUT(frame, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01");
	PUT(frame, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02");
}

static inline void put_udp(struct frame *frame, size_t payload)
{
	put16(frame, 1000);
	put16(frame, 2000);
	put16(frame, (unsigned)(8 + payload));
	put16(frame, 0);
	put(frame, NULL, payload);
}

struct segment {
	unsigned from_port, to_port, flags;
	uint32_t sequence, acknowledgement;
	uint32_t stamp, echo; /* 0, 0: no option */
	size_t payload;
};

static inline size_t segment_size(const struct segment *s)
{
	return (s->stamp || s->echo ? 32 : 20) + s->payload;
}

static inline void put_tcp(struct frame *frame, const struct segment *s)
{
	bool stamps = s->stamp || s->echo;

	put16(frame, s->from_port);
	put16(frame, s->to_port);
	put32(frame, s->sequence);
	put32(frame, s->acknowledgement);
	put16(frame, (stamps ? 0x8000 : 0x5000) | s->flags);
	put16(frame, 65535);
	put32(frame, 0);
	if (stamps) {
		put32(frame, 0x0101080a);
		put32(frame, s->stamp);
		put32(frame, s->echo);
	}
	put(frame, NULL, s->payload);
}

/* ---- what was counted ---- */

static const struct flow_row *row_named(const struct fixture *f, uint32_t device, const char *peer, enum flow_direction direction)
{
	for (uint32_t slot = direction; slot < peers_slots(f->peers); slot += FLOW_DIRECTION_COUNT) {
		const char *label = peers_label(f->peers, slot);

		if (label && !strcmp(label, peer))
			return flow_program_row(f->program, device, slot);
	}
	return NULL;
}

static inline void expect(struct fixture *f, uint32_t device, const char *peer, enum flow_direction direction, enum flow_protocol protocol,
		   uint64_t packets, uint64_t bytes)
{
	const struct flow_row *row;

	tick(f, 0);
	row = row_named(f, device, peer, direction);
	if (!row)
		fail_msg("%s has no row", peer);
	assert_int_equal(row->packets[protocol], packets);
	assert_int_equal(row->bytes[protocol], bytes);
	for (size_t i = 0; i < FLOW_PROTOCOL_COUNT; i++)
		if (i != protocol)
			assert_int_equal(row->packets[i], 0);
}

static const struct flow_hist *hist_named(struct fixture *f, uint32_t device, const char *peer)
{
	for (uint32_t slot = 0; slot < peers_slots(f->peers); slot++) {
		const char *label = peers_label(f->peers, slot);

		if (label && !strcmp(label, peer))
			return flow_program_hist(f->program, device, slot);
	}
	return NULL;
}

static inline uint64_t samples_of(struct fixture *f, const char *peer)
{
	const struct flow_hist *h;
	uint64_t sum = 0;

	tick(f, 0);
	h = hist_named(f, 0, peer);
	for (size_t i = 0; h && i < HIST_BUCKETS; i++)
		sum += h->buckets[i];
	if (h)
		assert_int_equal(sum, h->count);
	return sum;
}
