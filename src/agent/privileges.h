/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent gives up once everything is attached: its user, every
 * capability (effective, permitted, inheritable, ambient and the bounding set
 * where allowed), the right to gain new ones, and by seccomp the system calls that could
 * load or attach anything more. From Linux 6.1 the rest works without
 * privileges: reading maps, updating them, running the attached iterators, and
 * attaching loaded programs to interfaces, which only probing is allowed.
 */
#pragma once
#include <stdbool.h>
#include "agent/features.h"
#include "lib/error.h"
#include "lib/user.h"

/* may_attach: loaded programs, to interfaces that come later (probes). The process must end when it fails. */
int privileges_drop(const struct user *user, bool may_attach, struct features *features, struct error *ret_error);
