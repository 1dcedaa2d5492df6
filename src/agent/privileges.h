/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent gives up once everything is attached: its user, every
 * capability (effective, permitted, inheritable, ambient and the bounding set
 * where allowed), the right to gain new ones, and by seccomp the system calls that could
 * load or attach anything more. From Linux 6.1 the rest works without
 * privileges: reading maps, updating them, running the attached iterators.
 */
#pragma once
#include "agent/features.h"
#include "lib/error.h"
#include "lib/user.h"

/* The process must end when it fails. */
int privileges_drop(const struct user *user, struct features *features, struct error *ret_error);
