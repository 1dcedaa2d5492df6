/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules a metric's name, unit and help keep, checked once, when the family
 * is registered. A suffix that one format gives a meaning (_total, _bucket, ...)
 * must not end another kind of family: the series it names would be taken for a
 * part of something else, and `promtool check metrics` would say so.
 */
#include <errno.h>
#include <string.h>
#include "lib/metric.h"

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

bool metric_name_valid(const char *name)
{
	if (!is_letter(*name) && *name != ':')
		return false;
	while (is_letter(*name) || is_digit(*name) || *name == ':')
		name++;
	return *name == '\0';
}

bool metric_label_name_valid(const char *name)
{
	if (!is_letter(*name) || strncmp(name, "__", 2) == 0)
		return false;
	while (is_letter(*name) || is_digit(*name))
		name++;
	return *name == '\0';
}

const char *metric_type_name(enum metric_type type)
{
	switch (type) {
	case METRIC_COUNTER:
		return "counter";
	case METRIC_GAUGE:
		return "gauge";
	case METRIC_HISTOGRAM:
		return "histogram";
	case METRIC_SUMMARY:
		return "summary";
	case METRIC_INFO:
		return "info";
	case METRIC_STATESET:
		return "stateset";
	case METRIC_UNKNOWN:
		break;
	}
	return "untyped";
}

/* Bytes of the character at s, 0 when there is none. The second byte's range refuses overlong forms, surrogates and
 * what is beyond U+10FFFF (RFC 3629, section 4). */
static size_t utf8_character(const unsigned char *s, size_t len)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t n;

	if (s[0] < 0x80)
		return s[0] != 0;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		n = 2;
	else if (s[0] >= 0xe0 && s[0] <= 0xef)
		n = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		n = 4;
	else
		return 0;
	if (n > len)
		return 0;
	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	if (s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

size_t metric_utf8_prefix(const char *s, size_t len)
{
	const unsigned char *bytes = (const unsigned char *)s;
	size_t at = 0;

	while (at < len) {
		size_t n = utf8_character(bytes + at, len - at);

		if (n == 0)
			break;
		at += n;
	}
	return at;
}

static bool ends_in(const char *name, size_t len, const char *suffix)
{
	size_t n = strlen(suffix);

	return len > n && memcmp(name + len - n, suffix, n) == 0;
}

/* The suffix that gives name[0..len) a meaning it should not have, or NULL. */
static const char *reserved_suffix(const char *name, size_t len, enum metric_type type)
{
	static const char *const reserved[] = {
		"_total", "_bucket", "_count", "_sum", "_created", "_gcount", "_gsum", "_info",
	};

	for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
		/* A gauge that is always 1 and ends in _info is how text 0.0.4, without the info type, says it. */
		if (type == METRIC_GAUGE && strcmp(reserved[i], "_info") == 0)
			continue;
		if (ends_in(name, len, reserved[i]))
			return reserved[i];
	}
	return NULL;
}

static bool unit_valid(const char *unit)
{
	if (*unit == '\0')
		return false;
	while ((*unit >= 'a' && *unit <= 'z') || is_digit(*unit) || *unit == '_')
		unit++;
	return *unit == '\0';
}

static int check_unit(const struct metric_family *family, size_t base_len, struct error *ret_error)
{
	size_t n = strlen(family->unit);

	if (!unit_valid(family->unit))
		return error_set(ret_error, -EINVAL, "metric %s: unit \"%s\" should be of a-z, 0-9 and _", family->name,
				 family->unit);
	if (base_len <= n + 1 || memcmp(family->name + base_len - n, family->unit, n) != 0 ||
	    family->name[base_len - n - 1] != '_')
		return error_set(ret_error, -EINVAL, "metric %s: its unit is \"%s\", so its name should end in _%s%s",
				 family->name, family->unit, family->unit,
				 family->type == METRIC_COUNTER ? "_total" : "");
	return 0;
}

static int check_help(const struct metric_family *family, struct error *ret_error)
{
	if (family->help == NULL || *family->help == '\0')
		return error_set(ret_error, -EINVAL, "metric %s has no help", family->name);
	if (metric_utf8_prefix(family->help, strlen(family->help)) != strlen(family->help))
		return error_set(ret_error, -EINVAL, "metric %s: its help is not UTF-8", family->name);
	return 0;
}

static int check_buckets(const struct metric_family *family, struct error *ret_error)
{
	if (family->classic_first_exp > family->classic_last_exp ||
	    family->classic_first_exp < METRIC_BUCKET_EXP_MIN || family->classic_last_exp > METRIC_BUCKET_EXP_MAX)
		return error_set(ret_error, -EINVAL,
				 "metric %s: classic buckets from 2^%d to 2^%d, should rise within 2^%d to 2^%d",
				 family->name, family->classic_first_exp, family->classic_last_exp,
				 METRIC_BUCKET_EXP_MIN, METRIC_BUCKET_EXP_MAX);
	return 0;
}

int metric_family_check(const struct metric_family *family, struct error *ret_error)
{
	const char *name = family->name, *suffix;
	size_t base_len;
	int r;

	if (name == NULL || !metric_name_valid(name))
		return error_set(ret_error, -EINVAL,
				 "metric name \"%.200s\" should be letters, digits and _, not starting with a digit",
				 name == NULL ? "" : name);
	if (strchr(name, ':') != NULL)
		return error_set(ret_error, -EINVAL, "metric %s: colons are for recording rules", name);
	if (family->type != METRIC_COUNTER && family->type != METRIC_GAUGE && family->type != METRIC_HISTOGRAM)
		return error_set(ret_error, -EINVAL, "metric %s is of type %s, should be counter, gauge or histogram",
				 name, metric_type_name(family->type));
	base_len = strlen(name);
	if (family->type == METRIC_COUNTER) {
		if (!ends_in(name, base_len, "_total"))
			return error_set(ret_error, -EINVAL, "counter %s should end in _total", name);
		base_len -= strlen("_total");
	}
	suffix = reserved_suffix(name, base_len, family->type);
	if (suffix != NULL)
		return error_set(ret_error, -EINVAL, "%s %s should not have %s in that place: it means something else",
				 metric_type_name(family->type), name, suffix);
	r = check_help(family, ret_error);
	if (r == 0 && family->unit != NULL)
		r = check_unit(family, base_len, ret_error);
	if (r == 0 && family->type == METRIC_HISTOGRAM)
		r = check_buckets(family, ret_error);
	return r;
}
