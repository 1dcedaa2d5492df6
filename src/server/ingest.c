/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See ingest.h. The series are in a chained hash table keyed by the name and
 * labels as the target wrote them. The hash has a secret (lib/siphash.h): a
 * target chooses the names, and could choose them to collide.
 */
#include "server/ingest.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/buffer.h"
#include "lib/siphash.h"

#define TABLE_FIRST 256 /* chains; a power of two */

struct series {
	struct series *next;      /* in its chain, or in the list of the ended */
	uint64_t hash;
	uint64_t seen;            /* number of the last scrape that had it */
	bool stored;              /* a value of it was given to the store */
	const char *name, *family;
	enum metric_type type;
	struct hist *hist;        /* the pending value of a histogram; memory is kept from scrape to scrape */
	size_t n_labels, key_len;
	const char *key;
	struct label labels[];    /* sorted; every string follows in the same allocation */
};

struct pending { struct series *series; double value; bool is_hist; };

enum { REPORT_UP, REPORT_DURATION, REPORT_SAMPLES, N_REPORTS };

struct ingest {
	char *instance, *job;
	struct siphash_key hash_key;
	struct series **chains;
	size_t n_chains, n_series;
	struct series *reports[N_REPORTS];
	struct series *ended;     /* out of the table, but a stale marker still names them */
	uint64_t scrape;          /* number of the current one */
	int64_t t_ms;
	struct pending *pending;
	size_t n_pending, cap_pending;
	size_t n_scraped, n_seen;
	size_t new_left;          /* series this target may still add to the store with this scrape */
	size_t hist_bytes;        /* of the buckets of all series */
	struct ingest_dropped dropped;
	struct buffer key;        /* scratch */
};

double ingest_stale_marker(void)
{
	const uint64_t bits = STORE_STALE_BITS;
	double v;

	memcpy(&v, &bits, sizeof(v));
	return v;
}

static size_t hist_bytes(const struct hist *hist)
{
	return hist->cap * sizeof(hist->buckets[0]);
}

static void series_free(struct ingest *in, struct series *s)
{
	if (s->hist) {
		in->hist_bytes -= hist_bytes(s->hist);
		hist_done(s->hist);
		free(s->hist);
	}
	free(s);
}

static int grow_table(struct ingest *in)
{
	size_t n = in->n_chains ? in->n_chains * 2 : TABLE_FIRST;
	struct series **chains = calloc(n, sizeof(*chains));

	if (!chains)
		return -ENOMEM;
	for (size_t i = 0; i < in->n_chains; i++) {
		for (struct series *s = in->chains[i], *next; s; s = next) {
			next = s->next;
			s->next = chains[s->hash & (n - 1)];
			chains[s->hash & (n - 1)] = s;
		}
	}
	free(in->chains);
	in->chains = chains;
	in->n_chains = n;
	return 0;
}

static void make_key(struct ingest *in, const char *name, const struct label *labels, size_t n_labels)
{
	buffer_clear(&in->key);
	buffer_append(&in->key, name, strlen(name) + 1);
	for (size_t i = 0; i < n_labels; i++) {
		buffer_append(&in->key, labels[i].name, strlen(labels[i].name) + 1);
		buffer_append(&in->key, labels[i].value, strlen(labels[i].value) + 1);
	}
}

static bool has_label(const struct label *labels, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(labels[i].name, name) == 0)
			return true;
	return false;
}

/* The name a target's own label of ours gets: exported_X, again while that one is taken. */
static int exported_name(const struct label *labels, size_t n, const char *name, struct buffer *out)
{
	buffer_clear(out);
	buffer_puts(out, name);
	do {
		struct buffer longer = BUFFER_INIT;

		buffer_printf(&longer, "exported_%s", out->data);
		if (!buffer_ok(&longer)) {
			buffer_done(&longer);
			return -ENOMEM;
		}
		buffer_done(out);
		*out = longer;
	} while (has_label(labels, n, out->data));
	return 0;
}

static int compare_label(const void *a, const void *b)
{
	return strcmp(((const struct label *)a)->name, ((const struct label *)b)->name);
}

static const char *keep_string(char **at, const char *s)
{
	char *p = *at;
	size_t len = strlen(s) + 1;

	memcpy(p, s, len);
	*at += len;
	return p;
}

static struct series *series_new(const char *name, const char *family, enum metric_type type,
				 const struct label *labels, size_t n_labels, const struct buffer *key)
{
	size_t size = sizeof(struct series) + n_labels * sizeof(struct label) + strlen(name) + 1 + strlen(family) + 1 +
		      key->len;
	struct series *s;
	char *at;

	for (size_t i = 0; i < n_labels; i++)
		size += strlen(labels[i].name) + 1 + strlen(labels[i].value) + 1;
	s = calloc(1, size);
	if (!s)
		return NULL;
	at = (char *)&s->labels[n_labels];
	s->name = keep_string(&at, name);
	s->family = keep_string(&at, family);
	s->type = type;
	for (size_t i = 0; i < n_labels; i++) {
		s->labels[i].name = keep_string(&at, labels[i].name);
		s->labels[i].value = keep_string(&at, labels[i].value);
	}
	s->n_labels = n_labels;
	memcpy(at, key->data, key->len);
	s->key = at;
	s->key_len = key->len;
	return s;
}

/* A new series in the table; in->key is its key, hash that key's. */
static int add_series(struct ingest *in, const struct exposition_sample *sample, uint64_t hash,
		      struct series **ret_series)
{
	struct label labels[METRIC_LABELS_MAX + 2];
	struct buffer renamed[2] = { BUFFER_INIT, BUFFER_INIT };
	const char *own[2][2] = { { "instance", in->instance }, { "job", in->job } };
	size_t n = sample->n_labels < METRIC_LABELS_MAX ? sample->n_labels : METRIC_LABELS_MAX;
	struct series *s = NULL;
	int r = 0;

	if (n > 0)
		memcpy(labels, sample->labels, n * sizeof(labels[0]));
	for (size_t o = 0; r == 0 && o < 2; o++)
		for (size_t i = 0; r == 0 && i < sample->n_labels && i < n; i++)
			if (strcmp(labels[i].name, own[o][0]) == 0) {
				r = exported_name(labels, n, own[o][0], &renamed[o]);
				labels[i].name = renamed[o].data;
			}
	if (r == 0 && in->n_series >= in->n_chains)
		r = grow_table(in);
	if (r == 0) {
		labels[n++] = (struct label){ own[0][0], own[0][1] };
		labels[n++] = (struct label){ own[1][0], own[1][1] };
		qsort(labels, n, sizeof(labels[0]), compare_label);
		s = series_new(sample->name, sample->family, sample->type, labels, n, &in->key);
		r = s ? 0 : -ENOMEM;
	}
	buffer_done(&renamed[0]);
	buffer_done(&renamed[1]);
	if (r < 0)
		return r;
	s->hash = hash;
	s->next = in->chains[hash & (in->n_chains - 1)];
	in->chains[hash & (in->n_chains - 1)] = s;
	in->n_series++;
	*ret_series = s;
	return 0;
}

static bool too_long(const struct exposition_sample *sample)
{
	bool is = strlen(sample->name) > INGEST_TEXT_MAX;

	for (size_t i = 0; i < sample->n_labels; i++)
		is |= strlen(sample->labels[i].name) > INGEST_TEXT_MAX ||
		      strlen(sample->labels[i].value) > INGEST_TEXT_MAX;
	return is;
}

/* *ret_series NULL: a sample that is left out. */
static int find_series(struct ingest *in, const struct exposition_sample *sample, struct series **ret_series)
{
	struct siphash sip;
	uint64_t hash;

	make_key(in, sample->name, sample->labels, sample->n_labels);
	if (!buffer_ok(&in->key))
		return -ENOMEM;
	siphash_begin(&sip, &in->hash_key);
	siphash_add(&sip, in->key.data, in->key.len);
	hash = siphash_end(&sip);
	for (struct series *s = in->n_chains ? in->chains[hash & (in->n_chains - 1)] : NULL; s; s = s->next) {
		if (s->hash == hash && s->key_len == in->key.len && memcmp(s->key, in->key.data, s->key_len) == 0) {
			s->type = sample->type;
			*ret_series = s;
			return 0;
		}
	}
	if (too_long(sample)) {
		in->dropped.long_text++;
		*ret_series = NULL;
		return 0;
	}
	return add_series(in, sample, hash, ret_series);
}

static int add_pending(struct ingest *in, struct series *s, double value, bool is_hist)
{
	if (in->n_pending == in->cap_pending) {
		size_t cap = in->cap_pending ? in->cap_pending * 2 : 256;
		struct pending *p = realloc(in->pending, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		in->pending = p;
		in->cap_pending = cap;
	}
	in->pending[in->n_pending++] = (struct pending){ s, value, is_hist };
	return 0;
}

static int keep_hist(struct ingest *in, struct series *s, const struct hist *hist)
{
	size_t before;
	int r;

	if (!s->hist) {
		s->hist = malloc(sizeof(*s->hist));
		if (!s->hist)
			return -ENOMEM;
		hist_init(s->hist, hist->schema, hist->zero_threshold);
	}
	before = hist_bytes(s->hist);
	r = hist_copy(s->hist, hist);
	in->hist_bytes = in->hist_bytes - before + hist_bytes(s->hist);
	if (r == 0 && in->hist_bytes > INGEST_HIST_BYTES)
		return -EFBIG;
	return r;
}

int ingest_new(const char *instance, const char *job, struct ingest **ret_ingest)
{
	static const char *const names[N_REPORTS] = { "up", "scrape_duration_seconds", "scrape_samples_scraped" };
	struct ingest *in = calloc(1, sizeof(*in));
	int r = 0;

	if (!in)
		return -ENOMEM;
	buffer_init(&in->key);
	in->instance = strdup(instance);
	in->job = strdup(job);
	in->new_left = INGEST_SAMPLES_MAX;
	siphash_key_new(&in->hash_key);
	if (!in->instance || !in->job)
		r = -ENOMEM;
	for (int i = 0; r == 0 && i < N_REPORTS; i++)
		r = find_series(in,
				&(struct exposition_sample){.name = names[i], .family = names[i], .type = METRIC_GAUGE},
				&in->reports[i]);
	if (r < 0) {
		ingest_free(in);
		return r;
	}
	*ret_ingest = in;
	return 0;
}

void ingest_free(struct ingest *in)
{
	if (!in)
		return;
	ingest_clear(in);
	for (size_t i = 0; i < in->n_chains; i++)
		for (struct series *s = in->chains[i], *next; s; s = next) {
			next = s->next;
			series_free(in, s);
		}
	free(in->chains);
	free(in->pending);
	free(in->instance);
	free(in->job);
	buffer_done(&in->key);
	free(in);
}

void ingest_begin(struct ingest *in, int64_t t_ms)
{
	ingest_clear(in);
	in->scrape++;
	in->t_ms = t_ms;
	in->n_scraped = in->n_seen = 0;
	if (in->new_left < INGEST_NEW_SERIES_MAX)
		in->new_left = INGEST_NEW_SERIES_MAX;
	/* A target's own copy of these is the duplicate. */
	for (int i = 0; i < N_REPORTS; i++)
		in->reports[i]->seen = in->scrape;
}

int ingest_sample(const struct exposition_sample *sample, void *ingest)
{
	struct ingest *in = ingest;
	struct series *s;
	int r;

	if (in->n_scraped >= INGEST_SAMPLES_MAX)
		return -E2BIG;
	in->n_scraped++;
	r = find_series(in, sample, &s);
	if (r < 0 || !s)
		return r;
	if (s->seen == in->scrape) {
		in->dropped.duplicate++;
		return 0;
	}
	s->seen = in->scrape;
	in->n_seen++;
	if (sample->hist) {
		r = keep_hist(in, s, sample->hist);
		if (r < 0)
			return r;
	}
	return add_pending(in, s, sample->value, sample->hist != NULL);
}

static bool is_report(const struct ingest *in, const struct series *s)
{
	for (int i = 0; i < N_REPORTS; i++)
		if (in->reports[i] == s)
			return true;
	return false;
}

/* Takes out of the table, with a stale marker, the series not seen in this scrape (or all of them). */
static void end_series(struct ingest *in, bool all, bool reports_too)
{
	for (size_t i = 0; i < in->n_chains; i++) {
		for (struct series **at = &in->chains[i], *s; (s = *at);) {
			const bool report = is_report(in, s);

			if ((!all && s->seen == in->scrape) || (report && !reports_too)) {
				at = &s->next;
				continue;
			}
			/* Never stored: nothing to end. Without memory the series ends by the lookback instead. */
			if (report || s->stored)
				(void)add_pending(in, s, ingest_stale_marker(), false);
			*at = s->next;
			s->next = in->ended;
			in->ended = s;
			in->n_series--;
		}
	}
}

void ingest_accept(struct ingest *in)
{
	if (in->n_seen + N_REPORTS != in->n_series)
		end_series(in, false, false);
}

void ingest_reject(struct ingest *in)
{
	in->n_pending = 0;
	end_series(in, true, false);
}

void ingest_keep(struct ingest *in)
{
	in->n_pending = 0;
	in->n_scraped = in->n_series - N_REPORTS;
}

void ingest_report(struct ingest *in, bool up, double duration_s, size_t samples_scraped)
{
	(void)add_pending(in, in->reports[REPORT_UP], up, false);
	(void)add_pending(in, in->reports[REPORT_DURATION], duration_s, false);
	(void)add_pending(in, in->reports[REPORT_SAMPLES], (double)samples_scraped, false);
}

void ingest_stop(struct ingest *in, int64_t t_ms)
{
	ingest_begin(in, t_ms);
	end_series(in, true, true);
}

size_t ingest_samples_scraped(const struct ingest *in)
{
	return in->n_scraped;
}

size_t ingest_pending(const struct ingest *in)
{
	return in->n_pending;
}

const struct ingest_dropped *ingest_dropped(const struct ingest *in)
{
	return &in->dropped;
}

/* Whether the series may have its first sample stored. */
static bool admit(struct ingest *in, struct series *s, struct store *store)
{
	if (s->stored || is_report(in, s) || store_has_series(store, s->name, s->labels, s->n_labels)) {
		s->stored = true;
	} else if (in->new_left > 0) {
		in->new_left--;
		s->stored = true;
	}
	return s->stored;
}

int ingest_write(struct ingest *in, struct store *store, struct error *ret_error)
{
	for (size_t i = 0; i < in->n_pending; i++) {
		const struct pending *p = &in->pending[i];

		if (!admit(in, p->series, store)) {
			in->dropped.new_series++;
			continue;
		}
		const struct store_sample sample = {
			.name = p->series->name,
			.type = p->series->type,
			.help_family = p->series->family,
			.labels = p->series->labels,
			.n_labels = p->series->n_labels,
			.t_ms = in->t_ms,
			.hist = p->is_hist ? p->series->hist : NULL,
			.value = p->value,
		};
		int r = store_append(store, &sample, ret_error);

		if (r < 0)
			return r;
	}
	return 0;
}

void ingest_clear(struct ingest *in)
{
	in->n_pending = 0;
	for (struct series *s = in->ended, *next; s; s = next) {
		next = s->next;
		series_free(in, s);
	}
	in->ended = NULL;
}
