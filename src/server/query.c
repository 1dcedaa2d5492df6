/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser: recursive descent over PromQL's grammar, with PromQL's precedence
 * (unary minus and * / above + -, all left associative). What PromQL has and we
 * have not is refused by its name, and a misspelt function gets a suggestion.
 * Text is hostile: its length, the nesting and the depth of the tree (a long
 * sum is deep) are limited.
 */
#include "server/query_ast.h"
#include "server/matcher.h"
#include "server/query_lex.h"
#include "lib/flags.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct parser {
	struct lexer lexer;
	struct query *query;
	unsigned nesting;
};

static const struct { const char *name; enum call call; enum node_type takes; bool parameter; } calls[] = {
	{ "rate", CALL_RATE, TYPE_RANGE, false },
	{ "increase", CALL_INCREASE, TYPE_RANGE, false },
	{ "histogram_quantile", CALL_QUANTILE, TYPE_VECTOR, true },
	{ "histogram_count", CALL_COUNT, TYPE_VECTOR, false },
	{ "histogram_sum", CALL_SUM, TYPE_VECTOR, false },
};

static const struct { const char *name; enum aggregate aggregate; bool parameter; } aggregates[] = {
	{ "sum", AGGREGATE_SUM, false },
	{ "avg", AGGREGATE_AVG, false },
	{ "min", AGGREGATE_MIN, false },
	{ "max", AGGREGATE_MAX, false },
	{ "count", AGGREGATE_COUNT, false },
	{ "topk", AGGREGATE_TOPK, true },
	{ "bottomk", AGGREGATE_BOTTOMK, true },
};

static const char *const function_names[] = {
	"rate", "increase", "histogram_quantile", "histogram_count", "histogram_sum", "sum", "avg", "min", "max", "count",
	"topk", "bottomk",
};
#define FUNCTION_LIST \
	"rate, increase, histogram_quantile, histogram_count, histogram_sum, sum, avg, min, max, count, topk, bottomk"
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int parse_expression(struct parser *p, struct node **ret_node);

static int out_of_memory(struct parser *p)
{
	return error_set_errno(p->lexer.error, -ENOMEM, "cannot parse the query");
}

static struct node *node_new(struct parser *p, enum node_kind kind, enum node_type type, size_t offset)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->kind = kind;
	n->type = type;
	n->offset = offset;
	n->depth = 1;
	n->next = p->query->all;
	p->query->all = n;
	return n;
}

static int too_deep(struct parser *p, size_t offset)
{
	return lexer_error(&p->lexer, offset, "the query is nested too deeply (more than %d levels)", QUERY_DEPTH_MAX);
}

static int adopt(struct parser *p, struct node *parent, struct node **slot, struct node *child)
{
	*slot = child;
	if (child->depth >= parent->depth)
		parent->depth = child->depth + 1;
	return parent->depth > QUERY_DEPTH_MAX ? too_deep(p, parent->offset) : 0;
}

static bool is_word(const struct parser *p, const char *word)
{
	const struct token *t = &p->lexer.token;

	return t->kind == TOKEN_NAME && strlen(word) == t->len && !strncasecmp(p->lexer.text + t->offset, word, t->len);
}

static bool next_is(const struct parser *p, char c)
{
	const char *s = p->lexer.text + p->lexer.at;

	return s[strspn(s, " \t\r\n")] == c;
}

/* "unexpected X", with the reason where it is something that PromQL has. */
static int unexpected(struct parser *p, const char *expected)
{
	static const char *const words[] = {"and",	"or",	      "unless",	     "bool",  "on",
						"ignoring", "group_left", "group_right", "offset"};
	const struct token *t = &p->lexer.token;

	if (t->kind == TOKEN_END)
		return lexer_error(&p->lexer, t->offset, "the query ends too early; expected %s", expected);
	for (size_t i = 0; i < COUNT(words); i++)
		if (is_word(p, words[i]))
			return lexer_error(&p->lexer, t->offset, "`%s` is not supported", words[i]);
	if (t->kind == TOKEN_OTHER)
		return lexer_error(&p->lexer, t->offset, "operator `%.*s` is not supported; there are + - * /",
				   (int)t->len, p->lexer.text + t->offset);
	return lexer_error(&p->lexer, t->offset, "unexpected `%.*s`; expected %s", t->len > 60 ? 60 : (int)t->len,
			   p->lexer.text + t->offset, expected);
}

static int expect(struct parser *p, enum token_kind kind, const char *expected)
{
	if (p->lexer.token.kind != kind)
		return unexpected(p, expected);
	return lexer_next(&p->lexer);
}

static char *token_text(const struct parser *p)
{
	return strndup(p->lexer.text + p->lexer.token.offset, p->lexer.token.len);
}

/* The matcher's strings become the node's. */
static int add_matcher(struct parser *p, struct node *n, char *label, enum match_op op, char *value)
{
	struct matcher *all = NULL;

	if (label && value)
		all = reallocarray(n->matchers, n->n_matchers + 1, sizeof(*all));
	if (!all) {
		free(label);
		free(value);
		return out_of_memory(p);
	}
	n->matchers = all;
	n->matchers[n->n_matchers++] = (struct matcher){ label, op, value };
	return 0;
}

static int check_label(struct parser *p, const char *what)
{
	const struct token *t = &p->lexer.token;

	if (t->kind != TOKEN_NAME)
		return unexpected(p, what);
	if (memchr(p->lexer.text + t->offset, ':', t->len))
		return lexer_error(&p->lexer, t->offset, "a label name has no colon");
	return 0;
}

static int parse_matcher(struct parser *p, struct node *n)
{
	enum token_kind kind;
	size_t offset;
	struct error reason;
	char *label, *value;
	int r = check_label(p, "a label name or `}`");

	if (r < 0)
		return r;
	label = token_text(p);
	if (!label)
		return out_of_memory(p);
	r = lexer_next(&p->lexer);
	kind = p->lexer.token.kind;
	if (r == 0 && (kind < TOKEN_EQUAL || kind > TOKEN_NOT_REGEX))
		r = kind == TOKEN_OTHER
			? lexer_error(&p->lexer, p->lexer.token.offset, "labels are compared with = != =~ !~")
			: unexpected(p, "one of = != =~ !~");
	if (r == 0)
		r = lexer_next(&p->lexer);
	if (r == 0 && p->lexer.token.kind != TOKEN_STRING)
		r = unexpected(p, "a quoted value");
	offset = p->lexer.token.offset;
	if (r == 0)
		r = lexer_string(&p->lexer, &value);
	if (r < 0) {
		free(label);
		return r == -ENOMEM ? out_of_memory(p) : r;
	}
	r = add_matcher(p, n, label, (enum match_op)(MATCH_EQUAL + (kind - TOKEN_EQUAL)), value);
	if (r < 0)
		return r;
	r = matcher_check(&n->matchers[n->n_matchers - 1], &reason);
	if (r < 0)
		return lexer_error(&p->lexer, offset, "%s", reason.text);
	return lexer_next(&p->lexer);
}

static int parse_matchers(struct parser *p, struct node *n)
{
	bool named = n->n_matchers > 0;
	int r = lexer_next(&p->lexer);

	while (r == 0 && p->lexer.token.kind != TOKEN_RIGHT_BRACE) {
		size_t offset = p->lexer.token.offset;

		r = parse_matcher(p, n);
		if (r == 0 && named && !strcmp(n->matchers[n->n_matchers - 1].label, "__name__"))
			r = lexer_error(&p->lexer, offset, "the metric name is given twice");
		if (r == 0 && p->lexer.token.kind != TOKEN_RIGHT_BRACE)
			r = expect(p, TOKEN_COMMA, "`,` or `}`");
	}
	return r < 0 ? r : lexer_next(&p->lexer);
}

/* PromQL refuses selectors that every series would match. */
static bool matches_something(const struct node *n)
{
	for (size_t i = 0; i < n->n_matchers; i++) {
		struct matcher_compiled *compiled;
		bool empty;

		if (matcher_compile(&n->matchers[i], 1, &compiled, NULL) < 0)
			return true;
		empty = matcher_matches(compiled, "");
		matcher_compiled_free(compiled, 1);
		if (!empty)
			return true;
	}
	return false;
}

static int parse_range(struct parser *p, struct node *n)
{
	long long ms = 0;
	int r = lexer_duration(&p->lexer, &ms);

	if (r == 0 && p->lexer.text[p->lexer.at] == ':')
		return lexer_error(&p->lexer, p->lexer.at, "subqueries are not supported");
	if (r == 0)
		r = lexer_next(&p->lexer);
	if (r < 0)
		return r;
	n->range_ms = ms;
	n->type = TYPE_RANGE;
	return expect(p, TOKEN_RIGHT_BRACKET, "`]`");
}

/* At a metric name or at "{". */
static int parse_selector(struct parser *p, struct node **ret_node)
{
	struct node *n = node_new(p, NODE_SELECTOR, TYPE_VECTOR, p->lexer.token.offset);
	int r = 0;

	if (!n)
		return out_of_memory(p);
	if (p->lexer.token.kind == TOKEN_NAME) {
		r = add_matcher(p, n, strdup("__name__"), MATCH_EQUAL, token_text(p));
		if (r == 0)
			r = lexer_next(&p->lexer);
	}
	if (r == 0 && p->lexer.token.kind == TOKEN_LEFT_BRACE)
		r = parse_matchers(p, n);
	if (r == 0 && !matches_something(n))
		r = lexer_error(&p->lexer, n->offset,
				"the selector matches every series; give a metric name or a label's value");
	if (r == 0 && p->lexer.token.kind == TOKEN_LEFT_BRACKET)
		r = parse_range(p, n);
	if (r == 0)
		*ret_node = n;
	return r;
}

static const char *type_text(enum node_type type)
{
	return type == TYPE_SCALAR ? "a number" : type == TYPE_VECTOR ? "series" : "a range of samples";
}

static int check_argument(struct parser *p, const char *function, enum node_type takes, const struct node *argument)
{
	if (argument->type == takes)
		return 0;
	if (takes == TYPE_RANGE && argument->kind == NODE_SELECTOR)
		return lexer_error(&p->lexer, argument->offset,
				   "`%s` needs a range: add one like [30s] behind the selector", function);
	if (takes == TYPE_RANGE)
		return lexer_error(&p->lexer, argument->offset,
				   "`%s` needs a selector with a range, like x[30s], not %s", function,
				   type_text(argument->type));
	if (argument->type == TYPE_RANGE)
		return lexer_error(&p->lexer, argument->offset,
				   "a range like [30s] needs `rate` or `increase` around it");
	return lexer_error(&p->lexer, argument->offset, "`%s` takes %s here, not %s", function, type_text(takes),
			   type_text(argument->type));
}

/* "(" parameter "," operand ")" */
static int parse_arguments(struct parser *p, struct node *n, const char *name, enum node_type takes, bool parameter)
{
	struct node *argument = NULL;
	int r = expect(p, TOKEN_LEFT_PAREN, "`(`");

	if (r == 0 && parameter) {
		r = parse_expression(p, &argument);
		if (r == 0)
			r = check_argument(p, name, TYPE_SCALAR, argument);
		if (r == 0)
			r = adopt(p, n, &n->parameter, argument);
		if (r == 0 && p->lexer.token.kind == TOKEN_RIGHT_PAREN)
			r = lexer_error(&p->lexer, p->lexer.token.offset,
					"`%s` takes two arguments: a number and an expression", name);
		if (r == 0)
			r = expect(p, TOKEN_COMMA, "`,`");
	}
	if (r == 0)
		r = parse_expression(p, &argument);
	if (r == 0)
		r = check_argument(p, name, takes, argument);
	if (r == 0)
		r = adopt(p, n, &n->operand[0], argument);
	if (r == 0 && p->lexer.token.kind == TOKEN_COMMA)
		return lexer_error(&p->lexer, p->lexer.token.offset, "`%s` takes %s", name,
				   parameter ? "two arguments" : "one argument");
	return r < 0 ? r : expect(p, TOKEN_RIGHT_PAREN, "`)`");
}

static int parse_grouping(struct parser *p, struct node *n)
{
	int r;

	n->without = is_word(p, "without");
	r = lexer_next(&p->lexer);
	if (r == 0)
		r = expect(p, TOKEN_LEFT_PAREN, "`(` and label names");
	while (r == 0 && p->lexer.token.kind != TOKEN_RIGHT_PAREN) {
		char **all;

		r = check_label(p, "a label name or `)`");
		if (r < 0)
			return r;
		all = reallocarray(n->grouping, n->n_grouping + 1, sizeof(*all));
		if (!all)
			return out_of_memory(p);
		n->grouping = all;
		n->grouping[n->n_grouping] = token_text(p);
		if (!n->grouping[n->n_grouping])
			return out_of_memory(p);
		n->n_grouping++;
		r = lexer_next(&p->lexer);
		if (r == 0 && p->lexer.token.kind != TOKEN_RIGHT_PAREN)
			r = expect(p, TOKEN_COMMA, "`,` or `)`");
	}
	return r < 0 ? r : lexer_next(&p->lexer);
}

static int parse_aggregate(struct parser *p, size_t row, struct node **ret_node)
{
	struct node *n = node_new(p, NODE_AGGREGATE, TYPE_VECTOR, p->lexer.token.offset);
	bool grouped;
	int r;

	if (!n)
		return out_of_memory(p);
	n->aggregate = aggregates[row].aggregate;
	r = lexer_next(&p->lexer);
	grouped = is_word(p, "by") || is_word(p, "without");
	if (r == 0 && grouped)
		r = parse_grouping(p, n);
	if (r == 0)
		r = parse_arguments(p, n, aggregates[row].name, TYPE_VECTOR, aggregates[row].parameter);
	if (r == 0 && !grouped && (is_word(p, "by") || is_word(p, "without")))
		r = parse_grouping(p, n);
	if (r == 0)
		*ret_node = n;
	return r;
}

static int unknown_function(struct parser *p)
{
	static const char *const promql[] = {
		"abs",
		"absent",
		"ceil",
		"changes",
		"clamp",
		"delta",
		"deriv",
		"floor",
		"group",
		"histogram_fraction",
		"idelta",
		"irate",
		"label_join",
		"label_replace",
		"avg_over_time",
		"min_over_time",
		"max_over_time",
		"sum_over_time",
		"count_over_time",
		"quantile_over_time",
		"last_over_time",
		"predict_linear",
		"quantile",
		"resets",
		"round",
		"scalar",
		"sort",
		"sort_desc",
		"sqrt",
		"stddev",
		"stdvar",
		"count_values",
		"time",
		"timestamp",
		"vector",
		"on",
		"ignoring",
		"bool",
	};
	size_t offset = p->lexer.token.offset;
	const char *near;
	char name[64];

	if (p->lexer.token.len >= sizeof(name))
		return lexer_error(&p->lexer, offset, "unknown function; there are " FUNCTION_LIST);
	memcpy(name, p->lexer.text + offset, p->lexer.token.len);
	name[p->lexer.token.len] = '\0';
	for (size_t i = 0; i < COUNT(promql); i++)
		if (!strcmp(name, promql[i]))
			return lexer_error(&p->lexer, offset, "`%s` is not supported; there are " FUNCTION_LIST, name);
	near = flags_nearest(name, function_names, COUNT(function_names));
	if (near)
		return lexer_error(&p->lexer, offset, "unknown function `%s`; did you mean `%s`?", name, near);
	return lexer_error(&p->lexer, offset, "unknown function `%s`; there are " FUNCTION_LIST, name);
}

/* A function, an aggregation, or a metric that may have the name of one. */
static int parse_name(struct parser *p, struct node **ret_node)
{
	bool call = next_is(p, '(');
	struct node *n;
	int r;

	for (size_t i = 0; i < COUNT(aggregates); i++)
		if (is_word(p, aggregates[i].name)) {
			struct parser after = *p;

			if (!call) {
				after.lexer.error = NULL;
				if (lexer_next(&after.lexer) < 0 ||
				    (!is_word(&after, "by") && !is_word(&after, "without")))
					break;
			}
			return parse_aggregate(p, i, ret_node);
		}
	if (!call)
		return parse_selector(p, ret_node);
	for (size_t i = 0; i < COUNT(calls); i++) {
		if (p->lexer.token.len != strlen(calls[i].name) ||
		    memcmp(p->lexer.text + p->lexer.token.offset, calls[i].name, p->lexer.token.len))
			continue;
		n = node_new(p, NODE_CALL, TYPE_VECTOR, p->lexer.token.offset);
		if (!n)
			return out_of_memory(p);
		n->call = calls[i].call;
		r = lexer_next(&p->lexer);
		if (r == 0)
			r = parse_arguments(p, n, calls[i].name, calls[i].takes, calls[i].parameter);
		if (r == 0)
			*ret_node = n;
		return r;
	}
	return unknown_function(p);
}

static int parse_primary(struct parser *p, struct node **ret_node)
{
	size_t offset = p->lexer.token.offset;
	int r;

	switch (p->lexer.token.kind) {
	case TOKEN_NUMBER: {
		struct node *n = node_new(p, NODE_NUMBER, TYPE_SCALAR, offset);

		if (!n)
			return out_of_memory(p);
		n->number = p->lexer.token.number;
		*ret_node = n;
		r = lexer_next(&p->lexer);
		break;
	}
	case TOKEN_LEFT_PAREN:
		r = lexer_next(&p->lexer);
		if (r == 0)
			r = parse_expression(p, ret_node);
		if (r == 0)
			r = expect(p, TOKEN_RIGHT_PAREN, "`)`");
		break;
	case TOKEN_NAME:
		r = parse_name(p, ret_node);
		break;
	case TOKEN_LEFT_BRACE:
		r = parse_selector(p, ret_node);
		break;
	case TOKEN_STRING:
		return lexer_error(&p->lexer, offset, "a string is only a label's value here, as in x{peer=\"web\"}");
	default:
		return unexpected(p, "an expression");
	}
	if (r == 0 && p->lexer.token.kind == TOKEN_LEFT_BRACKET)
		return lexer_error(&p->lexer, p->lexer.token.offset,
				   "a range belongs right behind a selector; subqueries are not supported");
	return r;
}

static int parse_unary(struct parser *p, struct node **ret_node)
{
	enum token_kind kind = p->lexer.token.kind;
	size_t offset = p->lexer.token.offset;
	struct node *n, *operand = NULL;
	int r;

	if (++p->nesting > QUERY_DEPTH_MAX)
		return too_deep(p, offset);
	if (kind != TOKEN_MINUS && kind != TOKEN_PLUS) {
		r = parse_primary(p, ret_node);
		p->nesting--;
		return r;
	}
	r = lexer_next(&p->lexer);
	if (r == 0)
		r = parse_unary(p, &operand);
	p->nesting--;
	if (r == 0 && operand->type == TYPE_RANGE)
		r = lexer_error(&p->lexer, operand->offset, "a range like [30s] needs `rate` or `increase` around it");
	if (r < 0)
		return r;
	if (kind == TOKEN_PLUS) {
		*ret_node = operand;
		return 0;
	}
	n = node_new(p, NODE_NEGATE, operand->type, offset);
	if (!n)
		return out_of_memory(p);
	*ret_node = n;
	return adopt(p, n, &n->operand[0], operand);
}

static int combine(struct parser *p, char op, struct node *left, struct node *right, struct node **ret_node)
{
	struct node *n = node_new(p, NODE_BINARY, TYPE_SCALAR, left->offset);
	int r;

	if (!n)
		return out_of_memory(p);
	n->op = op;
	if (left->type == TYPE_RANGE || right->type == TYPE_RANGE)
		return lexer_error(&p->lexer, left->type == TYPE_RANGE ? left->offset : right->offset,
				   "a range like [30s] needs `rate` or `increase` around it");
	if (left->type == TYPE_VECTOR || right->type == TYPE_VECTOR)
		n->type = TYPE_VECTOR;
	r = adopt(p, n, &n->operand[0], left);
	if (r == 0)
		r = adopt(p, n, &n->operand[1], right);
	if (r == 0)
		*ret_node = n;
	return r;
}

static int parse_product(struct parser *p, struct node **ret_node)
{
	struct node *left = NULL, *right = NULL;
	int r = parse_unary(p, &left);

	while (r == 0 && (p->lexer.token.kind == TOKEN_TIMES || p->lexer.token.kind == TOKEN_DIVIDE)) {
		char op = (char)p->lexer.token.kind;

		r = lexer_next(&p->lexer);
		if (r == 0)
			r = parse_unary(p, &right);
		if (r == 0)
			r = combine(p, op, left, right, &left);
	}
	*ret_node = left;
	return r;
}

static int parse_expression(struct parser *p, struct node **ret_node)
{
	struct node *left = NULL, *right = NULL;
	int r = parse_product(p, &left);

	while (r == 0 && (p->lexer.token.kind == TOKEN_PLUS || p->lexer.token.kind == TOKEN_MINUS)) {
		char op = (char)p->lexer.token.kind;

		r = lexer_next(&p->lexer);
		if (r == 0)
			r = parse_product(p, &right);
		if (r == 0)
			r = combine(p, op, left, right, &left);
	}
	*ret_node = left;
	return r;
}

int query_parse(const char *text, struct query **ret_query, struct error *ret_error)
{
	struct parser p = { .query = calloc(1, sizeof(struct query)) };
	int r;

	lexer_init(&p.lexer, text, ret_error);
	if (!p.query)
		return out_of_memory(&p);
	if (strnlen(text, QUERY_TEXT_MAX + 1) > QUERY_TEXT_MAX) {
		query_free(p.query);
		return error_set(ret_error, -EINVAL, "the query is longer than %d bytes", QUERY_TEXT_MAX);
	}
	r = lexer_next(&p.lexer);
	if (r == 0)
		r = parse_expression(&p, &p.query->root);
	if (r == 0 && p.lexer.token.kind != TOKEN_END)
		r = unexpected(&p, "an operator or the end");
	if (r == 0 && p.query->root->type == TYPE_RANGE)
		r = lexer_error(&p.lexer, p.query->root->offset,
				"a range like [30s] needs `rate` or `increase` around it");
	if (r < 0) {
		query_free(p.query);
		return r;
	}
	*ret_query = p.query;
	return 0;
}

void query_free(struct query *query)
{
	if (!query)
		return;
	for (struct node *n = query->all, *next; n; n = next) {
		next = n->next;
		for (size_t i = 0; i < n->n_matchers; i++) {
			free(n->matchers[i].label);
			free(n->matchers[i].value);
		}
		for (size_t i = 0; i < n->n_grouping; i++)
			free(n->grouping[i]);
		free(n->matchers);
		free(n->grouping);
		free(n);
	}
	free(query);
}

int query_matchers(const struct query *query, const struct matcher **ret_matchers, size_t *ret_n,
		   struct error *ret_error)
{
	const struct node *n = query->root;

	if (n->kind != NODE_SELECTOR || n->range_ms)
		return error_set(ret_error, -EINVAL, "1:%zu: expected only a selector, such as `up{job=\"x\"}`",
				 n->offset + 1);
	*ret_matchers = n->matchers;
	*ret_n = n->n_matchers;
	return 0;
}

bool query_is_scalar(const struct query *query)
{
	return query->root->type == TYPE_SCALAR;
}
