/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection as JSON, and back: what the agent tells over HTTP, `netsonde top` and
 * `netsonde why` show. Units are in the names; what is not known is null. The reader
 * takes what it knows and trusts nothing of it.
 */
#include "agent/connections.h"

#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* TCP_* states are 1..12 (include/net/tcp_states.h); the last one has no socket of its own. */
#define STATE_MAX 12

enum number_type { SECONDS, RATIO, BYTES, COUNT, SMALL /* uint32_t */, PORT /* uint16_t */ };

struct number {
	const char *name;
	enum number_type type;
	size_t offset;
};

#define NUMBER(name, type, field) { name, type, offsetof(struct connection, field) }

static const struct number numbers[] = {
	NUMBER("local_port", PORT, local_port),
	NUMBER("remote_port", PORT, remote_port),
	NUMBER("netns", SMALL, netns),
	NUMBER("pid", SMALL, pid),
	NUMBER("holders", SMALL, holders),
	NUMBER("age_seconds", SECONDS, age_s),
	NUMBER("rtt_seconds", SECONDS, rtt_s),
	NUMBER("jitter_seconds", SECONDS, jitter_s),
	NUMBER("min_rtt_seconds", SECONDS, min_rtt_s),
	NUMBER("receive_rtt_seconds", SECONDS, receive_rtt_s),
	NUMBER("sent_bytes", BYTES, sent_bytes),
	NUMBER("received_bytes", BYTES, received_bytes),
	NUMBER("sent_segments", COUNT, sent_segments),
	NUMBER("received_segments", COUNT, received_segments),
	NUMBER("retransmits", COUNT, retransmits),
	NUMBER("lost", COUNT, lost),
	NUMBER("busy_seconds", SECONDS, busy_s),
	NUMBER("receive_window_limited_seconds", SECONDS, receive_window_s),
	NUMBER("send_buffer_limited_seconds", SECONDS, send_buffer_s),
	NUMBER("congestion_window_segments", SMALL, congestion_window),
	NUMBER("slow_start_threshold_segments", SMALL, slow_start_threshold),
	NUMBER("mss_bytes", SMALL, mss),
	NUMBER("unacked_segments", SMALL, unacked),
	NUMBER("not_sent_bytes", BYTES, not_sent_bytes),
	NUMBER("unacked_bytes", BYTES, unacked_bytes),
	NUMBER("receive_queue_bytes", BYTES, receive_queue_bytes),
	NUMBER("send_window_bytes", BYTES, send_window_bytes),
	NUMBER("receive_window_bytes", BYTES, receive_window_bytes),
	NUMBER("since_sent_seconds", SECONDS, since_sent_s),
	NUMBER("since_received_seconds", SECONDS, since_received_s),
	NUMBER("delivery_rate_bytes", RATIO, delivery_rate),
	NUMBER("interval_seconds", RATIO, interval_s),
	NUMBER("sent_rate_bytes", RATIO, sent_rate),
	NUMBER("received_rate_bytes", RATIO, received_rate),
	NUMBER("retransmit_ratio", RATIO, retransmit_ratio),
};

/* "interval": what the verdict was made from. */
static const struct number input_numbers[] = {
	NUMBER("seconds", RATIO, input.interval_s),
	NUMBER("busy_seconds", RATIO, input.busy_s),
	NUMBER("receive_window_seconds", RATIO, input.receive_window_s),
	NUMBER("send_buffer_seconds", RATIO, input.send_buffer_s),
	NUMBER("waiting_far_seconds", RATIO, input.waiting_far_s),
	NUMBER("streaming_seconds", RATIO, input.streaming_s),
	NUMBER("reading_seconds", RATIO, input.reading_s),
	NUMBER("path_full_seconds", RATIO, input.path_full_s),
	NUMBER("rtt_seconds", SECONDS, input.rtt_s),
	NUMBER("min_rtt_seconds", SECONDS, input.min_rtt_s),
	NUMBER("receive_rtt_seconds", SECONDS, input.receive_rtt_s),
	NUMBER("sent_bytes", BYTES, input.sent_bytes),
	NUMBER("received_bytes", BYTES, input.received_bytes),
	NUMBER("sent_data_segments", COUNT, input.sent_segments),
	NUMBER("retransmits", COUNT, input.retransmits),
	NUMBER("received_data_segments", COUNT, input.received_segments),
	NUMBER("reordered_segments", COUNT, input.reordered),
};

#define N(array) (sizeof(array) / sizeof((array)[0]))

const char *connection_state_name(unsigned state)
{
	static const char *const names[] = {
		[TCP_ESTABLISHED] = "established", [TCP_SYN_SENT] = "syn_sent", [TCP_SYN_RECV] = "syn_received",
		[TCP_FIN_WAIT1] = "fin_wait1", [TCP_FIN_WAIT2] = "fin_wait2", [TCP_TIME_WAIT] = "time_wait",
		[TCP_CLOSE] = "closed", [TCP_CLOSE_WAIT] = "close_wait", [TCP_LAST_ACK] = "last_ack",
		[TCP_LISTEN] = "listening", [TCP_CLOSING] = "closing",
	};

	return state < sizeof(names) / sizeof(names[0]) && names[state] ? names[state] : "unknown";
}

static json_t *number_json(const struct connection *c, const struct number *number)
{
	const char *at = (const char *)c + number->offset;

	switch (number->type) {
	case SECONDS:
	case RATIO: return json_number(*(const double *)(const void *)at);
	case BYTES:
	case COUNT: return json_integer((json_int_t)*(const uint64_t *)(const void *)at);
	case SMALL: return json_integer(*(const uint32_t *)(const void *)at);
	default: return json_integer(*(const uint16_t *)(const void *)at);
	}
}

/* NULL goes through: json_object_set_new then fails, and with it the whole. */
static int put(json_t *object, const char *name, json_t *value)
{
	return json_object_set_new_nocheck(object, name, value);
}

static int put_numbers(json_t *object, const struct connection *c, const struct number *numbers_of, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n; i++)
		r |= put(object, numbers_of[i].name, number_json(c, &numbers_of[i]));
	return r;
}

json_t *verdict_json(const struct verdict *v)
{
	json_t *causes = json_object();
	int r = 0;

	for (unsigned i = 0; i < CAUSE_COUNT; i++)
		r |= put(causes, verdict_cause_name((enum verdict_cause)i), json_number(v->causes[i]));
	if (r) {
		json_decref(causes);
		return NULL;
	}
	return json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:o}", "side", verdict_side_name(v->side), "cause",
			 verdict_cause_name(v->cause), "sentence", verdict_sentence(v), "network", v->network,
			 "far_host", v->far_host, "this_host", v->this_host, "loss", v->loss, "idle", v->idle, "causes",
			 causes);
}

static int put_identity(json_t *object, const struct connection *c)
{
	char text[ADDRESS_TEXT_MAX], id[24];
	int r;

	snprintf(id, sizeof(id), "%llx", (unsigned long long)c->cookie);
	r = put(object, "id", json_string(id));
	r |= put(object, "state", json_string(connection_state_name(c->state)));
	r |= put(object, "role", json_string(c->server ? "server" : "client"));
	r |= put(object, "local", json_string(address_format(&c->local, text)));
	r |= put(object, "remote", json_string(address_format(&c->remote, text)));
	r |= put(object, "process", json_text(c->comm, sizeof(c->comm)));
	r |= put(object, "container", json_text(c->container, sizeof(c->container)));
	r |= put(object, "peer", json_text(c->peer, sizeof(c->peer)));
	r |= put(object, "mptcp", json_boolean(c->mptcp));
	return r;
}

json_t *connection_json(const struct connection *c)
{
	json_t *object = json_object(), *input = json_object();
	int r = put_identity(object, c);

	r |= put_numbers(object, c, numbers, N(numbers));
	r |= put_numbers(input, c, input_numbers, N(input_numbers));
	r |= put(object, "interval", input);
	r |= put(object, "verdict", verdict_json(&c->verdict));
	if (!r)
		return object;
	json_decref(object);
	return NULL;
}

static uint64_t whole(const json_t *value, uint64_t max)
{
	double number = json_number_value(value);

	if (json_is_integer(value))
		return json_integer_value(value) < 0 ? 0 : (uint64_t)json_integer_value(value) < max ?
							    (uint64_t)json_integer_value(value) : max;
	if (!(number > 0))
		return 0;
	return number < (double)max ? (uint64_t)number : max;
}

static void number_from(const json_t *object, const struct number *number, struct connection *c)
{
	const json_t *value = json_object_get(object, number->name);
	char *at = (char *)c + number->offset;

	switch (number->type) {
	case SECONDS: *(double *)(void *)at = json_is_number(value) ? json_number_value(value) : NAN; break;
	case RATIO: *(double *)(void *)at = json_number_value(value); break;
	case BYTES:
	case COUNT: *(uint64_t *)(void *)at = whole(value, INT64_MAX); break;
	case SMALL: *(uint32_t *)(void *)at = (uint32_t)whole(value, UINT32_MAX); break;
	default: *(uint16_t *)(void *)at = (uint16_t)whole(value, UINT16_MAX);
	}
}

static void text_from(const json_t *object, const char *name, char *to, size_t room)
{
	const char *text = json_string_value(json_object_get(object, name));
	size_t len = 0;

	for (; text && text[len] && len + 1 < room; len++)
		to[len] = text[len] >= ' ' && text[len] <= '~' ? text[len] : '?';
	to[len] = '\0';
}

static unsigned state_from(const char *name)
{
	for (unsigned state = 0; name && state <= STATE_MAX; state++)
		if (!strcmp(name, connection_state_name(state)))
			return state;
	return 0;
}

static double share_from(const json_t *object, const char *name)
{
	double share = json_number_value(json_object_get(object, name));

	return share > 0 ? fmin(share, 1) : 0;
}

static void verdict_from(const json_t *value, struct verdict *v)
{
	const char *side = json_string_value(json_object_get(value, "side"));
	const char *cause = json_string_value(json_object_get(value, "cause"));
	const json_t *causes = json_object_get(value, "causes");

	if (!side || !cause || verdict_side_parse(side, &v->side) || verdict_cause_parse(cause, &v->cause)) {
		verdict_of(&(struct verdict_input){ 0 }, v);
		return;
	}
	v->network = share_from(value, "network");
	v->far_host = share_from(value, "far_host");
	v->this_host = share_from(value, "this_host");
	v->loss = share_from(value, "loss");
	v->idle = share_from(value, "idle");
	for (unsigned i = 0; i < CAUSE_COUNT; i++)
		v->causes[i] = share_from(causes, verdict_cause_name((enum verdict_cause)i));
}

int connection_from_json(const json_t *value, struct connection *ret_connection)
{
	const char *id = json_string_value(json_object_get(value, "id"));
	const char *local = json_string_value(json_object_get(value, "local"));
	const char *remote = json_string_value(json_object_get(value, "remote"));
	const char *role = json_string_value(json_object_get(value, "role"));
	struct connection c = { 0 };
	char *end;

	if (!id || !id[0] || strspn(id, "0123456789abcdef") != strlen(id) || strlen(id) > 16)
		return -EINVAL;
	c.cookie = strtoull(id, &end, 16);
	if (!local || !remote || address_parse(local, &c.local) || address_parse(remote, &c.remote))
		return -EINVAL;
	c.state = state_from(json_string_value(json_object_get(value, "state")));
	c.server = role && !strcmp(role, "server");
	c.mptcp = json_is_true(json_object_get(value, "mptcp"));
	text_from(value, "process", c.comm, sizeof(c.comm));
	text_from(value, "container", c.container, sizeof(c.container));
	text_from(value, "peer", c.peer, sizeof(c.peer));
	for (size_t i = 0; i < N(numbers); i++)
		number_from(value, &numbers[i], &c);
	for (size_t i = 0; i < N(input_numbers); i++)
		number_from(json_object_get(value, "interval"), &input_numbers[i], &c);
	verdict_from(json_object_get(value, "verdict"), &c.verdict);
	*ret_connection = c;
	return 0;
}
