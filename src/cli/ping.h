/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of `netsonde ping`: whom it asks (ping_hosts.c), when (ping_session.c), what is known of the answers (ping_stats.c), and
 * how it is told: lines (ping_print.c), summaries (ping_summary.c), JSON (ping_json.c), a picture (ping_histogram.c).
 * All but the session are pure: no sockets, no clocks, text into a buffer.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "agent/probe/prober.h"
#include "cli/ping_samples.h"
#include "lib/buffer.h"
#include "lib/clock.h"
#include "lib/error.h"

#define PING_NAME_MAX 256
#define PING_SAMPLES_MAX (1u << 20)  /* values kept for exact quantiles, of all hosts together: 8 MiB */
#define PING_ERRORS_MAX 4            /* different reasons why a path's probes were unreachable */

struct ping_options {
	uint64_t count;              /* probes of a path; 0: until it is ended */
	uint64_t interval_ns, timeout_ns;
	uint64_t deadline_ns;        /* 0: none */
	unsigned family;             /* 4, 6; 0: as the system orders */
	enum probe_protocol protocol;
	uint16_t port, payload;      /* 0: the protocol's own */
	uint8_t dscp, ttl, paths;    /* ttl 0: the host's own */
	bool dont_fragment;
	uint32_t ifindex;            /* 0: by the route */
	struct address source;
	bool has_source;
	enum probe_attach attach;
	const uint8_t *secret;
	size_t secret_len;
	bool quiet, json, timestamps, histogram;
};

/* What became of the probes of a path, or of all of a host. A zeroed one is empty. */
struct ping_stats {
	uint64_t answered, closed, timed_out, unreachable; /* closed: of answered, those by a TCP reset */
	struct { int error; uint64_t n; } errors[PING_ERRORS_MAX]; /* error 0: several */
	struct ping_samples rtt;     /* STAMP: without the reflector's time */
	struct ping_samples forward, backward, residence;
	uint64_t residence_unknown;  /* STAMP answers whose reflector's times cannot be: the round trip has its time in it */
	uint64_t one_way_unknown;    /* STAMP answers of which there is no one-way delay */
	uint64_t clock_error_ns;     /* the largest of those that had one; UINT64_MAX: not known */
	bool has_clock_error;
	uint64_t clocks[PROBE_CLOCK_COUNT]; /* answered ones by the source of their times */
	uint64_t jitters;            /* paths that have a jitter: with two answers */
	double jitter_ns;            /* RFC 3550, section 6.4.1; of several paths the mean */
	int64_t last_rtt_ns;
	uint64_t unsent;             /* there was no place for them: probes on their way filled it */
	struct probe_counts counts;  /* the engine's: sent, duplicates, reordered, late, rejected */
};

void ping_stats_add(struct ping_stats *stats, const struct probe_result *result, size_t *allowance);
void ping_stats_merge(struct ping_stats *to, const struct ping_stats *from);
void ping_stats_done(struct ping_stats *stats);
/* Sent, and not known what became of it. */
uint64_t ping_stats_pending(const struct ping_stats *stats);

struct ping_host;
struct ping_session;

struct ping_path {
	struct ping_host *host;
	struct probe_path *path;     /* the engine's */
	struct ping_stats stats;
	uint8_t number;              /* from 1, as it is shown */
};

struct ping_host {
	char name[PING_NAME_MAX];    /* as it was given, fit for a terminal */
	char where[ADDRESS_TEXT_MAX + 48]; /* its address; with scope and port where they matter: "[fe80::1%eth0]:443" */
	struct address address;
	uint32_t ifindex;            /* scope of a link-local address; 0: none */
	uint16_t port;               /* 0: the protocol's own */
	struct ping_path *paths;
	struct ping_session *session; /* while one runs */
	struct ping_stats stats;     /* of all paths; filled by ping_hosts_sum */
};

struct ping_hosts {
	struct ping_host *items;
	struct ping_path *paths;     /* of all hosts, n * paths_each; a host's are beside each other */
	size_t n, paths_each;
};

/* "host", "host:port", "[address]:port", "fe80::1%eth0": the host's name or address without brackets into `ret_host`, and its port
 * (0: none). ports: the protocol has some. -EINVAL with a sentence. */
int ping_host_split(const char *text, bool ports, char ret_host[static PING_NAME_MAX], uint16_t *ret_port, struct error *ret_error);
/* Looks all of them up. What was not found gets a line in `errors` each, and is left out; how many these are is returned, or -ENOMEM. */
int ping_hosts_new(char *const *names, size_t n, const struct ping_options *options, struct ping_hosts *ret_hosts, struct buffer *errors);
void ping_hosts_done(struct ping_hosts *hosts);
/* Adds up each host's paths, for a summary. */
void ping_hosts_sum(struct ping_hosts *hosts);

/* How it is shown. */
struct ping_look {
	bool utf8, colors;
	uint64_t histogram;          /* draw from so many answers on; 0: never */
	size_t width;                /* columns; 0: no limit, it is no terminal */
	size_t name_width;           /* of hosts' names in lines; 0: one host, which needs none */
	bool paths;                  /* more than one of each host */
	bool timestamps;             /* in front of lines */
	/* The session's to say: */
	enum probe_clock unhooked;   /* whose times are taken where no hook is */
	bool explained;              /* why there are no hooks anywhere: not again */
};

/* Lines end with a newline. */
void ping_print_start(const struct ping_hosts *hosts, const struct ping_options *options, const struct ping_look *look, struct buffer *out);
/* when: of the answer, or of now for none. */
void ping_print_result(const struct ping_path *path, const struct probe_result *result, const struct ping_options *options,
		       const struct ping_look *look, wall_time when, struct buffer *out);
/* Answers that are no result: what is more than there was before. */
void ping_print_odd(const struct ping_path *path, uint64_t duplicates, uint64_t late, const struct ping_look *look, wall_time when,
		    struct buffer *out);
void ping_print_interim(const struct ping_hosts *hosts, struct buffer *out); /* one line; the hosts are summed */
void ping_print_summary(const struct ping_hosts *hosts, const struct ping_options *options, const struct ping_look *look,
			uint64_t duration_ns, struct buffer *out);
void ping_histogram(struct ping_stats *stats, const struct ping_look *look, struct buffer *out);

/* One document and a newline. */
int ping_json_result(const struct ping_path *path, const struct probe_result *result, const struct ping_options *options,
		     wall_time sent, struct buffer *out);
int ping_json_summary(const struct ping_hosts *hosts, const struct ping_options *options, wall_time started, uint64_t duration_ns,
		      struct buffer *out);

/* "icmp", "stamp", "tcp"; "hardware", "xdp", ... as in metrics. */
const char *ping_protocol_name(enum probe_protocol protocol);
const char *ping_clock_name(enum probe_clock clock);
/* EHOSTUNREACH: "host_unreachable" and "Destination host unreachable". */
const char *ping_error_name(int error);
const char *ping_error_words(int error);
/* The clock that results will have, by what is attached where a path leaves. */
enum probe_clock ping_expected_clock(const struct probe_device *device, enum probe_clock unhooked);
uint16_t ping_port(const struct ping_host *host, const struct ping_options *options);
/* Bytes behind the IP header. */
unsigned ping_length(const struct ping_options *options);

/* Sends and prints until it is over. The exit status: 0, 1 when a host did not answer, 2 when the output could not be written; -errno
 * with a sentence when there was nothing to send with. */
int ping_session_run(struct ping_hosts *hosts, const struct ping_options *options, const struct ping_look *look, struct error *ret_error);
