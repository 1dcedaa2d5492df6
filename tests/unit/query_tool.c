/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests that compare our answers with another program's: loads an OpenMetrics
 * file with timestamps into a new database, then answers queries.
 *
 *   query_tool METRICS DATABASE < QUERIES
 *
 * A query is a line "start_ms end_ms step_ms expression"; its answer is a line of
 * JSON, {"series": [{"labels": {..}, "values": [[t_ms, "value"], ..]}, ..]} or
 * {"error": ".."}. Values are texts, so that NaN, infinities and every bit survive.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/buffer.h"
#include "lib/exposition_parse.h"
#include "lib/json.h"
#include "server/query.h"

struct load { struct store *store; struct error *error; };

static int on_sample(const struct exposition_sample *sample, void *userdata)
{
	struct load *load = userdata;

	return store_append(load->store,
			    &(struct store_sample){.name = sample->name,
						   .type = sample->type,
						   .help_family = sample->family,
						   .labels = sample->labels,
						   .n_labels = sample->n_labels,
						   .t_ms = sample->timestamp_ms,
						   .hist = sample->hist,
						   .value = sample->value},
			    load->error);
}

static int read_file(const char *path, struct buffer *to)
{
	FILE *file = fopen(path, "rb");
	char *room;
	size_t n;

	if (!file)
		return -errno;
	while ((room = buffer_reserve(to, 65536)) && (n = fread(room, 1, 65536, file)) > 0)
		to->len += n;
	fclose(file);
	return buffer_ok(to) ? 0 : -ENOMEM;
}

static int load_file(struct store *store, const char *path, struct error *error)
{
	struct buffer text = BUFFER_INIT;
	struct load load = { store, error };
	int r = read_file(path, &text);

	if (r < 0)
		error_set_errno(error, r, "cannot read %s", path);
	if (r == 0)
		r = store_begin(store, error);
	if (r == 0)
		r = exposition_parse("application/openmetrics-text; version=1.0.0", text.data, text.len, on_sample,
				     &load, error);
	if (r == 0)
		r = store_commit(store, error);
	buffer_done(&text);
	return r;
}

static json_t *series_json(const struct query_series *series)
{
	json_t *labels = json_object(), *values = json_array();
	char text[40];

	for (size_t i = 0; i < series->n_labels; i++)
		json_object_set_new(labels, series->labels[i].name, json_string(series->labels[i].value));
	for (size_t i = 0; i < series->n; i++) {
		snprintf(text, sizeof(text), "%.17g", series->values[i]);
		json_array_append_new(values, json_pack("[Is]", (json_int_t)series->t_ms[i], text));
	}
	return json_pack("{soso}", "labels", labels, "values", values);
}

static json_t *answer(struct store *store, const char *line)
{
	struct query *query = NULL;
	struct query_result result = { 0 };
	struct error error = { "bad line" };
	int64_t start, end, step;
	json_t *all;
	int skip, r = -EINVAL;

	if (sscanf(line, "%" SCNd64 " %" SCNd64 " %" SCNd64 " %n", &start, &end, &step, &skip) == 3)
		r = query_parse(line + skip, &query, &error);
	if (r == 0)
		r = query_eval(query, store, start, end, step, NULL, &result, &error);
	query_free(query);
	if (r < 0)
		return json_pack("{ss}", "error", error.text);
	all = json_array();
	for (size_t i = 0; i < result.n; i++)
		json_array_append_new(all, series_json(&result.series[i]));
	query_result_done(&result);
	return json_pack("{so}", "series", all);
}

int main(int argc, char **argv)
{
	struct store *store = NULL;
	struct error error = { "" };
	char *line = NULL;
	size_t cap = 0;
	int r;

	if (argc != 3) {
		fprintf(stderr, "usage: query_tool METRICS DATABASE < QUERIES\n");
		return 2;
	}
	r = store_open(argv[2], &store, &error);
	if (r == 0)
		r = load_file(store, argv[1], &error);
	if (r < 0) {
		fprintf(stderr, "query_tool: %s\n", error.text);
		store_close(store);
		return 1;
	}
	while (getline(&line, &cap, stdin) > 0) {
		json_t *value = answer(store, line);
		char *text = json_dumps(value, JSON_COMPACT);

		puts(text ? text : "{\"error\":\"out of memory\"}");
		free(text);
		json_decref(value);
	}
	free(line);
	store_close(store);
	return 0;
}
