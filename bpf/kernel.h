/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * The few kernel types that our programs read, with only the fields they use.
 * libbpf relocates every access to the running kernel's layout (CO-RE), so
 * offsets and order here mean nothing. Names and types follow Linux; a field
 * that a supported kernel may lack is tested with bpf_core_field_exists.
 * Instead of a 135,000-line vmlinux.h: the object stays small and compiles fast.
 */
#ifndef NETSONDE_KERNEL_H
#define NETSONDE_KERNEL_H

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;
enum { false, true };
#ifndef NULL
#define NULL ((void *)0)
#endif

/* Map types and flags from the uapi, where they are numbers for good. */
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_MAP_TYPE_QUEUE = 22,
	BPF_MAP_TYPE_SK_STORAGE = 24,
};
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_F_NO_PREALLOC = 1, BPF_F_MMAPABLE = 1024 };
enum { BPF_LOCAL_STORAGE_GET_F_CREATE = 1, BPF_SK_STORAGE_GET_F_CREATE = 1 };

enum { AF_INET = 2, AF_INET6 = 10, IPPROTO_TCP = 6 };

/* include/net/tcp_states.h */
enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT = 2,
	TCP_SYN_RECV = 3,
	TCP_FIN_WAIT1 = 4,
	TCP_FIN_WAIT2 = 5,
	TCP_TIME_WAIT = 6,
	TCP_CLOSE = 7,
	TCP_CLOSE_WAIT = 8,
	TCP_LAST_ACK = 9,
	TCP_LISTEN = 10,
	TCP_CLOSING = 11,
	TCP_NEW_SYN_RECV = 12,
};
enum { TCP_CA_RECOVERY = 3, TCP_CA_LOSS = 4 };
enum { ICSK_TIME_LOSS_PROBE = 5 };
enum { TCP_CHRONO_BUSY = 1, TCP_CHRONO_RWND_LIMITED = 2, TCP_CHRONO_SNDBUF_LIMITED = 3 };
enum { SOCK_DONE = 1 }; /* bit in skc_flags: the peer's FIN was received */

enum { EPIPE = 32, ENETUNREACH = 101, ECONNRESET = 104, ETIMEDOUT = 110, ECONNREFUSED = 111, EHOSTUNREACH = 113 };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct in6_addr {
	union {
		__u8 u6_addr8[16];
		__be32 u6_addr32[4];
	} in6_u;
};

struct ns_common {
	__u32 inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	__u16 skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	unsigned long skc_flags;
};

struct qspinlock {
	__u8 locked;
};

struct raw_spinlock {
	struct qspinlock raw_lock;
};

struct spinlock {
	struct raw_spinlock rlock;
};

typedef struct {
	struct spinlock slock; /* held by softirq */
	int owned;             /* by a process */
} socket_lock_t;

struct sock {
	struct sock_common __sk_common;
	socket_lock_t sk_lock;
	int sk_err;
	__u16 sk_protocol;
};

struct inet_connection_sock {
	__u8 icsk_ca_state : 5;
	__u8 icsk_pending;
};

struct minmax_sample {
	__u32 t;
	__u32 v;
};

struct minmax {
	struct minmax_sample s[3];
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 segs_in, segs_out;
	__u32 rcv_nxt;
	__u32 snd_una, snd_nxt, write_seq;
	__u64 bytes_received, bytes_acked;
	__u32 srtt_us; /* smoothed RTT, << 3 */
	__u32 mdev_us; /* mean deviation, << 2 */
	__u32 delivered;
	__u32 total_retrans;
	struct minmax rtt_min;
	__u32 chrono_start;
	__u32 chrono_stat[3];
	__u8 chrono_type : 2;
};

struct request_sock {
	struct sock_common __req_common;
};

struct tcp_request_sock {
	__u64 snt_synack; /* first SYN-ACK, us of the monotonic clock */
};

struct sk_buff {
	unsigned char *head;
	__u16 network_header;
	char cb[48];
};

struct tcp_skb_cb {
	__u16 tcp_gso_segs;
};

struct socket {
	struct sock *sk;
};

struct file {
	void *private_data;
};

struct task_struct {
	int pid;
	int tgid;
};

struct seq_file;
struct bpf_map;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
};

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

#pragma clang attribute pop

/* struct bpf_iter_meta etc. are the kernel's; these are helpers' argument types that we never look into. */
struct tcp6_sock;
struct tcp_timewait_sock;
struct udp6_sock;
struct unix_sock;
struct mptcp_sock;

#endif
