/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `netsonde ping --json` prints: a document per probe as soon as its fate is known, and one of all at the end. The names are
 * those of the metrics; times are seconds. Keys that mean nothing for a protocol or are not known are left out.
 */
#include <math.h>
#include <string.h>
#include "cli/ping.h"
#include "lib/json.h"

static json_t *seconds(double ns)
{
	return json_number(ns / 1e9);
}

static json_t *unix_seconds(wall_time t)
{
	return json_number((double)t.ns / 1e9);
}

static json_t *host_json(const struct ping_host *host, const struct ping_options *options, const char *type)
{
	char address[ADDRESS_TEXT_MAX];
	json_t *o = json_object();

	if (type)
		json_object_set_new(o, "type", json_string(type));
	json_object_set_new(o, "host", json_text(host->name, sizeof(host->name)));
	json_object_set_new(o, "address", json_string(address_format(&host->address, address)));
	json_object_set_new(o, "protocol", json_string(ping_protocol_name(options->protocol)));
	if (options->protocol != PROBE_ICMP)
		json_object_set_new(o, "port", json_integer(ping_port(host, options)));
	return o;
}

static const char *outcome_name(enum probe_outcome outcome)
{
	static const char *const names[] = {
		[PROBE_OK] = "answered", [PROBE_CLOSED] = "closed", [PROBE_TIMED_OUT] = "timed_out", [PROBE_UNREACHABLE] = "unreachable",
	};

	return names[outcome];
}

static void add_answer(json_t *o, const struct probe_result *result)
{
	json_object_set_new(o, "rtt_seconds", seconds((double)probe_result_rtt_ns(result)));
	json_object_set_new(o, "timestamp", json_string(ping_clock_name(result->clock)));
	if (result->has_residence)
		json_object_set_new(o, "residence_seconds", seconds((double)result->residence_ns));
	if (!result->has_one_way)
		return;
	json_object_set_new(o, "forward_seconds", seconds((double)result->forward_ns));
	json_object_set_new(o, "backward_seconds", seconds((double)result->backward_ns));
	if (result->clock_error_ns != UINT64_MAX)
		json_object_set_new(o, "clock_error_seconds", seconds((double)result->clock_error_ns));
}

int ping_json_result(const struct ping_path *path, const struct probe_result *result, const struct ping_options *options,
		     wall_time sent, struct buffer *out)
{
	json_t *o = host_json(path->host, options, "probe");
	int r;

	if (options->paths > 1)
		json_object_set_new(o, "path", json_integer(path->number));
	json_object_set_new(o, "sequence", json_integer((json_int_t)result->sequence + 1));
	json_object_set_new(o, "sent", unix_seconds(sent));
	json_object_set_new(o, "outcome", json_string(outcome_name(result->outcome)));
	if (result->outcome == PROBE_OK || result->outcome == PROBE_CLOSED) {
		add_answer(o, result);
	} else if (result->outcome == PROBE_UNREACHABLE) {
		json_object_set_new(o, "error", json_string(ping_error_name(result->error)));
		json_object_set_new(o, "reason", json_string(ping_error_words(result->error)));
	}
	r = json_write(o, out);
	buffer_putc(out, '\n');
	return r;
}

static void add_samples(json_t *o, const char *key, struct ping_samples *s)
{
	json_t *times;

	if (!s->n)
		return;
	times = json_object();
	json_object_set_new(times, "min", seconds((double)s->min_ns));
	json_object_set_new(times, "p50", seconds(ping_samples_quantile(s, 0.5)));
	json_object_set_new(times, "p90", seconds(ping_samples_quantile(s, 0.9)));
	json_object_set_new(times, "p99", seconds(ping_samples_quantile(s, 0.99)));
	json_object_set_new(times, "max", seconds((double)s->max_ns));
	json_object_set_new(times, "mean", seconds(s->mean_ns));
	json_object_set_new(times, "stddev", seconds(ping_samples_deviation(s)));
	json_object_set_new(times, "quantile_error", json_number(ping_samples_error(s)));
	json_object_set_new(o, key, times);
}

static void add_counts(json_t *o, const struct ping_stats *s)
{
	uint64_t lost = s->timed_out + s->unreachable, over = s->answered + lost;
	json_t *errors = json_object(), *clocks = json_object();

	json_object_set_new(o, "sent", json_integer((json_int_t)s->counts.sent));
	json_object_set_new(o, "received", json_integer((json_int_t)s->answered));
	json_object_set_new(o, "closed", json_integer((json_int_t)s->closed));
	json_object_set_new(o, "lost", json_integer((json_int_t)lost));
	json_object_set_new(o, "unreachable", json_integer((json_int_t)s->unreachable));
	json_object_set_new(o, "pending", json_integer((json_int_t)ping_stats_pending(s)));
	json_object_set_new(o, "loss_ratio", json_number(over ? (double)lost / (double)over : NAN));
	json_object_set_new(o, "duplicates", json_integer((json_int_t)s->counts.duplicates));
	json_object_set_new(o, "reordered", json_integer((json_int_t)s->counts.reordered));
	json_object_set_new(o, "late", json_integer((json_int_t)s->counts.late));
	json_object_set_new(o, "rejected", json_integer((json_int_t)s->counts.rejected));
	for (size_t i = 0; i < PING_ERRORS_MAX; i++) {
		const char *name = ping_error_name(s->errors[i].error);
		json_int_t before = json_integer_value(json_object_get(errors, name)); /* two numbers can have one name */

		if (s->errors[i].n)
			json_object_set_new(errors, name, json_integer(before + (json_int_t)s->errors[i].n));
	}
	for (size_t i = 0; i < PROBE_CLOCK_COUNT; i++)
		if (s->clocks[i])
			json_object_set_new(clocks, ping_clock_name((enum probe_clock)i), json_integer((json_int_t)s->clocks[i]));
	json_object_set_new(o, "errors", errors);
	json_object_set_new(o, "timestamps", clocks);
}

static void add_stats(json_t *o, struct ping_stats *s)
{
	add_counts(o, s);
	add_samples(o, "rtt_seconds", &s->rtt);
	if (s->jitters)
		json_object_set_new(o, "jitter_seconds", seconds(s->jitter_ns));
	add_samples(o, "forward_seconds", &s->forward);
	add_samples(o, "backward_seconds", &s->backward);
	add_samples(o, "residence_seconds", &s->residence);
	if (s->has_clock_error && s->clock_error_ns != UINT64_MAX)
		json_object_set_new(o, "clock_error_seconds", seconds((double)s->clock_error_ns));
	if (s->one_way_unknown)
		json_object_set_new(o, "one_way_unknown", json_integer((json_int_t)s->one_way_unknown));
}

static json_t *summary_of(struct ping_host *host, size_t paths, const struct ping_options *options)
{
	const struct probe_device *device = host->paths[0].path ? probe_path_device(host->paths[0].path) : NULL;
	json_t *o = host_json(host, options, NULL), *list;

	if (device)
		json_object_set_new(o, "device", json_text(device->name, sizeof(device->name)));
	add_stats(o, &host->stats);
	if (paths < 2)
		return o;
	list = json_array();
	for (size_t i = 0; i < paths; i++) {
		json_t *path = json_object();

		json_object_set_new(path, "path", json_integer(host->paths[i].number));
		add_stats(path, &host->paths[i].stats);
		json_array_append_new(list, path);
	}
	json_object_set_new(o, "paths", list);
	return o;
}

int ping_json_summary(const struct ping_hosts *hosts, const struct ping_options *options, wall_time started, uint64_t duration_ns,
		      struct buffer *out)
{
	json_t *o = json_object(), *list = json_array();
	int r;

	json_object_set_new(o, "type", json_string("summary"));
	json_object_set_new(o, "started", unix_seconds(started));
	json_object_set_new(o, "duration_seconds", seconds((double)duration_ns));
	for (size_t i = 0; i < hosts->n; i++)
		json_array_append_new(list, summary_of(hosts->items + i, hosts->paths_each, options));
	json_object_set_new(o, "hosts", list);
	r = json_write(o, out);
	buffer_putc(out, '\n');
	return r;
}
