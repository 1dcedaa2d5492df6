/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults, by the tour or by a person. What a person does ends the tour, so that the two do
 * not undo each other's work. A link with several faults has the settings of all.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "cli/lab.h"
#include "lib/clock.h"
#include "lib/json.h"

/* For people, who look at a clock beside it. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
	char clock[16];
	time_t now = (time_t)(wall_now().ns / (int64_t)NS_PER_SEC);
	struct tm local;
	va_list arguments;
	strftime(clock, sizeof(clock), "%H:%M:%S", localtime_r(&now, &local));
	printf("%s  ", clock);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	putchar('\n');
	fflush(stdout);
}

static size_t host_of(const struct fault *fault)
{
	return (size_t)topology_find(scenario_hosts, scenario_n_hosts, fault->host, NULL);
}

/* The link as it was, with what is still on. */
static int link_restore(struct lab *lab, size_t host, struct error *error)
{
	char text[160];
	int r = topology_reset(lab->topology, host, error);
	for (size_t i = 0; !r && i < scenario_n_faults; i++) {
		const struct fault *fault = &scenario_faults[i];
		if (!lab->faults[i] || !fault->settings || host_of(fault) != host)
			continue;
		snprintf(text, sizeof(text), "both %s", fault->settings);
		r = topology_set(lab->topology, host, text, error);
	}
	return r;
}

static int fault_set(struct lab *lab, size_t i, bool on, struct error *error)
{
	const struct fault *fault = &scenario_faults[i];
	if (lab->faults[i] == on)
		return 0;
	lab->faults[i] = on;
	if (!fault->settings) {
		traffic_set(lab->traffic, fault->traffic, on ? fault->value : 0);
		return 0;
	}
	return link_restore(lab, host_of(fault), error);
}

static int fault_begin(struct lab *lab, size_t i, struct error *error)
{
	int r = fault_set(lab, i, true, error);
	if (!r)
		say("%s\n          look: %s", scenario_faults[i].sentence, scenario_faults[i].look);
	return r;
}

static int fault_end(struct lab *lab, size_t i, struct error *error)
{
	int r = fault_set(lab, i, false, error);
	if (!r)
		say("no longer: %s", scenario_faults[i].sentence);
	return r;
}

static int stop_all(struct lab *lab, struct error *error)
{
	int r = 0;
	for (size_t i = 0; i < scenario_n_faults; i++) {
		lab->faults[i] = false;
		if (!scenario_faults[i].settings)
			traffic_set(lab->traffic, scenario_faults[i].traffic, 0);
	}
	for (size_t i = 0; !r && i < scenario_n_hosts; i++)
		r = topology_reset(lab->topology, i, error);
	if (!r)
		say("everything is as it was at the start");
	return r;
}

static int stop_link(struct lab *lab, size_t host, struct error *error)
{
	int r = 0;
	for (size_t i = 0; !r && i < scenario_n_faults; i++)
		if (host_of(&scenario_faults[i]) == host)
			r = fault_set(lab, i, false, error);
	if (!r)
		r = topology_reset(lab->topology, host, error);
	if (!r)
		say("%s and its link are as they were at the start", scenario_hosts[host].name);
	return r;
}

/* a of the relay is the host. */
static int link_status(struct lab *lab, size_t i, struct error *error)
{
	static const struct { const char *key, *name; } directions[] = { { "a->b", "from" }, { "b->a", "to" } };
	const char *text;
	int r = topology_counts(lab->topology, i, &text, error);
	json_t *counts = r ? NULL : json_loads(text, 0, NULL);
	for (size_t k = 0; counts && k < 2; k++) {
		const json_t *d = json_object_get(counts, directions[k].key);
		printf("  %-4s %-10s %10" JSON_INTEGER_FORMAT " packets %8" JSON_INTEGER_FORMAT " lost %8" JSON_INTEGER_FORMAT
		       " found the queue full\n", directions[k].name, scenario_hosts[i].name,
		       json_integer_value(json_object_get(d, "in")), json_integer_value(json_object_get(d, "lost")),
		       json_integer_value(json_object_get(d, "queue_dropped")));
	}
	json_decref(counts);
	return r;
}

static int status(struct lab *lab, struct error *error)
{
	struct traffic_count count;
	int r = 0;
	for (size_t i = 0; i < scenario_n_faults; i++)
		if (lab->faults[i])
			printf("  on: %s\n", scenario_faults[i].sentence);
	for (size_t i = 0; traffic_count(lab->traffic, i, &count); i++)
		printf("  %-10s %-10s %12" PRIu64 " %-10s %8" PRIu64 " failed\n", count.host, count.program, count.done, count.what,
		       count.failed);
	for (size_t i = 0; !r && i < scenario_n_hosts; i++)
		r = link_status(lab, i, error);
	fflush(stdout);
	return r;
}

static void tour_end(struct lab *lab)
{
	if (lab->touring)
		say("the tour ends here");
	lab->touring = false;
	loop_timer_stop(lab->step);
}

static int obey(struct lab *lab, const struct command *command, struct error *error)
{
	size_t i = command->index;
	int r = 0;
	if (command->kind >= COMMAND_FAULT)
		tour_end(lab);
	switch (command->kind) {
	case COMMAND_NONE:
		break;
	case COMMAND_HELP:
		fputs(command_help, stdout);
		fflush(stdout);
		break;
	case COMMAND_STATUS:
		return status(lab, error);
	case COMMAND_QUIT:
		lab_stop(lab);
		break;
	case COMMAND_FAULT:
		return fault_begin(lab, i, error);
	case COMMAND_LINK:
		r = topology_set(lab->topology, i, command->text, error);
		if (!r)
			say("the link of %s has %s", scenario_hosts[i].name, command->text + strlen("both "));
		return r;
	case COMMAND_STOP:
		return stop_all(lab, error);
	case COMMAND_STOP_FAULT:
		return fault_end(lab, i, error);
	case COMMAND_STOP_LINK:
		return stop_link(lab, i, error);
	}
	return 0;
}

static void line_obey(struct lab *lab, const char *line)
{
	struct command command;
	struct error error = { "" };
	int r = command_parse(line, &command, &error);
	if (!r)
		r = obey(lab, &command, &error);
	if (r < 0) {
		printf("%s\n", error.text);
		fflush(stdout);
	}
}

static void on_input(struct loop_fd *fd, unsigned events, void *userdata)
{
	struct lab *lab = userdata;
	ssize_t n = read(STDIN_FILENO, lab->line + lab->line_len, sizeof(lab->line) - 1 - lab->line_len);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) { /* the lab goes on without commands */
		loop_fd_free(lab->input);
		lab->input = NULL;
		return;
	}
	lab->line_len += (size_t)n;
	lab->line[lab->line_len] = '\0';
	for (char *end; (end = strchr(lab->line, '\n'));) {
		*end++ = '\0';
		line_obey(lab, lab->line);
		lab->line_len -= (size_t)(end - lab->line);
		memmove(lab->line, end, lab->line_len + 1);
	}
	if (lab->line_len == sizeof(lab->line) - 1)
		lab->line_len = 0; /* no command is so long */
}

static void step_plan(struct lab *lab)
{
	struct scenario_step before = { 0 }, next = scenario_step(lab->next_step);
	if (lab->next_step)
		before = scenario_step(lab->next_step - 1);
	loop_timer_start(lab->step, next.at_ns - before.at_ns, 0);
}

static void on_step(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct lab *lab = userdata;
	struct scenario_step step = scenario_step(lab->next_step++);
	struct error error = { "" };
	int r;
	if (!lab->touring) {
		r = fault_begin(lab, (size_t)scenario_find(lab->flags->fault, NULL), &error);
	} else {
		r = step.begins ? fault_begin(lab, step.fault, &error) : fault_end(lab, step.fault, &error);
		step_plan(lab);
	}
	if (r < 0)
		fprintf(stderr, "netsonde lab: %s\n", error.text);
}

int lab_control_start(struct lab *lab, struct error *ret_error)
{
	assert(scenario_n_faults <= LAB_FAULTS_MAX);
	int r = loop_timer_new(lab->loop, on_step, lab, &lab->step);
	if (r < 0)
		return error_set_errno(ret_error, r, "cannot start a timer");
	/* /dev/null cannot be waited for, and has nothing to say. */
	loop_fd_new(lab->loop, STDIN_FILENO, LOOP_READABLE, on_input, lab, &lab->input);
	lab->touring = !lab->flags->fault && !strcmp(lab->flags->scenario, "tour");
	if (lab->touring || lab->flags->fault)
		step_plan(lab);
	return 0;
}

void lab_control_done(struct lab *lab)
{
	loop_timer_free(lab->step);
	loop_fd_free(lab->input);
}
