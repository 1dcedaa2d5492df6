/* SPDX-License-Identifier: Apache-2.0 */
/* Flags, their help and man page, the nearest word, and durations there and back. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "lib/flags.h"

struct target {
	bool verbose, color, quiet;
	const char *file, *level;
	struct flag_strings listen;
	uint64_t count, timeout;
};

static const struct flag flags[] = {
	{ "config.file", 'c', FLAG_STRING, offsetof(struct target, file), "FILE", NULL, "The configuration to read." },
	{ "verbose", 'v', FLAG_SWITCH, offsetof(struct target, verbose), NULL, NULL, "Say more." },
	{ "quiet", 'q', FLAG_SWITCH, offsetof(struct target, quiet), NULL, NULL, "Say less." },
	{ "color", 0, FLAG_SWITCH, offsetof(struct target, color), NULL, NULL, "Use colours on a terminal." },
	{ "web.listen-address", 0, FLAG_STRINGS, offsetof(struct target, listen), "ADDRESS:PORT", NULL,
	  "Where to listen for requests of scrapers and browsers." },
	{ "count", 'n', FLAG_UINT, offsetof(struct target, count), NULL, NULL, "How many." },
	{ "timeout", 0, FLAG_DURATION, offsetof(struct target, timeout), NULL, NULL, "When to give up." },
	{ "log.level", 0, FLAG_CHOICE, offsetof(struct target, level), NULL, "debug|info|warn|error", "What to log." },
	{ "internal.fd", 0, FLAG_UINT, offsetof(struct target, count), NULL, NULL, "For ourselves.", true },
	{ 0 }
};

static const struct flag_command command = {
    .name = "test",
    .summary = "try flags",
    .arguments = "FILE [OTHER]",
    .description =
	"Tries flags, of which there are many kinds, and says what came of it in a paragraph that has to be wrapped."
	"\n\n.A second paragraph \\ with characters that troff would take for its own.",
    .flags = flags,
    .arguments_min = 1,
    .arguments_max = 2,
};

static const struct target defaults = {
	.color = true, .level = "info", .listen = { { "127.0.0.1:9435", "[::1]:9435" }, 2, false }, .count = 3,
	.timeout = UINT64_C(90000000000),
};

#define WORDS_MAX 80
/* Runs the parser on words separated by '|'. */
static int run(const char *words, struct target *target, char arguments[static 256], struct error *error)
{
	static char copy[4096]; /* outlives the call: strings in the target point into it */
	char *argv[WORDS_MAX] = { (char *)(uintptr_t)"test" }, **rest = NULL;
	int argc = 1;
	size_t n = 0;
	snprintf(copy, sizeof(copy), "%s", words);
	for (char *next = copy, *word; *words && argc < WORDS_MAX && (word = strsep(&next, "|"));)
		argv[argc++] = word;
	*target = defaults;
	*error = (struct error){ 0 };
	int r = flags_parse(&command, argc, argv, target, &rest, &n, error);
	arguments[0] = '\0';
	for (size_t i = 0; !r && i < n; i++)
		snprintf(arguments + strlen(arguments), 256 - strlen(arguments), "%s%s", i ? " " : "", rest[i]);
	return r;
}

static void test_forms(void **state)
{
	struct target t;
	struct error error;
	char arguments[256];
	assert_int_equal(run("--config.file=a.yaml|x", &t, arguments, &error), 0);
	assert_string_equal(t.file, "a.yaml");
	assert_string_equal(arguments, "x");
	assert_int_equal(run("x|--config.file|a.yaml", &t, arguments, &error), 0);
	assert_string_equal(t.file, "a.yaml");
	assert_int_equal(run("-c|b|x|-vq|-n7", &t, arguments, &error), 0);
	assert_string_equal(t.file, "b");
	assert_true(t.verbose && t.quiet);
	assert_int_equal(t.count, 7);
	assert_int_equal(run("-vn=8|x|y", &t, arguments, &error), 0);
	assert_int_equal(t.count, 8);
	assert_string_equal(arguments, "x y");
	assert_int_equal(run("--no-color|--verbose|--no-verbose|x", &t, arguments, &error), 0);
	assert_false(t.color);
	assert_false(t.verbose);
	assert_int_equal(run("x|--|--count", &t, arguments, &error), 0);
	assert_string_equal(arguments, "x --count");
	assert_int_equal(run("--config.file=|-", &t, arguments, &error), 0);
	assert_string_equal(t.file, "");
	assert_string_equal(arguments, "-");
	assert_int_equal(run("--config.file=a=b|x", &t, arguments, &error), 0);
	assert_string_equal(t.file, "a=b");
	assert_int_equal(run("--config.file|--count|x", &t, arguments, &error), 0);
	assert_string_equal(t.file, "--count");
	assert_int_equal(run("--timeout=1h30m|--log.level|warn|--internal.fd=5|x", &t, arguments, &error), 0);
	assert_int_equal(t.timeout, UINT64_C(5400000000000));
	assert_string_equal(t.level, "warn");
	assert_int_equal(t.count, 5);
}

static void test_defaults(void **state)
{
	struct target t;
	struct error error;
	char arguments[256];
	assert_int_equal(run("x", &t, arguments, &error), 0);
	assert_memory_equal(&t, &defaults, sizeof(t));
	/* The first use replaces the defaults, the second adds. */
	assert_int_equal(run("--web.listen-address=a:1|x|--web.listen-address|b:2", &t, arguments, &error), 0);
	assert_int_equal(t.listen.n, 2);
	assert_string_equal(t.listen.items[0], "a:1");
	assert_string_equal(t.listen.items[1], "b:2");
}

static void test_errors(void **state)
{
	static const struct { const char *words, *message;
	} cases[] = {
	    {"--web.listen-adress=x", "unknown flag --web.listen-adress; did you mean --web.listen-address?"},
	    {"--config|x", "unknown flag --config; did you mean --config.file?"},
	    {"-config.file=x", "unknown flag -config.file; did you mean --config.file?"},
	    {"--conifg.file", "unknown flag --conifg.file; did you mean --config.file?"},
	    {"--zzz", "unknown flag --zzz"},
	    {"--internal.fe=1", "unknown flag --internal.fe"},
	    {"--helpp", "unknown flag --helpp; did you mean --help?"},
	    {"-x", "unknown flag -x"},
	    {"--no-count", "unknown flag --no-count"},
	    {"--verbose=yes", "--verbose takes no value; --no-verbose is its opposite"},
	    {"x|--config.file", "--config.file needs a value: --config.file=FILE"},
	    {"x|-c", "-c needs a value: -c=FILE"},
	    {"x|--log.level", "--log.level needs a value: --log.level=debug|info|warn|error"},
	    {"--count=many", "--count expects a whole number, not `many`"},
	    {"--count=-1", "--count expects a whole number, not `-1`"},
	    {"--count=", "--count expects a whole number, not ``"},
	    {"--count=1x", "--count expects a whole number, not `1x`"},
	    {"-n 5", "-n expects a whole number, not ` 5`"},
	    {"--count=99999999999999999999", "--count expects a whole number, not `99999999999999999999`"},
	    {"--timeout=5", "--timeout expects a duration such as 1s or 250ms, not `5`; write `5s`"},
	    {"--timeout=soon", "--timeout expects a duration such as 1s or 250ms, not `soon`"},
	    {"--timeout=600y", "--timeout: `600y` is longer than 584 years"},
	    {"--log.level=inof", "--log.level expects one of debug|info|warn|error, not `inof`; did you mean `info`?"},
	    {"--log.level=loud", "--log.level expects one of debug|info|warn|error, not `loud`"},
	    {"", "missing argument: FILE [OTHER]"},
	    {"a|b|c", "unexpected argument `c`"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct target t;
		struct error error;
		char arguments[256];
		assert_int_equal(run(cases[i].words, &t, arguments, &error), -EINVAL);
		assert_string_equal(error.text, cases[i].message);
	}
	struct target t;
	struct error error;
	char arguments[256];
	/* Thirty-three times the same flag. */
	char many[2048] = "x";
	for (int i = 0; i <= FLAG_STRINGS_MAX; i++)
		strcat(many, "|--web.listen-address=a");
	assert_int_equal(run(many, &t, arguments, &error), -EINVAL);
	assert_string_equal(error.text, "--web.listen-address was given more than 32 times");

	static const struct flag_command plain = { .name = "plain", .summary = "none" };
	char *argv[] = { (char *)(uintptr_t)"plain", (char *)(uintptr_t)"x", NULL };
	assert_int_equal(flags_parse(&plain, 2, argv, NULL, NULL, NULL, &error), -EINVAL);
	assert_string_equal(error.text, "unexpected argument `x`; this command takes only flags");
	assert_int_equal(flags_parse(&plain, 1, argv, NULL, NULL, NULL, NULL), 0);
}

static const char help_80[] =
	"Usage: netsonde test [flags] FILE [OTHER]\n"
	"\n"
	"Tries flags, of which there are many kinds, and says what came of it in a\n"
	"paragraph that has to be wrapped.\n"
	"\n"
	".A second paragraph \\ with characters that troff would take for its own.\n"
	"\n"
	"Flags:\n"
	"  -c, --config.file=FILE  The configuration to read.\n"
	"  -v, --verbose           Say more.\n"
	"  -q, --quiet             Say less.\n"
	"      --[no-]color        Use colours on a terminal. (default: on)\n"
	"      --web.listen-address=ADDRESS:PORT\n"
	"                          Where to listen for requests of scrapers and browsers.\n"
	"                          (default: 127.0.0.1:9435, [::1]:9435)\n"
	"  -n, --count=N           How many. (default: 3)\n"
	"      --timeout=DURATION  When to give up. (default: 1m30s)\n"
	"      --log.level=debug|info|warn|error\n"
	"                          What to log. (default: info)\n"
	"  -h, --help              Show this help and exit.\n";

static void test_help(void **state)
{
	struct buffer out = BUFFER_INIT;
	unsetenv("COLUMNS");
	flags_write_help(&command, &defaults, &out);
	assert_string_equal(out.data, help_80);
	for (int width = 60; width <= 120; width += 20) {
		char text[16];
		snprintf(text, sizeof(text), "%d", width);
		setenv("COLUMNS", text, 1);
		buffer_clear(&out);
		flags_write_help(&command, &defaults, &out);
		int longest = 0;
		for (const char *line = out.data, *end; (end = strchr(line, '\n')); line = end + 1)
			longest = end - line > longest ? (int)(end - line) : longest;
		assert_in_range(longest, width - 20, width);
	}
	/* Nonsense is ignored, and without defaults none are shown. */
	setenv("COLUMNS", "3", 1);
	buffer_clear(&out);
	flags_write_help(&command, NULL, &out);
	assert_null(strstr(out.data, "default"));
	assert_non_null(strstr(out.data, "paragraph that has to be wrapped.\n"));
	/* A program by itself. */
	struct flag_command standalone = command;
	standalone.standalone = true;
	buffer_clear(&out);
	flags_write_help(&standalone, &defaults, &out);
	assert_memory_equal(out.data, "Usage: test [flags] FILE", 24);
	buffer_clear(&out);
	flags_write_man(&standalone, &defaults, &out);
	assert_memory_equal(out.data, ".SS \"test [flags]", 16);
	unsetenv("COLUMNS");
	buffer_done(&out);
}

/* What flags_parse prints, through a pipe in the place of standard output. */
static void test_help_flag(void **state)
{
	static const char *const words[] = { "--help", "-h", "--nonsense|--help", "-vh", "a|b|c|d|-h", "--help-man" };
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
		struct target t;
		struct error error;
		char arguments[256], text[8192];
		int ends[2], saved = dup(STDOUT_FILENO);
		assert_int_equal(pipe(ends), 0);
		fflush(stdout);
		dup2(ends[1], STDOUT_FILENO);
		int r = run(words[i], &t, arguments, &error);
		fflush(stdout);
		dup2(saved, STDOUT_FILENO);
		close(saved);
		close(ends[1]);
		ssize_t n = read(ends[0], text, sizeof(text) - 1);
		close(ends[0]);
		assert_int_equal(r, FLAGS_E_HELP);
		assert_true(n > 0);
		text[n] = '\0';
		if (i < 5)
			assert_string_equal(text, help_80);
		else
			assert_memory_equal(text, ".SS \"netsonde test", 18);
	}
	/* Behind "--" it is an argument. */
	struct target t;
	struct error error;
	char arguments[256];
	assert_int_equal(run("--|--help", &t, arguments, &error), 0);
	assert_string_equal(arguments, "--help");
}

static void test_man(void **state)
{
	struct buffer out = BUFFER_INIT;
	flags_write_man(&command, &defaults, &out);
	assert_non_null(strstr(out.data, "\n.PP\n\\&.A second paragraph \\e with"));
	assert_non_null(strstr(
	    out.data, "\n.TP\n\\fB\\-c\\fR, \\fB\\-\\-config.file\\fR=\\fIFILE\\fR\nThe configuration to read.\n"));
	assert_non_null(strstr(out.data, "\\fB\\-\\-[no\\-]color\\fR\n"));
	assert_null(strstr(out.data, "internal"));
	buffer_done(&out);
}

static void test_seconds(void **state)
{
	static const struct { const char *text; uint64_t ns; } good[] = {
		{ "1", 1000000000 }, { "0.2", 200000000 }, { "0", 0 }, { "10.5", UINT64_C(10500000000) }, { "200ms", 200000000 }, { "1m", UINT64_C(60000000000) },
	};
	static const char *const bad[] = { "", ".", ".5", "1.", "1..2", "1e3", "-1", "1 ", "0x1", "soon", "99999999999999999999", "600y" };
	static const struct flag row[] = { { "every", 'i', FLAG_SECONDS, 0, NULL, NULL, "How often." }, { 0 } };
	struct flag_command seconds = { .name = "seconds", .summary = "try seconds", .flags = row, .details = "Only the man page\n\n.says this." };
	struct error error;
	struct buffer out = BUFFER_INIT;
	uint64_t ns = 7;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		char word[32], *argv[] = { (char *)(uintptr_t)"seconds", (char *)(uintptr_t)"-i", word };
		snprintf(word, sizeof(word), "%s", good[i].text);
		assert_int_equal(flags_parse(&seconds, 3, argv, &ns, NULL, NULL, &error), 0);
		assert_int_equal(ns, good[i].ns);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		char word[32], *argv[] = { (char *)(uintptr_t)"seconds", (char *)(uintptr_t)"-i", word };
		snprintf(word, sizeof(word), "%s", bad[i]);
		assert_int_equal(flags_parse(&seconds, 3, argv, &ns, NULL, NULL, &error), -EINVAL);
		assert_non_null(strstr(error.text, bad[i]));
	}
	/* Unset, no default is shown; the details are the man page's. */
	ns = 0;
	flags_write_help(&seconds, &ns, &out);
	assert_non_null(strstr(out.data, "-i, --every=SECONDS  How often.\n"));
	assert_null(strstr(out.data, "Only the man page"));
	ns = 1500000000;
	buffer_clear(&out);
	flags_write_man(&seconds, &ns, &out);
	assert_non_null(strstr(out.data, "How often. (default: 1s500ms)\n"));
	assert_non_null(strstr(out.data, ".PP\nOnly the man page\n.PP\n\\&.says this.\n"));
	buffer_done(&out);
}

static void test_nearest(void **state)
{
	static const char *const words[] = {"agent", "server",	"run",	     "doctor",
					    "check", "version", "log.level", "log.format"};
	static const struct { const char *word, *nearest;
	} cases[] = {
	    {"serve", "server"}, {"sevrer", "server"}, {"SERVER", "server"},
	    {"rnu", "run"},	 {"ran", "run"},       {"agnet", "agent"},
	    {"chekc", "check"},	 {"vers", "version"},  {"log.levle", "log.level"},
	    {"log", NULL},	 {"x", NULL},	       {"", NULL},
	    {"ping", NULL},	 {"zzzzzzzz", NULL},   {"doc", "doctor"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const char *nearest = flags_nearest(cases[i].word, words, sizeof(words) / sizeof(*words));
		assert_string_equal(nearest ? nearest : "nothing", cases[i].nearest ? cases[i].nearest : "nothing");
	}
	char giant[4096];
	memset(giant, 'a', sizeof(giant) - 1);
	giant[sizeof(giant) - 1] = '\0';
	const char *with_giant[] = { giant, "agent" };
	assert_null(flags_nearest(giant, words, 8));
	assert_string_equal(flags_nearest("agnt", with_giant, 2), "agent");
	assert_null(flags_nearest("agent", NULL, 0));
}

static void test_durations(void **state)
{
	static const struct { const char *text; uint64_t ns; const char *shortest; } good[] = {
		{ "0s", 0, "0s" }, { "1ns", 1, "1ns" }, { "1us", 1000, "1us" }, { "250ms", 250000000, "250ms" },
		{ "1s", 1000000000, "1s" }, { "1s500ms", 1500000000, "1s500ms" }, { "1.5s", 1500000000, "1s500ms" },
		{ "0.5s", 500000000, "500ms" }, { "1h30m", UINT64_C(5400000000000), "1h30m" },
		{ "90m", UINT64_C(5400000000000), "1h30m" }, { "60s", UINT64_C(60000000000), "1m" },
		{ "2d", UINT64_C(172800000000000), "2d" }, { "1w", UINT64_C(604800000000000), "7d" },
		{ "2y", UINT64_C(63072000000000000), "2y" }, { "400d", UINT64_C(34560000000000000), "400d" },
		{ "1y1ns", UINT64_C(31536000000000001), "1y1ns" }, { "007s", UINT64_C(7000000000), "7s" },
		{ "0.0000000001s", 0, "0s" },
		{ "213503d23h34m33s709ms551us615ns", UINT64_MAX, "213503d23h34m33s709ms551us615ns" },
	};
	static const char *const bad[] = {
	    "",		 "5",	      "s",    "1",    "-1s",   "+1s", " 1s",  "1s ",	"1 s",
	    "1S",	 "1sec",      "1m1h", "1s1s", "1ms1s", "1.s", ".5s",  "1.2.3s", "1e3s",
	    "1h30",	 "soon",      "1s\n", "0x1s", "1mm",   "1sm", "1,5s", "inf",	"99999999999999999999s",
	    "\xc2\xb5s", "1\xc2\xb5s"};
	static const char *const too_long[] = {"600y", "9999999999999999999y", "584y360d",
					       "213503d23h34m33s709ms551us616ns"};
	char buf[32];
	uint64_t ns;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		assert_int_equal(duration_parse(good[i].text, &ns), 0);
		assert_true(ns == good[i].ns);
		assert_string_equal(duration_format(ns, buf), good[i].shortest);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		ns = 42;
		assert_int_equal(duration_parse(bad[i], &ns), -EINVAL);
		assert_int_equal(ns, 42);
	}
	for (size_t i = 0; i < sizeof(too_long) / sizeof(*too_long); i++)
		assert_int_equal(duration_parse(too_long[i], &ns), -ERANGE);
}

/* Whatever is formatted is read back as the same number. */
static void test_durations_random(void **state)
{
	uint64_t x = UINT64_C(0x9e3779b97f4a7c15), ns;
	char buf[32];
	print_message("# seed 0x%" PRIx64 "\n", x);
	for (int i = 0; i < 200000; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		uint64_t value = x >> (i % 64);
		assert_true(strlen(duration_format(value, buf)) < 32);
		assert_int_equal(duration_parse(buf, &ns), 0);
		assert_true(ns == value);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_forms),   cmocka_unit_test(test_defaults),  cmocka_unit_test(test_errors),
	    cmocka_unit_test(test_help),    cmocka_unit_test(test_help_flag), cmocka_unit_test(test_man),
	    cmocka_unit_test(test_seconds), cmocka_unit_test(test_nearest),   cmocka_unit_test(test_durations),
	    cmocka_unit_test(test_durations_random),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
