/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line, the nearest word and durations. What a flag's value means is
 * in its row; nothing is stored in the target before the value is known to be
 * good. The conventions are those of getopt_long and of the Prometheus
 * exporters, less abbreviations: a script that relies on one would break with
 * the next flag.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/flags.h"

#define WORD_MAX 64       /* bytes of a word worth comparing */
#define CANDIDATES_MAX 64 /* flags of one command */

/* Where the reader stands: argv[next] is the next word. */
struct cursor {
	const struct flag_command *command;
	int argc, next;
	char **argv;
	void *target;
	struct error *error;
};

static const struct flag *flag_by_name(const struct flag_command *command, const char *name, size_t len)
{
	for (const struct flag *flag = command->flags; flag && flag->name; flag++)
		if (strlen(flag->name) == len && !memcmp(flag->name, name, len))
			return flag;
	return NULL;
}

static const struct flag *flag_by_letter(const struct flag_command *command, char letter)
{
	for (const struct flag *flag = command->flags; flag && flag->name; flag++)
		if (flag->letter == letter)
			return flag;
	return NULL;
}

static int uint_store(const char *text, const char *label, uint64_t *target, struct error *error)
{
	char *end;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno)
		return error_set(error, -EINVAL, "%s expects a whole number, not `%s`", label, text);
	*target = value;
	return 0;
}

static int duration_store(const char *text, const char *label, uint64_t *target, struct error *error)
{
	int r = duration_parse(text, target);
	if (!r)
		return 0;
	if (r == -ERANGE)
		return error_set(error, -EINVAL, "%s: `%s` is longer than 584 years", label, text);
	bool bare = *text && strlen(text) < 20 && !text[strspn(text, "0123456789")];
	return error_set(error, -EINVAL, "%s expects a duration such as 1s or 250ms, not `%s`%s%s%s", label, text,
			 bare ? "; write `" : "", bare ? text : "", bare ? "s`" : "");
}

static int seconds_store(const char *text, const char *label, uint64_t *target, struct error *error)
{
	char seconds[WORD_MAX];
	if (!*text || strlen(text) + 2 > sizeof(seconds) || text[strspn(text, "0123456789.")])
		return duration_store(text, label, target, error);
	snprintf(seconds, sizeof(seconds), "%ss", text);
	if (!duration_parse(seconds, target))
		return 0;
	return error_set(error, -EINVAL, "%s expects seconds such as 0.2, or a duration such as 200ms, not `%s`", label, text);
}

static int choice_store(const struct flag *flag, const char *text, const char *label, const char **target,
			struct error *error)
{
	const char *words[CANDIDATES_MAX];
	char copy[256];
	size_t n = 0;
	snprintf(copy, sizeof(copy), "%s", flag->choices);
	for (char *rest = copy, *word; n < CANDIDATES_MAX && (word = strsep(&rest, "|"));)
		words[n++] = word;
	for (size_t i = 0; i < n; i++)
		if (!strcmp(words[i], text)) {
			*target = text;
			return 0;
		}
	const char *nearest = flags_nearest(text, words, n);
	return error_set(error, -EINVAL, "%s expects one of %s, not `%s`%s%s%s", label, flag->choices, text,
			 nearest ? "; did you mean `" : "", nearest ? nearest : "", nearest ? "`?" : "");
}

static int strings_store(const char *text, const char *label, struct flag_strings *target, struct error *error)
{
	if (!target->set) {
		target->set = true;
		target->n = 0;
	}
	if (target->n == FLAG_STRINGS_MAX)
		return error_set(error, -EINVAL, "%s was given more than %d times", label, FLAG_STRINGS_MAX);
	target->items[target->n++] = text;
	return 0;
}

static int value_store(const struct cursor *cursor, const struct flag *flag, const char *text, const char *label)
{
	void *target = (char *)cursor->target + flag->offset;
	switch (flag->type) {
	case FLAG_SWITCH:
		return -EINVAL;
	case FLAG_STRING:
		*(const char **)target = text;
		return 0;
	case FLAG_STRINGS:
		return strings_store(text, label, target, cursor->error);
	case FLAG_UINT:
		return uint_store(text, label, target, cursor->error);
	case FLAG_DURATION:
		return duration_store(text, label, target, cursor->error);
	case FLAG_SECONDS:
		return seconds_store(text, label, target, cursor->error);
	case FLAG_CHOICE:
		return choice_store(flag, text, label, target, cursor->error);
	}
	return -EINVAL;
}

/* value: the text after '=' or directly after a letter, or NULL: the next word is the value. */
static int value_take(struct cursor *cursor, const struct flag *flag, const char *value, const char *label)
{
	if (!value && cursor->next >= cursor->argc)
		return error_set(cursor->error, -EINVAL, "%s needs a value: %s=%s", label, label,
				 flag->value ? flag->value : flag->choices ? flag->choices : "VALUE");
	return value_store(cursor, flag, value ? value : cursor->argv[cursor->next++], label);
}

/* "unknown flag --x; did you mean --y?" */
static int unknown_flag(const struct cursor *cursor, const char *word, const char *name, size_t len)
{
	const char *names[CANDIDATES_MAX], *nearest = NULL;
	char text[WORD_MAX];
	size_t n = 0;
	for (const struct flag *flag = cursor->command->flags; flag && flag->name && n < CANDIDATES_MAX - 1; flag++)
		if (!flag->hidden)
			names[n++] = flag->name;
	names[n++] = "help";
	if (len && len < sizeof(text)) {
		memcpy(text, name, len);
		text[len] = '\0';
		nearest = flags_nearest(text, names, n);
	}
	int shown = (int)(name + len - word);
	if (nearest)
		return error_set(cursor->error, -EINVAL, "unknown flag %.*s; did you mean --%s?", shown, word, nearest);
	return error_set(cursor->error, -EINVAL, "unknown flag %.*s", shown, word);
}

static int long_flag(struct cursor *cursor, const char *word)
{
	const char *name = word + 2, *equals = strchr(name, '=');
	size_t len = equals ? (size_t)(equals - name) : strlen(name);
	char label[WORD_MAX + 8];
	const struct flag *flag = flag_by_name(cursor->command, name, len);
	bool on = true;
	if (!flag && len > 3 && !strncmp(name, "no-", 3)) {
		flag = flag_by_name(cursor->command, name + 3, len - 3);
		if (flag && flag->type != FLAG_SWITCH)
			flag = NULL;
		on = false;
	}
	if (!flag)
		return unknown_flag(cursor, word, name, len);
	snprintf(label, sizeof(label), "--%s", flag->name);
	if (flag->type != FLAG_SWITCH)
		return value_take(cursor, flag, equals ? equals + 1 : NULL, label);
	if (equals)
		return error_set(cursor->error, -EINVAL, "%s takes no value; --no-%s is its opposite", label,
				 flag->name);
	*(bool *)((char *)cursor->target + flag->offset) = on;
	return 0;
}

/* "-v", "-vq", "-fFILE", "-f FILE", "-f=FILE" */
static int short_flags(struct cursor *cursor, const char *word)
{
	/* "-config.file=x" means --config.file, not -c with the value "onfig.file=x". */
	size_t len = strcspn(word + 1, "=");
	if (len > 1 && flag_by_name(cursor->command, word + 1, len))
		return unknown_flag(cursor, word, word + 1, len);
	for (const char *letter = word + 1; *letter; letter++) {
		const struct flag *flag = flag_by_letter(cursor->command, *letter);
		char label[3] = { '-', *letter };
		if (!flag)
			return unknown_flag(cursor, word, word + 1, len);
		if (flag->type == FLAG_SWITCH) {
			*(bool *)((char *)cursor->target + flag->offset) = true;
			continue;
		}
		const char *value = letter[1] == '=' ? letter + 2 : letter[1] ? letter + 1 : NULL;
		return value_take(cursor, flag, value, label);
	}
	return 0;
}

static int help_print(const struct flag_command *command, const void *defaults, bool man)
{
	struct buffer out = BUFFER_INIT;
	if (man)
		flags_write_man(command, defaults, &out);
	else
		flags_write_help(command, defaults, &out);
	if (out.data)
		fwrite(out.data, 1, out.len, stdout);
	buffer_done(&out);
	return FLAGS_E_HELP;
}

/* "-h", also behind switches: "-vh". */
static bool short_help(const struct flag_command *command, const char *word)
{
	for (const char *letter = word + 1; word[0] == '-' && *letter; letter++) {
		const struct flag *flag = flag_by_letter(command, *letter);
		if (!flag || flag->type != FLAG_SWITCH)
			return !flag && *letter == 'h' && !letter[1];
	}
	return false;
}

/* Help wins over everything else on the line, so it is looked for first; the defaults are still untouched then. */
static bool help_wanted(const struct flag_command *command, int argc, char **argv, bool *ret_man)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
		*ret_man = !strcmp(argv[i], "--help-man");
		if (*ret_man || !strcmp(argv[i], "--help") || short_help(command, argv[i]))
			return true;
	}
	return false;
}

static int arguments_check(const struct flag_command *command, char **arguments, size_t n, struct error *error)
{
	if (n > command->arguments_max)
		return command->arguments_max
			   ? error_set(error, -EINVAL, "unexpected argument `%s`", arguments[command->arguments_max])
			   : error_set(error, -EINVAL, "unexpected argument `%s`; this command takes only flags",
				       arguments[0]);
	if (n < command->arguments_min)
		return error_set(error, -EINVAL, "missing argument: %s", command->arguments ? command->arguments : "");
	return 0;
}

int flags_parse(const struct flag_command *command, int argc, char **argv, void *target, char ***ret_arguments,
		size_t *ret_n_arguments, struct error *ret_error)
{
	struct cursor cursor = { command, argc, 1, argv, target, ret_error };
	size_t n = 0;
	bool only_arguments = false, man = false;
	if (help_wanted(command, argc, argv, &man))
		return help_print(command, target, man);
	while (cursor.next < argc) {
		char *word = argv[cursor.next++];
		int r = 0;
		if (only_arguments || word[0] != '-' || !word[1])
			argv[1 + n++] = word;
		else if (!strcmp(word, "--"))
			only_arguments = true;
		else
			r = word[1] == '-' ? long_flag(&cursor, word) : short_flags(&cursor, word);
		if (r < 0)
			return r;
	}
	int r = arguments_check(command, argv + 1, n, ret_error);
	if (r < 0)
		return r;
	if (ret_arguments)
		*ret_arguments = argv + 1;
	if (ret_n_arguments)
		*ret_n_arguments = n;
	return 0;
}

static size_t min3(size_t a, size_t b, size_t c)
{
	size_t least = a < b ? a : b;
	return least < c ? least : c;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* Edits (insert, delete, replace, swap of neighbours) that turn one word into the other, without regard to case. */
static size_t edit_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t rows[3][WORD_MAX + 1];
	for (size_t j = 0; j <= b_len; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= a_len; i++) {
		size_t *before = rows[(i + 1) % 3], *last = rows[(i + 2) % 3], *row = rows[i % 3];
		row[0] = i;
		for (size_t j = 1; j <= b_len; j++) {
			char x = lower(a[i - 1]), y = lower(b[j - 1]);
			row[j] = min3(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y));
			if (i > 1 && j > 1 && x == lower(b[j - 2]) && y == lower(a[i - 2]) &&
			    before[j - 2] + 1 < row[j])
				row[j] = before[j - 2] + 1;
		}
	}
	return rows[a_len % 3][b_len];
}

const char *flags_nearest(const char *word, const char *const *candidates, size_t n)
{
	size_t len = strlen(word), prefixed = 0;
	size_t best = len <= 4 ? 2 : len <= 8 ? 3 : 4; /* the first distance that is too far */
	const char *nearest = NULL, *longer = NULL;
	if (!len || len > WORD_MAX)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		size_t candidate_len = strlen(candidates[i]);
		if (candidate_len > WORD_MAX)
			continue;
		size_t distance = edit_distance(word, len, candidates[i], candidate_len);
		/* As many edits as letters would turn any word into any other. */
		if (distance < best && distance < candidate_len && distance < len) {
			best = distance;
			nearest = candidates[i];
		}
		if (len >= 3 && candidate_len > len && !strncmp(word, candidates[i], len)) {
			longer = candidates[i];
			prefixed++;
		}
	}
	return nearest ? nearest : prefixed == 1 ? longer : NULL;
}

static const struct unit { const char *name; uint64_t ns; } units[] = {
	{ "y", 365 * 86400 * UINT64_C(1000000000) }, { "w", 7 * 86400 * UINT64_C(1000000000) },
	{ "d", 86400 * UINT64_C(1000000000) },	     { "h", 3600 * UINT64_C(1000000000) },
	{ "m", 60 * UINT64_C(1000000000) },	     { "s", UINT64_C(1000000000) },
	{ "ms", 1000000 },			     { "us", 1000 },
	{ "ns", 1 },
};
#define N_UNITS (sizeof(units) / sizeof(*units))

/* Digits and perhaps a fraction: value * 10^places, at most 18 digits. */
static const char *decimal_read(const char *text, uint64_t *ret_value, uint64_t *ret_scale)
{
	uint64_t value = 0, scale = 0;
	size_t digits = 0, places = 0;
	for (; (*text >= '0' && *text <= '9') || (*text == '.' && !scale && digits); text++) {
		if (*text == '.') {
			scale = 1;
			continue;
		}
		if (++digits > 19)
			return NULL;
		value = value * 10 + (uint64_t)(*text - '0');
		if (scale) {
			scale *= 10;
			places++;
		}
	}
	if (!digits || (scale && !places))
		return NULL;
	*ret_value = value;
	*ret_scale = scale ? scale : 1;
	return text;
}

/* Nineteen digits times a year's nanoseconds need more than 64 bits. */
__extension__ typedef unsigned __int128 wide;

int duration_parse(const char *text, uint64_t *ret_ns)
{
	wide total = 0;
	size_t next = 0;
	if (!*text)
		return -EINVAL;
	while (*text) {
		uint64_t value, scale;
		text = decimal_read(text, &value, &scale);
		if (!text)
			return -EINVAL;
		size_t len = strspn(text, "ywdhmsun"), i = next;
		while (i < N_UNITS && (strlen(units[i].name) != len || memcmp(units[i].name, text, len)))
			i++;
		if (i == N_UNITS)
			return -EINVAL;
		total += (wide)value * units[i].ns / scale;
		if (total > UINT64_MAX)
			return -ERANGE;
		next = i + 1;
		text += len;
	}
	*ret_ns = (uint64_t)total;
	return 0;
}

const char *duration_format(uint64_t ns, char buf[static 32])
{
	size_t out = 0;
	uint64_t day = units[2].ns;
	for (size_t i = 0; i < N_UNITS; i++) {
		/* No weeks, and years only when they leave no days: "400d", "2y". */
		if (*units[i].name == 'w' || (*units[i].name == 'y' && ns / day % 365))
			continue;
		uint64_t n = ns / units[i].ns;
		if (!n)
			continue;
		out += (size_t)snprintf(buf + out, 32 - out, "%" PRIu64 "%s", n, units[i].name);
		ns %= units[i].ns;
	}
	if (!out)
		memcpy(buf, "0s", 3);
	return buf;
}
