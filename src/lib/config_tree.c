/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML to nodes by the event stream of libfyaml (0.7), the only place that knows
 * it. Events rather than libfyaml's documents, because a document stops at the
 * first duplicate key and resolves aliases, and because the events carry byte
 * offsets, from which all positions are computed in one way.
 *
 * The text is checked before libfyaml sees it (UTF-8, no control characters), the
 * depth is limited, a scalar is one line, and parsing stops at a second document,
 * so that the library only ever works on a bounded text file. Its diagnostics are collected and
 * reported in our form; it prints nothing itself.
 *
 * Invariant: stack[depth] is the collection being filled; in a map, `key` is set
 * between a key and its value.
 */
#include <errno.h>
#include <libfyaml.h>
#include <stdlib.h>
#include <string.h>
#include "lib/config_tree.h"

#define DEPTH_MAX 16 /* the deepest schema path has a third of this; libfyaml takes flow collections of any depth */

struct level { struct config_node *node, *key; };

struct builder {
	struct config_report *report;
	struct config_tree *tree;
	struct level stack[DEPTH_MAX];
	size_t depth;
	size_t documents;
	size_t position; /* where the last event with a place ended */
	char note[CONFIG_QUOTE_MAX]; /* libfyaml's last words that had no place */
};

void config_tree_done(struct config_tree *tree)
{
	while (tree->all) {
		struct config_node *node = tree->all;
		tree->all = node->all;
		free(node->text);
		free(node);
	}
	tree->root = NULL;
}

bool config_node_is_null(const struct config_node *node)
{
	static const char *const words[] = { "", "~", "null", "Null", "NULL" };
	if (node->kind != CONFIG_SCALAR || !node->plain)
		return false;
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (!strcmp(node->text, words[i]))
			return true;
	return false;
}

/* Looks at every byte once, before the parser does. */
static int text_check(struct config_report *report)
{
	const char *text = report->text;
	if (report->len >= 2 && (!memcmp(text, "\xff\xfe", 2) || !memcmp(text, "\xfe\xff", 2))) {
		config_report_add(report, 0, 1, "this is UTF-16; save the file as UTF-8");
		return -EINVAL;
	}
	for (size_t i = 0, n; i < report->len; i += n) {
		unsigned char c = text[i];
		n = config_utf8_len(text + i, report->len - i);
		if (!c) {
			config_report_add(report, i, 1, "this is not a text file: it contains a NUL byte");
			return -EINVAL;
		}
		if (!n) {
			config_report_add(report, i, 1, "byte 0x%02x is not UTF-8; save the file as UTF-8", c);
			return -EINVAL;
		}
		bool c1 = n == 2 && c == 0xc2 && (unsigned char)text[i + 1] < 0xa0;
		if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f || c1) {
			config_report_add(report, i, n, "control character 0x%02x is not allowed here",
					  c1 ? (unsigned char)text[i + 1] : c);
			return -EINVAL;
		}
	}
	return 0;
}

/* The place of an event; one that is implied by the text stands where the last one ended. */
static void event_place(struct builder *b, struct fy_event *event, size_t *ret_offset, size_t *ret_len)
{
	const struct fy_mark *start = fy_event_start_mark(event), *end = fy_event_end_mark(event);
	*ret_offset = start && start->input_pos <= b->report->len ? start->input_pos : b->position;
	*ret_len =
	    end && end->input_pos > *ret_offset && end->input_pos <= b->report->len ? end->input_pos - *ret_offset : 0;
	if (end && end->input_pos <= b->report->len)
		b->position = end->input_pos;
}

/*
 * The text of a scalar; false when out of memory. Only text in double quotes is
 * taken from libfyaml: its formatter needs time that grows with the square of
 * the blank lines in a scalar, and in single quotes it repeats and leaks what
 * follows a quote that is written twice. On one line, which is all a value may
 * take, the other two styles are the bytes of the source.
 */
static bool scalar_take(struct builder *b, struct config_node *node, struct fy_token *token)
{
	const char *source = b->report->text + node->offset;
	enum fy_scalar_style style = token ? fy_token_scalar_style(token) : FYSS_PLAIN;
	size_t len = token ? node->len : 0;
	if (style == FYSS_LITERAL || style == FYSS_FOLDED || memchr(source, '\n', len) || memchr(source, '\r', len)) {
		/* The place of a block is its first line, which may be blank: show the key instead. */
		const struct config_node *key = b->depth ? b->stack[b->depth - 1].key : NULL;
		bool block = key && (style == FYSS_LITERAL || style == FYSS_FOLDED);
		config_report_add(b->report, block ? key->offset : node->offset, block ? key->len : len,
				  "this text takes several lines; a value is written on one line");
		return true;
	}
	if (style == FYSS_DOUBLE_QUOTED) {
		source = fy_token_get_text(token, &len);
		if (!source) {
			config_report_add(b->report, node->offset, node->len, "this text cannot be read");
			return true;
		}
	}
	node->text = malloc(len + 1);
	if (!node->text)
		return false;
	for (size_t i = 0; i < len; i++) {
		node->text[node->text_len++] = source[i];
		if (style == FYSS_SINGLE_QUOTED && source[i] == '\'')
			i++;
	}
	node->text[node->text_len] = '\0';
	node->plain = style == FYSS_PLAIN;
	node->kind = CONFIG_SCALAR;
	return true;
}

static struct config_node *node_new(struct builder *b, struct fy_event *event)
{
	struct config_node *node = calloc(1, sizeof(*node));
	if (!node)
		return NULL;
	node->all = b->tree->all;
	b->tree->all = node;
	event_place(b, event, &node->offset, &node->len);
	if (event->type == FYET_MAPPING_START || event->type == FYET_SEQUENCE_START) {
		node->kind = event->type == FYET_MAPPING_START ? CONFIG_MAPPING : CONFIG_SEQUENCE;
		return node;
	}
	node->kind = CONFIG_BAD;
	struct fy_token *token = event->type == FYET_SCALAR ? event->scalar.value : NULL;
	if (event->type == FYET_SCALAR && !scalar_take(b, node, token))
		return NULL;
	return node;
}

/* Puts a finished key or value, or a collection that begins, into the collection being filled. */
static void node_attach(struct builder *b, struct config_node *node)
{
	if (!b->depth) {
		b->tree->root = node;
		return;
	}
	struct level *level = &b->stack[b->depth - 1];
	if (level->node->kind == CONFIG_MAPPING && !level->key) {
		/* A map without braces starts at its first key; libfyaml says the comma before it inside a list. */
		if (!level->node->child && b->report->text[level->node->offset] != '{') {
			level->node->offset = node->offset;
			level->node->len = 1;
		}
		level->key = node;
		return;
	}
	node->key = level->key;
	level->key = NULL;
	/* An absent value has no place of its own: point at its key. */
	if (node->key && node->kind == CONFIG_SCALAR && node->plain && !node->text_len) {
		node->offset = node->key->offset;
		node->len = node->key->len;
	}
	if (level->node->last)
		level->node->last->next = node;
	else
		level->node->child = node;
	level->node->last = node;
	level->node->n_children++;
}

/* Anchors, aliases and tags, which a configuration does without. */
static void event_refuse(struct builder *b, struct fy_event *event, const struct config_node *node)
{
	if (event->type == FYET_ALIAS) {
		size_t star = node->offset && b->report->text[node->offset - 1] == '*';
		config_report_add(b->report, node->offset - star, node->len + star,
				  "aliases (`*name`) are not supported; write the value itself, or put text that "
				  "starts with * in quotes");
		return;
	}
	struct fy_token *anchor = fy_event_get_anchor_token(event), *tag = fy_event_get_tag_token(event);
	const struct fy_mark *start = anchor ? fy_token_start_mark(anchor) : NULL;
	if (anchor) {
		size_t at =
		    start && start->input_pos && start->input_pos <= b->report->len ? start->input_pos : node->offset;
		size_t sign = at && b->report->text[at - 1] == '&';
		config_report_add(b->report, at - sign, fy_token_get_text_length(anchor) + sign,
				  "anchors (`&name`) are not supported; write the value itself");
	}
	if (tag) {
		start = fy_token_start_mark(tag);
		const struct fy_mark *end = fy_token_end_mark(tag);
		size_t at = start && start->input_pos <= b->report->len ? start->input_pos : node->offset;
		config_report_add(b->report, at, end && end->input_pos > at ? end->input_pos - at : 1,
				  "tags (`!name`) are not supported; the type follows from the key");
	}
}

static int collection_end(struct builder *b, struct fy_event *event)
{
	if (!b->depth)
		return -EINVAL;
	struct config_node *node = b->stack[--b->depth].node;
	const struct fy_mark *end = fy_event_end_mark(event);
	/* A flow collection ends at its bracket; a block one is marked by its first character only. */
	if (node->offset < b->report->len && strchr("[{", b->report->text[node->offset]) && end &&
	    end->input_pos > node->offset && end->input_pos <= b->report->len)
		node->len = end->input_pos - node->offset;
	size_t offset, len;
	event_place(b, event, &offset, &len);
	return 0;
}

/* Returns 0 to go on, 1 to stop, or a negative error. */
static int event_take(struct builder *b, struct fy_event *event)
{
	size_t offset, len;
	switch (event->type) {
	case FYET_DOCUMENT_START:
		event_place(b, event, &offset, &len);
		if (b->documents++) {
			config_report_add(b->report, offset, len,
					  "a second document starts here; a configuration is one document");
			return 1;
		}
		return 0;
	case FYET_MAPPING_END:
	case FYET_SEQUENCE_END:
		return collection_end(b, event);
	case FYET_MAPPING_START:
	case FYET_SEQUENCE_START:
	case FYET_SCALAR:
	case FYET_ALIAS:
		break;
	default:
		return 0;
	}
	struct config_node *node = node_new(b, event);
	if (!node)
		return -ENOMEM;
	event_refuse(b, event, node);
	node_attach(b, node);
	if (node->kind != CONFIG_MAPPING && node->kind != CONFIG_SEQUENCE)
		return 0;
	if (b->depth == DEPTH_MAX) {
		config_report_add(b->report, node->offset, 1, "nested deeper than %d levels", DEPTH_MAX);
		return -EINVAL;
	}
	b->stack[b->depth++] = (struct level){ .node = node };
	return 0;
}

/* What helps with the messages that alone do not. */
static const char *syntax_hint(const char *message)
{
	static const struct { const char *message, *hint; } hints[] = {
		{ "invalid multiline plain key", " (is the next line indented too far?)" },
		{ "missing comma in flow mapping", " (or a missing `}`)" },
		{ "missing comma in flow sequence", " (or a missing `]`)" },
		{ "plain scalar cannot start with", " (put the text in quotes)" },
		{ "invalid tab used as indentation", " (use spaces)" },
		{ "tab character may not be used as indentation", " (use spaces)" },
	};
	for (size_t i = 0; i < sizeof(hints) / sizeof(*hints); i++)
		if (!strncmp(message, hints[i].message, strlen(hints[i].message)))
			return hints[i].hint;
	return "";
}

/* What libfyaml found wrong, in its own words. */
static void report_syntax(struct builder *b, struct fy_diag *diag)
{
	struct config_report *report = b->report;
	const struct fy_diag_error *error;
	void *iterator = NULL;
	size_t before = report->n_total;
	while ((error = fy_diag_errors_iterate(diag, &iterator))) {
		const struct fy_mark *start = error->fyt ? fy_token_start_mark(error->fyt) : NULL;
		const struct fy_mark *end = error->fyt ? fy_token_end_mark(error->fyt) : NULL;
		size_t at = start && start->input_pos < report->len ? start->input_pos : report->len;
		size_t len = end && end->input_pos > at ? end->input_pos - at : 1;
		/* The end of the text or of a line shows nothing: point behind what came before. */
		size_t rest = at;
		while (rest < report->len && strchr("\t ", report->text[rest]))
			rest++;
		while (at && (rest == report->len || strchr("\r\n", report->text[rest])) &&
		       strchr("\r\n\t ", report->text[at - 1])) {
			at--;
			len = 1;
		}
		char quoted[CONFIG_QUOTE_MAX];
		const char *message = error->msg ? error->msg : "";
		config_report_add(report, at, len, "not valid YAML: %s%s",
				  config_quote(message, strlen(message), quoted), syntax_hint(message));
	}
	if (report->n_total == before)
		config_report_add(report, b->position, 1, "not valid YAML%s%s", *b->note ? ": " : "", b->note);
}

/* Diagnostics without a place come here as text instead of being collected. */
static void note_take(struct fy_diag *diag, void *user, const char *text, size_t len)
{
	struct builder *b = user;
	while (len && (text[len - 1] == '\n' || text[len - 1] == ' '))
		len--;
	config_quote(text, len, b->note);
}

static int events_read(struct builder *b, struct fy_parser *parser, struct fy_diag *diag)
{
	int r = 0;
	while (!r) {
		struct fy_event *event = fy_parser_parse(parser);
		if (!event) {
			if (!fy_parser_get_stream_error(parser))
				break;
			report_syntax(b, diag);
			return -EINVAL;
		}
		r = event_take(b, event);
		fy_parser_event_free(parser, event);
	}
	return r < 0 ? r : 0;
}

int config_tree_parse(struct config_report *report, struct config_tree *ret_tree)
{
	struct builder b = { .report = report, .tree = ret_tree };
	*ret_tree = (struct config_tree){ 0 };
	int r = text_check(report);
	if (r < 0)
		return r;

	struct fy_diag_cfg diag_cfg;
	fy_diag_cfg_default(&diag_cfg);
	diag_cfg.fp = NULL;
	diag_cfg.output_fn = note_take;
	diag_cfg.user = &b;
	diag_cfg.colorize = diag_cfg.show_type = diag_cfg.show_position = diag_cfg.show_source = diag_cfg.show_module =
	    false;
	struct fy_diag *diag = fy_diag_create(&diag_cfg);
	if (!diag)
		return -ENOMEM;
	fy_diag_set_collect_errors(diag, true);
	struct fy_parse_cfg cfg = {.search_path = "",
				   .diag = diag,
				   .flags =
				       FYPCF_QUIET | FYPCF_COLLECT_DIAG | FYPCF_DEFAULT_VERSION_1_2 | FYPCF_JSON_NONE};
	struct fy_parser *parser = fy_parser_create(&cfg);
	r = parser ? 0 : -ENOMEM;
	if (!r && report->len && fy_parser_set_string(parser, report->text, report->len))
		r = -ENOMEM;
	if (!r && report->len)
		r = events_read(&b, parser, diag);
	fy_parser_destroy(parser);
	fy_diag_destroy(diag);
	return r;
}
