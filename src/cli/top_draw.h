/* SPDX-License-Identifier: Apache-2.0 */
/* The state of `netsonde top` as lines of a screen. */
#pragma once
#include "cli/top_live.h"
#include "cli/top_screen.h"
#include "lib/clock.h"

/* Also tells live how many rows fit, and where long texts end. */
void top_draw(struct top_screen *screen, struct top_live *live, mono_time now);
