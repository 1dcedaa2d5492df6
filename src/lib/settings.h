/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration file as the program sees it: one struct, filled from YAML by
 * the schema rows in settings.c through the engine in config.c. The same rows
 * give the defaults, the validation, the documented example
 * (`netsonde check --print-example`) and the man page's table. Every key is
 * optional. Loading is all or nothing: on any error nothing of *ret is valid.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/address.h"
#include "lib/buffer.h"
#include "lib/error.h"

enum settings_tcp_rtt { SETTINGS_RTT_PER_TICK, SETTINGS_RTT_EVERY_ACK };
enum settings_scope { SETTINGS_SCOPE_MACHINE, SETTINGS_SCOPE_NAMESPACE };

/* In the order of enum probe_protocol and enum probe_attach (the agent's). */
enum settings_probe_protocol { SETTINGS_PROBE_ICMP, SETTINGS_PROBE_STAMP, SETTINGS_PROBE_TCP, SETTINGS_PROBE_PROTOCOLS };
enum settings_probe_attach {
	SETTINGS_ATTACH_AUTO, SETTINGS_ATTACH_XDP, SETTINGS_ATTACH_XDP_GENERIC, SETTINGS_ATTACH_TC, SETTINGS_ATTACH_SOCKET, SETTINGS_ATTACH_OFF,
};

struct settings_network { char *name; struct prefix *prefixes; size_t n_prefixes; };
struct settings_scrape_target { char *name; char *url; };
/* What is not in the file is that of probe.defaults. */
struct settings_probe_target {
	char *name, *address;             /* address: literal, or a host name */
	unsigned protocol;                /* enum settings_probe_protocol */
	uint32_t port;                    /* 0: the protocol's */
	uint64_t interval_ns, timeout_ns; /* 10 ms .. 1 h; 1 ms .. 1 m */
	uint32_t size, dscp, paths;       /* payload in bytes, 16..9000; 0..63; 1..32 */
	uint32_t ttl;                     /* 0: the host's */
	char *interface, *source;         /* NULL: by the route */
	char *key_file;                   /* STAMP authenticated; NULL: not */
	bool passive;                     /* default on */
};

struct settings {
	struct settings_network *networks; size_t n_networks; /* prefixes are unique over all networks */
	struct {
		uint64_t tick_ns;          /* 20 ms .. 60 s; default 1s */
		unsigned scope;            /* enum settings_scope; default the machine */
		bool tcp;                  /* default on */
		unsigned tcp_rtt;          /* enum settings_tcp_rtt; default per tick */
		bool udp, dns;             /* default off: a program on every datagram, on every packet */
		bool lookups, drops, processes, interfaces; /* default on */
		char **flows; size_t n_flows;           /* names of interfaces; default none */
		char **namespaces; size_t n_namespaces; /* whose interfaces are watched too; names in /run/netns, or paths */
		uint32_t top_peers;        /* 0..4096; default 100 */
		uint32_t series_budget;    /* 100..10,000,000; default 20000 */
		uint32_t max_sockets;      /* 1024..4,000,000; default 262144 */
		uint32_t memory_budget;    /* bytes, 8M..4000M; default 64M: maps, records of sockets and the process together */
		uint32_t events_per_second; /* of each kind, 1..100,000; default 100 */
	} collect;
	/* Nothing is sent, attached or reflected by default: no targets, no peers, no plan, no reflecting interface. */
	struct settings_probe {
		struct { uint64_t interval_ns, timeout_ns; unsigned protocol; uint32_t size, dscp, paths; } defaults;
		struct { uint32_t packets, bytes; } budget; /* per second */
		struct settings_probe_target *targets; size_t n_targets; /* names unique */
		uint32_t peers;            /* so many of the busiest peers; 0: off */
		struct {
			char *url;         /* NULL: none */
			uint64_t interval_ns;      /* how often it is fetched */
			uint32_t targets;          /* the most it may ask for */
			uint64_t min_interval_ns;  /* the shortest interval it may ask for */
			struct prefix *networks; size_t n_networks;    /* what it may name; none: everything */
			unsigned *protocols; size_t n_protocols;       /* the same */
		} plan;
		bool passive, adapt;       /* default on */
		unsigned attach;           /* enum settings_probe_attach */
		char **reflect; size_t n_reflect; /* names of interfaces; default none */
		struct { uint32_t port, rate; bool icmp, authenticated_only; char *key_file; } reflector;
		uint64_t clock_error_ns;   /* 0: what the kernel says */
		uint32_t max_targets;      /* paths, to be exact */
	} probe;
	struct {
		struct {
			uint64_t interval_ns;  /* 20 ms .. 1 h; default 1s */
			uint64_t timeout_ns;   /* 10 ms .. 1 h; default 10s */
			struct settings_scrape_target *targets; size_t n_targets; /* names unique; url http(s) */
		} scrape;
		struct {
			char *path;            /* default "netsonde.db", relative to the server's state directory */
			uint64_t retention_raw_ns; /* retention: {raw: 2d} */
		} store;
	} server;
};

/* path NULL: the defaults. All errors at once in ret_errors (a buffer of whole lines, each
 * "file:line:column: error: ..." with the source line and a caret). 0, -EINVAL, or another -errno when the file
 * cannot be read (then also a line). */
int settings_load(const char *path, struct settings *ret_settings, struct buffer *ret_errors);
/* Same from memory; `name` stands for the file in messages. */
int settings_parse(const char *text, size_t len, const char *name, struct settings *ret_settings, struct buffer *ret_errors);
void settings_done(struct settings *settings);
/* Does anything ask for probes, or for their reflection? */
bool settings_probe_wanted(const struct settings *settings);

void settings_write_example(struct buffer *out); /* YAML that loads to exactly the defaults, every key with its comment */
void settings_write_man(struct buffer *out);     /* the table for netsonde.yaml(5), in mdoc/man macros */
