/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading metrics: the choice of the parser, and the text parser for Prometheus
 * 0.0.4 and OpenMetrics 1.0.0.
 *
 * A line is found first, then read from left to right; no character is looked
 * at beyond its end. What outlives a line is only the table of families, whose
 * names point into the input. Names and label values of a line are copied,
 * unescaped, into two buffers that are reused, each reserved once per line for
 * its worst case, so the pointers handed out stay good.
 *
 * Where the specifications and Prometheus differ, Prometheus decides what is
 * accepted: a last line without a line feed, a TYPE that comes late or twice
 * (what came before is of unknown type), unknown escapes kept as they are.
 */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "lib/buffer.h"
#include "lib/decimal.h"
#include "lib/exposition.h"
#include "lib/exposition_families.h"
#include "lib/exposition_parse.h"
#include "lib/exposition_parse_proto.h"

#define QUOTED_MAX 40 /* bytes of the input repeated in a message */

struct text {
	const char *end;  /* of the input */
	const char *line; /* the current one, up to eol */
	const char *eol;
	const char *at;
	size_t line_no;
	bool openmetrics;
	bool ended; /* "# EOF" was read */

	struct families families;
	struct {
		const char *at; /* in the input; NULL when no sample came since the last TYPE */
		size_t len;
		const struct family *family; /* NULL: none */
		bool created;
		size_t family_at; /* in names */
	} last; /* name and family of the last sample: series of one metric follow each other */
	struct buffer names;  /* name NUL family NUL of the last sample */
	struct buffer values; /* label names and values of the current line, NUL-terminated */
	struct label labels[METRIC_LABELS_MAX];

	exposition_sample_fn fn;
	void *userdata;
	struct error *error;
};

/* -- Messages -- */

static int __attribute__((format(printf, 3, 4))) fail(const struct text *t, const char *at, const char *format, ...)
{
	char reason[sizeof(t->error->text)];
	va_list arguments;
	size_t column = 1;

	for (const char *s = t->line; s < at; s++)
		column += ((unsigned char)*s & 0xc0) != 0x80; /* characters, as an editor counts */
	va_start(arguments, format);
	(void)vsnprintf(reason, sizeof(reason), format, arguments);
	va_end(arguments);
	return error_set(t->error, -EBADMSG, "%zu:%zu: %s", t->line_no, column, reason);
}

struct quoted {
	char text[QUOTED_MAX + 8];
};

/* What is at `at`, for "unexpected ...". */
static struct quoted describe(const struct text *t, const char *at)
{
	struct quoted quoted;

	if (at >= t->eol)
		(void)snprintf(quoted.text, sizeof(quoted.text), "the end of the line");
	else if (*at >= ' ' && *at <= '~')
		(void)snprintf(quoted.text, sizeof(quoted.text), "'%c'", *at);
	else
		(void)snprintf(quoted.text, sizeof(quoted.text), "byte 0x%02x", (unsigned)(unsigned char)*at);
	return quoted;
}

/* Bytes of the input, made safe to print. */
static struct quoted quote(const char *at, size_t len)
{
	struct quoted quoted;
	size_t n = len < QUOTED_MAX ? len : QUOTED_MAX;

	quoted.text[0] = '"';
	for (size_t i = 0; i < n; i++)
		quoted.text[i + 1] = at[i] >= ' ' && at[i] <= '~' ? at[i] : '?';
	(void)snprintf(quoted.text + n + 1, sizeof(quoted.text) - n - 1, "%s", len > n ? "...\"" : "\"");
	return quoted;
}

/* -- Pieces of a line -- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static void skip_blanks(struct text *t)
{
	while (t->at < t->eol && is_blank(*t->at))
		t->at++;
}

static bool take(struct text *t, char c)
{
	if (t->at == t->eol || *t->at != c)
		return false;
	t->at++;
	return true;
}

/* Up to the next blank. */
static size_t read_token(struct text *t, const char **ret_token)
{
	*ret_token = t->at;
	while (t->at < t->eol && !is_blank(*t->at))
		t->at++;
	return (size_t)(t->at - *ret_token);
}

/* Length of the name at t->at, which is stepped over; 0 when there is none. */
static size_t read_name(struct text *t, bool colons)
{
	const char *start = t->at;

	if (t->at < t->eol && is_digit(*t->at))
		return 0;
	while (t->at < t->eol && (is_letter(*t->at) || is_digit(*t->at) || (colons && *t->at == ':')))
		t->at++;
	return (size_t)(t->at - start);
}

/* -- Comments -- */

static int read_type_name(struct text *t, const char *name, size_t name_len)
{
	static const struct {
		const char *word;
		enum metric_type type;
		bool gauge_histogram;
	} types[] = {
		{ "counter", METRIC_COUNTER, false },     { "gauge", METRIC_GAUGE, false },
		{ "histogram", METRIC_HISTOGRAM, false }, { "summary", METRIC_SUMMARY, false },
		{ "untyped", METRIC_UNKNOWN, false },     { "unknown", METRIC_UNKNOWN, false },
		{ "info", METRIC_INFO, false },           { "stateset", METRIC_STATESET, false },
		{ "gaugehistogram", METRIC_GAUGE, true },
	};
	const char *token;
	size_t len = read_token(t, &token);

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (strlen(types[i].word) != len || memcmp(types[i].word, token, len) != 0)
			continue;
		t->last.at = NULL; /* what the last sample belongs to may have changed */
		if (families_set(&t->families, name, name_len, types[i].type, types[i].gauge_histogram) < 0)
			return error_set(t->error, -ENOMEM, "out of memory for the metric families");
		return 0;
	}
	return fail(t, token, "unknown metric type %s", quote(token, len).text);
}

static int read_unit(struct text *t, const char *name, size_t name_len)
{
	const char *unit;
	size_t len = read_token(t, &unit);

	if (len == 0 || (name_len > len && name[name_len - len - 1] == '_' &&
			 memcmp(name + name_len - len, unit, len) == 0))
		return 0;
	return fail(t, unit, "unit %s is not the end of the name %s", quote(unit, len).text,
		    quote(name, name_len).text);
}

static int read_help(struct text *t)
{
	size_t len = (size_t)(t->eol - t->at), valid = metric_utf8_prefix(t->at, len);

	if (valid < len)
		return fail(t, t->at + valid, "help is not UTF-8: %s", describe(t, t->at + valid).text);
	t->at = t->eol;
	return 0;
}

/* HELP, TYPE or UNIT, standing behind the keyword. */
static int read_metadata(struct text *t, char keyword)
{
	const char *name;
	size_t len;
	int r;

	skip_blanks(t);
	name = t->at;
	len = read_name(t, true);
	if (len == 0 || (t->at < t->eol && !is_blank(*t->at)))
		return fail(t, t->at, "expected a metric name, found %s", describe(t, t->at).text);
	skip_blanks(t);
	if (keyword == 'H')
		return read_help(t);
	r = keyword == 'T' ? read_type_name(t, name, len) : read_unit(t, name, len);
	if (r < 0)
		return r;
	skip_blanks(t);
	return t->at == t->eol ? 0 : fail(t, t->at, "unexpected %s", describe(t, t->at).text);
}

static int read_comment(struct text *t)
{
	const char *hash = t->at++, *word;
	bool blank = t->at < t->eol && is_blank(*t->at);
	size_t len;

	skip_blanks(t);
	len = read_token(t, &word);
	if (t->openmetrics && blank && len == 3 && memcmp(word, "EOF", 3) == 0) {
		t->ended = true;
		return t->at == t->eol ? 0 : fail(t, t->at, "text after # EOF");
	}
	if (blank && len == 4 && (memcmp(word, "HELP", 4) == 0 || memcmp(word, "TYPE", 4) == 0))
		return read_metadata(t, *word);
	if (t->openmetrics && blank && len == 4 && memcmp(word, "UNIT", 4) == 0)
		return read_metadata(t, *word);
	if (t->openmetrics)
		return fail(t, hash, "OpenMetrics knows only # HELP, # TYPE, # UNIT and # EOF");
	return 0;
}

/* -- Labels -- */

static bool is_plain(char c)
{
	return (unsigned char)c < 0x80 && c != '"' && c != '\\' && c != '\0';
}

/* Copies a run of bytes that are not ASCII. */
static int read_characters(struct text *t, char **to)
{
	const char *start = t->at;
	size_t len, valid;

	while (t->at < t->eol && (unsigned char)*t->at >= 0x80)
		t->at++;
	len = (size_t)(t->at - start);
	valid = metric_utf8_prefix(start, len);
	if (valid < len)
		return fail(t, start + valid, "label value is not UTF-8: %s", describe(t, start + valid).text);
	memcpy(*to, start, len);
	*to += len;
	return 0;
}

static void read_escape(struct text *t, char **to)
{
	char c = t->at[1];

	if (c == 'n')
		*(*to)++ = '\n';
	else if (c == '"' || c == '\\')
		*(*to)++ = c;
	else
		*(*to)++ = '\\'; /* no escape: the character itself is read next */
	t->at += c == 'n' || c == '"' || c == '\\' ? 2 : 1;
}

/* Standing behind the opening quote. */
static int read_label_value(struct text *t, char **to)
{
	const char *quote_at = t->at - 1;

	for (;;) {
		const char *run = t->at;
		int r;

		while (t->at < t->eol && is_plain(*t->at))
			t->at++;
		memcpy(*to, run, (size_t)(t->at - run));
		*to += t->at - run;
		if (t->at == t->eol || (*t->at == '\\' && t->at + 1 == t->eol))
			return fail(t, quote_at, "label value without a closing quote");
		if (*t->at == '"') {
			*(*to)++ = '\0';
			t->at++;
			return 0;
		}
		if (*t->at == '\0')
			return fail(t, t->at, "label value with a NUL byte");
		if (*t->at == '\\') {
			read_escape(t, to);
			continue;
		}
		r = read_characters(t, to);
		if (r < 0)
			return r;
	}
}

/* name="value" */
static int read_label(struct text *t, struct label *ret_label, char **to)
{
	const char *name = t->at;
	size_t len = read_name(t, false);
	struct label label = { .name = *to };

	if (len == 0)
		return fail(t, t->at, "expected a label name or '}', found %s", describe(t, t->at).text);
	if (len == strlen("__name__") && memcmp(name, "__name__", len) == 0)
		return fail(t, name, "label __name__ is how the metric's own name is kept");
	memcpy(*to, name, len);
	(*to)[len] = '\0';
	*to += len + 1;
	skip_blanks(t);
	if (!take(t, '='))
		return fail(t, t->at, "expected '=' after the label name, found %s", describe(t, t->at).text);
	skip_blanks(t);
	if (!take(t, '"'))
		return fail(t, t->at, "expected '\"' before the label value, found %s", describe(t, t->at).text);
	label.value = *to;
	*ret_label = label;
	return read_label_value(t, to);
}

/* Standing behind the opening brace. Values go to *to, which is moved. */
static int read_labels(struct text *t, struct label *ret_labels, size_t *ret_n, char **to)
{
	const char *brace = t->at - 1, *twice;
	size_t n = 0;
	int r;

	for (;;) {
		skip_blanks(t);
		if (take(t, '}'))
			break;
		if (n == METRIC_LABELS_MAX)
			return fail(t, t->at, "more than %d labels", METRIC_LABELS_MAX);
		r = read_label(t, &ret_labels[n], to);
		if (r < 0)
			return r;
		n++;
		skip_blanks(t);
		if (!take(t, ',') && (t->at == t->eol || *t->at != '}'))
			return fail(t, t->at, "expected ',' or '}' after the label value, found %s",
				    describe(t, t->at).text);
	}
	twice = exposition_labels_finish(ret_labels, &n);
	if (twice != NULL)
		return fail(t, brace, "label %s is there twice", quote(twice, strlen(twice)).text);
	*ret_n = n;
	return 0;
}

const char *exposition_labels_finish(struct label *labels, size_t *n_labels)
{
	size_t kept = 0;

	for (size_t i = 1; i < *n_labels; i++) {
		struct label label = labels[i];
		size_t j = i;

		for (; j > 0 && strcmp(labels[j - 1].name, label.name) > 0; j--)
			labels[j] = labels[j - 1];
		labels[j] = label;
		if (j > 0 && strcmp(labels[j - 1].name, label.name) == 0)
			return label.name;
	}
	for (size_t i = 0; i < *n_labels; i++)
		if (labels[i].value[0] != '\0')
			labels[kept++] = labels[i];
	*n_labels = kept;
	return NULL;
}

/* -- Samples -- */

static int read_number(struct text *t, const char *what, double *ret_value)
{
	const char *token;
	size_t len;

	skip_blanks(t);
	len = read_token(t, &token);
	if (len == 0)
		return fail(t, token, "expected %s, found the end of the line", what);
	if (!decimal_read(token, len, ret_value))
		return fail(t, token, "%s is not %s", quote(token, len).text, what);
	return 0;
}

/* Whole milliseconds in 0.0.4, seconds with a fraction in OpenMetrics. Absent before the end or an exemplar. */
static int read_timestamp(struct text *t, int64_t *ret_timestamp_ms)
{
	const char *token;
	double seconds;
	size_t len;
	int r;

	*ret_timestamp_ms = EXPOSITION_NO_TIMESTAMP;
	skip_blanks(t);
	token = t->at;
	if (t->at == t->eol || (t->openmetrics && *t->at == '#'))
		return 0;
	if (!t->openmetrics) {
		len = read_token(t, &token);
		if (!decimal_read_i64(token, len, ret_timestamp_ms) || *ret_timestamp_ms == EXPOSITION_NO_TIMESTAMP)
			return fail(t, token, "%s is not a timestamp in milliseconds", quote(token, len).text);
		return 0;
	}
	r = read_number(t, "a timestamp in seconds", &seconds);
	if (r < 0)
		return r;
	if (!(fabs(seconds) < (double)INT64_MAX / 1000))
		return fail(t, token, "timestamp out of range");
	*ret_timestamp_ms = llround(seconds * 1000);
	return 0;
}

/* " # {labels} value [timestamp]", checked and dropped. */
static int read_exemplar(struct text *t, char **to)
{
	struct label labels[METRIC_LABELS_MAX];
	int64_t timestamp_ms;
	size_t n_labels;
	double value;
	int r;

	skip_blanks(t);
	if (!t->openmetrics || !take(t, '#'))
		return 0;
	skip_blanks(t);
	if (!take(t, '{'))
		return fail(t, t->at, "expected '{' of an exemplar, found %s", describe(t, t->at).text);
	r = read_labels(t, labels, &n_labels, to);
	if (r == 0)
		r = read_number(t, "the exemplar's value", &value);
	if (r == 0)
		r = read_timestamp(t, &timestamp_ms);
	return r;
}

/* Makes t->last and t->names those of this sample. */
static int find_family(struct text *t, const char *name, size_t len)
{
	const struct family *family;

	if (t->last.at != NULL && t->last.len == len && memcmp(t->last.at, name, len) == 0)
		return 0;
	family = families_of(&t->families, name, len, &t->last.created);
	t->last.at = name;
	t->last.len = len;
	t->last.family = family;
	t->last.family_at = 0;
	buffer_clear(&t->names);
	buffer_append(&t->names, name, len);
	if (family != NULL) {
		buffer_putc(&t->names, '\0');
		t->last.family_at = t->names.len;
		buffer_append(&t->names, family->name, family->len);
	}
	return buffer_ok(&t->names) ? 0 : error_set(t->error, -ENOMEM, "out of memory for a metric name");
}

static int read_sample(struct text *t)
{
	struct exposition_sample sample = { .labels = t->labels };
	const char *name = t->at;
	size_t len = read_name(t, true);
	char *to;
	int r;

	if (len == 0)
		return fail(t, t->at, "expected a metric name, found %s", describe(t, t->at).text);
	/* Every name and value in a line is followed by more than the NUL it gets. */
	buffer_clear(&t->values);
	to = buffer_reserve(&t->values, (size_t)(t->eol - t->at) + 1);
	if (to == NULL)
		return error_set(t->error, -ENOMEM, "out of memory for a line of %zu bytes",
				 (size_t)(t->eol - t->line));
	if (t->at < t->eol && !is_blank(*t->at) && *t->at != '{')
		return fail(t, t->at, "expected a space or '{' after the metric name, found %s",
			    describe(t, t->at).text);
	skip_blanks(t);
	r = take(t, '{') ? read_labels(t, t->labels, &sample.n_labels, &to) : 0;
	if (r == 0)
		r = read_number(t, "a number", &sample.value);
	if (r == 0)
		r = read_timestamp(t, &sample.timestamp_ms);
	if (r == 0)
		r = read_exemplar(t, &to);
	if (r < 0)
		return r;
	skip_blanks(t);
	if (t->at < t->eol)
		return fail(t, t->at, "unexpected %s after the sample", describe(t, t->at).text);
	r = find_family(t, name, len);
	if (r < 0 || t->last.created)
		return r;
	sample.name = t->names.data;
	sample.family = t->names.data + t->last.family_at;
	sample.type = t->last.family != NULL ? t->last.family->type : METRIC_UNKNOWN;
	return t->fn(&sample, t->userdata);
}

static int read_line(struct text *t)
{
	if (t->ended)
		return fail(t, t->at, "text after # EOF");
	skip_blanks(t);
	if (t->at == t->eol)
		return t->openmetrics ? fail(t, t->at, "empty line") : 0;
	return *t->at == '#' ? read_comment(t) : read_sample(t);
}

static int parse_text(struct text *t, const char *data, size_t len)
{
	int r;

	t->end = data + len;
	while (data < t->end) {
		const char *feed = memchr(data, '\n', (size_t)(t->end - data));

		t->line = t->at = data;
		t->line_no++;
		t->eol = feed != NULL ? feed : t->end;
		data = feed != NULL ? feed + 1 : t->end;
		if (t->eol > t->line && t->eol[-1] == '\r')
			t->eol--;
		r = read_line(t);
		if (r != 0)
			return r;
	}
	if (t->openmetrics && !t->ended) {
		t->line_no++;
		t->line = t->at = t->end;
		return fail(t, t->at, "no # EOF at the end: the answer was cut off");
	}
	return 0;
}

int exposition_parse(const char *content_type, const char *data, size_t len, exposition_sample_fn fn, void *userdata,
		     struct error *ret_error)
{
	enum exposition_format format;
	struct text t = { .fn = fn, .userdata = userdata, .error = ret_error };
	int r = exposition_format_of(content_type, &format);

	if (r < 0)
		return error_set(ret_error, r,
				 "content type %s is not one of metrics (text/plain, application/openmetrics-text, "
				 "application/vnd.google.protobuf)",
				 quote(content_type, strlen(content_type)).text);
	if (len == 0)
		data = ""; /* may have been NULL */
	if (format == EXPOSITION_PROTOBUF)
		return exposition_parse_proto(data, len, fn, userdata, ret_error);
	t.openmetrics = format == EXPOSITION_OPENMETRICS;
	families_init(&t.families);
	r = parse_text(&t, data, len);
	families_done(&t.families);
	buffer_done(&t.names);
	buffer_done(&t.values);
	return r;
}
