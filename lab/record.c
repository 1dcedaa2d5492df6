/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line of the log is a packet or one of its copies, written when it has left or
 * when it was decided that it never will:
 *
 *   direction  a->b or b->a
 *   number     of the arrival, from 1; a duplicate has the number of its original
 *   copy       0, or 1 for the duplicate
 *   length     bytes of the Ethernet frame
 *   fate       sent, lost, queue (no room), memory (none left), failed (to send)
 *   in_ns, due_ns, out_ns  CLOCK_MONOTONIC: the kernel got it from the sender, it
 *              was to leave, and it was given to the kernel; 0 where there is none
 *   type, protocol  EtherType behind any VLAN tags in hexadecimal, and the IP
 *              protocol (of IPv6 the first next header), 0 for others
 *   head       the first 8 bytes after the IP header in hexadecimal: enough to
 *              tell an echo request's identifier and number, or the ports
 *   source, destination  IP addresses; empty for others
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/if_ether.h>
#include "lab/record.h"
#include "lib/address.h"
#include "lib/json.h"

#define STREAM_BUFFER (1024 * 1024) /* bytes: the file is written to rarely, because that takes time from pacing */
#define HEAD_MAX 8

struct record { FILE *file; int error; };

static const char *const direction_names[] = { "a->b", "b->a" };

int record_open(const char *path, struct record **ret_record, struct error *ret_error)
{
	struct record *record = calloc(1, sizeof(*record));
	if (!record)
		return error_set(ret_error, -ENOMEM, "out of memory");
	record->file = fopen(path, "we");
	if (!record->file) {
		int r = error_set_errno(ret_error, -errno, "cannot write %s", path);
		free(record);
		return r;
	}
	setvbuf(record->file, NULL, _IOFBF, STREAM_BUFFER);
	fputs("direction,number,copy,length,fate,in_ns,due_ns,out_ns,type,protocol,head,source,destination\n", record->file);
	*ret_record = record;
	return 0;
}

struct content {
	uint16_t type;
	uint8_t protocol;
	const uint8_t *head;
	size_t head_len;
	char source[ADDRESS_TEXT_MAX], destination[ADDRESS_TEXT_MAX];
};

static void address_text(const uint8_t *bytes, size_t len, char text[static ADDRESS_TEXT_MAX])
{
	struct address address = { .bytes = { [10] = 0xff, [11] = 0xff } }; /* IPv4 is the end of it */
	memcpy(address.bytes + sizeof(address.bytes) - len, bytes, len);
	address_format(&address, text);
}

static struct content content_of(const uint8_t *data, size_t len)
{
	struct content content = { 0 };
	size_t at = 2 * ETH_ALEN, header = 0;
	for (; at + 2 <= len; at += 4) {
		content.type = (uint16_t)(data[at] << 8 | data[at + 1]);
		if (content.type != ETH_P_8021Q && content.type != ETH_P_8021AD)
			break;
	}
	at += 2;
	if (content.type == ETH_P_IP && at + 20 <= len) {
		header = (size_t)(data[at] & 15) * 4;
		content.protocol = data[at + 9];
		address_text(data + at + 12, 4, content.source);
		address_text(data + at + 16, 4, content.destination);
	} else if (content.type == ETH_P_IPV6 && at + 40 <= len) {
		header = 40;
		content.protocol = data[at + 6];
		address_text(data + at + 8, 16, content.source);
		address_text(data + at + 24, 16, content.destination);
	}
	if (header && at + header < len) {
		content.head = data + at + header;
		content.head_len = len - at - header < HEAD_MAX ? len - at - header : HEAD_MAX;
	}
	return content;
}

void record_packet(struct record *record, const struct packet *packet, const void *data, enum fate fate,
		   uint64_t out_ns)
{
	static const char *const fates[] = {
		[FATE_SENT] = "sent", [FATE_LOST] = "lost", [FATE_QUEUE_FULL] = "queue",
		[FATE_NO_MEMORY] = "memory", [FATE_SEND_FAILED] = "failed",
	};
	static const char digits[] = "0123456789abcdef";
	char head[2 * HEAD_MAX + 1] = "";
	if (!record)
		return;
	struct content content = content_of(data, packet->len);
	for (size_t i = 0; i < content.head_len; i++)
		memcpy(head + 2 * i, (char[]){ digits[content.head[i] >> 4], digits[content.head[i] & 15] }, 2);
	if (fprintf(record->file, "%s,%" PRIu64 ",%d,%u,%s,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%04x,%u,%s,%s,%s\n",
		    direction_names[packet->direction], packet->number, packet->duplicate, packet->len, fates[fate],
		    packet->in_ns, packet->due_ns, out_ns, content.type, content.protocol, head,
		    content.source, content.destination) < 0)
		record->error = -errno;
}

int record_flush(struct record *record)
{
	if (!record)
		return 0;
	if (fflush(record->file))
		record->error = -errno;
	return record->error;
}

int record_close(struct record *record)
{
	if (!record)
		return 0;
	int r = record_flush(record);
	if (fclose(record->file) && !r)
		r = -errno;
	free(record);
	return r;
}

static json_t *spread(uint64_t n, uint64_t min, uint64_t sum, uint64_t max)
{
	return json_pack("{s:I, s:I, s:I}", "min", (json_int_t)(n ? min : 0), "mean", (json_int_t)(n ? sum / n : 0),
			 "max", (json_int_t)max);
}

static json_t *direction_json(const struct direction *direction, const struct port_counts *extra)
{
	const struct counts *c = &direction->counts;
	const struct { const char *name; uint64_t value; } values[] = {
		{ "in", c->in },			  { "in_bytes", c->in_bytes },
		{ "out", c->out },			  { "out_bytes", c->out_bytes },
		{ "lost", c->lost },			  { "duplicated", c->duplicated },
		{ "reordered", c->reordered },		  { "queue_dropped", c->queue_dropped },
		{ "memory_dropped", c->memory_dropped },  { "send_failed", c->send_failed },
		{ "queued", c->queued },		  { "overrun", extra->overrun },
		{ "unfinished", extra->unfinished },
	};
	json_t *object = json_object();
	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++)
		json_object_set_new(object, values[i].name, json_integer((json_int_t)values[i].value));
	json_object_set_new(object, "residence_ns",
			    spread(c->out, c->residence_min_ns, c->residence_sum_ns, c->residence_max_ns));
	json_object_set_new(object, "late_ns", spread(c->out, c->late_min_ns, c->late_sum_ns, c->late_max_ns));
	return object;
}

int counts_write(const struct direction directions[static 2], const struct port_counts extra[static 2],
		 struct buffer *out)
{
	json_t *both = json_object();
	for (int i = 0; i < 2; i++)
		json_object_set_new(both, direction_names[i], direction_json(&directions[i], &extra[i]));
	return json_write(both, out);
}
