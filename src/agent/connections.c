/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table itself. The kernel gives a row per descriptor; sorted by cookie and PID they become one row per socket,
 * which meets what was kept of the same socket in the table before (both are ordered, so this is one walk).
 *
 * Memory at its highest, while a table is made: 200 bytes per descriptor of a connection, and per connection 16 of
 * index, 80 of the table before and 80 of changes. Between tables the 80 of the one before are not there.
 */
#include "agent/connections.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/connections_internal.h"
#include "agent/jiffies.h"
#include "agent/peers.h"

/* Nobody asked for so long: the memory goes back. */
#define TIDY_AFTER_NS (60 * NS_PER_SEC)
/* A slow start threshold that nothing has lowered yet (TCP_INFINITE_SSTHRESH). */
#define THRESHOLD_NONE 0x7fffffff

/* Whether /proc can tell more than the kernel's program: containers are in a cgroup v1 hierarchy, and PIDs here are
 * those of the program (PROC_PID_INIT_INO). */
static bool proc_knows_containers(void)
{
	char text[8192], link[64] = "";
	ssize_t n = readlink("/proc/self/ns/pid", link, sizeof(link) - 1);
	int fd;

	if (n < 0 || strcmp(link, "pid:[4026531836]"))
		return false;
	fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text));
	close(fd);
	/* "0::/PATH" is v2; others have a number and controllers or a name. */
	return n > 3 && (memcmp(text, "0::", 3) || memchr(text, '\n', (size_t)n) != text + n - 1);
}

int connections_open(const struct peers *peers, const struct tcp_program *tcp, uint32_t rows_max,
		     struct connections **ret_connections, struct error *ret_error)
{
	struct connections *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->peers = peers;
	c->rows_max = rows_max ? rows_max : CONNECTIONS_MAX;
	c->hz = jiffies_per_second();
	c->ask_proc = proc_knows_containers();
	r = c->hz
		? connection_program_open(tcp, &c->program, ret_error)
		: error_set(ret_error, -EOPNOTSUPP, "the kernel does not tell its tick rate (CLOCK_MONOTONIC_COARSE)");
	if (r < 0) {
		free(c);
		return r;
	}
	connections_only(c, NULL);
	*ret_connections = c;
	return 0;
}

static void clear(struct connections *c)
{
	free(c->rows);
	free(c->index);
	free(c->changes);
	free(c->processes);
	free(c->listeners);
	c->rows = NULL;
	c->index = NULL;
	c->changes = NULL;
	c->processes = NULL;
	c->listeners = NULL;
	c->n_rows = c->room = c->n = c->n_processes = c->processes_room = c->n_listeners = c->listeners_room = 0;
	c->left_out = 0;
	c->interval_s = 0;
}

void connections_close(struct connections *connections)
{
	if (!connections)
		return;
	clear(connections);
	connection_program_close(connections->program);
	free(connections);
}

void connections_only(struct connections *connections, const struct connections_filter *filter)
{
	struct connection_wanted *wanted = &connections->wanted;
	uint8_t mask[sizeof(wanted->mask)] = { 0 };

	*wanted = (struct connection_wanted){ .netns = connections->peers ? peers_scope(connections->peers) : 0 };
	if (!filter)
		return;
	wanted->tgid = filter->pid;
	wanted->cookie = filter->cookie;
	for (size_t bit = 0; bit < filter->remote.bits; bit++)
		mask[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
	memcpy(&wanted->mask, mask, sizeof(mask));
	if (filter->remote.bits)
		memcpy(&wanted->remote, &filter->remote.address, sizeof(wanted->remote));
}

void connections_tidy(struct connections *connections, mono_time now)
{
	if (!connections->rows || mono_since_ns(now, connections->refreshed) <= TIDY_AFTER_NS)
		return;
	clear(connections);
	malloc_trim(0); /* the C library would keep most of it */
}

/* Room for one more element behind n. */
static int make_room(void **items, size_t n, size_t *room, size_t size, size_t max)
{
	size_t more;
	void *grown;

	if (n < *room)
		return 0;
	more = *room ? *room + *room / 2 : 256;
	if (more > max)
		more = max;
	grown = reallocarray(*items, more, size);
	if (!grown)
		return -ENOMEM;
	*items = grown;
	*room = more;
	return 0;
}

static int on_process(const struct connection_process *process, void *userdata)
{
	struct connections *c = userdata;
	char path[CONNECTION_CGROUP_LEVELS * (CONNECTION_CGROUP_NAME + 1) + 1];
	struct table_process *p;
	size_t len = 0;
	int r = make_room((void **)&c->processes, c->n_processes, &c->processes_room, sizeof(*c->processes), SIZE_MAX);

	if (r < 0)
		return r;
	p = &c->processes[c->n_processes++];
	*p = (struct table_process){ .tgid = process->tgid };
	for (size_t i = 0; i < sizeof(p->comm) - 1 && process->comm[i]; i++)
		p->comm[i] = process->comm[i] >= ' ' && process->comm[i] <= '~' ? process->comm[i] : '?';
	for (size_t i = CONNECTION_CGROUP_LEVELS; i-- > 0;) {
		size_t part = strnlen(process->cgroup[i], CONNECTION_CGROUP_NAME - 1);

		if (!part)
			continue;
		path[len++] = '/';
		memcpy(path + len, process->cgroup[i], part);
		len += part;
	}
	path[len] = '\0';
	cgroup_container(path, p->container);
	return 0;
}

static int on_listener(const struct connection_listener *listener, void *userdata)
{
	struct connections *c = userdata;
	uint64_t key = (uint64_t)listener->netns << 32 | listener->port;
	int r;

	/* One that many processes hold comes many times. */
	if (c->n_listeners && c->listeners[c->n_listeners - 1] == key)
		return 0;
	r = make_room((void **)&c->listeners, c->n_listeners, &c->listeners_room, sizeof(*c->listeners), SIZE_MAX);
	if (!r)
		c->listeners[c->n_listeners++] = key;
	return r;
}

static int on_connection(const struct connection_record *record, void *userdata)
{
	struct connections *c = userdata;
	struct row *row;
	int r;

	if (!c->n_processes || c->processes[c->n_processes - 1].tgid != record->tgid)
		return -EPROTO; /* its process comes first */
	if (c->n_rows >= c->rows_max) {
		c->left_out++;
		return 0;
	}
	r = make_room((void **)&c->rows, c->n_rows, &c->room, sizeof(*c->rows), c->rows_max);
	if (r < 0)
		return r;
	row = &c->rows[c->n_rows++];
	row->record = *record;
	row->record.flags = row_flags(record, c->hz);
	row->process = (uint32_t)(c->n_processes - 1);
	row->holders = 1;
	return 0;
}

static int compare_index(const void *left, const void *right)
{
	const struct row_index *a = left, *b = right;

	if (a->cookie != b->cookie)
		return a->cookie < b->cookie ? -1 : 1;
	if (a->tgid != b->tgid)
		return a->tgid < b->tgid ? -1 : 1;
	return a->row < b->row ? -1 : a->row > b->row;
}

static int compare_u64(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return a < b ? -1 : a > b;
}

/* One entry per socket, of the process with the lowest PID. */
static int make_index(struct connections *c)
{
	size_t n = 0;

	c->index = calloc(c->n_rows ? c->n_rows : 1, sizeof(*c->index));
	if (!c->index)
		return -ENOMEM;
	for (size_t i = 0; i < c->n_rows; i++)
		c->index[i] = (struct row_index){ c->rows[i].record.cookie, c->rows[i].record.tgid, (uint32_t)i };
	qsort(c->index, c->n_rows, sizeof(*c->index), compare_index);
	for (size_t i = 0; i < c->n_rows; i++) {
		if (n && c->index[n - 1].cookie == c->index[i].cookie) {
			/* A process may hold it by several descriptors. */
			if (c->index[i].tgid != c->index[i - 1].tgid)
				c->rows[c->index[n - 1].row].holders++;
			continue;
		}
		c->index[n++] = c->index[i];
	}
	c->n = n;
	return 0;
}

/* What is needed of the table at hand, which then makes room for the next one. */
static int take_bases(struct connections *c, struct row_base **ret_bases, size_t *ret_n)
{
	struct row_base *bases = calloc(c->n ? c->n : 1, sizeof(*bases));

	if (!bases)
		return -ENOMEM;
	for (size_t i = 0; i < c->n; i++)
		row_base_of(&table_row(c, i)->record, &c->changes[i], &bases[i]);
	*ret_bases = bases;
	*ret_n = c->n;
	free(c->index);
	free(c->changes);
	c->index = NULL;
	c->changes = NULL;
	c->n_rows = c->n = c->n_processes = c->n_listeners = 0;
	c->left_out = 0;
	return 0;
}

static int make_changes(struct connections *c, const struct row_base *bases, size_t n_bases)
{
	size_t b = 0;

	c->changes = calloc(c->n ? c->n : 1, sizeof(*c->changes));
	if (!c->changes)
		return -ENOMEM;
	for (size_t i = 0; i < c->n; i++) {
		while (b < n_bases && bases[b].cookie < c->index[i].cookie)
			b++;
		if (b < n_bases && bases[b].cookie == c->index[i].cookie)
			row_change_of(&bases[b], &table_row(c, i)->record, c->hz, &c->changes[i]);
	}
	return 0;
}

int connections_refresh(struct connections *c, mono_time now)
{
	const struct connection_sink sink = { on_process, on_listener, on_connection, c };
	bool had_one = c->index;
	struct row_base *bases;
	size_t n_bases;
	int r = take_bases(c, &bases, &n_bases);

	if (!r) {
		r = connection_program_run(c->program, &c->wanted, &sink);
		if (!r)
			r = make_index(c);
		if (!r)
			r = make_changes(c, bases, n_bases);
		free(bases);
	}
	if (r < 0) {
		clear(c);
		return r;
	}
	if (c->n_listeners)
		qsort(c->listeners, c->n_listeners, sizeof(*c->listeners), compare_u64);
	c->interval_s = had_one ? ns_to_seconds(mono_since_ns(now, c->refreshed)) : 0;
	c->refreshed = now;
	c->cost_ns = mono_since_ns(mono_now(), now);
	c->table++;
	return 0;
}

size_t connections_count(const struct connections *connections)
{
	return connections->n;
}

uint64_t connections_left_out(const struct connections *connections)
{
	return connections->left_out;
}

void connections_each_program(const struct connections *connections,
			      void (*fn)(const char *name, int fd, void *userdata), void *userdata)
{
	connection_program_each(connections->program, fn, userdata);
}

/* The lines of /proc/PID/cgroup, "NUMBER:CONTROLLERS:PATH": any hierarchy may tell. */
static void ask_proc(struct table_process *p)
{
	char path[64], text[8192], *line, *rest = text;
	ssize_t n;
	int fd;

	p->asked = true;
	snprintf(path, sizeof(path), "/proc/%u/cgroup", p->tgid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	while (!p->container[0] && (line = strsep(&rest, "\n"))) {
		char *at = strchr(line, ':');

		at = at ? strchr(at + 1, ':') : NULL;
		if (at)
			cgroup_container(at + 1, p->container);
	}
}

static double micro(uint32_t us)
{
	return us ? us / 1e6 : NAN;
}

static void get_change(const struct connections *c, const struct connection_record *r, const struct row_change *change,
		       struct connection *to)
{
	double hz = c->hz;
	struct verdict_input *in = &to->input;

	*in = (struct verdict_input){
		.interval_s = change->interval / hz, .busy_s = change->busy / hz,
		.receive_window_s = change->receive_window / hz, .send_buffer_s = change->send_buffer / hz,
		.waiting_far_s = change->waiting_far / hz, .reading_s = change->reading / hz,
		.path_full_s = change->path_full / hz, .streaming_s = change->streaming / hz,
		.rtt_s = to->rtt_s, .min_rtt_s = to->min_rtt_s, .receive_rtt_s = to->receive_rtt_s,
		.sent_bytes = change->sent_bytes, .received_bytes = change->received_bytes,
		.sent_segments = change->sent_segments, .retransmits = change->retransmits,
		.received_segments = change->received_segments, .reordered = change->reordered,
	};
	/* Who accepted a connection has answered, and who has not asked yet is owed nothing: without traffic nobody waits. */
	if (!in->sent_bytes && !in->received_bytes && (to->server || !to->sent_bytes))
		in->waiting_far_s = 0;
	if (r->state == TCP_SYN_SENT) /* the kernel counts no busy time before there is a connection */
		in->busy_s = in->interval_s;
	to->interval_s = in->interval_s;
	if (in->interval_s > 0) {
		to->sent_rate = (double)in->sent_bytes / in->interval_s;
		to->received_rate = (double)in->received_bytes / in->interval_s;
	}
	if (in->retransmits)
		to->retransmit_ratio =
		    fmin(1, (double)in->retransmits / (double)(in->sent_segments ? in->sent_segments : 1));
	verdict_of(in, &to->verdict);
}

static void get_socket(const struct connection_record *r, double hz, struct connection *to)
{
	to->rtt_s = micro(r->rtt_us);
	to->jitter_s = r->rtt_us ? r->jitter_us / 1e6 : NAN;
	to->min_rtt_s = micro(r->min_rtt_us);
	to->receive_rtt_s = micro(r->receive_rtt_us);
	to->sent_bytes = r->sent_bytes;
	to->received_bytes = r->received_bytes;
	to->sent_segments = r->sent_segments;
	to->received_segments = r->received_segments;
	to->retransmits = r->retransmits;
	to->lost = r->lost;
	to->busy_s = r->busy / hz;
	to->receive_window_s = r->receive_window_limited / hz;
	to->send_buffer_s = r->send_buffer_limited / hz;
	to->congestion_window = r->congestion_window;
	to->slow_start_threshold = r->slow_start_threshold < THRESHOLD_NONE ? r->slow_start_threshold : 0;
	to->mss = r->mss;
	to->unacked = r->unacked;
	to->not_sent_bytes = r->not_sent;
	to->unacked_bytes = r->unacked_bytes;
	to->receive_queue_bytes = r->receive_queue;
	to->send_window_bytes = r->send_window;
	to->receive_window_bytes = r->receive_window;
	to->since_sent_s = r->since_sent / hz;
	to->since_received_s = r->since_received / hz;
	to->delivery_rate = r->delivered_us ? (double)r->delivered * r->mss / (r->delivered_us / 1e6) : 0;
	to->mptcp = r->flags & CONNECTION_MPTCP;
}

void connections_get(struct connections *c, size_t index, struct connection *ret_connection)
{
	const struct row *row = table_row(c, index);
	const struct connection_record *r = &row->record;
	struct table_process *p = &c->processes[row->process];
	uint64_t listener = (uint64_t)r->netns << 32 | r->local_port;
	struct connection *to = ret_connection;
	const char *network;

	*to = (struct connection){
		.cookie = r->cookie, .netns = r->netns, .state = r->state, .local_port = r->local_port,
		.remote_port = r->remote_port, .pid = r->tgid, .holders = row->holders, .age_s = r->age_ns ? (double)r->age_ns / 1e9 : NAN,
	};
	memcpy(&to->local, &r->local, sizeof(to->local));
	memcpy(&to->remote, &r->remote, sizeof(to->remote));
	to->server = c->n_listeners && bsearch(&listener, c->listeners, c->n_listeners, sizeof(listener), compare_u64);
	if (!p->container[0] && c->ask_proc && !p->asked)
		ask_proc(p);
	memcpy(to->comm, p->comm, sizeof(to->comm));
	memcpy(to->container, p->container, sizeof(to->container));
	network = c->peers ? peers_network(c->peers, &to->remote) : NULL;
	if (network)
		snprintf(to->peer, sizeof(to->peer), "%s", network);
	else
		address_format(&to->remote, to->peer);
	get_socket(r, c->hz, to);
	get_change(c, r, &c->changes[index], to);
}
