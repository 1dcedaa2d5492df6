/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drop reasons from BTF that the test makes itself: kernels with other numbers,
 * with gaps, without reasons; and that the layout agrees with what the BPF program
 * computes. The running kernel's own BTF comes last.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <bpf/btf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "abi_drop.h"
#include "agent/drop_reasons.h"

struct member { const char *name; uint32_t value; };

static void add_enum(struct btf *btf, const char *name, const struct member *members, size_t n)
{
	assert_true(btf__add_enum(btf, name, 4) > 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(btf__add_enum_value(btf, members[i].name, members[i].value), 0);
}
#define ADD_ENUM(btf, name, members) add_enum(btf, name, members, sizeof(members) / sizeof((members)[0]))

static struct btf *btf_new(void)
{
	struct btf *btf = btf__new_empty();

	assert_non_null(btf);
	btf__add_int(btf, "unsigned int", 4, 0);
	return btf;
}

/* Takes the BTF; the names must outlive it. */
static struct drop_reasons *reasons_of(struct btf *btf)
{
	struct drop_reasons *reasons;

	assert_int_equal(drop_reasons_new(btf, &reasons), 0);
	btf__free(btf);
	return reasons;
}

/* As in Linux 6.1: no consumed, no subsystems. */
static void test_an_older_kernel(void **state)
{
	static const struct member members[] = {
		{ "SKB_NOT_DROPPED_YET", 0 }, { "SKB_DROP_REASON_NOT_SPECIFIED", 1 }, { "SKB_DROP_REASON_NO_SOCKET", 2 },
		{ "SKB_DROP_REASON_XDP", 3 }, { "SKB_DROP_REASON_MAX", 4 },
	};
	struct btf *btf = btf_new();
	struct drop_reasons *r;

	ADD_ENUM(btf, "skb_drop_reason", members);
	r = reasons_of(btf);
	assert_true(drop_reasons_known(r));
	assert_int_equal(drop_reasons_core_rows(r), 4);
	assert_int_equal(drop_reasons_subsystems(r), 0);
	assert_int_equal(drop_reasons_rows(r), 5);
	assert_string_equal(drop_reasons_name(r, 0), "not_dropped_yet");
	assert_string_equal(drop_reasons_name(r, 1), "not_specified");
	assert_string_equal(drop_reasons_name(r, 2), "no_socket");
	assert_string_equal(drop_reasons_name(r, 4), "unknown"); /* the end mark is no reason */
	assert_string_equal(drop_reasons_name(r, 0x10000), "unknown");
	assert_string_equal(drop_reasons_name(r, DROP_REASON_NONE), "unknown");
	assert_int_equal(drop_reasons_number(r, "xdp"), 3);
	assert_int_equal(drop_reasons_number(r, "consumed"), DROP_REASON_NONE);
	drop_reasons_free(r);
}

/* The same names at other places, with a mask and subsystems. */
static void test_a_renumbered_kernel(void **state)
{
	static const struct member members[] = {
		{ "SKB_NOT_DROPPED_YET", 0 }, { "SKB_CONSUMED", 1 }, { "SKB_DROP_REASON_XDP", 2 },
		{ "SKB_DROP_REASON_NOT_SPECIFIED", 7 }, { "SKB_DROP_REASON_NO_SOCKET", 5 }, { "SKB_DROP_REASON_MAX", 8 },
		{ "SKB_DROP_REASON_SUBSYS_MASK", 0xffff0000 },
	};
	static const struct member subsystems[] = {
		{ "SKB_DROP_REASON_SUBSYS_CORE", 0 }, { "SKB_DROP_REASON_SUBSYS_MAC80211_UNUSABLE", 1 },
		{ "SKB_DROP_REASON_SUBSYS_OPENVSWITCH", 2 }, { "SKB_DROP_REASON_SUBSYS_NUM", 3 },
	};
	struct btf *btf = btf_new();
	struct drop_reasons *r;

	ADD_ENUM(btf, "skb_drop_reason_subsys", subsystems);
	ADD_ENUM(btf, "skb_drop_reason", members);
	r = reasons_of(btf);
	assert_string_equal(drop_reasons_name(r, 5), "no_socket");
	assert_string_equal(drop_reasons_name(r, 7), "not_specified");
	assert_string_equal(drop_reasons_name(r, 3), "reason_3"); /* a gap still has a name of its own */
	assert_int_equal(drop_reasons_number(r, "xdp"), 2);
	assert_int_equal(drop_reasons_number(r, "consumed"), 1);
	assert_int_equal(drop_reasons_core_rows(r), 8);
	assert_int_equal(drop_reasons_subsystems(r), 2);
	assert_int_equal(drop_reasons_rows(r), 8 + 2 * DROP_SUBSYSTEM_ROWS + 1);
	assert_string_equal(drop_reasons_name(r, 0x10000), "mac80211_unusable_0");
	assert_string_equal(drop_reasons_name(r, 0x20011), "openvswitch_17");
	assert_string_equal(drop_reasons_name(r, 0x20000 + DROP_SUBSYSTEM_ROWS), "unknown");
	assert_string_equal(drop_reasons_name(r, 0x30000), "unknown");
	assert_string_equal(drop_reasons_name(r, 8), "unknown");
	drop_reasons_free(r);
}

static void test_rows_are_apart(void **state)
{
	static const struct member members[] = { { "SKB_DROP_REASON_A", 1 }, { "SKB_DROP_REASON_B", 9 } };
	static const struct member subsystems[] = { { "SKB_DROP_REASON_SUBSYS_ONE", 1 }, { "SKB_DROP_REASON_SUBSYS_TWO", 2 } };
	struct btf *btf = btf_new();
	struct drop_reasons *r;

	ADD_ENUM(btf, "skb_drop_reason", members);
	ADD_ENUM(btf, "skb_drop_reason_subsys", subsystems);
	r = reasons_of(btf);
	for (uint32_t i = 0; i < drop_reasons_rows(r); i++)
		for (uint32_t j = 0; j < i; j++)
			assert_string_not_equal(drop_reasons_row_name(r, i), drop_reasons_row_name(r, j));
	/* Every reason has a row inside the table, and those with names of their own have one each. */
	for (uint32_t subsystem = 0; subsystem < 4; subsystem++)
		for (uint32_t low = 0; low < 300; low++)
			assert_true(drop_reasons_row(r, subsystem << 16 | low) < drop_reasons_rows(r));
	assert_int_equal(drop_reasons_row(r, 0x20000), drop_reasons_core_rows(r) + DROP_SUBSYSTEM_ROWS);
	assert_int_equal(drop_reasons_row(r, UINT32_MAX), drop_reasons_rows(r) - 1);
	assert_string_equal(drop_reasons_row_name(r, UINT32_MAX), "unknown");
	drop_reasons_free(r);
}

static void assert_reasonless(struct drop_reasons *r)
{
	assert_false(drop_reasons_known(r));
	assert_int_equal(drop_reasons_rows(r), 1);
	assert_string_equal(drop_reasons_name(r, 0), "unknown");
	assert_string_equal(drop_reasons_name(r, 3), "unknown");
	assert_int_equal(drop_reasons_number(r, "xdp"), DROP_REASON_NONE);
	drop_reasons_free(r);
}

static void test_a_kernel_without_reasons(void **state)
{
	static const struct member other[] = { { "SKB_DROP_REASON_NO_SOCKET", 2 } };
	struct btf *btf = btf_new();
	struct drop_reasons *r;

	ADD_ENUM(btf, "some_other_enum", other);
	assert_reasonless(reasons_of(btf));
	assert_int_equal(drop_reasons_new(NULL, &r), 0);
	assert_reasonless(r);
	btf = btf_new(); /* an enum without members */
	assert_true(btf__add_enum(btf, "skb_drop_reason", 4) > 0);
	assert_reasonless(reasons_of(btf));
	drop_reasons_free(NULL);
}

/* Nothing a BTF says makes the table large or a name overflow. */
static void test_a_strange_kernel(void **state)
{
	char name[600] = "SKB_DROP_REASON_";
	struct member members[] = {
		{ "SKB_DROP_REASON_HUGE", 0x7fffffff }, { "SKB_DROP_REASON_NEGATIVE", UINT32_MAX }, { name, 3 },
		{ "SKB_DROP_REASON_", 4 }, { "NOT_OURS", 5 }, { "SKB_DROP_REASON_LAST", DROP_CORE_ROWS_MAX - 1 },
		{ "SKB_DROP_REASON_BEYOND", DROP_CORE_ROWS_MAX },
	};
	struct member subsystems[100];
	char names[100][40];
	struct btf *btf = btf_new();
	struct drop_reasons *r;

	memset(name + strlen(name), 'X', sizeof(name) - 1 - strlen(name));
	for (uint32_t i = 0; i < 100; i++) {
		snprintf(names[i], sizeof(names[i]), "SKB_DROP_REASON_SUBSYS_S%u", i);
		subsystems[i] = (struct member){ names[i], i };
	}
	ADD_ENUM(btf, "skb_drop_reason", members);
	ADD_ENUM(btf, "skb_drop_reason_subsys", subsystems);
	r = reasons_of(btf);
	assert_int_equal(drop_reasons_core_rows(r), DROP_CORE_ROWS_MAX);
	assert_int_equal(drop_reasons_subsystems(r), DROP_SUBSYSTEMS_MAX);
	assert_int_equal(strspn(drop_reasons_name(r, 3), "x"), strlen(drop_reasons_name(r, 3)));
	assert_in_range(strlen(drop_reasons_name(r, 3)), 40, 100);
	assert_string_equal(drop_reasons_name(r, 5), "reason_5");
	assert_string_equal(drop_reasons_name(r, DROP_CORE_ROWS_MAX - 1), "last");
	assert_string_equal(drop_reasons_name(r, DROP_CORE_ROWS_MAX), "unknown");
	assert_string_equal(drop_reasons_name(r, 0x7fffffff), "unknown");
	drop_reasons_free(r);
}

/* Against the enum as libbpf shows it, on whatever kernel this runs. */
static void test_the_running_kernel(void **state)
{
	struct btf *btf = btf__load_vmlinux_btf();
	const struct btf_type *t;
	struct drop_reasons *r;
	unsigned seen = 0;
	int id;

	id = btf ? btf__find_by_name_kind(btf, "skb_drop_reason", BTF_KIND_ENUM) : -ENOENT;
	if (id <= 0) {
		print_message("skipped: this kernel has no BTF, or no reasons\n");
		btf__free(btf);
		skip();
	}
	t = btf__type_by_id(btf, (__u32)id);
	assert_int_equal(drop_reasons_new(btf, &r), 0);
	for (unsigned i = 0; i < btf_vlen(t); i++) {
		const char *symbol = btf__name_by_offset(btf, btf_enum(t)[i].name_off), *prefix = "SKB_DROP_REASON_";

		if (strncmp(symbol, prefix, strlen(prefix)) != 0 || strstr(symbol, "_MAX") || strstr(symbol, "_SUBSYS_"))
			continue;
		assert_int_equal(strcasecmp(drop_reasons_name(r, (uint32_t)btf_enum(t)[i].val), symbol + strlen(prefix)), 0);
		seen++;
	}
	assert_in_range(seen, 20, DROP_CORE_ROWS_MAX);
	assert_int_not_equal(drop_reasons_number(r, "no_socket"), DROP_REASON_NONE);
	drop_reasons_free(r);
	btf__free(btf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_older_kernel),
		cmocka_unit_test(test_a_renumbered_kernel),
		cmocka_unit_test(test_rows_are_apart),
		cmocka_unit_test(test_a_kernel_without_reasons),
		cmocka_unit_test(test_a_strange_kernel),
		cmocka_unit_test(test_the_running_kernel),
	};

	return cmocka_run_group_tests_name("drop_reasons", tests, NULL, NULL);
}
