/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Giving up root, in the only order that works: groups while we may still
 * change them, then the group, then the user, then a proof. setresuid() as root
 * also clears the capability sets (capabilities(7), "Effect of user ID
 * changes"), and no_new_privs keeps set-uid programs from giving them back.
 */
#include "lib/user.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/buffer.h"

#define STATE_DIR_ROOT "/var/lib/netsonde"
#define STATE_DIR_MODE 0750
#define NOBODY_ID 65534 /* the kernel's overflow id: what a nobody without an entry in the database has */

static int parse_id(const char *text, unsigned *ret_id)
{
	char *end;
	unsigned long v;

	if (!text || text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	v = strtoul(text, &end, 10);
	/* (uid_t)-1 means "leave as it is" to setresuid(). */
	if (errno || *end || v >= UINT32_MAX)
		return -EINVAL;
	*ret_id = (unsigned)v;
	return 0;
}

static void set_name(struct user *user, const char *name)
{
	if (name)
		snprintf(user->name, sizeof(user->name), "%s", name);
	else
		snprintf(user->name, sizeof(user->name), "%u", (unsigned)user->uid);
}

static void from_uid(uid_t uid, gid_t gid_without_entry, struct user *user)
{
	const struct passwd *pw = getpwuid(uid);

	user->uid = uid;
	user->gid = pw ? pw->pw_gid : gid_without_entry;
	set_name(user, pw ? pw->pw_name : NULL);
}

static void find_auto(struct user *user)
{
	unsigned uid, gid;
	const struct passwd *pw;

	if (geteuid() != 0) {
		from_uid(geteuid(), getegid(), user);
		user->gid = getegid();
		return;
	}
	if (parse_id(getenv("SUDO_UID"), &uid) == 0 && parse_id(getenv("SUDO_GID"), &gid) == 0 && uid != 0) {
		from_uid(uid, gid, user);
		user->gid = gid;
		return;
	}
	pw = getpwnam("nobody");
	user->uid = pw ? pw->pw_uid : NOBODY_ID;
	user->gid = pw ? pw->pw_gid : NOBODY_ID;
	set_name(user, "nobody");
}

int user_find(const char *spec, struct user *ret_user, struct error *ret_error)
{
	struct user user = { 0 };
	const struct passwd *pw;
	unsigned uid;

	if (!spec || strcmp(spec, "auto") == 0) {
		find_auto(&user);
	} else if (parse_id(spec, &uid) == 0) {
		from_uid(uid, uid, &user);
	} else {
		errno = 0;
		pw = getpwnam(spec);
		if (!pw)
			return error_set(ret_error, -EINVAL,
					 "there is no user `%s`; give the name or the number of one with --user", spec);
		user.uid = pw->pw_uid;
		user.gid = pw->pw_gid;
		set_name(&user, pw->pw_name);
	}
	user.change = user.uid != geteuid() || user.uid != getuid();
	if (user.change && geteuid() != 0)
		return error_set(ret_error, -EPERM, "cannot become user `%s`: only root can; leave out --user",
				 user.name);
	*ret_user = user;
	return 0;
}

static int change_ids(const struct user *user, struct error *ret_error)
{
	uid_t ruid, euid, suid;
	gid_t rgid, egid, sgid;

	if (setgroups(0, NULL) < 0)
		return error_set_errno(ret_error, -errno, "cannot drop the supplementary groups of root");
	if (setresgid(user->gid, user->gid, user->gid) < 0)
		return error_set_errno(ret_error, -errno, "cannot change to the group %u of user `%s`",
				       (unsigned)user->gid, user->name);
	if (setresuid(user->uid, user->uid, user->uid) < 0)
		return error_set_errno(ret_error, -errno, "cannot change to user `%s` (%u)", user->name,
				       (unsigned)user->uid);
	if (getresuid(&ruid, &euid, &suid) < 0 || getresgid(&rgid, &egid, &sgid) < 0 ||
	    ruid != user->uid || euid != user->uid || suid != user->uid ||
	    rgid != user->gid || egid != user->gid || sgid != user->gid || getgroups(0, NULL) != 0)
		return error_set(ret_error, -EPERM, "the change to user `%s` did not take effect", user->name);
	if (user->uid != 0 && setuid(0) == 0)
		return error_set(ret_error, -EPERM, "the change to user `%s` can be undone", user->name);
	return 0;
}

/* After the change of user and after exec of a file with capabilities, for both make the kernel forget it (prctl(2)). */
static int follow_supervisor(struct error *ret_error)
{
	const char *text = getenv(USER_SUPERVISOR_VARIABLE);
	long supervisor = text ? strtol(text, NULL, 10) : 0;

	if (supervisor <= 1)
		return 0;
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
		return error_set_errno(ret_error, -errno, "cannot follow the supervising process");
	return getppid() == (pid_t)supervisor ? 0 : error_set(ret_error, -ESRCH, "the process that supervises this one has ended");
}

int user_drop(const struct user *user, struct error *ret_error)
{
	int r;

	if (user->change) {
		r = change_ids(user, ret_error);
		if (r < 0)
			return r;
	}
	r = follow_supervisor(ret_error);
	if (r < 0)
		return r;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set_errno(ret_error, -errno, "cannot set no_new_privs");
	return 0;
}

/* Where the state goes, without touching the disk. */
static int state_dir_path(const struct user *user, struct buffer *out, struct error *ret_error)
{
	const char *env = getenv("STATE_DIRECTORY"), *home = getenv("HOME");
	const struct passwd *pw;

	if (env && env[0] == '/') {
		buffer_append(out, env, strcspn(env, ":")); /* systemd.exec(5): several are separated by colons */
	} else if (geteuid() == 0) {
		buffer_puts(out, STATE_DIR_ROOT);
	} else if ((env = getenv("XDG_STATE_HOME")) && env[0] == '/') {
		/* A relative one is to be ignored, says the XDG specification. */
		buffer_printf(out, "%s/netsonde", env);
	} else {
		if (!home || home[0] != '/') {
			pw = getpwuid(user->uid);
			home = pw ? pw->pw_dir : NULL;
		}
		if (!home || home[0] != '/')
			return error_set(ret_error, -ENOENT,
					 "there is no home directory for the state; set STATE_DIRECTORY to a directory");
		buffer_printf(out, "%s/.local/state/netsonde", home);
	}
	while (buffer_ok(out) && out->len > 1 && out->data[out->len - 1] == '/')
		out->data[--out->len] = '\0';
	return buffer_ok(out) ? 0 : -ENOMEM;
}

/* The parents of path, as mkdir -p. */
static int make_parents(char *path, struct error *ret_error)
{
	for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		int r;

		*p = '\0';
		r = mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
		if (r < 0)
			error_set_errno(ret_error, r, "cannot create the directory %s for the state", path);
		*p = '/';
		if (r < 0)
			return r;
	}
	return 0;
}

/* The files that the user before left in the directory. Only plain files of that user with one name: a hard link could
 * lead to a file that is none of ours. Each is looked up once, so nothing can be put in its place. */
static void hand_over_files(int dir_fd, uid_t from, const struct user *user)
{
	DIR *dir = fdopendir(dup(dir_fd));
	const struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		int fd = openat(dir_fd, entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		struct stat st;

		if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_nlink == 1 && st.st_uid == from &&
		    fchown(fd, user->uid, user->gid) < 0)
			errno = 0; /* the database says so when it is opened */
		if (fd >= 0)
			close(fd);
	}
	if (dir)
		closedir(dir);
}

static int claim(const char *path, const struct user *user, bool created, struct error *ret_error)
{
	struct stat st;
	int fd, r = 0;

	/* A path is looked up once: nobody can put something else in its place between the check and the chown. */
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (created ? O_NOFOLLOW : 0));
	if (fd < 0)
		return error_set_errno(ret_error, -errno, "cannot use the state directory %s", path);
	if (fstat(fd, &st) < 0)
		r = error_set_errno(ret_error, -errno, "cannot examine the state directory %s", path);
	else if ((created || strcmp(path, STATE_DIR_ROOT) == 0) && geteuid() == 0 && st.st_uid != user->uid) {
		if (fchown(fd, user->uid, user->gid) < 0)
			r = error_set_errno(ret_error, -errno, "cannot give the state directory %s to user `%s`", path,
					    user->name);
		else if (!created && st.st_uid != 0)
			hand_over_files(fd, st.st_uid, user);
	}
	close(fd);
	return r;
}

int user_state_dir(const struct user *user, char **ret_path, struct error *ret_error)
{
	struct buffer path = BUFFER_INIT;
	bool created;
	int r;

	r = state_dir_path(user, &path, ret_error);
	if (r < 0)
		goto fail;
	r = make_parents(path.data, ret_error);
	if (r < 0)
		goto fail;
	created = mkdir(path.data, STATE_DIR_MODE) == 0;
	if (!created && errno != EEXIST) {
		r = error_set_errno(ret_error, -errno, "cannot create the state directory %s", path.data);
		goto fail;
	}
	r = claim(path.data, user, created, ret_error);
	if (r < 0)
		goto fail;
	*ret_path = buffer_steal(&path, NULL);
	return *ret_path ? 0 : -ENOMEM;
fail:
	if (r == -ENOMEM)
		error_set(ret_error, r, "out of memory");
	buffer_done(&path);
	return r;
}
