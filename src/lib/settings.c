/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of netsonde.yaml. Whoever adds a feature adds its rows here and its
 * members to struct settings; defaults, validation, the example and the man page
 * follow. Bounds are there to catch slips (a tick of 1ms, a budget of 10), not to
 * tune: a value within them is one the program was built to run with.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include "lib/config.h"
#include "lib/settings.h"
#include "lib/settings_probe.h"

#define NAME_MAX_CHARS 128 /* a label value in every series of its peer or target */
#define AT(member) offsetof(struct settings, member)

/* The peer label `other` holds what fits in no network and not among the top peers. */
static int network_name_check(const char *text, struct error *ret_error)
{
	struct address address;
	if (!strcmp(text, "other"))
		return error_set(ret_error, -EINVAL,
				 "`other` cannot name a network: it stands for all remaining peers");
	if (!address_parse(text, &address))
		return error_set(ret_error, -EINVAL,
				 "an address cannot name a network: peers are shown by their addresses");
	return 0;
}

/* What the kernel accepts as the name of an interface (dev_valid_name). */
int settings_interface_check(const char *text, struct error *ret_error)
{
	if (strlen(text) < 16 && !strpbrk(text, " /:") && strcmp(text, ".") && strcmp(text, ".."))
		return 0;
	return error_set(ret_error, -EINVAL,
			 "the name of an interface has at most 15 bytes and no space, `/` or `:`");
}

static int namespace_check(const char *text, struct error *ret_error)
{
	if (*text == '/' || (!strchr(text, '/') && strcmp(text, ".") && strcmp(text, "..")))
		return 0;
	return error_set(ret_error, -EINVAL,
			 "a network namespace is a name in /run/netns or a path that begins with `/`");
}

static const struct config_row interface_name_rows[] = {
	{ .path = "", .type = CONFIG_STRING, .flags = CONFIG_UNIQUE, .max = 64, .check = settings_interface_check,
	  .help = "The name of an interface." },
	{ 0 }
};

static const struct config_row namespace_rows[] = {
	{ .path = "", .type = CONFIG_STRING, .flags = CONFIG_UNIQUE, .max = 512, .check = namespace_check,
	  .help = "A name in /run/netns or a path." },
	{ 0 }
};

static const struct config_row network_prefix_rows[] = {
	{ .path = "", .type = CONFIG_PREFIX, .flags = CONFIG_UNIQUE, .help = "An address or a prefix." },
	{ 0 }
};

static const struct config_row reflect_rows[] = {
	{ .path = "", .type = CONFIG_STRING, .flags = CONFIG_UNIQUE, .max = 64, .check = settings_interface_check,
	  .help = "The name of an interface." },
	{ 0 }
};

static const struct config_row plan_network_rows[] = {
	{ .path = "", .type = CONFIG_PREFIX, .flags = CONFIG_UNIQUE, .help = "An address or a prefix." },
	{ 0 }
};

static const struct config_row plan_protocol_rows[] = {
	{ .path = "", .type = CONFIG_CHOICE, .choices = "icmp|stamp|tcp", .flags = CONFIG_UNIQUE, .help = "A protocol." },
	{ 0 }
};

static const struct config_row network_rows[] = {{.path = "name",
						  .type = CONFIG_STRING,
						  .offset = offsetof(struct settings_network, name),
						  .max = NAME_MAX_CHARS,
						  .check = network_name_check,
						  .help = "The network's name."},
						 {.path = "",
						  .type = CONFIG_LIST,
						  .offset = offsetof(struct settings_network, prefixes),
						  .count_offset = offsetof(struct settings_network, n_prefixes),
						  .size = sizeof(struct prefix),
						  .rows = network_prefix_rows,
						  .example = "[10.1.0.0/16]",
						  .help = "Its addresses."},
						 {0}};

static const struct config_row target_rows[] = {
	{ .path = "name", .type = CONFIG_STRING, .offset = offsetof(struct settings_scrape_target, name),
	  .max = NAME_MAX_CHARS, .flags = CONFIG_REQUIRED | CONFIG_UNIQUE,
	  .help = "How the target is called on the dashboard and in labels." },
	{ .path = "url", .type = CONFIG_URL, .offset = offsetof(struct settings_scrape_target, url), .max = 2048,
	  .flags = CONFIG_REQUIRED, .help = "Where its metrics are, with http:// or https://." },
	{ 0 }
};

static const struct config_row rows[] = {
    {.path = "networks",
     .type = CONFIG_MAP,
     .offset = AT(networks),
     .count_offset = AT(n_networks),
     .size = sizeof(struct settings_network),
     .rows = network_rows,
     .example = "{web: [10.1.0.0/16], db: [10.2.0.0/24, \"fd00:2::/64\"]}",
     .help = "Names for addresses. A peer inside a network is shown by the network's name (the longest prefix wins), "
	     "any other by its address."},

    {.path = "collect", .type = CONFIG_SECTION, .help = "What the agent measures on its host."},
    {.path = "collect.tick",
     .type = CONFIG_DURATION,
     .offset = AT(collect.tick_ns),
     .value = "1s",
     .min = 20000000,
     .max = 60000000000,
     .help = "How often the agent reads the kernel's counters."},
    {.path = "collect.scope",
     .type = CONFIG_CHOICE,
     .offset = AT(collect.scope),
     .value = "machine",
     .choices = "machine|namespace",
     .help = "Whose connections, packets and processes are measured: those of all network namespaces of the machine, containers "
	     "included, or only of the agent's own, as when each namespace stands for a host and has an agent of its own. Interfaces "
	     "are of the agent's namespace in any case."},
    {.path = "collect.tcp",
     .type = CONFIG_SWITCH,
     .offset = AT(collect.tcp),
     .value = "on",
     .help = "Connections, round-trip times, retransmissions and throughput of TCP."},
    {.path = "collect.tcp.rtt",
     .type = CONFIG_CHOICE,
     .offset = AT(collect.tcp_rtt),
     .value = "per_tick",
     .choices = "per_tick|every_ack",
     .help = "Which round-trip times make up the distributions: of each connection that moved data the kernel's "
	     "current estimate once per tick, or every single measurement the kernel takes, for which a program runs "
	     "on every acknowledgement."},
    {.path = "collect.udp",
     .type = CONFIG_SWITCH,
     .offset = AT(collect.udp),
     .value = "off",
     .help = "Bytes, datagrams and receive-buffer drops of UDP by peer. Off by default, because a program runs on "
	     "every datagram."},
    {.path = "collect.dns",
     .type = CONFIG_SWITCH,
     .offset = AT(collect.dns),
     .value = "off",
     .help = "Latency and response codes of DNS servers, from the queries and answers of this host. Off by default, "
	     "because a program looks at every packet that a local socket sends or receives."},
    {.path = "collect.lookups",
     .type = CONFIG_SWITCH,
     .offset = AT(collect.lookups),
     .value = "on",
     .help = "How long applications wait for the C library to resolve a host name."},
    {.path = "collect.drops",
     .type = CONFIG_SWITCH,
     .offset = AT(collect.drops),
     .value = "on",
     .help = "Packets dropped on this host, by the kernel's reason and by protocol."},
    {.path = "collect.processes",
     .type = CONFIG_SWITCH,
     .offset = AT(collect.processes),
     .value = "on",
     .help = "Starts and exits of processes, and the process and container of every connection."},
    {.path = "collect.interfaces",
     .type = CONFIG_SWITCH,
     .offset = AT(collect.interfaces),
     .value = "on",
     .help = "Traffic, errors, speed and state of the network interfaces."},
    {.path = "collect.flows",
     .type = CONFIG_LIST,
     .offset = AT(collect.flows),
     .count_offset = AT(collect.n_flows),
     .size = sizeof(char *),
     .max = 8,
     .rows = interface_name_rows,
     .example = "[eth1, lan0]",
     .help = "Interfaces where every packet is accounted, also those of other hosts: traffic by peer, protocol and "
	     "direction, and the round-trip times of forwarded TCP connections. For gateways and mirror ports; none by "
	     "default, because a program runs on every packet of the interface."},
    {.path = "collect.namespaces",
     .type = CONFIG_LIST,
     .offset = AT(collect.namespaces),
     .count_offset = AT(collect.n_namespaces),
     .size = sizeof(char *),
     .max = 64,
     .rows = namespace_rows,
     .example = "[blue, /proc/4711/ns/net]",
     .help = "Network namespaces whose interfaces are watched too, besides the agent's own: names in /run/netns, or "
	     "paths."},
    {.path = "collect.top_peers",
     .type = CONFIG_UNSIGNED,
     .offset = AT(collect.top_peers),
     .value = "100",
     .max = 4096,
     .help =
	 "How many addresses outside the named networks get series of their own; the others share the peer `other`."},
    {.path = "collect.series_budget",
     .type = CONFIG_UNSIGNED,
     .offset = AT(collect.series_budget),
     .value = "20000",
     .min = 100,
     .max = 10000000,
     .help = "The most series the agent exposes. What does not fit is counted in netsonde_series_dropped_total."},
    {.path = "collect.max_sockets",
     .type = CONFIG_UNSIGNED,
     .offset = AT(collect.max_sockets),
     .value = "262144",
     .min = 1024,
     .max = 4000000,
     .help = "The most TCP sockets followed at the same time; it bounds the agent's memory in the kernel."},
    {.path = "collect.memory_budget",
     .type = CONFIG_SIZE,
     .offset = AT(collect.memory_budget),
     .value = "64M",
     .min = 8000000,
     .max = 4000000000,
     .help = "The most memory the agent takes: its maps in the kernel, its records of sockets and the process itself. "
	     "What finds no room is counted as lost."},
    {.path = "collect.events_per_second",
     .type = CONFIG_UNSIGNED,
     .offset = AT(collect.events_per_second),
     .value = "100",
     .min = 1,
     .max = 100000,
     .help = "The most events of each kind that are kept and streamed per second. The others are counted as "
	     "suppressed."},

    {.path = "probe", .type = CONFIG_SECTION, .finish = settings_probe_finish,
     .help = "Active probes: what the agent sends to measure, and what it answers. Without targets, peers, a plan or reflecting "
	     "interfaces nothing is sent, loaded or attached."},
    {.path = "probe.defaults", .type = CONFIG_SECTION, .help = "What targets have unless they say otherwise."},
    {.path = "probe.defaults.interval", .type = CONFIG_DURATION, .offset = AT(probe.defaults.interval_ns), .value = "1s",
     .min = 10000000, .max = 3600000000000,
     .help = "The time from one probe of a path to the next; each is up to a tenth earlier or later."},
    {.path = "probe.defaults.timeout", .type = CONFIG_DURATION, .offset = AT(probe.defaults.timeout_ns), .value = "2s",
     .min = 1000000, .max = 60000000000, .help = "A probe without an answer by then is lost."},
    {.path = "probe.defaults.protocol", .type = CONFIG_CHOICE, .offset = AT(probe.defaults.protocol), .value = "icmp",
     .choices = "icmp|stamp|tcp",
     .help = "ICMP echo, which any host answers; STAMP (RFC 8762), which a reflector answers and which tells the delay of each "
	     "direction; or a TCP SYN to a port."},
    {.path = "probe.defaults.size", .type = CONFIG_UNSIGNED, .offset = AT(probe.defaults.size), .value = "56", .min = 16,
     .max = 9000, .help = "Bytes behind the ICMP or UDP header; raised to the least that a STAMP packet has, 44 or with a key 112."},
    {.path = "probe.defaults.dscp", .type = CONFIG_UNSIGNED, .offset = AT(probe.defaults.dscp), .value = "0", .max = 63,
     .help = "The class of service that the probes ask for."},
    {.path = "probe.defaults.paths", .type = CONFIG_UNSIGNED, .offset = AT(probe.defaults.paths), .value = "1", .min = 1,
     .max = 32,
     .help = "So many probes per interval, with different source ports, checksums or flow labels, so that routers that spread "
	     "traffic over several ways send them different ways."},
    {.path = "probe.budget", .type = CONFIG_SECTION,
     .help = "What all probes together never exceed, in any second. What is asked for beyond it makes all intervals longer."},
    {.path = "probe.budget.packets", .type = CONFIG_RATE, .offset = AT(probe.budget.packets), .value = "1000/s", .min = 1,
     .max = 2000000, .help = "Probes sent."},
    {.path = "probe.budget.bytes", .type = CONFIG_SIZE_RATE, .offset = AT(probe.budget.bytes), .value = "1MB/s", .min = 20000,
     .max = 4000000000, .help = "Bytes of their IP packets."},
    {.path = "probe.targets", .type = CONFIG_LIST, .offset = AT(probe.targets), .count_offset = AT(probe.n_targets),
     .size = sizeof(struct settings_probe_target), .rows = settings_probe_target_rows, .finish = settings_probe_target_finish,
     .example = "[{name: gateway, address: 10.0.0.1}]", .help = "Whom to probe."},
    {.path = "probe.peers", .type = CONFIG_UNSIGNED, .flags = CONFIG_TOP, .choices = "off", .offset = AT(probe.peers),
     .value = "off", .min = 1, .max = 4096,
     .help = "Probe so many of the busiest peers of this host by ICMP: addresses outside the named networks, as the peer label has "
	     "them."},
    {.path = "probe.plan", .type = CONFIG_SECTION, .finish = settings_probe_plan_finish,
     .help = "Targets fetched from elsewhere. What the plan may ask for is bounded here."},
    {.path = "probe.plan.url", .type = CONFIG_URL, .offset = AT(probe.plan.url), .max = 2048,
     .example = "http://10.0.0.2/plan.json", .help = "Where the plan is, a JSON document (docs/http-api.md); none by default."},
    {.path = "probe.plan.interval", .type = CONFIG_DURATION, .offset = AT(probe.plan.interval_ns), .value = "1m",
     .min = 1000000000, .max = 86400000000000, .help = "How often it is fetched."},
    {.path = "probe.plan.targets", .type = CONFIG_UNSIGNED, .offset = AT(probe.plan.targets), .value = "1000", .max = 100000,
     .help = "The most targets it may ask for."},
    {.path = "probe.plan.min_interval", .type = CONFIG_DURATION, .offset = AT(probe.plan.min_interval_ns), .value = "1s",
     .min = 10000000, .max = 3600000000000, .help = "A shorter interval that it asks for becomes this one."},
    {.path = "probe.plan.networks", .type = CONFIG_LIST, .offset = AT(probe.plan.networks),
     .count_offset = AT(probe.plan.n_networks), .size = sizeof(struct prefix), .max = 1024, .rows = plan_network_rows,
     .example = "[10.0.0.0/8]", .help = "The only addresses that it may name; all when there are none here."},
    {.path = "probe.plan.protocols", .type = CONFIG_LIST, .offset = AT(probe.plan.protocols),
     .count_offset = AT(probe.plan.n_protocols), .size = sizeof(unsigned), .max = 3, .rows = plan_protocol_rows,
     .example = "[stamp]", .help = "The only protocols that it may ask for; all when there are none here."},
    {.path = "probe.passive", .type = CONFIG_SWITCH, .offset = AT(probe.passive), .value = "on",
     .help = "Do not probe by ICMP what this host's own TCP connections measure at the moment."},
    {.path = "probe.adapt", .type = CONFIG_SWITCH, .offset = AT(probe.adapt), .value = "on",
     .help = "Probe a target that loses probes or becomes slower ten times as often for ten seconds, but not more than ten times "
	     "per second and not beyond the budget."},
    {.path = "probe.attach", .type = CONFIG_CHOICE, .offset = AT(probe.attach), .value = "auto",
     .choices = "auto|xdp|xdp_generic|tc|socket|off",
     .help = "Where in the kernel the probes are timed: the best way that the interface has, XDP also where it would cost a "
	     "software interface its offloads, or another way; with off the sockets' own timestamps are used."},
    {.path = "probe.reflect", .type = CONFIG_LIST, .offset = AT(probe.reflect), .count_offset = AT(probe.n_reflect),
     .size = sizeof(char *), .max = 16, .rows = reflect_rows, .example = "[eth1]",
     .help = "Interfaces on which the kernel answers STAMP probes of others, to the interface's own addresses and to "
	     "those of lo."},
    {.path = "probe.reflector", .type = CONFIG_SECTION, .finish = settings_probe_reflector_finish,
     .help = "How it answers."},
    {.path = "probe.reflector.port", .type = CONFIG_UNSIGNED, .offset = AT(probe.reflector.port), .value = "862", .min = 1,
     .max = 65535, .help = "The UDP port of STAMP."},
    {.path = "probe.reflector.icmp", .type = CONFIG_SWITCH, .offset = AT(probe.reflector.icmp), .value = "off",
     .help = "Answer ICMP echo there too, in place of the kernel's own answer."},
    {.path = "probe.reflector.rate", .type = CONFIG_RATE, .offset = AT(probe.reflector.rate), .value = "1000/s", .min = 1,
     .max = 10000000, .help = "The most answers to one source."},
    {.path = "probe.reflector.key_file", .type = CONFIG_STRING, .offset = AT(probe.reflector.key_file), .check = settings_path_check,
     .example = "/etc/netsonde/stamp.key", .help = "The key of authenticated STAMP; none by default."},
    {.path = "probe.reflector.authenticated_only", .type = CONFIG_SWITCH, .offset = AT(probe.reflector.authenticated_only),
     .value = "off", .help = "Do not answer what is not authenticated by the key."},
    {.path = "probe.clock_error", .type = CONFIG_DURATION, .choices = "none", .offset = AT(probe.clock_error_ns), .value = "none",
     .min = 1, .max = 60000000000,
     .help = "How far off this host's clock is at most, where the kernel does not know it: when something other than NTP keeps it "
	     "right. It goes into the error of one-way delays."},
    {.path = "probe.max_targets", .type = CONFIG_UNSIGNED, .offset = AT(probe.max_targets), .value = "1000", .min = 1,
     .max = 100000,
     .help = "The most targets at the same time; one with several paths counts as so many. A target has about 70 series in the text "
	     "formats, so more than a few hundred take a larger collect.series_budget, and each takes some kilobytes of "
	     "collect.memory_budget."},

    {.path = "server", .type = CONFIG_SECTION, .help = "The server: what it scrapes and how long it keeps it."},
    {.path = "server.scrape", .type = CONFIG_SECTION, .help = "Whom the server asks for metrics."},
    {.path = "server.scrape.interval",
     .type = CONFIG_DURATION,
     .offset = AT(server.scrape.interval_ns),
     .value = "1s",
     .min = 20000000,
     .max = 3600000000000,
     .help = "The time from one scrape of a target to the next."},
    {.path = "server.scrape.timeout",
     .type = CONFIG_DURATION,
     .offset = AT(server.scrape.timeout_ns),
     .value = "10s",
     .min = 10000000,
     .max = 3600000000000,
     .help = "A target that has not answered by then counts as down."},
    {.path = "server.scrape.targets",
     .type = CONFIG_LIST,
     .offset = AT(server.scrape.targets),
     .count_offset = AT(server.scrape.n_targets),
     .size = sizeof(struct settings_scrape_target),
     .rows = target_rows,
     .example = "[{name: host-a, url: \"http://10.0.0.2:9435/metrics\"}]",
     .help = "NetSonde agents and any other Prometheus exporters."},
    {.path = "server.store", .type = CONFIG_SECTION, .help = "The database."},
    {.path = "server.store.path",
     .type = CONFIG_STRING,
     .offset = AT(server.store.path),
     .value = "netsonde.db",
     .help = "The SQLite file. A relative path is relative to the server's state directory."},
    {.path = "server.store.retention", .type = CONFIG_SECTION, .help = "How long samples are kept."},
    {.path = "server.store.retention.raw",
     .type = CONFIG_DURATION,
     .offset = AT(server.store.retention_raw_ns),
     .value = "2d",
     .min = 60000000000,
     .max = 315360000000000000,
     .help = "Samples as they were scraped."},
    {0}};

int settings_load(const char *path, struct settings *ret_settings, struct buffer *ret_errors)
{
	return config_load(rows, path, ret_settings, sizeof(*ret_settings), ret_errors);
}

int settings_parse(const char *text, size_t len, const char *name, struct settings *ret_settings,
		   struct buffer *ret_errors)
{
	return config_parse(rows, text, len, name, ret_settings, sizeof(*ret_settings), ret_errors);
}

void settings_done(struct settings *settings)
{
	config_done(rows, settings);
}

void settings_write_example(struct buffer *out)
{
	buffer_puts(out, "# The configuration of NetSonde. Every key is optional; these are the defaults.\n"
			 "# `netsonde check FILE` finds mistakes.\n");
	config_write_example(rows, out);
}

void settings_write_man(struct buffer *out)
{
	buffer_puts(
	    out, ".TH NETSONDE.YAML 5 \"\" NetSonde \"NetSonde manual\"\n"
		 ".SH NAME\n"
		 "netsonde.yaml \\- configuration file of netsonde(1)\n"
		 ".SH DESCRIPTION\n"
		 "One YAML file configures the agent and the server; each reads its own keys.\n"
		 "It is given with \\fB\\-\\-config.file\\fR.\n"
		 "Every key is optional, and an empty file means the defaults.\n"
		 "A mistake is reported with its line and column, and nothing of a file with a mistake takes effect.\n"
		 "Anchors, aliases, tags and more than one document are refused, and so is a file over 1 MiB.\n"
		 ".PP\n"
		 "A duration is a number with a unit: y (365 days), w, d, h, m, s, ms, us or ns.\n"
		 "Several may follow each other, the longer unit first: 1h30m.\n"
		 "A number may end in k (thousands) or M (millions).\n"
		 "A size is a number of bytes: 64M and 64MB mean 64,000,000, and 64MiB means 67,108,864.\n"
		 "A rate is a number or a size followed by /s.\n"
		 "A key in a section is written below it, indented; \\fBcollect.tick\\fR is the key\n"
		 "\\fBtick\\fR in the section \\fBcollect\\fR.\n"
		 ".SH KEYS\n");
	config_write_man(rows, out);
	buffer_puts(
	    out, ".SH EXAMPLE\n"
		 ".nf\n"
		 "networks: {web: [10.1.0.0/16], db: [10.2.0.0/24, \"fd00:2::/64\"]}\n"
		 "collect:\n"
		 "  tick: 250ms\n"
		 "  tcp: {rtt: every_ack}\n"
		 "  dns: on\n"
		 "  flows: [eth1]\n"
		 "  memory_budget: 128MiB\n"
		 "probe:\n"
		 "  targets:\n"
		 "    \\- {name: gateway, address: 10.0.0.1}\n"
		 "    \\- {name: site\\-b, address: 10.9.0.4, protocol: stamp}\n"
		 "  reflect: [eth1]\n"
		 "server:\n"
		 "  scrape:\n"
		 "    targets:\n"
		 "      \\- name: host\\-a\n"
		 "        url: \"http://10.0.0.2:9435/metrics\"\n"
		 "  store:\n"
		 "    retention: {raw: 7d}\n"
		 ".fi\n"
		 ".SH SEE ALSO\n"
		 "\\fBnetsonde\\fR(1); \\fBnetsonde check \\-\\-print\\-example\\fR prints a file with every key.\n");
}
