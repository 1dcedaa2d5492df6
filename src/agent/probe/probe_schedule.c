/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why nothing exceeds the budget B in any second: packets leave at least 1 / (0.97 B) apart on the virtual clock, which may
 * be up to SLOT_MAX_NS (20 ms) behind the real one; so in any second there are at most 1 + 1.02 * 0.97 B = 1 + 0.99 B of
 * them, and a whole number that is at most 1 + 0.99 B is at most B. For bytes the 1 is a packet, so B is made smaller by the largest one.
 */
#include "agent/probe/probe_schedule.h"

#include <errno.h>
#include <stdlib.h>

#include "lib/clock.h"

#define SLOT_MIN_NS (1 * NS_PER_MS)
#define SLOT_MAX_NS (20 * NS_PER_MS)
#define PER_SLOT 8              /* probes that leave together */
#define MEAN_SHARE 0.95         /* of the budget, by the intervals */
#define PEAK_SHARE 0.97         /* of the budget, by the virtual clock */
#define PACKET_MAX 9100         /* bytes: the largest payload of the configuration, with headers */
#define JITTER 0.1
#define CHILDREN 4              /* of a place in the heap: half as deep as with two, and in one or two cache lines */
/* A path with a long interval is probed this soon for the first time, so that something is known of it. */
#define FIRST_WITHIN_NS (10 * NS_PER_SEC)
#define MICRO 1e6

/* xorshift64* (Vigna 2014): only to spread probes. */
static double random_unit(struct probe_schedule *s)
{
	s->random ^= s->random >> 12;
	s->random ^= s->random << 25;
	s->random ^= s->random >> 27;
	return (double)((s->random * 0x2545f4914f6cdd1dULL) >> 11) / (double)(1ULL << 53);
}

static uint64_t micro_rate(uint64_t interval_ns)
{
	return NS_PER_SEC * 1000000 / interval_ns;
}

static double smaller(double a, double b)
{
	return a < b ? a : b;
}

static double budget_of_bytes(const struct probe_schedule *s)
{
	return s->bytes_max > PACKET_MAX ? s->bytes_max - PACKET_MAX : 1;
}

/* What part of the extra fits behind the rest. */
static double share_of(double budget, double rest, double extra)
{
	if (extra <= 0)
		return 1;
	return rest >= budget ? 0 : smaller((budget - rest) / extra, 1);
}

static void share_budget(struct probe_schedule *s)
{
	const double packets = MEAN_SHARE * MICRO * s->packets_max, bytes = MEAN_SHARE * MICRO * budget_of_bytes(s);
	const double by_packets = (double)s->packets / packets, by_bytes = (double)s->bytes / bytes;

	s->stretch = by_packets > by_bytes ? by_packets : by_bytes;
	if (s->stretch < 1)
		s->stretch = 1;
	s->share = smaller(share_of(packets, (double)s->packets, (double)s->extra_packets),
			   share_of(bytes, (double)s->bytes, (double)s->extra_bytes));
}

void probe_schedule_init(struct probe_schedule *schedule, uint32_t packets_max, uint32_t bytes_max, uint64_t seed)
{
	*schedule = (struct probe_schedule){ .random = seed ? seed : 1 };
	probe_schedule_budget(schedule, packets_max, bytes_max);
}

void probe_schedule_done(struct probe_schedule *schedule)
{
	free(schedule->heap);
	*schedule = (struct probe_schedule){ 0 };
}

void probe_schedule_budget(struct probe_schedule *schedule, uint32_t packets_max, uint32_t bytes_max)
{
	schedule->packets_max = packets_max;
	schedule->bytes_max = bytes_max;
	share_budget(schedule);
}

/* The heap */

static void put(struct probe_schedule *s, size_t i, struct probe_schedule_place place)
{
	s->heap[i] = place;
	place.entry->place = (uint32_t)i + 1;
}

static void up(struct probe_schedule *s, size_t i)
{
	const struct probe_schedule_place place = s->heap[i];

	for (size_t parent; i && s->heap[parent = (i - 1) / CHILDREN].due_ns > place.due_ns; i = parent)
		put(s, i, s->heap[parent]);
	put(s, i, place);
}

static void down(struct probe_schedule *s, size_t i)
{
	const struct probe_schedule_place place = s->heap[i];

	for (size_t first; (first = CHILDREN * i + 1) < s->n;) {
		const size_t end = first + CHILDREN < s->n ? first + CHILDREN : s->n;
		size_t child = first;

		for (size_t other = first + 1; other < end; other++)
			if (s->heap[other].due_ns < s->heap[child].due_ns)
				child = other;
		if (s->heap[child].due_ns >= place.due_ns)
			break;
		put(s, i, s->heap[child]);
		i = child;
	}
	put(s, i, place);
}

/* Its time is another one now. */
static void moved(struct probe_schedule *s, struct probe_schedule_entry *entry)
{
	s->heap[entry->place - 1].due_ns = entry->due_ns;
	up(s, entry->place - 1);
	down(s, entry->place - 1);
}

/* Entries */

static void count(struct probe_schedule *s, const struct probe_schedule_entry *entry, bool add)
{
	const uint64_t rate = micro_rate(entry->interval_ns);
	const uint64_t extra = entry->fast_ns ? micro_rate(entry->fast_ns) - rate : 0;
	const uint64_t sign = add ? 1 : (uint64_t)-1;

	s->packets += sign * rate;
	s->bytes += sign * rate * entry->bytes;
	s->extra_packets += sign * extra;
	s->extra_bytes += sign * extra * entry->bytes;
	share_budget(s);
}

int probe_schedule_add(struct probe_schedule *schedule, struct probe_schedule_entry *entry, uint64_t interval_ns, uint32_t bytes,
		       uint64_t now_ns)
{
	const struct probe_schedule_entry before = *entry;
	uint64_t within;

	if (schedule->n == schedule->cap) {
		size_t cap = schedule->cap ? 2 * schedule->cap : 64;
		struct probe_schedule_place *heap = reallocarray(schedule->heap, cap, sizeof(*heap));

		if (!heap)
			return -ENOMEM;
		schedule->heap = heap;
		schedule->cap = cap;
	}
	*entry = (struct probe_schedule_entry){ .interval_ns = interval_ns, .bytes = bytes };
	count(schedule, entry, true);
	within = probe_schedule_interval(schedule, entry);
	entry->early = within > FIRST_WITHIN_NS;
	if (entry->early)
		within = FIRST_WITHIN_NS;
	entry->due_ns = now_ns + (uint64_t)(random_unit(schedule) * (double)within);
	if (before.interval_ns == interval_ns && before.due_ns > now_ns) {
		entry->due_ns = before.due_ns;
		entry->early = before.early;
	}
	schedule->heap[schedule->n++] = (struct probe_schedule_place){ entry->due_ns, entry };
	up(schedule, schedule->n - 1);
	return 0;
}

void probe_schedule_remove(struct probe_schedule *schedule, struct probe_schedule_entry *entry)
{
	size_t i = entry->place;

	if (!i--)
		return;
	count(schedule, entry, false);
	entry->place = 0;
	if (i == --schedule->n)
		return;
	put(schedule, i, schedule->heap[schedule->n]);
	moved(schedule, schedule->heap[i].entry);
}

void probe_schedule_speed(struct probe_schedule *schedule, struct probe_schedule_entry *entry, uint64_t fast_ns, uint64_t now_ns)
{
	uint64_t soon;

	if (!entry->place || fast_ns == entry->fast_ns || fast_ns >= entry->interval_ns)
		return;
	count(schedule, entry, false);
	entry->fast_ns = fast_ns;
	count(schedule, entry, true);
	soon = now_ns + (uint64_t)(random_unit(schedule) * (double)probe_schedule_interval(schedule, entry));
	if (fast_ns && soon < entry->due_ns) {
		entry->due_ns = soon;
		moved(schedule, entry);
	}
}

/* Time */

uint64_t probe_schedule_interval(const struct probe_schedule *schedule, const struct probe_schedule_entry *entry)
{
	const double rate = (double)NS_PER_SEC / (double)entry->interval_ns;
	double faster;

	if (!entry->fast_ns || schedule->stretch > 1)
		return (uint64_t)((double)entry->interval_ns * schedule->stretch);
	faster = (double)NS_PER_SEC / (double)entry->fast_ns - rate;
	return (uint64_t)((double)NS_PER_SEC / (rate + schedule->share * faster));
}

double probe_schedule_wanted(const struct probe_schedule *schedule)
{
	return (double)(schedule->packets + schedule->extra_packets) / MICRO;
}

double probe_schedule_rate(const struct probe_schedule *schedule)
{
	if (schedule->stretch > 1)
		return (double)schedule->packets / MICRO / schedule->stretch;
	return ((double)schedule->packets + schedule->share * (double)schedule->extra_packets) / MICRO;
}

/* How long probes wait for company; 0: each leaves when it is due. */
static uint64_t slot_ns(const struct probe_schedule *s)
{
	const double rate = probe_schedule_rate(s), slot = PER_SLOT * (double)NS_PER_SEC / rate;

	if (rate * (double)SLOT_MAX_NS < (double)NS_PER_SEC)
		return 0;
	return slot > (double)SLOT_MAX_NS ? SLOT_MAX_NS : slot < (double)SLOT_MIN_NS ? SLOT_MIN_NS : (uint64_t)slot;
}

/* The random phase of an interval is the sum of its tenths. */
static void plan_next(struct probe_schedule *s, struct probe_schedule_entry *entry, uint64_t now_ns)
{
	const double interval = (double)probe_schedule_interval(s, entry);
	double factor = 1 - JITTER + 2 * JITTER * random_unit(s);

	if (entry->early)
		factor = random_unit(s);
	entry->early = false;
	entry->due_ns += (uint64_t)(interval * factor);
	/* A probe that had to wait does not move the next one, but what was missed is not sent in one go. */
	if ((double)entry->due_ns + interval < (double)now_ns) {
		s->skipped += (uint64_t)((double)(now_ns - entry->due_ns) / interval);
		entry->due_ns = now_ns + (uint64_t)(interval * random_unit(s));
	}
	moved(s, entry);
}

void probe_schedule_begin(struct probe_schedule *schedule, uint64_t now_ns)
{
	const double twice = 2 * probe_schedule_rate(schedule) * ns_to_seconds(slot_ns(schedule));

	schedule->last_ns = now_ns;
	schedule->left = twice > PER_SLOT ? (uint32_t)twice : PER_SLOT;
}

/* When the virtual clock lets the next probe go. */
static uint64_t allowed_ns(const struct probe_schedule *s)
{
	const uint64_t later = s->packets_ns > s->bytes_ns ? s->packets_ns : s->bytes_ns;

	return later > SLOT_MAX_NS ? later - SLOT_MAX_NS : 0;
}

static void advance(uint64_t *clock_ns, uint64_t now_ns, double by_ns)
{
	*clock_ns = (*clock_ns > now_ns ? *clock_ns : now_ns) + (uint64_t)by_ns + 1;
}

struct probe_schedule_entry *probe_schedule_next(struct probe_schedule *schedule, uint64_t now_ns)
{
	struct probe_schedule_entry *entry;

	if (!schedule->n || !schedule->left || schedule->heap[0].due_ns > now_ns || allowed_ns(schedule) > now_ns)
		return NULL;
	entry = schedule->heap[0].entry;
	schedule->left--;
	advance(&schedule->packets_ns, now_ns, (double)NS_PER_SEC / (PEAK_SHARE * schedule->packets_max));
	advance(&schedule->bytes_ns, now_ns, entry->bytes * (double)NS_PER_SEC / (PEAK_SHARE * budget_of_bytes(schedule)));
	plan_next(schedule, entry, now_ns);
	return entry;
}

uint64_t probe_schedule_wake(const struct probe_schedule *schedule)
{
	uint64_t wake, allowed = allowed_ns(schedule), slot_end = schedule->last_ns + slot_ns(schedule);

	if (!schedule->n)
		return UINT64_MAX;
	wake = schedule->heap[0].due_ns;
	if (wake < allowed)
		wake = allowed;
	/* More is due than may leave in one go: not before the next slot. */
	if (!schedule->left && slot_end == schedule->last_ns)
		slot_end += SLOT_MIN_NS;
	return wake < slot_end ? slot_end : wake;
}
