/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The unprivileged user a process becomes when it was started as root, and the
 * directory where it keeps its state.
 *
 * Order of use: user_find (reads the user database), user_state_dir (still
 * root: creates the directory for that user), bind and attach what needs root,
 * user_drop, then the rest. When the process is not root, user_find("auto")
 * gives the current user and user_drop only sets no_new_privs.
 */
#pragma once
#include <stdbool.h>
#include <sys/types.h>
#include "lib/error.h"

struct user {
	uid_t uid;
	gid_t gid;
	char name[64]; /* from the user database, or the uid in digits when it has none */
	bool change;   /* user_drop has to change the ids */
};

/* spec: a name, a uid, or "auto" (NULL means the same): as root the user of SUDO_UID and SUDO_GID when both are set,
 * else `nobody`; else the current user. "root" keeps root. -EINVAL for an unknown user, -EPERM when the process is not
 * root and the user is another. */
int user_find(const char *spec, struct user *ret_user, struct error *ret_error);

/* Set by a supervisor to its pid for the processes it starts: user_drop lets the kernel end this process (SIGTERM) when the
 * supervisor dies, and fails when it has died already. */
#define USER_SUPERVISOR_VARIABLE "NETSONDE_SUPERVISOR_PID"

/* Drops every supplementary group, sets gid and uid (real, effective, saved), proves that there is no way back, and
 * sets no_new_privs. The process must end when it fails. */
int user_drop(const struct user *user, struct error *ret_error);

/* The state directory as an absolute path in *ret_path (free() it): the first of $STATE_DIRECTORY, else
 * /var/lib/netsonde as root, else $XDG_STATE_HOME/netsonde, else ~/.local/state/netsonde. A missing one is created with
 * mode 0750 and belongs to `user`; one that exists is handed to `user` only when it is /var/lib/netsonde itself, for
 * any other may be a directory of somebody else. */
int user_state_dir(const struct user *user, char **ret_path, struct error *ret_error);
