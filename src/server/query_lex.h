/* SPDX-License-Identifier: Apache-2.0 */
/* PromQL's tokens, and positions for messages. The text is borrowed. */
#pragma once
#include <stddef.h>
#include "lib/error.h"

enum token_kind {
	TOKEN_END, TOKEN_NAME, TOKEN_NUMBER, TOKEN_STRING,
	TOKEN_EQUAL, TOKEN_NOT_EQUAL, TOKEN_REGEX, TOKEN_NOT_REGEX, /* = != =~ !~ */
	TOKEN_OTHER, /* == < > <= >= % ^ @ : which we have not */
	TOKEN_LEFT_PAREN = '(', TOKEN_RIGHT_PAREN = ')', TOKEN_LEFT_BRACE = '{', TOKEN_RIGHT_BRACE = '}',
	TOKEN_LEFT_BRACKET = '[', TOKEN_RIGHT_BRACKET = ']', TOKEN_COMMA = ',',
	TOKEN_PLUS = '+', TOKEN_MINUS = '-', TOKEN_TIMES = '*', TOKEN_DIVIDE = '/',
};

struct token {
	enum token_kind kind;
	size_t offset, len; /* in the text */
	double number;
};

struct lexer {
	const char *text;
	size_t at;          /* behind the current token */
	struct token token; /* the current one */
	struct error *error;
};

void lexer_init(struct lexer *l, const char *text, struct error *ret_error);
/* Steps to the next token; -EINVAL with position and reason. */
int lexer_next(struct lexer *l);
/* Instead of lexer_next where only a duration can come: reads "1h30m" into ms and stays before what follows it. */
int lexer_duration(struct lexer *l, long long *ret_ms);
/* The string token's meaning, on the heap. -EINVAL for a bad escape, -ENOMEM. */
int lexer_string(struct lexer *l, char **ret_text);
/* Writes "line:column: ..." for a byte offset; returns -EINVAL. */
int lexer_error(const struct lexer *l, size_t offset, const char *format, ...) __attribute__((format(printf, 3, 4)));
