/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exposition parsers on arbitrary bytes. The first byte chooses the content
 * type: text 0.0.4, OpenMetrics, protobuf, or whatever the first line says (which
 * also goes through the Accept negotiation).
 *
 * Whatever comes out keeps the parser's promises, and is written and read once
 * more, text as text and native histograms as protobuf, with the same result.
 */
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "lib/exposition.h"
#include "lib/exposition_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	size_t n_text, n_proto;
	uint64_t text_hash, proto_hash; /* over all samples, in order */
	struct buffer text, proto;      /* the same samples, written again */
	bool again;                     /* this is the second reading */
};

static void demand(bool condition)
{
	if (!condition)
		abort();
}

static void mix(uint64_t *hash, const void *data, size_t len)
{
	const unsigned char *bytes = data;

	for (size_t i = 0; i < len; i++)
		*hash = (*hash ^ bytes[i]) * 0x100000001b3u;
}

static void mix_double(uint64_t *hash, double value)
{
	if (isnan(value))
		value = NAN;
	mix(hash, &value, sizeof(value));
}

static void check_labels(const struct exposition_sample *sample)
{
	demand(sample->n_labels <= METRIC_LABELS_MAX);
	for (size_t i = 0; i < sample->n_labels; i++) {
		const struct label *label = &sample->labels[i];

		demand(metric_name_valid(label->name) && strchr(label->name, ':') == NULL);
		demand(i == 0 || strcmp(label[-1].name, label->name) < 0);
		demand(label->value[0] != '\0');
		demand(metric_utf8_prefix(label->value, strlen(label->value)) == strlen(label->value));
	}
}

static void check_hist(const struct hist *hist)
{
	uint64_t count = hist->zero_count;

	demand(hist->schema >= HIST_SCHEMA_MIN && hist->schema <= HIST_SCHEMA_MAX && hist->n <= HIST_WINDOW_MAX);
	demand(hist->zero_threshold >= 0 && isfinite(hist->zero_threshold));
	for (uint32_t i = 0; i < hist->n; i++)
		count = count + hist->buckets[i] < count ? UINT64_MAX : count + hist->buckets[i];
	demand(count == hist->count);
}

static void write_again(struct seen *seen, const struct exposition_sample *sample)
{
	struct metric_family family = {
		.name = sample->name, .help = "\\\n\"", .type = sample->hist != NULL ? METRIC_HISTOGRAM : METRIC_GAUGE,
	};
	struct exposition e;

	exposition_begin(&e, sample->hist != NULL ? &seen->proto : &seen->text,
			 sample->hist != NULL ? EXPOSITION_PROTOBUF : EXPOSITION_TEXT);
	exposition_family(&e, &family);
	if (sample->hist != NULL)
		exposition_histogram(&e, sample->labels, sample->n_labels, sample->hist);
	else
		exposition_value(&e, sample->labels, sample->n_labels, sample->value);
	demand(exposition_end(&e) == 0);
}

static int on_sample(const struct exposition_sample *sample, void *userdata)
{
	struct seen *seen = userdata;
	uint64_t *hash = sample->hist != NULL ? &seen->proto_hash : &seen->text_hash;

	demand(metric_name_valid(sample->name) && metric_name_valid(sample->family));
	demand(sample->type <= METRIC_STATESET);
	check_labels(sample);
	mix(hash, sample->name, strlen(sample->name));
	for (size_t i = 0; i < sample->n_labels; i++) {
		mix(hash, sample->labels[i].name, strlen(sample->labels[i].name) + 1);
		mix(hash, sample->labels[i].value, strlen(sample->labels[i].value) + 1);
	}
	if (sample->hist != NULL) {
		check_hist(sample->hist);
		seen->n_proto++;
		mix(hash, &sample->hist->schema, sizeof(sample->hist->schema));
		mix(hash, &sample->hist->zero_count, sizeof(sample->hist->zero_count));
		mix(hash, &sample->hist->count, sizeof(sample->hist->count));
		mix_double(hash, sample->hist->zero_threshold);
		mix_double(hash, sample->hist->sum);
		for (uint32_t i = 0; i < sample->hist->n; i++) {
			int64_t index = (int64_t)sample->hist->first + i;

			if (sample->hist->buckets[i] == 0)
				continue;
			mix(hash, &index, sizeof(index));
			mix(hash, &sample->hist->buckets[i], sizeof(uint64_t));
		}
	} else {
		seen->n_text++;
		mix_double(hash, sample->value);
	}
	if (!seen->again)
		write_again(seen, sample);
	return 0;
}

static void check_again(struct seen *first)
{
	struct seen second = { .again = true };
	struct error error = { "" };

	demand(exposition_parse(NULL, first->text.data, first->text.len, on_sample, &second, &error) == 0);
	demand(exposition_parse(exposition_content_type(EXPOSITION_PROTOBUF), first->proto.data, first->proto.len,
				on_sample, &second, &error) == 0);
	demand(second.n_text == first->n_text && second.n_proto == first->n_proto);
	demand(second.text_hash == first->text_hash && second.proto_hash == first->proto_hash);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data + 1;
	char type[256] = "";
	struct seen seen = { 0 };
	struct error error = { "" };
	size_t len = size - 1;
	int r;

	if (size == 0)
		return 0;
	if (data[0] % 4 == 3) {
		const char *feed = memchr(text, '\n', len);
		size_t n = feed == NULL ? len : (size_t)(feed - text);

		if (n >= sizeof(type))
			return 0;
		memcpy(type, text, n);
		demand(exposition_negotiate(type) < EXPOSITION_N_FORMATS);
		text += feed == NULL ? n : n + 1;
		len -= feed == NULL ? n : n + 1;
	} else {
		strcpy(type, exposition_content_type((enum exposition_format)(data[0] % 4)));
	}
	r = exposition_parse(type, text, len, on_sample, &seen, &error);
	demand(r == 0 || r == -EBADMSG || r == -EPROTO);
	demand((r == 0) == (error.text[0] == '\0'));
	check_again(&seen);
	buffer_done(&seen.text);
	buffer_done(&seen.proto);
	return 0;
}
