/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a metric is: names, types, labels. Shared by the registry, both sides
 * of the exposition and the store. Rules: Prometheus data model and
 * OpenMetrics 1.0 (sections 4.4-4.5).
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "lib/error.h"

enum metric_type {
	METRIC_UNKNOWN,
	METRIC_COUNTER,
	METRIC_GAUGE,
	METRIC_HISTOGRAM,
	METRIC_SUMMARY,
	METRIC_INFO,
	METRIC_STATESET,
};

struct label {
	const char *name;
	const char *value; /* UTF-8 */
};

#define METRIC_LABELS_MAX 64 /* per sample, in what we parse; Prometheus' default limit is none, its usual advice 30 */

/* Of a classic bucket: 2^-64 s is far below a nanosecond, 2^63 s far above a life. */
#define METRIC_BUCKET_EXP_MIN (-64)
#define METRIC_BUCKET_EXP_MAX 63

/* A family as it is registered and exposed. Strings are borrowed and outlive the family's use. */
struct metric_family {
	const char *name;  /* full name; a counter's ends in _total */
	const char *help;
	const char *unit;  /* "seconds", "bytes" or NULL; when set the name (without _total) ends in _unit */
	enum metric_type type; /* COUNTER, GAUGE or HISTOGRAM */
	/* Histograms only: classic buckets at le = 2^first .. 2^last seconds, factor 2, plus +Inf. */
	int classic_first_exp, classic_last_exp;
};

bool metric_name_valid(const char *name);
bool metric_label_name_valid(const char *name); /* no leading "__": those are reserved */
/* Length of the longest prefix of s[0..len) that is UTF-8 (RFC 3629) without a NUL: what a label value may be. */
size_t metric_utf8_prefix(const char *s, size_t len);
/* "counter", ... as in a TYPE line of text 0.0.4; "untyped" for unknown */
const char *metric_type_name(enum metric_type type);

/* Refuses, with the reason: bad characters, a counter without _total, _total/_bucket/_count/_sum/_created/_info
 * where it does not belong (_info only ends a gauge: build_info), a unit that is not the name's suffix, no help, a
 * type that is not exposed, classic buckets in the wrong order or out of METRIC_BUCKET_EXP_MIN..MAX. -EINVAL. */
int metric_family_check(const struct metric_family *family, struct error *ret_error);
