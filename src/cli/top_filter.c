/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top_filter.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/top_text.h"
#include "lib/decimal.h"
#include "lib/flags.h"

enum field_type { TEXT, WHOLE /* number */, ADDRESS, SECONDS, RATIO, RATE, AMOUNT };

enum field {
	F_PROCESS, F_PID, F_PEER, F_REMOTE, F_LOCAL, F_PORT, F_CONTAINER, F_STATE, F_ROLE, F_ID, F_VERDICT, F_RTT, F_JITTER,
	F_RETRANS, F_RATE, F_OUT, F_IN, F_SENT, F_RECEIVED, F_REASON, F_PROTOCOL, F_DROP_RATE, F_COUNT, FIELDS,
	F_ANY = FIELDS
};

static const struct {
	const char *name;
	enum field_type type;
	bool drops; /* of rows of drops */
} fields[FIELDS] = {
	[F_PROCESS] = { "process", TEXT, false }, [F_PID] = { "pid", WHOLE, false }, [F_PEER] = { "peer", ADDRESS, false },
	[F_REMOTE] = { "remote", ADDRESS, false }, [F_LOCAL] = { "local", ADDRESS, false }, [F_PORT] = { "port", WHOLE, false },
	[F_CONTAINER] = { "container", TEXT, false }, [F_STATE] = { "state", TEXT, false }, [F_ROLE] = { "role", TEXT, false },
	[F_ID] = { "id", WHOLE, false }, [F_VERDICT] = { "verdict", TEXT, false }, [F_RTT] = { "rtt", SECONDS, false },
	[F_JITTER] = { "jitter", SECONDS, false }, [F_RETRANS] = { "retrans", RATIO, false }, [F_RATE] = { "rate", RATE, false },
	[F_OUT] = { "out", RATE, false }, [F_IN] = { "in", RATE, false }, [F_SENT] = { "sent", AMOUNT, false },
	[F_RECEIVED] = { "received", AMOUNT, false }, [F_REASON] = { "reason", TEXT, true }, [F_PROTOCOL] = { "protocol", TEXT, true },
	[F_DROP_RATE] = { "rate", AMOUNT, true }, [F_COUNT] = { "count", AMOUNT, true },
};

static const char *example_of(enum field_type type)
{
	switch (type) {
	case SECONDS: return ">10ms";
	case RATIO: return ">1%";
	case RATE: return ">1M or >8Mbit (a second)";
	case AMOUNT: return ">10k";
	case ADDRESS: return ":10.0.0.1";
	case WHOLE: return ":443";
	default: return ":text";
	}
}

static bool compares(enum field_type type)
{
	return type >= SECONDS;
}

/* "10", "1.5k", "1M"; *unit: what is behind it. */
static bool parse_scaled(const char *text, double *ret_number, const char **ret_unit)
{
	static const char letters[] = "kMGT";
	size_t len = strspn(text, "0123456789.");
	const char *letter;

	if (!len || !decimal_read(text, len, ret_number))
		return false;
	text += len;
	letter = *text ? strchr(letters, *text == 'K' ? 'k' : *text) : NULL;
	if (letter) {
		*ret_number *= pow(1000, (double)(letter - letters + 1));
		text++;
	}
	*ret_unit = text;
	return true;
}

static bool parse_number(enum field_type type, const char *text, double *ret_number)
{
	uint64_t ns;
	const char *unit;

	if (type == SECONDS) {
		if (duration_parse(text, &ns))
			return !strcmp(text, "0") && (*ret_number = 0, true);
		*ret_number = ns_to_seconds(ns);
		return true;
	}
	if (!parse_scaled(text, ret_number, &unit))
		return false;
	if (type == RATIO) {
		*ret_number /= 100;
		return !unit[0] || !strcmp(unit, "%");
	}
	if (type == RATE && (!strncmp(unit, "bit", 3))) {
		*ret_number /= 8;
		unit += 3;
	} else if (unit[0] == 'B') {
		unit++;
	}
	return !unit[0] || !strcmp(unit, "/s");
}

static enum field find_field(const char *name, size_t len, bool drops)
{
	for (unsigned i = 0; i < FIELDS; i++)
		if (fields[i].drops == drops && strlen(fields[i].name) == len && !strncasecmp(fields[i].name, name, len))
			return (enum field)i;
	return FIELDS;
}

static const char *nearest_field(const char *name, size_t len, bool drops)
{
	const char *names[FIELDS];
	char word[32];
	size_t n = 0;

	snprintf(word, sizeof(word), "%.*s", (int)(len < 31 ? len : 31), name);
	for (unsigned i = 0; i < FIELDS; i++)
		if (fields[i].drops == drops)
			names[n++] = fields[i].name;
	return flags_nearest(word, names, n);
}

/* The value behind a field's operator. */
static int parse_value(struct top_term *term, const char *name, int name_len, const char *value, struct error *ret_error)
{
	enum field_type type = fields[term->field].type;
	struct address address;

	if (compares(type) != (term->operator != ':'))
		return error_set(ret_error, -EINVAL, "%.*s is asked for as in %.*s%s", name_len, name, name_len, name, example_of(type));
	if (!value[0])
		return error_set(ret_error, -EINVAL, "%.*s needs a value, as in %.*s%s", name_len, name, name_len, name, example_of(type));
	snprintf(term->text, sizeof(term->text), "%s", value);
	if (compares(type) && !parse_number(type, value, &term->number))
		return error_set(ret_error, -EINVAL, "`%s` is no value of %.*s; it is asked for as in %.*s%s", value, name_len, name,
				 name_len, name, example_of(type));
	if (type == WHOLE && value[strspn(value, term->field == F_ID ? "0123456789abcdefABCDEF" : "0123456789")])
		return error_set(ret_error, -EINVAL, "%.*s is a number, not `%s`", name_len, name, value);
	if (type == ADDRESS) {
		if (!address_parse(value, &address)) {
			term->prefix = (struct prefix){ address, 128 };
			term->is_prefix = true;
		} else if (strchr(value, '/')) {
			if (prefix_parse(value, &term->prefix, ret_error))
				return -EINVAL;
			term->is_prefix = true;
		}
	}
	return 0;
}

static int parse_term(const char *word, bool drops, struct top_term *term, struct error *ret_error)
{
	const char *value, *nearest;
	size_t name_len;

	*term = (struct top_term){ .field = F_ANY, .operator = ':' };
	term->negated = word[0] == '!';
	word += term->negated;
	if (!word[0])
		return error_set(ret_error, -EINVAL, "! needs a term behind it, as in !ssh");
	name_len = strcspn(word, ":=<>");
	value = word + name_len;
	term->field = *value && name_len ? find_field(word, name_len, drops) : F_ANY;
	if (term->field == F_ANY) {
		/* "docker:web" and "fe80::1" are texts; "proces:web" is a mistake. */
		nearest = *value && name_len ? nearest_field(word, name_len, drops) : NULL;
		if (nearest)
			return error_set(ret_error, -EINVAL, "there is no column `%.*s`; did you mean %s?", (int)name_len, word, nearest);
		if (*value == '<' || *value == '>')
			return error_set(ret_error, -EINVAL, "there is no column `%.*s` to compare", (int)name_len, word);
		snprintf(term->text, sizeof(term->text), "%s", word);
		return 0;
	}
	term->whole = *value == '=';
	term->operator = *value == '=' ? ':' : *value;
	value++;
	if (term->operator != ':' && *value == '=') {
		term->operator = term->operator == '<' ? 'l' : 'g';
		value++;
	}
	return parse_value(term, word, (int)name_len, value, ret_error);
}

int top_filter_parse(const char *text, bool drops, struct top_filter *ret_filter, struct error *ret_error)
{
	struct top_filter filter = { .n = 0 };
	char words[TOP_FILTER_MAX], *rest = words, *word;
	int r;

	if (strlen(text) >= sizeof(words))
		return error_set(ret_error, -EINVAL, "a filter has at most %zu characters", sizeof(words) - 1);
	snprintf(filter.text, sizeof(filter.text), "%s", text);
	memcpy(words, filter.text, sizeof(words));
	while ((word = strsep(&rest, " \t"))) {
		if (!*word)
			continue;
		if (filter.n == TOP_TERMS_MAX)
			return error_set(ret_error, -EINVAL, "a filter has at most %d terms", TOP_TERMS_MAX);
		r = parse_term(word, drops, &filter.terms[filter.n++], ret_error);
		if (r < 0)
			return r;
	}
	*ret_filter = filter;
	return 0;
}

static bool holds(char operator, double value, double number)
{
	switch (operator) {
	case '<': return value < number;
	case '>': return value > number;
	case 'l': return value <= number;
	default: return value >= number;
	}
}

static bool has(const struct top_term *term, const char *text)
{
	return term->whole ? !strcasecmp(text, term->text) : strcasestr(text, term->text) != NULL;
}

static bool end_has(const struct top_term *term, const struct address *address, uint16_t port)
{
	char text[ADDRESS_TEXT_MAX + 10];

	return term->is_prefix ? prefix_contains(&term->prefix, address) : has(term, top_end(address, port, text));
}

static bool verdict_has(const struct top_term *term, const struct verdict *v)
{
	return has(term, verdict_side_name(v->side)) || has(term, verdict_cause_name(v->cause)) || has(term, top_verdict(v->cause));
}

static bool any_has(const struct top_term *term, const struct connection *c)
{
	return has(term, c->comm) || has(term, c->container) || has(term, c->peer) ||
	       end_has(term, &c->remote, c->remote_port) || end_has(term, &c->local, c->local_port) ||
	       has(term, connection_state_name(c->state)) || has(term, c->server ? "server" : "client") ||
	       (c->interval_s > 0 && verdict_has(term, &c->verdict));
}

static double number_of(enum field field, const struct connection *c)
{
	switch (field) {
	case F_RTT: return c->rtt_s;
	case F_JITTER: return c->jitter_s;
	case F_RETRANS: return c->interval_s > 0 ? c->retransmit_ratio : NAN;
	case F_RATE: return c->interval_s > 0 ? c->sent_rate + c->received_rate : NAN;
	case F_OUT: return c->interval_s > 0 ? c->sent_rate : NAN;
	case F_IN: return c->interval_s > 0 ? c->received_rate : NAN;
	case F_SENT: return (double)c->sent_bytes;
	default: return (double)c->received_bytes;
	}
}

static bool term_holds(const struct top_term *term, const struct connection *c)
{
	unsigned long long number;

	switch (term->field) {
	case F_ANY: return any_has(term, c);
	case F_PROCESS: return has(term, c->comm);
	case F_CONTAINER: return has(term, c->container);
	case F_PEER: return (!term->is_prefix && has(term, c->peer)) || end_has(term, &c->remote, c->remote_port);
	case F_REMOTE: return end_has(term, &c->remote, c->remote_port);
	case F_LOCAL: return end_has(term, &c->local, c->local_port);
	case F_STATE: return has(term, connection_state_name(c->state));
	case F_ROLE: return has(term, c->server ? "server" : "client");
	case F_VERDICT: return c->interval_s > 0 && verdict_has(term, &c->verdict);
	case F_PID:
	case F_PORT:
	case F_ID:
		number = strtoull(term->text, NULL, term->field == F_ID ? 16 : 10);
		return term->field == F_PID ? c->pid == number : term->field == F_ID ? c->cookie == number :
		       c->local_port == number || c->remote_port == number;
	default: return holds(term->operator, number_of((enum field)term->field, c), term->number);
	}
}

bool top_filter_connection(const struct top_filter *filter, const struct connection *connection)
{
	for (size_t i = 0; i < filter->n; i++)
		if (term_holds(&filter->terms[i], connection) == filter->terms[i].negated)
			return false;
	return true;
}

static bool drop_term_holds(const struct top_term *term, const struct top_drop *drop)
{
	switch (term->field) {
	case F_REASON: return has(term, drop->reason);
	case F_PROTOCOL: return has(term, drop->protocol);
	case F_DROP_RATE: return holds(term->operator, drop->rate, term->number);
	case F_COUNT: return holds(term->operator, (double)drop->packets, term->number);
	default: return has(term, drop->reason) || has(term, drop->protocol);
	}
}

bool top_filter_drop(const struct top_filter *filter, const struct top_drop *drop)
{
	for (size_t i = 0; i < filter->n; i++)
		if (drop_term_holds(&filter->terms[i], drop) == filter->terms[i].negated)
			return false;
	return true;
}
