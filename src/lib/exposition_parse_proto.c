/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading length-delimited io.prometheus.client.MetricFamily messages
 * (lib/metrics.proto; wire format: the protobuf encoding guide).
 *
 * The bytes are read in place with a cursor per nesting level, the levels being
 * the fixed ones of the schema: nothing recurses, nothing is allocated per
 * field, and every byte is looked at a bounded number of times. (A generic
 * decoder turns two hostile bytes into a hundred of memory, and merges repeated
 * messages in quadratic time.) Fields may come in any order, so a message is
 * first gone through for its scalars and then for what depends on them. Of a
 * field that is there twice the last one counts; unknown fields are skipped.
 *
 * Native histograms that struct hist cannot hold (float counts, negative
 * values, custom schemas, gauge histograms) are refused by name.
 */
#include <errno.h>
#include <string.h>
#include "lib/decimal.h"
#include "lib/exposition_parse_proto.h"
#include "lib/exposition_proto_read.h"

/* -- Samples -- */

int proto_emit(struct proto *p, const char *name, const struct hist *hist, double value)
{
	struct exposition_sample sample = {
		.name = name, .family = p->names.data, .labels = p->labels, .n_labels = p->n_labels,
		.hist = hist, .value = value, .timestamp_ms = p->timestamp_ms,
	};

	switch (p->type) {
	case PROTO_TYPE_COUNTER:
		sample.type = METRIC_COUNTER;
		break;
	case PROTO_TYPE_GAUGE:
	case PROTO_TYPE_GAUGE_HISTOGRAM: /* its buckets may fall: each is a gauge */
		sample.type = METRIC_GAUGE;
		break;
	case PROTO_TYPE_SUMMARY:
		sample.type = METRIC_SUMMARY;
		break;
	case PROTO_TYPE_HISTOGRAM:
		sample.type = METRIC_HISTOGRAM;
		break;
	default:
		sample.type = METRIC_UNKNOWN;
	}
	return p->fn(&sample, p->userdata);
}

int proto_insert_label(struct proto *p, const unsigned char *at, const char *name, size_t *ret_at)
{
	size_t i = 0;

	if (p->n_labels == METRIC_LABELS_MAX)
		return proto_fail(p, at, "more than %d labels", METRIC_LABELS_MAX);
	while (i < p->n_labels && strcmp(p->labels[i].name, name) < 0)
		i++;
	if (i < p->n_labels && strcmp(p->labels[i].name, name) == 0)
		return proto_fail(p, at, "label %s is there twice", name);
	memmove(&p->labels[i + 1], &p->labels[i], (p->n_labels - i) * sizeof(p->labels[0]));
	p->n_labels++;
	p->labels[i] = (struct label){ .name = name, .value = "" };
	*ret_at = i;
	return 0;
}

void proto_remove_label(struct proto *p, size_t i)
{
	p->n_labels--;
	memmove(&p->labels[i], &p->labels[i + 1], (p->n_labels - i) * sizeof(p->labels[0]));
}

/* -- Gauge, Counter, Untyped -- */

static int read_value(struct proto *p, struct wire message)
{
	static const proto_shape shape = { [VALUE_VALUE] = FIXED64 };
	struct field field;
	double value = 0;
	int r;

	while ((r = proto_next_field(p, &message, shape, &field)) > 0)
		if (field.number == VALUE_VALUE)
			value = proto_double(field.value);
	return r < 0 ? r : proto_emit(p, p->names.data, NULL, value);
}

/* -- Summary -- */

static int read_quantile(struct proto *p, struct wire message, size_t label)
{
	static const proto_shape shape = { [QUANTILE_QUANTILE] = FIXED64, [QUANTILE_VALUE] = FIXED64 };
	char text[DECIMAL_MAX];
	double quantile = 0, value = 0;
	struct field field;
	int r;

	while ((r = proto_next_field(p, &message, shape, &field)) > 0) {
		if (field.number == QUANTILE_QUANTILE)
			quantile = proto_double(field.value);
		else if (field.number == QUANTILE_VALUE)
			value = proto_double(field.value);
	}
	if (r < 0)
		return r;
	(void)decimal_write_bound(text, quantile);
	p->labels[label].value = text;
	return proto_emit(p, p->names.data, NULL, value);
}

static int read_summary(struct proto *p, struct wire summary)
{
	static const proto_shape shape = {
		[SUMMARY_COUNT] = VARINT, [SUMMARY_SUM] = FIXED64, [SUMMARY_QUANTILE] = BYTES,
	};
	struct wire message = summary;
	double count = 0, sum = 0;
	struct field field;
	size_t label;
	int r = proto_insert_label(p, summary.at, "quantile", &label);

	if (r < 0)
		return r;
	while ((r = proto_next_field(p, &message, shape, &field)) > 0) {
		if (field.number == SUMMARY_COUNT) {
			count = (double)field.value;
		} else if (field.number == SUMMARY_SUM) {
			sum = proto_double(field.value);
		} else if (field.number == SUMMARY_QUANTILE) {
			r = read_quantile(p, field.bytes, label);
			if (r != 0)
				return r;
		}
	}
	if (r < 0)
		return r;
	proto_remove_label(p, label);
	r = proto_emit(p, p->names.data + p->sum_at, NULL, sum);
	return r != 0 ? r : proto_emit(p, p->names.data + p->count_at, NULL, count);
}

/* -- Metric -- */

/* Copies a string to `to`, NUL-terminated, and returns where the next goes; NULL when it is not UTF-8. */
static char *copy_string(char *to, struct wire string)
{
	size_t len = (size_t)(string.end - string.at);

	if (metric_utf8_prefix((const char *)string.at, len) != len)
		return NULL;
	memcpy(to, string.at, len);
	to[len] = '\0';
	return to + len + 1;
}

static bool label_name_valid(const char *name)
{
	return metric_name_valid(name) && strchr(name, ':') == NULL && strcmp(name, "__name__") != 0;
}

static int read_label(struct proto *p, struct wire message, char **to)
{
	static const proto_shape shape = { [LABEL_NAME] = BYTES, [LABEL_VALUE] = BYTES };
	const unsigned char *start = message.at;
	struct wire name = { start, start }, value = { start, start };
	struct label label = { .name = *to };
	struct field field;
	int r;

	while ((r = proto_next_field(p, &message, shape, &field)) > 0) {
		if (field.number == LABEL_NAME)
			name = field.bytes;
		else if (field.number == LABEL_VALUE)
			value = field.bytes;
	}
	if (r < 0)
		return r;
	if (p->n_labels == METRIC_LABELS_MAX)
		return proto_fail(p, start, "more than %d labels", METRIC_LABELS_MAX);
	*to = copy_string(*to, name);
	if (*to == NULL || !label_name_valid(label.name))
		return proto_fail(p, name.at, "bad label name");
	label.value = *to;
	*to = copy_string(*to, value);
	if (*to == NULL)
		return proto_fail(p, value.at, "label value is not UTF-8");
	p->labels[p->n_labels++] = label;
	return 0;
}

/* The message a metric of that type has its value in. */
static unsigned value_field(uint64_t type)
{
	switch (type) {
	case PROTO_TYPE_COUNTER:
		return METRIC_FIELD_COUNTER;
	case PROTO_TYPE_GAUGE:
		return METRIC_FIELD_GAUGE;
	case PROTO_TYPE_SUMMARY:
		return METRIC_FIELD_SUMMARY;
	case PROTO_TYPE_UNTYPED:
		return METRIC_FIELD_UNTYPED;
	default:
		return METRIC_FIELD_HISTOGRAM;
	}
}

static int read_metric_value(struct proto *p, struct wire value)
{
	switch (p->type) {
	case PROTO_TYPE_SUMMARY:
		return read_summary(p, value);
	case PROTO_TYPE_HISTOGRAM:
	case PROTO_TYPE_GAUGE_HISTOGRAM:
		return proto_read_histogram(p, value);
	default:
		return read_value(p, value);
	}
}

static int read_metric(struct proto *p, struct wire message)
{
	static const proto_shape shape = {
		[METRIC_FIELD_LABEL] = BYTES,   [METRIC_FIELD_GAUGE] = BYTES,   [METRIC_FIELD_COUNTER] = BYTES,
		[METRIC_FIELD_SUMMARY] = BYTES, [METRIC_FIELD_UNTYPED] = BYTES, [METRIC_FIELD_TIMESTAMP] = VARINT,
		[METRIC_FIELD_HISTOGRAM] = BYTES,
	};
	const unsigned char *start = message.at;
	struct wire value = { NULL, NULL };
	const char *twice;
	struct field field;
	char *to;
	int r;

	p->n_labels = 0;
	p->timestamp_ms = EXPOSITION_NO_TIMESTAMP;
	buffer_clear(&p->values);
	/* A label takes its strings and two NULs; in the message its strings and at least four bytes around them. The
	 * last one may have neither string. */
	to = buffer_reserve(&p->values, (size_t)(message.end - message.at) + 2);
	if (to == NULL)
		return error_set(p->error, -ENOMEM, "out of memory for a metric");
	while ((r = proto_next_field(p, &message, shape, &field)) > 0) {
		if (field.number == METRIC_FIELD_LABEL) {
			r = read_label(p, field.bytes, &to);
			if (r < 0)
				return r;
		} else if (field.number == METRIC_FIELD_TIMESTAMP) {
			p->timestamp_ms = (int64_t)field.value;
		} else if (field.number == value_field(p->type)) {
			value = field.bytes;
		}
	}
	if (r < 0)
		return r;
	twice = exposition_labels_finish(p->labels, &p->n_labels);
	if (twice != NULL)
		return proto_fail(p, start, "label %.200s is there twice", twice);
	if (value.at == NULL)
		return proto_fail(p, start, "a metric without the value its family's type promises");
	return read_metric_value(p, value);
}

/* -- MetricFamily -- */

static const proto_shape family_shape = {
	[FAMILY_NAME] = BYTES, [FAMILY_TYPE] = VARINT, [FAMILY_METRIC] = BYTES,
};

static int set_names(struct proto *p, struct wire name)
{
	size_t len = (size_t)(name.end - name.at);
	const char *text = (const char *)name.at;

	buffer_append(&p->names, text, len);
	buffer_putc(&p->names, '\0');
	p->bucket_at = p->names.len;
	buffer_append(&p->names, text, len);
	buffer_append(&p->names, "_bucket", sizeof("_bucket"));
	p->sum_at = p->names.len;
	buffer_append(&p->names, text, len);
	buffer_append(&p->names, "_sum", sizeof("_sum"));
	p->count_at = p->names.len;
	buffer_append(&p->names, text, len);
	buffer_append(&p->names, "_count", sizeof("_count"));
	if (!buffer_ok(&p->names))
		return error_set(p->error, -ENOMEM, "out of memory for a metric name");
	if (strlen(p->names.data) == len && metric_name_valid(p->names.data))
		return 0;
	buffer_clear(&p->names); /* not to be repeated in the message */
	return proto_fail(p, name.at, "bad metric name");
}

static int read_family(struct proto *p, struct wire family)
{
	struct wire message = family, name = { family.at, family.at };
	struct field field;
	int r;

	buffer_clear(&p->names);
	p->type = PROTO_TYPE_COUNTER; /* the first of the enum, as proto2 says */
	while ((r = proto_next_field(p, &message, family_shape, &field)) > 0) {
		if (field.number == FAMILY_NAME)
			name = field.bytes;
		else if (field.number == FAMILY_TYPE)
			p->type = field.value;
	}
	if (r == 0)
		r = set_names(p, name);
	if (r < 0)
		return r;
	if (p->type > PROTO_TYPE_GAUGE_HISTOGRAM)
		return proto_fail(p, family.at, "unknown metric type %llu", (unsigned long long)p->type);
	message = family;
	while ((r = proto_next_field(p, &message, family_shape, &field)) > 0) {
		if (field.number != FAMILY_METRIC)
			continue;
		r = read_metric(p, field.bytes);
		if (r != 0)
			return r;
	}
	return r;
}

int exposition_parse_proto(const char *data, size_t len, exposition_sample_fn fn, void *userdata,
			   struct error *ret_error)
{
	struct proto p = {
		.data = (const unsigned char *)data, .error = ret_error, .fn = fn, .userdata = userdata,
	};
	struct wire wire = { p.data, p.data + len }, family;
	int r = 0;

	hist_init(&p.hist, HIST_SCHEMA, 0);
	while (r == 0 && wire.at < wire.end) {
		buffer_clear(&p.names);
		r = proto_read_bytes(&p, &wire, &family);
		if (r == 0)
			r = read_family(&p, family);
	}
	buffer_done(&p.names);
	buffer_done(&p.values);
	hist_done(&p.hist);
	return r;
}
