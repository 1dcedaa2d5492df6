/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `netsonde check`: reads a configuration as the agent and the server would, and
 * says what is wrong with it or what it configures. Opens nothing but the file.
 */
#include <stdio.h>
#include <string.h>
#include "cli/commands.h"
#include "lib/clock.h"
#include "lib/settings.h"

struct check_flags { bool example, man; };

static const struct flag flags[] = {
	{ .name = "print-example", .type = FLAG_SWITCH, .offset = offsetof(struct check_flags, example),
	  .help = "Print a documented configuration that sets every key to its default, and exit." },
	{ .name = "print-man", .type = FLAG_SWITCH, .offset = offsetof(struct check_flags, man), .hidden = true,
	  .help = "Print the man page netsonde.yaml(5), and exit." },
	{ 0 }
};

const struct flag_command check_command = {
    .name = "check",
    .summary = "validate a configuration file",
    .arguments = "[FILE]",
    .description =
	"Validates a configuration, netsonde.yaml when no file is given, and prints what it configures. Every "
	"mistake is reported with its line and column. The exit status is 1 when there is one.",
    .flags = flags,
    .arguments_max = 1,
};

static const char *plural(size_t n)
{
	return n == 1 ? "" : "s";
}

static void collect_print(const struct settings *settings)
{
	const struct { const char *name; bool on; } parts[] = {
		{ settings->collect.tcp_rtt == SETTINGS_RTT_EVERY_ACK ? "tcp (rtt of every ack)" : "tcp",
		  settings->collect.tcp },
		{ "udp", settings->collect.udp },	{ "dns", settings->collect.dns },
		{ "lookups", settings->collect.lookups }, { "drops", settings->collect.drops },
		{ "processes", settings->collect.processes }, { "interfaces", settings->collect.interfaces },
	};
	size_t n = 0;
	fputs("  collect:", stdout);
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
		if (parts[i].on)
			printf("%s %s", n++ ? "," : "", parts[i].name);
	for (size_t i = 0; i < settings->collect.n_flows; i++)
		printf("%s flows of %s", n++ ? "," : "", settings->collect.flows[i]);
	puts(n ? "" : " nothing");
}

/* What its own targets ask for; peers and a plan come on top of it. */
static double probes_per_second(const struct settings_probe *probe)
{
	double sum = 0;
	for (size_t i = 0; i < probe->n_targets; i++)
		sum += probe->targets[i].paths / ns_to_seconds(probe->targets[i].interval_ns);
	return sum;
}

static void probe_print(const struct settings *settings)
{
	const struct settings_probe *probe = &settings->probe;
	const double wanted = probes_per_second(probe), allowed = probe->budget.packets;
	if (!settings_probe_wanted(settings))
		return;
	printf("  probe: %zu target%s", probe->n_targets, plural(probe->n_targets));
	if (probe->peers)
		printf(", top %u peers", probe->peers);
	if (probe->plan.url)
		printf(", at most %u of a plan", probe->plan.targets);
	if (probe->n_targets)
		printf(", %.4g probes/s", wanted);
	if (wanted > allowed)
		printf(" (the budget allows %.4g: all intervals become at least %.3g times as long)", allowed, wanted / allowed);
	for (size_t i = 0; i < probe->n_reflect; i++)
		printf("%s%s", i ? ", " : "; reflects on ", probe->reflect[i]);
	putchar('\n');
}

static void summary_print(const char *path, const struct settings *settings)
{
	char tick[32], interval[32], timeout[32], raw[32];
	size_t prefixes = 0;
	for (size_t i = 0; i < settings->n_networks; i++)
		prefixes += settings->networks[i].n_prefixes;
	printf("%s: ok\n", path);
	printf(
	    "  agent: %zu network%s (%zu prefix%s), tick %s, %u top peers, at most %u series and %u sockets\n",
	    settings->n_networks, plural(settings->n_networks), prefixes, prefixes == 1 ? "" : "es",
	    duration_format(settings->collect.tick_ns, tick), settings->collect.top_peers,
	    settings->collect.series_budget, settings->collect.max_sockets);
	collect_print(settings);
	probe_print(settings);
	printf("  server: %zu target%s every %s (timeout %s), store %s, raw samples kept for %s\n",
	       settings->server.scrape.n_targets, plural(settings->server.scrape.n_targets),
	       duration_format(settings->server.scrape.interval_ns, interval),
	       duration_format(settings->server.scrape.timeout_ns, timeout), settings->server.store.path,
	       duration_format(settings->server.store.retention_raw_ns, raw));
}

static int file_check(const char *path)
{
	struct settings settings;
	struct buffer errors = BUFFER_INIT;
	int r = settings_load(path, &settings, &errors);
	if (r < 0) {
		fputs(errors.data ? errors.data : "netsonde check: out of memory\n", stderr);
	} else {
		summary_print(path, &settings);
		settings_done(&settings);
	}
	buffer_done(&errors);
	return r < 0;
}

static int text_print(void (*write)(struct buffer *))
{
	struct buffer out = BUFFER_INIT;
	write(&out);
	int status = !buffer_ok(&out) || !out.data || fputs(out.data, stdout) < 0;
	buffer_done(&out);
	return status;
}

int cmd_check(int argc, char **argv)
{
	struct check_flags target = { 0 };
	struct error error = { 0 };
	char **arguments;
	size_t n = 0;
	int r = flags_parse(&check_command, argc, argv, &target, &arguments, &n, &error);
	if (r < 0) {
		fprintf(stderr, "netsonde check: %s\n", error.text);
		return 2;
	}
	if (r == FLAGS_E_HELP)
		return 0;
	if (target.example)
		return text_print(settings_write_example);
	if (target.man)
		return text_print(settings_write_man);
	return file_check(n ? arguments[0] : "netsonde.yaml");
}
