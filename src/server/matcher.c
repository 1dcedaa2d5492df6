/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Label matchers. The expression is compiled as written first, then between
 * "^(" and ")$", so that its own syntax errors are reported and it cannot leave
 * the anchors.
 *
 * glibc's regcomp copies a subexpression for "+" and for each count of "{m,n}",
 * so nested ones need memory exponential in their depth: the nodes are counted
 * first, and limited. Its time is exponential in how deeply repetitions are
 * nested, so that is limited too. Back references make its regexec exponential and are not
 * part of PromQL's expressions either. Escapes like \d mean something in RE2 but
 * a plain "d" in POSIX: refused rather than answered wrongly.
 */
#include "server/matcher.h"
#include "lib/buffer.h"
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NODES_MAX 1000    /* letters and the like: a list of names has many */
#define REPEATED_MAX 100 /* of them under a repetition, copies included: these cost memory and, per value, time */
#define NESTED_MAX 5      /* ((x*)*)* is 3 */

static int refuse(const char *text, const char *reason, struct error *ret_error)
{
	return error_set(ret_error, -EINVAL, "bad regular expression \"%s\": %s", text, reason);
}

/* Past a bracket expression: a ']' that comes first is a member, and so is everything in [:class:]. */
static const char *skip_bracket(const char *p)
{
	p++;
	if (*p == '^')
		p++;
	if (*p == ']')
		p++;
	while (*p && *p != ']') {
		if (p[0] == '[' && (p[1] == ':' || p[1] == '.' || p[1] == '=')) {
			const char end[3] = { p[1], ']', '\0' };
			const char *close = strstr(p + 2, end);

			if (!close)
				return p + strlen(p);
			p = close + 2;
		} else {
			p++;
		}
	}
	return *p ? p + 1 : p;
}

/* The largest count in "{m,n}", past which *at is left. */
static unsigned long read_interval(const char **at)
{
	const char *p = *at + 1;
	unsigned long most = 0;

	while (isdigit((unsigned char)*p) || *p == ',') {
		char *end = (char *)p + 1;
		unsigned long n = *p == ',' ? 0 : strtoul(p, &end, 10);

		most = n > most ? n : most;
		p = end;
	}
	*at = p;
	return most;
}

/* About how many nodes the compiled expression has, and how deeply repetitions are nested. */
struct cost { unsigned long nodes; unsigned nested; };
struct regex_cost {
	struct cost group[MATCHER_REGEX_MAX + 1]; /* of each open group so far; [0]: of all */
	struct cost last;                         /* of what a repetition would repeat */
	size_t depth;
	unsigned long repeated;
};

static void cost_item(struct regex_cost *c, struct cost item)
{
	struct cost *group = &c->group[c->depth];

	c->last = item;
	group->nodes += item.nodes;
	group->nested = item.nested > group->nested ? item.nested : group->nested;
}

static void cost_atom(struct regex_cost *c)
{
	cost_item(c, (struct cost){ 1, 0 });
}

/* The last item comes `more` times more. */
static void cost_repeat(struct regex_cost *c, unsigned long more)
{
	struct cost last = c->last;

	last.nodes *= 1 + (more > NODES_MAX ? NODES_MAX : more);
	last.nested++;
	c->group[c->depth].nodes -= c->last.nodes;
	c->repeated += last.nodes;
	cost_item(c, last);
}

/* One step of the walk over the expression; NULL when there is nothing against it. */
static const char *walk_regex(struct regex_cost *c, const char **at)
{
	const char *p = *at;

	if (*p == '[') {
		*at = skip_bracket(p);
		cost_atom(c);
		return NULL;
	}
	if (*p == '\\' && p[1]) {
		*at = p + 2;
		cost_atom(c);
		if (isdigit((unsigned char)p[1]))
			return "back references are not supported";
		if (isalpha((unsigned char)p[1]) && !strchr("wWsSbB", p[1]))
			return "this escape is not in POSIX expressions; for \\d write [0-9]";
		return NULL;
	}
	if (*p == '(' && p[1] == '?')
		return "POSIX expressions have no (?...)";
	*at = p + 1;
	if (*p == '(') {
		c->group[++c->depth] = (struct cost){ 1, 0 };
	} else if (*p == ')') {
		if (!c->depth)
			return "Unmatched ) or \\)"; /* glibc takes it for a character, but then it closes our own group
						      */
		c->depth--;
		cost_item(c, c->group[c->depth + 1]);
	} else if (*p == '+') {
		cost_repeat(c, 1);
	} else if (*p == '{') {
		*at = p;
		cost_repeat(c, read_interval(at));
	} else if (*p == '*' || *p == '?') {
		cost_repeat(c, 0);
	} else {
		cost_atom(c);
	}
	if (c->group[c->depth].nested > NESTED_MAX)
		return "its repetitions are nested too deeply";
	if (c->repeated > REPEATED_MAX)
		return "it repeats too much";
	return c->group[c->depth].nodes > NODES_MAX ? "it is too long" : NULL;
}

static int check_regex(const char *text, struct error *ret_error)
{
	struct regex_cost cost = { .last = { 0, 0 } };

	if (strlen(text) > MATCHER_REGEX_MAX)
		return error_set(ret_error, -EINVAL, "regular expression is too long (more than %d bytes)",
				 MATCHER_REGEX_MAX);
	for (const char *at = text; *at;) {
		const char *reason = walk_regex(&cost, &at);

		if (reason)
			return refuse(text, reason, ret_error);
	}
	return 0;
}

static int compile_regex(const char *text, regex_t *ret_regex, struct error *ret_error)
{
	struct buffer anchored = BUFFER_INIT;
	char reason[128];
	int rc, r = check_regex(text, ret_error);

	if (r < 0)
		return r;
	rc = regcomp(ret_regex, text, REG_EXTENDED | REG_NOSUB);
	if (rc == 0) {
		regfree(ret_regex);
		buffer_printf(&anchored, "^(%s)$", text);
		rc = buffer_ok(&anchored) ? regcomp(ret_regex, anchored.data, REG_EXTENDED | REG_NOSUB) : REG_ESPACE;
		buffer_done(&anchored);
	}
	if (rc == 0)
		return 0;
	if (rc == REG_ESPACE)
		return refuse(text, "it needs too much memory", ret_error);
	regerror(rc, NULL, reason, sizeof(reason));
	return refuse(text, reason, ret_error);
}

int matcher_compile(const struct matcher *matchers, size_t n, struct matcher_compiled **ret_compiled,
		    struct error *ret_error)
{
	struct matcher_compiled *compiled = calloc(n ? n : 1, sizeof(*compiled));

	if (!compiled)
		return error_set_errno(ret_error, -ENOMEM, "cannot select series");
	for (size_t i = 0; i < n; i++) {
		compiled[i].matcher = &matchers[i];
		if (matchers[i].op == MATCH_REGEX || matchers[i].op == MATCH_NOT_REGEX) {
			int r = compile_regex(matchers[i].value, &compiled[i].regex, ret_error);

			if (r < 0) {
				matcher_compiled_free(compiled, i);
				return r;
			}
			compiled[i].has_regex = true;
		}
	}
	*ret_compiled = compiled;
	return 0;
}

void matcher_compiled_free(struct matcher_compiled *compiled, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (compiled[i].has_regex)
			regfree(&compiled[i].regex);
	free(compiled);
}

bool matcher_matches(const struct matcher_compiled *c, const char *value)
{
	switch (c->matcher->op) {
	case MATCH_EQUAL:
		return !strcmp(value, c->matcher->value);
	case MATCH_NOT_EQUAL:
		return strcmp(value, c->matcher->value) != 0;
	case MATCH_REGEX:
		return regexec(&c->regex, value, 0, NULL, 0) == 0;
	case MATCH_NOT_REGEX:
		return regexec(&c->regex, value, 0, NULL, 0) != 0;
	}
	return false;
}

int matcher_check(const struct matcher *matcher, struct error *ret_error)
{
	struct matcher_compiled *compiled = NULL;
	int r = matcher_compile(matcher, 1, &compiled, ret_error);

	if (r == 0)
		matcher_compiled_free(compiled, 1);
	return r;
}
