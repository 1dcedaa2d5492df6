/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `netsonde ping` tells a person while it asks: the first line, a line for each answer and for each that did not come, in the
 * words of ping where it has some. The summaries are in ping_summary.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "cli/ping.h"
#include "cli/ping_text.h"
#include "cli/top_text.h"
#include "lib/flags.h"

#define WIDE 110 /* columns for all that is known of an answer; the summary has it anyway */

const char *ping_protocol_name(enum probe_protocol protocol)
{
	return protocol == PROBE_STAMP ? "stamp" : protocol == PROBE_TCP ? "tcp" : "icmp";
}

const char *ping_clock_name(enum probe_clock clock)
{
	static const char *const names[PROBE_CLOCK_COUNT] = {
		[PROBE_CLOCK_HARDWARE] = "hardware", [PROBE_CLOCK_XDP] = "xdp", [PROBE_CLOCK_XDP_GENERIC] = "xdp_generic",
		[PROBE_CLOCK_TC] = "tc", [PROBE_CLOCK_KERNEL] = "kernel", [PROBE_CLOCK_USER] = "user",
	};

	return (unsigned)clock < PROBE_CLOCK_COUNT ? names[clock] : "user";
}

const char *ping_clock_words(enum probe_clock clock, const struct probe_device *device)
{
	static const char *const words[PROBE_CLOCK_COUNT] = {
		[PROBE_CLOCK_HARDWARE] = "the network card", [PROBE_CLOCK_XDP] = "XDP in the driver", [PROBE_CLOCK_XDP_GENERIC] = "generic XDP",
		[PROBE_CLOCK_TC] = "tc", [PROBE_CLOCK_KERNEL] = "the kernel's socket stamps", [PROBE_CLOCK_USER] = "this program's own clock",
	};

	/* As good as tc, a few lines of the kernel beside it. */
	if (clock == PROBE_CLOCK_TC && device && !strcmp(device->receive_mode, "packet_socket"))
		return "the filter of a packet socket";
	return (unsigned)clock < PROBE_CLOCK_COUNT ? words[clock] : words[PROBE_CLOCK_USER];
}

/* ICMP's own words, and what this host says when it does not even send. */
static const struct { int error; const char *name, *words; } errors[] = {
	{ 0, "several", "for several reasons" },
	{ EHOSTUNREACH, "host_unreachable", "Destination host unreachable" },
	{ ENETUNREACH, "net_unreachable", "Destination network unreachable" },
	{ ECONNREFUSED, "port_unreachable", "Destination port unreachable" },
	{ ENOPROTOOPT, "protocol_unreachable", "Destination protocol unreachable" },
	{ EHOSTDOWN, "host_down", "Destination host unknown" },
	{ EMSGSIZE, "packet_too_big", "Packet too big for the way" },
	{ EOPNOTSUPP, "source_route_failed", "Source route failed" },
	{ ETIME, "ttl_exceeded", "Time to live exceeded" },
	{ EPROTO, "parameter_problem", "Parameter problem" },
	{ EACCES, "prohibited", "Prohibited: by a firewall, or it is a broadcast address" },
	{ EPERM, "not_permitted", "This host's firewall does not let it out" },
	{ ENETDOWN, "net_down", "This host's interface is down" },
	{ ENODEV, "no_device", "This host's interface is gone" },
	{ ENXIO, "no_device", "This host's interface is gone" },
	{ EADDRNOTAVAIL, "no_source_address", "This host has no address to send from" },
	{ ENOBUFS, "no_buffers", "This host's send queue is full" },
	{ EAGAIN, "no_buffers", "This host's send queue is full" },
};

static size_t error_index(int error)
{
	size_t i = 0;

	while (i < sizeof(errors) / sizeof(errors[0]) && errors[i].error != error)
		i++;
	return i;
}

const char *ping_error_name(int error)
{
	size_t i = error_index(error);

	return i < sizeof(errors) / sizeof(errors[0]) ? errors[i].name : "other";
}

const char *ping_error_words(int error)
{
	size_t i = error_index(error);

	return i < sizeof(errors) / sizeof(errors[0]) ? errors[i].words : strerror(error);
}

enum probe_clock ping_expected_clock(const struct probe_device *device, enum probe_clock unhooked)
{
	/* The worse of both ends. */
	return device->send && device->receive < PROBE_CLOCK_KERNEL ? device->receive : unhooked;
}

uint16_t ping_port(const struct ping_host *host, const struct ping_options *options)
{
	if (host->port || options->port || options->protocol == PROBE_ICMP)
		return host->port ? host->port : options->port;
	return options->protocol == PROBE_STAMP ? 862 : 443;
}

/* What the engine raises it to: prober.h. */
static unsigned payload(const struct ping_options *options)
{
	unsigned least = options->protocol == PROBE_ICMP ? PROBE_ICMP_PAYLOAD_MIN : options->secret ? 112 : 44;

	if (options->protocol == PROBE_TCP)
		return 0;
	return options->payload > least ? options->payload : least;
}

unsigned ping_length(const struct ping_options *options)
{
	return payload(options) + (options->protocol == PROBE_TCP ? 20 : 8);
}

const char *ping_ms(double ns, char buf[static PING_NUMBER_MAX])
{
	double ms = ns / 1e6, size = fabs(ms);

	if (!isfinite(ms))
		return strcpy(buf, "-");
	snprintf(buf, PING_NUMBER_MAX, "%.*f",
		 size >= 999.95 ? 0 : size >= 99.995 ? 1 : size >= 9.9995 ? 2 : size >= 0.09995 ? 3 : size >= 0.009995 ? 4 : 5, ms);
	return buf;
}

/* "timed by tc on eth0"; nothing where there is no route. */
static void print_expected(const struct ping_path *path, const struct ping_look *look, struct buffer *out)
{
	const struct probe_device *device = path->path ? probe_path_device(path->path) : NULL;

	if (!device)
		buffer_puts(out, ", no route to it");
	else
		buffer_printf(out, ", timed by %s on %s", ping_clock_words(ping_expected_clock(device, look->unhooked), device), device->name);
}

static void print_protocol(const struct ping_options *options, struct buffer *out)
{
	if (options->protocol == PROBE_TCP)
		buffer_puts(out, "TCP SYN");
	else
		buffer_printf(out, "%s%s%u bytes of data", options->protocol == PROBE_STAMP ? "STAMP, " : "",
			      options->protocol == PROBE_STAMP && options->secret ? "authenticated, " : "", payload(options));
}

void ping_print_start(const struct ping_hosts *hosts, const struct ping_options *options, const struct ping_look *look, struct buffer *out)
{
	char text[32];

	if (hosts->n == 1) {
		const struct ping_host *host = hosts->items;

		buffer_printf(out, "PING %s", host->name);
		if (strcmp(host->name, host->where) != 0)
			buffer_printf(out, " (%s)", host->where);
	} else {
		buffer_printf(out, "PING %zu hosts", hosts->n);
	}
	if (hosts->paths_each > 1)
		buffer_printf(out, " by %zu paths%s", hosts->paths_each, hosts->n > 1 ? " each" : "");
	buffer_puts(out, ": ");
	print_protocol(options, out);
	if (hosts->n == 1)
		print_expected(hosts->paths, look, out);
	else
		buffer_printf(out, ", one to each every %s", duration_format(options->interval_ns, text));
	buffer_putc(out, '\n');
}

static void print_time(const struct ping_look *look, wall_time when, struct buffer *out)
{
	if (look->timestamps)
		buffer_printf(out, "[%" PRId64 ".%06" PRId64 "] ", when.ns / (int64_t)NS_PER_SEC, when.ns % (int64_t)NS_PER_SEC / (int64_t)NS_PER_US);
}

static void print_answer(const struct ping_path *path, const struct probe_result *result, const struct ping_options *options,
			 const struct ping_look *look, struct buffer *out)
{
	char a[PING_NUMBER_MAX], b[PING_NUMBER_MAX];
	double rtt_ns = (double)probe_result_rtt_ns(result);
	bool wide = !look->width || look->width >= WIDE;

	if (look->name_width)
		buffer_printf(out, "time=%8.3f ms", rtt_ns / 1e6); /* one below the other: what is long stands out */
	else
		buffer_printf(out, "time=%s ms", ping_ms(rtt_ns, a));
	if (options->protocol == PROBE_TCP)
		buffer_puts(out, result->outcome == PROBE_CLOSED ? " (closed)" : " (open)");
	if (result->has_one_way)
		buffer_printf(out, " forward=%s backward=%s", ping_ms((double)result->forward_ns, a), ping_ms((double)result->backward_ns, b));
	if (result->has_one_way && result->clock_error_ns != UINT64_MAX && wide)
		buffer_printf(out, " %s%s", look->utf8 ? "\xc2\xb1" : "+-", ping_ms((double)result->clock_error_ns, a));
	if (result->has_one_way)
		buffer_puts(out, " ms");
	if (result->has_residence && wide)
		buffer_printf(out, " reflector=%s ms", ping_ms((double)result->residence_ns, a));
}

/* Why there is none. */
static void print_none(const struct probe_result *result, const struct ping_options *options, struct buffer *out)
{
	char text[32];

	if (result->outcome == PROBE_TIMED_OUT)
		buffer_printf(out, "within %s", duration_format(options->timeout_ns, text));
	else
		buffer_puts(out, ping_error_words(result->error));
}

/* Of many hosts: the name in a column, since that is what is looked for. */
static void print_name(const struct ping_path *path, const struct ping_look *look, struct buffer *out)
{
	char cell[TOP_TEXT_MAX];

	buffer_printf(out, "%s  ", top_fit(path->host->name, look->name_width, TOP_MIDDLE, cell, sizeof(cell)));
}

void ping_print_result(const struct ping_path *path, const struct probe_result *result, const struct ping_options *options,
		       const struct ping_look *look, wall_time when, struct buffer *out)
{
	bool answered = result->outcome == PROBE_OK || result->outcome == PROBE_CLOSED;
	uint32_t sequence = result->sequence + 1; /* as ping counts */

	if (!answered)
		buffer_puts(out, look->colors ? PING_RED : "");
	print_time(look, when, out);
	if (look->name_width)
		print_name(path, look, out);
	else if (!answered)
		buffer_printf(out, "no answer from %s: ", path->host->where);
	else if (options->protocol == PROBE_TCP)
		buffer_printf(out, "answer from %s: ", path->host->where);
	else
		buffer_printf(out, "%u bytes from %s: ", ping_length(options), path->host->where);
	if (look->paths)
		buffer_printf(out, look->name_width ? "path=%-2u " : "path=%u ", path->number);
	buffer_printf(out, look->name_width ? "seq=%-4" PRIu32 " " : "seq=%" PRIu32 " ", sequence);
	if (!answered && look->name_width)
		buffer_puts(out, result->outcome == PROBE_TIMED_OUT ? "no answer " : "");
	if (answered)
		print_answer(path, result, options, look, out);
	else
		print_none(result, options, out);
	buffer_puts(out, !answered && look->colors ? PING_PLAIN "\n" : "\n");
}

static void print_some(const struct ping_path *path, uint64_t n, const char *kind, const char *comment, const struct ping_look *look,
		       wall_time when, struct buffer *out)
{
	buffer_puts(out, look->colors ? PING_YELLOW : "");
	print_time(look, when, out);
	if (look->name_width)
		print_name(path, look, out);
	if (n > 1)
		buffer_printf(out, "%" PRIu64 " ", n);
	buffer_printf(out, "%s answer%s", kind, n > 1 ? "s" : "");
	if (!look->name_width)
		buffer_printf(out, " from %s", path->host->where);
	buffer_printf(out, "%s%s\n", comment, look->colors ? PING_PLAIN : "");
}

void ping_print_odd(const struct ping_path *path, uint64_t duplicates, uint64_t late, const struct ping_look *look, wall_time when,
		    struct buffer *out)
{
	if (duplicates)
		print_some(path, duplicates, "duplicate", "", look, when, out);
	if (late)
		print_some(path, late, "late", ": counted as lost", look, when, out);
}
