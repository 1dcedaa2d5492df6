/* SPDX-License-Identifier: Apache-2.0 */
/* lab-relay: a link with known faults. The flags; the rest is relay_run(). */
#include <stddef.h>
#include <stdio.h>
#include "lab/relay_run.h"
#include "lib/flags.h"

#define AT(member) offsetof(struct relay_options, member)
static const struct flag flags[] = {
	{ .name = "both", .type = FLAG_STRING, .offset = AT(both), .value = "\"SETTING...\"",
	  .help = "What the link does in both directions." },
	{ .name = "a-to-b", .type = FLAG_STRING, .offset = AT(a_to_b), .value = "\"SETTING...\"",
	  .help = "What it does from the first device to the second, in addition." },
	{ .name = "b-to-a", .type = FLAG_STRING, .offset = AT(b_to_a), .value = "\"SETTING...\"",
	  .help = "And the other way." },
	{ .name = "seed", .type = FLAG_UINT, .offset = AT(seed), .value = "NUMBER",
	  .help = "Start of the random decisions: the same seed and packets give the same fates." },
	{ .name = "log", .type = FLAG_STRING, .offset = AT(log), .value = "FILE",
	  .help = "Write a line for every packet, with the times it came and went (CSV, CLOCK_MONOTONIC)." },
	{ .name = "memory", .type = FLAG_UINT, .offset = AT(memory_mb), .value = "MB",
	  .help = "The most memory that waiting packets take, in MB." },
	{ .name = "spin", .type = FLAG_DURATION, .offset = AT(spin_ns), .value = "DURATION",
	  .help = "Do not sleep for so long before a packet is due: more exact, and busy." },
	{ .name = "realtime", .type = FLAG_SWITCH, .offset = AT(realtime),
	  .help = "Run before all ordinary processes (SCHED_FIFO), and stay in memory." },
	{ 0 }
};

static const struct flag_command command = {
    .name = "lab-relay",
    .standalone = true,
    .summary = "a network link with known faults",
    .arguments = "DEVICE_A DEVICE_B",
    .description =
	"Passes every Ethernet frame that arrives at one veth device on to the other, late, rarely, twice or in the "
	"wrong order as told, and keeps count of it. Both devices are in the program's own network namespace; their "
	"other ends belong to the hosts, and must have checksum offload off.\n\n"
	"Settings: delay=20ms, jitter=1ms, distribution=uniform|normal, loss=1%, duplicate=1%, reorder=1%, hold=5ms (how "
	"much later a reordered packet leaves), rate=10Mbit, queue=100ms or queue=64kB (what may wait for the rate). "
	"A share is a percentage, at random, or 1/N: exactly every Nth packet. 0 turns a setting off.\n\n"
	"Standard input takes `a->b SETTING...`, `b->a SETTING...` and `both SETTING...`, and `counts`, which prints "
	"the counters; its end is the relay's, which prints them once more.",
    .flags = flags,
    .arguments_min = 2,
    .arguments_max = 2,
};

int main(int argc, char **argv)
{
	struct relay_options options = { .seed = 1, .memory_mb = 256 };
	struct error error = { 0 };
	char **devices;
	int r = flags_parse(&command, argc, argv, &options, &devices, NULL, &error);
	if (r == FLAGS_E_HELP)
		return 0;
	if (!r) {
		options.devices[0] = devices[0];
		options.devices[1] = devices[1];
	}
	int status = r < 0 ? 2 : 1;
	if (!r)
		r = relay_run(&options, &error);
	if (r < 0)
		fprintf(stderr, "lab-relay: %s\n", error.text);
	return r < 0 ? status : 0;
}
