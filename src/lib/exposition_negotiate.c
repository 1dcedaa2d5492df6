/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Media types: which format an Accept header asks for, what we call it in
 * Content-Type, and which format a Content-Type names (RFC 9110, 8.3.1 and
 * 12.5.1). One reader serves both headers: a list of type/subtype;name=value
 * with optional quotes and spaces. Elements it cannot read are passed over; a
 * client that asks for nothing we have gets text 0.0.4, as from every exporter.
 */
#include <errno.h>
#include <string.h>
#include <strings.h>
#include "lib/exposition.h"

#define QUALITY_ONE 1000 /* q=1; q has at most three decimals */

struct span {
	const char *at;
	size_t len;
};

/* One element of a list: the type and the parameters we know; at == NULL when absent. */
struct media {
	struct span type; /* "text/plain" */
	struct span proto, encoding, version, quality;
};

static bool span_is(struct span span, const char *text)
{
	return span.len == strlen(text) && strncasecmp(span.at, text, span.len) == 0;
}

static bool span_is_or_absent(struct span span, const char *text)
{
	return span.at == NULL || span_is(span, text);
}

static const char *skip_spaces(const char *s)
{
	while (*s == ' ' || *s == '\t')
		s++;
	return s;
}

static bool is_token(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~/", c) != NULL); /* with the slash of type/subtype */
}

static const char *read_token(const char *s, struct span *ret_token)
{
	*ret_token = (struct span){ .at = s };
	while (is_token(*s))
		s++;
	ret_token->len = (size_t)(s - ret_token->at);
	return s;
}

/* A token or a quoted string, whose escapes stay as they are: no value we know has any. */
static const char *read_value(const char *s, struct span *ret_value)
{
	if (*s != '"')
		return read_token(s, ret_value);
	*ret_value = (struct span){ .at = ++s };
	while (*s != '\0' && *s != '"')
		s += s[0] == '\\' && s[1] != '\0' ? 2 : 1;
	ret_value->len = (size_t)(s - ret_value->at);
	return *s == '"' ? s + 1 : s;
}

static const char *skip_element(const char *s)
{
	struct span ignored;

	while (*s != '\0' && *s != ',')
		s = *s == '"' ? read_value(s, &ignored) : s + 1;
	return *s == ',' ? s + 1 : s;
}

static void keep_parameter(struct media *media, struct span name, struct span value)
{
	if (span_is(name, "q"))
		media->quality = value;
	else if (span_is(name, "version"))
		media->version = value;
	else if (span_is(name, "proto"))
		media->proto = value;
	else if (span_is(name, "encoding"))
		media->encoding = value;
}

/* Reads one element and the comma after it. Returns where the next begins; type.len is 0 when it could not be read. */
static const char *read_media(const char *s, struct media *ret_media)
{
	struct media media = { 0 };

	*ret_media = media;
	s = skip_spaces(read_token(skip_spaces(s), &media.type));
	while (*s == ';') {
		struct span name, value;

		s = skip_spaces(s + 1);
		if (*s == ';' || *s == ',' || *s == '\0')
			continue; /* an empty parameter */
		s = skip_spaces(read_token(s, &name));
		if (*s != '=' || name.len == 0)
			return skip_element(s);
		s = skip_spaces(read_value(skip_spaces(s + 1), &value));
		keep_parameter(&media, name, value);
	}
	if (*s != ',' && *s != '\0')
		return skip_element(s);
	*ret_media = media;
	return *s == ',' ? s + 1 : s;
}

/* 0..1000, or -1 for what is no quality. */
static int read_quality(struct span quality)
{
	int value, place = QUALITY_ONE / 10;

	if (quality.at == NULL)
		return QUALITY_ONE;
	if (quality.len == 0 || quality.len > strlen("0.000") || (quality.at[0] != '0' && quality.at[0] != '1'))
		return -1;
	value = (quality.at[0] - '0') * QUALITY_ONE;
	if (quality.len > 1 && quality.at[1] != '.')
		return -1;
	for (size_t i = 2; i < quality.len; i++, place /= 10) {
		if (quality.at[i] < '0' || quality.at[i] > '9')
			return -1;
		value += (quality.at[i] - '0') * place;
	}
	return value <= QUALITY_ONE ? value : -1;
}

static bool is_protobuf(const struct media *media)
{
	return span_is(media->type, "application/vnd.google.protobuf") &&
	       span_is_or_absent(media->proto, "io.prometheus.client.MetricFamily") &&
	       span_is_or_absent(media->encoding, "delimited");
}

/* The format an element of Accept allows; wildcards mean text. False for what we do not have. */
static bool accepted_format(const struct media *media, enum exposition_format *ret_format)
{
	if (is_protobuf(media) && media->proto.at != NULL && media->encoding.at != NULL)
		*ret_format = EXPOSITION_PROTOBUF;
	else if (span_is(media->type, "application/openmetrics-text") && span_is_or_absent(media->version, "1.0.0"))
		*ret_format = EXPOSITION_OPENMETRICS;
	else if ((span_is(media->type, "text/plain") && span_is_or_absent(media->version, "0.0.4")) ||
		 span_is(media->type, "text/*") || span_is(media->type, "*/*"))
		*ret_format = EXPOSITION_TEXT;
	else
		return false;
	return true;
}

enum exposition_format exposition_negotiate(const char *accept)
{
	enum exposition_format best = EXPOSITION_TEXT, format;
	int best_quality = 0;

	while (accept != NULL && *accept != '\0') {
		struct media media;
		int quality;

		accept = read_media(accept, &media);
		quality = read_quality(media.quality);
		if (quality > best_quality && accepted_format(&media, &format)) {
			best = format;
			best_quality = quality;
		}
	}
	return best;
}

const char *exposition_content_type(enum exposition_format format)
{
	switch (format) {
	case EXPOSITION_OPENMETRICS:
		return "application/openmetrics-text; version=1.0.0; charset=utf-8";
	case EXPOSITION_PROTOBUF:
		return "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
	default:
		return "text/plain; version=0.0.4; charset=utf-8";
	}
}

int exposition_format_of(const char *content_type, enum exposition_format *ret_format)
{
	struct media media;

	if (content_type == NULL || *skip_spaces(content_type) == '\0') {
		*ret_format = EXPOSITION_TEXT;
		return 0;
	}
	(void)read_media(content_type, &media);
	if (media.type.len == 0) /* broken parameters, as "text/plain; charset": the type alone says enough */
		(void)read_token(skip_spaces(content_type), &media.type);
	if (span_is(media.type, "text/plain"))
		*ret_format = EXPOSITION_TEXT;
	else if (span_is(media.type, "application/openmetrics-text"))
		*ret_format = EXPOSITION_OPENMETRICS;
	else if (is_protobuf(&media))
		*ret_format = EXPOSITION_PROTOBUF;
	else
		return -EPROTO;
	return 0;
}
