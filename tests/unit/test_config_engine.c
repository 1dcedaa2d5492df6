/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The schema engine on rows of its own: nested records, maps of records, switches
 * with keys below them, and the types and flags that no setting uses yet.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "config_messages.h"
#include "lib/config.h"

/* A schema with what the settings do not use yet. */
struct rule { char *name; unsigned level; struct { uint64_t after_ns; char *note; } when; char **tags; size_t n_tags; };
struct route { char *prefix_name; struct rule *rules; size_t n_rules; char *to; };
struct feature {
	char *optional;
	unsigned mode;
	bool spool, probe; /* switches with keys below them */
	uint32_t spool_size, probe_paths;
	char *probe_dscp;
	struct rule *rules;
	size_t n_rules;
	struct route *routes;
	size_t n_routes;
};

static const struct config_row tag_rows[] = {
	{ .path = "", .type = CONFIG_STRING, .flags = CONFIG_UNIQUE, .max = 8, .help = "A tag." }, { 0 }
};
static const struct config_row rule_rows[] = {{.path = "name",
					       .type = CONFIG_STRING,
					       .offset = offsetof(struct rule, name),
					       .flags = CONFIG_REQUIRED,
					       .help = "Its name."},
					      {.path = "level",
					       .type = CONFIG_CHOICE,
					       .offset = offsetof(struct rule, level),
					       .choices = "low|middle|high",
					       .value = "middle",
					       .help = "How bad it is."},
					      {.path = "when", .type = CONFIG_SECTION, .help = "The condition."},
					      {.path = "when.after",
					       .type = CONFIG_DURATION,
					       .offset = offsetof(struct rule, when.after_ns),
					       .value = "5s",
					       .help = "How long it has to hold."},
					      {.path = "when.note",
					       .type = CONFIG_STRING,
					       .offset = offsetof(struct rule, when.note),
					       .flags = CONFIG_REQUIRED,
					       .help = "Why."},
					      {.path = "tags",
					       .type = CONFIG_LIST,
					       .offset = offsetof(struct rule, tags),
					       .count_offset = offsetof(struct rule, n_tags),
					       .size = sizeof(char *),
					       .rows = tag_rows,
					       .max = 2,
					       .example = "[a, b]",
					       .help = "Words."},
					      {0}};
static const struct config_row route_rows[] = {
    {.path = "name", .type = CONFIG_STRING, .offset = offsetof(struct route, prefix_name), .help = "Key."},
    {.path = "to",
     .type = CONFIG_URL,
     .offset = offsetof(struct route, to),
     .flags = CONFIG_REQUIRED,
     .help = "Where."},
    {.path = "rules",
     .type = CONFIG_LIST,
     .offset = offsetof(struct route, rules),
     .count_offset = offsetof(struct route, n_rules),
     .size = sizeof(struct rule),
     .rows = rule_rows,
     .help = "Nested records."},
    {0}};
static const struct config_row feature_rows[] = {{.path = "optional",
						  .type = CONFIG_STRING,
						  .offset = offsetof(struct feature, optional),
						  .example = "FILE",
						  .help = "Not set by default."},
						 {.path = "mode",
						  .type = CONFIG_CHOICE,
						  .offset = offsetof(struct feature, mode),
						  .choices = "a|b",
						  .value = "b",
						  .help = "One of two."},
						 {.path = "spool",
						  .type = CONFIG_SWITCH,
						  .offset = offsetof(struct feature, spool),
						  .value = "on",
						  .help = "On by default."},
						 {.path = "spool.size",
						  .type = CONFIG_SIZE,
						  .offset = offsetof(struct feature, spool_size),
						  .value = "1k",
						  .min = 10,
						  .max = 2000000,
						  .help = "How large."},
						 {.path = "probe",
						  .type = CONFIG_SWITCH,
						  .offset = offsetof(struct feature, probe),
						  .value = "off",
						  .help = "Off by default."},
						 {.path = "probe.paths",
						  .type = CONFIG_UNSIGNED,
						  .offset = offsetof(struct feature, probe_paths),
						  .value = "1",
						  .help = "How many."},
						 {.path = "probe.marks", .type = CONFIG_SECTION, .help = "In the packet."},
						 {.path = "probe.marks.dscp",
						  .type = CONFIG_STRING,
						  .offset = offsetof(struct feature, probe_dscp),
						  .help = "Below a section."},
						 {.path = "rules",
						  .type = CONFIG_LIST,
						  .offset = offsetof(struct feature, rules),
						  .count_offset = offsetof(struct feature, n_rules),
						  .size = sizeof(struct rule),
						  .rows = rule_rows,
						  .help = "Records."},
						 {.path = "routes",
						  .type = CONFIG_MAP,
						  .offset = offsetof(struct feature, routes),
						  .count_offset = offsetof(struct feature, n_routes),
						  .size = sizeof(struct route),
						  .rows = route_rows,
						  .help = "A map of records."},
						 {0}};

static void test_engine_good(void **state)
{
	static const char text[] = "rules:\n"
				   "  - {name: r1, level: high, when: {after: 1h, note: n1}, tags: [x, y]}\n"
				   "  - name: r2\n"
				   "    when:\n"
				   "      note: n2\n"
				   "routes:\n"
				   "  one: {to: http://a/, rules: [{name: r3, when: {note: n3}, tags: [z]}]}\n"
				   "  two: {to: https://b}\n"
				   "mode: a\n"
				   "optional: here\n";
	struct feature feature;
	struct buffer errors = BUFFER_INIT;
	assert_int_equal(config_parse(feature_rows, text, sizeof(text) - 1, "t", &feature, sizeof(feature), &errors),
			 0);
	assert_string_equal(feature.optional, "here");
	assert_int_equal(feature.mode, 0);
	assert_int_equal(feature.n_rules, 2);
	assert_int_equal(feature.rules[0].level, 2);
	assert_int_equal(feature.rules[0].when.after_ns, UINT64_C(3600000000000));
	assert_string_equal(feature.rules[0].when.note, "n1");
	assert_int_equal(feature.rules[0].n_tags, 2);
	assert_string_equal(feature.rules[0].tags[1], "y");
	assert_int_equal(feature.rules[1].level, 1);
	assert_int_equal(feature.rules[1].when.after_ns, UINT64_C(5000000000));
	assert_int_equal(feature.n_routes, 2);
	assert_string_equal(feature.routes[0].prefix_name, "one");
	assert_string_equal(feature.routes[0].rules[0].tags[0], "z");
	assert_string_equal(feature.routes[1].to, "https://b");
	config_done(feature_rows, &feature);
	assert_null(feature.rules);
	buffer_done(&errors);
}

static void test_engine_bad(void **state)
{
	static const char text[] = "mode: c\n"
				   "optional: ~\n"
				   "rules:\n"
				   "  - {name: r1, level: hi, when: {afterr: 1h}, tags: [x, x]}\n"
				   "  - {name: r2, when: [], tags: [a, b, c]}\n"
				   "  - {name: r3, tags: [long-long]}\n"
				   "  - {name: r4, when.note: x}\n"
				   "routes: {one: {tu: http://a/}, two: 5, three: {to: a, note: b}}\n";
	static const char messages[] =
	    "1:7: expected a or b, not `c`\n"
	    "2:11: expected text, not nothing\n"
	    "4:5: an entry of `rules` needs `when.note`\n"
	    "4:23: expected low, middle or high, not `hi`\n"
	    "4:34: unknown key `afterr` in `rules.when`; did you mean `after`?\n"
	    "4:57: duplicate value `x`; it is first used on line 4\n"
	    "5:5: an entry of `rules` needs `when.note`\n"
	    "5:22: expected keys such as `after`, not a list\n"
	    "5:32: `rules.tags` has 3 entries; at most 2 are allowed\n"
	    "6:5: an entry of `rules` needs `when.note`\n"
	    "6:23: `entry` must have 1 to 8 characters, not 9\n"
	    "7:5: an entry of `rules` needs `when.note`\n"
	    "7:16: write `when.note` as nested keys: when: {note: ...}\n"
	    "8:15: an entry of `routes.one` needs `to`\n"
	    "8:16: unknown key `tu` in `routes.one`; did you mean `to`?\n"
	    "8:37: expected an entry with keys such as `to`, not `5`\n"
	    "8:52: expected a URL such as http://10.0.0.2:9435/metrics, not `a`; it must start with http:// or "
	    "https://\n"
	    "8:55: `note` belongs under `rules.when` or under `routes.rules.when`, not under `routes.three`\n";
	struct feature feature;
	struct buffer errors = BUFFER_INIT, got = BUFFER_INIT;
	assert_int_equal(
	    config_parse(feature_rows, text, sizeof(text) - 1, "t.yaml", &feature, sizeof(feature), &errors), -EINVAL);
	messages_of(&errors, &got);
	assert_string_equal(got.data, messages);
	assert_null(feature.rules);
	buffer_done(&errors);
	buffer_done(&got);
}

static void test_engine_switch(void **state)
{
	static const struct { const char *text; bool spool, probe; uint32_t size, paths; const char *dscp; } cases[] = {
		{ "", true, false, 1000, 1, NULL },
		{ "{spool: off, probe: on}", false, true, 1000, 1, NULL },
		{ "{spool: {}, probe: {}}", true, true, 1000, 1, NULL },
		{ "{spool: {size: 2M}, probe: {paths: 8}}", true, true, 2000000, 8, NULL },
		{ "{probe: {marks: {dscp: ef}}}", true, true, 1000, 1, "ef" },
		{ "{probe: {marks: }}", true, true, 1000, 1, NULL },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct feature feature;
		struct buffer errors = BUFFER_INIT;
		assert_int_equal(config_parse(feature_rows, cases[i].text, strlen(cases[i].text), "t", &feature,
					      sizeof(feature), &errors), 0);
		assert_int_equal(feature.spool, cases[i].spool);
		assert_int_equal(feature.probe, cases[i].probe);
		assert_int_equal(feature.spool_size, cases[i].size);
		assert_int_equal(feature.probe_paths, cases[i].paths);
		assert_int_equal(!feature.probe_dscp, !cases[i].dscp);
		if (cases[i].dscp)
			assert_string_equal(feature.probe_dscp, cases[i].dscp);
		config_done(feature_rows, &feature);
		buffer_done(&errors);
	}
}

static void test_engine_example(void **state)
{
	struct feature feature;
	struct buffer example = BUFFER_INIT, errors = BUFFER_INIT, man = BUFFER_INIT;
	config_write_example(feature_rows, &example);
	assert_int_equal(config_parse(feature_rows, example.data, example.len, "t", &feature, sizeof(feature), &errors),
			 0);
	assert_null(feature.optional);
	assert_int_equal(feature.mode, 1);
	assert_int_equal(feature.n_rules + feature.n_routes, 0);
	assert_true(feature.spool && !feature.probe);
	assert_non_null(strstr(example.data, "# On by default. (on or off, or the keys below it, which mean on)\n"
					     "spool:\n"
					     "  # How large. (size, 10 to 2M)\n"
					     "  size: 1k\n"));
	assert_non_null(strstr(example.data, "\nprobe: off\n  # How many. (number)\n  # paths: 1\n"));
	assert_non_null(strstr(example.data, "\n  # marks:\n"));
	assert_non_null(strstr(example.data, "# optional: FILE\n"));
	assert_non_null(strstr(example.data, "#   when.after (duration, default 5s): How long it has to hold.\n"));
	config_write_man(feature_rows, &man);
	assert_non_null(strstr(man.data, ".TP\n\\fBmode\\fR (a or b, default b)\nOne of two.\n"));
	assert_non_null(strstr(man.data, "\\fBspool\\fR (on or off, or the keys below it, which mean on, default on)\n"));
	assert_non_null(strstr(man.data, "\\fBspool.size\\fR (size, 10 to 2M, default 1k)\n"));
	config_done(feature_rows, &feature);
	buffer_done(&example);
	buffer_done(&errors);
	buffer_done(&man);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_engine_good),
		cmocka_unit_test(test_engine_bad),
		cmocka_unit_test(test_engine_switch),
		cmocka_unit_test(test_engine_example),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
