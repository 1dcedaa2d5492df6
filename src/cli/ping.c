/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `netsonde ping`: round trips to hosts, timed where packets leave and enter this host's network stack, not where a program
 * sees them. Here are the flags, in the letters of ping where it has them, and what they mean to the parts.
 */
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "agent/probe/hmac_key.h"
#include "cli/commands.h"
#include "cli/ping.h"
#include "cli/top_text.h"
#include "lib/log.h"

#define INTERVAL_MIN_NS NS_PER_MS          /* from probe to probe of one path */
#define INTERVAL_MAX_NS (3600 * NS_PER_SEC)
#define TIMEOUT_MIN_NS NS_PER_MS
#define TIMEOUT_MAX_NS (300 * NS_PER_SEC)
#define RATE_MAX 100000                    /* probes/s of all paths: more is load, not measurement */
#define RING_TCP_MAX 256                   /* abi_probe.h: what a SYN's number tells apart */
#define SIZE_MAX_BYTES 65507               /* of UDP and ICMP over IPv4, without options */
#define SIZE_DEFAULT 56
#define HOSTS_FILE_MAX (16u << 20)         /* bytes */
#define NAME_WIDTH_MAX 40
#define DRAW_LEAST 10                      /* answers that are worth a picture nobody asked for */

struct ping_flags {
	uint64_t count, interval_ns, timeout_ns, deadline_ns;
	const char *size, *ttl, *tos, *dscp, *port, *paths, *fragment;
	const char *from, *protocol, *attach, *key_file, *file;
	bool v4, v6, quiet, json, timestamps, histogram, dont_fragment, numeric, flood;
};

#define AT(member) .offset = offsetof(struct ping_flags, member)
static const struct flag flags[] = {
	{ .name = "count", .letter = 'c', .type = FLAG_UINT, AT(count), .value = "COUNT", .help = "Probes to each host; 0: until Ctrl-C." },
	{ .name = "interval", .letter = 'i', .type = FLAG_SECONDS, AT(interval_ns), .help = "From probe to probe of one host: 0.2, 200ms." },
	{ .name = "timeout", .letter = 'W', .type = FLAG_SECONDS, AT(timeout_ns), .help = "How long an answer is waited for." },
	{ .name = "deadline", .letter = 'w', .type = FLAG_SECONDS, AT(deadline_ns), .help = "End after this time, whatever is on its way." },
	{ .name = "size", .letter = 's', .type = FLAG_STRING, AT(size), .value = "BYTES",
	  .help = "Payload; 56 for ICMP (16 at least), the smallest for STAMP." },
	{ .name = "quiet", .letter = 'q', .type = FLAG_SWITCH, AT(quiet), .help = "Only the summary." },
	{ .name = "ipv4", .letter = '4', .type = FLAG_SWITCH, AT(v4), .help = "IPv4 only." },
	{ .name = "ipv6", .letter = '6', .type = FLAG_SWITCH, AT(v6), .help = "IPv6 only." },
	{ .name = "interface", .letter = 'I', .type = FLAG_STRING, AT(from), .value = "NAME|ADDRESS",
	  .help = "Leave by this interface, or from this address of the host." },
	{ .name = "ttl", .letter = 't', .type = FLAG_STRING, AT(ttl), .value = "HOPS", .help = "Time to live." },
	{ .name = "dscp", .type = FLAG_STRING, AT(dscp), .value = "CLASS", .help = "Differentiated services: 0 to 63, or ef, af41, cs5, ..." },
	{ .name = "tos", .letter = 'Q', .type = FLAG_STRING, AT(tos), .value = "BYTE",
	  .help = "The same as ping has it, the whole byte: 184 or 0xb8 is DSCP 46." },
	{ .name = "dont-fragment", .type = FLAG_SWITCH, AT(dont_fragment), .help = "No router may take a packet apart." },
	{ .name = "fragment", .letter = 'M', .type = FLAG_CHOICE, AT(fragment), .choices = "do|want|dont",
	  .help = "As ping has it: do is --dont-fragment." },
	{ .name = "protocol", .letter = 'p', .type = FLAG_CHOICE, AT(protocol), .choices = "icmp|stamp|tcp",
	  .help = "ICMP echo, STAMP (RFC 8762) to a reflector, or TCP SYN to a port." },
	{ .name = "port", .letter = 'P', .type = FLAG_STRING, AT(port), .value = "PORT",
	  .help = "Where a host names none: 862 for STAMP, 443 for TCP." },
	{ .name = "key-file", .type = FLAG_STRING, AT(key_file), .value = "FILE", .help = "STAMP in its authenticated mode, with the key in this file." },
	{ .name = "paths", .type = FLAG_STRING, AT(paths), .value = "N",
	  .help = "Probe each host as N flows, which routers with several ways may send several ways." },
	{ .name = "file", .type = FLAG_STRING, AT(file), .value = "FILE",
	  .help = "Take hosts from this file too, between blanks and newlines; - is standard input, # starts a comment." },
	{ .name = "attach", .type = FLAG_CHOICE, AT(attach), .choices = "auto|xdp|xdp_generic|tc|socket|off",
	  .help = "Where answers are timed: the best place, or this one; off is without BPF." },
	{ .name = "timestamps", .letter = 'D', .type = FLAG_SWITCH, AT(timestamps), .help = "Unix time in front of each line." },
	{ .name = "histogram", .type = FLAG_SWITCH, AT(histogram), .help = "Draw each host's distribution; one host's is drawn on a terminal anyway." },
	{ .name = "json", .letter = 'j', .type = FLAG_SWITCH, AT(json), .help = "A JSON document a line: each probe, and a summary (where the unreachable are among the lost)." },
	{ .name = "numeric", .letter = 'n', .type = FLAG_SWITCH, AT(numeric), .hidden = true, .help = "Addresses are never turned into names." },
	{ .name = "flood", .letter = 'f', .type = FLAG_SWITCH, AT(flood), .hidden = true, .help = "Refused." },
	{ 0 }
};

const struct flag_command ping_command = {
	.name = "ping",
	.summary = "measure round trips, loss and jitter to hosts",
	.arguments = "HOST...",
	.description =
		"Sends probes to one or many hosts and says what came back: round trips as a distribution, loss, duplicates, reordering, jitter. "
		"Times are taken in the kernel where packets leave and enter this host (tc, XDP), so that a busy host does not lengthen them; "
		"what took them is said. Until Ctrl-C, or --count; Ctrl-\\ prints how it stands.\n\n"
		"A HOST is a name or an address, fe80::1%eth0 with its interface; with --protocol=stamp or tcp also HOST:PORT and [ADDRESS]:PORT. "
		"Probes to many hosts are spread over the interval.\n\n"
		"Needs root, or CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_NET_RAW, which are given up before the first probe. Without them ICMP "
		"works where net.ipv4.ping_group_range allows it, with the times of this program's own clock. The exit status is 0 when every "
		"host answered, 1 when one did not (with --count and --deadline: not all probes), and 2 when a host was not found or "
		"nothing could be measured.",
	.details =
		"With --json, each line is a document. type is probe or summary; with --quiet there is only the summary.\n\n"
		"A probe has host (as it was given), address, protocol (icmp, stamp, tcp), port (not for icmp), path (with --paths, from 1), "
		"sequence (from 1), sent (Unix time), and outcome: answered, closed (TCP: by a reset), timed_out or unreachable. What was answered "
		"has rtt_seconds (without the reflector's time) and timestamp, which took the times: hardware, xdp, xdp_generic, tc, kernel or "
		"user; of STAMP also residence_seconds, and, where both clocks are synchronised, forward_seconds, backward_seconds and "
		"clock_error_seconds. What was unreachable has error (host_unreachable, net_unreachable, port_unreachable, ttl_exceeded, packet_too_big, "
		"prohibited, ...) and reason, the same in words.\n\n"
		"The summary has started (Unix time), duration_seconds and hosts, a list. Each host has host, address, protocol, port, device "
		"(where it leaves), sent, received, closed, lost (timed out or unreachable), unreachable, pending (on the way at the end: neither "
		"received nor lost), loss_ratio (null when nothing is known), duplicates, reordered, late, rejected, errors and timestamps (how many "
		"of each), and, where there are any, rtt_seconds, forward_seconds, backward_seconds and residence_seconds with min, p50, "
		"p90, p99, max, mean, stddev and quantile_error (0 while quantiles are exact: up to a million answers), jitter_seconds (RFC 3550), "
		"clock_error_seconds, one_way_unknown (answers without one-way delay), and, with --paths, paths: the same of each.",
	.flags = flags,
	.arguments_max = SIZE_MAX,
};

/* A number of a flag that has no default to show; *to stays as it is when the flag was not given. */
static int number(const char *text, const char *label, unsigned long least, unsigned long most, unsigned long *to, struct error *ret_error)
{
	unsigned long value;
	char *end;

	if (!text)
		return 0;
	errno = 0;
	value = strtoul(text, &end, text[0] == '0' && (text[1] | 0x20) == 'x' ? 16 : 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || value < least || value > most)
		return error_set(ret_error, -EINVAL, "%s expects a number from %lu to %lu, not `%s`", label, least, most, text);
	*to = value;
	return 0;
}

/* 0..63, or a name: cs0..cs7 (RFC 2474), af11..af43 (RFC 2597), ef (RFC 3246), va (RFC 5865), le (RFC 8622). */
static int dscp_of(const char *text, unsigned long *to, struct error *ret_error)
{
	if (text && !strcmp(text, "ef"))
		*to = 46;
	else if (text && !strcmp(text, "va"))
		*to = 44;
	else if (text && !strcmp(text, "le"))
		*to = 1;
	else if (text && !strncmp(text, "cs", 2) && text[2] >= '0' && text[2] <= '7' && !text[3])
		*to = (unsigned long)(text[2] - '0') * 8;
	else if (text && !strncmp(text, "af", 2) && text[2] >= '1' && text[2] <= '4' && text[3] >= '1' && text[3] <= '3' && !text[4])
		*to = (unsigned long)(text[2] - '0') * 8 + (unsigned long)(text[3] - '0') * 2;
	else if (number(text, "--dscp", 0, 63, to, NULL) < 0)
		return error_set(ret_error, -EINVAL, "--dscp expects a number from 0 to 63, or ef, va, le, cs0 to cs7, af11 to af43, not `%s`%s", text,
				 text[0] >= '0' && text[0] <= '9' ? "; --tos takes the whole byte" : "");
	return 0;
}

static int take_class(const struct ping_flags *f, struct ping_options *o, struct error *ret_error)
{
	unsigned long dscp = 0, tos = 0;
	int r = dscp_of(f->dscp, &dscp, ret_error);

	if (!r)
		r = number(f->tos, "--tos", 0, 255, &tos, ret_error);
	if (r < 0)
		return r;
	if (f->dscp && f->tos)
		return error_set(ret_error, -EINVAL, "--dscp and --tos say the same: give one of them");
	if (tos & 3)
		return error_set(ret_error, -EINVAL, "--tos: the last two bits of %lu are ECN's, which probes do not set; %lu has the same DSCP", tos,
				 tos & ~3ul);
	o->dscp = (uint8_t)(f->tos ? tos >> 2 : dscp);
	return 0;
}

/* A link-local one is not asked for: of which interface it is, hosts say. */
static bool is_own(const struct address *address)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6 };
	bool link_local = address->bytes[0] == 0xfe && (address->bytes[1] & 0xc0) == 0x80, own = true;
	int fd = link_local ? -1 : socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), off = 0;

	if (fd < 0)
		return true; /* then the kernel says it when something is sent */
	memcpy(&to.sin6_addr, address->bytes, sizeof(to.sin6_addr));
	if (!setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) && bind(fd, (const struct sockaddr *)&to, sizeof(to)) < 0)
		own = errno != EADDRNOTAVAIL;
	close(fd);
	return own;
}

static int take_from(const char *text, struct ping_options *o, struct error *ret_error)
{
	if (!text)
		return 0;
	o->has_source = address_parse(text, &o->source) == 0;
	if (o->has_source) {
		if (!o->family)
			o->family = address_is_ipv4(&o->source) ? 4 : 6; /* of a host's addresses, those that can be reached from it */
		return is_own(&o->source) ? 0 : error_set(ret_error, -EINVAL, "--interface: %s is no address of this host", text);
	}
	o->ifindex = if_nametoindex(text);
	return o->ifindex ? 0 : error_set(ret_error, -EINVAL, "--interface: `%s` is no interface of this host, and no address", text);
}

/* What a number of a packet and the memory of probes on their way can bear. */
static int check_pace(const struct ping_options *o, struct error *ret_error)
{
	char least[32];

	if (o->interval_ns < INTERVAL_MIN_NS || o->interval_ns > INTERVAL_MAX_NS)
		return error_set(ret_error, -EINVAL, "--interval must be from 1ms to 1h");
	if (o->timeout_ns < TIMEOUT_MIN_NS || o->timeout_ns > TIMEOUT_MAX_NS)
		return error_set(ret_error, -EINVAL, "--timeout must be from 1ms to 5m");
	if (o->protocol == PROBE_TCP && o->timeout_ns / 2 * 3 / o->interval_ns >= RING_TCP_MAX - 2)
		return error_set(ret_error, -EINVAL, "--interval: TCP tells 256 probes on their way apart; with this --timeout it must be %s or more",
				 duration_format(o->timeout_ns / 2 * 3 / (RING_TCP_MAX - 2) / NS_PER_MS * NS_PER_MS + NS_PER_MS, least));
	if (o->timeout_ns / 2 * 3 / o->interval_ns >= PROBE_RING_MAX - 2)
		return error_set(ret_error, -EINVAL, "--interval: 65536 probes on their way can be told apart; with this --timeout it must be longer");
	return 0;
}

static int take_numbers(const struct ping_flags *f, struct ping_options *o, struct error *ret_error)
{
	unsigned long size = o->protocol == PROBE_ICMP ? SIZE_DEFAULT : 0, ttl = 0, port = 0, paths = 1;
	int r = number(f->size, "--size", 0, SIZE_MAX_BYTES, &size, ret_error);

	if (!r)
		r = number(f->ttl, "--ttl", 1, 255, &ttl, ret_error);
	if (!r)
		r = number(f->port, "--port", 1, UINT16_MAX, &port, ret_error);
	if (!r)
		r = number(f->paths, "--paths", 1, PROBE_PATHS_MAX, &paths, ret_error);
	o->payload = (uint16_t)size;
	o->ttl = (uint8_t)ttl;
	o->port = (uint16_t)port;
	o->paths = (uint8_t)paths;
	return r;
}

static int check_protocol(const struct ping_flags *f, const struct ping_options *o, struct error *ret_error)
{
	if (o->protocol == PROBE_ICMP && f->port)
		return error_set(ret_error, -EINVAL, "--port: ICMP has no ports; --protocol=tcp or stamp has");
	if (o->protocol == PROBE_TCP && f->size)
		return error_set(ret_error, -EINVAL, "--size: a TCP SYN carries nothing");
	if (o->protocol != PROBE_STAMP && f->key_file)
		return error_set(ret_error, -EINVAL, "--key-file is for --protocol=stamp");
	return 0;
}

static int options_take(const struct ping_flags *f, struct ping_options *o, uint8_t secret[HMAC_SECRET_MAX], struct error *ret_error)
{
	static const char *const protocols[] = { "icmp", "stamp", "tcp" }, *const places[] = { "auto", "xdp", "xdp_generic", "tc", "socket", "off" };
	int r;

	*o = (struct ping_options){ .count = f->count, .interval_ns = f->interval_ns, .timeout_ns = f->timeout_ns, .deadline_ns = f->deadline_ns,
				    .family = f->v4 ? 4 : f->v6 ? 6 : 0, .quiet = f->quiet, .json = f->json, .timestamps = f->timestamps,
				    .histogram = f->histogram };
	if (f->flood)
		return error_set(ret_error, -EINVAL, "it does not flood; --interval=1ms sends 1000 probes a second to each host");
	if (f->v4 && f->v6)
		return error_set(ret_error, -EINVAL, "-4 and -6 exclude each other");
	for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++)
		if (!strcmp(f->protocol, protocols[i]))
			o->protocol = (enum probe_protocol)i;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (!strcmp(f->attach, places[i]))
			o->attach = (enum probe_attach)i;
	o->dont_fragment = f->dont_fragment || (f->fragment && !strcmp(f->fragment, "do"));
	r = take_numbers(f, o, ret_error);
	if (!r)
		r = take_class(f, o, ret_error);
	if (!r)
		r = take_from(f->from, o, ret_error);
	if (!r)
		r = check_protocol(f, o, ret_error);
	if (!r)
		r = check_pace(o, ret_error);
	if (!r && f->key_file) {
		r = hmac_secret_read(f->key_file, secret, &o->secret_len, ret_error);
		o->secret = secret;
	}
	return r;
}

/* The words of the hosts' file, appended to `names`; they point into `text`. */
static int read_hosts(const char *path, struct buffer *text, char ***names, size_t *n, struct error *ret_error)
{
	FILE *file = strcmp(path, "-") != 0 ? fopen(path, "re") : stdin;
	char **grown, *rest, *word;
	size_t got = 1;

	if (!file)
		return error_set(ret_error, -errno, "cannot read %s: %s", path, strerror(errno));
	while (got && text->len < HOSTS_FILE_MAX && buffer_reserve(text, BUFSIZ)) {
		got = fread(text->data + text->len, 1, BUFSIZ, file);
		text->len += got;
	}
	if (ferror(file) || !buffer_ok(text) || text->len >= HOSTS_FILE_MAX) {
		if (file != stdin)
			fclose(file);
		return error_set(ret_error, -EIO, "cannot read %s: %s", path, text->len >= HOSTS_FILE_MAX ? "it is longer than 16 MiB" : strerror(EIO));
	}
	if (file != stdin)
		fclose(file);
	text->data[text->len] = '\0';
	for (rest = text->data; (word = strsep(&rest, "\n"));) {
		char *words = word;

		words[strcspn(words, "#")] = '\0';
		while ((word = strsep(&words, " \t\r,"))) {
			if (!*word)
				continue;
			grown = reallocarray(*names, *n + 1, sizeof(**names));
			if (!grown)
				return -ENOMEM;
			*names = grown;
			(*names)[(*n)++] = word;
		}
	}
	return 0;
}

/* The words of the command line and of --file. */
static int take_names(const struct ping_flags *f, char **arguments, size_t n_arguments, struct buffer *text, char ***ret_names, size_t *ret_n,
		      struct error *ret_error)
{
	char **names = reallocarray(NULL, n_arguments + 1, sizeof(*names));
	size_t n = n_arguments;
	int r = names ? 0 : -ENOMEM;

	if (!r && n)
		memcpy(names, arguments, n * sizeof(*names));
	if (!r && f->file)
		r = read_hosts(f->file, text, &names, &n, ret_error);
	if (!r && !n)
		r = error_set(ret_error, -EINVAL, f->file ? "there is no host in %s" : "missing argument: HOST...", f->file);
	if (r < 0) {
		free(names);
		return r;
	}
	*ret_names = names;
	*ret_n = n;
	return 0;
}

static void look_at_terminal(const struct ping_options *o, const struct ping_hosts *hosts, struct ping_look *look)
{
	const char *term = getenv("TERM"), *plain = getenv("NO_COLOR");
	bool terminal = isatty(STDOUT_FILENO);
	struct winsize size = { 0 };

	if (terminal && !ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col)
		look->width = size.ws_col;
	look->utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8");
	look->colors = terminal && !(plain && *plain) && term && strcmp(term, "dumb") != 0;
	look->histogram = o->histogram ? 1 : terminal && hosts->n == 1 ? DRAW_LEAST : 0;
	look->timestamps = o->timestamps;
	look->paths = hosts->paths_each > 1;
	for (size_t i = 0; i < hosts->n && hosts->n > 1; i++) {
		size_t width = top_width(hosts->items[i].name);

		look->name_width = width > look->name_width ? width : look->name_width;
	}
	if (look->name_width > NAME_WIDTH_MAX)
		look->name_width = NAME_WIDTH_MAX;
}

/* Asks those that were found; the status says so when one was not. */
static int ask(const struct ping_options *o, char *const *names, size_t n, struct error *ret_error)
{
	struct buffer errors = BUFFER_INIT;
	struct ping_hosts hosts = { 0 };
	struct ping_look look = { 0 };
	int unknown = ping_hosts_new(names, n, o, &hosts, &errors), r = unknown < 0 ? unknown : 2;

	if (errors.len)
		fputs(errors.data, stderr);
	buffer_done(&errors);
	if (hosts.n && (uint64_t)hosts.n * hosts.paths_each * NS_PER_SEC / o->interval_ns > RATE_MAX)
		r = error_set(ret_error, -EINVAL, "%zu hosts by %zu paths at this --interval are more than %d probes a second", hosts.n,
			      hosts.paths_each, RATE_MAX);
	else if (hosts.n) {
		look_at_terminal(o, &hosts, &look);
		r = ping_session_run(&hosts, o, &look, ret_error);
	}
	ping_hosts_done(&hosts);
	return r < 0 ? r : unknown ? 2 : r;
}

int cmd_ping(int argc, char **argv)
{
	struct ping_flags f = { .interval_ns = NS_PER_SEC, .timeout_ns = 2 * NS_PER_SEC, .protocol = "icmp", .attach = "auto" };
	uint8_t secret[HMAC_SECRET_MAX];
	struct buffer text = BUFFER_INIT;
	struct ping_options options;
	struct error error = { "" };
	char **arguments, **names = NULL;
	size_t n;
	int r = flags_parse(&ping_command, argc, argv, &f, &arguments, &n, &error);

	if (r == FLAGS_E_HELP)
		return 0;
	setlocale(LC_CTYPE, "");
	log_setup("ping", "error", "logfmt", NULL);
	if (!r)
		r = options_take(&f, &options, secret, &error);
	if (!r)
		r = take_names(&f, arguments, n, &text, &names, &n, &error);
	if (!r)
		r = ask(&options, names, n, &error);
	free(names);
	buffer_done(&text);
	if (r < 0)
		fprintf(stderr, "netsonde ping: %s\n", error.text[0] ? error.text : strerror(-r));
	return r < 0 ? 2 : r;
}
