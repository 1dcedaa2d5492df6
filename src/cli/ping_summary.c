/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What came of it, when `netsonde ping` ends: of one host its loss in ping's words and a table of what was measured; of many a
 * table with a line each, and who did not answer. Then what the times are worth: who took them, and where.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "cli/ping.h"
#include "cli/ping_text.h"
#include "cli/top_text.h"

#define CELL 9            /* columns of a time, with the blank in front */
#define NAME_LEAST 12
#define NAMED_MAX 8       /* hosts of which the names are said below a table */
#define DEVICES_MAX 4

const char *ping_percent(uint64_t part, uint64_t all, char buf[static PING_NUMBER_MAX])
{
	double percent = all ? 100 * (double)part / (double)all : 0;

	if (part && percent < 0.001)
		percent = 0.001;
	if (part < all && percent > 99.9)
		percent = 99.9;
	snprintf(buf, PING_NUMBER_MAX, "%.3g%%", percent);
	return buf;
}

static uint64_t lost(const struct ping_stats *s)
{
	return s->timed_out + s->unreachable;
}

static uint64_t over(const struct ping_stats *s)
{
	return s->answered + lost(s);
}

/* "a, b, c": what is not zero. */
struct list {
	struct buffer *out;
	const char *before; /* of the first */
	bool any;
};

__attribute__((format(printf, 2, 3))) static void list_add(struct list *list, const char *format, ...)
{
	char text[256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	buffer_printf(list->out, "%s%s", list->any ? ", " : list->before, text);
	list->any = true;
}

static void list_errors(struct list *list, const struct ping_stats *s)
{
	for (size_t i = 0; i < PING_ERRORS_MAX; i++)
		if (s->errors[i].n)
			list_add(list, "%" PRIu64 " unreachable (%s)", s->errors[i].n, ping_error_words(s->errors[i].error));
}

/* What is worth a line because it should not be there. */
static void print_oddities(const struct ping_stats *s, const char *before, struct buffer *out)
{
	const struct probe_counts *c = &s->counts;
	struct list list = { out, before, false };

	list_errors(&list, s);
	if (s->closed)
		list_add(&list, "%" PRIu64 " answered by a reset: the port is closed", s->closed);
	if (c->duplicates)
		list_add(&list, "%" PRIu64 " duplicate%s", c->duplicates, c->duplicates == 1 ? "" : "s");
	if (c->reordered)
		list_add(&list, "%" PRIu64 " out of order", c->reordered);
	if (c->late)
		list_add(&list, "%" PRIu64 " late", c->late);
	if (c->rejected)
		list_add(&list, "%" PRIu64 " rejected as forged or damaged", c->rejected);
	if (s->residence_unknown)
		list_add(&list, "%" PRIu64 " whose reflector's times cannot be", s->residence_unknown);
	if (s->unsent)
		list_add(&list, "%" PRIu64 " not sent: too many were on their way", s->unsent);
	if (list.any)
		buffer_putc(out, '\n');
}

/* Enough digits for the smallest of what matters, the same for a whole table. */
static int decimals_of(double ns)
{
	double ms = fabs(ns) / 1e6;

	return !isfinite(ms) ? 3 : ms < 1 ? 4 : ms < 100 ? 3 : 2;
}

static void print_cell(double ns, int decimals, struct buffer *out)
{
	if (isfinite(ns))
		buffer_printf(out, " %*.*f", CELL - 1, decimals, ns / 1e6);
	else
		buffer_printf(out, " %*s", CELL - 1, "-");
}

static void print_row(const char *label, struct ping_samples *samples, int decimals, struct buffer *out)
{
	static const double quantiles[] = { 0.5, 0.9, 0.99 };

	if (!samples->n)
		return;
	buffer_printf(out, "%-12s", label);
	print_cell((double)samples->min_ns, decimals, out);
	for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++)
		print_cell(ping_samples_quantile(samples, quantiles[i]), decimals, out);
	print_cell((double)samples->max_ns, decimals, out);
	print_cell(samples->mean_ns, decimals, out);
	print_cell(ping_samples_deviation(samples), decimals, out);
	buffer_putc(out, '\n');
}

static void print_times(struct ping_stats *s, struct buffer *out)
{
	static const char *const heads[] = { "min", "p50", "p90", "p99", "max", "mean", "sd" };
	int decimals = decimals_of(ping_samples_quantile(&s->rtt, 0.5));

	if (!s->rtt.n)
		return;
	buffer_printf(out, "%-12s", "milliseconds");
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		buffer_printf(out, " %*s", CELL - 1, heads[i]);
	buffer_putc(out, '\n');
	print_row("round trip", &s->rtt, decimals, out);
	print_row("forward", &s->forward, decimals, out);
	print_row("backward", &s->backward, decimals, out);
	print_row("reflector", &s->residence, decimals, out);
}

/* "tc on eth0", or all there were with their shares. */
static void print_clocks(const struct ping_hosts *hosts, const struct ping_stats *s, const char *devices, struct buffer *out)
{
	const struct ping_path *first = hosts->paths;
	const struct probe_device *device = first->path ? probe_path_device(first->path) : NULL;
	size_t n = 0, seen = 0;

	for (size_t i = 0; i < PROBE_CLOCK_COUNT; i++)
		n += s->clocks[i] > 0;
	for (size_t i = 0; i < PROBE_CLOCK_COUNT; i++) {
		if (!s->clocks[i])
			continue;
		buffer_printf(out, "%s%s%s%s", seen ? seen + 1 == n ? " and " : ", " : "", ping_clock_words((enum probe_clock)i, device),
			      devices[0] ? " on " : "", devices);
		if (n > 1)
			buffer_printf(out, " (%" PRIu64 ")", s->clocks[i]);
		seen++;
	}
}

/* Why there are no better ones, of the first host that has none better. */
static void print_reason(const struct ping_hosts *hosts, const struct ping_stats *s, struct buffer *out)
{
	uint64_t n = s->clocks[PROBE_CLOCK_KERNEL] + s->clocks[PROBE_CLOCK_USER];

	for (size_t i = 0; i < hosts->n * hosts->paths_each; i++) {
		const struct ping_path *path = hosts->paths + i;
		const struct probe_device *device = path->path ? probe_path_device(path->path) : NULL;

		if (!device || (!path->stats.clocks[PROBE_CLOCK_KERNEL] && !path->stats.clocks[PROBE_CLOCK_USER]))
			continue;
		if (!device->send || device->receive >= PROBE_CLOCK_KERNEL)
			buffer_printf(out, "no better times on %s: %s\n", device->name, device->reason);
		else
			buffer_printf(out, "%" PRIu64 " answer%s did not pass the hook on %s: in pieces, or by another interface\n", n,
				      n == 1 ? "" : "s", device->name);
		return;
	}
}

static void print_worth(const struct ping_hosts *hosts, const struct ping_stats *s, const char *devices, const struct ping_look *look,
			struct buffer *out)
{
	char a[PING_NUMBER_MAX];

	if (!s->answered)
		return;
	if (s->jitters && hosts->n == 1)
		buffer_printf(out, "jitter %s ms, ", ping_ms(s->jitter_ns, a));
	buffer_puts(out, "timed by ");
	print_clocks(hosts, s, devices, out);
	buffer_putc(out, '\n');
	if (s->clocks[PROBE_CLOCK_USER])
		buffer_puts(out, "this host's own delays are in these times: trust the small ones\n");
	if (!look->explained)
		print_reason(hosts, s, out);
	if (s->has_clock_error && s->clock_error_ns != UINT64_MAX)
		buffer_printf(out, "one-way delays within %s ms, the error of both clocks\n",
			      ping_ms((double)s->clock_error_ns, a));
	if (s->one_way_unknown)
		buffer_printf(out, "no one-way delay of %" PRIu64 " answers: a clock of either end is not synchronised\n", s->one_way_unknown);
	if (s->rtt.spilled)
		buffer_printf(out, "quantiles are out of histograms, and off by at most %.2g%%\n", 100 * ping_samples_error(&s->rtt));
	if (s->rtt.unkept)
		buffer_printf(out, "quantiles are without %" PRIu64 " answers: out of memory\n", s->rtt.unkept);
}

/* Interfaces by which the hosts are reached, once each. */
static void write_devices(const struct ping_hosts *hosts, char *to, size_t size)
{
	const struct probe_device *seen[DEVICES_MAX];
	size_t n = 0, len = 0, i;

	to[0] = '\0';
	for (size_t k = 0; k < hosts->n * hosts->paths_each; k++) {
		const struct ping_path *path = hosts->paths + k;
		const struct probe_device *device = path->path && path->stats.answered ? probe_path_device(path->path) : NULL;

		for (i = 0; i < n && seen[i] != device; i++)
			;
		if (!device || i < n)
			continue;
		if (n == DEVICES_MAX) {
			snprintf(to + len, size - len, " and others");
			return;
		}
		seen[n] = device;
		len += (size_t)snprintf(to + len, size - len, "%s%s", n++ ? ", " : "", device->name);
	}
}

/* A table: a line for each host, or for each of a host's paths. */
enum column { SENT, RECEIVED, LOSS, MIN, P50, P90, P99, MAX, MEAN, JITTER, COLUMNS };

static const struct { const char *head; size_t width; } columns[COLUMNS] = {
	[SENT] = { "sent", 7 }, [RECEIVED] = { "recv", 7 }, [LOSS] = { "loss", 7 }, [MIN] = { "min", CELL }, [P50] = { "p50", CELL },
	[P90] = { "p90", CELL }, [P99] = { "p99", CELL }, [MAX] = { "max", CELL }, [MEAN] = { "mean", CELL }, [JITTER] = { "jitter", CELL },
};

struct table {
	size_t name_width;
	bool shown[COLUMNS], colors;
	int decimals;
};

/* The columns that fit, the most useful first; the name keeps what it needs. */
static void table_fit(struct table *table, size_t name_width, const struct ping_look *look)
{
	static const enum column order[] = { LOSS, P50, MAX, SENT, RECEIVED, P99, MIN, JITTER, P90, MEAN };
	size_t left;

	table->colors = look->colors;
	table->name_width = name_width < NAME_LEAST ? NAME_LEAST : name_width;
	left = look->width > table->name_width ? look->width - table->name_width : 0;
	for (size_t i = 0; i < COLUMNS; i++) {
		if (look->width && columns[order[i]].width > left)
			break;
		table->shown[order[i]] = true;
		left -= columns[order[i]].width;
	}
}

static void table_head(const struct table *table, const char *first, struct buffer *out)
{
	buffer_printf(out, "%-*s", (int)table->name_width, first);
	for (size_t i = 0; i < COLUMNS; i++)
		if (table->shown[i])
			buffer_printf(out, "%*s", (int)columns[i].width, columns[i].head);
	buffer_putc(out, '\n');
}

static double time_of(struct ping_stats *s, enum column column)
{
	struct ping_samples *rtt = &s->rtt;

	if (!rtt->n)
		return NAN;
	switch (column) {
	case MIN:
		return (double)rtt->min_ns;
	case MAX:
		return (double)rtt->max_ns;
	case MEAN:
		return rtt->mean_ns;
	case JITTER:
		return s->jitters ? s->jitter_ns : NAN;
	default:
		return ping_samples_quantile(rtt, column == P50 ? 0.5 : column == P90 ? 0.9 : 0.99);
	}
}

static void table_row(const struct table *table, const char *name, struct ping_stats *s, struct buffer *out)
{
	char cell[TOP_TEXT_MAX], text[PING_NUMBER_MAX];

	buffer_puts(out, top_fit(name, table->name_width, TOP_MIDDLE, cell, sizeof(cell)));
	for (size_t i = 0; i < COLUMNS; i++) {
		if (!table->shown[i])
			continue;
		if (i == SENT || i == RECEIVED) {
			buffer_printf(out, "%*" PRIu64, (int)columns[i].width, i == SENT ? s->counts.sent : s->answered);
		} else if (i == LOSS) {
			bool marked = table->colors && lost(s);

			buffer_puts(out, !marked ? "" : s->answered ? PING_YELLOW : PING_RED);
			buffer_printf(out, "%*s%s", (int)columns[i].width, over(s) ? ping_percent(lost(s), over(s), text) : "-",
				      marked ? PING_PLAIN : "");
		} else {
			print_cell(time_of(s, (enum column)i), table->decimals, out);
		}
	}
	buffer_putc(out, '\n');
}

static void print_paths(const struct ping_host *host, size_t n, const struct ping_look *look, struct buffer *out)
{
	struct table table = { .decimals = 3 };
	char name[16];

	table_fit(&table, NAME_LEAST, look);
	for (size_t i = 0; i < n; i++)
		if (host->paths[i].stats.rtt.n && decimals_of((double)host->paths[i].stats.rtt.min_ns) > table.decimals)
			table.decimals = 4;
	table_head(&table, "milliseconds", out);
	for (size_t i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "path %u", host->paths[i].number);
		table_row(&table, name, &host->paths[i].stats, out);
	}
}

static void print_packets(const struct ping_stats *s, uint64_t duration_ns, struct buffer *out)
{
	uint64_t pending = ping_stats_pending(s);
	char text[PING_NUMBER_MAX];

	buffer_printf(out, "%" PRIu64 " packets transmitted, %" PRIu64 " received, %s packet loss, ", s->counts.sent, s->answered,
		      ping_percent(lost(s), over(s), text));
	if (pending)
		buffer_printf(out, "%" PRIu64 " on the way, ", pending);
	buffer_printf(out, "time %llums\n", (unsigned long long)(duration_ns / NS_PER_MS));
}

static void print_one(const struct ping_hosts *hosts, const struct ping_look *look, uint64_t duration_ns, struct buffer *out)
{
	struct ping_host *host = hosts->items;
	char devices[128];

	buffer_printf(out, "\n--- %s ---\n", host->name);
	print_packets(&host->stats, duration_ns, out);
	print_oddities(&host->stats, "", out);
	print_times(&host->stats, out);
	if (hosts->paths_each > 1)
		print_paths(host, hosts->paths_each, look, out);
	write_devices(hosts, devices, sizeof(devices));
	print_worth(hosts, &host->stats, devices, look, out);
	if (look->histogram && host->stats.answered >= look->histogram)
		ping_histogram(&host->stats, look, out);
}

/* Who did not answer at all: what one looks for in a long table. */
static void print_silent(const struct ping_hosts *hosts, const struct ping_look *look, struct buffer *out)
{
	size_t silent = 0, lossy = 0, named = 0;

	for (size_t i = 0; i < hosts->n; i++) {
		silent += !hosts->items[i].stats.answered;
		lossy += hosts->items[i].stats.answered && lost(&hosts->items[i].stats);
	}
	buffer_printf(out, "\n%zu hosts: %zu answered", hosts->n, hosts->n - silent);
	if (lossy)
		buffer_printf(out, " (%zu with loss)", lossy);
	if (silent)
		buffer_printf(out, ", %s%zu did not%s: ", look->colors ? PING_RED : "", silent, look->colors ? PING_PLAIN : "");
	for (size_t i = 0; i < hosts->n && silent; i++) {
		if (hosts->items[i].stats.answered)
			continue;
		if (named == NAMED_MAX) {
			buffer_printf(out, " and %zu more", silent - named);
			break;
		}
		buffer_printf(out, "%s%s", named++ ? ", " : "", hosts->items[i].name);
	}
	buffer_putc(out, '\n');
}

static void print_many(const struct ping_hosts *hosts, const struct ping_look *look, uint64_t duration_ns, struct buffer *out)
{
	struct table table = { .decimals = 4 };
	struct ping_stats all = { 0 };
	char devices[128];

	/* Micro-seconds are enough as soon as one host is far. */
	for (size_t i = 0; i < hosts->n; i++)
		if (hosts->items[i].stats.rtt.n && decimals_of(ping_samples_quantile(&hosts->items[i].stats.rtt, 0.5)) < table.decimals)
			table.decimals = 3;
	table_fit(&table, look->name_width, look);
	buffer_putc(out, '\n');
	table_head(&table, "host", out);
	for (size_t i = 0; i < hosts->n; i++) {
		struct ping_host *host = hosts->items + i;

		table_row(&table, host->name, &host->stats, out);
		print_oddities(&host->stats, "  ", out);
		if (hosts->paths_each > 1)
			for (size_t j = 0; j < hosts->paths_each; j++) {
				char name[16];

				snprintf(name, sizeof(name), "  path %u", host->paths[j].number);
				table_row(&table, name, &host->paths[j].stats, out);
			}
		ping_stats_merge(&all, &host->stats);
	}
	print_silent(hosts, look, out);
	print_packets(&all, duration_ns, out);
	write_devices(hosts, devices, sizeof(devices));
	if (all.answered)
		buffer_puts(out, "round trips in milliseconds, ");
	print_worth(hosts, &all, devices, look, out);
	for (size_t i = 0; i < hosts->n && look->histogram; i++) {
		if (hosts->items[i].stats.answered < look->histogram)
			continue;
		buffer_printf(out, "\n%s\n", hosts->items[i].name);
		ping_histogram(&hosts->items[i].stats, look, out);
	}
	ping_stats_done(&all);
}

/* A host says that its port is closed. */
static bool without_reflector(const struct ping_hosts *hosts)
{
	for (size_t i = 0; i < hosts->n; i++)
		for (size_t j = 0; j < PING_ERRORS_MAX && !hosts->items[i].stats.answered; j++)
			if (hosts->items[i].stats.errors[j].n && hosts->items[i].stats.errors[j].error == ECONNREFUSED)
				return true;
	return false;
}

void ping_print_summary(const struct ping_hosts *hosts, const struct ping_options *options, const struct ping_look *look,
			uint64_t duration_ns, struct buffer *out)
{
	if (hosts->n == 1)
		print_one(hosts, look, duration_ns, out);
	else
		print_many(hosts, look, duration_ns, out);
	if (options->protocol == PROBE_STAMP && without_reflector(hosts))
		buffer_puts(out, "the port is closed: STAMP takes a reflector there, such as an agent with probe.reflect\n");
}

void ping_print_interim(const struct ping_hosts *hosts, struct buffer *out)
{
	struct ping_stats all = { 0 };
	char text[4][PING_NUMBER_MAX];
	size_t answering = 0;

	for (size_t i = 0; i < hosts->n; i++) {
		ping_stats_merge(&all, &hosts->items[i].stats);
		answering += hosts->items[i].stats.answered > 0;
	}
	if (hosts->n > 1)
		buffer_printf(out, "%zu/%zu hosts answer, ", answering, hosts->n);
	buffer_printf(out, "%" PRIu64 "/%" PRIu64 " packets, %s loss", all.answered, over(&all), ping_percent(lost(&all), over(&all), text[0]));
	if (all.rtt.n)
		buffer_printf(out, ", min/p50/p99/max = %s/%s/%s/%s ms", ping_ms((double)all.rtt.min_ns, text[0]),
			      ping_ms(ping_samples_quantile(&all.rtt, 0.5), text[1]), ping_ms(ping_samples_quantile(&all.rtt, 0.99), text[2]),
			      ping_ms((double)all.rtt.max_ns, text[3]));
	buffer_putc(out, '\n');
	ping_stats_done(&all);
}
