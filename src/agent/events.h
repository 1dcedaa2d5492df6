/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events: what is rare and worth a line of its own (a failed connect, a reset, a
 * burst of retransmissions, a drop, a link change, exec and exit).
 *
 * BPF programs write into one ring buffer (bpf/event.bpf.h), user-space collectors
 * call events_add. Each kind has its own allowance per second (a token bucket of one
 * second, or of one tick where that is longer), counted in the kernel before the
 * ring, and its own bounded log here, so that a flood of one kind hides no other.
 * No allowance is larger than the kind's share of the ring, so what was allowed also
 * fits. What was suppressed or lost is counted per kind. The ring is drained once per
 * tick, without wake-ups.
 *
 * event_log.c keeps the newest, event_json.c writes them, event_feed.c serves them.
 */
#pragma once
#include <stdint.h>
#include "abi_event.h"
#include "agent/registry.h"
#include "lib/clock.h"
#include "lib/error.h"
#include "lib/http.h"
#include "lib/json.h"

struct events;
struct event_log;
struct bpf_object;

/* per_second: allowance per kind. Makes the ring and its control block. Works without permission for BPF too: then only
 * events_add brings anything, and events_share says -EPERM. */
int events_new(uint32_t per_second, struct events **ret_events, struct error *ret_error);
/* After the HTTP server, whose streams refer to it, is closed. NULL is fine. */
void events_free(struct events *events);
void events_set_limit(struct events *events, uint32_t per_second);

/* Gives an object that is not loaded yet the shared maps (events, event_control); one without them is fine. -errno. */
int events_share(const struct events *events, struct bpf_object *object);
/* How a kind's code reads, e.g. the name of a drop reason (NULL: the number); must live as long as events. The text is
 * borrowed until the next call. */
void events_set_code_name(struct events *events, enum event_kind kind, const char *(*name)(uint32_t code, void *userdata),
			  void *userdata);

/* From user space; subject to the same allowance, and in the log with the next tick. time_ns 0: now; missed is set here.
 * device: name of an interface, NULL: looked up by ifindex. */
void events_add(struct events *events, const struct event *event, const char *device);
/* Drains the ring, logs, sends to the streams, refills the allowances by the time since the tick before. */
void events_tick(struct events *events, mono_time now);

/* The families netsonde_events_total{kind} and netsonde_events_suppressed_total{kind}. */
int events_describe(struct registry *registry, struct error *ret_error);
int events_register(struct events *events, struct registry *registry, struct error *ret_error);
void events_show(struct events *events); /* between registry_begin and registry_commit */
/* Allowed events that were lost all the same: for self_lost(self, "event_ring", ...). */
uint64_t events_lost(const struct events *events);
const struct event_log *events_log(const struct events *events);

/* GET /api/v1/events: server-sent events, first the log, then live; with "Accept: application/json" the log alone.
 * ?kind=reset (repeatable), ?since=ID, ?limit=N. userdata: struct events *. See docs/http-api.md. */
void events_handle(struct http_request *request, void *userdata);
