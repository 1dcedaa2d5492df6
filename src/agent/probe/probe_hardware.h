/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cards' own times of answers: for each card whose driver hands its stamps to XDP, a program that is loaded for
 * that card (bpf/probe_hardware.bpf.c) on the maps of the other probe programs. All while the process may load
 * programs; an interface that appears later, or comes back, has the usual program. Nothing is changed about the card:
 * whether it stamps all packets, and whether something keeps its clock on time, is its administrator's.
 *
 * A card's stamps count only while its clock agrees with the system's TAI or UTC; that is compared at each tick.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include "agent/probe/probe_program.h"
#include "probe_card.h"

#define PROBE_HARDWARE_MAX 8 /* cards; each program takes its own memory */

struct probe_hardware;

/* NULL when there is no such card. asked: XDP was asked for, so that only the impossible stands in its way. program is
 * borrowed and may be NULL. */
struct probe_hardware *probe_hardware_open(const struct probe_program *program, bool asked);
void probe_hardware_close(struct probe_hardware *hardware); /* NULL: nothing */
void probe_hardware_tick(struct probe_hardware *hardware);
/* The program to attach to this interface, or negative: there is none. hardware may be NULL, also below. */
int probe_hardware_fd(const struct probe_hardware *hardware, uint32_t ifindex);
void probe_hardware_each(const struct probe_hardware *hardware, void (*fn)(const char *name, int fd, void *userdata),
			 void *userdata);

/* What the card's program believes of its clock; NULL: no such card. For tests and the tick. */
struct probe_card *probe_hardware_card(const struct probe_hardware *hardware, uint32_t ifindex);

enum probe_hardware_clock { PROBE_HARDWARE_ASTRAY, PROBE_HARDWARE_AGREES, PROBE_HARDWARE_UNKNOWN };
/* The card's clock was read between two looks at CLOCK_TAI. offset: TAI - UTC. ret_behind as in struct probe_card. All
 * in ns. */
enum probe_hardware_clock probe_hardware_judge(int64_t before, int64_t card, int64_t after, int64_t offset,
					       uint64_t *ret_behind);
enum probe_hardware_clock probe_hardware_compare(clockid_t clock, uint64_t *ret_behind);
