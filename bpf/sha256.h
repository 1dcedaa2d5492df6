/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * SHA-256 (FIPS 180-4, section 6.2) and the HMAC of STAMP's authenticated packets (RFC 2104; RFC 8762, section 4.4:
 * over the first 96 bytes, cut to 128 bits), one source for the BPF programs and for user space.
 *
 * Keys are prepared: the states after the padded key's block are computed once (RFC 2104, section 4), so one HMAC is
 * three blocks. In BPF both functions are global: the verifier looks at each once, not at every call, and believes
 * none of their arguments. Schedule and working variables are in the caller's memory: BPF has too few registers for
 * them, and 512 bytes of stack for the whole chain of calls. Nothing here branches on data, so the time says nothing
 * about the key.
 */
#ifndef NETSONDE_SHA256_H
#define NETSONDE_SHA256_H
#include "abi_probe.h"
#ifdef __bpf__
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#define SHA256_FUNCTION __noinline
#define SHA256_UNROLL _Pragma("clang loop unroll(full)")
#define SHA256_KEEP _Pragma("clang loop unroll(disable)")
#define SHA256_IN_ORDER asm volatile("" ::: "memory"); /* nothing is loaded long before its use, into the stack */
#else
#include <stddef.h>
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#define SHA256_FUNCTION static inline
#define SHA256_UNROLL
#define SHA256_KEEP
#define SHA256_IN_ORDER
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SHA256_BIG_ENDIAN(x) __builtin_bswap32(x)
#else
#define SHA256_BIG_ENDIAN(x) (x)
#endif

/* Twice behind itself: whatever is shifted out of the lower half is in the upper one, so that a rotation is a shift. */
#define SHA256_TWICE(x) ((__abi_u64)(x) << 32 | (x))

struct sha256_state { __abi_u32 words[8], letters[8]; }; /* letters: working memory */
struct sha256_block { __abi_u32 words[16]; }; /* as in the message's bytes, at first */

#define SHA256_INITIAL { .words = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, \
				    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 } }

static const __abi_u32 sha256_constants[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/*
 * FIPS 180-4's functions, section 4.1.2. Three rotations are one chain: by 6, 11 and 25 to the right, say, is by 14,
 * then by 5 what that and the whole are together, then by 6. The upper bits are wrong in the end and cut off.
 */
static __always_inline __abi_u32 sha256_large_sigma0(__abi_u64 x2)
{
	return (__abi_u32)((((x2 >> 9 ^ x2) >> 11) ^ x2) >> 2);
}

static __always_inline __abi_u32 sha256_large_sigma1(__abi_u64 x2)
{
	return (__abi_u32)((((x2 >> 14 ^ x2) >> 5) ^ x2) >> 6);
}

static __always_inline __abi_u32 sha256_small_sigma0(__abi_u32 x)
{
	__abi_u64 x2 = SHA256_TWICE(x);

	return (__abi_u32)((x2 >> 11 ^ x2) >> 7) ^ x >> 3;
}

static __always_inline __abi_u32 sha256_small_sigma1(__abi_u32 x)
{
	__abi_u64 x2 = SHA256_TWICE(x);

	return (__abi_u32)((x2 >> 2 ^ x2) >> 17) ^ x >> 10;
}

/* The variable that is called by the n-th letter there; in round j + 1 the n-th is what was the one before it. */
#define SHA256_LETTER(n) state->letters[((n) + 8 - j % 8) % 8]

static __always_inline void sha256_round(struct sha256_state *state, unsigned j, __abi_u32 input)
{
	__abi_u32 a = SHA256_LETTER(0), b = SHA256_LETTER(1), e = SHA256_LETTER(4), g = SHA256_LETTER(6);
	__abi_u32 t = SHA256_LETTER(7) + input;

	t += sha256_large_sigma1(SHA256_TWICE(e)) + (g ^ (e & (SHA256_LETTER(5) ^ g)));
	SHA256_LETTER(3) += t;
	SHA256_LETTER(7) = t + sha256_large_sigma0(SHA256_TWICE(a)) + ((a & b) | (SHA256_LETTER(2) & (a | b)));
}

/* One block into the state. The block is used up. Returns 0. */
SHA256_FUNCTION int sha256_compress(struct sha256_state *state, struct sha256_block *block)
{
	if (!state || !block)
		return -1;
	SHA256_KEEP
	for (unsigned i = 0; i < 8; i++)
		state->letters[i] = state->words[i];
	SHA256_KEEP
	for (unsigned i = 0; i < 64; i += 16) {
		SHA256_UNROLL
		for (unsigned j = 0; j < 16; j++) {
			__abi_u32 w = block->words[j];

			if (i) {
				w += sha256_small_sigma0(block->words[(j + 1) % 16]) + block->words[(j + 9) % 16] +
				     sha256_small_sigma1(block->words[(j + 14) % 16]);
			} else {
				w = SHA256_BIG_ENDIAN(w);
			}
			block->words[j] = w;
			sha256_round(state, j, sha256_constants[i + j] + w);
			SHA256_IN_ORDER
		}
	}
	SHA256_KEEP
	for (unsigned i = 0; i < 8; i++)
		state->words[i] += state->letters[i];
	return 0;
}

#ifdef __bpf__
/* The same in a tenth of the instructions, at half the speed, for filters of packet sockets: see probe_socket. */
SHA256_FUNCTION int sha256_compress_short(struct sha256_state *state, struct sha256_block *block)
{
	if (!state || !block)
		return -1;
	SHA256_KEEP
	for (unsigned i = 0; i < 8; i++)
		state->letters[i] = state->words[i];
	SHA256_KEEP
	for (unsigned i = 0; i < 64; i++) {
		__abi_u32 w = block->words[i % 16];

		if (i >= 16)
			w += sha256_small_sigma0(block->words[(i + 1) % 16]) + block->words[(i + 9) % 16] +
			     sha256_small_sigma1(block->words[(i + 14) % 16]);
		else
			w = SHA256_BIG_ENDIAN(w);
		block->words[i % 16] = w;
		sha256_round(state, i, sha256_constants[i] + w);
		SHA256_IN_ORDER
	}
	SHA256_KEEP
	for (unsigned i = 0; i < 8; i++)
		state->words[i] += state->letters[i];
	return 0;
}
#define SHA256_COMPRESS(few, state, block) ((few) ? sha256_compress_short(state, block) : sha256_compress(state, block))
#else
#define SHA256_COMPRESS(few, state, block) sha256_compress(state, block)
#endif

#define HMAC_STAMP_WORDS 24 /* of 4 bytes: what the HMAC is over */

/* Where the HMAC of one packet is computed. */
struct hmac_stamp {
	__abi_u32 text[HMAC_STAMP_WORDS]; /* in; stays as it is */
	__abi_u32 tag[4];                 /* out, as it is in the packet */
	struct sha256_state state;        /* scratch, and the rest of the HMAC that STAMP cuts off */
	struct sha256_block block;
};

/* Ends a message of which n words are in the block already and that is, with the key's block, of so many bytes. */
static __always_inline void hmac_stamp_pad(struct sha256_block *block, unsigned n, __abi_u32 bytes)
{
	block->words[n] = SHA256_BIG_ENDIAN(0x80000000U);
	SHA256_KEEP
	for (unsigned i = n + 1; i < 15; i++)
		block->words[i] = 0;
	block->words[15] = SHA256_BIG_ENDIAN(bytes * 8);
}

/* The tag of the text. Returns 0. */
static __always_inline int hmac_stamp_steps(struct hmac_stamp *work, const struct probe_hmac_key *key, int few)
{
	if (!work || !key)
		return -1;
	SHA256_KEEP
	for (unsigned i = 0; i < 8; i++)
		work->state.words[i] = key->inner[i];
	SHA256_KEEP
	for (unsigned i = 0; i < 16; i++)
		work->block.words[i] = work->text[i];
	SHA256_COMPRESS(few, &work->state, &work->block);
	SHA256_KEEP
	for (unsigned i = 0; i < 8; i++)
		work->block.words[i] = work->text[16 + i];
	hmac_stamp_pad(&work->block, 8, 64 + 96);
	SHA256_COMPRESS(few, &work->state, &work->block);
	SHA256_KEEP
	for (unsigned i = 0; i < 8; i++) {
		work->block.words[i] = SHA256_BIG_ENDIAN(work->state.words[i]);
		work->state.words[i] = key->outer[i];
	}
	hmac_stamp_pad(&work->block, 8, 64 + 32);
	SHA256_COMPRESS(few, &work->state, &work->block);
	SHA256_KEEP
	for (unsigned i = 0; i < 4; i++)
		work->tag[i] = SHA256_BIG_ENDIAN(work->state.words[i]);
	return 0;
}

SHA256_FUNCTION int hmac_stamp_compute(struct hmac_stamp *work, const struct probe_hmac_key *key)
{
	return hmac_stamp_steps(work, key, 0);
}

#ifdef __bpf__
SHA256_FUNCTION int hmac_stamp_compute_short(struct hmac_stamp *work, const struct probe_hmac_key *key)
{
	return hmac_stamp_steps(work, key, 1);
}
#endif

#ifndef __bpf__
/* Goes on with `len` bytes behind `before` ones (whole blocks) that are in the state already, and ends the message. */
static inline void sha256_finish(struct sha256_state *state, const void *data, size_t len, uint64_t before,
				 uint8_t ret_digest[32])
{
	const uint8_t *bytes = data;
	uint64_t bits = (before + len) * 8;
	struct sha256_block block;
	uint8_t last[128] = { 0 };
	size_t ends;

	for (; len >= sizeof(block); bytes += sizeof(block), len -= sizeof(block)) {
		__builtin_memcpy(&block, bytes, sizeof(block));
		sha256_compress(state, &block);
	}
	if (len)
		__builtin_memcpy(last, bytes, len);
	last[len] = 0x80;
	ends = len + 9 > sizeof(block) ? 2 * sizeof(block) : sizeof(block);
	for (size_t i = 0; i < 8; i++)
		last[ends - 1 - i] = (uint8_t)(bits >> 8 * i);
	for (size_t at = 0; at < ends; at += sizeof(block)) {
		__builtin_memcpy(&block, last + at, sizeof(block));
		sha256_compress(state, &block);
	}
	for (size_t i = 0; i < 32; i++)
		ret_digest[i] = (uint8_t)(state->words[i / 4] >> (24 - 8 * (i % 4)));
}

static inline void sha256_digest(const void *data, size_t len, uint8_t ret_digest[32])
{
	struct sha256_state state = SHA256_INITIAL;

	sha256_finish(&state, data, len, 0, ret_digest);
}
#endif

#endif
