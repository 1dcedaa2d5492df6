/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of live TCP connections, with the process and container behind each,
 * rates since the table before, and the verdict why a connection is as fast as it
 * is. Taken by an iterator over the files of all tasks (bpf/connection.bpf.c), only
 * when somebody asks: the agent's /api/v1/connections, `netsonde top`, `netsonde why`.
 *
 * The process is the one that holds the socket's descriptor at that moment, so neither the age of the socket nor a
 * reused PID can name a wrong one. A socket that several hold (after fork) is one row, under the lowest of their PIDs.
 *
 * A row takes about 300 bytes in here; struct connection is only its long form, made on demand.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "agent/cgroup.h"
#include "agent/verdict.h"
#include "lib/address.h"
#include "lib/clock.h"
#include "lib/error.h"
#include "lib/http.h"
#include "lib/json.h"

#define CONNECTIONS_MAX 1000000 /* rows, when nothing else is asked for */

/* What a row of the table takes, while it is made. */
#define CONNECTIONS_ROW_BYTES 384

struct connections;
struct peers;
struct tcp_program;

struct connection {
	uint64_t cookie; /* of the socket: the connection's ID, unique until the host restarts; ss -e shows it as sk: */
	uint32_t netns;             /* inode number */
	unsigned state;             /* TCP_ESTABLISHED, ... (include/net/tcp_states.h) */
	bool server;                /* somebody listens on the local port */
	struct address local, remote;
	uint16_t local_port, remote_port;
	uint32_t pid;               /* as the initial PID namespace counts */
	uint32_t holders;           /* processes that hold it */
	char comm[16];              /* printable ASCII, what is none is '?' */
	char container[CONTAINER_NAME_MAX]; /* "" when in none */
	char peer[ADDRESS_TEXT_MAX * 2];    /* the network's name, else the remote address */

	double age_s;               /* NAN: older than the agent */
	double rtt_s, jitter_s, min_rtt_s; /* NAN: no sample yet */
	double receive_rtt_s; /* as the receiver of a stream sees it, with the sender's pauses; NAN: no sample yet */
	uint64_t sent_bytes, received_bytes;        /* payload, since the connection began */
	uint64_t sent_segments, received_segments;  /* with acknowledgements */
	uint64_t retransmits, lost; /* segments sent again; that the kernel holds for lost now */
	double busy_s, receive_window_s, send_buffer_s; /* chrono counters, since it began; busy contains the others */
	/* Segments, but mss: bytes. Threshold 0: none yet. */
	uint32_t congestion_window, slow_start_threshold, mss, unacked;
	uint64_t not_sent_bytes, unacked_bytes, receive_queue_bytes;
	uint64_t send_window_bytes, receive_window_bytes; /* what the peer offers; what we offer */
	double since_sent_s, since_received_s;            /* data, not acknowledgements */
	double delivery_rate;       /* bytes/s, the kernel's estimate; 0: none */
	bool mptcp;                 /* a subflow */

	/* Over the time since the table before; interval_s 0: it was not in that one. */
	double interval_s;
	double sent_rate, received_rate; /* bytes/s */
	double retransmit_ratio;         /* of the data segments sent; 0 when there were none */
	struct verdict_input input;      /* what the verdict was made from */
	struct verdict verdict;
};

/* Loads and attaches; needs CAP_BPF and CAP_PERFMON. peers: for the labels, tcp: for the ages; borrowed, or
 * NULL. rows_max 0: CONNECTIONS_MAX. */
int connections_open(const struct peers *peers, const struct tcp_program *tcp, uint32_t rows_max,
		     struct connections **ret_connections, struct error *ret_error);
void connections_close(struct connections *connections);

/* Fields that are 0 let everything through. The kernel leaves out the rest, which costs half as much as a row. */
struct connections_filter {
	uint32_t pid;         /* what this process holds, also what it shares with one of a lower PID */
	uint64_t cookie;
	struct prefix remote; /* of 0 bits: any */
};
/* From the next table on; NULL: everything. */
void connections_only(struct connections *connections, const struct connections_filter *filter);
/* A new table; rates and verdicts are since the one before. -errno: then the table is empty. */
int connections_refresh(struct connections *connections, mono_time now);
/* Gives the memory back when nobody asked for a minute; once per tick. */
void connections_tidy(struct connections *connections, mono_time now);
/* Of the last refresh, ordered by cookie. */
size_t connections_count(const struct connections *connections);
/* index < count. */
void connections_get(struct connections *connections, size_t index, struct connection *ret_connection);
/* How many more there were than rows_max. */
uint64_t connections_left_out(const struct connections *connections);
/* Calls fn for each program (name, descriptor), for self_program. */
void connections_each_program(const struct connections *connections,
			      void (*fn)(const char *name, int fd, void *userdata), void *userdata);

const char *connection_state_name(unsigned state);                  /* "established", ...; "unknown" */
json_t *connection_json(const struct connection *connection);       /* a new reference */
json_t *verdict_json(const struct verdict *verdict);                 /* likewise; with its sentence */
/* -EINVAL: it is none. Strings that are too long are cut, unprintable bytes become '?', what is missing is as if
 * unknown. */
int connection_from_json(const json_t *value, struct connection *ret_connection);

/* GET /api/v1/connections?peer=&pid=&process=&container=&port=&id=&limit=&sort=, every key optional:
 * {"status":"success","data":{"table","interval","total","left_out","matched","connections":[...]}}.
 * peer: the name of a network, an address or a prefix; repeated: any of them.
 * table: counts the refreshes, so a reader knows one it has seen. total: rows in the table; matched: those that the
 * filters leave. limit: rows given, default 1000, at most 10000. sort: rate (default: bytes/s, both ways), sent,
 * received, rtt, retransmits, id; the first rows of that order are given, largest first, but id ascending. Refreshes at
 * most every 500 ms, and takes at most a tenth of a core, whoever asks, so that many readers cost what one costs.
 * userdata: struct connections *. */
void connections_handle(struct http_request *request, void *userdata);
