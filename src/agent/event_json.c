/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See event_json.h. Names of processes and programs are bytes that anybody may
 * choose, so every text goes through json_text. Numbers that have no name here are
 * written as digits, so a kernel with newer codes loses nothing.
 */
#include "agent/event_json.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "lib/address.h"

static const char *const role_names[ROLE_COUNT] = { [ROLE_CLIENT] = "client", [ROLE_SERVER] = "server" };
static const char *const reset_names[RESET_DIRECTION_COUNT] = { [RESET_SENT] = "sent", [RESET_RECEIVED] = "received" };
static const char *const link_names[LINK_CHANGE_COUNT] = {
	[LINK_UP] = "up",
	[LINK_DOWN] = "down",
	[LINK_ADDED] = "added",
	[LINK_REMOVED] = "removed",
	[LINK_RENAMED] = "renamed",
};

const char *event_time_format(wall_time time, char buf[static EVENT_TIME_TEXT_MAX])
{
	const int64_t second = (int64_t)NS_PER_SEC;
	int64_t rest = time.ns % second;
	time_t seconds = (time_t)(time.ns / second - (rest < 0));
	struct tm tm = { 0 };
	size_t len;

	rest += rest < 0 ? second : 0;
	gmtime_r(&seconds, &tm);
	len = strftime(buf, EVENT_TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf + len, EVENT_TIME_TEXT_MAX - len, ".%06uZ", (unsigned)(rest / (int64_t)NS_PER_US));
	return buf;
}

/* The outcomes of netsonde_tcp_connections_total where there is one, so that a reader finds the same word. */
static const char *errno_name(uint32_t code)
{
	switch (code) {
	case ECONNREFUSED:
		return "refused";
	case ECONNRESET:
		return "reset";
	case ETIMEDOUT:
		return "timed_out";
	case EHOSTUNREACH:
		return "host_unreachable";
	case ENETUNREACH:
		return "net_unreachable";
	default:
		return code ? strerrorname_np((int)code) : NULL;
	}
}

static const char *protocol_name(uint16_t protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return "tcp";
	case IPPROTO_UDP:
		return "udp";
	case IPPROTO_ICMP:
		return "icmp";
	case IPPROTO_ICMPV6:
		return "icmpv6";
	case IPPROTO_SCTP:
		return "sctp";
	case IPPROTO_GRE:
		return "gre";
	case IPPROTO_ESP:
		return "esp";
	default:
		return NULL;
	}
}

static const char *row(const char *const *names, size_t n, uint32_t code)
{
	return code < n ? names[code] : NULL;
}

static json_t *name_or_number(const char *name, uint32_t number)
{
	char digits[16];

	snprintf(digits, sizeof(digits), "%u", number);
	return json_text(name ? name : digits, SIZE_MAX);
}

static void put_code(json_t *object, const struct event *event, const struct event_code_names *names)
{
	const uint32_t code = event->code;
	const char *name = names->name ? names->name(code, names->userdata) : NULL;

	switch (event->kind) {
	case EVENT_CONNECT_FAILED:
		name = name ? name : errno_name(code);
		break;
	case EVENT_RESET:
		name = name ? name : row(reset_names, RESET_DIRECTION_COUNT, code);
		break;
	case EVENT_LINK:
		name = name ? name : row(link_names, LINK_CHANGE_COUNT, code);
		break;
	case EVENT_EXIT:
		if (WIFSIGNALED(code))
			json_object_set_new(object, "signal", name_or_number(sigabbrev_np(WTERMSIG(code)), WTERMSIG(code)));
		else
			json_object_set_new(object, "status", json_integer(WEXITSTATUS(code)));
		name = name ? name : WIFSIGNALED(code) ? "killed" : "exited";
		break;
	case EVENT_RETRANSMIT_BURST:
	case EVENT_EXEC:
		if (!code && !name)
			return;
		break;
	default:
		break;
	}
	json_object_set_new(object, "code", name_or_number(name, code));
}

static bool is_set(const struct peer_address *address)
{
	return address->words[0] | address->words[1] | address->words[2] | address->words[3];
}

static void put_end(json_t *object, const char *key, const struct peer_address *words, uint16_t port)
{
	char text[ADDRESS_TEXT_MAX];
	struct address address;
	json_t *end;

	if (!is_set(words) && !port)
		return;
	end = json_object();
	if (is_set(words)) {
		memcpy(address.bytes, words, sizeof(address.bytes));
		json_object_set_new(end, "address", json_string(address_format(&address, text)));
	}
	if (port)
		json_object_set_new(end, "port", json_integer(port));
	json_object_set_new(object, key, end);
}

static void put_text(json_t *object, const char *key, const char *text, size_t max)
{
	if (text[0])
		json_object_set_new(object, key, json_text(text, max));
}

static void put_number(json_t *object, const char *key, uint32_t number)
{
	if (number)
		json_object_set_new(object, key, json_integer(number));
}

json_t *event_json(const struct event_entry *entry, const struct event_code_names names[static EVENT_KIND_COUNT])
{
	const struct event *event = &entry->event;
	char time[EVENT_TIME_TEXT_MAX];
	json_t *object = json_object();

	if (!object)
		return NULL;
	json_object_set_new(object, "id", json_integer((json_int_t)entry->id));
	json_object_set_new(object, "time", json_string(event_time_format(entry->time, time)));
	json_object_set_new(object, "kind", json_string(event_kind_name(event->kind)));
	put_number(object, "pid", event->pid);
	put_text(object, "process", event->comm, sizeof(event->comm));
	put_text(object, "device", entry->device, sizeof(entry->device));
	if (!entry->device[0]) /* in another network namespace, or gone by now */
		put_number(object, "ifindex", event->ifindex);
	put_number(object, "netns", event->netns);
	if (event->protocol) {
		json_object_set_new(object, "protocol", name_or_number(protocol_name(event->protocol), event->protocol));
		if (event->role < ROLE_COUNT)
			json_object_set_new(object, "role", json_string(role_names[event->role]));
	}
	put_end(object, "local", &event->local, event->local_port);
	put_end(object, "remote", &event->remote, event->remote_port);
	put_code(object, event, &names[event->kind]);
	json_object_set_new(object, "count", json_integer(event->count));
	put_text(object, "text", event->text, sizeof(event->text));
	json_object_set_new(object, "suppressed", json_integer((json_int_t)entry->suppressed));
	return object;
}
