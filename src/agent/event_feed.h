/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /api/v1/events: the event log as a JSON document, or as a stream that goes on
 * with what comes. An event is written once, however many streams take it. A stream
 * ends with its connection; so the feed must outlive the HTTP server.
 *
 * The IDs of server-sent events carry the run (the second the agent started), so that
 * a reader that comes back to a restarted agent is not taken for one that has seen
 * that many events of this one.
 */
#pragma once
#include "agent/event_json.h"
#include "agent/event_log.h"
#include "lib/http.h"

#define EVENT_STREAMS_MAX 16

struct event_feed;

/* log and names: borrowed. */
int event_feed_new(const struct event_log *log, const struct event_code_names *names, struct event_feed **ret_feed);
void event_feed_free(struct event_feed *feed);
/* How many frames a slow reader may lag: what the log holds, and so many more. */
void event_feed_set_slack(struct event_feed *feed, size_t frames);
/* To every stream that wants it. */
void event_feed_send(struct event_feed *feed, const struct event_entry *entry);
void event_feed_handle(struct http_request *request, struct event_feed *feed);
