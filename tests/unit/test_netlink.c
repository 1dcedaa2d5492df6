/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rtnetlink messages made here, whole, cut at every length and damaged; the table
 * of links against the stories it must tell; and, as root, the real kernel in a network
 * namespace of the test's own: dumps, notifications, a queue that overflows, a list of
 * links that changes while it is dumped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/links.h"
#include "agent/netlink.h"

#define SEED 9435u
#define UP_FLAGS (IFF_UP | IFF_RUNNING | IFF_LOWER_UP)

static uint64_t random_state = SEED;

static uint64_t random_below(uint64_t n)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (z ^ z >> 31) % n;
}

/* A datagram under construction. */
struct datagram {
	uint8_t bytes[4096];
	size_t len, message; /* message: where the last one begins */
};

static void put(struct datagram *d, const void *data, size_t len)
{
	assert_true(d->len + len + NLMSG_ALIGNTO <= sizeof(d->bytes));
	memcpy(d->bytes + d->len, data, len);
	memset(d->bytes + d->len + len, 0, NLMSG_ALIGN(len) - len);
	d->len += NLMSG_ALIGN(len);
}

static void end_message(struct datagram *d)
{
	uint32_t len = (uint32_t)(d->len - d->message);

	memcpy(d->bytes + d->message, &len, sizeof(len));
}

static void begin_message(struct datagram *d, uint16_t type, uint16_t flags, uint32_t sequence, const void *head, size_t len)
{
	struct nlmsghdr h = { .nlmsg_type = type, .nlmsg_flags = flags, .nlmsg_seq = sequence };

	d->message = d->len;
	put(d, &h, sizeof(h));
	put(d, head, len);
	end_message(d);
}

static size_t put_attribute(struct datagram *d, uint16_t type, const void *value, size_t len)
{
	struct nlattr a = { .nla_len = (uint16_t)(NLA_HDRLEN + len), .nla_type = type };
	size_t at = d->len;

	put(d, &a, sizeof(a));
	put(d, value, len);
	end_message(d);
	return at;
}

static void put_link(struct datagram *d, uint16_t type, int32_t index, const char *name, uint32_t flags, uint32_t downs,
		     const char *kind)
{
	struct ifinfomsg info = { .ifi_family = AF_UNSPEC, .ifi_index = index, .ifi_flags = flags };
	struct datagram nested = { .len = 0 };
	struct nlattr a = { .nla_len = (uint16_t)(NLA_HDRLEN + strlen(kind) + 1), .nla_type = IFLA_INFO_KIND };

	begin_message(d, type, 0, 1, &info, sizeof(info));
	put_attribute(d, IFLA_IFNAME, name, strlen(name) + 1);
	put_attribute(d, IFLA_CARRIER_DOWN_COUNT, &downs, sizeof(downs));
	put(&nested, &a, sizeof(a));
	put(&nested, kind, strlen(kind) + 1);
	put_attribute(d, IFLA_LINKINFO | NLA_F_NESTED, nested.bytes, nested.len);
}

static void put_counters(struct datagram *d, uint32_t index, size_t stats_len)
{
	struct if_stats_msg info = { .ifindex = index };
	uint64_t numbers[64];

	for (size_t i = 0; i < 64; i++)
		numbers[i] = 100 + i;
	begin_message(d, RTM_NEWSTATS, NLM_F_MULTI, 7, &info, sizeof(info));
	put_attribute(d, IFLA_STATS_LINK_64, numbers, stats_len);
}

static void test_whole_messages(void **state)
{
	struct datagram d = { .len = 0 };
	struct netlink_message m;
	int32_t error = -EBUSY;
	const void *at = d.bytes;
	size_t left;

	put_link(&d, RTM_NEWLINK, 5, "eth0.100", UP_FLAGS, 3, "vlan");
	put_link(&d, RTM_DELLINK, 6, "old", 0, 0, "");
	put_counters(&d, 5, sizeof(struct rtnl_link_stats64));
	begin_message(&d, NLMSG_ERROR, 0, 9, &error, sizeof(error));
	error = 0;
	begin_message(&d, NLMSG_DONE, NLM_F_DUMP_INTR, 10, &error, sizeof(error));
	left = d.len;
	assert_int_equal(netlink_next(&at, &left, &m), 1);
	assert_int_equal(m.type, NETLINK_LINK);
	assert_int_equal(m.link.index, 5);
	assert_int_equal(m.link.flags, UP_FLAGS);
	assert_string_equal(m.link.name, "eth0.100");
	assert_string_equal(m.link.kind, "vlan");
	assert_true(m.link.carrier_known);
	assert_int_equal(m.link.carrier_downs, 3);
	assert_int_equal(netlink_next(&at, &left, &m), 1);
	assert_int_equal(m.type, NETLINK_LINK_GONE);
	assert_int_equal(m.link.index, 6);
	assert_int_equal(netlink_next(&at, &left, &m), 1);
	assert_int_equal(m.type, NETLINK_COUNTERS);
	assert_int_equal(m.sequence, 7);
	assert_int_equal(m.counters.index, 5);
	assert_int_equal(m.counters.receive_packets, 100);
	assert_int_equal(m.counters.transmit_packets, 101);
	assert_int_equal(m.counters.receive_bytes, 102);
	assert_int_equal(m.counters.transmit_bytes, 103);
	assert_int_equal(m.counters.receive_errors, 104);
	assert_int_equal(m.counters.transmit_errors, 105);
	assert_int_equal(m.counters.receive_drops, 106 + 115); /* dropped and missed */
	assert_int_equal(m.counters.transmit_drops, 107);
	assert_int_equal(netlink_next(&at, &left, &m), 1);
	assert_int_equal(m.type, NETLINK_ERROR);
	assert_int_equal(m.error, -EBUSY);
	assert_false(m.interrupted);
	assert_int_equal(netlink_next(&at, &left, &m), 1);
	assert_int_equal(m.type, NETLINK_END);
	assert_true(m.interrupted);
	assert_int_equal(netlink_next(&at, &left, &m), 0);
}

/* The first statistics structure (Linux 4.7) had 23 numbers; later ones will have more than ours. */
static void test_statistics_of_other_kernels(void **state)
{
	static const size_t good[] = { 23 * 8, 40 * 8, 64 * 8 }, bad[] = { 0, 8, 15 * 8, 16 * 8 - 1 };
	struct netlink_message m;

	for (size_t i = 0; i < 3; i++) {
		struct datagram d = { .len = 0 };
		const void *at = d.bytes;

		put_counters(&d, 1, good[i]);
		assert_int_equal(netlink_next(&at, &d.len, &m), 1);
		assert_int_equal(m.counters.receive_drops, 106 + 115);
	}
	for (size_t i = 0; i < 4; i++) {
		struct datagram d = { .len = 0 };
		const void *at = d.bytes;

		put_counters(&d, 1, bad[i]);
		assert_int_equal(netlink_next(&at, &d.len, &m), -EBADMSG);
		assert_int_equal(d.len, 0);
	}
}

/* A port that leaves its bridge is told as RTM_DELLINK of the family AF_BRIDGE; the device stays. */
static void test_other_families(void **state)
{
	struct ifinfomsg info = { .ifi_family = AF_BRIDGE, .ifi_index = 5 };
	struct datagram d = { .len = 0 };
	struct netlink_message m;
	const void *at = d.bytes;

	begin_message(&d, RTM_DELLINK, 0, 1, &info, sizeof(info));
	put_attribute(&d, IFLA_IFNAME, "port0", 6);
	begin_message(&d, RTM_NEWROUTE, 0, 1, "hello", 5);
	assert_int_equal(netlink_next(&at, &d.len, &m), 1);
	assert_int_equal(m.type, NETLINK_OTHER);
	assert_int_equal(netlink_next(&at, &d.len, &m), 1);
	assert_int_equal(m.type, NETLINK_OTHER);
}

static void refuse(struct datagram *d)
{
	struct netlink_message m;
	const void *at = d->bytes;
	size_t left = d->len;

	assert_int_equal(netlink_next(&at, &left, &m), -EBADMSG);
	assert_int_equal(left, 0);
}

static void test_damaged_messages(void **state)
{
	struct ifinfomsg info = { .ifi_family = AF_UNSPEC, .ifi_index = 5 }, none = { .ifi_index = 0 };
	static const uint16_t lengths[] = { 0, 1, 3, 100, 0xffff };
	int32_t positive = 1;

	for (size_t i = 0; i < 5; i++) {
		struct datagram d = { .len = 0 };
		size_t at;

		begin_message(&d, RTM_NEWLINK, 0, 1, &info, sizeof(info));
		put_attribute(&d, IFLA_IFNAME, "eth0", 5);
		at = put_attribute(&d, IFLA_LINKINFO, "12345678", 8);
		memcpy(d.bytes + at, &lengths[i], 2);
		refuse(&d);
	}
	for (size_t i = 0; i < 6; i++) {
		static const struct { const char *name; size_t len; } names[] = {
			{ "", 0 }, { "", 1 }, { "abcdefghijklmnop", 16 }, { "abcdefghijklmnop", 17 }, { "\0eth0", 6 }, { "0123456789abcdefghij", 21 },
		};
		struct datagram d = { .len = 0 };

		begin_message(&d, RTM_NEWLINK, 0, 1, &info, sizeof(info));
		put_attribute(&d, IFLA_IFNAME, names[i].name, names[i].len);
		refuse(&d);
	}
	for (int i = 0; i < 5; i++) {
		struct datagram d = { .len = 0 };
		uint32_t len;

		if (i == 0)
			begin_message(&d, RTM_NEWLINK, 0, 1, &info, sizeof(info)); /* no name */
		else if (i == 1)
			put_link(&d, RTM_NEWLINK, -1, "eth0", 0, 0, "");
		else if (i == 2)
			begin_message(&d, RTM_NEWLINK, 0, 1, &none, sizeof(none));
		else if (i == 3)
			begin_message(&d, NLMSG_ERROR, 0, 1, &positive, sizeof(positive));
		else
			put_link(&d, RTM_NEWLINK, 5, "eth0", 0, 0, "veth");
		len = 15;
		if (i == 4)
			memcpy(d.bytes, &len, sizeof(len)); /* shorter than its header */
		refuse(&d);
	}
}

/* In memory of exactly the right size, so that a sanitizer sees the first byte too many; at any alignment. */
static int read_copy(const uint8_t *data, size_t len, size_t shift)
{
	uint8_t *copy = malloc(len + shift + 1);
	struct netlink_message m;
	const void *at = copy + shift;
	int n = 0, r;

	assert_non_null(copy);
	copy = realloc(copy, len + shift ? len + shift : 1);
	at = copy + shift;
	memcpy(copy + shift, data, len);
	while ((r = netlink_next(&at, &len, &m)) > 0) {
		n++;
		assert_true(strlen(m.link.name) < NETLINK_NAME_MAX);
		assert_true(strlen(m.link.kind) < NETLINK_KIND_MAX);
		assert_true(m.type != NETLINK_LINK || (m.link.index > 0 && m.link.name[0]));
	}
	free(copy);
	return r < 0 ? r : n;
}

static void test_cut_and_random(void **state)
{
	struct datagram d = { .len = 0 };
	size_t ends[3];

	put_link(&d, RTM_NEWLINK, 5, "eth0", UP_FLAGS, 1, "veth");
	ends[0] = d.len;
	put_counters(&d, 5, sizeof(struct rtnl_link_stats64));
	ends[1] = d.len;
	put_link(&d, RTM_DELLINK, 5, "eth0", 0, 1, "a-kind-with-a-name-that-is-too-long");
	ends[2] = d.len;
	for (size_t len = 0; len <= d.len; len++) {
		int expected = len == 0 ? 0 : len == ends[0] ? 1 : len == ends[1] ? 2 : len == ends[2] ? 3 : -EBADMSG;

		assert_int_equal(read_copy(d.bytes, len, len % 4), expected);
	}
	for (int i = 0; i < 200000; i++) {
		struct datagram damaged = d;

		for (uint64_t n = 1 + random_below(8); n; n--)
			damaged.bytes[random_below(d.len)] = (uint8_t)(random_below(2) ? random_below(256) : random_below(8));
		read_copy(damaged.bytes, 1 + random_below(d.len), 0);
	}
}

/* What the table told, as one line per event. */
struct story {
	char text[4096];
};

static void on_event(enum event_link change, const struct link *link, const char *former, uint32_t count, void *userdata)
{
	static const char *const names[LINK_CHANGE_COUNT] = { "up", "down", "added", "removed", "renamed" };
	struct story *story = userdata;
	size_t len = strlen(story->text);

	snprintf(story->text + len, sizeof(story->text) - len, "%s %d %s", names[change], link->index, link->text);
	len = strlen(story->text);
	if (former[0] || count != 1)
		snprintf(story->text + len, sizeof(story->text) - len, " %s*%u", former, count);
	strcat(story->text, "\n");
}

static struct netlink_link make(int32_t index, const char *name, bool up, uint32_t downs)
{
	struct netlink_link link = { .index = index, .flags = up ? UP_FLAGS : IFF_UP, .carrier_downs = downs, .carrier_known = true };

	snprintf(link.name, sizeof(link.name), "%s", name);
	return link;
}

static void set(struct links *links, struct story *story, struct netlink_link link)
{
	assert_int_equal(links_set(links, &link, story ? on_event : NULL, story), 0);
}

static void test_events(void **state)
{
	struct links links = LINKS_INIT;
	struct story story = { "" };
	struct netlink_link wireless = { .index = 2, .flags = UP_FLAGS, .name = "eth0" };

	set(&links, NULL, make(2, "eth0", true, 0));
	set(&links, &story, make(2, "eth0", true, 0));
	assert_string_equal(story.text, "");
	set(&links, &story, make(7, "eth7", false, 1));
	set(&links, &story, make(7, "eth7", true, 1));
	set(&links, &story, make(7, "wan", true, 1));
	set(&links, &story, make(7, "wan", false, 2));
	set(&links, &story, make(7, "wan", true, 2));
	/* The kernel told only once of three losses of the carrier. */
	set(&links, &story, make(7, "wan", true, 5));
	links_remove(&links, 7, on_event, &story);
	links_remove(&links, 7, on_event, &story);
	/* A message that says nothing of the carrier. */
	set(&links, &story, make(2, "eth0", true, 4));
	set(&links, &story, wireless);
	assert_string_equal(story.text, "added 7 eth7\nup 7 eth7\nrenamed 7 wan eth7*1\ndown 7 wan\nup 7 wan\ndown 7 wan *3\nup 7 wan\n"
			    "removed 7 wan\ndown 2 eth0 *4\nup 2 eth0\n");
	assert_int_equal(links.n, 1);
	links_done(&links);
}

static const struct link *named(const struct links *links, const char *name)
{
	for (size_t i = 0; i < links->n; i++)
		if (!strcmp(links->items[i].name, name))
			return &links->items[i];
	return NULL;
}

static void test_counters_stay_with_the_device(void **state)
{
	struct links links = LINKS_INIT;
	struct netlink_counters two[] = { { .index = 3, .receive_bytes = 33 }, { .index = 4, .receive_bytes = 44 } };

	set(&links, NULL, make(3, "a", true, 0));
	set(&links, NULL, make(4, "b", true, 0));
	links_counters(&links, two, 2, true);
	/* a and b change their names. */
	set(&links, NULL, make(3, "c", true, 0));
	set(&links, NULL, make(4, "a", true, 0));
	set(&links, NULL, make(3, "b", true, 0));
	assert_false(links.name_taken);
	assert_int_equal(named(&links, "a")->counters.receive_bytes, 44);
	assert_int_equal(named(&links, "b")->counters.receive_bytes, 33);
	/* b goes, another one gets its name and even its index: it has no counters before its own are read. */
	links_remove(&links, 3, NULL, NULL);
	set(&links, NULL, make(3, "b", true, 0));
	assert_false(named(&links, "b")->has_counters);
	assert_true(named(&links, "a")->has_counters);
	/* Counters of a link that is not known yet; and a link that an inconsistent dump left out keeps its own. */
	two[0].index = 9;
	links_counters(&links, two, 1, false);
	assert_true(named(&links, "a")->has_counters);
	links_counters(&links, two, 1, true);
	assert_false(named(&links, "a")->has_counters);
	assert_int_equal(links.n, 2);
	links_done(&links);
}

static void test_replace(void **state)
{
	struct links links = LINKS_INIT;
	struct story story = { "" };
	struct netlink_link before[] = { make(3, "c", true, 0), make(1, "a", true, 0), make(2, "b", false, 0) };
	struct netlink_link after[] = { make(4, "d", true, 0), make(1, "c", true, 0), make(2, "b", true, 0) };
	struct netlink_link twice[] = { make(1, "x", true, 0), make(2, "x", true, 0) };

	assert_int_equal(links_replace(&links, before, 3, NULL, NULL), 0);
	assert_int_equal(links_replace(&links, after, 3, on_event, &story), 0);
	assert_string_equal(story.text, "removed 3 c\nadded 4 d\nup 4 d\nrenamed 1 c a*1\nup 2 b\n");
	assert_int_equal(links.n, 3);
	/* What an inconsistent dump may say: never is one name shown for two. */
	assert_int_equal(links_replace(&links, twice, 2, NULL, NULL), 0);
	assert_true(links.name_taken);
	assert_int_equal(named(&links, "x")->index, 2);
	assert_int_equal(links.items[0].name[0], 0);
	assert_int_equal(links_replace(&links, after, 3, NULL, NULL), 0);
	assert_false(links.name_taken);
	assert_int_equal(links_replace(&links, NULL, 0, NULL, NULL), 0);
	assert_int_equal(links.n, 0);
	links_done(&links);
}

/* A news of the taken name comes back with a later message of the same link. */
static void test_taken_name(void **state)
{
	struct links links = LINKS_INIT;
	struct story story = { "" };

	set(&links, NULL, make(1, "a", true, 0));
	set(&links, &story, make(2, "a", false, 0));
	assert_true(links.name_taken);
	assert_int_equal(named(&links, "a")->index, 2);
	set(&links, &story, make(1, "b", true, 0));
	assert_int_equal(named(&links, "b")->index, 1);
	assert_string_equal(story.text, "added 2 a\nrenamed 1 b a*1\n");
	links_done(&links);
}

static void test_name_text(void **state)
{
	char a[LINK_NAME_TEXT_MAX];

	assert_string_equal(links_name_text("eth0", a), "eth0");
	assert_string_equal(links_name_text("b\xc3\xbcro", a), "b\xc3\xbcro");
	assert_string_equal(links_name_text("\xff\xfe", a), "\\xff\\xfe");
	assert_string_equal(links_name_text("\\xff", a), "\\x5cxff");
	assert_string_equal(links_name_text("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", a),
			    "\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff");
}

static void need_own_namespace(void)
{
	if (geteuid() || unshare(CLONE_NEWNET)) {
		print_message("skipped: a network namespace of its own needs root\n");
		skip();
	}
}

/* `ip -b -`, with the lines of a printf format. */
static FILE *ip_batch(void)
{
	FILE *ip = popen("PATH=$PATH:/usr/sbin:/sbin ip -b -", "w");

	assert_non_null(ip);
	return ip;
}

static void run_ip(const char *line)
{
	FILE *ip = ip_batch();

	fprintf(ip, "%s\n", line);
	assert_int_equal(pclose(ip), 0);
}

static void to_story(const struct netlink_message *m, void *userdata)
{
	void **both = userdata;

	if (m->type == NETLINK_LINK_GONE)
		links_remove(both[0], m->link.index, on_event, both[1]);
	else
		links_set(both[0], &m->link, on_event, both[1]);
}

static void test_live_changes(void **state)
{
	struct links links = LINKS_INIT;
	struct story story = { "" };
	void *both[] = { &links, &story };
	const struct netlink_link *all;
	const struct netlink_counters *counters;
	struct netlink_totals totals;
	struct netlink *n;
	size_t count;

	need_own_namespace();
	assert_int_equal(netlink_open(1 << 20, &n), 0);
	run_ip("link add one index 100 type veth peer name two index 101");
	assert_int_equal(netlink_links(n, &all, &count), 0);
	assert_int_equal(netlink_changes(n, to_story, both), 0);
	assert_int_equal(count, links.n + 1); /* lo was there before */
	assert_string_equal(links.items[0].kind, "veth");
	story.text[0] = '\0';
	run_ip("link set two up");
	run_ip("link set one up");
	run_ip("link set one down"); /* that is a flap of both */
	run_ip("link set one name neo");
	run_ip("link set neo up");
	assert_int_equal(netlink_counters(n, &counters, &count), 0);
	assert_int_equal(count, 3);
	assert_true(netlink_speed(n, "neo") > 0); /* a veth makes one up */
	assert_int_equal(netlink_speed(n, "lo"), 0);
	assert_int_equal(netlink_speed(n, "nobody"), 0);
	run_ip("link add bridge0 index 200 type bridge");
	run_ip("link set two master bridge0");
	run_ip("link set two nomaster");
	assert_int_equal(netlink_changes(n, to_story, both), 0);
	assert_non_null(named(&links, "two")); /* it left the bridge, not the host */
	assert_null(strstr(story.text, "removed"));
	run_ip("link delete neo");
	assert_int_equal(netlink_changes(n, to_story, both), 0);
	assert_non_null(strstr(story.text, "up 100 one\n"));
	assert_non_null(strstr(story.text, "down 100 one\n"));
	assert_non_null(strstr(story.text, "renamed 100 neo one*1\n"));
	assert_non_null(strstr(story.text, "up 100 neo\n"));
	assert_non_null(strstr(story.text, "removed 100 neo\n"));
	assert_non_null(strstr(story.text, "removed 101 two\n"));
	assert_int_equal(links.n, 1);
	netlink_totals(n, &totals);
	assert_int_equal(totals.malformed + totals.overflows, 0);
	netlink_close(n);
	links_done(&links);
}

/* The real kernel, far more changes than the queue takes: told, and the list afterwards is right. */
static void test_live_overflow(void **state)
{
	struct links links = LINKS_INIT;
	struct story story = { "" };
	void *both[] = { &links, &story };
	const struct netlink_link *all;
	struct netlink_totals totals;
	struct netlink *n;
	size_t count;
	FILE *ip;

	need_own_namespace();
	assert_int_equal(netlink_open(16384, &n), 0);
	ip = ip_batch();
	for (int i = 0; i < 50; i++)
		fprintf(ip, "link add a%d type veth peer name b%d\nlink set a%d up\n", i, i, i);
	assert_int_equal(pclose(ip), 0);
	assert_int_equal(netlink_changes(n, to_story, both), NETLINK_E_LOST);
	assert_true(links.n < 100);
	assert_int_equal(netlink_links(n, &all, &count), 0);
	assert_int_equal(links_replace(&links, all, count, on_event, &story), 0);
	assert_int_equal(links.n, 101);
	assert_int_equal(netlink_changes(n, to_story, both), 0);
	netlink_totals(n, &totals);
	assert_true(totals.overflows >= 1);
	netlink_close(n);
	links_done(&links);
}

static atomic_bool stop_churning;

static void *churn(void *arg)
{
	while (!stop_churning) {
		FILE *ip = ip_batch();

		for (int i = 0; i < 20; i++)
			fprintf(ip, "link add churn type veth peer name nruhc\nlink delete churn\n");
		pclose(ip);
	}
	return NULL;
}

/* While links come and go, a dump is asked for again until it is consistent; what stays is in every one, once. */
static void test_live_interrupted_dumps(void **state)
{
	const struct netlink_counters *counters;
	const struct netlink_link *all;
	struct netlink_totals totals = { 0 };
	pthread_t thread;
	struct netlink *n;
	FILE *ip;

	need_own_namespace();
	ip = ip_batch();
	for (int i = 0; i < 100; i++)
		fprintf(ip, "link add a%d index %d type veth peer name b%d index %d\n", i, 1000 + 2 * i, i, 1001 + 2 * i);
	assert_int_equal(pclose(ip), 0);
	assert_int_equal(netlink_open(1 << 20, &n), 0);
	stop_churning = false;
	assert_int_equal(pthread_create(&thread, NULL, churn, NULL), 0);
	for (int i = 0; i < 2000 && totals.repeated < 10; i++) {
		size_t count, stay = 0;
		int r = netlink_links(n, &all, &count);

		assert_true(r >= 0);
		for (size_t k = 0; k < count; k++)
			stay += all[k].index >= 1000 && all[k].index < 1200;
		assert_true(r == NETLINK_E_INCONSISTENT || stay == 200);
		r = netlink_counters(n, &counters, &count);
		assert_true(r >= 0);
		stay = 0;
		for (size_t k = 0; k < count; k++)
			stay += counters[k].index >= 1000 && counters[k].index < 1200;
		assert_true(r == NETLINK_E_INCONSISTENT || stay == 200);
		netlink_totals(n, &totals);
	}
	stop_churning = true;
	pthread_join(thread, NULL);
	print_message("%llu dumps asked for again, %llu inconsistent\n", (unsigned long long)totals.repeated,
		      (unsigned long long)totals.inconsistent);
	assert_true(totals.repeated > 0);
	assert_int_equal(totals.malformed, 0);
	netlink_close(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_messages),
		cmocka_unit_test(test_statistics_of_other_kernels),
		cmocka_unit_test(test_other_families),
		cmocka_unit_test(test_damaged_messages),
		cmocka_unit_test(test_cut_and_random),
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_counters_stay_with_the_device),
		cmocka_unit_test(test_replace),
		cmocka_unit_test(test_taken_name),
		cmocka_unit_test(test_name_text),
		cmocka_unit_test(test_live_changes),
		cmocka_unit_test(test_live_overflow),
		cmocka_unit_test(test_live_interrupted_dumps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
