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
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_MAP_TYPE_QUEUE = 22,
	BPF_MAP_TYPE_SK_STORAGE = 24,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_F_NO_PREALLOC = 1, BPF_F_MMAPABLE = 1024 };
enum { BPF_RB_NO_WAKEUP = 1 };
enum { BPF_LOCAL_STORAGE_GET_F_CREATE = 1, BPF_SK_STORAGE_GET_F_CREATE = 1 };

enum { AF_INET = 2, AF_INET6 = 10, IPPROTO_TCP = 6, IPPROTO_UDP = 17, SOCK_DGRAM = 2, SOCK_RAW = 3 };

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

enum { PF_KTHREAD = 0x200000, SIGNAL_GROUP_EXIT = 4 }; /* include/linux/sched.h, sched/signal.h */

enum { EEXIST = 17, EPIPE = 32, ENETUNREACH = 101, ECONNRESET = 104, ETIMEDOUT = 110, ECONNREFUSED = 111, EHOSTUNREACH = 113 };

/* The context of programs that see packets, from the uapi: its layout is for good, so it needs no relocation. */
struct __sk_buff {
	__u32 len, pkt_type, mark, queue_mapping, protocol;
	__u32 vlan_present, vlan_tci, vlan_proto;
	__u32 priority, ingress_ifindex, ifindex, tc_index;
	__u32 cb[5];
	__u32 hash, tc_classid, data, data_end, napi_id;
	__u32 family, remote_ip4, local_ip4, remote_ip6[4], local_ip6[4], remote_port, local_port;
	__u32 data_meta;
	__u64 flow_keys, tstamp;
	__u32 wire_len, gso_segs;
	__u64 sk;
	__u32 gso_size;
};
_Static_assert(__builtin_offsetof(struct __sk_buff, gso_size) == 176, "the uapi's layout");
enum { PACKET_OUTGOING = 4 }; /* in pkt_type: seen by a packet socket on its way out */

/* Of XDP, likewise, and what programs return. */
struct xdp_md {
	__u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex;
};
enum xdp_action { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT };
enum { TCX_NEXT = -1, TCX_PASS = 0, TCX_DROP = 2, TCX_REDIRECT = 7 }; /* as TC_ACT_* */
enum { BPF_F_RECOMPUTE_CSUM = 1, BPF_F_PSEUDO_HDR = 16 };

/* The context of sock_ops programs, from the uapi likewise. */
struct bpf_sock {
	__u32 bound_dev_if, family, type, protocol, mark, priority;
	__u32 src_ip4, src_ip6[4], src_port; /* the port in host order */
	__be16 dst_port, reserved;
	__u32 dst_ip4, dst_ip6[4];
	__u32 state;
	__s32 rx_queue_mapping;
};
_Static_assert(__builtin_offsetof(struct bpf_sock, state) == 72, "the uapi's layout");
struct bpf_sock_ops {
	__u32 op, args[4];
	__u32 family, remote_ip4, local_ip4, remote_ip6[4], local_ip6[4], remote_port, local_port;
	__u32 is_fullsock, snd_cwnd, srtt_us, bpf_sock_ops_cb_flags;
	__u32 state, rtt_min, snd_ssthresh, rcv_nxt, snd_nxt, snd_una, mss_cache, ecn_flags, rate_delivered, rate_interval_us;
	__u32 packets_out, retrans_out, total_retrans, segs_in, data_segs_in, segs_out, data_segs_out, lost_out, sacked_out, sk_txhash;
	__u64 bytes_received, bytes_acked;
	struct bpf_sock *sk;
};
_Static_assert(__builtin_offsetof(struct bpf_sock_ops, sk) == 184, "the uapi's layout");
enum { BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB = 4, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB = 5, BPF_SOCK_OPS_RTT_CB = 12 };
enum { BPF_SOCK_OPS_RTT_CB_FLAG = 8 };

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
	struct in6_addr skc_v6_rcv_saddr;
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
	int sk_wmem_queued, sk_sndbuf;
	__u16 sk_type;
	__u16 sk_protocol;
};

struct inet_connection_sock {
	__u8 icsk_ca_state : 5;
	__u8 icsk_pending;
	struct {
		__u32 lrcvtime; /* jiffies */
	} icsk_ack;
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
	__u32 segs_in, segs_out, data_segs_in, data_segs_out;
	__u32 rcv_nxt, copied_seq;
	__u32 snd_una, snd_nxt, write_seq;
	__u32 snd_wl1; /* sequence number of the segment that last moved snd_wnd */
	__u64 bytes_received, bytes_acked, bytes_sent, bytes_retrans;
	__u32 srtt_us; /* smoothed RTT, << 3 */
	__u32 mdev_us; /* mean deviation, << 2 */
	__u32 delivered;
	__u32 total_retrans;
	struct minmax rtt_min;
	__u32 chrono_start;
	__u32 chrono_stat[3];
	__u8 chrono_type : 2;
	__u8 is_cwnd_limited : 1;
	__u32 packets_out, lost_out, rcv_ooopack;
	__u32 snd_cwnd, snd_ssthresh, mss_cache;
	__u32 snd_wnd, max_window, rcv_wnd; /* max_window: the largest snd_wnd so far */
	__u32 lsndtime; /* jiffies */
	__u32 rate_delivered, rate_interval_us;
	struct {
		__u32 rtt_us; /* << 3 */
	} rcv_rtt_est;
};

struct request_sock {
	struct sock_common __req_common;
};

struct tcp_request_sock {
	__u64 snt_synack; /* first SYN-ACK, us of the monotonic clock */
};

struct net_device {
	int ifindex;
	possible_net_t nd_net;
};

struct sk_buff {
	struct net_device *dev; /* elsewhere in some queues: TCP's trees, UDP's receive queue */
	struct sock *sk;
	char cb[48];
	unsigned int len;
	int skb_iif;
	__u32 mark;
	__be16 protocol;
	__u16 network_header;   /* offset from head */
	unsigned int tail, end; /* likewise, on 64-bit kernels */
	unsigned char *head, *data;
};

/* At `end` of the data. */
struct skb_shared_info {
	unsigned short gso_size;
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

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live; /* threads that have not begun to exit */
	unsigned int flags;
	int group_exit_code;
};

struct nsproxy {
	struct net *net_ns;
};

struct kernfs_node {
	const char *name;
	struct kernfs_node *parent; /* until Linux 6.14; then it is __parent */
};

struct cgroup {
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp; /* in the cgroup v2 hierarchy, also where nobody mounted it */
};

struct list_head {
	struct list_head *next;
};

struct task_struct {
	int pid;
	int tgid;
	char comm[16];
	unsigned int flags;
	int exit_code;
	__u64 start_time;
	struct task_struct *group_leader;
	struct signal_struct *signal;
	struct nsproxy *nsproxy;
	struct css_set *cgroups;
};

struct linux_binprm {
	const char *filename;
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

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
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
