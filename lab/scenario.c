/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "lab/impair.h"
#include "lab/scenario.h"
#include "lib/flags.h"

#define WORDS_MAX 4
#define LINE_MAX_BYTES 256
#define NAMES_MAX 32

/* The place in the table is the host's number and so its addresses. Delays are one way. */
const struct topology_host scenario_hosts[] = {
	{ "client-a", "a desk: two browsers", "delay=500us rate=100Mbit", "1 ms round trip, 100 Mbit/s" },
	{ "client-b", "a desk on Wi-Fi: a browser, a video player, a phone", "delay=2ms jitter=500us rate=50Mbit",
	  "4 ms round trip with jitter, 50 Mbit/s" },
	{ "web", "the web server; asks db for every page", "delay=200us rate=1Gbit", "0.4 ms round trip, 1 Gbit/s" },
	{ "db", "the database; its backup goes to site-b", "delay=200us rate=1Gbit", "0.4 ms round trip, 1 Gbit/s" },
	{ "dns", "the name server of all", "delay=200us rate=1Gbit", "0.4 ms round trip, 1 Gbit/s" },
	{ "site-b", "another site: storage and a telephone", "delay=10ms jitter=200us rate=20Mbit queue=200ms",
	  "20 ms round trip, 20 Mbit/s" },
};
const size_t scenario_n_hosts = sizeof(scenario_hosts) / sizeof(*scenario_hosts);

const struct fault scenario_faults[] = {
	{ .name = "loss", .host = "web", .settings = "loss=5%",
	  .sentence = "the link of web loses 5 % of its packets",
	  .look = "retransmissions to and from web rise, and netsonde_probe_lost_total of the agents" },
	{ .name = "bottleneck", .host = "site-b", .settings = "rate=2Mbit queue=300ms",
	  .sentence = "the link of site-b has 2 Mbit/s instead of 20",
	  .look = "the round trip to site-b rises by the queue, the backup slows down" },
	{ .name = "slow-dns", .host = "dns", .traffic = TRAFFIC_SLOW_DNS, .value = UINT64_C(400000000),
	  .sentence = "named takes 400 ms for every answer",
	  .look = "DNS and host lookups take 0.4 s, so pages do; round trips are as before" },
	{ .name = "slow-reader", .host = "client-b", .traffic = TRAFFIC_SLOW_READER, .value = 20000,
	  .sentence = "the player of client-b reads 20 kB/s of the 250 that come",
	  .look = "web's connection to it is limited by the receive window" },
	{ .name = "refused", .host = "db", .traffic = TRAFFIC_REFUSED, .value = 1,
	  .sentence = "dbd has ended: its port refuses connections",
	  .look = "web's connections to db are refused, pages fail" },
	{ .name = "detour", .host = "site-b", .settings = "delay=35ms",
	  .sentence = "packets to and from site-b take a longer way: 50 ms more",
	  .look = "the smallest round trip to site-b is 70 ms instead of 20" },
	{ .name = "reorder", .host = "client-b", .settings = "reorder=3% hold=8ms",
	  .sentence = "3 % of client-b's packets are overtaken by others",
	  .look = "netsonde_probe_reordered_total of the agents rises" },
};
const size_t scenario_n_faults = sizeof(scenario_faults) / sizeof(*scenario_faults);

const char command_help[] =
	"  FAULT               begins a fault of `netsonde lab --list`, such as slow-dns, until it is stopped\n"
	"  SETTING HOST VALUE  changes the link of a host in both directions: loss web 5%, delay site-b 50ms (one way),\n"
	"                      jitter client-a 5ms, rate site-b 2Mbit, duplicate web 1%, reorder web 1%\n"
	"  stop [FAULT|HOST]   ends a fault, puts a link back, or without a word everything; the tour ends too\n"
	"  status              what is on now, and what the programs and links have done\n"
	"  quit                ends the lab, as Ctrl-C does\n";

int scenario_find(const char *name, struct error *ret_error)
{
	const char *names[NAMES_MAX];
	for (size_t i = 0; i < scenario_n_faults; i++) {
		names[i] = scenario_faults[i].name;
		if (!strcmp(name, names[i]))
			return (int)i;
	}
	const char *nearest = flags_nearest(name, names, scenario_n_faults);
	return nearest ? error_set(ret_error, -ENOENT, "there is no fault `%s`; did you mean `%s`?", name, nearest) :
			 error_set(ret_error, -ENOENT, "there is no fault `%s`; `netsonde lab --list` shows them", name);
}

struct scenario_step scenario_step(uint64_t i)
{
	return (struct scenario_step){
		.at_ns = (i / 2 + 1) * SCENARIO_QUIET_NS + (i / 2 + i % 2) * SCENARIO_FAULT_NS,
		.fault = i / 2 % scenario_n_faults,
		.begins = i % 2 == 0,
	};
}

static const char *const settings[] = { "loss", "delay", "jitter", "rate", "queue", "duplicate", "reorder", "hold" };
#define N_SETTINGS (sizeof(settings) / sizeof(*settings))

static int link_command(char *const words[static 3], struct command *command, struct error *error)
{
	struct impair impair = { 0 };
	int host = topology_find(scenario_hosts, scenario_n_hosts, words[1], error);
	if (host < 0)
		return host;
	command->kind = COMMAND_LINK;
	command->index = (size_t)host;
	snprintf(command->text, sizeof(command->text), "both %s=%s", words[0], words[2]);
	return impair_parse(command->text + strlen("both "), &impair, error);
}

static int stop_command(const char *word, struct command *command, struct error *error)
{
	int fault = scenario_find(word, NULL), host = topology_find(scenario_hosts, scenario_n_hosts, word, NULL);
	if (fault < 0 && host < 0)
		return error_set(error, -EINVAL, "`%s` is neither a fault nor a host", word);
	command->kind = fault >= 0 ? COMMAND_STOP_FAULT : COMMAND_STOP_LINK;
	command->index = (size_t)(fault >= 0 ? fault : host);
	return 0;
}

static int unknown(const char *word, struct error *error)
{
	const char *names[NAMES_MAX] = { "help", "status", "quit", "stop" };
	size_t n = 4;
	for (size_t i = 0; i < N_SETTINGS; i++)
		names[n++] = settings[i];
	for (size_t i = 0; i < scenario_n_faults; i++)
		names[n++] = scenario_faults[i].name;
	const char *nearest = flags_nearest(word, names, n);
	return nearest ? error_set(error, -EINVAL, "unknown command `%s`; did you mean `%s`?", word, nearest) :
			 error_set(error, -EINVAL, "unknown command `%s`; `help` lists them", word);
}

static int words_obey(char *const words[static WORDS_MAX], size_t n, struct command *command, struct error *error)
{
	static const struct { const char *name; enum command_kind kind; } plain[] = {
		{ "help", COMMAND_HELP }, { "status", COMMAND_STATUS }, { "quit", COMMAND_QUIT }, { "stop", COMMAND_STOP },
	};
	if (n == 2 && !strcmp(words[0], "stop"))
		return stop_command(words[1], command, error);
	for (size_t i = 0; n == 1 && i < sizeof(plain) / sizeof(*plain); i++)
		if (!strcmp(words[0], plain[i].name)) {
			command->kind = plain[i].kind;
			return 0;
		}
	int fault = scenario_find(words[0], NULL);
	if (n == 1 && fault >= 0) {
		command->kind = COMMAND_FAULT;
		command->index = (size_t)fault;
		return 0;
	}
	for (size_t i = 0; i < N_SETTINGS; i++)
		if (!strcmp(words[0], settings[i]))
			return n == 3 ? link_command(words, command, error) :
					error_set(error, -EINVAL, "expected `%s HOST VALUE`", words[0]);
	return n > 1 && (fault >= 0 || !strcmp(words[0], "stop")) ?
	       error_set(error, -EINVAL, "too many words behind `%s`", words[0]) : unknown(words[0], error);
}

int command_parse(const char *line, struct command *ret_command, struct error *ret_error)
{
	struct command command = { .kind = COMMAND_NONE };
	char copy[LINE_MAX_BYTES], *words[WORDS_MAX], *save = NULL;
	size_t n = 0;
	if (strlen(line) >= sizeof(copy))
		return error_set(ret_error, -EINVAL, "the line is too long");
	strcpy(copy, line);
	for (char *word = strtok_r(copy, " \t\r\n", &save); word; word = strtok_r(NULL, " \t\r\n", &save)) {
		if (n == WORDS_MAX - 1)
			return error_set(ret_error, -EINVAL, "too many words behind `%s`", words[0]);
		words[n++] = word;
	}
	int r = n ? words_obey(words, n, &command, ret_error) : 0;
	if (!r)
		*ret_command = command;
	return r;
}
