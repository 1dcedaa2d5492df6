/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `netsonde doctor`: what this host's kernel offers, which mode each feature gets,
 * and what to do about a missing one. With the agent's privileges it really loads and attaches
 * everything, for a moment; without them it says what it could not try.
 */
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "agent/agent.h"
#include "agent/kernel_checks.h"
#include "cli/commands.h"
#include "lib/json.h"
#include "lib/log.h"

struct doctor_flags { bool json, metrics; };

static const struct flag flags[] = {
	{ .name = "json", .type = FLAG_SWITCH, .offset = offsetof(struct doctor_flags, json), .help = "Print one JSON object instead of text." },
	{ .name = "print-metrics", .type = FLAG_SWITCH, .offset = offsetof(struct doctor_flags, metrics), .hidden = true,
	  .help = "Print the agent's metrics as a Markdown table, and exit." },
	{ 0 }
};

const struct flag_command doctor_command = {
	.name = "doctor",
	.summary = "say what this host can measure, and why not more",
	.description =
		"Checks the kernel and loads every collector for a moment. Of probes it says the best that this kernel takes; what an "
		"interface gets depends on its driver, and `netsonde ping` and netsonde_probe_device_info say it. The exit status is 1 when "
		"the core, TCP, does not work.",
	.flags = flags,
};

static bool core_works(const struct features *features)
{
	for (size_t i = 0; i < features->n; i++)
		if (!strcmp(features->items[i].name, "tcp"))
			return features->items[i].enabled;
	return false;
}

static void print_text(const struct kernel_checks *checks, const struct features *features)
{
	struct utsname kernel = { 0 };

	uname(&kernel);
	printf("netsonde %s on %s %s %s\n\nHost\n", NETSONDE_VERSION, kernel.sysname, kernel.release, kernel.machine);
	for (size_t i = 0; i < checks->n; i++) {
		const struct kernel_check *c = &checks->items[i];

		printf("  %-4s %-26s %s\n", c->ok ? "ok" : "no", c->name, c->detail);
		if (!c->ok && c->remedy[0])
			printf("       %-26s -> %s\n", "", c->remedy);
	}
	printf("\nFeatures\n");
	for (size_t i = 0; i < features->n; i++) {
		const struct feature *f = &features->items[i];

		printf("  %-4s %-26s %s\n", f->enabled ? "ok" : f->unwanted ? "off" : "no", f->name, f->enabled ? f->mode : f->reason);
		if (!f->enabled && f->remedy[0])
			printf("       %-26s -> %s\n", "", f->remedy);
	}
	printf("\n%s\n", core_works(features) ? "The agent works on this host." :
						"The agent does not work here; the lines marked `no` say why.");
}

static int print_json(const struct kernel_checks *checks, const struct features *features)
{
	json_t *list = json_array(), *feature_list = json_array();
	struct buffer out = BUFFER_INIT;
	int r;

	for (size_t i = 0; i < checks->n; i++)
		json_array_append_new(list, json_pack("{s:s, s:b, s:s, s:s}", "check", checks->items[i].name, "ok", checks->items[i].ok,
						      "detail", checks->items[i].detail, "remedy", checks->items[i].remedy));
	for (size_t i = 0; i < features->n; i++)
		json_array_append_new(feature_list, features_item_json(&features->items[i]));
	r = json_write(json_pack("{s:s, s:b, s:o, s:o}", "version", NETSONDE_VERSION, "works", core_works(features), "host", list,
				 "features", feature_list), &out);
	if (!r)
		puts(out.data);
	buffer_done(&out);
	return r;
}

static int print_metrics(void)
{
	struct buffer out = BUFFER_INIT;
	int r = agent_write_metrics(&out);

	if (!r)
		fputs(out.data, stdout);
	buffer_done(&out);
	return r < 0;
}

int cmd_doctor(int argc, char **argv)
{
	struct doctor_flags f = { 0 };
	struct kernel_checks checks = { 0 };
	struct features features = { 0 };
	struct error error = { "" };
	int r = flags_parse(&doctor_command, argc, argv, &f, NULL, NULL, &error);

	if (r == FLAGS_E_HELP)
		return 0;
	if (r < 0) {
		fprintf(stderr, "netsonde doctor: %s\n", error.text);
		return 2;
	}
	if (f.metrics)
		return print_metrics();
	log_setup("doctor", "error", "logfmt", NULL);
	kernel_checks_run(&checks);
	agent_probe(&features);
	if (!f.json)
		print_text(&checks, &features);
	else if (print_json(&checks, &features) < 0)
		return 1;
	return !core_works(&features);
}
