/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * The card's stamp of a received packet, in CLOCK_MONOTONIC. The stamp is by the card's own clock, which no program can
 * read; but where something (ptp4l, phc2sys) keeps that clock on TAI or UTC, so that it agrees with the kernel's, the
 * packet's age is the kernel's time less the stamp. User space compares both clocks once per tick and says for how long
 * that is believed: the clocks of many cards begin with the system's time and then run away from it, which would look
 * right for minutes.
 */
#ifndef NETSONDE_PROBE_CARD_H
#define NETSONDE_PROBE_CARD_H
#include "probe_match.h"

/* From the card to its driver's program: interrupts are put off for tens of us, a stalled CPU takes ms. Older is no
 * stamp of this packet. */
#define PROBE_HARDWARE_AGE_MAX_NS 10000000ULL

/* Of one card. Written by user space while the program runs; one that sees half of it finds no sensible age. */
struct probe_card {
	__abi_u64 behind_ns; /* CLOCK_TAI less the card's clock: 0, or TAI - UTC */
	__abi_u64 until_ns;  /* CLOCK_MONOTONIC until which that is believed; 0: not at all */
};

/* When the packet came, or 0 when its stamp does not say. now, tai: CLOCK_MONOTONIC and CLOCK_TAI of this moment. */
static __always_inline __abi_u64 probe_hardware_time(const struct probe_card *card, __abi_u64 now, __abi_u64 tai,
						     __abi_u64 stamp)
{
	__abi_u64 age = tai - PROBE_READ(card->behind_ns) - stamp; /* of a stamp in the future: very large */

	return now < PROBE_READ(card->until_ns) && age < PROBE_HARDWARE_AGE_MAX_NS && age < now ? now - age : 0;
}

#endif
