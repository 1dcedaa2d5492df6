/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events from programs in the running kernel: two threads flood one kind while
 * another kind trickles and the agent's side ticks. The trickle must be complete and
 * in order, and of the flood every attempt must be accounted for, exactly. Needs
 * root; skipped with that reason otherwise.
 */
#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
/* after the above: */
#include <cmocka.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "agent/event_log.h"
#include "agent/events.h"
#include "agent/kbpf.h"
#include "event_test.skel.h"

#define TICK_NS (20 * NS_PER_MS) /* as the agent counts time; the test moves it by hand */
#define FLOODERS 2
#define FLOOD_BATCH 2000

struct fixture {
	struct events *events;
	struct event_test_bpf *skel;
	struct event_control *control;
	size_t control_len;
	mono_time now;
	uint64_t logged;      /* newest ID looked at */
	uint64_t flood_seen, flood_missed; /* events, and the sum of their `suppressed` */
	uint64_t trickle_seen, next_trickle;
	bool trickle_may_miss;
};

static void fixture_open(struct fixture *f, uint32_t per_second)
{
	struct error error = { "" };

	memset(f, 0, sizeof(*f));
	if (geteuid()) {
		print_message("skipped: loading BPF programs needs root\n");
		skip();
	}
	kbpf_log_setup();
	if (events_new(per_second, &f->events, &error))
		fail_msg("%s", error.text);
	f->now = mono_now();
	f->skel = event_test_bpf__open();
	assert_non_null(f->skel);
	assert_int_equal(events_share(f->events, f->skel->obj), 0);
	if (event_test_bpf__load(f->skel))
		fail_msg("%s", kbpf_last_warning());
	assert_int_equal(kbpf_map_mmap(f->skel->maps.event_control, (void **)&f->control, &f->control_len), 0);
}

static void fixture_close(struct fixture *f)
{
	kbpf_map_munmap(f->control, f->control_len);
	event_test_bpf__destroy(f->skel);
	events_free(f->events);
}

/* The context is no packet that matters: the programs do not look at it. */
static void run(const struct bpf_program *program, int times)
{
	unsigned char packet[64] = { 0 };
	struct bpf_test_run_opts opts = { .sz = sizeof(opts), .data_in = packet, .data_size_in = sizeof(packet), .repeat = times };

	assert_int_equal(bpf_prog_test_run_opts(bpf_program__fd(program), &opts), 0);
}

static void look_at(const struct event_entry *entry, void *userdata)
{
	struct fixture *f = userdata;

	f->logged = entry->id;
	if (entry->event.kind == EVENT_DROP) {
		f->flood_seen++;
		f->flood_missed += entry->suppressed;
		return;
	}
	assert_int_equal(entry->event.kind, EVENT_RESET);
	if (!f->trickle_may_miss)
		assert_int_equal(entry->suppressed, 0);
	assert_int_equal(entry->event.pid, f->next_trickle + entry->suppressed);
	f->next_trickle = entry->event.pid + 1;
	f->trickle_seen++;
}

/* Looks at everything that was logged, as long as a kind's allowance per tick is below what the log keeps of it. */
static void tick(struct fixture *f, uint64_t ns)
{
	const struct event_filter filter = { .since = f->logged, .limit = SIZE_MAX };

	f->now.ns += ns;
	events_tick(f->events, f->now);
	event_log_each(events_log(f->events), &filter, look_at, f);
}

struct flooder {
	struct fixture *f;
	pthread_t thread;
	bool stop;
};

static void *flood(void *userdata)
{
	struct flooder *flooder = userdata;

	while (!__atomic_load_n(&flooder->stop, __ATOMIC_RELAXED))
		run(flooder->f->skel->progs.flood, FLOOD_BATCH);
	return NULL;
}

/* Ticks for a while, with one event of the other kind before each. */
static void flood_for(struct fixture *f, unsigned ticks)
{
	struct flooder flooders[FLOODERS];

	for (size_t i = 0; i < FLOODERS; i++) {
		flooders[i] = (struct flooder){ .f = f };
		assert_int_equal(pthread_create(&flooders[i].thread, NULL, flood, &flooders[i]), 0);
	}
	for (unsigned i = 0; i < ticks; i++) {
		uint64_t before = __atomic_load_n(&f->skel->bss->floods, __ATOMIC_RELAXED);

		run(f->skel->progs.trickle, 1);
		while (__atomic_load_n(&f->skel->bss->floods, __ATOMIC_RELAXED) < before + 500)
			sched_yield();
		tick(f, TICK_NS);
	}
	for (size_t i = 0; i < FLOODERS; i++) {
		__atomic_store_n(&flooders[i].stop, true, __ATOMIC_RELAXED);
		pthread_join(flooders[i].thread, NULL);
	}
}

static void assert_exact(struct fixture *f, const char *what)
{
	const struct event_control *c = f->control;
	const uint64_t floods = f->skel->bss->floods;

	print_message("# %s: %" PRIu64 " attempts, %" PRIu64 " sent, %" PRIu64 " suppressed, %" PRIu64 " lost; %" PRIu64 " of %" PRIu64
		      " of the other kind\n", what, floods, (uint64_t)c->sent[EVENT_DROP], (uint64_t)c->suppressed[EVENT_DROP],
		      (uint64_t)c->lost[EVENT_DROP], f->trickle_seen, (uint64_t)f->skel->bss->trickles);
	assert_int_equal(c->sent[EVENT_DROP] + c->suppressed[EVENT_DROP] + c->lost[EVENT_DROP], floods);
	assert_int_equal(event_log_total(events_log(f->events), EVENT_DROP), c->sent[EVENT_DROP]);
	assert_int_equal(c->sent[EVENT_RESET] + c->suppressed[EVENT_RESET] + c->lost[EVENT_RESET], f->skel->bss->trickles);
	assert_int_equal(event_log_total(events_log(f->events), EVENT_RESET), c->sent[EVENT_RESET]);
	assert_int_equal(events_lost(f->events), c->lost[EVENT_DROP] + c->lost[EVENT_RESET]);
}

static void test_flood_of_one_kind_hides_no_other(void **state)
{
	for (unsigned i = 0; i < 3; i++) {
		struct fixture f;

		fixture_open(&f, 200);
		flood_for(&f, 200);
		tick(&f, TICK_NS);
		assert_exact(&f, "flood");
		assert_int_equal(f.trickle_seen, 200);
		assert_int_equal(f.flood_seen, f.control->sent[EVENT_DROP]);
		assert_int_equal(f.control->lost[EVENT_DROP], 0);
		assert_true(f.control->suppressed[EVENT_DROP] > 0);
		/* The first burst, and 4 with each tick but the last, after which nothing was flooded; CPUs that meet at the
		 * limit may each take one more. */
		assert_true(f.control->sent[EVENT_DROP] >= 200 + 4 * 199);
		assert_true(f.control->sent[EVENT_DROP] <= 200 + (4 + (uint64_t)sysconf(_SC_NPROCESSORS_CONF)) * 201);
		/* One more event tells the rest of what was suppressed. */
		tick(&f, NS_PER_SEC);
		run(f.skel->progs.flood, 1);
		tick(&f, TICK_NS);
		assert_int_equal(f.flood_missed, f.control->suppressed[EVENT_DROP]);
		fixture_close(&f);
	}
}

static void open_allowance(struct fixture *f)
{
	f->control->limit[EVENT_DROP] = f->control->limit[EVENT_RESET] = UINT64_MAX / 2;
}

/* With the allowance forced open the ring is full: then both kinds lose, and all that is lost is counted. */
static void test_full_ring_is_counted(void **state)
{
	for (unsigned i = 0; i < 3; i++) {
		struct fixture f;

		fixture_open(&f, 200);
		f.trickle_may_miss = true;
		open_allowance(&f);
		run(f.skel->progs.flood, 100000);
		run(f.skel->progs.trickle, 10);
		assert_int_equal(f.control->lost[EVENT_RESET], 10);
		tick(&f, TICK_NS);
		assert_int_equal(f.control->limit[EVENT_DROP], f.control->used[EVENT_DROP] + 200); /* and is closed again */
		open_allowance(&f);
		flood_for(&f, 50);
		open_allowance(&f);
		run(f.skel->progs.flood, 100000);
		tick(&f, TICK_NS);
		run(f.skel->progs.trickle, 1);
		tick(&f, TICK_NS);
		assert_exact(&f, "full ring");
		assert_true(f.control->lost[EVENT_DROP] > 0);
		fixture_close(&f);
	}
}

/* The token bucket, without concurrency: a burst of one second, then so much per second, whatever the tick. */
static void test_allowance(void **state)
{
	struct fixture f;
	const uint64_t *sent;

	fixture_open(&f, 100);
	tick(&f, 0); /* from here on the time is ours */
	sent = (const uint64_t *)&f.control->sent[EVENT_DROP];
	run(f.skel->progs.flood, 1000);
	tick(&f, NS_PER_SEC);
	assert_int_equal(*sent, 100);
	run(f.skel->progs.flood, 1000);
	tick(&f, 50 * NS_PER_MS);
	assert_int_equal(*sent, 200);
	for (unsigned i = 0; i < 20; i++) { /* 5 per 50 ms */
		run(f.skel->progs.flood, 50);
		tick(&f, 50 * NS_PER_MS);
		assert_int_equal(*sent, 205 + 5 * i);
	}
	for (unsigned i = 0; i < 10; i++) /* a quiet time saves up no more than one second */
		tick(&f, NS_PER_SEC);
	run(f.skel->progs.flood, 1000);
	tick(&f, NS_PER_SEC);
	assert_int_equal(*sent, 400);
	/* A tick of 4 s has the allowance of 4 s, of which one may be used at the end of the others. */
	tick(&f, 4 * NS_PER_SEC);
	run(f.skel->progs.flood, 1000);
	tick(&f, NS_PER_SEC);
	assert_int_equal(*sent, 800);
	assert_int_equal(f.control->lost[EVENT_DROP], 0);

	events_set_limit(f.events, 1); /* less than one per tick */
	tick(&f, NS_PER_SEC);
	for (unsigned i = 0; i < 100; i++) {
		run(f.skel->progs.flood, 10);
		tick(&f, 20 * NS_PER_MS);
	}
	assert_in_range(*sent - 800, 2, 3);
	fixture_close(&f);
}

/* What the agent itself adds has the same allowance, and stands with the kernel's in the order of time. */
static void test_user_space_shares_the_allowance(void **state)
{
	struct event event = { .kind = EVENT_DROP };
	struct fixture f;

	fixture_open(&f, 100);
	run(f.skel->progs.flood, 60);
	for (unsigned i = 0; i < 60; i++)
		events_add(f.events, &event, "eth7");
	assert_int_equal(event_log_newest(events_log(f.events)), 0); /* with the next tick */
	tick(&f, NS_PER_SEC);
	assert_int_equal(f.flood_seen, 100);
	assert_int_equal(f.control->suppressed[EVENT_DROP], 20);
	assert_int_equal(f.control->sent[EVENT_DROP], 100);
	fixture_close(&f);
}

struct list {
	struct event_entry entries[8];
	size_t n;
};

static void keep(const struct event_entry *entry, void *userdata)
{
	struct list *list = userdata;

	assert_true(list->n < 8);
	list->entries[list->n++] = *entry;
}

/* In the order of time, whoever brings them and when; a time of day; a name of a device where the number means one. */
static void test_order_time_and_device(void **state)
{
	struct event early = { .kind = EVENT_RESET, .pid = 11 }, elsewhere = { .kind = EVENT_DROP, .ifindex = 1, .netns = 1 };
	const struct event_filter all = { .limit = SIZE_MAX };
	struct list list = { .n = 0 };
	struct fixture f;
	int64_t before, after;

	fixture_open(&f, 100);
	early.time_ns = mono_now().ns;
	before = wall_now().ns;
	run(f.skel->progs.trickle, 1);
	after = wall_now().ns;
	events_add(f.events, &elsewhere, NULL);
	events_add(f.events, &early, "eth9");
	events_tick(f.events, f.now);
	assert_int_equal(event_log_each(events_log(f.events), &all, keep, &list), 3);
	assert_int_equal(list.entries[0].event.pid, 11);
	assert_string_equal(list.entries[0].device, "eth9");
	assert_int_equal(list.entries[1].event.kind, EVENT_RESET);
	assert_string_equal(list.entries[1].device, "lo");
	assert_in_range(list.entries[1].time.ns, before - (int64_t)NS_PER_MS, after + (int64_t)NS_PER_MS);
	assert_int_equal(list.entries[2].event.kind, EVENT_DROP);
	assert_string_equal(list.entries[2].device, ""); /* index 1 of another namespace says nothing here */
	assert_int_equal(list.entries[2].event.count, 1);
	fixture_close(&f);
}

static void test_objects_share_one_allowance(void **state)
{
	struct event_test_bpf *skel;
	struct fixture f;

	fixture_open(&f, 100);
	f.trickle_may_miss = true;
	skel = event_test_bpf__open();
	assert_non_null(skel);
	assert_int_equal(events_share(f.events, skel->obj), 0);
	assert_int_equal(event_test_bpf__load(skel), 0);
	run(skel->progs.trickle, 60);
	run(f.skel->progs.trickle, 60);
	assert_int_equal(f.control->sent[EVENT_RESET], 100);
	assert_int_equal(f.control->suppressed[EVENT_RESET], 20);
	event_test_bpf__destroy(skel);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_allowance),
		cmocka_unit_test(test_user_space_shares_the_allowance),
		cmocka_unit_test(test_order_time_and_device),
		cmocka_unit_test(test_objects_share_one_allowance),
		cmocka_unit_test(test_flood_of_one_kind_hides_no_other),
		cmocka_unit_test(test_full_ring_is_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
