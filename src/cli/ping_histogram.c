/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The distribution of the round trips as a picture of text. Where the middle of the answers is close together the rows are equally
 * wide, and what is far off has an open row at either end, so that one late answer does not press all others into one row; where they
 * are spread over octaves the rows grow with the values (1, 2, 5 and finer). What was lost has a row too.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "cli/ping.h"
#include "cli/ping_text.h"

#define ROWS_LINEAR 12
#define ROWS_LOG 16
#define ROWS_MAX 40          /* beyond every decade of 64 bits of nanoseconds, and ROWS_LOG */
#define WIDTH_DEFAULT 80
#define BAR_MAX 64           /* longer ones are no easier to compare */
#define BAR_LEAST 8
#define SPREAD 3.0           /* of the middle 80 %: more than that, and rows grow */
#define FAR 1.5              /* so many times the middle 80 % below or above it is far off */
#define STEP_LEAST_NS 10.0   /* below that it is noise of any clock */

struct row {
	double from_ns, to_ns;
	char label[24];
	uint64_t n;
};

struct picture {
	struct row rows[ROWS_MAX];
	size_t n;
};

static void add_row(struct picture *p, double from_ns, double to_ns)
{
	if (p->n < ROWS_MAX)
		p->rows[p->n++] = (struct row){ .from_ns = from_ns, .to_ns = to_ns };
}

/* 1, 2 or 5 times a power of ten, at least `least`. */
static double nice_step(double least)
{
	double power = pow(10, floor(log10(least)));

	for (double digit = 1; digit < 10; digit = digit == 1 ? 2 : 5 * (digit == 2) + 10 * (digit == 5))
		if (digit * power >= least * 0.999999)
			return digit * power;
	return 10 * power;
}

static int decimals_for(double step_ns)
{
	int decimals = (int)ceil(-log10(step_ns / 1e6) - 1e-9);

	return decimals < 0 ? 0 : decimals > 6 ? 6 : decimals;
}

static void linear_rows(struct picture *p, struct ping_samples *s)
{
	double min = (double)s->min_ns, max = (double)s->max_ns, p10 = ping_samples_quantile(s, 0.1), p90 = ping_samples_quantile(s, 0.9);
	double far = FAR * fmax(p90 - p10, STEP_LEAST_NS), n = (double)s->n;
	double low = ping_samples_quantile(s, ((double)ping_samples_between(s, -INFINITY, p10 - far) + 0.5) / n);
	double high = ping_samples_quantile(s, ((double)ping_samples_between(s, -INFINITY, p90 + far) - 0.5) / n);
	double step = nice_step(fmax((high - low) / (ROWS_LINEAR - 1), STEP_LEAST_NS)), start = floor(low / step), end = floor(high / step) + 1;
	int decimals = decimals_for(step);

	/* A row or two more are better than an open end. */
	if (min >= (start - 2) * step)
		start = floor(min / step);
	if (max < (end + 2) * step)
		end = floor(max / step) + 1;
	if (min < start * step) {
		add_row(p, -INFINITY, start * step);
		snprintf(p->rows[0].label, sizeof(p->rows[0].label), "< %.*f", decimals, start * step / 1e6);
	}
	for (double i = start; i < end; i++) {
		add_row(p, i * step, (i + 1) * step);
		snprintf(p->rows[p->n - 1].label, sizeof(p->rows[0].label), "%.*f", decimals, i * step / 1e6);
	}
	if (max >= end * step) {
		add_row(p, end * step, INFINITY);
		snprintf(p->rows[p->n - 1].label, sizeof(p->rows[0].label), "> %.*f", decimals, end * step / 1e6);
	}
}

/* Rows at so many places of each decade, from the one that holds the smallest; false when they are too many. */
static bool log_rows(struct picture *p, const struct ping_samples *s, const double *digits, size_t n_digits)
{
	double min = fmax((double)s->min_ns, 1), max = fmax((double)s->max_ns, 1);
	double power = pow(10, floor(log10(min)));
	size_t i = 0;

	p->n = 0; /* from an attempt with more of them */
	while (i + 1 < n_digits && digits[i + 1] * power <= min)
		i++;
	for (double from = digits[i] * power; from <= max;) {
		double to;

		if (++i == n_digits) {
			i = 0;
			power *= 10;
		}
		to = digits[i] * power;
		if (p->n == ROWS_LOG && n_digits > 1)
			return false;
		add_row(p, from, to);
		snprintf(p->rows[p->n - 1].label, sizeof(p->rows[0].label), "%.6g", from / 1e6);
		from = to;
	}
	p->rows[0].from_ns = -INFINITY; /* what is below a nanosecond, too */
	return true;
}

static void make_rows(struct picture *p, struct ping_samples *s)
{
	static const double fine[] = { 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8 }, middle[] = { 1, 1.5, 2, 3, 5, 7 }, coarse[] = { 1, 2, 5 },
			    decades[] = { 1 };
	double p10 = ping_samples_quantile(s, 0.1), p90 = ping_samples_quantile(s, 0.9);

	if (p10 > 0 && p90 / p10 <= SPREAD)
		linear_rows(p, s);
	else if (!log_rows(p, s, fine, 10) && !log_rows(p, s, middle, 6) && !log_rows(p, s, coarse, 3))
		log_rows(p, s, decades, 1);
	for (size_t i = 0; i < p->n; i++)
		p->rows[i].n = ping_samples_between(s, p->rows[i].from_ns, p->rows[i].to_ns);
}

/* A bar in eighths of a column; whatever is not nothing is seen. */
static void print_bar(uint64_t n, uint64_t most, size_t width, bool utf8, struct buffer *out)
{
	static const char *const parts[] = { "", "\xe2\x96\x8f", "\xe2\x96\x8e", "\xe2\x96\x8d", "\xe2\x96\x8c", "\xe2\x96\x8b", "\xe2\x96\x8a",
					     "\xe2\x96\x89" };
	size_t steps = utf8 ? 8 : 1, length = (size_t)llround((double)n / (double)most * (double)(width * steps));

	if (n && !length)
		length = 1;
	for (size_t i = 0; i < length / steps; i++)
		buffer_puts(out, utf8 ? "\xe2\x96\x88" : "#");
	buffer_puts(out, utf8 ? parts[length % 8] : "");
}

static void print_row(const char *label, size_t label_width, uint64_t n, uint64_t most, size_t width, const struct ping_look *look,
		      const char *color, struct buffer *out)
{
	buffer_printf(out, "%*s", (int)label_width, label);
	if (n) {
		buffer_printf(out, " %s", look->colors ? color : "");
		print_bar(n, most, width, look->utf8, out);
		buffer_printf(out, "%s %" PRIu64, look->colors && color[0] ? PING_PLAIN : "", n);
	}
	buffer_putc(out, '\n');
}

void ping_histogram(struct ping_stats *stats, const struct ping_look *look, struct buffer *out)
{
	static const char none[] = "no answer", head[] = "from ms";
	struct picture p = { .n = 0 };
	uint64_t lost = stats->timed_out + stats->unreachable, most = lost;
	size_t label = lost ? sizeof(none) - 1 : sizeof(head) - 1, total = look->width ? look->width : WIDTH_DEFAULT, width;
	char digits[24];

	if (!stats->rtt.n)
		return;
	make_rows(&p, &stats->rtt);
	for (size_t i = 0; i < p.n; i++) {
		most = p.rows[i].n > most ? p.rows[i].n : most;
		label = strlen(p.rows[i].label) > label ? strlen(p.rows[i].label) : label;
	}
	if (!most)
		return; /* nothing was kept */
	width = label + 2 + (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, most);
	width = width + BAR_LEAST < total ? total - width : BAR_LEAST;
	if (width > BAR_MAX)
		width = BAR_MAX;
	buffer_printf(out, "\n%*s\n", (int)label, head);
	for (size_t i = 0; i < p.n; i++)
		print_row(p.rows[i].label, label, p.rows[i].n, most, width, look, "", out);
	if (lost)
		print_row(none, label, lost, most, width, look, PING_RED, out);
}
