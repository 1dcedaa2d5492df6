/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * The reflector's memory, the way of packets into it and back, and checksums. See probe_reflect.bpf.h.
 */
#ifndef NETSONDE_REFLECT_IO_BPF_H
#define NETSONDE_REFLECT_IO_BPF_H
#include "probe_find.bpf.h"
#include "sha256.h"
#include "stamp.h"

enum {
	REFLECT_NEAR = 255,        /* all headers begin before it */
	REFLECT_CHUNK = 512,       /* bytes; the most that bpf_csum_diff takes before Linux 6.13 */
	REFLECT_CHUNKS_MAX = 128,
};

struct packet_icmp { __u8 type, code; __u16 checksum, id, sequence; };

/* The transport header and STAMP's base packet; ICMP: the header. */
union reflect_segment {
	__u32 words[30];
	struct packet_icmp icmp;
	struct {
		struct packet_udp udp;
		union {
			struct stamp_sender request;
			struct stamp_reflector answer;
			struct stamp_sender_authenticated request_authenticated;
			struct stamp_reflector_authenticated answer_authenticated;
		};
	};
};
enum reflect_segment_length {
	REFLECT_ECHO = sizeof(struct packet_icmp),
	REFLECT_STAMP = sizeof(struct packet_udp) + sizeof(struct stamp_sender),
	REFLECT_STAMP_AUTHENTICATED = sizeof(union reflect_segment),
};
_Static_assert(REFLECT_ECHO == 8 && REFLECT_STAMP == 52 && REFLECT_STAMP_AUTHENTICATED == 120, "no padding");
enum { REFLECT_HMAC_TEXT = 2, REFLECT_HMAC_TAG = 2 + HMAC_STAMP_WORDS }; /* in words */

struct reflect_work {
	union {
		__u8 bytes[12]; /* destination, source */
		__u16 halves[6];
		__u32 words[3];
	} link;
	union {
		__u32 words[10];
		struct packet_ipv4 v4;
		struct packet_ipv6 v6;
	} ip;
	union reflect_segment segment; /* the request's, then the answer's */
	__u32 chunk[REFLECT_CHUNK / 4];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct reflect_work);
} reflect_work SEC(".maps");

/*
 * ---- bytes: copies between the packet and our memory, directly where the packet can be read so (a helper is ten
 * times as dear). len is a constant and a multiple of 4. In tc only reading: a program that writes so would have
 * every packet made writable.
 */

/* In assembler, since the compiler would add the offset to the context first, which the verifier does not allow. */
#define REFLECT_CONTEXT(ctx, type, member) ({ \
	unsigned char *pointer; \
	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(pointer) : "r"(ctx), "i"(__builtin_offsetof(type, member))); \
	pointer; \
})

static __always_inline unsigned char *reflect_begin(void *ctx, enum probe_at at)
{
	return at == PROBE_AT_XDP ? REFLECT_CONTEXT(ctx, struct xdp_md, data) :
				    REFLECT_CONTEXT(ctx, struct __sk_buff, data);
}

static __always_inline unsigned char *reflect_end(void *ctx, enum probe_at at)
{
	return at == PROBE_AT_XDP ? REFLECT_CONTEXT(ctx, struct xdp_md, data_end) :
				    REFLECT_CONTEXT(ctx, struct __sk_buff, data_end);
}

static __always_inline int reflect_load(void *ctx, enum probe_at at, __u32 offset, __u32 *to, __u32 len)
{
	const unsigned char *from = reflect_begin(ctx, at), *end = reflect_end(ctx, at);

	asm volatile("" : "+r"(offset));
	if (offset <= REFLECT_NEAR) {
		from += offset;
		if (from + len <= end) {
			for (__u32 i = 0; i < len / 4; i++)
				to[i] = probe_get32(from + 4 * i);
			return 0;
		}
	}
	return probe_load(ctx, at, offset, to, len);
}

/* flags: of bpf_skb_store_bytes. */
static __always_inline int reflect_store(void *ctx, enum probe_at at, __u32 offset, __u32 *from, __u32 len, __u64 flags)
{
	unsigned char *to, *end;

	if (at == PROBE_AT_SKB)
		return (int)bpf_skb_store_bytes(ctx, offset, from, len, flags);
	to = reflect_begin(ctx, at);
	end = reflect_end(ctx, at);
	asm volatile("" : "+r"(offset));
	if (offset <= REFLECT_NEAR) {
		to += offset;
		if (to + len <= end) {
			for (__u32 i = 0; i < len / 4; i++)
				*(__u32 *)(to + 4 * i) = from[i];
			return 0;
		}
	}
	return (int)bpf_xdp_store_bytes(ctx, offset, from, len);
}

static __always_inline int reflect_load_segment(void *ctx, enum probe_at at, __u32 offset, struct reflect_work *work,
						enum reflect_segment_length len)
{
	if (len == REFLECT_STAMP_AUTHENTICATED)
		return probe_load(ctx, at, offset, work->segment.words, REFLECT_STAMP_AUTHENTICATED);
	if (len == REFLECT_STAMP)
		return reflect_load(ctx, at, offset, work->segment.words, REFLECT_STAMP);
	return reflect_load(ctx, at, offset, work->segment.words, REFLECT_ECHO);
}

static __always_inline int reflect_put_segment(void *ctx, enum probe_at at, __u32 offset, struct reflect_work *work,
					       enum reflect_segment_length len,
					       __u64 flags)
{
	if (at == PROBE_AT_SKB)
		return (int)bpf_skb_store_bytes(ctx, offset, work->segment.words, len, flags);
	if (len == REFLECT_STAMP_AUTHENTICATED)
		return (int)bpf_xdp_store_bytes(ctx, offset, work->segment.words, REFLECT_STAMP_AUTHENTICATED);
	if (len == REFLECT_STAMP)
		return reflect_store(ctx, at, offset, work->segment.words, REFLECT_STAMP, 0);
	return reflect_store(ctx, at, offset, work->segment.words, REFLECT_ECHO, 0);
}

/* ---- checksums: sums of 16-bit words as they are in memory (RFC 1071) ---- */

static __always_inline __u16 reflect_fold(__u64 sum)
{
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 16 & 0xffff) + (sum >> 32) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return (__u16)((sum >> 16) + sum);
}

static __always_inline __u64 reflect_sum_words(const __u32 *words, unsigned n)
{
	__u64 sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += words[i];
	return sum;
}

static __always_inline __u64 reflect_sum_segment(const struct reflect_work *work, enum reflect_segment_length len)
{
	const __u32 *words = work->segment.words;
	__u64 sum = reflect_sum_words(words, REFLECT_ECHO / 4);

	if (len >= REFLECT_STAMP)
		sum += reflect_sum_words(words + REFLECT_ECHO / 4, (REFLECT_STAMP - REFLECT_ECHO) / 4);
	if (len == REFLECT_STAMP_AUTHENTICATED)
		sum += reflect_sum_words(words + REFLECT_STAMP / 4, (REFLECT_STAMP_AUTHENTICATED - REFLECT_STAMP) / 4);
	return sum;
}

/* Of len bytes from offset on, the first of them in an even place: 0..0xffff, or negative. */
static __always_inline int reflect_sum_tail(void *ctx, enum probe_at at, __u32 offset, __u32 len)
{
	struct reflect_work *work;
	__u32 zero = 0, last;
	__s64 sum = 0;

	work = bpf_map_lookup_elem(&reflect_work, &zero);
	if (!work || !len)
		return -1;
	for (int i = 0; i < REFLECT_CHUNKS_MAX && len > REFLECT_CHUNK; i++) {
		if (probe_load(ctx, at, offset, work->chunk, REFLECT_CHUNK))
			return -1;
		sum = bpf_csum_diff(NULL, 0, work->chunk, REFLECT_CHUNK, (__u32)sum);
		offset += REFLECT_CHUNK;
		len -= REFLECT_CHUNK;
	}
	/* 1..REFLECT_CHUNK are left; so that the verifier sees it: the last one's index, and then how many that makes. */
	last = (len - 1) & (REFLECT_CHUNK - 1);
	asm volatile("" : "+r"(last));
	work->chunk[last / 4 & (REFLECT_CHUNK / 4 - 1)] = 0;
	if (probe_load(ctx, at, offset, work->chunk, last + 1))
		return -1;
	last &= ~3U;
	asm volatile("" : "+r"(last));
	sum = bpf_csum_diff(NULL, 0, work->chunk, last + 4, (__u32)sum);
	return reflect_fold((__u32)sum);
}

/* Global, since the loop need not be verified at every call; and one for each kind of program, since they are called
 * by one only. */
__noinline int reflect_sum_xdp(struct xdp_md *ctx, __u32 offset, __u32 len)
{
	return reflect_sum_tail(ctx, PROBE_AT_XDP, offset, len);
}

__noinline int reflect_sum_skb(struct __sk_buff *ctx, __u32 offset, __u32 len)
{
	return reflect_sum_tail(ctx, PROBE_AT_SKB, offset, len);
}

#endif
