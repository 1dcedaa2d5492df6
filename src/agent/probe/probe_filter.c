/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe/probe_filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/icmp.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

#define TAKE UINT32_MAX
#define PROGRAM_MAX 40
#define QUOTE 8 /* where an error's quotation begins */

/* A program that grows; a load behind the packet's end ends it with 0, which is no packet. */
struct program {
	struct sock_filter code[PROGRAM_MAX];
	unsigned short n;
};

static void add(struct program *p, uint16_t code, uint32_t k)
{
	p->code[p->n++] = (struct sock_filter)BPF_STMT(code, k);
}

/* If A has this value: the next `then` instructions; else they are skipped. */
static void add_when(struct program *p, uint32_t value, uint8_t then)
{
	p->code[p->n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, then);
}

/* Ends the program: takes the packet when A is in first .. first + count - 1. Four instructions. */
static void add_block(struct program *p, uint16_t first, uint16_t count)
{
	add(p, BPF_ALU | BPF_SUB | BPF_K, first); /* wraps around below it */
	p->code[p->n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, count, 1, 0);
	add(p, BPF_RET | BPF_K, TAKE);
	add(p, BPF_RET | BPF_K, 0);
}
#define BLOCK_LENGTH 4

/* X is how far the quoted IPv4 or IPv6 header's end is from QUOTE, A the protocol behind it. */
static void add_quoted(struct program *p, uint8_t icmp, uint16_t icmp_first, uint16_t port_first, uint16_t count)
{
	add_when(p, icmp, 1 + BLOCK_LENGTH);
	add(p, BPF_LD | BPF_H | BPF_IND, QUOTE + 4);
	add_block(p, icmp_first, count);
	p->code[p->n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 2, 0);
	p->code[p->n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 1, 0);
	add(p, BPF_RET | BPF_K, 0);
	add(p, BPF_LD | BPF_H | BPF_IND, QUOTE);
	add_block(p, port_first, count);
}

static int attach(int fd, struct program *p)
{
	struct sock_fprog program = { .len = p->n, .filter = p->code };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) ? -errno : 0;
}

static int filter_icmp4(int fd, uint16_t icmp_first, uint16_t port_first, uint16_t count)
{
	struct icmp_filter types = {
		.data = ~(1u << ICMP_ECHOREPLY | 1u << ICMP_DEST_UNREACH | 1u << ICMP_TIME_EXCEEDED | 1u << ICMP_PARAMETERPROB),
	};
	struct program p = { .n = 0 };

	/* Before a copy is made. */
	if (setsockopt(fd, SOL_RAW, ICMP_FILTER, &types, sizeof(types)))
		return -errno;
	add(&p, BPF_LDX | BPF_B | BPF_MSH, 0); /* X: the IP header's length */
	add(&p, BPF_LD | BPF_B | BPF_IND, 0);
	add_when(&p, ICMP_ECHOREPLY, 1 + BLOCK_LENGTH);
	add(&p, BPF_LD | BPF_H | BPF_IND, 4);
	add_block(&p, icmp_first, count);
	/* An error, by the types above. */
	add(&p, BPF_LD | BPF_B | BPF_IND, QUOTE + 9);
	add(&p, BPF_ST, 0);
	add(&p, BPF_LD | BPF_B | BPF_IND, QUOTE);
	add(&p, BPF_ALU | BPF_AND | BPF_K, 15);
	add(&p, BPF_ALU | BPF_LSH | BPF_K, 2);
	add(&p, BPF_ALU | BPF_ADD | BPF_X, 0);
	add(&p, BPF_MISC | BPF_TAX, 0);
	add(&p, BPF_LD | BPF_MEM, 0);
	add_quoted(&p, IPPROTO_ICMP, icmp_first, port_first, count);
	return attach(fd, &p);
}

static int filter_icmp6(int fd, uint16_t icmp_first, uint16_t port_first, uint16_t count)
{
	struct icmp6_filter types;
	struct program p = { .n = 0 };

	ICMP6_FILTER_SETBLOCKALL(&types);
	ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &types);
	ICMP6_FILTER_SETPASS(ICMP6_DST_UNREACH, &types);
	ICMP6_FILTER_SETPASS(ICMP6_PACKET_TOO_BIG, &types);
	ICMP6_FILTER_SETPASS(ICMP6_TIME_EXCEEDED, &types);
	ICMP6_FILTER_SETPASS(ICMP6_PARAM_PROB, &types);
	if (setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, &types, sizeof(types)))
		return -errno;
	add(&p, BPF_LD | BPF_B | BPF_ABS, 0);
	add_when(&p, ICMP6_ECHO_REPLY, 1 + BLOCK_LENGTH);
	add(&p, BPF_LD | BPF_H | BPF_ABS, 4);
	add_block(&p, icmp_first, count);
	add(&p, BPF_LDX | BPF_W | BPF_IMM, 40);
	add(&p, BPF_LD | BPF_B | BPF_ABS, QUOTE + 6);
	add_quoted(&p, IPPROTO_ICMPV6, icmp_first, port_first, count);
	return attach(fd, &p);
}

int probe_filter_icmp(int fd, bool v6, uint16_t icmp_first, uint16_t port_first, uint16_t count)
{
	return v6 ? filter_icmp6(fd, icmp_first, port_first, count) : filter_icmp4(fd, icmp_first, port_first, count);
}

int probe_filter_tcp(int fd, bool v6, uint16_t port_first, uint16_t count)
{
	enum { SYN = 2, RST = 4, ACK = 16 };
	struct program p = { .n = 0 };

	if (v6)
		add(&p, BPF_LDX | BPF_W | BPF_IMM, 0);
	else
		add(&p, BPF_LDX | BPF_B | BPF_MSH, 0);
	add(&p, BPF_LD | BPF_B | BPF_IND, 13);
	add(&p, BPF_ALU | BPF_AND | BPF_K, SYN | RST | ACK);
	p.code[p.n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, RST, 2, 0);
	p.code[p.n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYN | ACK, 1, 0);
	add(&p, BPF_RET | BPF_K, 0);
	add(&p, BPF_LD | BPF_H | BPF_IND, 2);
	add_block(&p, port_first, count);
	return attach(fd, &p);
}
