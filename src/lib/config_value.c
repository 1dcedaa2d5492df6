/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scalar types of the schema: how each is read, what it is called in
 * messages, and how the memory of a filled struct is given back. Defaults take
 * the same way as values from a file, so a default that its own row would refuse
 * is a bug and asserts.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/address.h"
#include "lib/config_report.h"
#include "lib/config_value.h"
#include "lib/flags.h"

#define STRING_MAX 4096 /* characters, where a row sets no limit; the kernel's PATH_MAX */

const char *config_leaf(const char *path)
{
	const char *dot = strrchr(path, '.');
	return dot ? dot + 1 : path;
}

/* How a value is called; an element of a list of plain values has no key. */
static const char *label_of(const struct config_row *row)
{
	return *row->path ? config_leaf(row->path) : "entry";
}

const struct config_row *config_value_rows(const struct config_row *row)
{
	return row->type == CONFIG_MAP ? row->rows + 1 : row->rows;
}

const struct config_row *config_plain_row(const struct config_row *row)
{
	const struct config_row *rows = config_value_rows(row);
	return rows->path && !*rows->path ? rows : NULL;
}

const struct config_row *config_switch_keys(const struct config_row *row)
{
	size_t len = strlen(row->path);
	if (row->type != CONFIG_SWITCH || !row[1].path || strncmp(row[1].path, row->path, len))
		return NULL;
	return row[1].path[len] == '.' ? row + 1 : NULL;
}

/* The word that stands for 0, or NULL. */
static const char *zero_word(const struct config_row *row)
{
	return row->type == CONFIG_CHOICE ? NULL : row->choices;
}

/* "a, b or c" from "a|b|c". */
static void write_choices(const char *choices, struct buffer *out)
{
	for (const char *word = choices; word;) {
		const char *bar = strchr(word, '|');
		buffer_append(out, word, bar ? (size_t)(bar - word) : strlen(word));
		word = bar ? bar + 1 : NULL;
		if (word)
			buffer_puts(out, strchr(word, '|') ? ", " : " or ");
	}
}

void config_expected(const struct config_row *row, struct buffer *out)
{
	switch (row->type) {
	case CONFIG_SECTION:
		buffer_puts(out, "keys and values");
		break;
	case CONFIG_SWITCH:
		buffer_puts(out, "on or off");
		if (config_switch_keys(row))
			buffer_printf(out, ", or keys such as `%s`", config_leaf(config_switch_keys(row)->path));
		break;
	case CONFIG_UNSIGNED:
		if (row->flags & CONFIG_TOP)
			buffer_puts(out, "a number such as `top 50`");
		else
			buffer_printf(out, "a whole number such as %s", row->value ? row->value : "100");
		break;
	case CONFIG_SIZE:
		buffer_printf(out, "a size such as %s", row->value ? row->value : "64M");
		break;
	case CONFIG_RATE:
		buffer_printf(out, "a rate such as %s", row->value ? row->value : "1000/s");
		break;
	case CONFIG_SIZE_RATE:
		buffer_printf(out, "a size per second such as %s", row->value ? row->value : "1MB/s");
		break;
	case CONFIG_DURATION:
		buffer_puts(out, "a duration such as 1s or 250ms");
		break;
	case CONFIG_STRING:
		buffer_puts(out, "text");
		break;
	case CONFIG_CHOICE:
		write_choices(row->choices, out);
		break;
	case CONFIG_URL:
		buffer_puts(out, "a URL such as http://10.0.0.2:9435/metrics");
		break;
	case CONFIG_PREFIX:
		buffer_puts(out, "an address or prefix such as 10.1.0.0/16");
		break;
	case CONFIG_LIST:
	case CONFIG_MAP:
		buffer_puts(out, row->type == CONFIG_LIST ? "a list" : "a map");
		if (row->example)
			buffer_printf(out, " such as %s", row->example);
		break;
	}
	if (zero_word(row))
		buffer_printf(out, " or %s", zero_word(row));
}

static const char *size_format(uint64_t bytes, char buf[static 32])
{
	bool round = bytes && bytes % 1000000 == 0;
	snprintf(buf, 32, "%" PRIu64 "%s", round ? bytes / 1000000 : bytes, round ? "M" : "");
	return buf;
}

void config_range(const struct config_row *row, struct buffer *out)
{
	char low[32], high[32];
	if (!row->max)
		return;
	if (row->type == CONFIG_UNSIGNED)
		buffer_printf(out, "%" PRIu64 " to %" PRIu64, row->min, row->max);
	else if (row->type == CONFIG_RATE)
		buffer_printf(out, "%" PRIu64 "/s to %" PRIu64 "/s", row->min, row->max);
	else if (row->type == CONFIG_SIZE_RATE)
		buffer_printf(out, "%s/s to %s/s", size_format(row->min, low), size_format(row->max, high));
	else if (row->type == CONFIG_SIZE)
		buffer_printf(out, "%s to %s", size_format(row->min, low), size_format(row->max, high));
	else if (row->type == CONFIG_DURATION)
		buffer_printf(out, "%s to %s", duration_format(row->min, low), duration_format(row->max, high));
	else if (row->type == CONFIG_LIST || row->type == CONFIG_MAP)
		buffer_printf(out, "at most %" PRIu64 " entries", row->max);
	else if (row->type == CONFIG_STRING)
		buffer_printf(out, "at most %" PRIu64 " characters", row->max);
	if (out->len && zero_word(row))
		buffer_printf(out, " or %s", zero_word(row));
}

/* "expected ..., not `text`", with a hint. */
static int refuse(const struct config_row *row, const char *text, size_t len, const char *hint, struct error *ret_error)
{
	char quoted[CONFIG_QUOTE_MAX];
	struct buffer expected = BUFFER_INIT;
	config_expected(row, &expected);
	int r = error_set(ret_error, -EINVAL, "expected %s, not `%s`%s", expected.data ? expected.data : "",
			  len ? config_quote(text, len, quoted) : "\"\"", hint);
	buffer_done(&expected);
	return r;
}

static int range_refuse(const struct config_row *row, const char *text, struct error *ret_error)
{
	char quoted[CONFIG_QUOTE_MAX];
	struct buffer range = BUFFER_INIT;
	config_range(row, &range);
	int r = error_set(ret_error, -EINVAL, "`%s` must be %s, not %s", label_of(row),
			  range.data ? range.data : "", config_quote(text, strlen(text), quoted));
	buffer_done(&range);
	return r;
}

static int range_check(const struct config_row *row, uint64_t value, const char *text, struct error *ret_error)
{
	if (value >= row->min && (!row->max || value <= row->max))
		return 0;
	return range_refuse(row, text, ret_error);
}

static int switch_parse(const struct config_row *row, const char *text, bool *ret_value, struct error *ret_error)
{
	static const char *const words[] = { "off", "on", "false", "true", "no", "yes" };
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (!strcasecmp(text, words[i])) {
			*ret_value = i & 1;
			return 0;
		}
	return refuse(row, text, strlen(text), "", ret_error);
}

static bool all_digits(const char *text)
{
	return *text && !text[strspn(text, "0123456789")];
}

static uint64_t number_scale(const char *unit)
{
	return !*unit ? 1 : !strcmp(unit, "k") ? 1000 : !strcmp(unit, "M") ? 1000000 : 0;
}

/* k, M and G are powers of 1000, Ki, Mi and Gi of 1024; a B may follow, and case tells nothing apart. */
static uint64_t size_scale(const char *unit)
{
	static const char letters[] = "kmg";
	const char *letter = *unit ? strchr(letters, *unit | 0x20) : NULL;
	uint64_t scale = 1, base = 1000;
	if (letter) {
		unit++;
		if (*unit == 'i' || *unit == 'I') {
			base = 1024;
			unit++;
		}
		for (ptrdiff_t i = letter - letters; i >= 0; i--)
			scale *= base;
	}
	if (*unit == 'B' || *unit == 'b')
		unit++;
	return *unit ? 0 : scale;
}

/* What a number is written like, without what may stand around it. */
struct number_text { const char *text; size_t digits; char unit[8]; };

/* Takes "top " off the front and "/s" off the end, where the row allows or demands them. False: there is no number. */
static bool number_split(const struct config_row *row, const char *text, struct number_text *ret_number)
{
	const bool rate = row->type == CONFIG_RATE || row->type == CONFIG_SIZE_RATE;
	size_t len;
	if (row->flags & CONFIG_TOP && !strncmp(text, "top ", 4))
		text += 4 + strspn(text + 4, " ");
	ret_number->text = text;
	ret_number->digits = strspn(text, "0123456789");
	text += ret_number->digits;
	len = strlen(text);
	if (rate && (len < 2 || strcmp(text + len - 2, "/s")))
		return false;
	len -= rate ? 2 : 0;
	if (len >= sizeof(ret_number->unit))
		return false;
	memcpy(ret_number->unit, text, len);
	ret_number->unit[len] = '\0';
	return ret_number->digits;
}

static int unsigned_parse(const struct config_row *row, const char *text, uint32_t *ret_value, struct error *ret_error)
{
	const bool size = row->type == CONFIG_SIZE || row->type == CONFIG_SIZE_RATE;
	struct number_text number;
	struct config_row bounded = *row;
	bounded.max = row->max ? row->max : UINT32_MAX;
	if (*text == '-' && all_digits(text + 1))
		return range_refuse(&bounded, text, ret_error);
	uint64_t scale = 0, value = 0;
	if (number_split(row, text, &number))
		scale = size ? size_scale(number.unit) : number_scale(number.unit);
	if (!scale) {
		char hint[64] = "";
		if (row->type == CONFIG_RATE && all_digits(text) && strlen(text) < 20)
			snprintf(hint, sizeof(hint), "; write `%s/s`", text);
		return refuse(row, text, strlen(text), hint, ret_error);
	}
	for (size_t i = 0; i < number.digits && value <= UINT32_MAX; i++)
		value = value * 10 + (uint64_t)(number.text[i] - '0');
	value *= scale;
	int r = range_check(&bounded, value, text, ret_error);
	if (!r)
		*ret_value = (uint32_t)value;
	return r;
}

static int duration_value(const struct config_row *row, const char *text, uint64_t *ret_value, struct error *ret_error)
{
	uint64_t ns;
	char hint[64] = "";
	int r = duration_parse(text, &ns);
	if (r == -ERANGE)
		return range_refuse(row, text, ret_error);
	if (r < 0) {
		if (all_digits(text) && strlen(text) < 20)
			snprintf(hint, sizeof(hint), "; write `%ss`", text);
		return refuse(row, text, strlen(text), hint, ret_error);
	}
	r = range_check(row, ns, text, ret_error);
	if (!r)
		*ret_value = ns;
	return r;
}

static int string_parse(const struct config_row *row, const char *text, size_t len, char **target,
			struct error *ret_error)
{
	size_t chars = 0, max = row->max ? row->max : STRING_MAX;
	for (size_t i = 0, n; i < len; i += n, chars++) {
		n = config_utf8_len(text + i, len - i);
		if (!n || (unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return error_set(ret_error, -EINVAL, "`%s` must not contain control characters", label_of(row));
	}
	if (!chars)
		return error_set(ret_error, -EINVAL, "`%s` must not be empty", label_of(row));
	if (chars < row->min || chars > max)
		return error_set(ret_error, -EINVAL, "`%s` must have %" PRIu64 " to %zu characters, not %zu",
				 label_of(row), row->min ? row->min : 1, max, chars);
	int r = row->check ? row->check(text, ret_error) : 0;
	if (r < 0)
		return r;
	char *copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(*target);
	*target = copy;
	return 0;
}

static int choice_parse(const struct config_row *row, const char *text, unsigned *ret_value, struct error *ret_error)
{
	size_t len = strlen(text);
	unsigned index = 0;
	for (const char *word = row->choices; word; index++) {
		const char *bar = strchr(word, '|');
		size_t n = bar ? (size_t)(bar - word) : strlen(word);
		if (n == len && !memcmp(word, text, n)) {
			*ret_value = index;
			return 0;
		}
		word = bar ? bar + 1 : NULL;
	}
	return refuse(row, text, len, "", ret_error);
}

/* The port and what may follow it; text is at the ':' or after the host. */
static const char *port_check(const char *text)
{
	if (*text == ':') {
		size_t digits = strspn(text + 1, "0123456789");
		unsigned long port = digits && digits < 6 ? strtoul(text + 1, NULL, 10) : 0;
		if (!port || port > 65535)
			return "the port must be 1 to 65535";
		text += 1 + digits;
	}
	return *text && !strchr("/?#", *text) ? "the host name is malformed" : NULL;
}

/* What is wrong with a URL, or NULL. RFC 3986's shape of an http URL; curl, which fetches it, is less strict. */
static const char *url_problem(const char *url)
{
	size_t scheme = !strncasecmp(url, "http://", 7) ? 7 : !strncasecmp(url, "https://", 8) ? 8 : 0;
	if (!scheme)
		return "it must start with http:// or https://";
	for (const char *c = url; *c; c++)
		if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f || strchr("\"<>\\^`{|}", *c))
			return "it must not contain spaces, quotes or other characters a URL has to escape";
	const char *host = url + scheme, *end = host + strcspn(host, "/?#");
	const char *at = memrchr(host, '@', (size_t)(end - host));
	if (at)
		host = at + 1;
	if (*host != '[') {
		size_t len = strcspn(host, ":/?#[]");
		return len ? port_check(host + len) : "the host is missing";
	}
	char text[ADDRESS_TEXT_MAX];
	struct address address;
	const char *close = memchr(host, ']', (size_t)(end - host));
	size_t len = close ? (size_t)(close - host - 1) : 0;
	if (!close || len >= sizeof(text))
		return "the address in brackets is malformed";
	memcpy(text, host + 1, len);
	text[len] = '\0';
	if (address_parse(text, &address) < 0)
		return "the address in brackets is malformed";
	return port_check(close + 1);
}

/* prefix_parse repeats the text in its sentence; what is no part of any address does not get that far. */
static int prefix_value(const struct config_row *row, const char *text, size_t len, struct prefix *target,
			struct error *ret_error)
{
	for (size_t i = 0; i < len; i++)
		if (len >= ADDRESS_TEXT_MAX || (unsigned char)text[i] < 0x20 || (unsigned char)text[i] >= 0x7f)
			return refuse(row, text, len, "", ret_error);
	return prefix_parse(text, target, ret_error);
}

static int url_parse(const struct config_row *row, const char *text, size_t len, char **target, struct error *ret_error)
{
	const char *problem = len == strlen(text) ? url_problem(text) : "it contains a NUL character";
	if (problem) {
		char hint[160];
		snprintf(hint, sizeof(hint), "; %s", problem);
		return refuse(row, text, len, hint, ret_error);
	}
	return string_parse(row, text, len, target, ret_error);
}

static size_t number_size(const struct config_row *row)
{
	return row->type == CONFIG_DURATION ? sizeof(uint64_t) : sizeof(uint32_t);
}

int config_value_parse(const struct config_row *row, const char *text, size_t len, void *base, struct error *ret_error)
{
	void *target = (char *)base + row->offset;
	if (row->type == CONFIG_STRING)
		return string_parse(row, text, len, target, ret_error);
	if (row->type == CONFIG_URL)
		return url_parse(row, text, len, target, ret_error);
	if (len != strlen(text))
		return refuse(row, text, len, "", ret_error);
	if (zero_word(row) && !strcmp(text, zero_word(row))) {
		memset(target, 0, number_size(row));
		return 0;
	}
	switch (row->type) {
	case CONFIG_SWITCH:
		return switch_parse(row, text, target, ret_error);
	case CONFIG_UNSIGNED:
	case CONFIG_SIZE:
	case CONFIG_RATE:
	case CONFIG_SIZE_RATE:
		return unsigned_parse(row, text, target, ret_error);
	case CONFIG_DURATION:
		return duration_value(row, text, target, ret_error);
	case CONFIG_CHOICE:
		return choice_parse(row, text, target, ret_error);
	case CONFIG_PREFIX:
		return prefix_value(row, text, len, target, ret_error);
	default:
		assert(!"a row whose value is not a scalar");
		return -EINVAL;
	}
}

int config_defaults(const struct config_row *rows, void *base)
{
	for (const struct config_row *row = rows; row->path; row++) {
		if (row->flags & CONFIG_INHERITED)
			memset((char *)base + row->offset, 0xff, number_size(row));
		if (!row->value || row->type == CONFIG_SECTION || row->type == CONFIG_LIST || row->type == CONFIG_MAP)
			continue;
		struct error error = { 0 };
		int r = config_value_parse(row, row->value, strlen(row->value), base, &error);
		if (r == -ENOMEM)
			return r;
		assert(!r);
	}
	return 0;
}

/* The pointers of strings and arrays have several types; all are read and cleared through these two. */
static void *pointer_get(const void *place)
{
	void *pointer;
	memcpy(&pointer, place, sizeof(pointer));
	return pointer;
}

static void pointer_free(void *place)
{
	free(pointer_get(place));
	memset(place, 0, sizeof(void *));
}

void config_done(const struct config_row *rows, void *target)
{
	for (const struct config_row *row = rows; row->path; row++) {
		char *place = (char *)target + row->offset;
		if (row->type == CONFIG_STRING || row->type == CONFIG_URL)
			pointer_free(place);
		if (row->type != CONFIG_LIST && row->type != CONFIG_MAP)
			continue;
		size_t *count = (size_t *)((char *)target + row->count_offset);
		char *items = pointer_get(place);
		for (size_t i = 0; items && i < *count; i++)
			config_done(row->rows, items + i * row->size);
		pointer_free(place);
		*count = 0;
	}
}
