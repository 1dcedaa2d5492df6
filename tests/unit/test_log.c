/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines as they leave the process: standard error is a pipe, a terminal or
 * a full pipe here, and what arrives is read back. Hostile values must stay one
 * value on one line; JSON lines must be what a JSON parser takes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <regex.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/json.h"
#include "lib/log.h"

#define SEED 20260731u
#define TIME_LONG "ts=[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z"
#define TIME_SHORT "[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}"

/* Standard error is `writer` between capture_begin and capture_end; no assertion may fail in between. */
static int saved_stderr, reader, writer;
static char captured[1 << 20];

static void capture_onto(int read_end, int write_end)
{
	saved_stderr = dup(STDERR_FILENO);
	assert_true(saved_stderr >= 0);
	reader = read_end;
	writer = write_end;
	assert_true(dup2(writer, STDERR_FILENO) >= 0);
}

static void capture_begin(void)
{
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	capture_onto(ends[0], ends[1]);
}

static void restore(void)
{
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
}

static const char *capture_end(void)
{
	size_t n = 0;
	ssize_t got;

	restore();
	close(writer);
	while (n < sizeof(captured) - 1 && (got = read(reader, captured + n, sizeof(captured) - 1 - n)) > 0)
		n += (size_t)got;
	captured[n] = '\0';
	assert_int_equal(strlen(captured), n); /* no NUL got out */
	close(reader);
	return captured;
}

static void assert_matches(const char *text, const char *pattern)
{
	regex_t regex;
	int r;

	assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
	r = regexec(&regex, text, 0, NULL, 0);
	regfree(&regex);
	if (r != 0)
		print_message("# %s\n# is not like %s\n", text, pattern);
	assert_int_equal(r, 0);
}

static void setup(const char *format)
{
	assert_int_equal(log_setup("agent", "debug", format, NULL), 0);
}

static void test_logfmt(void **unused)
{
	capture_begin();
	setup("logfmt");
	log_info("listening", "address", "127.0.0.1:9435", "tls", "off", NULL);
	assert_matches(capture_end(), "^" TIME_LONG " level=info component=agent msg=\"listening\" "
		       "address=127\\.0\\.0\\.1:9435 tls=off\n$");

	capture_begin();
	log_warn("no pairs", NULL);
	log_error("odd values", "empty", "", "null", (char *)NULL, "equals", "a=b", "space", "a b", "bad key=\n", "v", NULL);
	assert_matches(capture_end(), "^" TIME_LONG " level=warn component=agent msg=\"no pairs\"\n"
		       TIME_LONG " level=error component=agent msg=\"odd values\" "
		       "empty=\"\" null=null equals=\"a=b\" space=\"a b\" bad_key__=v\n$");
}

static void test_setup_refuses(void **unused)
{
	struct error e = { "" };

	setup("logfmt");
	assert_int_equal(log_setup("x", "loud", "json", &e), -EINVAL);
	assert_string_equal(e.text, "unknown log level \"loud\"; known are debug, info, warn and error");
	assert_int_equal(log_setup("x", "info", "xml", &e), -EINVAL);
	assert_string_equal(e.text, "unknown log format \"xml\"; known are logfmt and json");
	assert_int_equal(log_setup("x", "", "json", NULL), -EINVAL);
	/* Nothing of it has stayed. */
	capture_begin();
	log_debug("still there", NULL);
	assert_matches(capture_end(), "^" TIME_LONG " level=debug component=agent msg=\"still there\"\n$");
}

static void test_levels(void **unused)
{
	static const char *const names[] = { "debug", "info", "warn", "error" };

	for (int least = LOG_DEBUG; least <= LOG_ERROR; least++) {
		unsigned lines = 0;

		assert_int_equal(log_setup("agent", names[least], "logfmt", NULL), 0);
		capture_begin();
		for (int level = LOG_DEBUG; level <= LOG_ERROR; level++)
			log_event((enum log_level)level, "x", NULL);
		for (const char *c = capture_end(); *c; c++)
			lines += *c == '\n';
		assert_int_equal(lines, LOG_ERROR - least + 1);
		assert_true(log_enabled((enum log_level)least));
		assert_true(least == LOG_DEBUG || !log_enabled((enum log_level)(least - 1)));
	}
	assert_int_equal(log_setup("agent", NULL, NULL, NULL), 0);
	assert_true(log_enabled(LOG_INFO) && !log_enabled(LOG_DEBUG));
}

/* The value of a quoted logfmt field is a JSON string: parsed back it must be what went in. */
static void assert_logfmt_value(const char *value, const char *expected)
{
	const char *line, *start;
	json_t *parsed;

	capture_begin();
	setup("logfmt");
	log_info("m", "k", value, "last", "1", NULL);
	line = capture_end();
	start = strstr(line, " k=");
	assert_non_null(start);
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
	parsed = json_loads(start + 3, JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK, NULL);
	assert_non_null(parsed);
	assert_string_equal(json_string_value(parsed), expected);
	json_decref(parsed);
	assert_string_equal(line + strlen(line) - 8, " last=1\n");
}

static void assert_json_value(const char *value, const char *expected)
{
	const char *line;
	json_error_t error;
	json_t *parsed;

	capture_begin();
	setup("json");
	log_info(value, "k", value, NULL);
	line = capture_end();
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
	parsed = json_loads(line, JSON_REJECT_DUPLICATES, &error);
	assert_non_null(parsed);
	assert_int_equal(json_object_size(parsed), 5);
	assert_string_equal(json_string_value(json_object_get(parsed, "k")), expected);
	assert_string_equal(json_string_value(json_object_get(parsed, "msg")), expected);
	assert_string_equal(json_string_value(json_object_get(parsed, "level")), "info");
	assert_string_equal(json_string_value(json_object_get(parsed, "component")), "agent");
	json_decref(parsed);
}

#define BAD "\xef\xbf\xbd" /* U+FFFD */

static void test_hostile_values(void **unused)
{
	static const struct { const char *value, *expected; } rows[] = {
		{ "a\nts=2026-01-01T00:00:00.000Z level=error msg=\"forged\"", NULL },
		{ "\" level=error msg=\"forged", NULL },
		{ "\\\" x=\\", NULL },
		{ "\r\n\t\v\f\b\x01\x1f\x7f", NULL },
		{ "\x1b[2J\x1b]0;title\x07", NULL },
		{ "\xc2\x9b" "31m", NULL },                       /* CSI as a C1 control */
		{ "\xe2\x80\xae" "gnp.exe\xe2\x81\xa6", NULL },   /* right-to-left override */
		{ "\xe2\x80\xa8" "next line", NULL },             /* U+2028 */
		{ "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf", NULL },
		{ "a\xff" "b", "a" BAD "b" },
		{ "\xc3", BAD },                                  /* ends within a character */
		{ "\xe2\x82 x", BAD BAD " x" },
		{ "\xc0\x80", BAD BAD },                          /* an overlong NUL */
		{ "\xc0\x8a", BAD BAD },                          /* an overlong line feed */
		{ "\xe0\x80\xa2", BAD BAD BAD },                  /* an overlong quote */
		{ "\xed\xa0\x80", BAD BAD BAD },                  /* a surrogate */
		{ "\xf4\x90\x80\x80", BAD BAD BAD BAD },          /* beyond U+10FFFF */
		{ "\xf8\x88\x80\x80\x80", BAD BAD BAD BAD BAD },
		{ "{\"level\":\"error\"}", NULL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *expected = rows[i].expected ? rows[i].expected : rows[i].value;

		assert_logfmt_value(rows[i].value, expected);
		for (const char *c = captured; *c != '\n'; c++)
			assert_true((unsigned char)*c >= ' ' && *c != 0x7f);
		/* Nothing that turns a terminal around or starts an escape sequence is written as it came. */
		assert_null(strstr(captured, "\xc2\x9b"));
		assert_null(strstr(captured, "\xe2\x80\xae"));
		assert_null(strstr(captured, "\xe2\x80\xa8"));
		assert_json_value(rows[i].value, expected);
	}
}

static uint64_t random_state = SEED;

static uint64_t random_u64(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static void test_random_values_stay_one_line(void **unused)
{
	printf("# seed %u\n", SEED);
	for (int i = 0; i < 3000; i++) {
		char value[200];
		size_t n = random_u64() % sizeof(value);
		json_t *parsed;
		const char *line;

		/* Mostly of the bytes that matter. */
		for (size_t j = 0; j < n; j++)
			value[j] = random_u64() & 1 ? "\"\\\n= \xc2\xe2\x80\x9b\xff{},:"[random_u64() % 14] :
						      (char)(1 + random_u64() % 255);
		value[n ? n - 1 : 0] = '\0';
		capture_begin();
		setup(i & 1 ? "json" : "logfmt");
		log_info("m", "k", value, NULL);
		line = capture_end();
		assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
		if (i & 1) {
			parsed = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
			assert_non_null(parsed);
			assert_int_equal(json_object_size(parsed), 5);
			json_decref(parsed);
		}
	}
}

static void test_long_values_are_cut(void **unused)
{
	static char value[100000];
	char expected[LOG_VALUE_MAX + 64];

	memset(value, 'x', sizeof(value) - 1);
	snprintf(expected, sizeof(expected), "%.*s... (99999 bytes)", LOG_VALUE_MAX, value);
	assert_logfmt_value(value, expected);
	assert_json_value(value, expected);
	assert_true(strlen(captured) < 4096); /* PIPE_BUF */
	/* Not within a character: here the cut would fall behind its second byte. */
	memcpy(value + LOG_VALUE_MAX - 2, "\xe2\x82\xac", 3);
	snprintf(expected, sizeof(expected), "%.*s... (99999 bytes)", LOG_VALUE_MAX - 2, value);
	assert_json_value(value, expected);
	/* Just not cut. */
	memset(value, 'x', LOG_VALUE_MAX);
	value[LOG_VALUE_MAX] = '\0';
	assert_json_value(value, value);
}

static void test_json_null_and_order(void **unused)
{
	const char *line;

	capture_begin();
	setup("json");
	log_info("listening", "address", (char *)NULL, NULL);
	line = capture_end();
	assert_matches(line, "^\\{\"ts\":\"[0-9T:.-]{23}Z\",\"level\":\"info\",\"component\":\"agent\","
		       "\"msg\":\"listening\",\"address\":null\\}\n$");
}

/* The terminal gives back what was written with \r\n at the end. */
static void test_terminal(void **unused)
{
	char line[300] = "";
	int master, slave;
	ssize_t n;

	assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
	capture_onto(master, slave);
	setup("logfmt");
	log_info("listening", "address", "\x1b[31m", NULL);
	restore();
	n = read(master, line, sizeof(line) - 1);
	assert_true(n > 0);
	assert_matches(line, "^" TIME_SHORT " level=info component=agent msg=\"listening\" address=\"\\\\u001b\\[31m\"\r\n$");
	close(master);
	close(slave);
	setup("logfmt"); /* forgets the terminal */
}

static void drain(int fd, char *to, size_t size, size_t *ret_n)
{
	ssize_t got;

	*ret_n = 0;
	while ((got = read(fd, to + *ret_n, size - 1 - *ret_n)) > 0)
		*ret_n += (size_t)got;
	to[*ret_n] = '\0';
}

/* A pipe that nobody empties, not blocking: lines are lost, counted, and the next one says how many. */
static void test_lost_lines_are_counted(void **unused)
{
	char value[LOG_VALUE_MAX + 1], *last, expected[64];
	int ends[2];
	unsigned lines = 0;
	size_t n;

	memset(value, 'v', LOG_VALUE_MAX);
	value[LOG_VALUE_MAX] = '\0';
	assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
	assert_true(fcntl(ends[1], F_SETPIPE_SZ, 4096) >= 4096);
	capture_onto(ends[0], ends[1]);
	setup("logfmt");
	for (int i = 0; i < 6; i++)
		log_info("m", "k", value, NULL);
	restore();
	drain(reader, captured, sizeof(captured), &n);
	for (size_t i = 0; i < n; i++)
		lines += captured[i] == '\n';
	assert_in_range(lines, 1, 5);

	capture_onto(ends[0], ends[1]);
	log_info("next", NULL);
	log_info("after", NULL);
	restore();
	drain(reader, captured, sizeof(captured), &n);
	snprintf(expected, sizeof(expected), " msg=\"next\" lost_lines=%u\n", 6 - lines);
	last = strstr(captured, expected);
	assert_non_null(last);
	assert_null(strstr(last + strlen(expected), "lost_lines"));
	close(ends[0]);
	close(ends[1]);
}

static void test_errno_is_kept(void **unused)
{
	int after;

	capture_begin();
	setup("logfmt");
	close(STDERR_FILENO); /* the write fails with EBADF */
	errno = ENOTTY;
	log_info("into nothing", NULL);
	after = errno;
	capture_end();
	assert_int_equal(after, ENOTTY);
	capture_begin();
	log_info("again", NULL);
	assert_matches(capture_end(), "msg=\"again\" lost_lines=1\n$");
}

/* Several processes on one pipe: every line arrives whole. */
static void test_processes_do_not_mix(void **unused)
{
	enum { PROCESSES = 4, LINES = 200 };
	char value[900];
	unsigned lines = 0;
	char *line, *end;
	size_t n;
	pid_t pids[PROCESSES];

	memset(value, 'v', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	capture_begin();
	setup("json");
	for (int p = 0; p < PROCESSES; p++) {
		pids[p] = fork();
		if (pids[p] == 0) {
			close(reader);
			for (int i = 0; i < LINES; i++)
				log_info("m", "k", value + (i * 7 + p) % 800, NULL);
			_exit(0);
		}
	}
	restore();
	close(writer);
	drain(reader, captured, sizeof(captured), &n);
	close(reader);
	for (int p = 0; p < PROCESSES; p++) {
		int status = -1;

		assert_int_equal(waitpid(pids[p], &status, 0), pids[p]);
		assert_int_equal(status, 0);
	}
	for (line = captured; (end = strchr(line, '\n')); line = end + 1) {
		json_t *parsed = json_loadb(line, (size_t)(end - line), JSON_REJECT_DUPLICATES, NULL);

		assert_non_null(parsed);
		json_decref(parsed);
		lines++;
	}
	assert_ptr_equal(line, captured + n);
	assert_int_equal(lines, PROCESSES * LINES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_logfmt),
		cmocka_unit_test(test_setup_refuses),
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_hostile_values),
		cmocka_unit_test(test_random_values_stay_one_line),
		cmocka_unit_test(test_long_values_are_cut),
		cmocka_unit_test(test_json_null_and_order),
		cmocka_unit_test(test_terminal),
		cmocka_unit_test(test_lost_lines_are_counted),
		cmocka_unit_test(test_errno_is_kept),
		cmocka_unit_test(test_processes_do_not_mix),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
