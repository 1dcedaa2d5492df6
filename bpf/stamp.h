/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * STAMP's packets (RFC 8762, sections 4.2 and 4.3; session identifier of RFC 8972, section 3), for the BPF programs
 * and for user space. Everything is in network order, at no particular alignment. Behind them there may be TLVs (RFC
 * 8972, section 4), which a reflector that knows none copies as they are: the sender set their U flag.
 *
 * A timestamp is NTP's (RFC 5905: seconds since 1900 and 2^-32 of them), or a truncated PTP one (seconds since 1970 TAI and
 * nanoseconds) where the error estimate's Z bit is set. The error is multiplier * 2^(scale - 32) s (RFC 4656, section 4.1.2);
 * a multiplier of 0 is not allowed.
 */
#ifndef NETSONDE_STAMP_H
#define NETSONDE_STAMP_H
#include "abi.h"

#define STAMP_PORT 862 /* RFC 8762, section 4.1 */
#define STAMP_HMAC_LEN 16 /* HMAC-SHA-256, truncated; over all before it */

enum { STAMP_ERROR_SYNCHRONIZED = 0x8000, STAMP_ERROR_PTP = 0x4000, STAMP_ERROR_SCALE_SHIFT = 8, STAMP_ERROR_SCALE_MASK = 0x3f,
       STAMP_ERROR_MULTIPLIER_MASK = 0xff };
#define STAMP_NTP_EPOCH 2208988800ULL /* seconds from 1900 to 1970 */

struct stamp_sender {
	__abi_u32 sequence;
	__abi_u32 timestamp[2];
	__abi_u16 error_estimate;
	__abi_u16 session;       /* RFC 8972; 0: none */
	__abi_u8 zero[28];
} __attribute__((packed));
_Static_assert(sizeof(struct stamp_sender) == 44, "RFC 8762, figure 2");

struct stamp_reflector {
	__abi_u32 sequence;
	__abi_u32 timestamp[2];  /* t3 */
	__abi_u16 error_estimate;
	__abi_u16 session;
	__abi_u32 received[2];   /* t2 */
	__abi_u32 sender_sequence;
	__abi_u32 sender_timestamp[2];
	__abi_u16 sender_error_estimate;
	__abi_u16 zero;
	__abi_u8 sender_ttl;
	__abi_u8 zero2[3];
} __attribute__((packed));
_Static_assert(sizeof(struct stamp_reflector) == 44, "RFC 8762, figure 5");

struct stamp_sender_authenticated {
	__abi_u32 sequence;
	__abi_u8 zero[12];
	__abi_u32 timestamp[2];
	__abi_u16 error_estimate;
	__abi_u16 session;
	__abi_u8 zero2[68];
	__abi_u8 hmac[STAMP_HMAC_LEN];
} __attribute__((packed));
_Static_assert(sizeof(struct stamp_sender_authenticated) == 112, "RFC 8762, figure 4");

struct stamp_reflector_authenticated {
	__abi_u32 sequence;
	__abi_u8 zero[12];
	__abi_u32 timestamp[2];
	__abi_u16 error_estimate;
	__abi_u16 session;
	__abi_u8 zero2[4];
	__abi_u32 received[2];
	__abi_u8 zero3[8];
	__abi_u32 sender_sequence;
	__abi_u8 zero4[12];
	__abi_u32 sender_timestamp[2];
	__abi_u16 sender_error_estimate;
	__abi_u8 zero5[6];
	__abi_u8 sender_ttl;
	__abi_u8 zero6[15];
	__abi_u8 hmac[STAMP_HMAC_LEN];
} __attribute__((packed));
_Static_assert(sizeof(struct stamp_reflector_authenticated) == 112, "RFC 8762, figure 6");

#endif
