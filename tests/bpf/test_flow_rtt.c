/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flow programs in the running kernel: which round-trip times come out of a
 * sequence of segments written here, and how long a conversation is remembered.
 * Needs root; skipped with that reason otherwise.
 */
#include "flow_fixture.h"

enum { F = PACKET_FIN, S = PACKET_SYN, R = PACKET_RST, K = PACKET_ACK };

/* One segment, and whether it brings a sample of its sender. */
struct step {
	char from;
	uint8_t flags;
	uint32_t sequence, acknowledgement, stamp, echo;
	uint16_t payload;
	uint8_t samples;
	uint16_t fragment, vlan; /* of the IPv4 header; 0: none */
};

static void put_step(struct frame *frame, const struct step *step)
{
	struct segment s = {
		.from_port = step->from == 'A' ? 40000 : 80, .to_port = step->from == 'A' ? 80 : 40000, .flags = step->flags,
		.sequence = step->sequence, .acknowledgement = step->acknowledgement, .stamp = step->stamp, .echo = step->echo,
		.payload = step->payload,
	};

	frame->len = 0;
	put_ethernet(frame, step->vlan ? 0x8100 : 0x0800);
	if (step->vlan) {
		put16(frame, step->vlan);
		put16(frame, 0x0800);
	}
	put_ipv4(frame, step->from == 'A' ? A : B, step->from == 'A' ? B : A, 6, segment_size(&s), step->fragment);
	put_tcp(frame, &s);
}

static const struct step with_stamps[] = {
	{ 'A', S, 1000, 0, 100, 0, 0, 0, 0, 0 },
	{ 'B', S | K, 5000, 1001, 900, 100, 0, 1, 0, 0 },
	{ 'A', K, 1001, 5001, 101, 900, 0, 1, 0, 0 },
	{ 'A', K, 1001, 5001, 105, 900, 100, 0, 0, 0 },
	{ 'B', K, 5001, 1101, 910, 105, 0, 1, 0, 0 },
	{ 'B', K, 5001, 1101, 911, 105, 0, 0, 0, 0 },    /* the same echo again */
	{ 'A', K, 1101, 5001, 120, 911, 0, 0, 0, 0 },    /* nobody acknowledges an acknowledgement: */
	{ 'B', K, 5001, 1101, 920, 120, 50, 0, 0, 0 },
	{ 'A', K, 1101, 5051, 130, 920, 0, 1, 0, 0 },    /* but this one acknowledges data */
	{ 'A', K, 1101, 5051, 130, 920, 10, 0, 0, 0 },   /* 130 was sighted before: its echo may be the older one's */
	{ 'B', K, 5051, 1111, 930, 130, 0, 0, 0, 0 },
	{ 'A', K, 1111, 5051, 140, 930, 10, 0, 0, 0 },
	{ 'A', K, 1121, 5051, 141, 930, 10, 0, 0, 0 },   /* one is awaited at a time; */
	{ 'B', K, 5051, 1131, 940, 140, 0, 1, 0, 0 },    /* delayed acknowledgement of both */
	{ 'A', K, 1131, 5051, 0xffffffff, 940, 10, 0, 0, 0 }, /* far below: not newer */
	{ 'B', K, 5051, 1141, 941, 0xffffffff, 0, 0, 0, 0 },
};
static const struct step retransmitted_with_stamps[] = {
	{ 'A', S, 1000, 0, 100, 0, 0, 0, 0, 0 },
	{ 'A', S, 1000, 0, 1100, 0, 0, 0, 0, 0 },        /* again after a second: the newer one is awaited */
	{ 'B', S | K, 5000, 1001, 900, 1100, 0, 1, 0, 0 },
	{ 'A', K, 1001, 5001, 1101, 900, 0, 1, 0, 0 },
	{ 'A', K, 1001, 5001, 1110, 900, 100, 0, 0, 0 }, /* lost behind us */
	{ 'A', K, 1001, 5001, 1310, 900, 100, 0, 0, 0 },
	{ 'B', K, 5001, 1101, 920, 1310, 0, 0, 0, 0 },   /* answers the second: no sample of the first */
	{ 'A', K, 1101, 5001, 1320, 920, 100, 0, 0, 0 },
	{ 'B', K, 5001, 1201, 930, 1320, 0, 1, 0, 0 },
	{ 'A', K, 1201, 5001, 1331, 930, 100, 0, 0, 0 }, /* reordered: the later one first */
	{ 'A', K, 1101, 5001, 1330, 930, 100, 0, 0, 0 },
	{ 'B', K, 5001, 1201, 940, 1320, 0, 0, 0, 0 },   /* duplicate acknowledgement echoes what it echoed */
	{ 'B', K, 5001, 1301, 941, 1331, 0, 1, 0, 0 },
};
static const struct step without_stamps[] = {
	{ 'A', S, 1000, 0, 0, 0, 0, 0, 0, 0 },
	{ 'B', S | K, 5000, 1001, 0, 0, 0, 1, 0, 0 },
	{ 'A', K, 1001, 5001, 0, 0, 0, 1, 0, 0 },
	{ 'A', K, 1001, 5001, 0, 0, 100, 0, 0, 0 },
	{ 'B', K, 5001, 1051, 0, 0, 0, 0, 0, 0 },        /* half of it */
	{ 'B', K, 5001, 1101, 0, 0, 0, 1, 0, 0 },
	{ 'B', K, 5001, 1101, 0, 0, 0, 0, 0, 0 },
	{ 'A', K, 1101, 5001, 0, 0, 100, 0, 0, 0 },
	{ 'A', K, 1101, 5001, 0, 0, 100, 0, 0, 0 },      /* Karn: which of both is acknowledged? */
	{ 'B', K, 5001, 1201, 0, 0, 0, 0, 0, 0 },
	{ 'A', K, 1301, 5001, 0, 0, 100, 0, 0, 0 },      /* reordered before us, or lost: */
	{ 'A', K, 1201, 5001, 0, 0, 100, 0, 0, 0 },
	{ 'B', K, 5001, 1401, 0, 0, 0, 0, 0, 0 },
	{ 'A', K, 1401, 5001, 0, 0, 100, 0, 0, 0 },
	{ 'A', K, 1501, 5001, 0, 0, 100, 0, 0, 0 },
	{ 'B', K, 5001, 1601, 0, 0, 0, 1, 0, 0 },        /* both at once */
	{ 'A', K, 1601, 5001, 0, 0, 100, 0, 0, 0 },
	{ 'B', K, 5001, 9000, 0, 0, 0, 0, 0, 0 },        /* acknowledges what was never sighted */
	{ 'B', K, 5001, 1701, 0, 0, 0, 0, 0, 0 },
};
static const struct step syn_again_without_stamps[] = {
	{ 'A', S, 1000, 0, 0, 0, 0, 0, 0, 0 },
	{ 'A', S, 1000, 0, 0, 0, 0, 0, 0, 0 },
	{ 'B', S | K, 5000, 1001, 0, 0, 0, 0, 0, 0 },
	{ 'A', K, 1001, 5001, 0, 0, 0, 1, 0, 0 },
	{ 'A', S, 7000, 0, 0, 0, 0, 0, 0, 0 },           /* another connection with the same ports */
	{ 'B', S | K, 6000, 7001, 0, 0, 0, 1, 0, 0 },
	{ 'A', K, 7001, 6001, 0, 0, 0, 1, 0, 0 },
};
static const struct step begun_before_us[] = {
	{ 'B', K, 5001, 1001, 900, 100, 0, 0, 0, 0 },
	{ 'A', K, 1001, 5001, 105, 900, 100, 0, 0, 0 },  /* 105 may have been sent before */
	{ 'B', K, 5001, 1101, 910, 105, 0, 0, 0, 0 },
	{ 'A', K, 1101, 5001, 110, 910, 100, 0, 0, 0 },
	{ 'B', K, 5001, 1201, 920, 110, 0, 1, 0, 0 },
};
static const struct step begun_before_us_without_stamps[] = {
	{ 'A', K, 1001, 5001, 0, 0, 100, 0, 0, 0 },      /* may be a retransmission */
	{ 'B', K, 5001, 1101, 0, 0, 0, 0, 0, 0 },
	{ 'A', K, 1101, 5001, 0, 0, 100, 0, 0, 0 },
	{ 'B', K, 5001, 1201, 0, 0, 0, 1, 0, 0 },
};
static const struct step numbers_wrap_round[] = {
	{ 'A', S, 0xffffff00, 0, 0xfffffffe, 0, 0, 0, 0, 0 },
	{ 'B', S | K, 0xffffffff, 0xffffff01, 900, 0xfffffffe, 0, 1, 0, 0 },
	{ 'A', K, 0xffffff01, 0, 3, 900, 1000, 1, 0, 0 },
	{ 'B', K, 0, 0x2e9, 910, 3, 0, 1, 0, 0 },
	{ 'A', K, 0x2e9, 0, 0, 0, 10, 0, 0, 0 },         /* now without the option: learns where it stands */
	{ 'A', K, 0x2f3, 0, 0, 0, 10, 0, 0, 0 },
	{ 'B', K, 0, 0x2fd, 0, 0, 0, 1, 0, 0 },
};
static const struct step sequence_wraps_round[] = {
	{ 'A', S, 0xffffff00, 0, 0, 0, 0, 0, 0, 0 },
	{ 'B', S | K, 0xffffffff, 0xffffff01, 0, 0, 0, 1, 0, 0 },
	{ 'A', K, 0xffffff01, 0, 0, 0, 1000, 1, 0, 0 },
	{ 'B', K, 0, 0xffffff10, 0, 0, 0, 0, 0, 0 },
	{ 'B', K, 0, 0x2e9, 0, 0, 0, 1, 0, 0 },
};
/* Both FINs are on their way at once; each is answered. */
static const struct step closed_at_once[] = {
	{ 'A', S, 1000, 0, 100, 0, 0, 0, 0, 0 },
	{ 'B', S | K, 5000, 1001, 900, 100, 0, 1, 0, 0 },
	{ 'A', K, 1001, 5001, 101, 900, 0, 1, 0, 0 },
	{ 'A', F | K, 1001, 5001, 110, 900, 0, 0, 0, 0 },
	{ 'B', F | K, 5001, 1001, 910, 101, 0, 0, 0, 0 },
	{ 'A', K, 1002, 5002, 130, 910, 0, 1, 0, 0 },
	{ 'B', K, 5002, 1002, 930, 110, 0, 1, 0, 0 },
};
/* The far side resets: an answer that proves nothing. */
static const struct step reset[] = {
	{ 'A', S, 1000, 0, 100, 0, 0, 0, 0, 0 },
	{ 'B', R | K, 0, 1001, 0, 0, 0, 0, 0, 0 },
};
static const struct step fragments[] = {
	{ 'A', S, 1000, 0, 100, 0, 0, 0, 0, 0 },
	{ 'B', S | K, 5000, 1001, 900, 100, 0, 1, 0, 0 },
	{ 'A', K, 1001, 5001, 110, 900, 800, 0, 0x2000, 0 },
	{ 'B', K, 5001, 1801, 910, 110, 0, 0, 0, 0 },
};
/* A router on a stick: the same segment twice on the device, with another tag; the times are those of each network. */
static const struct step on_a_stick[] = {
	{ 'A', S, 1000, 0, 100, 0, 0, 0, 0, 10 },
	{ 'A', S, 1000, 0, 100, 0, 0, 0, 0, 20 },
	{ 'B', S | K, 5000, 1001, 900, 100, 0, 1, 0, 20 },
	{ 'B', S | K, 5000, 1001, 900, 100, 0, 1, 0, 10 },
	{ 'A', K, 1001, 5001, 101, 900, 0, 1, 0, 10 },
	{ 'A', K, 1001, 5001, 101, 900, 0, 1, 0, 20 },
};

static void sleep_ms(unsigned ms)
{
	const struct timespec t = { .tv_nsec = ms * 1000000L };

	nanosleep(&t, NULL);
}

static void round_trips(void **state)
{
	static const struct {
		const char *name;
		const struct step *steps;
		size_t n;
	} rows[] = {
#define STEPS(array) { #array, array, sizeof(array) / sizeof(array[0]) }
		STEPS(with_stamps), STEPS(retransmitted_with_stamps), STEPS(without_stamps), STEPS(syn_again_without_stamps),
		STEPS(begun_before_us), STEPS(begun_before_us_without_stamps), STEPS(numbers_wrap_round), STEPS(sequence_wraps_round),
		STEPS(closed_at_once), STEPS(reset), STEPS(fragments), STEPS(on_a_stick),
#undef STEPS
	};

	(void)state;
	/* Mirrored, both ways are received; forwarded, one is transmitted. */
	for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t a = 0, b = 0;
		struct frame frame;
		struct fixture f;

		fixture_open_runnable(&f, &loopback, 1);
		for (size_t k = 0; k < rows[i / 2].n; k++) {
			const struct step *step = &rows[i / 2].steps[k];

			put_step(&frame, step);
			run(&f, i % 2 && step->from == 'B' ? FLOW_TRANSMIT : FLOW_RECEIVE, frame.data, frame.len, 1, 0, 0);
			*(step->from == 'A' ? &a : &b) += step->samples;
			if (samples_of(&f, A) != a || samples_of(&f, B) != b)
				fail_msg("%s, step %zu: samples of A %ju, not %ju; of B %ju, not %ju", rows[i / 2].name, k,
					 (uintmax_t)samples_of(&f, A), (uintmax_t)a, (uintmax_t)samples_of(&f, B), (uintmax_t)b);
		}
		fixture_close(&f);
	}
}

/* The time between two segments is what comes out. */
static void times_are_right(void **state)
{
	static const struct step data = { 'A', K, 1001, 5001, 105, 900, 100, 0, 0, 0 }, echo = { 'B', K, 5001, 1101, 910, 105, 0, 1, 0, 0 };
	mono_time before, after, last;
	struct frame frame;
	struct fixture f;
	uint64_t first, ns;

	(void)state;
	fixture_open_runnable(&f, &loopback, 1);
	for (size_t k = 0; k < 3; k++) {
		put_step(&frame, &with_stamps[k]);
		run(&f, FLOW_RECEIVE, frame.data, frame.len, 1, 0, 0);
	}
	tick(&f, 0);
	first = hist_named(&f, 0, B)->sum_ns;
	put_step(&frame, &data);
	before = mono_now();
	run(&f, FLOW_RECEIVE, frame.data, frame.len, 1, 0, 0);
	after = mono_now();
	sleep_ms(25);
	put_step(&frame, &echo);
	last = mono_now();
	run(&f, FLOW_TRANSMIT, frame.data, frame.len, 1, 0, 0);
	ns = hist_named(&f, 0, B)->sum_ns - first;
	assert_in_range(ns, mono_since_ns(last, after), mono_since_ns(mono_now(), before));
	fixture_close(&f);
}

static uint64_t conversations(const struct fixture *f)
{
	struct flow_program_stats stats;

	flow_program_stats(f->program, &stats);
	return stats.conversations;
}

static void send_syn(const struct fixture *f, unsigned port)
{
	const struct segment s = { .from_port = port, .to_port = 80, .flags = S, .sequence = 1 };
	struct frame frame = { .len = 0 };

	put_ethernet(&frame, 0x0800);
	put_ipv4(&frame, A, B, 6, segment_size(&s), 0);
	put_tcp(&frame, &s);
	run(f, FLOW_RECEIVE, frame.data, frame.len, 1, 0, 0);
}

static void send_steps(const struct fixture *f, const struct step *steps, size_t n)
{
	struct frame frame;

	for (size_t i = 0; i < n; i++) {
		put_step(&frame, &steps[i]);
		run(f, FLOW_RECEIVE, frame.data, frame.len, 1, 0, 0);
	}
}

static void conversations_end(void **state)
{
	static const struct step fin[] = {
		{ 'A', F | K, 1001, 5001, 200, 900, 0, 0, 0, 0 },
		{ 'B', K, 5001, 1002, 950, 200, 0, 0, 0, 0 },
		{ 'B', F | K, 5001, 1002, 960, 200, 0, 0, 0, 0 },
	}, last = { 'A', K, 1002, 5002, 210, 960, 0, 0, 0, 0 }, rst = { 'A', R, 1001, 0, 0, 0, 0, 0, 0, 0 };
	struct fixture f;

	(void)state;
	fixture_open_runnable(&f, &loopback, 1);
	send_steps(&f, with_stamps, 3);
	send_steps(&f, fin, 3);
	assert_int_equal(conversations(&f), 1);
	send_steps(&f, &last, 1);
	assert_int_equal(conversations(&f), 0);
	send_steps(&f, &last, 1); /* begins none */
	assert_int_equal(conversations(&f), 0);
	send_steps(&f, with_stamps, 3);
	send_steps(&f, &rst, 1);
	assert_int_equal(conversations(&f), 0);
	/* Age: only one side seen; both. */
	send_syn(&f, 1);
	send_steps(&f, with_stamps, 3);
	tick(&f, 3 * NS_PER_SEC);
	assert_int_equal(conversations(&f), 2);
	tick(&f, 2 * NS_PER_SEC);
	assert_int_equal(conversations(&f), 1);
	send_steps(&f, &with_stamps[3], 1); /* is young again */
	tick(&f, 60 * NS_PER_SEC);
	assert_int_equal(conversations(&f), 1);
	tick(&f, 2 * NS_PER_SEC);
	assert_int_equal(conversations(&f), 0);
	fixture_close(&f);
}

static void a_full_map_is_counted(void **state)
{
	struct flow_program_stats stats;
	struct fixture f;

	(void)state;
	fixture_open_runnable(&f, &loopback, 1);
	for (unsigned port = 1; port <= CONVERSATIONS + 10; port++)
		send_syn(&f, port);
	flow_program_stats(f.program, &stats);
	assert_int_equal(stats.conversations, CONVERSATIONS);
	assert_int_equal(stats.lost[FLOW_LOST_CONVERSATION], 10);
	expect(&f, 0, A, FLOW_RECEIVE, FLOW_TCP, CONVERSATIONS + 10, (CONVERSATIONS + 10) * 40); /* counted all the same */
	tick(&f, 5 * NS_PER_SEC);
	send_steps(&f, with_stamps, 3);
	flow_program_stats(f.program, &stats);
	assert_int_equal(stats.conversations, 1);
	assert_int_equal(stats.lost[FLOW_LOST_CONVERSATION], 10);
	assert_int_equal(samples_of(&f, A), 1);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trips),
		cmocka_unit_test(times_are_right),
		cmocka_unit_test(conversations_end),
		cmocka_unit_test(a_full_map_is_counted),
	};

	kbpf_log_setup();
	if (!geteuid() && own_namespace())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
