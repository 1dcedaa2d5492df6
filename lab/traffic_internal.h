/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of the traffic: what the programs share, and blocking I/O with time-outs. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include "lab/traffic.h"

#define TRAFFIC_DOMAIN ".lab"
#define TRAFFIC_DNS_PORT 53
#define TRAFFIC_WEB_PORT 80
#define TRAFFIC_DB_PORT 5432
#define TRAFFIC_STORE_PORT 9000
#define TRAFFIC_PHONE_PORT 5004

struct traffic_tally { _Atomic uint64_t done, failed; };

/* Of one program: what its function gets. */
struct program {
	_Atomic uint64_t *faults;     /* TRAFFIC_FAULTS of them */
	struct traffic_tally *tally;
	const char *const *names;     /* of the hosts, in the order of the topology */
	size_t n_names;
	unsigned random;              /* for rand_r */
};

/* The programs. They do not return but for an error at the start. */
int program_named(struct program *program, struct error *error);
int program_webd(struct program *program, struct error *error);
int program_dbd(struct program *program, struct error *error);
int program_storaged(struct program *program, struct error *error);
int program_phoned(struct program *program, struct error *error);
int program_browser(struct program *program, struct error *error);
int program_browser4(struct program *program, struct error *error);
int program_player(struct program *program, struct error *error);
int program_backup(struct program *program, struct error *error);
int program_phone(struct program *program, struct error *error);

/* The answer to a DNS query, into `out` of 512 bytes: its length, or 0: it deserves none. */
size_t named_answer(const uint8_t *query, size_t len, const char *const *names, size_t n_names, uint8_t out[static 512]);

void net_sleep(uint64_t ns);
/* A socket for all addresses, of both families; a SOCK_STREAM one listens. -errno with a sentence. */
int net_bind(int type, unsigned port, struct error *error);
/* Looks the name up (family AF_UNSPEC: any) and connects; reads and writes of the socket end after some seconds. -errno. */
int net_connect(const char *name, unsigned port, int family, int type);
bool net_write(int fd, const char *data, size_t len);
bool net_write_zeros(int fd, size_t len);
bool net_skip(int fd, size_t len); /* reads and forgets */
/* Up to and without `end`, byte by byte; at most size - 1. */
bool net_read_until(int fd, const char *end, char *to, size_t size);
/* A thread for each connection, which closes it afterwards. `closed`: while it is not 0 nobody listens; or NULL. */
int net_serve(unsigned port, void (*serve)(int fd, struct program *program), struct program *program,
	      const _Atomic uint64_t *closed, struct error *error);
